//! The HTTP/2 stream of one WebSocket, or of one answer that is written over time, as a byte stream.
//!
//! hyper gives such a stream in two pieces: an [`Upgraded`] to read and write, whose writes go into a short queue, and
//! a future (the *pump*) that moves them from the queue into the connection, by the peer's flow control. hyper would
//! spawn the pump; here it belongs to the stream and is polled with it. So a WebSocket is one task, as over HTTP/1.1,
//! and the pump can be dropped on purpose:
//!
//! * dropped before it has sent END_STREAM, it resets the stream (RST_STREAM, CANCEL), and bytes that the peer did not
//!   take are discarded: that is [`Http2::reset_on_drop`];
//! * if it ends before END_STREAM was to be sent, the peer has reset the stream or the connection is gone, while
//!   hyper's reads show a CANCEL as an orderly end.
//!
//! For the body of an answer the pump is hyper's whole future of the stream. What is written lies in a [`body`](mod@body) until the
//! pump takes it. Nothing can be read, and the end of the pump is the end of the stream.
//!
//! # Invariants
//! 1. The owner of the stream polls it, at least by a flush, whenever its task is woken: the pump has no
//!    other task.
//! 2. At most five times [`MAX_WRITE`] bytes are unsent: two in hyper's queue (of a body: one), one in the pump, two in the
//!    connection (`max_send_buf_size` and the last write beyond it).
//!
//! # Not here
//! How a request becomes such a stream, and the connection's timeouts ([`crate::server`]).

mod body;

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub(crate) use self::body::{BodyReader, BodyWriter, body};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Most bytes that one write takes: a DATA frame of the size that every peer accepts (RFC 9113 §4.2).
/// hyper copies each write into its queue, so that larger ones would be held whole.
pub(crate) const MAX_WRITE: usize = 16 * 1024;

/// How long the rest of a stream that was dropped in order may wait for the peer's flow control: as long as the end of
/// an HTTP/1.1 connection may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Moves writes into the connection. Completes when END_STREAM was sent, or nothing can be sent any more.
pub(crate) type Pump = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Held as long as the stream is in use.
pub(crate) type InUse = Box<dyn Any + Send>;

/// The stream.
pub struct Http2 {
    io: Io,
    /// `None`: END_STREAM was sent, or the peer takes nothing any more.
    pump: Option<Pump>,
    /// Whether END_STREAM was sent, or is to be as soon as the pump gets there.
    is_ended: bool,
    resets_on_drop: Cell<bool>,
    in_use: Option<InUse>,
}

enum Io {
    /// Both directions of a stream that is a WebSocket.
    Upgraded(TokioIo<Upgraded>),
    /// The body of an answer.
    Body(BodyWriter),
}

impl Http2 {
    /// From the two pieces that hyper gives of a CONNECT.
    pub fn new(upgraded: Upgraded, pump: Pump, in_use: InUse) -> Self {
        Self::of(Io::Upgraded(TokioIo::new(upgraded)), pump, in_use)
    }

    /// The body of an answer, which `pump` sends: hyper's future of the stream. Nothing can be read.
    pub(crate) fn body(body: BodyWriter, pump: Pump, in_use: InUse) -> Self {
        Self::of(Io::Body(body), pump, in_use)
    }

    fn of(io: Io, pump: Pump, in_use: InUse) -> Self {
        Self { io, pump: Some(pump), is_ended: false, resets_on_drop: Cell::new(false), in_use: Some(in_use) }
    }

    /// Makes the coming drop send RST_STREAM.
    pub fn reset_on_drop(&self) {
        self.resets_on_drop.set(true);
    }

    /// Whether the peer has reset the stream, or the connection is gone. An orderly end is not seen before all bytes in
    /// front of it were read.
    pub fn is_reset(&mut self, cx: &mut Context<'_>) -> bool {
        self.pump(cx);
        self.pump.is_none() && !self.is_ended
    }

    fn pump(&mut self, cx: &mut Context<'_>) {
        if let Some(pump) = &mut self.pump
            && pump.as_mut().poll(cx).is_ready()
        {
            self.pump = None;
        }
    }
}

impl fmt::Debug for Http2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2").field("is_ended", &self.is_ended).finish_non_exhaustive()
    }
}

impl AsyncRead for Http2 {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = match &mut this.io {
            Io::Upgraded(io) => std::task::ready!(Pin::new(io).poll_read(cx, buf)),
            Io::Body(_) => {
                this.pump(cx);
                if this.pump.is_some() {
                    return Poll::Pending;
                }
                Ok(())
            }
        };
        let is_end = result.is_ok() && buf.filled().len() == before && buf.remaining() > 0;
        if is_end && this.is_reset(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Http2 {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // First, so that the queue has room if the peer has.
        this.pump(cx);
        if this.pump.is_none() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let buf = &buf[..buf.len().min(MAX_WRITE)];
        let result = match &mut this.io {
            Io::Upgraded(io) => Pin::new(io).poll_write(cx, buf),
            Io::Body(body) => body.poll_write(buf).map(Ok),
        };
        if result.is_ready() {
            this.pump(cx);
        }
        result
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().pump(cx);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.pump.is_none() && !this.is_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        this.is_ended = true;
        match &mut this.io {
            // Closes the queue; this completes once the pump has ended, with its result.
            Io::Upgraded(io) => drop(Pin::new(io).poll_shutdown(cx)),
            Io::Body(body) => body.end(),
        }
        this.pump(cx);
        match (&this.pump, &mut this.io) {
            (Some(_), _) => Poll::Pending,
            (None, Io::Upgraded(io)) => Pin::new(io).poll_shutdown(cx),
            (None, Io::Body(body)) if body.is_taken() => Poll::Ready(Ok(())),
            (None, Io::Body(_)) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        if self.resets_on_drop.get() || self.pump.is_none() {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut *self).poll_shutdown(&mut cx);
        if let (Some(pump), Ok(runtime)) = (self.pump.take(), Handle::try_current()) {
            let in_use = self.in_use.take();
            runtime.spawn(async move {
                // After it the stream is reset.
                let _ = timeout(FLUSH_TIMEOUT, pump).await;
                drop(in_use);
            });
        }
    }
}
