//! Mode `broadcast`: one upstream link for all clients of a channel, 1 : N.
//!
//! * [`Hubs`]: every hub of the process; [`Hub`]: the channels of one route, which promises clients a [`Reservation`].
//! * [`key`]: which clients share a channel; [`request`]: what the server is sent for it. Both pure.
//! * [`channel`]: who is on a channel; [`task`]: its link, from the first [`dial`] to its end;
//!   [`feed`]: what is said on it, on its way into the log; [`lines`]: what operators are told of its server.
//!
//! # Not here
//! How messages reach a client ([`crate::delivery`]); who may come in ([`crate::admission`]).

mod channel;
mod dial;
mod feed;
mod hub;
mod key;
mod lines;
mod request;
mod task;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use self::channel::Ask;
pub(crate) use self::channel::Reservation;
pub(crate) use self::hub::{Hub, Plan, Request};
use self::key::MAX_NAME;
use crate::connections::lifecycle::Lifecycle;
use crate::delivery::ClientMemory;
use crate::frame::{Kind, deflate, encode};
use crate::log::Logs;
use crate::memory::Budget;
use crate::telemetry::{Metrics, WarnThrottle};
use crate::upstream::UpstreamError;

/// Why a client gets no seat.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    /// Nobody needs such a name.
    #[error("the name of its channel would be longer than {MAX_NAME} bytes")]
    NameTooLong,
    /// `broadcast.max_channels`
    #[error("there are as many channels as there may be (policy.broadcast.max_channels)")]
    Full,
    /// The server keeps failing: it is not asked before this has passed.
    #[error("the server keeps failing; it is asked again in {0:?}")]
    BreakerOpen(Duration),
    /// The server is to blame.
    #[error(transparent)]
    Upstream(UpstreamError),
    /// The server answered with something else than a 101: every client gets this.
    #[error("the server refused: {}", .0.status())]
    Declined(Box<Response<Bytes>>),
}

impl JoinError {
    /// The same once more: all who waited are told.
    fn again(&self) -> Self {
        match self {
            Self::NameTooLong => Self::NameTooLong,
            Self::Full => Self::Full,
            Self::BreakerOpen(wait) => Self::BreakerOpen(*wait),
            Self::Upstream(error) => Self::Upstream(error.again()),
            Self::Declined(answer) => Self::Declined(answer.clone()),
        }
    }
}

/// Every hub of the process, also those that a reload has replaced and that still have clients.
#[derive(Debug)]
pub(crate) struct Hubs {
    shared: Arc<Shared>,
    hubs: Mutex<Vec<Weak<Hub>>>,
}

/// From one line of a route about a server of its channels to the next of its kind.
const SECOND: Duration = Duration::from_secs(1);

/// What all hubs need.
#[derive(Debug)]
struct Shared {
    logs: Arc<Logs>,
    budget: Arc<Budget>,
    /// Of it: what waits for clients, of all feeds together.
    client_memory: Arc<ClientMemory>,
    metrics: Arc<Metrics>,
    /// What is told of servers, by route: clients may invent channels, and all of them lose one server at once.
    lines: WarnThrottle<(String, &'static str)>,
    lifecycle: Lifecycle,
    /// Rung when channels are to end at once.
    cut: Arc<Notify>,
    /// Tasks that share the clients of a channel.
    shards: usize,
    /// Milliseconds that the closes of many clients are spread over.
    spread: AtomicU64,
}

impl Shared {
    /// What the closes of many clients are spread over.
    fn spread(&self) -> Duration {
        Duration::from_millis(self.spread.load(Relaxed))
    }
}

/// What came of publishing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// Clients it is for.
    pub recipients: u64,
    /// Its number, where it went into exactly one log.
    pub sequence: Option<u64>,
}

/// A channel, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChannelInfo {
    /// Its route.
    pub route: String,
    /// Its name: what the parts of its key come to.
    pub channel: String,
    /// Clients it has.
    pub clients: u64,
    /// Whether its upstream is connected.
    pub is_connected: bool,
    /// Of its log.
    pub epoch: u64,
    /// The newest sequence number.
    pub sequence: u64,
}

impl Hubs {
    /// None yet. `shards`: tasks that share the clients of a channel. While `lifecycle` drains, no upstream that
    /// was lost is dialled again.
    pub(crate) fn new(
        logs: Arc<Logs>,
        budget: Arc<Budget>,
        metrics: Arc<Metrics>,
        shards: usize,
        lifecycle: Lifecycle,
    ) -> Arc<Self> {
        let client_memory = ClientMemory::new(Budget::half_of(&budget));
        let spread = AtomicU64::new(0);
        let shared = Arc::new(Shared {
            logs,
            budget,
            client_memory,
            metrics,
            lines: WarnThrottle::every(SECOND),
            lifecycle,
            cut: Arc::default(),
            shards,
            spread,
        });
        Arc::new(Self { shared, hubs: Mutex::default() })
    }

    /// What the closes of many clients are spread over from now on (`drain.spread`).
    pub(crate) fn spread_over(&self, spread: Duration) {
        self.shared.spread.store(u64::try_from(spread.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// One more hub. It is one of these for as long as somebody holds it or it has a channel.
    pub(crate) fn hub(&self, plan: Plan) -> Arc<Hub> {
        let hub = Hub::new(plan, &self.shared);
        let mut hubs = self.hubs.lock();
        hubs.retain(|hub| hub.strong_count() > 0);
        hubs.push(Arc::downgrade(&hub));
        hub
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
        let mut smaller = None;
        for hub in hubs.iter().filter(|hub| hub.plan.route == route) {
            for found in hub.all() {
                let is_meant = found.is_open() && channel.is_none_or(|name| *found.key.name == *name);
                let recipients = found.count(user);
                // One who is not there would find it in the history, and nobody was told that it is for that.
                if !is_meant || user.is_some() && recipients == 0 {
                    continue;
                }
                let deflated = hub
                    .plan
                    .policy
                    .compression
                    .then(|| smaller.get_or_insert_with(|| deflate::message(kind, payload)).clone());
                let (reply, told) = oneshot::channel();
                let (frame, payload) = (frame.clone(), payload.clone());
                let deflated = deflated.flatten();
                let ask = Ask { kind, payload, frame, deflated, to: user.map(Arc::from), reply };
                // An error says that it has just ended.
                if found.asks.send(ask).await.is_ok() {
                    replies.push((recipients, told));
                }
            }
        }
        let mut published = Published::default();
        let mut logs = 0;
        for (recipients, told) in replies {
            if let Ok(sequence) = told.await {
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

    /// Looks whether clients of feeds hold more than they may. To be called now and then: those who take something see
    /// to it themselves, but the bound may have been lowered.
    pub(crate) fn relieve(&self) {
        self.shared.client_memory.enforce_budget();
        self.shared.client_memory.log_left_out();
        for ((route, kind), left_out) in self.shared.lines.overdue(Instant::now()) {
            lines::left_out(&route, kind, left_out);
        }
    }

    /// Whether no channel runs any more, not even one that is ending.
    pub(crate) fn is_idle(&self) -> bool {
        self.all().iter().all(|hub| hub.running() == 0)
    }

    /// Ends every channel at once, whatever its server still says or was told.
    pub(crate) fn cut(&self) {
        self.shared.cut.notify_waiters();
    }

    fn all(&self) -> Vec<Arc<Hub>> {
        self.hubs.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests;
