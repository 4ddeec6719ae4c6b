//! Letting clients go: not ready, a delay, closes spread over a window, then an end to all of it.
//!
//! # Invariants
//! 1. Every connection has its place in the window from the moment the drain begins, so that an upstream
//!    that goes away meanwhile changes nobody's pace. One that opens during the delay gets a place too.
//! 2. `drain.timeout` is the one deadline, from whoever asked first: what is left then is cut, whatever it is. A stop
//!    that is asked for later has what is left of that time, and no time of its own.
//! 3. Nobody is told that it is over while something is left that a cut could end.
//! 4. What has drained stays, and takes no client in, until a stop is asked for as well: whoever supervises the
//!    process would start it anew if it ended by itself, and clients would come back.
//!
//! # Why does a connection get its time when the drain begins?
//! The server is often stopped at the same moment. Its end must not be what sends ten thousand clients back at once.
//!
//! # Not here
//! When what happens ([`plan`]); how a connection closes ([`crate::tunnel`]); who may ask for a drain ([`crate::admin`]).

pub(super) mod plan;

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use self::plan::Plan;
use super::state::State;
use crate::connections::Command;
use crate::telemetry::DrainCut;

/// How often it is looked whether the last one has gone.
const LOOK: Duration = Duration::from_millis(20);
/// What was cut may take as long to end: first in order, then, as long again, without that.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Drains, and returns when a stop was asked for too and nothing is left: the last client has gone, or was cut
/// after `drain.timeout` or by `force_stop`.
pub(super) async fn run(state: &State, force_stop: impl Future) {
    let begun = Instant::now();
    let settings = state.snapshot().drain;
    // Before the walk over the registry: a connection that is entered later takes its place by itself.
    let plan = state.drain.begin(settings, begun);
    state.metrics.server.draining.set(1);
    let mut handles = state.registry.all();
    fastrand::shuffle(&mut handles);
    info!(
        clients = state.registry.clients(),
        delay_ms = settings.delay.as_millis() as u64,
        spread_ms = settings.spread.as_millis() as u64,
        "draining"
    );
    for (index, handle) in handles.iter().enumerate() {
        plan.place(handle, index, handles.len());
    }
    drop(handles);
    let mut force_stop = pin!(force_stop);
    let is_forced = empty(state, plan, force_stop.as_mut()).await;
    info!(took_ms = begun.elapsed().as_millis() as u64, "drained");
    // Read before `drained` wakes those who wait for it: a stop that they ask for then is another one.
    let is_stopping = state.lifecycle.is_stopping();
    state.lifecycle.drained();
    if is_forced || is_stopping {
        return;
    }
    info!("kept running, without clients, until a signal ends the process");
    state.lifecycle.until_stop().await;
    info!(requests = state.metrics.server.http_in_flight.get(), "ending");
    // Plain requests were served meanwhile, and a handshake may have been on its way.
    empty(state, plan, force_stop).await;
}

/// Waits until nothing is left, or cuts what is there at the plan's end or by `force_stop`. Whether it was `force_stop`, which
/// then is over.
async fn empty(state: &State, plan: Plan, force_stop: impl Future) -> bool {
    let emptied = async {
        if Instant::now() < plan.from {
            sleep_until(plan.from).await;
        }
        while !is_empty(state) {
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        // If nothing is left, nothing is cut, however late it is.
        biased;
        () = emptied => {}
        () = sleep_until(plan.until) => cut(state, "drain.timeout has passed").await,
        _ = force_stop => {
            cut(state, "asked to hurry").await;
            return true;
        }
    }
    false
}

/// No client is connected, no request waits for the rest of its answer, and the last frames to clients and to the
/// servers of channels have left.
fn is_empty(state: &State) -> bool {
    state.metrics.server.http_in_flight.get() == 0
        && state.registry.is_empty()
        && !state.drain.is_held()
        && state.hubs.is_idle()
}

/// Ends what there is, and waits until it has ended.
async fn cut(state: &State, why: &'static str) {
    let (clients, requests) = (state.registry.clients(), state.metrics.server.http_in_flight.get());
    warn!(clients, requests, why, "cutting what is left");
    state.metrics.server.drain_cut.inc_by(DrainCut::Connections, clients as u64);
    state.metrics.server.drain_cut.inc_by(DrainCut::Requests, u64::try_from(requests).unwrap_or_default());
    state.drain.cut();
    if ended(state).await {
        return;
    }
    // Servers of feeds that do not answer their Close.
    state.hubs.cut();
    if !ended(state).await {
        // This should not happen: each was told to end. The drain must not wait for ever all the same.
        warn!(
            connections = state.registry.len(),
            requests = state.metrics.server.http_in_flight.get(),
            "it was cut, and has not ended yet"
        );
    }
}

/// Waits for what was cut, for [`FLUSH_TIMEOUT`] at most; answers whether all of it has ended.
async fn ended(state: &State) -> bool {
    let deadline = Instant::now() + FLUSH_TIMEOUT;
    loop {
        // Each time: a handshake may just have become a connection.
        for handle in state.registry.all() {
            handle.send(Command::Cut);
        }
        if is_empty(state) {
            return true;
        }
        if deadline <= Instant::now() {
            return false;
        }
        sleep(LOOK).await;
    }
}
