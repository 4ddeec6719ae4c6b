//! A log in memory: two rings behind one lock, the newest messages and the critical ones.
//!
//! This is the head of every log: who writes waits for nothing but this lock. Logs on disk or in Redis are to follow
//! it as any client does, each with a [`Reader`] of its own.
//!
//! # Invariants
//! 1. No other lock is taken while the rings are locked, and none of two logs at once.
//! 2. Readers are woken when the rings are unlocked again and the head has moved: whoever registers its waker first
//!    and then reads misses nothing.
//! 3. What the rings hold is in the budget and in the gauges, until the log is dropped: whoever still has it can
//!    read it after its writer is gone.
//! 4. Its bounds on messages and bytes let nothing go that a reader has not had its turn with ([`Reader::passed`]):
//!    nobody who keeps up misses anything of a burst. It is the writer that waits ([`Writer::poll_room`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::rings::{Freed, Rings};
use super::{Cursor, Entry, Lag, Logs, NewEntry, Progress};
use crate::config::{History, OnJoin};

/// Whoever adds to a log. There is one.
#[derive(Debug)]
pub struct Writer {
    log: Arc<Log>,
}

/// One log.
#[derive(Debug)]
pub struct Log {
    epoch: u64,
    logs: Arc<Logs>,
    /// That of the rings, for those who want no more.
    head: AtomicU64,
    rings: Mutex<Rings>,
    readers: Mutex<Vec<Arc<ReaderSlot>>>,
    /// The least of the readers' `passed`. Written under their lock.
    passed: AtomicU64,
    /// The writer, when it waits for room.
    waiting: Mutex<Option<Waker>>,
}

/// A place from which readers read: it wakes its task when there is more, and says how far they are.
#[derive(Debug)]
pub struct Reader {
    log: Arc<Log>,
    seat: Arc<ReaderSlot>,
}

#[derive(Debug)]
struct ReaderSlot {
    at: AtomicU64,
    passed: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

impl Log {
    /// An empty log of a new epoch.
    #[expect(clippy::new_ret_no_self, reason = "whoever makes a log is the one who writes it")]
    pub fn new(history: &History, logs: &Arc<Logs>) -> Writer {
        let log = Arc::new(Self {
            epoch: fastrand::u64(..),
            logs: logs.clone(),
            head: AtomicU64::new(0),
            rings: Mutex::new(Rings::new(history)),
            readers: Mutex::new(Vec::new()),
            passed: AtomicU64::new(u64::MAX),
            waiting: Mutex::new(None),
        });
        logs.add(&log);
        Writer { log }
    }

    /// Random; another epoch, other numbers.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The newest sequence number; 0: there is none. Takes no lock.
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Where one begins who joins now.
    pub fn join(&self, on_join: OnJoin) -> Cursor {
        self.rings().join(on_join)
    }

    /// Where one goes on who is to begin with the next message, and still wants the critical ones since `cursor`.
    /// What it leaves out is no [`Progress::missed`] later: [`Log::skipped`] tells.
    pub fn skip_to_latest(&self, cursor: Cursor) -> Cursor {
        self.rings().skip_to_latest(cursor)
    }

    /// Messages that `from` was to read, or had missed already, and that one never gets who goes on at `to`
    /// instead. Critical messages that are still kept are none of them.
    pub fn skipped(&self, from: Cursor, to: Cursor) -> u64 {
        self.rings().skipped(from, to)
    }

    /// Reads up to `most` messages and about `bytes` bytes of frames from `cursor` on (one message at least), none
    /// newer than `until`.
    pub fn read(
        &self,
        cursor: Cursor,
        until: u64,
        most: usize,
        bytes: usize,
        into: &mut Vec<Arc<Entry>>,
    ) -> Progress {
        self.rings().read(cursor, until, most, bytes, into)
    }

    /// How far `cursor` is behind the newest message. Messages that are gone count as messages; of their bytes it
    /// is only known that there are at least those of the newest one.
    pub fn behind(&self, cursor: Cursor) -> Lag {
        self.rings().behind(cursor)
    }

    /// A place to read from. It holds nothing back until it says where it is ([`Reader::at`], [`Reader::passed`]).
    pub fn reader(self: &Arc<Self>) -> Reader {
        let nowhere = || AtomicU64::new(u64::MAX);
        let seat = Arc::new(ReaderSlot { at: nowhere(), passed: nowhere(), waker: Mutex::new(None) });
        self.readers.lock().push(seat.clone());
        Reader { log: self.clone(), seat }
    }

    /// Lets go what is too old.
    pub(super) fn expire(&self, now: Instant) {
        let freed = self.rings().expire(now);
        self.give_back(&freed);
    }

    /// How early it is asked for that: by all it holds, by how far its slowest reader is behind, by what it holds
    /// of critical messages.
    pub(super) fn weight(&self, what: Forget) -> u64 {
        let slowest = self.slowest();
        let rings = self.rings();
        match what {
            Forget::Read => rings.held() as u64,
            Forget::Unread => rings.behind(Cursor { next: slowest, all_from: slowest }).bytes,
            Forget::Critical => rings.critical_held() as u64,
        }
    }

