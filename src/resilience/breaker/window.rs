//! The outcomes of calls within the last while, and for whom they open a breaker.
//!
//! The window is made of [`BUCKETS`] parts: what leaves it is forgotten part by part, so that a burst of failures does not
//! count for twice its time.
//!
//! # Not here
//! What an open breaker does ([`super::Breaker`]).

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{BreakerRules, CallOutcome, Caller};

/// Parts of the window.
const BUCKETS: usize = 10;
/// Callers with suspicions that are told apart. Each further suspicion counts as another caller's: a caller with more
/// addresses than this cannot be told from a crowd.
pub(super) const MAX_CALLERS: usize = 4096;

/// For whom a breaker opens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum OpensFor {
    All,
    Only(Caller),
}

/// The outcomes within a window of time.
#[derive(Debug)]
pub(super) struct Window {
    part: Duration,
    /// The start of the newest part.
    since: Instant,
    /// Counts the parts; the newest one's counters are at this number modulo [`BUCKETS`].
    newest: u64,
    successes: [u32; BUCKETS],
    failures: [u32; BUCKETS],
    /// Made at the first one: most breakers never see one.
    suspicions: Option<Box<Suspicions>>,
}

#[derive(Debug, Default)]
struct Suspicions {
    all: [u32; BUCKETS],
    /// Those of callers that there was no room to remember.
    unattributed: [u32; BUCKETS],
    /// Callers, and the newest part in which they had one.
    callers: HashMap<Caller, u64>,
}

impl Suspicions {
    fn count(&mut self, caller: Caller, part: u64) {
        let at = slot(part);
        self.all[at] = self.all[at].saturating_add(1);
        if self.callers.len() < MAX_CALLERS || self.callers.contains_key(&caller) {
            self.callers.insert(caller, part);
        } else {
            self.unattributed[at] = self.unattributed[at].saturating_add(1);
        }
    }

    /// How many callers have some.
    fn callers(&self) -> u32 {
        u32::try_from(self.callers.len()).unwrap_or(u32::MAX).saturating_add(sum(&self.unattributed))
    }
}

/// Where the counters of a part are.
fn slot(part: u64) -> usize {
    (part % BUCKETS as u64) as usize
}

fn sum(parts: &[u32]) -> u32 {
    parts.iter().fold(0, |sum, part| sum.saturating_add(*part))
}

impl Window {
    pub(super) fn new(length: Duration, now: Instant) -> Self {
        // A part without length would never end.
        let part = (length / BUCKETS as u32).max(Duration::from_millis(1));
        let none = [0; BUCKETS];
        Self { part, since: now, newest: 0, successes: none, failures: none, suspicions: None }
    }

    pub(super) fn count(&mut self, caller: Caller, outcome: CallOutcome, now: Instant) {
        self.advance(now);
        let counters = match outcome {
            CallOutcome::Success => &mut self.successes,
            CallOutcome::Failure => &mut self.failures,
            CallOutcome::Suspicion => {
                return self.suspicions.get_or_insert_default().count(caller, self.newest);
            }
            CallOutcome::Ignored => return,
        };
        let counter = &mut counters[slot(self.newest)];
        *counter = counter.saturating_add(1);
    }

    /// For whom the breaker is to open, if the newest outcome was bad.
    pub(super) fn opens_for(&self, rules: &BreakerRules) -> Option<OpensFor> {
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
                Some(only) if failures == 0 && callers == 1 => OpensFor::Only(*only),
                _ => OpensFor::All,
            });
        }
        let bad = failures.saturating_add(callers);
        let calls = successes.saturating_add(bad);
        let is_one_callers = failures == 0 && callers < 2;
        let is_share = f64::from(bad) >= rules.failure_ratio * f64::from(calls);
        (!is_one_callers && calls >= rules.min_calls && is_share).then_some(OpensFor::All)
    }

    /// Forgets the parts that have left the window.
    fn advance(&mut self, now: Instant) {
        let parts = now.saturating_duration_since(self.since).as_nanos() / self.part.as_nanos();
        if parts == 0 {
            return;
        }
        // All parts are forgotten after as many steps as there are parts, and so is a caller's newest one.
        for _ in 0..parts.min(BUCKETS as u128) {
            self.newest += 1;
            let at = slot(self.newest);
            self.successes[at] = 0;
            self.failures[at] = 0;
            if let Some(suspicions) = &mut self.suspicions {
                suspicions.all[at] = 0;
                suspicions.unattributed[at] = 0;
            }
        }
        let newest = self.newest;
        if let Some(suspicions) = &mut self.suspicions {
            suspicions.callers.retain(|_, last| newest - *last < BUCKETS as u64);
            if suspicions.callers.is_empty() {
                self.suspicions = None;
            }
        }
        // Saturating, since the last outcome may be years ago.
        self.since += self.part.saturating_mul(u32::try_from(parts).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
impl Window {
    /// How many callers with suspicions it remembers; `None`: it keeps no memory for them.
    pub(super) fn remembered_callers(&self) -> Option<usize> {
        Some(self.suspicions.as_ref()?.callers.len())
    }
}
