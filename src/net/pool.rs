//! Connections of HTTP/1 that are kept for further requests to the same server.
//!
//! # Why not the pool of hyper-util?
//! Whether a connection may be kept is decided by the head of its answer, before another request can get the connection.
//! hyper-util puts a connection back before it returns the answer: by the time that the head was checked another request may
//! have the connection, and bytes behind the first answer would be read as the second one.
//!
//! # Invariants
//! 1. A connection is kept only by [`Lease::keep`]: otherwise it ends when the lease is dropped, with the answer on it.
//! 2. At most `max_idle` are idle, each for `keep_alive` at most.
//! 3. A request that a kept connection has not begun to send is sent over another one.
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
    idle: Arc<IdleConnections<B>>,
}

#[derive(Debug)]
struct IdleConnections<B> {
    keep_alive: Duration,
    max_idle: usize,
    inner: Mutex<Inner<B>>,
}

#[derive(Debug)]
struct Inner<B> {
    /// In the order in which they were used.
    connections: Vec<IdleConnection<B>>,
    /// Whether the task that ends expired connections runs: there is one at most.
    has_sweeper: bool,
}

#[derive(Debug)]
struct IdleConnection<B> {
    sender: Sender<B>,
    expires: Instant,
}

/// The connection of an answer.
#[derive(Debug)]
#[must_use = "dropped, its connection ends"]
pub(crate) struct Lease<B> {
    sender: Sender<B>,
    idle: Arc<IdleConnections<B>>,
}

/// One end of a connection.
#[derive(Debug)]
struct Sender<B> {
    inner: SendRequest<RetryBody<B>>,
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
        let inner = Mutex::new(Inner { connections: Vec::new(), has_sweeper: false });
        Self { builder, idle: Arc::new(IdleConnections { keep_alive, max_idle, inner }) }
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
            let (sent, retry) = retry::keep_for_retry(request);
            let mut error = match sender.inner.try_send_request(sent).await {
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
            sender.inner.send_request(request.map(RetryBody::Given)).await.map_err(SendError::Http)?;
        Ok((answer, self.lease(sender)))
    }

    fn lease(&self, sender: Sender<B>) -> Lease<B> {
        Lease { sender, idle: Arc::clone(&self.idle) }
    }

    async fn open(&self, stream: Stream) -> hyper::Result<Sender<B>> {
        let has_read = ReadFlag::default();
        let io = TokioIo::new(WatchedStream::new(stream, has_read.clone()));
        let (mut inner, connection) = self.builder.handshake(io).await?;
        // It ends with the server, or once its sender is gone and its last answer was read.
        tokio::spawn(connection);
        inner.ready().await?;
        Ok(Sender { inner, has_read })
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
        if sender.inner.is_ready() {
            return idle.put(sender);
        }
        tokio::spawn(async move {
            if sender.inner.ready().await.is_ok() {
                idle.put(sender);
            }
        });
    }
}

impl<B: Send + 'static> IdleConnections<B> {
    /// The connection that was used last.
    fn take(&self) -> Option<Sender<B>> {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        while let Some(IdleConnection { sender, expires }) = inner.connections.pop() {
            if expires > now && sender.inner.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn put(self: &Arc<Self>, sender: Sender<B>) {
        let expires = Instant::now() + self.keep_alive;
        let mut inner = self.inner.lock();
        if inner.connections.len() >= self.max_idle {
            return;
        }
        inner.connections.push(IdleConnection { sender, expires });
        if !std::mem::replace(&mut inner.has_sweeper, true) {
            tokio::spawn(sweep(Arc::downgrade(self), expires));
        }
    }
}

/// Ends idle connections whose time is over, until there are none. `expires`: the first one's.
async fn sweep<B: Send + 'static>(idle: Weak<IdleConnections<B>>, mut expires: Instant) {
    loop {
        sleep_until(expires).await;
        let Some(idle) = idle.upgrade() else { return };
        let now = Instant::now();
        let mut inner = idle.inner.lock();
        inner.connections.retain(|idle| idle.expires > now && !idle.sender.inner.is_closed());
        match inner.connections.iter().map(|idle| idle.expires).min() {
            Some(next) => expires = next,
            None => {
                inner.has_sweeper = false;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
