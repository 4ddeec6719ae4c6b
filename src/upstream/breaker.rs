//! The breaker around an upstream: whether handshakes are sent to it at all.
//!
//! While probes are under way all other handshakes wait for their outcome: otherwise all but the first of the clients that
//! come back at once would be refused, though the server is healthy again.
//!
//! # Invariants
//! 1. Every ticket is reported: by [`Permit::settle`], or by the drop of its [`Permit`].
//! 2. The metrics show a breaker as long as it exists, and count each transition once.
//! 3. A handshake waits no longer than `upstream.handshake_timeout`, and no more than `max_waiting` do. One that is given
//!    up leaves its slot, and the probe's place that it may have been woken for goes to the next.
//! 4. A probe that takes longer than `slow_after` makes room for one of another client, and still counts
//!    ([`Permit::watch`]).
//! 5. A handshake that has waited enters as a new one would: a closed breaker lets it through, and an open one refuses it.
//!
//! # Not here
//! What of its answers is a failure ([`super::classify`]); when it opens and closes ([`crate::resilience::Breaker`]); what
//! a client is told ([`crate::admission`]).

use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};

use super::classify::{Classifier, Verdict};
use crate::config;
use crate::resilience::{Breaker, BreakerRules, BreakerState, CallOutcome, Caller, Ticket};
use crate::telemetry::{BreakerMetrics, BreakerScope, Metrics};

/// Less than this is not worth a `Retry-After`, nor a timer.
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The breaker of one route around its upstream.
#[derive(Debug)]
pub(crate) struct UpstreamBreaker {
    route: Box<str>,
    classifier: Classifier,
    /// A handshake that its client gives up after this time is a suspicion.
    slow_after: Duration,
    breaker: Mutex<Breaker>,
    /// How long a handshake waits for probes, and how many may wait.
    handshake_timeout: Duration,
    max_waiting: usize,
    waiting: AtomicUsize,
    /// Wakes one waiter for each probe's place that is free, and all when there are no probes any more.
    probed: Notify,
    metrics: Arc<BreakerMetrics>,
    waiting_gauge: IntGauge,
}

impl UpstreamBreaker {
    /// A closed breaker. `route`: its name in log lines.
    pub(crate) fn new(
        settings: &config::Breaker,
        upstream: &config::Upstream,
        route: &str,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let config::Breaker {
            window,
            min_calls,
            failure_ratio,
            ref statuses,
            open_for,
            probes,
            max_waiting,
            slow_after,
        } = *settings;
        let rules = BreakerRules { window, min_calls, failure_ratio, open_for, probes };
        let waiting_gauge = metrics.breaker_waiting(route);
        let metrics = metrics.breaker(BreakerScope::Upstream, route);
        metrics.on_transition(None, Some(BreakerState::Closed));
        Arc::new(Self {
            route: route.into(),
            classifier: Classifier::new(statuses),
            slow_after,
            breaker: Mutex::new(Breaker::new(rules, Instant::now())),
            handshake_timeout: upstream.handshake_timeout,
            max_waiting,
            waiting: AtomicUsize::new(0),
            probed: Notify::new(),
            metrics,
            waiting_gauge,
        })
    }

    /// A permit for one handshake of `caller`, if need be after a wait for the outcome of probes. Cancel safe.
    ///
    /// # Errors
    /// The breaker is open: how long until another try may succeed, a second at least.
    pub(crate) async fn enter(self: &Arc<Self>, caller: Caller) -> Result<Permit, Duration> {
        match self.try_enter(caller) {
            // Probes are under way.
            Err(Duration::ZERO) => {}
            answer => return answer.map_err(|wait| wait.max(MIN_RETRY_AFTER)),
        }
        let Some(_wait_slot) = WaitSlot::take(self) else { return Err(MIN_RETRY_AFTER) };
        let deadline = Instant::now() + self.handshake_timeout;
        loop {
            let mut probed = pin!(self.probed.notified());
            // Before the breaker is asked again, so that no notification is missed.
            probed.as_mut().enable();
            match self.try_enter(caller) {
                Err(Duration::ZERO) => {}
                answer => return answer.map_err(|wait| wait.max(MIN_RETRY_AFTER)),
            }
            if timeout_at(deadline, probed).await.is_err() {
                return Err(MIN_RETRY_AFTER);
            }
        }
    }

