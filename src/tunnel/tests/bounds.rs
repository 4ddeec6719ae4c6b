//! What does not go on for ever: silence, not reading, talking too much.

use super::*;

#[tokio::test(start_paused = true)]
async fn silence_ends_it_after_idle_timeout_and_any_byte_of_either_side_begins_it_anew() {
    let mut stage = Stage::open("policy: { heartbeat: null, idle_timeout: 60s }").await;
    stage.pass_until(secs(50)).await;
    stage.client.say(&frame(0x89, b"", true)[..1]);
    stage.pass_until(secs(100)).await;
    stage.upstream.say(&frame(0x8a, b"", false));
    stage.pass_until(secs(160) - millis(1)).await;
    assert_eq!(stage.client.hear(), frame(0x8a, b"", false));
    stage.pass(millis(1)).await;
    assert_eq!(close_code(&stage.client.hear()), 1001);
    assert_eq!(close_code(&stage.upstream.hear()), 1001);
}

#[tokio::test(start_paused = true)]
async fn where_only_messages_count_an_answered_heartbeat_is_silence() {
    let mut stage = Stage::open(
        "policy: { heartbeat: { interval: 10s, timeout: 5s }, idle_timeout: 60s, idle_activity: messages }",
    )
    .await;
    stage.client.say(&frame(0x81, b"the only message", true));
    for _ in 0..5 {
        stage.pass(secs(10)).await;
        let payload = frames(&stage.client.hear()).remove(0).1;
        stage.client.say(&frame(0x8a, &payload, true));
        stage.turn().await;
    }
    stage.pass_until(secs(60) - millis(1)).await;
    assert!(stage.relay().ending.is_none());
    stage.pass(millis(1)).await;
    assert!(stage.relay().ending.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_given_up_and_one_that_reads_a_little_is_not() {
    let mut stage =
        Stage::narrow("policy: { heartbeat: null, idle_timeout: 0s, delivery: { stall_timeout: 60s } }")
            .await;
    let message = frame(0x82, &[7; FLOOD], false);
    let mut said = stage.pour(Which::Upstream, &message).await;
    assert!(said < message.len());
    let at = Instant::now();
    for _ in 0..3 {
        stage.pass(secs(59)).await;
        assert!(!stage.client.hear().is_empty());
        said += stage.pour(Which::Upstream, &message[said..]).await;
        assert!(said < message.len(), "full again");
    }
    assert_eq!(at.elapsed(), secs(177));
    stage.pass(secs(60) - millis(1)).await;
    assert!(stage.relay().ending.is_none());
    stage.pass(millis(1)).await;
    assert!(stage.relay().ending.is_some());
    assert_eq!(close_code(&stage.upstream.hear()), 1001);
    // Inside a frame it cannot be told: what was taken is all it gets.
    stage.upstream.leave();
    assert!(stage.lasts(secs(60)).await <= secs(5));
    assert_eq!(stage.reason(), "slow_consumer");
}

#[tokio::test(start_paused = true)]
async fn an_isolated_client_that_lags_is_closed_in_place_of_what_it_did_not_take() {
    let mut stage = Stage::narrow(
        "policy: { heartbeat: null, idle_timeout: 0s, delivery: { on_stall: isolate, max_lag: { bytes: 64KiB } } }",
    )
    .await;
    stage.flood(Which::Upstream, &frame(0x82, &[7; 1000], false), 400).await;
    assert!(stage.relay().ending.is_some());
    assert_eq!(close_code(&stage.upstream.hear()), 1001);
    let heard = stage.drink(Which::Client).await;
    let all = frames(&heard);
    assert_eq!(close_code(&heard), 1013);
    assert!(all.len() < 400 && all[..all.len() - 1].iter().all(|frame| frame.0 == 0x82));
    stage.client.leave();
    stage.upstream.leave();
    stage.turn().await;
    assert_eq!(stage.reason(), "slow_consumer");
}

#[tokio::test(start_paused = true)]
async fn of_a_frame_that_has_not_begun_to_leave_a_slow_client_hears_nothing_and_it_is_counted() {
    let mut stage = Stage::narrow(
        "policy: { heartbeat: null, idle_timeout: 0s, delivery: { on_stall: isolate, max_lag: { bytes: 64KiB } } }",
    )
    .await;
    let said = stage.flood(Which::Upstream, &frame(0x82, &[7; 1000], false), 20).await;
    assert!(stage.relay().ending.is_none() && !stage.relay().client.egress.is_empty());
    let long = frame(0x82, &[8; FLOOD], false);
    let taken = stage.pour(Which::Upstream, &long).await;
    assert!(stage.relay().ending.is_some());
    let heard = frames(&stage.drink(Which::Client).await);
    assert_eq!((heard.len(), heard[said].0), (said + 1, 0x88));
    assert_eq!(stage.counter("discarded_bytes_total"), taken as u64);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_reads_nothing_is_given_up() {
    let mut stage =
        Stage::narrow("{ upstream: { stall_timeout: 60s }, policy: { heartbeat: null, idle_timeout: 0s } }")
            .await;
    assert!(stage.flood(Which::Client, &frame(0x82, &[7; 1000], true), 400).await < 400);
    stage.pass(secs(60) - millis(1)).await;
    assert!(stage.relay().ending.is_none());
    stage.pass(millis(1)).await;
    assert_eq!(close_code(&stage.client.hear()), 1012);
    stage.client.leave();
    stage.turn().await;
    assert_eq!(stage.reason(), "slow_upstream");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_while_the_upstream_reads_nothing_ends_within_close_timeout() {
    let mut stage =
        Stage::narrow("{ upstream: { stall_timeout: 0s }, policy: { heartbeat: null, idle_timeout: 0s } }")
            .await;
    assert!(stage.flood(Which::Client, &frame(0x82, &[7; 1000], true), 400).await < 400);
    stage.pass(secs(1000)).await;
    assert!(stage.relay.is_some());
    stage.client.leave();
    let lasted = stage.lasts(secs(60)).await;
    assert!(lasted <= secs(1), "{lasted:?}: the upstream has had its time long ago");
    assert_eq!(stage.reason(), "client_lost");
}

#[tokio::test(start_paused = true)]
async fn beyond_its_rate_a_client_waits_and_loses_nothing() {
    let mut stage = Stage::open(
        "policy: { heartbeat: null, idle_timeout: 0s, limits: { message_rate: { rate: 10/s, burst: 5 } } }",
    )
    .await;
    let message = |n: u8| frame(0x81, &[n], true);
    stage.client.say(&(0..20).flat_map(message).collect::<Vec<_>>());
    stage.turn().await;
    assert_eq!(frames(&stage.upstream.hear()).len(), 5, "the burst");
    for n in 5..20 {
        stage.pass(millis(99)).await;
        assert_eq!(stage.upstream.hear(), b"");
        stage.pass(millis(1)).await;
        assert_eq!(stage.upstream.hear(), message(n), "one each 100 ms");
    }
    stage.pass(secs(10)).await;
    stage.client.say(&(0..20).flat_map(message).collect::<Vec<_>>());
    stage.turn().await;
    assert_eq!(frames(&stage.upstream.hear()).len(), 5, "never more than the burst");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_has_close_timeout_for_what_its_rate_holds_back() {
    let mut stage = Stage::open(
        "policy: { heartbeat: null, idle_timeout: 0s, close_timeout: 5s, \
         limits: { message_rate: { rate: 1/s, burst: 1 } } }",
    )
    .await;
    stage.client.say(&frame(0x81, b"x", true).repeat(1000));
    for _ in 0..30 {
        stage.pass(secs(1)).await;
    }
    assert!(stage.relay().ending.is_none(), "it only waits");
    assert_eq!(frames(&stage.upstream.hear()).len(), 31);
    stage.client.leave();
    for _ in 0..7 {
        stage.pass(secs(1)).await;
    }
    let (heard, is_ended) = stage.upstream.hear_all();
    let heard = frames(&heard).len();
    assert!(is_ended && (4..=7).contains(&heard), "{heard}: what it said goes on meanwhile");
    stage.upstream.leave();
    stage.turn().await;
    assert_eq!(stage.reason(), "client_lost");
}
