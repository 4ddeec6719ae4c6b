//! One client of a feed: a [`Consumer`] of its log, and the [`Link`] that its messages go out by.
//!
//! # Invariants
//! 1. After every call that answers [`PollStatus::Open`] the socket has its waker for whatever is to go on, or there is a
//!    deadline for it.
//! 2. A client is read before it is judged, also when the process stood still ([`crate::resilience::Standstill`]): its
//!    shard sees to that.
//!
//! # Not here
//! Whose turn it is ([`super::shard`]); what goes out together ([`super::batch`]).

mod control;
mod deadlines;
mod receive;

use std::any::Any;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use tokio::time::Instant;

use self::control::Control;
use super::batch::{Batcher, View};
use super::close::{CloseCause, ScheduledClose};
use super::consumer::Consumer;
use super::control::ControlError;
use super::encoding::Encoding;
use super::event_stream::EventStream;
use super::events::stream;
use super::link::Link;
use super::memory::{Account, Usage};
use super::shared::FanoutShared;
use super::status::{SendStatus, WriteStatus};
use super::wake_list::SubscriberWaker;
use super::websocket::WebSocket;
use super::{Arrival, FromClients, Wire};
use crate::config::Policy;
use crate::connections::{Command, Connection};
use crate::frame::{Kind, encode};
use crate::log::{Cursor, Log};
use crate::memory::Share;
use crate::resilience::{Dates, ReadBudget};
use crate::telemetry::{FeedMetrics, Reason};

/// Batches that one client is sent before it is the others' turn.
const MAX_BATCHES: usize = 4;

/// What all clients of a shard are served with.
#[derive(Debug)]
pub(super) struct PollContext<'a> {
    pub(super) shared: &'a Arc<FanoutShared>,
    pub(super) log: &'a Log,
    pub(super) batcher: &'a mut Batcher,
    pub(super) account: &'a Account,
    /// The newest message that may go out now.
    pub(super) until: u64,
    /// What may still be read in this turn of the shard.
    pub(super) read_budget: &'a mut ReadBudget,
    pub(super) now: Instant,
}

impl<'a> PollContext<'a> {
    fn policy(&self) -> &'a Policy {
        &self.shared.settings.policy
    }

    fn metrics(&self) -> &'a FeedMetrics {
        &self.shared.settings.metrics
    }
}

/// What is to become of a client that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PollStatus {
    /// It stays.
    Open,
    /// It stays, and there is more to do for it at once.
    Yield,
    /// It has ended and is to be dropped.
    Closed,
}

/// One client.
#[derive(Debug)]
pub(super) struct Subscriber {
    link: Link,
    consumer: Consumer,
    wake: Arc<SubscriberWaker>,
    waker: Waker,
    /// When it is closed in any case: the end of its life or of its credentials, a drain's schedule.
    dates: Dates,
    /// What its feed closes it with, and when.
    feed_close: Option<Box<ScheduledClose>>,
    /// The moment at which its shard looks at it.
    armed: Option<Instant>,
    /// What few clients have.
    extras: Option<Box<Extras>>,
    /// Given back with the client.
    _held: Option<Box<dyn Any + Send + Sync>>,
}

/// What few clients have: most need no memory for it.
#[derive(Debug, Default)]
struct Extras {
    /// What it alone holds.
    share: Option<Share>,
    /// `None`: it knows nothing of a protocol among the messages.
    control: Option<Control>,
}

