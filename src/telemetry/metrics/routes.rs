//! What one route counts, whatever its mode: handshakes, requests and connections.

use std::sync::Arc;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::connections::Reason;
use super::declare::{CounterBy, Declare, MetricsError};
use super::label::labels;

labels! {
    /// How a WebSocket handshake went (`outrigger_handshakes_total{outcome}`).
    pub enum HandshakeOutcome {
        /// 101 on both sides.
        Accepted = "accepted",
        /// The upstream answered with something else, which was passed on.
        Refused = "refused",
        /// Not a well-formed handshake.
        Malformed = "malformed",
        /// The upstream could not be reached.
        Unreachable = "unreachable",
        /// The upstream did not answer in time.
        Timeout = "timeout",
        /// The upstream's 101 was not a valid answer.
        BadUpgrade = "bad_upgrade",
        /// The client went away before the end.
        Abandoned = "abandoned",
        /// The proxy is being stopped.
        Draining = "draining",
        /// `listen.max_handshakes`
        TooManyHandshakes = "crowded",
        /// `policy.handshake_rate`
        RateLimited = "rate_limited",
        /// `policy.limits`
        AtCapacity = "at_capacity",
        /// `policy.origins`
        ForeignOrigin = "foreign_origin",
        /// No credentials, or wrong ones.
        Unauthorized = "unauthorized",
        /// Credentials could not be checked.
        AuthUnavailable = "auth_unavailable",
        /// The upstream keeps failing: it was not asked.
        BreakerOpen = "breaker_open",
    }

    /// Which guard of a route turned a handshake or a request away (`outrigger_refusals_total{reason}`): the words
    /// of `X-Outrigger-Reason`.
    pub enum RefusalReason {
        /// `handshake_rate.global`
        RateGlobal = "rate_global",
        /// `handshake_rate.per_ip`
        RatePerIp = "rate_per_ip",
        /// `handshake_rate.per_user`
        RatePerUser = "rate_per_user",
        /// `http.rate.global`
        HttpRateGlobal = "http_rate_global",
        /// `http.rate.per_ip`
        HttpRatePerIp = "http_rate_per_ip",
        /// `limits.connections`
        Capacity = "capacity",
        /// `limits.per_ip`
        CapacityPerIp = "capacity_per_ip",
        /// `limits.per_user`
        CapacityPerUser = "capacity_per_user",
        /// `broadcast.max_channels`
        CapacityChannels = "capacity_channels",
        /// `memory.max_buffered`
        CapacityMemory = "capacity_memory",
        /// `policy.origins`
        Origin = "origin",
        /// `policy.auth`: no credentials, or wrong ones.
        Unauthorized = "unauthorized",
        /// `auth.forward`: the service's own answer.
        UnauthorizedByService = "unauthorized_by_service",
        /// Credentials could not be checked.
        AuthUnavailable = "auth_unavailable",
        /// `policy.breaker`
        BreakerOpen = "breaker_open",
    }

    /// The class of an HTTP answer (`outrigger_http_requests_total{class}`).
    pub(crate) enum StatusClass {
        /// 1xx.
        Informational = "1xx",
        /// 2xx.
        Success = "2xx",
        /// 3xx.
        Redirection = "3xx",
        /// 4xx.
        ClientError = "4xx",
        /// 5xx, and anything else.
        ServerError = "5xx",
    }
}

impl StatusClass {
    /// The class of `status`.
    pub(crate) fn of(status: http::StatusCode) -> Self {
        match status.as_u16() / 100 {
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirection,
            4 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

/// From a failed page load to days.
const DURATION_BUCKETS: &[f64] =
    &[0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0, 259_200.0];

/// One route's metrics, its name resolved as a label.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    /// As the configuration calls the route.
    pub(crate) name: Box<str>,
    pub(crate) handshakes: CounterBy<HandshakeOutcome>,
    pub(crate) refusals: CounterBy<RefusalReason>,
    pub(crate) http_requests: CounterBy<StatusClass>,
    /// WebSocket clients that are connected now.
    pub(crate) clients: IntGauge,
    /// Clients without a WebSocket: event streams, and polls that wait.
    pub(crate) event_streams: IntGauge,
    pub(crate) polls: IntGauge,
    pub(crate) connections: IntCounter,
    /// How long WebSocket clients were connected.
    pub(crate) duration: Histogram,
    pub(crate) disconnections: CounterBy<Reason>,
    pub(crate) memory_cuts: IntCounter,
}

/// The families behind [`RouteMetrics`].
#[derive(Debug)]
pub(super) struct RouteFamilies {
    handshakes: IntCounterVec,
    refusals: IntCounterVec,
    http_requests: IntCounterVec,
    clients: IntGaugeVec,
    fallback_clients: IntGaugeVec,
    connections: IntCounterVec,
    duration: HistogramVec,
    disconnections: IntCounterVec,
    memory_cuts: IntCounterVec,
}

impl RouteFamilies {
    pub(super) fn declare(d: &Declare<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            handshakes: d.counters(
                "handshakes_total",
                "WebSocket handshakes, by outcome",
                &["route", "outcome"],
            )?,
            refusals: d.counters(
                "refusals_total",
                "Handshakes and plain requests that a guard of their route turned away, by which",
                &["route", "reason"],
            )?,
            http_requests: d.counters(
                "http_requests_total",
                "Plain HTTP requests, by class of answer",
                &["route", "class"],
            )?,
            clients: d.gauges("clients", "WebSocket connections open now", &["route"])?,
            fallback_clients: d.gauges(
                "fallback_clients",
                "Clients without a WebSocket that are there now, by what they have in its place",
                &["route", "transport"],
            )?,
            connections: d.counters("connections_total", "WebSocket connections opened", &["route"])?,
            duration: d.histograms(
                "connection_duration_seconds",
                "How long WebSocket connections lasted",
                DURATION_BUCKETS,
                &["route"],
            )?,
            disconnections: d.counters(
                "disconnections_total",
                "WebSocket connections ended, by the reason they ended for",
                &["route", "reason"],
            )?,
            memory_cuts: d.counters(
                "memory_cuts_total",
                "WebSocket connections cut because too much waited for their clients (memory.max_buffered)",
                &["route"],
            )?,
        })
    }

    /// Resolves every label value of one route.
    pub(super) fn route(&self, name: &str) -> Arc<RouteMetrics> {
        Arc::new(RouteMetrics {
            name: name.into(),
            handshakes: CounterBy::resolve(&self.handshakes, |outcome| vec![name, outcome]),
            refusals: CounterBy::resolve(&self.refusals, |reason| vec![name, reason]),
            http_requests: CounterBy::resolve(&self.http_requests, |class| vec![name, class]),
            clients: self.clients.with_label_values(&[name]),
            event_streams: self.fallback_clients.with_label_values(&[name, "sse"]),
            polls: self.fallback_clients.with_label_values(&[name, "poll"]),
            connections: self.connections.with_label_values(&[name]),
            duration: self.duration.with_label_values(&[name]),
            disconnections: CounterBy::resolve(&self.disconnections, |reason| vec![name, reason]),
            memory_cuts: self.memory_cuts.with_label_values(&[name]),
        })
    }
}
