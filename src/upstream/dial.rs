//! Opens connections to an upstream: TCP by name or address, or a Unix socket; over TLS where it has it.
//!
//! # Invariants
//! 1. At most `max_dials` are in progress at once; who waits for a place spends its connect timeout.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

use crate::config::{self, Target};
use crate::net::tls::{Connector, HandshakeError, TlsError};
use crate::net::{Stream, upstream_socket};
use crate::telemetry::Metrics;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Not within `upstream.connect_timeout`.
    #[error("no connection to {target} within {after:?}")]
    Timeout {
        /// Where to.
        target: String,
        /// The setting.
        after: Duration,
    },
    /// Refused, unreachable, no such name.
    #[error("cannot connect to {target}: {source}")]
    Io {
        /// Where to.
        target: String,
        /// What the kernel or the resolver said.
        source: io::Error,
    },
    /// A connection, but no TLS over it: its certificate is not believed, or it speaks something else.
    #[error("no TLS with {target}: {source}")]
    Tls {
        /// Where to.
        target: String,
        /// What went wrong.
        source: HandshakeError,
    },
}

impl DialError {
    /// The same error once more: the pool hands out references only.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Timeout { target, after } => Self::Timeout { target: target.clone(), after: *after },
            Self::Io { target, source } => {
                Self::Io { target: target.clone(), source: io::Error::new(source.kind(), source.to_string()) }
            }
            Self::Tls { target, source } => Self::Tls { target: target.clone(), source: source.again() },
        }
    }
}

/// Opens connections to one upstream.
#[derive(Debug, Clone)]
pub struct Dialer {
    target: Target,
    tls: Option<Connector>,
    timeout: Duration,
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Dialer {
    pub(super) fn new(config: &config::Upstream, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let tls = config.tls.as_ref().map(|tls| Connector::to_upstream(tls, &config.target));
        Ok(Self {
            tls: tls.transpose()?,
            target: config.target.clone(),
            timeout: config.connect_timeout,
            places: Arc::new(Semaphore::new(config.max_dials)),
            metrics,
        })
    }

    pub(super) fn certificate_expiry(&self) -> Option<i64> {
        self.tls.as_ref()?.not_after()
    }

    /// A new connection.
    ///
    /// # Errors
    /// None could be had in time.
    pub async fn dial(&self) -> Result<Stream, DialError> {
        match tokio::time::timeout(self.timeout, self.connect()).await {
            Ok(result) => result,
            Err(_) => Err(DialError::Timeout { target: self.target.to_string(), after: self.timeout }),
        }
    }

    async fn connect(&self) -> Result<Stream, DialError> {
        let failed = |source| DialError::Io { target: self.target.to_string(), source };
        // The semaphore is never closed.
        let _place = self.places.acquire().await.map_err(|error| failed(io::Error::other(error)))?;
        let _shown = Shown::new(&self.metrics);
        let socket = self.open().await.map_err(failed)?;
        let Some(tls) = &self.tls else { return Ok(socket) };
        let host = match &self.target {
            Target::Tcp { host, .. } => host,
            Target::Unix(_) => "localhost",
        };
        match tls.connect(socket, host).await {
            Ok(tls) => Ok(Stream::Tls(tls)),
            Err(source) => Err(DialError::Tls { target: self.target.to_string(), source }),
        }
    }

    async fn open(&self) -> io::Result<Stream> {
        match &self.target {
            Target::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
            Target::Tcp { host, port } => match host.parse::<IpAddr>() {
                Ok(ip) => connect_tcp(SocketAddr::new(ip, *port)).await,
                Err(_) => connect_by_name(host, *port).await,
            },
        }
    }
}

async fn connect_tcp(address: SocketAddr) -> io::Result<Stream> {
    let stream: TcpStream = upstream_socket(address)?.connect(address).await?;
    Ok(Stream::Tcp(stream))
}

/// Tries each address of the name in the resolver's order; the last error is told.
async fn connect_by_name(host: &str, port: u16) -> io::Result<Stream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        match connect_tcp(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Shows a dial in the metrics for as long as it lasts, whatever ends it.
struct Shown<'a>(&'a Metrics);

impl<'a> Shown<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.dials.inc();
        Self(metrics)
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.dials.dec();
    }
}
