//! What an operator publishes reaches those it is for: mode tunnel through the connections' mailboxes, mode
//! broadcast through the log.
//!
//! # Invariants
//! 1. A message is encoded once and shared by all who get it; it is in the budget of the process until the
//!    last of them has it.
//! 2. What was begun is finished, whether or not whoever asked still waits for the answer.
//!
//! # Not here
//! What a request looks like ([`crate::admin`]); where in a tunnel there is a place ([`crate::tunnel`]).

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::state::{Route, State};
use crate::admin::{Channel, Publication, PublishError, Published, Subscriber};
use crate::broadcast;
use crate::config::Mode;
use crate::frame::encode;
use crate::memory::Budget;
use crate::telemetry::panics::{Panicked, caught};
use crate::telemetry::{Handle, Metrics, TaskKind};

/// Handles between two pauses: a few hundred microseconds.
const AT_ONCE: usize = 256;

/// Publishes.
///
/// # Errors
/// Nothing was published, and why.
pub(super) async fn publish(state: Arc<State>, publication: Publication) -> Result<Published, PublishError> {
    let table = state.table();
    let Some(route) = table.router.routes().find(|route| route.config.name == publication.route) else {
        let known = table.router.routes().map(|route| route.config.name.clone()).collect();
        return Err(PublishError::NoRoute { name: publication.route, known });
    };
    let most = route.config.policy.max_message;
    if publication.payload.len() as u64 > most {
        return Err(PublishError::TooLong { setting: "policy.max_message", most });
    }
    match route.config.mode {
        Mode::Broadcast => {
            let (asked, metrics) = (Arc::clone(&state), Arc::clone(&state.metrics));
            let (route, channel) = (publication.route.clone(), publication.channel.clone());
            let published = finished(metrics, into_logs(state, publication)).await?;
            match channel {
                Some(name) if published.sequence.is_none() && published.recipients == 0 => {
                    found(&asked, route, name).map(|()| published)
                }
                _ => Ok(published),
            }
        }
        Mode::Tunnel => {
            let frame = for_tunnels(&state.budget, route, &publication)?;
            let metrics = Arc::clone(&state.metrics);
            finished(metrics, into_tunnels(state, publication, frame)).await
        }
    }
}

/// Whether there is such a channel, of which nobody was meant; asked afterwards, since nearly always somebody is.
fn found(state: &State, route: String, name: String) -> Result<(), PublishError> {
    let all = channels(state).into_iter().filter(|channel| channel.route == route);
    let mut known: Vec<String> = all.map(|channel| channel.channel).collect();
    known.sort_unstable();
    if known.contains(&name) { Ok(()) } else { Err(PublishError::NoChannel { route, name, known }) }
}

/// The routes there are, in their order.
pub(super) fn routes(state: &State) -> Vec<(String, Mode)> {
    state.table().router.routes().map(|route| (route.config.name.clone(), route.config.mode)).collect()
}

/// The channels there are.
pub(super) fn channels(state: &State) -> Vec<Channel> {
    let shown = |info: broadcast::ChannelInfo| Channel {
        route: info.route,
        channel: info.channel,
        clients: info.clients,
        connected: info.is_connected,
        epoch: format!("{:016x}", info.epoch),
        sequence: info.sequence,
    };
    state.hubs.channels().into_iter().map(shown).collect()
}

/// The clients of mode broadcast there are.
pub(super) fn subscribers(state: &State) -> Vec<Subscriber> {
    let now = Instant::now();
    let handles = state.registry.all().into_iter();
    let shown = |handle: Arc<Handle>| {
        let receipts = handle.receipts()?;
        Some(Subscriber {
            connection: handle.id,
            route: handle.about.route.name.to_string(),
            channel: handle.about.channel.as_deref().unwrap_or_default().to_owned(),
            user: handle.about.user.as_deref().map(str::to_owned),
            age_seconds: now.saturating_duration_since(handle.since).as_secs(),
            sent: receipts.sent,
            acknowledged: receipts.acknowledged,
            delivery_rate: (receipts.asked > 0).then(|| receipts.acknowledged as f64 / receipts.asked as f64),
            lag: receipts.lag,
            buffered_bytes: receipts.buffered,
        })
    };
    handles.filter_map(shown).collect()
}

/// What is dropped with a request goes on in a task of its own, which is over soon.
async fn finished(
    metrics: Arc<Metrics>,
    work: impl Future<Output = Published> + Send + 'static,
) -> Result<Published, PublishError> {
    let working = tokio::spawn(async move { caught(TaskKind::Publish, &metrics, work).await });
    match working.await {
        Ok(published) => published.map_err(|Panicked| PublishError::Failed),
        // The runtime ends, and nobody hears the answer.
        Err(_) => Err(PublishError::Failed),
    }
}

async fn into_logs(state: Arc<State>, publication: Publication) -> Published {
    let Publication { route, channel, user, kind, payload } = publication;
    let broadcast::Published { recipients, sequence } =
        state.hubs.publish(&route, channel.as_deref(), user.as_deref(), kind, &payload).await;
    Published { recipients, sequence }
}

/// The frame that clients of tunnels get, if they may.
fn for_tunnels(
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
    // Nobody could take it.
    let most = route.config.policy.delivery.max_lag.bytes;
    if frame.len() > most {
        return Err(PublishError::TooLong { setting: "policy.delivery.max_lag.bytes", most: most as u64 });
    }
    Ok(budget.hold(frame))
}

/// Gives `frame` to each tunnel that it is for, and counts those that took it.
async fn into_tunnels(state: Arc<State>, publication: Publication, frame: Bytes) -> Published {
    let is_meant = |handle: &Handle| {
        *handle.about.route.name == *publication.route
            && publication.user.as_deref().is_none_or(|user| handle.about.user.as_deref() == Some(user))
    };
    let mut recipients = 0;
    for some in state.registry.all().chunks(AT_ONCE) {
        for handle in some.iter().filter(|handle| is_meant(handle)) {
            recipients += u64::from(is_taken(handle, &frame, &state.metrics));
        }
        // Those who were woken get their turn.
        tokio::task::yield_now().await;
    }
    Published { recipients, sequence: None }
}

/// What is taken is counted by the connection, when its end is known.
fn is_taken(handle: &Handle, frame: &Bytes, metrics: &Metrics) -> bool {
    match handle.inject(frame) {
        Ok(()) => true,
        Err(why) => {
            metrics.on_injection(why);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_the_middle_of_publishing_is_an_answer() {
        let metrics = Metrics::new("outrigger").unwrap();
        let failed = finished(Arc::clone(&metrics), async { panic!("as it is to be") }).await;
        assert!(matches!(failed, Err(PublishError::Failed)), "{failed:?}");
        let told = finished(metrics, async { Published { recipients: 3, sequence: None } }).await;
        assert_eq!(told.unwrap().recipients, 3);
    }
}
