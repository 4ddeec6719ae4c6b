//! Turns that were given and have not ended, and whether there is room for one more. Pure.
//!
//! # Invariants
//! 1. Of turns that are not older than [`QUICK`] there are at most `max`. An older one makes room for another: a server that
//!    leaves some dials without an answer has to do with them already, and others must not wait until they have timed out.
//! 2. There are never more than [`MOST`] times `max` in all.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// A handshake that has no answer after this is one that hangs: most take some milliseconds.
const QUICK: Duration = Duration::from_secs(1);
/// So many times the turns that there may be are there at most, with those that hang. At a second each that is the work of
/// four seconds.
const MOST: usize = 4;

/// Turns that were given and have not ended.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    max: usize,
    next: u64,
    /// When those were given that keep others from having one, by their numbers: an earlier one has the smaller number.
    quick: BTreeMap<u64, Instant>,
    /// The others.
    hanging: usize,
}

impl Turns {
    /// At least one at a time.
    pub(super) fn new(max: usize) -> Self {
        Self { max: max.max(1), next: 0, quick: BTreeMap::new(), hanging: 0 }
    }

    /// One more, by this number.
    pub(super) fn begin(&mut self, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.quick.insert(number, now);
        number
    }

    pub(super) fn end(&mut self, number: u64) {
        if self.quick.remove(&number).is_none() {
            self.hanging -= 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.quick.len() + self.hanging
    }

    /// Finds those that have come to hang.
    pub(super) fn age(&mut self, now: Instant) {
        while let Some(oldest) = self.quick.first_entry()
            && *oldest.get() + QUICK <= now
        {
            oldest.remove();
            self.hanging += 1;
        }
    }

    /// Whether there is room, as things stood when [`Self::age`] was asked last.
    pub(super) fn has_room(&self) -> bool {
        self.quick.len() < self.max && !self.is_full()
    }

    /// When there will be room although none of them ends; `None`: one has to.
    pub(super) fn room_at(&self) -> Option<Instant> {
        self.quick.first_key_value().filter(|_| !self.is_full()).map(|(_, given)| *given + QUICK)
    }

    fn is_full(&self) -> bool {
        self.len() >= self.max.saturating_mul(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn one_that_hangs_makes_room_after_a_second() {
        let begin = Instant::now();
        let mut turns = Turns::new(2);
        let (one, other) = (turns.begin(begin), turns.begin(begin + ms(300)));
        turns.age(begin + ms(999));
        assert!(!turns.has_room());
        assert_eq!(turns.room_at(), Some(begin + ms(1000)));
        turns.age(begin + ms(1000));
        assert!(turns.has_room());
        let third = turns.begin(begin + ms(1000));
        assert_eq!((turns.len(), turns.room_at()), (3, Some(begin + ms(1300))));
        // What hangs ends beside the others, and gives no further room.
        turns.end(one);
        assert_eq!((turns.len(), turns.has_room()), (2, false));
        turns.end(third);
        assert_eq!((turns.len(), turns.has_room()), (1, true));
        turns.end(other);
        assert_eq!(turns.len(), 0);
    }

    #[test]
    fn however_many_hang_there_is_a_bound() {
        for max in [0, 1, 3] {
            let mut turns = Turns::new(max);
            let mut now = Instant::now();
            let mut given = Vec::new();
            for _ in 0..100 {
                turns.age(now);
                while turns.has_room() {
                    given.push(turns.begin(now));
                }
                assert!(turns.quick.len() <= max.max(1));
                now += QUICK;
            }
            assert_eq!(given.len(), MOST * max.max(1));
            turns.age(now);
            assert_eq!(turns.room_at(), None, "one has to end");
            turns.end(given[0]);
            assert!(turns.has_room());
        }
    }
}
