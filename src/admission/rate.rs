//! How fast: the buckets that routes with equal settings share.
//!
//! # Invariants
//! 1. In any time `t` at most `rate · t + burst` requests pass a bucket (GCRA; [`governor`] does the sums).
//! 2. Nobody is kept waiting but by the bucket of all ([`super::queue`]): a single address or user that is too
//!    fast is told so at once.
//! 3. Whoever is refused is told when to come back, and no two of them the same moment by design.
//!
//! # Not here
//! Where in the road they stand ([`super::per_address`], [`super::global`], [`super::per_user`]); how many
//! addresses are told apart ([`super::keyed`]).

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::Quota;
use governor::clock::Clock;
use governor::nanos::Nanos;
use tokio::time::Instant;

use super::guest::AddressKey;
use super::keyed::Keyed;
use super::queue::Queue;
use super::refused::{Bucket, Refused};
use crate::config::{HandshakeRate, Rate};
use crate::telemetry::Metrics;

/// The buckets of one `policy.handshake_rate`.
#[derive(Debug)]
pub struct Rates {
    settings: HandshakeRate,
    global: Option<Queue>,
    per_ip: Option<Keyed<AddressKey>>,
    /// By a hash of the name: names can be long, and a million of them would be kept.
    per_user: Option<Keyed<u64>>,
    hasher: RandomState,
}

impl Rates {
    /// Full.
    pub fn new(settings: HandshakeRate, metrics: &Arc<Metrics>) -> Self {
        let max_keys = settings.max_keys;
        Self {
            settings,
            global: settings.global.map(|rate| Queue::new(rate, &settings, Arc::clone(metrics))),
            per_ip: settings.per_ip.map(|rate| Keyed::new(rate, max_keys, "addresses", Arc::clone(metrics))),
            per_user: settings.per_user.map(|rate| Keyed::new(rate, max_keys, "users", Arc::clone(metrics))),
            hasher: RandomState::new(),
        }
    }

    /// What they were made for.
    pub fn settings(&self) -> &HandshakeRate {
        &self.settings
    }

    /// Takes a token of all, if need be after a wait in the queue.
    pub(super) async fn pass(&self) -> Result<(), Refused> {
        let Some(global) = &self.global else { return Ok(()) };
        global.pass().await.map_err(|wait| Refused::Rate(Bucket::Global, wait + jitter()))
    }

    /// Takes a token of one address.
    pub(super) fn pass_address(&self, address: AddressKey) -> Result<(), Refused> {
        let Some(per_ip) = &self.per_ip else { return Ok(()) };
        per_ip.pass(&address).map_err(|wait| Refused::Rate(Bucket::PerIp, wait + jitter()))
    }

    /// Takes a token of one user.
    pub(super) fn pass_user(&self, user: &str) -> Result<(), Refused> {
        let Some(per_user) = &self.per_user else { return Ok(()) };
        let key = self.hasher.hash_one(user);
        per_user.pass(&key).map_err(|wait| Refused::Rate(Bucket::PerUser, wait + jitter()))
    }

    /// Forgets addresses and users whose buckets are full again. Answers how many are left.
    pub fn sweep(&self) -> usize {
        self.per_ip.as_ref().map_or(0, Keyed::sweep) + self.per_user.as_ref().map_or(0, Keyed::sweep)
    }
}

/// `Retry-After` has whole seconds; those who were refused together must not be back together.
fn jitter() -> Duration {
    Duration::from_secs_f64(fastrand::f64())
}

/// The time of [`governor`]: since a start, by the runtime's clock, which tests can stop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks {
    start: Instant,
}

impl Ticks {
    pub(super) fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.start.elapsed().into()
    }
}

/// A rate as [`governor`] wants it. It counts nanoseconds in 64 bits, and multiplies them by the burst.
pub(super) fn quota(rate: Rate) -> Quota {
    let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
    let longest = i64::MAX / 2 / i64::from(burst.get());
    // Rounded up: in doubt a little slower than the rate.
    let period = (1e9 / rate.per_second).ceil().clamp(1.0, longest as f64);
    Quota::with_period(Duration::from_nanos(period as u64))
        .unwrap_or(Quota::per_second(burst))
        .allow_burst(burst)
}

#[cfg(test)]
mod tests {
    use governor::RateLimiter;
    use proptest::prelude::*;

    use super::*;
    use crate::admission::guest::Client;
    use crate::admission::queue::Limiter;

    #[test]
    fn any_rate_that_a_file_can_say_has_a_quota() {
        for per_second in [f64::MIN_POSITIVE, 1e-6, 0.5, 10.0, 1e9, 1e300] {
            for burst in [1, 1000, u32::MAX] {
                let quota = quota(Rate { per_second, burst });
                assert_eq!(quota.burst_size().get(), burst);
                let limiter: Limiter = RateLimiter::direct_with_clock(quota, Ticks::new());
                assert!(limiter.check().is_ok(), "{per_second} {burst}");
            }
        }
        let ten = quota(Rate { per_second: 10.0, burst: 1 });
        assert_eq!(ten.replenish_interval(), Duration::from_millis(100));
    }

    proptest! {
        #[test]
        fn no_window_lets_more_pass_than_rate_and_burst(
            per_second in 0.5_f64..500.0,
            burst in 1_u32..50,
            gaps in prop::collection::vec(0_u64..40, 1..400),
        ) {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let passed = runtime.block_on(async {
                let metrics = Metrics::new("outrigger").unwrap();
                let none = HandshakeRate {
                    global: Some(Rate { per_second, burst }),
                    per_ip: Some(Rate { per_second, burst }),
                    per_user: None,
                    queue: Duration::ZERO,
                    max_queued: 0,
                    max_keys: 10,
                };
                let rates = Rates::new(none, &metrics);
                let start = Instant::now();
                let nobody = Client { address: None, is_forwarded: false };
                let (mut all, mut of_one) = (Vec::new(), Vec::new());
                for gap in &gaps {
                    tokio::time::advance(Duration::from_millis(*gap)).await;
                    if rates.pass().await.is_ok() {
                        all.push(start.elapsed().as_secs_f64());
                    }
                    if rates.pass_address(nobody.key()).is_ok() {
                        of_one.push(start.elapsed().as_secs_f64());
                    }
                }
                [all, of_one]
            });
            for passed in passed {
                prop_assert!(!passed.is_empty());
                for (first, from) in passed.iter().enumerate() {
                    for (last, until) in passed.iter().enumerate().skip(first) {
                        let bound = per_second * (until - from) + f64::from(burst);
                        prop_assert!((last - first + 1) as f64 <= bound + 1e-6, "{first}..={last}: {passed:?}");
                    }
                }
            }
        }
    }
}
