//! A connection to an upstream that ends here: whole messages in, whole messages out, pings answered.
//!
//! # Invariants
//! 1. The first cause of an end stands; what follows from it is not reported as a cause of its own.
//! 2. Every ending has a deadline. Nothing is sent after our Close, no message counts after the server's.
//! 3. [`Uplink::poll`] answers the end as soon as no message can follow: the rest of the close handshake is driven
//!    separately ([`Uplink::poll_rest`]).
//! 4. What waits for the server is bounded: by `max_waiting`, and by one pong, two pings (the heartbeat's, and one that asks
//!    for a receipt) and one Close.
//! 5. An idle uplink owns no buffer: it reads into the thread's scratch, and keeps only incomplete messages and
//!    bytes that the socket has not taken.
//! 6. Whenever `poll` or `poll_rest` answers Pending, and after [`Uplink::flush`], the task's waker is registered for all that
//!    may come, and the timer stands at the nearest deadline.
//! 7. The server is read before it is judged, also when the process stood still.
//!
//! # Not here
//! Dialling it again, and what becomes of the messages ([`crate::broadcast`]).

mod end;
mod ending;
mod marks;
mod receipts;
mod sending;
mod timing;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use crate::config;
use crate::frame::{Assembled, Assembler, Endpoint, Extensions, Kind, Role, Rules};
use crate::net::{Alarm, Stream, Transport, WriteBuffer, scratch};
use crate::resilience::{Heartbeat, PongKind, ReadBudget, Stall, Standstill};
use crate::telemetry::Metrics;

pub(crate) use self::end::UplinkEnd;
pub(crate) use self::receipts::ReceiptMode;
use self::receipts::Receipts;

/// What is read before other tasks get their turn: four full reads, or as many short frames as take about as long.
const READ_BUDGET: ReadBudget = ReadBudget::new(256 * 1024, 4096);

/// Bytes read at once of a server whose frames are short: how many frames a read has is only known after it.
const READ_SHORT: usize = 8 * 1024;

/// With more frames than this in one read they are short.
const MANY_FRAMES: u32 = 512;

/// What holds for an uplink.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UplinkRules {
    /// Most payload bytes in one frame.
    pub max_frame: u64,
    /// Most in a message.
    pub max_message: u64,
    /// `upstream.heartbeat`
    pub heartbeat: Option<config::Heartbeat>,
    /// `upstream.stall_timeout`
    pub stall_timeout: Option<Duration>,
    /// How long a close handshake may take.
    pub close_timeout: Duration,
    /// Most bytes that may wait for the server.
    pub max_waiting: usize,
    /// How it is found out which messages the server has taken.
    pub receipts: ReceiptMode,
}

/// One upstream link.
#[derive(Debug)]
pub(crate) struct Uplink {
    /// None once it is over.
    stream: Option<Stream>,
    /// Bytes that were read together with the handshake.
    read_ahead: Bytes,
    assembler: Assembler,
    /// What may still be sent and read, and the pong that waits until the one before it has left.
    endpoint: Endpoint,
    rules: UplinkRules,
    metrics: Arc<Metrics>,
    egress: WriteBuffer,
    /// Bytes that were put into the egress, ever.
    queued: u64,
    /// How many of them the kernel has, over TLS with all of their record.
    left_bytes: u64,
    /// How many of them have to leave until the newest pong has left, and the newest ping.
    pong_leaves_at: u64,
    ping_leaves_at: Option<u64>,
    heartbeat: Option<Box<Heartbeat>>,
    /// None before the first message.
    receipts: Option<Box<Receipts>>,
    /// Since when the server is not read.
    paused_since: Option<Instant>,
    /// Updated after every call on the stream.
    stall: Stall,
    /// Whether the last read had many frames.
    has_short_frames: bool,
    end: Option<UplinkEnd>,
    /// When the socket is dropped at the latest, once an end has begun or nothing can be sent any more.
    deadline: Option<Instant>,
    alarm: Alarm,
    standstill: Standstill,
    /// The polling task's, woken when something is queued outside of a poll.
    waker: Option<Waker>,
}

impl Uplink {
    /// After the handshake.
    pub(crate) fn new(transport: Transport, rules: UplinkRules, metrics: Arc<Metrics>, now: Instant) -> Self {
        let heartbeat = rules.heartbeat.map(|timing| Heartbeat::new(timing, fastrand::u64(..), now));
        Self {
            stream: Some(transport.stream),
            read_ahead: transport.read_ahead,
            assembler: new_assembler(&rules),
            endpoint: Endpoint::new(Role::Client),
            rules,
            metrics,
            egress: WriteBuffer::default(),
            queued: 0,
            left_bytes: 0,
            pong_leaves_at: 0,
            ping_leaves_at: None,
            heartbeat: heartbeat.map(Box::new),
            receipts: None,
            paused_since: None,
            stall: Stall::default(),
            has_short_frames: false,
            end: None,
            deadline: None,
            alarm: Alarm::default(),
            standstill: Standstill::default(),
            waker: None,
        }
    }

