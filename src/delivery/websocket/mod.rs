//! A client's WebSocket, which ends here: what it is sent, what it sends, and how it is closed.
//!
//! * [`Outbound`]: its socket, and the rest of what that has begun to take. [`InboundDecoder`]: what the client sends.
//! * [`PingScheduler`]: its heartbeat. [`ReadLimits`]: how much of it is read.
//! * [`Endpoint`] says what may still be sent and read.
//!
//! # Invariants
//! 1. After [`WebSocket::poll_send`] and [`WebSocket::receive`] the socket has its waker for whatever is to go on, or there
//!    is a deadline for it.
//! 2. The first cause of an end is the one that is reported.
//! 3. A frame that was begun is finished, or the connection is reset.
//!
//! # Not here
//! What is delivered, and when ([`super::consumer`], [`super::shard`]); what becomes of the client's messages
//! ([`super::subscriber`]).

mod ending;
mod inbound;
mod limits;
mod outbound;
mod pings;

use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::Instant;

use self::inbound::{ClientEvent, InboundDecoder};
use self::limits::ReadLimits;
use super::receipts::Position;
use crate::config::{HeartbeatMode, IdleActivity, Policy};
use crate::connections::{ConnectionGuard, EndReport, Handle};
use crate::frame::{CloseCode, ControlFrame, Endpoint, Kind, ProtocolError, Role};
use crate::net::Transport;
use crate::net::scratch::{self, HELD_ROOM};

pub(super) use self::outbound::{Outbound, WriteStatus};
pub(super) use self::pings::PingScheduler;

/// Bytes read at once. Less than the buffer: how many frames a read has is only known after it.
const READ: usize = 16 * 1024;
/// The same where messages are inflated here, to a thousand times as much.
const READ_DEFLATED: usize = 2 * 1024;

/// The server's end of one client's WebSocket.
#[derive(Debug)]
pub(super) struct WebSocket {
    outbound: Outbound,
    inbound: InboundDecoder,
    endpoint: Endpoint,
    pings: Option<Box<PingScheduler>>,
    limits: ReadLimits,
    /// Bytes that were read together with the handshake.
    read_ahead: Option<Box<Bytes>>,
    /// An end that has begun.
    ending: Option<Box<Ending>>,
    /// When something happened last that counts for `idle_timeout`.
    last_activity: Instant,
    connection: ConnectionGuard,
}

/// An end that has begun.
#[derive(Debug)]
struct Ending {
    report: EndReport,
    /// When it has to be over.
    deadline: Option<Instant>,
}

/// How far sending has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendStatus {
    /// Everything that was written has left: there may be more.
    Ready,
    /// The socket is full; the task is woken when it takes more.
    Blocked,
    /// Nothing is left to be done, and the client is to be dropped.
    Closed,
}

/// Something that a client sent, for the subscriber.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<'a> {
    /// A whole message, where such are wanted.
    Message(Kind, &'a [u8]),
    /// The answer to a ping: so many messages are acknowledged that were not before.
    Receipt(u64),
}

/// What one read came to.
#[derive(Debug)]
pub(super) enum ReadStatus {
    /// There is nothing; the task is woken when there is.
    Pending,
    /// Nothing more will come.
    Ended,
    /// Something came.
    Read(Input),
}

/// Everything that came with one read, but for what was handed out as [`Received`].
#[derive(Debug, Default)]
pub(super) struct Input {
    /// What the read is charged with: bytes, or what they were inflated to if that is more, and frames.
    pub(super) bytes: usize,
    pub(super) frames: u32,
    /// Messages that ended.
    pub(super) messages: u32,
    /// Control frames, and texts that belong to the heartbeat.
    pub(super) controls: u32,
    pub(super) close: Option<CloseCode>,
    pub(super) error: Option<ProtocolError>,
}

impl WebSocket {
    /// `wants_messages`: whether the client's messages are handed out, or only counted.
    pub(super) fn new(
        transport: Transport,
        has_deflate: bool,
        policy: &Policy,
        wants_messages: bool,
        connection: ConnectionGuard,
        now: Instant,
    ) -> Self {
        let is_json = policy.heartbeat.is_some_and(|heartbeat| heartbeat.mode == HeartbeatMode::Json);
        Self {
            outbound: Outbound::new(transport.stream, has_deflate),
            inbound: InboundDecoder::new(policy, has_deflate, is_json, wants_messages),
            endpoint: Endpoint::new(Role::Server),
            pings: policy.heartbeat.map(|heartbeat| Box::new(PingScheduler::new(heartbeat, now))),
            limits: ReadLimits::new(policy.message_rate, now),
            read_ahead: (!transport.read_ahead.is_empty()).then(|| Box::new(transport.read_ahead)),
            ending: None,
            last_activity: now,
            connection,
        }
    }

