//! The workloads. Each drives one URL for a bounded time and returns one JSON object.

pub mod fanout;
pub mod handshakes;
pub mod idle;
pub mod load;
pub mod stalled;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::sys::{SEC, now_ns};
use crate::usage::{self, CpuSample};

/// Figures of one run, in the order they are told.
pub type Figures = Map<String, Value>;

/// The processes whose use is reported.
#[derive(Clone, Copy)]
pub struct Watch {
    /// Charged with all its descendants.
    pub proxy: Option<u32>,
    /// Only to see whether it was the limit.
    pub upstream: Option<u32>,
}

/// CPU use between two moments.
struct Window {
    watch: Watch,
    at: u64,
    start: [CpuSample; 3],
}

impl Window {
    fn open(watch: Watch) -> Self {
        Self { watch, at: now_ns(), start: Self::sample(watch) }
    }

    fn sample(watch: Watch) -> [CpuSample; 3] {
        [watch.proxy, watch.upstream, Some(std::process::id())].map(CpuSample::of)
    }

    fn secs(&self) -> f64 {
        (now_ns() - self.at) as f64 / SEC as f64
    }

    /// Fills in `window_secs`, the CPU figures, and the proxy's CPU for each of `count` units.
    fn close(&self, figures: &mut Figures, unit: &str, count: u64) -> f64 {
        let end = Self::sample(self.watch);
        let secs = self.secs();
        let spent = |i: usize| end[i].since(&self.start[i]) as f64;
        let percent = |i: usize| json!(round(spent(i) / secs / 1e7, 1));
        figures.insert("window_secs".into(), json!(round(secs, 3)));
        figures.insert("cpu_clock".into(), json!(usage::cpu_clock()));
        figures.insert("generator_cpu_pct".into(), percent(2));
        if self.watch.upstream.is_some() {
            figures.insert("upstream_cpu_pct".into(), percent(1));
        }
        if self.watch.proxy.is_some() {
            figures.insert("proxy_cpu_pct".into(), percent(0));
            let waited = end[0].waited_since(&self.start[0]) as f64;
            figures.insert("proxy_waited_pct".into(), json!(round(waited / secs / 1e7, 1)));
            figures.insert("proxy_threads_gone".into(), json!(end[0].gone_since(&self.start[0])));
            if count > 0 {
                let each = spent(0) / 1e3 / count as f64;
                figures.insert(format!("cpu_us_per_{unit}"), json!(round(each, 3)));
                if let Some(user) = end[0].user_share_since(&self.start[0]) {
                    figures.insert(format!("user_us_per_{unit}"), json!(round(each * user, 3)));
                    figures.insert(format!("kernel_us_per_{unit}"), json!(round(each * (1.0 - user), 3)));
                }
            }
        }
        secs
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let factor = 10f64.powi(digits);
    (value * factor).round() / factor
}

fn quantile_us(latency: &Histogram<u64>, q: f64) -> Value {
    json!(round(latency.value_at_quantile(q) as f64 / 1e3, 1))
}

fn latency(figures: &mut Figures, h: &Histogram<u64>) {
    for (name, q) in [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p999_us", 0.999), ("max_us", 1.0)]
    {
        figures.insert(name.into(), quantile_us(h, q));
    }
}

/// Notes the proxy's PSS as `pss_WHEN_kb` and returns it.
fn memory(figures: &mut Figures, watch: Watch, when: &str) -> u64 {
    let pss = usage::pss_kb(watch.proxy);
    if watch.proxy.is_some() {
        figures.insert(format!("pss_{when}_kb"), json!(pss));
    }
    pss
}

#[cfg(test)]
mod tests;
