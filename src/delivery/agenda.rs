//! When clients of a shard are to be looked at: one timer for all of them.
//!
//! # Invariants
//! 1. A client has one entry that counts: the one whose moment it keeps as `armed`. Others are passed over.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tokio::time::Instant;

/// Moments, the next one first.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<(Instant, u32)>>,
}

impl Agenda {
    /// Has the client looked at by `at`, unless it is anyway: `armed` is where it keeps what it asked for.
    pub(super) fn arm(&mut self, index: u32, at: Option<Instant>, armed: &mut Option<Instant>) {
        let Some(at) = at else { return };
        if armed.is_none_or(|armed| at < armed) {
            *armed = Some(at);
            self.heap.push(Reverse((at, index)));
        }
    }

    /// The next moment at which somebody may be due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// An entry whose moment has come: it counts if its client is armed with that very moment.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(u32, Instant)> {
        self.heap.peek().filter(|Reverse((at, _))| *at <= now)?;
        self.heap.pop().map(|Reverse((at, index))| (index, at))
    }

    /// Entries, those that do not count among them.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Forgets entries that do not count any more.
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
        let (mut agenda, mut a, mut b) = (Agenda::default(), None, None);
        agenda.arm(0, Some(at(30)), &mut a);
        agenda.arm(1, Some(at(20)), &mut b);
        agenda.arm(0, Some(at(40)), &mut a);
        agenda.arm(0, Some(at(10)), &mut a);
        agenda.arm(0, None, &mut a);
        assert_eq!((a, agenda.len(), agenda.next()), (Some(at(10)), 3, Some(at(10))));
        assert_eq!(agenda.pop(at(9)), None);
        assert_eq!(agenda.pop(at(20)), Some((0, at(10))));
        assert_eq!(agenda.pop(at(20)), Some((1, at(20))));
        assert_eq!(agenda.pop(at(20)), None);
        agenda.sweep(|index, moment| index == 0 && a == Some(moment));
        assert_eq!(agenda.len(), 0, "the one at 30 had been overtaken");
    }
}
