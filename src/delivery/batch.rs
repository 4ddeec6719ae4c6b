//! What is due at a cursor, in one piece: made once for all clients that stand there.
//!
//! # Invariants
//! 1. A batch ends between two frames.
//! 2. What it leaves out (messages for others, conflated ones) it counts, each message once; critical messages and
//!    those for one user are never conflated.
//! 3. Whoever follows the cursors gets each message, in order, or finds it counted; of each key it gets the newest.
//! 4. While clients stand at a few places, `due` reads the log once for each of them: it is a comparison for
//!    everybody else, without a lock or an allocation.
//!
//! # Not here
//! Which messages of a stretch go ([`stretch`]); writing them.

mod stretch;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::config::Throttle;
use crate::log::{Cursor, Log};
use crate::memory::Budget;
use stretch::{Conflate, Made, Stretch};

/// Places at which what is due is remembered.
const REMEMBERED: usize = 8;

/// What stands between a client and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View<'a> {
    /// Whether it takes compressed messages.
    pub(super) has_deflate: bool,
    /// Who it is; messages for other users are left out.
    pub(super) user: Option<&'a Arc<str>>,
}

/// A stretch of a log, as it goes onto the wire.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    /// Whole frames: one message's own bytes, or several messages put together. Empty if all of the stretch is
    /// left out: there may be more behind it.
    pub(super) bytes: Bytes,
    /// Messages in it.
    pub(super) messages: u32,
    /// The newest sequence number in it (0: none is).
    pub(super) newest: u64,
    /// Where to go on after it.
    pub(super) cursor: Cursor,
    /// Messages that nobody will read at this cursor any more.
    pub(super) missed: u64,
    /// Messages for which a newer one with the same key stands (`delivery.throttle`).
    pub(super) conflated: u64,
    /// Messages that are left out as the channel's breaker is open, and a newer one stands.
    pub(super) shed: u64,
    /// Messages for other users.
    pub(super) others: u64,
    /// Whether there is more to read now.
    pub(super) has_more: bool,
}

impl Batch {
    /// Nothing is due at `cursor`.
    fn nothing(cursor: Cursor) -> Self {
        Self {
            bytes: Bytes::new(),
            messages: 0,
            newest: 0,
            cursor,
            missed: 0,
            conflated: 0,
            shed: 0,
            others: 0,
            has_more: false,
        }
    }
}

/// Makes batches, and remembers the last ones: clients mostly stand at the same place.
#[derive(Debug)]
pub(super) struct Batcher {
    log: Arc<Log>,
    /// `delivery.throttle.every`
    every: Option<Duration>,
    /// When messages were let out last.
    let_out: Option<Instant>,
    /// The newest message that may go out.
    until: u64,
    is_newest_only: bool,
    stretch: Stretch,
    made: Vec<Made>,
    /// The place in `made` of what was asked for last.
    last: usize,
    /// The place in `made` that is used next.
    turn: usize,
    nothing: Batch,
}

impl Batcher {
    /// `throttle`: `delivery.throttle`.
    pub(super) fn new(log: Arc<Log>, throttle: Option<&Throttle>) -> Self {
        Self {
            log,
            every: throttle.map(|throttle| throttle.every),
            let_out: None,
            until: 0,
            is_newest_only: false,
            stretch: Stretch::default(),
            made: Vec::new(),
            last: 0,
            turn: 0,
            nothing: Batch::nothing(Cursor { next: 1, all_from: 1 }),
        }
    }

    /// A new pass begins: the log may have more, and may be conflated to its newest message
    /// (`is_newest_only`). Answers up to which sequence number may be delivered now, and, with a throttle, when
    /// more may be.
    ///
    /// Throttled, messages go out in ticks: the first one at once, what comes within `every` after that together.
    pub(super) fn begin(&mut self, is_newest_only: bool, now: Instant) -> (u64, Option<Instant>) {
        if self.is_newest_only != is_newest_only {
            self.is_newest_only = is_newest_only;
            self.forget();
        }
        let head = self.log.head();
        if head == self.until {
            return (self.until, None);
        }
        if let (Some(every), Some(last)) = (self.every, self.let_out)
            && now.saturating_duration_since(last) < every
        {
            return (self.until, Some(last + every));
        }
        self.let_out = Some(now);
        self.until = head;
        self.forget();
        (head, None)
    }

    /// What is due at `cursor`. Costs a comparison where another client stood there in this pass.
    pub(super) fn due(&mut self, cursor: Cursor, view: View<'_>) -> &Batch {
        // Above `next` alone it matters what `all_from` is: otherwise cursors that read the same would differ.
        let cursor = Cursor { next: cursor.next, all_from: cursor.all_from.max(cursor.next) };
        if cursor.next > self.until {
            self.nothing.cursor = cursor;
            return &self.nothing;
        }
        let known = self.made.iter().position(|made| made.is_for(cursor, view));
        let place = known.unwrap_or_else(|| self.make(cursor, view));
        self.last = place;
        &self.made[place].batch
    }

    /// The bytes of the last [`Batcher::due`], counted once for all of its clients that keep them.
    pub(super) fn held(&mut self, budget: &Arc<Budget>) -> Bytes {
        let Some(made) = self.made.get_mut(self.last) else { return Bytes::new() };
        made.held.get_or_insert_with(|| budget.hold(made.batch.bytes.clone())).clone()
    }

    /// Lets go what it remembers, which is more than the log knows of. To be called when all clients have what is
    /// due: it would be held until the next message.
    pub(super) fn forget(&mut self) {
        self.made.clear();
        self.turn = 0;
        self.stretch.clear();
    }

    /// Answers the place of what it has made.
    fn make(&mut self, cursor: Cursor, view: View<'_>) -> usize {
        let from = match self.stretch.place_of(cursor) {
            Some(from) => from,
            None => {
                let conflate = Conflate { by_key: self.every.is_some(), to_newest: self.is_newest_only };
                self.stretch.read(&self.log, cursor, self.until, conflate);
                0
            }
        };
        let made = self.stretch.make(cursor, from, view);
        debug_assert!(made.batch.cursor.next > cursor.next, "a batch leads on");
        let place = self.turn;
        self.turn = (self.turn + 1) % REMEMBERED;
        match self.made.get_mut(place) {
            Some(old) => *old = made,
            None => self.made.push(made),
        }
        place
    }
}

#[cfg(test)]
mod tests;
