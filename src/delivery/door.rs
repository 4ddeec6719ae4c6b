//! How others reach a shard: clients come in by its door, and there it hears that its feed is over.
//!
//! # Invariants
//! 1. Whoever was let in is served, or ended with a word: a door behind which nobody is any more gives them back.
//!
//! # Not here
//! What becomes of those who came in ([`super::shard`]); which door a client takes ([`super::fanout`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use super::Arrival;
use super::closing::{Dismissal, Farewell};
use super::ready::Ready;
use crate::log::Cursor;

/// One shard's.
#[derive(Debug)]
pub(super) struct Door {
    ready: Arc<Ready>,
    clients: AtomicUsize,
    post: Mutex<Post>,
}

/// What lies behind a door until the shard takes it.
#[derive(Debug, Default)]
pub(super) struct Post {
    pub(super) arrivals: VecDeque<(Arrival, Cursor)>,
    pub(super) farewell: Option<Arc<Farewell>>,
    /// For all that were let in before it, and for nobody else.
    pub(super) dismissal: Option<Arc<Dismissal>>,
    /// Nobody comes any more, and nobody is on the way.
    pub(super) is_shut: bool,
    /// The shard has panicked: nobody is behind the door any more.
    is_dead: bool,
}

impl Door {
    pub(super) fn new(farewell: Option<Arc<Farewell>>) -> Arc<Self> {
        let post = Post { farewell, ..Post::default() };
        Arc::new(Self { ready: Arc::default(), clients: AtomicUsize::new(0), post: Mutex::new(post) })
    }

    /// Which of its clients were woken.
    pub(super) fn ready(&self) -> &Arc<Ready> {
        &self.ready
    }

    /// Clients of the shard, those on their way to it among them.
    pub(super) fn clients(&self) -> usize {
        self.clients.load(Relaxed)
    }

    /// Lets a client in that is to be served from `cursor` on; it is given back if nobody is there to do that.
    pub(super) fn join(&self, arrival: Arrival, cursor: Cursor) -> Result<(), Box<(Arrival, Cursor)>> {
        let mut post = self.post.lock();
        if post.is_dead {
            return Err(Box::new((arrival, cursor)));
        }
        self.clients.fetch_add(1, Relaxed);
        post.arrivals.push_back((arrival, cursor));
        drop(post);
        self.ready.wake_task();
        Ok(())
    }

    pub(super) fn close(&self, farewell: &Arc<Farewell>) {
        self.post.lock().farewell = Some(Arc::clone(farewell));
        self.ready.wake_task();
    }

    /// Has those closed who were taken in by now: who is still on the way was not heard yet, and stays.
    pub(super) fn dismiss(&self, dismissal: &Arc<Dismissal>) {
        self.post.lock().dismissal = Some(Arc::clone(dismissal));
        self.ready.wake_task();
    }

    /// Nobody comes any more.
    pub(super) fn shut(&self) {
        self.post.lock().is_shut = true;
        self.ready.wake_task();
    }

    /// What there is, and of those who have come the first so many: nobody together with a dismissal, which is not
    /// for them.
    pub(super) fn take(&self, most: usize) -> Post {
        let mut post = self.post.lock();
        let dismissal = post.dismissal.take();
        let most = if dismissal.is_some() { 0 } else { most };
        let arrivals = if post.arrivals.len() > most {
            post.arrivals.drain(..most).collect()
        } else {
            std::mem::take(&mut post.arrivals)
        };
        let is_shut = post.is_shut && post.arrivals.is_empty();
        Post { arrivals, farewell: post.farewell.take(), dismissal, is_shut, is_dead: false }
    }

    /// Whether somebody was let in and not taken yet.
    pub(super) fn has_arrivals(&self) -> bool {
        !self.post.lock().arrivals.is_empty()
    }

    /// A client has gone.
    pub(super) fn on_left(&self) {
        self.clients.fetch_sub(1, Relaxed);
    }

    /// Nobody is behind it any more. Answers who was on the way, and how many clients there were with these.
    pub(super) fn give_up(&self) -> (VecDeque<(Arrival, Cursor)>, usize) {
        let mut post = self.post.lock();
        post.is_dead = true;
        (std::mem::take(&mut post.arrivals), self.clients.swap(0, Relaxed))
    }
}
