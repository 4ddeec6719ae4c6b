//! What breakers and feeds count: one struct for each route, labels resolved.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::declare::{Declare, resolve};
use super::labels::{
    BreakerScope, BreakerStage, Conflation, Injection, Label, Reason, Trim, UplinkLoss, UplinkOutcome,
};
use super::metrics::{Metrics, MetricsError};

/// The breakers of one scope and route. The gauge shows the worst of them.
#[derive(Debug)]
pub struct BreakerMetrics {
    state: IntGauge,
    transitions: Vec<IntCounter>,
    half_open: AtomicI64,
    open: AtomicI64,
}

impl BreakerMetrics {
    pub(super) fn new(state: IntGauge, transitions: Vec<IntCounter>) -> Self {
        Self { state, transitions, half_open: AtomicI64::new(0), open: AtomicI64::new(0) }
    }

    /// A breaker went from one stage to another; `None`: it is not there yet, or not any more.
    pub fn on_transition(&self, from: Option<BreakerStage>, to: Option<BreakerStage>) {
        if from == to {
            return;
        }
        for (stage, by) in [(from, -1), (to, 1)] {
            match stage {
                Some(BreakerStage::HalfOpen) => drop(self.half_open.fetch_add(by, Relaxed)),
                Some(BreakerStage::Open) => drop(self.open.fetch_add(by, Relaxed)),
                Some(BreakerStage::Closed) | None => {}
            }
        }
        if let (Some(_), Some(to)) = (from, to) {
            self.transitions[to.index()].inc();
        }
        self.state.set(match (self.open.load(Relaxed), self.half_open.load(Relaxed)) {
            (1.., _) => 2,
            (_, 1..) => 1,
            _ => 0,
        });
    }

    /// How many are open now.
    pub fn open(&self) -> i64 {
        self.open.load(Relaxed)
    }
}

/// What the feeds of one route count.
#[derive(Debug)]
pub struct FeedMetrics {
    /// Channels there are.
    pub channels: IntGauge,
    /// Those of them whose upstream is connected.
    pub connected: IntGauge,
    /// Messages that upstreams said.
    pub received: IntCounter,
    /// Messages that operators published into logs.
    pub published: IntCounter,
    /// Messages from clients that ended here (`broadcast.uplink: drop`).
    pub uplink_dropped: IntCounter,
    /// Messages from clients that went to the server (`forward`).
    pub uplink_forwarded: IntCounter,
    /// Messages that a client will never get, counted for each client.
    pub missed: IntCounter,
    /// Messages that clients' WebSocket stacks have answered a later ping for.
    pub acknowledged: IntCounter,
    pub(super) conflated: Vec<IntCounter>,
    pub(super) dials: Vec<IntCounter>,
    pub(super) losses: Vec<IntCounter>,
}

impl FeedMetrics {
    /// Counts messages that a newer one stood for, for each client.
    pub fn on_conflated(&self, reason: Conflation, messages: u64) {
        self.conflated[reason.index()].inc_by(messages);
    }

    /// Counts a dial for a channel.
    pub fn on_dial(&self, outcome: UplinkOutcome) {
        self.dials[outcome.index()].inc();
    }

    /// Counts a channel's loss of its server.
    pub fn on_loss(&self, cause: UplinkLoss) {
        self.losses[cause.index()].inc();
    }
}

/// The families behind them.
#[derive(Debug)]
pub(super) struct Families {
    breaker_state: IntGaugeVec,
    breaker_transitions: IntCounterVec,
    breaker_waiting: IntGaugeVec,
    breakers: Mutex<HashMap<(BreakerScope, String), Arc<BreakerMetrics>>>,
    channels: IntGaugeVec,
    channels_connected: IntGaugeVec,
    feed_received: IntCounterVec,
    published: IntCounterVec,
    uplink_dropped: IntCounterVec,
    uplink_forwarded: IntCounterVec,
    missed: IntCounterVec,
    conflated: IntCounterVec,
    acknowledged: IntCounterVec,
    uplink_dials: IntCounterVec,
    uplink_losses: IntCounterVec,
    message_failures: Vec<IntCounter>,
    history_trimmed: Vec<IntCounter>,
    injections: Vec<IntCounter>,
}

