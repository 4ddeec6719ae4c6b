//! What the tasks of one feed share: its settings, how many clients it has, and its channel's breaker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::channel_breaker::ChannelBreaker;
use super::{FromClients, Settings};
use crate::resilience::BreakerState;

/// What the tasks of one feed share.
#[derive(Debug)]
pub(super) struct FanoutShared {
    pub(super) settings: Arc<Settings>,
    pub(super) from_clients: FromClients,
    clients: AtomicUsize,
    tripped: AtomicUsize,
    /// Whether the channel's breaker is not closed, and so is judged with each pass.
    is_judged_each_pass: AtomicBool,
    /// The channel's breaker, and the state of it that was reported last.
    breaker: Mutex<(ChannelBreaker, BreakerState)>,
}

impl FanoutShared {
    pub(super) fn new(settings: Arc<Settings>, from_clients: FromClients) -> Self {
        let breaker = ChannelBreaker::new(settings.policy.delivery.channel_breaker, Instant::now());
        settings.channels.on_transition(None, Some(BreakerState::Closed));
        Self {
            settings,
            from_clients,
            clients: AtomicUsize::new(0),
            tripped: AtomicUsize::new(0),
            is_judged_each_pass: AtomicBool::new(false),
            breaker: Mutex::new((breaker, BreakerState::Closed)),
        }
    }

    /// Counts a client that comes or goes.
    pub(super) fn on_client(&self, is_new: bool) {
        count(&self.clients, is_new);
    }

    /// The number of clients, including those that are joining.
    #[cfg(test)]
    pub(super) fn clients(&self) -> usize {
        self.clients.load(Relaxed)
    }

    /// A client was tripped, or is not any more.
    pub(super) fn on_tripped(&self, is_tripped: bool, now: Instant) {
        count(&self.tripped, is_tripped);
        self.judge(now);
    }

    /// Whether only the newest message is to go out.
    pub(super) fn is_shedding(&self, now: Instant) -> bool {
        // Half-open, everything goes out, once: that is the probe.
        self.is_judged_each_pass.load(Relaxed) && self.judge(now) == BreakerState::Open
    }

    fn judge(&self, now: Instant) -> BreakerState {
        let mut held = self.breaker.lock();
        let (breaker, reported) = &mut *held;
        let state =
            breaker.judge(self.tripped.load(Relaxed), self.clients.load(Relaxed), fastrand::f64(), now);
        if state != *reported {
            self.settings.channels.on_transition(Some(*reported), Some(state));
            *reported = state;
            self.is_judged_each_pass.store(state != BreakerState::Closed, Relaxed);
        }
        state
    }
}

impl Drop for FanoutShared {
    fn drop(&mut self) {
        let (_, reported) = *self.breaker.lock();
        self.settings.channels.on_transition(Some(reported), None);
    }
}

fn count(counter: &AtomicUsize, is_more: bool) {
    if is_more {
        counter.fetch_add(1, Relaxed);
    } else {
        counter.fetch_sub(1, Relaxed);
    }
}
