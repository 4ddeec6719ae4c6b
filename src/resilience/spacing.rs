//! How much of a rate one owner has used up, in the room of one moment: the generic cell rate algorithm (ITU-T I.371).
//!
//! It takes what a [`Bucket`](super::Bucket) of the same rate takes, and keeps neither the rate nor a number of tokens:
//! for owners of whom there are many, and most of whom never come near.
//!
//! # Invariants
//! 1. Who has taken nothing for as long as a whole burst takes to come back is as new.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Rate;

/// When all that was taken will have come back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spacing(Option<Instant>);

impl Spacing {
    /// Takes `n`; false if that is more than there is of `rate`: then nothing is left.
    pub(crate) fn takes(&mut self, n: u32, rate: Rate, now: Instant) -> bool {
        let used = self.0.map_or(Duration::ZERO, |until| until.saturating_duration_since(now)).as_secs_f64();
        let (used, most) = (used + f64::from(n) / rate.per_second, f64::from(rate.burst) / rate.per_second);
        // A hair more, so that a wait of exactly one token's time is rewarded despite rounding.
        let is_there = used <= most + 1e-6 / rate.per_second;
        self.0 =
            now.checked_add(Duration::try_from_secs_f64(used.min(most)).unwrap_or(Duration::MAX)).or(self.0);
        is_there
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resilience::Bucket;

    #[test]
    fn a_burst_is_there_at_once_and_comes_back_at_the_rate() {
        let start = Instant::now();
        let rate = Rate { per_second: 10.0, burst: 5 };
        let at = |millis| start + Duration::from_millis(millis);
        let mut spacing = Spacing::default();
        assert!(spacing.takes(3, rate, start) && spacing.takes(2, rate, start));
        assert!(!spacing.takes(1, rate, start), "it is used up");
        assert!(!spacing.takes(1, rate, at(99)));
        let mut spacing = Spacing::default();
        assert!(spacing.takes(5, rate, start) && spacing.takes(1, rate, at(100)));
        assert!(!spacing.takes(2, rate, at(200)), "only one has come back");
        assert!(spacing.takes(5, rate, at(60_000)), "a minute later it is as new");
        assert!(!Spacing::default().takes(6, rate, start), "more than a burst never is");
        assert_eq!(size_of::<Spacing>(), size_of::<Instant>());
    }

    proptest! {
        #[test]
        fn it_takes_what_a_bucket_takes(
            per_second in 1_u32..1000,
            burst in 1_u32..2000,
            steps in prop::collection::vec((0_u64..500, 0_u32..100), 1..100),
        ) {
            let rate = Rate { per_second: f64::from(per_second), burst };
            let mut now = Instant::now();
            let (mut spacing, mut bucket) = (Spacing::default(), Bucket::new(rate, now));
            for (millis, n) in steps {
                now += Duration::from_millis(millis);
                let there = bucket.available(now);
                let (ours, theirs) = (spacing.takes(n, rate, now), bucket.takes(n, now));
                // Rounding may decide about the last one.
                prop_assert!(ours == theirs || n == there || n == there + 1, "{n} of {there}");
                if ours != theirs || !ours {
                    break;
                }
            }
        }
    }
}
