//! The breaker of one client. Pure.
//!
//! It is made when a client trips for the first time and dropped when its trips are forgotten: most clients never have
//! one.
//!
//! ```text
//!             cool_down: Resume, once               on_caught_up
//!   open ───────────────────────────▶ half-open ───────────────────▶ closed ──▶ over
//!     ▲                                   │                            │  WELL_FOR × cool_down
//!     └───────────── on_trip ─────────────┴───────── on_trip ──────────┘
//! ```
//!
//! # Invariants
//! 1. A trip counts only while the breaker is not open: a client that is skipped cannot fail.
//! 2. From trip number `max_trips` on the answer is [`Decision::Close`], whatever else happens.
//!
//! # Not here
//! When a client trips, and where it goes on (`resume_from`; [`super::Consumer`]). Jitter: clients that come back together
//! cost one pass, and no server.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Delivery;
use crate::resilience::{Breaker, BreakerRules, BreakerState, CallOutcome, Ticket};

/// For so many times `cool_down` a client has to keep up, then its trips are forgotten.
const WELL_FOR: u32 = 10;

/// The breaker of a client that has tripped.
#[derive(Debug)]
pub(super) struct RecipientBreaker {
    breaker: Breaker,
    /// What the client was let through with while the breaker is half-open.
    probe: Option<Ticket>,
    trips: u32,
    max_trips: u32,
    cool_down: Duration,
    /// Since when the breaker is closed, while it is.
    well_since: Instant,
}

/// What becomes of a client that has tripped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// The client is served as all others are.
    Serve,
    /// As [`Decision::Serve`], answered once: its cool-down is over, and it goes on from `resume_from`.
    Resume,
    /// The client is skipped until then.
    Skip(Instant),
    /// The client has tripped too often and is to be closed.
    Close,
}

impl RecipientBreaker {
    /// The client has just tripped for the first time.
    pub(super) fn new(delivery: &Delivery, now: Instant) -> Self {
        let rules = BreakerRules {
            // One failure is enough, so nothing is ever left in the window to be forgotten.
            window: delivery.cool_down,
            min_calls: 1,
            failure_ratio: 1.0,
            open_for: delivery.cool_down,
            probes: 1,
        };
        let mut breaker = Self {
            breaker: Breaker::new(rules, now),
            probe: None,
            trips: 0,
            max_trips: delivery.max_trips,
            cool_down: delivery.cool_down,
            well_since: now,
        };
        breaker.on_trip(now);
        breaker
    }

    /// Its state.
    pub(super) fn state(&self) -> BreakerState {
        self.breaker.state()
    }

    /// When the client is to be tried again, while it is skipped.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        if self.has_tripped_too_often() { None } else { self.breaker.open_until() }
    }

    /// Whether this was one trip too many.
    pub(super) fn has_tripped_too_often(&self) -> bool {
        self.trips >= self.max_trips
    }

    /// What holds now. Open becomes half-open here, when `cool_down` is over: the client then goes on from `resume_from`,
    /// and how that goes is told with [`RecipientBreaker::on_trip`] or [`RecipientBreaker::on_caught_up`].
    pub(super) fn decide(&mut self, now: Instant) -> Decision {
        if self.has_tripped_too_often() {
            return Decision::Close;
        }
        match self.breaker.state() {
            BreakerState::Closed | BreakerState::HalfOpen => Decision::Serve,
            BreakerState::Open => match self.breaker.allow(now) {
                Ok(probe) => {
                    self.probe = Some(probe);
                    Decision::Resume
                }
                Err(wait) => Decision::Skip(now + wait),
            },
        }
    }

    /// The client lags beyond `max_lag`, or has taken nothing for `stall_timeout`, or (half-open) not one byte since it
    /// tripped. Closed and half-open become open, and this counts as one more trip.
    pub(super) fn on_trip(&mut self, now: Instant) {
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

    /// The client has taken all there is. Half-open becomes closed.
    pub(super) fn on_caught_up(&mut self, now: Instant) {
        if let Some(probe) = self.probe.take() {
            self.breaker.report(probe, CallOutcome::Success, 0.0, now);
            self.well_since = now;
        }
    }

    /// Whether the client has kept up for so long that its trips are forgotten.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.trips < self.max_trips
            && self.breaker.state() == BreakerState::Closed
            && now.saturating_duration_since(self.well_since) >= self.cool_down.saturating_mul(WELL_FOR)
    }
}

#[cfg(test)]
mod tests;
