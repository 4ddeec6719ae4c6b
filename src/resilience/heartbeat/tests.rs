use proptest::prelude::*;

use super::*;

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(10);

fn heartbeat() -> (Heartbeat, Instant) {
    let now = Instant::now();
    let timing = config::Heartbeat { interval: INTERVAL, timeout: TIMEOUT, max_missed: 3 };
    (Heartbeat::new(timing, 0xfeed, now), now)
}

/// Runs the timer at its deadline; answers when that was, and what it asked for.
fn step(heartbeat: &mut Heartbeat) -> (Instant, Option<HeartbeatAction>, bool) {
    let at = heartbeat.deadline(false).expect("a deadline");
    let (act, missed) = heartbeat.on_timer(at);
    (at, act, missed)
}

fn ping(heartbeat: &mut Heartbeat) -> (Instant, [u8; PING_PAYLOAD]) {
    let (at, act, _) = step(heartbeat);
    let Some(HeartbeatAction::SendPing(payload)) = act else { panic!("expected a ping, got {act:?}") };
    heartbeat.on_flushed(at);
    (at, payload)
}

#[test]
fn a_silent_peer_is_given_up_after_interval_and_all_timeouts() {
    let (mut heartbeat, start) = heartbeat();
    assert_eq!(ping(&mut heartbeat).0, start + INTERVAL);
    for miss in 1..=2 {
        let (at, payload) = ping(&mut heartbeat);
        assert_eq!(at, start + INTERVAL + TIMEOUT * miss, "the next ping follows a miss at once");
        assert_eq!(payload[11], miss as u8 + 1);
    }
    assert_eq!(step(&mut heartbeat), (start + INTERVAL + TIMEOUT * 3, Some(HeartbeatAction::GiveUp), true));
    assert_eq!(heartbeat.deadline(false), None, "gone is terminal");
}

#[test]
fn an_early_timer_changes_nothing() {
    let (mut heartbeat, start) = heartbeat();
    assert_eq!(heartbeat.on_timer(start + INTERVAL - Duration::from_millis(1)), (None, false));
    assert_eq!(heartbeat.deadline(false), Some(start + INTERVAL));
}

#[test]
fn a_pong_tells_the_round_trip_and_quiets_the_clock() {
    let (mut heartbeat, _) = heartbeat();
    let (at, payload) = ping(&mut heartbeat);
    let rtt = Duration::from_millis(42);
    assert_eq!(heartbeat.on_pong(&payload, at + rtt), PongKind::Ours(Some(rtt)));
    assert_eq!(heartbeat.deadline(false), Some(at + INTERVAL));
    assert_eq!(
        heartbeat.on_pong(&payload, at + rtt),
        PongKind::Ours(None),
        "the same pong again is still ours"
    );
}

#[test]
fn a_pong_is_cumulative_and_a_late_one_still_ours() {
    let (mut heartbeat, _) = heartbeat();
    let (first_at, first) = ping(&mut heartbeat);
    let (second_at, second) = ping(&mut heartbeat);
    let late = second_at + Duration::from_secs(1);
    assert_eq!(heartbeat.on_pong(&first, late), PongKind::Ours(Some(late - first_at)));
    assert_eq!(heartbeat.deadline(false), Some(second_at + TIMEOUT), "the newer ping is still owed");
    assert_eq!(heartbeat.on_pong(&second, late), PongKind::Ours(Some(late - second_at)));
    assert_eq!(heartbeat.deadline(false), Some(second_at + INTERVAL));
}

#[test]
fn foreign_pongs_are_told_apart() {
    let (mut heartbeat, _) = heartbeat();
    let (at, payload) = ping(&mut heartbeat);
    let mut unsent = payload;
    unsent[11] += 1;
    let mut other_nonce = payload;
    other_nonce[0] ^= 1;
    let cases: [&[u8]; 5] = [b"", b"hello", &payload[..11], &unsent, &other_nonce];
    for foreign in cases {
        assert_eq!(heartbeat.on_pong(foreign, at), PongKind::OtherSide, "{foreign:?}");
    }
}

#[test]
fn any_traffic_counts_as_life() {
    let (mut heartbeat, _) = heartbeat();
    let (at, _) = ping(&mut heartbeat);
    heartbeat.on_activity();
    assert_eq!(step(&mut heartbeat), (at + TIMEOUT, None, false), "no miss");
    assert_eq!(ping(&mut heartbeat).0, at + INTERVAL);
}

#[test]
fn the_pong_clock_starts_when_the_ping_was_flushed() {
    let (mut heartbeat, _) = heartbeat();
    let (at, act, _) = step(&mut heartbeat);
    assert!(matches!(act, Some(HeartbeatAction::SendPing(_))));
    assert_eq!(heartbeat.deadline(false), None, "queued behind what the peer does not take");
    let flushed = at + Duration::from_secs(25);
    heartbeat.on_flushed(flushed);
    assert_eq!(heartbeat.deadline(false), Some(flushed + TIMEOUT));
}

