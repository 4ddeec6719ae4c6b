//! Every metric, declared once. Label values are resolved here, before the hot path.
//!
//! To add one: a field, its line in [`Metrics::new`], a row in `docs/metrics.md` (a test compares them).
//!
//! # Not here
//! What a single connection counts ([`crate::connections`]); never a user, a path or an address as a label.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{
    GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use super::declare::{Declare, resolve};
use super::feeds::Families;
use super::labels::{
    AuthFailure, By, CertificateKind, ConnectionRefusal, DrainCut, HandshakeOutcome, IdleBound, JwksOutcome,
    Label, ProxyFault, Reason, RefusalReason, ReloadOutcome, RequestError, StatusClass, TaskKind, TlsFailure,
    UpstreamErrorKind,
};
use crate::frame::{CloseCode, code_label};

/// Round trips: from a pod's own host to a phone on a bad line.
const RTT_BUCKETS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0];
/// An upstream handshake is a few local round trips, or something is wrong.
const HANDSHAKE_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// From a failed page load to days.
const DURATION_BUCKETS: &[f64] =
    &[0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0, 259_200.0];

/// A metric could not be declared: only a bad prefix can cause it, and the configuration checks that.
#[derive(Debug, thiserror::Error)]
#[error("cannot declare the metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// The metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    clients: IntGaugeVec,
    connections: IntCounterVec,
    disconnections: IntCounterVec,
    memory_cuts: IntCounterVec,
    closes: IntCounterVec,
    handshakes: IntCounterVec,
    refusals: IntCounterVec,
    http_requests: IntCounterVec,
    connection_duration: HistogramVec,
    upstream_errors: Vec<IntCounter>,
    limit: GaugeVec,
    connections_refused: Vec<IntCounter>,
    idle_closed: Vec<IntCounter>,
    drain_cut: Vec<IntCounter>,
    request_errors: Vec<IntCounter>,
    proxy_errors: Vec<IntCounter>,
    auth_failures: Vec<IntCounter>,
    jwks_fetches: Vec<IntCounter>,
    tls_failures: Vec<IntCounter>,
    certificate_expiry: IntGaugeVec,
    config_reloads: Vec<IntCounter>,
    pub(super) task_panics: Vec<IntCounter>,
    config_success: IntGauge,
    pub(super) families: Families,
    /// Messages that logs hold.
    pub history_messages: IntGauge,
    /// Bytes that logs hold.
    pub history_bytes: IntGauge,
    /// Bytes of all overflow and logs together (`memory.max_buffered`).
    pub memory: IntGauge,
    /// Seconds from the dial to the upstream's answer.
    pub upstream_handshake: Histogram,
    /// Messages from clients.
    pub messages_in: IntCounter,
    /// Messages to clients.
    pub messages_out: IntCounter,
    /// Bytes of frames from clients that were passed on.
    pub bytes_in: IntCounter,
    /// Bytes of frames to clients.
    pub bytes_out: IntCounter,
    /// Bytes read from either side that nobody could take any more.
    pub discarded: IntCounter,
    /// Bytes held because a socket would not take them.
    pub buffered: IntGauge,
    /// Seconds from a ping to its pong.
    pub heartbeat_rtt: Histogram,
    /// Pongs that did not come in time.
    pub heartbeat_missed: IntCounter,
    /// 1 from the moment a drain was asked for.
    pub draining: IntGauge,
    /// Accepts that failed.
    pub accept_errors: IntCounter,
    /// Dials in progress.
    pub dials: IntGauge,
    /// Plain requests that were sent to an upstream once more.
    pub upstream_retries: IntCounter,
    /// HTTP connections of clients, upgraded ones not among them.
    pub http_connections: IntGauge,
    /// Those of them that are not idle; also the count that `listen.max_handshakes` bounds.
    pub handshaking: IntGauge,
    /// Those of them on which nothing is asked; also the count that `listen.max_idle_http` bounds.
    pub http_idle: IntGauge,
    /// Requests and handshakes that are not answered in full.
    pub http_in_flight: IntGauge,
    /// Handshakes that wait for a token of `handshake_rate.global`.
    pub handshakes_queued: IntGauge,
    /// Addresses and users that have used tokens of theirs.
    pub rate_keys: IntGauge,
    /// Requests that were refused because servers may read them to be for a stricter route.
    pub ambiguous_paths: IntCounter,
    /// Requests that were let pass because `handshake_rate.max_keys` left no room to count them.
    pub rate_untracked: IntCounter,
    /// HTTP/2 connections that were ended because their clients took back what they asked for.
    pub http2_abuses: IntCounter,
    /// Refused clients that are being told so by a Close.
    pub refusals_closing: IntGauge,
    /// Those that got a status instead, for want of room.
    pub refusals_not_closed: IntCounter,
    /// Requests whose credentials wait for somebody else's answer.
    pub auth_waiting: IntGauge,
    /// Log lines that were dropped because standard output did not take them.
    pub log_lines_dropped: IntCounter,
}

