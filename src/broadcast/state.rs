//! What a hub and the tasks of its channels share.
//!
//! # Invariants
//! 1. Whether a channel ends is decided under the hub's lock: a client that finds it in the map is a member before the
//!    lock is released, and it is removed from the map only while it has no members, or when its feed is over.
//! 2. Tasks that are ending count as running until they have ended.
//!
//! # Not here
//! Who opens a channel ([`super::hub`]), and what its task does ([`super::task`]).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::channel::Channel;
use super::key::Key;
use crate::config::Policy;
use crate::connections::lifecycle::Lifecycle;
use crate::delivery::{self, ClientMemory};
use crate::frame::CloseCode;
use crate::log::Logs;
use crate::log::rules::Matcher;
use crate::memory::Budget;
use crate::net::Workers;
use crate::telemetry::{BreakerScope, By, FeedMetrics, Metrics, Reason, WarnThrottle};
use crate::upstream::{ReceiptMode, UplinkRules, Upstream, UpstreamBreaker};

/// What all hubs share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) logs: Arc<Logs>,
    pub(super) budget: Arc<Budget>,
    /// The part of it for what waits for clients, of all feeds together.
    pub(super) client_memory: Arc<ClientMemory>,
    pub(super) metrics: Arc<Metrics>,
    /// Throttles lines about servers, by route: clients may invent channels, and all of them lose a server at once.
    pub(super) lines: WarnThrottle<(String, &'static str)>,
    pub(super) lifecycle: Lifecycle,
    /// Notified when all channels are to end at once.
    pub(super) cut: Arc<Notify>,
    /// Tasks that share the clients of a channel.
    pub(super) shards: usize,
    /// Where they live.
    pub(super) workers: Workers,
    /// Milliseconds that the Closes of many clients are spread over.
    pub(super) spread: AtomicU64,
}

impl Shared {
    /// The time that the Closes of many clients are spread over.
    pub(super) fn spread(&self) -> Duration {
        Duration::from_millis(self.spread.load(Relaxed))
    }
}

/// What a hub is made of.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The route's name.
    pub route: String,
    /// What it takes off paths.
    pub strip_prefix: Option<String>,
    /// Its policy.
    pub policy: Arc<Policy>,
    /// The server of its feeds.
    pub upstream: Arc<Upstream>,
    /// The breaker around that server, if there is one.
    pub breaker: Option<Arc<UpstreamBreaker>>,
}

/// What the hub of a route and the tasks of its channels share.
#[derive(Debug)]
pub(super) struct HubState {
    pub(super) plan: Plan,
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Arc<FeedMetrics>,
    pub(super) critical: Option<Matcher>,
    pub(super) settings: Arc<delivery::Settings>,
    channels: Mutex<Channels>,
    /// Channels that have a link to the server.
    connected: AtomicUsize,
}

#[derive(Debug, Default)]
pub(super) struct Channels {
    pub(super) by_key: HashMap<Key, Arc<Channel>>,
    /// Epochs of the logs of these.
    pub(super) epochs: HashSet<u64>,
    /// Running tasks, including those of channels that are not in the map any more.
    pub(super) running: usize,
}

impl HubState {
    pub(super) fn new(plan: Plan, shared: &Arc<Shared>) -> Arc<Self> {
        let metrics = shared.metrics.feeds(&plan.route);
        let settings = delivery::Settings {
            policy: Arc::clone(&plan.policy),
            metrics: Arc::clone(&metrics),
            recipients: shared.metrics.breaker(BreakerScope::Recipient, &plan.route),
            channels: shared.metrics.breaker(BreakerScope::Channel, &plan.route),
            client_memory: Arc::clone(&shared.client_memory),
            process: Arc::clone(&shared.metrics),
            shards: shared.shards,
            workers: shared.workers.clone(),
        };
        Arc::new(Self {
            critical: plan.policy.history.critical.as_ref().map(Matcher::new),
            settings: Arc::new(settings),
            shared: Arc::clone(shared),
            channels: Mutex::default(),
            connected: AtomicUsize::new(0),
            metrics,
            plan,
        })
    }

    /// Removes the channel: the next client that asks for it opens another one.
    pub(super) fn forget(&self, channel: &Arc<Channel>) {
        let mut channels = self.channels();
        if channels.by_key.get(&channel.key).is_some_and(|known| Arc::ptr_eq(known, channel)) {
            channels.by_key.remove(&channel.key);
            channels.epochs.remove(&channel.log.epoch());
        }
    }

    /// As [`Self::forget`], if the channel has had no members since `since`; whether that is so.
    pub(super) fn forget_if_empty(&self, channel: &Arc<Channel>, since: tokio::time::Instant) -> bool {
        let mut channels = self.channels();
        if !channel.is_empty_since(since) {
            return false;
        }
        channels.by_key.remove(&channel.key);
        channels.epochs.remove(&channel.log.epoch());
        true
    }

    /// All channels of the map.
    pub(super) fn all(&self) -> Vec<Arc<Channel>> {
        self.channels().by_key.values().cloned().collect()
    }

    /// The number of running tasks.
    pub(super) fn running(&self) -> usize {
        self.channels().running
    }

    /// Whether any channel has a link to the server.
    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Relaxed) > 0
    }

    /// A channel has got a link to the server, or has lost it.
    pub(super) fn set_connected(&self, is_connected: bool) {
        if is_connected {
            self.connected.fetch_add(1, Relaxed);
        } else {
            self.connected.fetch_sub(1, Relaxed);
        }
    }

    /// The rules for links to the server.
    pub(super) fn uplink_rules(&self) -> UplinkRules {
        let (policy, upstream) = (&self.plan.policy, self.plan.upstream.config());
        UplinkRules {
            max_frame: policy.max_frame,
            max_message: policy.max_message,
            heartbeat: upstream.heartbeat.on_shared_links(),
            stall_timeout: upstream.stall_timeout,
            close_timeout: policy.close_timeout,
            max_waiting: policy.delivery.max_lag.bytes,
            receipts: ReceiptMode::Off,
        }
    }

    pub(super) fn channels(&self) -> MutexGuard<'_, Channels> {
        // Nothing that can panic happens between two changes under this lock.
        self.channels.lock()
    }
}

/// Counts a channel's task as running, and cleans up whatever ends it.
#[derive(Debug)]
pub(super) struct TaskGuard {
    pub(super) hub: Arc<HubState>,
    pub(super) channel: Arc<Channel>,
    is_disarmed: bool,
}

impl TaskGuard {
    /// A guard for a task that the hub has counted already.
    pub(super) fn new(hub: Arc<HubState>, channel: Arc<Channel>) -> Self {
        Self { hub, channel, is_disarmed: false }
    }

    /// Its clients were closed, or there are none: nothing is left for the drop to close.
    pub(super) fn disarm(&mut self) {
        self.is_disarmed = true;
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.hub.forget(&self.channel);
        if !self.is_disarmed {
            // It has panicked, or was cut: nothing would ever be sent to its clients again.
            let code = CloseCode(self.hub.plan.policy.close_codes.upstream_lost);
            self.channel.close(Reason::UpstreamLost, By::Proxy, code, "upstream lost");
        }
        self.hub.channels().running -= 1;
        self.hub.metrics.channels.dec();
    }
}
