//! Opens connections to an upstream: TCP by name or address, or a Unix socket; over TLS where it has it.
//!
//! # Invariants
//! 1. At most `max_dials` are in progress at once; a dial that waits for a permit spends its connect timeout. If it gets
//!    none in that time, that says nothing about the server: [`DialError::TooManyDials`].
//!
//! # Not here
//! Which of a name's addresses is tried when ([`crate::net::TcpConnector`]).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::config::{self, Target};
use crate::net::tls::{Connector, HandshakeError, TlsError};
use crate::net::{Stream, TcpConnector, connect_unix};
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
    /// As many dials as may be were in progress for the whole of `upstream.connect_timeout`.
    #[error(
        "no place among the connects to {target} within {after:?}: {limit} were in progress (upstream.max_dials)"
    )]
    TooManyDials {
        /// Where to.
        target: String,
        /// The setting.
        after: Duration,
        /// `upstream.max_dials`
        limit: usize,
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

/// Opens connections to one upstream.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    target: Target,
    connect: Connect,
    tls: Option<Connector>,
    timeout: Duration,
    max_dials: usize,
    slots: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// How its socket is opened.
#[derive(Debug, Clone)]
enum Connect {
    Tcp(TcpConnector),
    Unix(PathBuf),
}

impl Dialer {
    pub(super) fn new(config: &config::Upstream, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let tls = config.tls.as_ref().map(|tls| Connector::to_upstream(tls, &config.target));
        let connect = match &config.target {
            Target::Tcp { host, port } => Connect::Tcp(TcpConnector::new(host, *port)),
            Target::Unix(path) => Connect::Unix(path.clone()),
        };
        Ok(Self {
            tls: tls.transpose()?,
            connect,
            target: config.target.clone(),
            timeout: config.connect_timeout,
            max_dials: config.max_dials,
            slots: Arc::new(Semaphore::new(config.max_dials)),
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
    pub(crate) async fn dial(&self) -> Result<Stream, DialError> {
        let deadline = Instant::now() + self.timeout;
        let Ok(permit) = timeout_at(deadline, self.slots.acquire()).await else {
            return Err(DialError::TooManyDials {
                target: self.target.to_string(),
                after: self.timeout,
                limit: self.max_dials,
            });
        };
        // The semaphore is never closed.
        let _permit = permit.map_err(|error| DialError::Io {
            target: self.target.to_string(),
            source: io::Error::other(error),
        })?;
        match timeout_at(deadline, self.connect(deadline)).await {
            Ok(result) => result,
            Err(_) => Err(DialError::Timeout { target: self.target.to_string(), after: self.timeout }),
        }
    }

    async fn connect(&self, deadline: Instant) -> Result<Stream, DialError> {
        let _gauge = DialGauge::new(&self.metrics);
        let socket = self.open(deadline).await;
        let socket = socket.map_err(|source| DialError::Io { target: self.target.to_string(), source })?;
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

    async fn open(&self, deadline: Instant) -> io::Result<Stream> {
        match &self.connect {
            Connect::Unix(path) => connect_unix(path).map(Stream::Unix),
            Connect::Tcp(tcp) => tcp.connect(deadline).await.map(Stream::Tcp),
        }
    }
}

/// Counts a dial in the gauge for as long as it lasts, whatever ends it.
struct DialGauge<'a>(&'a Metrics);

impl<'a> DialGauge<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.upstream.dials.inc();
        Self(metrics)
    }
}

impl Drop for DialGauge<'_> {
    fn drop(&mut self) {
        self.0.upstream.dials.dec();
    }
}

#[cfg(test)]
mod tests;
