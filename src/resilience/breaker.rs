//! A circuit breaker: whoever keeps failing is left alone for a while, then asked again with care.
//!
//! ```text
//!            min_calls, failure_ratio               open_for (jittered)
//!   closed ─────────────────────────────▶ open ─────────────────────────▶ half-open
//!     ▲                                     ▲                               │  │
//!     │                                     └────────── a probe fails ──────┘  │
//!     └──────────────────────── as many successes as probes ──────────────────┘
//! ```
//!
//! Calls are counted by their outcome in a sliding window of [`BUCKETS`] parts: what leaves it is
//! forgotten part by part, so that a burst of failures does not hang about for twice its time.
//!
//! # Invariants
//! 1. It never opens on fewer than `min_calls` outcomes within the window.
//! 2. Half-open, never more than `probes` calls are on their way; and as many of the caller that it is held against;
//!    and those that are late, one of each caller and [`MAX_LATE`] at the most: a caller that asks for what the callee is
//!    silent at would otherwise keep all others waiting while the callee is well.
//! 3. Only a failure opens it. A success may complete `min_calls`, or outlive the successes before it in the
//!    window: it says that whoever was called is there, whatever the ratio has come to.
//! 4. A call that was let through in another period says nothing about this one: each [`Ticket`] has
//!    the period it belongs to, and only outcomes of the current one count.
//!
//! 5. What one caller alone has brought about is held against nobody else (see below).
//!
//! # Whose doing a failure is
//! Some failures are the callee's for sure: it cannot be connected to. Others may be an answer to what one caller asks
//! for: there are paths at which a server that is well says nothing, hangs up, or answers 503. Such an outcome is a
//! [`CallOutcome::Suspicion`]. If it counted as a failure, any caller could have all others refused.
//!
//! * While the callee also answers, suspicions count once for each caller, however many one has, and do not open
//!   the breaker unless two callers have them, or there are failures too.
//! * While it answers nobody within the window, each counts: a callee that is dead fails whoever there is, and that may
//!   be one caller. If it was only one, the breaker opens against that caller alone. Whoever else comes is let through
//!   as a probe, at once: an answer closes it, and a second caller's suspicion opens it for all.
//!
//! Callers may be alike from here: behind a proxy that tells nobody's address all have the same one. Then all of them
//! are one caller, and what is held against it is held against all: they are protected as if nobody were told apart,
//! but for a callee that answered within the window, which is left alone when that has passed.
//!
//! # Not here
//! What a call is, and what counts as its failure; giving up a ticket when its holder is gone (the
//! holder's business: every ticket has to be reported).

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Parts of the window.
const BUCKETS: usize = 10;
/// Reopening is spread over this share of `open_for`, so that many breakers do not probe together.
const JITTER: f64 = 0.2;
/// Callers with suspicions that are told apart. Each further suspicion counts as another caller's: one who has more
/// addresses than this cannot be told from a crowd.
const MAX_CALLERS: usize = 4096;
/// Probes that are late, and whose places others have.
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
    /// A few do, to see.
    HalfOpen,
    /// None does.
    Open,
}

/// How a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    /// It was answered.
    Success,
    /// It failed, and that is not its caller's doing.
    Failure,
    /// It failed, in a way that may be an answer to what its caller asks for.
    Suspicion,
    /// It says nothing about whoever was called (its caller went away, a drain).
    Neither,
}

/// Who makes a call, as far as callers can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Caller(pub u64);

impl Caller {
    /// Nobody knows who: all of these are one.
    pub(crate) const UNKNOWN: Self = Self(0);
}

/// Leave for one call. It has to be reported once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket that is not reported holds the place of a probe for ever"]
pub(crate) struct Ticket {
    period: u64,
    caller: Caller,
    /// Whether it takes the place of the caller that the breaker is held against.
    is_held: bool,
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
    /// `only`: the caller that it is open for; none, for all.
    Open {
        until: Instant,
        only: Option<Caller>,
    },
    HalfOpen(Probing),
}

