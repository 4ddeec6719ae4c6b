//! The checked configuration: what the rest of the program reads.
//!
//! # Invariants
//! 1. Values of these types come from [`super::load`] or from [`Config::default`]; whoever holds one
//!    need not check it again (lengths are in range, addresses parse, routes have unique names).
//! 2. "Off" is `None` (or an empty list), never a magic zero: whoever reads a setting has to say what
//!    happens without it.
//! 3. A key that only a later feature reads has no field here: until then `load` accepts nothing but
//!    its default.
//!
//! # Not here
//! YAML, environment and flags ([`super::layers`]); what a file may say ([`super::raw`]).

mod admission;
mod api_keys;
mod feed;
mod file;
mod tls;
mod trust;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use admission::*;
pub use api_keys::ApiKey;
pub use feed::*;
pub use file::File;
pub use tls::*;
pub use trust::*;

use super::secret::Secret;

/// Everything an operator can say, checked and complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The port clients are pointed at.
    pub listen: Listen,
    /// The port of operators and probes.
    pub admin: Admin,
    /// Whose word about the client's address is believed.
    pub trusted_proxies: TrustedProxies,
    /// What is written to standard output.
    pub log: Log,
    /// First part of every metric's name.
    pub metrics_prefix: String,
    /// `memory.max_buffered`, in bytes: all overflow and logs together. `auto` is resolved by then.
    pub max_buffered: usize,
    /// How a stop lets clients go.
    pub drain: Drain,
    /// In file order; the first match wins. The last entry is always [`Route::fallback`]: it matches
    /// everything, so that a look-up cannot fail.
    pub routes: Vec<Route>,
}

/// Where clients come in.
#[derive(Debug, Clone, PartialEq)]
pub struct Listen {
    /// TCP address or Unix socket.
    pub address: ListenAddress,
    /// `None`: in the clear.
    pub tls: Option<ListenTls>,
    /// Whether connections begin with the address of the client.
    pub proxy_protocol: ProxyProtocol,
    /// WebSockets over HTTP/2 (RFC 8441), over TLS (ALPN) and by prior knowledge; `None`: HTTP/1.1 only.
    pub http2: Option<Http2>,
    /// Connections that are no WebSocket yet and not idle: beyond it new ones are turned away.
    pub max_handshakes: usize,
    /// Refused clients that are told so by a Close at the same time; the others get a status.
    pub max_refusals: usize,
    /// From accept (or the first byte of a further request) to the last header byte.
    pub handshake_timeout: Duration,
    /// How long an idle HTTP connection stays open, unless there are nearly `max_idle_http` of them.
    pub keep_alive: Duration,
    /// HTTP connections on which nothing is asked, at least 1: beyond it the one that has waited longest goes.
    /// `auto` is resolved by then.
    pub max_idle_http: usize,
    /// The same of one address (IPv6: of one /64).
    pub max_idle_http_per_ip: Option<usize>,
    /// What becomes of requests that a server may read to be for another, stricter route.
    pub ambiguous_paths: AmbiguousPaths,
    /// Longest request head, in bytes (8 KiB at least: hyper's smallest buffer).
    pub max_header_bytes: usize,
    /// Worker threads, at least 1. `auto` is resolved by then.
    pub workers: usize,
}

/// `listen.http2_max_streams`, where `listen.http2` is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2 {
    /// Requests and WebSockets of one connection at the same time, at least 1.
    pub max_streams: u32,
}

/// `listen.ambiguous_paths`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AmbiguousPaths {
    /// 400.
    Refuse,
    /// They take the route that they are for as this proxy reads them.
    Pass,
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq)]
pub enum ListenAddress {
    /// `listen.address`
    Tcp(SocketAddr),
    /// `listen.unix`
    Unix(PathBuf),
}

/// The unmodified server, as one route reaches it.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Where it listens.
    pub target: Target,
    /// `Some` where the URL is `https://`.
    pub tls: Option<UpstreamTls>,
    /// How long a connect may take, TLS included.
    pub connect_timeout: Duration,
    /// From the first byte of a WebSocket handshake to the last header byte of its answer.
    pub handshake_timeout: Duration,
    /// How long an idle pooled HTTP connection is kept.
    pub keep_alive: Duration,
    /// An upstream that takes not one byte for this long, while there is something for it, is given up.
    pub stall_timeout: Option<Duration>,
    /// Dials in progress at once, at least 1.
    pub max_dials: usize,
    /// Longest head of an answer, in bytes: 8 KiB to 1 MiB.
    pub max_header_bytes: usize,
    /// What the upstream sees as `Host`.
    pub host_header: HostHeader,
    /// Which forwarding headers the upstream is sent.
    pub forwarded: Forwarded,
    /// Pings towards the server.
    pub heartbeat: UpstreamHeartbeat,
}