    /// A permit at once, or how long there is none; zero: until a probe has ended.
    fn try_enter(self: &Arc<Self>, caller: Caller) -> Result<Permit, Duration> {
        let now = Instant::now();
        let mut breaker = self.breaker.lock();
        let before = breaker.state();
        let ticket = breaker.allow_caller(caller, now)?;
        let changed = self.record(before, breaker.state());
        drop(breaker);
        if changed.is_some() {
            debug!(route = &*self.route, "the upstream is asked again, to see whether it answers");
        }
        Ok(Permit { breaker: Arc::clone(self), ticket: Some(ticket), since: now, is_repeated: false })
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> BreakerState {
        self.breaker.lock().state()
    }

    /// The probe's place is free, though it is still under way.
    fn on_late(&self, ticket: &mut Ticket) {
        if self.breaker.lock().on_late(ticket) {
            // All of them, since the first may be of the same client, which does not get the place.
            self.probed.notify_waiters();
        }
    }

    fn report(&self, ticket: Ticket, outcome: CallOutcome, cause: &dyn Display) {
        let now = Instant::now();
        let mut breaker = self.breaker.lock();
        let (before, was_late) = (breaker.state(), ticket.is_late());
        breaker.report(ticket, outcome, fastrand::f64(), now);
        let (after, blames_one) = (breaker.state(), breaker.blames_one_caller());
        let changed = self.record(before, after);
        drop(breaker);
        match (before, after) {
            // The place may be one that the first waiter cannot have.
            (BreakerState::HalfOpen, BreakerState::HalfOpen) if blames_one || was_late => {
                self.probed.notify_waiters();
            }
            (BreakerState::HalfOpen, BreakerState::HalfOpen) => self.probed.notify_one(),
            (BreakerState::HalfOpen, _) => self.probed.notify_waiters(),
            (BreakerState::Closed | BreakerState::Open, _) => {}
        }
        let route = &*self.route;
        match changed {
            Some(BreakerState::Open) => warn!(
                route,
                error = %cause,
                // Behind a proxy that is not trusted all clients have one address: that one caller may be all of them.
                clients = if blames_one { "the one that it fails" } else { "all" },
                "the upstream keeps failing: handshakes are refused for policy.breaker.open_for"
            ),
            Some(BreakerState::Closed) => info!(route, "the upstream answers again: handshakes go through"),
            Some(BreakerState::HalfOpen) | None => {}
        }
    }

    /// Counts a transition, under the lock so that transitions are counted in order. Answers the new state, if it is
    /// another one.
    fn record(&self, before: BreakerState, after: BreakerState) -> Option<BreakerState> {
        if before == after {
            return None;
        }
        self.metrics.on_transition(Some(before), Some(after));
        Some(after)
    }
}

impl Drop for UpstreamBreaker {
    fn drop(&mut self) {
        self.metrics.on_transition(Some(self.state()), None);
    }
}

/// A slot among the handshakes that wait, given back when it is dropped.
struct WaitSlot<'a>(&'a UpstreamBreaker);

impl<'a> WaitSlot<'a> {
    /// `None`: as many wait as may.
    fn take(breaker: &'a UpstreamBreaker) -> Option<Self> {
        let enter = |waiting: usize| (waiting < breaker.max_waiting).then_some(waiting + 1);
        breaker.waiting.fetch_update(Relaxed, Relaxed, enter).ok()?;
        breaker.waiting_gauge.inc();
        Some(Self(breaker))
    }
}

impl Drop for WaitSlot<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
        self.0.waiting_gauge.dec();
    }
}

/// A permit for one handshake. If it is dropped unsettled, the client went away: that is a suspicion if the upstream had
/// kept the client waiting for `breaker.slow_after`, and is not counted otherwise.
#[derive(Debug)]
#[must_use = "it stands for a handshake that is under way"]
pub(crate) struct Permit {
    breaker: Arc<UpstreamBreaker>,
    /// Until it is reported.
    ticket: Option<Ticket>,
    since: Instant,
    /// The upstream has agreed to the same request before.
    is_repeated: bool,
}

impl Permit {
    /// Runs the handshake. If it is a probe that others wait for, they do so for `breaker.slow_after` only.
    pub(crate) async fn watch<F: Future>(&mut self, call: F) -> F::Output {
        let mut call = pin!(call);
        if let Some(ticket) = self.ticket.as_mut().filter(|ticket| ticket.is_probe()) {
            match timeout_at(self.since + self.breaker.slow_after, call.as_mut()).await {
                Ok(output) => return output,
                Err(_) => self.breaker.on_late(ticket),
            }
        }
        call.await
    }

    /// For a request that the upstream has accepted before: a failure now is the upstream's, and not the request's.
    pub(crate) fn repeated(mut self) -> Self {
        self.is_repeated = true;
        self
    }

    /// Reports how the handshake went.
    pub(crate) fn settle(mut self, verdict: Verdict<'_>) {
        let outcome = match self.breaker.classifier.outcome(verdict) {
            CallOutcome::Suspicion if self.is_repeated => CallOutcome::Failure,
            outcome => outcome,
        };
        let Some(ticket) = self.ticket.take() else { return };
        let cause: &dyn Display = match &verdict {
            Verdict::Answered(status) => status,
            Verdict::Failed { error, .. } => error,
            Verdict::NotAsked => &"a handshake failed",
        };
        self.breaker.report(ticket, outcome, cause);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let is_late = self.since.elapsed() >= self.breaker.slow_after;
        let outcome = if is_late { CallOutcome::Suspicion } else { CallOutcome::Ignored };
        self.breaker.report(ticket, outcome, &"its client did not wait for an answer any longer");
    }
}

#[cfg(test)]
mod tests;
