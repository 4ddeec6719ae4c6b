//! One task that serves its part of a feed's clients: it writes to them in turn, and looks at single ones only when
//! they were woken or are due.
//!
//! # Invariants
//! 1. No look at all clients for the sake of one: only a new message, or the end of the feed, makes a pass over all.
//! 2. In one poll each kind of work has a turn of its own: [`TURN`] clients join, as many are closed or get the time of
//!    their Close, as many are due, as many were woken, as many are sent what is new. What is left waits for the next poll,
//!    and other tasks run meanwhile. So no kind of work keeps another one from its turn.
//! 3. What all clients send is read within [`READ_BUDGET`] a poll, and the client that was woken first is looked at first: one
//!    that never stops sending is behind all others again once it was read.
//! 4. It is not under the runtime's own budget for tasks, with which a socket that would take more seems full: it yields
//!    by itself.
//! 5. It ends when no client can join any more and the last one has gone, or by a panic.
//!
//! # Why is a client not a task of its own?
//! A message would wake each of these tasks. A shard that writes to its clients in turn is woken once, and only
//! sockets that are full cost more.
//!
//! # What a client costs
//! A boxed `Subscriber` in its shard's list, a `SubscriberWaker`, a handle in the registry, and one socket. A message
//! to it is one write; that it was sent is noted with plain stores. What is rare about it is behind a pointer that is
//! empty until then (a trip, a date, a pause, the outcome of a frame): `delivery/tests/memory.rs` holds each of these
//! to its step of the allocator.

mod closing;
mod eviction;
mod handle;

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use slab::Slab;
use tokio::time::{Instant, Sleep};

use self::handle::Inbox;
use super::batch::Batcher;
use super::close::{CloseCause, DismissalProgress};
use super::memory::Account;
use super::shared::FanoutShared;
use super::subscriber::{PollContext, PollStatus, Subscriber};
use super::timer_heap::TimerHeap;
use super::wake_list::SubscriberWaker;
use crate::log::Reader;
use crate::resilience::{ReadBudget, Standstill};

pub(super) use self::handle::ShardHandle;

/// Clients that one kind of work is done for before other tasks get their turn.
const TURN: usize = 64;

/// What is read of all clients before other tasks get their turn: what four of them may send in a turn of theirs. It
/// takes a fraction of a millisecond, so that a pass over a thousand clients is hardly longer for it.
const READ_BUDGET: ReadBudget = ReadBudget::new(256 * 1024, 4096);

/// The task.
#[derive(Debug)]
pub(super) struct Shard {
    handle: Arc<ShardHandle>,
    shared: Arc<FanoutShared>,
    reader: Reader,
    batcher: Batcher,
    /// The account of what its clients hold.
    account: Account,
    /// The newest message that may go out now.
    until: u64,
    /// Whether each message is to go out at once.
    is_prompt: bool,
    /// The oldest message that a client needs, as the log was told.
    oldest_needed: u64,
    clients: Slab<Box<Subscriber>>,
    /// Woken, and not looked at yet.
    woken: VecDeque<u32>,
    /// What may still be read in this poll.
    read_budget: ReadBudget,
    timers: TimerHeap,
    standstill: Standstill,
    sleep: Option<Pin<Box<Sleep>>>,
    /// When more may go out (`delivery.throttle`).
    tick: Option<Instant>,
    /// The pass that is under way.
    pass: Option<Pass>,
    /// Why the feed is over, once it is.
    closed: Option<Arc<CloseCause>>,
    /// The next client that is to be closed for that, until all were.
    next_to_close: Option<usize>,
    /// A dismissal that is under way.
    dismissing: Option<DismissalProgress>,
}

#[derive(Debug, Clone, Copy)]
struct Pass {
    /// The index of the next client.
    next: usize,
    /// The oldest message that a client needs, of those that were served.
    oldest_needed: u64,
}

impl Shard {
    /// `from`: where its first client begins to read.
    pub(super) fn new(
        handle: Arc<ShardHandle>,
        shared: Arc<FanoutShared>,
        reader: Reader,
        from: u64,
    ) -> Self {
        let throttle = shared.settings.policy.delivery.throttle.as_ref();
        // A shard that lets messages wait for their time must not make the server wait for it.
        let is_prompt = throttle.is_none();
        if is_prompt {
            reader.set_delivered(from);
        }
        Self {
            batcher: Batcher::new(Arc::clone(reader.log()), throttle),
            account: shared.settings.client_memory.open(handle.wakes()),
            until: 0,
            is_prompt,
            oldest_needed: u64::MAX,
            handle,
            shared,
            reader,
            clients: Slab::new(),
            woken: VecDeque::new(),
            read_budget: READ_BUDGET,
            timers: TimerHeap::default(),
            standstill: Standstill::default(),
            sleep: None,
            tick: None,
            pass: None,
            closed: None,
            next_to_close: None,
            dismissing: None,
        }
    }