#[test]
fn a_stopped_clock_goes_on_where_it_stood() {
    let (mut heartbeat, _) = heartbeat();
    let (at, _) = ping(&mut heartbeat);
    let pause = Duration::from_secs(60);
    heartbeat.shift(pause, at + Duration::from_secs(1) + pause);
    assert_eq!(heartbeat.deadline(false), Some(at + TIMEOUT + pause));

    let (mut heartbeat, _) = self::heartbeat();
    let (at, _) = ping(&mut heartbeat);
    heartbeat.shift(pause, at + Duration::from_secs(25));
    assert_eq!(
        heartbeat.deadline(false),
        Some(at + TIMEOUT + Duration::from_secs(25)),
        "it left in the pause"
    );
}

#[test]
fn only_a_pong_is_not_waited_for_while_the_peer_is_not_read() {
    let (mut heartbeat, start) = heartbeat();
    assert_eq!(heartbeat.deadline(true), Some(start + INTERVAL), "a ping can be sent all the same");
    let (at, _) = ping(&mut heartbeat);
    assert_eq!((heartbeat.deadline(true), heartbeat.deadline(false)), (None, Some(at + TIMEOUT)));
}

#[test]
fn an_answer_to_a_ping_whose_queue_is_not_empty_yet_is_one() {
    let (mut heartbeat, _) = heartbeat();
    let (at, act, _) = step(&mut heartbeat);
    let Some(HeartbeatAction::SendPing(payload)) = act else { panic!("{act:?}") };
    assert_eq!(heartbeat.on_pong(&payload, at), PongKind::Ours(None));
    heartbeat.on_flushed(at + Duration::from_secs(5));
    assert_eq!(heartbeat.deadline(false), Some(at + INTERVAL), "nothing is owed");
}

#[test]
fn a_foreign_ping_delays_ours_but_not_for_ever() {
    let (mut heartbeat, start) = heartbeat();
    let asked = start + INTERVAL - Duration::from_secs(1);
    heartbeat.on_other_side_ping(asked);
    assert_eq!(heartbeat.deadline(false), Some(asked + TIMEOUT));
    assert_eq!(ping(&mut heartbeat).0, asked + TIMEOUT);

    let (mut heartbeat, start) = self::heartbeat();
    for seconds in 0..60 {
        heartbeat.on_other_side_ping(start + Duration::from_secs(seconds));
    }
    assert_eq!(ping(&mut heartbeat).0, start + INTERVAL + TIMEOUT, "however often it asks");

    let (mut heartbeat, start) = self::heartbeat();
    heartbeat.on_other_side_ping(asked);
    heartbeat.on_pong(b"theirs", asked);
    assert_eq!(ping(&mut heartbeat).0, start + INTERVAL, "answered: ours goes out on time");
}

#[test]
fn a_pong_without_a_payload_answers_the_newest() {
    let (mut heartbeat, _) = heartbeat();
    assert_eq!(heartbeat.on_plain_pong(Instant::now()), PongKind::Ours(None), "unasked");
    let (at, _) = ping(&mut heartbeat);
    let rtt = Duration::from_millis(7);
    assert_eq!(heartbeat.on_plain_pong(at + rtt), PongKind::Ours(Some(rtt)));
    assert_eq!(heartbeat.deadline(false), Some(at + INTERVAL));
}

#[test]
fn it_fits_a_small_class_of_the_allocator() {
    assert!(size_of::<Heartbeat>() <= 104, "{}", size_of::<Heartbeat>());
}

proptest! {
    /// A peer that says anything within every timeout is never given up; one that is silent always is,
    /// within the documented worst case.
    #[test]
    fn only_the_silent_are_given_up(
        interval in 1..100_u64, timeout in 1..50_u64, max_missed in 1..6_u32, lives in any::<bool>(),
    ) {
        let start = Instant::now();
        let timing = config::Heartbeat {
            interval: Duration::from_secs(interval), timeout: Duration::from_secs(timeout), max_missed,
        };
        let mut heartbeat = Heartbeat::new(timing, 1, start);
        let worst = start + timing.interval + timing.timeout * max_missed;
        let mut gone = None;
        for _ in 0..max_missed * 4 {
            let at = heartbeat.deadline(false).unwrap();
            match heartbeat.on_timer(at).0 {
                Some(HeartbeatAction::SendPing(_)) => heartbeat.on_flushed(at),
                Some(HeartbeatAction::GiveUp) => { gone = Some(at); break }
                None => {}
            }
            if lives {
                heartbeat.on_activity();
            }
        }
        prop_assert_eq!(gone, if lives { None } else { Some(worst) });
    }
}
