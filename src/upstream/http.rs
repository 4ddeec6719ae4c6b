//! Plain HTTP to an upstream, over pooled connections, streaming both ways.
//!
//! # Invariants
//! 1. Somebody is always waited for with a clock: a client that owes more of its body (`delivery.stall_timeout`), a
//!    server that takes nothing of it (`upstream.stall_timeout`), one that has had all of it (`http.response_timeout`).

use std::any::Any;
use std::error::Error;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::{DialError, Upstream, UpstreamError};
use crate::config;
use crate::net::head;
use crate::net::pool::SendError;

/// A client's request body on its way: counted, waited for only so long, and its end is told.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Incoming,
    left: Option<u64>,
    body_timeout: BodyTimeout,
    progress: Arc<watch::Sender<Progress>>,
    /// Who wants to know until when it is taken: dropped at its end, or with it.
    taken: Option<Box<dyn Any + Send>>,
}

/// How far a request's body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nobody has asked for it: there is no connection yet.
    Unasked,
    /// The client is waited for.
    Awaited,
    /// A part of it was taken, and nobody has asked for more: the server is waited for.
    Taken,
    /// All of it was taken.
    Sent,
}

/// The body is longer than allowed.
#[derive(Debug, thiserror::Error)]
#[error("the request body is too long")]
struct TooLong;

/// Nothing more of the body came.
#[derive(Debug, thiserror::Error)]
#[error("the rest of the request body did not come for {0:?}")]
struct Stalled(Duration);

/// What came of the body is none.
#[derive(Debug, thiserror::Error)]
#[error("the request body did not come whole")]
struct BrokenOff(#[source] hyper::Error);

/// How long a client has said nothing of a body while it was waited for. Time in which the upstream takes
/// nothing does not count: nobody waits for the client then.
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

    /// Something came, or its end did.
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
            None => {
                this.progress.send_replace(Progress::Sent);
                this.taken = None;
                Poll::Ready(None)
            }
            Some(Err(error)) => Poll::Ready(Some(Err(BrokenOff(error).into()))),
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

impl Upstream {
    /// Passes a plain request on; its headers are already what the upstream is to see, and `uri` is in
    /// origin form. `taken` is dropped when nothing more of the body is taken, which may be after the answer.
    ///
    /// # Errors
    /// There was no answer, the body was longer than `http.max_body`, or its rest did not come or was none.
    pub(crate) async fn request(
        &self,
        request: Request<Incoming>,
        taken: Option<impl Any + Send>,
        policy: &config::Policy,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let taken = taken.map(|taken| Box::new(taken) as Box<dyn Any + Send>);
        let result = self.try_request(request, taken, policy).await;
        self.count(result)
    }

    async fn try_request(
        &self,
        request: Request<Incoming>,
        taken: Option<Box<dyn Any + Send>>,
        config::Policy { http: policy, delivery, .. }: &config::Policy,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let too_large = |limit| UpstreamError::BodyTooLarge(limit);
        let announced = request.body().size_hint().lower();
        if let Some(limit) = policy.max_body.filter(|limit| announced > *limit) {
            return Err(too_large(limit));
        }
        let is_sent = request.body().is_end_stream();
        let begin = if is_sent { Progress::Sent } else { Progress::Unasked };
        let progress = Arc::new(watch::Sender::new(begin));
        let (sent, asked) = (progress.subscribe(), progress.subscribe());
        let (mut head, body) = request.into_parts();
        head.version = http::Version::HTTP_11;
        head.headers.remove(header::TRANSFER_ENCODING);
        if !is_sent && !head.headers.contains_key(header::CONTENT_LENGTH) {
            // hyper takes a GET or a HEAD that announces no body for one that has none.
            head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let body_timeout = BodyTimeout::new(delivery.stall_timeout);
        let body = RequestBody { body, left: policy.max_body, body_timeout, progress, taken };
        let request = Request::from_parts(head, body);
        let repeated = || self.metrics.upstream.retries.inc();
        let answer = tokio::select! {
            answer = self.pool.send(request, self.dialer.dial(), repeated) => answer,
            after = response_overdue(sent, policy.response_timeout) => return Err(UpstreamError::Timeout(after)),
            after = body_untaken(asked, self.config.stall_timeout) => return Err(UpstreamError::BodyUntaken(after)),
        };
        let (mut answer, connection) = answer.map_err(|error| self.explain(error, policy.max_body))?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Passed on, it would make the client believe that it speaks something else from here on.
            return Err(UpstreamError::Broken("a 101 that nobody asked for".into()));
        }
        let (status, version) = (answer.status(), answer.version());
        // What may be left on it must not be read as the answer to another request.
        if head::check_answer(status, version, answer.headers_mut())? {
            connection.keep();
        }
        Ok(answer)
    }

    /// Finds what an error was in truth.
    fn explain(&self, error: SendError<DialError>, max_body: Option<u64>) -> UpstreamError {
        let error = match error {
            SendError::Dial(error) => return UpstreamError::Dial(error),
            SendError::Http(error) => error,
        };
        let mut source: Option<&(dyn Error + 'static)> = error.source();
        while let Some(cause) = source {
            if cause.is::<TooLong>() {
                return UpstreamError::BodyTooLarge(max_body.unwrap_or(0));
            }
            if let Some(Stalled(limit)) = cause.downcast_ref() {
                return UpstreamError::BodyStalled(*limit);
            }
            if cause.is::<BrokenOff>() {
                return UpstreamError::BodyBroken;
            }
            source = cause.source();
        }
        self.broken(&error)
    }
}

/// Resolves `after` the request's last byte.
async fn response_overdue(mut progress: watch::Receiver<Progress>, after: Option<Duration>) -> Duration {
    let Some(after) = after else { return pending().await };
    // An error means that the body was dropped, which is an end too.
    let _ = progress.wait_for(|progress| *progress == Progress::Sent).await;
    sleep(after).await;
    after
}

/// Resolves when the server has taken nothing of what is there for it for `limit`.
async fn body_untaken(mut progress: watch::Receiver<Progress>, limit: Option<Duration>) -> Duration {
    let Some(limit) = limit else { return pending().await };
    loop {
        let is_owed = *progress.borrow_and_update() == Progress::Taken;
        let changed = if is_owed {
            let Ok(changed) = timeout(limit, progress.changed()).await else { return limit };
            changed
        } else {
            progress.changed().await
        };
        if changed.is_err() {
            // The body was dropped: nobody waits for it any more.
            return pending().await;
        }
    }
}
