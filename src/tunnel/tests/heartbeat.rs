//! Heartbeats on a link: to the millisecond, and with clocks that stand still when they must.

use super::*;

const BEAT: &str = "policy: { heartbeat: { interval: 30s, timeout: 10s, max_missed: 3 }, idle_timeout: 0s, \
     delivery: { stall_timeout: 0s } }";

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_gone_after_interval_and_all_timeouts_to_the_millisecond() {
    let mut stage = Stage::open(BEAT).await;
    for at in [30, 40, 50] {
        stage.pass_until(secs(at) - millis(1)).await;
        assert_eq!(stage.client.hear(), b"");
        stage.pass(millis(1)).await;
        assert_eq!(frames(&stage.client.hear())[0].0, 0x89, "at {at} s");
    }
    stage.pass_until(secs(60) - millis(1)).await;
    assert_eq!((stage.client.hear(), stage.upstream.hear()), (Vec::new(), Vec::new()));
    stage.pass(millis(1)).await;
    assert_eq!(close_code(&stage.client.hear_out()), 1001);
    assert_eq!(close_code(&stage.upstream.hear()), 1001);
    stage.upstream.leave();
    stage.turn().await;
    assert_eq!(stage.reason(), "heartbeat_timeout");
    assert_eq!(stage.counter("heartbeat_missed_total"), 3);
}

#[tokio::test(start_paused = true)]
async fn pongs_are_lifted_out_and_those_of_the_server_pass() {
    let mut stage = Stage::open(BEAT).await;
    stage.pass(secs(30)).await;
    let (first, payload) = frames(&stage.client.hear()).remove(0);
    assert_eq!(first, 0x89);
    stage.upstream.say(&frame(0x89, b"server", false));
    stage.turn().await;
    assert_eq!(stage.client.hear(), frame(0x89, b"server", false));
    stage.client.say(&[frame(0x8a, &payload, true), frame(0x8a, b"server", true)].concat());
    stage.turn().await;
    assert_eq!(stage.upstream.hear(), frame(0x8a, b"server", true));
    stage.pass_until(secs(60)).await;
    assert_eq!(frames(&stage.client.hear())[0].0, 0x89, "the next one, an interval after the first");
}

#[tokio::test(start_paused = true)]
async fn a_ping_waits_for_the_end_of_a_frame_and_the_clock_with_it() {
    let mut stage = Stage::open(BEAT).await;
    stage.upstream.say(b"\x02\x0412");
    stage.pass_until(secs(45)).await;
    assert_eq!(stage.client.hear(), b"\x02\x0412");
    stage.upstream.say(b"34");
    stage.turn().await;
    let heard = stage.client.hear();
    assert_eq!((&heard[..2], heard[2]), (&b"34"[..], 0x89), "between two fragments, as soon as it can be");
    stage.pass_until(secs(55) - millis(1)).await;
    assert_eq!(stage.client.hear(), b"");
    stage.pass(millis(1)).await;
    assert_eq!(stage.client.hear()[0], 0x89, "10 s after it could be said");
}

