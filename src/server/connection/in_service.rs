//! The request that hyper serves on a connection of HTTP/1.1, kept where the connection's driver can take it from hyper.
//!
//! * A request that waits ([`HttpConnection::wait`]) needs nothing of hyper, whose buffers take more memory than all the
//!   rest of the connection; and hyper does not look whether the client is still there while it holds bytes of another
//!   request. So the driver waits by itself ([`super::waiting`]).
//! * An answer whose body somebody else writes into the socket (`server::http::body::stream_answer`): hyper gives a socket
//!   back in the middle of a connection only after a 101.
//!
//! # Invariants
//! 1. Nothing is taken before hyper has flushed all earlier answers: what hyper holds unsent would be lost with it.
//! 2. Bytes that hyper has read and not used are those behind the request: they go on to who comes after it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, Request, Response, Version, header};
use hyper::body::Body;
use parking_lot::Mutex;

use crate::net::head::spelling;
use crate::net::http::tokens;
use crate::net::{ClientBody, Peer};
use crate::server::http::body::AnswerBody;
use crate::server::http::connection::HttpConnection;
use crate::server::state::State;

/// Answers one request.
pub(super) type Serving = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Infallible>> + Send>>;

/// Makes a future that answers a request.
pub(super) trait Serve:
    Fn(Arc<State>, Arc<HttpConnection>, Arc<Peer>, Request<ClientBody>) -> Serving + Clone + Send + Sync + 'static
{
}

impl<S> Serve for S where
    S: Fn(Arc<State>, Arc<HttpConnection>, Arc<Peer>, Request<ClientBody>) -> Serving
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// The request in service.
#[derive(Default)]
pub(super) struct InService(Mutex<Stage>);

#[derive(Default)]
enum Stage {
    #[default]
    Nothing,
    /// It is being answered. `again`: what hyper can be given in its place; `None`: it has to stay where it is.
    Serving { serving: Serving, again: Option<&'static [u8]> },
    /// It was answered while hyper was away.
    Answered(Box<Response<AnswerBody>>),
    /// Its socket is to be handed over.
    Stream,
}

/// What was taken from hyper.
pub(super) enum Taken {
    /// The socket is to be handed over.
    Stream,
    Waiting(WaitingRequest),
}

/// A request that waits.
pub(super) struct WaitingRequest {
    pub(super) serving: Serving,
    /// The head of a request that ends in the same way: another hyper reads it, and is given the answer.
    pub(super) again: &'static [u8],
}

impl InService {
    /// Begins to serve a request, which `serve` makes a future of, and answers the future that hyper gets. If an answer
    /// is there already, it is the one to this request.
    pub(super) fn begin(
        self: &Arc<Self>,
        request: Request<ClientBody>,
        serve: impl FnOnce(Request<ClientBody>) -> Serving,
    ) -> ServingUnderHyper {
        let mut stage = self.0.lock();
        if !matches!(*stage, Stage::Answered(_)) {
            let again = again(&request);
            *stage = Stage::Serving { serving: serve(request), again };
        }
        ServingUnderHyper(Arc::clone(self))
    }

    /// The answer to the request that the next hyper reads first.
    pub(super) fn set_answer(&self, answer: Response<AnswerBody>) {
        *self.0.lock() = Stage::Answered(Box::new(answer));
    }

    /// Takes the request from hyper, which has just been polled, if that may be.
    pub(super) fn try_take(&self, connection: &HttpConnection) -> Option<Taken> {
        let mut stage = self.0.lock();
        match &*stage {
            Stage::Stream if !connection.timeouts().is_answering() => {
                *stage = Stage::Nothing;
                Some(Taken::Stream)
            }
            Stage::Serving { again: Some(_), .. } if connection.timeouts().is_only_waiting() => {
                match std::mem::take(&mut *stage) {
                    Stage::Serving { serving, again: Some(again) } => {
                        Some(Taken::Waiting(WaitingRequest { serving, again }))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Response<AnswerBody>, Infallible>> {
        let mut stage = self.0.lock();
        let Ok(mut answer) = match &mut *stage {
            Stage::Serving { serving, .. } => std::task::ready!(serving.as_mut().poll(cx)),
            Stage::Answered(_) => match std::mem::take(&mut *stage) {
                Stage::Answered(answer) => Ok(*answer),
                _ => return Poll::Pending,
            },
            Stage::Nothing | Stage::Stream => return Poll::Pending,
        };
        let is_stream = answer.body().is_stream();
        spelling::note(answer.extensions_mut());
        *stage = if is_stream { Stage::Stream } else { Stage::Nothing };
        // The answer of a stream is dropped: with it the request is no longer in flight. hyper waits on, until the driver
        // takes the socket.
        if is_stream { Poll::Pending } else { Poll::Ready(Ok(answer)) }
    }
}

/// The request in service, as hyper polls it.
pub(super) struct ServingUnderHyper(Arc<InService>);

impl Future for ServingUnderHyper {
    type Output = Result<Response<AnswerBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}

/// The head of a plain request of HTTP/1.1.
pub(super) const AGAIN: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// The head of a request to which hyper would write the same answer, and go on or end as after this one.
fn again<B: Body>(request: &Request<B>) -> Option<&'static [u8]> {
    if *request.method() != Method::GET || !request.body().is_end_stream() {
        return None;
    }
    let asks = |option: &str| {
        tokens(request.headers(), &header::CONNECTION).any(|token| token.eq_ignore_ascii_case(option))
    };
    let head: &[u8] = match request.version() {
        Version::HTTP_11 if asks("close") => b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        Version::HTTP_11 => AGAIN,
        Version::HTTP_10 if asks("keep-alive") && !asks("close") => {
            b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        }
        Version::HTTP_10 => b"GET / HTTP/1.0\r\n\r\n",
        _ => return None,
    };
    Some(head)
}

#[cfg(test)]
mod tests {
    use http_body_util::{Empty, Full};
    use hyper::body::Bytes;

    use super::*;

    #[test]
    fn a_request_is_read_again_as_one_that_ends_in_the_same_way() {
        let request = |version, connection: Option<&str>| {
            let mut request = Request::get("/poll?x").version(version).header("cookie", "a=b");
            if let Some(connection) = connection {
                request = request.header("connection", connection);
            }
            again(&request.body(Empty::<Bytes>::new()).unwrap()).map(|head| String::from_utf8_lossy(head))
        };
        for (version, connection, expected) in [
            (Version::HTTP_11, None, "GET / HTTP/1.1\r\n\r\n"),
            (Version::HTTP_11, Some("keep-alive"), "GET / HTTP/1.1\r\n\r\n"),
            (Version::HTTP_11, Some("x, Close"), "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"),
            (Version::HTTP_10, None, "GET / HTTP/1.0\r\n\r\n"),
            (Version::HTTP_10, Some("Keep-Alive"), "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
            (Version::HTTP_10, Some("keep-alive, close"), "GET / HTTP/1.0\r\n\r\n"),
        ] {
            assert_eq!(request(version, connection).as_deref(), Some(expected), "{version:?} {connection:?}");
        }
        let with_body = Request::get("/").body(Full::new(Bytes::from_static(b"x"))).unwrap();
        assert!(again(&with_body).is_none(), "hyper is still reading it");
        assert!(again(&Request::head("/").body(Empty::<Bytes>::new()).unwrap()).is_none());
        assert!(again(&Request::post("/").body(Empty::<Bytes>::new()).unwrap()).is_none());
    }
}
