//! The channels of one route.
//!
//! # Invariants
//! 1. Whether a channel goes on is decided under the hub's lock: whoever finds it in the map counts before the
//!    lock is given back, and it is taken out of the map only while nobody counts, or when its feed is over.
//! 2. At most `max_channels` tasks: those that are ending count until they have ended, so that inventing paths
//!    buys nothing.
//! 3. The dial belongs to the channel's task: a client that goes away takes nothing from those who wait with it.
//!
//! # Not here
//! What is said to the server ([`super::request`]), and what becomes of what it says ([`super::feed`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::{HeaderMap, Uri};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, watch};

use super::channel::{Channel, Member, Reservation};
use super::feed::Feed;
use super::key::{Asked, Key};
use super::request::{First, Template};
use super::task::Task;
use super::{JoinError, Shared};
use crate::config::{Policy, UplinkMode};
use crate::delivery::{self, Fanout, FromClients};
use crate::frame::CloseCode;
use crate::log::rules::Matcher;
use crate::log::{Cursor, Log};
use crate::resilience::Caller;
use crate::telemetry::{BreakerScope, By, FeedMetrics, Reason, TaskKind, panics};
use crate::upstream::headers::{ForwardingConfig, Requester};
use crate::upstream::{UplinkRules, Upstream, UpstreamBreaker, UpstreamError};

/// Publish requests that may wait for a channel's task.
const MAX_ASKS: usize = 64;
/// Messages from clients that may wait for a channel's task. It passes them on as soon as it runs.
const MAX_SAID: usize = 64;

/// What a hub is made of.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The route's name.
    pub route: String,
    /// What it takes off paths.
    pub strip_prefix: Option<String>,
    /// Its policy.
    pub policy: Arc<Policy>,
    /// Where its feeds come from.
    pub upstream: Arc<Upstream>,
    /// Whether those may be asked at the moment; `None`: always.
    pub breaker: Option<Arc<UpstreamBreaker>>,
}

/// The channels of one route.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(super) plan: Plan,
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Arc<FeedMetrics>,
    pub(super) critical: Option<Matcher>,
    settings: Arc<delivery::Settings>,
    channels: Mutex<Channels>,
    /// Channels that have a link to the server.
    connected: AtomicUsize,
}

#[derive(Debug, Default)]
struct Channels {
    by_key: HashMap<Key, Arc<Channel>>,
    /// Tasks, also of channels that are in the map no more.
    running: usize,
}

/// A client that wants to come in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// What it asked for.
    pub uri: &'a Uri,
    /// Path and query as the server is to see them: in origin form, without `strip_prefix`.
    pub target: &'a Uri,
    /// Its headers, without anything of ours.
    pub headers: &'a HeaderMap,
    /// Who it is.
    pub user: Option<&'a Arc<str>>,
    /// As the breaker tells it from others, if the channel is opened for it.
    pub caller: Caller,
    /// Where it comes from.
    pub seen: Requester<'a>,
}

impl Hub {
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

    /// Promises a client a seat on its channel, which is opened if there is none.
    ///
    /// # Errors
    /// Why there is none; the same for all who waited for the same dial.
    pub(crate) async fn seat(self: &Arc<Self>, request: Request<'_>) -> Result<Reservation, JoinError> {
        let (member, cursor) = self.enter(request)?;
        let mut opening = member.channel.opening.clone();
        let opened = match opening.wait_for(Option::is_some).await {
            Ok(opened) => opened.clone(),
            // Its task ended without a word: a panic, or the end of the process.
            Err(_) => None,
        };
        match opened {
            Some(Ok(protocol)) => Ok(Reservation { member, cursor, protocol }),
            Some(Err(why)) => Err(why.again()),
            None => Err(JoinError::Upstream(UpstreamError::Broken("its channel has ended".into()))),
        }
    }

