//! All sessions of the process: how one begins, and when a drain may end.
//!
//! # Not here
//! One session ([`super::task`]); what a route says about its sessions ([`super::plan`]); who comes back to which
//! ([`super::registry`]).

use std::sync::Arc;

use tokio::time::Instant;

use super::handle::{Handle, Identity};
use super::lines;
use super::plan::Plan;
use super::registry::SessionGuard;
use super::shared::Shared;
use super::task::{Arrival, Opened, Task};
use crate::config::Policy;
use crate::connections::{Connection, EndedSession, SessionId};
use crate::log::Logs;
use crate::memory::Budget;
use crate::net::Transport;
use crate::net::own_protocols::TicketText;
use crate::telemetry::{Metrics, TaskKind, panics};
use crate::upstream::Upstream;

/// All sessions of the process.
#[derive(Debug)]
pub(crate) struct Sessions {
    shared: Arc<Shared>,
}

impl Sessions {
    pub(crate) fn new(logs: Arc<Logs>, budget: Arc<Budget>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { shared: Shared::new(logs, budget, metrics) })
    }

    /// What holds for the sessions of a route.
    pub(crate) fn plan(&self, route: &str, policy: Arc<Policy>, upstream: Arc<Upstream>) -> Arc<Plan> {
        Arc::new(Plan::new(route, policy, upstream, Arc::clone(&self.shared)))
    }

    /// Whether none has a task that has still to end.
    pub(crate) fn is_idle(&self) -> bool {
        self.shared.running() == 0
    }

    /// Sets the metrics that are worked out for a scrape.
    pub(crate) fn report(&self) {
        let longest = i64::try_from(self.shared.longest_queue()).unwrap_or(i64::MAX);
        self.shared.metrics.session_queue_longest.set(longest);
    }

    /// Ends those whose clients are away: in a drain, when clients begin to be closed.
    pub(crate) fn end_detached(&self) {
        self.shared.registry.end_detached();
    }

    /// Ends all at once, with what is still under way to their servers.
    pub(crate) fn cut(&self) {
        self.shared.cut();
    }

    /// Writes into the log about lines that were left out and that none has told of. To be called now and then.
    pub(crate) fn log_left_out(&self) {
        for ((route, kind), left_out) in self.shared.lines.overdue(Instant::now()) {
            lines::log_left_out(&route, kind, left_out);
        }
    }
}

impl Plan {
    /// Makes room for a session that its client can come back to. `None`: it cannot, since the route gives no tickets, or the
    /// process has no memory to keep anything for those who are away.
    pub(crate) fn enter(&self, identity: Identity) -> Option<SessionGuard> {
        self.gives_tickets().then(|| self.shared.registry.enter(identity))
    }

    /// The session with this id, as long as it lives.
    pub(crate) fn find(&self, session: &SessionId) -> Option<Arc<Handle>> {
        self.shared.registry.find(session)
    }

    /// What is remembered of a session that is over.
    pub(crate) fn ended(&self, session: &SessionId) -> Option<EndedSession> {
        self.shared.registry.ended(session)
    }

    /// Whether a session could begin now that its client can come back to.
    pub(crate) fn gives_tickets(&self) -> bool {
        self.gate.is_some() && !self.shared.budget.is_over()
    }

    /// The first ticket of a session that was entered, and its number. `None`: its client cannot come back.
    pub(crate) fn issue(&self, session: &SessionGuard) -> Option<(u32, TicketText)> {
        self.gate.as_ref()?.issue(session.handle())
    }

    /// Begins a session: the server has answered, and the client's 101 was sent.
    pub(crate) fn spawn(self: &Arc<Self>, client: Transport, arrival: Arrival) {
        self.run(Task::new(self, client, arrival));
    }

    /// The same for a client that asks over HTTP: its first request waits in the session's handle.
    pub(crate) fn spawn_over_http(
        self: &Arc<Self>,
        opened: Opened,
        session: SessionGuard,
        connection: Connection,
    ) {
        self.run(Task::over_http(self, opened, session, connection));
    }

    fn run(&self, task: Task) {
        let number = task.running().number();
        let abort = panics::spawn(TaskKind::Session, &self.shared.metrics, task);
        self.shared.on_spawned(number, abort);
    }
}
