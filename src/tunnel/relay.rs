//! Moves frames between a client and its upstream until both have ended.
//!
//! # Invariants
//! 1. An idle relay owns no buffer: bytes are read into the thread's scratch, scanned in place and
//!    written at once; only what a full socket does not take is copied.
//! 2. A frame of ours goes out at an edge only, and nothing goes past a Close or a fault.
//! 3. What one side does not take, the other is not read for (`backpressure`), or it is bounded by
//!    `max_lag` (`isolate`); while a side is not read, its clocks stand still.
//! 4. One poll moves at most [`POLL_BUDGET`] bytes and [`POLL_FRAMES`] frames each way, and one read beyond, whatever
//!    else happens in it, and then wakes itself.
//! 5. What both hops hold is in the budget of the process, as of the last poll.
//! 6. Whenever `poll` answers Pending, each side that is to be read or has an egress has registered the
//!    task's waker, and the timer stands at the nearest deadline.
//!
//! # Why not `tokio::io::copy_bidirectional`?
//! It cannot see frame edges: it has no safe place for a ping or a Close.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::time::{Instant, Sleep};

use super::closing::Ending;
use super::ending::CloseAction;
use super::link::{Link, Reading, Writing};
use super::pings::PingScheduler;
use super::rates::{Rates, messages};
use super::{Settings, Terms};
use crate::config::{HeartbeatMode, IdleActivity, OnStall};
use crate::frame::{CloseCode, Extensions, Opcode, Outcome, Role, Rules, Scanned, Scanner, Verdict};
use crate::net::Transport;
use crate::net::scratch::{self, HELD_ROOM};
use crate::resilience::{Dates, Share, Standstill, Turn};
use crate::telemetry::{ConnectionGuard, Injection, Reason, TaskKind};

/// Bytes moved each way before other connections get their turn: four full reads.
pub(super) const POLL_BUDGET: usize = 256 * 1024;
/// Frames likewise: as many of them, empty, as take about as long.
pub(super) const POLL_FRAMES: u32 = 4096;

/// One connection.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) client: Link,
    pub(super) upstream: Link,
    pub(super) settings: Arc<Settings>,
    pub(super) live: ConnectionGuard,
    /// Given back when the client is gone, at the latest with the relay.
    pub(super) slot: Option<Box<dyn Any + Send + Sync>>,
    pub(super) client_pings: Option<Box<PingScheduler>>,
    pub(super) upstream_pings: Option<Box<PingScheduler>>,
    /// What the client may still say.
    rates: Option<Box<Rates>>,
    /// When it may send the next one, while it may not.
    pub(super) next_token_at: Option<Instant>,
    pub(super) last_activity: Instant,
    /// When it is closed in any case: the end of its life or of credentials, a drain's schedule.
    pub(super) dates: Dates,
    pub(super) standstill: Standstill,
    pub(super) ending: Option<Box<Ending>>,
    pub(super) sleep: Option<Pin<Box<Sleep>>>,
    pub(super) armed: Option<Instant>,
    waker: Option<Waker>,
    /// Messages wait in the mailbox for their place.
    pub(super) has_injections: bool,
    /// What both hops hold, for the budget.
    share: Share,
}

/// A side of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Upstream,
}

impl Side {
    /// As log lines have it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
    }
}

/// Whether there is more to do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pumped {
    /// A waker is registered for whatever could go on.
    Waiting,
    /// The budget is spent.
    Busy,
}

