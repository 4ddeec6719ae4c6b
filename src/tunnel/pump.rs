//! One direction of a tunnel: what may be read of one side, and what of it goes on to the other.
//!
//! # Not here
//! When a direction is pumped, and for how long ([`super::relay`]); where frames begin and end
//! ([`crate::frame::Scanner`]).

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::link::Side;
use super::rates::{Rates, messages};
use super::relay::{Pumped, Relay};
use crate::config::{IdleActivity, OnStall};
use crate::frame::{CloseCode, Opcode, Outcome, Scanned, Verdict};
use crate::net::scratch::HELD_ROOM;
use crate::resilience::ReadBudget;
use crate::telemetry::Reason;

impl Relay {
    /// Moves the frames of one side to the other one.
    pub(super) fn pump<const OF_CLIENT: bool>(
        &mut self,
        cx: &mut Context<'_>,
        read_budget: &mut ReadBudget,
        scratch: &mut [u8],
        now: Instant,
    ) -> Pumped {
        let side = const { Side::of(OF_CLIENT) };
        loop {
            if side == Side::Upstream && self.has_injections {
                let injected = self.inject(cx, read_budget.bytes(), now);
                if injected > 0 {
                    read_budget.take(injected, 0);
                }
                if read_budget.is_spent() {
                    return Pumped::Busy;
                }
            }
            let most = match self.may_read::<OF_CLIENT>(now) {
                Some(most) => most,
                None => return Pumped::Waiting,
            };
            if read_budget.is_spent() {
                return Pumped::Busy;
            }
            let from = self.link_mut(side);
            if let Some(mut backlog) = from.take_backlog() {
                let frames = self.forward::<OF_CLIENT>(cx, &mut backlog, most, now);
                read_budget.take(backlog.len(), frames);
                continue;
            }
            let n = match from.poll_read(cx, &mut scratch[HELD_ROOM..], now) {
                Poll::Pending => return Pumped::Waiting,
                Poll::Ready(Ok(n)) if n > 0 => n,
                Poll::Ready(end) => {
                    self.on_end(side, end.is_err(), now);
                    return Pumped::Waiting;
                }
            };
            let start = from.prepend_held(scratch, HELD_ROOM);
            let records = from.take_records();
            let frames = self.forward::<OF_CLIENT>(cx, &mut scratch[start..HELD_ROOM + n], most, now);
            read_budget.take(n, frames.max(records));
        }
    }

    /// Whether the side is to be read now, and how many messages of it may go on.
    fn may_read<const OF_CLIENT: bool>(&mut self, now: Instant) -> Option<u32> {
        let side = const { Side::of(OF_CLIENT) };
        if side == Side::Client
            && let Some(rates) = &mut self.rates
        {
            // Set again below while the rate holds the client back; a stale moment would wake the task for ever.
            rates.next_token_at = None;
        }
        let delivery = &self.settings.policy.delivery;
        let is_isolated = delivery.on_stall == OnStall::Isolate;
        let (from, to) = match side {
            Side::Client => (&mut self.client, &self.upstream),
            Side::Upstream => (&mut self.upstream, &self.client),
        };
        if !from.is_open() || from.state().is_read_ended() {
            return None;
        }
        let mut most = u32::MAX;
        if to.can_send() && from.state().can_read() {
            // Beyond max_lag an isolated client is closed; if it is closing already, the upstream waits.
            let may_lag = side == Side::Upstream && is_isolated && to.waiting() <= delivery.max_lag.bytes;
            if !to.is_flushed() && !may_lag {
                from.pause(now);
                return None;
            }
            if let (Side::Client, Some(rates)) = (side, &mut self.rates) {
                most = rates.available(now);
                if most == 0 {
                    from.pause(now);
                    return None;
                }
            }
            // Not past the next edge while a message waits for one: each read of a busy server may end inside a frame.
            if side == Side::Upstream && self.has_injections && to.is_flushed() {
                most = 1;
            }
            // A side that waits for our Close gets the rest of the present frame, and then the Close: each read of a busy
            // peer may end inside the next frame.
            if to.waits_for_edge() {
                if from.scanner.at_frame_edge() {
                    return None;
                }
                most = 0;
            }
        }
        if let Some(pause) = from.resume(now) {
            if let Some(pings) = self.pings_mut(side) {
                pings.shift(pause, now);
            }
            self.last_activity = (self.last_activity + pause).min(now);
            // Clocks go on that stood still.
            self.must_arm = true;
        }
        Some(most)
    }

