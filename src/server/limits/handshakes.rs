//! How many connections may be on their way to something: `listen.max_handshakes`.
//!
//! A connection is *busy* from its accept until it is a WebSocket or over, but for the time in which it is
//! kept alive with nothing asked. A new one beyond the bound is turned away before anything of it is read:
//! whoever opens connections to say nothing on them cannot take more than that of us.
//!
//! # Invariants
//! 1. The gauge is the count: there is no second one that could differ from it.
//! 2. Turning away costs no waiting: the accept loop goes on at once, and only so many are told why.
//!
//! # Not here
//! How a connection is turned away ([`super::super::accept`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Clients that are told at the same time why they were turned away, at most: being told takes a socket for
/// up to two seconds. The others see their connection end.
const MAX_REFUSING: usize = 1024;

/// A connection that counts as busy, or is about to again.
#[derive(Debug)]
pub(in crate::server) struct HandshakePermit {
    gauge: IntGauge,
    counts: AtomicBool,
    since: Instant,
}

impl HandshakePermit {
    /// From the accept; none if there are `max` already. Asked by the accept loop only, and so by one at a
    /// time.
    pub(in crate::server) fn enter(gauge: &IntGauge, max: usize, now: Instant) -> Option<Self> {
        if usize::try_from(gauge.get()).is_ok_and(|handshake_permit| handshake_permit >= max) {
            return None;
        }
        gauge.inc();
        Some(Self { gauge: gauge.clone(), counts: AtomicBool::new(true), since: now })
    }

    /// One more that is not turned away: a stream of a connection that was let in.
    pub(in crate::server) fn more(gauge: &IntGauge, now: Instant) -> Self {
        gauge.inc();
        Self { gauge: gauge.clone(), counts: AtomicBool::new(true), since: now }
    }

    /// When the connection was accepted.
    pub(in crate::server) fn since(&self) -> Instant {
        self.since
    }

    /// It is kept alive and nothing is asked.
    pub(in crate::server) fn pause(&self) {
        if self.counts.swap(false, Relaxed) {
            self.gauge.dec();
        }
    }

    /// Something more is asked on it. Whoever was let in once is not turned away then: it would see its
    /// request fail for no fault of its own.
    pub(in crate::server) fn resume(&self) {
        if !self.counts.swap(true, Relaxed) {
            self.gauge.inc();
        }
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        self.pause();
    }
}

/// Counts the connections that are told why they were turned away.
#[derive(Debug)]
pub(in crate::server) struct HandshakeLimit {
    refusing: Arc<Semaphore>,
}

impl HandshakeLimit {
    pub(in crate::server) fn new() -> Self {
        Self { refusing: Arc::new(Semaphore::new(MAX_REFUSING)) }
    }

    /// Leave to tell one more, until what this gives is dropped.
    pub(in crate::server) fn try_refuse(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.refusing).try_acquire_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_while_nothing_is_asked_and_at_the_end() {
        let gauge = IntGauge::new("busy", "busy").unwrap();
        let enter = || HandshakePermit::enter(&gauge, 2, Instant::now());
        let (one, two) = (enter().unwrap(), enter().unwrap());
        assert!(enter().is_none());
        one.pause();
        one.pause();
        assert_eq!(gauge.get(), 1, "twice is once");
        let three = enter().unwrap();
        one.resume();
        one.resume();
        assert_eq!(gauge.get(), 3, "who is in stays in");
        assert!(enter().is_none());
        drop((one, two, three));
        assert_eq!(gauge.get(), 0);
        let idle = enter().unwrap();
        idle.pause();
        drop(idle);
        assert_eq!(gauge.get(), 0);
    }
}
