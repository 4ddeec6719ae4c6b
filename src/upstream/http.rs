//! Plain HTTP to an upstream, over pooled connections, streaming both ways.
//!
//! # Invariants
//! 1. Whatever is waited for has a timeout: a client that owes more of its body (`delivery.stall_timeout`), a
//!    server that takes nothing of it (`upstream.stall_timeout`), one that has had all of it (`http.response_timeout`).

use std::any::Any;
use std::error::Error;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body;
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::body::{BrokenOff, Progress, RequestBody, Stalled, TooLong};
use super::{DialError, Upstream, UpstreamError};
use crate::config;
use crate::net::pool::SendError;
use crate::net::{ClientBody, head};

impl Upstream {
    /// Passes a plain request on; its headers are already what the upstream is to see, and `uri` is in
    /// origin form. `taken` is dropped when nothing more of the body is taken, which may be after the answer.
    ///
    /// # Errors
    /// There was no answer, the body was longer than `http.max_body`, or its rest did not come or was none.
    pub(crate) async fn request(
        &self,
        request: Request<ClientBody>,
        taken: Option<impl Any + Send>,
        policy: &config::Policy,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let taken = taken.map(|taken| Box::new(taken) as Box<dyn Any + Send>);
        let result = self.try_request(request, taken, policy).await;
        self.count(result)
    }

    async fn try_request(
        &self,
        request: Request<ClientBody>,
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
        let is_of_http2 =
            std::mem::replace(&mut head.version, http::Version::HTTP_11) == http::Version::HTTP_2;
        head.headers.remove(header::TRANSFER_ENCODING);
        if !is_sent && !head.headers.contains_key(header::CONTENT_LENGTH) {
            // hyper takes a GET or a HEAD that announces no body for one that has none.
            head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let body =
            RequestBody::new(body, policy.max_body, delivery.stall_timeout, progress, taken, is_of_http2);
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
            // The body was dropped: it is not waited for any more.
            return pending().await;
        }
    }
}
