//! Bounds log lines that clients cause: of each kind one line in a period, with the number of those that were left out.
//! Pure.
//!
//! # Invariants
//! 1. Of each kind at most one line may be written in a period, however many threads ask.
//! 2. Nothing is left out in silence: each line that was not written is counted exactly once, in a later line or by
//!    [`WarnThrottle::overdue`].
//! 3. It grows with the kinds that the code and the configuration know, never with what a client sends: a kind is
//!    `'static`, or a route with one of these. Those that have been quiet for a period are forgotten.
//!
//! # Not here
//! The lines themselves, and the counters beside them, which miss nothing.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lets one line of each kind through in a period.
///
/// ```text
/// if let Some(left_out) = state.refused_lines.allow(reason, Instant::now()) {
///     warn!(reason, left_out = nonzero(left_out), "refused");
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
    pub(crate) fn allow(&self, name: K, now: Instant) -> Option<u64> {
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

    /// The kinds of which lines were left out and none was written since, although one may be written by now: the end
    /// of a storm would otherwise not be logged. The caller writes a line for each.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<(K, u64)> {
        let next = now + self.period;
        let mut kinds = self.kinds.lock();
        // The next line of such a kind may be written at once, as if there had been none.
        kinds.retain(|kind| kind.left_out > 0 || now < kind.next);
        let overdue = kinds.iter_mut().filter(|kind| kind.left_out > 0 && now >= kind.next);
        let reported = overdue.map(|kind| {
            kind.next = next;
            (kind.name.clone(), std::mem::take(&mut kind.left_out))
        });
        reported.collect()
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
        let written = (0..=200).filter_map(|second| Some((second, lines.allow("a", at(second * 1000))?)));
        assert_eq!(Vec::from_iter(written), [(0, 0), (60, 59), (120, 59), (180, 59)]);
        assert_eq!(lines.allow("b", at(180_000)), Some(0), "another kind has its own");
    }

    #[test]
    fn what_nobody_asked_for_again_is_overdue_once() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let lines = WarnThrottle::every(Duration::from_secs(1));
        for (name, times) in [("storm", 3000), ("once", 1)] {
            assert_eq!((0..times).filter_map(|_| lines.allow(name, at(0))).count(), 1);
        }
        assert_eq!(lines.overdue(at(999)), []);
        assert_eq!(lines.overdue(at(1000)), [("storm", 2999)]);
        assert_eq!(lines.overdue(at(1499)), []);
        assert_eq!(lines.allow("storm", at(1500)), None, "that was a line too");
        assert_eq!(lines.allow("storm", at(2000)), Some(1));
    }

    #[test]
    fn kinds_that_are_quiet_are_forgotten() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let lines = WarnThrottle::every(Duration::from_secs(1));
        for route in 0..100 {
            assert_eq!(lines.allow((route, "kind"), at(0)), Some(0));
        }
        assert_eq!(lines.allow((7, "kind"), at(500)), None);
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
            let (mut now, mut asked, mut reported) = (Instant::now(), [0; 3], [0; 3]);
            let mut last: HashMap<&str, Instant> = HashMap::new();
            let names = ["a", "b", "c"];
            for (which, millis, is_asked) in steps {
                now += Duration::from_millis(millis);
                let mut written = Vec::new();
                if is_asked {
                    asked[which] += 1;
                    written.extend(lines.allow(names[which], now).map(|left_out| (names[which], left_out + 1)));
                } else {
                    written = lines.overdue(now);
                }
                for (name, count) in written {
                    reported[names.iter().position(|known| *known == name).unwrap()] += count;
                    if let Some(last) = last.insert(name, now) {
                        prop_assert!(now - last >= Duration::from_secs(1));
                    }
                }
            }
            for (name, count) in lines.overdue(now + Duration::from_secs(1)) {
                reported[names.iter().position(|known| *known == name).unwrap()] += count;
            }
            prop_assert_eq!(asked, reported);
        }
    }
}
