//! One bucket for each address or user, for a bounded number of them.
//!
//! # Invariants
//! 1. A key costs one instant until its bucket is full again, and nothing from then on.
//! 2. There are never more than `max_keys`. A request of a key beyond that passes, and is counted: an attacker with so many
//!    addresses cannot be limited by address, and must not lock all other clients out. The global bucket still limits.
//!
//! # Not here
//! Which rates there are ([`super::rate`]); the algorithm ([`Gcra`]).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::warn;

use crate::config::Rate;
use crate::resilience::{ArrivalTime, Gcra};
use crate::telemetry::{Metrics, WarnThrottle};

/// Least time between two sweeps that make room: one takes milliseconds where there are many keys.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// The period of the warning that there are too many keys.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// The map is shrunk only above this capacity: below it there is no memory to gain.
const SHRINK_ABOVE: usize = 64;

/// Buckets by key.
#[derive(Debug)]
pub(super) struct KeyedBuckets<K> {
    gcra: Gcra,
    limit: KeyLimit,
    metrics: Arc<Metrics>,
    warnings: WarnThrottle,
    keys: Mutex<Keys<K>>,
}

/// How many keys there may be, and what the log says of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyLimit {
    pub(super) max_keys: usize,
    /// The setting of the limit, below `policy`.
    pub(super) setting: &'static str,
    /// What the keys are.
    pub(super) whose: &'static str,
}

/// Only keys whose bucket was not full when it was last looked at.
#[derive(Debug)]
struct Keys<K> {
    buckets: HashMap<K, ArrivalTime>,
    next_sweep: Option<Instant>,
}

impl<K: Eq + Hash + Clone> KeyedBuckets<K> {
    pub(super) fn new(rate: Rate, limit: KeyLimit, metrics: Arc<Metrics>) -> Self {
        let keys = Mutex::new(Keys { buckets: HashMap::new(), next_sweep: None });
        Self { gcra: Gcra::new(rate), limit, metrics, warnings: WarnThrottle::every(WARN_INTERVAL), keys }
    }

    /// Takes a token of `key`, or answers in how long there will be one.
    pub(super) fn take(&self, key: &K) -> Result<(), Duration> {
        let now = Instant::now();
        let mut keys = self.keys.lock();
        if let Some(bucket) = keys.buckets.get_mut(key) {
            return bucket.take(self.gcra, now);
        }
        let mut bucket = ArrivalTime::default();
        bucket.take(self.gcra, now)?;
        if keys.has_room(self.limit.max_keys, now) {
            keys.buckets.insert(key.clone(), bucket);
            return Ok(());
        }
        drop(keys);
        self.metrics.admission.rate_untracked.inc();
        let KeyLimit { max_keys, setting, whose } = self.limit;
        if self.warnings.allow(setting, now).is_some() {
            warn!(
                whose,
                max_keys, "more of them than policy.{setting}: further ones are not limited one by one"
            );
        }
        Ok(())
    }

    /// Removes keys whose buckets are full. Answers how many are left.
    pub(super) fn sweep(&self) -> usize {
        let mut keys = self.keys.lock();
        keys.forget_full(Instant::now());
        let buckets = &mut keys.buckets;
        // To twice the length: a map that is always in use would otherwise grow again each second.
        if buckets.capacity() > SHRINK_ABOVE && buckets.len() < buckets.capacity() / 4 {
            let room = buckets.len() * 2;
            buckets.shrink_to(room);
        }
        buckets.len()
    }
}

impl<K: Eq + Hash> Keys<K> {
    /// Whether there is room for one more key, if need be after a sweep.
    fn has_room(&mut self, max: usize, now: Instant) -> bool {
        if self.buckets.len() >= max && self.next_sweep.is_none_or(|next| now >= next) {
            self.next_sweep = Some(now + SWEEP_INTERVAL);
            self.forget_full(now);
        }
        self.buckets.len() < max
    }

    fn forget_full(&mut self, now: Instant) {
        self.buckets.retain(|_, bucket| !bucket.is_full(now));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn keyed(per_second: f64, burst: u32, max_keys: usize) -> (KeyedBuckets<u64>, Arc<Metrics>) {
        let metrics = Metrics::new("outrigger").unwrap();
        let limit = KeyLimit { max_keys, setting: "handshake_rate.max_keys", whose: "addresses" };
        (KeyedBuckets::new(Rate { per_second, burst }, limit, Arc::clone(&metrics)), metrics)
    }

    #[tokio::test(start_paused = true)]
    async fn each_key_has_tokens_of_its_own_and_is_told_when_the_next_comes() {
        let (keyed, _) = keyed(10.0, 2, 100);
        for key in 0..5 {
            assert_eq!((keyed.take(&key), keyed.take(&key)), (Ok(()), Ok(())));
            assert_eq!(keyed.take(&key), Err(Duration::from_millis(100)));
        }
        advance(Duration::from_millis(40)).await;
        assert_eq!(keyed.take(&3), Err(Duration::from_millis(60)));
        advance(Duration::from_millis(60)).await;
        assert_eq!(keyed.take(&3), Ok(()));
        assert!(keyed.take(&3).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_million_addresses_do_not_grow_it_without_end() {
        let (keyed, metrics) = keyed(0.1, 1, 10_000);
        for key in 0..1_000_000 {
            assert_eq!(keyed.take(&key), Ok(()), "each is new: it has all its tokens, or no place");
        }
        assert_eq!(keyed.keys.lock().buckets.len(), 10_000);
        assert_eq!(metrics.admission.rate_untracked.get(), 990_000);
        assert!(keyed.take(&0).is_err(), "those who have a place are still held");
        advance(Duration::from_secs(11)).await;
        assert_eq!(keyed.take(&2_000_000), Ok(()), "it finds room: the others are full again");
        assert_eq!(metrics.admission.rate_untracked.get(), 990_000);
        assert_eq!(keyed.sweep(), 1);
        let capacity = keyed.keys.lock().buckets.capacity();
        assert!(capacity <= SHRINK_ABOVE, "{capacity}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_without_a_place_is_looked_for_room_now_and_then_only() {
        let (keyed, metrics) = keyed(1.0, 1, 1);
        assert_eq!(keyed.take(&0), Ok(()));
        assert_eq!(keyed.take(&1), Ok(()), "no room");
        advance(Duration::from_millis(990)).await;
        assert_eq!(keyed.take(&1), Ok(()), "still none, and the look is noted");
        advance(Duration::from_millis(20)).await;
        assert_eq!(keyed.take(&1), Ok(()));
        assert_eq!(metrics.admission.rate_untracked.get(), 3, "it is too early for another look");
        advance(Duration::from_millis(90)).await;
        assert_eq!(keyed.take(&1), Ok(()));
        assert!(keyed.take(&1).is_err(), "now it has a place");
    }

    #[tokio::test(start_paused = true)]
    async fn sweeping_forgets_nobody_who_still_waits_for_tokens() {
        let (keyed, _) = keyed(1.0, 3, 100);
        for _ in 0..3 {
            keyed.take(&7).unwrap();
        }
        keyed.take(&8).unwrap();
        advance(Duration::from_millis(2100)).await;
        assert_eq!(keyed.sweep(), 1, "the one with a token out of three to come");
        assert_eq!((keyed.take(&7), keyed.take(&7)), (Ok(()), Ok(())));
        assert!(keyed.take(&7).is_err());
    }
}
