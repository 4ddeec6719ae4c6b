use std::io;

use tokio::time::advance;

use super::*;
use crate::net::head::FramingFault;
use crate::net::tls::HandshakeError;
use crate::upstream::{BadUpgrade, DialError};

/// Two failures open it for 10 s (12 s at most), one success closes it; a connect may take 2 s.
fn breaker(metrics: &Metrics) -> Arc<UpstreamBreaker> {
    let settings = config::Breaker {
        window: Duration::from_secs(10),
        min_calls: 2,
        failure_ratio: 0.5,
        statuses: vec![502, 503],
        open_for: Duration::from_secs(10),
        probes: 1,
    };
    let config = config::Config::default();
    UpstreamBreaker::new(&settings, &config.routes[0].upstream, "r", metrics)
}

fn metrics() -> Arc<Metrics> {
    Metrics::new("outrigger").unwrap()
}

fn sample(metrics: &Metrics, sample: &str) -> Option<f64> {
    let text = prometheus::TextEncoder::new().encode_to_string(&metrics.gather()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(sample)).map(str::to_owned);
    line.map(|value| value.trim().parse().unwrap())
}

fn state(metrics: &Metrics) -> Option<f64> {
    sample(metrics, "outrigger_breaker_state{route=\"r\",scope=\"upstream\"}")
}

fn fail(breaker: &Arc<UpstreamBreaker>) {
    breaker.enter().unwrap().failed(&UpstreamError::Timeout(Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn it_opens_asks_again_and_closes_and_the_metrics_tell() {
    let metrics = metrics();
    let breaker = breaker(&metrics);
    assert_eq!(state(&metrics), Some(0.0));
    fail(&breaker);
    assert_eq!(breaker.state(), BreakerState::Closed);
    fail(&breaker);
    assert_eq!((breaker.state(), state(&metrics)), (BreakerState::Open, Some(2.0)));
    let wait = breaker.enter().unwrap_err();
    assert!(wait >= Duration::from_secs(10) && wait <= Duration::from_secs(12), "{wait:?}");

    advance(Duration::from_secs(12)).await;
    let probe = breaker.enter().unwrap();
    assert_eq!((breaker.state(), state(&metrics)), (BreakerState::HalfOpen, Some(1.0)));
    assert_eq!(breaker.enter().unwrap_err(), SOON, "never nothing: somebody would ask again at once");
    probe.answered(StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!((breaker.state(), state(&metrics)), (BreakerState::Closed, Some(0.0)));
    for to in ["open", "half_open", "closed"] {
        let name =
            format!("outrigger_breaker_transitions_total{{route=\"r\",scope=\"upstream\",to=\"{to}\"}}");
        assert_eq!(sample(&metrics, &name), Some(1.0), "{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_gone_is_shown_no_more() {
    let metrics = metrics();
    let (gone, stays) = (breaker(&metrics), breaker(&metrics));
    fail(&gone);
    fail(&gone);
    assert_eq!(state(&metrics), Some(2.0), "the worst of both");
    drop(gone);
    assert_eq!((state(&metrics), stays.state()), (Some(0.0), BreakerState::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_says_something_only_if_it_had_waited() {
    for (waited, state) in [(1999, BreakerState::Closed), (2000, BreakerState::Open)] {
        let breaker = breaker(&metrics());
        for _ in 0..2 {
            let permit = breaker.enter().unwrap();
            advance(Duration::from_millis(waited)).await;
            drop(permit);
        }
        assert_eq!(breaker.state(), state, "{waited} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_client_goes_away_leaves_its_place() {
    let breaker = breaker(&metrics());
    fail(&breaker);
    fail(&breaker);
    advance(Duration::from_secs(12)).await;
    let probe = breaker.enter().unwrap();
    assert!(breaker.enter().is_err());
    drop(probe);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    breaker.enter().unwrap().answered(StatusCode::FORBIDDEN);
    assert_eq!(breaker.state(), BreakerState::Closed, "any answer is one");
}

#[tokio::test(start_paused = true)]
async fn answers_are_successes_but_for_the_statuses_that_are_named() {
    use CallOutcome::{Failure, Success};
    let breaker = breaker(&metrics());
    for (status, outcome) in [
        (101, Success),
        (200, Success),
        (301, Success),
        (400, Success),
        (401, Success),
        (403, Success),
        (404, Success),
        (429, Success),
        (500, Success),
        (502, Failure),
        (503, Failure),
        (504, Success),
    ] {
        assert_eq!(breaker.judge_status(StatusCode::from_u16(status).unwrap()), outcome, "{status}");
    }
}

#[test]
fn whatever_keeps_the_upstream_from_answering_is_a_failure_and_our_own_doing_is_not() {
    use CallOutcome::{Failure, Neither};
    let target = || "10.1.2.3:3000".to_owned();
    let second = Duration::from_secs(1);
    for (error, outcome) in [
        (DialError::Io { target: target(), source: io::ErrorKind::ConnectionRefused.into() }.into(), Failure),
        (DialError::Io { target: target(), source: io::ErrorKind::NotFound.into() }.into(), Failure),
        (DialError::Timeout { target: target(), after: second }.into(), Failure),
        (DialError::Tls { target: target(), source: HandshakeError::Ended }.into(), Failure),
        (UpstreamError::Timeout(second), Failure),
        (UpstreamError::Broken("x".into()), Failure),
        (UpstreamError::Framing(FramingFault::Coding), Failure),
        (UpstreamError::BadUpgrade(BadUpgrade::Accept), Failure),
        (UpstreamError::BodyTooLarge(5), Neither),
        (UpstreamError::BodyStalled(second), Neither),
    ] {
        assert_eq!(UpstreamBreaker::judge_error(&error), outcome, "{error}");
    }
}
