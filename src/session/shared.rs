//! What all sessions of the process share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

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
            running: AtomicUsize::new(0),
            cut: Arc::default(),
        })
    }

    /// Tasks that have not ended.
    pub(super) fn running(&self) -> usize {
        self.running.load(Relaxed)
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