    /// Takes the clients that have joined, as many as have a turn. True if no client will join any more.
    fn take_inbox(&mut self, now: Instant) -> bool {
        // A client that was taken now would be dismissed with those that were there.
        let most = if self.dismissing.is_some() { 0 } else { TURN };
        let Inbox { arrivals, closed, dismissal, is_shut, .. } = self.handle.take(most);
        if let Some(dismissal) = dismissal {
            self.dismissing = Some(DismissalProgress::new(dismissal, self.clients.len()));
        }
        if closed.is_some() {
            self.closed = closed;
            self.next_to_close = Some(0);
        }
        for (arrival, cursor) in arrivals {
            let slot = self.clients.vacant_entry();
            let index = slot.key() as u32;
            let wake = SubscriberWaker::new(self.handle.wakes(), index);
            let mut client = Box::new(Subscriber::new(arrival, cursor, wake, &self.shared, now));
            if let Some(cause) = &self.closed {
                client.close_after_last(cause, &self.shared.settings.policy, now);
            }
            slot.insert(client);
            self.queue(index);
        }
        is_shut
    }

    /// No client has this index or a greater one.
    fn end(&self) -> usize {
        self.clients.capacity()
    }

    /// Has a client looked at when it is its turn.
    fn queue(&mut self, index: u32) {
        if let Some(client) = self.clients.get(index as usize)
            && client.wake().mark()
        {
            self.woken.push_back(index);
        }
    }

    /// Does `work` for one client, removes or queues it as its status asks for, and sets its timer.
    fn with(
        &mut self,
        index: u32,
        now: Instant,
        work: impl FnOnce(&mut Subscriber, &mut PollContext<'_>) -> PollStatus,
    ) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        let mut cx = PollContext {
            shared: &self.shared,
            log: self.reader.log(),
            batcher: &mut self.batcher,
            account: &self.account,
            until: self.until,
            read_budget: &mut self.read_budget,
            now,
        };
        match work(client, &mut cx) {
            PollStatus::Closed => return self.remove(index),
            PollStatus::Yield => self.queue(index),
            PollStatus::Open => {}
        }
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        let deadline = client.next_deadline(&self.shared.settings.policy, self.standstill);
        self.timers.arm(index, deadline, client.armed());
    }

    /// A client that came late may be behind all others: the log keeps what it is to read.
    fn keep_for(&mut self, index: u32) {
        let client = self.clients.get(index as usize);
        if let Some(oldest) = client.map(|client| client.oldest_needed())
            && oldest < self.oldest_needed
            && oldest <= self.until
        {
            self.oldest_needed = oldest;
            self.reader.set_oldest_needed(oldest);
        }
    }

    fn remove(&mut self, index: u32) {
        if self.clients.try_remove(index as usize).is_some() {
            self.handle.on_left();
            self.shared.on_client(false);
        }
        if self.clients.is_empty() {
            // Many clients that have gone leave no memory behind.
            self.clients = Slab::new();
            self.woken = VecDeque::new();
            self.timers = TimerHeap::default();
        }
    }

    /// Polls the next clients that are due.
    fn poll_due(&mut self, now: Instant) {
        let Some(due) = self.timers.next().filter(|due| *due <= now) else { return };
        let is_grace_period = self.standstill.must_read_first(due, now);
        for _ in 0..TURN {
            // A client that cannot be read first is not judged.
            if self.read_budget.is_spent() {
                break;
            }
            let Some((index, at)) = self.timers.pop(now) else { break };
            let Some(client) = self.clients.get_mut(index as usize) else {
                continue;
            };
            if !client.is_armed_for(at) {
                continue;
            }
            *client.armed() = None;
            self.with(index, now, |client, cx| {
                // It is read before it is judged: what came before a deadline counts.
                let before = client.poll(cx);
                if before == PollStatus::Closed {
                    return before;
                }
                client.on_deadlines(is_grace_period, cx);
                let after = client.poll(cx);
                if after == PollStatus::Open { before } else { after }
            });
        }
    }

    /// Removes timers that do not count any more when they are the most. Clients that come and go leave some behind
    /// although none is due for a long time.
    fn sweep_timers(&mut self) {
        if self.timers.len() <= 64 + 4 * self.clients.len() {
            return;
        }
        let clients = &self.clients;
        self.timers
            .sweep(|index, at| clients.get(index as usize).is_some_and(|client| client.is_armed_for(at)));
    }

    /// Polls the next clients that were woken.
    fn poll_woken(&mut self, now: Instant) {
        for _ in 0..self.woken.len().min(TURN) {
            if self.read_budget.is_spent() {
                break;
            }
            let Some(index) = self.woken.pop_front() else { break };
            if let Some(client) = self.clients.get(index as usize) {
                client.wake().take();
            }
            self.with(index, now, Subscriber::poll);
            self.keep_for(index);
        }
    }

