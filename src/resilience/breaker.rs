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
//! 2. Half-open, never more than `probes` calls are on their way.
//! 3. Only a failure opens it. A success may complete `min_calls`, or outlive the successes before it in the
//!    window: it says that whoever was called is there, whatever the ratio has come to.
//! 4. A call that was let through in another period says nothing about this one: each [`Ticket`] has
//!    the period it belongs to, and only outcomes of the current one count.
//!
//! # Not here
//! What a call is, and what counts as its failure; giving up a ticket when its holder is gone (the
//! holder's business: every ticket has to be reported).

use std::time::Duration;

use tokio::time::Instant;

/// Parts of the window.
const BUCKETS: usize = 10;
/// Reopening is spread over this share of `open_for`, so that many breakers do not probe together.
const JITTER: f64 = 0.2;

/// When it opens, and how it closes again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerRules {
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
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// None does.
    Open,
    /// A few do, to see.
    HalfOpen,
}

/// How a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// It was answered.
    Success,
    /// It failed.
    Failure,
    /// It says nothing about whoever was called (its caller went away, a drain).
    Neither,
}

/// Leave for one call. It has to be reported once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket that is not reported holds the place of a probe for ever"]
pub struct Ticket {
    period: u64,
}

/// The breaker of one callee.
#[derive(Debug)]
pub struct Breaker {
    rules: BreakerRules,
    phase: Phase,
    /// Counts changes of phase.
    period: u64,
}

#[derive(Debug)]
enum Phase {
    Closed(Window),
    Open { until: Instant },
    HalfOpen { under_way: u32, successes: u32 },
}

impl Breaker {
    /// Closed.
    pub fn new(rules: BreakerRules, now: Instant) -> Self {
        Self { rules, phase: Phase::Closed(Window::new(rules.window, now)), period: 0 }
    }

    /// Where it stands. Open turns half-open with the next call, not by itself.
    pub fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed(_) => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Lets a call through.
    ///
    /// # Errors
    /// It does not: how long until it may be worth asking again (zero: as soon as a probe is back).
    pub fn allow(&mut self, now: Instant) -> Result<Ticket, Duration> {
        if let Phase::Open { until } = self.phase {
            if now < until {
                return Err(until - now);
            }
            self.enter(Phase::HalfOpen { under_way: 0, successes: 0 });
        }
        if let Phase::HalfOpen { under_way, .. } = &mut self.phase {
            if *under_way >= self.rules.probes {
                return Err(Duration::ZERO);
            }
            *under_way += 1;
        }
        Ok(Ticket { period: self.period })
    }

    /// Tells how a call went. `jitter` is 0 to 1, and different for each breaker.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is good for one report")]
    pub fn report(&mut self, ticket: Ticket, outcome: CallOutcome, jitter: f64, now: Instant) {
        if ticket.period != self.period {
            return;
        }
        let rules = self.rules;
        let opens = match &mut self.phase {
            Phase::Closed(window) => {
                window.count(outcome, now);
                let (calls, failures) = window.sums();
                outcome == CallOutcome::Failure
                    && calls >= rules.min_calls
                    && f64::from(failures) >= rules.failure_ratio * f64::from(calls)
            }
            // No ticket of this period can be there.
            Phase::Open { .. } => false,
            Phase::HalfOpen { under_way, successes } => {
                *under_way -= 1;
                match outcome {
                    CallOutcome::Success => *successes += 1,
                    CallOutcome::Failure | CallOutcome::Neither => {}
                }
                if *successes >= rules.probes {
                    self.enter(Phase::Closed(Window::new(rules.window, now)));
                    return;
                }
                outcome == CallOutcome::Failure
            }
        };
        if opens {
            let open_for = rules.open_for.mul_f64(1.0 + JITTER * jitter.clamp(0.0, 1.0));
            self.enter(Phase::Open { until: now + open_for });
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.period += 1;
    }
}

/// Outcomes of the last while, in equal parts of it.
#[derive(Debug)]
struct Window {
    part: Duration,
    /// The start of the newest part.
    since: Instant,
    newest: usize,
    calls: [u32; BUCKETS],
    failures: [u32; BUCKETS],
}

impl Window {
    fn new(length: Duration, now: Instant) -> Self {
        // A part of no length would never be left behind.
        let part = (length / BUCKETS as u32).max(Duration::from_millis(1));
        Self { part, since: now, newest: 0, calls: [0; BUCKETS], failures: [0; BUCKETS] }
    }

    fn count(&mut self, outcome: CallOutcome, now: Instant) {
        self.turn(now);
        if outcome != CallOutcome::Neither {
            let calls = &mut self.calls[self.newest];
            *calls = calls.saturating_add(1);
        }
        if outcome == CallOutcome::Failure {
            let failures = &mut self.failures[self.newest];
            *failures = failures.saturating_add(1);
        }
    }

    /// Forgets the parts that have left the window.
    fn turn(&mut self, now: Instant) {
        let parts = now.saturating_duration_since(self.since).as_nanos() / self.part.as_nanos();
        for _ in 0..parts.min(BUCKETS as u128) {
            self.newest = (self.newest + 1) % BUCKETS;
            self.calls[self.newest] = 0;
            self.failures[self.newest] = 0;
        }
        // Saturating: a clock that stood for years starts anew.
        self.since += self.part.saturating_mul(u32::try_from(parts).unwrap_or(u32::MAX));
    }

    fn sums(&self) -> (u32, u32) {
        let sum = |parts: &[u32]| parts.iter().fold(0, |sum: u32, part| sum.saturating_add(*part));
        (sum(&self.calls), sum(&self.failures))
    }
}

#[cfg(test)]
mod tests;
