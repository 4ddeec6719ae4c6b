//! When the relay is woken, when it is not, and what it owns meanwhile.

use tokio::task::coop::consume_budget;

use super::*;
use crate::frame::CloseCode;
use crate::net::scratch::READ;
use crate::tunnel::pings::PingScheduler;
use crate::tunnel::relay::{POLL_BUDGET, POLL_FRAMES};

const BARE: &str = "policy: { heartbeat: null, idle_timeout: 0s }";

#[tokio::test(start_paused = true)]
async fn an_idle_relay_is_polled_for_its_heartbeats_alone_and_owns_no_buffer() {
    let mut stage =
        Stage::open("policy: { heartbeat: { interval: 30s, timeout: 10s }, idle_timeout: 0s }").await;
    let before = stage.polls;
    for _ in 0..10 {
        stage.pass(secs(30)).await;
        let ping = frames(&stage.client.hear()).remove(0);
        stage.client.say(&frame(0x8a, &ping.1, true));
        stage.turn().await;
    }
    // One poll for the timer, one for the pong, and none for a deadline that has long moved on.
    let polls = stage.polls - before;
    assert!(polls <= 10 * 3, "{polls} polls for 10 heartbeats");
    for link in [&stage.relay().client, &stage.relay().upstream] {
        assert_eq!((link.egress.capacity(), link.held_capacity()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_full_socket_did_not_take_leaves_no_memory_behind() {
    let mut stage = Stage::narrow(BARE).await;
    let message = frame(0x82, &[7; FLOOD], false);
    let mut said = stage.pour(Which::Upstream, &message).await;
    assert!(said < message.len() && !stage.relay().client.egress.is_empty(), "{said}");
    let mut heard = Vec::new();
    while heard.len() < message.len() {
        heard.extend(stage.client.hear());
        stage.turn().await;
        said += stage.upstream.try_say(&message[said..]);
        stage.turn().await;
    }
    assert_eq!(heard, message);
    assert_eq!(stage.relay().client.egress.capacity(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_poll_of_a_greedy_sender_moves_no_more_than_its_budget() {
    let mut stage =
        Stage::with(Props { settings: BARE, buffers: Some(1024 * 1024), ..Props::default() }).await;
    // As much as the kernel holds for one socket, in small messages.
    let messages = frame(0x82, &[7; 1000], false).repeat(2000);
    let said = stage.upstream.try_say(&messages);
    assert!(said > POLL_BUDGET + READ, "the kernel took {said} bytes");
    let (mut polls, mut heard) = (0, 0);
    for round in 0.. {
        if heard == said {
            break;
        }
        assert!(round < SPINS, "{heard} of {said} bytes came");
        tokio::task::yield_now().await;
        if !stage.poll() {
            continue;
        }
        polls += 1;
        let more = stage.client.hear().len();
        assert!(more <= POLL_BUDGET + READ, "{more} bytes at once");
        heard += more;
    }
    assert!(polls >= said / (POLL_BUDGET + READ), "{polls} polls");
}

#[tokio::test(start_paused = true)]
async fn one_poll_opens_no_more_tls_records_than_it_may_move_frames() {
    let mut stage = Stage::with(Props {
        settings: BARE,
        buffers: Some(1024 * 1024),
        tls: [true, false],
        ..Props::default()
    })
    .await;
    let message = frame(0x82, &[7; 20_000], true);
    let End { socket, tls, .. } = &mut stage.client;
    tls.as_mut().unwrap().say_each(socket.as_mut().unwrap(), &message);
    // The shortest record that holds anything: five bytes of header, the kind of what it holds, the tag.
    let most = POLL_FRAMES as usize + READ / (5 + 1 + 1 + 16);
    let mut heard = 0;
    for round in 0.. {
        if heard == message.len() {
            break;
        }
        assert!(round < SPINS, "{heard} bytes came");
        tokio::task::yield_now().await;
        if stage.poll() {
            let more = stage.upstream.hear().len();
            assert!(more <= most, "{more} records at once");
            heard += more;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_with_the_handshakes_goes_on() {
    let props = Props {
        settings: BARE,
        early_client: b"\x81\x82\0\0\0\0hi\x81\x85\0\0\0",
        early_upstream: b"\x81\x05hello\x89",
        ..Props::default()
    };
    let mut stage = Stage::with(props).await;
    stage.client.say(b"\0there");
    stage.upstream.say(b"\0");
    stage.turn().await;
    assert_eq!(stage.upstream.hear(), b"\x81\x82\0\0\0\0hi\x81\x85\0\0\0\0there");
    assert_eq!(stage.client.hear(), b"\x81\x05hello\x89\0");
}

#[tokio::test(start_paused = true)]
async fn every_command_wakes_it_not_only_the_first() {
    let mut stage = Stage::open(BARE).await;
    for _ in 0..3 {
        let at = Instant::now() + secs(1000);
        stage.command(Command::CloseAt { at, code: CloseCode(1012) });
        stage.turn().await;
        assert_eq!(stage.relay().dates.next().unwrap(), at);
        stage.pass(secs(1)).await;
    }
    stage.command(Command::Cut);
    stage.turn().await;
    assert_eq!(stage.reason(), "drained");
}

#[tokio::test(start_paused = true)]
async fn a_timer_is_set_even_when_the_turn_of_the_task_is_over() {
    let mut stage = Stage::open("policy: { heartbeat: null, idle_timeout: 60s }").await;
    stage.pass(secs(10)).await;
    stage.client.say(&frame(0x81, b"x", true));
    stage.pass(secs(50) - millis(1)).await;
    tokio::time::advance(millis(1)).await;
    // The runtime's own budget for this task is used up: sockets and timers say Pending from here on.
    let mut cx = Context::from_waker(Waker::noop());
    while std::pin::pin!(consume_budget()).poll(&mut cx).is_ready() {}
    assert!(stage.poll(), "the timer fires, and has to be set anew");
    stage.turn().await;
    tokio::time::advance(secs(10)).await;
    stage.turn().await;
    assert!(stage.relay().ending.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_that_has_no_say_any_more_does_not_keep_it_awake() {
    let mut stage = Stage::open(
        "policy: { heartbeat: null, idle_timeout: 0s, limits: { message_rate: { rate: 1/s, burst: 1 } } }",
    )
    .await;
    stage.client.say(&frame(0x81, b"x", true).repeat(2));
    stage.turn().await;
    stage.upstream.leave();
    stage.turn().await;
    // The client is told; while it takes its time to answer, its next token comes and goes.
    assert_eq!(close_code(&stage.client.hear()), 1012);
    stage.pass(secs(4)).await;
    assert!(stage.relay.is_some());
}

#[tokio::test(start_paused = true)]
async fn wherever_the_turn_of_the_task_ends_it_is_woken_for_what_comes_next() {
    let mut cx = Context::from_waker(Waker::noop());
    let mut spend = || std::pin::pin!(consume_budget()).poll(&mut cx).is_ready();
    tokio::task::yield_now().await;
    let whole = (0..).take_while(|_| spend()).count();
    for left in 0..12 {
        let mut stage = Stage::open(BARE).await;
        stage.turn().await;
        for (from, masked) in [(Which::Client, true), (Which::Upstream, false)] {
            let message = frame(0x81, b"x", masked);
            let say = |stage: &mut Stage| match from {
                Which::Client => stage.client.say(&message),
                Which::Upstream => stage.upstream.say(&message),
            };
            say(&mut stage);
            tokio::task::yield_now().await;
            // One of the calls on the sockets finds nothing left, the last read that finds nothing among them.
            for _ in 0..whole - left {
                assert!(spend());
            }
            stage.poll();
            stage.turn().await;
            say(&mut stage);
            stage.turn().await;
            let heard = match from {
                Which::Client => stage.upstream.hear(),
                Which::Upstream => stage.client.hear(),
            };
            assert_eq!(heard, message.repeat(2), "{left} of {whole} left");
        }
    }
}

#[test]
fn an_idle_tunnel_fits_small_classes_of_the_allocator() {
    // The runtime adds 104 bytes to a task, which is 512 then. mio adds a word to each socket where it debugs.
    let debugs = if cfg!(debug_assertions) { 16 } else { 0 };
    let sizes = [("relay", size_of::<Relay>() - debugs, 408), ("pings", size_of::<PingScheduler>(), 112)];
    for (what, size, most) in sizes {
        assert!(size <= most, "{what}: {size}");
    }
}
