//! One bucket for each address or user, for a bounded number of them.
//!
//! # Invariants
//! 1. A key costs one number: when its bucket is full again, and from then on it costs nothing.
//! 2. There are never more than `max_keys`. One that finds no room is let pass, and counted: whoever has so
//!    many addresses cannot be told apart by them, and must not lock everybody else out. The bucket of all
//!    still holds.
//!
//! # Not here
//! What a rate is ([`super::rate`]).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{NotUntil, RateLimiter};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use tracing::warn;

use super::rate::{Ticks, quota};
use crate::config::Rate;
use crate::telemetry::Metrics;

/// Looking through all keys for room takes milliseconds where there are many: not for every request.
const SWEEPS_APART: Duration = Duration::from_millis(100);

/// One warning says it all.
const WARNINGS_APART: Duration = Duration::from_secs(60);

/// Below so many keys there is nothing to gain.
const SMALL: usize = 64;

/// Buckets by key.
#[derive(Debug)]
pub(super) struct Keyed<K: Eq + Hash + Clone> {
    limiter: RateLimiter<K, Store<K>, Ticks, NoOpMiddleware<Nanos>>,
}

impl<K: Eq + Hash + Clone> Keyed<K> {
    /// None yet.
    pub(super) fn new(rate: Rate, bound: Bound, metrics: Arc<Metrics>) -> Self {
        let clock = Ticks::new();
        let store = Store { clock, bound, metrics, keys: Mutex::new(Keys::new()) };
        Self { limiter: RateLimiter::new(quota(rate), store, clock) }
    }

    /// Takes a token, or says in how long there will be one.
    pub(super) fn pass(&self, key: &K) -> Result<(), Duration> {
        let wait = |until: NotUntil<Nanos>| until.wait_time_from(self.limiter.clock().now());
        self.limiter.check_key(key).map_err(wait)
    }

    /// Forgets those whose buckets are full. Answers how many are left.
    pub(super) fn sweep(&self) -> usize {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
        self.limiter.len()
    }
}

/// How many keys there may be, and what the log says of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) max_keys: usize,
    /// The setting that says so, below `policy`.
    pub(super) setting: &'static str,
    /// What the keys are.
    pub(super) whose: &'static str,
}

/// Where [`governor`] keeps what it knows of each key: when its bucket will be full.
#[derive(Debug)]
struct Store<K> {
    clock: Ticks,
    bound: Bound,
    metrics: Arc<Metrics>,
    keys: Mutex<Keys<K>>,
}

#[derive(Debug)]
struct Keys<K> {
    full_at: HashMap<K, Nanos>,
    swept: Option<Instant>,
    warned: Option<Instant>,
}

impl<K: Eq + Hash> Keys<K> {
    fn new() -> Self {
        Self { full_at: HashMap::new(), swept: None, warned: None }
    }

    /// Whether there is room for one more, if need be after a look for buckets that are full.
    fn has_room(&mut self, max: usize, clock: &Ticks) -> bool {
        if self.full_at.len() >= max && is_due(&mut self.swept, SWEEPS_APART) {
            let now = clock.now();
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        self.full_at.len() < max
    }
}

/// Whether `apart` has passed since the last time that this was answered with yes.
fn is_due(last: &mut Option<Instant>, apart: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= apart);
    if due {
        *last = Some(Instant::now());
    }
    due
}

impl<K: Eq + Hash + Clone> Store<K> {
    fn keys(&self) -> MutexGuard<'_, Keys<K>> {
        // A panic under this lock cannot leave a map half changed.
        self.keys.lock()
    }
}

impl<K: Eq + Hash + Clone> StateStore for Store<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut keys = self.keys();
        if let Some(full_at) = keys.full_at.get_mut(key) {
            let (passed, then) = measure(Some(*full_at))?;
            *full_at = then;
            return Ok(passed);
        }
        let (passed, full_at) = measure(None)?;
        if keys.has_room(self.bound.max_keys, &self.clock) {
            keys.full_at.insert(key.clone(), full_at);
            return Ok(passed);
        }
        self.metrics.rate_untracked.inc();
        let is_told = is_due(&mut keys.warned, WARNINGS_APART);
        drop(keys);
        if is_told {
            let Bound { max_keys, setting, whose } = self.bound;
            warn!(
                whose,
                max_keys, "more of them than policy.{setting}: further ones are not limited one by one"
            );
        }
        Ok(passed)
    }
}

