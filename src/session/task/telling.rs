//! What a session tells a client that speaks the protocol among the messages, and what it hears from it beside these.
//!
//! # Invariants
//! 1. The bye is the last thing before a Close of ours, where there is a place for it.
//! 2. A client that takes nothing of what it is told is too slow.
//! 3. What became of its messages is told again over each link, until it knows ([`super::untold`]).
//!
//! # Not here
//! The frames ([`crate::delivery::control`]), and what waits of them ([`super::control`]); when a client comes back
//! ([`super::attach`]).

use std::time::Duration;

use tokio::time::Instant;

use super::Task;
use super::control::{Control, Greeted};
use super::untold::Fate;
use crate::delivery::Link;
use crate::delivery::control::{Bye, FromClient, FromProxy, Hello, Missed, Prefix};
use crate::delivery::events::stream;
use crate::net::own_protocols::TicketText;
use crate::session::cause::Cause;
use crate::session::lines;
use crate::session::machine::{Client, Server};
use crate::session::outbox::Lost;
use crate::telemetry::{Label, Reason};

/// Questions have numbers from here on: those of a heartbeat are below.
pub(super) const QUESTIONS: u64 = 1 << 52;

/// Clients of a drain come back spread over this.
const COME_BACK_WITHIN: Duration = Duration::from_secs(1);

impl Task {
    /// Begins to speak the protocol over the client's present link.
    pub(super) fn greet_client(&mut self, greeted: Greeted, is_resumed: bool, now: Instant) {
        let ticket = self.resumable.as_ref().and_then(|resumable| resumable.issue());
        let received = self.outbox.received();
        let Some(Link::WebSocket(client)) = &mut self.client else { return };
        let policy = &self.plan.policy;
        let prefix = Prefix::random();
        client.speak_control(policy, true, prefix);
        let log = self.writer.log();
        let hello = Hello {
            nonce: greeted.nonce.as_ref(),
            ticket: ticket.as_ref().map(|(_, ticket)| ticket),
            is_resumed,
            epoch: log.epoch(),
            sequence: self.next - 1,
            head: log.head(),
            received,
            missed: greeted.missed.map_or(Missed::Unknown, Missed::Known),
            prefix: Some(&prefix),
            window: self.machine.resume_window().unwrap_or_default(),
            heartbeat: policy.heartbeat.map(|heartbeat| heartbeat.timing),
            max_message: policy.max_message,
            fallback: &policy.fallback,
            previous: greeted.previous,
        };
        let generation = ticket.as_ref().map(|(generation, _)| *generation);
        self.control = Some(Box::new(Control::new(hello.frame(), generation, received, now)));
        self.tell_state();
    }

    /// The same for an event stream, whose client comes back with the ticket that it came with.
    pub(super) fn greet_stream(
        &mut self,
        greeted: Greeted,
        ticket: &TicketText,
        is_resumed: bool,
        now: Instant,
    ) {
        let polls = self.polls.get_or_insert_default();
        polls.set_id_prefix(ticket);
        let (log, received) = (self.writer.log(), self.outbox.received());
        let hello = Hello {
            nonce: greeted.nonce.as_ref(),
            ticket: Some(ticket),
            is_resumed,
            epoch: log.epoch(),
            sequence: self.next - 1,
            head: log.head(),
            received,
            missed: greeted.missed.map_or(Missed::Unknown, Missed::Known),
            prefix: None,
            window: self.machine.resume_window().unwrap_or_default(),
            heartbeat: None,
            max_message: self.plan.policy.max_message,
            fallback: &self.plan.policy.fallback,
            previous: greeted.previous,
        };
        let mut piece = Vec::new();
        stream::push_hello(
            polls.id_prefix().unwrap_or_default(),
            self.next - 1,
            &hello.members(),
            &mut piece,
        );
        self.control = Some(Box::new(Control::new(piece.into(), None, received, now)));
        self.tell_state();
    }

    /// Tells a client behind its hello where the session stands: it may have missed all that was told before.
    fn tell_state(&mut self) {
        if self.outage.is_some() {
            self.tell(FromProxy::SERVER_LOST);
        }
        self.tell_owed();
    }

    /// What the client may not know of its messages is told again.
    fn tell_owed(&mut self) {
        let owed = self.resumable.as_ref().map(|resumable| resumable.owed()).unwrap_or_default();
        if !owed.is_empty() {
            for frame in owed {
                self.tell(frame);
            }
            self.ask_whether_told();
        }
    }

