//! An upstream link that ends here: whole messages in, whole messages out, pings answered.
//!
//! # Invariants
//! 1. The first cause of an end stands; what follows from it is not told as a cause of its own.
//! 2. Every ending has a deadline. Nothing is sent after our Close, nothing is told after the server's.
//! 3. What waits for the server is bounded: by `max_waiting`, and by one pong, one ping and one Close.
//! 4. An idle uplink owns no buffer: it reads into the thread's scratch, and keeps only what is not whole or
//!    not taken.
//! 5. Whenever `poll` answers Pending the task's waker is registered for all that may come, and the timer
//!    stands at the nearest deadline.
//! 6. The server is read before it is judged, also when the process stood still.
//!
//! # Not here
//! Dialling it again, and what becomes of the messages ([`crate::broadcast`]).

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep};

use crate::config;
use crate::frame::{
    Assembler, CloseCode, ControlFrame, Extensions, Fault, Heard, Kind, Opcode, Rules, Sender, encode,
};
use crate::net::{Egress, Hop, Stream, scratch};
use crate::resilience::{Act, Heartbeat, PongKind, Stall, Standstill, Turn};
use crate::telemetry::Metrics;

/// What is read before other tasks get their turn: four full reads, or as many short frames as take about as long.
const READING: Turn = Turn::new(256 * 1024, 4096);

/// Bytes read at once of a server whose frames are short: only after a read can be told how many are in it.
const READ_SHORT: usize = 8 * 1024;

/// Frames in one read from which on they are short.
const MANY: u32 = 512;

/// What holds for an uplink.
#[derive(Debug, Clone, Copy)]
pub struct UplinkRules {
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
}

/// How an uplink ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UplinkEnd {
    /// The server said Close, with this code and reason.
    Closed(CloseCode, String),
    /// The stream ended without a Close.
    Lost,
    /// The server broke a rule.
    Fault(Fault),
    /// It answered no ping.
    Silent,
    /// It takes nothing.
    Stalled,
    /// We closed it.
    Done,
}

/// As log lines have it.
impl fmt::Display for UplinkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(code, _) => write!(f, "it said Close with {}", code.0),
            Self::Lost => f.write_str("its connection ended without a Close"),
            Self::Fault(fault) => write!(f, "it broke the protocol: {fault}"),
            Self::Silent => f.write_str("it answered no ping (upstream.heartbeat)"),
            Self::Stalled => f.write_str("it took nothing (upstream.stall_timeout)"),
            Self::Done => f.write_str("it was let go"),
        }
    }
}

/// What the server's bytes are taken for. Only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Frames,
    /// Nothing any more: read until its end, so that it can finish in peace.
    Blind,
    Ended,
}

/// What the server can still be sent. Only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Frames,
    CloseSaid,
    EndSaid,
    /// A write failed. What the server said before it went may still be read.
    Broken,
}

/// One upstream link.
#[derive(Debug)]
pub struct Uplink {
    /// None once it is over.
    stream: Option<Stream>,
    /// What came with the handshake and was not looked at yet.
    early: Bytes,
    assembler: Assembler,
    rules: UplinkRules,
    metrics: Arc<Metrics>,
    egress: Egress,
    /// Bytes that were put into the egress, ever.
    queued: u64,
    /// How many of them have to leave until the newest pong has left, and the newest ping.
    pong_leaves_at: u64,
    ping_leaves_at: Option<u64>,
    /// The payload of the newest ping that is not answered: one pong at a time is on its way.
    owed_pong: Option<Box<[u8]>>,
    heartbeat: Option<Box<Heartbeat>>,
    /// Told after everything that touches the stream.
    stall: Stall,
    reading: Reading,
    /// Whether its last read brought many frames.
    is_chatty: bool,
    writing: Writing,
    end: Option<UplinkEnd>,
    /// When it is over at the latest, once it has begun to end or nothing can be sent any more.
    deadline: Option<Instant>,
    masks: Masks,
    timer: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
    standstill: Standstill,
    /// Whoever polls; woken by what is queued outside of a poll.
    waker: Option<Waker>,
}

