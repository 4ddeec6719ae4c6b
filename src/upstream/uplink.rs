//! An upstream link that ends here: whole messages in, whole messages out, pings answered.
//!
//! # Invariants
//! 1. The first cause of an end stands.
//! 2. What waits for the server is bounded by `max_waiting` and one message; idle, nothing is kept.
//!
//! # Not here
//! Dialling it again, and what becomes of the messages ([`crate::broadcast`]).

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep};

use crate::config;
use crate::frame::{
    Assembler, CloseCode, ControlFrame, Extensions, Fault, Heard, Kind, Opcode, Rules, Sender, encode,
};
use crate::net::{Hop, Stream, scratch};
use crate::resilience::{Act, Heartbeat};

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

/// One upstream link.
#[derive(Debug)]
pub struct Uplink {
    stream: Stream,
    rules: UplinkRules,
    assembler: Assembler,
    /// What came right after the handshake and was read with it.
    early: Bytes,
    /// What waits for the server: whole frames, of which `egress[..sent]` was taken.
    egress: Vec<u8>,
    sent: usize,
    stalled_since: Option<Instant>,
    heartbeat: Option<Heartbeat>,
    /// A ping of ours is among what waits.
    is_ping_queued: bool,
    ending: Option<Ending>,
    has_ended: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// An end that has begun.
#[derive(Debug)]
struct Ending {
    end: UplinkEnd,
    deadline: Instant,
    /// The server has said Close, or is not listened to any more.
    is_heard: bool,
}

/// Bytes that are read before other tasks get their turn.
const POLL_BUDGET: usize = 256 * 1024;

impl Uplink {
    /// After the handshake, in which no extension was offered.
    pub fn new(hop: Hop, rules: UplinkRules, now: Instant) -> Self {
        let frames = Rules {
            sender: Sender::Server,
            extensions: Extensions::None,
            max_frame: rules.max_frame,
            max_message: rules.max_message,
            show_text: false,
        };
        Self {
            stream: hop.stream,
            rules,
            assembler: Assembler::new(frames),
            early: hop.early,
            egress: Vec::new(),
            sent: 0,
            stalled_since: None,
            heartbeat: rules.heartbeat.map(|timing| Heartbeat::new(timing, fastrand::u64(..), now)),
            is_ping_queued: false,
            ending: None,
            has_ended: false,
            sleep: None,
        }
    }

    /// Drives the link and tells `on` each message, until the link has ended. Yields after a while.
    pub fn poll(&mut self, cx: &mut Context<'_>, on: &mut dyn FnMut(Kind, &[u8])) -> Poll<UplinkEnd> {
        let now = Instant::now();
        if let Some(end) = self.on_time(now) {
            // Whoever did not hear us will not hear a farewell either.
            self.stream.reset_on_drop();
            return Poll::Ready(end);
        }
        self.flush(cx, now);
        let is_busy = self.read(cx, now, on);
        // What was read may have to be answered.
        self.flush(cx, now);
        if let Some(end) = self.take_end() {
            self.stream.say_goodbye();
            return Poll::Ready(end);
        }
        if is_busy {
            cx.waker().wake_by_ref();
        }
        self.arm(cx);
        Poll::Pending
    }

    /// Queues a message for the server; false: too much waits already, or the link is ending.
    pub fn send(&mut self, kind: Kind, payload: &[u8]) -> bool {
        if self.ending.is_some() || self.waiting() > self.rules.max_waiting {
            return false;
        }
        let mask = fastrand::u32(..).to_be_bytes();
        self.push(&encode::masked_message(kind, payload, mask));
        true
    }

    /// Says Close; [`Uplink::poll`] then ends with [`UplinkEnd::Done`], within `close_timeout`.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.end(UplinkEnd::Done, Some((code, reason)), Instant::now());
    }

    fn waiting(&self) -> usize {
        self.egress.len() - self.sent
    }

    fn push(&mut self, frame: &[u8]) {
        self.egress.extend_from_slice(frame);
        self.stalled_since.get_or_insert_with(Instant::now);
    }

    fn push_control(&mut self, opcode: Opcode, payload: &[u8]) {
        let mask = fastrand::u32(..).to_be_bytes();
        self.push(ControlFrame::new(opcode, payload, Some(mask)).as_bytes());
    }

    /// Begins to end, unless that has begun.
    fn end(&mut self, end: UplinkEnd, words: Option<(CloseCode, &str)>, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        if let Some((code, reason)) = words {
            let mask = fastrand::u32(..).to_be_bytes();
            self.push(ControlFrame::close(code, reason, Some(mask)).as_bytes());
        }
        self.ending = Some(Ending { end, deadline: now + self.rules.close_timeout, is_heard: false });
    }

    /// How it has ended, if it has.
    fn take_end(&mut self) -> Option<UplinkEnd> {
        let ending = self.ending.as_ref()?;
        let is_told = self.waiting() == 0 && self.stream.unsent() == 0;
        // A server ends the TCP connection first (RFC 6455 §7.1.1); not one that broke a rule.
        let is_over =
            self.has_ended || is_told && ending.is_heard && matches!(ending.end, UplinkEnd::Fault(_));
        is_over.then(|| self.ending.take()).flatten().map(|ending| ending.end)
    }

