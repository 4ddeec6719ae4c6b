//! A client's link, by whichever of the two ways it came. Both are sent whole pieces, held to the same bounds, and closed with
//! a cause; what differs is how messages stand on the wire, what is said in silence, how an end is told, and that an event
//! stream hears nothing.

use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::close::CloseCause;
use super::control::{FromProxy, Prefix};
use super::encoding::Encoding;
use super::event_stream::EventStream;
use super::events::stream;
use super::outbound::Outbound;
use super::status::{Input, ReadStatus, Received, SendStatus, WriteStatus};
use super::websocket::{ReadLimits, WebSocket};
use crate::config::{IdleActivity, Policy, Rate};
use crate::connections::{EndReport, Handle};
use crate::frame::CloseCode;
use crate::log::Entry;
use crate::telemetry::Reason;

/// The server's end of one client's link.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a WebSocket stands where it would stand by itself")]
pub(crate) enum Link {
    WebSocket(WebSocket),
    /// Boxed: most clients have a WebSocket, which is not to be larger for it.
    Events(Box<EventStream>),
}

/// The same for both.
macro_rules! each {
    ($link:expr, $one:ident => $does:expr) => {
        match $link {
            Link::WebSocket($one) => $does,
            Link::Events($one) => $does,
        }
    };
}

impl Link {
    pub(crate) fn handle(&self) -> &Handle {
        each!(self, link => link.handle())
    }

    /// How the client is sent messages.
    pub(super) fn encoding(&self) -> Encoding {
        each!(self, link => link.encoding())
    }

    /// Whether no end has begun.
    pub(crate) fn is_open(&self) -> bool {
        each!(self, link => link.is_open())
    }

    fn outbound(&self) -> &Outbound {
        each!(self, link => link.outbound())
    }

    fn outbound_mut(&mut self) -> &mut Outbound {
        each!(self, link => link.outbound_mut())
    }

