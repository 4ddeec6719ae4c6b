//! A session that outlives the links of its client: its tickets, what is kept for a client that is away, and how it comes back.
//!
//! # Invariants
//! 1. The newest link has the session, from the moment at which its socket arrives: one task decides, so that two that come at
//!    once are in an order. The link before is told so, and nothing more of it is read.
//! 2. What the client has not confirmed is kept, up to `history` of what it was sent. A client that comes back gets all that it
//!    has not had, or the session is over: never a part.
//!
//! # Not here
//! Which tickets are valid ([`crate::session::handle`], [`crate::session::ticket`]).

use std::task::Context;
use std::time::SystemTime;

use tokio::time::Instant;

use super::Task;
use super::control::Greeted;
use super::reading::READ_BUDGET;
use super::resumable::Departure;
use super::telling::bye_word;
use crate::connections::{Connection, ConnectionGuard, EndedSession};
use crate::delivery::control::{Bye, FromProxy};
use crate::delivery::{EventStream, Link, ReadStatus, SendStatus, WebSocket};
use crate::frame::CloseCode;
use crate::log::Cursor;
use crate::net::Transport;
use crate::net::own_protocols::TicketText;
use crate::resilience::Dates;
use crate::session::cause::Cause;
use crate::session::machine::Client;
use crate::session::request::{Ask, Attach, EndRequest, EventsStart, NotResumed, Request, Wire};
use crate::telemetry::{Label, Reason, RecoverySide, ResumeOutcome, SessionEnd};

impl Task {
    /// Does what others want of the session.
    pub(super) fn take_requests(&mut self, cx: &mut Context<'_>, now: Instant) {
        while let Some(request) = self.resumable.as_ref().and_then(|resumable| resumable.next_request()) {
            match request {
                Request::End(why) => self.on_end_request(why),
                Request::Ask(ask) => self.on_ask(ask),
                // It asks again after a while, as after any end of its stream.
                Request::Attach(attach, back) if self.is_in_the_way_of(&attach, now) => {
                    drop(back.send(attach));
                }
                Request::Attach(attach, _) => self.on_attach(*attach, cx, now),
                Request::Stream(asked) => self.on_stream(*asked, now),
                Request::Poll(asked) => self.on_poll(*asked, cx, now),
                Request::Replay(asked) => self.on_replay(*asked),
                Request::Send(asked) => self.on_send(*asked, cx, now),
            }
        }
    }

    fn on_end_request(&mut self, why: EndRequest) {
        let is_away = matches!(self.machine.client(), Client::Away { .. });
        match why {
            // It may have come back meanwhile.
            EndRequest::Evicted if is_away => self.machine.end(Cause::Evicted),
            EndRequest::Drained if is_away => self.machine.end(Cause::Drain(CloseCode::GOING_AWAY)),
            EndRequest::Evicted | EndRequest::Drained => {}
            EndRequest::Replaced => match self.machine.client() {
                Client::Attached => self.machine.leave(Cause::Replaced),
                Client::Leaving { may_resume: false } | Client::Gone => {}
                Client::Leaving { may_resume: true } | Client::Away { .. } => {
                    self.machine.end(Cause::Replaced);
                }
            },
            EndRequest::Cut => self.cut(),
        }
    }

    /// A handshake asks whether its client may come back.
    fn on_ask(&mut self, ask: Ask) {
        let Ask { generation, seen, answer } = ask;
        let is_valid = self.resumable.as_ref().is_some_and(|resumable| resumable.is_valid(generation));
        // One that is over for its client too, and only closes its links: that client gets another one.
        let result = if self.machine.client() == Client::Gone || self.machine.is_leaving_for_good() {
            Err(NotResumed::Gone)
        } else if is_valid {
            self.continuation(seen)
        } else {
            Err(NotResumed::Used)
        };
        // A handshake that is gone meanwhile does not mind.
        let is_heard = answer.send(result).is_ok();
        if is_heard
            && let Err(NotResumed::Ahead(_) | NotResumed::Gap(..)) = result
            && let Some(resumable) = &mut self.resumable
        {
            resumable.on_refused();
        }
    }

