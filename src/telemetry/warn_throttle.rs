//! Log lines that clients could otherwise have written without end: of each kind one in a period, with a
//! count of those that were left out. Pure.
//!
//! # Invariants
//! 1. Of each kind at most one line may be written in a period, however many threads ask.
//! 2. Nothing is left out in silence: whatever was not said is in the number of a later line, or of
//!    [`WarnThrottle::overdue`], exactly once.
//! 3. It grows with the kinds that the code and the configuration know, never with what a client sends: a kind is
//!    `'static`, or a route with one of these. Those that have been quiet for a period are forgotten.
//!
//! # Not here
//! The lines themselves, and the counters beside them, which know everything.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lets one line of each kind through in a period.
///
/// ```ignore
/// if let Some(left_out) = state.refused_lines.may(reason, Instant::now()) {
///     warn!(reason, left_out = some(left_out), "refused");
/// }
/// ```
#[derive(Debug)]
pub(crate) struct WarnThrottle<K = &'static str> {
    period: Duration,
    kinds: Mutex<Vec<Kind<K>>>,
}

#[derive(Debug)]
struct Kind<K> {
    name: K,
    /// From when on the next line may be written.
    next: Instant,
    left_out: u64,
}

impl<K: PartialEq + Clone> WarnThrottle<K> {
    /// One line of each kind in so long.
    pub(crate) fn every(period: Duration) -> Self {
        Self { period, kinds: Mutex::new(Vec::new()) }
    }

    /// Whether a line of this kind may be written now, and how many were left out since the last one.
    /// `None`: not now; that is counted.
    pub(crate) fn may(&self, name: K, now: Instant) -> Option<u64> {
        let next = now + self.period;
        let mut kinds = self.kinds.lock();
        let Some(kind) = kinds.iter_mut().find(|kind| kind.name == name) else {
            kinds.push(Kind { name, next, left_out: 0 });
            return Some(0);
        };
        if now < kind.next {
            kind.left_out += 1;
            return None;
        }
        kind.next = next;
        Some(std::mem::take(&mut kind.left_out))
    }

    /// What was left out and has had no line since, although one may be written by now: the end of a storm
    /// would otherwise not be told. Whoever asks writes a line for each.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<(K, u64)> {
        let next = now + self.period;
        let mut kinds = self.kinds.lock();
        // It is as if there had been none: the next may be told at once.
        kinds.retain(|kind| kind.left_out > 0 || now < kind.next);
        let overdue = kinds.iter_mut().filter(|kind| kind.left_out > 0 && now >= kind.next);
        let told = overdue.map(|kind| {
            kind.next = next;
            (kind.name.clone(), std::mem::take(&mut kind.left_out))
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_of_a_kind_in_a_period_and_the_next_counts_those_that_were_left_out() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let lines = WarnThrottle::every(Duration::from_secs(60));
        let said = (0..=200).filter_map(|second| Some((second, lines.may("a", at(second * 1000))?)));
        assert_eq!(Vec::from_iter(said), [(0, 0), (60, 59), (120, 59), (180, 59)]);
        assert_eq!(lines.may("b", at(180_000)), Some(0), "another kind has its own");
    }

    #[test]
    fn what_nobody_asked_for_again_is_overdue_once() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let lines = WarnThrottle::every(Duration::from_secs(1));
        for (name, times) in [("storm", 3000), ("once", 1)] {
            assert_eq!((0..times).filter_map(|_| lines.may(name, at(0))).count(), 1);
        }
        assert_eq!(lines.overdue(at(999)), []);
        assert_eq!(lines.overdue(at(1000)), [("storm", 2999)]);
        assert_eq!(lines.overdue(at(1499)), []);
        assert_eq!(lines.may("storm", at(1500)), None, "that was a line too");
        assert_eq!(lines.may("storm", at(2000)), Some(1));
    }

    #[test]
    fn kinds_that_are_quiet_are_forgotten() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let lines = WarnThrottle::every(Duration::from_secs(1));
        for route in 0..100 {
            assert_eq!(lines.may((route, "kind"), at(0)), Some(0));
        }
        assert_eq!(lines.may((7, "kind"), at(500)), None);
        assert_eq!(lines.overdue(at(1000)), [((7, "kind"), 1)]);
        assert_eq!(lines.kinds.lock().len(), 1);
        assert_eq!(lines.overdue(at(2000)), []);
        assert_eq!(lines.kinds.lock().len(), 0);
    }

    proptest! {
        #[test]
        fn no_line_comes_early_and_none_is_lost(
            steps in prop::collection::vec((0_usize..3, 0_u64..700, any::<bool>()), 1..200),
        ) {
            let lines = WarnThrottle::every(Duration::from_secs(1));
            let (mut now, mut asked, mut told) = (Instant::now(), [0; 3], [0; 3]);
            let mut last: HashMap<&str, Instant> = HashMap::new();
            let names = ["a", "b", "c"];
            for (which, millis, is_asked) in steps {
                now += Duration::from_millis(millis);
                let mut written = Vec::new();
                if is_asked {
                    asked[which] += 1;
                    written.extend(lines.may(names[which], now).map(|left_out| (names[which], left_out + 1)));
                } else {
                    written = lines.overdue(now);
                }
                for (name, count) in written {
                    told[names.iter().position(|known| *known == name).unwrap()] += count;
                    if let Some(last) = last.insert(name, now) {
                        prop_assert!(now - last >= Duration::from_secs(1));
                    }
                }
            }
            for (name, count) in lines.overdue(now + Duration::from_secs(1)) {
                told[names.iter().position(|known| *known == name).unwrap()] += count;
            }
            prop_assert_eq!(asked, told);
        }
    }
}
