//! What all sessions of the process share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use slab::Slab;
use tokio::task::AbortHandle;

use super::registry::Registry;
use crate::log::Logs;
use crate::memory::Budget;
use crate::telemetry::{Metrics, WarnThrottle};

/// The time between two lines of one kind about the servers of a route's sessions.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) logs: Arc<Logs>,
    pub(super) budget: Arc<Budget>,
    pub(super) metrics: Arc<Metrics>,
    /// Those that can be resumed.
    pub(super) registry: Arc<Registry>,
    /// Throttles lines about servers, by route: all sessions lose a server at once.
    pub(super) lines: WarnThrottle<(Box<str>, &'static str)>,
    /// What waits in sessions whose server is away.
    queues: Mutex<Slab<Arc<AtomicUsize>>>,
    running: Mutex<RunningTasks>,
}

impl Shared {
    pub(super) fn new(logs: Arc<Logs>, budget: Arc<Budget>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            logs,
            budget,
            metrics,
            registry: Registry::new(),
            lines: WarnThrottle::every(LINE_INTERVAL),
            queues: Mutex::default(),
            running: Mutex::default(),
        })
    }

    /// The most messages that wait in one session.
    pub(super) fn longest_queue(&self) -> usize {
        self.queues.lock().iter().map(|(_, messages)| messages.load(Relaxed)).max().unwrap_or_default()
    }

    /// Tasks that have not ended.
    pub(super) fn running(&self) -> usize {
        self.running.lock().tasks.len()
    }

    /// Ends all tasks at once.
    pub(super) fn cut(&self) {
        self.running.lock().tasks.values().flatten().for_each(AbortHandle::abort);
    }
}

/// What waits in one session whose server is away, for whoever asks for the longest such queue.
#[derive(Debug)]
pub(super) struct QueueLength {
    shared: Arc<Shared>,
    index: usize,
    messages: Arc<AtomicUsize>,
}

impl QueueLength {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let messages = Arc::new(AtomicUsize::new(0));
        let index = shared.queues.lock().insert(Arc::clone(&messages));
        Self { shared: Arc::clone(shared), index, messages }
    }

    pub(super) fn set(&self, messages: usize) {
        self.messages.store(messages, Relaxed);
    }
}

impl Drop for QueueLength {
    fn drop(&mut self) {
        let mut queues = self.shared.queues.lock();
        queues.remove(self.index);
        // An outage of many sessions leaves no room behind.
        if queues.is_empty() {
            queues.shrink_to_fit();
        }
    }
}

/// The tasks that have not ended, each with what ends it at once. That stands here and not in the tasks: each of them would
/// have to ask with each message whether all are to end.
#[derive(Debug, Default)]
struct RunningTasks {
    next: u64,
    /// By a number that is never used again. `None`: it is about to be spawned.
    tasks: HashMap<u64, Option<AbortHandle>>,
}

/// Counts a session's task until it is dropped.
pub(super) struct Running {
    shared: Arc<Shared>,
    number: u64,
}

impl Running {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let mut running = shared.running.lock();
        let number = running.next;
        running.next += 1;
        running.tasks.insert(number, None);
        Self { shared: Arc::clone(shared), number }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Shared {
    /// The task with this number can be ended by `abort`, unless it has ended already.
    pub(super) fn on_spawned(&self, number: u64, abort: AbortHandle) {
        if let Some(task) = self.running.lock().tasks.get_mut(&number) {
            *task = Some(abort);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.shared.running.lock();
        running.tasks.remove(&self.number);
        // A crowd of sessions leaves no room behind.
        if running.tasks.is_empty() {
            running.tasks.shrink_to_fit();
        }
    }
}