impl Families {
    pub(super) fn new(d: &Declare<'_>) -> Result<Self, MetricsError> {
        let message_failures = d.counters(
            "message_failures_total",
            "Messages of feeds that their client had not acknowledged when its connection ended, by why it did",
            &["reason"],
        )?;
        let trimmed =
            d.counters("history_trimmed_total", "Messages that left a log, by what took them", &["reason"])?;
        let injections = d.counters(
            "injections_total",
            "Messages published to clients of tunnels, by what came of it",
            &["outcome"],
        )?;
        Ok(Self {
            breaker_state: d.gauges(
                "breaker_state",
                "The worst breaker of its kind: 0 closed, 1 half-open, 2 open",
                &["scope", "route"],
            )?,
            breaker_transitions: d.counters(
                "breaker_transitions_total",
                "Changes of breakers",
                &["scope", "route", "to"],
            )?,
            breaker_waiting: d.gauges(
                "breaker_waiting",
                "Handshakes that wait for what a probe of a half-open breaker finds out",
                &["route"],
            )?,
            breakers: Mutex::default(),
            channels: d.gauges("channels", "Channels of mode broadcast", &["route"])?,
            channels_connected: d.gauges(
                "channels_connected",
                "Channels of mode broadcast whose upstream is connected",
                &["route"],
            )?,
            feed_received: d.counters("feed_messages_total", "Messages that feeds received", &["route"])?,
            published: d.counters("published_total", "Messages published into logs", &["route"])?,
            uplink_dropped: d.counters(
                "uplink_dropped_total",
                "Messages from clients of a feed that ended here (broadcast.uplink)",
                &["route"],
            )?,
            uplink_forwarded: d.counters(
                "uplink_forwarded_total",
                "Messages from clients of a feed that went to its server",
                &["route"],
            )?,
            missed: d.counters(
                "messages_missed_total",
                "Messages of feeds that a client will never get, for each client",
                &["route"],
            )?,
            conflated: d.counters(
                "messages_conflated_total",
                "Messages of feeds for which a newer one stood, for each client",
                &["route", "reason"],
            )?,
            acknowledged: d.counters(
                "delivery_acknowledged_total",
                "Messages of feeds whose clients have answered a later ping, for each client",
                &["route"],
            )?,
            uplink_dials: d.counters(
                "uplink_dials_total",
                "Dials for channels, by what came of them",
                &["route", "outcome"],
            )?,
            uplink_losses: d.counters(
                "uplink_losses_total",
                "Servers that channels lost and dialled again, by how",
                &["route", "cause"],
            )?,
            message_failures: resolve::<Reason>(&message_failures, |reason| vec![reason]),
            history_trimmed: resolve::<Trim>(&trimmed, |reason| vec![reason]),
            injections: resolve::<Injection>(&injections, |outcome| vec![outcome]),
        })
    }
}

impl Metrics {
    /// The breakers of one scope and route.
    pub fn breaker(&self, scope: BreakerScope, route: &str) -> Arc<BreakerMetrics> {
        // One for all tables: a breaker that outlives a reload counts where its successors do.
        let mut known = self.families.breakers.lock();
        let made = known.entry((scope, route.to_owned())).or_insert_with(|| {
            let scope = scope.as_str();
            let transitions =
                resolve::<BreakerStage>(&self.families.breaker_transitions, |to| vec![scope, route, to]);
            let state = self.families.breaker_state.with_label_values(&[scope, route]);
            Arc::new(BreakerMetrics::new(state, transitions))
        });
        Arc::clone(made)
    }

    /// Those who wait for probes of a route's upstream.
    pub fn breaker_waiting(&self, route: &str) -> IntGauge {
        self.families.breaker_waiting.with_label_values(&[route])
    }

    /// What the feeds of one route count.
    pub fn feeds(&self, route: &str) -> Arc<FeedMetrics> {
        let labels = &[route];
        Arc::new(FeedMetrics {
            channels: self.families.channels.with_label_values(labels),
            connected: self.families.channels_connected.with_label_values(labels),
            received: self.families.feed_received.with_label_values(labels),
            published: self.families.published.with_label_values(labels),
            uplink_dropped: self.families.uplink_dropped.with_label_values(labels),
            uplink_forwarded: self.families.uplink_forwarded.with_label_values(labels),
            missed: self.families.missed.with_label_values(labels),
            acknowledged: self.families.acknowledged.with_label_values(labels),
            conflated: resolve::<Conflation>(&self.families.conflated, |reason| vec![route, reason]),
            dials: resolve::<UplinkOutcome>(&self.families.uplink_dials, |outcome| vec![route, outcome]),
            losses: resolve::<UplinkLoss>(&self.families.uplink_losses, |cause| vec![route, cause]),
        })
    }

    /// Counts messages that were not acknowledged when their client's connection ended.
    pub fn on_unacknowledged(&self, reason: Reason, messages: u64) {
        self.families.message_failures[reason.index()].inc_by(messages);
    }

    /// Counts messages that left a log.
    pub fn on_trimmed(&self, reason: Trim, messages: u64) {
        self.families.history_trimmed[reason.index()].inc_by(messages);
    }

    /// Counts what came of a message for a client of a tunnel.
    pub fn on_injection(&self, outcome: Injection) {
        self.families.injections[outcome.index()].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::super::labels::BreakerScope;
    use super::*;

    #[test]
    fn the_worst_breaker_is_shown_and_each_change_counted() {
        use BreakerStage::{Closed, HalfOpen, Open};
        let metrics = Metrics::new("outrigger").unwrap();
        let breakers = metrics.breaker(BreakerScope::Recipient, "r");
        let steps = [
            (None, Some(Closed), 0),
            (Some(Closed), Some(Open), 2),
            (None, Some(Open), 2),
            (Some(Open), Some(HalfOpen), 2),
            (Some(Open), None, 1),
            (Some(HalfOpen), Some(Closed), 0),
        ];
        for (from, to, shown) in steps {
            breakers.on_transition(from, to);
            assert_eq!(breakers.state.get(), shown, "{from:?} to {to:?}");
        }
        let counts: Vec<_> = breakers.transitions.iter().map(IntCounter::get).collect();
        assert_eq!(counts, [1, 1, 1]);
    }
}
