//! The server's side of a session: its link, the way back when it is lost, and what a new link has to hear.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::untold::Fate;
use super::way::{Dial, Way};
use super::{Outage, Task};
use crate::delivery::Link;
use crate::delivery::control::FromProxy;
use crate::frame::{CloseCode, Kind, deflate, encode};
use crate::log::{Message, NewEntry, Writer};
use crate::session::cause::{Cause, ServerEnd};
use crate::session::greeting::{Greetings, Step};
use crate::session::lines;
use crate::session::machine::{Client, DialEnd, Server};
use crate::session::outbox::Outbox;
use crate::session::shared::QueueLength;
use crate::telemetry::{MessageLoss, RecoverySide, RedialOutcome};
use crate::upstream::redial::{DialFailure, Relinked, redial_once};
use crate::upstream::revival::{Blame, Turn};
use crate::upstream::{Uplink, UplinkEnd};

const LOST: &[u8] = br#"{"type":"outrigger","event":"upstream_lost"}"#;
const RESTORED: &[u8] = br#"{"type":"outrigger","event":"upstream_restored"}"#;

/// Messages that a new server is said before other tasks get their turn.
const MAX_SAID: usize = 1024;

impl Task {
    /// Drives the link to the server: what it says goes into the log.
    pub(super) fn poll_server(&mut self, cx: &mut Context<'_>, now: Instant) {
        let Self { uplink: Some(uplink), machine, greetings, writer, client, .. } = self else {
            return;
        };
        let is_greeting = matches!(machine.server(), Server::Greeting { .. });
        let has_deflate = client.as_ref().is_some_and(Link::has_deflate);
        // Nobody will be sent what comes after the last Close, and a server that streams says much until it is answered.
        let is_in_vain = machine.is_leaving_for_good();
        let end = uplink.poll(cx, &mut |kind, payload| {
            if is_in_vain {
                if let Some(client) = client {
                    client.handle().on_discarded(payload.len());
                }
                return;
            }
            if let Some(greetings) = greetings {
                if is_greeting && greetings.takes(kind, payload) {
                    return;
                }
                if greetings.wants_server_messages() {
                    greetings.on_server_message(kind, payload);
                }
            }
            append(writer, kind, payload, has_deflate);
        });
        self.advance();
        if let Poll::Ready(end) = end {
            self.on_server_end(&end, now);
        }
    }

    /// Notes how far the link to the server has come: what has left may belong to the greeting from now on.
    pub(super) fn advance(&mut self) {
        let Self { uplink: Some(uplink), outbox, greetings, plan, .. } = self else { return };
        let given_up = advance(uplink, outbox, greetings.as_deref_mut());
        if given_up > 0 {
            plan.metrics.lost.inc_by(MessageLoss::Greeting, given_up);
        }
    }

    /// The link to the server has ended.
    fn on_server_end(&mut self, end: &UplinkEnd, now: Instant) {
        self.count_redial(RedialOutcome::Failed);
        let was_final = !matches!(ServerEnd::from(end.clone()), ServerEnd::Lost | ServerEnd::Failed(_));
        self.drop_link();
        self.machine.on_server_end(end.clone().into(), fastrand::f64(), now);
        if self.outbox.is_poisoned() {
            self.machine.on_over(Cause::Poison);
        }
        if was_final || self.machine.server() == Server::Over {
            return;
        }
        self.on_lost(now);
        lines::lost(&self.plan, self.connection(), end);
    }

    /// The server is lost: the client is told if it is to be, and the time runs.
    fn on_lost(&mut self, now: Instant) {
        if self.outage.is_none() {
            self.outage = Some(Box::new(Outage {
                since: now,
                failed_dials: 0,
                is_greeting: false,
                queue: QueueLength::new(&self.plan.shared),
            }));
            if !self.tell(FromProxy::SERVER_LOST) {
                self.notice(LOST);
            }
        }
    }

    /// The link is of no use any more: what has not left goes to the next one, and its close handshake runs beside.
    fn drop_link(&mut self) {
        self.advance();
        let Some(uplink) = self.uplink.take() else { return };
        self.closing.replace(*uplink, &self.plan.shared.budget);
        let greeted = self.greetings.iter().flat_map(|greetings| greetings.numbers());
        if let Some(uncertain) = self.outbox.on_lost(greeted) {
            self.on_fate(Fate::Uncertain, &uncertain);
        }
    }

