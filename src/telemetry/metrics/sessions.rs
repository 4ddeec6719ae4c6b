//! What the sessions of one route count (mode session): how they end, how clients and servers come back, and what of
//! the clients' messages was lost.
//!
//! # Not here
//! The client's links one by one ([`super::routes`]); what logs hold ([`super::log`]).

use std::sync::Arc;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::declare::{CounterBy, Declare, MetricsError};
use super::label::{Label, labels};

labels! {
    /// Why a session ended (`outrigger_session_ends_total{why}`).
    pub(crate) enum SessionEnd {
        /// The server said Close, with a code that is its word.
        Server = "server",
        /// The server did not come back within `redial.give_up`.
        UpstreamLost = "upstream_lost",
        /// A redial was answered with 401 or 403.
        Unauthorized = "unauthorized",
        /// The proxy is being stopped.
        Drain = "drain",
        /// `max_lifetime`, and nobody who could come back.
        Lifetime = "lifetime",
        /// The client's credentials ended.
        Expired = "expired",
        /// The client did not read, and cannot come back.
        Slow = "slow",
        /// A newer connection of its user took its place.
        Replaced = "replaced",
        /// `idle_timeout`
        Idle = "idle",
        /// Each server that heard the same message died of it.
        Poison = "poison",
        /// More than `history` was said to an absent client.
        Overflow = "overflow",
        /// `memory.max_buffered`: messages that the client had not had were let go.
        Memory = "memory",
        /// The client's word, or the loss of one that cannot come back.
        Client = "client",
        /// The client did not come back within `session.resume_window`.
        Window = "window",
        /// `session.max_detached`
        Evicted = "evicted",
        /// A side broke RFC 6455, or said too much.
        Fault = "fault",
        /// Its task has panicked.
        Internal = "internal",
    }

    /// How the absence of a client ended, and what became of a ticket that was shown
    /// (`outrigger_resumes_total{outcome}`).
    pub(crate) enum ResumeOutcome {
        /// It goes on where it was.
        Resumed = "resumed",
        /// Something that the client missed is not there any more.
        Gap = "gap",
        /// The session ended before its client came.
        Expired = "expired",
        /// Not a ticket of ours.
        Forged = "forged",
        /// A ticket of another process.
        Elsewhere = "elsewhere",
        /// There is no such session any more.
        Gone = "gone",
        /// A newer ticket of the session is in use.
        Used = "used",
        /// Another user, path or subprotocol than the session's.
        Foreign = "foreign",
        /// The client claims to have had what was never sent.
        Ahead = "ahead",
    }

    /// How the redial of a session's server went (`outrigger_redials_total{outcome}`).
    pub(crate) enum RedialOutcome {
        /// It is connected again.
        Ok = "ok",
        /// No connection, no answer, or not a valid one.
        Failed = "failed",
        /// The server answered with something else than a 101.
        Refused = "refused",
    }

    /// Why a message of a session's client never reached its server, or may not have
    /// (`outrigger_messages_lost_total{reason}`).
    pub(crate) enum MessageLoss {
        /// `session.queue.messages` or `bytes`
        Queue = "queue",
        /// `session.queue.age`
        Age = "age",
        /// A greeting that was too large to be kept.
        Greeting = "greeting",
        /// It was on its way when the server went, which may have taken it.
        Uncertain = "uncertain",
    }

    /// Who came back (`outrigger_recovery_seconds{side}`).
    pub(crate) enum RecoverySide {
        /// A client, to its session.
        Client = "client",
        /// A server: it has been greeted, and takes messages.
        Upstream = "upstream",
    }

    /// `state` of `outrigger_sessions`.
    enum SessionState {
        Attached = "attached",
        Http = "http",
        Away = "away",
    }
}

/// From a restart that is hardly seen to a window that runs out.
const RECOVERY_BUCKETS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// One route's sessions, its name resolved as a label.
#[derive(Debug)]
pub(crate) struct SessionMetrics {
    /// Sessions whose client is connected.
    pub(crate) attached: IntGauge,
    /// Those whose client is connected over HTTP.
    pub(crate) http: IntGauge,
    /// Those whose client may come back.
    pub(crate) away: IntGauge,
    /// Those whose server is connected.
    pub(crate) connected: IntGauge,
    pub(crate) ends: CounterBy<SessionEnd>,
    pub(crate) resumes: CounterBy<ResumeOutcome>,
    pub(crate) redials: CounterBy<RedialOutcome>,
    /// Messages of clients that were said again to a new server.
    pub(crate) replayed: IntCounter,
    pub(crate) lost: CounterBy<MessageLoss>,
    /// Messages of servers that a client will never get.
    pub(crate) missed: IntCounter,
}

