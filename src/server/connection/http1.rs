//! A connection of HTTP/1.1: requests are served on it, by hyper, before it ([`super::first`]) or while they wait without it
//! ([`super::in_service`]);
//! how long it may last, and what its end means.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep_until, timeout};

use super::first::{self, First};
use super::in_service::{InService, Serving, Taken, WaitingRequest};
use super::linger::{self, LINGER};
use super::upgrade;
use super::waiting::{Waited, Waiting};
use crate::admission::Refused;
use crate::net::head::spelling::Standard;
use crate::net::head::{Character, HeadFault, MAX_HEADERS};
use crate::net::{ClientBody, Peer, Transport};
use crate::server::http::client_io::ClientIo;
use crate::server::http::connection::HttpConnection;
use crate::server::request::errors;
use crate::server::state::State;

/// hyper takes no smaller buffer.
const MIN_BUFFER: usize = 8192;

/// How the HTTP part of a connection ended.
pub(super) enum End {
    /// hyper has ended it, in order or with an error that the client caused; or its socket is to be handed over.
    Done(Option<hyper::Error>),
    /// The client has sent the preface of HTTP/2, which hyper does not answer.
    Http2Preface,
    /// Time ran out.
    TimedOut,
    /// It was idle, and was evicted for other idle connections.
    Evicted,
    /// A drain has cut it.
    Cut,
}

/// Drives one connection of HTTP/1.1 for as long as it is one.
pub(super) struct Driver<'a, E, C> {
    pub(super) connection: &'a Arc<HttpConnection>,
    /// Completes when the connection is evicted.
    pub(super) evicted: Pin<&'a mut E>,
    /// Completes when a drain cuts it.
    pub(super) cut: Cut<'a, C>,
    /// When its first head has to have come.
    pub(super) deadline: Instant,
    pub(super) max_header_bytes: usize,
}

/// A cut that may come, and that an idle connection survives.
pub(super) struct Cut<'a, C> {
    cut: Pin<&'a mut C>,
    is_survived: bool,
}

impl<'a, C> Cut<'a, C> {
    pub(super) fn new(cut: Pin<&'a mut C>) -> Self {
        Self { cut, is_survived: false }
    }
}

/// What hyper's part of a connection came to.
enum UnderHyper {
    Over(End),
    Waits(WaitingRequest),
}