/// What is known of the probes.
#[derive(Debug)]
struct Probing {
    under_way: u32,
    successes: u32,
    /// The caller that it was open for alone, and until when that one is not asked. Its probes have places of their
    /// own: it cannot keep the others waiting.
    held: Option<(Caller, Instant)>,
    held_under_way: u32,
    /// Whose probes are late: what comes of these still counts, but no other one of theirs is let through.
    late: Vec<Caller>,
}

impl Probing {
    fn new(held: Option<(Caller, Instant)>) -> Self {
        Self { under_way: 0, successes: 0, held, held_under_way: 0, late: Vec::new() }
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

    /// Whether it is held against one caller only.
    pub(crate) fn is_held_against_one(&self) -> bool {
        match &self.phase {
            Phase::Closed(_) => false,
            Phase::Open { only, .. } => only.is_some(),
            Phase::HalfOpen(probing) => probing.held.is_some(),
        }
    }

    /// Lets a call through.
    ///
    /// # Errors
    /// It does not: how long until it may be worth asking again (zero: as soon as a probe is back).
    pub(crate) fn allow(&mut self, now: Instant) -> Result<Ticket, Duration> {
        self.allow_caller(Caller::UNKNOWN, now)
    }

    /// Lets a call of somebody through who can be told from others.
    ///
    /// # Errors
    /// As of [`Breaker::allow`]; the breaker may be open for this caller only.
    pub(crate) fn allow_caller(&mut self, caller: Caller, now: Instant) -> Result<Ticket, Duration> {
        if let Phase::Open { until, only } = self.phase {
            if now < until && only.is_none_or(|only| only == caller) {
                return Err(until - now);
            }
            let held = only.map(|only| (only, until));
            self.enter(Phase::HalfOpen(Probing::new(held)));
        }
        let (mut is_held, mut is_probe) = (false, false);
        if let Phase::HalfOpen(probing) = &mut self.phase {
            if probing.late.contains(&caller) {
                return Err(Duration::ZERO);
            }
            is_probe = true;
            let places = match probing.held {
                Some((held, until)) if held == caller => {
                    if now < until {
                        return Err(until - now);
                    }
                    is_held = true;
                    &mut probing.held_under_way
                }
                _ => &mut probing.under_way,
            };
            if *places >= self.rules.probes {
                return Err(Duration::ZERO);
            }
            *places += 1;
        }
        Ok(Ticket { period: self.period, caller, is_held, is_probe, is_late: false })
    }

    /// A probe takes long: another caller may have its place. Whether there is a place now.
    pub(crate) fn on_late(&mut self, ticket: &mut Ticket) -> bool {
        if ticket.period != self.period || ticket.is_held || ticket.is_late {
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

    /// Tells how a call went. `jitter` is 0 to 1, and different for each breaker.
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
                if is_bad { window.verdict(&rules) } else { None }
            }
            // No ticket of this period can be there.
            Phase::Open { .. } => None,
            Phase::HalfOpen(probing) => {
                if ticket.is_late {
                    if let Some(at) = probing.late.iter().position(|caller| *caller == ticket.caller) {
                        probing.late.swap_remove(at);
                    }
                } else if ticket.is_held {
                    probing.held_under_way -= 1;
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
                    CallOutcome::Neither => None,
                    CallOutcome::Failure => Some(Verdict::All),
                    CallOutcome::Suspicion => match probing.held {
                        Some((held, _)) if held != ticket.caller => Some(Verdict::All),
                        _ => Some(Verdict::Only(ticket.caller)),
                    },
                }
            }
        };
        let only = match opens {
            None => return,
            Some(Verdict::All) => None,
            Some(Verdict::Only(caller)) => Some(caller),
        };
        let open_for = rules.open_for.mul_f64(1.0 + JITTER * jitter.clamp(0.0, 1.0));
        self.enter(Phase::Open { until: now + open_for, only });
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.period += 1;
    }
}

/// For whom a breaker opens.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    All,
    Only(Caller),
}

/// Outcomes of the last while, in equal parts of it.
#[derive(Debug)]
struct Window {
    part: Duration,
    /// The start of the newest part.
    since: Instant,
    /// Counts the parts; the newest one's counters are at this number modulo [`BUCKETS`].
    newest: u64,
    successes: [u32; BUCKETS],
    failures: [u32; BUCKETS],
    /// Made at the first one: most breakers are around what nobody is suspected for.
    suspicions: Option<Box<Suspicions>>,
}

