//! What the feeds of one route count (mode broadcast): the server's side, and what becomes of its messages.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::declare::{CounterBy, Declare, MetricsError};
use super::label::labels;
use super::sessions::ResumeOutcome;

labels! {
    /// Why messages of a feed did not go to a client one by one (`outrigger_messages_conflated_total{reason}`).
    pub(crate) enum Conflation {
        /// `delivery.throttle`
        Throttle = "throttle",
        /// `delivery.channel_breaker`
        ChannelBreaker = "channel_breaker",
    }

    /// How a dial for a channel went (`outrigger_uplink_dials_total{outcome}`).
    pub(crate) enum UplinkOutcome {
        /// The feed runs.
        Ok = "ok",
        /// No connection, no answer, or not a valid one.
        Failed = "failed",
        /// The upstream answered with something else than a 101.
        Refused = "refused",
        /// Its breaker is open: it was not asked.
        BreakerOpen = "breaker_open",
    }

    /// How a channel lost its server, and dials it again (`outrigger_uplink_losses_total{cause}`).
    pub(crate) enum UplinkLoss {
        /// It said Close, with a code that is not final.
        Closed = "closed",
        /// Its connection ended without a Close.
        Lost = "lost",
        /// It broke a rule, or said too much.
        ProtocolError = "fault",
        /// It answered no ping.
        Silent = "silent",
        /// It read nothing.
        Stalled = "stalled",
    }
}

/// One route's feeds, its name resolved as a label.
#[derive(Debug)]
pub(crate) struct FeedMetrics {
    pub(crate) channels: IntGauge,
    /// Those of `channels` whose upstream is connected.
    pub(crate) connected: IntGauge,
    /// Messages from upstreams.
    pub(crate) received: IntCounter,
    /// Messages that operators published into logs.
    pub(crate) published: IntCounter,
    /// Messages from clients that ended here (`broadcast.uplink: drop`).
    pub(crate) uplink_dropped: IntCounter,
    /// Messages from clients that went to the server (`forward`).
    pub(crate) uplink_forwarded: IntCounter,
    /// Messages that a client will never get, counted for each client.
    pub(crate) missed: IntCounter,
    /// Messages that a newer one stood for, counted for each client.
    pub(crate) conflated: CounterBy<Conflation>,
    /// Messages that clients' WebSocket stacks have answered a later ping for.
    pub(crate) acknowledged: IntCounter,
    pub(crate) dials: CounterBy<UplinkOutcome>,
    pub(crate) losses: CounterBy<UplinkLoss>,
    /// Clients that came back, and what became of that; with sessions.
    pub(crate) resumes: CounterBy<ResumeOutcome>,
}

/// The families behind [`FeedMetrics`].
#[derive(Debug)]
pub(super) struct FeedFamilies {
    channels: IntGaugeVec,
    connected: IntGaugeVec,
    received: IntCounterVec,
    published: IntCounterVec,
    uplink_dropped: IntCounterVec,
    uplink_forwarded: IntCounterVec,
    missed: IntCounterVec,
    conflated: IntCounterVec,
    acknowledged: IntCounterVec,
    dials: IntCounterVec,
    losses: IntCounterVec,
}

impl FeedFamilies {
    pub(super) fn declare(d: &Declare<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            channels: d.gauges("channels", "Channels of mode broadcast", &["route"])?,
            connected: d.gauges(
                "channels_connected",
                "Channels of mode broadcast whose upstream is connected",
                &["route"],
            )?,
            received: d.counters("feed_messages_total", "Messages that feeds received", &["route"])?,
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
                "Messages of servers that a client of a feed or of a session will never get, for each client",
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
            dials: d.counters(
                "uplink_dials_total",
                "Dials for channels, by what came of them",
                &["route", "outcome"],
            )?,
            losses: d.counters(
                "uplink_losses_total",
                "Servers that channels lost and dialled again, by how",
                &["route", "cause"],
            )?,
        })
    }

    /// Messages that clients of a route will never get, which sessions count as well.
    pub(super) fn missed(&self, route: &str) -> IntCounter {
        self.missed.with_label_values(&[route])
    }

    /// Resolves every label value of one route.
    pub(super) fn route(&self, route: &str, resumes: CounterBy<ResumeOutcome>) -> Arc<FeedMetrics> {
        let labels = &[route];
        Arc::new(FeedMetrics {
            channels: self.channels.with_label_values(labels),
            connected: self.connected.with_label_values(labels),
            received: self.received.with_label_values(labels),
            published: self.published.with_label_values(labels),
            uplink_dropped: self.uplink_dropped.with_label_values(labels),
            uplink_forwarded: self.uplink_forwarded.with_label_values(labels),
            missed: self.missed(route),
            conflated: CounterBy::resolve(&self.conflated, |reason| vec![route, reason]),
            acknowledged: self.acknowledged.with_label_values(labels),
            dials: CounterBy::resolve(&self.dials, |outcome| vec![route, outcome]),
            losses: CounterBy::resolve(&self.losses, |cause| vec![route, cause]),
            resumes,
        })
    }
}
