//! Closes with a date: the end of a life, and a drain's pace.

use super::*;
use crate::frame::CloseCode;

const BARE: &str = "policy: { heartbeat: null, idle_timeout: 0s }";

async fn scheduled(settings: &'static str, at: Duration) -> Stage {
    let mut stage = Stage::open(settings).await;
    let at = stage.start + at;
    stage.command(Command::CloseAt { at, code: CloseCode(1012) });
    stage.turn().await;
    stage
}

#[tokio::test(start_paused = true)]
async fn a_life_ends_within_its_last_tenth_at_a_moment_of_its_own() {
    let mut moments = Vec::new();
    for _ in 0..20 {
        let mut stage =
            Stage::open("policy: { heartbeat: null, idle_timeout: 0s, max_lifetime: 1000s }").await;
        stage.pass_until(secs(900)).await;
        assert_eq!(stage.client.hear(), b"");
        let at = stage.relay().dates.next().unwrap();
        assert!((secs(900)..=secs(1000)).contains(&(at - stage.start)));
        stage.pass(at - Instant::now() + millis(1)).await;
        assert_eq!(close_code(&stage.client.hear()), 1012);
        moments.push(at - stage.start);
        // What the client says until it answers still goes on; then the upstream is told.
        stage.client.say(&[frame(0x81, b"bye", true), close(1012, true)].concat());
        stage.turn().await;
        assert_eq!(stage.client.hear_out(), b"");
        let heard = frames(&stage.upstream.hear());
        assert_eq!(heard[0], (0x81, b"bye".to_vec()));
        assert_eq!((heard.len(), heard[1].0, &heard[1].1[..2]), (2, 0x88, &1001_u16.to_be_bytes()[..]));
        stage.upstream.leave();
        stage.turn().await;
        assert_eq!(stage.reason(), "lifetime");
    }
    moments.dedup();
    assert!(moments.len() > 10, "{moments:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_is_closed_on_schedule_though_its_upstream_has_long_gone() {
    // How the upstream goes: lost, or in order with the Close of a server that stops.
    for goes in [&b""[..], b"\x88\x02\x03\xe9", b"\x88\x02\x03\xf4"] {
        let mut stage = scheduled(BARE, secs(60)).await;
        stage.upstream.say(goes);
        stage.turn().await;
        if !goes.is_empty() {
            assert_eq!(stage.upstream.hear()[0], 0x88, "it is answered at once");
        }
        stage.upstream.shut(Shutdown::Write);
        stage.turn().await;
        assert_eq!(stage.upstream.hear_out(), b"", "and its hop ends at once");
        stage.client.say(&frame(0x81, b"into the void", true));
        stage.pass_until(millis(59_999)).await;
        assert_eq!(stage.client.hear(), b"");
        stage.pass(millis(1)).await;
        assert_eq!(close_code(&stage.client.hear()), 1012);
        stage.client.say(&close(1012, true));
        stage.turn().await;
        assert_eq!(stage.client.hear_out(), b"");
        assert_eq!(stage.reason(), "drained");
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_of_any_other_code_is_no_part_of_the_schedule() {
    let mut stage = scheduled(BARE, secs(60)).await;
    stage.upstream.say(&close(4003, false));
    stage.turn().await;
    assert_eq!(stage.client.hear(), close(4003, false));
    stage.client.say(&close(4003, true));
    stage.upstream.leave();
    stage.turn().await;
    assert_eq!(stage.reason(), "upstream_close");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_of_an_upstream_that_went_meanwhile_do_not_hurry_the_schedule() {
    const BEAT: &str = "{ upstream: { heartbeat: { interval: 10s, timeout: 5s, max_missed: 1 } }, \
         policy: { heartbeat: null, idle_timeout: 0s } }";
    for goes in [&b""[..], b"\x88\x02\x03\xe9"] {
        let mut stage = scheduled(BEAT, secs(60)).await;
        stage.pass_until(secs(11)).await;
        assert_eq!(stage.upstream.hear()[0], 0x89);
        if goes.is_empty() {
            stage.upstream.leave();
        } else {
            stage.upstream.say(goes);
        }
        stage.pass_until(millis(59_999)).await;
        assert_eq!(stage.client.hear(), b"", "{goes:?}");
        stage.pass(millis(1)).await;
        assert_eq!(close_code(&stage.client.hear()), 1012);
        assert_eq!(stage.counter("heartbeat_missed_total"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_whose_close_was_kept_is_answered_even_if_the_client_closes_first() {
    let mut stage = scheduled(BARE, secs(60)).await;
    stage.client.say(b"\x82\x84\0\0\0\x0012");
    stage.turn().await;
    stage.upstream.say(&close(1001, false));
    stage.turn().await;
    assert_eq!(stage.upstream.hear(), b"\x82\x84\0\0\0\x0012", "its answer waits for the edge");
    stage.client.say(&[b"34".to_vec(), close(1000, true)].concat());
    stage.turn().await;
    let heard = stage.upstream.hear();
    assert_eq!(heard[..2], *b"34");
    assert_eq!(frames(&heard[2..])[0].0, 0x88);
    assert_eq!(close_code(&stage.client.hear_out()), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_schedule_in_the_past_closes_at_once_and_a_cut_needs_no_answer() {
    let mut stage = scheduled(BARE, Duration::ZERO).await;
    assert_eq!(close_code(&stage.client.hear()), 1012);
    stage.client.say(&close(1012, true));
    stage.upstream.leave();
    stage.turn().await;
    assert_eq!(stage.reason(), "drained");

    let mut stage = Stage::open(BARE).await;
    stage.command(Command::Cut);
    stage.turn().await;
    assert_eq!(stage.reason(), "aborted");
    assert_eq!((stage.client.hear_out(), stage.upstream.hear_out()), (Vec::new(), Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_user_has_a_newer_connection_is_told_so_whatever_the_schedule_says() {
    let mut stage = scheduled(BARE, secs(60)).await;
    stage.command(Command::Replace);
    stage.turn().await;
    assert_eq!(close_code(&stage.client.hear()), 1008);
    assert_eq!(stage.upstream.hear(), b"", "it hears the client until that has answered");
    stage.client.say(&close(1008, true));
    stage.turn().await;
    assert_eq!(close_code(&stage.upstream.hear()), 1001);
    stage.upstream.leave();
    stage.turn().await;
    assert_eq!(stage.reason(), "replaced");

    // A dead one is cut when one more has to go, and what it was is not forgotten.
    let mut stage = Stage::open(BARE).await;
    stage.command(Command::Replace);
    stage.turn().await;
    stage.command(Command::Cut);
    stage.turn().await;
    assert_eq!(stage.reason(), "replaced");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waited_for_an_upstream_is_read_again_once_that_is_lost() {
    let mut stage = Stage::narrow(BARE).await;
    let at = stage.start + secs(60);
    stage.command(Command::CloseAt { at, code: CloseCode(1012) });
    stage.flood(Which::Client, &frame(0x82, &[7; 1000], true), 400).await;
    assert!(stage.relay().client.is_paused());
    // The upstream ends its own stream and goes on not reading.
    stage.upstream.shut(Shutdown::Write);
    stage.turn().await;
    assert!(!stage.relay().client.is_paused());
    stage.client.say(&close(1000, true));
    stage.turn().await;
    assert_eq!(close_code(&stage.client.hear_out()), 1000);
    assert_eq!(stage.reason(), "client_close");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_answers_or_reads_nothing_any_more_does_not_hurry_the_schedule() {
    const DEAF: &str = "{ upstream: { stall_timeout: 10s, heartbeat: { interval: 10s, timeout: 5s, max_missed: 1 } }, \
         policy: { heartbeat: null, idle_timeout: 0s } }";
    for is_full in [false, true] {
        let mut stage = Stage::narrow(DEAF).await;
        let at = stage.start + secs(60);
        stage.command(Command::CloseAt { at, code: CloseCode(1012) });
        if is_full {
            stage.flood(Which::Client, &frame(0x82, &[7; 1000], true), 400).await;
        }
        stage.pass_until(millis(59_999)).await;
        assert_eq!(stage.client.hear(), b"");
        assert!(!stage.relay().upstream.is_open(), "lost");
        stage.pass(millis(1)).await;
        assert_eq!(close_code(&stage.client.hear()), 1012);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_keeps_nobody_beyond_the_end_of_credentials_or_of_a_life() {
    const LIFE: &str = "policy: { heartbeat: null, idle_timeout: 0s, max_lifetime: 20s }";
    // The settings, the end of the credentials, the date of the drain; what comes when.
    let cases = [
        (BARE, Some(20), 60, 20, 1008, "expired"),
        (BARE, Some(60), 20, 20, 1012, "drained"),
        (LIFE, None, 60, 20, 1012, "lifetime"),
        (LIFE, Some(60), 10, 10, 1012, "drained"),
    ];
    for (settings, expires, drain, at, code, reason) in cases {
        let props = Props { settings, expires: expires.map(secs), ..Props::default() };
        let mut stage = Stage::with(props).await;
        stage.command(Command::CloseAt { at: stage.start + secs(drain), code: CloseCode(1012) });
        stage.pass_until(secs(at) * 9 / 10 - millis(1)).await;
        assert_eq!(stage.client.hear(), b"", "{reason}");
        stage.pass_until(secs(at)).await;
        assert_eq!(close_code(&stage.client.hear()), code, "{reason}");
        stage.client.say(&close(code, true));
        stage.turn().await;
        stage.upstream.leave();
        stage.turn().await;
        assert_eq!(stage.reason(), reason);
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_goes_in_a_drain_hurries_no_client_whose_credentials_end_first() {
    let mut stage = Stage::with(Props { settings: BARE, expires: Some(secs(20)), ..Props::default() }).await;
    stage.command(Command::CloseAt { at: stage.start + secs(60), code: CloseCode(1012) });
    stage.turn().await;
    stage.upstream.leave();
    stage.pass_until(millis(19_999)).await;
    assert_eq!(stage.client.hear(), b"");
    stage.pass(millis(1)).await;
    assert_eq!(close_code(&stage.client.hear()), 1008);
    stage.client.say(&close(1008, true));
    stage.turn().await;
    assert_eq!(stage.reason(), "expired");
}

#[tokio::test(start_paused = true)]
async fn a_cut_stands_whatever_comes_after_it_and_keeps_the_reason_of_what_came_before() {
    let close_at = |stage: &Stage| Command::CloseAt { at: stage.start + secs(60), code: CloseCode(1012) };
    let mut stage = Stage::open(BARE).await;
    stage.command(Command::Cut);
    stage.command(close_at(&stage));
    stage.turn().await;
    assert_eq!(stage.reason(), "drained");
    let mut stage = Stage::open(BARE).await;
    stage.command(close_at(&stage));
    stage.command(Command::Cut);
    stage.turn().await;
    assert_eq!(stage.reason(), "drained");
}

#[tokio::test(start_paused = true)]
async fn credentials_that_ended_while_the_machine_was_suspended_end_soon_after() {
    let props =
        Props { settings: BARE, expires: Some(secs(3600)), suspended: secs(4000), ..Props::default() };
    let mut stage = Stage::with(props).await;
    stage.pass_until(secs(30)).await;
    assert_eq!(close_code(&stage.client.hear()), 1008, "the wall clock is looked at each 30 s");
    let props =
        Props { settings: BARE, expires: Some(secs(3600)), suspended: secs(2000), ..Props::default() };
    let mut stage = Stage::with(props).await;
    stage.pass_until(secs(3600) - millis(1)).await;
    assert_eq!(stage.client.hear(), b"", "they have not ended");
    stage.pass(millis(1)).await;
    assert_eq!(close_code(&stage.client.hear()), 1008);
}
