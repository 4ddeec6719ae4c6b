//! One hop of a connection: what is still read of its peer, what the peer may still be sent, and what it has not taken.
//!
//! # Invariants
//! 1. Its state is private and changes by the moves that are named here and in `close`.
//!
//! # Not here
//! Which bytes go where and what they mean ([`super::relay`]).

mod close;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::has_budget_remaining;
use tokio::time::Instant;

use super::ending::CloseAction;
use crate::frame::{ConnectionState, ControlFrame, Opcode, Role, Scanner};
use crate::net::{Stream, WriteBuffer};
use crate::resilience::Stall;

/// A side of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Upstream,
}

impl Side {
    /// For what is compiled once for each side, since it runs for each message.
    pub(super) const fn of(is_client: bool) -> Self {
        if is_client { Self::Client } else { Self::Upstream }
    }

    /// As log lines have it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
    }
}

/// One hop.
#[derive(Debug)]
pub(super) struct Link {
    stream: Option<Stream>,
    /// Walks the frames that the peer sends.
    pub(super) scanner: Scanner,
    /// What came and was not scanned to its end. `None`: nothing is held.
    held: Option<Box<Held>>,
    /// What the peer did not take.
    pub(super) egress: WriteBuffer,
    /// Whether the last read found nothing and the task is registered to be woken for more: it stays so until the runtime
    /// hears of more. A task that is woken for its other side need not register here again.
    is_awaited: bool,
    /// What may still be sent to the peer, and is still read of it. Our role is the opposite of the peer's.
    state: ConnectionState,
    /// What is not so while frames simply pass. `None`: nothing of it ever was. Once it was, the memory stays: a peer that
    /// is slow is slow again.
    cold: Option<Box<Cold>>,
}

/// What came of the peer and was not scanned to its end.
#[derive(Debug, Default)]
struct Held {
    /// The beginning of a frame that has to be whole first, or (`is_backlog`) frames not looked at yet.
    bytes: Vec<u8>,
    /// Whether `bytes` are to be scanned before more is read.
    is_backlog: bool,
}

/// Why frames do not simply pass. Behind a pointer: a link is there twice for each connection, and most are idle.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cold {
    /// Updated after every call on the stream.
    stall: Stall,
    /// Since when nothing can be sent to the peer, or it is known to be gone, though it was not read to its end.
    broken_since: Option<Instant>,
    /// Since when it is not read, because the other side does not take what it sends.
    paused_since: Option<Instant>,
    /// What is still to be done for the end of this hop.
    close_action: CloseAction,
}

impl Link {
    /// `read_ahead` came together with the handshake; `role` is ours on this hop.
    pub(super) fn new(stream: Stream, read_ahead: &[u8], scanner: Scanner, role: Role) -> Self {
        Self {
            stream: Some(stream),
            scanner,
            held: (!read_ahead.is_empty())
                .then(|| Box::new(Held { bytes: read_ahead.to_vec(), is_backlog: true })),
            egress: WriteBuffer::default(),
            is_awaited: false,
            state: ConnectionState::new(role),
            cold: None,
        }
    }

    /// Whether frames pass both ways and nothing of this hop waits for anything: all that can be done for it is to read it.
    pub(super) fn is_flowing(&self) -> bool {
        self.stream.is_some()
            && self.state.is_open()
            && self.is_flushed()
            && self.cold.as_ref().is_none_or(|cold| **cold == Cold::default())
    }

    fn cold(&mut self) -> &mut Cold {
        self.cold.get_or_insert_default()
    }

    pub(super) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// What may still be sent to the peer, and is still read of it.
    pub(super) fn state(&self) -> ConnectionState {
        self.state
    }

    /// Whether frames may still be sent to the peer.
    pub(super) fn can_send(&self) -> bool {
        self.is_open() && self.state.can_send()
    }

    /// Whether frames of the peer are still read.
    pub(super) fn can_read(&self) -> bool {
        self.is_open() && self.state.can_read()
    }

    /// The peer's Close came.
    pub(super) fn on_close_received(&mut self) {
        self.state.on_close_received();
    }

