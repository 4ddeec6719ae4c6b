//! Every clock of a connection behind one timer.
//!
//! Clocks are checked lazily: activity writes a timestamp, and only when the timer fires is the nearest
//! deadline worked out anew. A connection that is busy or idle wakes for its heartbeat, nothing else.
//!
//! # Invariants
//! 1. A peer is read before it is judged, also when the process stood still ([`crate::resilience::Standstill`]).

use std::ops::ControlFlow;
use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::ending::CloseAction;
use super::link::Side;
use super::relay::Relay;
use crate::telemetry::Reason;

/// How often a client that is not read is looked at, whether it is still there: the only way to see the
/// end of a stream behind bytes that are not taken.
const PRESENCE_CHECK: Duration = Duration::from_secs(1);

/// What is due at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The end, however far the closing handshake has come.
    Ending,
    /// A side that took nothing for its timeout is given up.
    Stall(Side),
    /// A side that nothing can be sent to has had its time to send the rest and end. Mostly it has ended long before; the
    /// peer of a Unix socket may shut one direction alone.
    Broken(Side),
    /// Whether a client that is not read is still there.
    Presence,
    Idle,
    /// A ping, or the answer to one.
    Heartbeat(Side),
}

impl Relay {
    /// All deadlines of the peers, in the order in which they are judged. One that everything ends with leaves no others.
    fn deadlines(&self, now: Instant) -> impl Iterator<Item = (Instant, Due)> + use<> {
        let mut all = [None; 9];
        if let Some(ending) = &self.ending {
            all[0] = Some((ending.deadline(), Due::Ending));
        } else {
            let policy = &self.settings.policy;
            let is_paused = self.client.is_paused();
            let stall = |side, since: Option<Instant>, timeout: Option<Duration>| {
                Some((since? + timeout?, Due::Stall(side)))
            };
            let broken =
                |side| Some((self.link(side).broken_since()? + policy.close_timeout, Due::Broken(side)));
            let heartbeat = |side| {
                let deadline = self.pings(side)?.deadline(self.link(side).is_paused())?;
                Some((deadline, Due::Heartbeat(side)))
            };
            let is_held_back = self.upstream.stalled_since().is_some() || self.next_token_at().is_some();
            let check = now + PRESENCE_CHECK.min(policy.close_timeout);
            let idle = policy.idle_timeout.filter(|_| !is_paused);
            all = [
                None,
                stall(Side::Client, self.client.stalled_since(), policy.delivery.stall_timeout),
                stall(Side::Upstream, self.upstream.stalled_since(), self.settings.upstream_stall),
                broken(Side::Client),
                broken(Side::Upstream),
                (is_paused && is_held_back).then_some((check, Due::Presence)),
                idle.map(|idle| (self.last_activity + idle, Due::Idle)),
                heartbeat(Side::Client),
                heartbeat(Side::Upstream),
            ];
        }
        all.into_iter().flatten()
    }

    /// When the task is to be woken. Judgements of peers may be deferred; dates, and the next token of a rate, are not.
    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let dates = self.dates.next().filter(|_| self.ending.is_none());
        let judgement = self.deadlines(now).map(|(at, _)| at).min().map(|at| self.standstill.defer(at));
        [judgement, dates, self.next_token_at()].into_iter().flatten().min()
    }

    /// The timer, which was set to `due`, has fired: does what is due.
    pub(super) fn on_time(&mut self, cx: &mut Context<'_>, due: Instant, now: Instant) {
        self.alarm.clear();
        self.must_arm = true;
        self.on_date(now);
        if self.standstill.must_read_first(due, now) {
            return;
        }
        for (at, due) in self.deadlines(now) {
            // A client that is not read is looked at whenever the timer has fired.
            let is_due = at <= now || due == Due::Presence;
            if is_due && self.on_due(due, cx, now).is_break() {
                return;
            }
        }
    }

    /// What `due` asks for. Break: nothing else is judged now, since something has ended.
    fn on_due(&mut self, due: Due, cx: &mut Context<'_>, now: Instant) -> ControlFlow<()> {
        match due {
            Due::Ending => self.on_ending_deadline(now),
            Due::Stall(side) if self.link_mut(side).has_taken_some(cx, now) => {
                return ControlFlow::Continue(());
            }
            Due::Stall(Side::Client) => self.begin_ending(Reason::SlowConsumer, None, None, now),
            Due::Stall(Side::Upstream) => self.on_upstream_lost(Reason::SlowUpstream, now),
            Due::Broken(side) => {
                self.link_mut(side).clear_broken();
                self.on_end(side, false, now);
            }
            Due::Presence => return self.check_presence(cx, now),
            Due::Idle => self.begin_ending(Reason::IdleTimeout, None, None, now),
            Due::Heartbeat(side) => {
                let pings = match side {
                    Side::Client => &mut self.client_pings,
                    Side::Upstream => &mut self.upstream_pings,
                };
                let metrics = self.connection.metrics();
                if !pings.as_mut().is_some_and(|pings| pings.on_timer(now, metrics)) {
                    return ControlFlow::Continue(());
                }
                match side {
                    Side::Client => self.begin_ending(Reason::HeartbeatTimeout, None, None, now),
                    Side::Upstream => self.on_upstream_lost(Reason::UpstreamHeartbeatTimeout, now),
                }
            }
        }
        ControlFlow::Break(())
    }

    /// Whether a client that is not read has gone, behind bytes that are not taken.
    fn check_presence(&mut self, cx: &mut Context<'_>, now: Instant) -> ControlFlow<()> {
        if !self.client.is_peer_gone(cx) {
            return ControlFlow::Continue(());
        }
        self.on_client_gone();
        // A client that is gone behind bytes that its rate holds back has close_timeout for them, however many these are:
        // as long as there are some, its stream is not read to its end.
        if self.next_token_at().is_some() {
            self.client.on_peer_gone(now);
        }
        // If the upstream does not take the bytes of a client that is gone, it has close_timeout for them.
        let close_timeout = self.settings.policy.close_timeout;
        if self.upstream.stalled_since().is_some_and(|since| since + close_timeout <= now) {
            self.begin_ending(Reason::ClientLost, None, None, now);
            self.upstream.begin_close(CloseAction::Reset(None));
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Sets the timer to the nearest deadline, if that is earlier than the one it is set to.
    pub(super) fn arm(&mut self, cx: &mut Context<'_>, now: Instant) {
        let next = self.next_deadline(now);
        self.alarm.arm(next, cx);
        self.must_arm = false;
    }
}
