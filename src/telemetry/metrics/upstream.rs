//! What the hop to the servers counts, for all routes together.

use prometheus::{Histogram, IntCounter, IntGauge};

use super::declare::{CounterBy, Declare, MetricsError};
use super::label::labels;

labels! {
    /// What went wrong towards an upstream (`outrigger_upstream_errors_total{kind}`).
    pub enum UpstreamErrorKind {
        /// No connection.
        Connect = "connect",
        /// No connection in time.
        ConnectTimeout = "connect_timeout",
        /// A connection, but no TLS over it.
        Tls = "tls",
        /// No answer in time.
        ResponseTimeout = "response_timeout",
        /// The connection ended, or what came was not HTTP.
        Broken = "broken",
        /// A 101 that is none.
        BadUpgrade = "bad_upgrade",
    }
}

/// An upstream handshake is a few local round trips, or something is wrong.
const HANDSHAKE_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

#[derive(Debug)]
pub(crate) struct UpstreamMetrics {
    pub(crate) dials: IntGauge,
    pub(crate) errors: CounterBy<UpstreamErrorKind>,
    pub(crate) handshake: Histogram,
    pub(crate) retries: IntCounter,
}

impl UpstreamMetrics {
    pub(super) fn declare(d: &Declare<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            dials: d.gauge("dials_in_progress", "Connects to an upstream in progress")?,
            errors: d.counter_by("upstream_errors_total", "Failures towards an upstream, by kind", "kind")?,
            handshake: d.histogram(
                "upstream_handshake_seconds",
                "From the dial to the upstream's answer to a WebSocket handshake",
                HANDSHAKE_BUCKETS,
            )?,
            retries: d.counter(
                "upstream_retries_total",
                "Plain requests sent once more because a kept connection had ended",
            )?,
        })
    }
}
