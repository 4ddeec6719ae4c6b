//! What an operator publishes: where it may stand, how long it waits, and that it is never lost unseen.

use super::*;
use crate::frame::CloseCode;
use crate::telemetry::Injection;

const BARE: &str = "policy: { heartbeat: null, idle_timeout: 0s }";

/// A message as it is published, and as the client hears it.
const NEWS: &[u8] = b"\x81\x04news";

impl Stage {
    pub(super) fn inject(&self, frame: &[u8]) -> Result<(), Injection> {
        self.handle.inject(&Bytes::copy_from_slice(frame))
    }

    /// What came of injections: `ok`, `full`, `ended`, `extension`.
    pub(super) fn injections(&self, outcome: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == "outrigger_injections_total").unwrap();
        let found = family.get_metric().iter().find(|metric| metric.get_label()[0].value() == outcome);
        found.unwrap().get_counter().get_value() as u64
    }
}

#[tokio::test(start_paused = true)]
async fn it_goes_out_at_once_to_a_client_that_hears_nothing_else_and_is_counted() {
    let mut stage = Stage::open(BARE).await;
    let long = frame(0x82, &[7; 70_000], false);
    for injected in [NEWS, b"\x82\x00", &long] {
        stage.inject(injected).unwrap();
        stage.turn().await;
        assert_eq!(stage.drink(Which::Client).await, injected);
    }
    stage.upstream.say(&frame(0x81, b"own", false));
    stage.turn().await;
    assert_eq!(stage.client.hear(), frame(0x81, b"own", false));
    assert_eq!(stage.upstream.hear(), b"", "the server hears nothing of it");
    assert_eq!(stage.counter("messages_out_total"), 4);
    assert_eq!(stage.counter("bytes_out_total"), (NEWS.len() + 2 + long.len() + 5) as u64);
    assert_eq!(stage.injections("ok"), 3);
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_the_end_of_a_message_wherever_the_server_is_in_it() {
    // Two frames of one message with a ping between them, and the next message.
    let parts = [
        frame(0x01, b"begin", false),
        frame(0x89, b"", false),
        frame(0x80, b"end", false),
        frame(0x81, b"next", false),
    ];
    let all = parts.concat();
    let end = all.len() - parts[3].len();
    for cut in 0..=all.len() {
        let mut stage = Stage::open(BARE).await;
        stage.upstream.say(&all[..cut]);
        stage.turn().await;
        stage.inject(NEWS).unwrap();
        stage.turn().await;
        stage.upstream.say(&all[cut..]);
        stage.turn().await;
        // The first place at or after what has gone on; the beginning of a header is held and goes behind.
        let place = match cut {
            0..2 => 0,
            _ if cut < end + 2 => end,
            _ => all.len(),
        };
        let expected = [&all[..place], NEWS, &all[place..]].concat();
        assert_eq!(stage.client.hear(), expected, "cut at {cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_finds_its_place_even_if_each_read_of_the_server_ends_inside_a_message() {
    let mut stage =
        Stage::with(Props { settings: BARE, buffers: Some(1024 * 1024), ..Props::default() }).await;
    let long = frame(0x82, &[7; 100_000], false);
    stage.upstream.say(&long[..1000]);
    stage.turn().await;
    stage.inject(NEWS).unwrap();
    // From now on there is always a next message behind the end of one.
    stage.upstream.say(&long[1000..]);
    stage.upstream.say(&long[..1000]);
    stage.turn().await;
    assert_eq!(stage.drink(Which::Client).await, [&long[..], NEWS, &long[..1000]].concat());
}

#[tokio::test(start_paused = true)]
async fn for_a_client_that_does_not_read_it_waits_in_its_bounded_queue_and_the_server_goes_on() {
    let settings = "policy: { heartbeat: null, idle_timeout: 0s, \
         delivery: { on_stall: isolate, max_lag: { bytes: 64KiB } } }";
    let mut stage = Stage::narrow(settings).await;
    let message = frame(0x82, &[7; 1000], false);
    let mut expected = Vec::new();
    while stage.relay().client.egress.is_empty() {
        stage.upstream.say(&message);
        expected.extend_from_slice(&message);
        stage.turn().await;
    }
    let lag = stage.relay().client.egress.len();
    let mut taken = 0;
    while stage.inject(NEWS).is_ok() {
        taken += 1;
        expected.extend_from_slice(NEWS);
        stage.turn().await;
    }
    assert_eq!(taken, 64);
    assert_eq!(stage.inject(NEWS), Err(Injection::Full));
    assert_eq!(stage.relay().client.egress.len(), lag, "nothing of it is in the egress");
    assert_eq!(stage.drink(Which::Client).await, expected);
    assert_eq!(stage.injections("ok"), 64);
    stage.inject(NEWS).unwrap();
    assert_eq!(stage.drink(Which::Client).await, NEWS);
}

#[tokio::test(start_paused = true)]
async fn of_injections_at_most_one_is_left_over_by_a_full_socket() {
    let mut stage = Stage::narrow(BARE).await;
    let long = frame(0x82, &[7; 20_000], false);
    let mut said = 0;
    for _ in 0..20 {
        if stage.inject(&long).is_ok() {
            said += 1;
        }
        stage.turn().await;
        assert!(stage.relay().client.egress.len() <= long.len());
    }
    assert_eq!(said, 20);
    let heard = stage.drink(Which::Client).await;
    assert_eq!(heard, long.repeat(20));
}

#[tokio::test(start_paused = true)]
async fn one_poll_says_no_more_than_its_budget_and_the_rest_follows_by_itself() {
    let mut stage =
        Stage::with(Props { settings: BARE, buffers: Some(4 * 1024 * 1024), ..Props::default() }).await;
    let long = frame(0x82, &[7; 100_000], false);
    for _ in 0..6 {
        stage.inject(&long).unwrap();
    }
    // The server is not at a place in which it would be read any more, and wakes nobody.
    let before = stage.polls;
    let mut heard = Vec::new();
    for _ in 0..SPINS {
        stage.poll();
        let (more, _) = stage.client.hear_all();
        assert!(more.len() <= 300_000 + 3 * 10, "{} bytes of one poll", more.len());
        heard.extend(more);
        tokio::task::yield_now().await;
    }
    assert_eq!(heard.len(), 6 * long.len());
    assert!(stage.polls - before >= 2);
}

#[tokio::test(start_paused = true)]
async fn beyond_max_lag_it_is_not_taken() {
    let stage = Stage::open("policy: { heartbeat: null, delivery: { max_lag: { bytes: 1KiB } } }").await;
    assert_eq!(stage.inject(&frame(0x82, &[7; 1024], false)), Err(Injection::Full));
    assert_eq!(stage.inject(&frame(0x82, &[7; 1000], false)), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn with_deflate_it_goes_out_as_it_is_and_with_an_unknown_extension_not_at_all() {
    let deflate = Props { settings: BARE, extensions: Extensions::Deflate, ..Props::default() };
    let mut stage = Stage::with(deflate).await;
    stage.upstream.say(&frame(0xc1, b"squeezed", false));
    stage.inject(NEWS).unwrap();
    stage.turn().await;
    let heard = frames(&stage.client.hear());
    assert!(heard.contains(&(0x81, b"news".to_vec())) && heard.contains(&(0xc1, b"squeezed".to_vec())));
    let unknown = Props { settings: BARE, extensions: Extensions::Unknown, ..Props::default() };
    let mut stage = Stage::with(unknown).await;
    assert_eq!(stage.inject(NEWS), Err(Injection::Extension));
    stage.turn().await;
    assert_eq!(stage.client.hear(), b"");
}

#[tokio::test(start_paused = true)]
async fn nothing_of_it_follows_a_close_and_what_waited_is_counted_as_lost() {
    type Ends = fn(&mut Stage);
    let ends: [(&str, Ends); 6] = [
        ("client_close", |stage| stage.client.say(&close(1000, true))),
        ("client_lost", |stage| stage.client.leave()),
        ("upstream_lost", |stage| stage.upstream.leave()),
        ("drained", |stage| stage.command(Command::CloseAt { at: Instant::now(), code: CloseCode(1012) })),
        ("drained", |stage| {
            stage.command(Command::CloseAt { at: Instant::now() + secs(1), code: CloseCode(1012) });
            stage.command(Command::Cut);
        }),
        ("protocol_error", |stage| stage.client.say(b"\x83\x00")),
    ];
    for (name, end) in ends {
        for waits in [true, false] {
            let mut stage = Stage::open(BARE).await;
            if waits {
                // There is no place: the server is inside a message.
                stage.upstream.say(&frame(0x01, b"begin", false));
                stage.turn().await;
                stage.inject(NEWS).unwrap();
                stage.turn().await;
            }
            end(&mut stage);
            stage.turn().await;
            if stage.relay.is_some() {
                assert_eq!(stage.inject(NEWS), Err(Injection::Ended), "{name}");
            }
            let (heard, _) = stage.client.hear_all();
            assert!(!heard.windows(NEWS.len()).any(|window| window == NEWS), "{name}: {heard:x?}");
            stage.upstream.leave();
            stage.client.leave();
            stage.lasts(secs(60)).await;
            assert_eq!(stage.inject(NEWS), Err(Injection::Ended), "{name}");
            assert_eq!(stage.injections("ended"), u64::from(waits), "{name}");
            assert_eq!(stage.injections("ok"), 0, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn together_with_a_drains_command_both_are_heard() {
    for command_first in [true, false] {
        let mut stage = Stage::open(BARE).await;
        let at = Instant::now() + secs(10);
        let command = Command::CloseAt { at, code: CloseCode(1012) };
        if command_first {
            stage.command(command);
        }
        stage.inject(NEWS).unwrap();
        if !command_first {
            stage.command(command);
        }
        stage.turn().await;
        assert_eq!(stage.client.hear(), NEWS);
        // A server that stops early does not close the clients; they can still be told something.
        stage.upstream.say(&close(1012, false));
        stage.turn().await;
        stage.inject(NEWS).unwrap();
        stage.turn().await;
        assert_eq!(stage.client.hear(), NEWS);
        stage.pass(secs(10)).await;
        assert_eq!(close_code(&stage.client.hear()), 1012);
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_no_sign_of_life() {
    let mut stage = Stage::open("policy: { heartbeat: null, idle_timeout: 60s }").await;
    for _ in 0..5 {
        stage.pass(secs(10)).await;
        stage.inject(NEWS).unwrap();
        stage.turn().await;
        assert_eq!(stage.client.hear(), NEWS);
    }
    stage.pass_until(secs(60)).await;
    assert_eq!(close_code(&stage.client.hear()), 1001);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_in_the_budget_of_all_until_it_has_left() {
    let mut stage = Stage::narrow(BARE).await;
    let message = frame(0x82, &[7; FLOOD], false);
    let said = stage.pour(Which::Upstream, &message).await;
    assert!(said < message.len());
    let held = stage.relay().client.buffered() + stage.relay().upstream.buffered();
    assert!(held > 0);
    assert_eq!(stage.budget.used(), held);
    // A part of it leaves.
    stage.client.hear();
    stage.turn().await;
    assert_eq!(stage.budget.used(), stage.relay().client.buffered() + stage.relay().upstream.buffered());
    stage.drink(Which::Client).await;
    assert_eq!(stage.budget.used(), 0);
    stage.pour(Which::Upstream, &message[said..]).await;
    assert!(stage.budget.used() > 0);
    // Dropped in the middle, as at the end of the process.
    stage.relay = None;
    assert_eq!(stage.budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn where_memory_is_used_up_an_isolated_client_that_asks_for_more_is_closed() {
    const ISOLATED: &str = "policy: { heartbeat: null, idle_timeout: 0s, \
         delivery: { on_stall: isolate, max_lag: { bytes: 1MiB } } }";
    let message = frame(0x82, &[7; 1000], false);
    let props =
        || Props { settings: ISOLATED, buffers: Some(SMALL), memory: Some(10_000), ..Props::default() };
    let mut stage = Stage::with(props()).await;
    stage.flood(Which::Upstream, &message, 400).await;
    assert!(stage.relay().ending.is_some());
    assert!(stage.budget.used() < 10_000 + 2 * message.len(), "{}", stage.budget.used());
    assert_eq!(close_code(&stage.drink(Which::Client).await), 1013);
    stage.client.leave();
    stage.upstream.leave();
    stage.turn().await;
    assert_eq!(stage.reason(), "slow_consumer");
    assert_eq!(stage.budget.used(), 0);

    // Others have taken it all: who reads notices nothing, who does not read goes with the first byte.
    let mut stage = Stage::with(props()).await;
    stage.budget.add(20_000);
    for _ in 0..400 {
        stage.upstream.say(&message);
        assert_eq!(stage.drink(Which::Client).await, message);
    }
    assert!(stage.relay().ending.is_none());
    stage.flood(Which::Upstream, &message, 400).await;
    assert!(stage.relay().ending.is_some());
}

#[tokio::test(start_paused = true)]
async fn where_memory_is_used_up_a_client_that_makes_its_server_wait_stays() {
    let mut stage =
        Stage::with(Props { settings: BARE, buffers: Some(SMALL), memory: Some(0), ..Props::default() })
            .await;
    let message = frame(0x82, &[7; 1000], false);
    let said = stage.flood(Which::Upstream, &message, 400).await;
    assert!(stage.relay().ending.is_none() && said < 400);
    assert_eq!(stage.drink(Which::Client).await, message.repeat(said));
}