    /// A link that the machine does not count on any more is closed: there was no reply, or the server's time is over.
    pub(super) fn drop_unwanted_link(&mut self, now: Instant) {
        match self.machine.server() {
            Server::Live | Server::Greeting { .. } => return,
            Server::Waiting { .. } | Server::Dialling => {}
            // Others may have the turn.
            Server::Asleep | Server::Over => self.way = Way::None,
        }
        let Some(uplink) = &mut self.uplink else { return };
        let is_over = self.machine.server() == Server::Over;
        let (code, text) = match self.machine.cause() {
            Some(cause) if is_over => cause.to_server(),
            _ => (CloseCode::GOING_AWAY, "no reply to the greeting"),
        };
        uplink.close(code, text);
        self.drop_link();
        self.count_redial(RedialOutcome::Failed);
        if !is_over {
            lines::no_reply(&self.plan, self.connection());
            self.on_lost(now);
        }
    }

    /// Waits for a turn, and dials.
    pub(super) fn poll_way(&mut self, cx: &mut Context<'_>, now: Instant) {
        loop {
            match (self.machine.server(), &mut self.way) {
                (Server::Waiting { .. }, Way::None) if self.machine.wants_turn(now) => {
                    let failures = self.outage.as_ref().map_or(0, |outage| outage.failed_dials);
                    self.way = Way::Waiting(self.plan.revival.wait(failures));
                }
                (Server::Waiting { .. }, Way::Waiting(waiting)) => {
                    let Poll::Ready(turn) = waiting.poll_turn(cx) else { return };
                    self.machine.on_turn();
                    self.way = Way::Dialling { turn, dial: self.dial() };
                }
                (Server::Dialling, Way::Dialling { dial, .. }) => {
                    let Poll::Ready(result) = dial.as_mut().poll(cx) else { return };
                    let Way::Dialling { turn, .. } = std::mem::take(&mut self.way) else { return };
                    self.on_dialled(turn, result, now);
                    // A new link has to be read before it wakes the task by itself.
                    cx.waker().wake_by_ref();
                }
                (_, Way::None) => return,
                // What is under way is of no use any more.
                (_, way) => *way = Way::None,
            }
        }
    }

    fn dial(&self) -> Dial {
        let (upstream, protocol) = (Arc::clone(&self.plan.upstream), self.protocol.clone());
        let (request, _) = self.opening.request(protocol.as_ref());
        Box::pin(async move { redial_once(&upstream, request, protocol).await })
    }

    fn on_dialled(&mut self, turn: Turn, result: Result<Relinked, DialFailure>, now: Instant) {
        let redials = &self.plan.metrics.redials;
        match result {
            Ok(Relinked { transport, headers }) => {
                turn.succeeded();
                self.opening.set_cookies(&headers);
                let metrics = Arc::clone(&self.plan.shared.metrics);
                let mut uplink = Uplink::new(transport, self.plan.uplink_rules(), metrics, now);
                if self.machine.on_linked(now) {
                    self.uplink = Some(Box::new(uplink));
                    if let Some(outage) = &mut self.outage {
                        outage.is_greeting = true;
                    }
                    if let Some(greetings) = &mut self.greetings {
                        greetings.begin();
                    }
                } else {
                    redials.inc(RedialOutcome::Ok);
                    uplink.close(CloseCode::GOING_AWAY, "no client");
                    self.closing.replace(uplink, &self.plan.shared.budget);
                }
            }
            Err(failure) => {
                let blame = failure.blame();
                if let Some(outage) = &mut self.outage {
                    outage.failed_dials = outage.failed_dials.saturating_add(1);
                }
                turn.failed(blame);
                lines::failed(&self.plan, self.connection(), &failure);
                redials.inc(match &failure {
                    DialFailure::Declined(_) => RedialOutcome::Refused,
                    DialFailure::BreakerOpen(_) | DialFailure::Failed(_) | DialFailure::OtherProtocol => {
                        RedialOutcome::Failed
                    }
                });
                self.machine.on_dial_failed(dial_end(&failure, blame), fastrand::f64(), now);
            }
        }
    }

    /// A link that was dialled has been greeted, or will not be. Does nothing if there is none.
    pub(super) fn count_redial(&mut self, outcome: RedialOutcome) {
        if self.outage.as_mut().is_some_and(|outage| std::mem::take(&mut outage.is_greeting)) {
            self.plan.metrics.redials.inc(outcome);
        }
    }

