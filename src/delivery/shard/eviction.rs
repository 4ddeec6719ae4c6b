//! A shard's part in keeping the memory for what waits for clients within its bound.

use tokio::time::Instant;

use super::{Shard, TURN};
use crate::delivery::memory::holdings;

impl Shard {
    /// When clients of feeds hold more than they may, those that hold most in the whole process are evicted, until that is
    /// over ([`crate::delivery::memory`]): the history of others is not to be evicted for them. They may be of this shard.
    pub(super) fn evict_heaviest(&mut self, now: Instant) {
        if !self.account.is_asked() {
            return;
        }
        // A piece that is only remembered would still be there when all clients that have it have gone.
        self.batcher.clear();
        let all = || self.clients.iter().map(|(index, client)| client.usage(index as u32, now));
        self.account.set_most(all().map(|usage| usage.bytes()).max().unwrap_or(0));
        let mut holdings = holdings(all());
        let mut left = TURN;
        loop {
            while holdings.pop_if(|holding| holding.clients.is_empty()).is_some() {}
            if !self.account.report(holdings.last().map(|holding| holding.weight)) {
                return;
            }
            if left == 0 {
                // It is still asked, and goes on when other tasks have run.
                self.handle.wakes().wake_task();
                return;
            }
            left -= 1;
            let Some(index) = holdings.last_mut().and_then(|holding| holding.clients.pop()) else { return };
            self.account.on_evicted();
            self.with(index, now, |client, cx| {
                client.evict();
                client.poll(cx)
            });
        }
    }
}
