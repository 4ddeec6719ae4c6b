//! Every clock of a connection behind one timer.
//!
//! Clocks are checked lazily: activity writes a timestamp, and only when the timer fires is the nearest
//! deadline worked out anew. A connection that is busy or idle wakes for its heartbeat, nothing else.
//!
//! # Invariants
//! 1. A peer is read before it is judged, also when the process stood still ([`crate::resilience::Standstill`]).

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::unconstrained;
use tokio::time::Instant;

use super::ending::CloseAction;
use super::relay::{Relay, Side};
use crate::telemetry::Reason;

/// How often a client that is not read is looked at, whether it is still there: the only way to see the
/// end of a stream behind bytes that nobody takes.
const GONE_CHECK: Duration = Duration::from_secs(1);

impl Relay {
    /// When it is to be looked at. Judgements of peers may have to wait; what a client may say, and dates, do not.
    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let dates = self.dates.next().filter(|_| self.ending.is_none());
        let judgement = self.next_judgement(now).map(|deadline| self.standstill.defer(deadline));
        [judgement, dates, self.next_token_at].into_iter().flatten().min()
    }

    /// The nearest deadline of a peer.
    fn next_judgement(&self, now: Instant) -> Option<Instant> {
        let policy = &self.settings.policy;
        let is_paused = self.client.is_paused();
        let mut next = None;
        let mut at = |deadline: Option<Instant>| {
            if let Some(deadline) = deadline {
                next = Some(next.map_or(deadline, |next: Instant| next.min(deadline)));
            }
        };
        if let Some(ending) = &self.ending {
            return Some(ending.deadline);
        }
        at(self.client_pings.as_ref().and_then(|pings| pings.deadline(is_paused)));
        at(self.upstream_pings.as_ref().and_then(|pings| pings.deadline(self.upstream.is_paused())));
        if !is_paused {
            at(policy.idle_timeout.map(|idle| self.last_activity + idle));
        }
        at(self.stall_deadline(Side::Client));
        at(self.stall_deadline(Side::Upstream));
        at(self.broken_deadline(Side::Client));
        at(self.broken_deadline(Side::Upstream));
        if is_paused && (self.upstream.stalled_since().is_some() || self.next_token_at.is_some()) {
            at(Some(now + GONE_CHECK.min(policy.close_timeout)));
        }
        next
    }

    /// When `side`, which takes nothing, is given up.
    fn stall_deadline(&self, side: Side) -> Option<Instant> {
        let (link, timeout) = match side {
            Side::Client => (&self.client, self.settings.policy.delivery.stall_timeout),
            Side::Upstream => (&self.upstream, self.settings.upstream_stall),
        };
        Some(link.stalled_since()? + timeout?)
    }

    /// When `side`, which can be told nothing any more, has had its time to say the rest and end. Mostly
    /// it has ended long before; the peer of a Unix socket may shut its ear alone.
    fn broken_deadline(&self, side: Side) -> Option<Instant> {
        let link = match side {
            Side::Client => &self.client,
            Side::Upstream => &self.upstream,
        };
        Some(link.broken_since? + self.settings.policy.close_timeout)
    }

    /// A deadline has passed, or the timer, which stood at `due`: which?
    pub(super) fn on_time(&mut self, cx: &mut Context<'_>, due: Instant, now: Instant) {
        self.armed = None;
        self.on_date(now);
        if self.standstill.hears_first(due, now) {
            return;
        }
        if let Some(ending) = &self.ending {
            if ending.deadline <= now {
                self.on_ending_deadline(now);
            }
            return;
        }
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let policy = Arc::clone(&self.settings.policy);
        if is_due(self.stall_deadline(Side::Client)) && !self.client.has_taken_some(cx, now) {
            return self.begin_ending(Reason::SlowConsumer, None, None, now);
        }
        if is_due(self.stall_deadline(Side::Upstream)) && !self.upstream.has_taken_some(cx, now) {
            return self.on_upstream_lost(Reason::SlowUpstream, now);
        }
        let is_gone = self.client.is_paused() && self.client.is_peer_gone(cx);
        if is_gone {
            self.on_client_gone();
        }
        // Whoever is gone behind what its rate holds back has close_timeout for it, however much that is: as long as
        // there is some, its stream is not read to its end.
        if is_gone && self.next_token_at.is_some() {
            self.client.broken_since.get_or_insert(now);
        }
        for side in [Side::Client, Side::Upstream] {
            if is_due(self.broken_deadline(side)) {
                self.link(side).broken_since = None;
                return self.on_end(side, false, now);
            }
        }
        // A client that is gone behind bytes the upstream does not take: that one gets close_timeout.
        if is_gone && is_due(self.upstream.stalled_since().map(|since| since + policy.close_timeout)) {
            self.begin_ending(Reason::ClientLost, None, None, now);
            self.upstream.close_action = CloseAction::Reset(None);
            return;
        }
        let is_paused = self.client.is_paused();
        if !is_paused && is_due(policy.idle_timeout.map(|idle| self.last_activity + idle)) {
            return self.begin_ending(Reason::IdleTimeout, None, None, now);
        }
        let metrics = self.live.metrics();
        if let Some(pings) = &mut self.client_pings
            && pings.on_timer(is_paused, now, metrics)
        {
            return self.begin_ending(Reason::HeartbeatTimeout, None, None, now);
        }
        if let Some(pings) = &mut self.upstream_pings
            && pings.on_timer(self.upstream.is_paused(), now, metrics)
        {
            self.on_upstream_lost(Reason::UpstreamHeartbeatTimeout, now);
        }
    }

    /// Sets the timer to the nearest deadline if that is earlier than what it stands at.
    pub(super) fn arm(&mut self, cx: &mut Context<'_>, now: Instant) {
        let Some(next) = self.next_deadline(now) else { return };
        if self.armed.is_some_and(|armed| armed <= next) {
            return;
        }
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                sleep.as_mut().reset(next);
                sleep
            }
            None => self.sleep.insert(Box::pin(tokio::time::sleep_until(next))),
        };
        self.armed = Some(next);
        // Not under the runtime's budget for this task: when that is used up a timer says Pending without
        // keeping the waker, and would not be asked again.
        if pin!(unconstrained(sleep.as_mut())).poll(cx) == Poll::Ready(()) {
            cx.waker().wake_by_ref();
        }
    }
}
