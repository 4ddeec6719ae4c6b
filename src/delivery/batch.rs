//! What is due at a cursor, as one piece, made once for all clients that are there and are sent messages the same way.
//!
//! # Invariants
//! 1. A batch ends between two frames, or two events.
//! 2. What it leaves out (messages for others, conflated ones) it counts, each message once; critical messages and
//!    those for one user are never conflated.
//! 3. A client that follows the cursors gets each message in order, or finds it counted; of each key it gets the newest.
//! 4. While clients are at a few places, `due` reads the log once for each of these: for all other clients it is a
//!    comparison, without a lock or an allocation.
//!
//! # Why are messages conflated when the log is read?
//! Which message is the newest depends on where a client is. A log that was written conflated could serve neither
//! history nor a client that is not throttled.
//!
//! # Why are batches put together by copying?
//! One write of one piece, shared by all clients there, costs less than a list of pieces for each. A message alone is
//! not copied: its bytes are the log's own. Events are not in the log, and made for each batch.
//!
//! # Not here
//! Which messages of a segment are sent ([`segment`]); writing them.

mod segment;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::events::stream::epoch_prefix;
use crate::config::Throttle;
use crate::log::{Cursor, Log};
use crate::memory::Budget;
use segment::{CachedBatch, Conflate, Segment};

pub(super) use segment::{Batch, View};

/// Batches that are remembered, each for one place.
const CACHED: usize = 8;

/// Makes batches and remembers the last ones: most clients are at the same place.
#[derive(Debug)]
pub(super) struct Batcher {
    log: Arc<Log>,
    /// `delivery.throttle.every`
    every: Option<Duration>,
    /// When messages were released last (`delivery.throttle`).
    released_at: Option<Instant>,
    /// The newest message that may go out.
    until: u64,
    is_newest_only: bool,
    segment: Segment,
    cached: Vec<CachedBatch>,
    /// The index in `cached` of what was asked for last.
    last: usize,
    /// The index in `cached` that is used next.
    next_slot: usize,
    nothing: Batch,
    /// What ids of events begin with.
    id_prefix: Box<str>,
}

impl Batcher {
    /// `throttle`: `delivery.throttle`.
    pub(super) fn new(log: Arc<Log>, throttle: Option<&Throttle>) -> Self {
        let id_prefix = epoch_prefix(log.epoch()).into();
        Self {
            log,
            every: throttle.map(|throttle| throttle.every),
            released_at: None,
            until: 0,
            is_newest_only: false,
            segment: Segment::default(),
            cached: Vec::new(),
            last: 0,
            next_slot: 0,
            nothing: Batch::nothing(Cursor { next: 1, all_from: 1 }),
            id_prefix,
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
            self.clear();
        }
        let head = self.log.head();
        if head == self.until {
            return (self.until, None);
        }
        if let (Some(every), Some(last)) = (self.every, self.released_at)
            && now.saturating_duration_since(last) < every
        {
            return (self.until, Some(last + every));
        }
        self.released_at = Some(now);
        self.until = head;
        self.clear();
        (head, None)
    }

    /// What is due at `cursor`. Costs a comparison where another client was there in this pass.
    pub(super) fn due(&mut self, cursor: Cursor, view: View<'_>) -> &Batch {
        // Above `next` alone it matters what `all_from` is: otherwise cursors that read the same would differ.
        let cursor = Cursor { next: cursor.next, all_from: cursor.all_from.max(cursor.next) };
        if cursor.next > self.until {
            self.nothing.cursor = cursor;
            return &self.nothing;
        }
        let known = self.cached.iter().position(|cached| cached.is_for(cursor, view));
        let place = known.unwrap_or_else(|| self.make(cursor, view));
        self.last = place;
        &self.cached[place].batch
    }

    /// The bytes of the last [`Batcher::due`], counted once for all of its clients that keep them.
    pub(super) fn held(&mut self, budget: &Arc<Budget>) -> Bytes {
        let Some(cached) = self.cached.get_mut(self.last) else { return Bytes::new() };
        cached.held.get_or_insert_with(|| budget.hold(cached.batch.bytes.clone())).clone()
    }

    /// Drops what is remembered, which the log does not count. To be called when all clients have what is due: it would
    /// be held until the next message.
    pub(super) fn clear(&mut self) {
        self.cached.clear();
        self.next_slot = 0;
        self.segment.clear();
    }

    /// Answers the index in `cached` of what it has made.
    fn make(&mut self, cursor: Cursor, view: View<'_>) -> usize {
        let from = match self.segment.place_of(cursor) {
            Some(from) => from,
            None => {
                let conflate = Conflate { by_key: self.every.is_some(), to_newest: self.is_newest_only };
                self.segment.read(&self.log, cursor, self.until, conflate);
                0
            }
        };
        let made = self.segment.make(cursor, from, view, &self.id_prefix);
        debug_assert!(made.batch.cursor.next > cursor.next, "a batch leads on");
        let place = self.next_slot;
        self.next_slot = (self.next_slot + 1) % CACHED;
        match self.cached.get_mut(place) {
            Some(old) => *old = made,
            None => self.cached.push(made),
        }
        place
    }
}

#[cfg(test)]
mod tests;