    /// Whether the kernel has all that was written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.outbound().is_flushed()
    }

    /// Since when the client has taken nothing, while there is something for it.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.outbound().stalled_since()
    }

    /// Whether the client has taken anything since [`Link::watch_progress`], or takes something now.
    pub(super) fn makes_progress(&mut self, now: Instant) -> bool {
        let outbound = self.outbound_mut();
        outbound.has_moved() || outbound.is_flushed() || outbound.try_write_now(now)
    }

    /// From here on it is noted whether the client takes anything.
    pub(super) fn watch_progress(&mut self) {
        self.outbound_mut().watch_progress();
    }

    /// Whether the client takes anything at all: its socket is asked directly.
    pub(crate) fn try_write_now(&mut self, now: Instant) -> bool {
        self.outbound_mut().try_write_now(now)
    }

    /// The piece that the socket has begun to take, from its first frame or event on: others may have it too.
    pub(super) fn unsent_piece(&self) -> &Bytes {
        self.outbound().piece()
    }

    /// What the socket was blocked by may be kept together with others; `held` makes that the same bytes, counted until
    /// their last clone is dropped.
    pub(super) fn share_unsent(&mut self, held: impl FnOnce() -> Bytes) {
        let outbound = self.outbound_mut();
        // TLS may have taken all of it for itself.
        if outbound.has_rest() {
            outbound.share(held());
        }
    }

    /// Bytes held for the client alone or together with others.
    pub(crate) fn held(&self) -> usize {
        each!(self, link => link.held())
    }

    /// Bytes held for the client alone.
    pub(super) fn held_alone(&self) -> usize {
        each!(self, link => link.held_alone())
    }

    /// What control frames of this link begin with; `None`: it has none.
    pub(crate) fn prefix(&self) -> Option<&Prefix> {
        match self {
            Self::WebSocket(socket) => socket.prefix(),
            Self::Events(_) => None,
        }
    }

    /// Sends what is left, and what the link says by itself. `sequence`: how far the client was sent, for a ping to carry.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, sequence: u64, now: Instant) -> SendStatus {
        match self {
            Self::WebSocket(socket) => socket.poll_send(cx, sequence, now),
            Self::Events(stream) => stream.poll_send(cx, now),
        }
    }

    /// Writes whole pieces with `messages` in them, without a copy: what the socket does not take at once is kept as a part of
    /// `pieces`. Only to be called when nothing is left of what was written before.
    pub(crate) fn send(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &Bytes,
        messages: u32,
        now: Instant,
    ) -> WriteStatus {
        each!(self, link => link.send(cx, pieces, messages, now))
    }

    /// Whether the client may be read now. What stood still while it was not read goes on where it was.
    pub(crate) fn poll_readable(&mut self, now: Instant) -> bool {
        match self {
            Self::WebSocket(socket) => socket.poll_readable(now),
            Self::Events(stream) => stream.is_readable(),
        }
    }

    /// Reads once, and hands `on` what came. `sequence`: how far the client was sent, which is all that it can acknowledge.
    pub(crate) fn receive(
        &mut self,
        cx: &mut Context<'_>,
        idle_activity: IdleActivity,
        sequence: u64,
        now: Instant,
        on: impl FnMut(Received<'_>),
    ) -> ReadStatus {
        match self {
            Self::WebSocket(socket) => socket.receive(cx, idle_activity, sequence, now, on),
            Self::Events(stream) => stream.receive(cx, now),
        }
    }

    /// Does what follows from a read for the link itself ([`WebSocket::on_input`]).
    pub(crate) fn on_input(
        &mut self,
        input: &Input,
        control_rate: Option<Rate>,
        policy: &Policy,
        now: Instant,
    ) {
        if let Self::WebSocket(socket) = self {
            socket.on_input(input, control_rate, policy, now);
        }
    }

    /// How much of the client may be read, and when. `None`: it has nothing to say, and is always read.
    pub(crate) fn limits(&mut self) -> Option<&mut ReadLimits> {
        match self {
            Self::WebSocket(socket) => Some(socket.limits()),
            Self::Events(_) => None,
        }
    }

    /// When the client is read again, where it is not read now.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        match self {
            Self::WebSocket(socket) => socket.paused_until(),
            Self::Events(_) => None,
        }
    }

    /// Puts a message behind `out` as the client is sent it. `id_prefix`: of its id, in an event stream.
    pub(crate) fn push_message(&self, entry: &Entry, id_prefix: &str, out: &mut Vec<u8>) {
        match self.encoding() {
            Encoding::Frames | Encoding::DeflatedFrames => out.extend_from_slice(self.frame_of(entry)),
            Encoding::Events(form) => stream::push_message(entry, id_prefix, form, out),
        }
    }

    /// A message as a frame, compressed if the client takes that.
    pub(crate) fn frame_of<'a>(&self, entry: &'a Entry) -> &'a [u8] {
        entry.frame_for(self.encoding().has_deflate())
    }

    /// Whether messages are worth compressing for it.
    pub(crate) fn has_deflate(&self) -> bool {
        self.encoding().has_deflate()
    }

    /// What is said beside the messages, as this link says it. `None`: nothing is.
    pub(crate) fn control_piece(&self, frame: &FromProxy) -> Option<Bytes> {
        match self {
            Self::WebSocket(socket) => socket.prefix().map(|prefix| frame.frame(prefix)),
            Self::Events(_) => Some(stream::control(frame)),
        }
    }

    /// [`Link::send`] for pieces that are only borrowed: what the socket does not take at once is copied.
    pub(crate) fn send_slice(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[u8],
        messages: u32,
        now: Instant,
    ) -> WriteStatus {
        each!(self, link => link.send_slice(cx, pieces, messages, now))
    }

    /// Whether it is to be closed since nothing happens on it.
    pub(crate) fn is_idle(&self, policy: &Policy, now: Instant) -> bool {
        matches!(self, Self::WebSocket(socket) if socket.is_idle(policy, now))
    }

    /// What is reported of the end that has begun.
    pub(crate) fn end_report(&self) -> Option<EndReport> {
        each!(self, link => link.end_report())
    }

    /// The code and the reason of the client's Close, where it was that Close that began the end. An event stream has none.
    pub(crate) fn client_close(&self) -> Option<(CloseCode, &str)> {
        match self {
            Self::WebSocket(socket) => Some((socket.client_close()?, socket.client_close_reason())),
            Self::Events(_) => None,
        }
    }

    /// As [`Link::leave`], of a client that another link of it goes on with.
    pub(crate) fn leave_for_another(&mut self) {
        match self {
            Self::WebSocket(socket) => socket.leave_for_another(),
            Self::Events(stream) => stream.leave(),
        }
    }

    /// Begins to close, unless an end has begun ([`WebSocket::close`], [`EventStream::close`]).
    pub(crate) fn close(&mut self, cause: &CloseCause, timeout: Duration, now: Instant) {
        each!(self, link => link.close(cause, timeout, now));
    }

    /// Ends now, whatever is unsent.
    pub(crate) fn reset(&mut self, reason: Reason) {
        each!(self, link => link.reset(reason));
    }

    /// The task that serves the client has failed.
    pub(crate) fn fail(self) {
        each!(self, link => link.fail());
    }

    /// The client's place in the registry is given back, once an end has begun.
    pub(crate) fn leave(&mut self) {
        each!(self, link => link.leave());
    }

    /// When [`Link::on_deadlines`] and [`Link::poll_send`] are to be called, unless judgements are deferred.
    pub(crate) fn next_deadline(&self, policy: &Policy) -> Option<Instant> {
        match self {
            Self::WebSocket(socket) => socket.next_deadline(policy),
            Self::Events(stream) => stream.next_deadline(),
        }
    }

    /// Deadlines may have come: does what follows from each.
    pub(crate) fn on_deadlines(&mut self, policy: &Policy, now: Instant) {
        match self {
            Self::WebSocket(socket) => socket.on_deadlines(policy, now),
            Self::Events(stream) => stream.on_deadlines(now),
        }
    }
}