    pub(super) fn handle(&self) -> &Handle {
        self.connection.handle()
    }

    /// Whether no end has begun.
    pub(super) fn is_open(&self) -> bool {
        self.endpoint.state().can_send()
    }

    /// Whether the kernel has all that was written.
    pub(super) fn is_flushed(&self) -> bool {
        self.outbound.is_flushed()
    }

    /// Since when the client has taken nothing, while there is something for it.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.outbound.stalled_since()
    }

    /// Whether the client has taken anything since [`WebSocket::watch_progress`], or takes something now.
    pub(super) fn makes_progress(&mut self, now: Instant) -> bool {
        self.outbound.has_moved() || self.outbound.is_flushed() || self.outbound.try_write_now(now)
    }

    /// From here on it is noted whether the client takes anything.
    pub(super) fn watch_progress(&mut self) {
        self.outbound.watch_progress();
    }

    /// Whether the client takes anything at all: its socket is asked directly.
    pub(super) fn try_write_now(&mut self, now: Instant) -> bool {
        self.outbound.try_write_now(now)
    }

    /// The piece that the socket has begun to take, from its first frame on: others may have it too.
    pub(super) fn unsent_piece(&self) -> &Bytes {
        self.outbound.piece()
    }

    /// Bytes held for the client alone or together with others.
    pub(super) fn held(&self) -> usize {
        self.outbound.held() + self.inbound.held()
    }

    /// Bytes held for the client alone.
    pub(super) fn held_alone(&self) -> usize {
        self.outbound.held_by_stream() + self.inbound.held()
    }

    /// Whether the client takes compressed messages.
    pub(super) fn has_deflate(&self) -> bool {
        self.outbound.has_deflate()
    }

    /// Sends what is left, and control frames. `sequence`: how far the client was sent, for a ping to carry.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, sequence: u64, now: Instant) -> SendStatus {
        loop {
            if self.poll_done(cx) {
                return SendStatus::Closed;
            }
            if !self.outbound.is_idle() {
                match self.outbound.flush(cx, now) {
                    WriteStatus::Flushed => self.on_flushed(now),
                    WriteStatus::Blocked => return SendStatus::Blocked,
                    WriteStatus::Broken => {
                        self.on_lost();
                        continue;
                    }
                }
            }
            let Some(frame) = self.next_control(sequence) else { return SendStatus::Ready };
            let frame = Bytes::copy_from_slice(frame.as_bytes());
            match self.outbound.write(cx, &frame, now) {
                WriteStatus::Flushed => self.on_flushed(now),
                WriteStatus::Blocked => {}
                WriteStatus::Broken => self.on_lost(),
            }
        }
    }

    /// Writes whole frames with `messages` in them. Only to be called when nothing is left of what was written before.
    pub(super) fn send(
        &mut self,
        cx: &mut Context<'_>,
        frames: &Bytes,
        messages: u32,
        now: Instant,
    ) -> WriteStatus {
        self.last_activity = now;
        self.handle().on_out(messages, frames.len());
        let status = self.outbound.write(cx, frames, now);
        if status == WriteStatus::Broken {
            self.on_lost();
        }
        status
    }

    /// What the socket was blocked by may be kept together with others; `held` makes that the same bytes, counted until
    /// nobody has them.
    pub(super) fn share_unsent(&mut self, held: impl FnOnce() -> Bytes) {
        // TLS may have taken all of it for itself.
        if self.outbound.has_rest() {
            self.outbound.share(held());
        }
    }

    fn on_flushed(&mut self, now: Instant) {
        if let Some(pings) = &mut self.pings {
            pings.on_flushed(now);
        }
    }

    /// A control frame that is due between two messages.
    fn next_control(&mut self, sequence: u64) -> Option<ControlFrame> {
        if let Some(frame) = self.endpoint.next_control() {
            return Some(frame);
        }
        if !self.is_open() {
            return None;
        }
        let handle = self.connection.handle();
        let sent = Position { sequence, messages: handle.sent() };
        let pings = self.pings.as_mut()?;
        let ping = pings.next_ping(sent)?;
        if pings.acknowledged().is_some() {
            handle.on_asked(sent.messages);
        }
        Some(ping)
    }

    /// Whether the client may be read now. What stood still while it was not read goes on where it was.
    pub(super) fn poll_readable(&mut self, now: Instant) -> bool {
        if self.endpoint.state().is_read_ended() {
            return false;
        }
        if let Some(pause) = self.limits.end_pause(now) {
            if let Some(pings) = &mut self.pings {
                pings.shift(pause, now);
            }
            self.last_activity = (self.last_activity + pause).min(now);
        }
        !self.limits.is_paused()
    }

    /// Reads once, and hands `on` what came. `sequence`: how far the client was sent, which is all that it can acknowledge.
    pub(super) fn receive(
        &mut self,
        cx: &mut Context<'_>,
        idle_activity: IdleActivity,
        sequence: u64,
        now: Instant,
        on: impl FnMut(Received<'_>),
    ) -> ReadStatus {
        scratch::with(|scratch| {
            let most = if self.inbound.inflates() { READ_DEFLATED } else { READ };
            let room = &mut scratch[HELD_ROOM..HELD_ROOM + most];
            let n = match self.take_read_ahead(room) {
                0 => match self.outbound.read(cx, room, now) {
                    Poll::Pending => return ReadStatus::Pending,
                    Poll::Ready(Ok(n)) if n > 0 => n,
                    Poll::Ready(_) => {
                        self.on_read_end();
                        return ReadStatus::Ended;
                    }
                },
                n => n,
            };
            let records = self.outbound.take_records();
            let mut input = self.decode(&mut scratch[..HELD_ROOM + n], idle_activity, sequence, now, on);
            input.bytes = input.bytes.max(n);
            input.frames = input.frames.max(records);
            ReadStatus::Read(input)
        })
    }

    /// Takes what was read together with the handshake.
    fn take_read_ahead(&mut self, buf: &mut [u8]) -> usize {
        let Some(bytes) = &mut self.read_ahead else { return 0 };
        let n = bytes.len().min(buf.len());
        buf[..n].copy_from_slice(&bytes.split_to(n));
        if bytes.is_empty() {
            // It may hold the whole buffer of the handshake.
            self.read_ahead = None;
        }
        n
    }

    fn decode(
        &mut self,
        buf: &mut [u8],
        idle_activity: IdleActivity,
        sequence: u64,
        now: Instant,
        mut on: impl FnMut(Received<'_>),
    ) -> Input {
        if let Some(pings) = &mut self.pings {
            pings.on_activity(now);
        }
        if idle_activity == IdleActivity::Any {
            self.last_activity = now;
        }
        if !self.endpoint.state().can_read() {
            self.handle().on_discarded(buf.len() - HELD_ROOM);
            return Input::default();
        }
        let metrics = self.connection.metrics();
        let sent = Position { sequence, messages: self.connection.handle().sent() };
        let (pings, endpoint) = (&mut self.pings, &mut self.endpoint);
        let (mut close, mut bytes) = (None, 0);
        let decoded = self.inbound.decode(buf, |event| {
            match event {
                ClientEvent::Ping(payload) => endpoint.on_ping(payload),
                ClientEvent::Pong(payload) => {
                    if let Some(pings) = pings {
                        on(Received::Receipt(pings.on_pong(payload, sent, now, metrics)));
                    }
                }
                ClientEvent::ShortText(payload) => {
                    return pings.as_mut().is_some_and(|pings| pings.on_text(payload, now, metrics));
                }
                ClientEvent::Message(kind, payload) => {
                    bytes += payload.len();
                    on(Received::Message(kind, payload));
                }
                ClientEvent::Close(code) => close = Some(code),
            }
            false
        });
        if decoded.messages > 0 {
            self.last_activity = now;
        }
        Input {
            bytes,
            frames: decoded.frames,
            messages: decoded.messages,
            controls: decoded.controls,
            close,
            error: decoded.error,
        }
    }

    /// How much of the client may be read, and when.
    pub(super) fn limits(&mut self) -> &mut ReadLimits {
        &mut self.limits
    }

    /// When the client is read again, where it is not read now.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.limits.paused_until()
    }

    /// When nothing will have happened for `idle_timeout`, unless something does. While the client is not read that clock
    /// stands still.
    pub(super) fn idle_deadline(&self, policy: &Policy) -> Option<Instant> {
        let idle = policy.idle_timeout.filter(|_| !self.limits.is_paused())?;
        Some(self.last_activity + idle)
    }

    /// When [`WebSocket::on_ping_timer`] is to be called.
    pub(super) fn ping_deadline(&self) -> Option<Instant> {
        self.pings.as_ref()?.deadline(self.limits.is_paused())
    }

    /// A ping is due, or one was not answered. True when the client is to be given up.
    pub(super) fn on_ping_timer(&mut self, now: Instant) -> bool {
        let is_paused = self.limits.is_paused();
        let metrics = self.connection.metrics();
        self.pings.as_mut().is_some_and(|pings| pings.on_timer(is_paused, now, metrics))
    }
}
