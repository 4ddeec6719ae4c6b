//! Is the upstream worth asking? The last layer: it lets a handshake through to its mode, and learns from the
//! answer how the upstream does. While others find out whether it is back, a handshake waits for them.
//!
//! # Invariants
//! 1. What the upstream did not do is not held against it: refusals of our own, a drain, a client that leaves
//!    at once.
//! 2. Plain HTTP is neither asked nor counted.
//!
//! # Not here
//! What is a failure ([`UpstreamBreaker`]). Mode `broadcast` asks for itself, with each dial.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Response;
use tower::{Layer, Service};

use super::context::{Kind, RequestContext};
use super::quota::ConnectionQuota;
use super::refused::Refused;
use crate::upstream::{Permit, UpstreamBreaker, Verdict};

/// The layer around a mode that asks the upstream for each handshake.
#[derive(Debug, Clone)]
pub(super) struct BreakerLayer {
    /// `None`: it is always asked.
    pub(super) breaker: Option<Arc<UpstreamBreaker>>,
    /// Tells whether a connection of this route is open.
    pub(super) quota: Arc<ConnectionQuota>,
}

impl<S> Layer<S> for BreakerLayer {
    type Service = BreakerService<S>;

    fn layer(&self, inner: S) -> BreakerService<S> {
        BreakerService { layer: self.clone(), inner }
    }
}

/// A mode behind a breaker.
#[derive(Debug, Clone)]
pub(super) struct BreakerService<S> {
    layer: BreakerLayer,
    inner: S,
}

impl<S, T, B> Service<(RequestContext, T)> for BreakerService<S>
where
    T: Send + 'static,
    S: Service<(RequestContext, T), Response = Response<B>, Error = Refused> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<B>;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, Refused>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, (context, load): (RequestContext, T)) -> Self::Future {
        let BreakerLayer { breaker, quota } = self.layer.clone();
        let breaker = breaker.filter(|_| context.kind == Kind::Handshake);
        // The one that was asked whether it is ready goes; a fresh one stays.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            let mut permit = match &breaker {
                Some(breaker) => Some(breaker.enter(context.caller()).await.map_err(Refused::Breaker)?),
                None => None,
            };
            let call = inner.call((context, load));
            let result = match &mut permit {
                Some(permit) => permit.watch(call).await,
                None => call.await,
            };
            if let Some(permit) = permit {
                report(permit, &result, &quota);
            }
            result
        })
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

    use http::StatusCode;
    use tokio::time::advance;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::config::{self, Config};
    use crate::resilience::BreakerState;
    use crate::telemetry::Metrics;
    use crate::upstream::UpstreamError;

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

    fn layer() -> (Arc<UpstreamBreaker>, BreakerLayer) {
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
        (Arc::clone(&breaker), BreakerLayer { breaker: Some(breaker), quota: ConnectionQuota::new("r") })
    }

    async fn ask(layer: &BreakerLayer, kind: Kind, play: Play) -> Result<StatusCode, Refused> {
        let mode = service_fn(|(_, play): (RequestContext, Play)| async move {
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
        });
        let head = http::Request::new(()).into_parts().0;
        let context = RequestContext::new(head, kind, Arc::default());
        let answer = layer.layer(mode).oneshot((context, play)).await;
        answer.map(|response| response.status())
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_fails_twice_is_not_asked_a_third_time() {
        for play in [Play::Fail, Play::Answer(503)] {
            let (breaker, layer) = layer();
            for _ in 0..2 {
                let asked = ask(&layer, Kind::Handshake, play).await;
                assert!(!matches!(asked, Err(Refused::Breaker(_))), "{play:?}");
            }
            assert_eq!(breaker.state(), BreakerState::Open, "{play:?}");
            let refused = ask(&layer, Kind::Handshake, Play::Answer(101)).await;
            let Err(Refused::Breaker(wait)) = refused else { panic!("{refused:?}") };
            assert!(wait >= Duration::from_secs(5), "{wait:?}");
            assert!(ask(&layer, Kind::Plain, Play::Answer(200)).await.is_ok(), "requests pass untouched");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_failure_of_the_server_never_opens_it() {
        for play in [Play::Answer(101), Play::Answer(403), Play::Answer(500), Play::Drain, Play::Malformed] {
            let (breaker, layer) = layer();
            for _ in 0..50 {
                let _ = ask(&layer, Kind::Handshake, play).await;
                let _ = ask(&layer, Kind::Plain, Play::Fail).await;
                let _ = ask(&layer, Kind::Plain, Play::Answer(503)).await;
            }
            assert_eq!(breaker.state(), BreakerState::Closed, "{play:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_is_given_up_counts_by_how_long_it_was_waited_for() {
        for (patience, state) in [(1000, BreakerState::Closed), (3000, BreakerState::Open)] {
            let (breaker, layer) = layer();
            for _ in 0..2 {
                let asked = ask(&layer, Kind::Handshake, Play::Wait(60_000));
                let asked = tokio::time::timeout(Duration::from_millis(patience), asked).await;
                assert!(asked.is_err());
            }
            assert_eq!(breaker.state(), state, "{patience} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_probe_is_under_way_others_wait_for_it_and_requests_do_not() {
        for play in [Play::Wait(100), Play::WaitAndFail(100)] {
            let (breaker, layer) = layer();
            for _ in 0..2 {
                let _ = ask(&layer, Kind::Handshake, Play::Fail).await;
            }
            advance(Duration::from_secs(6)).await;
            let start = tokio::time::Instant::now();
            let (probe, other, one_too_many, plain) = tokio::join!(
                ask(&layer, Kind::Handshake, play),
                ask(&layer, Kind::Handshake, Play::Answer(101)),
                ask(&layer, Kind::Handshake, Play::Answer(101)),
                ask(&layer, Kind::Plain, Play::Answer(200)),
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

    #[tokio::test(start_paused = true)]
    async fn without_a_breaker_every_handshake_is_asked() {
        let (_, mut layer) = layer();
        layer.breaker = None;
        for _ in 0..50 {
            let refused = ask(&layer, Kind::Handshake, Play::Fail).await;
            assert!(matches!(refused, Err(Refused::Upstream(_))));
        }
    }
}
