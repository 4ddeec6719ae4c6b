//! Declaring metrics: made and registered in one step, label values resolved.

use std::marker::PhantomData;

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::label::Label;

/// A metric could not be declared: only a bad prefix can cause it, and the configuration checks that.
#[derive(Debug, thiserror::Error)]
#[error("cannot declare the metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// One counter for each value of `L`. All are there from the start, since a `rate()` needs the zero before the first
/// event, and counting looks nothing up.
#[derive(Debug)]
pub(crate) struct CounterBy<L> {
    counters: Vec<IntCounter>,
    label: PhantomData<L>,
}

impl<L: Label> CounterBy<L> {
    /// `values` are the values of all of the family's labels, given that of `L`.
    pub(super) fn resolve<'a>(family: &IntCounterVec, values: impl Fn(&'static str) -> Vec<&'a str>) -> Self {
        let counters = L::ALL.iter().map(|label| family.with_label_values(&values(label.as_str()))).collect();
        Self { counters, label: PhantomData }
    }

    pub(crate) fn inc(&self, label: L) {
        self.counters[label.index()].inc();
    }

    pub(crate) fn inc_by(&self, label: L, n: u64) {
        self.counters[label.index()].inc_by(n);
    }

    #[cfg(test)]
    pub(crate) fn get(&self, label: L) -> u64 {
        self.counters[label.index()].get()
    }
}

/// Makes and registers in one step.
pub(super) struct Declare<'a> {
    pub(super) prefix: &'a str,
    pub(super) registry: Registry,
}

impl Declare<'_> {
    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("{}_{name}", self.prefix), help)
    }

    fn register<C: prometheus::core::Collector + Clone + 'static>(&self, c: C) -> Result<C, MetricsError> {
        self.registry.register(Box::new(c.clone()))?;
        Ok(c)
    }

    /// What the kernel counts of this process: `process_cpu_seconds_total` and its like, without our prefix.
    pub(super) fn register_process_collector(&self) -> Result<(), MetricsError> {
        let collector = prometheus::process_collector::ProcessCollector::for_self();
        Ok(self.registry.register(Box::new(collector))?)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.register(IntCounter::with_opts(self.opts(name, help))?)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, MetricsError> {
        self.register(IntCounterVec::new(self.opts(name, help), labels)?)
    }

    /// A family whose only label is `L`.
    pub(super) fn counter_by<L: Label>(
        &self,
        name: &str,
        help: &str,
        label: &str,
    ) -> Result<CounterBy<L>, MetricsError> {
        Ok(CounterBy::resolve(&self.counters(name, help, &[label])?, |value| vec![value]))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.register(IntGauge::with_opts(self.opts(name, help))?)
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, MetricsError> {
        self.register(IntGaugeVec::new(self.opts(name, help), labels)?)
    }

    /// Gauges that need not be whole.
    pub(super) fn values(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, MetricsError> {
        self.register(GaugeVec::new(self.opts(name, help), labels)?)
    }

    pub(super) fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histogram, MetricsError> {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(opts)?)
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> Result<HistogramVec, MetricsError> {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(buckets.to_vec());
        self.register(HistogramVec::new(opts, labels)?)
    }
}
