//! What goes to the server: messages, and control frames behind them.
//!
//! # Invariants
//! 1. A message is encoded straight into the egress, and leaves with the next write: in an idle link nothing is kept of it.
//! 2. A ping that asks for a receipt goes behind all messages of a burst, and out with the last of them.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::receipts::{ReceiptMode, Receipts};
use super::{Uplink, UplinkEnd};
use crate::frame::{ControlFrame, Kind, Opcode, Role, encode};
use crate::net::Stream;
use crate::resilience::PING_PAYLOAD;

/// The longest header of a client's frame (RFC 6455 §5.2).
const MAX_HEADER: usize = 14;

impl Uplink {
    /// How much of `max_waiting` has to be free for a message of `payload` bytes: its payload and the longest header.
    pub(crate) fn room_for(payload: usize) -> usize {
        payload.saturating_add(MAX_HEADER)
    }

    /// Queues a message that the server is sent before anything else, right after the handshake. It is bounded by the
    /// configuration, and not by `max_waiting`: a server that was not greeted would be of no use.
    pub(crate) fn greet(&mut self, kind: Kind, payload: &[u8]) {
        self.push_message(kind, payload);
    }

    /// Queues a message for the server; false: too much waits already, or the link is ending. A message that
    /// does not fit into `max_waiting` never goes. It neither writes nor wakes the task: [`Uplink::flush`] is to be called
    /// after the last message of a burst.
    pub(crate) fn send(&mut self, kind: Kind, payload: &[u8]) -> bool {
        let marks = self.receipts.as_ref().map_or(0, |receipts| receipts.held_by_marks());
        let needed = Self::room_for(payload.len()).saturating_add(marks);
        if !self.can_send() || self.waiting().saturating_add(needed) > self.rules.max_waiting {
            return false;
        }
        self.push_message(kind, payload);
        true
    }

    /// Writes what waits, as far as the socket takes it. If that shows that the link is broken the task is woken.
    pub(crate) fn flush(&mut self, cx: &mut Context<'_>) {
        if self.stream.is_none() {
            return;
        }
        let now = Instant::now();
        let was_broken = self.endpoint.state().is_broken();
        self.write(cx, now);
        if self.endpoint.state().is_broken() && !was_broken {
            cx.waker().wake_by_ref();
        }
        self.arm(cx);
    }

    /// Whether nothing waits for the server.
    pub(crate) fn is_flushed(&self) -> bool {
        self.waiting() == 0
    }

    /// Whether messages can be sent: no end has begun.
    pub(crate) fn can_send(&self) -> bool {
        self.end.is_none() && self.stream.is_some() && self.endpoint.state().can_send()
    }

    /// Messages that were put on this link, ever ([`Uplink::send`], [`Uplink::greet`]). As with the next two, 0 with
    /// [`ReceiptMode::Off`].
    pub(crate) fn sent(&self) -> u64 {
        self.receipts.as_ref().map_or(0, |receipts| receipts.sent())
    }

    /// Those of them whose last byte the kernel has, over TLS with all of its record. No other can reach the server.
    pub(crate) fn left(&self) -> u64 {
        self.receipts.as_ref().map_or(0, |receipts| receipts.left())
    }

    /// Those of them that the server has taken.
    pub(crate) fn proven(&self) -> u64 {
        self.receipts.as_ref().map_or(0, |receipts| receipts.proven())
    }

    /// Something waits for what was sent last to be taken: a receipt is asked for at once, and not after its usual time.
    pub(crate) fn hasten_receipt(&mut self, now: Instant) {
        if let Some(receipts) = &mut self.receipts {
            receipts.hasten(now);
        }
    }

    /// Bytes that the server was sent and the kernel has not.
    pub(super) fn waiting(&self) -> usize {
        self.egress.len() + self.stream.as_ref().map_or(0, Stream::unsent)
    }

    fn push_message(&mut self, kind: Kind, payload: &[u8]) {
        let append = |out: &mut Vec<u8>| encode::append_message(Role::Client, kind, payload, out);
        self.queued += self.egress.append(append) as u64;
        if self.rules.receipts == ReceiptMode::Off {
            return;
        }
        let mode = self.rules.receipts;
        let receipts = self
            .receipts
            .get_or_insert_with(|| Box::new(Receipts::new(mode, fastrand::u64(..), Instant::now())));
        receipts.on_message(self.queued);
    }

    pub(super) fn push(&mut self, frame: &ControlFrame) {
        self.queued += self.egress.append(|out| out.extend_from_slice(frame.as_bytes())) as u64;
    }

    pub(super) fn push_ping(&mut self, payload: &[u8; PING_PAYLOAD]) {
        self.push(&ControlFrame::new(Opcode::Ping, payload, Role::Client.masking_key()));
    }

    /// Takes down how much has left, after every call on the stream that may have moved it.
    pub(super) fn note_left(&mut self, now: Instant) {
        let Some(stream) = &self.stream else { return };
        // What a broken link has not sent was dropped.
        if self.endpoint.state().is_broken() {
            return;
        }
        let left = (self.queued - self.egress.len() as u64).saturating_sub(stream.unsent_data() as u64);
        if left <= self.left_bytes {
            return;
        }
        self.left_bytes = left;
        if let Some(receipts) = &mut self.receipts {
            receipts.on_left(left, now);
        }
    }

    /// Sends what waits, and a pong behind it if one is queued and none is under way.
    pub(super) fn write(&mut self, cx: &mut Context<'_>, now: Instant) {
        self.ask_for_receipt(now);
        self.write_queued(cx, now);
        if self.left_bytes >= self.pong_leaves_at
            && let Some(pong) = self.endpoint.next_control()
        {
            self.push(&pong);
            self.pong_leaves_at = self.queued;
            self.write_queued(cx, now);
        }
        if self.ping_leaves_at.is_some_and(|at| self.left_bytes >= at) {
            self.ping_leaves_at = None;
            if let Some(heartbeat) = &mut self.heartbeat {
                heartbeat.on_flushed(now);
            }
        }
        // Where we have closed the link the server has `close_timeout` to answer, whatever it sends meanwhile.
        if matches!(self.end, Some(UplinkEnd::ProtocolError(_)))
            && self.endpoint.state().needs_fin(self.waiting() == 0)
            && let Some(stream) = &mut self.stream
        {
            match Pin::new(stream).poll_shutdown(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.endpoint.on_fin_sent(),
                Poll::Ready(Err(_)) => self.on_broken(now),
            }
        }
    }

    fn ask_for_receipt(&mut self, now: Instant) {
        if !self.can_send() {
            return;
        }
        if let Some(receipts) = &mut self.receipts
            && let Some(payload) = receipts.next_ping(self.queued, now)
        {
            self.push_ping(&payload);
        }
    }

    fn write_queued(&mut self, cx: &mut Context<'_>, now: Instant) {
        if self.waiting() == 0 {
            return;
        }
        let Some(stream) = &mut self.stream else { return };
        let (sent, has_moved) = self.egress.send(cx, stream);
        self.note_left(now);
        if let Poll::Ready(Err(_)) = sent {
            return self.on_broken(now);
        }
        self.stall.note(has_moved, self.waiting() > 0, now);
    }
}
