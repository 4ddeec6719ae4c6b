//! Who may dial a server that was lost, and when. Pure: what happens, `now` and a random number in, who goes out.
//!
//! ```text
//!           somebody waits                 an answer
//!   Idle ──────────────────▶ Shut ──────────────────────────▶ Open ──┐
//!    ▲                       │  ▲  one at a time asks          │     │ nobody waits
//!    │                       └──┘                              │     │
//!    │                     no answer       ▲─── no answer ─────┘     │
//!    └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! # Invariants
//! 1. Of turns that were given and did not end there are at most `max_dials`.
//! 2. While somebody waits, either all turns that there may be are given, or there is a date at which the first who waits gets
//!    one; and it was told to look at that date ([`Gate::take_woken`]) since it has changed.
//! 3. Turns are given first to those whose dials have failed least since they lost the server, and among them in the order in
//!    which they came: some that the server fails every time must not stand before all others. A turn that is not used goes to
//!    the next.
//! 4. What turns come to that were given before the gate was shut says nothing about the server since then: of many that fail
//!    together only the first one counts.
//! 5. Each event costs the logarithm of how many wait, and wakes at most `max_dials`.
//!
//! # Not here
//! Wakers and timers ([`super`]); how a wait is drawn ([`Backoff`]).

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Redial;
use crate::resilience::Backoff;

/// The longest wait between two questions: a server that is back has its first client within this. It is also the time
/// for which one dial that hangs keeps others from asking, so that an address that swallows packets does not hold all of
/// them for the whole of `connect_timeout` and `handshake_timeout`.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// One who waits. Who has failed more often is greater, and of several a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WaiterId {
    failures: u32,
    number: u64,
}

/// A turn that was given: it has to be settled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pass {
    waiter: WaiterId,
    generation: u64,
}

/// What a turn came to, as far as the server is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server has answered, whatever it said.
    Answered,
    /// It did not, or said that it does not work.
    Failed,
    /// It was not asked.
    NotAsked,
}

/// What a waiter is told when it looks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It has its turn.
    Go(Pass),
    /// It is told when there is something new; and at this date it has to look again by itself.
    Wait { until: Option<Instant> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nobody waits, and the server has answered the last one who did.
    Idle,
    /// Whether the server answers is not known.
    Shut {
        /// When the first who waits may ask.
        next_at: Instant,
        /// The last one who was sent, until it is back.
        asker: Option<WaiterId>,
    },
    /// The server has answered, and all who wait may go.
    Open,
}

/// The gate before one server.
#[derive(Debug)]
pub(super) struct Gate {
    backoff: Backoff,
    max_dials: usize,
    phase: Phase,
    /// One more whenever what was known of the server does not hold any more.
    generation: u64,
    next_id: u64,
    queue: BTreeSet<WaiterId>,
    /// Those who have a turn and did not look yet, with its generation.
    called: BTreeMap<WaiterId, u64>,
    /// Turns that were given and did not end, those of `called` too.
    in_flight: usize,
    woken: Vec<WaiterId>,
}

impl Gate {
    pub(super) fn new(rules: Redial, max_dials: usize) -> Self {
        let cap = rules.cap.min(LONGEST_WAIT);
        // Here any answer makes the waits short again: a server that dies over and over is not one that stays away.
        // Giving up is a matter of each session.
        let rules = Redial {
            base: rules.base.min(cap),
            cap,
            give_up: None,
            reset_after: Duration::ZERO,
            factor: rules.factor,
        };
        Self {
            backoff: Backoff::new(rules),
            max_dials: max_dials.max(1),
            phase: Phase::Idle,
            generation: 0,
            next_id: 0,
            queue: BTreeSet::new(),
            called: BTreeMap::new(),
            in_flight: 0,
            woken: Vec::new(),
        }
    }

    /// Somebody waits from now on, and looks at once. So many of its dials have failed since it lost the server. `random` is 0
    /// to 1.
    pub(super) fn join(&mut self, failures: u32, random: f64, now: Instant) -> WaiterId {
        let id = WaiterId { failures, number: self.next_id };
        self.next_id += 1;
        match self.phase {
            Phase::Idle => self.shut(random, now),
            // A server that nobody has asked for so long may well be back.
            Phase::Shut { next_at, asker: None }
                if self.queue.is_empty() && now.saturating_duration_since(next_at) >= LONGEST_WAIT =>
            {
                self.backoff.on_up(now);
                self.shut(random, now);
            }
            Phase::Shut { .. } | Phase::Open => {}
        }
        self.queue.insert(id);
        id
    }