    /// Scans `buf`, which the side sent, and sends on what may go on; answers how many frames began.
    fn forward<const OF_CLIENT: bool>(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        most: u32,
        now: Instant,
    ) -> u32 {
        let side = const { Side::of(OF_CLIENT) };
        self.on_bytes(side, now);
        if !self.link(side).state().can_read() {
            self.connection.handle().on_discarded(buf.len());
            return 0;
        }
        let (scanned, close) = self.scan::<OF_CLIENT>(buf, most, now);
        let (from, to) = match side {
            Side::Client => (&mut self.client, &mut self.upstream),
            Side::Upstream => (&mut self.upstream, &mut self.client),
        };
        let handle = self.connection.handle();
        let is_taken = to.can_send();
        let before = to.egress.len();
        if is_taken {
            let lost = to.send(cx, &buf[..scanned.forward], scanned.edge, now);
            handle.on_discarded(lost);
            match side {
                Side::Client => handle.on_in(scanned.messages, scanned.forward - lost.min(scanned.forward)),
                Side::Upstream => {
                    handle.on_out(scanned.messages, scanned.forward - lost.min(scanned.forward));
                }
            }
        } else {
            handle.on_discarded(scanned.forward);
        }
        // A ping or a pong may bring the deadline of a heartbeat nearer.
        self.must_arm |= scanned.controls > 0;
        if scanned.messages > 0 || !from.scanner.at_frame_edge() {
            self.last_activity = now;
        }
        if side == Side::Client
            && let Some(bucket) = messages(&mut self.rates)
        {
            bucket.take(scanned.messages);
        }
        let has_grown = side == Side::Upstream && to.egress.len() > before;
        let rest = &buf[scanned.held];
        match scanned.outcome {
            Outcome::Open => from.hold(rest, false),
            Outcome::LimitReached => from.hold(rest, true),
            Outcome::Closed => {
                from.on_close_received();
                if let Some((code, verdict)) = close {
                    if is_taken && verdict == Verdict::Pass {
                        to.on_close_forwarded();
                    }
                    self.on_close_received(side, code, verdict, now);
                }
            }
            Outcome::Invalid(error) => {
                // The rest is discarded, however long it is.
                handle.on_discarded(rest.len());
                from.discard();
                self.on_protocol_error(side, error, now);
            }
        }
        let delivery = &self.settings.policy.delivery;
        if delivery.on_stall == OnStall::Isolate {
            let is_beyond_lag = self.client.waiting() > delivery.max_lag.bytes;
            // The connection whose egress grows while the budget of the process is exceeded is the one that ends.
            let is_over_budget = !is_beyond_lag && has_grown && self.settings.budget.is_over();
            if is_over_budget {
                self.connection.handle().route.memory_cuts.inc();
            }
            if is_over_budget && self.ending.is_some() {
                // The first cause stands; what the server still sends for the client is not kept.
                let lost = self.client.reset();
                self.connection.handle().on_discarded(lost);
            }
            if is_beyond_lag || is_over_budget {
                self.begin_ending(Reason::SlowConsumer, None, None, now);
            }
        }
        if side == Side::Client
            && scanned.controls > 0
            && let Some(Rates { controls: Some(bucket), .. }) = self.rates.as_deref_mut()
            && !bucket.take_or_empty(scanned.controls, now)
        {
            self.begin_ending(Reason::ControlRate, None, None, now);
        }
        scanned.frames
    }

    /// Walks the frames in `buf`; answers also the Close among them and what becomes of it.
    fn scan<const OF_CLIENT: bool>(
        &mut self,
        buf: &mut [u8],
        most: u32,
        now: Instant,
    ) -> (Scanned, Option<(CloseCode, Verdict)>) {
        let side = const { Side::of(OF_CLIENT) };
        let replaces_close = match side {
            Side::Client => self.upstream.replaces_close(),
            Side::Upstream => self.client.replaces_close(),
        };
        let holds_close = side == Side::Upstream && self.holds_to_schedule();
        let (scanner, own, other) = match side {
            Side::Client => (&mut self.client.scanner, &mut self.client_pings, &mut self.upstream_pings),
            Side::Upstream => (&mut self.upstream.scanner, &mut self.upstream_pings, &mut self.client_pings),
        };
        let metrics = self.connection.metrics();
        let mut close = None;
        let scanned = scanner.scan(buf, most, |whole| match whole.opcode {
            Opcode::Close => {
                let code = CloseCode::from_payload(whole.payload);
                // A server that stops sends 1001 or 1012 to all clients at once; the drain's schedule stands.
                let is_held = holds_close && matches!(code.0, 1001 | 1012);
                let verdict = if replaces_close || is_held { Verdict::Drop } else { Verdict::Pass };
                close = Some((code, verdict));
                verdict
            }
            Opcode::Pong => {
                own.as_mut().map_or(Verdict::Pass, |pings| pings.on_pong(whole.payload, now, metrics))
            }
            Opcode::Text => {
                own.as_mut().map_or(Verdict::Pass, |pings| pings.on_text(whole.payload, now, metrics))
            }
            Opcode::Ping => {
                if let Some(pings) = other {
                    pings.on_other_side_ping(now);
                }
                Verdict::Pass
            }
            _ => Verdict::Pass,
        });
        (scanned, close)
    }

    /// `side` has sent something.
    fn on_bytes(&mut self, side: Side, now: Instant) {
        if let Some(pings) = self.pings_mut(side) {
            pings.on_activity();
        }
        if self.settings.policy.idle_activity == IdleActivity::Any {
            self.last_activity = now;
        }
    }
}
