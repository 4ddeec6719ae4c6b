//! What a shard tells all of its clients that ends them: the feed is over, or its server is another one now.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Shard, TURN};
use crate::delivery::closing::Dismissal;
use crate::resilience::spread_evenly;

/// How far a dismissal has got.
#[derive(Debug)]
pub(super) struct Dismissing {
    dismissal: Arc<Dismissal>,
    /// The next place in the list of clients.
    at: usize,
    /// Clients that have their date, of so many.
    given: usize,
    count: usize,
}

impl Dismissing {
    pub(super) fn new(dismissal: Arc<Dismissal>, count: usize) -> Self {
        Self { dismissal, at: 0, given: 0, count }
    }
}

impl Shard {
    /// Tells the next clients that the feed is over.
    pub(super) fn part(&mut self, now: Instant) {
        let (Some(from), Some(farewell)) = (self.parting, self.farewell.clone()) else { return };
        let mut turn = TURN;
        for index in from..self.clients.len() {
            if turn == 0 {
                self.parting = Some(index);
                return;
            }
            if let Some(client) = &mut self.clients[index] {
                turn -= 1;
                client.expect_end(&farewell, &self.crew, now);
                self.look_at(index as u32);
            }
        }
        self.parting = None;
    }

    /// Gives the next clients their dates, which are spread over the dismissal's window.
    pub(super) fn dismiss(&mut self) {
        let Some(mut dismissing) = self.dismissing.take() else { return };
        let mut turn = TURN;
        while dismissing.at < self.clients.len() {
            if turn == 0 {
                self.dismissing = Some(dismissing);
                return;
            }
            let index = dismissing.at;
            dismissing.at += 1;
            let Some(client) = &mut self.clients[index] else { continue };
            turn -= 1;
            let Dismissal { farewell, from, over } = &*dismissing.dismissal;
            let at = *from + spread_evenly(dismissing.given, dismissing.count, *over, fastrand::f64());
            dismissing.given += 1;
            client.expect_close(at, farewell);
            self.look_at(index as u32);
        }
    }
}
