//! The breaker of mode `tunnel`: each handshake, once admitted, takes a permit of the upstream's breaker, and reports
//! its result. While the breaker is half-open, handshakes wait for the result of the probes.
//!
//! # Invariants
//! 1. Only the upstream's failures count: refusals by the proxy, a drain, or a client that disconnects at once do not.
//! 2. Plain HTTP neither needs a permit nor is counted.
//!
//! # Not here
//! What a failure is ([`UpstreamBreaker`]). The channels of mode `broadcast` take a permit for each dial themselves.

use std::sync::Arc;

use http::Response;

use super::quota::ConnectionQuota;
use super::refused::Refused;
use crate::resilience::Caller;
use crate::upstream::{Permit, UpstreamBreaker, Verdict};

/// The breaker of one route's upstream, for handshakes.
#[derive(Debug)]
pub(crate) struct BreakerGuard {
    breaker: Arc<UpstreamBreaker>,
    /// Knows whether any connection of the route is open.
    quota: Arc<ConnectionQuota>,
}

impl BreakerGuard {
    pub(crate) fn new(breaker: Arc<UpstreamBreaker>, quota: Arc<ConnectionQuota>) -> Self {
        Self { breaker, quota }
    }

    /// Runs `handshake` on behalf of `caller` if the breaker permits it, and reports the result to the breaker.
    ///
    /// # Errors
    /// [`Refused::Breaker`], or what `handshake` says.
    pub(crate) async fn guard<B>(
        &self,
        caller: Caller,
        handshake: impl Future<Output = Result<Response<B>, Refused>>,
    ) -> Result<Response<B>, Refused> {
        let mut permit = self.breaker.enter(caller).await.map_err(Refused::Breaker)?;
        let result = permit.watch(handshake).await;
        report(permit, &result, &self.quota);
        result
    }
}

