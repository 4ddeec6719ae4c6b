//! A circuit breaker: a callee that keeps failing is not called for a while, then probed.
//!
//! ```text
//!            min_calls, failure_ratio               open_for (jittered)
//!   closed ─────────────────────────────▶ open ─────────────────────────▶ half-open
//!     ▲                                     ▲                               │  │
//!     │                                     └────────── a probe fails ──────┘  │
//!     └──────────────────────── as many successes as probes ──────────────────┘
//! ```
//!
//! Outcomes of calls are counted in a sliding window (`window`).
//!
//! # Invariants
//! 1. It never opens on fewer than `min_calls` outcomes within the window.
//! 2. Half-open, never more than `probes` calls are on their way; and as many of the caller that it blames;
//!    and those that are late, one of each caller and [`MAX_LATE`] at the most: a caller that asks for what the callee is
//!    silent at would otherwise keep all others waiting while the callee works.
//! 3. Only a failure opens it. A success may complete `min_calls`, or outlive the successes before it in the
//!    window: it says that whoever was called is there, whatever the ratio has come to.
//! 4. A call that was let through in another period says nothing about this one: each [`Ticket`] has
//!    the period it belongs to, and only outcomes of the current one count.
//! 5. What one caller alone has brought about is held against no other caller (see below).
//!
//! # Whose doing a failure is
//! Some failures are certainly the callee's: it cannot be connected to. Others may be an answer to what one caller asks
//! for: there are paths at which a server that works says nothing, hangs up, or answers 503. Such an outcome is a
//! [`CallOutcome::Suspicion`]. If it counted as a failure, any caller could have all others refused.
//!
//! * While the callee also answers, suspicions count once for each caller, however many one has, and do not open
//!   the breaker unless two callers have them, or there are failures too.
//! * While it answers nobody within the window, each counts: a callee that is dead fails whoever there is, and that may
//!   be one caller. If it was only one, the breaker opens against that caller alone. Any other caller is let through
//!   as a probe, at once: an answer closes it, and a second caller's suspicion opens it for all.
//!
//! Callers may be indistinguishable: behind a proxy that does not forward addresses all have the same one. Then all of them
//! are one caller, and what is held against it is held against all: they are protected as if callers were not told apart,
//! except that a callee that answered within the window is only given up when the window has passed.
//!
//! # Not here
//! What a call is, and what counts as its failure; giving up a ticket when its holder is gone (that is
//! up to the holder: every ticket has to be reported).

mod window;

use std::time::Duration;

use tokio::time::Instant;

use self::window::{OpensFor, Window};

/// Reopening is spread over this share of `open_for`, so that many breakers do not probe together.
const JITTER: f64 = 0.2;
/// Probes that are late, and whose places were given to others.
const MAX_LATE: usize = 16;

/// When it opens, and how it closes again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BreakerRules {
    /// Outcomes older than this are forgotten.
    pub window: Duration,
    /// Fewer outcomes than this say nothing; at least 1.
    pub min_calls: u32,
    /// The share of failures that opens it: above 0, at most 1.
    pub failure_ratio: f64,
    /// How long it stays open, up to a fifth longer.
    pub open_for: Duration,
    /// Calls at a time while it is half-open, and successes that close it; at least 1.
    pub probes: u32,
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakerState {
    /// Calls go through.
    Closed,
    /// A few do, as probes.
    HalfOpen,
    /// None does.
    Open,
}

/// How a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    /// It was answered.
    Success,
    /// It failed, and not because of what its caller asked for.
    Failure,
    /// It failed, in a way that may be an answer to what its caller asks for.
    Suspicion,
    /// It says nothing about the callee (its caller went away, a drain).
    Ignored,
}

/// Who makes a call, as far as callers can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Caller(pub u64);

impl Caller {
    /// It is not known who: all of these are one caller.
    pub(crate) const UNKNOWN: Self = Self(0);
}

/// Permission for one call. It has to be reported once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket that is not reported holds the place of a probe for ever"]
pub(crate) struct Ticket {
    period: u64,
    caller: Caller,
    /// Whether it takes one of the places of the caller that the breaker blames.
    is_blamed: bool,
    is_probe: bool,
    /// Whether its place was given to others.
    is_late: bool,
}

impl Ticket {
    /// Whether others wait for what comes of it.
    pub(crate) fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// Whether its place was given to others.
    pub(crate) fn is_late(&self) -> bool {
        self.is_late
    }
}

/// The breaker of one callee.
#[derive(Debug)]
pub(crate) struct Breaker {
    rules: BreakerRules,
    phase: Phase,
    /// Counts changes of phase.
    period: u64,
}

#[derive(Debug)]
enum Phase {
    Closed(Window),
    /// `only`: the caller that it is open for; `None`: for all.
    Open {
        until: Instant,
        only: Option<Caller>,
    },
    HalfOpen(Probing),
}

/// The state of the probes.
#[derive(Debug)]
struct Probing {
    under_way: u32,
    successes: u32,
    /// The caller that it was open for alone, and until when calls of that one are refused. Its probes have places of their
    /// own, so that it cannot keep the others waiting.
    blamed: Option<(Caller, Instant)>,
    blamed_under_way: u32,
    /// The callers whose probes are late: their outcomes still count, but no other call of these callers is let through.
    late: Vec<Caller>,
}

