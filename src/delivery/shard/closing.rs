//! How a shard closes all of its clients: the feed is over, or its server was replaced.

use tokio::time::Instant;

use super::{Shard, TURN};

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
        while turn > 0 {
            let Some(index) = dismissing.next_index(self.end()) else { return };
            let Some(client) = self.clients.get_mut(index) else { continue };
            turn -= 1;
            let (at, cause) = dismissing.schedule(fastrand::f64());
            client.close_at(at, cause);
            self.queue(index as u32);
        }
        self.dismissing = Some(dismissing);
    }
}