    /// Drives the link and calls `on` with each message, until no more can come: the server has sent a Close, has broken a
    /// rule, or is gone. Yields after a while.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, on: &mut dyn FnMut(Kind, &[u8])) -> Poll<UplinkEnd> {
        self.drive(cx, on);
        let is_finished = self.stream.is_none() || !self.endpoint.state().can_read();
        if is_finished { Poll::Ready(self.end.clone().unwrap_or(UplinkEnd::Lost)) } else { Poll::Pending }
    }

    /// Drives the link to its very end, whatever the server still sends: Ready when its socket is done with, within
    /// `close_timeout` after the end has begun.
    pub(crate) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.drive(cx, &mut |_, _| {});
        if self.stream.is_none() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn drive(&mut self, cx: &mut Context<'_>, on: &mut dyn FnMut(Kind, &[u8])) {
        if self.stream.is_none() {
            return;
        }
        let now = Instant::now();
        if self.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        self.write(cx, now);
        let is_busy = !self.is_paused() && self.read(cx, on, now);
        self.write(cx, now);
        if self.endpoint.state().is_read_ended() {
            self.finish(UplinkEnd::Lost, false);
        }
        // After the socket was read: what came before a deadline counts.
        if let Some(due) = self.alarm.due(now) {
            self.on_time(cx, due, now);
            self.write(cx, now);
        }
        if self.stream.is_none() {
            return;
        }
        if is_busy {
            cx.waker().wake_by_ref();
        }
        self.arm(cx);
    }

    /// Stops reading the server, whose heartbeat's clock stands still from now on; writing goes on, and so does the clock of
    /// a server that takes nothing. A link that ends is read again: else it could not end in order.
    pub(crate) fn pause(&mut self, now: Instant) {
        if self.end.is_none() && !self.endpoint.state().is_broken() {
            self.paused_since.get_or_insert(now);
        }
    }

    /// Reads the server again. Wakes the task.
    pub(crate) fn resume(&mut self, now: Instant) {
        let Some(since) = self.paused_since.take() else { return };
        let pause = now.saturating_duration_since(since);
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.shift(pause, now);
        }
        if let Some(receipts) = &mut self.receipts {
            receipts.shift(pause, now);
        }
        self.wake();
    }

    fn is_paused(&self) -> bool {
        self.paused_since.is_some()
    }

    /// Bytes that it holds, in either direction.
    pub(crate) fn buffered(&self) -> usize {
        let stream = self.stream.as_ref().map_or(0, Stream::held);
        let receipts = self.receipts.as_ref().map_or(0, |receipts| receipts.held());
        self.egress.len() + self.assembler.held() + self.read_ahead.len() + stream + receipts
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Reads what there is; true when the budget is spent and there may be more.
    fn read(&mut self, cx: &mut Context<'_>, on: &mut dyn FnMut(Kind, &[u8]), now: Instant) -> bool {
        let read_ahead = std::mem::take(&mut self.read_ahead);
        let mut budget = READ_BUDGET;
        if !read_ahead.is_empty() {
            budget.take(read_ahead.len(), self.on_bytes(&read_ahead, on, now));
        }
        scratch::with(|scratch| {
            while !self.endpoint.state().is_read_ended() {
                if budget.is_spent() {
                    return true;
                }
                let most = if self.has_short_frames { READ_SHORT } else { scratch.len() };
                let Some(stream) = &mut self.stream else { return false };
                let mut buf = ReadBuf::new(&mut scratch[..most]);
                let before = stream.sent();
                let read = Pin::new(&mut *stream).poll_read(cx, &mut buf);
                if before.is_some() {
                    // TLS sends what it has sealed with a read as well.
                    let waits = stream.unsent() > 0 || !self.egress.is_empty();
                    self.stall.note(stream.sent() != before, waits, now);
                }
                let records = stream.take_records();
                if before.is_some() {
                    // Before what it says is looked at, which may be the answer.
                    self.note_left(now);
                }
                match read {
                    Poll::Pending => return false,
                    Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                        let frames = self.on_bytes(buf.filled(), on, now);
                        budget.take(buf.filled().len(), frames.max(records));
                        self.has_short_frames = frames > MANY_FRAMES;
                    }
                    // However it ends: without a Close it is a loss.
                    Poll::Ready(_) => self.endpoint.on_read_end(),
                }
            }
            false
        })
    }

    /// The server sent `bytes`; answers how many frames began in them.
    fn on_bytes(&mut self, bytes: &[u8], on: &mut dyn FnMut(Kind, &[u8]), now: Instant) -> u32 {
        let Self { assembler, endpoint, heartbeat, receipts, metrics, .. } = self;
        if let Some(heartbeat) = heartbeat {
            heartbeat.on_activity();
        }
        if !endpoint.state().can_read() {
            return 0;
        }
        let mut closed = None;
        let pushed = assembler.push(bytes, |assembled| match assembled {
            Assembled::Message(kind, payload) => on(kind, payload),
            Assembled::Ping(payload) => endpoint.on_ping(payload),
            Assembled::Pong(payload) => {
                if let Some(receipts) = receipts {
                    receipts.on_pong(payload);
                }
                if let Some(heartbeat) = heartbeat
                    && let PongKind::Ours(Some(rtt)) = heartbeat.on_pong(payload, now)
                {
                    metrics.connections.heartbeat_rtt.observe(rtt.as_secs_f64());
                }
            }
            Assembled::Close(code, payload) => {
                let reason = payload.get(2..).unwrap_or_default();
                closed = Some((code, String::from_utf8_lossy(reason).into_owned()));
            }
        });
        let frames = *pushed.as_ref().unwrap_or(&0);
        if let Err(error) = pushed {
            self.on_protocol_error(error, now);
        }
        if let Some((code, reason)) = closed {
            self.on_close_received(code, reason, now);
        }
        frames
    }
}

/// No extension was offered.
fn new_assembler(rules: &UplinkRules) -> Assembler {
    Assembler::new(Rules {
        sender: Role::Server,
        extensions: Extensions::None,
        max_frame: rules.max_frame,
        max_message: rules.max_message,
        show_text: false,
    })
}

#[cfg(test)]
mod tests;
