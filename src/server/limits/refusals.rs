//! How many refusals may be sent by a Close at the same time: `listen.max_refusals`.
//!
//! Each takes a socket and a buffer until the client has answered the Close, or for two seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::telemetry::Metrics;

/// Counts the refusals that are being sent by a Close.
#[derive(Debug)]
pub(in crate::server) struct RefusalLimit {
    closing: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// Lets one refusal be sent by a Close; its drop makes room for the next.
#[derive(Debug)]
pub(in crate::server) struct RefusalPermit(Arc<RefusalLimit>);

impl RefusalLimit {
    pub(in crate::server) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { closing: AtomicUsize::new(0), metrics })
    }

    /// A permit, if fewer than `max` are held.
    pub(in crate::server) fn enter(self: &Arc<Self>, max: usize) -> Option<RefusalPermit> {
        let enter = |closing: usize| (closing < max).then_some(closing + 1);
        if self.closing.fetch_update(Relaxed, Relaxed, enter).is_err() {
            self.metrics.server.refusals_not_closed.inc();
            return None;
        }
        self.metrics.server.refusals_closing.inc();
        Some(RefusalPermit(Arc::clone(self)))
    }
}

impl Drop for RefusalPermit {
    fn drop(&mut self) {
        self.0.closing.fetch_sub(1, Relaxed);
        self.0.metrics.server.refusals_closing.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_told_at_once_than_there_is_room_for() {
        let refusals = RefusalLimit::new(Metrics::new("outrigger").unwrap());
        let mut permits = Vec::from_iter((0..3).map(|_| refusals.enter(3).unwrap()));
        assert!(refusals.enter(3).is_none());
        assert_eq!(refusals.metrics.server.refusals_closing.get(), 3);
        assert_eq!(refusals.metrics.server.refusals_not_closed.get(), 1);
        permits.pop();
        assert!(refusals.enter(2).is_none(), "a smaller bound holds at once");
        assert!(refusals.enter(3).is_some());
        drop(permits);
        assert_eq!(refusals.metrics.server.refusals_closing.get(), 0);
        assert!(refusals.enter(0).is_none(), "none at all");
    }
}
