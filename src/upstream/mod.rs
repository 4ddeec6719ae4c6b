//! The hop to the unmodified server: dialling, the WebSocket handshake, plain HTTP.
//!
//! # Not here
//! What is answered to a client when this fails ([`crate::server`]); what happens to frames
//! ([`crate::tunnel`]).

mod breaker;
mod dial;
pub(crate) mod headers;
mod http;
mod uplink;
pub(crate) mod verify;
mod websocket;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1;

use crate::config;
use crate::net::head::{FramingFault, MAX_HEADERS};
use crate::net::pool::Pool;
use crate::net::tls::TlsError;
use crate::net::{Broken, HeadLimit};
use crate::telemetry::{Metrics, UpstreamErrorKind};

pub(crate) use self::http::Requested;
pub(crate) use breaker::{Permit, UpstreamBreaker};
pub(crate) use dial::{DialError, Dialer};
pub(crate) use uplink::{Uplink, UplinkEnd, UplinkRules};
pub(crate) use verify::BadUpgrade;
pub(crate) use websocket::{Refusal, Upgraded};

/// Idle connections kept for one upstream.
const MAX_IDLE: usize = 64;
/// What hyper reads ahead and keeps unwritten, at least: its own default, so that bodies pass as they would.
const MIN_BUFFER: usize = 8 * 1024 + 400 * 1024;

/// Why nothing came of a request to the upstream.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No answer in time.
    #[error("the upstream did not answer within {0:?}")]
    Timeout(Duration),
    /// The connection ended, or what came was not HTTP.
    #[error("the upstream broke off: {0}")]
    Broken(Box<dyn Error + Send + Sync>),
    /// Where the answer ends is not clear.
    #[error("the end of the upstream's answer is not clear: {0}")]
    Framing(#[from] FramingFault),
    /// A 101 that is none.
    #[error("the upstream's 101 is not a valid WebSocket answer: {0}")]
    BadUpgrade(#[from] BadUpgrade),
    /// The client's body was longer than `http.max_body`.
    #[error("the request body is longer than {0} bytes")]
    BodyTooLarge(u64),
    /// Nothing more of the client's body came for `delivery.stall_timeout`.
    #[error("the rest of the request body did not come: nothing for {0:?} (delivery.stall_timeout)")]
    BodyStalled(Duration),
    /// The client's body broke a rule (RFC 9112 §7.1), or ended with its connection.
    #[error("the request body did not come whole: it breaks off, or its chunks are not as RFC 9112 has them")]
    BodyBroken,
    /// The server took nothing of the client's body for `upstream.stall_timeout`.
    #[error("the upstream took nothing of the request body for {0:?} (upstream.stall_timeout)")]
    BodyUntaken(Duration),
}

impl UpstreamError {
    /// The same error once more: several clients may have waited for one answer.
    pub fn again(&self) -> Self {
        match self {
            Self::Dial(error) => Self::Dial(error.again()),
            Self::Timeout(after) => Self::Timeout(*after),
            Self::Broken(source) => Self::Broken(source.to_string().into()),
            Self::Framing(fault) => Self::Framing(*fault),
            Self::BadUpgrade(what) => Self::BadUpgrade(*what),
            Self::BodyTooLarge(most) => Self::BodyTooLarge(*most),
            Self::BodyStalled(after) => Self::BodyStalled(*after),
            Self::BodyBroken => Self::BodyBroken,
            Self::BodyUntaken(after) => Self::BodyUntaken(*after),
        }
    }

    /// Whether a server that is well may have meant it: many hang up on what they do not serve, or have one 101
    /// for everybody, whatever was offered.
    pub fn may_be_an_answer(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Framing(_) | Self::BadUpgrade(_) => true,
            Self::Dial(_)
            | Self::Timeout(_)
            | Self::BodyTooLarge(_)
            | Self::BodyStalled(_)
            | Self::BodyBroken
            | Self::BodyUntaken(_) => false,
        }
    }

    /// How it is counted; `None` if the upstream is not to blame.
    pub fn kind(&self) -> Option<UpstreamErrorKind> {
        match self {
            Self::Dial(DialError::Timeout { .. } | DialError::NoPlace { .. }) => {
                Some(UpstreamErrorKind::ConnectTimeout)
            }
            Self::Dial(DialError::Io { .. }) => Some(UpstreamErrorKind::Connect),
            Self::Dial(DialError::Tls { .. }) => Some(UpstreamErrorKind::Tls),
            Self::Timeout(_) | Self::BodyUntaken(_) => Some(UpstreamErrorKind::ResponseTimeout),
            Self::Broken(_) | Self::Framing(_) => Some(UpstreamErrorKind::Broken),
            Self::BadUpgrade(_) => Some(UpstreamErrorKind::BadUpgrade),
            Self::BodyTooLarge(_) | Self::BodyStalled(_) | Self::BodyBroken => None,
        }
    }
}

impl UpstreamError {
    /// Whether it says that the upstream does not work. It does not if a client can bring it about by what it asks
    /// for: to be given a subprotocol or extensions that this client did not offer may be what every other one gets
    /// in answer to its offer. Nor if nobody was asked.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Dial(DialError::NoPlace { .. })
            | Self::BadUpgrade(BadUpgrade::Protocol | BadUpgrade::Extension) => false,
            error => error.kind().is_some(),
        }
    }
}

/// Reads heads of answers of at most so many bytes.
fn reading_heads_of(bytes: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .preserve_header_case(true)
        .title_case_headers(true)
        .max_headers(MAX_HEADERS)
        .max_header_size(bytes)
        .max_buf_size(bytes.max(MIN_BUFFER));
    builder
}

/// One upstream, as the routes that lead to it share it.
#[derive(Debug)]
pub(crate) struct Upstream {
    config: Arc<config::Upstream>,
    dialer: Dialer,
    /// How answers are read, of handshakes as of requests.
    http: http1::Builder,
    pool: Pool<Requested>,
    metrics: Arc<Metrics>,
}

impl Upstream {
    /// Nothing is dialled yet.
    ///
    /// # Errors
    /// There is no TLS with what `upstream.tls` names.
    pub(crate) fn new(config: Arc<config::Upstream>, metrics: Arc<Metrics>) -> Result<Arc<Self>, TlsError> {
        let dialer = Dialer::new(&config, Arc::clone(&metrics))?;
        let http = reading_heads_of(config.max_header_bytes);
        let pool = Pool::new(http.clone(), config.keep_alive, MAX_IDLE);
        Ok(Arc::new(Self { config, dialer, http, pool, metrics }))
    }

    /// Why no answer came of an exchange.
    fn broken(&self, error: &hyper::Error) -> UpstreamError {
        let limit =
            HeadLimit { bytes: self.config.max_header_bytes, setting: Some("upstream.max_header_bytes") };
        UpstreamError::Broken(Broken::of(error, limit).into())
    }

    /// When the certificate that it is shown ends, in seconds since 1970, if there is one.
    pub(crate) fn certificate_expiry(&self) -> Option<i64> {
        self.dialer.certificate_expiry()
    }

    /// Its settings.
    pub(crate) fn config(&self) -> &config::Upstream {
        &self.config
    }

    /// Whether it can be dialled now.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) async fn check(&self) -> Result<(), DialError> {
        self.dialer.dial().await.map(drop)
    }

    fn count<T>(&self, result: Result<T, UpstreamError>) -> Result<T, UpstreamError> {
        if let Err(error) = &result
            && let Some(kind) = error.kind()
        {
            self.metrics.upstream.errors.inc(kind);
        }
        result
    }
}
