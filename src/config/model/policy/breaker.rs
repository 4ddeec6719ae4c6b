//! The breaker around the server.

use std::time::Duration;

/// `policy.breaker`
#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    /// Outcomes older than this are forgotten.
    pub window: Duration,
    /// Fewer outcomes than this say nothing; at least 1.
    pub min_calls: u32,
    /// The share of failures that opens it: above 0, at most 1.
    pub failure_ratio: f64,
    /// Statuses of a handshake's answer that are failures: 500 to 599.
    pub statuses: Vec<u16>,
    /// How long it stays open.
    pub open_for: Duration,
    /// Handshakes at a time while it is half-open, and successes that close it; at least 1.
    pub probes: u32,
    /// Handshakes that wait for what a probe finds out, at most; further ones are refused.
    pub max_waiting: usize,
    /// A handshake that its client gave up after waiting so long for an answer says something against the server.
    pub slow_after: Duration,
}
