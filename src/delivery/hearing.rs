//! Reading one client: its pongs, its pings, its Close, and what else it says.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use super::FromClients;
use super::closing::Farewell;
use super::ear::Said;
use super::subscriber::{Reading, Subscriber, Table};
use crate::config::{IdleActivity, Rate};
use crate::frame::{CloseCode, ControlFrame, Opcode};
use crate::net::scratch::{self, HELD_ROOM};
use crate::resilience::{Bucket, Gcra, Turn};
use crate::telemetry::Reason;
use crate::upstream::Uplink;

/// Bytes read at once. Less than the buffer: only after a read can be told how many frames are in it.
const READ: usize = 16 * 1024;
/// The same where messages are inflated here, to a thousand times as much.
const READ_DEFLATED: usize = 2 * 1024;

/// What is read of one client before it is the others' turn; and one read beyond it, which is short.
const READING: Turn = Turn::new(64 * 1024, 1024);

/// For so long a client is not read that has filled the queue to its feed's server: a small part of it is enough for that
/// to be emptied, and in the rest there is room for what others say.
const FILLED: Duration = Duration::from_millis(10);

/// What a client may still say.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    /// `limits.message_rate`, where it has one.
    bucket: Option<Bucket>,
    /// Since when it is not read, and until when.
    paused: Option<(Instant, Instant)>,
}

impl Allowance {
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self { bucket: Some(Bucket::new(rate, now)), paused: None }
    }
}

/// What came of reading once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// There is nothing; the task is woken when there is.
    Nothing,
    /// Something; there may be more.
    Some,
    /// Nothing more will come, or nothing is to be read now.
    End,
}

impl Subscriber {
    /// Reads what it says. True if there may be something to write now.
    pub(super) fn read(&mut self, table: &mut Table<'_>) -> bool {
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
    fn take_early(&mut self, buf: &mut [u8]) -> usize {
        let Some(early) = &mut self.early else { return 0 };
        let n = early.len().min(buf.len());
        buf[..n].copy_from_slice(&early.split_to(n));
        if early.is_empty() {
            // It may hold the whole buffer of the handshake.
            self.early = None;
        }
        n
    }

    /// Whether it is not read: for want of tokens, or since it has said more than its feed could pass on.
    pub(super) fn is_paused(&self) -> bool {
        self.paused_until().is_some()
    }

    /// Until when.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.allowance.as_ref()?.paused.map(|(_, until)| until)
    }

    /// Whether it is still paused; what stood still meanwhile goes on where it was.
    fn stays_paused(&mut self, now: Instant) -> bool {
        let Some(allowance) = &mut self.allowance else { return false };
        let Some((since, until)) = allowance.paused else { return false };
        if now < until {
            return true;
        }
        allowance.paused = None;
        if let Some(pulse) = &mut self.pulse {
            pulse.shift(now - since, now);
        }
        self.last_activity = (self.last_activity + (now - since)).min(now);
        false
    }

    /// It has said so many messages; beyond its rate it is not read for a while.
    fn on_said(&mut self, messages: u32, table: &Table<'_>) {
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
        if let Some(Allowance { bucket: Some(bucket), .. }) = self.allowance.as_deref_mut() {
            bucket.take(messages);
            if bucket.available(table.now) == 0 {
                let until = bucket.next_token_at();
                self.pause(until, table.now);
            }
        }
    }

    /// It is not read until then.
    fn pause(&mut self, until: Instant, now: Instant) {
        let paused = &mut self.allowance.get_or_insert_default().paused;
        *paused = Some((now, paused.map_or(until, |(_, at)| at.max(until))));
    }

    /// It has said so many control frames; beyond their rate it is closed, since each may ask for an answer.
    fn on_controls(&mut self, controls: u32, table: &Table<'_>) {
        let Some(rate) = table.crew.settings.policy.control_rate.in_feeds() else { return };
        if controls == 0
            || self.closing.is_some()
            || self.controls.take_or_empty(controls, Gcra::new(rate), table.now)
        {
            return;
        }
        self.close(&Farewell::ours(Reason::ControlRate, 1008, "too many control frames"), table);
        // It is not listened to any more.
        self.reading = Reading::Blind;
        self.pong = None;
    }

