//! The breaker around an upstream: whether it is asked at all.
//!
//! While probes are under way whoever else comes waits for what they find out: a healthy server would otherwise
//! refuse all but the first of those who come back to it at once.
//!
//! # Invariants
//! 1. Every ticket is reported: by [`Permit::settle`], or by the drop of its [`Permit`].
//! 2. The metrics know of a breaker as long as it lives, and of each change once.
//! 3. Nobody waits longer than `upstream.handshake_timeout`, and no more than `max_waiting` do. Who goes away
//!    leaves its place, and a place among the probes that it was given goes to the next.
//! 4. A probe that takes longer than `slow_after` makes room for one of another client, and still counts
//!    ([`Permit::watch`]).
//! 5. Whoever has waited asks again, as anybody who comes then: what is closed lets it through, and what has
//!    opened refuses it.
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
const SOON: Duration = Duration::from_secs(1);

/// Whether one route may ask its upstream.
#[derive(Debug)]
pub(crate) struct UpstreamBreaker {
    route: Box<str>,
    classifier: Classifier,
    /// A call that was given up by its caller after so long is no better than one that failed.
    slow_after: Duration,
    breaker: Mutex<Breaker>,
    /// How long anybody waits for probes, and how many do at most.
    patience: Duration,
    max_waiting: usize,
    waiting: AtomicUsize,
    /// One is woken for each place among the probes that is free, and all when there are no probes any more.
    probed: Notify,
    metrics: Arc<BreakerMetrics>,
    shown_waiting: IntGauge,
}

impl UpstreamBreaker {
    /// Closed. `route` is what it is told by in the log.
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
        let shown_waiting = metrics.breaker_waiting(route);
        let metrics = metrics.breaker(BreakerScope::Upstream, route);
        metrics.on_transition(None, Some(BreakerState::Closed));
        Arc::new(Self {
            route: route.into(),
            classifier: Classifier::new(statuses),
            slow_after,
            breaker: Mutex::new(Breaker::new(rules, Instant::now())),
            patience: upstream.handshake_timeout,
            max_waiting,
            waiting: AtomicUsize::new(0),
            probed: Notify::new(),
            metrics,
            shown_waiting,
        })
    }

    /// Leave for one handshake of `caller`, if need be after a wait for what others find out. May be given up at any time.
    ///
    /// # Errors
    /// The upstream is not to be asked: how long until that may be worth it, a second at least.
    pub(crate) async fn enter(self: &Arc<Self>, caller: Caller) -> Result<Permit, Duration> {
        match self.ask(caller) {
            // Probes are under way.
            Err(Duration::ZERO) => {}
            answer => return answer.map_err(|wait| wait.max(SOON)),
        }
        let Some(_place) = Place::take(self) else { return Err(SOON) };
        let deadline = Instant::now() + self.patience;
        loop {
            let mut probed = pin!(self.probed.notified());
            // Before it is asked again: what happens from here on is not missed.
            probed.as_mut().enable();
            match self.ask(caller) {
                Err(Duration::ZERO) => {}
                answer => return answer.map_err(|wait| wait.max(SOON)),
            }
            if timeout_at(deadline, probed).await.is_err() {
                return Err(SOON);
            }
        }
    }

    /// Leave at once, or how long it is refused; zero: until a probe is back.
    fn ask(self: &Arc<Self>, caller: Caller) -> Result<Permit, Duration> {
        let now = Instant::now();
        let mut breaker = self.breaker.lock();
        let before = breaker.state();
        let ticket = breaker.allow_caller(caller, now)?;
        let turned = self.count(before, breaker.state());
        drop(breaker);
        if turned.is_some() {
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
            // All: the first in line may be of the same client, which does not get it.
            self.probed.notify_waiters();
        }
    }

    fn report(&self, ticket: Ticket, outcome: CallOutcome, what: &dyn Display) {
        let now = Instant::now();
        let mut breaker = self.breaker.lock();
        let (before, was_late) = (breaker.state(), ticket.is_late());
        breaker.report(ticket, outcome, fastrand::f64(), now);
        let (after, is_held) = (breaker.state(), breaker.is_held_against_one());
        let turned = self.count(before, after);
        drop(breaker);
        match (before, after) {
            // The place may be one that the first in line cannot have.
            (BreakerState::HalfOpen, BreakerState::HalfOpen) if is_held || was_late => {
                self.probed.notify_waiters();
            }
            (BreakerState::HalfOpen, BreakerState::HalfOpen) => self.probed.notify_one(),
            (BreakerState::HalfOpen, _) => self.probed.notify_waiters(),
            (BreakerState::Closed | BreakerState::Open, _) => {}
        }
        let route = &*self.route;
        match turned {
            Some(BreakerState::Open) => warn!(
                route,
                error = %what,
                // One whose address all have who come through a proxy that nobody trusts may be all of them.
                clients = if is_held { "the one that it fails" } else { "all" },
                "the upstream keeps failing: handshakes are refused for policy.breaker.open_for"
            ),
            Some(BreakerState::Closed) => info!(route, "the upstream answers again: handshakes go through"),
            Some(BreakerState::HalfOpen) | None => {}
        }
    }

    /// Tells the metrics of a change, under the lock so that they learn of changes in their order. Where it
    /// stands now, if that is another place.
    fn count(&self, before: BreakerState, after: BreakerState) -> Option<BreakerState> {
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

/// A place among those who wait. Given back when it is dropped, by whom ever.
struct Place<'a>(&'a UpstreamBreaker);

impl<'a> Place<'a> {
    /// None: as many wait as may.
    fn take(breaker: &'a UpstreamBreaker) -> Option<Self> {
        let enter = |waiting: usize| (waiting < breaker.max_waiting).then_some(waiting + 1);
        breaker.waiting.fetch_update(Relaxed, Relaxed, enter).ok()?;
        breaker.shown_waiting.inc();
        Some(Self(breaker))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
        self.0.shown_waiting.dec();
    }
}

/// Leave for one handshake. Dropped without a word, its client went away: that says something against the upstream if
/// it had kept it waiting for `breaker.slow_after`, and otherwise nothing.
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
    /// Does what it stands for. Where others wait for what comes of it, they do so for `breaker.slow_after` only.
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

    /// For a request that the upstream has agreed to before: that it fails now is not the doing of whoever asks for it.
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
        let what: &dyn Display = match &verdict {
            Verdict::Answered(status) => status,
            Verdict::Failed { error, .. } => error,
            Verdict::NotAsked => &"a handshake failed",
        };
        self.breaker.report(ticket, outcome, what);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let is_late = self.since.elapsed() >= self.breaker.slow_after;
        let outcome = if is_late { CallOutcome::Suspicion } else { CallOutcome::Neither };
        self.breaker.report(ticket, outcome, &"its client did not wait for an answer any longer");
    }
}

#[cfg(test)]
mod tests;
