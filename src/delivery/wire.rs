//! The way out to one client: its socket, and the rest of what that has begun to take.
//!
//! # Invariants
//! 1. The rest ends between two frames, and nothing is written past it: a frame that was begun is finished, or the
//!    connection is cut.
//! 2. The rest is a part of what others were sent too: it is no copy.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::frame::Header;
use crate::net::Stream;
use crate::resilience::Stall;

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    /// The kernel has all of it.
    All,
    /// It has not; the task is woken when it takes more.
    Blocked,
    /// It never will.
    Broken,
}

/// The way out.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: Stream,
    /// What was begun, from its first frame on.
    rest: Bytes,
    /// `rest[..sent]` was taken.
    sent: usize,
    /// Told after everything that touches the stream.
    stall: Stall,
    /// Whether it has taken anything since this was last set to false.
    pub(super) has_moved: bool,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, rest: Bytes::new(), sent: 0, stall: Stall::default(), has_moved: false }
    }

    /// Whether the kernel has all that was written.
    pub(super) fn is_flushed(&self) -> bool {
        self.rest.is_empty() && self.stream.unsent() == 0
    }

    /// Writes whole frames. Only to be called when nothing is left of the write before.
    pub(super) fn write(&mut self, cx: &mut Context<'_>, frames: &Bytes, now: Instant) -> Wrote {
        debug_assert!(self.rest.is_empty());
        let before = self.stream.sent();
        let mut at = 0;
        while at < frames.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &frames[at..]) {
                Poll::Ready(Ok(n)) if n > 0 => at += n,
                Poll::Ready(_) => return Wrote::Broken,
                Poll::Pending => {
                    self.rest = frames.clone();
                    self.sent = at;
                    self.note(before, at, now);
                    if self.stream.wants_flush() {
                        // Only what carries it away makes room; an error is told by the next write.
                        let _ = Pin::new(&mut self.stream).poll_flush(cx);
                    }
                    return Wrote::Blocked;
                }
            }
        }
        self.note(before, at, now);
        if self.stream.unsent() == 0 && !self.stream.wants_flush() {
            return Wrote::All;
        }
        self.flush(cx, now)
    }

    /// Whether something was begun and is not written yet.
    pub(super) fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }

    /// What it was blocked by is the same as `held`, which is counted until nobody has it.
    pub(super) fn share(&mut self, held: Bytes) {
        debug_assert_eq!(self.rest, held);
        self.rest = held;
    }

    /// Writes what is left.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>, now: Instant) -> Wrote {
        let before = self.stream.sent();
        let mut took = 0;
        while self.sent < self.rest.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.rest[self.sent..]) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.sent += n;
                    took += n;
                }
                Poll::Ready(_) => return Wrote::Broken,
                Poll::Pending => {
                    self.note(before, took, now);
                    return Wrote::Blocked;
                }
            }
        }
        self.rest = Bytes::new();
        self.sent = 0;
        let flushed = if self.stream.unsent() > 0 || self.stream.wants_flush() {
            Pin::new(&mut self.stream).poll_flush(cx)
        } else {
            Poll::Ready(Ok(()))
        };
        self.note(before, took, now);
        match flushed {
            Poll::Ready(Ok(())) if self.stream.unsent() == 0 => {
                self.has_moved = true;
                Wrote::All
            }
            Poll::Ready(Err(_)) => Wrote::Broken,
            Poll::Ready(Ok(())) | Poll::Pending => Wrote::Blocked,
        }
    }

    /// Whether the client takes anything at all. A socket counts as writable again only when a good part of its
    /// queue has left; here it is asked directly.
    pub(super) fn nudge(&mut self, now: Instant) -> bool {
        let before = self.stream.sent();
        let n = self.stream.write_now(&self.rest[self.sent..]).unwrap_or(0);
        self.sent += n;
        if self.sent == self.rest.len() {
            self.rest = Bytes::new();
            self.sent = 0;
        }
        self.note(before, n, now)
    }

    /// Forgets whole frames of the rest that were not begun, and answers how many bytes that was.
    pub(super) fn cut_to_edge(&mut self) -> usize {
        let mut edge = 0;
        while edge < self.sent {
            match Header::parse(&self.rest[edge..]) {
                Ok(Some(header)) => edge += header.size + header.payload as usize,
                // It was made here, whole.
                Ok(None) | Err(_) => return 0,
            }
        }
        let lost = self.rest.len().saturating_sub(edge);
        self.rest.truncate(edge);
        if self.sent == self.rest.len() {
            self.rest = Bytes::new();
            self.sent = 0;
        }
        self.forget_stall();
        lost
    }

    /// Bytes that the client was to get and will not.
    pub(super) fn abandon(&mut self) -> usize {
        let lost = self.rest.len() - self.sent;
        self.rest = Bytes::new();
        self.sent = 0;
        self.forget_stall();
        lost
    }

    /// The piece that it has begun to take, from its first frame on: others may have it too.
    pub(super) fn piece(&self) -> &Bytes {
        &self.rest
    }

    /// Bytes held for the client.
    pub(super) fn held(&self) -> usize {
        self.rest.len() - self.sent + self.stream.held()
    }

    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        now: Instant,
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        let before = self.stream.sent();
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut buf);
        if before.is_some() {
            // TLS sends what it has sealed with a read as well.
            self.note(before, 0, now);
        }
        match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => Poll::Ready(Ok(buf.filled().len())),
            // TLS that ends without its own goodbye: a WebSocket has one itself.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    /// Since when the client has taken nothing, while there is something for it.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stall.since()
    }

    /// The socket took `took` bytes, or, where the stream keeps an account of its own, whatever it has sent since
    /// `before`. Whether that was anything.
    fn note(&mut self, before: Option<u64>, took: usize, now: Instant) -> bool {
        let has_moved = if before.is_some() { self.stream.sent() != before } else { took > 0 };
        self.has_moved |= has_moved;
        self.stall.note(has_moved, !self.is_flushed(), now);
        has_moved
    }

    /// What was given up does not stall.
    fn forget_stall(&mut self) {
        if self.is_flushed() {
            self.stall.clear();
        }
    }
}
