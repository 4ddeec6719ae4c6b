//! Which clients of a shard have something to say: each has a waker of its own, so that one pong never costs a look
//! at everybody.
//!
//! # Invariants
//! 1. Who was woken first is looked at first.
//! 2. A client stands in the list once, from its first wake-up until it is [taken](Knock::take).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use std::task::{Wake, Waker};

use parking_lot::Mutex;

/// The clients that were woken, and the shard's task.
#[derive(Debug, Default)]
pub(super) struct Ready {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    woken: Vec<u32>,
    task: Option<Waker>,
}

impl Ready {
    /// Has `task` woken from now on.
    pub(super) fn wake_with(&self, task: &Waker) {
        let mut inner = self.inner.lock();
        if inner.task.as_ref().is_none_or(|known| !known.will_wake(task)) {
            inner.task = Some(task.clone());
        }
    }

    /// Wakes the shard, for no client in particular.
    pub(super) fn wake_task(&self) {
        let task = self.inner.lock().task.clone();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Adds those that were woken since the last call to `into`. Each [`Knock`] has to be
    /// [taken](Knock::take) before its client is polled.
    pub(super) fn drain(&self, into: &mut VecDeque<u32>) {
        into.extend(self.inner.lock().woken.drain(..));
    }
}

/// One client's waker.
#[derive(Debug)]
pub(super) struct Knock {
    ready: Arc<Ready>,
    index: u32,
    is_woken: AtomicBool,
}

impl Knock {
    pub(super) fn new(ready: &Arc<Ready>, index: u32) -> Arc<Self> {
        Arc::new(Self { ready: Arc::clone(ready), index, is_woken: AtomicBool::new(false) })
    }

    /// Has it looked at again, for its shard itself: true if it does not stand in the list yet, and is to be put
    /// there.
    pub(super) fn is_new(&self) -> bool {
        !self.is_woken.swap(true, AcqRel)
    }

    /// From here on it may be woken again.
    pub(super) fn take(&self) {
        self.is_woken.store(false, Release);
    }
}

impl Wake for Knock {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_new() {
            return;
        }
        let task = {
            let mut inner = self.ready.inner.lock();
            inner.woken.push(self.index);
            // Whoever came first has woken the task, and it has not looked since.
            if inner.woken.len() > 1 { None } else { inner.task.clone() }
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_client_stands_in_the_list_once_until_it_is_taken() {
        let ready = Arc::<Ready>::default();
        let task = Arc::new(Count::default());
        ready.wake_with(&Waker::from(Arc::clone(&task)));
        let knocks: Vec<_> = (0..3).map(|index| Knock::new(&ready, index)).collect();
        let wakers: Vec<Waker> = knocks.iter().map(|knock| Waker::from(Arc::clone(knock))).collect();
        for _ in 0..5 {
            wakers[2].wake_by_ref();
            wakers[0].wake_by_ref();
        }
        assert_eq!(task.0.load(Relaxed), 1, "one wake-up brings all");
        let mut woken = VecDeque::new();
        ready.drain(&mut woken);
        assert_eq!(woken, [2, 0]);
        wakers[2].wake_by_ref();
        ready.drain(&mut woken);
        assert_eq!(woken, [2, 0], "not taken yet");
        knocks[2].take();
        wakers[2].wake_by_ref();
        ready.drain(&mut woken);
        assert_eq!((&woken, task.0.load(Relaxed)), (&VecDeque::from([2, 0, 2]), 2));
        assert!(!knocks[2].is_new(), "it stands there already");
        assert!(knocks[1].is_new());
        wakers[1].wake_by_ref();
        ready.drain(&mut woken);
        assert_eq!(woken, [2, 0, 2], "whoever asks with is_new puts it there");
    }
}
