//! One client of a feed: what it is sent, what it says, and how it ends.
//!
//! # Invariants
//! 1. It reads the log by its cursor alone; what it does not take waits there, not in a queue of its own.
//! 2. After every call that answers [`State::Going`] the socket has its waker for whatever is to go on, or there is a
//!    deadline for it.
//! 3. The first cause of an end stands.
//!
//! # Not here
//! Whose turn it is ([`super::shard`]); what goes out together ([`super::batch`]).

use std::any::Any;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use tokio::time::Instant;

use super::batch::{Batcher, View};
use super::closing::{Closing, Farewell};
use super::ear::Ear;
use super::fanout::Crew;
use super::hearing::Heard;
use super::holders::Account;
use super::holding::Held;
use super::pulse::{Pulse, Sent};
use super::ready::Knock;
use super::trouble::Trouble;
use super::wire::{Wire, Wrote};
use super::{Arrival, FromClients};
use crate::config::HeartbeatMode;
use crate::frame::{ControlFrame, Kind, encode};
use crate::log::{Cursor, Log};
use crate::resilience::{Bucket, Dates, Share, Turn};
use crate::telemetry::{Command, Conflation, Live, Reason};

/// What is read of one client before it is the others' turn; and one read beyond it, which is short.
const READING: Turn = Turn::new(64 * 1024, 1024);

