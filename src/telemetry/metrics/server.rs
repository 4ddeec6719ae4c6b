//! What the client port counts: HTTP connections, and requests that find no route.

use prometheus::{IntCounter, IntGauge};

use super::declare::{CounterBy, Declare, MetricsError};
use super::label::labels;

labels! {
    /// Why a connection was turned away before anything of it was read
    /// (`outrigger_connections_refused_total{reason}`).
    pub(crate) enum ConnectionRefusal {
        /// `listen.max_handshakes`
        TooManyHandshakes = "too_many_handshakes",
    }

    /// Which bound an idle HTTP connection was let go for (`outrigger_http_idle_closed_total{reason}`).
    pub(crate) enum IdleBound {
        /// `listen.max_idle_http`
        All = "max_idle_http",
        /// `listen.max_idle_http_per_ip`
        Address = "max_idle_http_per_ip",
    }

    /// What was left when the time of a drain was over (`outrigger_drain_cut_total{what}`).
    pub(crate) enum DrainCut {
        /// WebSocket connections.
        Connections = "connections",
        /// Requests and handshakes that were not answered in full.
        Requests = "requests",
    }

    /// Why a request was refused before a route was looked for (`outrigger_request_errors_total{reason}`).
    pub(crate) enum RequestError {
        /// `Host` is missing, doubled, or no host.
        Host = "host",
        /// The target is neither a path nor a URL, or has a character that it must not have.
        Target = "target",
        /// Where the request ends is not clear.
        Framing = "framing",
        /// A line is not as RFC 9112 has it.
        Syntax = "syntax",
        /// HTTP/2 where it is not spoken.
        Version = "version",
        /// `listen.max_header_bytes`
        TooLarge = "too_large",
        /// `listen.handshake_timeout`
        Timeout = "timeout",
        /// HTTP in the clear where TLS is spoken.
        Plaintext = "plaintext",
    }

    /// Why a connection was ended for its PROXY header (`outrigger_proxy_protocol_errors_total{reason}`).
    pub(crate) enum ProxyFault {
        /// Something else came.
        Missing = "missing",
        /// It is not as the specification has it.
        Malformed = "malformed",
        /// It did not come in time.
        Timeout = "timeout",
    }

    /// Why a client did not get through its TLS handshake (`outrigger_tls_handshake_failures_total{reason}`).
    pub(crate) enum TlsFailure {
        /// `listen.handshake_timeout`
        Timeout = "timeout",
        /// It spoke HTTP in the clear.
        Plaintext = "plaintext",
        /// One side did not believe the other's certificate, or saw none.
        Certificate = "certificate",
        /// No version, cipher or protocol in common, or not TLS at all.
        Protocol = "protocol",
        /// It went away.
        Lost = "lost",
    }
}

#[derive(Debug)]
pub(crate) struct ServerMetrics {
    pub(crate) accept_errors: IntCounter,
    pub(crate) connections_refused: CounterBy<ConnectionRefusal>,
    /// Those that were upgraded are not among them.
    pub(crate) http_connections: IntGauge,
    /// Those of `http_connections` that are not idle; also the count that `listen.max_handshakes` bounds.
    pub(crate) handshaking: IntGauge,
    /// Those of `http_connections` on which nothing is asked; also the count that `listen.max_idle_http` bounds.
    pub(crate) http_idle: IntGauge,
    pub(crate) idle_closed: CounterBy<IdleBound>,
    /// Requests and handshakes; a drain ends when there are none.
    pub(crate) http_in_flight: IntGauge,
    pub(crate) http2_abuses: IntCounter,
    pub(crate) tls_failures: CounterBy<TlsFailure>,
    pub(crate) proxy_errors: CounterBy<ProxyFault>,
    pub(crate) request_errors: CounterBy<RequestError>,
    pub(crate) ambiguous_paths: IntCounter,
    pub(crate) refusals_closing: IntGauge,
    pub(crate) refusals_not_closed: IntCounter,
    pub(crate) draining: IntGauge,
    pub(crate) drain_cut: CounterBy<DrainCut>,
}

impl ServerMetrics {
    pub(super) fn declare(d: &Declare<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            accept_errors: d
                .counter("accept_errors_total", "Accepts that failed, mostly for want of descriptors")?,
            connections_refused: d.counter_by(
                "connections_refused_total",
                "Connections turned away before anything of them was read",
                "reason",
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
            idle_closed: d.counter_by(
                "http_idle_closed_total",
                "HTTP connections let go because too many ask nothing",
                "reason",
            )?,
            http_in_flight: d
                .gauge("http_requests_in_flight", "Requests and handshakes that are not answered in full")?,
            http2_abuses: d.counter(
                "http2_rapid_resets_total",
                "HTTP/2 connections ended because their clients took back too many requests",
            )?,
            tls_failures: d.counter_by(
                "tls_handshake_failures_total",
                "Clients that did not get through their TLS handshake, by the reason",
                "reason",
            )?,
            proxy_errors: d.counter_by(
                "proxy_protocol_errors_total",
                "Connections ended because of their PROXY header",
                "reason",
            )?,
            request_errors: d.counter_by(
                "request_errors_total",
                "Requests refused before a route was looked for, by why",
                "reason",
            )?,
            ambiguous_paths: d.counter(
                "ambiguous_paths_total",
                "Requests refused because servers may read them to be for a stricter route",
            )?,
            refusals_closing: d
                .gauge("refusals_closing", "Refused clients that are being told so by a Close")?,
            refusals_not_closed: d.counter(
                "refusals_not_closed_total",
                "Refusals told by a status for want of room (listen.max_refusals)",
            )?,
            draining: d.gauge("draining", "1 from the moment a drain was asked for")?,
            drain_cut: d.counter_by(
                "drain_cut_total",
                "What was cut because it was left when the time of a drain was over",
                "what",
            )?,
        })
    }
}
