//! A pass of a shard over its clients: what is new is sent to each of them that takes it.

use tokio::time::Instant;

use super::{Shard, TURN};
use crate::delivery::subscriber::{PollContext, PollStatus};

impl Shard {
    /// Sends what is new to the next clients. True when all were sent it.
    pub(super) fn pass(&mut self, now: Instant) -> bool {
        let Some(mut pass) = self.pass else { return true };
        let mut turn = TURN;
        while pass.next < self.end() {
            if turn == 0 {
                self.pass = Some(pass);
                return false;
            }
            let index = pass.next;
            pass.next += 1;
            let Some(client) = self.clients.get_mut(index) else { continue };
            if client.next() > self.until {
                continue;
            }
            turn -= 1;
            let mut cx = PollContext {
                shared: &self.shared,
                log: self.reader.log(),
                batcher: &mut self.batcher,
                account: &self.account,
                until: self.until,
                read_budget: &mut self.read_budget,
                now,
            };
            let mut is_watched = true;
            if client.is_served() {
                let status = client.deliver(&mut cx);
                is_watched = status != PollStatus::Open || !client.is_served();
                if status == PollStatus::Yield && client.wake().mark() {
                    self.woken.push_back(index as u32);
                }
            } else {
                client.check_lag(&cx);
            }
            pass.oldest_needed = pass.oldest_needed.min(client.oldest_needed());
            // A client that took everything has no new deadline; the others are looked at once more.
            if is_watched {
                self.with(index as u32, now, |client, cx| client.poll_if_closing(cx));
            }
        }
        self.pass = None;
        if self.is_prompt {
            self.reader.set_delivered(self.until + 1);
        }
        self.oldest_needed = pass.oldest_needed.min(self.until + 1);
        self.reader.set_oldest_needed(self.oldest_needed);
        if self.oldest_needed > self.until {
            // No client is at a place that a batch is remembered for.
            self.batcher.clear();
        }
        true
    }
}
