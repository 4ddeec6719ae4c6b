//! What one HTTP connection of a client shares between its driver, its socket and its requests.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::access::Access;
use super::crowd::Busy;
use super::idle::Rest;
use super::patience::Patience;
use super::refusal::Parting;
use super::service::InFlight;
use super::state::Route;
use crate::admission::QuotaPermit;
use crate::broadcast::Reservation;
use crate::net::head::{Character, RequestLine};
use crate::net::{Stream, Transport};
use crate::resilience::Expiry;
use crate::tunnel;

/// An upstream that waits for its client's socket: the 101 is on its way.
#[derive(Debug)]
pub(super) struct Handover {
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
pub(super) struct Subscription {
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
pub(super) enum Next {
    /// A connection.
    Tunnel(Handover),
    /// One more client of a feed. Boxed: most connections are tunnels.
    Subscribe(Box<Subscription>),
    /// A Close.
    Part(Parting),
}

/// The shared state.
#[derive(Debug)]
pub(super) struct Session {
    patience: Mutex<Patience>,
    next: Mutex<Option<Next>>,
    busy: Busy,
    /// None for a stream: its connection is idle when none of them is left.
    rest: Option<Rest>,
    /// Status of what hyper said by itself about a request it could not read; 0: nothing.
    unreadable: AtomicU16,
}

impl Session {
    pub(super) fn new(patience: Patience, busy: Busy, rest: Option<Rest>) -> Arc<Self> {
        Arc::new(Self {
            patience: Mutex::new(patience),
            next: Mutex::new(None),
            busy,
            rest,
            unreadable: AtomicU16::new(0),
        })
    }

    pub(super) fn patience(&self) -> MutexGuard<'_, Patience> {
        self.patience.lock()
    }

    /// Leaves the upstream for the driver to connect with the client.
    pub(super) fn hand_over(&self, handover: Handover) {
        *self.next.lock() = Some(Next::Tunnel(handover));
    }

    /// Leaves the feed for the driver to connect with the client.
    pub(super) fn subscribe(&self, subscription: Subscription) {
        *self.next.lock() = Some(Next::Subscribe(Box::new(subscription)));
    }

    /// Leaves it to the driver to close what is not to become a connection.
    pub(super) fn part(&self, parting: Parting) {
        *self.next.lock() = Some(Next::Part(parting));
    }

    pub(super) fn take_next(&self) -> Option<Next> {
        self.next.lock().take()
    }

    /// Whether no request has come yet.
    pub(super) fn is_first_head(&self) -> bool {
        self.patience().is_first_head()
    }

    /// Nothing is asked on it from now on.
    fn rest(&self, now: Instant) {
        self.busy.rest();
        // What becomes a WebSocket, or is closed as one, is no HTTP connection much longer.
        if let Some(rest) = &self.rest
            && self.next.lock().is_none()
        {
            let crowding = rest.begin();
            self.patience().on_crowding(crowding, now);
        }
    }

    /// A head is complete. It may have come together with the request before it: then its bytes woke nobody up.
    pub(super) fn on_request(&self) {
        self.patience().on_request();
        self.resume();
    }

    /// Somebody takes the body of the request that is served, until what this gives is dropped.
    pub(super) fn takes_body(self: &Arc<Self>) -> TakesBody {
        self.patience().on_body();
        TakesBody(Arc::clone(self))
    }

    /// Something is.
    fn resume(&self) {
        self.busy.resume();
        if let Some(rest) = &self.rest {
            rest.end();
        }
    }

    /// Returns when it asks nothing and has to go for others that do not either.
    pub(super) async fn is_let_go(&self) {
        match &self.rest {
            Some(rest) => rest.is_let_go().await,
            None => std::future::pending().await,
        }
    }

    /// The status that hyper answered an unreadable request with, if it did.
    pub(super) fn unreadable(&self) -> Option<u16> {
        Some(self.unreadable.load(Relaxed)).filter(|status| *status != 0)
    }
}

/// A request's body on its way to a server, which may answer before it has all of it.
#[derive(Debug)]
pub(super) struct TakesBody(Arc<Session>);

impl Drop for TakesBody {
    fn drop(&mut self) {
        let (session, now) = (&self.0, Instant::now());
        let is_idle = session.patience().on_body_end(now);
        if is_idle {
            session.rest(now);
            // This is another task than the one whose clock it is.
            if let Some(rest) = &session.rest {
                rest.wake();
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
    pub(super) session: Arc<Session>,
    /// Of the head that is being read. Of one that came together with what stood before it (pipelined, or
    /// behind a body) nothing is seen.
    line: RequestLine,
}

impl ClientIo {
    pub(super) fn new(stream: Stream, session: Arc<Session>) -> Self {
        Self { stream, session, line: RequestLine::default() }
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
                let mut patience = this.session.patience();
                (patience.on_bytes(Instant::now()), patience.is_in_head())
            };
            if is_woken {
                this.session.resume();
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
        if self.session.patience().is_answering() {
            return false;
        }
        let status = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(status) = status.and_then(|digits| digits.parse().ok()) {
            self.session.unreadable.store(status, Relaxed);
        }
        true
    }

    fn note(&self, result: &Poll<io::Result<usize>>) {
        self.session.patience().on_write(result.is_ready(), Instant::now());
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
            self.session.patience().on_write(took, Instant::now());
        }
        if result.is_ready() {
            let now = Instant::now();
            let is_idle = self.session.patience().on_flushed(now);
            if is_idle {
                self.session.rest(now);
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
    session: Arc<Session>,
    in_flight: Option<InFlight>,
    access: Option<Box<Access>>,
}

#[derive(Debug)]
enum Inner {
    Own(Full<Bytes>),
    Upstream(Incoming),
}

impl AnswerBody {
    pub(super) fn own(body: Full<Bytes>, session: &Arc<Session>) -> Self {
        Self { inner: Inner::Own(body), session: Arc::clone(session), in_flight: None, access: None }
    }

    pub(super) fn upstream(body: Incoming, session: &Arc<Session>) -> Self {
        Self { inner: Inner::Upstream(body), session: Arc::clone(session), in_flight: None, access: None }
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
        self.session.patience().on_answered();
    }
}