impl Subscriber {
    pub(super) fn new(
        arrival: Arrival,
        cursor: Cursor,
        wake: Arc<SubscriberWaker>,
        shared: &FanoutShared,
        now: Instant,
    ) -> Self {
        let Arrival { transport, wire, connection } = arrival;
        let Connection { guard: connection, expires, held } = connection;
        let policy = &shared.settings.policy;
        let wants_messages = matches!(shared.from_clients, FromClients::Forward(_));
        // A lifetime ends anywhere in its last tenth: clients that came together must not go together.
        let lifetime =
            policy.max_lifetime.map(|lifetime| now + lifetime.mul_f64(1.0 - 0.1 * fastrand::f64()));
        let waker = Waker::from(Arc::clone(&wake));
        connection.handle().wake_with(&waker);
        let (link, control) = match wire {
            Wire::WebSocket { has_deflate, hello } => {
                let mut socket =
                    WebSocket::new(transport, has_deflate, policy, wants_messages, connection, now);
                if let Some(hello) = &hello {
                    socket.speak_control(policy, wants_messages, hello.prefix);
                }
                (Link::WebSocket(socket), hello.map(|hello| Control::new(*hello)))
            }
            Wire::Events(wire) => {
                (Link::Events(Box::new(EventStream::new(transport, *wire, connection, now))), None)
            }
        };
        Self {
            link,
            consumer: Consumer::new(cursor),
            wake,
            waker,
            dates: Dates::new(lifetime, expires, now),
            feed_close: None,
            armed: None,
            extras: control.map(|control| Box::new(Extras { share: None, control: Some(control) })),
            _held: held,
        }
    }

    /// The number of the next message that it is to get.
    pub(super) fn next(&self) -> u64 {
        self.consumer.next()
    }

    /// The number from which on its log keeps messages for it.
    pub(super) fn oldest_needed(&self) -> u64 {
        self.consumer.oldest_needed()
    }

    /// Its waker, which has its shard look at it.
    pub(super) fn wake(&self) -> &SubscriberWaker {
        &self.wake
    }

    /// The moment at which its shard looks at it, kept here for [`super::timer_heap`].
    pub(super) fn armed(&mut self) -> &mut Option<Instant> {
        &mut self.armed
    }

    /// Whether its shard looks at it at that moment.
    pub(super) fn is_armed_for(&self, at: Instant) -> bool {
        self.armed == Some(at)
    }

    /// Whether the next message can go out to it at once.
    pub(super) fn is_served(&self) -> bool {
        let control = self.extras.as_ref().and_then(|extras| extras.control.as_ref());
        let has_frame = control.is_some_and(Control::has_frame);
        self.link.is_open() && self.link.is_flushed() && !self.consumer.is_skipped() && !has_frame
    }

    /// Everything that can be done for it now.
    pub(super) fn poll(&mut self, cx: &mut PollContext<'_>) -> PollStatus {
        for command in self.link.handle().take_commands().into_iter().flatten() {
            self.on_command(command, cx);
        }
        let mut status = self.write(cx);
        if status != PollStatus::Closed && self.read(cx) {
            // What was read may have to be answered.
            let after = self.write(cx);
            let is_still_due = status == PollStatus::Yield && after == PollStatus::Open;
            status = if is_still_due { PollStatus::Yield } else { after };
        }
        self.account(cx.account);
        if status == PollStatus::Closed {
            self.link.leave();
        }
        status
    }

    /// Does what follows if it has to be closed now.
    pub(super) fn poll_if_closing(&mut self, cx: &mut PollContext<'_>) -> PollStatus {
        if self.link.is_open() { PollStatus::Open } else { self.poll(cx) }
    }

    /// A command came through the handle.
    fn on_command(&mut self, command: Command, cx: &PollContext<'_>) {
        match command {
            Command::CloseAt { at, code } => {
                self.dates.set_drain(at, code.0);
                self.on_close_date(cx);
            }
            Command::Replace => {
                let cause = CloseCause::ours(Reason::Replaced, 1008, "replaced by a newer connection");
                self.close(&cause, cx);
            }
            Command::Cut => {
                let is_draining = self.dates.is_draining();
                self.link.reset(if is_draining { Reason::Drained } else { Reason::Aborted });
            }
        }
    }

    /// Begins to close it, unless an end has begun.
    fn close(&mut self, cause: &CloseCause, cx: &PollContext<'_>) {
        self.link.close(cause, cx.policy().close_timeout, cx.now);
    }

