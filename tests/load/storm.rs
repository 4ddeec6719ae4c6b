//! A reconnect storm: everybody comes at once, the server is let go on, and everybody gets in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::DEADLINE;
use crate::support::http::Head;
use crate::support::proxy::Proxy;
use crate::support::upstream::{Answer, Upstream};
use crate::support::wait::eventually;
use outrigger::config::Rate;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const RATE: f64 = 200.0;
const BURST: u32 = 200;

/// A server that notes when it was asked.
async fn noting_upstream() -> (Upstream, Arc<Mutex<Vec<Instant>>>) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&times);
    let answer = move |request: &Head| {
        noted.lock().push(Instant::now());
        let accept =
            crate::support::http::accept_value(request.header("Sec-WebSocket-Key").unwrap_or_default());
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .into_bytes()
    };
    (Upstream::builder().answering(Answer::With(Arc::new(answer))).spawn().await, times)
}

/// The most by which any window holds more than the rate: what the burst has to cover.
fn most_above_the_rate(times: &[Instant]) -> f64 {
    let Some(start) = times.first() else { return 0.0 };
    let (mut lowest, mut most) = (f64::MAX, 0.0_f64);
    for (count, time) in times.iter().enumerate() {
        let allowed = RATE * time.duration_since(*start).as_secs_f64();
        lowest = lowest.min(count as f64 - allowed);
        most = most.max((count + 1) as f64 - allowed - lowest);
    }
    most
}

/// Comes in as soon as it is let in. Answers how often it was refused.
async fn come_in(proxy: &Proxy) -> (crate::support::client::RawClient, usize) {
    let mut refused = 0;
    loop {
        let mut client = proxy.dial().answer().await;
        match client.response.status() {
            101 => {
                client.text("in").await;
                client.expect_text("in").await;
                return (client, refused);
            }
            429 => {
                assert_eq!(client.response.header("X-Outrigger-Reason"), Some("rate_global"));
                let after = client.response.header("Retry-After").and_then(|after| after.parse::<u64>().ok());
                let after = after.expect("a 429 says when to come back");
                assert!((1..=60).contains(&after), "{after} s");
                drop(client);
                refused += 1;
                // Nobody comes earlier than told, and real ones do not keep time to the millisecond.
                sleep(Duration::from_secs(after) + Duration::from_millis(fastrand::u64(..1000))).await;
            }
            other => panic!("{other}: {}", client.response.text()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_come_at_once_and_nobody_but_the_refused_notices() {
    let _alone = crate::alone().await;
    eprintln!("{}", everybody_comes_at_once(1000).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "at length: the same with more of them, who take 25 s at the least (make test-nightly)"]
async fn five_thousand_come_at_once_and_nobody_but_the_refused_notices() {
    let _alone = crate::alone().await;
    eprintln!("{}", everybody_comes_at_once(5000).await);
}

/// What it came to.
async fn everybody_comes_at_once(clients: usize) -> String {
    let descriptors = usize::try_from(outrigger::internals::raise_descriptor_limit()).unwrap_or(usize::MAX);
    // Four of them for each: client, proxy (twice), server. Others leave when they have been in.
    let stay = (descriptors.saturating_sub(4000) / 4).min(clients);
    let (upstream, times) = noting_upstream().await;
    let proxy = Proxy::to(&upstream).policy(|policy| {
        policy.handshake_rate.global = Some(Rate { per_second: RATE, burst: BURST });
        policy.limits.connections = None;
    });
    let proxy = Arc::new(proxy.spawn().await);

    let is_over = Arc::new(AtomicBool::new(false));
    let mut watching = JoinSet::new();
    for _ in 0..20 {
        let (mut client, _) = come_in(&proxy).await;
        let is_over = Arc::clone(&is_over);
        watching.spawn(async move {
            let mut worst = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let since = Instant::now();
                client.text("still here?").await;
                client.expect_text("still here?").await;
                worst = worst.max(since.elapsed());
                sleep(Duration::from_millis(50)).await;
            }
            worst
        });
    }

    // On a thread of its own: what is measured is the proxy, not who stands before whom in one run queue.
    let outside = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let outside = outside.expect("a runtime for the clients");
    let start = Instant::now();
    let left_to_stay = Arc::new(AtomicUsize::new(stay));
    let mut storm = JoinSet::new();
    for _ in 0..clients {
        let (proxy, left_to_stay) = (Arc::clone(&proxy), Arc::clone(&left_to_stay));
        let visit = async move {
            let (client, refused) = come_in(&proxy).await;
            let one_less = |left: usize| left.checked_sub(1);
            let stays = left_to_stay.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok();
            (stays.then_some(client), refused)
        };
        storm.spawn_on(visit, outside.handle());
    }
    let (mut inside, mut refused) = (Vec::new(), 0);
    while let Some(done) = storm.join_next().await {
        let (client, times) = done.expect("everybody gets in");
        inside.extend(client);
        refused += times;
    }
    let took = start.elapsed();
    is_over.store(true, Ordering::Relaxed);
    let mut worst = Duration::ZERO;
    while let Some(watched) = watching.join_next().await {
        worst = worst.max(watched.expect("a client that was in before the storm is in after it"));
    }

    let times = times.lock().clone();
    let above = most_above_the_rate(&times);
    let told = format!(
        "all in after {took:?}, {refused} refusals, {above:.0} above the rate, slowest echo {worst:?}"
    );
    assert_eq!(times.len(), clients + 20, "the server hears of nobody who is refused");
    // What was let in evenly reaches the server as unevenly as this machine is late with anything.
    let late = RATE * (worst.as_secs_f64() + 0.5);
    assert!(above <= f64::from(BURST) + late, "{above} above the rate at the server");
    let allowed = Duration::from_secs_f64((clients as f64 - f64::from(BURST)) / RATE);
    assert!(took < allowed + Duration::from_secs(20), "{took:?}, where the rate allows {allowed:?}");
    assert!(worst < Duration::from_secs(3), "an echo took {worst:?}");
    let metrics = proxy.metrics().await;
    let limited = metrics.get("outrigger_handshakes_total{route=\"default\",outcome=\"rate_limited\"}");
    assert_eq!(limited, Some(refused as f64));
    // Those who left, and nobody else.
    let left = (clients - inside.len()) as f64;
    eventually(DEADLINE, || async {
        let ended = proxy.metrics().await.sum("outrigger_disconnections_total");
        if ended == left + 20.0 { Ok(()) } else { Err(ended) }
    })
    .await;
    drop(inside);
    outside.shutdown_background();
    told
}
