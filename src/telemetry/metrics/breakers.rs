//! Where breakers stand. The gauge of a scope and route shows the worst of its breakers, since there may be
//! thousands: one for each client.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};

use super::declare::{CounterBy, Declare, MetricsError};
use super::label::{Label, labels};
use crate::resilience::BreakerState;

labels! {
    /// What a breaker stands around (`outrigger_breaker_state{scope}`).
    pub(crate) enum BreakerScope {
        /// Dials and handshakes of one route with its upstream.
        Upstream = "upstream",
        /// One client of a feed.
        Recipient = "recipient",
        /// All clients of one channel.
        Channel = "channel",
    }

    ; BreakerState {
        Closed = "closed",
        HalfOpen = "half_open",
        Open = "open",
    }
}

/// The breakers of one scope and route. The gauge shows the worst of them.
#[derive(Debug)]
pub(crate) struct BreakerMetrics {
    state: IntGauge,
    transitions: CounterBy<BreakerState>,
    half_open: AtomicI64,
    open: AtomicI64,
}

impl BreakerMetrics {
    fn new(state: IntGauge, transitions: CounterBy<BreakerState>) -> Self {
        Self { state, transitions, half_open: AtomicI64::new(0), open: AtomicI64::new(0) }
    }

    /// A breaker went from one state to another; `None`: it does not exist yet, or not any more.
    pub(crate) fn on_transition(&self, from: Option<BreakerState>, to: Option<BreakerState>) {
        if from == to {
            return;
        }
        for (state, by) in [(from, -1), (to, 1)] {
            match state {
                Some(BreakerState::HalfOpen) => drop(self.half_open.fetch_add(by, Relaxed)),
                Some(BreakerState::Open) => drop(self.open.fetch_add(by, Relaxed)),
                Some(BreakerState::Closed) | None => {}
            }
        }
        if let (Some(_), Some(to)) = (from, to) {
            self.transitions.inc(to);
        }
        self.state.set(match (self.open.load(Relaxed), self.half_open.load(Relaxed)) {
            (1.., _) => 2,
            (_, 1..) => 1,
            _ => 0,
        });
    }

    /// How many are open now.
    #[cfg(test)]
    pub(crate) fn open(&self) -> i64 {
        self.open.load(Relaxed)
    }
}

/// The families behind [`BreakerMetrics`].
#[derive(Debug)]
pub(super) struct BreakerFamilies {
    state: IntGaugeVec,
    transitions: IntCounterVec,
    waiting: IntGaugeVec,
    known: Mutex<HashMap<(BreakerScope, String), Arc<BreakerMetrics>>>,
}

impl BreakerFamilies {
    pub(super) fn declare(d: &Declare<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            state: d.gauges(
                "breaker_state",
                "The worst breaker of its kind: 0 closed, 1 half-open, 2 open",
                &["scope", "route"],
            )?,
            transitions: d.counters(
                "breaker_transitions_total",
                "Changes of breakers",
                &["scope", "route", "to"],
            )?,
            waiting: d.gauges(
                "breaker_waiting",
                "Handshakes that wait for what a probe of a half-open breaker finds out",
                &["route"],
            )?,
            known: Mutex::default(),
        })
    }

    pub(super) fn breaker(&self, scope: BreakerScope, route: &str) -> Arc<BreakerMetrics> {
        // One for all tables: a breaker that outlives a reload counts where its successors do.
        let mut known = self.known.lock();
        let made = known.entry((scope, route.to_owned())).or_insert_with(|| {
            let scope = scope.as_str();
            let transitions = CounterBy::resolve(&self.transitions, |to| vec![scope, route, to]);
            Arc::new(BreakerMetrics::new(self.state.with_label_values(&[scope, route]), transitions))
        });
        Arc::clone(made)
    }

    pub(super) fn waiting(&self, route: &str) -> IntGauge {
        self.waiting.with_label_values(&[route])
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    #[test]
    fn the_worst_breaker_is_shown_and_each_change_counted() {
        use BreakerState::{Closed, HalfOpen, Open};
        let declare = Declare { prefix: "outrigger", registry: Registry::new() };
        let breakers = BreakerFamilies::declare(&declare).unwrap().breaker(BreakerScope::Recipient, "r");
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
        let counts = [Closed, HalfOpen, Open].map(|to| breakers.transitions.get(to));
        assert_eq!(counts, [1, 1, 1]);
    }
}