    /// Sends what is left, control frames, and what is due.
    fn write(&mut self, cx: &mut PollContext<'_>) -> PollStatus {
        let waker = self.waker.clone();
        let mut task = Context::from_waker(&waker);
        loop {
            match self.link.poll_send(&mut task, self.consumer.sequence(), cx.now) {
                SendStatus::Ready => {}
                SendStatus::Blocked => {
                    self.check_lag(cx);
                    // It may have been closed for that, and what it did not take dropped up to where its Close can go.
                    if self.link.is_flushed() && !self.link.is_open() {
                        continue;
                    }
                    return PollStatus::Open;
                }
                SendStatus::Closed => return PollStatus::Closed,
            }
            if !self.link.is_open() {
                return PollStatus::Open;
            }
            let control = self.extras.as_mut().and_then(|extras| extras.control.as_mut());
            let frame = control.and_then(|control| control.next_frame(self.link.prefix()));
            if let Some(frame) = frame {
                // Whatever becomes of it, the next turn of this finds out.
                self.link.send(&mut task, &frame, 0, cx.now);
                continue;
            }
            if self.consumer.is_skipped() {
                return PollStatus::Open;
            }
            let status = self.deliver(cx);
            if self.link.is_open() || status != PollStatus::Open {
                return status;
            }
        }
    }

    /// Sends what the log has for it; nothing may be left of what was sent before.
    pub(super) fn deliver(&mut self, cx: &mut PollContext<'_>) -> PollStatus {
        let (policy, metrics) = (cx.policy(), cx.metrics());
        for _ in 0..MAX_BATCHES {
            if self.consumer.next() > cx.until {
                self.on_caught_up(cx);
                return PollStatus::Open;
            }
            let user = self.link.handle().user.as_ref();
            let control = self.extras.as_mut().and_then(|extras| extras.control.as_mut());
            let is_counting = control.is_some();
            let view = View { encoding: self.link.encoding(), user, is_counting };
            let (batch, missed) = self.consumer.next_batch(cx.batcher, view, metrics);
            let notice = match (control, view.encoding) {
                (Some(control), _) => control.on_batch(batch, self.link.prefix()),
                // The page's own handlers do not see it.
                (None, Encoding::Events(_)) => (missed > 0).then(|| stream::gap(batch.before(), missed)),
                (None, _) => (missed > 0 && policy.notices).then(|| gap_notice(missed)),
            };
            let notice = notice.map(|notice| Bytes::from([&notice[..], &batch.bytes[..]].concat()));
            let bytes = notice.as_ref().unwrap_or(&batch.bytes);
            let has_more = batch.has_more;
            if bytes.is_empty() {
                if has_more {
                    continue;
                }
                self.on_caught_up(cx);
                return PollStatus::Open;
            }
            // Without a copy of the waker: this is once a delivery.
            let mut task = Context::from_waker(&self.waker);
            match self.link.send(&mut task, bytes, batch.messages, cx.now) {
                WriteStatus::Flushed => {}
                WriteStatus::Blocked => {
                    let budget = cx.shared.settings.client_memory.budget();
                    self.link.share_unsent(|| match notice {
                        Some(notice) => budget.hold(notice),
                        None => cx.batcher.held(budget),
                    });
                    self.account(cx.account);
                    return PollStatus::Open;
                }
                WriteStatus::Broken => return PollStatus::Closed,
            }
            if !has_more {
                self.on_caught_up(cx);
                return PollStatus::Open;
            }
        }
        PollStatus::Yield
    }

    /// It was sent everything that may go out now.
    fn on_caught_up(&mut self, cx: &PollContext<'_>) {
        self.link.handle().set_lag(0);
        self.consumer.on_caught_up(cx.now);
        // The log may be ahead of what may go out now: the Close at the end of the feed waits for that too.
        if self.consumer.next() > cx.log.head()
            && let Some(close) = self.feed_close.take_if(|close| close.is_final)
        {
            self.close(&close.cause, cx);
        }
    }

