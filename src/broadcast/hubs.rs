//! All hubs of the process: what operators and the process as a whole do with channels.
//!
//! # Not here
//! The channels of one route, and who joins them ([`super::hub`]).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::channel::PublishRequest;
use super::hub::Hub;
use super::lines;
use super::state::{HubState, Plan, Shared};
use crate::connections::lifecycle::Lifecycle;
use crate::delivery::ClientMemory;
use crate::frame::{Kind, deflate, encode};
use crate::log::Logs;
use crate::memory::Budget;
use crate::net::Workers;
use crate::telemetry::{Metrics, WarnThrottle};

/// All hubs of the process, including those that a reload has replaced and that still have clients.
#[derive(Debug)]
pub(crate) struct Hubs {
    shared: Arc<Shared>,
    hubs: Mutex<Vec<Weak<HubState>>>,
}

/// The time between two lines of one kind about the servers of a route's channels.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// The result of publishing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// The number of clients that it is for.
    pub recipients: u64,
    /// Its number, if it went into exactly one log.
    pub sequence: Option<u64>,
}

/// A channel, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChannelInfo {
    /// Its route.
    pub route: String,
    /// Its name: what the parts of its key come to.
    pub channel: String,
    /// The number of its clients.
    pub clients: u64,
    /// Whether its upstream is connected.
    pub is_connected: bool,
    /// Of its log.
    pub epoch: u64,
    /// The newest sequence number.
    pub sequence: u64,
}

impl Hubs {
    /// No hubs yet. `shards`: tasks that share the clients of a channel, and the workers they live on. While `lifecycle`
    /// drains, no upstream that was lost is dialled again.
    pub(crate) fn new(
        logs: Arc<Logs>,
        budget: Arc<Budget>,
        metrics: Arc<Metrics>,
        (shards, workers): (usize, Workers),
        lifecycle: Lifecycle,
    ) -> Arc<Self> {
        let client_memory = ClientMemory::new(Budget::half_of(&budget));
        let spread = AtomicU64::new(0);
        let shared = Arc::new(Shared {
            logs,
            budget,
            client_memory,
            metrics,
            lines: WarnThrottle::every(LINE_INTERVAL),
            lifecycle,
            cut: Arc::default(),
            shards,
            workers,
            spread,
        });
        Arc::new(Self { shared, hubs: Mutex::default() })
    }

    /// What the closes of many clients are spread over from now on (`drain.spread`).
    pub(crate) fn set_spread(&self, spread: Duration) {
        self.shared.spread.store(u64::try_from(spread.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Adds a hub, which is remembered for as long as it is referenced or has a channel.
    pub(crate) fn hub(&self, plan: Plan) -> Arc<Hub> {
        let state = HubState::new(plan, &self.shared);
        let mut hubs = self.hubs.lock();
        hubs.retain(|hub| hub.strong_count() > 0);
        hubs.push(Arc::downgrade(&state));
        Arc::new(Hub::new(state))
    }

    /// Publishes into the log of a channel of `route`, or of all of them; to one user, or to all clients.
    pub(crate) async fn publish(
        &self,
        route: &str,
        channel: Option<&str>,
        user: Option<&str>,
        kind: Kind,
        payload: &Bytes,
    ) -> Published {
        let hubs = self.all();
        let mut replies = Vec::new();
        let frame = encode::message(kind, payload);
        let mut deflated_once = None;
        for hub in hubs.iter().filter(|hub| hub.plan.route == route) {
            for candidate in hub.all() {
                let is_meant = candidate.is_open() && channel.is_none_or(|name| *candidate.key.name == *name);
                let recipients = candidate.count(user);
                // A user who is not connected would find it in the history, which publishing does not promise.
                if !is_meant || user.is_some() && recipients == 0 {
                    continue;
                }
                let deflated =
                    hub.plan.policy.compression.then(|| {
                        deflated_once.get_or_insert_with(|| deflate::message(kind, payload)).clone()
                    });
                let (reply, receiver) = oneshot::channel();
                let (frame, payload) = (frame.clone(), payload.clone());
                let deflated = deflated.flatten();
                let request =
                    PublishRequest { kind, payload, frame, deflated, to: user.map(Arc::from), reply };
                // An error says that it has just ended.
                if candidate.publish.send(request).await.is_ok() {
                    replies.push((recipients, receiver));
                }
            }
        }
        let mut published = Published::default();
        let mut logs = 0;
        for (recipients, receiver) in replies {
            if let Ok(sequence) = receiver.await {
                logs += 1;
                published.recipients += recipients;
                published.sequence = Some(sequence);
            }
        }
        published.sequence = published.sequence.filter(|_| logs == 1);
        published
    }

    /// Every channel there is.
    pub(crate) fn channels(&self) -> Vec<ChannelInfo> {
        let mut channels = Vec::new();
        for hub in self.all() {
            channels.extend(hub.all().iter().map(|channel| ChannelInfo {
                route: hub.plan.route.clone(),
                channel: channel.key.name.to_string(),
                clients: channel.count(None),
                is_connected: channel.is_connected(),
                epoch: channel.log.epoch(),
                sequence: channel.log.head(),
            }));
        }
        channels
    }

    /// Evicts clients of feeds if they hold more than they may, and writes log lines that are overdue. To be called now and
    /// then: whatever takes memory checks the bound by itself, but the bound may have been lowered.
    pub(crate) fn enforce_budget(&self) {
        self.shared.client_memory.enforce_budget();
        self.shared.client_memory.log_left_out();
        for ((route, kind), left_out) in self.shared.lines.overdue(Instant::now()) {
            lines::log_left_out(&route, kind, left_out);
        }
    }

    /// Whether no channel runs any more, not even one that is ending.
    pub(crate) fn is_idle(&self) -> bool {
        self.all().iter().all(|hub| hub.running() == 0)
    }

    /// Ends every channel at once, without a close handshake with its server.
    pub(crate) fn cut(&self) {
        self.shared.cut.notify_waiters();
    }

    fn all(&self) -> Vec<Arc<HubState>> {
        self.hubs.lock().iter().filter_map(Weak::upgrade).collect()
    }
}
