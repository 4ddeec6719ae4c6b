//! A request that may be sent once more: what is needed for that stays here while it is under way.
//!
//! A server may close a connection that is kept at the very moment at which the next request leaves for it. Nobody can
//! tell then whether it was read. RFC 9110 §9.2.2 lets a proxy repeat a request with an idempotent method by itself, as
//! long as all of it is still here: none of its body was taken.
//!
//! # Invariants
//! 1. A body that was reclaimed yields an error to the exchange that had it before: no part of a request passes for a
//!    whole one.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use http::Request;
use http::request::Parts;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Stream;

/// A request's body as the library has it.
#[derive(Debug)]
pub(super) enum RetryBody<B> {
    /// It is sent once.
    Given(B),
    /// It can be reclaimed until something of it was taken.
    Shared(Slot<B>),
}

type Slot<B> = Arc<Mutex<Option<B>>>;

/// What a request is sent again with.
#[derive(Debug)]
pub(super) struct Retry<B> {
    head: Parts,
    body: Slot<B>,
}

/// The request as it is sent over a kept connection, and what to repeat it with if its method allows that.
pub(super) fn keep_for_retry<B>(request: Request<B>) -> (Request<RetryBody<B>>, Option<Retry<B>>) {
    if !request.method().is_idempotent() {
        return (request.map(RetryBody::Given), None);
    }
    let (head, body) = request.into_parts();
    let body = Arc::new(Mutex::new(Some(body)));
    let retry = Retry { head: head.clone(), body: Arc::clone(&body) };
    (Request::from_parts(head, RetryBody::Shared(body)), Some(retry))
}

/// A request that was not begun to be sent, as it was.
pub(super) fn unsent_request<B>(request: Request<RetryBody<B>>) -> Option<Request<B>> {
    let (head, body) = request.into_parts();
    let body = match body {
        RetryBody::Given(body) => body,
        RetryBody::Shared(slot) => slot.lock().take()?,
    };
    Some(Request::from_parts(head, body))
}

impl<B> Retry<B> {
    /// The request once more, unless something of its body was taken.
    pub(super) fn reclaim(self) -> Option<Request<B>> {
        let body = self.body.lock().take()?;
        Some(Request::from_parts(self.head, body))
    }
}

/// What the exchange gets whose body was reclaimed.
#[derive(Debug, thiserror::Error)]
#[error("the request is sent once more over another connection")]
struct Reclaimed;

impl<B> Body for RetryBody<B>
where
    B: Body + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = B::Data;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        let begun = match &mut *self {
            Self::Given(body) => return Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Shared(slot) => {
                let mut held = slot.lock();
                let Some(body) = held.as_mut() else { return Poll::Ready(Some(Err(Reclaimed.into()))) };
                let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
                held.take().map(|body| (body, frame))
            }
        };
        let Some((body, frame)) = begun else { return Poll::Ready(None) };
        *self = Self::Given(body);
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Given(body) => body.is_end_stream(),
            Self::Shared(slot) => slot.lock().as_ref().is_some_and(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Given(body) => body.size_hint(),
            Self::Shared(slot) => slot.lock().as_ref().map(Body::size_hint).unwrap_or_default(),
        }
    }
}

/// Whether anything was read since the last request.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadFlag(Arc<AtomicBool>);

impl ReadFlag {
    pub(super) fn clear(&self) {
        self.0.store(false, Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// A stream that notes when something is read.
#[derive(Debug)]
pub(super) struct WatchedStream {
    stream: Stream,
    has_read: ReadFlag,
}

impl WatchedStream {
    pub(super) fn new(stream: Stream, has_read: ReadFlag) -> Self {
        Self { stream, has_read }
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.has_read.0.store(true, Relaxed);
        }
        read
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
