//! The steps of an ending: what [`super::ending`] says is owed, done at the first moment it can be.
//!
//! # Invariants
//! 1. The first cause stands: whatever follows from it is not told as a cause of its own.
//! 2. Every ending has a deadline; a second one at most, for a side that is still owed our Close.
//! 3. Each step happens once, so that settling ends.

use std::task::Context;
use std::time::SystemTime;

use tokio::time::Instant;

use super::ending::{CloseAction, CloseFrame, close_actions};
use super::link::{Link, Reading, Writing};
use super::relay::{Relay, Side};
use crate::frame::{CloseCode, ProtocolError, Verdict};
use crate::resilience::Date;
use crate::telemetry::{By, Command, EndReport, Reason};

/// An ending that has begun.
#[derive(Debug)]
pub(super) struct Ending {
    ended: EndReport,
    pub(super) deadline: Instant,
    /// The deadline passed once, and a side got our Close only then.
    is_second: bool,
}

impl Relay {
    /// Begins to end, unless that has begun: what either side is owed, and by when.
    pub(super) fn begin_ending(
        &mut self,
        reason: Reason,
        said: Option<(By, CloseCode)>,
        fault: Option<(Side, ProtocolError)>,
        now: Instant,
    ) {
        if self.ending.is_some() {
            return;
        }
        self.live.end_injections();
        self.has_injections = false;
        let policy = &self.settings.policy;
        let code = said.map_or(CloseCode::NONE, |(_, code)| code);
        let is_clients = matches!(fault, Some((Side::Client, _)));
        let (client, upstream) = close_actions(reason, code, is_clients, &policy.close_codes);
        let ours = match client {
            CloseAction::Close(frame)
            | CloseAction::AfterPeer { frame, instead: true }
            | CloseAction::Reset(Some(frame)) => Some((By::Proxy, frame.code)),
            CloseAction::Nothing
            | CloseAction::AfterPeer { instead: false, .. }
            | CloseAction::Fin
            | CloseAction::Reset(None) => None,
        };
        self.client.close_action = client;
        // An upstream whose Close was kept from the client may still be owed its answer.
        if upstream != CloseAction::Nothing {
            self.upstream.close_action = upstream;
        }
        let fault = fault.map(|(_, fault)| fault);
        let ended = EndReport { reason, close: ours.or(said), fault };
        self.ending =
            Some(Box::new(Ending { ended, deadline: now + policy.close_timeout, is_second: false }));
    }

    /// Something outside asks.
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
                    // Nobody is told anything.
                    ending.ended.close = None;
                }
                self.reset_both();
            }
        }
    }

    /// A date may have come: it is closed then, whatever its peers do.
    pub(super) fn on_date(&mut self, now: Instant) {
        let Some(date) = self.dates.due(now, SystemTime::now) else { return };
        let (reason, code) = match date {
            Date::Lifetime => (Reason::Lifetime, 1012),
            Date::Expired => (Reason::Expired, self.settings.policy.close_codes.expired),
            Date::Drained(code) => (Reason::Drained, code),
        };
        self.begin_ending(reason, Some((By::Proxy, CloseCode(code))), None, now);
    }

    /// `side` said Close.
    pub(super) fn on_close(&mut self, side: Side, code: CloseCode, verdict: Verdict, now: Instant) {
        let (reason, by) = match side {
            Side::Client => (Reason::ClientClose, By::Client),
            Side::Upstream => (Reason::UpstreamClose, By::Upstream),
        };
        if verdict == Verdict::Drop && side == Side::Upstream && self.ending.is_none() {
            // Held to the drain's schedule: the server is answered, the client not told yet.
            self.upstream.close_action = CloseAction::Close(CloseFrame { code, reason: "" });
            self.upstream_pings = None;
            return;
        }
        self.begin_ending(reason, Some((by, code)), None, now);
    }

    /// `side` broke a rule.
    pub(super) fn on_protocol_error(&mut self, side: Side, fault: ProtocolError, now: Instant) {
        let code = fault.close_code();
        let reason = if code == CloseCode::TOO_LARGE { Reason::TooLarge } else { Reason::ProtocolError };
        tracing::debug!(connection = self.live.handle().id, side = side.as_str(), %fault, "fault");
        self.begin_ending(reason, Some((By::Proxy, code)), Some((side, fault)), now);
    }

    /// The stream of `side` has ended, in order or by an error.
    pub(super) fn on_end(&mut self, side: Side, is_error: bool, now: Instant) {
        let link = self.link(side);
        link.reading = Reading::Ended;
        link.held = Vec::new();
        let lost = if is_error { link.on_broken() } else { 0 };
        let was_closed = link.close_received.is_some();
        self.live.handle().on_discarded(lost);
        match side {
            _ if was_closed => {}
            Side::Client => self.begin_ending(Reason::ClientLost, None, None, now),
            Side::Upstream => self.on_upstream_lost(Reason::UpstreamLost, now),
        }
    }

    /// The upstream is gone, or as good as gone. While a drain has planned the client's Close, that one
    /// stands: only this hop ends.
    pub(super) fn on_upstream_lost(&mut self, reason: Reason, now: Instant) {
        if !self.holds_to_schedule() {
            return self.begin_ending(reason, None, None, now);
        }
        self.upstream_pings = None;
        let lost = self.upstream.reset();
        self.live.handle().on_discarded(lost);
    }

    /// Whether a Close that `side` says now is replaced by ours.
    pub(super) fn replaces_close(&self, side: Side) -> bool {
        let to = match side {
            Side::Client => &self.upstream,
            Side::Upstream => &self.client,
        };
        matches!(to.close_action, CloseAction::AfterPeer { instead: true, .. } | CloseAction::Close(_))
    }

    /// Whether a loss of the upstream waits for the Close that a drain has planned.
    pub(super) fn holds_to_schedule(&self) -> bool {
        self.ending.is_none() && self.dates.is_draining()
    }

    /// Does what can be done now of what either side is owed. True when that changed anything.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.ending.is_none() {
            for link in [&mut self.client, &mut self.upstream] {
                if link.writing == Writing::Broken && link.is_open() {
                    link.broken_since.get_or_insert(now);
                }
            }
            let is_held =
                self.upstream.close_action != CloseAction::Nothing || self.upstream.close_received.is_some();
            if !is_held {
                return false;
            }
        }
        // A client that does not read is sent its Close in place of what it did not take the start of.
        let is_slow = self.ending.as_ref().is_some_and(|ending| ending.ended.reason == Reason::SlowConsumer);
        let client = step(&mut self.client, &self.upstream, is_slow, cx, now);
        let upstream = step(&mut self.upstream, &self.client, false, cx, now);
        self.live.handle().on_discarded(client.lost + upstream.lost);
        client.changed || upstream.changed
    }

    /// The deadline of the ending has passed.
    pub(super) fn on_ending_deadline(&mut self, now: Instant) {
        let Some(ending) = &mut self.ending else { return };
        let is_owed =
            |link: &Link| link.can_send() && matches!(link.close_action, CloseAction::AfterPeer { .. });
        if ending.is_second || !(is_owed(&self.client) || is_owed(&self.upstream)) {
            self.reset_both();
            return;
        }
        ending.is_second = true;
        ending.deadline = now + self.settings.policy.close_timeout;
        let mut lost = 0;
        for link in [&mut self.client, &mut self.upstream] {
            match link.close_action {
                CloseAction::AfterPeer { frame, .. } if link.can_send() => {
                    link.close_action = CloseAction::Close(frame);
                }
                _ => lost += link.reset(),
            }
        }
        self.live.handle().on_discarded(lost);
    }

    /// Its client is gone: it takes nobody's place any more, however long its server may take to end.
    pub(super) fn on_client_gone(&mut self) {
        self.slot = None;
        self.live.client_gone();
        if self.client.reading == Reading::Ended
            && let Some(ending) = &self.ending
        {
            self.live.ended(ending.ended);
        }
    }

    fn reset_both(&mut self) {
        let lost = self.client.reset() + self.upstream.reset();
        self.live.handle().on_discarded(lost);
    }

    /// Both hops have ended.
    pub(super) fn finish(&mut self) {
        let unexplained = EndReport { reason: Reason::Aborted, close: None, fault: None };
        self.live.leave(self.ending.as_ref().map_or(unexplained, |ending| ending.ended));
    }
}

