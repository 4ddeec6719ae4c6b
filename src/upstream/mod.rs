//! The hop to the unmodified server: dialling, the WebSocket handshake, plain HTTP, and a link that ends here
//! ([`Uplink`]), with the way back to the server that it has lost ([`redial`], [`revival`]).
//!
//! # Not here
//! What is answered to a client when this fails ([`crate::server`]); what happens to frames
//! ([`crate::tunnel`]).

mod body;
mod breaker;
mod classify;
mod closing;
mod dial;
mod error;
pub(crate) mod headers;
mod http;
pub(crate) mod opening;
pub(crate) mod redial;
pub(crate) mod revival;
mod uplink;
pub(crate) mod verify;
mod websocket;

use std::sync::Arc;

use hyper::client::conn::http1;

use self::body::RequestBody;
use crate::config;
use crate::net::head::MAX_HEADERS;
use crate::net::pool::Pool;
use crate::net::tls::TlsError;
use crate::net::{Broken, HeadLimit};
use crate::telemetry::Metrics;

pub(crate) use breaker::{Permit, UpstreamBreaker};
pub(crate) use classify::Verdict;
pub(crate) use closing::Closing;
pub(crate) use dial::{DialError, Dialer};
pub(crate) use error::UpstreamError;
pub(crate) use uplink::{ReceiptMode, Uplink, UplinkEnd, UplinkRules};
pub(crate) use websocket::{Declined, Upgrade, Upgraded};

/// Idle connections kept for one upstream.
const MAX_IDLE: usize = 64;
/// What hyper reads ahead and keeps unwritten, at least: its own default, so that bodies pass as they would.
const MIN_BUFFER: usize = 8 * 1024 + 400 * 1024;

/// A client of HTTP/1 that reads heads of responses of at most `bytes`.
fn http1_builder(bytes: usize) -> http1::Builder {
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
    pool: Pool<RequestBody>,
    metrics: Arc<Metrics>,
}

impl Upstream {
    /// Nothing is dialled yet.
    ///
    /// # Errors
    /// There is no TLS with what `upstream.tls` names.
    pub(crate) fn new(config: Arc<config::Upstream>, metrics: Arc<Metrics>) -> Result<Arc<Self>, TlsError> {
        let dialer = Dialer::new(&config, Arc::clone(&metrics))?;
        let http = http1_builder(config.max_header_bytes);
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
