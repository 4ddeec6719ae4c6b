//! What one HTTP connection of a client shares between its driver, its socket and its requests.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::access::Access;
use super::handshake_limit::HandshakePermit;
use super::idle::IdleSlot;
use super::refusal_close::PendingClose;
use super::request::InFlight;
use super::state::Route;
use super::timeouts::HttpTimeouts;
use crate::admission::QuotaPermit;
use crate::broadcast::Reservation;
use crate::net::head::{Character, RequestLine};
use crate::net::{Stream, Transport};
use crate::resilience::Expiry;
use crate::tunnel;

/// An upstream that waits for its client's socket: the 101 is on its way.
#[derive(Debug)]
pub(super) struct PendingTunnel {
    pub(super) upstream: Transport,
    pub(super) terms: tunnel::Terms,
    pub(super) slot: Option<QuotaPermit>,
    pub(super) route: Arc<Route>,
    /// Whose it is, as far as anybody told.
    pub(super) client: Option<SocketAddr>,
    pub(super) user: Option<Arc<str>>,
    pub(super) request_id: Box<str>,
}

/// A client of a feed that waits for its own socket.
#[derive(Debug)]
pub(super) struct PendingSubscription {
    pub(super) seat: Reservation,
    pub(super) has_deflate: bool,
    /// When its credentials end.
    pub(super) expires: Option<Expiry>,
    pub(super) slot: Option<QuotaPermit>,
    pub(super) route: Arc<Route>,
    /// Whose it is, as far as anybody told.
    pub(super) client: Option<SocketAddr>,
    pub(super) user: Option<Arc<str>>,
    pub(super) request_id: Box<str>,
}

/// What becomes of the client's socket when its 101 has left.
#[derive(Debug)]
pub(super) enum PendingUpgrade {
    /// A connection.
    Tunnel(PendingTunnel),
    /// One more client of a feed. Boxed: most connections are tunnels.
    Subscribe(Box<PendingSubscription>),
    /// A Close.
    Close(PendingClose),
}

/// The shared state.
#[derive(Debug)]
pub(super) struct HttpConnection {
    timeouts: Mutex<HttpTimeouts>,
    upgrade: Mutex<Option<PendingUpgrade>>,
    handshake_permit: HandshakePermit,
    /// None for a stream: its connection is idle when none of them is left.
    idle: Option<IdleSlot>,
    /// Status of what hyper said by itself about a request it could not read; 0: nothing.
    hyper_status: AtomicU16,
}

impl HttpConnection {
    pub(super) fn new(
        timeouts: HttpTimeouts,
        handshake_permit: HandshakePermit,
        idle: Option<IdleSlot>,
    ) -> Arc<Self> {
        Arc::new(Self {
            timeouts: Mutex::new(timeouts),
            upgrade: Mutex::new(None),
            handshake_permit,
            idle,
            hyper_status: AtomicU16::new(0),
        })
    }

