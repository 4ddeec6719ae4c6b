//! What holds for all sessions of a route, worked out once. A session keeps the one that it began with over reloads.

use std::sync::Arc;

use super::greeting;
use super::registry::Gate;
use super::shared::Shared;
use super::ticket::TicketKeys;
use crate::config::{OnStall, Policy};
use crate::connections::ResumeGate;
use crate::log::rules::Matcher;
use crate::telemetry::SessionMetrics;
use crate::upstream::revival::Revival;
use crate::upstream::{ReceiptMode, UplinkRules, Upstream};

/// What waits for the server at most, beside one message of the longest kind.
const MAX_WAITING: usize = 256 * 1024;

/// What holds for the sessions of one route.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) route: Box<str>,
    pub(super) policy: Arc<Policy>,
    pub(super) upstream: Arc<Upstream>,
    /// Which of the sessions that have lost this server dials it when.
    pub(super) revival: Arc<Revival>,
    pub(super) greeting: Arc<greeting::Rules>,
    /// Messages of clients that are not worth keeping while the server is away.
    pub(super) skip: Option<Matcher>,
    pub(super) metrics: Arc<SessionMetrics>,
    /// Gives and verifies tickets; `None`: the route has none.
    pub(super) gate: Option<Arc<Gate>>,
    pub(super) shared: Arc<Shared>,
}

impl Plan {
    pub(super) fn new(
        route: &str,
        policy: Arc<Policy>,
        upstream: Arc<Upstream>,
        shared: Arc<Shared>,
    ) -> Self {
        let session = &policy.session;
        let metrics = shared.metrics.sessions(route);
        let keys = session.token_keys.as_deref();
        let gate = session.resume_window.map(|_| shared.registry.gate(route, keys, Arc::clone(&metrics)));
        Self {
            gate,
            route: route.into(),
            revival: Revival::new(policy.redial, upstream.config().max_dials),
            greeting: Arc::new(greeting::Rules::new(&session.greeting)),
            skip: session.queue.skip.as_ref().map(Matcher::new),
            metrics,
            policy,
            upstream,
            shared,
        }
    }

    /// What tickets are signed with; `None`: the route has none.
    pub(crate) fn ticket_keys(&self) -> Option<Arc<TicketKeys>> {
        self.gate.as_ref().map(|gate| Arc::clone(gate.keys()))
    }

    /// What admission asks about tickets.
    pub(crate) fn resume_gate(&self) -> Option<Arc<dyn ResumeGate>> {
        self.gate.clone().map(|gate| gate as Arc<dyn ResumeGate>)
    }

    /// What the sessions of its route count.
    pub(crate) fn metrics(&self) -> &SessionMetrics {
        &self.metrics
    }

    /// The rules for links to the server.
    pub(super) fn uplink_rules(&self) -> UplinkRules {
        let (policy, upstream) = (&self.policy, self.upstream.config());
        UplinkRules {
            max_frame: policy.max_frame,
            max_message: policy.max_message,
            heartbeat: upstream.heartbeat.in_tunnels(),
            stall_timeout: upstream.stall_timeout,
            close_timeout: policy.close_timeout,
            max_waiting: usize::try_from(policy.max_message)
                .unwrap_or(usize::MAX)
                .saturating_add(MAX_WAITING),
            receipts: if policy.session.receipts { ReceiptMode::Pings } else { ReceiptMode::Assumed },
        }
    }

    /// Whether the server is read on when the client is behind; if not, the client's link is closed beyond `max_lag`.
    pub(super) fn is_isolating(&self) -> bool {
        self.policy.delivery.on_stall != OnStall::Backpressure
    }
}
