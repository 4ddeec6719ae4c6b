//! The breaker of one client: pure.
//!
//! Made at the first trouble and dropped when that is forgotten: most clients never have one.

use tokio::time::Instant;

use crate::config::Delivery;
use crate::telemetry::BreakerStage;

/// The breaker of a client that has tripped.
#[derive(Debug)]
pub(super) struct Guard {}

/// What a client in trouble may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// It is served as all others are.
    Serve,
    /// So it is from now on: the time of being skipped is over. Said once.
    Resume,
    /// It is skipped until then.
    Skip(Instant),
    /// It has tripped too often: it is to be closed.
    Close,
}

impl Guard {
    /// It has just tripped for the first time.
    pub(super) fn new(delivery: &Delivery, now: Instant) -> Self {
        let _ = (delivery, now);
        unimplemented!()
    }

    /// Where it stands.
    pub(super) fn stage(&self) -> BreakerStage {
        unimplemented!()
    }

    /// What holds now. Open turns half-open here, when `cool_down` is over: the caller then goes on from
    /// `resume_from` and says how that went.
    pub(super) fn leave(&mut self, now: Instant) -> Leave {
        let _ = now;
        unimplemented!()
    }

    /// It lags beyond `max_lag`, or has taken nothing for `stall_timeout`, or (half-open) not one byte since it
    /// was tripped. From closed and half-open to open; one more trip.
    pub(super) fn on_trouble(&mut self, now: Instant) {
        let _ = now;
        unimplemented!()
    }

    /// It has taken all there is. Half-open becomes closed.
    pub(super) fn on_caught_up(&mut self, now: Instant) {
        let _ = now;
        unimplemented!()
    }

    /// Whether it has been well for so long that its trips are forgotten.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let _ = now;
        unimplemented!()
    }
}
