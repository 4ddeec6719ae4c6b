//! Rates: the buckets that routes with equal settings share, and the checks that take tokens from them.
//!
//! # Invariants
//! 1. In any time `t` at most `rate · t + burst` requests pass a bucket ([`crate::resilience::Gcra`]).
//! 2. Only the global bucket lets requests wait ([`super::queue`]): those of a single address or user that is too fast
//!    are refused at once.
//! 3. Handshakes spend no tokens of requests, and requests none of handshakes.
//! 4. A refused request gets a `Retry-After` with jitter, so that clients do not come back at the same time.
//!
//! # Not here
//! The order of the checks ([`super::stack()`]); how many addresses have a bucket ([`super::keyed`]).

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::address::AddressKey;
use super::check::Check;
use super::context::{FallbackUse, Kind, RequestContext};
use super::keyed::{KeyLimit, KeyedBuckets};
use super::queue::Queue;
use super::refused::{Bucket, Refused};
use crate::config::{HandshakeRate, HttpRate};
use crate::telemetry::Metrics;

/// What buckets are made for: handshakes and plain requests have separate buckets, so that neither spends the other's
/// tokens.
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
    per_ip: Option<KeyedBuckets<AddressKey>>,
    /// By a hash of the name: names can be long, and a million of them would be kept.
    per_user: Option<KeyedBuckets<u64>>,
    hasher: RandomState,
}

impl Rates {
    /// With full buckets.
    pub(crate) fn new(settings: RateSettings, metrics: &Arc<Metrics>) -> Self {
        let (global, per_ip, per_user) = match settings {
            RateSettings::Handshakes(rates) => (rates.global, rates.per_ip, rates.per_user),
            RateSettings::Requests(rates) => (rates.global, rates.per_ip, None),
        };
        // Plain requests are not queued: a poll that waits holds its connection.
        let (max_wait, max_queued) = match settings {
            RateSettings::Handshakes(rates) => (rates.queue, rates.max_queued),
            RateSettings::Requests(_) => (Duration::ZERO, 0),
        };
        let (max_keys, setting) = match settings {
            RateSettings::Handshakes(rates) => (rates.max_keys, "handshake_rate.max_keys"),
            RateSettings::Requests(rates) => (rates.max_keys, "http.rate.max_keys"),
        };
        let limit = |whose| KeyLimit { max_keys, setting, whose };
        Self {
            settings,
            global: global.map(|rate| Queue::new(rate, max_wait, max_queued, Arc::clone(metrics))),
            per_ip: per_ip.map(|rate| KeyedBuckets::new(rate, limit("addresses"), Arc::clone(metrics))),
            per_user: per_user.map(|rate| KeyedBuckets::new(rate, limit("users"), Arc::clone(metrics))),
            hasher: RandomState::new(),
        }
    }

    /// The settings that they were made for.
    pub(crate) fn settings(&self) -> &RateSettings {
        &self.settings
    }

    /// One bucket or the other, depending on the settings.
    fn bucket(&self, of_handshakes: Bucket, of_requests: Bucket) -> Bucket {
        match self.settings {
            RateSettings::Handshakes(_) => of_handshakes,
            RateSettings::Requests(_) => of_requests,
        }
    }

    /// Takes a token of the global bucket, if need be after a wait in the queue.
    async fn take(&self) -> Result<(), Refused> {
        let Some(global) = &self.global else { return Ok(()) };
        let bucket = self.bucket(Bucket::Global, Bucket::HttpGlobal);
        global.take().await.map_err(|wait| Refused::Rate(bucket, wait + jitter()))
    }

    /// Takes a token of one address.
    fn take_per_ip(&self, address: AddressKey) -> Result<(), Refused> {
        let Some(per_ip) = &self.per_ip else { return Ok(()) };
        let bucket = self.bucket(Bucket::PerIp, Bucket::HttpPerIp);
        per_ip.take(&address).map_err(|wait| Refused::Rate(bucket, wait + jitter()))
    }

    /// Takes a token of one user.
    fn take_per_user(&self, user: &str) -> Result<(), Refused> {
        let Some(per_user) = &self.per_user else { return Ok(()) };
        let key = self.hasher.hash_one(user);
        per_user.take(&key).map_err(|wait| Refused::Rate(Bucket::PerUser, wait + jitter()))
    }

    /// Removes addresses and users whose buckets are full again. Answers how many are left.
    pub(crate) fn sweep(&self) -> usize {
        self.per_ip.as_ref().map_or(0, KeyedBuckets::sweep)
            + self.per_user.as_ref().map_or(0, KeyedBuckets::sweep)
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
    /// The buckets of requests of this kind.
    fn of(&self, kind: Kind) -> &Rates {
        match kind {
            Kind::Handshake | Kind::Fallback(_) => &self.handshakes,
            Kind::Plain => &self.requests,
        }
    }
}

/// Takes one token of a request.
#[derive(Debug)]
pub(super) enum RateCheck {
    /// `handshake_rate.per_ip`, `http.rate.per_ip`. Asked before anything else: one attacker can then neither drain
    /// the bucket of all nor drive authentication.
    PerAddress(RatesByKind),
    /// `handshake_rate.global`, `http.rate.global`: what the server behind can bear does not depend on who asks.
    Global(RatesByKind),
    /// `handshake_rate.per_user`, from however many addresses. A client without a user is not limited, and plain
    /// requests are no connections.
    PerUser(Arc<Rates>),
}

impl Check for RateCheck {
    async fn check(&self, context: &mut RequestContext) -> Result<(), Refused> {
        match self {
            Self::PerAddress(rates) => rates.of(context.kind).take_per_ip(context.client.key()),
            // Nothing is asked of the server for a client that comes back to its session, or goes on reading a log.
            Self::Global(_) | Self::PerUser(_) if context.is_resumed() || context.is_continued => Ok(()),
            Self::Global(_) if context.kind == Kind::Fallback(FallbackUse::Preflight) => Ok(()),
            Self::Global(rates) => rates.of(context.kind).take().await,
            Self::PerUser(rates) => {
                let user = context.user.as_ref().filter(|_| context.kind != Kind::Plain);
                user.map_or(Ok(()), |user| rates.take_per_user(&user.name))
            }
        }
    }
}

/// Clients that are refused at the same time must not come back at the same time, although `Retry-After` has whole
/// seconds.
fn jitter() -> Duration {
    Duration::from_secs_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;
    use crate::admission::address::Client;
    use crate::config::Rate;

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
                    if rates.take().await.is_ok() {
                        all.push(start.elapsed().as_secs_f64());
                    }
                    if rates.take_per_ip(nobody.key()).is_ok() {
                        of_one.push(start.elapsed().as_secs_f64());
                    }
                }
                [all, of_one]
            });
            for passed in passed {
                prop_assert!(!passed.is_empty());
                for (first, from) in passed.iter().enumerate() {
                    for (last, until) in passed.iter().enumerate().skip(first) {
                        let limit = per_second * (until - from) + f64::from(burst);
                        prop_assert!((last - first + 1) as f64 <= limit + 1e-6, "{first}..={last}: {passed:?}");
                    }
                }
            }
        }
    }
}