    /// Whether a client that has had `seen` gets all that comes after it. If not, the session is over.
    pub(super) fn continuation(&mut self, seen: u64) -> Result<(), NotResumed> {
        let Some(resumable) = &self.resumable else { return Err(NotResumed::Gone) };
        let missing = resumable.missing_after(seen);
        if seen > self.newest_sent {
            return Err(NotResumed::Ahead(self.end_for_all(Cause::ControlFault)));
        }
        if missing > 0 {
            return Err(NotResumed::Gap(missing, self.end_for_all(Cause::Overflow)));
        }
        Ok(())
    }

    /// Ends the session, and with it a link that it still has.
    fn end_for_all(&mut self, cause: Cause) -> EndedSession {
        let ended = EndedSession { received: self.outbox.received(), why: cause.session_end().as_str() };
        self.machine.end(cause);
        ended
    }

    /// A client comes back, and its link takes the place of the one before.
    fn on_attach(&mut self, attach: Attach, cx: &mut Context<'_>, now: Instant) {
        let Attach { generation, seen, transport, wire, connection, nonce, mut opening, keys } = attach;
        let Connection { guard, expires, held: _ } = connection;
        let (mut client, ticket) = self.link(transport, wire, guard, now);
        let is_proven = self.resumable.as_ref().is_some_and(|resumable| resumable.prove(generation));
        let is_over = self.machine.client() == Client::Gone || self.machine.is_leaving_for_good();
        if is_over || (is_proven && self.continuation(seen).is_err()) {
            // The session has ended since its handshake was answered.
            let cause = self.machine.cause().cloned().unwrap_or(Cause::UpstreamLost);
            return self.part_with(client, &cause, false, cx, now);
        }
        if !is_proven {
            // Another link has taken it since then.
            return self.part_with(client, &Cause::TakenOver, false, cx, now);
        }
        if let Some(mut before) = self.client.take() {
            self.note_spent(&mut before);
            self.part_with(before, &Cause::TakenOver, self.is_greeted(), cx, now);
        }
        if let (Some(limits), Some(resumable)) = (client.limits(), &mut self.resumable)
            && let Some(spent) = resumable.take_spent()
        {
            limits.go_on_from(spent, now);
        }
        self.leave_polls_for(&client);
        client.handle().wake_with(cx.waker());
        self.client = Some(client);
        self.next = seen + 1;
        self.rest = None;
        opening.carry_cookies_from(&self.opening);
        self.opening = opening;
        self.expires = expires;
        self.dates = Dates::new(self.lifetime_from(now), expires, now);
        if self.machine.is_draining() {
            // Its close is scheduled with the connection, if it is not yet.
            self.machine.on_drain();
        }
        self.machine.set_resume_window(match ticket {
            None => self.plan.policy.session.resume_window.unwrap_or_default(),
            Some(_) => self.window_over_http(),
        });
        self.machine.attach(now);
        if let Some(resumable) = &mut self.resumable {
            let _ = resumable.on_seen(seen, self.newest_sent);
            self.plan.metrics.resumes.inc(ResumeOutcome::Resumed);
            if let Some(since) = resumable.attach(keys, self.writer.log().head()) {
                let away = now.saturating_duration_since(since).as_secs_f64();
                self.plan.shared.metrics.session_recovery.observe(RecoverySide::Client, away);
            }
        }
        self.let_go_of_sent();
        let greeted = Greeted { nonce, missed: Some(0), previous: None };
        match ticket {
            None => self.greet_client(greeted, true, now),
            Some(ticket) => self.greet_stream(greeted, &ticket, true, now),
        }
    }

    /// The link of a client that has arrived, and the ticket that stands in its ids, if it is an event stream.
    pub(super) fn link(
        &self,
        transport: Transport,
        wire: Wire,
        guard: ConnectionGuard,
        now: Instant,
    ) -> (Link, Option<TicketText>) {
        let policy = &self.plan.policy;
        guard.handle().accept_injections(policy.delivery.max_lag.bytes);
        match wire {
            Wire::WebSocket { has_deflate } => {
                (Link::WebSocket(WebSocket::new(transport, has_deflate, policy, true, guard, now)), None)
            }
            Wire::Events(start) => {
                let EventsStart { wire, ticket } = *start;
                (Link::Events(Box::new(EventStream::new(transport, wire, guard, now))), Some(ticket))
            }
        }
    }

    /// What the client may say is bounded over all of its links.
    pub(super) fn note_spent(&mut self, link: &mut Link) {
        if let (Some(limits), Some(resumable)) = (link.limits(), &mut self.resumable) {
            resumable.set_spent(limits.spent());
        }
    }

