//! Every metric, declared once: a file for each room that counts, with the labels it counts by.
//!
//! To add one: a field in the file of its room, its line in `declare`, a row in `docs/metrics.md` (a test compares
//! them).
//!
//! # Invariants
//! 1. Label values are resolved when a route is made, not while something is counted.
//! 2. Every value of a label is there from the start, since a `rate()` needs the zero before the first event.
//!
//! # Not here
//! What a single connection counts ([`crate::connections`]); never a user, a path or an address as a label.

mod admission;
mod breakers;
mod connections;
mod declare;
mod feeds;
mod label;
mod log;
mod process;
mod routes;
mod server;
mod sessions;
mod upstream;

use std::sync::Arc;

use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Registry};

pub(crate) use self::admission::{AuthFailure, JwksOutcome};
pub(crate) use self::breakers::{BreakerMetrics, BreakerScope};
pub use self::connections::Reason;
pub(crate) use self::connections::{By, Injection};
pub(crate) use self::declare::MetricsError;
pub(crate) use self::feeds::{Conflation, FeedMetrics, UplinkLoss, UplinkOutcome};
pub use self::label::Label;
pub(crate) use self::log::Trim;
pub(crate) use self::process::{CertificateKind, ReloadOutcome, TaskKind};
pub(crate) use self::routes::{HandshakeOutcome, RefusalReason, RouteMetrics, StatusClass};
pub(crate) use self::server::{ConnectionRefusal, DrainCut, IdleBound, ProxyFault, RequestError, TlsFailure};
pub(crate) use self::sessions::{
    MessageLoss, RecoverySide, RedialOutcome, ResumeOutcome, SessionEnd, SessionMetrics,
};
pub(crate) use self::upstream::UpstreamErrorKind;

use self::admission::AdmissionMetrics;
use self::breakers::BreakerFamilies;
use self::connections::ConnectionMetrics;
use self::declare::{CounterBy, Declare};
use self::feeds::FeedFamilies;
use self::log::LogMetrics;
use self::process::ProcessMetrics;
use self::routes::RouteFamilies;
use self::server::ServerMetrics;
use self::sessions::{RecoveryMetrics, SessionFamilies};
use self::upstream::UpstreamMetrics;

/// The metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub(crate) process: ProcessMetrics,
    pub(crate) server: ServerMetrics,
    pub(crate) admission: AdmissionMetrics,
    pub(crate) upstream: UpstreamMetrics,
    pub(crate) connections: ConnectionMetrics,
    /// What logs hold.
    pub log: LogMetrics,
    /// By why their client's connection ended.
    pub(crate) unacknowledged: CounterBy<Reason>,
    pub(crate) session_recovery: RecoveryMetrics,
    /// The longest queue of messages that a session's client said and no server has yet; set at a scrape.
    pub(crate) session_queue_longest: IntGauge,
    routes: RouteFamilies,
    feeds: FeedFamilies,
    sessions: SessionFamilies,
    breakers: BreakerFamilies,
}

impl Metrics {
    /// Declares every metric under `prefix`.
    ///
    /// # Errors
    /// `prefix` is not the beginning of a Prometheus name.
    pub fn new(prefix: &str) -> Result<Arc<Self>, MetricsError> {
        let d = Declare { prefix, registry: Registry::new() };
        d.register_process_collector()?;
        Ok(Arc::new(Self {
            process: ProcessMetrics::declare(&d)?,
            server: ServerMetrics::declare(&d)?,
            admission: AdmissionMetrics::declare(&d)?,
            upstream: UpstreamMetrics::declare(&d)?,
            connections: ConnectionMetrics::declare(&d)?,
            log: LogMetrics::declare(&d)?,
            unacknowledged: d.counter_by(
                "message_failures_total",
                "Messages of feeds that their client had not acknowledged when its connection ended, by why it did",
                "reason",
            )?,
            session_recovery: RecoveryMetrics::declare(&d)?,
            session_queue_longest: d.gauge(
                "session_queue_longest_messages",
                "Messages of the session whose client has said most that no server has yet",
            )?,
            routes: RouteFamilies::declare(&d)?,
            feeds: FeedFamilies::declare(&d)?,
            sessions: SessionFamilies::declare(&d)?,
            breakers: BreakerFamilies::declare(&d)?,
            registry: d.registry,
        }))
    }

    /// What a scrape shows.
    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// What one route counts.
    pub(crate) fn route(&self, name: &str) -> Arc<RouteMetrics> {
        self.routes.route(name)
    }

    /// What the feeds of one route count.
    pub(crate) fn feeds(&self, route: &str) -> Arc<FeedMetrics> {
        self.feeds.route(route, self.sessions.resumes(route))
    }

    /// What the sessions of one route count.
    pub(crate) fn sessions(&self, route: &str) -> Arc<SessionMetrics> {
        self.sessions.route(route, self.feeds.missed(route))
    }

    /// The breakers of one scope and route.
    pub(crate) fn breaker(&self, scope: BreakerScope, route: &str) -> Arc<BreakerMetrics> {
        self.breakers.breaker(scope, route)
    }

    /// Handshakes that wait for what the probes of a route's breaker find out.
    pub(crate) fn breaker_waiting(&self, route: &str) -> IntGauge {
        self.breakers.waiting(route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_begins_every_name_of_ours_and_every_label_value_is_there_from_the_start() {
        let metrics = Metrics::new("edge").unwrap();
        let _route = metrics.route("chat");
        let families = metrics.gather();
        assert!(families.iter().all(|f| f.name().starts_with("edge_") || f.name().starts_with("process_")));
        let ends = families.iter().find(|f| f.name() == "edge_disconnections_total").unwrap();
        assert_eq!(
            ends.get_metric().len(),
            Reason::ALL.len(),
            "a rate() needs the zero before the first event"
        );
    }

    #[test]
    fn a_bad_prefix_is_an_error() {
        assert!(Metrics::new("9 lives").is_err());
    }
}
