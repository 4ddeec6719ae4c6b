//! What a breaker knows of calls, and the rules by which it judges them.

use std::time::Duration;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Caller(pub u64);

impl Caller {
    /// It is not known who: all of these are one caller.
    pub(crate) const UNKNOWN: Self = Self(0);
}
