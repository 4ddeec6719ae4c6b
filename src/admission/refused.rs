//! Why the proxy answers a request and not the upstream; each text says what was wrong and what to do.
//!
//! # Not here
//! The response ([`super::answer`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;

use crate::net::head::{self, HeadFault, MAX_HEADERS};
use crate::telemetry::{AuthFailure, RefusalReason};
use crate::upstream::UpstreamError;

/// Why the proxy answers a request and not the upstream.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// RFC 6455 §4.2.1.
    #[error("not a WebSocket handshake: {0}")]
    Malformed(&'static str),
    /// RFC 6455 §4.2.2: only version 13 is spoken.
    #[error("only version 13 of the WebSocket protocol is spoken here (Sec-WebSocket-Version: 13)")]
    Version,
    /// `listen.ambiguous_paths`
    #[error("servers may read its path or host to be for the route {stricter}, because of {because}")]
    AmbiguousPath {
        /// What it is that servers read in different ways.
        because: &'static str,
        /// A route that is stricter than the one that it is for as this proxy reads it.
        stricter: String,
    },
    /// The request's head cannot be read, or could be read in two ways.
    #[error("the request cannot be passed on: {0}")]
    Head(#[from] HeadFault),
    /// HTTP in the clear where TLS is spoken.
    #[error("this port speaks TLS: ask for https:// or wss://")]
    Plaintext,
    /// Above `listen.max_header_bytes`, or above so many headers.
    #[error(
        "the request's head (its first line and its headers) is larger than this proxy takes \
         (listen.max_header_bytes), or has more than {MAX_HEADERS} headers"
    )]
    HeadTooLarge,
    /// RFC 9110 §15.5.15. No setting moves this bound: targets are kept with 16 bits for their length.
    #[error(
        "the request's target (its URL) is longer than {} bytes, which is the most that is taken",
        head::MAX_TARGET
    )]
    TargetTooLong,
    /// `listen.handshake_timeout`
    #[error("the request's head did not come in time (listen.handshake_timeout)")]
    TooSlow,
    /// Something that is no request for this server.
    #[error("{0} is not passed on by this proxy")]
    Unsupported(&'static str),
    /// `policy.http.mode: refuse`
    #[error("this route takes WebSocket handshakes only")]
    NoHttp,
    /// The proxy is being stopped.
    #[error("this proxy is being stopped; try again, another one will answer")]
    Draining,
    /// `listen.max_handshakes`
    #[error("too many handshakes are in progress; try again later")]
    TooManyHandshakes,
    /// `policy.handshake_rate`, `policy.http.rate`: whose bucket is empty, and when to come back.
    #[error("too many {0}; try again later")]
    Rate(Bucket, Duration),
    /// `policy.limits`: whose places are all taken.
    #[error("server at capacity: there is no room for more connections {0}")]
    Capacity(Bound),
    /// `policy.origins`
    #[error("{0}")]
    Origin(OriginError),
    /// `policy.auth`: no credentials, or wrong ones. What exactly is for the log: it would help to guess them.
    #[error("credentials are missing or not valid")]
    Unauthorized(AuthFailure),
    /// `policy.auth.forward`: the answer of the authentication service.
    #[error("the authentication service refused")]
    Forwarded(Box<Response<Bytes>>),
    /// Credentials could not be checked.
    #[error("credentials cannot be checked at the moment; try again later")]
    AuthUnavailable,
    /// `policy.breaker`: the upstream keeps failing and was not asked; when to come back.
    #[error("the upstream keeps failing and is left alone for a moment; try again later")]
    Breaker(Duration),
    /// The upstream is to blame.
    #[error(transparent)]
    Upstream(Arc<UpstreamError>),
}

/// Why a page may not come in. What a client sent is kept as it may be shown: bounded, and without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// The `Origin` that was sent.
    #[error("pages of {0} may not connect here: it is no origin of policy.origins")]
    Named(Box<str>),
    /// More than one `Origin`.
    #[error("more than one Origin was sent: a page has one, and it has to be in policy.origins")]
    Several,
    /// None, and `policy.origins.missing` is `refuse`.
    #[error("no Origin was sent, and policy.origins.missing is refuse: it has to be one of policy.origins")]
    Missing,
    /// None, and the browser says that another site's page asks (`Sec-Fetch-Site`).
    #[error(
        "no Origin was sent, and another site's page asks (Sec-Fetch-Site: cross-site or same-site): policy.origins has to \
         name it"
    )]
    CrossSite,
}

impl OriginError {
    /// The origin that was sent.
    pub fn origin(&self) -> Option<&str> {
        match self {
            Self::Named(origin) => Some(origin),
            Self::Several | Self::Missing | Self::CrossSite => None,
        }
    }
}

/// Whose handshakes or requests are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// `handshake_rate.global`
    Global,
    /// `handshake_rate.per_ip`
    PerIp,
    /// `handshake_rate.per_user`
    PerUser,
    /// `http.rate.global`
    HttpGlobal,
    /// `http.rate.per_ip`
    HttpPerIp,
}

impl std::fmt::Display for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Global => "handshakes at once",
            Self::PerIp => "handshakes from this address",
            Self::PerUser => "handshakes of this user",
            Self::HttpGlobal => "requests at once",
            Self::HttpPerIp => "requests from this address",
        })
    }
}

/// Whose connections are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `limits.connections`
    Route,
    /// `limits.per_ip`
    PerIp,
    /// `limits.per_user`
    PerUser,
    /// `broadcast.max_channels`
    Channels,
    /// `memory.max_buffered`: nothing could be kept for it.
    Memory,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Route => "here",
            Self::PerIp => "from this address",
            Self::PerUser => "of this user",
            Self::Channels => "to anything that nobody is connected to yet",
            Self::Memory => "without a WebSocket: this proxy holds too much for others",
        })
    }
}

impl From<UpstreamError> for Refused {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(Arc::new(error))
    }
}

impl Refused {
    /// Which guard of a route turned the request away; `None`: it was none of them.
    pub fn guard(&self) -> Option<RefusalReason> {
        use RefusalReason as Reason;
        Some(match self {
            Self::Rate(Bucket::Global, _) => Reason::RateGlobal,
            Self::Rate(Bucket::PerIp, _) => Reason::RatePerIp,
            Self::Rate(Bucket::PerUser, _) => Reason::RatePerUser,
            Self::Rate(Bucket::HttpGlobal, _) => Reason::HttpRateGlobal,
            Self::Rate(Bucket::HttpPerIp, _) => Reason::HttpRatePerIp,
            Self::Capacity(Bound::Route) => Reason::Capacity,
            Self::Capacity(Bound::PerIp) => Reason::CapacityPerIp,
            Self::Capacity(Bound::PerUser) => Reason::CapacityPerUser,
            Self::Capacity(Bound::Channels) => Reason::CapacityChannels,
            Self::Capacity(Bound::Memory) => Reason::CapacityMemory,
            Self::Origin(_) => Reason::Origin,
            Self::Unauthorized(_) => Reason::Unauthorized,
            Self::Forwarded(_) => Reason::UnauthorizedByService,
            Self::AuthUnavailable => Reason::AuthUnavailable,
            Self::Breaker(_) => Reason::BreakerOpen,
            _ => return None,
        })
    }

    /// Why credentials were not taken: for the log only.
    pub fn auth_failure(&self) -> Option<AuthFailure> {
        match self {
            Self::Unauthorized(failure) => Some(*failure),
            Self::Forwarded(_) => Some(AuthFailure::Forward),
            Self::AuthUnavailable => Some(AuthFailure::Unavailable),
            _ => None,
        }
    }
}