    /// Whether a waiter has its turn, and if not, when it has to look again.
    pub(super) fn look(&mut self, id: WaiterId, now: Instant) -> Look {
        if let Some(generation) = self.called.remove(&id) {
            return Look::Go(Pass { waiter: id, generation });
        }
        let until = self.date_of(id);
        if until.is_none_or(|date| date > now) {
            return Look::Wait { until };
        }
        self.queue.pop_first();
        self.in_flight += 1;
        self.phase = Phase::Shut { next_at: now + LONGEST_WAIT, asker: Some(id) };
        self.wake_first();
        Look::Go(Pass { waiter: id, generation: self.generation })
    }

    /// A waiter is gone, without a pass.
    pub(super) fn leave(&mut self, id: WaiterId, random: f64, now: Instant) {
        if let Some(generation) = self.called.remove(&id) {
            self.settle(Pass { waiter: id, generation }, Outcome::NotAsked, random, now);
            return;
        }
        let was_first = self.queue.first() == Some(&id);
        self.queue.remove(&id);
        if was_first {
            self.go_on();
        }
    }

    /// A turn is over.
    #[expect(clippy::needless_pass_by_value, reason = "a pass is used up: each turn is settled once")]
    pub(super) fn settle(&mut self, pass: Pass, outcome: Outcome, random: f64, now: Instant) {
        let Pass { waiter, generation } = pass;
        self.in_flight -= 1;
        match (self.phase, outcome) {
            _ if generation != self.generation => {}
            (Phase::Shut { .. }, Outcome::Answered) => {
                self.phase = Phase::Open;
                self.backoff.on_up(now);
            }
            (Phase::Open, Outcome::Failed) => {
                self.generation += 1;
                self.shut(random, now);
            }
            // Of several who ask, since those before hang, the last one says when the next one goes.
            (Phase::Shut { asker: Some(asker), .. }, Outcome::Failed) if asker == waiter => {
                self.shut(random, now);
            }
            (Phase::Shut { asker: Some(asker), .. }, Outcome::NotAsked) if asker == waiter => {
                self.phase = Phase::Shut { next_at: now, asker: None };
            }
            (Phase::Idle | Phase::Shut { .. } | Phase::Open, _) => {}
        }
        self.go_on();
    }

    /// Those who have to look again since this was asked last.
    pub(super) fn take_woken(&mut self) -> Vec<WaiterId> {
        mem::take(&mut self.woken)
    }

    /// Whether nobody waits and no turn is under way.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.queue.is_empty() && self.called.is_empty() && self.in_flight == 0
    }

    /// When this one may ask; `None`: it is not the first, or as many turns are given as may be.
    fn date_of(&self, id: WaiterId) -> Option<Instant> {
        match self.phase {
            Phase::Shut { next_at, .. } => {
                (self.queue.first() == Some(&id) && self.in_flight < self.max_dials).then_some(next_at)
            }
            Phase::Idle | Phase::Open => None,
        }
    }

    /// The next one asks after a wait.
    fn shut(&mut self, random: f64, now: Instant) {
        // It never gives up.
        let wait = self.backoff.next(random, now).unwrap_or(LONGEST_WAIT);
        self.phase = Phase::Shut { next_at: now + wait, asker: None };
    }

    /// Gives the turns that may be given, or has the first who waits look at its date.
    fn go_on(&mut self) {
        if self.phase == Phase::Open {
            while self.in_flight < self.max_dials
                && let Some(id) = self.queue.pop_first()
            {
                self.in_flight += 1;
                self.called.insert(id, self.generation);
                self.woken.push(id);
            }
            // Who loses the server after this has lost it anew.
            if self.queue.is_empty() {
                self.phase = Phase::Idle;
                self.generation += 1;
            }
        } else {
            self.wake_first();
        }
    }

    fn wake_first(&mut self) {
        if let Phase::Shut { .. } = self.phase {
            self.woken.extend(self.queue.first());
        }
    }
}

#[cfg(test)]
mod tests;
