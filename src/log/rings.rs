//! What a log keeps, pure: two rings, new entries and `now` in, what was evicted out.
//!
//! One ring has the newest messages, all of them, without gaps: a sequence number is a place in it. The other has
//! the newest critical ones, which stay when the first has evicted them.
//!
//! # Invariants
//! 1. No bound evicts the newest message, however long it is and however old. Only the owner of a private log lets go of it.
//! 2. Every critical message of the first ring is in the second one as well. It holds by itself for the bounds of
//!    the log, as both rings have the same; [`Rings::evict_critical`] has to see to it.
//! 3. What a message holds is counted once, whichever rings it is in, and in full ([`Entry::size`]): the bounds in
//!    bytes are bounds on memory.
//!
//! # Not here
//! Locks, readers, the bound of the process ([`super::memory`], [`super::logs`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::entry::Timestamp;
use super::{Continuation, Cursor, Entry, Lag, NewEntry, Progress};
use crate::config::{History, OnJoin};
use crate::telemetry::{Label, Trim};

/// The messages of one log.
#[derive(Debug)]
pub(super) struct Rings {
    opened: Instant,
    max_messages: usize,
    max_bytes: usize,
    max_age: Duration,
    all: VecDeque<Arc<Entry>>,
    /// What `all` holds.
    all_size: usize,
    critical: VecDeque<Critical>,
    critical_size: usize,
    /// What both hold together.
    held: usize,
    /// Of the newest message.
    head: u64,
    /// Bytes of all frames there ever were; of all critical ones.
    written: u64,
    critical_written: u64,
    /// Where the newest of the messages that `all` has evicted began.
    evicted_offset: u64,
}

#[derive(Debug)]
struct Critical {
    entry: Arc<Entry>,
    /// Bytes of the frames of all critical messages before it.
    offset: u64,
}

/// What was evicted from a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Evicted {
    /// Bytes it held.
    pub(super) bytes: usize,
    messages: [u64; Trim::ALL.len()],
}

/// What the owner of a private log has let go of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LetGo {
    pub(super) messages: u64,
    /// Bytes it held.
    pub(super) bytes: usize,
}

impl LetGo {
    fn count(&mut self, entry: &Entry) {
        self.messages += 1;
        self.bytes += entry.size();
    }
}

impl Evicted {
    fn count(&mut self, reason: Trim, entry: &Entry) {
        self.bytes += entry.size();
        self.messages[reason.index()] += 1;
    }

    /// Messages, by why they were evicted.
    pub(super) fn messages(&self) -> impl Iterator<Item = (Trim, u64)> {
        Trim::ALL.iter().zip(self.messages).filter(|(_, n)| *n > 0).map(|(reason, n)| (*reason, n))
    }
}

impl Rings {
    pub(super) fn new(history: &History, now: Instant) -> Self {
        Self {
            max_messages: history.messages.max(1),
            max_bytes: history.bytes,
            max_age: history.age,
            ..Self::private(0, now)
        }
    }

    /// Those of a private log, which keeps nothing and has no bounds. `head`: the number of its newest message.
    pub(super) fn private(head: u64, now: Instant) -> Self {
        Self {
            opened: now,
            max_messages: usize::MAX,
            max_bytes: usize::MAX,
            max_age: Duration::MAX,
            all: VecDeque::new(),
            all_size: 0,
            critical: VecDeque::new(),
            critical_size: 0,
            held: 0,
            head,
            written: 0,
            critical_written: 0,
            evicted_offset: 0,
        }
    }

    /// Bytes of all messages that are kept.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Bytes of the critical ones among them.
    pub(super) fn critical_held(&self) -> usize {
        self.critical_size
    }

