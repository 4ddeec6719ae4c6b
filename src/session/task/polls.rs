//! What a session has of a client that comes over HTTP: its place among the connections, polls that wait, and the ids of its
//! event stream.
//!
//! # Invariants
//! 1. At most [`MAX_WAITING`] polls wait. One whose client has gone makes room for others.
//! 2. A client that polls has one place among the connections for all of its polls, as long as it has no other link: it is
//!    there between two of them too, for whoever drains, lists or publishes.
//!
//! # Not here
//! What a poll is answered, and when ([`super::polling`]).

use std::task::Context;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::connections::{ConnectionGuard, EndReport, Handle};
use crate::net::own_protocols::TicketText;
use crate::session::request::{Polled, Refusal};
use crate::telemetry::Reason;

/// Polls of one session that wait at once.
const MAX_WAITING: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Polls {
    place: Option<ConnectionGuard>,
    waiting: Vec<Waiting>,
    /// What the ids of messages begin with in the client's event stream: its ticket, and a dot.
    id_prefix: Option<Box<str>>,
}

/// A poll that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The number of the newest message that its client has had.
    pub(super) after: u64,
    /// Messages that it takes at once.
    pub(super) limit: usize,
    /// When it is answered in any case.
    pub(super) until: Instant,
    pub(super) answer: oneshot::Sender<Result<Polled, Refusal>>,
}

impl Polls {
    /// The client has an event stream with such ids.
    pub(super) fn set_id_prefix(&mut self, ticket: &TicketText) {
        self.id_prefix = Some(format!("{}.", ticket.as_str()).into());
    }

    /// What the ids of messages begin with in its event stream.
    pub(super) fn id_prefix(&self) -> Option<&str> {
        self.id_prefix.as_deref()
    }

    /// How others reach the client, while this is its place among the connections.
    pub(super) fn handle(&self) -> Option<&Handle> {
        self.place.as_ref().map(|place| &**place.handle())
    }

    /// The client has this place from now on.
    pub(super) fn set_place(&mut self, place: ConnectionGuard) {
        self.place = Some(place);
    }

    /// The client has no place here any more.
    pub(super) fn leave(&mut self, reason: Reason) {
        if let Some(mut place) = self.place.take() {
            place.leave(EndReport { reason, close: None, fault: None });
        }
    }

    pub(super) fn has_place(&self) -> bool {
        self.place.is_some()
    }

    /// Whether a poll waits.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether one more may wait.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    pub(super) fn wait(&mut self, poll: Waiting) {
        self.waiting.push(poll);
    }

    /// Forgets polls whose clients have gone. Each of the others wakes the task when its client goes.
    pub(super) fn drop_gone(&mut self, cx: &mut Context<'_>) {
        self.waiting.retain_mut(|poll| poll.answer.poll_closed(cx).is_pending());
    }

    /// Takes out a poll that is due.
    pub(super) fn take_due(&mut self, is_due: impl Fn(&Waiting) -> bool) -> Option<Waiting> {
        let at = self.waiting.iter().position(is_due)?;
        Some(self.waiting.remove(at))
    }

    /// Answers all with the same refusal.
    pub(super) fn refuse_all(&mut self, refusal: Refusal) {
        for poll in self.waiting.drain(..) {
            // One that has gone does not mind.
            let _ = poll.answer.send(Err(refusal));
        }
    }

    /// When the next one is answered in any case.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|poll| poll.until).min()
    }
}