/// Where an upstream listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// `http://host[:port]`: `authority` as it is put into `Host`, and what is resolved and dialled.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// 80 where the URL names none.
        port: u16,
    },
    /// `unix:///path`
    Unix(PathBuf),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// `upstream.host_header`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostHeader {
    /// The client's `Host` is passed on.
    Preserve,
    /// The upstream's own authority.
    Rewrite,
}

/// `upstream.forwarded`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// `X-Forwarded-For`, `-Proto`, `-Host`, `-Port`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Rfc7239,
    /// Both of them.
    Both,
    /// Neither; what a client sent of them is removed all the same.
    Off,
}

/// The operators' side.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Health, metrics, drain. Loopback, or `token` is set.
    pub address: SocketAddr,
    /// Only `/healthz`, `/readyz`, `/metrics`.
    pub probe_address: Option<SocketAddr>,
    /// Bearer token of operator routes.
    pub token: Option<Secret>,
    /// Further names, in lower case and without a port, by which operator routes may be asked for.
    pub hosts: Vec<String>,
    /// Longest body of a publish request, in bytes.
    pub max_publish: usize,
    /// Whether `/readyz` asks the upstream too.
    pub ready_needs_upstream: bool,
}

/// `log`
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// A level, or directives as `tracing` reads them (`info,outrigger::tunnel=debug`).
    pub level: String,
    /// One JSON object a line, or words.
    pub format: LogFormat,
    /// Which connections' lifecycle is told.
    pub connections: LogConnections,
    /// Which plain HTTP requests are told of.
    pub requests: LogRequests,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For eyes.
    Text,
}

/// `log.connections`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogConnections {
    /// Connect and disconnect of each.
    All,
    /// Only those that did not end in an orderly way.
    Errors,
    /// None.
    Off,
}

/// `log.requests`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRequests {
    /// Each.
    All,
    /// Those that were answered with 400 or above, or not in full.
    Errors,
    /// None.
    Off,
}

/// `drain`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drain {
    /// Not ready, still accepting.
    pub delay: Duration,
    /// Closes are spread evenly over this.
    pub spread: Duration,
    /// From the signal: then whatever is left is cut.
    pub timeout: Duration,
    /// Close code of a drain.
    pub close_code: u16,
}

/// A path pattern, its mode and everything that holds for its connections.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The metric label; unique. `default` for the fallback.
    pub name: String,
    /// Which paths.
    pub path: PathPattern,
    /// Which hosts, in lower case and without a port; empty is any.
    pub hosts: Vec<String>,
    /// What becomes of its WebSockets.
    pub mode: Mode,
    /// Taken off the path before it goes upstream.
    pub strip_prefix: Option<String>,
    /// Routes with equal settings share one.
    pub upstream: Arc<Upstream>,
    /// Complete: the global policy with this route's overrides merged in.
    pub policy: Arc<Policy>,
}

impl Route {
    /// Name of the fallback; no other route has it.
    pub const DEFAULT: &str = "default";

    /// What matches where nothing else did: every path on every host.
    pub fn fallback(upstream: Arc<Upstream>, policy: Arc<Policy>) -> Self {
        Self {
            name: Self::DEFAULT.into(),
            path: PathPattern { segments: vec![Segment::Rest("rest".into())], text: "/{*rest}".into() },
            hosts: Vec::new(),
            mode: Mode::Tunnel,
            strip_prefix: None,
            upstream,
            policy,
        }
    }
}

/// `mode` of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// 1 : 1, nothing kept.
    Tunnel,
    /// 1 : N, one upstream feed for all clients of a channel.
    Broadcast,
}

/// A checked path pattern: `/ws/{room}`, `/ws/{*rest}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    /// In order; matched against the path's segments.
    pub segments: Vec<Segment>,
    /// As it was written.
    pub text: String,
}

/// One piece of a [`PathPattern`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Exactly this.
    Literal(String),
    /// `{name}`: one segment, not empty.
    One(String),
    /// `{*name}`: the rest, which may be empty; always last.
    Rest(String),
}

