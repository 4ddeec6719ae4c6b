//! A shard's part in keeping what waits for clients within its bound.

use tokio::time::Instant;

use super::{Shard, TURN};
use crate::delivery::holding::holdings;
use crate::delivery::subscriber::Subscriber;
use crate::telemetry::Reason;

impl Shard {
    /// Where clients of feeds hold more than they may, those who hold most in the whole process are cut, until that is
    /// over ([`crate::delivery::holders`]): others' history is not to go for them. These may be clients of this shard.
    pub(super) fn relieve(&mut self, now: Instant) {
        if !self.account.is_asked() {
            return;
        }
        // A piece that is only remembered would still be there when all who have it have gone.
        self.batcher.forget();
        let held = |(index, client): (usize, &Option<Box<Subscriber>>)| {
            client.as_ref().map(|client| client.holds(index as u32, now))
        };
        let all = || self.clients.iter().enumerate().filter_map(held);
        self.account.set_most(all().map(|held| held.bytes()).max().unwrap_or(0));
        let mut holdings = holdings(all());
        let mut left = TURN;
        loop {
            while holdings.pop_if(|holding| holding.clients.is_empty()).is_some() {}
            if !self.account.tell(holdings.last().map(|holding| holding.weight)) {
                return;
            }
            if left == 0 {
                // It is still its turn, after others have had theirs.
                self.door.ready().wake_task();
                return;
            }
            left -= 1;
            let Some(index) = holdings.last_mut().and_then(|holding| holding.clients.pop()) else { return };
            self.account.on_cut();
            self.with(index, now, |client, table| {
                client.live.handle().about.route.memory_cuts.inc();
                client.cut(Reason::SlowConsumer);
                client.poll(table)
            });
        }
    }
}
