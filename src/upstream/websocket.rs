//! The WebSocket handshake with an upstream.
//!
//! # Invariants
//! 1. Nothing but the request's head is sent before the upstream's 101 was verified: early frames of a
//!    client wait until [`Upgraded`] exists.
//! 2. After it nothing of HTTP is left but the socket and the bytes that came with the 101.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};

use super::headers;
use super::verify::Offer;
use super::{Upstream, UpstreamError};
use crate::frame::Extensions;
use crate::net::http::set_upgrade;
use crate::net::{Stream, Transport, head};

/// The upstream has agreed to a handshake.
#[derive(Debug)]
pub(crate) struct Upgraded {
    /// Its 101, as the client is to get it.
    pub response: Response<()>,
    /// The socket.
    pub transport: Transport,
    /// What was agreed upon.
    pub extensions: Extensions,
}

/// The upstream answered with something else than a 101, which is passed on.
pub(crate) type Declined = Response<Incoming>;

/// What an upstream answers to a handshake.
#[derive(Debug)]
pub(crate) enum Upgrade {
    /// The socket is a WebSocket now.
    Accepted(Upgraded),
    /// It is not.
    Declined(Declined),
}

impl Upgrade {
    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Accepted(_) => StatusCode::SWITCHING_PROTOCOLS,
            Self::Declined(response) => response.status(),
        }
    }
}

impl Upstream {
    /// Asks the upstream for a WebSocket. `request` is what it is sent, `offer` what the client wants.
    ///
    /// # Errors
    /// There was no answer, or not a valid one.
    pub(crate) async fn upgrade(
        &self,
        request: Request<Empty<Bytes>>,
        offer: &Offer,
    ) -> Result<Upgrade, UpstreamError> {
        let since = Instant::now();
        let result = self.try_upgrade(request, offer).await;
        if result.is_ok() {
            self.metrics.upstream.handshake.observe(since.elapsed().as_secs_f64());
        }
        self.count(result)
    }

    async fn try_upgrade(
        &self,
        request: Request<Empty<Bytes>>,
        offer: &Offer,
    ) -> Result<Upgrade, UpstreamError> {
        let stream = self.dialer.dial().await?;
        let after = self.config.handshake_timeout;
        let exchange = timeout(after, exchange(&self.http, stream, request));
        let (mut response, connection) = exchange
            .await
            .map_err(|_| UpstreamError::Timeout(after))?
            .map_err(|error| self.broken(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (status, version) = (response.status(), response.version());
            // The connection is for this one answer: nobody reads what may be left on it.
            head::check_answer(status, version, response.headers_mut())?;
            // It has to be driven while its body is passed on; it ends with it, or with its reader.
            tokio::spawn(connection);
            return Ok(Upgrade::Declined(response));
        }
        let extensions = offer.verify(&response)?;
        let parts = connection.without_shutdown().await.map_err(|error| self.broken(&error))?;
        let (mut head, _) = response.into_parts();
        headers::for_client(head.status, &mut head.headers);
        set_upgrade(&mut head.headers);
        let transport = Transport { stream: parts.io.into_inner(), read_ahead: parts.read_buf };
        Ok(Upgrade::Accepted(Upgraded { response: Response::from_parts(head, ()), transport, extensions }))
    }
}

type Connection = http1::Connection<TokioIo<Stream>, Empty<Bytes>>;

/// One request and the head of its answer, the connection driven in this very task: a handshake is no
/// reason to spawn one.
async fn exchange(
    http: &http1::Builder,
    stream: Stream,
    request: Request<Empty<Bytes>>,
) -> hyper::Result<(Response<Incoming>, Connection)> {
    let (mut sender, mut connection) = http.handshake(TokioIo::new(stream)).await?;
    let mut response = pin!(sender.send_request(request));
    let response = poll_fn(|cx| {
        if let Poll::Ready(response) = response.as_mut().poll(cx) {
            return Poll::Ready(response);
        }
        match connection.poll_without_shutdown(cx) {
            // There may be a response all the same, with more behind it than it announced.
            Poll::Ready(Err(error)) => match response.as_mut().poll(cx) {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                _ => Poll::Ready(Err(error)),
            },
            // The connection is done, with or without a response: the sender knows.
            Poll::Ready(Ok(())) => response.as_mut().poll(cx),
            Poll::Pending => response.as_mut().poll(cx),
        }
    })
    .await?;
    Ok((response, connection))
}
