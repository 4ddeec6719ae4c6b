//! A token bucket for one owner.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Rate;

/// Tokens that come back with time, up to a burst.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    tokens: f64,
    as_of: Instant,
}

impl Bucket {
    /// Full.
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, tokens: f64::from(rate.burst), as_of: now }
    }

    /// Whole tokens there are at `now`.
    pub(crate) fn available(&mut self, now: Instant) -> u32 {
        let gained = now.saturating_duration_since(self.as_of).as_secs_f64() * self.rate.per_second;
        self.tokens = (self.tokens + gained).min(f64::from(self.rate.burst));
        self.as_of = now;
        // A hair more, so that a wait of exactly one token's time is rewarded despite rounding.
        (self.tokens + 1e-6) as u32
    }

    /// Takes `n` of the tokens that [`Bucket::available`] told of.
    pub(crate) fn take(&mut self, n: u32) {
        self.tokens -= f64::from(n);
    }

    /// Takes `n` tokens; false if there are not so many: then there are none.
    pub(crate) fn takes(&mut self, n: u32, now: Instant) -> bool {
        let there = self.available(now);
        self.take(n.min(there));
        n <= there
    }

    /// When the next whole token will be there.
    pub(crate) fn next_token_at(&self) -> Instant {
        let missing = (1.0 - self.tokens).max(0.0) / self.rate.per_second;
        self.as_of + Duration::from_secs_f64(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_at_the_rate_and_never_exceed_the_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { per_second: 10.0, burst: 5 }, start);
        assert_eq!(bucket.available(start), 5);
        bucket.take(5);
        assert_eq!(bucket.available(start), 0);
        let next = bucket.next_token_at();
        assert_eq!(next, start + Duration::from_millis(100));
        assert_eq!(bucket.available(next - Duration::from_millis(1)), 0);
        assert_eq!(bucket.available(next), 1);
        assert_eq!(bucket.available(start + Duration::from_secs(60)), 5);
        let later = start + Duration::from_secs(60);
        assert!(bucket.takes(3, later) && bucket.takes(2, later) && !bucket.takes(1, later));
        assert!(!bucket.takes(2, later + Duration::from_millis(100)));
        assert_eq!(bucket.available(later + Duration::from_millis(100)), 0);
    }

    #[test]
    fn over_a_long_time_exactly_rate_plus_burst_pass() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { per_second: 7.0, burst: 3 }, start);
        let (mut passed, mut now) = (0, start);
        while now < start + Duration::from_secs(100) {
            let n = bucket.available(now);
            bucket.take(n);
            passed += n;
            now = bucket.next_token_at().max(now + Duration::from_micros(1));
        }
        assert!((700..=703).contains(&passed), "{passed}");
    }
}
