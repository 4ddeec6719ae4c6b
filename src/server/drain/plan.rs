//! The drain of a process, once it has begun: whether new connections are refused, when closes begin, when what is left
//! is cut, and what the end of the drain waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, SetOnce};
use tokio::time::{Instant, sleep_until};

use crate::config;
use crate::connections::{Command, Handle};
use crate::frame::CloseCode;
use crate::resilience::spread_evenly;

/// The drain of a process, once it has begun.
#[derive(Debug, Default)]
pub(in crate::server) struct Drain {
    plan: SetOnce<Plan>,
    /// How many connections are held: their last frames may not have been sent when their last client is gone.
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
    /// The settings when the drain began.
    settings: config::Drain,
    /// When the delay is over and closes begin.
    pub(super) closes_from: Instant,
    /// When whatever is left is cut.
    pub(super) deadline: Instant,
}

impl Drain {
    /// Begins the drain, unless one has begun. Answers the plan that holds.
    pub(super) fn begin(&self, settings: config::Drain, now: Instant) -> Plan {
        let plan = Plan { settings, closes_from: now + settings.delay, deadline: now + settings.timeout };
        // Fails where one has begun, whose plan holds.
        let _ = self.plan.set(plan);
        *self.plan.get().unwrap_or(&plan)
    }

    /// Cuts what is left.
    pub(in crate::server) fn cut(&self) {
        self.cut.notify_waiters();
    }

    /// Whether a connection is held that has not ended.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Relaxed) > 0
    }

    /// Whether new connections are turned away: a drain has begun and its delay has passed. The clock is asked during a drain
    /// only.
    pub(in crate::server) fn refuses_new(&self, now: impl FnOnce() -> Instant) -> bool {
        self.plan.get().is_some_and(|plan| plan.closes_from <= now())
    }

    /// When closes begin; a drain that was asked for and has no plan yet begins `now`.
    pub(in crate::server) fn closes_from(&self, delay: Duration, now: Instant) -> Instant {
        self.plan.get().map_or(now + delay, |plan| plan.closes_from)
    }

    /// Makes the end of the drain wait for a connection that carries several clients and ends by itself: the clients
    /// are gone before their last frames have been sent.
    pub(in crate::server) fn hold(&self) -> DrainHold<'_> {
        self.held.fetch_add(1, Relaxed);
        DrainHold(self)
    }

    /// Completes when what is left is cut. A future that was made after that never completes: a process that has
    /// drained still answers plain requests.
    pub(in crate::server) fn cuts(&self) -> OwnedNotified {
        Arc::clone(&self.cut).notified_owned()
    }

    /// When a connection that is opened now is closed, and how, if a drain has begun.
    pub(in crate::server) fn close_at(&self) -> Option<Command> {
        self.plan.get().map(|plan| plan.close_at(0, 1))
    }

    /// Completes when a request that waits is to be answered because of a drain: at a moment of the window, by chance and
    /// for each caller its own, so that clients do not come back all at once.
    pub(in crate::server) async fn answer_by(&self) {
        let plan = *self.plan.wait().await;
        sleep_until(plan.any_moment(0, 1)).await;
    }

    /// Schedules the close of a connection that was just opened, if a drain has begun.
    pub(in crate::server) fn schedule(&self, handle: &Handle) {
        if let Some(plan) = self.plan.get() {
            plan.schedule(handle, 0, 1);
        }
    }
}

impl Plan {
    /// Schedules the close of one of `count` connections within the window.
    pub(super) fn schedule(&self, handle: &Handle, index: usize, count: usize) {
        handle.send(self.close_at(index, count));
    }

    fn close_at(&self, index: usize, count: usize) -> Command {
        let at = self.any_moment(index, count);
        Command::CloseAt { at, code: CloseCode(self.settings.close_code) }
    }

    /// A moment of the window: of one of `count` parts of it.
    fn any_moment(&self, index: usize, count: usize) -> Instant {
        self.closes_from + spread_evenly(index, count, self.settings.spread, fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_that_wait_are_answered_all_over_the_window_also_those_that_come_late() {
        let seconds = Duration::from_secs;
        let settings = config::Drain {
            delay: seconds(5),
            spread: seconds(20),
            ..config::Config::from_yaml("upstream: { url: http://x }").unwrap().drain
        };
        let drain = Arc::new(Drain::default());
        let wait = |drain: &Arc<Drain>| {
            let drain = Arc::clone(drain);
            tokio::spawn(async move {
                drain.answer_by().await;
                Instant::now()
            })
        };
        let mut waiting: Vec<_> = (0..100).map(|_| wait(&drain)).collect();
        tokio::time::sleep(seconds(3600)).await;
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()), "nothing drains");
        let begun = Instant::now();
        drain.begin(settings, begun);
        drain.begin(config::Drain { delay: seconds(0), ..settings }, begun);
        tokio::time::sleep(seconds(1)).await;
        waiting.extend((0..100).map(|_| wait(&drain)));
        let mut per_quarter = [0; 4];
        for waiting in waiting {
            let after = waiting.await.unwrap() - begun;
            assert!((seconds(5)..=seconds(25) + Duration::from_millis(1)).contains(&after), "{after:?}");
            per_quarter[((after - seconds(5)).as_secs() / 5).min(3) as usize] += 1;
        }
        assert!(per_quarter.iter().all(|count| (20..=80).contains(count)), "{per_quarter:?}");
    }
}