    /// The other side's Close was passed on to the peer.
    pub(super) fn on_close_forwarded(&mut self) {
        self.state.on_close_sent();
    }

    /// The peer broke the protocol: what it sends is discarded.
    pub(super) fn discard(&mut self) {
        self.state.discard();
    }

    /// The peer's stream has ended. Answers how many bytes were lost, if that was by an error.
    pub(super) fn on_read_end(&mut self, is_error: bool) -> usize {
        self.state.on_read_end();
        self.held = None;
        if is_error { self.on_broken() } else { 0 }
    }

    /// Takes what came and was not scanned yet.
    pub(super) fn take_backlog(&mut self) -> Option<Vec<u8>> {
        self.held.take_if(|held| held.is_backlog).map(|held| held.bytes)
    }

    /// Keeps the beginning of a frame until more of it has come, or, as a backlog, frames that are not to be scanned now.
    pub(super) fn hold(&mut self, rest: &[u8], is_backlog: bool) {
        if !rest.is_empty() {
            let held = self.held.get_or_insert_default();
            held.bytes.extend_from_slice(rest);
            held.is_backlog = is_backlog;
        }
    }

    /// Puts what was held in front of what was read into `buf[at..]`, as on the wire. Answers where it begins.
    pub(super) fn prepend_held(&mut self, buf: &mut [u8], at: usize) -> usize {
        let Some(held) = self.held.take() else { return at };
        let start = at - held.bytes.len();
        buf[start..at].copy_from_slice(&held.bytes);
        start
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        now: Instant,
    ) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(0)) };
        if self.is_awaited && !stream.may_be_readable() {
            return Poll::Pending;
        }
        let mut buf = ReadBuf::new(buf);
        let before = stream.sent();
        let read = Pin::new(stream).poll_read(cx, &mut buf);
        // A task whose turn is over is sent away without being registered.
        self.is_awaited = read.is_pending() && has_budget_remaining();
        // TLS sends what it has sealed with a read as well.
        self.note_sent(before, now);
        match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => Poll::Ready(Ok(buf.filled().len())),
            // TLS that ends without close_notify: a WebSocket has a Close of its own, and without that one the end is a
            // loss anyway.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    /// The task is woken by another waker from now on.
    pub(super) fn on_new_waker(&mut self) {
        self.is_awaited = false;
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
        self.note_stall(has_moved, now);
        0
    }

    /// The stream may have sent some of what it holds: it had sent `before`, if it counts that.
    fn note_sent(&mut self, before: Option<u64>, now: Instant) {
        if let Some(stream) = &self.stream
            && before.is_some()
        {
            self.note_stall(stream.sent() != before, now);
        }
    }

    /// A call on the stream is over; `has_moved`: the kernel took something.
    fn note_stall(&mut self, has_moved: bool, now: Instant) {
        let is_waiting = !self.is_flushed();
        if is_waiting {
            self.cold();
        }
        if let Some(cold) = &mut self.cold {
            cold.stall.note(has_moved, is_waiting, now);
        }
    }

    /// Since when the peer takes nothing, while there is something for it.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.cold.as_ref()?.stall.since()
    }

    /// Whether the kernel has all that the peer was sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.egress.is_empty() && self.stream.as_ref().is_none_or(|stream| stream.unsent() == 0)
    }

    /// Bytes that the peer was sent and the kernel has not.
    pub(super) fn waiting(&self) -> usize {
        self.egress.len() + self.stream.as_ref().map_or(0, Stream::unsent)
    }

    /// Bytes that this hop holds, in either direction.
    pub(super) fn buffered(&self) -> usize {
        let held = self.held.as_ref().map_or(0, |held| held.bytes.len());
        self.egress.len() + held + self.stream.as_ref().map_or(0, Stream::held)
    }

    /// Sends what is left over. Answers how many bytes were lost because the peer is gone.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>, now: Instant) -> usize {
        if self.is_flushed() {
            if let Some(stream) = &mut self.stream
                && stream.wants_flush()
            {
                // An error is reported by the next read or write.
                let _ = Pin::new(stream).poll_flush(cx);
            }
            return 0;
        }
        let Some(stream) = &mut self.stream else { return self.egress.clear() };
        let (sent, has_moved) = self.egress.send(cx, stream);
        if let Poll::Ready(Err(_)) = sent {
            return self.on_broken();
        }
        self.note_stall(has_moved, now);
        0
    }

    /// Whether the peer takes anything although its socket is not ready ([`WriteBuffer::send_unready`]).
    pub(super) fn has_taken_some(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let has_moved = self.egress.send_unready(cx, stream);
        self.note_stall(has_moved, now);
        has_moved
    }

    /// Queues a frame of ours; only to be called at a frame edge.
    pub(super) fn push(&mut self, opcode: Opcode, payload: &[u8], now: Instant) {
        let frame = ControlFrame::new(opcode, payload, self.mask());
        self.push_frame(&frame, now);
    }

    fn push_frame(&mut self, frame: &ControlFrame, now: Instant) {
        let bytes = frame.as_bytes();
        self.egress.push(bytes, Some(bytes.len()));
        self.cold().stall.note(false, true, now);
    }

    /// Any mask will do: these payloads are ours, no attacker chose them (RFC 6455 §10.3).
    fn mask(&self) -> Option<[u8; 4]> {
        (self.state.role() == Role::Client).then(|| fastrand::u32(..).to_be_bytes())
    }

    /// A write failed, or nothing is to be sent any more. Answers how many bytes were lost.
    fn on_broken(&mut self) -> usize {
        self.state.on_broken();
        if let Some(cold) = &mut self.cold {
            cold.stall.clear();
        }
        self.egress.clear()
    }

    /// Notes since when nothing can be sent, if that is so.
    pub(super) fn note_broken(&mut self, now: Instant) {
        if self.is_open() && self.state.is_broken() {
            self.on_peer_gone(now);
        }
    }

    /// The peer is known to be gone, though its stream was not read to its end.
    pub(super) fn on_peer_gone(&mut self, now: Instant) {
        self.cold().broken_since.get_or_insert(now);
    }

    /// Since when nothing can be sent, or the peer is known to be gone.
    pub(super) fn broken_since(&self) -> Option<Instant> {
        self.cold.as_ref()?.broken_since
    }

    /// The time that a broken hop had to end has passed.
    pub(super) fn clear_broken(&mut self) {
        if let Some(cold) = &mut self.cold {
            cold.broken_since = None;
        }
    }

    /// Ends the hop in an orderly way. Answers how many bytes were lost.
    fn close(&mut self) -> usize {
        if let Some(stream) = &mut self.stream
            && !self.state.is_broken()
        {
            stream.send_close_notify();
        }
        self.end()
    }

    fn end(&mut self) -> usize {
        self.stream = None;
        self.state.on_read_end();
        self.clear_broken();
        self.on_broken()
    }

    /// Ends the hop now. A peer that has ended, or was sent everything, gets an orderly end all the same.
    pub(super) fn reset(&mut self) -> usize {
        let is_settled = self.state.close_sent() && !self.state.fin_sent() && self.is_flushed();
        if let Some(stream) = &self.stream
            && !self.state.is_read_ended()
            && !is_settled
        {
            stream.reset_on_drop();
            return self.end();
        }
        self.close()
    }

    /// Stops reading the peer.
    pub(super) fn pause(&mut self, now: Instant) {
        self.cold().paused_since.get_or_insert(now);
    }

    pub(super) fn is_paused(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.paused_since.is_some())
    }

    /// Goes on reading; answers for how long it was not.
    pub(super) fn resume(&mut self, now: Instant) -> Option<Duration> {
        let since = self.cold.as_mut()?.paused_since.take()?;
        Some(now.saturating_duration_since(since))
    }

    /// Whether the peer has ended or reset its side, though what it sent before may not be read yet.
    pub(super) fn is_peer_gone(&mut self, task: &mut Context<'_>) -> bool {
        self.stream.as_mut().is_none_or(|stream| stream.is_read_closed(task))
    }

    /// Memory that it holds for what was not scanned yet.
    #[cfg(test)]
    pub(super) fn held_capacity(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes.capacity())
    }
}
