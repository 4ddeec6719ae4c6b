//! The task of a session: one future that owns both links, and the log between them.
//!
//! One poll, in this order: commands · the server's link, since an end that can be seen must not be written into · the way back
//! to a server that is lost · what a server is to hear · the client's link · what the client is to get · deadlines, after the
//! sockets were read · steps of an ending.
//!
//! # Invariants
//! 1. An idle session owns no buffer.
//! 2. What the client said is in the outbox until the server surely took it, or it is counted as lost or uncertain.
//! 3. What the server said is in the log until the client was sent it, or the session is over.
//! 4. Whenever `poll` answers Pending, each link that is to be read or written has registered the task's waker, and the timer
//!    stands at the nearest deadline.
//! 5. A session is counted once when it is over, whatever ends its task.
//!
//! # Not here
//! Where the session stands ([`super::machine`]).

mod attach;
mod client;
mod commands;
mod control;
mod deadlines;
mod ending;
mod gauges;
mod polling;
mod polls;
mod posting;
mod reading;
mod replaying;
mod resumable;
mod server;
mod telling;
mod untold;
mod way;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::HeaderValue;
use tokio::time::Instant;

use self::control::Control;
pub(crate) use self::control::Greeted;
use self::gauges::Gauges;
use self::polls::Polls;
use self::resumable::Resumable;
use self::way::Way;
use super::cause::Cause;
use super::greeting::Greetings;
use super::machine::{Client, Machine};
use super::outbox::Outbox;
use super::plan::Plan;
use super::registry::SessionGuard;
use super::request::Wire;
use super::shared::{QueueLength, Running};
use crate::connections::{self, Connection, Held};
use crate::delivery::Link;
use crate::log::{Log, Writer};
use crate::memory::Share;
use crate::net::{Alarm, Transport};
use crate::resilience::{Dates, Expiry, Standstill};
use crate::telemetry::{Reason, SessionEnd};
use crate::upstream::opening::Opening;
use crate::upstream::{Closing, Uplink};

/// A session that holds no more than this in its buffers is not ended for the memory of the process.
const SMALL: usize = 64 * 1024;

/// What the first handshake with the server has brought.
#[derive(Debug)]
pub(crate) struct Opened {
    pub transport: Transport,
    /// The subprotocol that the server chose.
    pub protocol: Option<HeaderValue>,
    /// What each further handshake begins with.
    pub opening: Opening,
}

/// A client whose 101 was sent, or whose answer is an event stream, and its server.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub wire: Wire,
    pub opened: Opened,
    /// Its place in the registry, and what is held for it.
    pub connection: Connection,
    /// What it hears first, if it speaks the protocol among the messages.
    pub greeted: Option<Greeted>,
    /// For a session that can be resumed.
    pub guard: Option<SessionGuard>,
}

/// A server that is lost, until one is live again.
#[derive(Debug)]
struct Outage {
    since: Instant,
    /// Dials that have failed since then.
    failed_dials: u32,
    /// Whether there is a link that is not greeted yet: what becomes of that is the outcome of its dial.
    is_greeting: bool,
    queue: QueueLength,
}

/// One session.
pub(super) struct Task {
    plan: Arc<Plan>,
    machine: Machine,
    /// The link to the server, while there is one.
    uplink: Option<Box<Uplink>>,
    /// The link before it, whose close handshake is under way.
    closing: Closing,
    /// The way back to a server that is lost.
    way: Way,
    opening: Opening,
    protocol: Option<HeaderValue>,
    /// While the server is lost: since when, and how much waits for it.
    outage: Option<Box<Outage>>,
    outbox: Outbox,
    greetings: Option<Box<Greetings>>,
    writer: Writer,
    /// The number of the next message that the client is sent.
    next: u64,
    /// The number of the newest message that it was ever sent, over whichever link.
    newest_sent: u64,
    client: Option<Link>,
    /// What there is of a client that comes over HTTP.
    polls: Option<Box<Polls>>,
    /// What a client that speaks the protocol is told over its link.
    control: Option<Box<Control>>,
    /// The link before, which is told that another one has the session.
    parting: Option<Box<Link>>,
    /// For a client that was given a ticket.
    resumable: Option<Box<Resumable>>,
    /// What the client gets before its Close: up to this message, and not later than that.
    rest: Option<(u64, Instant)>,
    dates: Dates,
    /// When the credentials end that its client has come with last.
    expires: Option<Expiry>,
    /// The client's place among the connections that may be: given back when the session is over, whatever its server
    /// takes its time for.
    place: Option<Held>,
    gauges: Gauges,
    /// Whether more waits for the client than may (`delivery.max_lag`).
    is_beyond_lag: bool,
    is_counted: bool,
    standstill: Standstill,
    alarm: Alarm,
    waker: Option<Waker>,
    /// What the session holds beside its log, for the budget of the process.
    share: Share,
    running: Running,
}

