//! One client of a feed: what it is sent, what it says, and how it ends.
//!
//! # Invariants
//! 1. It reads the log by its cursor alone; what it does not take waits there, not in a queue of its own.
//! 2. After every call that answers [`State::Going`] the socket has its waker for whatever is to go on, or there is a
//!    deadline for it.
//! 3. The first cause of an end stands.
//!
//! # Not here
//! Whose turn it is ([`super::shard`]); what goes out together ([`super::batch`]), and when ([`super::delivering`]); what
//! it says ([`super::hearing`]); how it is let go ([`super::closing`]).

use std::any::Any;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use tokio::time::Instant;

use super::batch::Batcher;
use super::closing::{Closing, Farewell, Parting};
use super::ear::Ear;
use super::fanout::Crew;
use super::hearing::Allowance;
use super::holders::Account;
use super::holding::Held;
use super::pulse::{Pulse, Sent};
use super::ready::Knock;
use super::trouble::Trouble;
use super::wire::{Wire, Wrote};
use super::{Arrival, FromClients};
use crate::config::HeartbeatMode;
use crate::frame::ControlFrame;
use crate::log::{Cursor, Log};
use crate::memory::Share;
use crate::resilience::{ArrivalTime, Dates, Turn};
use crate::telemetry::{Command, ConnectionGuard, Reason};

/// What all clients of a shard are served with.
#[derive(Debug)]
pub(super) struct Table<'a> {
    pub(super) crew: &'a Arc<Crew>,
    pub(super) log: &'a Log,
    pub(super) batcher: &'a mut Batcher,
    pub(super) account: &'a Account,
    /// The newest message that may go out now.
    pub(super) until: u64,
    /// What may still be read in this turn of the shard.
    pub(super) reading: &'a mut Turn,
    pub(super) now: Instant,
}

/// Whether a client is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is.
    Going,
    /// So it is, and there is more to do for it at once.
    Again,
    /// It is not: it is to be dropped.
    Gone,
}

/// What is read of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Frames.
    Frames,
    /// Nothing any more, but its end.
    Blind,
    /// It has ended.
    Ended,
}

/// One client.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) wire: Wire,
    /// What came right after the handshake and was read with it.
    pub(super) early: Option<Box<Bytes>>,
    pub(super) ear: Ear,
    pub(super) knock: Arc<Knock>,
    pub(super) waker: Waker,
    pub(super) cursor: Cursor,
    pub(super) has_deflate: bool,
    pub(super) pulse: Option<Box<Pulse>>,
    /// The answer to its newest ping.
    pub(super) pong: Option<Box<ControlFrame>>,
    /// There since it tripped, until that is forgotten.
    pub(super) trouble: Option<Box<Trouble>>,
    pub(super) last_activity: Instant,
    /// When it is closed in any case: the end of its life or of credentials, a drain's schedule.
    pub(super) dates: Dates,
    /// What its feed closes it with, and when.
    pub(super) parting: Option<Box<Parting>>,
    /// What it may still say; there where that is limited, or was for a moment.
    pub(super) allowance: Option<Box<Allowance>>,
    /// Control frames it has said.
    pub(super) controls: ArrivalTime,
    pub(super) reading: Reading,
    pub(super) closing: Option<Box<Closing>>,
    pub(super) armed: Option<Instant>,
    pub(super) live: ConnectionGuard,
    /// What it alone holds.
    share: Option<Box<Share>>,
    /// Given back with the client.
    _held: Box<dyn Any + Send + Sync>,
}

impl Subscriber {
    pub(super) fn new(
        arrival: Arrival,
        cursor: Cursor,
        knock: Arc<Knock>,
        crew: &Arc<Crew>,
        now: Instant,
    ) -> Self {
        let Arrival { hop, has_deflate, expires, held, live } = arrival;
        let policy = &crew.settings.policy;
        let is_json = policy.heartbeat.is_some_and(|heartbeat| heartbeat.mode == HeartbeatMode::Json);
        let wants_messages = matches!(crew.from_clients, FromClients::Forward(_));
        // A lifetime ends anywhere in its last tenth: what came together must not go together.
        let lifetime =
            policy.max_lifetime.map(|lifetime| now + lifetime.mul_f64(1.0 - 0.1 * fastrand::f64()));
        let waker = Waker::from(Arc::clone(&knock));
        live.handle().wake_with(&waker);
        let ear = Ear::new(policy, has_deflate, is_json, wants_messages);
        Self {
            wire: Wire::new(hop.stream),
            share: None,
            early: (!hop.read_ahead.is_empty()).then(|| Box::new(hop.read_ahead)),
            ear,
            knock,
            waker,
            cursor,
            has_deflate,
            pulse: policy.heartbeat.map(|heartbeat| Box::new(Pulse::new(heartbeat, now))),
            pong: None,
            trouble: None,
            last_activity: now,
            dates: Dates::new(lifetime, expires, now),
            parting: None,
            allowance: policy.message_rate.map(|rate| Box::new(Allowance::new(rate, now))),
            controls: ArrivalTime::default(),
            reading: Reading::Frames,
            closing: None,
            armed: None,
            live,
            _held: held,
        }
    }

