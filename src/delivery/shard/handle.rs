//! How others reach a shard: clients join through its handle, and are closed through it.
//!
//! # Invariants
//! 1. A client that has joined is served or closed: the handle of a shard that has failed gives it back.
//!
//! # Not here
//! What becomes of clients that have joined ([`super::Shard`]); which shard a client joins ([`crate::delivery::fanout`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::delivery::Arrival;
use crate::delivery::close::{CloseCause, Dismissal};
use crate::delivery::wake_list::WakeList;
use crate::log::Cursor;

/// The handle of one shard.
#[derive(Debug)]
pub(in crate::delivery) struct ShardHandle {
    wakes: Arc<WakeList>,
    clients: AtomicUsize,
    inbox: Mutex<Inbox>,
}

/// What waits for the shard.
#[derive(Debug, Default)]
pub(in crate::delivery) struct Inbox {
    pub(in crate::delivery) arrivals: VecDeque<(Arrival, Cursor)>,
    pub(in crate::delivery) closed: Option<Arc<CloseCause>>,
    /// For the clients that joined before it, and for no others.
    pub(in crate::delivery) dismissal: Option<Arc<Dismissal>>,
    /// No client will join any more, and none waits.
    pub(in crate::delivery) is_shut: bool,
    /// The shard has panicked.
    has_failed: bool,
}

impl ShardHandle {
    pub(in crate::delivery) fn new(closed: Option<Arc<CloseCause>>) -> Arc<Self> {
        let inbox = Inbox { closed, ..Inbox::default() };
        Arc::new(Self { wakes: Arc::default(), clients: AtomicUsize::new(0), inbox: Mutex::new(inbox) })
    }

    /// The clients of the shard that were woken.
    pub(in crate::delivery) fn wakes(&self) -> &Arc<WakeList> {
        &self.wakes
    }

    /// Clients of the shard, including those that wait for it.
    pub(in crate::delivery) fn clients(&self) -> usize {
        self.clients.load(Relaxed)
    }

    /// Adds a client that is to be served from `cursor` on; it is given back if the shard has failed.
    pub(in crate::delivery) fn join(
        &self,
        arrival: Arrival,
        cursor: Cursor,
    ) -> Result<(), Box<(Arrival, Cursor)>> {
        let mut inbox = self.inbox.lock();
        if inbox.has_failed {
            return Err(Box::new((arrival, cursor)));
        }
        self.clients.fetch_add(1, Relaxed);
        inbox.arrivals.push_back((arrival, cursor));
        drop(inbox);
        self.wakes.wake_task();
        Ok(())
    }

    /// The feed is over: all clients are closed, and those that join later too.
    pub(in crate::delivery) fn close(&self, cause: &Arc<CloseCause>) {
        self.inbox.lock().closed = Some(Arc::clone(cause));
        self.wakes.wake_task();
    }

    /// Closes the clients that the shard has taken by now: those that still wait were not read yet, and stay.
    pub(in crate::delivery) fn dismiss(&self, dismissal: &Arc<Dismissal>) {
        self.inbox.lock().dismissal = Some(Arc::clone(dismissal));
        self.wakes.wake_task();
    }

    /// No client will join any more.
    pub(in crate::delivery) fn shut(&self) {
        self.inbox.lock().is_shut = true;
        self.wakes.wake_task();
    }

    /// What there is, and the first so many clients that wait: none of them together with a dismissal, which is not for
    /// them.
    pub(in crate::delivery) fn take(&self, most: usize) -> Inbox {
        let mut inbox = self.inbox.lock();
        let dismissal = inbox.dismissal.take();
        let most = if dismissal.is_some() { 0 } else { most };
        let arrivals = if inbox.arrivals.len() > most {
            inbox.arrivals.drain(..most).collect()
        } else {
            std::mem::take(&mut inbox.arrivals)
        };
        let is_shut = inbox.is_shut && inbox.arrivals.is_empty();
        Inbox { arrivals, closed: inbox.closed.take(), dismissal, is_shut, has_failed: false }
    }

    /// Whether a client waits for the shard.
    pub(in crate::delivery) fn has_arrivals(&self) -> bool {
        !self.inbox.lock().arrivals.is_empty()
    }

    /// A client has gone.
    pub(in crate::delivery) fn on_left(&self) {
        self.clients.fetch_sub(1, Relaxed);
    }

    /// The shard has failed. Answers the clients that wait, and how many clients there were with these.
    pub(in crate::delivery) fn fail(&self) -> (VecDeque<(Arrival, Cursor)>, usize) {
        let mut inbox = self.inbox.lock();
        inbox.has_failed = true;
        (std::mem::take(&mut inbox.arrivals), self.clients.swap(0, Relaxed))
    }
}
