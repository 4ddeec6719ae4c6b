//! The WebSocket handshake with an upstream.
//!
//! # Invariants
//! 1. Nothing but the request's head is sent before the upstream's 101 was verified: early frames of a
//!    client wait until [`Upgraded`] exists.
//! 2. After it nothing of HTTP is left but the socket and the bytes that came with the 101.
//!
//! # Why two roads?
//! Most handshakes are one head sent and one plain 101 read, for which hyper's client would build a connection with
//! channels and buffers: a tenth of what a handshake costs in all. Everything else is its business still: a head with names in
//! a spelling that it alone knows ([`request`]), and an answer that is not plain ([`answer`]), which it reads from the first
//! byte ([`replay`]). So what is an error, and what is passed on, does not depend on the road.

mod answer;
mod replay;
mod request;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use self::answer::{MAX_HEAD, Parsed};
use self::replay::Replay;
use super::headers;
use super::verify::Offer;
use super::{Upstream, UpstreamError};
use crate::frame::Extensions;
use crate::net::head::{self, spelling};
use crate::net::http::set_upgrade;
use crate::net::{Broken, Stream, Transport, describe_io};

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
        let exchange = timeout(after, self.exchange(stream, request));
        let (mut response, connection) = match exchange.await.map_err(|_| UpstreamError::Timeout(after))?? {
            Answer::Switching(response, transport) => {
                let extensions = offer.verify(&response)?;
                return Ok(Upgrade::Accepted(Upgraded {
                    response: for_client(response),
                    transport,
                    extensions,
                }));
            }
            Answer::OfHyper(response, connection) => (response, connection),
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (status, version) = (response.status(), response.version());
            // The connection is for this one answer: what may be left on it is not read.
            head::check_answer(status, version, response.headers_mut())?;
            // It has to be driven while its body is passed on; it ends with it, or with its reader.
            tokio::spawn(*connection);
            return Ok(Upgrade::Declined(response));
        }
        let extensions = offer.verify(&response)?;
        let parts = connection.without_shutdown().await.map_err(|error| self.broken(&error))?;
        let transport = parts.io.into_inner().into_transport(parts.read_buf);
        let response = for_client(response.map(drop));
        Ok(Upgrade::Accepted(Upgraded { response, transport, extensions }))
    }

    /// The request and the head of its answer.
    async fn exchange(
        &self,
        mut stream: Stream,
        request: Request<Empty<Bytes>>,
    ) -> Result<Answer, UpstreamError> {
        let replay = match request::head(&request) {
            Some(head) => {
                let failed = |error| UpstreamError::Broken(Broken::Io(describe_io(&error)).into());
                send(&mut stream, &head).await.map_err(failed)?;
                let read = read_answer(&mut stream, self.config.max_header_bytes).await.map_err(failed)?;
                match read {
                    Read::Switching(response, read_ahead) => {
                        return Ok(Answer::Switching(response, Transport { stream, read_ahead }));
                    }
                    Read::Unusual(read) => Replay::sent(stream, read),
                }
            }
            None => Replay::unsent(stream),
        };
        // On the heap, so that the plain road has no room for it.
        let exchange = Box::pin(exchange_by_hyper(&self.http, replay, request));
        let (response, connection) = exchange.await.map_err(|error| self.broken(&error))?;
        Ok(Answer::OfHyper(response, Box::new(connection)))
    }
}

/// The head of an answer that has come.
enum Answer {
    /// A plain 101.
    Switching(Response<()>, Transport),
    /// Any, as hyper has read it.
    OfHyper(Response<Incoming>, Box<Connection>),
}

/// A 101 as the client is to get it.
fn for_client(response: Response<()>) -> Response<()> {
    let (mut head, ()) = response.into_parts();
    headers::for_client(head.status, &mut head.headers);
    set_upgrade(&mut head.headers);
    Response::from_parts(head, ())
}

/// Sends the head of a request. A socket that has just been connected takes it at once, whether it was heard to be ready or not.
async fn send(stream: &mut Stream, head: &[u8]) -> io::Result<()> {
    let sent = match stream.write_now(head) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        sent => sent?,
    };
    stream.write_all(&head[sent..]).await?;
    stream.flush().await
}

/// What was read of an answer.
enum Read {
    /// A plain 101, and what came behind it.
    Switching(Response<()>, Bytes),
    /// Something that hyper is to read again.
    Unusual(Bytes),
}

async fn read_answer(stream: &mut Stream, max_head: usize) -> io::Result<Read> {
    let mut read = Bytes::new();
    loop {
        let left = MAX_HEAD.saturating_sub(read.len());
        let more = poll_fn(|cx| stream.poll_read_bytes(cx, left)).await?;
        if more.is_empty() {
            return Ok(Read::Unusual(read));
        }
        read = if read.is_empty() { more } else { [read, more].concat().into() };
        match answer::parse(&read, max_head) {
            Parsed::Partial => {}
            Parsed::Unusual => return Ok(Read::Unusual(read)),
            Parsed::Switching(response, length) => {
                // Empty, it would keep the buffer.
                let read_ahead = if read.len() == length { Bytes::new() } else { read.slice(length..) };
                return Ok(Read::Switching(response, read_ahead));
            }
        }
    }
}

type Connection = http1::Connection<TokioIo<Replay>, Empty<Bytes>>;

/// One request and the head of its answer, the connection driven in this very task: a handshake is no
/// reason to spawn one.
async fn exchange_by_hyper(
    http: &http1::Builder,
    stream: Replay,
    mut request: Request<Empty<Bytes>>,
) -> hyper::Result<(Response<Incoming>, Connection)> {
    spelling::note(request.extensions_mut());
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

#[cfg(test)]
mod tests;