    /// From here on it reads every message: older ones need not be kept for it.
    pub(super) fn place(&self) -> u64 {
        self.cursor.next.max(self.cursor.all_from)
    }

    /// How far it was sent what the log has.
    pub(super) fn sent(&self) -> Sent {
        Sent { sequence: self.cursor.next.saturating_sub(1), messages: self.live.handle().sent() }
    }

    /// Whether the next message can go out to it at once.
    pub(super) fn is_served(&self) -> bool {
        self.closing.is_none() && self.wire.is_flushed() && !self.is_skipped()
    }

    pub(super) fn is_skipped(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.is_open())
    }

    /// Everything that can be done for it now.
    pub(super) fn poll(&mut self, table: &mut Table<'_>) -> State {
        for command in self.live.handle().take_commands().into_iter().flatten() {
            self.on_command(command, table);
        }
        let mut state = self.write(table);
        if state != State::Gone && self.read(table) {
            // What was read may have to be answered.
            let after = self.write(table);
            state = if state == State::Again && after == State::Going { State::Again } else { after };
        }
        self.account(table.account);
        if state == State::Gone {
            self.leave();
        }
        state
    }

    /// Bytes held for it alone or together with others.
    pub(super) fn held(&self) -> usize {
        self.wire.held() + self.ear.held()
    }

    /// Bytes held for it alone.
    fn held_alone(&self) -> usize {
        self.wire.stream.held() + self.ear.held()
    }

    /// What it holds of the memory of the process.
    pub(super) fn holds(&self, index: u32, now: Instant) -> Held {
        let piece = self.wire.piece();
        Held {
            index,
            piece: (!piece.is_empty()).then(|| (piece.as_ptr().addr(), piece.len())),
            alone: self.held_alone(),
            since: self.wire.stalled_since().unwrap_or(now),
        }
    }

    /// Tells what it holds: what it shares with others tells that itself.
    pub(super) fn account(&mut self, account: &Account) {
        self.live.handle().set_buffered(self.held());
        let alone = self.held_alone();
        if alone > 0 && self.share.is_none() {
            self.share = Some(Box::new(account.share()));
        }
        if let Some(share) = &mut self.share {
            share.set(alone);
        }
        account.note(alone + self.wire.piece().len());
    }

    /// Something outside asks.
    fn on_command(&mut self, command: Command, table: &Table<'_>) {
        match command {
            Command::CloseAt { at, code } => {
                self.dates.set_drain(at, code.0);
                self.on_close_date(table);
            }
            Command::Replace => {
                let farewell = Farewell::ours(Reason::Replaced, 1008, "replaced by a newer connection");
                self.close(&farewell, table);
            }
            Command::Cut => {
                self.cut(if self.dates.is_draining() { Reason::Drained } else { Reason::Aborted });
            }
        }
    }

    /// Sends what is left, what we have to say, and what is due.
    fn write(&mut self, table: &mut Table<'_>) -> State {
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        loop {
            if self.is_over(&mut cx) {
                return State::Gone;
            }
            if !self.wire.is_flushed() || self.wire.stream.wants_flush() {
                match self.wire.flush(&mut cx, table.now) {
                    Wrote::All => {}
                    Wrote::Blocked => {
                        self.check_lag(table);
                        // It may have been closed for that, and cut to where its Close can go.
                        if self.wire.is_flushed() && self.closing.is_some() {
                            continue;
                        }
                        return State::Going;
                    }
                    Wrote::Broken => {
                        self.on_lost();
                        continue;
                    }
                }
                if let Some(pulse) = &mut self.pulse {
                    pulse.on_flushed(table.now);
                }
            }
            let Some(frame) = self.next_control() else { break };
            let frame = Bytes::copy_from_slice(frame.as_bytes());
            match self.wire.write(&mut cx, &frame, table.now) {
                Wrote::All => {
                    if let Some(pulse) = &mut self.pulse {
                        pulse.on_flushed(table.now);
                    }
                }
                Wrote::Blocked => {}
                Wrote::Broken => self.on_lost(),
            }
        }
        if self.closing.is_some() || self.is_skipped() {
            return State::Going;
        }
        let state = self.deliver(table);
        if self.closing.is_some() && state == State::Going { self.write(table) } else { state }
    }

    /// A frame of ours that is due between two messages.
    fn next_control(&mut self) -> Option<ControlFrame> {
        if let Some(closing) = &mut self.closing {
            return closing.take_words();
        }
        if let Some(pong) = self.pong.take() {
            return Some(*pong);
        }
        let sent = self.sent();
        let pulse = self.pulse.as_mut()?;
        let ping = pulse.take_ping(sent)?;
        if pulse.acknowledged().is_some() {
            self.live.handle().on_asked(sent.messages);
        }
        Some(ping)
    }

    /// It may have to be closed, after something that only began that.
    pub(super) fn settle(&mut self, table: &mut Table<'_>) -> State {
        if self.closing.is_some() { self.poll(table) } else { State::Going }
    }
}