    /// The client says something beside its messages.
    pub(super) fn on_control(&mut self, frame: FromClient) {
        let Some(control) = &mut self.control else { return };
        if let Some(resumable) = &mut self.resumable {
            // Whoever has read the hello of this link has the ticket in it.
            if let Some(generation) = control.prove() {
                resumable.prove(generation);
            }
            if let Some(seen) = frame.seen {
                match resumable.on_seen(seen, self.newest_sent) {
                    Ok(kept_from) => {
                        let kept_from = kept_from.min(self.next);
                        self.let_go(kept_from);
                    }
                    Err(error) => {
                        tracing::debug!(connection = self.connection(), fault = %error, "fault");
                        // Nothing of the session can be relied on.
                        return self.machine.end(Cause::ControlFault);
                    }
                }
            }
        }
        if let (Some(resumable), Some(number)) = (&mut self.resumable, frame.pong) {
            resumable.on_pong(number);
        }
        let Some(control) = &mut self.control else { return };
        if let Some(number) = frame.ping {
            control.on_ping(number);
        }
        if frame.detach {
            control.on_detach();
        }
    }

    /// Tells the client this, if it speaks the protocol. Answers whether it will be told.
    pub(super) fn tell(&mut self, frame: FromProxy) -> bool {
        let piece = self.client.as_ref().and_then(|client| client.control_piece(&frame));
        let (Some(control), Some(piece)) = (&mut self.control, piece) else { return false };
        if control.has_said_bye() {
            return false;
        }
        let is_told = control.push(piece);
        if !is_told {
            self.machine.leave(Cause::Slow);
        }
        is_told
    }

    /// Tells the client what was received of it, where that is due.
    pub(super) fn acknowledge(&mut self, now: Instant) {
        let received = self.outbox.received();
        if let Some(control) = &mut self.control {
            control.acknowledge(received, now);
        }
    }

    /// This became of messages of the client. It is told, where it wants to hear of it.
    pub(super) fn on_fate(&mut self, fate: Fate, lost: &Lost) {
        let messages = lost.messages;
        self.count_fate(fate, messages);
        if let Some(resumable) = &mut self.resumable {
            resumable.owe(fate, &lost.numbers);
        }
        if self.tell(fate.frame(&lost.numbers)) {
            self.ask_whether_told();
        } else if self.control.is_none() && fate == Fate::Uncertain {
            self.notice(
                format!(r#"{{"type":"outrigger","event":"uncertain","messages":{messages}}}"#).as_bytes(),
            );
        }
    }

    /// So many messages of the client came to this.
    pub(super) fn count_fate(&self, fate: Fate, messages: u64) {
        let reason = fate.reason();
        self.plan.metrics.lost.inc_by(reason, messages);
        lines::messages_lost(&self.plan, self.connection(), reason.as_str(), messages);
    }

    /// The last words tell what was received: so what nobody will hear of it is told before them.
    fn tell_unsaid(&mut self) {
        if matches!(self.machine.server(), Server::Live | Server::Greeting { .. }) {
            return;
        }
        for (fate, given_up) in Fate::of_each(self.outbox.unsaid(), Fate::Unsaid) {
            self.tell(fate.frame(&given_up.numbers));
        }
    }

    /// Asks the client, behind what it was told, so that its answer proves that it has read that.
    fn ask_whether_told(&mut self) {
        let question = QUESTIONS | u64::from(fastrand::u32(..));
        // An event stream answers nothing.
        let is_asked = match &self.client {
            Some(Link::Events(_)) => self.control.is_some(),
            _ => self.resumable.is_some() && self.tell(FromProxy::Ping(question)),
        };
        if is_asked {
            let next = self.next;
            if let Some(resumable) = &mut self.resumable {
                resumable.on_told(next, question);
            }
        }
    }

    /// Says the last words before a Close of ours, once. Answers whether something of them is still to be sent.
    pub(super) fn say_bye(&mut self, cause: &Cause) -> bool {
        let ack = self.outbox.received();
        let resume = self.machine.client() == Client::Leaving { may_resume: true };
        if !resume && self.control.as_ref().is_some_and(|control| !control.has_said_bye()) {
            self.tell_unsaid();
        }
        let (Some(control), Some(client)) = (&mut self.control, &self.client) else { return false };
        if !control.has_said_bye() {
            let after = matches!(cause, Cause::Drain(_)).then(|| COME_BACK_WITHIN.mul_f64(fastrand::f64()));
            let bye = FromProxy::Bye(Bye { why: bye_word(cause), resume, after, ack });
            let Some(bye) = client.control_piece(&bye) else { return false };
            control.say_bye(bye);
        }
        control.has_frames()
    }
}

/// What a client is told of the cause, as sessions count it; but a link may end for what ends no session.
pub(super) fn bye_word(cause: &Cause) -> &'static str {
    match cause {
        Cause::TakenOver => Reason::TakenOver.as_str(),
        cause => cause.session_end().as_str(),
    }
}
