//! The breaker of a channel: when many of its clients are tripped at once, only the newest message goes out.

use tokio::time::Instant;

use crate::config::ChannelBreaker;
use crate::telemetry::BreakerStage;

/// Pure. Shared by the tasks of a channel, behind a lock that is taken when a client trips or recovers, and while
/// it is open once a pass.
#[derive(Debug)]
pub(super) struct ChannelGuard {}

impl ChannelGuard {
    /// Closed.
    pub(super) fn new(rules: ChannelBreaker, now: Instant) -> Self {
        let _ = (rules, now);
        unimplemented!()
    }

    /// So many of the clients are tripped now: where that leaves it. `random` is 0 to 1.
    pub(super) fn judge(
        &mut self,
        tripped: usize,
        clients: usize,
        random: f64,
        now: Instant,
    ) -> BreakerStage {
        let _ = (tripped, clients, random, now);
        unimplemented!()
    }
}
