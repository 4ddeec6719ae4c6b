//! When an ending begins, what each hop then does ([`super::ending`]), and by when it has to be done.
//!
//! # Invariants
//! 1. The first cause stands: whatever follows from it is not reported as a cause of its own.
//! 2. Every ending has a deadline; a second one at most, for a side that still waits for our Close.
//!
//! # Not here
//! The steps of a hop (`link::close`).

use std::task::Context;
use std::time::SystemTime;

use tokio::time::Instant;

use super::ending::{CloseAction, CloseFrame, Ending, close_actions};
use super::link::Side;
use super::relay::Relay;
use crate::connections::{Command, EndReport};
use crate::frame::{CloseCode, ProtocolError, Verdict};
use crate::resilience::Date;
use crate::telemetry::{By, Reason};

impl Relay {
    /// Begins to end, unless that has begun. `close`: whose Close it is about, and its code.
    pub(super) fn begin_ending(
        &mut self,
        reason: Reason,
        close: Option<(By, CloseCode)>,
        error: Option<(Side, ProtocolError)>,
        now: Instant,
    ) {
        if self.ending.is_some() {
            return;
        }
        self.connection.end_injections();
        self.has_injections = false;
        let policy = &self.settings.policy;
        let code = close.map_or(CloseCode::NONE, |(_, code)| code);
        let is_client_error = matches!(error, Some((Side::Client, _)));
        let (client, upstream) = close_actions(reason, code, is_client_error, &policy.close_codes);
        let ours = client.own_code().map(|code| (By::Proxy, code));
        self.client.begin_close(client);
        // An upstream whose Close was kept from the client may still wait for its answer.
        if upstream != CloseAction::Nothing {
            self.upstream.begin_close(upstream);
        }
        let report = EndReport { reason, close: ours.or(close), fault: error.map(|(_, error)| error) };
        self.ending = Some(Box::new(Ending::new(report, now + policy.close_timeout)));
    }

    /// A command came through the handle.
    pub(super) fn on_command(&mut self, command: Command, now: Instant) {
        match command {
            Command::CloseAt { at, code } => {
                self.dates.set_drain(at, code.0);
                self.on_date(now);
            }
            Command::Replace => self.begin_ending(Reason::Replaced, None, None, now),
            Command::Cut => {
                let reason = if self.dates.is_draining() { Reason::Drained } else { Reason::Aborted };
                let is_first = self.ending.is_none();
                self.begin_ending(reason, None, None, now);
                if let Some(ending) = self.ending.as_mut().filter(|_| is_first) {
                    ending.without_close();
                }
                self.reset_both();
            }
        }
    }

    /// If a date has come, the connection is closed, whatever its peers do.
    pub(super) fn on_date(&mut self, now: Instant) {
        let Some(date) = self.dates.due(now, SystemTime::now) else { return };
        let (reason, code) = match date {
            Date::Lifetime => (Reason::Lifetime, 1012),
            Date::Expired => (Reason::Expired, self.settings.policy.close_codes.expired),
            Date::Drained(code) => (Reason::Drained, code),
        };
        self.begin_ending(reason, Some((By::Proxy, CloseCode(code))), None, now);
    }

    /// The Close of `side` came.
    pub(super) fn on_close_received(&mut self, side: Side, code: CloseCode, verdict: Verdict, now: Instant) {
        let (reason, by) = match side {
            Side::Client => (Reason::ClientClose, By::Client),
            Side::Upstream => (Reason::UpstreamClose, By::Upstream),
        };
        if verdict == Verdict::Drop && side == Side::Upstream && self.ending.is_none() {
            // Held to the drain's schedule: the server is answered, and the client gets no Close yet.
            self.upstream.begin_close(CloseAction::Close(CloseFrame { code, reason: "" }));
            self.upstream_pings = None;
            return;
        }
        self.begin_ending(reason, Some((by, code)), None, now);
    }

    /// `side` broke a rule.
    pub(super) fn on_protocol_error(&mut self, side: Side, error: ProtocolError, now: Instant) {
        let code = error.close_code();
        let reason = if code == CloseCode::TOO_LARGE { Reason::TooLarge } else { Reason::ProtocolError };
        tracing::debug!(connection = self.connection.handle().id, side = side.as_str(), fault = %error, "fault");
        self.begin_ending(reason, Some((By::Proxy, code)), Some((side, error)), now);
    }

    /// The stream of `side` has ended, in order or by an error.
    pub(super) fn on_end(&mut self, side: Side, is_error: bool, now: Instant) {
        let link = self.link_mut(side);
        let lost = link.on_read_end(is_error);
        let was_closed = link.state().close_received();
        self.connection.handle().on_discarded(lost);
        match side {
            _ if was_closed => {}
            Side::Client => self.begin_ending(Reason::ClientLost, None, None, now),
            Side::Upstream => self.on_upstream_lost(Reason::UpstreamLost, now),
        }
    }

    /// The upstream is lost, or is given up. While a drain has planned the client's Close, that one
    /// stands: only this hop ends.
    pub(super) fn on_upstream_lost(&mut self, reason: Reason, now: Instant) {
        if !self.holds_to_schedule() {
            return self.begin_ending(reason, None, None, now);
        }
        self.upstream_pings = None;
        let lost = self.upstream.reset();
        self.connection.handle().on_discarded(lost);
    }

    /// Whether a loss of the upstream waits for the Close that a drain has planned.
    pub(super) fn holds_to_schedule(&self) -> bool {
        self.ending.is_none() && self.dates.is_draining()
    }

    /// Takes the next step on either hop. True when that changed anything.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.ending.is_none() {
            self.client.note_broken(now);
            self.upstream.note_broken(now);
            // The upstream's hop may end by itself while the client is held to a drain's schedule.
            if !self.upstream.has_close_action() && !self.upstream.state().close_received() {
                return false;
            }
        }
        // A client that does not read is sent its Close in place of what it did not take the start of.
        let is_slow = self.ending.as_ref().is_some_and(|ending| ending.is_slow());
        let client = self.client.step(&self.upstream, is_slow, cx, now);
        let upstream = self.upstream.step(&self.client, false, cx, now);
        self.connection.handle().on_discarded(client.lost + upstream.lost);
        client.changed || upstream.changed
    }

    /// The deadline of the ending has passed.
    pub(super) fn on_ending_deadline(&mut self, now: Instant) {
        let Some(ending) = &mut self.ending else { return };
        let is_waited_for = self.client.waits_for_other() || self.upstream.waits_for_other();
        if !is_waited_for || !ending.can_be_prolonged() {
            self.reset_both();
            return;
        }
        ending.prolong(now + self.settings.policy.close_timeout);
        let mut lost = 0;
        for link in [&mut self.client, &mut self.upstream] {
            if !link.stop_waiting() {
                lost += link.reset();
            }
        }
        self.connection.handle().on_discarded(lost);
    }

    /// The client is gone: its place in quotas is given back, however long the server may take to end.
    pub(super) fn on_client_gone(&mut self) {
        self.held = None;
        self.connection.client_gone();
        if self.client.state().is_read_ended()
            && let Some(ending) = &self.ending
        {
            self.connection.ended(ending.report());
        }
    }

    fn reset_both(&mut self) {
        let lost = self.client.reset() + self.upstream.reset();
        self.connection.handle().on_discarded(lost);
    }

    /// Both hops have ended.
    pub(super) fn finish(&mut self) {
        let unexplained = EndReport { reason: Reason::Aborted, close: None, fault: None };
        self.connection.leave(self.ending.as_ref().map_or(unexplained, |ending| ending.report()));
    }
}