    fn enter(self: &Arc<Self>, request: Request<'_>) -> Result<(Member, Cursor), JoinError> {
        let broadcast = &self.plan.policy.broadcast;
        let config = self.plan.upstream.config();
        let user = request.user.map(|user| &**user);
        let asked = Asked { uri: request.uri, headers: request.headers, user };
        let key = Key::of(&broadcast.channel_key, config.host_header, asked).ok_or(JoinError::NameTooLong)?;
        let on_join = self.plan.policy.history.on_join;
        let mut channels = self.channels();
        if let Some(channel) = channels.by_key.get(&key) {
            return Ok(channel.enter(request.user, on_join));
        }
        if channels.running >= broadcast.max_channels {
            return Err(JoinError::Full);
        }
        let first = First { target: request.target, headers: request.headers, seen: request.seen };
        let telling = ForwardingConfig {
            forwarded: config.forwarded,
            host: config.host_header,
            target: &config.target,
            strip_prefix: self.plan.strip_prefix.as_deref(),
        };
        let template = Template::new(&broadcast.channel_key, broadcast.credentials, first, telling);
        let writer = Log::new(&self.plan.policy.history, &self.shared.logs);
        let log = Arc::clone(writer.log());
        let (from_clients, said) = match broadcast.uplink {
            UplinkMode::Drop => (FromClients::Drop, None),
            UplinkMode::Refuse => (FromClients::Refuse, None),
            UplinkMode::Forward => {
                let (tell, said) = mpsc::channel(MAX_SAID);
                (FromClients::Forward(tell), Some(said))
            }
        };
        let fanout = Fanout::new(Arc::clone(&log), from_clients, Arc::clone(&self.settings));
        let (opened, opening) = watch::channel(None);
        let (ask, asks) = mpsc::channel(MAX_ASKS);
        let channel = Channel::new(key.clone(), log, fanout, opening, ask);
        let entered = channel.enter(request.user, on_join);
        channels.by_key.insert(key, Arc::clone(&channel));
        channels.running += 1;
        drop(channels);
        self.metrics.channels.inc();
        let running = Running { hub: Arc::clone(self), channel, is_settled: false };
        let task = Task::new(running, request.caller, template, Feed::new(self, writer), asks, said, opened);
        let cut = Arc::clone(&self.shared.cut).notified_owned();
        let running = async move {
            tokio::select! {
                () = task.run() => {}
                () = cut => {}
            }
        };
        panics::spawn(TaskKind::Channel, &self.shared.metrics, running);
        Ok(entered)
    }

    /// From now on whoever asks for this channel opens another one.
    pub(super) fn forget(&self, channel: &Arc<Channel>) {
        let mut channels = self.channels();
        if channels.by_key.get(&channel.key).is_some_and(|known| Arc::ptr_eq(known, channel)) {
            channels.by_key.remove(&channel.key);
        }
    }

    /// As [`Hub::forget`], if nobody has come since; whether that is so.
    pub(super) fn forget_if_empty(&self, channel: &Arc<Channel>, since: tokio::time::Instant) -> bool {
        let mut channels = self.channels();
        if !channel.is_empty_since(since) {
            return false;
        }
        channels.by_key.remove(&channel.key);
        true
    }

    /// Those that are there now.
    pub(super) fn all(&self) -> Vec<Arc<Channel>> {
        self.channels().by_key.values().cloned().collect()
    }

    /// Tasks of channels.
    pub(super) fn running(&self) -> usize {
        self.channels().running
    }

    /// Whether any of them has a link to the server.
    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Relaxed) > 0
    }

    /// One more of them has a link, or one less.
    pub(super) fn set_connected(&self, is_connected: bool) {
        if is_connected {
            self.connected.fetch_add(1, Relaxed);
        } else {
            self.connected.fetch_sub(1, Relaxed);
        }
    }

    /// What its links to the server keep to.
    pub(super) fn uplink_rules(&self) -> UplinkRules {
        let (policy, upstream) = (&self.plan.policy, self.plan.upstream.config());
        UplinkRules {
            max_frame: policy.max_frame,
            max_message: policy.max_message,
            heartbeat: upstream.heartbeat.on_shared_links(),
            stall_timeout: upstream.stall_timeout,
            close_timeout: policy.close_timeout,
            max_waiting: policy.delivery.max_lag.bytes,
        }
    }

    fn channels(&self) -> MutexGuard<'_, Channels> {
        // Nothing that can panic happens between two changes under this lock.
        self.channels.lock()
    }
}

/// Counts a channel's task among its hub's, whatever ends it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) hub: Arc<Hub>,
    pub(super) channel: Arc<Channel>,
    is_settled: bool,
}

impl Running {
    /// Its clients know all that they are owed.
    pub(super) fn settle(&mut self) {
        self.is_settled = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.hub.forget(&self.channel);
        if !self.is_settled {
            // A panic, or it was cut: nobody would ever write to them again.
            let code = CloseCode(self.hub.plan.policy.close_codes.upstream_lost);
            self.channel.fanout.close(Reason::UpstreamLost, By::Proxy, code, "upstream lost");
        }
        self.hub.channels().running -= 1;
        self.hub.metrics.channels.dec();
    }
}
