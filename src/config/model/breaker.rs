//! When a server that keeps failing is not asked for a while.

use std::time::Duration;

/// `policy.breaker`
#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    /// Failures are counted over this.
    pub window: Duration,
    /// Fewer calls than this within the window say nothing; at least 1.
    pub min_calls: u32,
    /// The share of failures that opens it: above 0, at most 1.
    pub failure_ratio: f64,
    /// Answers of the upstream that count as failures.
    pub statuses: Vec<u16>,
    /// How long it stays open before it is tried again; jittered.
    pub open_for: Duration,
    /// Tries at a time while it is half-open, at least 1.
    pub probes: u32,
}
