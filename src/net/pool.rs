//! Connections of HTTP/1 that are kept for further requests to the same server.
//!
//! Our own, since what is kept has to be decided by the code that reads an answer's head, before another request can
//! be given its connection. The library's pool puts a connection back before it hands out the answer: one that is marked
//! only then may be another request's already, and what comes behind the first answer is read as the second one.
//!
//! # Invariants
//! 1. A connection is kept only by [`Lease::keep`]: who drops a lease ends its connection with the answer on it.
//! 2. At most `max_idle` are idle, each for `keep_alive` at most.
//! 3. A request that a kept connection has not begun to send goes over another one.
//! 4. One that was sent over a kept connection, which then ended without a byte of an answer, is sent once more over a
//!    new one if its method is idempotent and nothing of its body was taken ([`retry`]). Over a connection that was new
//!    nothing is sent twice: that it ended is the server's answer.
//!
//! # Not here
//! Which answers let a connection be kept ([`super::head::check_answer`]); how one is opened.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use self::retry::{ReadFlag, RetryBody, WatchedStream};
use super::Stream;

mod retry;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum SendError<E> {
    /// No connection.
    Dial(E),
    /// None over it.
    Http(hyper::Error),
}

/// Connections to one server.
#[derive(Debug)]
pub(crate) struct Pool<B> {
    builder: http1::Builder,
    idle: Arc<Idle<B>>,
}

#[derive(Debug)]
struct Idle<B> {
    keep_alive: Duration,
    max_idle: usize,
    inner: Mutex<Inner<B>>,
}

#[derive(Debug)]
struct Inner<B> {
    /// The one that was used last comes last.
    kept: Vec<Kept<B>>,
    /// Whether a task ends those whose time is over: there is one at the most.
    is_swept: bool,
}

#[derive(Debug)]
struct Kept<B> {
    sender: Sender<B>,
    until: Instant,
}

/// The connection of an answer.
#[derive(Debug)]
#[must_use = "dropped, its connection ends"]
pub(crate) struct Lease<B> {
    sender: Sender<B>,
    idle: Arc<Idle<B>>,
}

/// One end of a connection.
#[derive(Debug)]
struct Sender<B> {
    library: SendRequest<RetryBody<B>>,
    has_read: ReadFlag,
}

impl<B> Pool<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Nothing is connected yet. `builder` says how heads are read.
    pub(crate) fn new(builder: http1::Builder, keep_alive: Duration, max_idle: usize) -> Self {
        let inner = Mutex::new(Inner { kept: Vec::new(), is_swept: false });
        Self { builder, idle: Arc::new(Idle { keep_alive, max_idle, inner }) }
    }

    /// Sends a request whose target is in origin form, over a connection that is kept, or else the one that
    /// `dial` opens. May be given up at any time: its connection ends then. `repeated` is told of a second try.
    ///
    /// # Errors
    /// There is no connection, or no answer came over it.
    pub(crate) async fn send<E>(
        &self,
        mut request: Request<B>,
        dial: impl Future<Output = Result<Stream, E>>,
        repeated: impl FnOnce(),
    ) -> Result<(Response<Incoming>, Lease<B>), SendError<E>> {
        while let Some(mut sender) = self.idle.take() {
            sender.has_read.clear();
            let (lent, retry) = retry::keep_for_retry(request);
            let mut error = match sender.library.try_send_request(lent).await {
                Ok(answer) => return Ok((answer, self.lease(sender))),
                Err(error) => error,
            };
            // The server closed it while it was idle.
            if let Some(unsent) = error.take_message().and_then(retry::unsent_request) {
                request = unsent;
                continue;
            }
            // The server closed it, or broke, while the request was on its way.
            let retry = retry.filter(|_| !sender.has_read.is_set());
            let Some(whole) = retry.and_then(retry::Retry::reclaim) else {
                return Err(SendError::Http(error.into_error()));
            };
            repeated();
            request = whole;
            break;
        }
        let stream = dial.await.map_err(SendError::Dial)?;
        let mut sender = self.open(stream).await.map_err(SendError::Http)?;
        let answer =
            sender.library.send_request(request.map(RetryBody::Given)).await.map_err(SendError::Http)?;
        Ok((answer, self.lease(sender)))
    }

    fn lease(&self, sender: Sender<B>) -> Lease<B> {
        Lease { sender, idle: Arc::clone(&self.idle) }
    }

    async fn open(&self, stream: Stream) -> hyper::Result<Sender<B>> {
        let has_read = ReadFlag::default();
        let io = TokioIo::new(WatchedStream::new(stream, has_read.clone()));
        let (mut library, connection) = self.builder.handshake(io).await?;
        // It ends with the server, or once its sender is gone and its last answer was read.
        tokio::spawn(connection);
        library.ready().await?;
        Ok(Sender { library, has_read })
    }
}

impl<B> Lease<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Nothing but the answer's body can come over it: it may be used again once that was read.
    pub(crate) fn keep(self) {
        let Self { mut sender, idle } = self;
        if sender.library.is_ready() {
            return idle.put(sender);
        }
        tokio::spawn(async move {
            if sender.library.ready().await.is_ok() {
                idle.put(sender);
            }
        });
    }
}

impl<B: Send + 'static> Idle<B> {
    /// The one that was used last.
    fn take(&self) -> Option<Sender<B>> {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        while let Some(Kept { sender, until }) = inner.kept.pop() {
            if until > now && sender.library.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn put(self: &Arc<Self>, sender: Sender<B>) {
        let until = Instant::now() + self.keep_alive;
        let mut inner = self.inner.lock();
        if inner.kept.len() >= self.max_idle {
            return;
        }
        inner.kept.push(Kept { sender, until });
        if !std::mem::replace(&mut inner.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self), until));
        }
    }
}

/// Ends idle connections whose time is over, until there are none. `until`: the first one's.
async fn sweep<B: Send + 'static>(idle: Weak<Idle<B>>, mut until: Instant) {
    loop {
        sleep_until(until).await;
        let Some(idle) = idle.upgrade() else { return };
        let now = Instant::now();
        let mut inner = idle.inner.lock();
        inner.kept.retain(|kept| kept.until > now && !kept.sender.library.is_closed());
        match inner.kept.iter().map(|kept| kept.until).min() {
            Some(next) => until = next,
            None => {
                inner.is_swept = false;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
