use http::StatusCode;
use tokio::task::JoinHandle;
use tokio::time::advance;

use super::*;
use crate::upstream::UpstreamError;

/// Whoever it does not matter to tell from others.
const A: Caller = Caller(1);

const TIMED_OUT: Verdict<'_> =
    Verdict::Failed { error: &UpstreamError::Timeout(Duration::from_secs(1)), is_in_use: false };

/// Two failures open it for 10 s (12 s at most), one success closes it; a client that waited 2 s says something, and three wait
/// for a probe, for 10 s.
fn breaker(metrics: &Metrics) -> Arc<UpstreamBreaker> {
    probing_with(1, 3, metrics)
}

fn probing_with(probes: u32, max_waiting: usize, metrics: &Metrics) -> Arc<UpstreamBreaker> {
    let settings = config::Breaker {
        window: Duration::from_secs(10),
        min_calls: 2,
        failure_ratio: 0.5,
        statuses: vec![502, 503],
        open_for: Duration::from_secs(10),
        probes,
        max_waiting,
        slow_after: Duration::from_secs(2),
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
    breaker.try_enter(A).unwrap().settle(TIMED_OUT);
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
    let wait = breaker.enter(A).await.unwrap_err();
    assert!(wait >= Duration::from_secs(10) && wait <= Duration::from_secs(12), "{wait:?}");

    advance(Duration::from_secs(12)).await;
    let probe = breaker.enter(A).await.unwrap();
    assert_eq!((breaker.state(), state(&metrics)), (BreakerState::HalfOpen, Some(1.0)));
    probe.settle(Verdict::Answered(StatusCode::SWITCHING_PROTOCOLS));
    assert_eq!((breaker.state(), state(&metrics)), (BreakerState::Closed, Some(0.0)));
    for to in ["open", "half_open", "closed"] {
        let name =
            format!("outrigger_breaker_transitions_total{{route=\"r\",scope=\"upstream\",to=\"{to}\"}}");
        assert_eq!(sample(&metrics, &name), Some(1.0), "{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_upstream_has_agreed_to_before_and_now_refuses_is_no_clients_doing() {
    for (is_repeated, state) in [(false, BreakerState::Closed), (true, BreakerState::Open)] {
        let breaker = breaker(&metrics());
        breaker.enter(A).await.unwrap().settle(Verdict::Answered(StatusCode::SWITCHING_PROTOCOLS));
        let again = breaker.enter(A).await.unwrap();
        let again = if is_repeated { again.repeated() } else { again };
        again.settle(Verdict::Answered(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(breaker.state(), state, "repeated: {is_repeated}");
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
            let permit = breaker.enter(A).await.unwrap();
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
    let probe = breaker.enter(A).await.unwrap();
    assert!(breaker.try_enter(A).is_err());
    drop(probe);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    breaker.enter(A).await.unwrap().settle(Verdict::Answered(StatusCode::FORBIDDEN));
    assert_eq!(breaker.state(), BreakerState::Closed, "any answer is one");
}

/// A breaker with its one probe under way.
async fn probed(max_waiting: usize, metrics: &Metrics) -> (Arc<UpstreamBreaker>, Permit) {
    let breaker = probing_with(1, max_waiting, metrics);
    fail(&breaker);
    fail(&breaker);
    advance(Duration::from_secs(12)).await;
    let probe = breaker.enter(A).await.unwrap();
    (breaker, probe)
}

/// Comes, and keeps leave if it gets it.
fn come(breaker: &Arc<UpstreamBreaker>) -> JoinHandle<Result<Permit, Duration>> {
    let breaker = Arc::clone(breaker);
    tokio::spawn(async move { breaker.enter(A).await })
}

async fn crowd(breaker: &Arc<UpstreamBreaker>, count: usize) -> Vec<JoinHandle<Result<Permit, Duration>>> {
    let crowd = Vec::from_iter((0..count).map(|_| come(breaker)));
    settle().await;
    crowd
}

/// Lets every task do what it can do now.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn waiting(metrics: &Metrics) -> Option<f64> {
    sample(metrics, "outrigger_breaker_waiting{route=\"r\"}")
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_for_a_probe_go_through_when_it_succeeds() {
    let metrics = metrics();
    let (breaker, probe) = probed(100, &metrics).await;
    let start = Instant::now();
    let crowd = crowd(&breaker, 49).await;
    assert!(crowd.iter().all(|client| !client.is_finished()), "they wait");
    assert_eq!(waiting(&metrics), Some(49.0));
    probe.settle(Verdict::Answered(StatusCode::SWITCHING_PROTOCOLS));
    let mut inside = Vec::new();
    for client in crowd {
        inside.push(client.await.unwrap().unwrap());
    }
    assert_eq!((breaker.state(), waiting(&metrics)), (BreakerState::Closed, Some(0.0)));
    assert_eq!(start.elapsed(), Duration::ZERO);
    // They are handshakes like any other: what becomes of them counts.
    for permit in inside.drain(..2) {
        permit.settle(TIMED_OUT);
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_are_refused_at_once_when_the_probe_fails() {
    let metrics = metrics();
    let (breaker, probe) = probed(100, &metrics).await;
    let crowd = crowd(&breaker, 49).await;
    let start = Instant::now();
    probe.settle(TIMED_OUT);
    for client in crowd {
        let wait = client.await.unwrap().unwrap_err();
        assert!(wait >= Duration::from_secs(10), "until it is asked again: {wait:?}");
    }
    assert_eq!((start.elapsed(), waiting(&metrics)), (Duration::ZERO, Some(0.0)));
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_may_and_none_longer_than_a_handshake() {
    let metrics = metrics();
    let (breaker, probe) = probed(3, &metrics).await;
    let start = Instant::now();
    let crowd = crowd(&breaker, 3).await;
    assert_eq!(
        breaker.enter(A).await.unwrap_err(),
        MIN_RETRY_AFTER,
        "never nothing: somebody would ask again at once"
    );
    assert_eq!(start.elapsed(), Duration::ZERO, "one too many does not wait");
    for client in crowd {
        assert_eq!(client.await.unwrap().unwrap_err(), MIN_RETRY_AFTER);
    }
    assert_eq!((start.elapsed().as_secs(), waiting(&metrics)), (10, Some(0.0)));
    probe.settle(Verdict::Answered(StatusCode::OK));
    let (breaker, _probe) = probed(0, &metrics).await;
    assert_eq!(breaker.enter(A).await.unwrap_err(), MIN_RETRY_AFTER, "with no room nobody waits");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_says_nothing_leaves_its_place_to_one_who_waits_and_leavers_take_none_with_them() {
    let metrics = metrics();
    let (breaker, probe) = probed(10, &metrics).await;
    let mut crowd = crowd(&breaker, 5).await;
    for gone in crowd.drain(..2) {
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
    }
    assert_eq!(waiting(&metrics), Some(3.0), "who leaves does not wait any more");
    drop(probe);
    // The first in line is woken, and leaves before it has looked.
    crowd.remove(0).abort();
    settle().await;
    let next = crowd.iter().position(JoinHandle::is_finished).expect("the place has gone to another");
    let probe = crowd.remove(next).await.unwrap().unwrap();
    assert_eq!((breaker.state(), waiting(&metrics)), (BreakerState::HalfOpen, Some(1.0)));
    assert!(!crowd[0].is_finished(), "one place, one probe");
    probe.settle(Verdict::Answered(StatusCode::OK));
    crowd.remove(0).await.unwrap().unwrap().settle(Verdict::Answered(StatusCode::OK));
    assert_eq!((breaker.state(), waiting(&metrics)), (BreakerState::Closed, Some(0.0)));
}

#[tokio::test(start_paused = true)]
async fn while_it_is_half_open_there_are_as_many_probes_as_may_be_and_no_wake_up_is_missed() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let metrics = metrics();
        let probes = random.u32(1..4);
        let breaker = probing_with(probes, 1000, &metrics);
        fail(&breaker);
        fail(&breaker);
        advance(Duration::from_secs(12)).await;
        let start = Instant::now();
        let mut crowd = crowd(&breaker, 40).await;
        let mut inside: Vec<Permit> = Vec::new();
        // Until something is decided: nobody who waits is forgotten.
        while breaker.state() == BreakerState::HalfOpen {
            while let Some(at) = crowd.iter().position(JoinHandle::is_finished) {
                inside.extend(crowd.swap_remove(at).await.into_iter().flatten());
            }
            assert_eq!(inside.len(), probes.min((inside.len() + crowd.len()) as u32) as usize, "seed {seed}");
            let Some(at) = (!inside.is_empty()).then(|| random.usize(..inside.len())) else { break };
            match random.u8(..8) {
                0 => inside.swap_remove(at).settle(Verdict::Answered(StatusCode::OK)),
                1 => inside.swap_remove(at).settle(TIMED_OUT),
                2..5 => drop(inside.swap_remove(at)),
                _ if crowd.is_empty() => {}
                _ => crowd.swap_remove(random.usize(..crowd.len())).abort(),
            }
            settle().await;
        }
        for client in crowd {
            let _ = client.await;
        }
        assert_eq!((start.elapsed(), waiting(&metrics)), (Duration::ZERO, Some(0.0)), "seed {seed}");
    }
}
