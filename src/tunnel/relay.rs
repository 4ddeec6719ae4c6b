//! Moves frames between a client and its upstream until both have ended.
//!
//! # Invariants
//! 1. An idle relay owns no buffer: bytes are read into the thread's scratch, scanned in place and
//!    written at once; only what a full socket does not take is copied.
//! 2. A frame of ours is sent at an edge only, and nothing is forwarded past a Close or a protocol error.
//! 3. What one side does not take, the other is not read for (`backpressure`), or it is bounded by
//!    `max_lag` (`isolate`); while a side is not read, its clocks stand still.
//! 4. One poll moves at most [`POLL_BUDGET`] bytes and [`POLL_FRAMES`] frames each way, and one read beyond, whatever
//!    else happens in it, and then wakes itself.
//! 5. What both hops hold is in the budget of the process, as of the last poll.
//! 6. Whenever `poll` answers Pending, each side that is to be read or has an egress has registered the
//!    task's waker, and the timer stands at the nearest deadline.
//!
//! # Why not `tokio::io::copy_bidirectional`?
//! It cannot see frame edges: it has no safe place for a ping or a Close, and cannot tell where a message ends, which a
//! limit on messages has to know.
//!
//! # Why does one task own both directions?
//! It wakes once for both, needs no lock between them, and sees the whole state when the connection ends. Two tasks
//! would have to tell each other how they ended.
//!
//! # What a connection costs
//! An idle connection is one task that holds a relay (two links, their boxed pings, one boxed timer), one handle in
//! the registry, and two sockets in the kernel. It has no buffers: what is held back between two reads is a `Vec`
//! that is empty most of the time. The task is the largest part of it, in steps of 128 bytes of the allocator: mind
//! what is added to a link, which is there twice. What is rare (an egress, an ending, a token bucket) is behind a
//! pointer.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::ending::Ending;
use super::link::{Link, Side};
use super::pings::PingScheduler;
use super::rates::Rates;
use super::settings::Settings;
use crate::config::HeartbeatMode;
use crate::connections::{Connection, ConnectionGuard};
use crate::frame::{Extensions, Role, Rules, Scanner};
use crate::memory::Share;
use crate::net::{Alarm, Transport, scratch};
use crate::resilience::{Dates, ReadBudget, Standstill};
use crate::telemetry::{Injection, TaskKind};

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
    pub(super) connection: ConnectionGuard,
    /// Given back when the client is gone, at the latest with the relay.
    pub(super) held: Option<Box<dyn Any + Send + Sync>>,
    pub(super) client_pings: Option<Box<PingScheduler>>,
    pub(super) upstream_pings: Option<Box<PingScheduler>>,
    /// What the client may still send.
    pub(super) rates: Option<Box<Rates>>,
    pub(super) last_activity: Instant,
    /// When it is closed in any case: the end of its life or of credentials, a drain's schedule.
    pub(super) dates: Dates,
    pub(super) standstill: Standstill,
    pub(super) ending: Option<Box<Ending>>,
    pub(super) alarm: Alarm,
    waker: Option<Waker>,
    /// Messages wait in the mailbox for their place.
    pub(super) has_injections: bool,
    /// Whether a deadline may have come nearer than the alarm since that was set, though frames simply pass.
    pub(super) must_arm: bool,
    /// What both hops hold, for the budget.
    share: Share,
}

/// Whether there is more to do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pumped {
    /// A waker is registered for whatever could go on.
    Waiting,
    /// The budget is spent.
    Busy,
}

impl Relay {
    pub(super) fn new(
        client: Transport,
        upstream: Transport,
        extensions: Extensions,
        settings: &Arc<Settings>,
        connection: Connection,
    ) -> Self {
        let Connection { guard: connection, expires, held } = connection;
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
        // A lifetime ends anywhere in its last tenth: connections that came together must not end together.
        let lifetime =
            policy.max_lifetime.map(|lifetime| now + lifetime.mul_f64(1.0 - 0.1 * fastrand::f64()));
        match extensions {
            Extensions::Unknown => drop(connection.handle().refuse_injections(Injection::Extension)),
            // RSV1 marks compressed messages: one without it is valid as well (RFC 7692 §6).
            Extensions::None | Extensions::Deflate => {
                connection.handle().accept_injections(policy.delivery.max_lag.bytes);
            }
        }
        Self {
            client: Link::new(client.stream, &client.read_ahead, scanner(Role::Client), Role::Server),
            upstream: Link::new(upstream.stream, &upstream.read_ahead, scanner(Role::Server), Role::Client),
            client_pings: policy
                .heartbeat
                .map(|heartbeat| Box::new(PingScheduler::new(heartbeat.timing, heartbeat.mode, now))),
            upstream_pings: settings
                .upstream_heartbeat
                .map(|timing| Box::new(PingScheduler::new(timing, HeartbeatMode::Ping, now))),
            rates: Rates::new(policy, now),
            last_activity: now,
            dates: Dates::new(lifetime, expires, now),
            standstill: Standstill::default(),
            ending: None,
            alarm: Alarm::default(),
            waker: None,
            has_injections: false,
            must_arm: true,
            share: settings.budget.share(),
            settings: Arc::clone(settings),
            connection,
            held,
        }
    }