impl Task {
    /// A client whose 101 was sent.
    pub(super) fn new(plan: &Arc<Plan>, client: Transport, arrival: Arrival) -> Self {
        let Arrival { wire, opened, connection, greeted, guard: session } = arrival;
        let Connection { guard, expires, held } = connection;
        let now = Instant::now();
        let mut task = Self::begin(plan, opened, session, (expires, held), now);
        let (client, ticket) = task.link(client, wire, guard, now);
        task.client = Some(client);
        task.dates = Dates::new(task.lifetime_from(now), expires, now);
        match (greeted, ticket) {
            (None, _) => {}
            (Some(greeted), None) => task.greet_client(greeted, false, now),
            (Some(greeted), Some(ticket)) => {
                task.machine.set_resume_window(task.window_over_http());
                task.greet_stream(greeted, &ticket, false, now);
            }
        }
        task
    }

    /// A client that asks over HTTP: what it asks waits in the session's handle.
    pub(super) fn over_http(
        plan: &Arc<Plan>,
        opened: Opened,
        session: SessionGuard,
        connection: Connection,
    ) -> Self {
        let Connection { guard, expires, held } = connection;
        let now = Instant::now();
        let mut task = Self::begin(plan, opened, Some(session), (expires, held), now);
        guard.handle().accept_injections(plan.policy.delivery.max_lag.bytes);
        task.polls.get_or_insert_default().set_place(guard);
        task.dates = Dates::new(None, expires, now);
        task
    }

    fn begin(
        plan: &Arc<Plan>,
        opened: Opened,
        session: Option<SessionGuard>,
        (expires, place): (Option<Expiry>, Option<Held>),
        now: Instant,
    ) -> Self {
        let Opened { transport, protocol, opening } = opened;
        let policy = &plan.policy;
        let metrics = Arc::clone(&plan.shared.metrics);
        let uplink = Uplink::new(transport, plan.uplink_rules(), metrics, now);
        let greetings = (!plan.greeting.is_empty())
            .then(|| Box::new(Greetings::new(Arc::clone(&plan.greeting), policy.session.queue.bytes)));
        let resumable =
            session.zip(plan.gate.clone()).map(|(session, gate)| Box::new(Resumable::new(session, gate)));
        let window = policy.session.resume_window.filter(|_| resumable.is_some());
        Self {
            machine: Machine::new(policy.redial, window, now),
            uplink: Some(Box::new(uplink)),
            closing: Closing::default(),
            way: Way::default(),
            opening,
            protocol,
            outage: None,
            outbox: Outbox::new(&policy.session.queue, resumable.is_some()),
            greetings,
            writer: Log::private(&plan.shared.logs),
            next: 1,
            newest_sent: 0,
            client: None,
            polls: None,
            control: None,
            parting: None,
            resumable,
            rest: None,
            dates: Dates::default(),
            expires,
            place,
            gauges: Gauges::new(Arc::clone(&plan.metrics)),
            is_beyond_lag: false,
            is_counted: false,
            standstill: Standstill::default(),
            alarm: Alarm::default(),
            waker: None,
            share: plan.shared.budget.share(),
            running: Running::new(&plan.shared),
            plan: Arc::clone(plan),
        }
    }

    /// What counts the task among those that run.
    pub(super) fn running(&self) -> &Running {
        &self.running
    }

    /// A lifetime ends anywhere in its last tenth: links that began together must not end together.
    fn lifetime_from(&self, now: Instant) -> Option<Instant> {
        let lifetime = self.plan.policy.max_lifetime?;
        Some(now + lifetime.mul_f64(1.0 - 0.1 * fastrand::f64()))
    }

