//! The one timer of a task that has many deadlines.
//!
//! Deadlines are looked at lazily: activity moves most of them to later, and a timer that was moved with each of them would
//! cost more than the activity. So the timer is moved to earlier only, and when it fires too early, nothing is due.
//!
//! # Invariants
//! 1. While a date is set, the task is woken for it: whoever takes note of a date that has come ([`Alarm::due`]) clears it
//!    before the next one is set.
//!
//! # Not here
//! Which deadlines there are, and whether a judgement has to wait ([`crate::resilience::Standstill`]).

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// No timer before the first date.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
    at: Option<Instant>,
}

impl Alarm {
    /// The date that was set, if it has come.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        self.at.filter(|at| *at <= now)
    }

    /// What was due is being done: the next date may be a later one.
    pub(crate) fn clear(&mut self) {
        self.at = None;
    }

    /// Has the task woken at `next`, unless it is woken before that anyway.
    pub(crate) fn arm(&mut self, next: Option<Instant>, cx: &mut Context<'_>) {
        let Some(next) = next else { return };
        if self.at.is_some_and(|at| at <= next) {
            return;
        }
        let timer = match &mut self.timer {
            Some(timer) => {
                timer.as_mut().reset(next);
                timer
            }
            None => self.timer.insert(Box::pin(sleep_until(next))),
        };
        self.at = Some(next);
        // Not under the runtime's budget for this task: when that is used up, a timer is Pending without keeping the waker,
        // and would not be asked again.
        if pin!(unconstrained(timer.as_mut())).poll(cx) == Poll::Ready(()) {
            cx.waker().wake_by_ref();
        }
    }

    /// The date that is set.
    #[cfg(test)]
    pub(crate) fn at(&self) -> Option<Instant> {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::task::{Wake, Waker};
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Flag {
        fn take(&self) -> bool {
            self.0.swap(false, SeqCst)
        }
    }

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_is_moved_to_earlier_only_and_wakes_at_each_date_that_was_set() {
        let wakes = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        let begin = Instant::now();
        let mut alarm = Alarm::default();
        alarm.arm(None, &mut cx);
        assert_eq!((alarm.at(), alarm.timer.is_none()), (None, true));
        alarm.arm(Some(begin + 5 * SECOND), &mut cx);
        alarm.arm(Some(begin + 9 * SECOND), &mut cx);
        assert_eq!(alarm.at(), Some(begin + 5 * SECOND));
        alarm.arm(Some(begin + 3 * SECOND), &mut cx);
        assert_eq!(alarm.due(begin + 2 * SECOND), None);
        assert!(!wakes.take());
        advance(3 * SECOND).await;
        assert!(wakes.take());
        assert_eq!(alarm.due(Instant::now()), Some(begin + 3 * SECOND));
        alarm.clear();
        alarm.arm(Some(begin + 9 * SECOND), &mut cx);
        advance(4 * SECOND).await;
        assert!(!wakes.take(), "the dates before that count no more");
        advance(2 * SECOND).await;
        assert!(wakes.take());
        // A date that has passed already.
        alarm.clear();
        alarm.arm(Some(begin), &mut cx);
        assert!(wakes.take());
    }

    #[test]
    fn it_is_as_large_as_what_it_stands_for() {
        assert_eq!(size_of::<Alarm>(), size_of::<usize>() + size_of::<Option<Instant>>());
    }
}
