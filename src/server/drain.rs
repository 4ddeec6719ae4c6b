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
//! # Not here
//! How a connection closes ([`crate::tunnel`]); who may ask for a drain ([`crate::admin`]).

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::state::State;
use crate::config;
use crate::connections::{Command, Handle};
use crate::frame::CloseCode;
use crate::resilience::spread_evenly;
use crate::telemetry::DrainCut;

/// How often it is looked whether the last one has gone.
const LOOK: Duration = Duration::from_millis(20);
/// What was cut may take as long to end: first in order, then, as long again, without that.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The drain of a process, once it has begun.
#[derive(Debug, Default)]
pub(super) struct Drain {
    plan: OnceLock<Plan>,
    /// Connections whose last words may not have left yet when their last client is done.
    held: AtomicUsize,
    /// Rung when what is left is cut.
    cut: Arc<Notify>,
}

/// A connection that a drain waits for.
#[derive(Debug)]
pub(super) struct Held<'a>(&'a Drain);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Relaxed);
    }
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    /// As they were when it began.
    settings: config::Drain,
    /// The delay is over: closes begin.
    from: Instant,
    /// Whatever is left is cut.
    until: Instant,
}

impl Drain {
    /// Whether new connections are turned away: a drain has begun and its delay has passed.
    pub(super) fn refuses(&self, now: Instant) -> bool {
        self.plan.get().is_some_and(|plan| plan.from <= now)
    }

    /// When closes begin; a drain that was asked for and has no plan yet begins `now`.
    pub(super) fn closes_from(&self, delay: Duration, now: Instant) -> Instant {
        self.plan.get().map_or(now + delay, |plan| plan.from)
    }

    /// Has the end of the drain wait for a connection that carries several clients and ends itself: they
    /// are done before what they said has left.
    pub(super) fn hold(&self) -> Held<'_> {
        self.held.fetch_add(1, Relaxed);
        Held(self)
    }

    /// Completes when what is left is cut. Who asks after that is not meant: a process that has drained still answers
    /// plain requests.
    pub(super) fn cuts(&self) -> OwnedNotified {
        Arc::clone(&self.cut).notified_owned()
    }

    /// Gives a connection that was just opened its place, if a drain has begun.
    pub(super) fn admit(&self, handle: &Handle) {
        if let Some(plan) = self.plan.get() {
            plan.place(handle, 0, 1);
        }
    }
}

impl Plan {
    fn place(&self, handle: &Handle, index: usize, count: usize) {
        let at = self.from + spread_evenly(index, count, self.settings.spread, fastrand::f64());
        handle.send(Command::CloseAt { at, code: CloseCode(self.settings.close_code) });
    }
}

/// Drains, and returns when a stop was asked for too and nothing is left: the last client has gone, or was cut
/// after `drain.timeout` or by `hurry`.
pub(super) async fn run(state: &State, hurry: impl Future) {
    let drain = &state.drain;
    let begun = Instant::now();
    let settings = state.table().drain;
    let plan = Plan { settings, from: begun + settings.delay, until: begun + settings.timeout };
    // Before the walk: who is entered later sees the plan by itself.
    let plan = *drain.plan.get_or_init(|| plan);
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
    let mut hurry = pin!(hurry);
    let is_hurried = empty(state, plan, hurry.as_mut()).await;
    info!(took_ms = begun.elapsed().as_millis() as u64, "drained");
    // Read before those who wait for the drain are told: what they do next is theirs.
    let is_stopping = state.lifecycle.is_stopping();
    state.lifecycle.drained();
    if is_hurried || is_stopping {
        return;
    }
    info!("kept running, without clients, until a signal ends the process");
    state.lifecycle.until_stop().await;
    info!(requests = state.metrics.server.http_in_flight.get(), "ending");
    // Plain requests were served meanwhile, and a handshake may have been on its way.
    empty(state, plan, hurry).await;
}

/// Waits until nothing is left, or cuts what is there at the plan's end or by `hurry`. Whether it was `hurry`, which
/// then is over.
async fn empty(state: &State, plan: Plan, hurry: impl Future) -> bool {
    let emptied = async {
        if Instant::now() < plan.from {
            sleep_until(plan.from).await;
        }
        while !is_empty(state) {
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        // Where nothing is left there is nothing to cut, however late it is.
        biased;
        () = emptied => {}
        () = sleep_until(plan.until) => cut(state, "drain.timeout has passed").await,
        _ = hurry => {
            cut(state, "asked to hurry").await;
            return true;
        }
    }
    false
}

/// Nobody is connected, no request waits for the rest of its answer, and what clients and the servers of feeds were
/// told last has left.
fn is_empty(state: &State) -> bool {
    state.metrics.server.http_in_flight.get() == 0
        && state.registry.is_empty()
        && state.drain.held.load(Relaxed) == 0
        && state.hubs.is_idle()
}

/// Ends what there is, and waits until it has ended.
async fn cut(state: &State, why: &'static str) {
    let (clients, requests) = (state.registry.clients(), state.metrics.server.http_in_flight.get());
    warn!(clients, requests, why, "cutting what is left");
    state.metrics.server.drain_cut.inc_by(DrainCut::Connections, clients as u64);
    state.metrics.server.drain_cut.inc_by(DrainCut::Requests, u64::try_from(requests).unwrap_or_default());
    state.drain.cut.notify_waiters();
    if ended(state).await {
        return;
    }
    // Servers of feeds that do not answer their Close.
    state.hubs.cut();
    if !ended(state).await {
        // Unheard of: each has heard that it is to end. Whoever waits must not wait for ever all the same.
        warn!(
            connections = state.registry.len(),
            requests = state.metrics.server.http_in_flight.get(),
            "it was cut, and has not ended yet"
        );
    }
}

/// Gives what was cut its time; whether all of it has ended.
async fn ended(state: &State) -> bool {
    let deadline = Instant::now() + LAST_WORDS;
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