    /// It takes nothing at the moment: is it too far behind?
    pub(super) fn check_lag(&mut self, cx: &PollContext<'_>) {
        self.link.handle().set_lag(self.consumer.lag(cx.log.head()));
        if self.link.is_open()
            && !self.consumer.is_skipped()
            && self.consumer.is_beyond(&cx.policy().delivery.max_lag, cx.log)
        {
            self.trip(cx);
        }
    }

    /// It is skipped for a while, or closed if it has been too often.
    fn trip(&mut self, cx: &PollContext<'_>) {
        self.link.watch_progress();
        if self.consumer.trip(cx.shared, cx.now) {
            let code = cx.policy().close_codes.slow_consumer;
            self.close(&CloseCause::ours(Reason::SlowConsumer, code, "slow consumer"), cx);
        }
    }

    /// The time in which it is skipped may be over.
    fn try_again(&mut self, cx: &PollContext<'_>) {
        if !self.consumer.ends_cool_down(cx.now) {
            return;
        }
        // If it has not taken a byte in all that time there is no use in trying.
        if !self.link.makes_progress(cx.now) {
            return self.trip(cx);
        }
        self.consumer.resume(cx.policy().delivery.resume_from, cx.log, cx.metrics());
    }

    /// The feed is over: it is closed when it was sent everything, and not much later.
    pub(super) fn close_after_last(&mut self, cause: &Arc<CloseCause>, policy: &Policy, now: Instant) {
        let at = now + policy.close_timeout;
        let at = self.feed_close.take().map_or(at, |close| close.at.min(at));
        self.feed_close = Some(Box::new(ScheduledClose { at, is_final: true, cause: Arc::clone(cause) }));
    }

    /// It is closed at that time and served as usual until then. An earlier Close that it is to get stands.
    pub(super) fn close_at(&mut self, at: Instant, cause: &Arc<CloseCause>) {
        if self.feed_close.as_ref().is_none_or(|close| at < close.at && !close.is_final) {
            self.feed_close =
                Some(Box::new(ScheduledClose { at, is_final: false, cause: Arc::clone(cause) }));
        }
    }

    /// What it has said beside its messages and cannot be.
    fn take_control_error(&mut self) -> Option<ControlError> {
        self.extras.as_mut()?.control.as_mut()?.take_error()
    }

    /// It is reset to make room in memory.
    pub(super) fn evict(&mut self) {
        self.link.handle().route.memory_cuts.inc();
        self.link.reset(Reason::SlowConsumer);
    }

    /// Its shard has panicked.
    pub(super) fn fail(self) {
        self.link.fail();
    }

    /// What it holds of the memory of the process.
    pub(super) fn usage(&self, index: u32, now: Instant) -> Usage {
        let piece = self.link.unsent_piece();
        Usage {
            index,
            piece: (!piece.is_empty()).then(|| (piece.as_ptr().addr(), piece.len())),
            alone: self.link.held_alone(),
            since: self.link.stalled_since().unwrap_or(now),
        }
    }

    /// Accounts for what it holds: a piece that it shares with others is counted by itself.
    fn account(&mut self, account: &Account) {
        self.link.handle().set_buffered(self.link.held());
        let alone = self.link.held_alone();
        if alone > 0 {
            self.extras.get_or_insert_default().share.get_or_insert_with(|| account.share());
        }
        if let Some(share) = self.extras.as_mut().and_then(|extras| extras.share.as_mut()) {
            share.set(alone);
        }
        account.note(alone + self.link.unsent_piece().len());
    }
}

/// A notice of a gap.
fn gap_notice(missed: u64) -> Bytes {
    let text = format!(r#"{{"type":"outrigger","event":"gap","missed":{missed}}}"#);
    encode::message(Kind::Text, text.as_bytes())
}
