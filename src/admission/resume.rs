//! Clients that come back to their sessions: who has a valid ticket meets neither the rate of all, nor the rate and the quota
//! of its user. Nor does a poll meet the rates of all and of its user that goes on reading a channel's log: one follows the other as
//! fast as there are messages. A user whose dead link still looks alive would be locked out of its own session otherwise.
//!
//! # Invariants
//! 1. The rate of the address comes before: tickets are verified only as fast as that allows.
//! 2. The ticket is judged before the rate of all, since it spares that; whose it is is judged behind authentication,
//!    since only then it is known who asks. A ticket of somebody else spares nothing: what was left out is made up for.
//! 3. The epoch of a log is no secret of one client, but only who was let in to a channel has had it. That it is that of
//!    the channel which is asked for is known behind authentication only; who asks for another one has to pass
//!    [`super::stack::left_out`] before anything is opened.
//! 4. A handshake is never refused for its ticket: it begins a new session.
//!
//! # Not here
//! What a ticket is, and what is counted ([`ResumeGate`]).

use std::sync::Arc;

use super::check::Check;
use super::context::{FallbackUse, Kind, RequestContext, ResumeDecision, Ticket};
use super::rate::RateCheck;
use super::refused::Refused;
use crate::connections::{LogGate, ResumeGate};
use crate::net::own_protocols::Resume;

/// Judges the ticket of a handshake, or of a request to an endpoint.
#[derive(Debug)]
pub(super) struct TicketCheck {
    /// `None`: the route has no tickets.
    gate: Option<Arc<dyn ResumeGate>>,
}

impl TicketCheck {
    pub(super) fn new(gate: Option<Arc<dyn ResumeGate>>) -> Self {
        Self { gate }
    }
}

impl Check for TicketCheck {
    async fn check(&self, context: &mut RequestContext) -> Result<(), Refused> {
        let Some(gate) = &self.gate else { return Ok(()) };
        let ticket = match context.kind {
            Kind::Handshake => match context.own_protocols.as_ref().and_then(|own| own.resume()) {
                None => Ticket::Missing,
                Some(Resume::Session { ticket, .. }) => Ticket::Read(ticket),
                Some(Resume::Feed { .. } | Resume::Malformed) => Ticket::Malformed,
            },
            Kind::Fallback(FallbackUse::Place | FallbackUse::Answer) => context.ticket,
            Kind::Plain | Kind::Fallback(FallbackUse::Preflight) => Ticket::Missing,
        };
        context.resume = match ticket {
            Ticket::Missing => ResumeDecision::None,
            Ticket::Read(ticket) => match gate.check(&ticket) {
                Ok(grant) => ResumeDecision::Granted(grant),
                Err(ended) => ResumeDecision::Refused(ended),
            },
            Ticket::Malformed => {
                gate.on_malformed();
                ResumeDecision::Refused(None)
            }
        };
        Ok(())
    }
}

/// Judges whether a request goes on reading the log of a channel that runs. It takes a place for its length all the same.
#[derive(Debug)]
pub(super) struct LogCheck {
    /// `None`: the route has no channels.
    gate: Option<Arc<dyn LogGate>>,
}

impl LogCheck {
    pub(super) fn new(gate: Option<Arc<dyn LogGate>>) -> Self {
        Self { gate }
    }
}

impl Check for LogCheck {
    async fn check(&self, context: &mut RequestContext) -> Result<(), Refused> {
        if let (Some(gate), Kind::Fallback(_), Some(epoch)) = (&self.gate, context.kind, context.epoch) {
            context.is_continued = gate.has_log(epoch);
        }
        Ok(())
    }
}

/// Judges whose ticket it is.
#[derive(Debug)]
pub(super) struct OwnerCheck {
    gate: Option<Arc<dyn ResumeGate>>,
    /// What was left out for the ticket.
    left_out: RateCheck,
}

impl OwnerCheck {
    pub(super) fn new(gate: Option<Arc<dyn ResumeGate>>, left_out: RateCheck) -> Self {
        Self { gate, left_out }
    }
}

impl Check for OwnerCheck {
    async fn check(&self, context: &mut RequestContext) -> Result<(), Refused> {
        let (Some(gate), ResumeDecision::Granted(grant)) = (&self.gate, context.resume) else {
            return Ok(());
        };
        let user = context.user.as_ref().map(|user| &*user.name);
        if !gate.is_owner(&grant, user, context.head.uri.path()) {
            context.resume = ResumeDecision::Refused(None);
            self.left_out.check(context).await?;
        }
        Ok(())
    }
}
