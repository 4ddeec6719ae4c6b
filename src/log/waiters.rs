//! Who waits for one message of a log, and asks again for the next: requests that wait. There may be thousands, each for
//! one message; a reader stays, and is woken for each.
//!
//! # Invariants
//! 1. Whoever waits is in the list once, and until it is dropped or woken.
//! 2. Wakers are called, and dropped, while the list is not locked.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use slab::Slab;

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    /// How often all were woken: a place that was given before that is nobody's any more.
    round: u64,
    wakers: Slab<Waker>,
}

/// A place in the list.
#[derive(Debug, Clone, Copy)]
struct Place {
    round: u64,
    key: usize,
}

impl Waiters {
    /// Wakes all of them.
    pub(super) fn wake(&self) {
        let woken = {
            let mut list = self.list.lock();
            if list.wakers.is_empty() {
                return;
            }
            list.round += 1;
            std::mem::take(&mut list.wakers)
        };
        for (_, waker) in woken {
            waker.wake();
        }
    }

    /// Has `waker` woken the next time; answers its place.
    fn wait(&self, place: Option<Place>, waker: &Waker) -> Place {
        let mut list = self.list.lock();
        let round = list.round;
        let known = place.filter(|place| place.round == round);
        if let Some(place) = known
            && let Some(held) = list.wakers.get_mut(place.key)
        {
            if held.will_wake(waker) {
                return place;
            }
            let old = std::mem::replace(held, waker.clone());
            drop(list);
            drop(old);
            return place;
        }
        Place { round, key: list.wakers.insert(waker.clone()) }
    }

    fn remove(&self, place: Place) {
        let mut list = self.list.lock();
        if list.round != place.round {
            return;
        }
        let old = list.wakers.try_remove(place.key);
        if list.wakers.is_empty() {
            // Many that have gone leave no memory behind.
            list.wakers = Slab::new();
        }
        drop(list);
        drop(old);
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.list.lock().wakers.len()
    }
}

/// Ready as soon as a log has a message that is newer than that one ([`super::Log::appended`]).
#[derive(Debug)]
#[must_use = "nobody waits by itself"]
pub(crate) struct Appended<'a> {
    head: &'a AtomicU64,
    waiters: &'a Waiters,
    after: u64,
    place: Option<Place>,
}

impl<'a> Appended<'a> {
    /// `head`: the number of the log's newest message.
    pub(super) fn new(head: &'a AtomicU64, waiters: &'a Waiters, after: u64) -> Self {
        Self { head, waiters, after, place: None }
    }

    fn is_there(&self) -> bool {
        self.head.load(Ordering::Acquire) > self.after
    }
}

impl Future for Appended<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.is_there() {
            return Poll::Ready(());
        }
        this.place = Some(this.waiters.wait(this.place, cx.waker()));
        // It may have been appended before it could be seen that somebody waits.
        if this.is_there() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Appended<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.waiters.remove(place);
        }
    }
}
