//! A request of HTTP/1.1 that waits, without hyper: it is polled, and its client is watched.
//!
//! # Invariants
//! 1. A client that goes away is noticed at once, also one that has sent more behind its request.
//! 2. What it sends meanwhile is kept for the next hyper, [`MAX_BEHIND`] bytes of it. A client that sends more is let go:
//!    if it were not read on, nobody would notice that it went away, and its request may hold a place that others wait for.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::Response;
use tokio::io::{AsyncRead, ReadBuf};

use super::in_service::{Serving, WaitingRequest};
use crate::net::Transport;
use crate::server::http::body::AnswerBody;

/// How much a client may send behind a request that waits: several more requests.
const MAX_BEHIND: usize = 4096;

/// How much is read at once.
const READ: usize = 1024;

/// A request that waits, and the socket of its client.
pub(super) struct Waiting {
    serving: Serving,
    again: &'static [u8],
    client: Transport,
}

/// What came of it.
pub(super) enum Waited {
    /// It was answered: hyper is to read its head again, and to be given the answer.
    Answered(Response<AnswerBody>),
    /// The socket is to be handed over.
    Stream,
    /// Its client has gone.
    Gone,
}

impl Waiting {
    pub(super) fn new(request: WaitingRequest, client: Transport) -> Self {
        let WaitingRequest { serving, again } = request;
        let Transport { stream, read_ahead } = client;
        // hyper's buffer is a thousand times larger than what is left in it.
        let read_ahead = Bytes::copy_from_slice(&read_ahead);
        Self { serving, again, client: Transport { stream, read_ahead } }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Waited> {
        if let Poll::Ready(Ok(answer)) = self.serving.as_mut().poll(cx) {
            let is_stream = answer.body().is_stream();
            return Poll::Ready(if is_stream { Waited::Stream } else { Waited::Answered(answer) });
        }
        while self.client.read_ahead.len() <= MAX_BEHIND {
            let mut room = [std::mem::MaybeUninit::uninit(); READ];
            let mut read = ReadBuf::uninit(&mut room);
            match std::task::ready!(Pin::new(&mut self.client.stream).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => {}
                _ => return Poll::Ready(Waited::Gone),
            }
            let mut behind = BytesMut::from(std::mem::take(&mut self.client.read_ahead));
            behind.extend_from_slice(read.filled());
            self.client.read_ahead = behind.freeze();
        }
        Poll::Ready(Waited::Gone)
    }

    /// The client, as it is to be handed over.
    pub(super) fn into_client(self) -> Transport {
        self.client
    }

    /// The client, as the next hyper is to read it: the request that was answered comes first.
    pub(super) fn into_client_again(self) -> Transport {
        let Transport { stream, read_ahead } = self.client;
        Transport { stream, read_ahead: [self.again, &read_ahead].concat().into() }
    }
}
