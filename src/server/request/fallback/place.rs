//! The place that a poll of a feed has among its user's connections: a newer one may take it
//! (`policy.limits.on_user_limit: replace_oldest`).
//!
//! # Not here
//! Event streams, whose place is their connection's, and polls of sessions, whose place is the session's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::connections::{Command, ConnectionPermit, PermitHolder};

/// Given back when it is dropped.
pub(super) struct Place {
    permit: Option<Box<dyn ConnectionPermit>>,
    /// `None`: without a user there is nobody whose newer connections could take it.
    holder: Option<Arc<Holder>>,
}

/// Hears that the place is wanted.
#[derive(Debug, Default)]
struct Holder {
    is_taken: AtomicBool,
    waker: AtomicWaker,
}

impl PermitHolder for Holder {
    fn command(&self, command: Command) {
        match command {
            Command::Replace | Command::Cut => {
                self.is_taken.store(true, Ordering::Release);
                self.waker.wake();
            }
            // A poll hears of a drain by itself.
            Command::CloseAt { .. } => {}
        }
    }
}

impl Place {
    /// The poll has come as far as a connection whose 101 was sent. `number`: as connections have one.
    pub(super) fn take(permit: Option<Box<dyn ConnectionPermit>>, has_user: bool, number: u64) -> Self {
        let mut place = Self { permit, holder: None };
        if let Some(permit) = place.permit.as_mut().filter(|_| has_user) {
            let holder = Arc::<Holder>::default();
            permit.on_open(number, Arc::clone(&holder) as Arc<dyn PermitHolder>);
            place.holder = Some(holder);
        }
        place
    }

    /// Ready once a newer connection has taken it.
    pub(super) fn poll_taken(&self, cx: &Context<'_>) -> Poll<()> {
        let Some(holder) = &self.holder else { return Poll::Pending };
        // In this order: what comes between the two wakes the task.
        holder.waker.register(cx.waker());
        if holder.is_taken.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}
