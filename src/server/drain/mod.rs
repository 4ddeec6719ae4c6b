//! A drain: the process is not ready any more, waits for a delay, spreads closes over a window, and cuts what is left.
//!
//! # Invariants
//! 1. The close of every connection is scheduled within the window when the drain begins, so that an upstream that goes
//!    away meanwhile does not hurry it. The close of a connection that opens during the delay is scheduled too.
//! 2. `drain.timeout` is the one deadline, from whoever asked first: what is left then is cut, whatever it is. A stop
//!    that is asked for later has what is left of that time, and no time of its own.
//! 3. The drain is not reported as over while something is left that a cut could end.
//! 4. A process that has drained keeps running, without clients, until a stop is asked for as well: its supervisor
//!    would restart it if it ended by itself, and clients would come back.
//!
//! # Why does a connection get its time when the drain begins?
//! The server is often stopped at the same moment. Its end must not be what sends ten thousand clients back at once.
//!
//! # Not here
//! When what happens ([`plan`]); how a connection closes ([`crate::tunnel`]); who may ask for a drain
//! ([`crate::admin`]).

pub(super) mod plan;

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use self::plan::Plan;
use super::state::State;
use crate::connections::Command;
use crate::telemetry::DrainCut;

/// How often it is checked whether anything is left.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long what was cut may take to end: first with its Close, then, as long again, without.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Drains, and returns when a stop was asked for too and nothing is left: every client has gone, or was cut
/// after `drain.timeout` or by `force_stop`.
pub(super) async fn run(state: &State, force_stop: impl Future) {
    let begun = Instant::now();
    let settings = state.snapshot().drain;
    // Before the loop over the registry: the close of a connection that is entered later is scheduled as it is entered.
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
        plan.schedule(handle, index, handles.len());
    }
    drop(handles);
    let mut force_stop = pin!(force_stop);
    let is_forced = wait_until_empty(state, plan, force_stop.as_mut()).await;
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
    wait_until_empty(state, plan, force_stop).await;
}

/// Waits until nothing is left, and cuts what is left at the plan's deadline or when `force_stop` completes. Answers
/// whether `force_stop` has completed.
async fn wait_until_empty(state: &State, plan: Plan, force_stop: impl Future) -> bool {
    let emptied = async {
        if Instant::now() < plan.closes_from {
            sleep_until(plan.closes_from).await;
        }
        while !is_empty(state) {
            // Nobody comes back to them any more, also to those whose clients go now.
            state.sessions.end_detached();
            sleep(POLL_INTERVAL).await;
        }
    };
    tokio::select! {
        // If nothing is left, nothing is cut, however late it is.
        biased;
        () = emptied => {}
        () = sleep_until(plan.deadline) => cut_remaining(state, "drain.timeout has passed").await,
        _ = force_stop => {
            cut_remaining(state, "asked to hurry").await;
            return true;
        }
    }
    false
}

/// Whether no client is connected, no request waits for the rest of its answer, and the last frames to clients and to
/// the servers of channels were sent.
fn is_empty(state: &State) -> bool {
    state.metrics.server.http_in_flight.get() == 0
        && state.registry.is_empty()
        && !state.drain.is_held()
        && state.hubs.is_idle()
        && state.sessions.is_idle()
}

/// Cuts whatever is left, and waits until it has ended.
async fn cut_remaining(state: &State, why: &'static str) {
    let (clients, requests) = (state.registry.clients(), state.metrics.server.http_in_flight.get());
    warn!(clients, requests, why, "cutting what is left");
    state.metrics.server.drain_cut.inc_by(DrainCut::Connections, clients as u64);
    state.metrics.server.drain_cut.inc_by(DrainCut::Requests, u64::try_from(requests).unwrap_or_default());
    state.drain.cut();
    if cut_until_empty(state).await {
        return;
    }
    // Servers of feeds that do not answer their Close.
    state.hubs.cut();
    state.sessions.cut();
    if !cut_until_empty(state).await {
        // This should not happen, since each was sent a cut; but the drain must not wait for ever.
        warn!(
            connections = state.registry.len(),
            requests = state.metrics.server.http_in_flight.get(),
            "it was cut, and has not ended yet"
        );
    }
}

/// Sends a cut to every connection until none is left, for [`FLUSH_TIMEOUT`] at most; answers whether all have ended.
async fn cut_until_empty(state: &State) -> bool {
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
        sleep(POLL_INTERVAL).await;
    }
}