    /// Makes room for `excess` bytes, if it can, of what `what` allows. Answers how much it made.
    pub(super) fn forget(&self, what: Forget, excess: usize) -> usize {
        let slowest = self.slowest();
        let freed = {
            let mut rings = self.rings();
            match what {
                Forget::Read => rings.forget_before(slowest, slowest, excess),
                Forget::Unread => rings.forget_before(u64::MAX, slowest, excess),
                Forget::Critical => rings.forget_critical(slowest, excess),
            }
        };
        self.give_back(&freed);
        freed.bytes
    }

    /// The oldest message that a reader is still to read; without a reader there is none.
    fn slowest(&self) -> u64 {
        let readers = self.readers.lock();
        readers.iter().map(|seat| seat.at.load(Ordering::Relaxed)).min().unwrap_or(u64::MAX)
    }

    /// A reader has moved, or gone.
    fn on_passed(&self) {
        let passed = {
            let readers = self.readers.lock();
            let least = readers.iter().map(|seat| seat.passed.load(Ordering::Relaxed)).min();
            let passed = least.unwrap_or(u64::MAX);
            self.passed.store(passed, Ordering::Release);
            passed
        };
        let mut freed = Freed::default();
        self.rings().trim(passed, &mut freed);
        self.give_back(&freed);
        let waiting = self.waiting.lock().take();
        if let Some(writer) = waiting {
            writer.wake();
        }
    }

    fn give_back(&self, freed: &Freed) {
        let metrics = self.logs.metrics();
        let mut messages = 0;
        for (reason, n) in freed.messages() {
            metrics.on_trimmed(reason, n);
            messages += n;
        }
        self.release(messages, freed.bytes);
    }

    fn release(&self, messages: u64, bytes: usize) {
        if messages == 0 {
            return;
        }
        self.logs.budget().sub(bytes);
        self.logs.metrics().history_messages.sub(messages as i64);
        self.logs.metrics().history_bytes.sub(bytes as i64);
    }

    fn rings(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let rings = self.rings.get_mut();
        let (messages, bytes) = (rings.len() as u64, rings.held());
        self.release(messages, bytes);
    }
}

/// What the bound of the process takes from a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forget {
    /// What every reader has read; not critical messages.
    Read,
    /// All but the newest message and critical ones.
    Unread,
    /// Critical messages, but not the newest message.
    Critical,
}

impl Writer {
    /// What it writes.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Adds a message and answers its sequence number. The readers hear of it with [`Writer::wake`].
    pub fn append(&mut self, draft: NewEntry) -> u64 {
        let log = &*self.log;
        let (metrics, budget) = (log.logs.metrics(), log.logs.budget());
        let now = Instant::now();
        let passed = log.passed.load(Ordering::Acquire);
        let (sequence, freed, is_over) = {
            let mut rings = log.rings();
            let (entry, freed) = rings.append(draft, passed, now);
            // Before anybody else can let it go and give it back.
            let size = entry.size();
            let is_over = budget.add(size);
            metrics.history_messages.inc();
            metrics.history_bytes.add(size as i64);
            log.head.store(entry.sequence, Ordering::Release);
            (entry.sequence, freed, is_over)
        };
        log.give_back(&freed);
        // It may have made the room that it needs itself.
        if is_over && budget.is_over() {
            log.logs.relieve();
        }
        sequence
    }

    /// Ready when at most half of what the log may hold has still to be passed by a reader. Whoever can make others
    /// wait asks before it takes more from them: what is not passed stays, beyond all bounds but that of the process.
    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        *self.log.waiting.lock() = Some(cx.waker().clone());
        // A reader may have moved before it could see that.
        if self.has_room() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn has_room(&self) -> bool {
        let passed = self.log.passed.load(Ordering::Acquire);
        passed > self.log.head() || self.log.rings().has_room(passed)
    }

    /// Wakes the readers: once for all messages that came together, so that these leave together.
    pub fn wake(&self) {
        for seat in self.log.readers.lock().iter() {
            if let Some(waker) = &*seat.waker.lock() {
                waker.wake_by_ref();
            }
        }
    }
}

impl Reader {
    /// The log.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Has `waker` woken by each [`Writer::wake`] from now on.
    pub fn wake_with(&self, waker: &Waker) {
        let mut held = self.seat.waker.lock();
        if held.as_ref().is_some_and(|held| held.will_wake(waker)) {
            return;
        }
        let old = held.replace(waker.clone());
        drop(held);
        // The last waker of a task may take the task with it, and that this reader's lock.
        drop(old);
    }

    /// None of its clients reads what is older than `next` any more: the least of their [`Cursor::all_from`], as
    /// critical messages are kept apart (the least [`Cursor::next`] holds more than it needs to); `u64::MAX`
    /// without clients.
    pub fn at(&self, next: u64) {
        self.seat.at.store(next, Ordering::Relaxed);
    }

    /// Each of its clients that takes what it is sent has had everything older than `next`. Others may not wait for
    /// it for long: the writer does.
    pub fn passed(&self, next: u64) {
        self.seat.passed.store(next, Ordering::Relaxed);
        self.log.on_passed();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.log.readers.lock().retain(|seat| !Arc::ptr_eq(seat, &self.seat));
        self.log.on_passed();
    }
}