impl<E: Future<Output = ()>, C: Future<Output = ()>> Driver<'_, E, C> {
    /// Serves requests with `serve`, until the connection is over for this driver. Answers how it ended, its socket, and
    /// the character that the last target must not have had.
    pub(super) async fn serve(
        &mut self,
        mut client: Transport,
        serve: impl Fn(Request<ClientBody>) -> Serving,
    ) -> (End, Transport, Option<Character>) {
        let (first, io) = self.serve_first(client, &serve).await;
        client = io;
        let in_service = Arc::new(InService::default());
        let mut waits = match first {
            Ok(First::Over) => return (End::Done(None), client, None),
            Err(end) => return (end, client, None),
            Ok(First::OfHyper) => None,
            Ok(First::Answered(answer)) => {
                in_service.set_answer(*answer);
                None
            }
            Ok(First::Waits(request)) => Some(request),
        };
        loop {
            let request = match waits.take() {
                Some(request) => request,
                None => {
                    // On the heap, so that nothing of it is left while a request waits.
                    let under_hyper = Box::pin(self.serve_under_hyper(client, &in_service, &serve));
                    let (result, character);
                    (result, client, character) = under_hyper.await;
                    match result {
                        UnderHyper::Over(end) => return (end, client, character),
                        UnderHyper::Waits(request) => request,
                    }
                }
            };
            let mut waiting = Waiting::new(request, client);
            match self.drive(|cx| waiting.poll(cx)).await {
                Ok(Waited::Answered(answer)) => {
                    in_service.set_answer(answer);
                    client = waiting.into_client_again();
                }
                Ok(Waited::Stream | Waited::Gone) => return (End::Done(None), waiting.into_client(), None),
                Err(end) => return (end, waiting.into_client(), None),
            }
        }
    }

    /// Serves the first request as far as hyper is not needed for it.
    async fn serve_first(
        &mut self,
        client: Transport,
        serve: &impl Fn(Request<ClientBody>) -> Serving,
    ) -> (Result<First, End>, Transport) {
        let connection = self.connection;
        let mut io = ClientIo::new(client, Arc::clone(connection));
        let first = {
            let mut serving = Box::pin(first::serve(&mut io, connection, self.max_header_bytes, serve));
            self.drive(|cx| serving.as_mut().poll(cx)).await
        };
        (first, io.into_parts(Bytes::new()).0)
    }

    async fn serve_under_hyper(
        &mut self,
        client: Transport,
        in_service: &Arc<InService>,
        serve: &impl Fn(Request<ClientBody>) -> Serving,
    ) -> (UnderHyper, Transport, Option<Character>) {
        let io = TokioIo::new(ClientIo::new(client, Arc::clone(self.connection)));
        let service = service_fn(|mut request: Request<Incoming>| {
            if self.connection.take_standard() {
                request.extensions_mut().insert(Standard::NOTED);
            }
            in_service.begin(request.map(ClientBody::from), serve)
        });
        let mut hyper = http1::Builder::new()
            .preserve_header_case(true)
            .title_case_headers(true)
            .max_header_size(self.max_header_bytes)
            .max_headers(MAX_HEADERS)
            .max_buf_size(self.max_header_bytes.max(MIN_BUFFER))
            // `HttpTimeouts` has the timeout of a head, which does not run while the connection is idle.
            .header_read_timeout(None)
            .serve_connection(io, service);
        let connection = self.connection;
        let poll = |cx: &mut Context<'_>| match hyper.poll_without_shutdown(cx) {
            Poll::Ready(Err(error)) if error.is_parse_version_h2() => {
                Poll::Ready(UnderHyper::Over(End::Http2Preface))
            }
            Poll::Ready(result) => Poll::Ready(UnderHyper::Over(End::Done(result.err()))),
            Poll::Pending => match in_service.try_take(connection) {
                Some(Taken::Stream) => Poll::Ready(UnderHyper::Over(End::Done(None))),
                Some(Taken::Waiting(request)) => Poll::Ready(UnderHyper::Waits(request)),
                None => Poll::Pending,
            },
        };
        let result = self.drive(poll).await.unwrap_or_else(UnderHyper::Over);
        let parts = hyper.into_parts();
        let (client, character) = parts.io.into_inner().into_parts(parts.read_buf);
        (result, client, character)
    }

    /// Polls `step` until it is over, unless the connection's time runs out, it is evicted, or a drain cuts it: that is an
    /// error.
    async fn drive<T>(&mut self, mut step: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Result<T, End> {
        let connection = self.connection;
        let mut alarm = std::pin::pin!(sleep_until(self.deadline));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = step(cx) {
                return Poll::Ready(Ok(result));
            }
            // Polled after it: a request that came meanwhile is served.
            if self.evicted.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(End::Evicted));
            }
            let Cut { cut, is_survived } = &mut self.cut;
            if !*is_survived && cut.as_mut().poll(cx).is_ready() {
                // The drain does not wait for an idle connection: it may go on.
                *is_survived = connection.timeouts().is_idle();
                if !*is_survived {
                    return Poll::Ready(Err(End::Cut));
                }
            }
            loop {
                // Not a `while let`: its lock would be held through the loop.
                let Some(deadline) = connection.timeouts().deadline() else { return Poll::Pending };
                if alarm.deadline() != deadline {
                    alarm.as_mut().reset(deadline);
                }
                ready!(alarm.as_mut().poll(cx));
                if connection.timeouts().deadline() == Some(deadline) {
                    return Poll::Ready(Err(End::TimedOut));
                }
            }
        })
        .await
    }
}

/// The connection preface of HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether what hyper could not read as a request may be the beginning of [`PREFACE`]: hyper gives up as soon as it has
/// read the version, and its answer was suppressed.
pub(super) fn is_preface(read: &[u8]) -> bool {
    let n = read.len().min(PREFACE.len());
    n >= b"PRI * HTTP/".len() && read[..n] == PREFACE[..n]
}

/// Does with the client's socket what `end` asks for. `character` is the one that the last target must not have had.
pub(super) async fn finish(
    state: &State,
    peer: &Peer,
    end: End,
    (client, character): (Transport, Option<Character>),
    connection: &HttpConnection,
    evicted: Pin<&mut impl Future<Output = ()>>,
) {
    let Transport { mut stream, read_ahead } = client;
    match end {
        End::Http2Preface => linger::refuse_and_log(state, peer, stream, &HeadFault::Http2.into()).await,
        End::Done(error) => {
            if let Some(pending) = connection.take_upgrade() {
                upgrade::start(state, Transport { stream, read_ahead }, pending).await;
            } else if let Some(status) = connection.hyper_status() {
                let refused = errors::explain(status, error.as_ref(), character);
                linger::refuse_and_log(state, peer, stream, &refused).await;
            } else {
                // The connection is idle until its client ends it, and may be evicted like any other.
                tokio::select! {
                    _ = timeout(LINGER, linger::linger(stream)) => {}
                    () = evicted => {}
                }
            }
        }
        End::Evicted => stream.send_close_notify(),
        // An orderly close could be taken for the end of the answer.
        End::Cut => stream.reset_on_drop(),
        End::TimedOut => {
            if connection.timeouts().is_in_head() {
                linger::refuse_and_log(state, peer, stream, &Refused::TooSlow).await;
            } else if connection.timeouts().is_answering() {
                // The client does not read: unsent bytes must not wait for it in the kernel either.
                stream.reset_on_drop();
            } else {
                stream.send_close_notify();
            }
        }
    }
}