    /// Says to a new server what it has to hear: the greeting, then what waits.
    pub(super) fn say(&mut self, cx: &mut Context<'_>, now: Instant) {
        if matches!(self.machine.server(), Server::Greeting { .. }) && self.greet() {
            self.machine.on_greeted(now);
            self.outbox.on_greeted(fastrand::f64(), now);
            self.on_back(now);
        }
        if self.machine.is_live() && !self.outbox.is_empty() {
            self.replay(cx, now);
        }
        if let Some(uplink) = &mut self.uplink {
            uplink.flush(cx);
            self.advance();
        }
    }

    /// Goes on with the greeting; whether it is over.
    fn greet(&mut self) -> bool {
        let Some(uplink) = &mut self.uplink else { return false };
        let Some(greetings) = &mut self.greetings else { return true };
        loop {
            match greetings.next() {
                Step::Say { kind, payload } => uplink.greet(kind, payload),
                Step::Await => return false,
                Step::Done => return true,
            }
            greetings.on_said();
        }
    }

    /// Says what waits in the outbox, as far as the link takes it.
    fn replay(&mut self, cx: &mut Context<'_>, now: Instant) {
        let Self { uplink: Some(uplink), outbox, greetings, plan, .. } = self else { return };
        for _ in 0..MAX_SAID {
            let Some(saying) = outbox.next() else { return };
            let is_greeted =
                |greetings: &Greetings| greetings.is_kept(saying.number, saying.kind, saying.payload);
            if greetings.as_deref().is_some_and(is_greeted) {
                outbox.leave_out();
                continue;
            }
            if !uplink.send(saying.kind, saying.payload) {
                return;
            }
            if saying.is_replay {
                plan.metrics.replayed.inc();
            }
            outbox.on_said(uplink.sent(), false);
            // At the pace of receipts that nobody waits for, a server that is killed again and again never hears all of it.
            if outbox.waits_for_receipts() {
                uplink.hasten_receipt(now);
            }
        }
        cx.waker().wake_by_ref();
    }

    /// The server is there again, and was greeted.
    fn on_back(&mut self, now: Instant) {
        self.count_redial(RedialOutcome::Ok);
        let Some(outage) = self.outage.take() else { return };
        let away = now.saturating_duration_since(outage.since);
        self.plan.shared.metrics.session_recovery.observe(RecoverySide::Upstream, away.as_secs_f64());
        lines::back(&self.plan, self.connection(), u64::try_from(away.as_millis()).unwrap_or(u64::MAX));
        if !self.tell(FromProxy::SERVER_BACK) {
            self.notice(RESTORED);
        }
    }

    /// Adds a notice of our own, if the client is to get them.
    pub(super) fn notice(&mut self, text: &[u8]) {
        // Who comes over HTTP counts messages, and is told beside them.
        let is_plain = self.polls.is_none() && self.machine.client() == Client::Attached;
        if self.plan.policy.notices && is_plain {
            append(&mut self.writer, Kind::Text, text, false);
        }
    }
}

/// See [`Task::advance`]. Answers how many messages of the greeting were given up.
pub(super) fn advance(uplink: &Uplink, outbox: &mut Outbox, greetings: Option<&mut Greetings>) -> u64 {
    let (left, proven) = (uplink.left(), uplink.proven());
    let mut given_up = 0;
    if let Some(greetings) = greetings {
        for said in outbox.leaving(left) {
            given_up += greetings.on_client_message(said.number, said.kind, said.payload);
        }
    }
    outbox.advance(left, proven);
    given_up
}

fn append(writer: &mut Writer, kind: Kind, payload: &[u8], has_deflate: bool) {
    let deflated = has_deflate.then(|| deflate::message(kind, payload)).flatten();
    let message = Message::from_frame(kind, encode::message(kind, payload));
    writer.append(NewEntry { message, deflated, is_critical: false, key: None, to: None });
}

fn dial_end(failure: &DialFailure, blame: Blame) -> DialEnd {
    match failure {
        DialFailure::OtherProtocol => DialEnd::OtherProtocol,
        DialFailure::Declined(response) if matches!(response.status().as_u16(), 401 | 403) => {
            DialEnd::Unauthorized
        }
        DialFailure::Declined(_) | DialFailure::Failed(_) | DialFailure::BreakerOpen(_) => match blame {
            Blame::Server | Blame::Nobody => DialEnd::ServerDown,
            Blame::Session => DialEnd::Declined,
        },
    }
}
