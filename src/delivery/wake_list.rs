//! Which clients of a shard were woken: each has a waker of its own, so that a pong of one never costs a look at all.
//!
//! # Invariants
//! 1. The client that was woken first is looked at first.
//! 2. A client is in the list once, from its first wake-up until it is [taken](SubscriberWaker::take).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use std::task::{Wake, Waker};

use parking_lot::Mutex;

/// The clients that were woken, and the shard's task.
#[derive(Debug, Default)]
pub(super) struct WakeList {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    woken: Vec<u32>,
    task: Option<Waker>,
}

impl WakeList {
    /// From now on `task` is woken.
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

    /// Adds those that were woken since the last call to `into`. Each [`SubscriberWaker`] has to be
    /// [taken](SubscriberWaker::take) before its client is polled.
    pub(super) fn drain(&self, into: &mut VecDeque<u32>) {
        into.extend(self.inner.lock().woken.drain(..));
    }
}

/// One client's waker.
#[derive(Debug)]
pub(super) struct SubscriberWaker {
    list: Arc<WakeList>,
    index: u32,
    is_woken: AtomicBool,
}

impl SubscriberWaker {
    pub(super) fn new(list: &Arc<WakeList>, index: u32) -> Arc<Self> {
        Arc::new(Self { list: Arc::clone(list), index, is_woken: AtomicBool::new(false) })
    }

    /// Has the client looked at again, by the shard itself: true if it is not in the list yet, and the shard is to put it
    /// there.
    pub(super) fn mark(&self) -> bool {
        !self.is_woken.swap(true, AcqRel)
    }

    /// From here on the client may be woken again.
    pub(super) fn take(&self) {
        self.is_woken.store(false, Release);
    }
}

impl Wake for SubscriberWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.mark() {
            return;
        }
        let task = {
            let mut inner = self.list.inner.lock();
            inner.woken.push(self.index);
            // The first one has woken the task, which has not looked since.
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
    fn a_client_is_in_the_list_once_until_it_is_taken() {
        let list = Arc::<WakeList>::default();
        let task = Arc::new(Count::default());
        list.wake_with(&Waker::from(Arc::clone(&task)));
        let wakers_of: Vec<_> = (0..3).map(|index| SubscriberWaker::new(&list, index)).collect();
        let wakers: Vec<Waker> = wakers_of.iter().map(|waker_of| Waker::from(Arc::clone(waker_of))).collect();
        for _ in 0..5 {
            wakers[2].wake_by_ref();
            wakers[0].wake_by_ref();
        }
        assert_eq!(task.0.load(Relaxed), 1, "one wake-up brings all");
        let mut woken = VecDeque::new();
        list.drain(&mut woken);
        assert_eq!(woken, [2, 0]);
        wakers[2].wake_by_ref();
        list.drain(&mut woken);
        assert_eq!(woken, [2, 0], "not taken yet");
        wakers_of[2].take();
        wakers[2].wake_by_ref();
        list.drain(&mut woken);
        assert_eq!((&woken, task.0.load(Relaxed)), (&VecDeque::from([2, 0, 2]), 2));
        assert!(!wakers_of[2].mark(), "it is in the list already");
        assert!(wakers_of[1].mark());
        wakers[1].wake_by_ref();
        list.drain(&mut woken);
        assert_eq!(woken, [2, 0, 2], "it was marked, and so it is not added by a wake-up");
    }
}
