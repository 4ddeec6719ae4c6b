//! How a session ends, and a link of its client: step by step, each of which happens once.
//!
//! # Invariants
//! 1. A client gets its last words and its Close, in this order, or its link has ended by itself.
//!
//! # Not here
//! What ends a session, and who may come back ([`crate::session::machine`], [`crate::session::cause`]).

use tokio::time::Instant;

use super::Task;
use super::untold::Fate;
use super::way::Way;
use crate::delivery::Link;
use crate::frame::CloseCode;
use crate::log::Log;
use crate::session::cause::Cause;
use crate::session::lines;
use crate::session::machine::{Client, Server};
use crate::telemetry::{Reason, RedialOutcome, SessionEnd};

impl Task {
    /// Takes the next steps of whatever ends. True if there may be something to do at once.
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        let mut has_changed = self.on_link_end(now);
        if self.machine.client() == Client::Attached
            && self.client.is_some()
            && self.machine.server() == Server::Over
            && let Some(cause) = self.machine.cause().cloned()
        {
            self.machine.leave(cause);
        }
        if let Client::Leaving { .. } = self.machine.client() {
            has_changed |= match (&self.client, self.machine.leaving().cloned()) {
                (None, Some(cause)) => {
                    self.leave_polls(&cause, now);
                    true
                }
                _ => self.poll_leave(now),
            };
        }
        match self.machine.client() {
            Client::Gone => has_changed |= self.on_gone(now),
            Client::Away { .. } => self.on_away(now),
            Client::Attached | Client::Leaving { .. } => {}
        }
        self.drop_unwanted_link(now);
        self.gauges.set(self.machine.client(), self.polls.is_some(), self.uplink.is_some());
        has_changed
    }

    /// The session is over: counts it, and closes both links. True if the client's was open.
    fn on_gone(&mut self, now: Instant) -> bool {
        let was_open = self.close_client(now);
        self.end_polls();
        self.place = None;
        // The server was there; that it was not greeted is not its fault.
        self.count_redial(RedialOutcome::Ok);
        self.outage = None;
        self.way = Way::default();
        if let Some(mut uplink) = self.uplink.take() {
            let (code, text) = self.machine.cause().map_or((CloseCode::GOING_AWAY, ""), Cause::to_server);
            uplink.close(code, text);
            self.closing.replace(*uplink, &self.plan.shared.budget);
        }
        if std::mem::replace(&mut self.is_counted, true) {
            return was_open;
        }
        // Nobody gets what it holds, however long the links take to end.
        self.writer = Log::private(&self.plan.shared.logs);
        let cause = self.machine.cause();
        self.plan.metrics.ends.inc(cause.map_or(SessionEnd::Internal, Cause::session_end));
        self.bury();
        for (fate, given_up) in Fate::of_each(self.outbox.unsaid(), Fate::Unsaid) {
            self.count_fate(fate, given_up.messages);
        }
        let cause = self.machine.cause();
        if let Some(cause) = cause.filter(|cause| cause.is_trouble()) {
            lines::over(&self.plan, self.connection(), cause);
        }
        was_open
    }

    /// Closes the link of a client that will not be sent anything more. True if it was open: somebody else has ended the
    /// session, as whoever asks for one that cannot go on.
    fn close_client(&mut self, now: Instant) -> bool {
        let cause = self.machine.cause().cloned();
        cause.is_some_and(|cause| self.close_client_for(&cause, now))
    }

    /// Closes the client's link for this, or cuts it where there is no Close for it. False: it is not open.
    pub(super) fn close_client_for(&mut self, cause: &Cause, now: Instant) -> bool {
        let Some(client) = self.client.as_mut().filter(|client| client.is_open()) else { return false };
        let policy = &self.plan.policy;
        match cause.to_client(&policy.close_codes) {
            Some(close) => client.close(&close, policy.close_timeout, now),
            None => client.reset(Reason::Aborted),
        }
        true
    }

    /// The client's link is done with.
    pub(super) fn on_client_closed(&mut self, now: Instant) {
        let Some(mut client) = self.client.take() else { return };
        let cause = self.cause_of(&client);
        self.machine.on_client_end(cause, now);
        match self.machine.client() {
            Client::Away { .. } => {
                self.note_spent(&mut client);
                client.leave_for_another();
            }
            _ => client.leave(),
        }
    }

    /// The client's link has begun to end by itself: the session follows. True if that is new.
    fn on_link_end(&mut self, now: Instant) -> bool {
        let Some(client) = self.client.as_ref().filter(|client| !client.is_open()) else { return false };
        if self.machine.client() != Client::Attached {
            return false;
        }
        let cause = self.cause_of(client);
        self.machine.on_client_end(cause, now);
        true
    }

    /// Why the client's link has ended, or is ending. A client that has said that it will come back does so whatever its
    /// Close says: a page cannot choose the code for that.
    fn cause_of(&self, client: &Link) -> Cause {
        match cause_of(client) {
            Cause::Client(..) if self.control.as_ref().is_some_and(|control| control.detaches()) => {
                Cause::Client(CloseCode::GOING_AWAY, "".into())
            }
            cause => cause,
        }
    }

    /// The client is to be sent a Close of ours: if its log goes before, when it was sent that. True if it was sent just now.
    fn poll_leave(&mut self, now: Instant) -> bool {
        let Some(cause) = self.machine.leaving().cloned() else { return false };
        let close_timeout = self.plan.policy.close_timeout;
        let head = self.writer.log().head();
        let Some(client) = self.client.as_ref().filter(|client| client.is_open()) else { return false };
        let is_flushed = client.is_flushed();
        if cause.is_after_log() {
            let (until, by) = *self.rest.get_or_insert((head, now + close_timeout));
            if now < by && (self.next <= until || !is_flushed) {
                return false;
            }
        }
        // There is a place for the last words only behind what was begun.
        if self.control.is_some() && (is_flushed || cause.is_after_log()) {
            let had_frames = self.control.as_ref().is_some_and(|control| control.has_frames());
            let (_, by) = *self.rest.get_or_insert((self.next - 1, now + close_timeout));
            if self.say_bye(&cause) && now < by {
                // Just now: they can go out at once.
                return !had_frames;
            }
        }
        self.close_client_for(&cause, now)
    }
}

/// Why a link has ended, or is ending.
fn cause_of(client: &Link) -> Cause {
    let Some(report) = client.end_report() else { return Cause::ClientLost };
    match report.reason {
        Reason::ClientClose => match client.client_close() {
            Some((code, reason)) => Cause::Client(code, reason.into()),
            // An event stream has no Close: whether its client comes back is not known.
            None => Cause::ClientLost,
        },
        Reason::HeartbeatTimeout => Cause::ClientSilent,
        Reason::IdleTimeout => Cause::Idle,
        Reason::ControlRate => Cause::ControlRate,
        // Without a fault of RFC 6455 it is one of the protocol among the messages.
        Reason::ProtocolError | Reason::TooLarge => {
            report.fault.map_or(Cause::ControlFault, Cause::ClientFault)
        }
        Reason::Aborted | Reason::Drained => Cause::Cut,
        // The others are Closes of ours, of which the machine knows.
        _ => Cause::ClientLost,
    }
}