    /// The client's connection, for log lines.
    fn connection(&self) -> Option<u64> {
        self.handle().map(|handle| handle.id)
    }

    /// How others reach its client, whichever way that is there.
    fn handle(&self) -> Option<&connections::Handle> {
        let link = self.client.as_ref().map(|client| client.handle());
        link.or_else(|| self.polls.as_ref()?.handle())
    }

    /// Registers the task's waker with the client's handle, for commands.
    fn register(&mut self, cx: &Context<'_>) {
        if self.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            if let Some(handle) = self.handle() {
                handle.wake_with(cx.waker());
            }
            if let Some(resumable) = &self.resumable {
                resumable.wake_with(cx.waker());
            }
            self.waker = Some(cx.waker().clone());
        }
    }

    /// Accounts for what the session holds beside its log.
    fn account(&mut self, cx: &Context<'_>) {
        if let Some(outage) = &self.outage {
            outage.queue.set(self.outbox.waiting());
        }
        let client = self.client.as_ref().map_or(0, Link::held);
        let uplink = self.uplink.as_ref().map_or(0, |uplink| uplink.buffered());
        let greetings = self.greetings.as_ref().map_or(0, |greetings| greetings.held());
        let waiting = client + uplink + self.outbox.held();
        let untold = self.resumable.as_ref().map_or(0, |resumable| resumable.held());
        let held = waiting + greetings + untold + self.opening.size();
        if held == self.share.held() {
            return;
        }
        let grown = held.saturating_sub(self.share.held());
        self.share.set(held);
        // What is kept for a new server waits for nobody.
        if let Some(handle) = self.handle() {
            handle.set_buffered(waiting);
        }
        // The session that comes to hold more while the process holds too much is the one that ends.
        if grown > 0 && waiting > SMALL && self.plan.shared.budget.is_over() && self.end_for_memory(grown) {
            cx.waker().wake_by_ref();
        }
    }

    /// The process holds too much, and the session has come to hold so much more. False: it was ending already.
    fn end_for_memory(&mut self, grown: usize) -> bool {
        match self.machine.client() {
            Client::Attached => {
                if let Some(handle) = self.handle() {
                    handle.route.memory_cuts.inc();
                }
                self.machine.leave(Cause::Memory);
            }
            Client::Away { .. } => self.machine.end(Cause::Memory),
            // What is read until a Close is answered may be one message that does not end.
            Client::Leaving { .. } | Client::Gone if grown > SMALL => {
                if let Some(client) = &mut self.client {
                    client.reset(Reason::SlowConsumer);
                }
                self.machine.end(Cause::Memory);
            }
            Client::Leaving { .. } | Client::Gone => return false,
        }
        true
    }
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let now = Instant::now();
        this.register(cx);
        // First, since a client that comes back has a mailbox of its own.
        this.take_requests(cx, now);
        this.take_pending();
        let mut due = this.alarm.due(now);
        loop {
            this.poll_server(cx, now);
            this.poll_way(cx, now);
            this.say(cx, now);
            this.read_client(cx, now);
            this.acknowledge(now);
            this.deliver(cx, now);
            this.answer_polls(cx, now);
            // After the sockets were read: what came before a deadline counts.
            if let Some(due) = due.take() {
                this.on_time(due, now);
                this.settle(now);
                continue;
            }
            // Each step of an ending happens once, so that this loop ends.
            if !this.settle(now) {
                break;
            }
        }
        this.poll_parting(cx, now);
        this.account(cx);
        let is_closed = this.closing.poll(cx).is_ready();
        let has_link = this.client.is_some() || this.parting.is_some();
        if this.machine.client() == Client::Gone && !has_link && is_closed {
            return Poll::Ready(());
        }
        this.arm(cx);
        Poll::Pending
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.is_counted {
            // Without a panic it was cut, or the runtime ends.
            let by_itself = if std::thread::panicking() { SessionEnd::Internal } else { SessionEnd::Client };
            self.plan.metrics.ends.inc(self.machine.cause().map_or(by_itself, Cause::session_end));
        }
    }
}

#[cfg(test)]
mod tests;
