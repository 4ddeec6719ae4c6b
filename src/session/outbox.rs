//! What the client of a session has said, until its server has taken it. Pure.
//!
//! A message is in one of three classes by its place in the stream to the server. It *waits* until its last byte is with
//! the kernel; from then on it is *uncertain*; it is *taken* once the server has answered something that was sent after it.
//!
//! # Invariants
//! 1. Numbers are those of the client's messages over the life of the session, from 1, none left out. Positions count what one
//!    link carries, so that they begin anew with each link, and also count what the greeting says.
//! 2. What waits is said to the next server, in order. What is uncertain is said again with `unacknowledged` alone; else
//!    nothing of it is kept but its numbers.
//! 3. In the order of their numbers there stand first the messages that this link was handed, then those that some link
//!    may have carried before, then those that no server has heard of.
//! 4. A client that holds a ticket was told that its messages are received: none of them goes because there are too many. That
//!    client is not read instead.
//! 5. Once the server has died twice with the same message as the oldest uncertain one, what is said again is said alone:
//!    each after the one before it was taken, and only once the new server has lived for a moment: one that dies before did
//!    not die of it. Whoever dies of one message a third time died of that message.
//!
//! # What bounds it?
//! While the server is away, `queue.messages` and `queue.bytes` bound what was never said. What may have to be said again is
//! bounded by `queue.bytes` too: beyond it the next message goes only when the server has taken some, so that no more is
//! uncertain than that and one message. While the server is there but slow the client is not read.
//!
//! # Not here
//! Which messages make up a greeting ([`super::greeting`]); how a server proves what it took ([`crate::upstream`]).

mod entry;
mod pace;
mod uncertain;

use std::collections::VecDeque;

use tokio::time::Instant;

use self::entry::Entry;
pub(super) use self::entry::Saying;
use self::pace::Pace;
use self::uncertain::Uncertain;
pub(super) use self::uncertain::{GivenUp, Lost};
use crate::config::{Replay, SessionQueue};
use crate::frame::Kind;

/// What the client has said.
pub(super) struct Outbox {
    rules: SessionQueue,
    is_held: bool,
    /// The number of the newest message.
    received: u64,
    /// How far the link has come, by position.
    left: u64,
    proven: u64,
    /// Messages with their bytes, in the order of their numbers.
    entries: VecDeque<Entry>,
    /// The first so many of them were handed to this link.
    said: usize,
    /// The first so many of them may have been heard by a server before; each of them again by this one, if it was handed it.
    repeated: usize,
    /// What was handed to this link costs so much, and what it was not holds so many bytes of payload.
    said_cost: usize,
    fresh_bytes: usize,
    /// What the entries cost together.
    cost: usize,
    /// With `unsent`: the numbers of what has left.
    uncertain: Uncertain,
    pace: Pace,
}

impl Outbox {
    /// `is_held`: the client has a ticket.
    pub(super) fn new(rules: &SessionQueue, is_held: bool) -> Self {
        Self {
            rules: rules.clone(),
            is_held,
            received: 0,
            left: 0,
            proven: 0,
            entries: VecDeque::new(),
            said: 0,
            repeated: 0,
            said_cost: 0,
            fresh_bytes: 0,
            cost: 0,
            uncertain: Uncertain::default(),
            pace: Pace::Free,
        }
    }

    /// The number of the client's newest message.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Whether the client's next message may be handed to the link: nothing is to be said before it.
    pub(super) fn is_empty(&self) -> bool {
        self.said == self.entries.len() && self.pace == Pace::Free
    }

    /// Whether the client is not to be read: what it says next would be one message too many. A plain client's may be
    /// dropped, so only a server that does not prove what it took fills the outbox of one.
    pub(super) fn is_full(&self) -> bool {
        let has_too_many = self.fresh() >= self.rules.messages || self.fresh_bytes >= self.rules.bytes;
        (self.is_held && has_too_many) || self.is_window_full()
    }

    /// The client has said a message, and the link was handed it as its `position`-th. `has_left`: so far its last byte
    /// has come. Only while the outbox is empty.
    pub(super) fn on_sent(
        &mut self,
        kind: Kind,
        payload: &[u8],
        position: u64,
        has_left: bool,
        now: Instant,
    ) {
        debug_assert!(self.is_empty(), "it would overtake what waits");
        self.received += 1;
        if has_left {
            self.on_left(position);
            if !self.says_again() {
                self.uncertain.add(self.received, position);
                return;
            }
        }
        self.push(kind, payload, now);
        self.hand_over(position);
    }

