//! The drain of a process, once it has begun: whether newcomers are turned away, when closes begin, when what is left is
//! cut, and what the end of the drain waits for.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;

use crate::config;
use crate::connections::{Command, Handle};
use crate::frame::CloseCode;
use crate::resilience::spread_evenly;

/// The drain of a process, once it has begun.
#[derive(Debug, Default)]
pub(in crate::server) struct Drain {
    plan: OnceLock<Plan>,
    /// Connections whose last frames may not have left yet when their last client is done.
    held: AtomicUsize,
    /// Notified when what is left is cut.
    cut: Arc<Notify>,
}

/// A connection that a drain waits for.
#[derive(Debug)]
pub(in crate::server) struct DrainHold<'a>(&'a Drain);

impl Drop for DrainHold<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Relaxed);
    }
}

/// When a drain does what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// As they were when it began.
    settings: config::Drain,
    /// The delay is over: closes begin.
    pub(super) from: Instant,
    /// Whatever is left is cut.
    pub(super) until: Instant,
}

impl Drain {
    /// Begins it, if none has begun. Answers the plan that holds.
    pub(super) fn begin(&self, settings: config::Drain, now: Instant) -> Plan {
        let plan = Plan { settings, from: now + settings.delay, until: now + settings.timeout };
        *self.plan.get_or_init(|| plan)
    }

    /// Cuts what is left.
    pub(super) fn cut(&self) {
        self.cut.notify_waiters();
    }

    /// Whether a connection is held that has not ended.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Relaxed) > 0
    }

    /// Whether new connections are turned away: a drain has begun and its delay has passed.
    pub(in crate::server) fn refuses(&self, now: Instant) -> bool {
        self.plan.get().is_some_and(|plan| plan.from <= now)
    }

    /// When closes begin; a drain that was asked for and has no plan yet begins `now`.
    pub(in crate::server) fn closes_from(&self, delay: Duration, now: Instant) -> Instant {
        self.plan.get().map_or(now + delay, |plan| plan.from)
    }

    /// Has the end of the drain wait for a connection that carries several clients and ends itself: they
    /// are done before what they said has left.
    pub(in crate::server) fn hold(&self) -> DrainHold<'_> {
        self.held.fetch_add(1, Relaxed);
        DrainHold(self)
    }

    /// Completes when what is left is cut. A future that was made after that never completes: a process that has drained
    /// still answers plain requests.
    pub(in crate::server) fn cuts(&self) -> OwnedNotified {
        Arc::clone(&self.cut).notified_owned()
    }

    /// Gives a connection that was just opened its place, if a drain has begun.
    pub(in crate::server) fn admit(&self, handle: &Handle) {
        if let Some(plan) = self.plan.get() {
            plan.place(handle, 0, 1);
        }
    }
}

impl Plan {
    /// Gives one of `count` connections its place in the window.
    pub(super) fn place(&self, handle: &Handle, index: usize, count: usize) {
        let at = self.from + spread_evenly(index, count, self.settings.spread, fastrand::f64());
        handle.send(Command::CloseAt { at, code: CloseCode(self.settings.close_code) });
    }
}
