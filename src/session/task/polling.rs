//! A client that asks over HTTP for what the server has said.
//!
//! # Invariants
//! 1. Who polls has the session, as who attaches does: a WebSocket before it is told so. One that has just come, and has not
//!    shown yet that it has its ticket, is left alone for a while: else a client that tries both ways at once would have neither.
//! 2. What a poll is answered is kept until another one confirms it: an answer may get lost.
//! 3. The end of the session is told behind all messages, in an answer without any: so that none gets lost with it.
//!
//! # Not here
//! What waits ([`super::polls`]); what a client says ([`super::posting`]).

use std::task::Context;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Task;
use super::polls::Waiting;
use super::telling::QUESTIONS;
use crate::connections::{EndedSession, Via};
use crate::delivery::Link;
use crate::log::Cursor;
use crate::resilience::Dates;
use crate::session::cause::Cause;
use crate::session::machine::{Client, Server};
use crate::session::request::{
    Asked, Attach, Newcomer, NotResumed, Poll, Polled, Refusal, Stream, Visitor, Wire,
};
use crate::telemetry::{Label, Reason, RecoverySide, ResumeOutcome};

/// Bytes of frames that are answered at once, and one message at the least.
const ANSWER_BYTES: usize = 1024 * 1024;

/// How long a WebSocket that has not shown its ticket is left alone.
const YOUNG: Duration = Duration::from_secs(5);

/// How soon a client asks again whose link is just being closed.
const CLOSING: Duration = Duration::from_secs(1);

/// A client that polls is waited for so long at the least, whatever the route says: it is away after each answer.
const MIN_WINDOW: Duration = Duration::from_secs(30);

impl Task {
    pub(super) fn on_poll(&mut self, asked: Asked<Poll, Polled>, cx: &mut Context<'_>, now: Instant) {
        let Asked { what: Poll { visitor, after, limit, until, opening }, answer } = asked;
        if let Some(polls) = &mut self.polls {
            polls.drop_gone(cx);
        }
        // Those that need not wait are in nobody's way.
        self.answer_due_polls(now);
        let has_room = self.polls.as_ref().is_none_or(|polls| polls.has_room());
        let begun = self.begins(visitor.generation, after, now);
        let after = match begun.and_then(|after| if has_room { Ok(after) } else { Err(Refusal::Polls) }) {
            Ok(after) => after,
            Err(refusal) => {
                let _ = answer.send(Err(refusal));
                return;
            }
        };
        self.let_in(visitor, cx, now);
        if let Some(mut opening) = opening {
            opening.carry_cookies_from(&self.opening);
            self.opening = opening;
        }
        if let Some(resumable) = &mut self.resumable {
            let _ = resumable.on_seen(after, self.newest_sent);
        }
        self.let_go_of_sent();
        let polls = self.polls.get_or_insert_default();
        polls.wait(Waiting { after, limit, until, answer });
    }

    /// A client asks whether it may have an event stream.
    pub(super) fn on_stream(&mut self, asked: Asked<Stream, u64>, now: Instant) {
        let Asked { what: Stream { generation, after }, answer } = asked;
        let _ = answer.send(self.begins(generation, after, now));
    }

    /// Whether the client may have what it asks for, and the number of the newest message that it goes on behind.
    fn begins(&mut self, generation: u32, after: Option<u64>, now: Instant) -> Result<u64, Refusal> {
        self.check_visitor(generation, now)?;
        self.begin_after(after)
    }

    /// Whether the session is this client's, and can be had over HTTP now.
    pub(super) fn check_visitor(&self, generation: u32, now: Instant) -> Result<(), Refusal> {
        match self.machine.client() {
            Client::Attached | Client::Away { .. } => {}
            Client::Leaving { .. } => return Err(Refusal::Attached(CLOSING)),
            Client::Gone => return Err(self.gone()),
        }
        self.check_ticket(generation)?;
        let is_young = self.client.as_ref().is_some_and(|client| now < client.handle().since + YOUNG);
        if is_young && self.control.as_ref().is_some_and(|control| control.is_unproven()) {
            return Err(Refusal::Attached(YOUNG));
        }
        Ok(())
    }

    /// Whether the ticket of this number opens the session.
    pub(super) fn check_ticket(&self, generation: u32) -> Result<(), Refusal> {
        match &self.resumable {
            None => Err(self.gone()),
            Some(resumable) if resumable.is_valid(generation) => Ok(()),
            Some(_) => {
                let (received, why) = (self.outbox.received(), ResumeOutcome::Used.as_str());
                Err(Refusal::Gone(Some(EndedSession { received, why }), None))
            }
        }
    }

    /// Whether a WebSocket has come, since this event stream was let in, that is left alone for a while.
    pub(super) fn is_in_the_way_of(&self, attach: &Attach, now: Instant) -> bool {
        let is_stream = matches!(attach.wire, Wire::Events(_));
        is_stream && matches!(self.check_visitor(attach.generation, now), Err(Refusal::Attached(_)))
    }

