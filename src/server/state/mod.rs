//! What all connections of the process share: what stays ([`State`]), and what a reload replaces as a
//! whole ([`Snapshot`]): routes ([`route`]), with what they take over from before ([`reload_reuse`]).
//!
//! # Not here
//! How a configuration is read again ([`super::reload`]); which route a request takes ([`super::router`]).

mod error;
mod reload_reuse;
mod route;
mod snapshot;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub(super) use self::error::SnapshotError;
pub(super) use self::route::{Mode, Route};
pub(super) use self::snapshot::Snapshot;
use super::drain::plan::Drain;
use super::limits::handshakes::HandshakeLimit;
use super::limits::idle::IdleLimit;
use super::limits::refusals::RefusalLimit;
use super::lines::Lines;
use crate::broadcast::Hubs;
use crate::config::Config;
use crate::connections::Registry;
use crate::connections::lifecycle::Lifecycle;
use crate::log::Logs;
use crate::memory::Budget;
use crate::net::Workers;
use crate::session::Sessions;
use crate::telemetry::Metrics;

/// What lives as long as the process.
#[derive(Debug)]
pub(in crate::server) struct State {
    snapshot: ArcSwap<Snapshot>,
    pub(in crate::server) metrics: Arc<Metrics>,
    /// Where connections live.
    pub(in crate::server) workers: Workers,
    pub(in crate::server) registry: Arc<Registry>,
    pub(in crate::server) lifecycle: Lifecycle,
    pub(in crate::server) drain: Drain,
    pub(in crate::server) refusals: Arc<RefusalLimit>,
    pub(in crate::server) handshakes: HandshakeLimit,
    /// HTTP connections that are idle.
    pub(in crate::server) idle: IdleLimit,
    /// Bytes of all overflow and logs together (`memory.max_buffered`).
    pub(in crate::server) budget: Arc<Budget>,
    /// Bytes of answers with messages that were not handed over yet: half of that, so that clients who do not read theirs
    /// leave room for the others.
    pub(in crate::server) answers: Arc<Budget>,
    /// Bytes of what clients are saying by `POST`: half of that again.
    pub(in crate::server) posts: Arc<Budget>,
    pub(in crate::server) logs: Arc<Logs>,
    pub(in crate::server) hubs: Arc<Hubs>,
    pub(in crate::server) sessions: Arc<Sessions>,
    /// Writes lines of the log about what clients did, so many a second at most.
    pub(in crate::server) lines: Lines,
}

impl State {
    pub(in crate::server) fn new(
        config: Config,
        metrics: Arc<Metrics>,
        workers: Workers,
    ) -> Result<Arc<Self>, SnapshotError> {
        let (connections, requests) = (config.log.connections, config.log.requests);
        let budget = Arc::new(Budget::new(config.max_buffered));
        let answers = Arc::new(Budget::half_of(&budget));
        let lifecycle = Lifecycle::new();
        let logs = Logs::new(Arc::clone(&budget), Arc::clone(&metrics));
        let hubs = Hubs::new(
            Arc::clone(&logs),
            Arc::clone(&budget),
            Arc::clone(&metrics),
            (config.listen.workers, workers.clone()),
            lifecycle.clone(),
        );
        let sessions = Sessions::new(Arc::clone(&logs), Arc::clone(&budget), Arc::clone(&metrics));
        let snapshot = Snapshot::new(config, None, &metrics, &budget, (&hubs, &sessions))?;
        snapshot.report(None, &metrics);
        hubs.set_spread(snapshot.drain.spread);
        Ok(Arc::new(Self {
            drain: Drain::default(),
            handshakes: HandshakeLimit::new(),
            idle: IdleLimit::new(Arc::clone(&metrics)),
            posts: Arc::new(Budget::half_of(&answers)),
            answers,
            budget,
            lines: Lines::new(requests),
            registry: Registry::new(Arc::clone(&metrics), connections),
            logs,
            hubs,
            sessions,
            lifecycle,
            refusals: RefusalLimit::new(Arc::clone(&metrics)),
            snapshot: ArcSwap::from_pointee(snapshot),
            metrics,
            workers,
        }))
    }

    /// From now on connections and requests that come get `snapshot`.
    pub(in crate::server) fn replace(&self, snapshot: Snapshot) {
        snapshot.report(Some(&self.snapshot()), &self.metrics);
        self.hubs.set_spread(snapshot.drain.spread);
        self.snapshot.store(Arc::new(snapshot));
    }

    /// The configuration that holds now.
    pub(in crate::server) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}
