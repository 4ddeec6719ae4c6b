//! How many connections may be in a handshake or a request: `listen.max_handshakes`.
//!
//! A connection counts from its accept until it is a WebSocket or has ended, but not while it is kept alive and idle.
//! A new one beyond the bound is turned away before anything of it is read: a client that opens connections and sends
//! nothing on them cannot take more than that.
//!
//! # Invariants
//! 1. The gauge is the count: there is no second number that could differ from it.
//! 2. A refusal does not delay the accept loop, and at most [`MAX_REFUSING`] clients at a time are sent a reason.
//!
//! # Not here
//! How a connection is turned away ([`super::super::accept`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How many clients at most are sent a refusal at the same time: that takes a socket for up to two seconds. For others
/// the connection just ends.
const MAX_REFUSING: usize = 1024;

/// One connection's share of the limit, while it counts.
#[derive(Debug)]
pub(in crate::server) struct HandshakePermit {
    gauge: IntGauge,
    is_counted: AtomicBool,
    since: Instant,
}

impl HandshakePermit {
    /// For a connection that was just accepted; `None` if `max` count already. Only the accept loop calls it, one call at
    /// a time.
    pub(in crate::server) fn enter(gauge: &IntGauge, max: usize, now: Instant) -> Option<Self> {
        if usize::try_from(gauge.get()).is_ok_and(|count| count >= max) {
            return None;
        }
        gauge.inc();
        Some(Self { gauge: gauge.clone(), is_counted: AtomicBool::new(true), since: now })
    }

    /// For an HTTP/2 stream of a connection that was let in: it counts, and is never refused.
    pub(in crate::server) fn for_stream(gauge: &IntGauge, now: Instant) -> Self {
        gauge.inc();
        Self { gauge: gauge.clone(), is_counted: AtomicBool::new(true), since: now }
    }

    /// When the connection was accepted.
    pub(in crate::server) fn since(&self) -> Instant {
        self.since
    }

    /// The connection is idle, and does not count.
    pub(in crate::server) fn pause(&self) {
        if self.is_counted.swap(false, Relaxed) {
            self.gauge.dec();
        }
    }

    /// Another request has come, and it counts again. It is not turned away even beyond the bound: a client that was let
    /// in would see its request fail for no fault of its own.
    pub(in crate::server) fn resume(&self) {
        if !self.is_counted.swap(true, Relaxed) {
            self.gauge.inc();
        }
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        self.pause();
    }
}

/// Counts the connections that are being sent a refusal.
#[derive(Debug)]
pub(in crate::server) struct HandshakeLimit {
    refusing: Arc<Semaphore>,
}

impl HandshakeLimit {
    pub(in crate::server) fn new() -> Self {
        Self { refusing: Arc::new(Semaphore::new(MAX_REFUSING)) }
    }

    /// A permit to send one more a refusal.
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
