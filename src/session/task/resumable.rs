//! What a session has whose client was given a ticket.
//!
//! # Not here
//! How a client comes back ([`super::attach`]).

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::task::Waker;

use tokio::time::Instant;

use super::untold::{Fate, Untold};
use crate::delivery::SpentRates;
use crate::delivery::control::{Confirmed, ControlError, FromProxy};
use crate::net::own_protocols::TicketText;
use crate::session::registry::{Gate, SessionGuard};
use crate::session::request::Request;
use crate::session::ticket::TicketKeys;

#[derive(Debug)]
pub(super) struct Resumable {
    guard: SessionGuard,
    gate: Arc<Gate>,
    confirmed: Confirmed,
    /// The number of the oldest message that is kept.
    kept_from: u64,
    presence: Presence,
    /// What its client has used up of its rates, while it is away.
    spent: Option<Box<SpentRates>>,
    /// What the client may not have been told of its own messages.
    untold: Option<Box<Untold>>,
}

/// Whether its client is there.
#[derive(Debug, Clone, Copy)]
enum Presence {
    /// `backlog`: the number of the newest message that was there when it came back.
    There {
        backlog: u64,
    },
    Away {
        since: Instant,
    },
    /// It asks over HTTP, and is away between its requests.
    BetweenRequests,
}

/// How a client goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Departure {
    /// Its link is gone.
    Lost,
    /// Its request over HTTP was answered.
    Answered,
}

impl Resumable {
    pub(super) fn new(guard: SessionGuard, gate: Arc<Gate>) -> Self {
        Self {
            guard,
            gate,
            confirmed: Confirmed::default(),
            kept_from: 1,
            spent: None,
            untold: None,
            presence: Presence::There { backlog: 0 },
        }
    }

    /// The next ticket and its number.
    pub(super) fn issue(&self) -> Option<(u32, TicketText)> {
        self.gate.issue(self.guard.handle())
    }

    /// The client is away, having used up so much of its rates.
    pub(super) fn set_spent(&mut self, spent: SpentRates) {
        self.spent = Some(Box::new(spent));
    }

    /// What its client had used up when it went away.
    pub(super) fn take_spent(&mut self) -> Option<SpentRates> {
        self.spent.take().map(|spent| *spent)
    }

    /// The client has shown that it has the ticket of this number. False: that is worth nothing any more.
    pub(super) fn prove(&self, generation: u32) -> bool {
        self.guard.handle().prove(generation)
    }

    /// Whether the ticket of this number opens the session now.
    pub(super) fn is_valid(&self, generation: u32) -> bool {
        self.guard.handle().is_valid(generation)
    }

    /// How many messages are not there any more for a client that has had `seen`.
    pub(super) fn missing_after(&self, seen: u64) -> u64 {
        self.kept_from.saturating_sub(seen + 1)
    }

    pub(super) fn kept_from(&self) -> u64 {
        self.kept_from
    }

    /// What is older than this is given up, whether or not the client has had it.
    pub(super) fn keep_from(&mut self, number: u64) {
        self.kept_from = self.kept_from.max(number);
    }

    /// The client is away. True if it was not before. Beyond `max` of the route one of those that are away ends.
    pub(super) fn detach(&mut self, departure: Departure, max: usize, now: Instant) -> bool {
        if self.is_away() {
            return false;
        }
        self.presence = match departure {
            Departure::Lost => Presence::Away { since: now },
            Departure::Answered => Presence::BetweenRequests,
        };
        self.guard.detach(max);
        true
    }

    /// The number of the newest message that was there when the client came back last.
    pub(super) fn backlog(&self) -> u64 {
        match self.presence {
            Presence::There { backlog } => backlog,
            Presence::Away { .. } | Presence::BetweenRequests => 0,
        }
    }

    /// The client is there again, having been away since then, and `head` is the newest message there is. Its next tickets are
    /// signed with the keys that its handshake was judged with.
    pub(super) fn attach(&mut self, keys: Arc<TicketKeys>, head: u64) -> Option<Instant> {
        if !Arc::ptr_eq(self.gate.keys(), &keys) {
            self.gate = self.gate.with_keys(keys);
        }
        self.visit(head)
    }

    /// The same for a client that is given no ticket: it asks over HTTP.
    pub(super) fn visit(&mut self, head: u64) -> Option<Instant> {
        self.guard.attach();
        match std::mem::replace(&mut self.presence, Presence::There { backlog: head }) {
            Presence::There { .. } | Presence::BetweenRequests => None,
            Presence::Away { since } => Some(since),
        }
    }

    /// The client has come back, and cannot go on: how its absence ended is counted by whoever has asked.
    pub(super) fn on_refused(&mut self) {
        self.presence = Presence::There { backlog: 0 };
    }

    pub(super) fn is_away(&self) -> bool {
        matches!(self.presence, Presence::Away { .. } | Presence::BetweenRequests)
    }

    /// The client says to have had `seen` of what it was sent. Answers what is kept from now on.
    pub(super) fn on_seen(&mut self, seen: u64, sent: u64) -> Result<u64, ControlError> {
        self.confirmed.on_seen(seen, sent)?;
        self.kept_from = self.kept_from.max(seen + 1);
        self.untold.take_if(|untold| untold.is_proven_by_seen(seen));
        Ok(self.kept_from)
    }

    /// The client has answered this question.
    pub(super) fn on_pong(&mut self, number: u64) {
        self.untold.take_if(|untold| untold.is_proven_by_pong(number));
    }

    /// The client has to be told what became of these of its messages.
    pub(super) fn owe(&mut self, fate: Fate, numbers: &RangeInclusive<u64>) {
        self.untold.get_or_insert_default().add(fate, numbers);
    }

    /// What a new link has to be told.
    pub(super) fn owed(&self) -> Vec<FromProxy> {
        self.untold.iter().flat_map(|untold| untold.frames()).collect()
    }

    /// Whether something is owed that was not told over the present link.
    pub(super) fn has_news(&self) -> bool {
        self.untold.as_ref().is_some_and(|untold| !untold.is_told())
    }

    /// What was told over the link before has to be told again.
    pub(super) fn on_other_link(&mut self) {
        if let Some(untold) = &mut self.untold {
            untold.on_other_link();
        }
    }

    /// All that was owed was told over the present link, before the message with the number `next` and this question.
    pub(super) fn on_told(&mut self, next: u64, question: u64) {
        if let Some(untold) = &mut self.untold {
            untold.on_told(next, question);
        }
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.untold.as_ref().map_or(0, |untold| untold.held())
    }

    pub(super) fn into_guard(self) -> SessionGuard {
        self.guard
    }

    pub(super) fn wake_with(&self, waker: &Waker) {
        self.guard.handle().wake_with(waker);
    }

    pub(super) fn next_request(&self) -> Option<Request> {
        self.guard.handle().next_request()
    }
}
