//! A connection of HTTP/1.1 while hyper serves requests on it: how long it may last, and what its end means.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, sleep_until, timeout};

use super::linger::{self, LINGER};
use super::upgrade;
use crate::admission::Refused;
use crate::net::head::{Character, HeadFault};
use crate::net::{Peer, Transport};
use crate::server::http::connection::HttpConnection;
use crate::server::request::errors;
use crate::server::state::State;

/// How the HTTP part of a connection ended.
pub(super) enum End {
    /// hyper has ended it: in order, or with an error that the client caused.
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

/// Runs `hyper` until it ends, its time runs out (first at `deadline`), it is `evicted`, or a drain `cut`s it.
pub(super) async fn drive(
    mut hyper: impl FnMut(&mut Context<'_>) -> Poll<hyper::Result<()>>,
    connection: &HttpConnection,
    mut evicted: Pin<&mut impl Future<Output = ()>>,
    mut cut: Pin<&mut impl Future<Output = ()>>,
    deadline: Instant,
) -> End {
    let mut alarm = std::pin::pin!(sleep_until(deadline));
    let mut survives_cut = false;
    std::future::poll_fn(|cx| {
        match hyper(cx) {
            Poll::Ready(Err(error)) if error.is_parse_version_h2() => {
                return Poll::Ready(End::Http2Preface);
            }
            Poll::Ready(result) => return Poll::Ready(End::Done(result.err())),
            Poll::Pending => {}
        }
        // Polled after hyper: a request that came meanwhile is served.
        if evicted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Evicted);
        }
        if !survives_cut && cut.as_mut().poll(cx).is_ready() {
            // The drain does not wait for an idle connection: it may go on.
            survives_cut = connection.timeouts().is_idle();
            if !survives_cut {
                return Poll::Ready(End::Cut);
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
                return Poll::Ready(End::TimedOut);
            }
        }
    })
    .await
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
