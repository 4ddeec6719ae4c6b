//! What clients without a WebSocket cost. Run by hand, on a quiet machine:
//! `OUTRIGGER_TEST_BINARY=target/release/outrigger cargo test --test load fallback_costs -- --ignored --nocapture`

use std::fs;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::DEADLINE;
use crate::support::binary::{Binary, Running};
use crate::support::link::Link;
use crate::support::upstream::Upstream;
use crate::support::wait::eventually;

const ROUTES: &str = "[{name: feed, path: '/feed/{*rest}', mode: broadcast}, \
                      {name: chat, path: '/chat/{*rest}', mode: session}, {name: tunnel, path: '/{*rest}'}]";
const POLICY: &str = "{fallback: {sse: true, poll: true}, handshake_rate: {global: null, per_ip: null}, \
                      limits: {connections: 30000, per_ip: null}}";

const ROUNDS: usize = 5;
/// Of each kind, in each round.
const REQUESTS: usize = 2000;
const STREAMS: usize = 2000;
const POLLS: usize = 10_000;
/// What is open at once while requests are counted: no more than polls of one session may wait.
const TOGETHER: usize = 4;

async fn start(upstream: &Upstream) -> Running {
    outrigger::internals::raise_descriptor_limit();
    let settings = [("ROUTES", ROUTES), ("POLICY", POLICY), ("LISTEN__WORKERS", "1")];
    Binary::run(&upstream.url(), &settings).await
}

/// Nanoseconds that the threads of a process ran.
fn cpu(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let of_task = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).expect("its time");
        text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).expect("nanoseconds")
    };
    tasks.map(|task| of_task(task.expect("a thread"))).sum()
}

/// Proportional set size, in bytes.
fn pss(pid: u32) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("its memory");
    let line = text.lines().find(|line| line.starts_with("Pss:")).expect("a size");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number") * 1024
}

async fn waits_for(proxy: &Running, transport: &str, count: usize) {
    let sample = format!("outrigger_fallback_clients{{route=\"feed\",transport=\"{transport}\"}}");
    eventually(DEADLINE * 3, || async {
        let there = proxy.metrics().await.get(&sample);
        if there == Some(count as f64) { Ok(()) } else { Err(there) }
    })
    .await;
}

/// What each of these requests costs the proxy, in microseconds.
async fn cost_of(proxy: &Running, path: &str, ticket: Option<&str>) -> f64 {
    let before = cpu(proxy.binary.id());
    let mut asking = JoinSet::new();
    for _ in 0..TOGETHER {
        let handshake = proxy.dial().path(path);
        let mut plain = proxy.plain().path(path);
        if let Some(ticket) = ticket {
            plain = plain.header("X-Outrigger-Session", ticket);
        }
        let is_handshake = path == "/tunnel";
        asking.spawn(async move {
            for _ in 0..REQUESTS / TOGETHER {
                if is_handshake {
                    let mut client = handshake.clone().open().await;
                    client.close(1000, "").await;
                    client.closed().await;
                } else {
                    let answer = plain.clone().answer().await.response;
                    assert_eq!(answer.status(), 200, "{}", answer.text());
                }
            }
        });
    }
    asking.join_all().await;
    (cpu(proxy.binary.id()) - before) as f64 / 1000.0 / REQUESTS as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::test]
#[ignore = "a measurement"]
async fn a_poll_that_finds_nothing_waiting_beside_a_handshake_of_a_tunnel() {
    let _alone = crate::alone().await;
    let upstream = Upstream::echo().await;
    let proxy = start(&upstream).await;
    let first = proxy.plain().path("/chat/a/poll").answer().await.response;
    let begun: Value = serde_json::from_str(&first.text()).unwrap();
    let ticket = begun["session"].as_str().unwrap().to_owned();
    // Keeps the channel.
    let mut stream = proxy.plain().path("/feed/a/events").send().await;
    stream.read_head().await;
    let of_feed = "/feed/a/poll?afterSequence=0&timeout=5ms";
    // More than a session lets wait, if they did.
    let of_chat = "/chat/a/poll?afterSequence=0&timeout=0";
    let mut costs = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        let taken = [
            cost_of(&proxy, "/tunnel", None).await,
            cost_of(&proxy, of_feed, None).await,
            cost_of(&proxy, of_chat, Some(&ticket)).await,
        ];
        // The first round warms up.
        if round > 0 {
            for (all, one) in costs.iter_mut().zip(taken) {
                all.push(one);
            }
        }
    }
    let ratio =
        |n: usize| median(costs[n].iter().zip(&costs[0]).map(|(poll, handshake)| poll / handshake).collect());
    let (of_feed, of_chat) = (ratio(1), ratio(2));
    let [handshake, feed, chat] = costs.map(median);
    println!(
        "CPU: a handshake of a tunnel {handshake:.0} us, a poll of a feed {feed:.0} us ({of_feed:.2}), of a session \
         {chat:.0} us ({of_chat:.2})"
    );
    assert!(of_feed <= 1.0 && of_chat <= 1.0, "of a handshake: {of_feed:.2}, {of_chat:.2}");
}

#[tokio::test]
#[ignore = "a measurement"]
async fn two_thousand_idle_event_streams_and_ten_thousand_waiting_polls() {
    let _alone = crate::alone().await;
    let upstream = Upstream::echo().await;
    let proxy = start(&upstream).await;
    let id = proxy.binary.id();
    let open = async |path: &str, count: usize| {
        let mut links: Vec<Link> = Vec::with_capacity(count);
        for _ in 0..count {
            links.push(proxy.plain().path(path).send().await);
        }
        links
    };
    // What a process takes once, however many there are.
    let mut warm = open("/feed/a/events", 100).await;
    warm.extend(open("/feed/a/poll?timeout=55s", 100).await);
    waits_for(&proxy, "sse", 100).await;
    sleep(Duration::from_secs(1)).await;
    let before = pss(id);
    let streams = open("/feed/a/events", STREAMS).await;
    waits_for(&proxy, "sse", STREAMS + 100).await;
    sleep(Duration::from_secs(2)).await;
    let stream = (pss(id).saturating_sub(before)) / STREAMS;
    println!("an idle event stream takes {stream} bytes");
    let before = pss(id);
    let polls = open("/feed/a/poll?timeout=55s", POLLS).await;
    waits_for(&proxy, "poll", POLLS + 100).await;
    let held = pss(id).saturating_sub(before);
    println!("{POLLS} waiting polls take {held} bytes, {} each", held / POLLS);
    assert!(stream <= 3 * 1024, "{stream} bytes for each event stream");
    assert!(held <= 40_000_000, "{held} bytes for {POLLS} polls");
    drop((warm, streams, polls));
}
