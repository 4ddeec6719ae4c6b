//! The breaker of one client: pure.
//!
//! Made at the first trouble and dropped when that is forgotten: most clients never have one.
//!
//! ```text
//!             cool_down: Resume, once               on_caught_up
//!   open ───────────────────────────▶ half-open ───────────────────▶ closed ──▶ over
//!     ▲                                   │                            │  WELL_FOR × cool_down
//!     └──────────── on_trouble ───────────┴──────── on_trouble ────────┘
//! ```
//!
//! # Invariants
//! 1. Only trouble outside of open is a trip: whoever is skipped cannot fail.
//! 2. From trip number `max_trips` on the answer is [`Leave::Close`], whatever else happens.
//!
//! # Not here
//! What trouble is, and where a client goes on (`resume_from`): its shard's business. Jitter: clients that come
//! back together cost one pass, and nobody else's server.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Delivery;
use crate::resilience::{Breaker, BreakerRules, BreakerState, CallOutcome, Ticket};

/// So many times `cool_down` a client has to be well in a row, then its trips are forgotten.
const WELL_FOR: u32 = 10;

/// The breaker of a client that has tripped.
#[derive(Debug)]
pub(super) struct Guard {
    breaker: Breaker,
    /// What it was let through with while it is half-open.
    probe: Option<Ticket>,
    trips: u32,
    max_trips: u32,
    cool_down: Duration,
    /// Since when it is what it is; told only while it is closed.
    well_since: Instant,
}

/// What a client in trouble may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// It is served as all others are.
    Serve,
    /// As [`Leave::Serve`], and said once: its cool-down is over, it goes on from `resume_from`.
    Resume,
    /// It is skipped until then.
    Skip(Instant),
    /// It has tripped too often: it is to be closed.
    Close,
}

impl Guard {
    /// It has just tripped for the first time.
    pub(super) fn new(delivery: &Delivery, now: Instant) -> Self {
        let rules = BreakerRules {
            // One failure is enough, so nothing is ever left in the window to be forgotten.
            window: delivery.cool_down,
            min_calls: 1,
            failure_ratio: 1.0,
            open_for: delivery.cool_down,
            probes: 1,
        };
        let mut guard = Self {
            breaker: Breaker::new(rules, now),
            probe: None,
            trips: 0,
            max_trips: delivery.max_trips,
            cool_down: delivery.cool_down,
            well_since: now,
        };
        guard.on_trouble(now);
        guard
    }

    /// Where it stands.
    pub(super) fn stage(&self) -> BreakerState {
        self.breaker.state()
    }

    /// What holds now. Open turns half-open here, when `cool_down` is over: the caller then goes on from
    /// `resume_from` and says how that went.
    pub(super) fn leave(&mut self, now: Instant) -> Leave {
        if self.trips >= self.max_trips {
            return Leave::Close;
        }
        match self.breaker.state() {
            BreakerState::Closed | BreakerState::HalfOpen => Leave::Serve,
            BreakerState::Open => match self.breaker.allow(now) {
                Ok(probe) => {
                    self.probe = Some(probe);
                    Leave::Resume
                }
                Err(wait) => Leave::Skip(now + wait),
            },
        }
    }

    /// It lags beyond `max_lag`, or has taken nothing for `stall_timeout`, or (half-open) not one byte since it
    /// was tripped. From closed and half-open to open; one more trip.
    pub(super) fn on_trouble(&mut self, now: Instant) {
        let ticket = match self.breaker.state() {
            BreakerState::Closed => {
                if self.is_over(now) {
                    self.trips = 0;
                }
                self.breaker.allow(now).ok()
            }
            BreakerState::HalfOpen => self.probe.take(),
            BreakerState::Open => None,
        };
        if let Some(ticket) = ticket {
            self.breaker.report(ticket, CallOutcome::Failure, 0.0, now);
            self.trips = self.trips.saturating_add(1);
        }
    }

    /// It has taken all there is. Half-open becomes closed.
    pub(super) fn on_caught_up(&mut self, now: Instant) {
        if let Some(probe) = self.probe.take() {
            self.breaker.report(probe, CallOutcome::Success, 0.0, now);
            self.well_since = now;
        }
    }

    /// Whether it has been well for so long that its trips are forgotten.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.trips < self.max_trips
            && self.breaker.state() == BreakerState::Closed
            && now.saturating_duration_since(self.well_since) >= self.cool_down.saturating_mul(WELL_FOR)
    }
}

#[cfg(test)]
mod tests;
