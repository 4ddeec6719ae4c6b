//! Where clients connect.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::model::file::File;

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

/// `listen.proxy_protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Not looked for.
    Off,
    /// Read from trusted proxies, if they send it.
    Optional,
    /// Every connection begins with it.
    Required,
}

/// `listen.tls`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    /// The chain, PEM, our own certificate first.
    pub cert: File,
    /// Its private key, PEM.
    pub key: File,
    /// Authorities whose client certificates are believed, and whether a client must show one.
    pub clients: Option<ClientCertificates>,
    /// Oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// `listen.tls.client_ca_file` and `client_certificate`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Certificates of authorities, PEM.
    pub ca: File,
    /// Whether a client without one is turned away.
    pub required: bool,
}

/// `listen.tls.min_version`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// `"1.2"`
    V1_2,
    /// `"1.3"`
    V1_3,
}
