//! Every clock of a session behind one timer; the server's link has one of its own.
//!
//! # Invariants
//! 1. A client is read before it is judged, also when the process stood still ([`crate::resilience::Standstill`]).

use std::task::Context;
use std::time::SystemTime;

use tokio::time::Instant;

use super::Task;
use super::untold::Fate;
use super::way::Way;
use crate::delivery::Link;
use crate::frame::CloseCode;
use crate::resilience::Date;
use crate::session::cause::Cause;
use crate::session::machine::Client;

impl Task {
    /// Judgements of the client: those that wait until it was read.
    fn judgement(&self) -> Option<Instant> {
        let of = |link: Option<&Link>| link?.next_deadline(&self.plan.policy);
        let links = [of(self.client.as_ref()), of(self.parting.as_deref()), self.stalls_at()];
        links.into_iter().flatten().min()
    }

    /// When the client is too slow if it takes nothing until then. One that is leaving has a deadline for that.
    fn stalls_at(&self) -> Option<Instant> {
        let client = self.client.as_ref().filter(|client| client.is_open())?;
        let since = client.stalled_since().filter(|_| self.machine.client() == Client::Attached)?;
        let policy = &self.plan.policy;
        // Its server waits for it meanwhile, which is not to be so for long.
        let is_waited_for = self.is_beyond_lag && self.plan.is_isolating();
        let timeout = match policy.delivery.stall_timeout {
            Some(timeout) if is_waited_for => timeout.min(policy.close_timeout),
            None if is_waited_for => policy.close_timeout,
            timeout => timeout?,
        };
        Some(since + timeout)
    }

    /// When the task is to be woken.
    fn next_deadline(&self) -> Option<Instant> {
        let judgement = self.judgement().map(|at| self.standstill.defer(at));
        // The end of a pause in reading is no judgement.
        let pause = self.client.as_ref().and_then(Link::paused_until);
        let dates = self
            .dates
            .next()
            .filter(|_| matches!(self.machine.client(), Client::Attached | Client::Away { .. }));
        let acknowledgement =
            self.control.as_ref().and_then(|control| control.next_due(self.outbox.received()));
        let rest = self
            .rest
            .map(|(_, by)| by)
            .filter(|_| self.client.as_ref().is_some_and(|client| client.is_open()));
        let is_live = self.machine.is_live();
        let queue = if is_live { self.outbox.trial_ends() } else { self.outbox.next_expiry() };
        // Who waits for a turn is woken for it.
        let turn = self.machine.turn_at().filter(|_| matches!(self.way, Way::None));
        let machine = self.machine.deadline();
        let polls = self.polls.as_ref().and_then(|polls| polls.next_deadline());
        [judgement, pause, polls, dates, acknowledgement, rest, queue, turn, machine]
            .into_iter()
            .flatten()
            .min()
    }

    /// The timer, which was set to `due`, has fired: does what is due.
    pub(super) fn on_time(&mut self, due: Instant, now: Instant) {
        self.alarm.clear();
        self.machine.on_time(fastrand::f64(), now);
        self.on_date(now);
        self.expire_outbox(now);
        if self.standstill.must_read_first(due, now) {
            return;
        }
        if let Some(link) = &mut self.parting {
            link.on_deadlines(&self.plan.policy, now);
        }
        if let Some(client) = &mut self.client {
            if self.control.is_some()
                && self.machine.client() == Client::Attached
                && client.is_idle(&self.plan.policy, now)
            {
                // Its last words go before its Close. Where there is no place for them, it is closed the next time.
                return self.machine.leave(Cause::Idle);
            }
            client.on_deadlines(&self.plan.policy, now);
        }
        if self.stalls_at().is_some_and(|at| at <= now)
            && let Some(client) = &mut self.client
            && !client.try_write_now(now)
        {
            self.machine.leave(Cause::Slow);
        }
    }

    /// The end of the client's life, of its credentials, or its place in a drain may have come.
    fn on_date(&mut self, now: Instant) {
        let is_away = matches!(self.machine.client(), Client::Away { .. });
        if !is_away && self.machine.client() != Client::Attached {
            return;
        }
        match self.dates.due(now, SystemTime::now) {
            None => {}
            Some(Date::Expired) if is_away => self.machine.end(Cause::Expired),
            Some(Date::Drained(code)) if is_away => self.machine.end(Cause::Drain(CloseCode(code))),
            Some(Date::Lifetime) => self.machine.leave(Cause::Lifetime),
            Some(Date::Expired) => self.machine.leave(Cause::Expired),
            Some(Date::Drained(code)) => self.machine.leave(Cause::Drain(CloseCode(code))),
        }
    }

    /// What waits for a server too long is lost; what waits for a server to have lived for a moment is due.
    fn expire_outbox(&mut self, now: Instant) {
        if self.machine.is_live() {
            return self.outbox.end_trial(now);
        }
        for (fate, given_up) in Fate::of_each(self.outbox.expire(now), Fate::Expired) {
            self.on_fate(fate, &given_up);
        }
    }

    /// Sets the timer to the nearest deadline, if that is earlier than the one it is set to.
    pub(super) fn arm(&mut self, cx: &mut Context<'_>) {
        let next = self.next_deadline();
        self.alarm.arm(next, cx);
    }
}
