//! How a shard closes all of its clients: the feed is over, or its server was replaced.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Shard, TURN};
use crate::delivery::close::Dismissal;
use crate::resilience::spread_evenly;

/// How far a dismissal has got.
#[derive(Debug)]
pub(super) struct DismissalProgress {
    dismissal: Arc<Dismissal>,
    /// The index of the next client.
    next: usize,
    /// Clients that have their time, of so many.
    scheduled: usize,
    count: usize,
}

impl DismissalProgress {
    pub(super) fn new(dismissal: Arc<Dismissal>, count: usize) -> Self {
        Self { dismissal, next: 0, scheduled: 0, count }
    }
}

impl Shard {
    /// Has the next clients closed since the feed is over.
    pub(super) fn close_next(&mut self, now: Instant) {
        let (Some(from), Some(cause)) = (self.next_to_close, self.closed.clone()) else { return };
        let mut turn = TURN;
        for index in from..self.end() {
            if turn == 0 {
                self.next_to_close = Some(index);
                return;
            }
            if let Some(client) = self.clients.get_mut(index) {
                turn -= 1;
                client.close_after_last(&cause, &self.shared.settings.policy, now);
                self.queue(index as u32);
            }
        }
        self.next_to_close = None;
    }

    /// Schedules the Closes of the next clients, spread over the time of the dismissal.
    pub(super) fn dismiss_next(&mut self) {
        let Some(mut dismissing) = self.dismissing.take() else { return };
        let mut turn = TURN;
        while dismissing.next < self.end() {
            if turn == 0 {
                self.dismissing = Some(dismissing);
                return;
            }
            let index = dismissing.next;
            dismissing.next += 1;
            let Some(client) = self.clients.get_mut(index) else { continue };
            turn -= 1;
            let Dismissal { cause, from, over } = &*dismissing.dismissal;
            let at = *from + spread_evenly(dismissing.scheduled, dismissing.count, *over, fastrand::f64());
            dismissing.scheduled += 1;
            client.close_at(at, cause);
            self.queue(index as u32);
        }
    }
}
