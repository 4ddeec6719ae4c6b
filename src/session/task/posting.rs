//! What a client says over HTTP: the same becomes of it as of what it says over a WebSocket.
//!
//! # Invariants
//! 1. A message with a number is received once, however often it comes, and never before the one in front of it.
//! 2. What was not taken was not counted, and the client hears how much was received.
//! 3. Who says something is no link: it is away when it was answered, unless it has one.
//!
//! # Not here
//! Where a message goes ([`super::reading`]).

use std::task::Context;

use bytes::Bytes;
use tokio::time::Instant;

use super::Task;
use crate::connections::EndedSession;
use crate::delivery::ReadLimits;
use crate::frame::Kind;
use crate::session::machine::Server;
use crate::session::request::{Asked, Refusal, Send, Sent};
use crate::telemetry::{Label, SessionEnd};

impl Task {
    pub(super) fn on_send(&mut self, asked: Asked<Send, Sent>, cx: &mut Context<'_>, now: Instant) {
        let Asked { what: Send { visitor, first, messages }, answer } = asked;
        let received = self.outbox.received();
        let sent = match self.check_visitor(visitor.generation, now) {
            Err(refusal) => Err(refusal),
            // A question changes nothing.
            Ok(()) if first.is_some_and(|first| first > received + 1) => Err(Refusal::Gap(received)),
            Ok(()) => {
                self.let_in(visitor, cx, now);
                let sent = self.take_messages(first, &messages, cx, now);
                self.leave_if_answered(now);
                sent
            }
        };
        let _ = answer.send(sent);
    }

    /// Takes those messages that were not received yet.
    fn take_messages(
        &mut self,
        first: Option<u64>,
        messages: &[(Kind, Bytes)],
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<Sent, Refusal> {
        let received = self.outbox.received();
        let next = received + 1;
        let known = usize::try_from(next.saturating_sub(first.unwrap_or(next))).unwrap_or(usize::MAX);
        let fresh = messages.get(known..).unwrap_or_default();
        if fresh.is_empty() {
            return Ok(Sent { received, taken: 0 });
        }
        if self.machine.server() == Server::Over {
            let why = self.machine.cause().map_or(SessionEnd::Drain, |cause| cause.session_end());
            return Err(Refusal::Gone(Some(EndedSession { received, why: why.as_str() }), None));
        }
        self.take_tokens(fresh.len(), now)?;
        self.take_said(fresh, cx, now);
        let received_now = self.outbox.received();
        let taken = usize::try_from(received_now - received).unwrap_or(usize::MAX);
        if taken < fresh.len() {
            return Err(Refusal::QueueFull(received_now));
        }
        Ok(Sent { received: received_now, taken })
    }

    /// Takes them in their order, as long as there is room for them.
    fn take_said(&mut self, messages: &[(Kind, Bytes)], cx: &mut Context<'_>, now: Instant) {
        let (_, mut intake) = self.intake(now);
        for (kind, payload) in messages {
            if !intake.has_room() {
                break;
            }
            intake.take(*kind, payload);
        }
        let said = intake.finish(cx);
        self.count_said(&said);
    }

    /// What the client may say is bounded over whatever it says it by.
    fn take_tokens(&mut self, messages: usize, now: Instant) -> Result<(), Refusal> {
        let Some(rate) = self.plan.policy.message_rate else { return Ok(()) };
        let Some(resumable) = &mut self.resumable else { return Ok(()) };
        let mut limits = ReadLimits::new(Some(rate), now);
        if let Some(spent) = resumable.take_spent() {
            limits.go_on_from(spent, now);
        }
        let wait = limits.paused_until().map(|until| until.saturating_duration_since(now));
        if wait.is_none() {
            limits.on_messages(u32::try_from(messages).unwrap_or(u32::MAX), now);
        }
        resumable.set_spent(limits.spent());
        wait.map_or(Ok(()), |wait| Err(Refusal::Rate(wait)))
    }
}