impl Metrics {
    /// Declares every metric under `prefix`.
    ///
    /// # Errors
    /// `prefix` is not the beginning of a Prometheus name.
    pub fn new(prefix: &str) -> Result<Arc<Self>, MetricsError> {
        let d = Declare { prefix, registry: Registry::new() };
        let build = d.gauges("build_info", "Always 1; what is running", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        d.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let upstream_errors =
            d.counters("upstream_errors_total", "Failures towards an upstream, by kind", &["kind"])?;
        let connections_refused = d.counters(
            "connections_refused_total",
            "Connections turned away before anything of them was read",
            &["reason"],
        )?;
        let idle_closed = d.counters(
            "http_idle_closed_total",
            "HTTP connections let go because too many ask nothing",
            &["reason"],
        )?;
        let drain_cut = d.counters(
            "drain_cut_total",
            "What was cut because it was left when the time of a drain was over",
            &["what"],
        )?;
        let request_errors = d.counters(
            "request_errors_total",
            "Requests refused before a route was looked for, by why",
            &["reason"],
        )?;
        let proxy_errors = d.counters(
            "proxy_protocol_errors_total",
            "Connections ended because of their PROXY header",
            &["reason"],
        )?;
        let auth_failures = d.counters(
            "auth_failures_total",
            "Requests whose credentials were not taken, by why",
            &["reason"],
        )?;
        let jwks_fetches =
            d.counters("jwks_fetches_total", "Fetches of key sets by URL, by outcome", &["outcome"])?;
        let tls_failures = d.counters(
            "tls_handshake_failures_total",
            "Clients that did not get through their TLS handshake, by the reason",
            &["reason"],
        )?;
        let reloads = d.counters(
            "config_reloads_total",
            "Times the configuration was read again, by what came of it",
            &["outcome"],
        )?;
        let panics = d.counters(
            "task_panics_total",
            "Tasks that panicked and were ended, by what they did",
            &["task"],
        )?;
        let families = Families::new(&d)?;
        Ok(Arc::new(Self {
            families,
            history_messages: d.gauge("history_messages", "Messages that logs hold")?,
            history_bytes: d.gauge("history_bytes", "Bytes that logs hold")?,
            memory: d.gauge(
                "memory_buffered_bytes",
                "Bytes of all overflow and logs together, which memory.max_buffered bounds",
            )?,
            clients: d.gauges("clients", "WebSocket connections open now", &["route"])?,
            connections: d.counters("connections_total", "WebSocket connections opened", &["route"])?,
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
            closes: d.counters(
                "closes_total",
                "First Close of a connection, by who said it",
                &["by", "code"],
            )?,
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
            connection_duration: d.histograms(
                "connection_duration_seconds",
                "How long WebSocket connections lasted",
                DURATION_BUCKETS,
                &["route"],
            )?,
            upstream_errors: resolve::<UpstreamErrorKind>(&upstream_errors, |kind| vec![kind]),
            limit: d.values("limit", "Bounds in force, by kind", &["kind", "route"])?,
            connections_refused: resolve::<ConnectionRefusal>(&connections_refused, |reason| vec![reason]),
            idle_closed: resolve::<IdleBound>(&idle_closed, |reason| vec![reason]),
            drain_cut: resolve::<DrainCut>(&drain_cut, |what| vec![what]),
            request_errors: resolve::<RequestError>(&request_errors, |reason| vec![reason]),
            proxy_errors: resolve::<ProxyFault>(&proxy_errors, |reason| vec![reason]),
            auth_failures: resolve::<AuthFailure>(&auth_failures, |reason| vec![reason]),
            jwks_fetches: resolve::<JwksOutcome>(&jwks_fetches, |outcome| vec![outcome]),
            tls_failures: resolve::<TlsFailure>(&tls_failures, |reason| vec![reason]),
            certificate_expiry: d.gauges(
                "tls_certificate_expiry_timestamp_seconds",
                "When a certificate of ours ends, in seconds since 1970",
                &["kind"],
            )?,
            config_reloads: resolve::<ReloadOutcome>(&reloads, |outcome| vec![outcome]),
            task_panics: resolve::<TaskKind>(&panics, |task| vec![task]),
            config_success: d.gauge(
                "config_last_reload_success_timestamp_seconds",
                "When the configuration was last read and found good, the start included",
            )?,
            upstream_handshake: d.histogram(
                "upstream_handshake_seconds",
                "From the dial to the upstream's answer to a WebSocket handshake",
                HANDSHAKE_BUCKETS,
            )?,
            messages_in: d.counter("messages_in_total", "Data messages from clients")?,
            messages_out: d.counter("messages_out_total", "Data messages to clients")?,
            bytes_in: d.counter("bytes_in_total", "Bytes of frames from clients that went on")?,
            bytes_out: d.counter("bytes_out_total", "Bytes of frames that went to clients")?,
            discarded: d.counter(
                "discarded_bytes_total",
                "Bytes of frames that came while a connection was ending and nobody could take them",
            )?,
            buffered: d.gauge("buffered_bytes", "Bytes held for sockets that do not take them, for the message rate, or until a frame is whole")?,
            heartbeat_rtt: d.histogram("heartbeat_rtt_seconds", "From a ping to its pong", RTT_BUCKETS)?,
            heartbeat_missed: d.counter("heartbeat_missed_total", "Pongs that did not come in time")?,
            draining: d.gauge("draining", "1 from the moment a drain was asked for")?,
            accept_errors: d
                .counter("accept_errors_total", "Accepts that failed, mostly for want of descriptors")?,
            dials: d.gauge("dials_in_progress", "Connects to an upstream in progress")?,
            upstream_retries: d.counter(
                "upstream_retries_total",
                "Plain requests sent once more because a kept connection had ended",
            )?,
            http_connections: d
                .gauge("http_connections", "HTTP connections of clients that are no WebSocket (yet)")?,
            handshaking: d.gauge(
                "handshakes_in_progress",
                "HTTP connections of clients that are no WebSocket (yet) and not idle",
            )?,
            http_idle: d.gauge(
                "http_idle",
                "HTTP connections of clients that are kept alive while nothing is asked on them",
            )?,
            http_in_flight: d
                .gauge("http_requests_in_flight", "Requests and handshakes that are not answered in full")?,
            handshakes_queued: d
                .gauge("handshakes_queued", "Handshakes that wait for a token of handshake_rate.global")?,
            rate_keys: d.gauge("rate_keys", "Addresses and users whose handshake rates are counted")?,
            ambiguous_paths: d.counter(
                "ambiguous_paths_total",
                "Requests refused because servers may read them to be for a stricter route",
            )?,
            rate_untracked: d.counter(
                "rate_untracked_total",
                "Requests of addresses or users beyond handshake_rate.max_keys, which are not limited one by one",
            )?,
            http2_abuses: d.counter(
                "http2_rapid_resets_total",
                "HTTP/2 connections ended because their clients took back too many requests",
            )?,
            refusals_closing: d
                .gauge("refusals_closing", "Refused clients that are being told so by a Close")?,
            refusals_not_closed: d.counter(
                "refusals_not_closed_total",
                "Refusals told by a status for want of room (listen.max_refusals)",
            )?,
            auth_waiting: d.gauge(
                "auth_waiting",
                "Requests whose credentials wait for a key set or for the authentication service",
            )?,
            log_lines_dropped: d.counter(
                "log_lines_dropped_total",
                "Log lines dropped because standard output did not take them",
            )?,
            registry: d.registry,
        }))
    }

    /// What a scrape shows.
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }

