//! One hop of a connection: what its peer still says, what it can still be told, what it has not taken.
//!
//! # Not here
//! Which bytes go where and what they mean ([`super::relay`]).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::ending::{CloseAction, CloseFrame};
use crate::frame::{CloseCode, ControlFrame, Opcode, Scanner};
use crate::net::{Stream, WriteBuffer};
use crate::resilience::Stall;

/// What the peer's bytes are taken for. Only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Frames.
    Frames,
    /// Nothing any more: its Close was heard, or it broke the protocol. Read until its end so that it
    /// can finish in peace (unread bytes would turn our close into a reset).
    Discarding,
    /// The stream has ended.
    Ended,
}

/// What the peer can still be sent. Only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// Frames.
    Frames,
    /// The last frame, a Close, is on its way or there (RFC 6455 §5.5.1).
    CloseSent,
    /// The end of the stream was sent.
    FinSent,
    /// Nothing: a write failed. What the peer said before it went may still be read.
    Broken,
}

/// One hop.
#[derive(Debug)]
pub(super) struct Link {
    stream: Option<Stream>,
    /// Walks what the peer says.
    pub(super) scanner: Scanner,
    /// The beginning of a frame that has to be whole first, or (`has_backlog`) frames not looked at yet.
    pub(super) held: Vec<u8>,
    /// Whether `held` is to be scanned before more is read.
    pub(super) has_backlog: bool,
    /// What the peer did not take.
    pub(super) egress: WriteBuffer,
    /// Told after everything that touches the stream.
    stall: Stall,
    /// Since when nothing can be sent to the peer, or it is known to be gone, though it was not read to its end.
    pub(super) broken_since: Option<Instant>,
    /// Since when it is not read, because nobody takes what it says.
    paused_since: Option<Instant>,
    pub(super) reading: Reading,
    pub(super) writing: Writing,
    /// The Close it said.
    pub(super) close_received: Option<CloseCode>,
    /// What it is owed, once the connection ends.
    pub(super) close_action: CloseAction,
    /// Whether the peer is the server: frames to it are masked (RFC 6455 §5.1), and it ends first.
    is_upstream: bool,
}

impl Link {
    /// `early` came together with the handshake.
    pub(super) fn new(stream: Stream, early: &[u8], scanner: Scanner, is_upstream: bool) -> Self {
        Self {
            stream: Some(stream),
            scanner,
            held: early.to_vec(),
            has_backlog: !early.is_empty(),
            egress: WriteBuffer::default(),
            stall: Stall::default(),
            broken_since: None,
            paused_since: None,
            reading: Reading::Frames,
            writing: Writing::Frames,
            close_received: None,
            close_action: CloseAction::Nothing,
            is_upstream,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether frames may still be sent to the peer.
    pub(super) fn can_send(&self) -> bool {
        self.is_open() && self.writing == Writing::Frames
    }

    /// Whether the peer may still say frames.
    pub(super) fn can_read(&self) -> bool {
        self.is_open() && self.reading == Reading::Frames
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        now: Instant,
    ) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(0)) };
        let mut buf = ReadBuf::new(buf);
        let before = stream.sent();
        let read = Pin::new(stream).poll_read(cx, &mut buf);
        // TLS sends what it has sealed with a read as well.
        self.note_sent(before, now);
        match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => Poll::Ready(Ok(buf.filled().len())),
            // TLS that ends without its own goodbye: a WebSocket has one itself, and without that one the
            // end is a loss anyway.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    /// As [`Stream::take_records`].
    pub(super) fn take_records(&mut self) -> u32 {
        self.stream.as_mut().map_or(0, Stream::take_records)
    }