    /// The client has gone, and may come back.
    pub(super) fn on_away(&mut self, now: Instant) {
        let max = self.plan.policy.session.max_detached;
        let asks = self.polls.as_ref().is_some_and(|polls| polls.has_place());
        let departure = if asks { Departure::Answered } else { Departure::Lost };
        if !self.resumable.as_mut().is_some_and(|resumable| resumable.detach(departure, max, now)) {
            return;
        }
        self.control = None;
        // A lifetime is a link's. Credentials that end while it is away end the session; if it was closed for that, it may come
        // back with others.
        let expires = self.expires.filter(|expiry| !expiry.has_ended(now, SystemTime::now()));
        self.dates = Dates::new(None, expires, now);
    }

    /// The client will not come back: whoever asks for the session finds out why.
    pub(super) fn bury(&mut self) {
        let Some(resumable) = self.resumable.take() else { return };
        let cause = self.machine.cause();
        if resumable.is_away() && !matches!(cause, Some(Cause::Drain(_))) {
            self.plan.metrics.resumes.inc(ResumeOutcome::Expired);
        }
        let why = cause.map_or(SessionEnd::Internal, Cause::session_end);
        resumable.into_guard().end(why, self.outbox.received());
    }

    /// What the client was sent is kept until it has confirmed it, or is beyond `history`.
    pub(super) fn let_go_of_sent(&mut self) {
        let Some(resumable) = &mut self.resumable else { return self.let_go(self.next) };
        let history = &self.plan.policy.history;
        let log = self.writer.log();
        let oldest = self.next.saturating_sub(history.messages as u64);
        let mut kept_from = resumable.kept_from().max(oldest);
        let bytes_from = |number| log.lag(Cursor { next: number, all_from: number }).bytes;
        let unsent = bytes_from(self.next);
        while kept_from < self.next && bytes_from(kept_from) - unsent > history.bytes as u64 {
            kept_from += 1;
        }
        resumable.keep_from(kept_from);
        self.let_go(kept_from);
    }

    /// Whether the present link was handed its hello.
    pub(super) fn is_greeted(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.is_greeted())
    }

    /// Closes a link that is not the session's any more. With a bye only if it was greeted: to a client that has had no hello it
    /// would be a message like any other.
    pub(super) fn part_with(
        &mut self,
        mut link: Link,
        cause: &Cause,
        is_greeted: bool,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        let policy = &self.plan.policy;
        // Best effort: a link that takes nothing does without it.
        if is_greeted && link.is_open() && link.is_flushed() {
            let received = self.outbox.received();
            let bye = FromProxy::Bye(Bye { why: bye_word(cause), resume: false, after: None, ack: received });
            if let Some(bye) = link.control_piece(&bye) {
                link.send(cx, &bye, 0, now);
            }
        }
        // Where a session has ended for what ends its client's link too, that was not this one: its server is gone, no more.
        let codes = &policy.close_codes;
        if let Some(close) = cause.to_client(codes).or_else(|| Cause::UpstreamLost.to_client(codes)) {
            link.close(&close, policy.close_timeout, now);
        }
        if let Some(mut earlier) = self.parting.replace(Box::new(link)) {
            earlier.reset(Reason::TakenOver);
            earlier.leave_for_another();
        }
    }

    /// Drives the link before the present one to its end. Whatever its client still says was never received.
    pub(super) fn poll_parting(&mut self, cx: &mut Context<'_>, now: Instant) {
        let Some(link) = &mut self.parting else { return };
        let mut is_closed = link.poll_send(cx, 0, now) == SendStatus::Closed;
        let mut budget = READ_BUDGET;
        while !is_closed && link.poll_readable(now) {
            if budget.is_spent() {
                cx.waker().wake_by_ref();
                break;
            }
            match link.receive(cx, self.plan.policy.idle_activity, 0, now, |_| {}) {
                ReadStatus::Read(input) => {
                    budget.take(input.bytes, input.frames);
                    link.on_input(&input, None, &self.plan.policy, now);
                }
                ReadStatus::Pending => break,
                ReadStatus::Ended => {}
            }
            is_closed = link.poll_send(cx, 0, now) == SendStatus::Closed;
        }
        if is_closed {
            link.leave_for_another();
            self.parting = None;
        }
    }
}
