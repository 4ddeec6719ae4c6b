//! The channels of one route: clients join one, which is opened by the first.
//!
//! # Invariants
//! 1. At most `max_channels` tasks: those that are ending count until they have ended, so that inventing paths
//!    buys nothing.
//! 2. The dial belongs to the channel's task: a client that goes away does not cancel it for the others that wait.
//!
//! # Not here
//! How long a channel stays ([`super::state`]); what the server is sent ([`crate::upstream::opening`]), and what becomes of
//! its messages ([`super::feed`]).

use std::sync::Arc;

use http::{HeaderMap, Uri};
use tokio::sync::{mpsc, watch};

use super::channel::{Channel, Entered, Reservation};
use super::error::JoinError;
use super::feed::Feed;
use super::greeting::{Joiner, Joining};
use super::key::{Key, KeySource};
use super::lines::DialLines;
use super::state::{HubState, TaskGuard};
use super::task::{Inbox, Task};
use crate::config::UplinkMode;
use crate::connections::LogGate;
use crate::delivery::{Fanout, FromClients};
use crate::log::Log;
use crate::resilience::Caller;
use crate::telemetry::{TaskKind, panics};
use crate::upstream::UpstreamError;
use crate::upstream::headers::{ForwardingConfig, Requester};
use crate::upstream::opening::{ClientHandshake, Opening};
use crate::upstream::redial::{LinkTarget, Redialer};

/// Publish requests that may wait for a channel's task.
const MAX_PUBLISH_REQUESTS: usize = 64;
/// Messages from clients that may wait for a channel's task. It passes them on as soon as it runs.
const MAX_INBOUND: usize = 64;

/// A client that asks to join a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JoinRequest<'a> {
    /// What it asked for.
    pub uri: &'a Uri,
    /// Path and query as the server is to see them: in origin form, without `strip_prefix`.
    pub target: &'a Uri,
    /// Its headers, without anything of ours.
    pub headers: &'a HeaderMap,
    /// Who it is.
    pub user: Option<&'a Arc<str>>,
    /// The caller for the breaker, if the channel is opened for this client.
    pub caller: Caller,
    /// Where it comes from.
    pub requester: Requester<'a>,
    /// How it comes, and what it has had.
    pub by: Joiner<'a>,
}

/// The channels of one route.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(super) state: Arc<HubState>,
}

impl Hub {
    pub(super) fn new(state: Arc<HubState>) -> Self {
        Self { state }
    }

    /// Reserves a place for a client on its channel, which is opened if there is none.
    ///
    /// # Errors
    /// Why there is none; the same for all who waited for the same dial.
    pub(crate) async fn reserve(&self, request: JoinRequest<'_>) -> Result<Reservation, JoinError> {
        let Entered { member, beginning } = self.enter(request)?;
        let mut first_dial = member.channel.first_dial.clone();
        let opened = match first_dial.wait_for(Option::is_some).await {
            Ok(opened) => opened.clone(),
            // Its task ended without a result: by a panic, or with the process.
            Err(_) => None,
        };
        match opened {
            Some(Ok(protocol)) => Ok(Reservation { member, protocol, beginning }),
            Some(Err(why)) => Err(why),
            None => {
                let error = UpstreamError::Broken("its channel has ended".into());
                Err(JoinError::Upstream(Arc::new(error)))
            }
        }
    }

    /// Counts messages that a client which polls will never get.
    pub(crate) fn count_missed(&self, messages: u64) {
        self.state.metrics.missed.inc_by(messages);
    }

    /// The log of the channel that a request with these properties would join, if that runs.
    pub(crate) fn log_of(&self, uri: &Uri, headers: &HeaderMap, user: Option<&Arc<str>>) -> Option<Arc<Log>> {
        let key = self.key(uri, headers, user)?;
        let channels = self.state.channels();
        channels.by_key.get(&key).filter(|channel| channel.is_open()).map(|channel| Arc::clone(&channel.log))
    }

    fn key(&self, uri: &Uri, headers: &HeaderMap, user: Option<&Arc<str>>) -> Option<Key> {
        let plan = &self.state.plan;
        let source = KeySource { uri, headers, user: user.map(|user| &**user) };
        Key::of(&plan.policy.broadcast.channel_key, plan.upstream.config().host_header, source)
    }

    fn enter(&self, request: JoinRequest<'_>) -> Result<Entered, JoinError> {
        let hub = &self.state;
        let broadcast = &hub.plan.policy.broadcast;
        let config = hub.plan.upstream.config();
        let key = self.key(request.uri, request.headers, request.user).ok_or(JoinError::NameTooLong)?;
        let joining =
            Joining { user: request.user, by: request.by, policy: &hub.plan.policy, metrics: &hub.metrics };
        let mut channels = hub.channels();
        if let Some(channel) = channels.by_key.get(&key) {
            return Ok(channel.enter(joining));
        }
        if channels.running >= broadcast.max_channels {
            return Err(JoinError::Full);
        }
        let client = ClientHandshake {
            target: request.target,
            headers: request.headers,
            requester: request.requester,
        };
        let forwarding = ForwardingConfig {
            forwarded: config.forwarded,
            host: config.host_header,
            target: &config.target,
            strip_prefix: hub.plan.strip_prefix.as_deref(),
        };
        let opening = Opening::shared(&broadcast.channel_key, broadcast.credentials, client, forwarding);
        let writer = Log::new(&hub.plan.policy.history, &hub.shared.logs);
        let log = Arc::clone(writer.log());
        let (from_clients, inbound) = match broadcast.uplink {
            UplinkMode::Drop => (FromClients::Drop, None),
            UplinkMode::Refuse => (FromClients::Refuse, None),
            UplinkMode::Forward => {
                let (sender, inbound) = mpsc::channel(MAX_INBOUND);
                (FromClients::Forward(sender), Some(inbound))
            }
        };
        let fanout = Fanout::new(Arc::clone(&log), from_clients, Arc::clone(&hub.settings));
        let (opened, first_dial) = watch::channel(None);
        let (publish, publish_requests) = mpsc::channel(MAX_PUBLISH_REQUESTS);
        let channel = Channel::new(key.clone(), log, fanout, first_dial, publish);
        let entered = channel.enter(joining);
        channels.by_key.insert(key, Arc::clone(&channel));
        channels.epochs.insert(channel.log.epoch());
        channels.running += 1;
        drop(channels);
        hub.metrics.channels.inc();
        let guard = TaskGuard::new(Arc::clone(hub), Arc::clone(&channel));
        let target = LinkTarget {
            upstream: Arc::clone(&hub.plan.upstream),
            breaker: hub.plan.breaker.clone(),
            opening,
        };
        let lines = DialLines::new(Arc::clone(hub), &channel);
        let redialer = Redialer::new(target, hub.plan.policy.redial, lines);
        let inbox = Inbox::new(publish_requests, inbound, Arc::clone(&hub.metrics));
        let task = Task::new(guard, request.caller, redialer, Feed::new(hub, writer), inbox, opened);
        let cut = Arc::clone(&hub.shared.cut).notified_owned();
        let running = async move {
            tokio::select! {
                () = task.run() => {}
                () = cut => {}
            }
        };
        panics::spawn(TaskKind::Channel, &hub.shared.metrics, running);
        Ok(entered)
    }
}

impl LogGate for Hub {
    fn has_log(&self, epoch: u64) -> bool {
        self.state.channels().epochs.contains(&epoch)
    }
}