impl<K: Eq + Hash + Clone> ShrinkableKeyedStateStore<K> for Store<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        self.keys().full_at.retain(|_, full_at| *full_at > drop_below);
    }

    fn shrink_to_fit(&self) {
        let full_at = &mut self.keys().full_at;
        // With room for as many again: a map that is used all day would otherwise grow each second anew.
        if full_at.capacity() > SMALL && full_at.len() < full_at.capacity() / 4 {
            let room = full_at.len() * 2;
            full_at.shrink_to(room);
        }
    }

    fn len(&self) -> usize {
        self.keys().full_at.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn keyed(per_second: f64, burst: u32, max_keys: usize) -> (Keyed<u64>, Arc<Metrics>) {
        let metrics = Metrics::new("outrigger").unwrap();
        let bound = Bound { max_keys, setting: "handshake_rate.max_keys", whose: "addresses" };
        (Keyed::new(Rate { per_second, burst }, bound, Arc::clone(&metrics)), metrics)
    }

    #[tokio::test(start_paused = true)]
    async fn each_key_has_tokens_of_its_own_and_is_told_when_the_next_comes() {
        let (keyed, _) = keyed(10.0, 2, 100);
        for key in 0..5 {
            assert_eq!((keyed.pass(&key), keyed.pass(&key)), (Ok(()), Ok(())));
            assert_eq!(keyed.pass(&key), Err(Duration::from_millis(100)));
        }
        advance(Duration::from_millis(40)).await;
        assert_eq!(keyed.pass(&3), Err(Duration::from_millis(60)));
        advance(Duration::from_millis(60)).await;
        assert_eq!(keyed.pass(&3), Ok(()));
        assert!(keyed.pass(&3).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_million_addresses_do_not_grow_it_without_end() {
        let (keyed, metrics) = keyed(0.1, 1, 10_000);
        for key in 0..1_000_000 {
            assert_eq!(keyed.pass(&key), Ok(()), "each is new: it has all its tokens, or no place");
        }
        assert_eq!(keyed.limiter.len(), 10_000);
        assert_eq!(metrics.rate_untracked.get(), 990_000);
        assert!(keyed.pass(&0).is_err(), "those who have a place are still held");
        advance(Duration::from_secs(11)).await;
        assert_eq!(keyed.pass(&2_000_000), Ok(()), "it finds room: the others are full again");
        assert_eq!(metrics.rate_untracked.get(), 990_000);
        assert_eq!(keyed.sweep(), 1);
        let Keyed { limiter } = keyed;
        let store = limiter.into_state_store();
        assert!(store.keys().full_at.capacity() <= SMALL, "{}", store.keys().full_at.capacity());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_without_a_place_is_looked_for_room_now_and_then_only() {
        let (keyed, metrics) = keyed(1.0, 1, 1);
        assert_eq!(keyed.pass(&0), Ok(()));
        assert_eq!(keyed.pass(&1), Ok(()), "no room");
        advance(Duration::from_millis(990)).await;
        assert_eq!(keyed.pass(&1), Ok(()), "still none, and the look is noted");
        advance(Duration::from_millis(20)).await;
        assert_eq!(keyed.pass(&1), Ok(()));
        assert_eq!(metrics.rate_untracked.get(), 3, "it is too early for another look");
        advance(Duration::from_millis(90)).await;
        assert_eq!(keyed.pass(&1), Ok(()));
        assert!(keyed.pass(&1).is_err(), "now it has a place");
    }

    #[tokio::test(start_paused = true)]
    async fn sweeping_forgets_nobody_who_still_waits_for_tokens() {
        let (keyed, _) = keyed(1.0, 3, 100);
        for _ in 0..3 {
            keyed.pass(&7).unwrap();
        }
        keyed.pass(&8).unwrap();
        advance(Duration::from_millis(2100)).await;
        assert_eq!(keyed.sweep(), 1, "the one with a token out of three to come");
        assert_eq!((keyed.pass(&7), keyed.pass(&7)), (Ok(()), Ok(())));
        assert!(keyed.pass(&7).is_err());
    }
}
