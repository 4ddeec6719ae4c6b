//! A log in memory: two rings behind one lock, the newest messages and the critical ones.
//!
//! This is the head of every log: its writer waits for nothing but this lock. Logs on disk or in Redis are to follow
//! it as any client does, each with a [`Reader`] of its own.
//!
//! # Invariants
//! 1. No other lock is taken while the rings are locked, and none of two logs at once.
//! 2. Readers are woken when the rings are unlocked again and the head has moved: whoever registers its waker first
//!    and then reads misses nothing.
//! 3. What the rings hold is in the budget and in the gauges until the log is dropped: it can still be read after its
//!    writer is gone.
//! 4. Its bounds on messages and bytes evict nothing that is not delivered yet ([`Reader::set_delivered`]):
//!    a client that keeps up misses nothing of a burst. It is the writer that waits ([`Writer::poll_room`]).
//! 5. A private log has no bounds of its own but the process's: what it keeps is what its owner has not let go of
//!    ([`Writer::let_go`]). While it keeps nothing it has no rings.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::logs::{Evict, Evictable, Logs};
use super::readers::{ReaderSlot, Readers};
use super::rings::{Evicted, Rings};
use super::waiters::{Appended, Waiters};
use super::{Continuation, Cursor, Entry, Lag, NewEntry, Progress};
use crate::config::{History, OnJoin};

/// The writer of a log. There is one.
#[derive(Debug)]
pub struct Writer {
    log: Arc<Log>,
}

/// One log.
#[derive(Debug)]
pub struct Log {
    epoch: u64,
    logs: Arc<Logs>,
    /// The head of the rings, to be read without the lock.
    head: AtomicU64,
    /// `None`: a private log that keeps nothing. There are ten thousand of those, and most of them have nothing to keep.
    rings: Mutex<Option<Box<Rings>>>,
    /// Made for the first one.
    readers: OnceLock<Box<Readers>>,
    is_private: bool,
}

/// A place from which readers read: it wakes its task when there is more, and says how far they are.
#[derive(Debug)]
pub struct Reader {
    log: Arc<Log>,
    slot: Arc<ReaderSlot>,
}

impl Log {
    /// An empty log of a new epoch.
    #[expect(clippy::new_ret_no_self, reason = "a log is made with its writer")]
    pub fn new(history: &History, logs: &Arc<Logs>) -> Writer {
        let rings = Rings::new(history, Instant::now());
        Self::open(Some(Box::new(rings)), false, logs)
    }

    /// An empty private log of a new epoch: its owner keeps the writer and reads it at a cursor, without a [`Reader`]. It
    /// keeps each message until its owner lets go of it ([`Writer::let_go`]), or until the process holds too much: then a
    /// read tells what was [missed](Progress::missed).
    pub fn private(logs: &Arc<Logs>) -> Writer {
        Self::open(None, true, logs)
    }

    fn open(rings: Option<Box<Rings>>, is_private: bool, logs: &Arc<Logs>) -> Writer {
        let log = Arc::new(Self {
            epoch: fastrand::u64(..),
            logs: logs.clone(),
            head: AtomicU64::new(0),
            rings: Mutex::new(rings),
            readers: OnceLock::new(),
            is_private,
        });
        let weak: Weak<Self> = Arc::downgrade(&log);
        logs.add(weak);
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

    /// The oldest number from which on every message is kept; one above the newest, if none is.
    pub fn first(&self) -> u64 {
        self.with_rings(Rings::first)
    }

    /// Where a reader begins that joins now.
    pub fn join(&self, on_join: OnJoin) -> Cursor {
        self.with_rings(|rings| rings.join(on_join))
    }

    /// Where a reader goes on that has had the messages up to `sequence`.
    pub fn after(&self, sequence: u64) -> Continuation {
        self.with_rings(|rings| rings.after(sequence))
    }

    /// Where a reader at `cursor` goes on that skips everything up to the next message but the critical ones. What it skips
    /// does not count as [`Progress::missed`] later, but as [`Log::skipped`].
    pub fn skip_to_latest(&self, cursor: Cursor) -> Cursor {
        self.with_rings(|rings| rings.skip_to_latest(cursor))
    }

    /// How many messages a reader at `from` was to read, or had missed already, and never gets if it goes on at `to`
    /// instead. Critical messages that are still kept do not count.
    pub fn skipped(&self, from: Cursor, to: Cursor) -> u64 {
        self.with_rings(|rings| rings.skipped(from, to))
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
        self.with_rings(|rings| rings.read(cursor, until, most, bytes, into))
    }

    /// How far `cursor` is behind the newest message. Messages that are gone count as messages; of their bytes it
    /// is only known that there are at least those of the newest one.
    pub fn lag(&self, cursor: Cursor) -> Lag {
        self.with_rings(|rings| rings.lag(cursor))
    }

    /// Ready as soon as there is a message that is newer than `after`. It keeps nothing from being evicted.
    pub(crate) fn appended(&self, after: u64) -> Appended<'_> {
        Appended::new(&self.head, self.waiters(), after)
    }

