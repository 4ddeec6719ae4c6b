//! How fast: the buckets that routes with equal settings share.
//!
//! # Invariants
//! 1. In any time `t` at most `rate · t + burst` requests pass a bucket (GCRA; [`governor`] does the sums).
//! 2. Nobody is kept waiting but by the bucket of all ([`super::queue`]): a single address or user that is too
//!    fast is told so at once.
//! 3. Handshakes spend no tokens of requests, and requests none of handshakes.
//! 4. Whoever is refused is told when to come back, and no two of them the same moment by design.
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

use super::context::{AddressKey, Kind};
use super::keyed::{Bound, Keyed};
use super::queue::Queue;
use super::refused::{Bucket, Refused};
use crate::config::{HandshakeRate, HttpRate, Rate};
use crate::telemetry::Metrics;

/// What buckets are made for: handshakes and plain requests have buckets apart, so that neither spends the other's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RateSettings {
    /// `policy.handshake_rate`
    Handshakes(HandshakeRate),
    /// `policy.http.rate`
    Requests(HttpRate),
}

/// The buckets of one `policy.handshake_rate`, or of one `policy.http.rate`.
#[derive(Debug)]
pub(crate) struct Rates {
    settings: RateSettings,
    global: Option<Queue>,
    per_ip: Option<Keyed<AddressKey>>,
    /// By a hash of the name: names can be long, and a million of them would be kept.
    per_user: Option<Keyed<u64>>,
    hasher: RandomState,
}

impl Rates {
    /// Full.
    pub(crate) fn new(settings: RateSettings, metrics: &Arc<Metrics>) -> Self {
        let (global, per_ip, per_user) = match settings {
            RateSettings::Handshakes(rates) => (rates.global, rates.per_ip, rates.per_user),
            RateSettings::Requests(rates) => (rates.global, rates.per_ip, None),
        };
        // Requests do not line up: a poll that waits holds its connection.
        let (longest, max_queued) = match settings {
            RateSettings::Handshakes(rates) => (rates.queue, rates.max_queued),
            RateSettings::Requests(_) => (Duration::ZERO, 0),
        };
        let (max_keys, setting) = match settings {
            RateSettings::Handshakes(rates) => (rates.max_keys, "handshake_rate.max_keys"),
            RateSettings::Requests(rates) => (rates.max_keys, "http.rate.max_keys"),
        };
        let bound = |whose| Bound { max_keys, setting, whose };
        Self {
            settings,
            global: global.map(|rate| Queue::new(rate, longest, max_queued, Arc::clone(metrics))),
            per_ip: per_ip.map(|rate| Keyed::new(rate, bound("addresses"), Arc::clone(metrics))),
            per_user: per_user.map(|rate| Keyed::new(rate, bound("users"), Arc::clone(metrics))),
            hasher: RandomState::new(),
        }
    }

    /// What they were made for.
    pub(crate) fn settings(&self) -> &RateSettings {
        &self.settings
    }

    /// One bucket or the other, by what is counted.
    fn bucket(&self, of_handshakes: Bucket, of_requests: Bucket) -> Bucket {
        match self.settings {
            RateSettings::Handshakes(_) => of_handshakes,
            RateSettings::Requests(_) => of_requests,
        }
    }

    /// Takes a token of all, if need be after a wait in the queue.
    pub(super) async fn pass(&self) -> Result<(), Refused> {
        let Some(global) = &self.global else { return Ok(()) };
        let bucket = self.bucket(Bucket::Global, Bucket::HttpGlobal);
        global.pass().await.map_err(|wait| Refused::Rate(bucket, wait + jitter()))
    }

    /// Takes a token of one address.
    pub(super) fn pass_address(&self, address: AddressKey) -> Result<(), Refused> {
        let Some(per_ip) = &self.per_ip else { return Ok(()) };
        let bucket = self.bucket(Bucket::PerIp, Bucket::HttpPerIp);
        per_ip.pass(&address).map_err(|wait| Refused::Rate(bucket, wait + jitter()))
    }

    /// Takes a token of one user.
    pub(super) fn pass_user(&self, user: &str) -> Result<(), Refused> {
        let Some(per_user) = &self.per_user else { return Ok(()) };
        let key = self.hasher.hash_one(user);
        per_user.pass(&key).map_err(|wait| Refused::Rate(Bucket::PerUser, wait + jitter()))
    }

    /// Forgets addresses and users whose buckets are full again. Answers how many are left.
    pub(crate) fn sweep(&self) -> usize {
        self.per_ip.as_ref().map_or(0, Keyed::sweep) + self.per_user.as_ref().map_or(0, Keyed::sweep)
    }
}

/// The buckets of a route.
#[derive(Debug, Clone)]
pub(crate) struct RatesByKind {
    /// `policy.handshake_rate`
    pub handshakes: Arc<Rates>,
    /// `policy.http.rate`
    pub requests: Arc<Rates>,
}

impl RatesByKind {
    /// Those that a request of this kind spends.
    pub(super) fn of(&self, kind: Kind) -> &Rates {
        match kind {
            Kind::Handshake => &self.handshakes,
            Kind::Plain => &self.requests,
        }
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
    use crate::admission::context::Client;
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
                let rates = Rates::new(RateSettings::Handshakes(none), &metrics);
                let start = Instant::now();
                let nobody = Client { address: None };
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