/// Batches that one client is sent before it is the others' turn.
const BATCHES: usize = 4;

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
    early: Bytes,
    pub(super) ear: Ear,
    pub(super) knock: Arc<Knock>,
    waker: Waker,
    pub(super) cursor: Cursor,
    has_deflate: bool,
    pub(super) pulse: Option<Box<Pulse>>,
    /// The answer to its newest ping.
    pub(super) pong: Option<Box<ControlFrame>>,
    /// There since it tripped, until that is forgotten.
    pub(super) trouble: Option<Box<Trouble>>,
    pub(super) sent: Sent,
    pub(super) last_activity: Instant,
    /// When it is closed in any case: the end of its life or of credentials, a drain's schedule.
    pub(super) dates: Dates,
    /// The feed is over: it is closed as soon as it has had everything, and at this date at the latest.
    pub(super) last_words: Option<Box<(Instant, Arc<Farewell>)>>,
    /// Messages it may still say.
    bucket: Option<Box<Bucket>>,
    /// Control frames it may still say.
    controls: Option<Box<Bucket>>,
    /// Since when it is not read, for want of tokens, and until when.
    pub(super) paused: Option<(Instant, Instant)>,
    pub(super) reading: Reading,
    pub(super) closing: Option<Box<Closing>>,
    pub(super) armed: Option<Instant>,
    pub(super) live: Live,
    /// Messages that it skipped and was not told of yet (`delivery.resume_from: latest`).
    pub(super) untold: u64,
    /// What it alone holds.
    share: Share,
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
            share: crew.settings.holders.budget().share(),
            early: hop.early,
            ear,
            knock,
            waker,
            cursor,
            has_deflate,
            pulse: policy.heartbeat.map(|heartbeat| Box::new(Pulse::new(heartbeat, now))),
            pong: None,
            trouble: None,
            sent: Sent::default(),
            last_activity: now,
            dates: Dates::new(lifetime, expires, now),
            last_words: None,
            bucket: policy.message_rate.map(|rate| Box::new(Bucket::new(rate, now))),
            controls: policy.control_rate.in_feeds().map(|rate| Box::new(Bucket::new(rate, now))),
            paused: None,
            reading: Reading::Frames,
            closing: None,
            armed: None,
            untold: 0,
            live,
            _held: held,
        }
    }

    /// From here on it reads every message: older ones need not be kept for it.
    pub(super) fn place(&self) -> u64 {
        self.cursor.next.max(self.cursor.all_from)
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
    fn account(&mut self, account: &Account) {
        self.live.handle().set_buffered(self.held());
        let alone = self.held_alone();
        self.share.set(alone);
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
        let sent = self.sent;
        let pulse = self.pulse.as_mut()?;
        let ping = pulse.take_ping(sent)?;
        if pulse.acknowledged().is_some() {
            self.live.handle().on_asked(sent.messages);
        }
        Some(ping)
    }

    /// Sends what the log has for it; nothing may be left of what was sent before.
    pub(super) fn deliver(&mut self, table: &mut Table<'_>) -> State {
        for _ in 0..BATCHES {
            if self.cursor.next > table.until {
                self.on_caught_up(table);
                return State::Going;
            }
            let view = View { has_deflate: self.has_deflate, user: self.live.handle().about.user.as_ref() };
            let batch = table.batcher.due(self.cursor, view);
            self.cursor = batch.cursor;
            let metrics = &table.crew.settings.metrics;
            if batch.conflated > 0 {
                metrics.on_conflated(Conflation::Throttle, batch.conflated);
            }
            if batch.shed > 0 {
                metrics.on_conflated(Conflation::ChannelBreaker, batch.shed);
            }
            let mut gap = None;
            let missed = batch.missed.saturating_add(std::mem::take(&mut self.untold));
            metrics.missed.inc_by(batch.missed);
            if missed > 0 {
                gap = table.crew.settings.policy.notices.then(|| gap_notice(missed, &batch.bytes));
            }
            let bytes = gap.as_ref().unwrap_or(&batch.bytes);
            if bytes.is_empty() {
                if batch.has_more {
                    continue;
                }
                self.on_caught_up(table);
                return State::Going;
            }
            self.sent.messages += u64::from(batch.messages);
            self.sent.sequence = self.sent.sequence.max(batch.newest);
            self.last_activity = table.now;
            self.live.handle().on_out(batch.messages, bytes.len());
            let has_more = batch.has_more;
            // Without a copy of the waker: this is once a delivery.
            match self.wire.write(&mut Context::from_waker(&self.waker), bytes, table.now) {
                Wrote::All => {}
                Wrote::Blocked => {
                    // TLS may have taken all of it for itself.
                    if self.wire.has_rest() {
                        let budget = table.crew.settings.holders.budget();
                        let held = match gap {
                            Some(gap) => budget.hold(gap),
                            None => table.batcher.held(budget),
                        };
                        self.wire.share(held);
                    }
                    self.account(table.account);
                    return State::Going;
                }
                Wrote::Broken => {
                    self.on_lost();
                    return State::Gone;
                }
            }
            if !has_more {
                self.on_caught_up(table);
                return State::Going;
            }
        }
        State::Again
    }

    fn on_caught_up(&mut self, table: &Table<'_>) {
        self.live.handle().set_lag(0);
        if let Some(trouble) = &mut self.trouble
            && trouble.on_caught_up(table.now)
        {
            self.trouble = None;
        }
        // The log may be ahead of what may go out now: its last words wait for that too.
        if self.cursor.next > table.log.head()
            && let Some(last) = self.last_words.take()
        {
            self.close(&last.1, table);
        }
    }

    /// The feed is over: it is closed when it has had everything, and not much later.
    pub(super) fn expect_end(&mut self, farewell: &Arc<Farewell>, crew: &Crew, now: Instant) {
        let at = now + crew.settings.policy.close_timeout;
        self.last_words = Some(Box::new((at, Arc::clone(farewell))));
    }

    /// It may have to be closed, after something that only began that.
    pub(super) fn settle(&mut self, table: &mut Table<'_>) -> State {
        if self.closing.is_some() { self.poll(table) } else { State::Going }
    }

    /// Reads what it says. True if there may be something to write now.
    fn read(&mut self, table: &mut Table<'_>) -> bool {
        if self.reading == Reading::Ended || self.stays_paused(table.now) {
            return false;
        }
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        let mut has_news = false;
        let mut turn = READING;
        // Over some streams no read ever fills the buffer, and there is always one more.
        while !turn.is_over() && !table.reading.is_over() {
            match self.hear(&mut cx, table, &mut turn) {
                Heard::Nothing => return has_news,
                Heard::Some => has_news = true,
                Heard::End => return true,
            }
        }
        // Others first; it comes back for the rest.
        self.waker.wake_by_ref();
        has_news
    }

    /// Takes what came with the handshake.
    pub(super) fn take_early(&mut self, buf: &mut [u8]) -> usize {
        let n = self.early.len().min(buf.len());
        buf[..n].copy_from_slice(&self.early.split_to(n));
        if self.early.is_empty() {
            // It may hold the whole buffer of the handshake.
            self.early = Bytes::new();
        }
        n
    }

    /// Whether it is not read, for want of tokens.
    pub(super) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Whether it is still paused; what stood still meanwhile goes on where it was.
    fn stays_paused(&mut self, now: Instant) -> bool {
        let Some((since, until)) = self.paused else { return false };
        if now < until {
            return true;
        }
        self.paused = None;
        if let Some(pulse) = &mut self.pulse {
            pulse.shift(now - since, now);
        }
        self.last_activity = (self.last_activity + (now - since)).min(now);
        false
    }

    /// It has said so many messages; beyond its rate it is not read for a while.
    pub(super) fn on_said(&mut self, messages: u32, table: &Table<'_>) {
        if messages == 0 {
            return;
        }
        self.last_activity = table.now;
        match &table.crew.from_clients {
            FromClients::Drop => {
                table.crew.settings.metrics.uplink_dropped.inc_by(u64::from(messages));
            }
            FromClients::Refuse => {
                self.close(&Farewell::ours(Reason::UplinkRefused, 1008, "uplink refused"), table);
            }
            FromClients::Forward(_) => {}
        }
        if let Some(bucket) = &mut self.bucket {
            bucket.take(messages);
            if bucket.available(table.now) == 0 {
                self.paused = Some((table.now, bucket.next_token_at()));
            }
        }
    }

    /// It has said so many control frames; beyond their rate it is closed, since each may ask for an answer.
    pub(super) fn on_controls(&mut self, controls: u32, table: &Table<'_>) {
        let Some(bucket) = &mut self.controls else { return };
        if controls == 0 || self.closing.is_some() || bucket.takes(controls, table.now) {
            return;
        }
        self.close(&Farewell::ours(Reason::ControlRate, 1008, "too many control frames"), table);
        // It is not listened to any more.
        self.reading = Reading::Blind;
        self.pong = None;
    }

    /// Its stream is of no use any more.
    pub(super) fn on_lost(&mut self) {
        self.reading = Reading::Ended;
        match &mut self.closing {
            Some(closing) => closing.is_broken = true,
            None => {
                self.closing = Some(Box::new(Closing::lost(Reason::ClientLost)));
            }
        }
        let lost = self.wire.abandon();
        self.live.handle().on_discarded(lost);
    }

    /// Ends now, whatever is unsaid.
    pub(super) fn cut(&mut self, reason: Reason) {
        self.wire.stream.reset_on_drop();
        let lost = self.wire.abandon();
        self.live.handle().on_discarded(lost);
        self.reading = Reading::Ended;
        match &mut self.closing {
            Some(closing) => closing.is_broken = true,
            None => self.closing = Some(Box::new(Closing::lost(reason))),
        }
    }

    /// The client's place in the registry is given back, and what it did not acknowledge is counted.
    fn leave(&mut self) {
        let Some(closing) = &self.closing else { return };
        let ended = closing.ended;
        if let Some(acknowledged) = self.pulse.as_ref().and_then(|pulse| pulse.acknowledged()) {
            let failed = self.sent.messages.saturating_sub(acknowledged.messages);
            self.live.metrics().on_unacknowledged(ended.reason, failed);
        }
        self.live.leave(ended);
    }
}

/// A notice, and what follows it.
fn gap_notice(missed: u64, then: &Bytes) -> Bytes {
    let text = format!(r#"{{"type":"outrigger","event":"gap","missed":{missed}}}"#);
    let notice = encode::message(Kind::Text, text.as_bytes());
    [&notice[..], &then[..]].concat().into()
}
