//! When clients of a shard are to be looked at: one timer for all of them.
//!
//! # Invariants
//! 1. A client has one entry that counts: the one whose moment the client keeps as `armed`. Others are skipped.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tokio::time::Instant;

/// The moments at which clients are to be looked at, the next one first.
#[derive(Debug, Default)]
pub(super) struct TimerHeap {
    heap: BinaryHeap<Reverse<(Instant, u32)>>,
}

impl TimerHeap {
    /// Has the client looked at by `at`, unless it is anyway; `armed` is where the client keeps the moment that counts.
    pub(super) fn arm(&mut self, index: u32, at: Option<Instant>, armed: &mut Option<Instant>) {
        let Some(at) = at else { return };
        if armed.is_none_or(|armed| at < armed) {
            *armed = Some(at);
            self.heap.push(Reverse((at, index)));
        }
    }

    /// The next moment at which a client may be due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes an entry whose moment has come, which counts if its client is armed with that very moment.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(u32, Instant)> {
        self.heap.peek().filter(|Reverse((at, _))| *at <= now)?;
        self.heap.pop().map(|Reverse((at, index))| (index, at))
    }

    /// Entries, including those that do not count.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Removes entries that do not count any more.
    pub(super) fn sweep(&mut self, counts: impl Fn(u32, Instant) -> bool) {
        self.heap.retain(|Reverse((at, index))| counts(*index, *at));
        self.heap.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_earliest_asked_for_counts() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let (mut timers, mut a, mut b) = (TimerHeap::default(), None, None);
        timers.arm(0, Some(at(30)), &mut a);
        timers.arm(1, Some(at(20)), &mut b);
        timers.arm(0, Some(at(40)), &mut a);
        timers.arm(0, Some(at(10)), &mut a);
        timers.arm(0, None, &mut a);
        assert_eq!((a, timers.len(), timers.next()), (Some(at(10)), 3, Some(at(10))));
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.pop(at(20)), Some((0, at(10))));
        assert_eq!(timers.pop(at(20)), Some((1, at(20))));
        assert_eq!(timers.pop(at(20)), None);
        timers.sweep(|index, moment| index == 0 && a == Some(moment));
        assert_eq!(timers.len(), 0, "the one at 30 had been overtaken");
    }
}
