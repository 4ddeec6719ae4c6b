//! The way out to one client: its socket, and the rest of what the socket has begun to take.
//!
//! # Invariants
//! 1. The rest ends between two pieces (frames, or events), and nothing is written past it: a piece that was begun is
//!    finished, or the connection is reset.
//! 2. The rest is a part of what others were sent too, and not a copy, but where it was borrowed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::encoding::Encoding;
use super::status::WriteStatus;
use crate::net::Stream;
use crate::resilience::Stall;

/// The way out.
#[derive(Debug)]
pub(super) struct Outbound {
    stream: Stream,
    /// What was begun, from its first frame on.
    rest: Bytes,
    /// `rest[..sent]` was taken.
    sent: usize,
    /// Updated after everything that touches the stream.
    stall: Stall,
    /// Whether the client has taken anything since its progress is watched.
    has_moved: bool,
    encoding: Encoding,
}

impl Outbound {
    /// `first`: what goes out before anything else.
    pub(super) fn new(stream: Stream, encoding: Encoding, first: Bytes) -> Self {
        Self { stream, rest: first, sent: 0, stall: Stall::default(), has_moved: false, encoding }
    }

    /// How the client is sent messages.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether the kernel has all that was written.
    pub(super) fn is_flushed(&self) -> bool {
        self.rest.is_empty() && self.stream.unsent() == 0
    }

    /// Writes whole frames. Only to be called when nothing is left of the write before.
    pub(super) fn write(&mut self, cx: &mut Context<'_>, frames: &Bytes, now: Instant) -> WriteStatus {
        self.write_or_keep(cx, frames, now, |at| (frames.clone(), at))
    }

    /// The same for frames that are only borrowed: what is not taken at once is copied, from the beginning of the frame on
    /// that was begun.
    pub(super) fn write_slice(&mut self, cx: &mut Context<'_>, frames: &[u8], now: Instant) -> WriteStatus {
        let encoding = self.encoding;
        self.write_or_keep(cx, frames, now, |at| {
            let start = encoding.edges(frames, at).map_or(0, |(before, _)| before);
            (Bytes::copy_from_slice(&frames[start..]), at - start)
        })
    }

    /// `keep` answers what is kept when `at` bytes were taken, and how much of that they are.
    fn write_or_keep(
        &mut self,
        cx: &mut Context<'_>,
        frames: &[u8],
        now: Instant,
        keep: impl FnOnce(usize) -> (Bytes, usize),
    ) -> WriteStatus {
        debug_assert!(self.rest.is_empty());
        let before = self.stream.sent();
        let mut at = 0;
        while at < frames.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &frames[at..]) {
                Poll::Ready(Ok(n)) if n > 0 => at += n,
                Poll::Ready(_) => return WriteStatus::Broken,
                Poll::Pending => {
                    (self.rest, self.sent) = keep(at);
                    self.note(before, at, now);
                    if self.stream.wants_flush() {
                        // Only a flush makes room; an error is reported by the next write.
                        let _ = Pin::new(&mut self.stream).poll_flush(cx);
                    }
                    return WriteStatus::Blocked;
                }
            }
        }
        self.note(before, at, now);
        if self.stream.unsent() == 0 && !self.stream.wants_flush() {
            return WriteStatus::Flushed;
        }
        self.flush(cx, now)
    }

    /// Whether something was begun and is not written yet.
    pub(super) fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Replaces what it was blocked by with the same bytes, which are counted until their last clone is dropped.
    pub(super) fn share(&mut self, held: Bytes) {
        debug_assert_eq!(self.rest, held);
        self.rest = held;
    }

    /// Writes what is left.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>, now: Instant) -> WriteStatus {
        let before = self.stream.sent();
        let mut took = 0;
        while self.sent < self.rest.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.rest[self.sent..]) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.sent += n;
                    took += n;
                }
                Poll::Ready(_) => return WriteStatus::Broken,
                Poll::Pending => {
                    self.note(before, took, now);
                    return WriteStatus::Blocked;
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
                WriteStatus::Flushed
            }
            Poll::Ready(Err(_)) => WriteStatus::Broken,
            Poll::Ready(Ok(())) | Poll::Pending => WriteStatus::Blocked,
        }
    }

    /// Whether the client takes anything at all. A socket counts as writable again only when a good part of its
    /// queue has left; here it is asked directly.
    pub(super) fn try_write_now(&mut self, now: Instant) -> bool {
        let before = self.stream.sent();
        let n = self.stream.write_now(&self.rest[self.sent..]).unwrap_or(0);
        self.sent += n;
        if self.sent == self.rest.len() {
            self.rest = Bytes::new();
            self.sent = 0;
        }
        self.note(before, n, now)
    }

    /// Drops whole frames of the rest that were not begun, and answers how many bytes they had.
    pub(super) fn cut_to_edge(&mut self) -> usize {
        let Some((_, edge)) = self.encoding.edges(&self.rest, self.sent) else { return 0 };
        let lost = self.rest.len().saturating_sub(edge);
        self.rest.truncate(edge);
        if self.sent == self.rest.len() {
            self.rest = Bytes::new();
            self.sent = 0;
        }
        self.forget_stall();
        lost
    }

    /// Drops the rest, and answers how many bytes of it the client will not get.
    pub(super) fn abandon(&mut self) -> usize {
        let lost = self.rest.len() - self.sent;
        self.rest = Bytes::new();
        self.sent = 0;
        self.forget_stall();
        lost
    }

    /// The piece that the socket has begun to take, from its first frame on: others may have it too.
    pub(super) fn piece(&self) -> &Bytes {
        &self.rest
    }

    /// Bytes held for the client.
    pub(super) fn held(&self) -> usize {
        self.rest.len() - self.sent + self.stream.held()
    }

    /// Those of them that the stream holds, which are not shared.
    pub(super) fn held_by_stream(&self) -> usize {
        self.stream.held()
    }

    /// Whether there is nothing to flush.
    pub(super) fn is_idle(&self) -> bool {
        self.is_flushed() && !self.stream.wants_flush()
    }

    /// From here on it is noted whether the client takes anything.
    pub(super) fn watch_progress(&mut self) {
        self.has_moved = false;
    }

    /// Whether the client has taken anything since then.
    pub(super) fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// Whether the client has ended its side, though what it sent before may not be read yet.
    pub(super) fn is_peer_gone(&mut self, cx: &mut Context<'_>) -> bool {
        self.stream.is_read_closed(cx)
    }

    /// How many TLS records or HTTP/2 frames the last read came in.
    pub(super) fn take_records(&mut self) -> u32 {
        self.stream.take_records()
    }

    /// Ends TLS in an orderly way, if there is TLS.
    pub(super) fn send_close_notify(&mut self) {
        self.stream.send_close_notify();
    }

    /// Ends the stream to the client: nothing more is written.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Makes the end of the connection a reset.
    pub(super) fn reset_on_drop(&mut self) {
        self.stream.reset_on_drop();
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
            // TLS that ends without close_notify: a WebSocket has a Close of its own.
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

    /// What was dropped does not stall.
    fn forget_stall(&mut self) {
        if self.is_flushed() {
            self.stall.clear();
        }
    }
}
