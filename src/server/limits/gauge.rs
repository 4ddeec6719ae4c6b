//! What is counted in a gauge for as long as it is there.

use prometheus::IntGauge;

/// One more in a gauge, until this is dropped.
#[derive(Debug)]
pub(in crate::server) struct GaugeGuard(IntGauge);

impl GaugeGuard {
    pub(in crate::server) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