impl Uplink {
    /// After the handshake.
    pub fn new(hop: Hop, rules: UplinkRules, metrics: Arc<Metrics>, now: Instant) -> Self {
        let heartbeat = rules.heartbeat.map(|timing| Heartbeat::new(timing, fastrand::u64(..), now));
        Self {
            stream: Some(hop.stream),
            early: hop.early,
            assembler: new_assembler(&rules),
            rules,
            metrics,
            egress: Egress::default(),
            queued: 0,
            pong_leaves_at: 0,
            ping_leaves_at: None,
            owed_pong: None,
            heartbeat: heartbeat.map(Box::new),
            stall: Stall::default(),
            reading: Reading::Frames,
            is_chatty: false,
            writing: Writing::Frames,
            end: None,
            deadline: None,
            masks: Masks::default(),
            timer: None,
            armed: None,
            standstill: Standstill::default(),
            waker: None,
        }
    }

    /// Drives the link and tells `on` each message, until the link has ended. Yields after a while.
    pub fn poll(&mut self, cx: &mut Context<'_>, on: &mut dyn FnMut(Kind, &[u8])) -> Poll<UplinkEnd> {
        let now = Instant::now();
        if self.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        self.write(cx, now);
        let is_busy = self.read(cx, on, now);
        self.write(cx, now);
        if self.reading == Reading::Ended {
            self.finish(UplinkEnd::Lost, false);
        }
        // After it was read: what came before a deadline counts, whichever is looked at first.
        if let Some(due) = self.armed.filter(|armed| *armed <= now) {
            self.on_time(cx, due, now);
            self.write(cx, now);
        }
        if self.stream.is_none() {
            return Poll::Ready(self.end.clone().unwrap_or(UplinkEnd::Lost));
        }
        if is_busy {
            cx.waker().wake_by_ref();
        }
        self.arm(cx);
        Poll::Pending
    }

    /// What has to be free of `max_waiting` for a message of so many bytes: no frame is longer than its payload and this.
    pub fn room_for(payload: usize) -> usize {
        const HEADER: usize = 14;
        payload.saturating_add(HEADER)
    }

    /// Queues a message for the server; false: too much waits already, or the link is ending. A message that
    /// does not fit into `max_waiting` never goes.
    pub fn send(&mut self, kind: Kind, payload: &[u8]) -> bool {
        let needed = Self::room_for(payload.len());
        let is_open = self.end.is_none() && self.writing == Writing::Frames;
        if !is_open || self.waiting().saturating_add(needed) > self.rules.max_waiting {
            return false;
        }
        let mask = self.masks.next();
        self.push(&encode::masked_message(kind, payload, mask), Instant::now());
        self.wake();
        true
    }