impl Relay {
    pub(super) fn new(
        client: Transport,
        upstream: Transport,
        terms: Terms,
        settings: &Arc<Settings>,
        live: ConnectionGuard,
    ) -> Self {
        let Terms { extensions, expires, slot } = terms;
        let now = Instant::now();
        let policy = &settings.policy;
        let scanner = |sender| {
            Scanner::new(Rules {
                sender,
                extensions,
                max_frame: policy.max_frame,
                max_message: policy.max_message,
                show_text: sender == Role::Client && settings.is_json(),
            })
        };
        // A lifetime ends anywhere in its last tenth: what came together must not go together.
        let lifetime =
            policy.max_lifetime.map(|lifetime| now + lifetime.mul_f64(1.0 - 0.1 * fastrand::f64()));
        match extensions {
            Extensions::Unknown => drop(live.handle().close_to_injections(Injection::Extension)),
            // A compressed message says so: one that does not is as right as ever (RFC 7692 §6).
            Extensions::None | Extensions::Deflate => {
                live.handle().open_to_injections(policy.delivery.max_lag.bytes);
            }
        }
        Self {
            client: Link::new(client.stream, &client.early, scanner(Role::Client), false),
            upstream: Link::new(upstream.stream, &upstream.early, scanner(Role::Server), true),
            client_pings: policy
                .heartbeat
                .map(|heartbeat| Box::new(PingScheduler::new(heartbeat.timing, heartbeat.mode, now))),
            upstream_pings: settings
                .upstream_heartbeat
                .map(|timing| Box::new(PingScheduler::new(timing, HeartbeatMode::Ping, now))),
            rates: Rates::new(policy, now),
            next_token_at: None,
            last_activity: now,
            dates: Dates::new(lifetime, expires, now),
            standstill: Standstill::default(),
            ending: None,
            sleep: None,
            armed: None,
            waker: None,
            has_injections: false,
            share: settings.budget.share(),
            settings: Arc::clone(settings),
            live,
            slot,
        }
    }

    pub(super) fn link(&mut self, side: Side) -> &mut Link {
        match side {
            Side::Client => &mut self.client,
            Side::Upstream => &mut self.upstream,
        }
    }