impl Probing {
    fn new(blamed: Option<(Caller, Instant)>) -> Self {
        Self { under_way: 0, successes: 0, blamed, blamed_under_way: 0, late: Vec::new() }
    }
}

impl Breaker {
    /// Closed.
    pub(crate) fn new(rules: BreakerRules, now: Instant) -> Self {
        Self { rules, phase: Phase::Closed(Window::new(rules.window, now)), period: 0 }
    }

    /// Where it stands. Open turns half-open with the next call, not by itself.
    pub(crate) fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed(_) => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen(_) => BreakerState::HalfOpen,
        }
    }

    /// Until when it is open, if it is.
    pub(crate) fn open_until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open { until, .. } => Some(until),
            Phase::Closed(_) | Phase::HalfOpen(_) => None,
        }
    }

    /// Whether it blames one caller only.
    pub(crate) fn blames_one_caller(&self) -> bool {
        match &self.phase {
            Phase::Closed(_) => false,
            Phase::Open { only, .. } => only.is_some(),
            Phase::HalfOpen(probing) => probing.blamed.is_some(),
        }
    }

    /// Lets a call through.
    ///
    /// # Errors
    /// It does not: how long until it may be worth asking again (zero: as soon as a probe is back).
    pub(crate) fn allow(&mut self, now: Instant) -> Result<Ticket, Duration> {
        self.allow_caller(Caller::UNKNOWN, now)
    }

    /// Lets a call through whose caller is known.
    ///
    /// # Errors
    /// As of [`Breaker::allow`]; the breaker may be open for this caller only.
    pub(crate) fn allow_caller(&mut self, caller: Caller, now: Instant) -> Result<Ticket, Duration> {
        if let Phase::Open { until, only } = self.phase {
            if now < until && only.is_none_or(|only| only == caller) {
                return Err(until - now);
            }
            let blamed = only.map(|only| (only, until));
            self.enter(Phase::HalfOpen(Probing::new(blamed)));
        }
        let (mut is_blamed, mut is_probe) = (false, false);
        if let Phase::HalfOpen(probing) = &mut self.phase {
            if probing.late.contains(&caller) {
                return Err(Duration::ZERO);
            }
            is_probe = true;
            let places = match probing.blamed {
                Some((blamed, until)) if blamed == caller => {
                    if now < until {
                        return Err(until - now);
                    }
                    is_blamed = true;
                    &mut probing.blamed_under_way
                }
                _ => &mut probing.under_way,
            };
            if *places >= self.rules.probes {
                return Err(Duration::ZERO);
            }
            *places += 1;
        }
        Ok(Ticket { period: self.period, caller, is_blamed, is_probe, is_late: false })
    }

    /// A probe takes long: its place is given to another caller. True if there is a place now.
    pub(crate) fn on_late(&mut self, ticket: &mut Ticket) -> bool {
        if ticket.period != self.period || ticket.is_blamed || ticket.is_late {
            return false;
        }
        let Phase::HalfOpen(probing) = &mut self.phase else { return false };
        if probing.late.len() >= MAX_LATE {
            return false;
        }
        probing.under_way -= 1;
        probing.late.push(ticket.caller);
        ticket.is_late = true;
        true
    }

    /// Reports how a call went. `jitter` is 0 to 1, and different for each breaker.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is good for one report")]
    pub(crate) fn report(&mut self, ticket: Ticket, outcome: CallOutcome, jitter: f64, now: Instant) {
        if ticket.period != self.period {
            return;
        }
        let rules = self.rules;
        // For whom it opens, if it does.
        let opens = match &mut self.phase {
            Phase::Closed(window) => {
                window.count(ticket.caller, outcome, now);
                let is_bad = matches!(outcome, CallOutcome::Failure | CallOutcome::Suspicion);
                if is_bad { window.opens_for(&rules) } else { None }
            }
            // An open breaker has given out no ticket of its period.
            Phase::Open { .. } => None,
            Phase::HalfOpen(probing) => {
                if ticket.is_late {
                    if let Some(at) = probing.late.iter().position(|caller| *caller == ticket.caller) {
                        probing.late.swap_remove(at);
                    }
                } else if ticket.is_blamed {
                    probing.blamed_under_way -= 1;
                } else {
                    probing.under_way -= 1;
                }
                match outcome {
                    CallOutcome::Success => {
                        probing.successes += 1;
                        if probing.successes >= rules.probes {
                            self.enter(Phase::Closed(Window::new(rules.window, now)));
                        }
                        None
                    }
                    CallOutcome::Ignored => None,
                    CallOutcome::Failure => Some(OpensFor::All),
                    CallOutcome::Suspicion => match probing.blamed {
                        Some((blamed, _)) if blamed != ticket.caller => Some(OpensFor::All),
                        _ => Some(OpensFor::Only(ticket.caller)),
                    },
                }
            }
        };
        let only = match opens {
            None => return,
            Some(OpensFor::All) => None,
            Some(OpensFor::Only(caller)) => Some(caller),
        };
        let open_for = rules.open_for.mul_f64(1.0 + JITTER * jitter.clamp(0.0, 1.0));
        self.enter(Phase::Open { until: now + open_for, only });
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.period += 1;
    }
}

#[cfg(test)]
mod tests;
