//! All sessions of the process: what they share, and when a drain may end.
//!
//! # Not here
//! One session ([`super::task`]); what a route says about its sessions ([`super::plan`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::lines;
use super::plan::Plan;
use super::task::{Opened, Task};
use crate::config::Policy;
use crate::connections::Connection;
use crate::log::Logs;
use crate::memory::Budget;
use crate::net::Transport;
use crate::telemetry::{Metrics, TaskKind, WarnThrottle, panics};
use crate::upstream::Upstream;

/// The time between two lines of one kind about the servers of a route's sessions.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// What all sessions share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) logs: Arc<Logs>,
    pub(super) budget: Arc<Budget>,
    pub(super) metrics: Arc<Metrics>,
    /// Throttles lines about servers, by route: all sessions lose a server at once.
    pub(super) lines: WarnThrottle<(Box<str>, &'static str)>,
    /// Tasks that have not ended.
    running: AtomicUsize,
    /// Notified when all are to end at once.
    cut: Arc<Notify>,
}

/// All sessions of the process.
#[derive(Debug)]
pub(crate) struct Sessions {
    shared: Arc<Shared>,
}

impl Sessions {
    pub(crate) fn new(logs: Arc<Logs>, budget: Arc<Budget>, metrics: Arc<Metrics>) -> Arc<Self> {
        let lines = WarnThrottle::every(LINE_INTERVAL);
        let shared =
            Shared { logs, budget, metrics, lines, running: AtomicUsize::new(0), cut: Arc::default() };
        Arc::new(Self { shared: Arc::new(shared) })
    }

    /// What holds for the sessions of a route.
    pub(crate) fn plan(&self, route: &str, policy: Arc<Policy>, upstream: Arc<Upstream>) -> Arc<Plan> {
        Arc::new(Plan::new(route, policy, upstream, Arc::clone(&self.shared)))
    }

    /// Whether none has a task that has still to end.
    pub(crate) fn is_idle(&self) -> bool {
        self.shared.running.load(Relaxed) == 0
    }

    /// Ends all at once, with what is still under way to their servers.
    pub(crate) fn cut(&self) {
        self.shared.cut.notify_waiters();
    }

    /// Writes into the log about lines that were left out and that none has told of. To be called now and then.
    pub(crate) fn log_left_out(&self) {
        for ((route, kind), left_out) in self.shared.lines.overdue(Instant::now()) {
            lines::log_left_out(&route, kind, left_out);
        }
    }
}

impl Plan {
    /// Begins a session: the server has answered, and the client's 101 was sent.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        client: Transport,
        has_deflate: bool,
        opened: Opened,
        connection: Connection,
    ) {
        let running = Running::new(&self.shared);
        let cut = Arc::clone(&self.shared.cut).notified_owned();
        let task = Task::new(self, client, has_deflate, opened, connection);
        panics::spawn(TaskKind::Session, &self.shared.metrics, async move {
            tokio::select! {
                () = task => {}
                () = cut => {}
            }
            drop(running);
        });
    }
}

/// Counts a session's task until it has ended.
struct Running(Arc<Shared>);

impl Running {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.running.fetch_add(1, Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}