    /// Resolves every label value of one route.
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        Arc::new(RouteMetrics {
            name: name.into(),
            clients: self.clients.with_label_values(&[name]),
            connections: self.connections.with_label_values(&[name]),
            memory_cuts: self.memory_cuts.with_label_values(&[name]),
            disconnections: resolve::<Reason>(&self.disconnections, |reason| vec![name, reason]),
            refusals: resolve::<RefusalReason>(&self.refusals, |reason| vec![name, reason]),
            handshakes: resolve::<HandshakeOutcome>(&self.handshakes, |outcome| vec![name, outcome]),
            http_requests: resolve::<StatusClass>(&self.http_requests, |class| vec![name, class]),
            duration: self.connection_duration.with_label_values(&[name]),
        })
    }

    /// Counts the first Close of a connection. Looked up by label: once in a connection's life.
    pub fn on_close(&self, by: By, code: CloseCode) {
        self.closes.with_label_values(&[by.as_str(), code_label(code)]).inc();
    }

    /// Counts a connection that was turned away.
    pub fn on_connection_refused(&self, reason: ConnectionRefusal) {
        self.connections_refused[reason.index()].inc();
    }

    /// Counts an idle connection that was let go.
    pub fn on_idle_closed(&self, bound: IdleBound) {
        self.idle_closed[bound.index()].inc();
    }

    /// Counts what was cut at the end of a drain.
    pub fn on_drain_cut(&self, what: DrainCut, count: u64) {
        self.drain_cut[what.index()].inc_by(count);
    }

    /// Counts a request that was refused before a route was looked for.
    pub fn on_request_error(&self, reason: RequestError) {
        self.request_errors[reason.index()].inc();
    }

    /// Counts a connection that was ended for its PROXY header.
    pub fn on_proxy_error(&self, reason: ProxyFault) {
        self.proxy_errors[reason.index()].inc();
    }

    /// Counts a failure towards an upstream.
    pub fn on_upstream_error(&self, kind: UpstreamErrorKind) {
        self.upstream_errors[kind.index()].inc();
    }

    /// Counts what came of reading the configuration again.
    pub fn on_reload(&self, outcome: ReloadOutcome) {
        self.config_reloads[outcome.index()].inc();
        if outcome != ReloadOutcome::Failed {
            self.config_is_good();
        }
    }

    /// The configuration was read and found good now.
    pub fn config_is_good(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.config_success.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    }

    /// Counts a client that did not get through its TLS handshake.
    pub fn on_tls_failure(&self, reason: TlsFailure) {
        self.tls_failures[reason.index()].inc();
    }

    /// Tells when a certificate ends; `None`: there is none (any more).
    pub fn set_certificate_expiry(&self, kind: CertificateKind, not_after: Option<i64>) {
        let labels = [kind.as_str()];
        match not_after {
            Some(not_after) => self.certificate_expiry.with_label_values(&labels).set(not_after),
            None => {
                // There may never have been one.
                let _ = self.certificate_expiry.remove_label_values(&labels);
            }
        }
    }

    /// Counts credentials that were not taken.
    pub fn on_auth_failure(&self, reason: AuthFailure) {
        self.auth_failures[reason.index()].inc();
    }

    /// Counts a fetch of a key set.
    pub fn on_jwks_fetch(&self, outcome: JwksOutcome) {
        self.jwks_fetches[outcome.index()].inc();
    }

    /// Tells a bound of the process that is in force.
    pub fn set_limit(&self, kind: &'static str, value: u64) {
        self.set_route_limit(kind, "", Some(value as f64));
    }

    /// Tells a bound of a route; `None`: there is none.
    pub fn set_route_limit(&self, kind: &'static str, route: &str, value: Option<f64>) {
        match value {
            Some(value) => self.limit.with_label_values(&[kind, route]).set(value),
            // An error says that there was none before.
            None => drop(self.limit.remove_label_values(&[kind, route])),
        }
    }
}

