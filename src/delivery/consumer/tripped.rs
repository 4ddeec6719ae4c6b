//! A client that has tripped: its breaker, as metrics and the channel's breaker see it, and what the trip cost.
//!
//! # Invariants
//! 1. What was reported of a client to gauges and to the channel's breaker is taken back when this is dropped.

use std::sync::Arc;

use tokio::time::Instant;

use super::breaker::{Decision, RecipientBreaker};
use crate::delivery::shared::FanoutShared;
use crate::log::Lag;
use crate::resilience::BreakerState;

/// What is kept of a client from its first trip until its trips are forgotten.
#[derive(Debug)]
pub(super) struct Tripped {
    breaker: RecipientBreaker,
    shared: Arc<FanoutShared>,
    /// How far the client was behind when it was tried again: only what is beyond that is held against it.
    floor: Lag,
    /// The state of the breaker that was reported last.
    reported: BreakerState,
    /// Messages that were skipped and that the client has no notice of yet (`delivery.resume_from: latest`).
    unreported_gap: u64,
}

impl Tripped {
    /// The client has tripped for the first time.
    pub(super) fn new(shared: &Arc<FanoutShared>, now: Instant) -> Self {
        let breaker = RecipientBreaker::new(&shared.settings.policy.delivery, now);
        let reported = BreakerState::Closed;
        shared.settings.recipients.on_transition(None, Some(reported));
        let shared = Arc::clone(shared);
        let mut tripped = Self { breaker, shared, floor: Lag::default(), reported, unreported_gap: 0 };
        tripped.report(now);
        tripped
    }

    /// Whether the client is skipped.
    pub(super) fn is_skipped(&self) -> bool {
        self.reported == BreakerState::Open
    }

    /// When it is to be tried again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.breaker.retry_at()
    }

    /// Whether the last trip was one too many.
    pub(super) fn has_tripped_too_often(&self) -> bool {
        self.breaker.has_tripped_too_often()
    }

    /// The client has tripped again.
    pub(super) fn on_trip(&mut self, now: Instant) {
        self.breaker.on_trip(now);
        self.report(now);
    }

    /// Whether the client's cool-down ends now: it is to be tried again.
    pub(super) fn ends_cool_down(&mut self, now: Instant) -> bool {
        let is_over = self.breaker.decide(now) == Decision::Resume;
        self.report(now);
        is_over
    }

    /// How far the client may be behind without that being held against it.
    pub(super) fn floor(&self) -> Lag {
        self.floor
    }

    pub(super) fn set_floor(&mut self, floor: Lag) {
        self.floor = floor;
    }

    /// So many messages will never reach the client.
    pub(super) fn on_skipped(&mut self, messages: u64) {
        self.unreported_gap = self.unreported_gap.saturating_add(messages);
    }

    /// Messages that the client is to get a notice of now.
    pub(super) fn take_unreported_gap(&mut self) -> u64 {
        std::mem::take(&mut self.unreported_gap)
    }

    /// The client has taken all there is. True if its trips are forgotten: not before it has a notice of
    /// what they cost.
    pub(super) fn on_caught_up(&mut self, now: Instant) -> bool {
        self.breaker.on_caught_up(now);
        self.floor = Lag::default();
        self.report(now);
        self.unreported_gap == 0 && self.breaker.is_over(now)
    }

    fn report(&mut self, now: Instant) {
        let state = self.breaker.state();
        if state == self.reported {
            return;
        }
        self.shared.settings.recipients.on_transition(Some(self.reported), Some(state));
        let was_tripped = self.reported != BreakerState::Closed;
        let is_tripped = state != BreakerState::Closed;
        self.reported = state;
        if was_tripped != is_tripped {
            self.shared.on_tripped(is_tripped, now);
        }
    }
}

impl Drop for Tripped {
    fn drop(&mut self) {
        self.shared.settings.recipients.on_transition(Some(self.reported), None);
        if self.reported != BreakerState::Closed {
            self.shared.on_tripped(false, Instant::now());
        }
    }
}