    fn on_time(&mut self, now: Instant) -> Option<UplinkEnd> {
        if let Some(ending) = &self.ending {
            return (ending.deadline <= now).then(|| ending.end.clone());
        }
        if let (Some(since), Some(timeout)) = (self.stalled_since, self.rules.stall_timeout)
            && since + timeout <= now
        {
            return Some(UplinkEnd::Stalled);
        }
        let heartbeat = self.heartbeat.as_mut()?;
        if heartbeat.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        match heartbeat.on_timer(now).0 {
            Some(Act::SendPing(payload)) => {
                self.is_ping_queued = true;
                self.push_control(Opcode::Ping, &payload);
                None
            }
            Some(Act::GiveUp) => Some(UplinkEnd::Silent),
            None => None,
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>, now: Instant) {
        while self.sent < self.egress.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.egress[self.sent..]) {
                Poll::Pending => return,
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.sent += n;
                    self.stalled_since = Some(now);
                }
                Poll::Ready(_) => return self.on_broken(),
            }
        }
        if self.stream.unsent() > 0 {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return self.on_broken(),
            }
        }
        // Nothing waits: no memory is kept for it.
        self.egress = Vec::new();
        self.sent = 0;
        self.stalled_since = None;
        if std::mem::take(&mut self.is_ping_queued)
            && let Some(heartbeat) = &mut self.heartbeat
        {
            heartbeat.on_flushed(now);
        }
    }

    /// Nothing can be said any more; what the server said before may still be read.
    fn on_broken(&mut self) {
        self.egress = Vec::new();
        self.sent = 0;
        self.stalled_since = None;
    }

    /// Reads what there is. True if there is more.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant, on: &mut dyn FnMut(Kind, &[u8])) -> bool {
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            self.on_bytes(&early, now, on);
        }
        scratch::with(|scratch| {
            let mut budget = POLL_BUDGET;
            while !self.has_ended {
                if budget == 0 {
                    return true;
                }
                let mut buf = ReadBuf::new(scratch);
                match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                    Poll::Pending => return false,
                    Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                        let n = buf.filled().len();
                        budget = budget.saturating_sub(n);
                        self.on_bytes(&scratch[..n], now, on);
                    }
                    Poll::Ready(_) => {
                        self.has_ended = true;
                        self.end(UplinkEnd::Lost, None, now);
                    }
                }
            }
            false
        })
    }

    fn on_bytes(&mut self, bytes: &[u8], now: Instant, on: &mut dyn FnMut(Kind, &[u8])) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.on_life(now);
        }
        let (mut pong, mut closed) = (None, None);
        let is_ending = self.ending.is_some();
        let heartbeat = &mut self.heartbeat;
        let pushed = self.assembler.push(bytes, |heard| match heard {
            // What is said to a link that we have closed is said to nobody.
            Heard::Message(..) if is_ending => {}
            Heard::Message(kind, payload) => on(kind, payload),
            // The newest only (RFC 6455 §5.5.3).
            Heard::Ping(payload) => pong = Some(payload.to_vec()),
            Heard::Pong(payload) => {
                if let Some(heartbeat) = heartbeat {
                    // Whoever's it was: there is nobody else here who has asked.
                    let _ = heartbeat.on_pong(payload, now);
                }
            }
            Heard::Close(code, payload) => {
                let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                closed = Some((code, reason));
            }
        });
        if let Some(pong) = pong
            && !is_ending
        {
            self.push_control(Opcode::Pong, &pong);
        }
        if let Some((code, reason)) = closed {
            // A Close without a code cannot be sent as one (RFC 6455 §7.1.5).
            let echo = if code == CloseCode::NONE { CloseCode(1000) } else { code };
            self.end(UplinkEnd::Closed(code, reason), Some((echo, "")), now);
            if let Some(ending) = &mut self.ending {
                ending.is_heard = true;
            }
        }
        if let Err(fault) = pushed {
            self.end(UplinkEnd::Fault(fault), Some((fault.close_code(), "")), now);
            if let Some(ending) = &mut self.ending {
                ending.is_heard = true;
            }
        }
    }

    /// Has the task woken at the next deadline.
    fn arm(&mut self, cx: &mut Context<'_>) {
        let deadline = match &self.ending {
            Some(ending) => Some(ending.deadline),
            None => {
                let stall =
                    self.stalled_since.zip(self.rules.stall_timeout).map(|(since, after)| since + after);
                let beat = self.heartbeat.as_ref().and_then(Heartbeat::deadline);
                [stall, beat].into_iter().flatten().min()
            }
        };
        let Some(deadline) = deadline else { return };
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if sleep.deadline() != deadline || sleep.is_elapsed() {
                    sleep.as_mut().reset(deadline);
                }
                sleep
            }
            None => self.sleep.insert(Box::pin(tokio::time::sleep_until(deadline))),
        };
        // Not under the runtime's budget for this task: used up, a timer would not keep the waker.
        if pin!(unconstrained(sleep.as_mut())).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}
