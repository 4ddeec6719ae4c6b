//! A client's request body on its way to an upstream.

use std::any::Any;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use crate::net::ClientBody;

/// A client's request body on its way: bounded in length and in the time that it is waited for, with its progress shown.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: ClientBody,
    left: Option<u64>,
    body_timeout: BodyTimeout,
    progress: Arc<watch::Sender<Progress>>,
    /// Dropped when the body has ended, or with it.
    taken: Option<Box<dyn Any + Send>>,
    /// Whether its end has to be seen. hyper ends the body of an HTTP/2 stream that was reset with `NO_ERROR` or `CANCEL` as
    /// one that is whole.
    is_of_http2: bool,
}

/// How far a request's body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It was not polled yet: there is no connection.
    Unasked,
    /// The client is waited for.
    Awaited,
    /// A part of it was taken, and no more was polled: the server is waited for.
    Taken,
    /// All of it was taken.
    Sent,
}

/// The body is longer than allowed.
#[derive(Debug, thiserror::Error)]
#[error("the request body is too long")]
pub(super) struct TooLong;

/// Nothing more of the body came.
#[derive(Debug, thiserror::Error)]
#[error("the rest of the request body did not come for {0:?}")]
pub(super) struct Stalled(pub(super) Duration);

/// The body ended before it was whole, or broke the framing.
#[derive(Debug, thiserror::Error)]
#[error("the request body did not come whole")]
pub(super) struct BrokenOff(#[source] Option<hyper::Error>);

/// Bounds how long a client may send nothing of a body while it is waited for. Time in which the upstream takes
/// nothing does not count, since the client is not waited for then.
#[derive(Debug)]
struct BodyTimeout {
    limit: Option<Duration>,
    /// Made at the first wait: most bodies come at once.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl BodyTimeout {
    fn new(limit: Option<Duration>) -> Self {
        Self { limit, timer: None, is_waiting: false }
    }

    /// Data came, or the end.
    fn end(&mut self) {
        self.is_waiting = false;
    }

    /// Ready when it has lasted too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Stalled> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !std::mem::replace(&mut self.is_waiting, true) {
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx).map(|()| Stalled(limit))
    }
}

impl RequestBody {
    /// Of at most `limit` bytes, with `stall_timeout` for each part of it. `taken` is dropped at its end, or with it.
    pub(super) fn new(
        body: ClientBody,
        limit: Option<u64>,
        stall_timeout: Option<Duration>,
        progress: Arc<watch::Sender<Progress>>,
        taken: Option<Box<dyn Any + Send>>,
        is_of_http2: bool,
    ) -> Self {
        let body_timeout = BodyTimeout::new(stall_timeout);
        Self { body, left: limit, body_timeout, progress, taken, is_of_http2 }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            this.progress.send_if_modified(|progress| {
                std::mem::replace(progress, Progress::Awaited) != Progress::Awaited
            });
            return this.body_timeout.poll(cx).map(|stalled| Some(Err(stalled.into())));
        };
        this.body_timeout.end();
        match frame {
            None if this.is_of_http2 && !this.body.is_end_stream() => {
                Poll::Ready(Some(Err(BrokenOff(None).into())))
            }
            None => {
                this.progress.send_replace(Progress::Sent);
                this.taken = None;
                Poll::Ready(None)
            }
            Some(Err(error)) => Poll::Ready(Some(Err(BrokenOff(Some(error)).into()))),
            Some(Ok(frame)) => {
                let len = frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(left) = &mut this.left {
                    match left.checked_sub(len) {
                        Some(rest) => *left = rest,
                        None => return Poll::Ready(Some(Err(TooLong.into()))),
                    }
                }
                let is_all = this.body.is_end_stream();
                this.progress.send_replace(if is_all { Progress::Sent } else { Progress::Taken });
                if is_all {
                    this.taken = None;
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