    pub(super) fn waiters(&self) -> &Waiters {
        self.readers().waiters()
    }

    /// A new reader. It keeps nothing from being evicted until its place is set ([`Reader::set_oldest_needed`],
    /// [`Reader::set_delivered`]).
    pub fn reader(self: &Arc<Self>) -> Reader {
        Reader { log: self.clone(), slot: self.readers().add() }
    }

    /// The oldest message that is still to be read: of a private log all that it keeps.
    fn oldest_needed(&self) -> u64 {
        if self.is_private {
            return 0;
        }
        self.readers.get().map_or(u64::MAX, |readers| readers.oldest_needed())
    }

    #[cfg(test)]
    pub(super) fn has_rings(&self) -> bool {
        self.rings().is_some()
    }

    fn delivered_up_to(&self) -> u64 {
        self.readers.get().map_or(u64::MAX, |readers| readers.delivered_up_to())
    }

    /// A reader has moved, or gone.
    fn on_delivered(&self) {
        let readers = self.readers();
        let delivered = readers.update_delivered();
        let mut evicted = Evicted::default();
        if let Some(rings) = &mut *self.rings() {
            rings.trim(delivered, &mut evicted);
        }
        self.on_evicted(&evicted);
        readers.wake_writer();
    }

    fn on_evicted(&self, evicted: &Evicted) {
        let metrics = self.logs.metrics();
        let mut messages = 0;
        for (reason, n) in evicted.messages() {
            metrics.log.trimmed.inc_by(reason, n);
            messages += n;
        }
        self.release(messages, evicted.bytes);
    }

    fn release(&self, messages: u64, bytes: usize) {
        if messages == 0 {
            return;
        }
        self.logs.budget().sub(bytes);
        self.logs.metrics().log.messages.sub(messages as i64);
        self.logs.metrics().log.bytes.sub(bytes as i64);
    }

    fn rings(&self) -> MutexGuard<'_, Option<Box<Rings>>> {
        self.rings.lock()
    }

    fn with_rings<T>(&self, ask: impl FnOnce(&Rings) -> T) -> T {
        match &*self.rings() {
            Some(rings) => ask(rings),
            None => ask(&Rings::private(self.head(), Instant::now())),
        }
    }

    fn readers(&self) -> &Readers {
        self.readers.get_or_init(|| Box::new(Readers::new()))
    }
}

impl Evictable for Log {
    fn expire(&self, now: Instant) {
        let evicted = {
            let mut rings = self.rings();
            if self.is_private {
                // Not when its last message goes: the next one may follow at once.
                rings.take_if(|rings| rings.is_empty());
                return;
            }
            rings.as_mut().map(|rings| rings.expire(now)).unwrap_or_default()
        };
        self.on_evicted(&evicted);
    }