    /// The client has said a message that cannot be sent now. Answers how many were dropped for it: a plain client's
    /// oldest ones that no server has heard of, or the message itself if it alone is too much.
    pub(super) fn queue(&mut self, kind: Kind, payload: &[u8], now: Instant) -> u64 {
        self.received += 1;
        let is_too_much = !self.is_held && payload.len() > self.rules.bytes;
        if !is_too_much {
            self.push(kind, payload, now);
        }
        let mut dropped = u64::from(is_too_much);
        while !self.is_held && (self.fresh() > self.rules.messages || self.fresh_bytes > self.rules.bytes) {
            self.take_out(self.said.max(self.repeated));
            dropped += 1;
        }
        dropped
    }

    /// The client has said a message that the link has no room for at the moment. Nothing of it is dropped: a client whose server
    /// is there is read again when all of that has gone on, so that it is bounded by what one read brings.
    pub(super) fn hold_back(&mut self, kind: Kind, payload: &[u8], now: Instant) {
        self.received += 1;
        self.push(kind, payload, now);
    }

    /// The client has said a message that no server is to hear, because it does not wait or because there will be no
    /// other server. It is received, and nobody is told more of it.
    pub(super) fn pass_over(&mut self) {
        self.received += 1;
    }

    /// What is about to leave if the link has come as far as `left`: to be read before [`Outbox::advance`], which lets go of it.
    pub(super) fn leaving(&self, left: u64) -> impl Iterator<Item = Saying<'_>> {
        let entries = self.entries.iter().take(self.said).enumerate();
        let leaves = move |entry: &Entry| entry.position() > self.left && entry.position() <= left;
        entries.filter(move |(_, entry)| leaves(entry)).map(|(index, entry)| self.saying(index, entry))
    }

    /// The link has come so far: up to `left` the kernel has everything, up to `proven` the server.
    pub(super) fn advance(&mut self, left: u64, proven: u64) {
        debug_assert!(proven <= left, "what has not left cannot have been taken");
        self.on_left(left);
        self.proven = self.proven.max(proven);
        self.uncertain.prove(self.proven);
        if self.says_again() {
            self.let_go_to(self.proven, |_, _, _| {});
        }
        self.relax();
    }

    /// The link is lost, and has come as far as the last [`Outbox::advance`] told. What waits is said again. Answers what
    /// is uncertain and is not, other than what the greeting says: that has the numbers `greeted`.
    pub(super) fn on_lost(&mut self, greeted: impl IntoIterator<Item = u64>) -> Option<Lost> {
        let lost = std::mem::take(&mut self.uncertain).lost(greeted);
        if self.says_again() {
            self.judge();
        }
        self.said = 0;
        self.said_cost = 0;
        self.left = 0;
        self.proven = 0;
        self.fresh_bytes = self.entries.iter().skip(self.repeated).map(|entry| entry.bytes()).sum();
        lost
    }

    /// What the new link is to be handed next.
    pub(super) fn next(&self) -> Option<Saying<'_>> {
        let has_turn = match self.pace {
            Pace::Free => !self.is_window_full(),
            Pace::OneAtATime { from } => self.said == 0 && from.is_none(),
            Pace::Poisoned => false,
        };
        let entry = self.entries.get(self.said).filter(|_| has_turn)?;
        Some(self.saying(self.said, entry))
    }

    /// The link was handed it as its `position`-th. `has_left`: so far its last byte has come.
    pub(super) fn on_said(&mut self, position: u64, has_left: bool) {
        debug_assert!(self.next().is_some(), "nothing was to be said");
        self.hand_over(position);
        if has_left {
            self.on_left(position);
        }
    }

    /// The greeting has said what would be next, or a newer version of it: it is left out.
    pub(super) fn leave_out(&mut self) {
        debug_assert!(self.next().is_some(), "nothing was to be said");
        if self.said < self.entries.len() {
            self.take_out(self.said);
        }
        self.relax();
    }

    /// A new server was greeted. What is said one at a time begins when that has lived for a while, with `random` from 0 to 1:
    /// a server that dies before that did not die of it. Drawn, since many sessions may have a suspect at the same time, and
    /// one of them may be right.
    pub(super) fn on_greeted(&mut self, random: f64, now: Instant) {
        self.pace.begin_trial(random, now);
    }

    /// Until when a new server hears nothing that servers before may have died of.
    pub(super) fn trial_ends(&self) -> Option<Instant> {
        self.pace.trial_ends()
    }

    /// Time has passed.
    pub(super) fn end_trial(&mut self, now: Instant) {
        self.pace.end_trial(now);
    }

    /// Whether the server has died of a message.
    pub(super) fn is_poisoned(&self) -> bool {
        self.pace == Pace::Poisoned
    }

    /// Whether receipts are waited for: what is said again is said one at a time, or what may have to be said again is half of
    /// what may be kept for that.
    pub(super) fn waits_for_receipts(&self) -> bool {
        self.pace.is_cautious() || (self.says_again() && self.said_cost >= self.rules.bytes / 2)
    }

    /// Gives up what this link was not handed and is too old.
    pub(super) fn expire(&mut self, now: Instant) -> GivenUp {
        let mut given_up = GivenUp::default();
        while self.next_expiry().is_some_and(|at| at <= now) {
            let may_be_known = self.said < self.repeated;
            given_up.push(self.take_out(self.said), may_be_known);
        }
        self.relax();
        given_up
    }

    /// What is given up if no other link is handed anything.
    pub(super) fn unsaid(&self) -> GivenUp {
        let mut given_up = GivenUp::default();
        for (index, entry) in self.entries.iter().enumerate().skip(self.said) {
            given_up.push(entry.number(), index < self.repeated);
        }
        given_up
    }

    /// When [`Outbox::expire`] has something to do.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.entries.get(self.said)?.at().checked_add(self.rules.age)
    }

    /// Messages that no link was handed, or not this one.
    pub(super) fn waiting(&self) -> usize {
        self.entries.len() - self.said
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.cost + self.uncertain.held()
    }

    /// Whether what is uncertain is said again.
    fn says_again(&self) -> bool {
        self.rules.replay == Replay::Unacknowledged
    }

    /// Messages that no server has heard of and no link was handed.
    fn fresh(&self) -> usize {
        self.entries.len() - self.said.max(self.repeated)
    }

    /// Whether the server has to take something before it is said more. Nothing is in its way if nothing may be said again:
    /// then what was handed over goes as soon as it has left.
    fn is_window_full(&self) -> bool {
        self.says_again() && self.said_cost >= self.rules.bytes
    }

    fn saying<'a>(&self, index: usize, entry: &'a Entry) -> Saying<'a> {
        entry.saying(index < self.repeated)
    }

    fn push(&mut self, kind: Kind, payload: &[u8], now: Instant) {
        let entry = Entry::new(self.received, kind, payload, now);
        self.cost += entry.cost();
        self.fresh_bytes += payload.len();
        self.entries.push_back(entry);
    }

    /// The link was handed the first one that it was not yet.
    fn hand_over(&mut self, position: u64) {
        let Some(entry) = self.entries.get_mut(self.said) else { return };
        entry.hand_over(position);
        self.said_cost += entry.cost();
        if self.said >= self.repeated {
            self.fresh_bytes -= entry.bytes();
        }
        self.said += 1;
    }

    /// Removes one that the link was not handed. Answers its number.
    fn take_out(&mut self, index: usize) -> u64 {
        debug_assert!(index >= self.said, "the link may still carry it");
        let Some(entry) = self.entries.remove(index) else { return 0 };
        self.cost -= entry.cost();
        if index < self.repeated {
            self.repeated -= 1;
        } else {
            self.fresh_bytes -= entry.bytes();
        }
        self.release();
        entry.number()
    }

    fn on_left(&mut self, left: u64) {
        self.left = self.left.max(left);
        if !self.says_again() {
            self.let_go_to(self.left, Uncertain::add);
        }
    }

    /// Lets go of what stands up to this position, and has its number and its position noted.
    fn let_go_to(&mut self, position: u64, note: impl Fn(&mut Uncertain, u64, u64)) {
        while self.said > 0 && self.entries.front().is_some_and(|entry| entry.position() <= position) {
            let Some(entry) = self.entries.pop_front() else { break };
            self.said -= 1;
            self.repeated = self.repeated.saturating_sub(1);
            self.cost -= entry.cost();
            self.said_cost -= entry.cost();
            note(&mut self.uncertain, entry.number(), entry.position());
        }
        self.release();
    }

    /// The server has died: what has left may have been heard, and the oldest of it may be the reason.
    fn judge(&mut self) {
        let uncertain =
            self.entries.iter().take(self.said).take_while(|entry| entry.position() <= self.left).count();
        self.repeated = self.repeated.max(uncertain);
        let Some(oldest) = self.entries.front_mut().filter(|_| uncertain > 0) else { return };
        let deaths = oldest.count_death();
        self.pace.on_death(deaths, uncertain == 1);
    }

    /// Caution ends with what is said again.
    fn relax(&mut self) {
        if self.repeated == 0 {
            self.pace.relax();
        }
    }

    /// An idle session owns no queue.
    fn release(&mut self) {
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests;