    /// Says Close; [`Uplink::poll`] then ends with [`UplinkEnd::Done`], within `close_timeout`. Until the
    /// server has answered, what it says is still told.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        let now = Instant::now();
        self.begin(UplinkEnd::Done, now);
        self.say_close(code, reason, now);
        self.wake();
    }

    /// Bytes that it holds, in either direction.
    pub fn buffered(&self) -> usize {
        let stream = self.stream.as_ref().map_or(0, Stream::held);
        self.egress.len() + self.assembler.held() + self.early.len() + stream
    }

    /// Bytes that the server was sent and the kernel has not.
    fn waiting(&self) -> usize {
        self.egress.len() + self.stream.as_ref().map_or(0, Stream::unsent)
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Begins to end, unless that has begun.
    fn begin(&mut self, end: UplinkEnd, now: Instant) {
        if self.end.is_none() && self.stream.is_some() {
            self.end = Some(end);
            self.heartbeat = None;
            self.deadline = Some(now + self.rules.close_timeout);
        }
    }

    /// Says our last word, unless that is said.
    fn say_close(&mut self, code: CloseCode, reason: &str, now: Instant) {
        if self.stream.is_some() && self.writing == Writing::Frames {
            let mask = self.masks.next();
            self.push(ControlFrame::close(code, reason, Some(mask)).as_bytes(), now);
            self.writing = Writing::CloseSaid;
            self.owed_pong = None;
        }
    }

    fn push(&mut self, frame: &[u8], now: Instant) {
        self.egress.push(frame, Some(frame.len()));
        self.queued += frame.len() as u64;
        self.stall.note(false, true, now);
    }

    /// Whether everything up to there has left.
    fn has_left(&self, at: u64) -> bool {
        let is_held = self.stream.as_ref().is_some_and(|stream| stream.unsent() > 0);
        !is_held && self.queued - self.egress.len() as u64 >= at
    }

    /// Sends what waits, and a pong behind it if one is owed and none is under way.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) {
        self.flush(cx, now);
        if self.writing == Writing::Frames
            && self.owed_pong.is_some()
            && self.has_left(self.pong_leaves_at)
            && let Some(payload) = self.owed_pong.take()
        {
            let mask = self.masks.next();
            self.push(ControlFrame::new(Opcode::Pong, &payload, Some(mask)).as_bytes(), now);
            self.pong_leaves_at = self.queued;
            self.flush(cx, now);
        }
        if self.ping_leaves_at.is_some_and(|at| self.has_left(at)) {
            self.ping_leaves_at = None;
            if let Some(heartbeat) = &mut self.heartbeat {
                heartbeat.on_flushed(now);
            }
        }
        // After a fault the server is not listened to any more: the stream ends once it was told why.
        let is_fault = matches!(self.end, Some(UplinkEnd::Fault(_)));
        if is_fault
            && self.writing == Writing::CloseSaid
            && self.waiting() == 0
            && let Some(stream) = &mut self.stream
        {
            match Pin::new(stream).poll_shutdown(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.writing = Writing::EndSaid,
                Poll::Ready(Err(_)) => self.break_off(now),
            }
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>, now: Instant) {
        if self.waiting() == 0 {
            return;
        }
        let Some(stream) = &mut self.stream else { return };
        let (sent, has_moved) = self.egress.send(cx, stream);
        if let Poll::Ready(Err(_)) = sent {
            return self.break_off(now);
        }
        self.stall.note(has_moved, self.waiting() > 0, now);
    }

    /// The server takes nothing more; what it said before that is still read, for a while.
    fn break_off(&mut self, now: Instant) {
        self.writing = Writing::Broken;
        self.heartbeat = None;
        self.egress.clear();
        self.stall.clear();
        self.owed_pong = None;
        self.deadline.get_or_insert(now + self.rules.close_timeout);
    }

    /// Reads what there is; true when the budget is spent and there may be more.
    fn read(&mut self, cx: &mut Context<'_>, on: &mut dyn FnMut(Kind, &[u8]), now: Instant) -> bool {
        let early = std::mem::take(&mut self.early);
        let mut turn = READING;
        if !early.is_empty() {
            turn.take(early.len(), self.hear(&early, on, now));
        }
        scratch::with(|scratch| {
            while self.reading != Reading::Ended {
                if turn.is_over() {
                    return true;
                }
                let most = if self.is_chatty { READ_SHORT } else { scratch.len() };
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
                match read {
                    Poll::Pending => return false,
                    Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                        let frames = self.hear(buf.filled(), on, now);
                        turn.take(buf.filled().len(), frames.max(records));
                        self.is_chatty = frames > MANY;
                    }
                    // However it ends: without a Close it is a loss.
                    Poll::Ready(_) => self.reading = Reading::Ended,
                }
            }
            false
        })
    }

    /// The server said `bytes`; answers how many frames began in them.
    fn hear(&mut self, bytes: &[u8], on: &mut dyn FnMut(Kind, &[u8]), now: Instant) -> u32 {
        let Self { assembler, heartbeat, metrics, owed_pong, writing, .. } = self;
        if let Some(heartbeat) = heartbeat {
            heartbeat.on_life(now);
        }
        if self.reading != Reading::Frames {
            return 0;
        }
        let mut closed = None;
        let pushed = assembler.push(bytes, |heard| match heard {
            Heard::Message(kind, payload) => on(kind, payload),
            Heard::Ping(payload) if *writing == Writing::Frames => *owed_pong = Some(payload.into()),
            Heard::Ping(_) => {}
            Heard::Pong(payload) => {
                if let Some(heartbeat) = heartbeat
                    && let PongKind::Ours(Some(rtt)) = heartbeat.on_pong(payload, now)
                {
                    metrics.heartbeat_rtt.observe(rtt.as_secs_f64());
                }
            }
            Heard::Close(code, payload) => {
                let reason = payload.get(2..).unwrap_or_default();
                closed = Some((code, String::from_utf8_lossy(reason).into_owned()));
            }
        });
        let frames = *pushed.as_ref().unwrap_or(&0);
        if let Err(fault) = pushed {
            self.reading = Reading::Blind;
            self.begin(UplinkEnd::Fault(fault), now);
            self.say_close(fault.close_code(), &fault.to_string(), now);
        }
        if let Some((code, reason)) = closed {
            self.reading = Reading::Blind;
            self.begin(UplinkEnd::Closed(code, reason), now);
            self.say_close(code.answer(), "", now);
        }
        frames
    }

    /// It is over, whatever is still under way.
    fn finish(&mut self, end: UplinkEnd, is_cut: bool) {
        self.end.get_or_insert(end);
        let is_settled = matches!(self.writing, Writing::CloseSaid | Writing::EndSaid) && self.waiting() == 0;
        if let Some(mut stream) = self.stream.take() {
            if is_cut && !is_settled {
                stream.reset_on_drop();
            } else if self.writing != Writing::Broken {
                stream.say_goodbye();
            }
        }
        self.reading = Reading::Ended;
        self.heartbeat = None;
        self.egress.clear();
        self.assembler = new_assembler(&self.rules);
    }

    /// The timer, which stood at `due`, has fired: which deadline has passed?
    fn on_time(&mut self, cx: &mut Context<'_>, due: Instant, now: Instant) {
        self.armed = None;
        if self.standstill.hears_first(due, now) {
            return;
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return self.finish(UplinkEnd::Lost, true);
        }
        if self.stall_deadline().is_some_and(|deadline| deadline <= now)
            && let Some(stream) = &mut self.stream
        {
            let has_moved = self.egress.send_unready(cx, stream);
            if !has_moved {
                return self.finish(UplinkEnd::Stalled, true);
            }
            self.stall.note(has_moved, self.waiting() > 0, now);
        }
        let Some(heartbeat) = &mut self.heartbeat else { return };
        let (act, is_missed) = heartbeat.on_timer(now);
        if is_missed {
            self.metrics.heartbeat_missed.inc();
        }
        match act {
            Some(Act::SendPing(payload)) => {
                let mask = self.masks.next();
                self.push(ControlFrame::new(Opcode::Ping, &payload, Some(mask)).as_bytes(), now);
                self.ping_leaves_at = Some(self.queued);
            }
            Some(Act::GiveUp) => self.finish(UplinkEnd::Silent, true),
            None => {}
        }
    }

    fn stall_deadline(&self) -> Option<Instant> {
        Some(self.stall.since()? + self.rules.stall_timeout?)
    }

    /// The nearest deadline. One that everything ends with leaves no others.
    fn next_deadline(&self) -> Option<Instant> {
        let next = self.deadline.or_else(|| {
            let heartbeat = self.heartbeat.as_ref().and_then(|heartbeat| heartbeat.deadline());
            [heartbeat, self.stall_deadline()].into_iter().flatten().min()
        });
        next.map(|deadline| self.standstill.defer(deadline))
    }

    /// Sets the timer to the nearest deadline if that is earlier than what it stands at.
    fn arm(&mut self, cx: &mut Context<'_>) {
        let Some(next) = self.next_deadline() else { return };
        if self.armed.is_some_and(|armed| armed <= next) {
            return;
        }
        let timer = match &mut self.timer {
            Some(timer) => {
                timer.as_mut().reset(next);
                timer
            }
            None => self.timer.insert(Box::pin(tokio::time::sleep_until(next))),
        };
        self.armed = Some(next);
        // Not under the runtime's budget for this task: a timer that has none left does not keep the waker.
        if pin!(unconstrained(timer.as_mut())).poll(cx) == Poll::Ready(()) {
            cx.waker().wake_by_ref();
        }
    }
}

/// No extension was offered.
fn new_assembler(rules: &UplinkRules) -> Assembler {
    Assembler::new(Rules {
        sender: Sender::Server,
        extensions: Extensions::None,
        max_frame: rules.max_frame,
        max_message: rules.max_message,
        show_text: false,
    })
}

/// Masks that nobody can foresee: whoever chose the payload must not choose what is on the wire (RFC 6455
/// §10.3). Keyed by the system's randomness.
#[derive(Debug, Default)]
struct Masks {
    keys: RandomState,
    count: u64,
}

impl Masks {
    fn next(&mut self) -> [u8; 4] {
        self.count += 1;
        (self.keys.hash_one(self.count) as u32).to_be_bytes()
    }
}

#[cfg(test)]
mod tests;
