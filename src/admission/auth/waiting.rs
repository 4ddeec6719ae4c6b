//! How many requests wait for somebody else to check their credentials.

use crate::telemetry::Metrics;

/// Counts a request for as long as its credentials wait for somebody else.
pub(super) struct Waiting<'a>(&'a Metrics);

impl<'a> Waiting<'a> {
    pub(super) fn new(metrics: &'a Metrics) -> Self {
        metrics.auth_waiting.inc();
        Self(metrics)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.auth_waiting.dec();
    }
}
