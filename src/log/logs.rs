//! All logs under one bound (`memory.max_buffered`).
//!
//! # Invariants
//! 1. Never two locks of logs at once, and none while the list of logs is locked: logs may be appended to, and
//!    dropped, while room is made.
//! 2. Making room is worth it: a sixteenth of the bound at a time, and where there is nothing left to evict, it is not
//!    tried again for every message.

use std::cmp::Reverse;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::memory::Budget;
use crate::telemetry::Metrics;

/// The part of the bound that is made free beyond what is needed, so that the next message need not evict again; and by
/// which use has to change before an eviction that was futile is tried again.
const SLACK: usize = 16;

/// What may be evicted from a log when the process holds too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evict {
    /// What every reader has read, but not critical messages.
    Read,
    /// All but the newest message and critical ones.
    Unread,
    /// Critical messages, but not the newest message.
    Critical,
}

/// A log as its siblings under one bound see it.
pub(super) trait Evictable: Send + Sync {
    /// The log of which this is the most is asked first: all that it holds, how far its slowest reader is behind, or
    /// what it holds of critical messages. `None`: it has nothing of that kind, and is not asked.
    fn weight(&self, what: Evict) -> Option<u64>;
    /// Makes room for `excess` bytes if it can, of what `what` allows. Answers how much room it made.
    fn evict(&self, what: Evict, excess: usize) -> usize;
    /// Evicts what is too old.
    fn expire(&self, now: Instant);
}

/// Every log of the process.
pub struct Logs {
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
    logs: Mutex<List>,
    /// Locked while room is made; what was in use after the last eviction that did not suffice.
    last_futile_eviction: Mutex<Option<usize>>,
}

struct List {
    logs: Vec<Weak<dyn Evictable>>,
    /// The length at which logs that are gone are removed.
    sweep_at: usize,
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl Logs {
    /// No logs yet. What they hold is taken from `budget`, which is shared with other users.
    pub fn new(budget: Arc<Budget>, metrics: Arc<Metrics>) -> Arc<Self> {
        let list = List { logs: Vec::new(), sweep_at: 16 };
        Arc::new(Self { budget, metrics, logs: Mutex::new(list), last_futile_eviction: Mutex::new(None) })
    }

    /// Evicts messages if the budget is exceeded, in this order: those that are not critical and that no reader is
    /// to read any more, from the longest log first; then the oldest messages of the log whose readers are furthest
    /// behind; critical ones last of all. The newest message of each log stays.
    ///
    /// Does nothing while another thread does it, and while it would be futile: others use the same budget.
    pub fn enforce_budget(&self) {
        if !self.budget.is_over() {
            return;
        }
        let Some(mut last_futile_eviction) = self.last_futile_eviction.try_lock() else { return };
        let slack = self.budget.limit() / SLACK;
        if last_futile_eviction.is_some_and(|used| self.budget.used().abs_diff(used) < slack) {
            return;
        }
        let logs = self.all();
        for what in [Evict::Read, Evict::Unread, Evict::Critical] {
            if self.evict(&logs, what, slack) {
                *last_futile_eviction = None;
                return;
            }
        }
        *last_futile_eviction = Some(self.budget.used());
    }

    /// Evicts what is older than `history.age` from every log, and has private ones that keep nothing give back their rings.
    /// To be called now and then.
    pub fn expire(&self) {
        let now = Instant::now();
        for log in self.all() {
            log.expire(now);
        }
    }

    /// Evicts from one log after the other, from the one with the most of it first, until there is room. Answers
    /// whether there is.
    fn evict(&self, logs: &[Arc<dyn Evictable>], what: Evict, slack: usize) -> bool {
        let mut holders: Vec<_> = logs.iter().filter_map(|log| Some((log.weight(what)?, log))).collect();
        holders.sort_by_key(|(weight, _)| Reverse(*weight));
        for (_, log) in holders {
            let excess = self.excess(slack);
            if excess == 0 {
                return true;
            }
            log.evict(what, excess);
        }
        self.excess(slack) == 0
    }

    fn excess(&self, slack: usize) -> usize {
        self.budget.used().saturating_sub(self.budget.limit().saturating_sub(slack))
    }

    fn all(&self) -> Vec<Arc<dyn Evictable>> {
        self.list().logs.iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn add(&self, log: Weak<dyn Evictable>) {
        let mut list = self.list();
        if list.logs.len() >= list.sweep_at {
            list.logs.retain(|log| log.strong_count() > 0);
            list.sweep_at = list.logs.len().max(8) * 2;
        }
        list.logs.push(log);
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.list().logs.len()
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.logs.lock()
    }
}
