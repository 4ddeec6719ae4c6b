//! Who reads one log: their wakers, how far they are, and the writer that waits for them.
//!
//! # Invariants
//! 1. The least place up to which all has been delivered is known without a lock: the writer asks it for each message.
//! 2. Nobody is woken while the list is locked but through wakers of the readers' own tasks, which take no lock of a log.
//!
//! # Not here
//! What a reader reads ([`super::rings`]); what is evicted when one has moved ([`super::memory`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use super::waiters::Waiters;

/// The readers of one log.
#[derive(Debug)]
pub(super) struct Readers {
    slots: Mutex<Vec<Arc<ReaderSlot>>>,
    /// The least of the readers' `delivered_up_to`. Written under their lock.
    delivered_up_to: AtomicU64,
    /// The writer, when it waits for room.
    writer: Mutex<Option<Waker>>,
    /// Those who wait for the next message alone.
    waiters: Waiters,
}

/// One reader's place.
#[derive(Debug)]
pub(super) struct ReaderSlot {
    oldest_needed: AtomicU64,
    delivered_up_to: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

impl Readers {
    pub(super) fn new() -> Self {
        Self {
            slots: Mutex::new(Vec::new()),
            delivered_up_to: AtomicU64::new(u64::MAX),
            writer: Mutex::new(None),
            waiters: Waiters::default(),
        }
    }

    /// A new one, which is nowhere yet.
    pub(super) fn add(&self) -> Arc<ReaderSlot> {
        let nowhere = || AtomicU64::new(u64::MAX);
        let slot = Arc::new(ReaderSlot {
            oldest_needed: nowhere(),
            delivered_up_to: nowhere(),
            waker: Mutex::new(None),
        });
        self.slots.lock().push(Arc::clone(&slot));
        slot
    }

    pub(super) fn remove(&self, slot: &Arc<ReaderSlot>) {
        self.slots.lock().retain(|known| !Arc::ptr_eq(known, slot));
    }

    /// The oldest message that one of them is still to read; without a reader there is none.
    pub(super) fn oldest_needed(&self) -> u64 {
        let slots = self.slots.lock();
        slots.iter().map(|slot| slot.oldest_needed.load(Ordering::Relaxed)).min().unwrap_or(u64::MAX)
    }

    /// Everything older than this was delivered by each of them.
    pub(super) fn delivered_up_to(&self) -> u64 {
        self.delivered_up_to.load(Ordering::Acquire)
    }

    /// Works that out anew, since one has moved, or gone.
    pub(super) fn update_delivered(&self) -> u64 {
        let slots = self.slots.lock();
        let least = slots.iter().map(|slot| slot.delivered_up_to.load(Ordering::Relaxed)).min();
        let delivered = least.unwrap_or(u64::MAX);
        self.delivered_up_to.store(delivered, Ordering::Release);
        delivered
    }

    /// Those who wait for the next message alone.
    pub(super) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// Wakes each of them once, and those who wait.
    pub(super) fn wake(&self) {
        for slot in self.slots.lock().iter() {
            if let Some(waker) = &*slot.waker.lock() {
                waker.wake_by_ref();
            }
        }
        self.waiters.wake();
    }

    /// The writer waits for room.
    pub(super) fn wait(&self, writer: &Waker) {
        *self.writer.lock() = Some(writer.clone());
    }

    /// There may be room.
    pub(super) fn wake_writer(&self) {
        let waiting = self.writer.lock().take();
        if let Some(writer) = waiting {
            writer.wake();
        }
    }
}

impl ReaderSlot {
    pub(super) fn set_oldest_needed(&self, next: u64) {
        self.oldest_needed.store(next, Ordering::Relaxed);
    }

    pub(super) fn set_delivered(&self, next: u64) {
        self.delivered_up_to.store(next, Ordering::Relaxed);
    }

    pub(super) fn wake_with(&self, waker: &Waker) {
        let mut held = self.waker.lock();
        if held.as_ref().is_some_and(|held| held.will_wake(waker)) {
            return;
        }
        let old = held.replace(waker.clone());
        drop(held);
        // To drop the last waker of a task may drop the task, which takes the lock of this reader.
        drop(old);
    }
}
