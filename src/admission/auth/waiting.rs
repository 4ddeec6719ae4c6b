//! How many requests wait for another server before their credentials can be checked.

use crate::telemetry::Metrics;

/// Counts a request for as long as it waits.
pub(super) struct Waiting<'a>(&'a Metrics);

impl<'a> Waiting<'a> {
    pub(super) fn new(metrics: &'a Metrics) -> Self {
        metrics.admission.auth_waiting.inc();
        Self(metrics)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.admission.auth_waiting.dec();
    }
}
