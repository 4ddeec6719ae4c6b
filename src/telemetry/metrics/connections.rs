//! What WebSocket connections count, all of them together: frames, heartbeats and ends.
//!
//! # Not here
//! What a single connection counts ([`crate::connections`]); a scrape adds that up into the totals of this file.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::declare::{CounterBy, Declare, MetricsError};
use super::label::{Label, labels};
use crate::frame::{CloseCode, code_label};

labels! {
    /// Why a connection ended (`outrigger_disconnections_total{reason}`).
    pub enum Reason {
        /// The client said Close first.
        ClientClose = "client_close",
        /// The upstream said Close first.
        UpstreamClose = "upstream_close",
        /// The client's connection ended without a Close.
        ClientLost = "client_lost",
        /// The upstream's connection ended without a Close.
        UpstreamLost = "upstream_lost",
        /// The client answered no ping.
        HeartbeatTimeout = "heartbeat_timeout",
        /// The upstream answered no ping.
        UpstreamHeartbeatTimeout = "upstream_heartbeat_timeout",
        /// No sign of life.
        IdleTimeout = "idle_timeout",
        /// A side broke RFC 6455.
        ProtocolError = "protocol_error",
        /// A frame or message above its limit.
        TooLarge = "too_large",
        /// The client did not read.
        SlowConsumer = "slow_consumer",
        /// The client of a feed said something that it may not.
        UplinkRefused = "uplink_refused",
        /// The client said more control frames than it may.
        ControlRate = "control_rate",
        /// The upstream did not read.
        SlowUpstream = "slow_upstream",
        /// `max_lifetime`.
        Lifetime = "lifetime",
        /// Its credentials ended.
        Expired = "expired",
        /// A newer connection of its user took its place.
        Replaced = "replaced",
        /// Its session goes on over a newer connection of the same client.
        TakenOver = "taken_over",
        /// Each server that heard the same message of it died.
        Poison = "poison",
        /// The proxy is being stopped.
        Drained = "drained",
        /// The task that served it has panicked.
        InternalError = "internal_error",
        /// The process ended before the connection did.
        Aborted = "aborted",
    }

    /// Who said the first Close (`outrigger_closes_total{by}`).
    pub(crate) enum By {
        /// The client.
        Client = "client",
        /// The server.
        Upstream = "upstream",
        /// We.
        Proxy = "proxy",
    }

    /// How a message that was put between those of a tunnel's server fared (`outrigger_injections_total{outcome}`).
    pub(crate) enum Injection {
        /// It is on its way to the client.
        Ok = "ok",
        /// Too many waited already, or the client lags.
        Full = "full",
        /// The connection ended before there was a place for it.
        Ended = "ended",
        /// An unknown extension was agreed upon: nobody knows what a frame of it looks like.
        Extension = "extension",
    }
}

/// Round trips: from a pod's own host to a phone on a bad line.
const RTT_BUCKETS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Debug)]
pub(crate) struct ConnectionMetrics {
    pub(crate) messages_in: IntCounter,
    pub(crate) messages_out: IntCounter,
    pub(crate) bytes_in: IntCounter,
    pub(crate) bytes_out: IntCounter,
    pub(crate) discarded: IntCounter,
    pub(crate) buffered: IntGauge,
    pub(crate) heartbeat_rtt: Histogram,
    pub(crate) heartbeat_missed: IntCounter,
    pub(crate) injections: CounterBy<Injection>,
    closes: IntCounterVec,
}

impl ConnectionMetrics {
    pub(super) fn declare(d: &Declare<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            messages_in: d.counter("messages_in_total", "Data messages from clients")?,
            messages_out: d.counter("messages_out_total", "Data messages to clients")?,
            bytes_in: d.counter("bytes_in_total", "Bytes of frames from clients that went on")?,
            bytes_out: d.counter("bytes_out_total", "Bytes of frames that went to clients")?,
            discarded: d.counter(
                "discarded_bytes_total",
                "Bytes of frames that came while a connection was ending and nobody could take them",
            )?,
            buffered: d.gauge(
                "buffered_bytes",
                "Bytes held for sockets that do not take them, for the message rate, or until a frame is whole",
            )?,
            heartbeat_rtt: d.histogram("heartbeat_rtt_seconds", "From a ping to its pong", RTT_BUCKETS)?,
            heartbeat_missed: d.counter("heartbeat_missed_total", "Pongs that did not come in time")?,
            injections: d.counter_by(
                "injections_total",
                "Messages published to clients of tunnels, by what came of it",
                "outcome",
            )?,
            closes: d.counters(
                "closes_total",
                "First Close of a connection, by who said it",
                &["by", "code"],
            )?,
        })
    }

    /// Counts the first Close of a connection. Looked up by label: once in a connection's life.
    pub(crate) fn on_close(&self, by: By, code: CloseCode) {
        self.closes.with_label_values(&[by.as_str(), code_label(code)]).inc();
    }
}