    pub(super) fn link(&self, side: Side) -> &Link {
        match side {
            Side::Client => &self.client,
            Side::Upstream => &self.upstream,
        }
    }

    pub(super) fn link_mut(&mut self, side: Side) -> &mut Link {
        match side {
            Side::Client => &mut self.client,
            Side::Upstream => &mut self.upstream,
        }
    }

    /// When the client may send its next message, while its rate holds it back.
    pub(super) fn next_token_at(&self) -> Option<Instant> {
        self.rates.as_ref()?.next_token_at
    }

    pub(super) fn pings(&self, side: Side) -> Option<&PingScheduler> {
        match side {
            Side::Client => self.client_pings.as_deref(),
            Side::Upstream => self.upstream_pings.as_deref(),
        }
    }

    pub(super) fn pings_mut(&mut self, side: Side) -> Option<&mut PingScheduler> {
        match side {
            Side::Client => self.client_pings.as_deref_mut(),
            Side::Upstream => self.upstream_pings.as_deref_mut(),
        }
    }

    /// Whether frames simply pass: nothing is due but what comes by the alarm, and no step of an ending can be taken.
    fn is_flowing(&self) -> bool {
        self.ending.is_none()
            && self.client.is_flowing()
            && self.upstream.is_flowing()
            && !self.client_pings.as_ref().is_some_and(|pings| pings.is_pending())
            && !self.upstream_pings.as_ref().is_some_and(|pings| pings.is_pending())
    }

    /// Sends pings that are due, and what is queued.
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
                self.connection.handle().on_discarded(lost);
                if link.is_flushed() {
                    pings.on_flushed(now);
                }
            }
        }
    }

    /// Reports how much both hops hold, if that has changed: the budget is shared by all threads.
    fn report_buffered(&mut self) {
        let buffered = self.client.buffered() + self.upstream.buffered();
        if buffered != self.share.held() {
            self.share.set(buffered);
            self.connection.handle().set_buffered(buffered);
        }
    }

    /// Registers the task's waker with the handle, for commands, and has each side ask for it anew if it is another one.
    fn register(&mut self, cx: &Context<'_>) {
        if self.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.client.on_new_waker();
            self.upstream.on_new_waker();
            self.connection.handle().wake_with(cx.waker());
            self.waker = Some(cx.waker().clone());
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Counted here, and not by a wrapper, which each connection would pay for.
        if std::thread::panicking() {
            self.connection.metrics().on_panic(TaskKind::Tunnel);
        }
    }
}

impl Future for Relay {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let now = Instant::now();
        this.register(cx);
        let pending = this.connection.handle().take_pending();
        this.has_injections |= pending.has_injections;
        for command in pending.commands.into_iter().flatten() {
            this.must_arm = true;
            this.on_command(command, now);
        }
        let mut due = this.alarm.due(now);
        // For each direction one, over all rounds of the loop.
        let [mut up_budget, mut down_budget] = [ReadBudget::new(POLL_BUDGET, POLL_FRAMES); 2];
        let (is_busy, is_flowing) = scratch::with(|scratch| {
            loop {
                let had_upstream = this.upstream.is_open();
                let lost = this.client.flush(cx, now) + this.upstream.flush(cx, now);
                let up = this.pump::<true>(cx, &mut up_budget, scratch, now);
                let down = this.pump::<false>(cx, &mut down_budget, scratch, now);
                this.connection.handle().on_discarded(lost);
                let is_busy = up == Pumped::Busy || down == Pumped::Busy;
                // Nearly always.
                if due.is_none() && this.is_flowing() {
                    break (is_busy, true);
                }
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
                    break (is_busy, false);
                }
            }
        });
        this.report_buffered();
        if is_busy {
            cx.waker().wake_by_ref();
        }
        if is_flowing {
            if this.must_arm {
                this.arm(cx, now);
            }
            return Poll::Pending;
        }
        if this.client.state().is_read_ended() {
            this.on_client_gone();
        }
        if !this.client.is_open() && !this.upstream.is_open() {
            this.finish();
            return Poll::Ready(());
        }
        this.arm(cx, now);
        Poll::Pending
    }
}
