//! The breaker of a channel: when many of its clients are tripped at once, only the newest message goes out.
//!
//! ```text
//!             many are tripped                    open_for (jittered)
//!   closed ─────────────────────▶ open ───────────────────────────────────▶ half-open
//!     ▲                             ▲                                          │  │
//!     │                             └────── the next judgement: still many ────┘  │
//!     └────────────────────────────── the next judgement: not many ───────────────┘
//! ```
//!
//! # Not here
//! Which messages go out while it is open ([`super::batch`]).

use std::time::Duration;

use tokio::time::Instant;

use crate::config::ChannelBreaker as Rules;
use crate::resilience::{Breaker, BreakerRules, BreakerState, CallOutcome, Ticket};

/// The breaker of one channel. Pure; the tasks of the channel share it behind a lock, which is taken when a client trips or
/// recovers, and once a pass while the breaker is not closed.
#[derive(Debug)]
pub(super) struct ChannelBreaker {
    breaker: Breaker,
    /// What the next judgement reports while the breaker is half-open.
    probe: Option<Ticket>,
    /// `None`: the breaker never opens.
    rules: Option<Rules>,
}

impl ChannelBreaker {
    pub(super) fn new(rules: Option<Rules>, now: Instant) -> Self {
        let breaker = BreakerRules {
            // One judgement is enough, so nothing is ever left in the window to be forgotten.
            window: Duration::from_secs(1),
            min_calls: 1,
            failure_ratio: 1.0,
            // Without rules nothing opens it.
            open_for: rules.map_or(Duration::ZERO, |rules| rules.open_for),
            probes: 1,
        };
        Self { breaker: Breaker::new(breaker, now), probe: None, rules }
    }

    /// The state that the last judgement left it in.
    pub(super) fn state(&self) -> BreakerState {
        self.breaker.state()
    }

    /// Judges by how many of the clients are tripped now, and answers the state that follows. `random` is 0 to 1. Open
    /// becomes half-open here, for what is sent until the next judgement, which decides.
    pub(super) fn judge(
        &mut self,
        tripped: usize,
        clients: usize,
        random: f64,
        now: Instant,
    ) -> BreakerState {
        let are_many = self.are_many(tripped, clients);
        let (ticket, outcome) = match self.breaker.state() {
            BreakerState::Closed if !are_many => return BreakerState::Closed,
            BreakerState::Closed => (self.breaker.allow(now).ok(), CallOutcome::Failure),
            BreakerState::Open => {
                self.probe = self.breaker.allow(now).ok();
                return self.state();
            }
            BreakerState::HalfOpen if are_many => (self.probe.take(), CallOutcome::Failure),
            BreakerState::HalfOpen => (self.probe.take(), CallOutcome::Success),
        };
        if let Some(ticket) = ticket {
            self.breaker.report(ticket, outcome, random, now);
        }
        self.state()
    }

    fn are_many(&self, tripped: usize, clients: usize) -> bool {
        // Both settings are above 0: without clients, or with none tripped, there are not many.
        self.rules.is_some_and(|rules| {
            clients >= rules.min_clients as usize && tripped as f64 >= rules.tripped_ratio * clients as f64
        })
    }
}

#[cfg(test)]
mod tests;