    /// The number of the newest message that a poll goes on behind.
    fn begin_after(&mut self, after: Option<u64>) -> Result<u64, Refusal> {
        let kept_from = self.resumable.as_ref().map_or(1, |resumable| resumable.kept_from());
        let after = after.unwrap_or(kept_from - 1);
        if after > self.newest_sent {
            // A question changes nothing.
            return Err(Refusal::Ahead(self.newest_sent));
        }
        match self.continuation(after) {
            Ok(()) => Ok(after),
            Err(NotResumed::Gap(missed, ended)) => {
                self.plan.metrics.resumes.inc(ResumeOutcome::Gap);
                Err(Refusal::Gone(Some(ended), Some(missed)))
            }
            Err(_) => Err(self.gone()),
        }
    }

    /// What is known of the session that is over.
    pub(super) fn gone(&self) -> Refusal {
        let ended = self.machine.cause().map(|cause| EndedSession {
            received: self.outbox.received(),
            why: cause.session_end().as_str(),
        });
        Refusal::Gone(ended, None)
    }

    /// A client of which this was checked has the session from now on.
    pub(super) fn let_in(&mut self, visitor: Visitor, cx: &mut Context<'_>, now: Instant) {
        let Visitor { generation, newcomer } = visitor;
        let mut is_back = false;
        // An event stream goes on beside.
        if let Some(mut before) = self.client.take_if(|client| matches!(client, Link::WebSocket(_))) {
            self.note_spent(&mut before);
            self.part_with(before, &Cause::TakenOver, self.is_greeted(), cx, now);
            self.control = None;
            self.rest = None;
            is_back = true;
        }
        if let Some(newcomer) = newcomer {
            self.renew_place(newcomer, cx, now);
        }
        self.machine.set_resume_window(self.window_over_http());
        self.machine.attach(now);
        if let Some(resumable) = &mut self.resumable {
            resumable.prove(generation);
            if let Some(since) = resumable.visit(self.writer.log().head()) {
                is_back = true;
                let away = now.saturating_duration_since(since).as_secs_f64();
                self.plan.shared.metrics.session_recovery.observe(RecoverySide::Client, away);
            }
        }
        if is_back {
            self.plan.metrics.resumes.inc(ResumeOutcome::Resumed);
        }
    }

    /// The client has a place among the connections, and these credentials.
    fn renew_place(&mut self, newcomer: Newcomer, cx: &mut Context<'_>, now: Instant) {
        let Newcomer { admitted, registry, close_at } = newcomer;
        self.expires = admitted.expires;
        if self.client.is_none() {
            // A lifetime is a link's.
            self.dates = Dates::new(None, admitted.expires, now);
            let polls = self.polls.get_or_insert_default();
            if !polls.has_place() {
                let place = admitted.open_via(&registry, Via::Polls).guard;
                place.handle().accept_injections(self.plan.policy.delivery.max_lag.bytes);
                place.handle().wake_with(cx.waker());
                polls.set_place(place);
                if let Some(resumable) = &mut self.resumable {
                    resumable.on_other_link();
                }
            }
        }
        if let Some(close_at) = close_at {
            self.on_command(close_at);
        }
    }

    /// How long a client that came over HTTP may be away.
    pub(super) fn window_over_http(&self) -> Duration {
        self.plan.policy.session.resume_window.unwrap_or_default().max(MIN_WINDOW)
    }

    /// Answers polls that wait, as far as there is something for them, and lets the client go when that was the last one.
    pub(super) fn answer_polls(&mut self, cx: &mut Context<'_>, now: Instant) {
        let Some(polls) = &mut self.polls else { return };
        polls.drop_gone(cx);
        self.answer_due_polls(now);
        self.leave_if_answered(now);
        if self.polls.as_ref().is_some_and(|polls| polls.is_waiting())
            && matches!(self.machine.client(), Client::Away { .. })
        {
            // Its event stream is gone, and it asks on.
            self.machine.attach(now);
            let head = self.writer.log().head();
            if let Some(resumable) = &mut self.resumable {
                resumable.visit(head);
            }
        }
    }

    /// A client that only asks is away once it was answered.
    pub(super) fn leave_if_answered(&mut self, now: Instant) {
        let is_waiting = self.polls.as_ref().is_some_and(|polls| polls.is_waiting());
        if !is_waiting && self.client.is_none() {
            self.machine.on_answered(now);
        }
    }

    fn answer_due_polls(&mut self, now: Instant) {
        while let Some(poll) = self.next_due_poll(now) {
            self.answer_poll(poll, now);
        }
    }

    fn next_due_poll(&mut self, now: Instant) -> Option<Waiting> {
        let (head, is_over) = (self.writer.log().head(), self.is_over());
        let has_news = self.resumable.as_ref().is_some_and(|resumable| resumable.has_news());
        let is_due = |poll: &Waiting| poll.after < head || poll.until <= now || is_over || has_news;
        self.polls.as_mut()?.take_due(is_due)
    }