/// One route's metrics, labels already resolved.
#[derive(Debug)]
pub struct RouteMetrics {
    /// The label.
    pub name: Box<str>,
    /// Open connections.
    pub clients: IntGauge,
    /// Connections opened.
    pub connections: IntCounter,
    /// How long they lasted.
    pub duration: Histogram,
    /// Those that were cut because `memory.max_buffered` was used up.
    pub memory_cuts: IntCounter,
    disconnections: Vec<IntCounter>,
    handshakes: Vec<IntCounter>,
    refusals: Vec<IntCounter>,
    http_requests: Vec<IntCounter>,
}

impl RouteMetrics {
    /// Counts the end of a connection.
    pub fn on_disconnect(&self, reason: Reason) {
        self.disconnections[reason.index()].inc();
    }

    /// Counts a handshake.
    pub fn on_handshake(&self, outcome: HandshakeOutcome) {
        self.handshakes[outcome.index()].inc();
    }

    /// Counts a handshake or a plain request that a guard turned away.
    pub fn on_refusal(&self, reason: RefusalReason) {
        self.refusals[reason.index()].inc();
    }

    /// Counts a plain HTTP request.
    pub fn on_http(&self, class: StatusClass) {
        self.http_requests[class.index()].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_begins_every_name_of_ours_and_every_label_value_is_there_from_the_start() {
        let metrics = Metrics::new("edge").unwrap();
        let _route = metrics.route("chat");
        let families = metrics.gather();
        assert!(families.iter().all(|f| f.name().starts_with("edge_") || f.name().starts_with("process_")));
        let ends = families.iter().find(|f| f.name() == "edge_disconnections_total").unwrap();
        assert_eq!(
            ends.get_metric().len(),
            Reason::ALL.len(),
            "a rate() needs the zero before the first event"
        );
    }

    #[test]
    fn a_bad_prefix_is_an_error() {
        assert!(Metrics::new("9 lives").is_err());
    }
}
