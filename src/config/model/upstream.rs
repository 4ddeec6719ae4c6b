//! The unmodified server.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::model::file::File;
use crate::config::model::policy::Heartbeat;

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

/// What `upstream.heartbeat: auto` comes to on a shared link: half of the 60 s after which Cowboy and many a proxy
/// close whoever is silent.
pub const SHARED_HEARTBEAT: Heartbeat =
    Heartbeat { interval: Duration::from_secs(30), timeout: Duration::from_secs(10), max_missed: 3 };

/// `upstream.tls`; what `https://` means without it is its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Authorities, PEM; `None`: the system's.
    pub ca: Option<File>,
    /// The name that the certificate must have and that is sent as SNI; `None`: the URL's host.
    pub server_name: Option<String>,
    /// Our own certificate and its key, PEM.
    pub identity: Option<Identity>,
    /// Whether any certificate will do. For tests: whoever stands between can read everything.
    pub insecure: bool,
}

/// A certificate chain and its private key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The chain, our own certificate first.
    pub cert: File,
    /// Its private key.
    pub key: File,
}