    /// Whether the server will say nothing more, and the client is to hear why.
    fn is_over(&self) -> bool {
        self.machine.server() == Server::Over && self.machine.cause().is_some()
    }

    fn answer_poll(&mut self, poll: Waiting, now: Instant) {
        let Waiting { after, limit, answer, .. } = poll;
        let mut entries = Vec::new();
        let log = self.writer.log();
        let head = log.head();
        let mut next = after;
        if after < head {
            let cursor = Cursor { next: after + 1, all_from: after + 1 };
            let progress = log.read(cursor, head, limit, ANSWER_BYTES, &mut entries);
            if progress.missed > 0 {
                self.plan.metrics.missed.inc_by(progress.missed);
                self.machine.end(Cause::Memory);
                let _ = answer.send(Err(self.gone()));
                return;
            }
            next = progress.cursor.next - 1;
        }
        let closed = if next == after && next == head && self.is_over() { self.closed() } else { None };
        let polled = Polled {
            epoch: log.epoch(),
            received: self.outbox.received(),
            next,
            expires_in: self.expires_in(now),
            told: self.resumable.as_ref().map(|resumable| resumable.owed()).unwrap_or_default(),
            is_draining: false,
            closed,
            entries,
        };
        self.on_polled(&polled);
        let is_last = polled.closed.is_some();
        // One that has gone does not mind: what it was to get is kept.
        let _ = answer.send(Ok(polled));
        if is_last && let Some(cause) = self.machine.cause().cloned() {
            self.machine.end(cause);
        }
    }

    /// How long the session waits for the client's next question: no longer than its credentials hold, where it ends with them.
    fn expires_in(&self, now: Instant) -> Duration {
        let window = self.machine.resume_window().unwrap_or_default();
        self.expires.as_ref().map_or(window, |expiry| window.min(expiry.left(now, SystemTime::now())))
    }

    /// The code and the reason that a WebSocket would be closed with.
    fn closed(&self) -> Option<(u16, Box<str>)> {
        let cause = self.machine.cause()?.to_client(&self.plan.policy.close_codes)?;
        Some((cause.code().0, cause.text().into()))
    }

    /// A client is about to get this.
    fn on_polled(&mut self, polled: &Polled) {
        self.newest_sent = self.newest_sent.max(polled.next);
        if self.client.is_none() {
            self.next = self.next.max(polled.next + 1);
        }
        // What came first behind it proves it: it was a part of each answer since then.
        if let Some(resumable) = self.resumable.as_mut().filter(|resumable| resumable.has_news()) {
            resumable.on_told(polled.next + 1, QUESTIONS | u64::from(fastrand::u32(..)));
        }
        if let Some(handle) = self.handle() {
            let bytes = polled.entries.iter().map(|entry| entry.frame().len()).sum();
            handle.on_out(polled.entries.len() as u32, bytes);
        }
        self.let_go_of_sent();
    }

    /// The client is to be left for this, and has no link to hear it by: its polls are answered.
    pub(super) fn leave_polls(&mut self, cause: &Cause, now: Instant) {
        if let Cause::Drain(_) = cause {
            self.answer_in_drain();
        } else if cause.may_resume() {
            // As when there is nothing for it.
            while let Some(poll) = self.polls.as_mut().and_then(|polls| polls.take_due(|_| true)) {
                self.answer_poll(poll, now);
            }
        }
        self.machine.on_client_end(cause.clone(), now);
    }

    fn answer_in_drain(&mut self) {
        while let Some(poll) = self.polls.as_mut().and_then(|polls| polls.take_due(|_| true)) {
            let polled = Polled {
                epoch: self.writer.log().epoch(),
                received: self.outbox.received(),
                entries: Vec::new(),
                next: poll.after,
                expires_in: Duration::ZERO,
                told: Vec::new(),
                closed: None,
                is_draining: true,
            };
            let _ = poll.answer.send(Ok(polled));
        }
    }

    /// The client has this link now. Polls that wait go on beside an event stream.
    pub(super) fn leave_polls_for(&mut self, link: &Link) {
        let Some(mut polls) = self.polls.take() else { return };
        polls.leave(Reason::TakenOver);
        match link {
            Link::WebSocket(_) => polls.refuse_all(Refusal::Attached(YOUNG)),
            Link::Events(_) => self.polls = Some(polls),
        }
    }

    /// The session is over.
    pub(super) fn end_polls(&mut self) {
        let Some(mut polls) = self.polls.take() else { return };
        polls.refuse_all(self.gone());
        let close = self.machine.cause().and_then(|cause| cause.to_client(&self.plan.policy.close_codes));
        let reason = match (close, self.machine.cause()) {
            (Some(close), _) => close.report().reason,
            (None, Some(Cause::Cut)) if self.machine.is_draining() => Reason::Drained,
            (None, Some(Cause::Cut)) => Reason::Aborted,
            (None, _) => Reason::ClientLost,
        };
        polls.leave(reason);
    }
}