#[tokio::test(start_paused = true)]
async fn a_json_heartbeat_waits_for_the_end_of_a_message() {
    let mut stage = Stage::open(
        "policy: { heartbeat: { mode: json, interval: 30s, timeout: 10s, max_missed: 1 }, idle_timeout: 0s }",
    )
    .await;
    stage.upstream.say(&frame(0x01, b"one", false));
    stage.pass_until(secs(31)).await;
    assert_eq!(stage.client.hear(), frame(0x01, b"one", false));
    stage.upstream.say(&frame(0x80, b"two", false));
    stage.turn().await;
    let heard = frames(&stage.client.hear());
    assert_eq!(heard, [(0x80, b"two".to_vec()), (0x81, br#"{"type":"heartbeat"}"#.to_vec())]);
    let pong = frame(0x81, br#"{"type": "pong"}"#, true);
    stage.client.say(&[pong, frame(0x81, br#"{"type":"pong","x":1}"#, true)].concat());
    stage.turn().await;
    assert_eq!(stage.upstream.hear(), frame(0x81, br#"{"type":"pong","x":1}"#, true));
    stage.pass_until(secs(60)).await;
    assert!(stage.relay.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_pong_clock_starts_when_the_ping_has_left() {
    let mut stage = Stage::narrow(BEAT).await;
    stage.flood(Which::Upstream, &frame(0x82, &[7; 100], false), FLOOD / 100).await;
    stage.pass_until(secs(100)).await;
    let heard = frames(&stage.drink(Which::Client).await);
    let pings = heard.iter().filter(|frame| frame.0 == 0x89).count();
    assert_eq!(pings, 1, "one for all the time it did not read");
    stage.pass(secs(10) - millis(1)).await;
    assert_eq!(stage.client.hear(), b"");
    stage.pass(millis(1)).await;
    assert_eq!(frames(&stage.client.hear())[0].0, 0x89);
}

#[tokio::test(start_paused = true)]
async fn while_a_client_is_not_read_the_idle_clock_stands_still() {
    let mut stage = Stage::narrow(
        "{ upstream: { stall_timeout: 0s }, policy: { heartbeat: null, idle_timeout: 20s, idle_activity: messages } }",
    )
    .await;
    stage.pass_until(secs(15)).await;
    stage.flood(Which::Client, &frame(0x82, &[7; 100], true), FLOOD / 100).await;
    assert!(stage.relay().client.is_paused());
    stage.pass_until(secs(1000)).await;
    stage.drink(Which::Upstream).await;
    stage.pass(secs(20) - millis(1)).await;
    assert!(stage.relay().ending.is_none());
    stage.pass(millis(1)).await;
    assert!(stage.relay().ending.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_ping_said_while_the_client_is_not_read_is_owed_an_answer_as_long_as_any_other() {
    let mut stage = Stage::narrow(
        "{ upstream: { stall_timeout: 0s }, \
         policy: { heartbeat: { interval: 30s, timeout: 10s, max_missed: 1 }, idle_timeout: 0s } }",
    )
    .await;
    stage.pass_until(secs(1)).await;
    stage.flood(Which::Client, &frame(0x82, &[7; 100], true), FLOOD / 100).await;
    assert!(stage.relay().client.is_paused());
    stage.pass_until(secs(130)).await;
    assert_eq!(stage.client.hear()[0], 0x89);
    assert!(stage.relay().ending.is_none(), "nobody listened");
    // What it said long ago is heard now, and is life. From then on it is silent.
    stage.drink(Which::Upstream).await;
    stage.pass_until(secs(140)).await;
    assert_eq!(stage.client.hear()[0], 0x89, "it was alive when it was heard: the next ping is due");
    stage.pass_until(secs(150) - millis(1)).await;
    assert!(stage.relay().ending.is_none());
    stage.pass(millis(1)).await;
    assert!(stage.relay().ending.is_some(), "and that one it owes within its timeout");
}

#[tokio::test(start_paused = true)]
async fn a_pong_that_comes_before_the_queue_is_empty_is_no_miss() {
    let mut stage = Stage::narrow(
        "policy: { heartbeat: { interval: 30s, timeout: 10s, max_missed: 1 }, idle_timeout: 0s, \
         delivery: { on_stall: isolate, max_lag: { bytes: 16MiB } } }",
    )
    .await;
    let message = frame(0x82, &[7; 998], false);
    let many = 3 * FLOOD / 1000;
    assert_eq!(stage.flood(Which::Upstream, &message, many).await, many);
    stage.pass_until(secs(30)).await;
    // The ping stands in the queue; more follows it.
    assert_eq!(stage.flood(Which::Upstream, &message, many).await, many);
    let mut heard = Vec::new();
    let ping = loop {
        heard.extend(stage.client.hear());
        stage.turn().await;
        if let Some(at) = heard.windows(2).position(|two| two == [0x89, 12])
            && heard.len() >= at + 14
        {
            break heard[at + 2..at + 14].to_vec();
        }
    };
    assert!(!stage.relay().client.egress.is_empty());
    stage.client.say(&frame(0x8a, &ping, true));
    stage.pass_until(secs(40)).await;
    stage.drink(Which::Client).await;
    stage.pass_until(secs(59)).await;
    assert!(stage.relay.is_some() && stage.relay().ending.is_none(), "it has answered");
    assert_eq!(stage.counter("heartbeat_missed_total"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_pings_all_the_time_keeps_no_dead_client_alive() {
    let mut stage = Stage::open(BEAT).await;
    while stage.relay().ending.is_none() {
        stage.upstream.say(&frame(0x89, b"are you there?", false));
        stage.pass(secs(5)).await;
        assert!(stage.start.elapsed() <= secs(30 + 10 + 3 * 10), "never given up");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_upstream_is_given_up_and_its_client_told() {
    let mut stage = Stage::open(
        "{ upstream: { heartbeat: { interval: 10s, timeout: 5s, max_missed: 2 } }, \
         policy: { heartbeat: null, idle_timeout: 0s } }",
    )
    .await;
    stage.pass_until(secs(20) - millis(1)).await;
    let pings = frames(&stage.upstream.hear());
    assert_eq!(pings.iter().map(|ping| ping.0).collect::<Vec<_>>(), [0x89, 0x89]);
    assert_eq!(stage.client.hear(), b"");
    stage.pass(millis(1)).await;
    assert_eq!(close_code(&stage.client.hear()), 1012);
    assert_eq!(stage.upstream.hear_out(), b"");
    stage.client.leave();
    stage.turn().await;
    assert_eq!(stage.reason(), "upstream_heartbeat_timeout");
}

/// With one miss allowed: an answer that came in time must not be overlooked.
const ONE_MISS: &str =
    "policy: { heartbeat: { interval: 30s, timeout: 10s, max_missed: 1 }, idle_timeout: 0s }";

#[tokio::test(start_paused = true)]
async fn a_pong_that_came_in_time_counts_though_its_clock_is_looked_at_first() {
    let mut stage = Stage::open(ONE_MISS).await;
    stage.pass_until(secs(30)).await;
    let ping = frames(&stage.client.hear()).remove(0).1;
    // Both are there when it is polled: the pong, and the end of its time.
    stage.client.say(&frame(0x8a, &ping, true));
    tokio::time::advance(secs(10)).await;
    stage.turn().await;
    assert!(stage.relay().ending.is_none());
    assert_eq!(stage.counter("heartbeat_missed_total"), 0);
    stage.pass_until(secs(60)).await;
    assert_eq!(frames(&stage.client.hear())[0].0, 0x89, "the next ping");
}

#[tokio::test(start_paused = true)]
async fn after_a_standstill_peers_are_heard_before_they_are_judged() {
    const BOTH: &str = "{ upstream: { heartbeat: { interval: 30s, timeout: 10s, max_missed: 1 } }, \
         policy: { heartbeat: { interval: 30s, timeout: 10s, max_missed: 1 }, idle_timeout: 50s } }";
    let mut stage = Stage::open(BOTH).await;
    stage.pass_until(secs(30)).await;
    let to_client = frames(&stage.client.hear()).remove(0).1;
    let to_upstream = frames(&stage.upstream.hear()).remove(0).1;
    // The process stands still for an hour, and its timer is the first that tells. What came meanwhile is in
    // the kernel, and nothing has told of it.
    tokio::time::advance(secs(3600)).await;
    stage.client.say(&[frame(0x8a, &to_client, true), frame(0x81, b"alive", true)].concat());
    stage.upstream.say(&frame(0x8a, &to_upstream, false));
    assert!(stage.poll(), "the timer has fired");
    assert!(stage.relay().ending.is_none());
    stage.turn().await;
    assert_eq!(frames(&stage.upstream.hear())[0], (0x81, b"alive".to_vec()));
    stage.pass(secs(5)).await;
    assert!(stage.relay().ending.is_none());
    assert_eq!(stage.counter("heartbeat_missed_total"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_standstill_keeps_no_dead_peer_alive() {
    let mut stage = Stage::open(ONE_MISS).await;
    stage.pass_until(secs(30)).await;
    assert_eq!(stage.client.hear()[0], 0x89);
    for _ in 0..3 {
        // Again and again: each timer is late.
        tokio::time::advance(secs(30)).await;
        stage.poll();
    }
    stage.turn().await;
    assert!(stage.relay.as_ref().is_none_or(|relay| relay.ending.is_some()));
}
