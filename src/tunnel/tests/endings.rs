//! How it ends: the steps of the table in [`crate::tunnel::ending`], and what must not undo them.

use super::*;
use crate::net::scratch::READ;

const BARE: &str = "policy: { heartbeat: null, idle_timeout: 0s }";

#[tokio::test(start_paused = true)]
async fn a_close_passes_both_ways_and_both_hops_end() {
    let mut stage = Stage::open(BARE).await;
    stage.client.say(&close(4000, true));
    stage.turn().await;
    assert_eq!(stage.upstream.hear(), close(4000, true));
    stage.upstream.say(&close(4001, false));
    stage.turn().await;
    assert_eq!(stage.client.hear_out(), close(4001, false));
    assert!(stage.relay.is_some(), "the server ends its hop first");
    stage.upstream.leave();
    stage.turn().await;
    assert_eq!(stage.reason(), "client_close");
}

#[tokio::test(start_paused = true)]
async fn bytes_behind_a_fault_are_thrown_away_however_many_they_are() {
    let mut stage = Stage::open(BARE).await;
    let mut bytes = frame(0x81, b"good", true);
    let good = bytes.len();
    bytes.extend([0x83; 20_000]);
    stage.client.say(&bytes);
    stage.turn().await;
    let heard = stage.upstream.hear();
    assert_eq!(heard[..good], bytes[..good]);
    assert_eq!(close_code(&heard), 1002);
    stage.client.say(&[0x83; 20_000]);
    stage.upstream.say(&close(1002, false));
    stage.turn().await;
    assert_eq!(close_code(&stage.client.hear_out()), 1002);
    stage.client.leave();
    stage.upstream.leave();
    stage.turn().await;
    assert_eq!(stage.reason(), "protocol_error");
    assert_eq!(stage.counter("discarded_bytes_total"), 40_000);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_close_has_close_timeout_and_so_has_then_the_upstream() {
    let mut stage = Stage::open("policy: { heartbeat: null, idle_timeout: 0s, close_timeout: 5s }").await;
    stage.upstream.say(&close(1000, false));
    stage.turn().await;
    assert_eq!(stage.client.hear(), close(1000, false));
    stage.pass(millis(4_999)).await;
    assert_eq!(stage.upstream.hear(), b"", "the client's own answer is still waited for");
    stage.pass(millis(1)).await;
    assert_eq!(stage.client.hear_out(), b"");
    assert_eq!(close_code(&stage.upstream.hear()), 1000);
    assert_eq!(stage.lasts(secs(60)).await, secs(5), "it is owed an end, but not for ever");
    assert_eq!(stage.reason(), "upstream_close");
}

#[tokio::test(start_paused = true)]
async fn a_close_waits_for_the_end_of_a_frame_and_stands_back_where_that_cannot_come() {
    for is_finished in [true, false] {
        let mut stage = Stage::open("policy: { heartbeat: null, idle_timeout: 10s }").await;
        stage.upstream.say(b"\x82\x0412");
        stage.pass(secs(10)).await;
        assert_eq!(stage.client.hear(), b"\x82\x0412", "inside a frame nothing can be said");
        assert_eq!(close_code(&stage.upstream.hear()), 1001);
        if is_finished {
            stage.upstream.say(b"34");
            stage.turn().await;
            let heard = stage.client.hear();
            assert_eq!(heard[..2], *b"34");
            assert_eq!(close_code(&heard[2..]), 1001);
        } else {
            stage.upstream.leave();
            stage.turn().await;
            assert_eq!(stage.client.hear_out(), b"", "the end of the stream and no Close");
        }
        stage.client.leave();
        stage.upstream.leave();
        stage.turn().await;
        assert_eq!(stage.reason(), "idle_timeout");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_shuts_its_ear_is_given_up_though_its_mouth_stays_open() {
    let mut stage = Stage::open("policy: { heartbeat: null, idle_timeout: 0s, close_timeout: 5s }").await;
    stage.client.shut(Shutdown::Read);
    stage.upstream.say(&frame(0x81, b"x", false));
    stage.turn().await;
    stage.client.say(&frame(0x81, b"last words", true));
    stage.turn().await;
    assert_eq!(stage.upstream.hear(), frame(0x81, b"last words", true));
    stage.lasts(secs(11)).await;
    assert_eq!(stage.reason(), "client_lost");
}

#[tokio::test(start_paused = true)]
async fn an_isolated_client_that_says_close_and_stops_reading_is_kept_no_more_than_max_lag() {
    let mut stage = Stage::narrow(
        "policy: { heartbeat: null, idle_timeout: 0s, delivery: { on_stall: isolate, max_lag: { bytes: 64KiB } } }",
    )
    .await;
    stage.client.say(&close(1000, true));
    stage.turn().await;
    let said = stage.flood(Which::Upstream, &frame(0x82, &[7; 1000], false), 2000).await;
    let kept = stage.relay().client.egress.len();
    assert!(kept <= 64 * 1024 + READ, "{kept} bytes of {said} messages");
    assert!(said > 64 && stage.relay().ending.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_isolated_client_that_is_ending_holds_nothing_beyond_the_memory_of_all() {
    for (reason, words) in [("client_close", &close(1000, true)[..]), ("protocol_error", OFFENCES[0].1)] {
        let mut stage = Stage::with(Props {
            settings: "policy: { heartbeat: null, idle_timeout: 0s, delivery: { on_stall: isolate, max_lag: { bytes: 16MiB } } }",
            buffers: Some(SMALL),
            memory: Some(10_000),
            ..Props::default()
        })
        .await;
        stage.client.say(words);
        stage.turn().await;
        let mut most = 0;
        for _ in 0..200 {
            stage.upstream.try_say(&frame(0x82, &[7; 1000], false));
            stage.turn().await;
            most = most.max(stage.budget.used());
        }
        assert!(most <= 10_000 + READ, "{reason}: {most} bytes are held");
        assert_eq!(counts(&stage), (0, 0.0, 0, 1.0), "{reason}: it was cut");
        assert_eq!(stage.counter("memory_cuts_total"), 1, "{reason}");
        stage.upstream.leave();
        stage.turn().await;
        assert_eq!((stage.budget.used(), stage.reason()), (0, reason.to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_of_ours_comes_after_the_frame_that_was_begun_however_much_its_server_goes_on_saying() {
    let mut stage = Stage::open(BARE).await;
    let message = frame(0x82, &[7; 1000], false);
    let (begin, rest) = message.split_at(500);
    stage.upstream.say(begin);
    stage.turn().await;
    stage.command(Command::CloseAt { at: Instant::now(), code: crate::frame::CloseCode(1012) });
    stage.turn().await;
    for _ in 0..3 {
        stage.upstream.say(&[rest, &message, begin].concat());
        stage.turn().await;
    }
    let heard = stage.client.hear();
    assert_eq!((frames(&heard).len(), close_code(&heard)), (2, 1012));
    stage.client.say(&close(1012, true));
    stage.turn().await;
    assert_eq!(close_code(&stage.upstream.hear()), 1001, "its client has answered");
    stage.upstream.leave();
    stage.turn().await;
    assert_eq!(stage.reason(), "drained");
}

#[tokio::test(start_paused = true)]
async fn of_a_client_that_said_too_much_nothing_goes_on_but_the_frame_that_it_has_begun() {
    let mut stage = Stage::open(OFFENCES[2].0).await;
    let (ping, message) = (frame(0x89, b"ping", true), frame(0x82, &[7; 100], true));
    let (begin, rest) = message.split_at(50);
    stage.client.say(&[&ping[..], &ping, begin].concat());
    stage.turn().await;
    for _ in 0..3 {
        stage.client.say(&[rest, &ping, begin].concat());
        stage.turn().await;
    }
    let heard = stage.upstream.hear();
    assert_eq!((frames(&heard).len(), close_code(&heard)), (4, 1001));
    stage.upstream.leave();
    stage.turn().await;
    assert_eq!(close_code(&stage.client.hear()), 1008);
    stage.client.leave();
    stage.turn().await;
    assert_eq!(stage.reason(), "control_rate");
}

/// Settings, what a client says that breaks a rule of theirs, and what it is told.
const OFFENCES: [(&str, &[u8], u16, &str); 3] = [
    (BARE, &[0x83, 0x80, 1, 2, 3, 4], 1002, "protocol_error"),
    (
        "policy: { heartbeat: null, idle_timeout: 0s, max_frame: 1KiB, max_message: 1KiB }",
        &[0x82, 0xfe, 0xff, 0xff, 1, 2, 3, 4],
        1009,
        "too_large",
    ),
    (
        "policy: { heartbeat: null, idle_timeout: 0s, limits: { control_rate: { rate: 1/s, burst: 1 } } }",
        &[0x89, 0x80, 1, 2, 3, 4, 0x89, 0x80, 1, 2, 3, 4],
        1008,
        "control_rate",
    ),
];

#[tokio::test(start_paused = true)]
async fn what_a_server_says_to_all_that_came_before_a_violation_reaches_its_client_before_the_close() {
    for (settings, for_offender, code, reason) in OFFENCES {
        for ends_with_close in [true, false] {
            let mut stage = Stage::open(settings).await;
            let [a, b] = [frame(0x81, b"A", true), frame(0x81, b"B", true)];
            stage.client.say(&[&a[..], &b, for_offender].concat());
            stage.turn().await;
            let heard = frames(&stage.upstream.hear());
            assert_eq!(heard[..2], [(0x81, b"A".to_vec()), (0x81, b"B".to_vec())], "{reason}");
            assert_eq!(heard.last().unwrap().0, 0x88, "{reason}: and it is told");
            assert_eq!(stage.client.hear(), b"", "{reason}: its server may still have an answer");
            for answer in [frame(0x81, b"to A", false), frame(0x01, b"to", false), frame(0x80, b" B", false)]
            {
                stage.pass(millis(100)).await;
                stage.upstream.say(&answer);
                stage.turn().await;
                assert_eq!(stage.client.hear(), answer, "{reason}");
            }
            if ends_with_close {
                stage.upstream.say(&close(1001, false));
            }
            stage.upstream.leave();
            stage.turn().await;
            let (heard, _) = stage.client.hear_all();
            assert_eq!(close_code(&heard), code, "{reason}: not the server's answer to our Close");
            stage.client.leave();
            stage.turn().await;
            assert_eq!(stage.reason(), reason);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_talks_on_after_a_violation_has_close_timeout_for_it() {
    for (settings, for_offender, code, reason) in OFFENCES {
        let mut stage = Stage::open(settings).await;
        stage.client.say(for_offender);
        stage.turn().await;
        let from = Instant::now();
        while from.elapsed() < secs(5) {
            stage.upstream.say(&frame(0x81, b"and then", false));
            stage.pass(millis(500)).await;
        }
        let (heard, _) = stage.client.hear_all();
        assert_eq!(frames(&heard).len(), 11, "{reason}: what it said until then, and the Close");
        assert_eq!(close_code(&heard), code, "{reason}");
        stage.client.leave();
        stage.turn().await;
        assert_eq!(stage.reason(), reason);
        assert_eq!(from.elapsed(), secs(5), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_server_says_after_a_violation_waits_for_a_client_that_does_not_read() {
    for isolate in [false, true] {
        let mut stage = Stage::narrow(if isolate {
            "policy: { heartbeat: null, idle_timeout: 0s, delivery: { on_stall: isolate, max_lag: { bytes: 64KiB } } }"
        } else {
            BARE
        })
        .await;
        stage.client.say(OFFENCES[0].1);
        stage.turn().await;
        let said = stage.flood(Which::Upstream, &frame(0x82, &[7; 1000], false), 2000).await;
        let kept = stage.relay().client.egress.len();
        assert!(
            said < 2000 && kept <= 64 * 1024 + READ,
            "{kept} bytes of {said} messages, isolate: {isolate}"
        );
        // Read again in time it hears all of it, and why it ends.
        let mut heard = stage.drink(Which::Client).await;
        stage.upstream.leave();
        heard.extend(stage.drink(Which::Client).await);
        let heard = frames(&heard);
        assert_eq!(heard.len(), said + 1, "isolate: {isolate}");
        assert_eq!(heard.last().unwrap().0, 0x88);
        stage.client.leave();
        stage.turn().await;
        assert_eq!(stage.reason(), "protocol_error");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_after_a_violation_is_waited_for_no_longer() {
    let mut stage = Stage::open(BARE).await;
    stage.client.say(OFFENCES[0].1);
    stage.turn().await;
    stage.client.leave();
    stage.turn().await;
    stage.upstream.say(&frame(0x81, b"nobody hears this", false));
    stage.upstream.say(&close(1002, false));
    stage.upstream.leave();
    stage.turn().await;
    assert_eq!(stage.reason(), "protocol_error");
}

/// What a connection still counts for: clients, places, ends.
fn counts(stage: &Stage) -> (usize, f64, usize, f64) {
    let families = stage.registry.gather();
    let family = |name: &str| families.iter().find(|family| family.name() == name).unwrap();
    let gauge = family("outrigger_clients").get_metric()[0].get_gauge().get_value();
    let ends = family("outrigger_disconnections_total").get_metric().iter();
    let ends = ends.map(|metric| metric.get_counter().get_value()).sum();
    (stage.registry.clients(), gauge, stage.held.strong_count(), ends)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_takes_no_place_however_long_its_server_takes_to_end() {
    type Go = fn(&mut Stage);
    let goes: [(&str, Go); 5] = [
        ("client_lost", |stage| stage.client.leave()),
        ("client_lost", |stage| {
            stage.client.say(&frame(0x81, b"last words", true));
            stage.client.leave();
        }),
        ("client_close", |stage| {
            stage.client.say(&close(1000, true));
            stage.client.leave();
        }),
        ("protocol_error", |stage| {
            stage.client.say(OFFENCES[0].1);
            stage.client.leave();
        }),
        ("drained", |stage| {
            stage.command(Command::CloseAt { at: Instant::now(), code: crate::frame::CloseCode(1012) });
            stage.client.leave();
        }),
    ];
    for (reason, go) in goes {
        let mut stage = Stage::open(BARE).await;
        assert_eq!(counts(&stage), (1, 1.0, 1, 0.0));
        go(&mut stage);
        stage.turn().await;
        assert!(stage.relay.is_some(), "{reason}: its server has not ended");
        assert_eq!(counts(&stage), (0, 0.0, 0, 1.0), "{reason}");
        assert_eq!(stage.registry.len(), 1, "a drain waits for it");
        stage.upstream.say(&frame(0x81, b"nobody hears this", false));
        stage.turn().await;
        assert!(stage.counter("discarded_bytes_total") >= 19, "{reason}: what comes after that is counted");
        let lasted = stage.lasts(secs(60)).await;
        assert!(lasted >= secs(5), "{reason}: {lasted:?}");
        assert_eq!(counts(&stage), (0, 0.0, 0, 1.0), "{reason}: once");
        assert_eq!(stage.reason(), reason);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_pulse_takes_no_place_either() {
    let beat = "policy: { heartbeat: { interval: 5s, timeout: 2s, max_missed: 1 }, idle_timeout: 0s }";
    let mut stage = Stage::open(beat).await;
    stage.pass_until(secs(7)).await;
    assert_eq!((counts(&stage), stage.relay.is_some()), ((0, 0.0, 0, 1.0), true));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_behind_what_nobody_takes_is_noticed_within_a_second() {
    let mut stage =
        Stage::narrow("{ upstream: { stall_timeout: 0s }, policy: { heartbeat: null, idle_timeout: 0s } }")
            .await;
    assert!(stage.flood(Which::Client, &frame(0x82, &[7; 1000], true), 400).await < 400);
    stage.client.leave();
    stage.pass(secs(1)).await;
    let (clients, gauge, held, ends) = counts(&stage);
    assert_eq!((clients, gauge, held), (0, 0.0, 0));
    assert_eq!(ends, 0.0, "there may be a Close among what was not read");
    assert!(stage.relay.is_some(), "its server has its time for the rest");
    stage.lasts(secs(11)).await;
    assert_eq!(stage.reason(), "client_lost");
}
