//! Clients that come back to their sessions: who has a valid ticket meets neither the rate of all, nor the rate and the quota
//! of its user. A user whose dead link still looks alive would be locked out of its own session otherwise.
//!
//! # Invariants
//! 1. The rate of the address comes before: tickets are verified only as fast as that allows.
//! 2. The ticket is judged before the rate of all, since it spares that; whose it is is judged behind authentication,
//!    since only then it is known who asks. A ticket of somebody else spares nothing: what was left out is made up for.
//! 3. A handshake is never refused for its ticket: it begins a new session.
//!
//! # Not here
//! What a ticket is, and what is counted ([`ResumeGate`]).

use std::sync::Arc;

use super::check::Check;
use super::context::{Kind, RequestContext, ResumeDecision};
use super::rate::RateCheck;
use super::refused::Refused;
use crate::connections::ResumeGate;
use crate::net::own_protocols::Resume;

/// Judges the ticket of a handshake.
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
        let Some(gate) = self.gate.as_ref().filter(|_| context.kind == Kind::Handshake) else {
            return Ok(());
        };
        context.resume = match context.own_protocols.as_ref().and_then(|own| own.resume()) {
            None => ResumeDecision::None,
            Some(Resume::Session { ticket, .. }) => match gate.check(&ticket) {
                Ok(grant) => ResumeDecision::Granted(grant),
                Err(ended) => ResumeDecision::Refused(ended),
            },
            Some(Resume::Feed { .. } | Resume::Malformed) => {
                gate.on_malformed();
                ResumeDecision::Refused(None)
            }
        };
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
