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
//! 1. Of turns that were given and did not end there are at most `max_dials`, beside those that hang ([`Turns`]).
//! 2. While somebody waits, either all turns that there may be are given, or there is a date at which the first who waits gets
//!    one; and it was told to look at that date ([`Gate::take_woken`]) since it has changed.
//! 3. Turns are given first to those whose dials have failed least since they lost the server: some that the server fails every
//!    time must not stand before all others. Among them the order is drawn: at the first loss nobody has failed, and some
//!    whose dials hang would hold up all that came later if they had come first. A turn that is not used goes to the next.
//! 4. What turns come to that were given before the gate was shut says nothing about the server since then: of many that fail
//!    together only the first one counts.
//! 5. While the gate is shut, one that hangs has others ask beside it, at growing intervals: one dial that hangs says little
//!    of the server, several that do so say more.
//! 6. Each event costs the logarithm of how many wait, and wakes at most `max_dials` and the first who waits.
//!
//! # Not here
//! Wakers and timers ([`super`]); how a wait is drawn ([`Backoff`]).

mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::Duration;

use tokio::time::Instant;

use self::turns::Turns;
use crate::config::Redial;
use crate::resilience::Backoff;

/// The longest wait between two questions: a server that is back has its first client within this.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// For so long one dial that hangs keeps others from asking: an address that swallows packets must not hold all of them for the
/// whole of `connect_timeout` and `handshake_timeout`. It is far more than a dial takes that is answered.
const FIRST_PATIENCE: Duration = Duration::from_millis(250);
/// The same when others hang already: a server that answers nobody is asked twice a second.
const LONGEST_PATIENCE: Duration = Duration::from_millis(500);

/// One who waits. Who has failed more often is greater, and of several the one who drew the greater place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WaiterId {
    failures: u32,
    place: u32,
    number: u64,
}

/// What a waiter draws when it comes. Tests say what was drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    /// 0 to 1: of a wait that begins now.
    pub(super) wait: f64,
    /// Its place among those who have failed as often.
    pub(super) place: u32,
}

/// A turn that was given: it has to be settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    waiter: WaiterId,
    generation: u64,
    turn: u64,
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
    phase: Phase,
    /// One more whenever what was known of the server does not hold any more.
    generation: u64,
    next_id: u64,
    queue: BTreeSet<WaiterId>,
    /// Those who have a turn and did not look yet.
    called: BTreeMap<WaiterId, Pass>,
    /// Turns that were given and did not end, those of `called` too.
    turns: Turns,
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
            phase: Phase::Idle,
            generation: 0,
            next_id: 0,
            queue: BTreeSet::new(),
            called: BTreeMap::new(),
            turns: Turns::new(max_dials),
            woken: Vec::new(),
        }
    }

    /// Somebody waits from now on, and looks at once. So many of its dials have failed since it lost the server.
    pub(super) fn join(&mut self, failures: u32, draw: Draw, now: Instant) -> WaiterId {
        let id = WaiterId { failures, place: draw.place, number: self.next_id };
        self.next_id += 1;
        match self.phase {
            Phase::Idle => self.shut(draw.wait, now),
            // A server that nobody has asked for so long may well be back.
            Phase::Shut { next_at, asker: None }
                if self.queue.is_empty() && now.saturating_duration_since(next_at) >= LONGEST_WAIT =>
            {
                self.backoff.on_up(now);
                self.shut(draw.wait, now);
            }
            Phase::Shut { .. } | Phase::Open => {}
        }
        self.queue.insert(id);
        id
    }

    /// Whether a waiter has its turn, and if not, when it has to look again.
    pub(super) fn look(&mut self, id: WaiterId, now: Instant) -> Look {
        self.turns.age(now);
        self.call(now);
        if let Some(pass) = self.called.remove(&id) {
            return Look::Go(pass);
        }
        let until = self.date_of(id);
        if until.is_none_or(|date| date > now) {
            return Look::Wait { until };
        }
        let hanging = self.turns.len();
        let Some(pass) = self.give_turn(now) else { return Look::Wait { until: None } };
        let patience = if hanging == 0 { FIRST_PATIENCE } else { LONGEST_PATIENCE };
        self.phase = Phase::Shut { next_at: now + patience, asker: Some(id) };
        self.wake_first();
        Look::Go(pass)
    }

    /// A waiter is gone, without a pass.
    pub(super) fn leave(&mut self, id: WaiterId, random: f64, now: Instant) {
        if let Some(pass) = self.called.remove(&id) {
            self.settle(pass, Outcome::NotAsked, random, now);
            return;
        }
        let was_first = self.queue.first() == Some(&id);
        self.queue.remove(&id);
        if was_first {
            self.go_on(now);
        }
    }

    /// A turn is over.
    pub(super) fn settle(&mut self, pass: Pass, outcome: Outcome, random: f64, now: Instant) {
        let Pass { waiter, generation, turn } = pass;
        self.turns.end(turn);
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
        self.go_on(now);
    }

    /// Those who have to look again since this was asked last.
    pub(super) fn take_woken(&mut self) -> Vec<WaiterId> {
        mem::take(&mut self.woken)
    }

    /// Whether nobody waits and no turn is under way.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.queue.is_empty() && self.called.is_empty() && self.turns.len() == 0
    }

    /// When this one has to look by itself; `None`: it is not the first, or as many turns are given as ever may be.
    fn date_of(&self, id: WaiterId) -> Option<Instant> {
        if self.queue.first() != Some(&id) {
            return None;
        }
        match self.phase {
            Phase::Shut { next_at, .. } if self.turns.has_room() => Some(next_at),
            Phase::Shut { next_at, .. } => Some(next_at.max(self.turns.room_at()?)),
            Phase::Open => self.turns.room_at(),
            Phase::Idle => None,
        }
    }

    /// The next one asks after a wait.
    fn shut(&mut self, random: f64, now: Instant) {
        // It never gives up.
        let wait = self.backoff.next(random, now).unwrap_or(LONGEST_WAIT);
        self.phase = Phase::Shut { next_at: now + wait, asker: None };
    }

    /// Gives the turns that may be given, and has the first who waits look at its date.
    fn go_on(&mut self, now: Instant) {
        self.turns.age(now);
        // Its date may have changed also if nobody is called.
        self.wake_first();
        self.call(now);
    }

    /// While the gate is open: gives the turns that may be given.
    fn call(&mut self, now: Instant) {
        if self.phase != Phase::Open {
            return;
        }
        let mut has_called = false;
        while self.turns.has_room()
            && let Some(pass) = self.give_turn(now)
        {
            self.called.insert(pass.waiter, pass);
            self.woken.push(pass.waiter);
            has_called = true;
        }
        if has_called {
            self.wake_first();
        }
        // Who loses the server after this has lost it anew.
        if self.queue.is_empty() {
            self.phase = Phase::Idle;
            self.generation += 1;
        }
    }

    /// To the first who waits.
    fn give_turn(&mut self, now: Instant) -> Option<Pass> {
        let waiter = self.queue.pop_first()?;
        Some(Pass { waiter, generation: self.generation, turn: self.turns.begin(now) })
    }

    fn wake_first(&mut self) {
        self.woken.extend(self.queue.first());
    }
}

#[cfg(test)]
mod tests;
