//! Clients that do not take what they are sent, and everybody else.

use super::*;

const SLOW: &str = "policy: {heartbeat: null, delivery: {max_lag: {messages: 20}, cool_down: 2s, max_trips: 3}, \
                    history: {messages: 50}}";

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_tripped_and_in_the_end_closed_and_nobody_else_notices() {
    let mut stage = Stage::open(SLOW);
    let mut stuck = stage.come(true);
    let mut well = stage.come(false);
    stage.turn().await;
    stage.flood(60, 1000);
    stage.turn().await;
    assert_eq!(well.messages().len(), 60, "also of a burst that is longer than the log");
    stage.flood(30, 1000);
    stage.turn().await;
    assert_eq!(well.messages().len(), 30);
    assert_eq!(stage.metric("breaker_state"), 2.0);
    assert!(stage.budget.used() > 0);
    // It takes not one byte while it is left alone: each cool-down is a trip.
    stage.pass(secs(5)).await;
    assert_eq!(stage.registry.len(), 2, "close_timeout");
    stage.pass(secs(6)).await;
    assert_eq!(stage.ends(), HashMap::from([("slow_consumer".to_owned(), 1)]));
    assert!(stuck.held.upgrade().is_none(), "its place is given back");
    assert_eq!(stage.metric("breaker_state"), 0.0, "its breaker has gone with it");
    let heard = stuck.hear();
    assert!(stuck.is_ended && heard.iter().all(|(first, _)| *first == 0x81 || *first == 0x88));
    stage.flood(10, 1000);
    stage.turn().await;
    assert_eq!(well.messages().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_again_goes_on_with_what_is_still_there_and_the_gap_is_told() {
    let mut stage = Stage::open(&SLOW.replace("heartbeat: null", "heartbeat: null, notices: true"));
    let mut client = stage.come(true);
    stage.turn().await;
    let mut heard = Vec::new();
    for _ in 0..10 {
        stage.flood(20, 1000);
        stage.turn().await;
    }
    heard.extend(client.messages());
    stage.turn().await;
    // Freed, but still skipped.
    assert_eq!(stage.metric("breaker_state"), 2.0);
    for _ in 0..40 {
        stage.pass(millis(100)).await;
        heard.extend(client.messages());
    }
    assert_eq!(stage.metric("breaker_state"), 0.0, "it has caught up");
    let missed = stage.metric("messages_missed_total") as usize;
    let told: Vec<_> = heard.iter().filter(|text| text.contains(r#""event":"gap""#)).collect();
    assert!(!told.is_empty());
    let numbers: Vec<u64> = heard.iter().filter_map(|text| text.get(..8)?.parse().ok()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "in order, none twice");
    assert_eq!(numbers.len() + missed, 200, "each message was had or is counted");
    assert_eq!(numbers.last(), Some(&200));
    stage.write("next");
    stage.turn().await;
    assert_eq!(client.messages(), ["next"]);
}

#[tokio::test(start_paused = true)]
async fn resuming_from_latest_skips_what_was_missed_and_says_so() {
    for notices in [false, true] {
        let slow = SLOW.replace("heartbeat: null", &format!("heartbeat: null, notices: {notices}"));
        let mut stage = Stage::open(&slow.replace("max_trips: 3", "max_trips: 3, resume_from: latest"));
        let mut client = stage.come(true);
        stage.turn().await;
        for _ in 0..3 {
            stage.flood(20, 1000);
            stage.turn().await;
        }
        let before = client.messages();
        let mut rest = Vec::new();
        for _ in 0..30 {
            stage.pass(millis(100)).await;
            rest.extend(client.messages());
        }
        stage.write("next");
        stage.turn().await;
        let missed = stage.metric("messages_missed_total") as usize;
        let told = format!(r#"{{"type":"outrigger","event":"gap","missed":{missed}}}"#);
        let expected = if notices { vec![&*told, "next"] } else { vec!["next"] };
        assert_eq!(client.messages(), expected);
        assert_eq!(before.len() + rest.len() + missed, 60);
        assert!(missed > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_stalls_trips_though_there_is_little_to_say() {
    let mut stage = Stage::open("policy: {heartbeat: null, delivery: {stall_timeout: 10s}}");
    let _client = stage.come(true);
    stage.turn().await;
    stage.flood(30, 1000);
    stage.pass(secs(9)).await;
    assert_eq!(stage.metric("breaker_state"), 0.0);
    stage.pass(secs(2)).await;
    assert_eq!(stage.metric("breaker_state"), 2.0);
    stage.pass(secs(20)).await;
    assert_eq!(stage.ends(), HashMap::from([("slow_consumer".to_owned(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_channel_with_many_in_trouble_sends_its_newest_message_only() {
    let mut stage = Stage::open(
        "policy: {heartbeat: null, history: {messages: 500}, delivery: {max_lag: {messages: 20}, cool_down: 60s, \
         channel_breaker: {min_clients: 4, tripped_ratio: 0.5, open_for: 5s}}}",
    );
    let _stuck: Vec<_> = (0..2).map(|_| stage.come(true)).collect();
    let mut well: Vec<_> = (0..2).map(|_| stage.come(false)).collect();
    stage.turn().await;
    for _ in 0..5 {
        stage.flood(20, 1000);
        stage.turn().await;
    }
    for client in &mut well {
        client.messages();
    }
    let before = stage.metric("messages_conflated_total");
    stage.flood(19, 10);
    stage.write("newest");
    stage.turn().await;
    for client in &mut well {
        assert_eq!(client.messages(), ["newest"]);
    }
    assert_eq!(stage.metric("messages_conflated_total") - before, 38.0);
    // Half-open: one pass with everything, and as many are in trouble as before.
    stage.pass(secs(7)).await;
    for expected in [20, 1] {
        stage.flood(20, 10);
        stage.turn().await;
        for client in &mut well {
            assert_eq!(client.messages().len(), expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_bound_on_memory_holds_whoever_lags() {
    let mut stage = Stage::open(
        "memory: {max_buffered: 256KiB}\npolicy: {heartbeat: null, history: {messages: 100000, bytes: 64MiB}, \
         delivery: {max_lag: {messages: 100000, bytes: 64MiB}}}",
    );
    let _stuck = stage.come(true);
    let mut well = stage.come(false);
    stage.turn().await;
    let mut heard = 0;
    for _ in 0..100 {
        stage.flood(10, 1000);
        stage.turn().await;
        heard += well.messages().len();
        assert!(stage.budget.used() <= (256 << 10) + 80 * 1024, "{}", stage.budget.used());
    }
    assert_eq!(heard, 1000);
    assert!(stage.metric("history_trimmed_total") > 0.0);
}

#[tokio::test(start_paused = true)]
async fn clients_that_hold_more_than_half_of_the_memory_are_cut_and_no_history_goes_for_them() {
    let mut stage = Stage::open(
        "memory: {max_buffered: 1MiB}\npolicy: {heartbeat: null, history: {messages: 4}, \
         delivery: {stall_timeout: 10m, max_lag: {messages: 100000, bytes: 64MiB}}}",
    );
    let mut stuck: Vec<_> = (0..30).map(|_| stage.come(true)).collect();
    let mut well = stage.come(false);
    stage.turn().await;
    // The same message for all of them is one message in memory.
    stage.flood(1, 200_000);
    stage.turn().await;
    let mut heard = well.messages().len();
    assert_eq!((stage.registry.len(), heard), (31, 1));
    assert!(stage.budget.used() < 3 * 200_000, "{}", stage.budget.used());
    // Now each is stuck in one of its own.
    for client in &mut stuck {
        for _ in 0..200 {
            client.messages();
            stage.turn().await;
        }
        stage.flood(1, 100_000);
        stage.turn().await;
        heard += well.messages().len();
    }
    assert_eq!(heard, 31, "nobody else noticed");
    assert!(stage.budget.used() <= 1 << 20, "{}", stage.budget.used());
    let cut = stage.ends().get("slow_consumer").copied().unwrap_or(0);
    assert!((1..30).contains(&cut), "{cut}");
    assert_eq!(stage.metric("history_messages"), 4.0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_took_all_when_it_was_asked_again_has_no_clock_that_runs() {
    let mut stage = Stage::open("policy: {heartbeat: null, delivery: {stall_timeout: 10s}}");
    let mut client = stage.come(true);
    stage.turn().await;
    let waiting = |client: &Client| client.handle.delivery_stats().unwrap().buffered;
    while waiting(&client) == 0 {
        stage.flood(1, 600);
        stage.turn().await;
    }
    // The kernel has room for the rest, and does not say so until much more of its queue has left.
    let mut some = [0; 1300];
    let n = client.socket.as_mut().unwrap().read(&mut some).unwrap();
    client.heard.extend_from_slice(&some[..n]);
    stage.pass(secs(9)).await;
    assert!(waiting(&client) > 0, "nobody has told that there is room");
    stage.pass(secs(2)).await;
    assert_eq!(waiting(&client), 0, "it was asked");
    stage.pass(secs(60)).await;
    assert_eq!((stage.metric("breaker_state"), stage.ends().len()), (0.0, 0));
    assert_eq!(client.messages().len() as u64, stage.written);
}