    /// Whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.critical.is_empty()
    }

    /// Messages that are kept.
    pub(super) fn len(&self) -> usize {
        let first = self.first();
        self.all.len() + self.critical_before(first)
    }

    /// Adds a message, and evicts what there is no room for of what is older than `delivered_up_to`.
    pub(super) fn append(
        &mut self,
        new: NewEntry,
        delivered_up_to: u64,
        now: Instant,
        wall: SystemTime,
    ) -> (Arc<Entry>, Evicted) {
        self.head += 1;
        let appended = Timestamp::new(now.saturating_duration_since(self.opened), wall);
        let entry = Arc::new(Entry::new(self.head, appended, self.written, new));
        let (size, frame) = (entry.size(), entry.frame().len() as u64);
        self.written += frame;
        self.held += size;
        self.all_size += size;
        self.all.push_back(entry.clone());
        if entry.is_critical {
            let offset = self.critical_written;
            self.critical_written += frame;
            self.critical_size += size;
            self.critical.push_back(Critical { entry: entry.clone(), offset });
        }
        let mut evicted = self.expire(now);
        self.trim(delivered_up_to, &mut evicted);
        (entry, evicted)
    }

    /// Evicts what there is no room for of what is older than `delivered_up_to`.
    pub(super) fn trim(&mut self, delivered_up_to: u64, evicted: &mut Evicted) {
        while self.all.len() > 1 && self.first() < delivered_up_to {
            let reason = if self.all.len() > self.max_messages {
                Trim::Messages
            } else if self.all_size > self.max_bytes {
                Trim::Bytes
            } else {
                break;
            };
            self.evict_oldest(reason, evicted);
        }
        loop {
            let reason = if self.critical.len() > self.max_messages {
                Trim::Messages
            } else if self.critical_size > self.max_bytes {
                Trim::Bytes
            } else {
                break;
            };
            if !self.evict_oldest_critical(reason, evicted) {
                break;
            }
        }
    }

    /// Whether half of what it may hold is enough for all messages from `delivered_up_to` on, as they stand there before they
    /// are compressed.
    pub(super) fn has_room(&self, delivered_up_to: u64) -> bool {
        let lag = self.lag(Cursor { next: delivered_up_to, all_from: delivered_up_to });
        let held = lag.messages.saturating_mul(Entry::OVERHEAD as u64).saturating_add(lag.bytes);
        lag.messages <= self.max_messages as u64 / 2 && held <= self.max_bytes as u64 / 2
    }

    /// Evicts what is too old.
    pub(super) fn expire(&mut self, now: Instant) -> Evicted {
        let mut evicted = Evicted::default();
        let open_for = now.saturating_duration_since(self.opened);
        let is_old =
            |entry: &Arc<Entry>| open_for.saturating_sub(entry.appended().since_opened()) > self.max_age;
        let old = self.all.iter().take(self.all.len().saturating_sub(1)).take_while(|e| is_old(e)).count();
        for _ in 0..old {
            self.evict_oldest(Trim::Age, &mut evicted);
        }
        evicted
    }

    /// Evicts the oldest messages older than `before` that are not critical, at least `excess` bytes of them if there
    /// are as many.
    pub(super) fn evict_before(&mut self, before: u64, oldest_needed: u64, excess: usize) -> Evicted {
        let mut evicted = Evicted::default();
        while evicted.bytes < excess && self.all.len() > 1 && self.first() < before {
            self.evict_oldest(reason_for(self.first(), oldest_needed), &mut evicted);
        }
        evicted
    }

    /// Evicts the oldest critical messages, at least `excess` bytes of them if there are as many, but none that the
    /// ring of all messages has.
    pub(super) fn evict_critical(&mut self, oldest_needed: u64, excess: usize) -> Evicted {
        let mut evicted = Evicted::default();
        while evicted.bytes < excess {
            let Some(oldest) = self.critical.front() else { break };
            let reason = reason_for(oldest.entry.sequence, oldest_needed);
            if !self.evict_oldest_critical(reason, &mut evicted) {
                break;
            }
        }
        evicted
    }

    /// Drops what is older than `below`, the newest message as well.
    pub(super) fn let_go(&mut self, below: u64) -> LetGo {
        let mut gone = LetGo::default();
        while self.first() < below && !self.all.is_empty() {
            if let Some(entry) = self.pop_oldest() {
                gone.count(&entry);
            }
        }
        while self.critical.front().is_some_and(|c| c.entry.sequence < below) {
            let Some(entry) = self.pop_oldest_critical() else { break };
            gone.count(&entry);
        }
        gone
    }

    fn evict_oldest(&mut self, reason: Trim, evicted: &mut Evicted) {
        if let Some(entry) = self.pop_oldest() {
            evicted.count(reason, &entry);
        }
    }

    /// Whether there was one that only this ring has.
    fn evict_oldest_critical(&mut self, reason: Trim, evicted: &mut Evicted) -> bool {
        let Some(entry) = self.pop_oldest_critical() else { return false };
        evicted.count(reason, &entry);
        true
    }

    /// Takes the oldest message out of the ring of all, and answers it if it is not kept any more: the other ring has those
    /// that are critical.
    fn pop_oldest(&mut self) -> Option<Arc<Entry>> {
        let entry = self.all.pop_front()?;
        shrink_if_sparse(&mut self.all);
        self.all_size -= entry.size();
        self.evicted_offset = entry.offset;
        if entry.is_critical {
            return None;
        }
        self.held -= entry.size();
        Some(entry)
    }

    /// Takes out the oldest critical message, if only that ring has it.
    fn pop_oldest_critical(&mut self) -> Option<Arc<Entry>> {
        let first = self.first();
        self.critical.front().filter(|c| c.entry.sequence < first)?;
        let Critical { entry, .. } = self.critical.pop_front()?;
        shrink_if_sparse(&mut self.critical);
        self.critical_size -= entry.size();
        self.held -= entry.size();
        Some(entry)
    }

    /// The oldest message from which on all are kept.
    pub(super) fn first(&self) -> u64 {
        self.head + 1 - self.all.len() as u64
    }

    /// Critical messages that are kept and older than that one: also the place of the first that is not.
    fn critical_before(&self, sequence: u64) -> usize {
        self.critical.partition_point(|c| c.entry.sequence < sequence)
    }

    /// The oldest critical message that is kept, if it is older than that one; else that one.
    fn oldest_critical_or(&self, sequence: u64) -> u64 {
        self.critical.front().map_or(sequence, |c| c.entry.sequence.min(sequence))
    }

    pub(super) fn join(&self, on_join: OnJoin) -> Cursor {
        let latest = self.head + 1;
        let all_from = match on_join {
            OnJoin::None => return Cursor { next: latest, all_from: latest },
            OnJoin::Critical => latest,
            OnJoin::All => self.first(),
            OnJoin::Last(n) => latest.saturating_sub(n).max(self.first()),
        };
        Cursor { next: self.oldest_critical_or(all_from), all_from }
    }

    /// As [`super::Log::after`].
    pub(super) fn after(&self, sequence: u64) -> Continuation {
        if sequence > self.head {
            return Continuation::Ahead;
        }
        let next = sequence + 1;
        if next < self.first() {
            Continuation::Missed
        } else {
            Continuation::At(Cursor { next, all_from: next })
        }
    }

    pub(super) fn skip_to_latest(&self, cursor: Cursor) -> Cursor {
        let latest = self.head + 1;
        let critical = self.critical.get(self.critical_before(cursor.next));
        Cursor { next: critical.map_or(latest, |c| c.entry.sequence), all_from: latest }
    }

    /// As [`super::Log::skipped`].
    pub(super) fn skipped(&self, from: Cursor, to: Cursor) -> u64 {
        let start = from.next.max(from.all_from);
        let messages = to.all_from.saturating_sub(start);
        let critical =
            self.critical_before(to.all_from).saturating_sub(self.critical_before(start.max(to.next)));
        messages.saturating_sub(critical as u64)
    }

    pub(super) fn lag(&self, cursor: Cursor) -> Lag {
        let start = cursor.next.max(cursor.all_from).min(self.head + 1);
        let from = self.critical_before(cursor.next);
        let to = self.critical_before(start);
        // Where a critical one begins, on the scale of critical ones.
        let critical_at = |place: usize| self.critical.get(place).map_or(self.critical_written, |c| c.offset);
        let below = to.saturating_sub(from) as u64;
        let below_bytes = critical_at(to.max(from)) - critical_at(from);
        Lag {
            messages: self.head + 1 - start + below,
            bytes: self.written - self.offset_of(start) + below_bytes,
        }
    }

    /// Where a message begins; for one that is gone, where the newest one that is gone began.
    fn offset_of(&self, sequence: u64) -> u64 {
        match sequence.checked_sub(self.first()) {
            Some(place) => self.all.get(place as usize).map_or(self.written, |entry| entry.offset),
            None => self.evicted_offset,
        }
    }

    pub(super) fn read(
        &self,
        cursor: Cursor,
        until: u64,
        most: usize,
        bytes: usize,
        into: &mut Vec<Arc<Entry>>,
    ) -> Progress {
        let end = until.min(self.head).saturating_add(1);
        let mut next = cursor.next.max(1);
        let start = next.max(cursor.all_from);
        let mut taken = Taken { messages: 0, bytes: 0, most, limit: bytes };
        // Below this only critical messages are kept for this cursor: it wants no others, or they are gone.
        let whole_from = cursor.all_from.max(self.first());
        let sparse_end = whole_from.min(end);
        let mut critical_missed = 0;
        if next < sparse_end {
            let mut place = self.critical_before(next);
            next = loop {
                match self.critical.get(place).map(|c| &c.entry) {
                    Some(entry) if entry.sequence < sparse_end => {
                        if !taken.has_room_for(entry) {
                            // All before it is dealt with.
                            break entry.sequence;
                        }
                        critical_missed += u64::from(entry.sequence >= start);
                        into.push(entry.clone());
                        place += 1;
                    }
                    _ => break sparse_end,
                }
            };
        }
        let missed = next.saturating_sub(start).saturating_sub(critical_missed);
        if next >= whole_from && next < end {
            let place = (next - self.first()) as usize;
            for entry in self.all.range(place..).take((end - next) as usize) {
                if !taken.has_room_for(entry) {
                    break;
                }
                into.push(entry.clone());
                next += 1;
            }
        }
        Progress {
            cursor: Cursor { next, all_from: cursor.all_from.max(next) },
            missed,
            // The loops stop before `end` only in front of a message that there was no room for.
            has_more: next < end,
        }
    }
}

/// How much of a read is used up.
struct Taken {
    messages: usize,
    bytes: usize,
    most: usize,
    limit: usize,
}

impl Taken {
    /// Counts the entry if there is room for it; for the first one there always is.
    fn has_room_for(&mut self, entry: &Entry) -> bool {
        let bytes = self.bytes.saturating_add(entry.frame().len());
        if self.messages > 0 && (self.messages >= self.most || bytes > self.limit) {
            return false;
        }
        self.messages += 1;
        self.bytes = bytes;
        true
    }
}

/// Shrinks a ring that was long once: spare room is not counted beyond two places for each entry. Fewer entries are moved
/// than were evicted since the last time.
pub(super) fn shrink_if_sparse<T>(ring: &mut VecDeque<T>) {
    if ring.capacity() > 64 && ring.len() < ring.capacity() / 4 {
        ring.shrink_to(ring.len() * 2);
    }
}

/// Why a message is evicted for the bound of the process: every reader has read it, or the slowest one has not.
fn reason_for(sequence: u64, oldest_needed: u64) -> Trim {
    if sequence < oldest_needed { Trim::Memory } else { Trim::Laggard }
}
