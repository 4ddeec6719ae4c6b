//! A client's WebSocket, which ends here: what it is sent, what it sends, and how it is closed.
//!
//! * [`InboundDecoder`]: what the client sends. What it is sent goes out by an [`Outbound`].
//! * [`PingScheduler`]: its heartbeat. [`ReadLimits`]: how much of it is read. [`deadlines`]: when it is judged, and for what.
//! * [`Endpoint`] says what may still be sent and read.
//!
//! Both modes whose clients' WebSockets end here use it: [`super::subscriber`] for a client of a feed, [`crate::session`] for
//! one whose server's link is its own.
//!
//! # Invariants
//! 1. After [`WebSocket::poll_send`] and [`WebSocket::receive`] the socket has its waker for whatever is to go on, or there
//!    is a deadline for it: [`WebSocket::next_deadline`], or [`WebSocket::paused_until`].
//! 2. The first cause of an end is the one that is reported.
//! 3. A frame that was begun is finished, or the connection is reset.
//!
//! # Not here
//! What is delivered, and when ([`super::consumer`], [`super::shard`]); what becomes of the client's messages
//! ([`super::subscriber`], [`crate::session`]).

mod deadlines;
mod ending;
mod inbound;
mod limits;
mod pings;
mod receive;

use std::task::Context;

use bytes::Bytes;
use tokio::time::Instant;

use self::inbound::InboundDecoder;
use super::control::Prefix;
use super::encoding::Encoding;
use super::outbound::Outbound;
use super::receipts::Position;
use super::status::{SendStatus, WriteStatus};
use crate::config::{HeartbeatMode, Policy};
use crate::connections::{ConnectionGuard, EndReport, Handle};
use crate::frame::{ControlFrame, Endpoint, Role};
use crate::net::Transport;

pub(crate) use self::limits::{ReadLimits, SpentRates};
pub(super) use self::pings::PingScheduler;

/// The server's end of one client's WebSocket.
#[derive(Debug)]
pub(crate) struct WebSocket {
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
    /// The reason in the client's own Close, where that began it.
    said: Box<str>,
    /// When it has to be over.
    deadline: Option<Instant>,
}

impl WebSocket {
    /// `wants_messages`: whether the client's messages are handed out, or only counted.
    pub(crate) fn new(
        transport: Transport,
        has_deflate: bool,
        policy: &Policy,
        wants_messages: bool,
        connection: ConnectionGuard,
        now: Instant,
    ) -> Self {
        let is_json = policy.heartbeat.is_some_and(|heartbeat| heartbeat.mode == HeartbeatMode::Json);
        Self {
            outbound: Outbound::new(transport.stream, Encoding::of_frames(has_deflate), Bytes::new()),
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

    /// From now on texts that begin with `prefix` are control frames ([`Received::Control`](crate::delivery::Received::Control)),
    /// and the heartbeat is one where it
    /// is a text. To be called before anything was read.
    pub(crate) fn speak_control(&mut self, policy: &Policy, wants_messages: bool, prefix: Prefix) {
        let has_deflate = self.has_deflate();
        self.inbound = InboundDecoder::with_control(policy, has_deflate, wants_messages, prefix);
    }

    /// What control frames of this link begin with; `None`: it has none.
    pub(crate) fn prefix(&self) -> Option<&Prefix> {
        self.inbound.prefix()
    }

    pub(super) fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    pub(super) fn outbound_mut(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.connection.handle()
    }

    /// Whether no end has begun.
    pub(crate) fn is_open(&self) -> bool {
        self.endpoint.state().can_send()
    }

    /// Bytes held for the client alone or together with others.
    pub(crate) fn held(&self) -> usize {
        self.outbound.held() + self.inbound.held()
    }

    /// Bytes held for the client alone.
    pub(in crate::delivery) fn held_alone(&self) -> usize {
        self.outbound.held_by_stream() + self.inbound.held()
    }

    /// How the client is sent messages.
    pub(in crate::delivery) fn encoding(&self) -> Encoding {
        self.outbound.encoding()
    }

    /// Whether the client takes compressed messages.
    pub(crate) fn has_deflate(&self) -> bool {
        self.encoding().has_deflate()
    }

    /// Sends what is left, and control frames. `sequence`: how far the client was sent, for a ping to carry.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, sequence: u64, now: Instant) -> SendStatus {
        if self.limits.presence_check_at().is_some_and(|at| at <= now) {
            let is_gone = self.outbound.is_peer_gone(cx);
            self.limits.on_presence(is_gone, now);
        }
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
            match self.outbound.write_slice(cx, frame.as_bytes(), now) {
                WriteStatus::Flushed => self.on_flushed(now),
                WriteStatus::Blocked => {}
                WriteStatus::Broken => self.on_lost(),
            }
        }
    }

    /// Writes whole frames with `messages` in them, without a copy: what the socket does not take at once is kept as a part of
    /// `frames`. Only to be called when nothing is left of what was written before.
    pub(crate) fn send(
        &mut self,
        cx: &mut Context<'_>,
        frames: &Bytes,
        messages: u32,
        now: Instant,
    ) -> WriteStatus {
        self.on_send(messages, frames.len(), now);
        let status = self.outbound.write(cx, frames, now);
        self.after_write(status)
    }

    /// The same for frames that are only borrowed: what the socket does not take at once is copied.
    pub(crate) fn send_slice(
        &mut self,
        cx: &mut Context<'_>,
        frames: &[u8],
        messages: u32,
        now: Instant,
    ) -> WriteStatus {
        self.on_send(messages, frames.len(), now);
        let status = self.outbound.write_slice(cx, frames, now);
        self.after_write(status)
    }

    fn on_send(&mut self, messages: u32, bytes: usize, now: Instant) {
        // What is ours alone is no activity of the server.
        if messages > 0 {
            self.last_activity = now;
        }
        self.handle().on_out(messages, bytes);
    }

    fn after_write(&mut self, status: WriteStatus) -> WriteStatus {
        if status == WriteStatus::Broken {
            self.on_lost();
        }
        status
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
        let ping = pings.next_ping(sent, self.inbound.prefix())?;
        if pings.acknowledged().is_some() {
            handle.on_asked(sent.messages);
        }
        Some(ping)
    }

    /// How much of the client may be read, and when.
    pub(crate) fn limits(&mut self) -> &mut ReadLimits {
        &mut self.limits
    }

    /// When the client is read again, where it is not read now.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.limits.paused_until()
    }
}
