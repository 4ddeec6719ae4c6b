//! What all sessions of the process share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;

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
    /// Tasks that have not ended.
    running: AtomicUsize,
    /// Notified when all are to end at once.
    pub(super) cut: Arc<Notify>,
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
            running: AtomicUsize::new(0),
            cut: Arc::default(),
        })
    }

    /// The most messages that wait in one session.
    pub(super) fn longest_queue(&self) -> usize {
        self.queues.lock().iter().map(|(_, messages)| messages.load(Relaxed)).max().unwrap_or_default()
    }

    /// Tasks that have not ended.
    pub(super) fn running(&self) -> usize {
        self.running.load(Relaxed)
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

/// Counts a session's task until it has ended.
pub(super) struct Running(Arc<Shared>);

impl Running {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.running.fetch_add(1, Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}