/// The families behind [`SessionMetrics`], and what all routes share.
#[derive(Debug)]
pub(super) struct SessionFamilies {
    sessions: IntGaugeVec,
    connected: IntGaugeVec,
    ends: IntCounterVec,
    resumes: IntCounterVec,
    redials: IntCounterVec,
    replayed: IntCounterVec,
    lost: IntCounterVec,
}

/// How long a side was gone.
#[derive(Debug)]
pub(crate) struct RecoveryMetrics {
    sides: Vec<Histogram>,
}

impl SessionFamilies {
    pub(super) fn declare(d: &Declare<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            sessions: d.gauges(
                "sessions",
                "Sessions, by whether their client is connected",
                &["route", "state"],
            )?,
            connected: d.gauges("sessions_connected", "Sessions whose upstream is connected", &["route"])?,
            ends: d.counters("session_ends_total", "Sessions that ended, by why", &["route", "why"])?,
            resumes: d.counters(
                "resumes_total",
                "Absences of clients that ended, and tickets that were not taken, by how",
                &["route", "outcome"],
            )?,
            redials: d.counters(
                "redials_total",
                "Dials of servers that sessions had lost, by what came of them",
                &["route", "outcome"],
            )?,
            replayed: d.counters(
                "messages_replayed_total",
                "Messages of clients that were said again to a new server",
                &["route"],
            )?,
            lost: d.counters(
                "messages_lost_total",
                "Messages of clients that no server got, or that the lost one may not have taken, by why",
                &["route", "reason"],
            )?,
        })
    }

    /// How clients of one route came back.
    pub(super) fn resumes(&self, route: &str) -> CounterBy<ResumeOutcome> {
        CounterBy::resolve(&self.resumes, |outcome| vec![route, outcome])
    }

    /// Resolves every label value of one route.
    pub(super) fn route(&self, route: &str, missed: IntCounter) -> Arc<SessionMetrics> {
        let state = |state: SessionState| self.sessions.with_label_values(&[route, state.as_str()]);
        Arc::new(SessionMetrics {
            attached: state(SessionState::Attached),
            http: state(SessionState::Http),
            away: state(SessionState::Away),
            connected: self.connected.with_label_values(&[route]),
            ends: CounterBy::resolve(&self.ends, |why| vec![route, why]),
            resumes: self.resumes(route),
            redials: CounterBy::resolve(&self.redials, |outcome| vec![route, outcome]),
            replayed: self.replayed.with_label_values(&[route]),
            lost: CounterBy::resolve(&self.lost, |reason| vec![route, reason]),
            missed,
        })
    }
}

impl RecoveryMetrics {
    pub(super) fn declare(d: &Declare<'_>) -> Result<Self, MetricsError> {
        let family: HistogramVec = d.histograms(
            "recovery_seconds",
            "From the loss of a session's side until it was back",
            RECOVERY_BUCKETS,
            &["side"],
        )?;
        let sides = RecoverySide::ALL.iter().map(|side| family.with_label_values(&[side.as_str()])).collect();
        Ok(Self { sides })
    }

    pub(crate) fn observe(&self, side: RecoverySide, seconds: f64) {
        self.sides[side.index()].observe(seconds);
    }

    #[cfg(test)]
    pub(crate) fn count(&self, side: RecoverySide) -> u64 {
        self.sides[side.index()].get_sample_count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn what_a_client_missed_is_one_family_for_feeds_and_sessions() {
        let metrics = Metrics::new("outrigger").unwrap();
        metrics.sessions("chat").missed.inc_by(3);
        assert_eq!(metrics.feeds("chat").missed.get(), 3);
        assert_eq!(metrics.feeds("other").missed.get(), 0);
    }

    #[test]
    fn the_time_away_is_told_by_side() {
        let metrics = Metrics::new("outrigger").unwrap();
        metrics.session_recovery.observe(RecoverySide::Upstream, 0.2);
        assert_eq!(metrics.session_recovery.count(RecoverySide::Upstream), 1);
        assert_eq!(metrics.session_recovery.count(RecoverySide::Client), 0);
    }
}