    pub(super) fn timeouts(&self) -> MutexGuard<'_, HttpTimeouts> {
        lock(&self.timeouts)
    }

    /// Leaves the upstream for the driver to connect with the client.
    pub(super) fn hold_tunnel(&self, pending: PendingTunnel) {
        *lock(&self.upgrade) = Some(PendingUpgrade::Tunnel(pending));
    }

    /// Leaves the feed for the driver to connect with the client.
    pub(super) fn hold_subscription(&self, pending: PendingSubscription) {
        *lock(&self.upgrade) = Some(PendingUpgrade::Subscribe(Box::new(pending)));
    }

    /// Leaves it to the driver to close what is not to become a connection.
    pub(super) fn hold_close(&self, pending: PendingClose) {
        *lock(&self.upgrade) = Some(PendingUpgrade::Close(pending));
    }

    pub(super) fn take_upgrade(&self) -> Option<PendingUpgrade> {
        lock(&self.upgrade).take()
    }

    /// Whether no request has come yet.
    pub(super) fn is_first_head(&self) -> bool {
        self.timeouts().is_first_head()
    }

    /// Nothing is asked on it from now on.
    fn enter_idle(&self, now: Instant) {
        self.handshake_permit.pause();
        // What becomes a WebSocket, or is closed as one, is no HTTP connection much longer.
        if let Some(idle) = &self.idle
            && lock(&self.upgrade).is_none()
        {
            let pressure = idle.enter();
            self.timeouts().on_idle_pressure(pressure, now);
        }
    }

    /// A head is complete. It may have come together with the request before it: then its bytes woke nobody up.
    pub(super) fn on_request(&self) {
        self.timeouts().on_request();
        self.resume();
    }

    /// Somebody takes the body of the request that is served, until what this gives is dropped.
    pub(super) fn takes_body(self: &Arc<Self>) -> TakesBody {
        self.timeouts().on_body();
        TakesBody(Arc::clone(self))
    }

    /// Something is.
    fn resume(&self) {
        self.handshake_permit.resume();
        if let Some(idle) = &self.idle {
            idle.leave();
        }
    }

    /// Returns when it asks nothing and has to go for others that do not either.
    pub(super) async fn is_let_go(&self) {
        match &self.idle {
            Some(idle) => idle.is_let_go().await,
            None => std::future::pending().await,
        }
    }

    /// The status that hyper answered an unreadable request with, if it did.
    pub(super) fn hyper_status(&self) -> Option<u16> {
        Some(self.hyper_status.load(Relaxed)).filter(|status| *status != 0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request's body on its way to a server, which may answer before it has all of it.
#[derive(Debug)]
pub(super) struct TakesBody(Arc<HttpConnection>);

impl Drop for TakesBody {
    fn drop(&mut self) {
        let (connection, now) = (&self.0, Instant::now());
        let is_idle = connection.timeouts().on_body_end(now);
        if is_idle {
            connection.enter_idle(now);
            // This is another task than the one whose clock it is.
            if let Some(idle) = &connection.idle {
                idle.wake();
            }
        }
    }
}

/// The client's socket under hyper: it moves the clocks, and it keeps back what hyper says by itself
/// about an unreadable request, since that would not say whose answer it is. It also looks at each request's
/// first line on its way: hyper does not tell which character it refuses one for.
#[derive(Debug)]
pub(super) struct ClientIo {
    pub(super) stream: Stream,
    pub(super) connection: Arc<HttpConnection>,
    /// Of the head that is being read. Of one that came together with what stood before it (pipelined, or
    /// behind a body) nothing is seen.
    line: RequestLine,
}

impl ClientIo {
    pub(super) fn new(stream: Stream, connection: Arc<HttpConnection>) -> Self {
        Self { stream, connection, line: RequestLine::default() }
    }

    /// The socket, and the character in the last target that must not be there.
    pub(super) fn into_parts(self) -> (Stream, Option<Character>) {
        (self.stream, self.line.found())
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            let (is_woken, is_in_head) = {
                let mut timeouts = this.connection.timeouts();
                (timeouts.on_bytes(Instant::now()), timeouts.is_in_head())
            };
            if is_woken {
                this.connection.resume();
                this.line = RequestLine::default();
            }
            if is_in_head {
                this.line.read(&buf.filled()[before..]);
            }
        }
        result
    }
}

impl ClientIo {
    /// Whether `bytes` are hyper's own words; they are then noted and not written.
    fn keeps_back(&self, bytes: &[u8]) -> bool {
        if self.connection.timeouts().is_answering() {
            return false;
        }
        let status = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(status) = status.and_then(|digits| digits.parse().ok()) {
            self.connection.hyper_status.store(status, Relaxed);
        }
        true
    }

    fn note(&self, result: &Poll<io::Result<usize>>) {
        self.connection.timeouts().on_write(result.is_ready(), Instant::now());
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.keeps_back(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.keeps_back(bufs.iter().find(|buf| !buf.is_empty()).map_or(&[], |buf| buf)) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = self.stream.sent();
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        if before.is_some() {
            // What was accepted before had still to be taken.
            let took = result.is_ready() || self.stream.sent() != before;
            self.connection.timeouts().on_write(took, Instant::now());
        }
        if result.is_ready() {
            let now = Instant::now();
            let is_idle = self.connection.timeouts().on_flushed(now);
            if is_idle {
                self.connection.enter_idle(now);
            }
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The body of an answer; its end lets the connection's clocks go on.
#[derive(Debug)]
pub(super) struct AnswerBody {
    inner: Inner,
    connection: Arc<HttpConnection>,
    in_flight: Option<InFlight>,
    access: Option<Box<Access>>,
}

#[derive(Debug)]
enum Inner {
    Own(Full<Bytes>),
    Upstream(Incoming),
}

impl AnswerBody {
    pub(super) fn own(body: Full<Bytes>, connection: &Arc<HttpConnection>) -> Self {
        Self { inner: Inner::Own(body), connection: Arc::clone(connection), in_flight: None, access: None }
    }

    pub(super) fn upstream(body: Incoming, connection: &Arc<HttpConnection>) -> Self {
        Self {
            inner: Inner::Upstream(body),
            connection: Arc::clone(connection),
            in_flight: None,
            access: None,
        }
    }
}

impl AnswerBody {
    /// Counts the request as in flight until the last byte of its answer was handed over.
    pub(super) fn keep(&mut self, in_flight: InFlight) {
        self.in_flight = Some(in_flight);
    }

    /// Has the access log tell of the request when the last byte of its answer was handed over.
    pub(super) fn log(&mut self, access: Option<Box<Access>>) {
        self.access = access;
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let polled = match &mut this.inner {
            Inner::Own(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|e| match e {})))
            }
            Inner::Upstream(body) => Pin::new(body).poll_frame(cx),
        };
        if let (Some(access), Poll::Ready(Some(frame))) = (&mut this.access, &polled) {
            match frame {
                Ok(frame) => access.sent(frame.data_ref().map_or(0, Bytes::len)),
                Err(_) => access.broken(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Own(body) => body.is_end_stream(),
            Inner::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Own(body) => body.size_hint(),
            Inner::Upstream(body) => body.size_hint(),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.connection.timeouts().on_answered();
    }
}