#[derive(Debug, Default)]
struct Suspicions {
    all: [u32; BUCKETS],
    /// Of callers that there was no room to remember.
    of_strangers: [u32; BUCKETS],
    /// Callers, and the newest part in which they had one.
    callers: HashMap<Caller, u64>,
}

impl Suspicions {
    fn count(&mut self, caller: Caller, part: u64) {
        let at = place(part);
        self.all[at] = self.all[at].saturating_add(1);
        if self.callers.len() < MAX_CALLERS || self.callers.contains_key(&caller) {
            self.callers.insert(caller, part);
        } else {
            self.of_strangers[at] = self.of_strangers[at].saturating_add(1);
        }
    }

    /// How many callers have some.
    fn callers(&self) -> u32 {
        u32::try_from(self.callers.len()).unwrap_or(u32::MAX).saturating_add(sum(&self.of_strangers))
    }
}

/// Where the counters of a part are.
fn place(part: u64) -> usize {
    (part % BUCKETS as u64) as usize
}

fn sum(parts: &[u32]) -> u32 {
    parts.iter().fold(0, |sum, part| sum.saturating_add(*part))
}

impl Window {
    fn new(length: Duration, now: Instant) -> Self {
        // A part of no length would never be left behind.
        let part = (length / BUCKETS as u32).max(Duration::from_millis(1));
        let none = [0; BUCKETS];
        Self { part, since: now, newest: 0, successes: none, failures: none, suspicions: None }
    }

    fn count(&mut self, caller: Caller, outcome: CallOutcome, now: Instant) {
        self.turn(now);
        let counters = match outcome {
            CallOutcome::Success => &mut self.successes,
            CallOutcome::Failure => &mut self.failures,
            CallOutcome::Suspicion => {
                return self.suspicions.get_or_insert_default().count(caller, self.newest);
            }
            CallOutcome::Neither => return,
        };
        let counter = &mut counters[place(self.newest)];
        *counter = counter.saturating_add(1);
    }

    /// For whom it is to open, if the newest outcome was bad.
    fn verdict(&self, rules: &BreakerRules) -> Option<Verdict> {
        let (successes, failures) = (sum(&self.successes), sum(&self.failures));
        let suspicions = self.suspicions.as_deref();
        let callers = suspicions.map_or(0, Suspicions::callers);
        if successes == 0 {
            let all = suspicions.map_or(0, |suspicions| sum(&suspicions.all));
            if failures.saturating_add(all) < rules.min_calls {
                return None;
            }
            let only = suspicions.and_then(|suspicions| suspicions.callers.keys().next());
            return Some(match only {
                Some(only) if failures == 0 && callers == 1 => Verdict::Only(*only),
                _ => Verdict::All,
            });
        }
        let bad = failures.saturating_add(callers);
        let calls = successes.saturating_add(bad);
        let is_one_callers = failures == 0 && callers < 2;
        let is_share = f64::from(bad) >= rules.failure_ratio * f64::from(calls);
        (!is_one_callers && calls >= rules.min_calls && is_share).then_some(Verdict::All)
    }

    /// Forgets the parts that have left the window.
    fn turn(&mut self, now: Instant) {
        let parts = now.saturating_duration_since(self.since).as_nanos() / self.part.as_nanos();
        if parts == 0 {
            return;
        }
        // No more of them than there are have anything to forget; a caller's part is left behind by as many.
        for _ in 0..parts.min(BUCKETS as u128) {
            self.newest += 1;
            let at = place(self.newest);
            self.successes[at] = 0;
            self.failures[at] = 0;
            if let Some(suspicions) = &mut self.suspicions {
                suspicions.all[at] = 0;
                suspicions.of_strangers[at] = 0;
            }
        }
        let newest = self.newest;
        if let Some(suspicions) = &mut self.suspicions {
            suspicions.callers.retain(|_, last| newest - *last < BUCKETS as u64);
            if suspicions.callers.is_empty() {
                self.suspicions = None;
            }
        }
        // Saturating: a clock that stood for years starts anew.
        self.since += self.part.saturating_mul(u32::try_from(parts).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests;