fn report<B>(permit: Permit, result: &Result<Response<B>, Refused>, quota: &ConnectionQuota) {
    match result {
        // A 101, or whatever else the upstream said, which is passed on.
        Ok(response) => permit.settle(Verdict::Answered(response.status())),
        Err(Refused::Upstream(error)) => {
            permit.settle(Verdict::Failed { error, is_in_use: quota.has_open() });
        }
        // The upstream was not asked.
        Err(_) => permit.settle(Verdict::NotAsked),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::context::{Kind, RequestContext};
    use super::*;
    use crate::config::{self, Config};
    use crate::resilience::BreakerState;
    use crate::telemetry::Metrics;
    use crate::upstream::UpstreamError;
    use http::StatusCode;
    use tokio::time::advance;

    /// What the mode does.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Play {
        Answer(u16),
        Fail,
        Drain,
        Malformed,
        /// For so many milliseconds, then a 101.
        Wait(u64),
        WaitAndFail(u64),
    }

    fn guard() -> (Arc<UpstreamBreaker>, BreakerGuard) {
        let settings = config::Breaker {
            window: Duration::from_secs(10),
            min_calls: 2,
            failure_ratio: 0.5,
            statuses: vec![503],
            open_for: Duration::from_secs(5),
            probes: 1,
            max_waiting: 1,
            slow_after: Duration::from_secs(2),
        };
        let metrics = Metrics::new("outrigger").unwrap();
        let breaker = UpstreamBreaker::new(&settings, &Config::default().routes[0].upstream, "r", &metrics);
        (Arc::clone(&breaker), BreakerGuard::new(breaker, ConnectionQuota::new("r")))
    }

    async fn ask(guard: &BreakerGuard, kind: Kind, play: Play) -> Result<StatusCode, Refused> {
        let mode = async {
            match play {
                Play::Answer(status) => Ok(Response::builder().status(status).body(()).unwrap()),
                Play::Fail => Err(UpstreamError::Timeout(Duration::from_secs(1)).into()),
                Play::Drain => Err(Refused::Draining),
                Play::Malformed => Err(Refused::Malformed("x")),
                Play::Wait(millis) => {
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    Ok(Response::builder().status(101).body(()).unwrap())
                }
                Play::WaitAndFail(millis) => {
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    Err(UpstreamError::Timeout(Duration::from_secs(1)).into())
                }
            }
        };
        let head = http::Request::new(()).into_parts().0;
        let context = RequestContext::new(head, kind, Arc::default());
        let answer = match kind {
            Kind::Handshake => guard.guard(context.caller(), mode).await,
            Kind::Plain | Kind::Fallback(_) => mode.await,
        };
        answer.map(|response| response.status())
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_fails_twice_is_not_asked_a_third_time() {
        for play in [Play::Fail, Play::Answer(503)] {
            let (breaker, guard) = guard();
            for _ in 0..2 {
                let asked = ask(&guard, Kind::Handshake, play).await;
                assert!(!matches!(asked, Err(Refused::Breaker(_))), "{play:?}");
            }
            assert_eq!(breaker.state(), BreakerState::Open, "{play:?}");
            let refused = ask(&guard, Kind::Handshake, Play::Answer(101)).await;
            let Err(Refused::Breaker(wait)) = refused else { panic!("{refused:?}") };
            assert!(wait >= Duration::from_secs(5), "{wait:?}");
            assert!(ask(&guard, Kind::Plain, Play::Answer(200)).await.is_ok(), "requests pass untouched");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_failure_of_the_server_never_opens_it() {
        for play in [Play::Answer(101), Play::Answer(403), Play::Answer(500), Play::Drain, Play::Malformed] {
            let (breaker, guard) = guard();
            for _ in 0..50 {
                let _ = ask(&guard, Kind::Handshake, play).await;
                let _ = ask(&guard, Kind::Plain, Play::Fail).await;
                let _ = ask(&guard, Kind::Plain, Play::Answer(503)).await;
            }
            assert_eq!(breaker.state(), BreakerState::Closed, "{play:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_is_given_up_counts_by_how_long_it_was_waited_for() {
        for (patience, state) in [(1000, BreakerState::Closed), (3000, BreakerState::Open)] {
            let (breaker, guard) = guard();
            for _ in 0..2 {
                let asked = ask(&guard, Kind::Handshake, Play::Wait(60_000));
                let asked = tokio::time::timeout(Duration::from_millis(patience), asked).await;
                assert!(asked.is_err());
            }
            assert_eq!(breaker.state(), state, "{patience} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_probe_is_under_way_others_wait_for_it_and_requests_do_not() {
        for play in [Play::Wait(100), Play::WaitAndFail(100)] {
            let (breaker, guard) = guard();
            for _ in 0..2 {
                let _ = ask(&guard, Kind::Handshake, Play::Fail).await;
            }
            advance(Duration::from_secs(6)).await;
            let start = tokio::time::Instant::now();
            let (probe, other, one_too_many, plain) = tokio::join!(
                ask(&guard, Kind::Handshake, play),
                ask(&guard, Kind::Handshake, Play::Answer(101)),
                ask(&guard, Kind::Handshake, Play::Answer(101)),
                ask(&guard, Kind::Plain, Play::Answer(200)),
            );
            assert_eq!(plain.unwrap(), 200);
            assert!(matches!(one_too_many, Err(Refused::Breaker(wait)) if wait == Duration::from_secs(1)));
            if play == Play::Wait(100) {
                assert_eq!(
                    (probe.unwrap(), other.unwrap()),
                    (StatusCode::SWITCHING_PROTOCOLS, StatusCode::SWITCHING_PROTOCOLS)
                );
                assert_eq!(breaker.state(), BreakerState::Closed);
            } else {
                assert!(matches!(probe, Err(Refused::Upstream(_))));
                assert!(matches!(other, Err(Refused::Breaker(wait)) if wait >= Duration::from_secs(5)));
            }
            assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
        }
    }
}