/// What holds for every connection of a route.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// `None`: off.
    pub heartbeat: Option<ClientHeartbeat>,
    /// No sign of life for this long.
    pub idle_timeout: Option<Duration>,
    /// What counts as life.
    pub idle_activity: IdleActivity,
    /// Oldest a connection may get; closes are jittered.
    pub max_lifetime: Option<Duration>,
    /// How long a close handshake may take.
    pub close_timeout: Duration,
    /// Longest frame payload, in bytes on the wire.
    pub max_frame: u64,
    /// Longest message, in payload bytes on the wire, over all its frames.
    pub max_message: u64,
    /// Messages from one client.
    pub message_rate: Option<Rate>,
    /// Control frames from one client.
    pub control_rate: ControlRate,
    /// How many may be connected.
    pub limits: Limits,
    /// How fast they may come.
    pub handshake_rate: HandshakeRate,
    /// How a refusal is told.
    pub on_refuse: OnRefuse,
    /// Which pages may connect; `None`: any.
    pub origins: Option<Origins>,
    /// Who clients are; `None`: nobody asks.
    pub auth: Option<Auth>,
    /// Close codes for what the proxy itself ends.
    pub close_codes: CloseCodes,
    /// Plain HTTP on this route.
    pub http: Http,
    /// Around handshakes with the upstream; `None`: off.
    pub breaker: Option<Breaker>,
    /// Around each client's feed.
    pub delivery: Delivery,
    /// Mode `broadcast`.
    pub broadcast: Broadcast,
    /// How an upstream that was lost is dialled again.
    pub redial: Redial,
    /// Whether clients are told what happened to their feed; `auto` is resolved by then.
    pub notices: bool,
    /// The log.
    pub history: History,
    /// `compression: deflate`, towards clients of a log.
    pub compression: bool,
}

/// `policy.heartbeat`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClientHeartbeat {
    /// Which form it takes.
    pub mode: HeartbeatMode,
    /// When, and how long to wait.
    pub timing: Heartbeat,
}

/// `policy.heartbeat.mode`, without `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatMode {
    /// RFC 6455 ping frames.
    Ping,
    /// `{"type":"heartbeat"}` and `{"type":"pong"}` in text frames.
    Json,
}

/// The clocks of one heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// From one ping to the next.
    pub interval: Duration,
    /// How long a pong may take.
    pub timeout: Duration,
    /// Misses in a row that end the connection, at least 1.
    pub max_missed: u32,
}

/// `upstream.heartbeat`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamHeartbeat {
    /// [`SHARED_HEARTBEAT`] on links that clients share, which carry nothing of theirs that would show life; none in
    /// tunnels, where the clients' own traffic and pongs do.
    Auto,
    /// None.
    Off,
    /// This, in every mode.
    Every(Heartbeat),
}

/// What `upstream.heartbeat: auto` comes to on a shared link: half of the 60 s after which Cowboy and many a proxy
/// close whoever is silent.
pub const SHARED_HEARTBEAT: Heartbeat =
    Heartbeat { interval: Duration::from_secs(30), timeout: Duration::from_secs(10), max_missed: 3 };

impl UpstreamHeartbeat {
    /// On a link that clients share.
    pub fn on_shared_links(self) -> Option<Heartbeat> {
        match self {
            Self::Auto => Some(SHARED_HEARTBEAT),
            Self::Off => None,
            Self::Every(heartbeat) => Some(heartbeat),
        }
    }

    /// On a link that is one client's.
    pub fn in_tunnels(self) -> Option<Heartbeat> {
        match self {
            Self::Auto | Self::Off => None,
            Self::Every(heartbeat) => Some(heartbeat),
        }
    }
}

/// `policy.idle_activity`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleActivity {
    /// Anything from either side, answered heartbeats included.
    Any,
    /// Application messages only.
    Messages,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Tokens a second, above 0.
    pub per_second: f64,
    /// Most tokens at once, at least 1.
    pub burst: u32,
}

/// `policy.close_codes`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseCodes {
    /// There is no room.
    pub capacity: u16,
    /// Too many handshakes.
    pub rate: u16,
    /// No credentials, wrong ones, or a foreign page.
    pub unauthorized: u16,
    /// The token's time is over.
    pub expired: u16,
    /// The server went away under a living client.
    pub upstream_lost: u16,
    /// The client did not read.
    pub slow_consumer: u16,
    /// The idle timeout passed.
    pub idle: u16,
}

/// `policy.http`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Http {
    /// Which of them may pass.
    pub mode: HttpMode,
    /// From the last request byte to the response's head.
    pub response_timeout: Option<Duration>,
    /// Longest request body in bytes.
    pub max_body: Option<u64>,
    /// How fast they may come.
    pub rate: HttpRate,
}

/// `policy.http.mode`; `auto` is resolved by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpMode {
    /// Address and rate are asked for.
    Pass,
    /// Origin and authentication too.
    Guard,
    /// 404.
    Refuse,
}