    /// Moves what `side` says to the other one.
    fn pump(
        &mut self,
        cx: &mut Context<'_>,
        side: Side,
        turn: &mut Turn,
        scratch: &mut [u8],
        now: Instant,
    ) -> Pumped {
        loop {
            if side == Side::Upstream && self.has_injections {
                let injected = self.inject(cx, turn.bytes(), now);
                if injected > 0 {
                    turn.take(injected, 0);
                }
                if turn.is_over() {
                    return Pumped::Busy;
                }
            }
            let most = match self.may_read(side, now) {
                Some(most) => most,
                None => return Pumped::Waiting,
            };
            if turn.is_over() {
                return Pumped::Busy;
            }
            let from = self.link(side);
            if from.has_backlog {
                from.has_backlog = false;
                let mut held = std::mem::take(&mut from.held);
                let frames = self.relay(cx, side, &mut held, most, now);
                turn.take(held.len(), frames);
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
            // What was held stands directly in front of what came, as on the wire.
            let start = HELD_ROOM - from.held.len();
            scratch[start..HELD_ROOM].copy_from_slice(&from.held);
            from.held.clear();
            let records = from.take_records();
            let frames = self.relay(cx, side, &mut scratch[start..HELD_ROOM + n], most, now);
            turn.take(n, frames.max(records));
        }
    }

    /// Whether `side` is to be read now, and how many messages of it may go on.
    fn may_read(&mut self, side: Side, now: Instant) -> Option<u32> {
        if side == Side::Client {
            // Told anew below if the rate still has a say; a stale moment would wake the task for ever.
            self.next_token_at = None;
        }
        let delivery = &self.settings.policy.delivery;
        let is_isolated = delivery.on_stall == OnStall::Isolate;
        let (from, to) = match side {
            Side::Client => (&mut self.client, &self.upstream),
            Side::Upstream => (&mut self.upstream, &self.client),
        };
        if !from.is_open() || from.reading == Reading::Ended {
            return None;
        }
        let mut most = u32::MAX;
        if to.can_send() && from.reading == Reading::Frames {
            // Beyond max_lag an isolated client is closed; if it is closing already, its feed waits.
            let may_lag = side == Side::Upstream && is_isolated && to.waiting() <= delivery.max_lag.bytes;
            if !to.is_flushed() && !may_lag {
                from.pause(now);
                return None;
            }
            if let (Side::Client, Some(bucket)) = (side, messages(&mut self.rates)) {
                most = bucket.available(now);
                self.next_token_at = (most == 0).then(|| bucket.next_token_at());
                if most == 0 {
                    from.pause(now);
                    return None;
                }
            }
            // Not past the next place for what waits: of a busy server each read may end inside a frame.
            if side == Side::Upstream && self.has_injections && to.is_flushed() {
                most = 1;
            }
            // Whoever is owed our Close hears a frame that it has begun to its end, and then that: of a busy peer each
            // read may end inside the next frame.
            if matches!(to.close_action, CloseAction::Close(_)) {
                if from.scanner.at_frame_edge() {
                    return None;
                }
                most = 0;
            }
        }
        if let Some(pause) = from.resume(now) {
            let pings = match side {
                Side::Client => &mut self.client_pings,
                Side::Upstream => &mut self.upstream_pings,
            };
            if let Some(pings) = pings {
                pings.shift(pause, now);
            }
            self.last_activity = (self.last_activity + pause).min(now);
        }
        Some(most)
    }

    /// Scans `buf`, which `side` said, and sends on what may go on; answers how many frames began.
    fn relay(&mut self, cx: &mut Context<'_>, side: Side, buf: &mut [u8], most: u32, now: Instant) -> u32 {
        self.on_bytes(side, now);
        if self.link(side).reading != Reading::Frames {
            self.live.handle().on_discarded(buf.len());
            return 0;
        }
        let (scanned, heard) = self.scan(side, buf, most, now);
        let (from, to) = match side {
            Side::Client => (&mut self.client, &mut self.upstream),
            Side::Upstream => (&mut self.upstream, &mut self.client),
        };
        let handle = self.live.handle();
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
        if scanned.messages > 0 || !from.scanner.at_frame_edge() {
            self.last_activity = now;
        }
        if side == Side::Client
            && let Some(bucket) = messages(&mut self.rates)
        {
            bucket.take(scanned.messages);
        }
        let is_more = side == Side::Upstream && to.egress.len() > before;
        let rest = &buf[scanned.held];
        match scanned.outcome {
            Outcome::Open => from.held.extend_from_slice(rest),
            Outcome::Enough => {
                from.held.extend_from_slice(rest);
                from.has_backlog = !rest.is_empty();
            }
            Outcome::Closed => {
                from.reading = Reading::Discarding;
                from.close_received = heard.map(|(code, _)| code);
                if let Some((code, verdict)) = heard {
                    if is_taken && verdict == Verdict::Pass && to.writing == Writing::Frames {
                        to.writing = Writing::CloseSent;
                    }
                    self.on_close(side, code, verdict, now);
                }
            }
            Outcome::Faulty(fault) => {
                // All the rest is nothing any more, however long it is.
                handle.on_discarded(rest.len());
                from.reading = Reading::Discarding;
                self.on_protocol_error(side, fault, now);
            }
        }
        let delivery = &self.settings.policy.delivery;
        if delivery.on_stall == OnStall::Isolate {
            let is_far = self.client.waiting() > delivery.max_lag.bytes;
            // Whoever asks for more while nothing is left for all is the one that goes.
            let is_one_too_many = !is_far && is_more && self.settings.budget.is_over();
            if is_one_too_many {
                self.live.handle().about.route.memory_cuts.inc();
            }
            if is_one_too_many && self.ending.is_some() {
                // It is told no other cause than its first; what its server still says to it is nobody's to keep.
                let lost = self.client.reset();
                self.live.handle().on_discarded(lost);
            }
            if is_far || is_one_too_many {
                self.begin_ending(Reason::SlowConsumer, None, None, now);
            }
        }
        if side == Side::Client
            && scanned.controls > 0
            && let Some(Rates { controls: Some(bucket), .. }) = self.rates.as_deref_mut()
            && !bucket.takes(scanned.controls, now)
        {
            self.begin_ending(Reason::ControlRate, None, None, now);
        }
        scanned.frames
    }

    /// Walks the frames in `buf`; answers also the Close among them and what becomes of it.
    fn scan(
        &mut self,
        side: Side,
        buf: &mut [u8],
        most: u32,
        now: Instant,
    ) -> (Scanned, Option<(CloseCode, Verdict)>) {
        let replaces_close = self.replaces_close(side);
        let holds_close = side == Side::Upstream && self.holds_to_schedule();
        let (scanner, own, other) = match side {
            Side::Client => (&mut self.client.scanner, &mut self.client_pings, &mut self.upstream_pings),
            Side::Upstream => (&mut self.upstream.scanner, &mut self.upstream_pings, &mut self.client_pings),
        };
        let metrics = self.live.metrics();
        let mut heard = None;
        let scanned = scanner.scan(buf, most, |whole| match whole.opcode {
            Opcode::Close => {
                let code = CloseCode::from_payload(whole.payload);
                // A server that stops says 1001 or 1012 to everyone at once; a drain's pace stands.
                let is_held = holds_close && matches!(code.0, 1001 | 1012);
                let verdict = if replaces_close || is_held { Verdict::Drop } else { Verdict::Pass };
                heard = Some((code, verdict));
                verdict
            }
            Opcode::Pong => {
                own.as_mut().map_or(Verdict::Pass, |pings| pings.judge_pong(whole.payload, now, metrics))
            }
            Opcode::Text => {
                own.as_mut().map_or(Verdict::Pass, |pings| pings.judge_text(whole.payload, now, metrics))
            }
            Opcode::Ping => {
                if let Some(pings) = other {
                    pings.on_foreign_ping(now);
                }
                Verdict::Pass
            }
            _ => Verdict::Pass,
        });
        (scanned, heard)
    }

    /// Any byte is a sign of life of whoever sent it.
    fn on_bytes(&mut self, side: Side, now: Instant) {
        let pings = match side {
            Side::Client => &mut self.client_pings,
            Side::Upstream => &mut self.upstream_pings,
        };
        if let Some(pings) = pings {
            pings.on_activity(now);
        }
        if self.settings.policy.idle_activity == IdleActivity::Any {
            self.last_activity = now;
        }
    }

    /// Puts pings that are due between the frames, and sends what is queued.
    fn send_due(&mut self, cx: &mut Context<'_>, now: Instant) {
        let (to_client, to_upstream) = (self.upstream.scanner.edge(), self.client.scanner.edge());
        let sides = [
            (&mut self.client, to_client, &mut self.client_pings),
            (&mut self.upstream, to_upstream, &mut self.upstream_pings),
        ];
        for (link, edge, pings) in sides {
            let Some(pings) = pings else { continue };
            if pings.is_pending() {
                pings.send_due(link, edge, now);
                let lost = link.flush(cx, now);
                self.live.handle().on_discarded(lost);
                if link.is_flushed() {
                    pings.on_flushed(now);
                }
            }
        }
    }

    /// Tells others how much is held, if that has changed: the budget is shared by all threads.
    fn tell_buffered(&mut self) {
        let buffered = self.client.buffered() + self.upstream.buffered();
        if buffered != self.share.held() {
            self.share.set(buffered);
            self.live.handle().set_buffered(buffered);
        }
    }

    /// Keeps the task's waker where commands can find it.
    fn register(&mut self, cx: &Context<'_>) {
        if self.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.live.handle().wake_with(cx.waker());
            self.waker = Some(cx.waker().clone());
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Looked at here, and not by something around it, which each connection would pay for.
        if std::thread::panicking() {
            self.live.metrics().on_panic(TaskKind::Tunnel);
        }
    }
}

impl Future for Relay {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let now = Instant::now();
        this.register(cx);
        let mail = this.live.handle().take_mail();
        this.has_injections |= mail.has_injections;
        for command in mail.commands.into_iter().flatten() {
            this.on_command(command, now);
        }
        let mut due = this.armed.filter(|armed| *armed <= now);
        // For each direction one, over all rounds of the loop.
        let [mut up_turn, mut down_turn] = [Turn::new(POLL_BUDGET, POLL_FRAMES); 2];
        let busy = scratch::with(|scratch| {
            loop {
                let had_upstream = this.upstream.is_open();
                let lost = this.client.flush(cx, now) + this.upstream.flush(cx, now);
                let up = this.pump(cx, Side::Client, &mut up_turn, scratch, now);
                let down = this.pump(cx, Side::Upstream, &mut down_turn, scratch, now);
                this.live.handle().on_discarded(lost);
                let is_busy = up == Pumped::Busy || down == Pumped::Busy;
                // After the sockets were read: what came before a deadline counts, whichever is looked at first.
                if let Some(due) = due.take() {
                    this.on_time(cx, due, now);
                    if !is_busy {
                        // There may be room for more, or an ending.
                        continue;
                    }
                }
                this.send_due(cx, now);
                // Each step of an ending happens once, so that this loop ends. A client that waited for an
                // upstream that is gone now has to be read again.
                if !this.settle(cx, now) && this.upstream.is_open() == had_upstream {
                    break is_busy;
                }
            }
        });
        this.tell_buffered();
        if this.client.reading == Reading::Ended {
            this.on_client_gone();
        }
        if !this.client.is_open() && !this.upstream.is_open() {
            this.finish();
            return Poll::Ready(());
        }
        if busy {
            cx.waker().wake_by_ref();
        }
        this.arm(cx, now);
        Poll::Pending
    }
}
