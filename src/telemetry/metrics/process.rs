//! What the process counts of itself: its configuration, its bounds, and what went wrong in it.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{GaugeVec, IntCounter, IntGauge, IntGaugeVec};

use super::declare::{CounterBy, Declare, MetricsError};
use super::label::{Label, labels};

labels! {
    /// What kind of task has panicked (`outrigger_task_panics_total{task}`).
    pub(crate) enum TaskKind {
        /// Takes connections in.
        Accept = "accept",
        /// Serves the admin port.
        Admin = "admin",
        /// One HTTP connection, or one request of HTTP/2.
        Connection = "connection",
        /// One connection of mode `tunnel`.
        Tunnel = "tunnel",
        /// One session.
        Session = "session",
        /// The link of a channel to its server.
        Channel = "channel",
        /// Some of the clients of a channel.
        Shard = "shard",
        /// Carries out a publish request.
        Publish = "publish",
        /// Keeps a key set fresh.
        Jwks = "jwks",
        /// Forgets what is too old, twice a second.
        Sweep = "sweep",
        /// Reads the configuration again.
        Reload = "reload",
    }

    /// What came of reading the configuration again (`outrigger_config_reloads_total{outcome}`).
    pub(crate) enum ReloadOutcome {
        /// It holds now.
        Applied = "applied",
        /// It says what it said.
        Unchanged = "unchanged",
        /// It is wrong: the old one holds.
        Failed = "failed",
    }

    /// Which certificate of ours (`outrigger_tls_certificate_expiry_timestamp_seconds{kind}`).
    pub(crate) enum CertificateKind {
        /// `listen.tls.cert_file`
        Listen = "listen",
        /// `upstream.tls.cert_file`, of all upstreams the one that ends first.
        UpstreamClient = "upstream_client",
    }
}

#[derive(Debug)]
pub(crate) struct ProcessMetrics {
    /// What [`crate::telemetry::panics`] has caught.
    pub(crate) task_panics: CounterBy<TaskKind>,
    pub(crate) log_lines_dropped: IntCounter,
    pub(crate) memory: IntGauge,
    limit: GaugeVec,
    certificate_expiry: IntGaugeVec,
    reloads: CounterBy<ReloadOutcome>,
    last_good_config: IntGauge,
}

impl ProcessMetrics {
    pub(super) fn declare(d: &Declare<'_>) -> Result<Self, MetricsError> {
        let build = d.gauges("build_info", "Always 1; what is running", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            task_panics: d.counter_by(
                "task_panics_total",
                "Tasks that panicked and were ended, by what they did",
                "task",
            )?,
            log_lines_dropped: d.counter(
                "log_lines_dropped_total",
                "Log lines dropped because standard output did not take them",
            )?,
            memory: d.gauge(
                "memory_buffered_bytes",
                "Bytes of all overflow and logs together, which memory.max_buffered bounds",
            )?,
            limit: d.values("limit", "Bounds in force, by kind", &["kind", "route"])?,
            certificate_expiry: d.gauges(
                "tls_certificate_expiry_timestamp_seconds",
                "When a certificate of ours ends, in seconds since 1970",
                &["kind"],
            )?,
            reloads: d.counter_by(
                "config_reloads_total",
                "Times the configuration was read again, by what came of it",
                "outcome",
            )?,
            last_good_config: d.gauge(
                "config_last_reload_success_timestamp_seconds",
                "When the configuration was last read and found good, the start included",
            )?,
        })
    }

    /// Shows a bound of the process that is in force.
    pub(crate) fn set_limit(&self, kind: &'static str, value: u64) {
        self.set_route_limit(kind, "", Some(value as f64));
    }

    /// Shows a bound of a route; `None`: there is none.
    pub(crate) fn set_route_limit(&self, kind: &'static str, route: &str, value: Option<f64>) {
        match value {
            Some(value) => self.limit.with_label_values(&[kind, route]).set(value),
            // An error says that there was none before.
            None => drop(self.limit.remove_label_values(&[kind, route])),
        }
    }

    /// Shows when a certificate ends; `None`: there is none (any more).
    pub(crate) fn set_certificate_expiry(&self, kind: CertificateKind, not_after: Option<i64>) {
        let labels = [kind.as_str()];
        match not_after {
            Some(not_after) => self.certificate_expiry.with_label_values(&labels).set(not_after),
            None => {
                // There may never have been one.
                let _ = self.certificate_expiry.remove_label_values(&labels);
            }
        }
    }

    /// Counts what came of reading the configuration again.
    pub(crate) fn on_reload(&self, outcome: ReloadOutcome) {
        self.reloads.inc(outcome);
        if outcome != ReloadOutcome::Failed {
            self.on_config_accepted();
        }
    }

    /// The configuration was read and found good now.
    pub(crate) fn on_config_accepted(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_good_config.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    }
}