    /// Reads once, for which `turn` and the shard's are charged.
    fn hear(&mut self, cx: &mut Context<'_>, table: &mut Table<'_>, turn: &mut Turn) -> Heard {
        scratch::with(|scratch| {
            let most = if self.ear.inflates() { READ_DEFLATED } else { READ };
            let room = &mut scratch[HELD_ROOM..HELD_ROOM + most];
            let n = match self.take_early(room) {
                0 => match self.wire.read(cx, room, table.now) {
                    Poll::Pending => return Heard::Nothing,
                    Poll::Ready(Ok(n)) if n > 0 => n,
                    Poll::Ready(_) => {
                        self.on_end();
                        return Heard::End;
                    }
                },
                n => n,
            };
            let records = self.wire.stream.take_records();
            let (bytes, frames) = self.on_bytes(&mut scratch[..HELD_ROOM + n], table);
            let frames = frames.max(records);
            turn.take(n.max(bytes), frames);
            table.reading.take(n.max(bytes), frames);
            if self.is_paused() { Heard::End } else { Heard::Some }
        })
    }

    /// Takes what came; answers how many bytes its messages came to, where they are put together, and how many frames
    /// began.
    fn on_bytes(&mut self, buf: &mut [u8], table: &Table<'_>) -> (usize, u32) {
        let now = table.now;
        if let Some(pulse) = &mut self.pulse {
            pulse.on_activity(now);
        }
        if table.crew.settings.policy.idle_activity == IdleActivity::Any {
            self.last_activity = now;
        }
        if self.reading != Reading::Frames {
            self.live.handle().on_discarded(buf.len() - HELD_ROOM);
            return (0, 0);
        }
        let (live, sent) = (&self.live, self.sent());
        let metrics = live.metrics();
        let pulse = &mut self.pulse;
        let mut pong = None;
        let mut closed: Option<CloseCode> = None;
        let (mut acknowledged, mut bytes, mut has_filled) = (0, 0, false);
        let taken = self.ear.take(buf, |said| {
            match said {
                Said::Ping(payload) => pong = Some(ControlFrame::new(Opcode::Pong, payload, None)),
                Said::Pong(payload) => {
                    if let Some(pulse) = pulse {
                        acknowledged += pulse.on_pong(payload, sent, now, metrics);
                    }
                }
                Said::ShortText(payload) => {
                    return pulse.as_mut().is_some_and(|pulse| pulse.takes_text(payload, now, metrics));
                }
                Said::Message(kind, payload) => {
                    bytes += payload.len();
                    if let FromClients::Forward(server) = &table.crew.from_clients {
                        let settings = &table.crew.settings;
                        let budget = settings.holders.budget();
                        // One that the uplink will never have room for is not copied and queued for it.
                        let may_go =
                            Uplink::room_for(payload.len()) <= settings.policy.delivery.max_lag.bytes;
                        let message = (may_go && !budget.is_over())
                            .then(|| (kind, budget.hold(Bytes::copy_from_slice(payload))));
                        match message.map(|message| server.try_send(message)) {
                            Some(Ok(())) => live.handle().on_in(1, payload.len()),
                            // There is no room for it, or the feed is over.
                            refused => {
                                has_filled |= matches!(refused, Some(Err(TrySendError::Full(_))));
                                settings.metrics.uplink_dropped.inc();
                            }
                        }
                    }
                }
                Said::Close(code) => closed = Some(code),
            }
            false
        });
        if acknowledged > 0 {
            table.crew.settings.metrics.acknowledged.inc_by(acknowledged);
            live.handle().on_acknowledged(acknowledged);
        }
        if let Some(pong) = pong {
            // The newest only (RFC 6455 §5.5.3).
            self.pong = Some(Box::new(pong));
        }
        self.on_said(taken.messages, table);
        if has_filled {
            self.pause(now + FILLED, now);
        }
        self.on_controls(taken.controls, table);
        if let Some(code) = closed {
            self.on_close(code, table);
        }
        if let Some(fault) = taken.fault {
            tracing::debug!(connection = self.live.handle().id, %fault, "fault");
            self.close(&Farewell::fault(fault), table);
        }
        (bytes, taken.frames)
    }
}