    /// Sends what is new to the next clients. True when all were sent it.
    fn pass(&mut self, now: Instant) -> bool {
        let Some(mut pass) = self.pass else { return true };
        let mut turn = TURN;
        while pass.next < self.end() {
            if turn == 0 {
                self.pass = Some(pass);
                return false;
            }
            let index = pass.next;
            pass.next += 1;
            let Some(client) = self.clients.get_mut(index) else { continue };
            if client.next() > self.until {
                continue;
            }
            turn -= 1;
            let mut cx = PollContext {
                shared: &self.shared,
                log: self.reader.log(),
                batcher: &mut self.batcher,
                account: &self.account,
                until: self.until,
                read_budget: &mut self.read_budget,
                now,
            };
            let mut is_watched = true;
            if client.is_served() {
                let status = client.deliver(&mut cx);
                is_watched = status != PollStatus::Open || !client.is_served();
                if status == PollStatus::Yield && client.wake().mark() {
                    self.woken.push_back(index as u32);
                }
            } else {
                client.check_lag(&cx);
            }
            pass.oldest_needed = pass.oldest_needed.min(client.oldest_needed());
            // A client that took everything has no new deadline; the others are looked at once more.
            if is_watched {
                self.with(index as u32, now, |client, cx| client.poll_if_closing(cx));
            }
        }
        self.pass = None;
        if self.is_prompt {
            self.reader.set_delivered(self.until + 1);
        }
        self.oldest_needed = pass.oldest_needed.min(self.until + 1);
        self.reader.set_oldest_needed(self.oldest_needed);
        if self.oldest_needed > self.until {
            // No client is at a place that a batch is remembered for.
            self.batcher.clear();
        }
        true
    }

    /// Clients that it has taken and not removed.
    #[cfg(test)]
    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Entries of its timer heap.
    #[cfg(test)]
    pub(super) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Clients that are to be looked at, those that have gone among them.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.woken.len()
    }

    /// It has panicked: all of its clients, and those that wait for it, are closed.
    pub(super) fn fail(mut self) {
        let (arrivals, clients) = self.handle.fail();
        // It may panic again: that ends one client then, and the first panic was counted.
        let end = |client: Box<Subscriber>| {
            let _ = catch_unwind(AssertUnwindSafe(move || client.fail()));
        };
        for (_, client) in std::mem::take(&mut self.clients) {
            end(client);
        }
        for (arrival, cursor) in arrivals {
            let wake = SubscriberWaker::new(self.handle.wakes(), 0);
            end(Box::new(Subscriber::new(arrival, cursor, wake, &self.shared, Instant::now())));
        }
        for _ in 0..clients {
            self.shared.on_client(false);
        }
    }

    /// When it wants to be woken, whatever else happens.
    pub(super) fn next_moment(&self) -> Option<Instant> {
        [self.timers.next(), self.tick].into_iter().flatten().min()
    }

    /// Sets the timer to the nearest moment.
    fn arm(&mut self, cx: &mut Context<'_>) {
        let Some(next) = self.next_moment() else { return };
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if sleep.deadline() != next || sleep.is_elapsed() {
                    sleep.as_mut().reset(next);
                }
                sleep
            }
            None => self.sleep.insert(Box::pin(tokio::time::sleep_until(next))),
        };
        if pin!(sleep.as_mut()).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

impl Future for Shard {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let now = Instant::now();
        this.handle.wakes().wake_with(cx.waker());
        this.reader.wake_with(cx.waker());
        this.read_budget = READ_BUDGET;
        let is_shut = this.take_inbox(now);
        this.close_next(now);
        this.dismiss_next();
        this.poll_due(now);
        this.handle.wakes().drain(&mut this.woken);
        if this.pass.is_none() {
            let (until, tick) = this.batcher.begin(this.shared.is_shedding(now), now);
            this.tick = tick;
            if until > this.until {
                this.until = until;
                this.pass = Some(Pass { next: 0, oldest_needed: u64::MAX });
            }
        }
        // A pong does not wait for a thousand deliveries, nor do these for a thousand pongs.
        this.poll_woken(now);
        let is_done = this.pass(now);
        this.evict_heaviest(now);
        this.sweep_timers();
        if is_shut && this.clients.is_empty() {
            return Poll::Ready(());
        }
        let has_more = this.reader.log().head() > this.until && this.tick.is_none();
        let has_due = this.timers.next().is_some_and(|at| at <= now);
        let is_closing = this.next_to_close.is_some() || this.dismissing.is_some();
        let has_waiting = is_closing || this.handle.has_arrivals();
        if !is_done || !this.woken.is_empty() || has_more || has_due || has_waiting {
            cx.waker().wake_by_ref();
        }
        this.arm(cx);
        Poll::Pending
    }
}