    fn weight(&self, what: Evict) -> Option<u64> {
        if self.is_private && what == Evict::Read {
            return None;
        }
        let oldest_needed = self.oldest_needed();
        let rings = self.rings();
        let rings = rings.as_ref().filter(|rings| !rings.is_empty())?;
        Some(match what {
            Evict::Read => rings.held() as u64,
            Evict::Unread if self.is_private => rings.held() as u64,
            Evict::Unread => rings.lag(Cursor { next: oldest_needed, all_from: oldest_needed }).bytes,
            Evict::Critical => rings.critical_held() as u64,
        })
    }

    fn evict(&self, what: Evict, excess: usize) -> usize {
        let oldest_needed = self.oldest_needed();
        let evicted = {
            let mut rings = self.rings();
            let Some(rings) = &mut *rings else { return 0 };
            match what {
                Evict::Read => rings.evict_before(oldest_needed, oldest_needed, excess),
                Evict::Unread => rings.evict_before(u64::MAX, oldest_needed, excess),
                Evict::Critical => rings.evict_critical(oldest_needed, excess),
            }
        };
        self.on_evicted(&evicted);
        evicted.bytes
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(rings) = self.rings.get_mut() {
            let (messages, bytes) = (rings.len() as u64, rings.held());
            self.release(messages, bytes);
        }
    }
}

impl Writer {
    /// What it writes.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Adds a message and answers its sequence number. The readers hear of it with [`Writer::wake`].
    pub fn append(&mut self, entry: NewEntry) -> u64 {
        let log = &*self.log;
        let (metrics, budget) = (log.logs.metrics(), log.logs.budget());
        let now = Instant::now();
        let delivered = log.delivered_up_to();
        let (sequence, evicted, is_over) = {
            let mut rings = log.rings();
            let rings = rings.get_or_insert_with(|| Box::new(Rings::private(log.head(), now)));
            let (entry, evicted) = rings.append(entry, delivered, now, SystemTime::now());
            // Under the lock, so that it is not evicted, and its bytes released, before they are added.
            let size = entry.size();
            let is_over = budget.add(size);
            metrics.log.messages.inc();
            metrics.log.bytes.add(size as i64);
            log.head.store(entry.sequence, Ordering::Release);
            (entry.sequence, evicted, is_over)
        };
        log.on_evicted(&evicted);
        // The append may have evicted as much as it added.
        if is_over && budget.is_over() {
            log.logs.enforce_budget();
        }
        sequence
    }

    /// Messages of a private log that are older than `below` are not kept any more, whoever has not read them. They do not
    /// count as trimmed: their owner is done with them.
    pub fn let_go(&mut self, below: u64) {
        let log = &*self.log;
        debug_assert!(log.is_private, "what others read is not let go of");
        let gone = match &mut *log.rings() {
            Some(rings) => rings.let_go(below),
            None => return,
        };
        log.release(gone.messages, gone.bytes);
    }

    /// Ready when at most half of what the log may hold has still to be delivered by a reader. To be polled before more is
    /// read from a server: what is not delivered stays, beyond all bounds but that of the process.
    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        self.log.readers().wait(cx.waker());
        // A reader may have moved before it could see that.
        if self.has_room() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn has_room(&self) -> bool {
        let delivered = self.log.delivered_up_to();
        delivered > self.log.head() || self.log.with_rings(|rings| rings.has_room(delivered))
    }

    /// Wakes the readers: once for all messages that came together, so that these leave together.
    pub fn wake(&self) {
        if let Some(readers) = self.log.readers.get() {
            readers.wake();
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
        self.slot.wake_with(waker);
    }

    /// None of its clients reads what is older than `next` any more: the least of their [`Cursor::all_from`], as
    /// critical messages are kept apart (the least [`Cursor::next`] holds more than it needs to); `u64::MAX`
    /// without clients.
    pub fn set_oldest_needed(&self, next: u64) {
        self.slot.set_oldest_needed(next);
    }

    /// Everything older than `next` was delivered to each of its clients that takes what it is sent. The writer waits for
    /// this: it has to follow soon after a wake-up.
    pub fn set_delivered(&self, next: u64) {
        self.slot.set_delivered(next);
        self.log.on_delivered();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.log.readers().remove(&self.slot);
        self.log.on_delivered();
    }
}