/// What a step did.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Something is different now: there may be a next step.
    changed: bool,
    /// Bytes that the link will never take.
    lost: usize,
}

/// One step for `link`, whose frames come from `peer`. `is_slow`: it did not take what it was sent.
fn step(link: &mut Link, peer: &Link, is_slow: bool, cx: &mut Context<'_>, now: Instant) -> Step {
    if !link.is_open() {
        return Step { changed: false, lost: 0 };
    }
    let before = (link.close_action, link.writing);
    let mut lost = 0;
    match link.close_action {
        CloseAction::Nothing => {}
        CloseAction::AfterPeer { .. } | CloseAction::Close(_) if !link.can_send() => {
            link.close_action = CloseAction::Nothing;
        }
        CloseAction::AfterPeer { frame, .. } => {
            if !peer.can_read() {
                link.close_action = CloseAction::Close(frame);
            }
        }
        CloseAction::Close(frame) => {
            let forgotten = if is_slow { link.egress.cut_to_edge() } else { None };
            if forgotten.is_some() || peer.scanner.at_frame_edge() {
                lost += forgotten.unwrap_or(0);
                link.send_close(frame, now);
                link.close_action = CloseAction::Nothing;
            } else if is_slow || !peer.can_read() {
                link.close_action = CloseAction::Fin;
            }
        }
        CloseAction::Fin => {
            let is_said = matches!(link.writing, Writing::FinSent | Writing::Broken);
            if is_said || link.is_flushed() && link.send_fin(cx, now) {
                link.close_action = CloseAction::Nothing;
            }
        }
        CloseAction::Reset(frame) => {
            if let Some(frame) = frame
                && link.can_send()
                && link.is_flushed()
                && peer.scanner.at_frame_edge()
            {
                link.send_close(frame, now);
                lost += link.flush(cx, now);
            }
            // Even if all was said: whoever answers no ping will not answer a Close either.
            lost += link.reset();
            return Step { changed: true, lost };
        }
    }
    lost += link.flush(cx, now);
    if link.is_done() {
        lost += link.close();
        return Step { changed: true, lost };
    }
    // After a fault the sender is not listened to any more: its stream is ended once it was told why.
    let is_at_fault = link.reading == Reading::Discarding && link.close_received.is_none();
    if is_at_fault && link.writing == Writing::CloseSent && link.is_flushed() {
        link.send_fin(cx, now);
    }
    Step { changed: before != (link.close_action, link.writing), lost }
}
