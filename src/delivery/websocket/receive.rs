//! Reads what a client sends.

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::WebSocket;
use super::inbound::ClientEvent;
use crate::config::{IdleActivity, Policy, Rate};
use crate::delivery::close::CloseCause;
use crate::delivery::receipts::Position;
use crate::delivery::status::{Input, ReadStatus, Received};
use crate::net::scratch::{self, HELD_ROOM};
use crate::telemetry::Reason;

/// Bytes read at once. Less than the buffer: how many frames a read has is only known after it.
const READ: usize = 16 * 1024;
/// The same where messages are inflated here, to a thousand times as much.
const READ_DEFLATED: usize = 2 * 1024;

impl WebSocket {
    /// Whether the client may be read now. What stood still while it was not read goes on where it was.
    pub(crate) fn poll_readable(&mut self, now: Instant) -> bool {
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
    pub(crate) fn receive(
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

    /// Does what follows from a read for the link itself, but for its messages, whose rate is
    /// [`ReadLimits::on_messages`](super::ReadLimits::on_messages): beyond the rate of its control frames the client is closed,
    /// since each may ask for an answer; those of the protocol among the messages count as messages; its Close is answered; and
    /// who broke a rule is read no more.
    pub(crate) fn on_input(
        &mut self,
        input: &Input,
        control_rate: Option<Rate>,
        policy: &Policy,
        now: Instant,
    ) {
        let timeout = policy.close_timeout;
        if let Some(rate) = control_rate
            && input.controls > 0
            && self.is_open()
            && !self.limits.allows_controls(input.controls, rate, now)
        {
            let cause = CloseCause::ours(Reason::ControlRate, 1008, "too many control frames");
            self.close(&cause, timeout, now);
        }
        if input.control_texts > 0 {
            self.limits.on_messages(input.control_texts, now);
        }
        if let Some(error) = input.control_error {
            tracing::debug!(connection = self.handle().id, fault = %error, "fault");
            self.close(&CloseCause::control_error(), timeout, now);
        }
        if let Some((code, reason)) = &input.close {
            self.on_close_received(*code, reason, timeout, now);
        }
        if let Some(error) = input.error {
            tracing::debug!(connection = self.handle().id, fault = %error, "fault");
            self.close(&CloseCause::protocol_error(error), timeout, now);
        }
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
            pings.on_activity();
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
                ClientEvent::Control(control) => {
                    if let Some(pings) = pings.as_mut().filter(|_| control.pong.is_some()) {
                        pings.on_control_pong(now, metrics);
                    }
                    on(Received::Control(control));
                }
                ClientEvent::Close(code, reason) => close = Some((code, reason.into())),
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
            control_texts: decoded.control_texts,
            close,
            error: decoded.error,
            control_error: decoded.control_error,
        }
    }
}
