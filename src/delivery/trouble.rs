//! A client that has tripped: its breaker, where everybody can see it.
//!
//! # Invariants
//! 1. What the gauges and the channel's breaker are told of a client is taken back when this is dropped.

use std::sync::Arc;

use tokio::time::Instant;

use super::fanout::Crew;
use super::guard::{Guard, Leave};
use crate::log::Lag;
use crate::telemetry::BreakerStage;

/// The breaker of one client.
#[derive(Debug)]
pub(super) struct Trouble {
    guard: Guard,
    crew: Arc<Crew>,
    /// How far it was behind when it was tried again: only what is beyond that is held against it.
    floor: Lag,
    told: BreakerStage,
    /// Messages that the client skipped and was not told of yet (`delivery.resume_from: latest`).
    untold: u64,
}

impl Trouble {
    /// It has tripped for the first time.
    pub(super) fn new(crew: &Arc<Crew>, now: Instant) -> Self {
        let guard = Guard::new(&crew.settings.policy.delivery, now);
        let told = BreakerStage::Closed;
        crew.settings.recipients.on_transition(None, Some(told));
        let mut trouble = Self { guard, crew: Arc::clone(crew), floor: Lag::default(), told, untold: 0 };
        trouble.tell(now);
        trouble
    }

    /// Whether it is skipped.
    pub(super) fn is_open(&self) -> bool {
        self.told == BreakerStage::Open
    }

    /// When it is to be tried again.
    pub(super) fn until(&mut self, now: Instant) -> Option<Instant> {
        match self.guard.leave(now) {
            Leave::Skip(until) => Some(until),
            Leave::Serve | Leave::Resume | Leave::Close => None,
        }
    }

    /// Whether this was one trip too many.
    pub(super) fn is_last(&mut self, now: Instant) -> bool {
        self.guard.leave(now) == Leave::Close
    }

    /// It has tripped again. True if that was once too often.
    pub(super) fn on_trip(&mut self, now: Instant) -> bool {
        self.guard.on_trouble(now);
        self.tell(now);
        self.is_last(now)
    }

    /// Whether its time of being skipped ends now: it is to be tried again.
    pub(super) fn resumes(&mut self, now: Instant) -> bool {
        let is_resumed = self.guard.leave(now) == Leave::Resume;
        self.tell(now);
        is_resumed
    }

    pub(super) fn set_floor(&mut self, floor: Lag) {
        self.floor = floor;
    }

    pub(super) fn floor(&self) -> Lag {
        self.floor
    }

    /// So many messages will never reach it.
    pub(super) fn on_skipped(&mut self, messages: u64) {
        self.untold = self.untold.saturating_add(messages);
    }

    /// What it is to be told of now.
    pub(super) fn take_untold(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }

    /// It has taken all there is. True if its trips are forgotten: not before it was told what they cost.
    pub(super) fn on_caught_up(&mut self, now: Instant) -> bool {
        self.guard.on_caught_up(now);
        self.floor = Lag::default();
        self.tell(now);
        self.untold == 0 && self.guard.is_over(now)
    }

    fn tell(&mut self, now: Instant) {
        let stage = self.guard.stage();
        if stage == self.told {
            return;
        }
        self.crew.settings.recipients.on_transition(Some(self.told), Some(stage));
        let was_tripped = self.told != BreakerStage::Closed;
        let is_tripped = stage != BreakerStage::Closed;
        self.told = stage;
        if was_tripped != is_tripped {
            self.crew.on_tripped(is_tripped, now);
        }
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        self.crew.settings.recipients.on_transition(Some(self.told), None);
        if self.told != BreakerStage::Closed {
            self.crew.on_tripped(false, Instant::now());
        }
    }
}
