//! What operators may see and do of the running server: [`Operations`] for [`State`].
//!
//! # Invariants
//! 1. A published message is encoded once and shared by all clients that get it; it is in the budget of the process
//!    until it was sent to the last of them.
//! 2. A publish that has begun is finished, whether or not the operator still waits for the answer.
//!
//! # Not here
//! Requests to the admin port and who may send them ([`crate::admin`]); between which frames of a tunnel a message goes
//! ([`crate::tunnel`]).

use std::sync::Arc;

use bytes::Bytes;
use prometheus::proto::MetricFamily;
use tokio::time::Instant;

use super::state::{Route, State};
use crate::admin::{BoxFuture, Channel, Operations, Publication, PublishError, Published, Subscriber};
use crate::broadcast;
use crate::config::Mode;
use crate::connections::lifecycle::Lifecycle;
use crate::frame::encode;
use crate::memory::Budget;
use crate::telemetry::panics::{Panicked, catch_panic};
use crate::telemetry::{Metrics, TaskKind};

impl Operations for State {
    fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    fn metrics(&self) -> Vec<MetricFamily> {
        self.metrics.process.memory.set(i64::try_from(self.budget.used()).unwrap_or(i64::MAX));
        self.sessions.report();
        self.registry.gather()
    }

    fn clients(&self) -> u64 {
        self.registry.clients() as u64
    }

    fn routes(&self) -> Vec<(String, Mode)> {
        self.snapshot().router.routes().map(|route| (route.config.name.clone(), route.config.mode)).collect()
    }

    fn channels(&self) -> Vec<Channel> {
        let channel = |info: broadcast::ChannelInfo| Channel {
            route: info.route,
            channel: info.channel,
            clients: info.clients,
            connected: info.is_connected,
            epoch: format!("{:016x}", info.epoch),
            sequence: info.sequence,
        };
        self.hubs.channels().into_iter().map(channel).collect()
    }

    fn subscribers(&self) -> Vec<Subscriber> {
        let now = Instant::now();
        self.registry.all().iter().filter_map(|handle| Subscriber::of(handle, now)).collect()
    }

    fn check_upstream(self: Arc<Self>) -> BoxFuture<Result<(), String>> {
        let upstream = Arc::clone(&self.snapshot().fallback);
        Box::pin(async move { upstream.check().await.map_err(|error| error.to_string()) })
    }

    fn publish(self: Arc<Self>, publication: Publication) -> BoxFuture<Result<Published, PublishError>> {
        Box::pin(publish(self, publication))
    }
}

/// # Errors
/// Nothing was published, and why.
async fn publish(state: Arc<State>, publication: Publication) -> Result<Published, PublishError> {
    let snapshot = state.snapshot();
    let Some(route) = snapshot.router.routes().find(|route| route.config.name == publication.route) else {
        let known = snapshot.router.routes().map(|route| route.config.name.clone()).collect();
        return Err(PublishError::NoRoute { name: publication.route, known });
    };
    let max = route.config.policy.max_message;
    if publication.payload.len() as u64 > max {
        return Err(PublishError::TooLong { setting: "policy.max_message", max });
    }
    match route.config.mode {
        Mode::Broadcast => {
            let (for_check, metrics) = (Arc::clone(&state), Arc::clone(&state.metrics));
            let (route, channel) = (publication.route.clone(), publication.channel.clone());
            let published = run_to_end(metrics, publish_to_logs(state, publication)).await?;
            match channel {
                Some(name) if published.sequence.is_none() && published.recipients == 0 => {
                    check_channel(&for_check, route, name).map(|()| published)
                }
                _ => Ok(published),
            }
        }
        Mode::Tunnel | Mode::Session => {
            let frame = frame_for_tunnels(&state.budget, route, &publication)?;
            let metrics = Arc::clone(&state.metrics);
            run_to_end(metrics, publish_to_tunnels(state, publication, frame)).await
        }
    }
}

/// Whether the channel exists, where a publish reached no client of it. Checked afterwards, since nearly always one is
/// reached.
fn check_channel(state: &State, route: String, name: String) -> Result<(), PublishError> {
    let all = state.channels().into_iter().filter(|channel| channel.route == route);
    let mut known: Vec<String> = all.map(|channel| channel.channel).collect();
    known.sort_unstable();
    if known.contains(&name) { Ok(()) } else { Err(PublishError::NoChannel { route, name, known }) }
}

/// Runs `work` in a task of its own: the future of a request is dropped when the operator hangs up.
async fn run_to_end(
    metrics: Arc<Metrics>,
    work: impl Future<Output = Published> + Send + 'static,
) -> Result<Published, PublishError> {
    let task = tokio::spawn(async move { catch_panic(TaskKind::Publish, &metrics, work).await });
    match task.await {
        Ok(published) => published.map_err(|Panicked| PublishError::Failed),
        // The runtime is shutting down, and nobody gets the answer.
        Err(_) => Err(PublishError::Failed),
    }
}

async fn publish_to_logs(state: Arc<State>, publication: Publication) -> Published {
    let Publication { route, channel, user, kind, payload } = publication;
    let broadcast::Published { recipients, sequence } =
        state.hubs.publish(&route, channel.as_deref(), user.as_deref(), kind, &payload).await;
    Published { recipients, sequence }
}

async fn publish_to_tunnels(state: Arc<State>, publication: Publication, frame: Bytes) -> Published {
    let recipients = state.registry.inject(&publication.route, publication.user.as_deref(), &frame).await;
    Published { recipients, sequence: None }
}

/// The frame for clients of a tunnel, if it may be sent.
fn frame_for_tunnels(
    budget: &Arc<Budget>,
    route: &Route,
    publication: &Publication,
) -> Result<Bytes, PublishError> {
    if publication.channel.is_some() {
        return Err(PublishError::NoChannels { route: publication.route.clone() });
    }
    if budget.is_over() {
        return Err(PublishError::NoMemory);
    }
    let frame = encode::message(publication.kind, &publication.payload);
    // No client could take it.
    let max = route.config.policy.delivery.max_lag.bytes;
    if frame.len() > max {
        return Err(PublishError::TooLong { setting: "policy.delivery.max_lag.bytes", max: max as u64 });
    }
    Ok(budget.hold(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_the_middle_of_publishing_is_an_answer() {
        let metrics = Metrics::new("outrigger").unwrap();
        let failed = run_to_end(Arc::clone(&metrics), async { panic!("as it is to be") }).await;
        assert!(matches!(failed, Err(PublishError::Failed)), "{failed:?}");
        let published = run_to_end(metrics, async { Published { recipients: 3, sequence: None } }).await;
        assert_eq!(published.unwrap().recipients, 3);
    }
}
