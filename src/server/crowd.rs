//! How many connections may be on their way to something: `listen.max_handshakes`.
//!
//! A connection is *busy* from its accept until it is a WebSocket or over, but for the time in which it is
//! kept alive with nothing asked. A new one beyond the bound is turned away before anything of it is read:
//! whoever opens connections to say nothing on them cannot take more than that of us.
//!
//! # Invariants
//! 1. The gauge is the count: there is no second one that could differ from it.
//! 2. Turning away costs no waiting: the accept loop goes on at once, and only so many are told why.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use prometheus::IntGauge;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::warn;

use super::connection;
use super::state::State;
use crate::admission::Refused;
use crate::config::Listen;
use crate::net::Stream;
use crate::telemetry::{ConnectionRefusal, TaskKind, panics, some};

/// Clients that are told at the same time why they were turned away, at most: being told takes a socket for
/// up to two seconds. The others see their connection end.
const TOLD: usize = 1024;

/// A connection that counts as busy, or is about to again.
#[derive(Debug)]
pub(super) struct Busy {
    gauge: IntGauge,
    counts: AtomicBool,
    since: Instant,
}

impl Busy {
    /// From the accept; none if there are `max` already. Asked by the accept loop only, and so by one at a
    /// time.
    pub(super) fn enter(gauge: &IntGauge, max: usize, now: Instant) -> Option<Self> {
        if usize::try_from(gauge.get()).is_ok_and(|busy| busy >= max) {
            return None;
        }
        gauge.inc();
        Some(Self { gauge: gauge.clone(), counts: AtomicBool::new(true), since: now })
    }

    /// One more that is not turned away: a stream of a connection that was let in.
    pub(super) fn more(gauge: &IntGauge, now: Instant) -> Self {
        gauge.inc();
        Self { gauge: gauge.clone(), counts: AtomicBool::new(true), since: now }
    }

    /// When the connection was accepted.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// It is kept alive and nothing is asked.
    pub(super) fn rest(&self) {
        if self.counts.swap(false, Relaxed) {
            self.gauge.dec();
        }
    }

    /// Something more is asked on it. Whoever was let in once is not turned away then: it would see its
    /// request fail for no fault of its own.
    pub(super) fn resume(&self) {
        if !self.counts.swap(true, Relaxed) {
            self.gauge.inc();
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.rest();
    }
}

/// What is known about those who were turned away.
#[derive(Debug)]
pub(super) struct Crowd {
    telling: Arc<Semaphore>,
}

impl Crowd {
    pub(super) fn new() -> Self {
        Self { telling: Arc::new(Semaphore::new(TOLD)) }
    }
}

/// Ends a connection that is one too many, with a word where that can be understood.
pub(super) fn turn_away(state: &State, listen: &Listen, stream: Stream) {
    state.metrics.on_connection_refused(ConnectionRefusal::TooManyHandshakes);
    if let Some(left_out) = state.lines.warnings.may("too_many_handshakes", Instant::now()) {
        warn!(
            max_handshakes = listen.max_handshakes,
            left_out = some(left_out),
            "too many handshakes are in progress (listen.max_handshakes): new connections are turned away; \
             outrigger_connections_refused_total counts them"
        );
    }
    // In a TLS handshake our words would be garbage.
    if listen.tls.is_none()
        && let Ok(telling) = Arc::clone(&state.crowd.telling).try_acquire_owned()
    {
        panics::spawn(TaskKind::Connection, &state.metrics, async move {
            connection::refuse(stream, &Refused::TooManyHandshakes).await;
            drop(telling);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_while_nothing_is_asked_and_at_the_end() {
        let gauge = IntGauge::new("busy", "busy").unwrap();
        let enter = || Busy::enter(&gauge, 2, Instant::now());
        let (one, two) = (enter().unwrap(), enter().unwrap());
        assert!(enter().is_none());
        one.rest();
        one.rest();
        assert_eq!(gauge.get(), 1, "twice is once");
        let three = enter().unwrap();
        one.resume();
        one.resume();
        assert_eq!(gauge.get(), 3, "who is in stays in");
        assert!(enter().is_none());
        drop((one, two, three));
        assert_eq!(gauge.get(), 0);
        let idle = enter().unwrap();
        idle.rest();
        drop(idle);
        assert_eq!(gauge.get(), 0);
    }
}