    /// Sends `bytes`, at once as far as the socket takes them; `edge` is the offset of the last frame
    /// edge in them. Answers how many bytes were lost because the peer is gone.
    pub(super) fn send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        edge: Option<usize>,
        now: Instant,
    ) -> usize {
        let Some(stream) = &mut self.stream else { return bytes.len() };
        let before = stream.sent();
        let mut at = 0;
        if self.egress.is_empty() {
            while at < bytes.len() {
                match Pin::new(&mut *stream).poll_write(cx, &bytes[at..]) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(n)) if n > 0 => at += n,
                    Poll::Ready(_) => return bytes.len() - at + self.on_broken(),
                }
            }
        }
        if at < bytes.len() {
            self.egress.push(&bytes[at..], edge.and_then(|edge| edge.checked_sub(at)));
        }
        let has_moved = if before.is_some() { stream.sent() != before } else { at > 0 };
        self.stall.note(has_moved, !self.is_flushed(), now);
        0
    }

    /// Something may have left of what the stream holds: it had sent `before`, if it keeps an account.
    fn note_sent(&mut self, before: Option<u64>, now: Instant) {
        if let Some(stream) = &self.stream
            && before.is_some()
        {
            self.stall.note(stream.sent() != before, !self.is_flushed(), now);
        }
    }

    /// Since when the peer takes nothing, while there is something for it.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stall.since()
    }

    /// Whether the kernel has all that the peer was sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.waiting() == 0
    }

    /// Bytes that the peer was sent and the kernel has not.
    pub(super) fn waiting(&self) -> usize {
        self.egress.len() + self.stream.as_ref().map_or(0, Stream::unsent)
    }

    /// Bytes that this hop holds, in either direction.
    pub(super) fn buffered(&self) -> usize {
        self.egress.len() + self.held.len() + self.stream.as_ref().map_or(0, Stream::held)
    }

    /// Sends what is left over. Answers how many bytes were lost because the peer is gone.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>, now: Instant) -> usize {
        if self.is_flushed() {
            if let Some(stream) = &mut self.stream
                && stream.wants_flush()
            {
                // An error is told by the next read or write.
                let _ = Pin::new(stream).poll_flush(cx);
            }
            return 0;
        }
        let Some(stream) = &mut self.stream else { return self.egress.clear() };
        let (sent, has_moved) = self.egress.send(cx, stream);
        if let Poll::Ready(Err(_)) = sent {
            return self.on_broken();
        }
        self.stall.note(has_moved, !self.is_flushed(), now);
        0
    }

    /// Whether the peer took anything after all ([`WriteBuffer::send_unready`]).
    pub(super) fn has_taken_some(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let has_moved = self.egress.send_unready(cx, stream);
        self.stall.note(has_moved, !self.is_flushed(), now);
        has_moved
    }

    /// Queues a frame of ours; the caller has seen to it that the wire is at an edge.
    pub(super) fn push(&mut self, opcode: Opcode, payload: &[u8], now: Instant) {
        let frame = ControlFrame::new(opcode, payload, self.mask());
        self.push_frame(&frame, now);
    }

    /// Says the last words.
    pub(super) fn send_close(&mut self, frame: CloseFrame, now: Instant) {
        let frame = ControlFrame::close(frame.code, frame.reason, self.mask());
        self.push_frame(&frame, now);
        self.writing = Writing::CloseSent;
    }

    fn push_frame(&mut self, frame: &ControlFrame, now: Instant) {
        let bytes = frame.as_bytes();
        self.egress.push(bytes, Some(bytes.len()));
        self.stall.note(false, true, now);
    }

    /// Any mask will do: these payloads are ours, no attacker chose them (RFC 6455 §10.3).
    fn mask(&self) -> Option<[u8; 4]> {
        self.is_upstream.then(|| fastrand::u32(..).to_be_bytes())
    }

    /// Sends the end of the stream; true once that is done (or can never be).
    pub(super) fn send_fin(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(stream) = &mut self.stream else { return true };
        let before = stream.sent();
        let shut = Pin::new(stream).poll_shutdown(cx);
        self.note_sent(before, now);
        match shut {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => {
                self.writing = Writing::FinSent;
                true
            }
            Poll::Ready(Err(_)) => {
                self.on_broken();
                true
            }
        }
    }

    /// The peer takes nothing more. Answers how many bytes were lost.
    pub(super) fn on_broken(&mut self) -> usize {
        self.writing = Writing::Broken;
        self.stall.clear();
        self.egress.clear()
    }

    /// Nothing is left to be done on this hop.
    pub(super) fn is_done(&self) -> bool {
        match (self.writing, self.reading) {
            (Writing::Frames, _) => false,
            (Writing::Broken | Writing::FinSent, reading) => reading == Reading::Ended,
            // A server ends the TCP connection first (RFC 6455 §7.1.1): the upstream's end is waited
            // for, and the client gets ours.
            (Writing::CloseSent, reading) => {
                self.is_flushed()
                    && (reading == Reading::Ended || !self.is_upstream && self.close_received.is_some())
            }
        }
    }

    /// Ends the hop in an orderly way.
    pub(super) fn close(&mut self) -> usize {
        if let Some(stream) = &mut self.stream
            && self.writing != Writing::Broken
        {
            stream.send_close_notify();
        }
        self.end()
    }

    fn end(&mut self) -> usize {
        self.stream = None;
        self.reading = Reading::Ended;
        self.broken_since = None;
        self.on_broken()
    }

    /// Ends the hop now. A peer that has ended or was told everything gets an orderly end all the same.
    pub(super) fn reset(&mut self) -> usize {
        let is_settled = self.writing == Writing::CloseSent && self.is_flushed();
        if let Some(stream) = &self.stream
            && self.reading != Reading::Ended
            && !is_settled
        {
            stream.reset_on_drop();
            return self.end();
        }
        self.close()
    }

    /// Stops reading the peer.
    pub(super) fn pause(&mut self, now: Instant) {
        self.paused_since.get_or_insert(now);
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused_since.is_some()
    }

    /// Goes on reading; answers for how long it was not.
    pub(super) fn resume(&mut self, now: Instant) -> Option<Duration> {
        self.paused_since.take().map(|since| now.saturating_duration_since(since))
    }

    /// Whether the peer has ended or reset its side, though what it said before may not be read yet.
    pub(super) fn is_peer_gone(&mut self, task: &mut Context<'_>) -> bool {
        self.stream.as_mut().is_none_or(|stream| stream.is_read_closed(task))
    }
}
