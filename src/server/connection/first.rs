//! The first request of a connection, as long as it is a plain handshake: it is read, answered and its 101 is written without
//! hyper, whose buffers and channels would be made for one head each way, and take a tenth of what a handshake takes. Any
//! other request, and any other answer, is given to hyper, as if nothing had been read.
//!
//! # Invariants
//! 1. Whatever hyper gets, it gets from the first byte.
//! 2. A client is watched as hyper watches it: it is read until something has come behind the request, and then not until the
//!    101 was sent.
//!
//! # Not here
//! What a plain handshake is, and how a 101 is written ([`crate::net::head::plain`]).

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response};
use hyper::body::Body;
use tokio::io::AsyncWriteExt;

use super::in_service::{AGAIN, Serving, WaitingRequest};
use crate::net::ClientBody;
use crate::net::head::plain;
use crate::server::http::body::AnswerBody;
use crate::server::http::client_io::ClientIo;
use crate::server::http::connection::HttpConnection;

/// How much of what comes behind the request is read.
const READ: usize = 1024;

/// What came of the first request.
pub(super) enum First {
    /// hyper is to read it.
    OfHyper,
    /// hyper is to read it again, and to be given the answer.
    Answered(Box<Response<AnswerBody>>),
    /// It waits.
    Waits(WaitingRequest),
    /// Its socket is to be handed over, or its client has gone.
    Over,
}

/// Serves the first request of a connection on which nothing was read yet.
pub(super) async fn serve(
    io: &mut ClientIo,
    connection: &Arc<HttpConnection>,
    max_header_bytes: usize,
    serve: &impl Fn(Request<ClientBody>) -> Serving,
) -> First {
    let Ok(read) = poll_fn(|cx| io.poll_ahead(cx, plain::MAX_REQUEST)).await else { return First::Over };
    let Some(request) = plain::request(&read, max_header_bytes) else {
        io.unread(read);
        return First::OfHyper;
    };
    let mut serving = serve(request.map(|()| ClientBody::none()));
    let mut is_watched = true;
    let answered = poll_fn(|cx| {
        // Before its client is looked at: one that has ended its side at once is answered what can be answered at once.
        match serving.as_mut().poll(cx) {
            Poll::Ready(Ok(answer)) => return Poll::Ready(Some(Some(answer))),
            Poll::Pending if connection.timeouts().is_only_waiting() => return Poll::Ready(Some(None)),
            Poll::Pending => {}
        }
        if is_watched && let Poll::Ready(behind) = io.poll_ahead(cx, READ) {
            let Ok(behind) = behind else { return Poll::Ready(None) };
            io.unread(behind);
            is_watched = false;
        }
        Poll::Pending
    });
    let answer = match answered.await {
        Some(Some(answer)) => answer,
        Some(None) => return First::Waits(WaitingRequest { serving, again: AGAIN }),
        None => return First::Over,
    };
    drop(serving);
    if answer.body().is_stream() {
        return First::Over;
    }
    let Some(head) = plain::answer(&answer).filter(|_| answer.body().is_end_stream()) else {
        io.unread(read);
        return First::Answered(Box::new(answer));
    };
    // Before it is written, as hyper does it: with it the request is no longer in flight.
    drop(answer);
    // Whether it arrived is found out by who takes the socket.
    if io.write_all(&head).await.is_ok() {
        let _ = io.flush().await;
    }
    First::Over
}
