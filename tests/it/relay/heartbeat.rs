//! The proxy's own heartbeats: what they look like, what counts as life, what nobody else gets to see,
//! and what neither a slow server nor a slow client can make of them.

use std::time::Duration;

use crate::support::DEADLINE;
use crate::support::link::{Closed, End, Link, Received};
use crate::support::pair::Pair;
use crate::support::upstream::{Answer, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{self, CONTINUATION, Frame, Role};
use tokio::time::Instant;

/// Pings often, and is patient with whoever answers late.
const OFTEN: &str = "policy: {heartbeat: {interval: 50ms, timeout: 5s}}";
const OFTEN_IN_JSON: &str = "policy: {heartbeat: {mode: json, interval: 50ms, timeout: 5s}}";

const JSON_PING: &str = r#"{"type":"heartbeat"}"#;
const JSON_PONG: &str = r#"{"type":"pong"}"#;

fn said(closed: &Closed) -> (u16, &str, End) {
    (closed.code, &closed.reason, closed.then)
}

async fn next_ping(link: &mut Link) -> Vec<u8> {
    let frame = link.next_frame().await;
    assert_eq!((frame.opcode, frame.payload.len()), (wire::PING, 12), "{frame:?}");
    frame.payload
}

/// The next frame of all is this text: nothing was passed on before it.
async fn next_is(link: &mut Link, text: &str) {
    let frame = link.next_frame().await;
    assert_eq!((frame.opcode, &frame.payload[..]), (wire::TEXT, text.as_bytes()), "{frame:?}");
}

/// The proxy must say that so many round trips were measured.
async fn measures(pair: &Pair, round_trips: usize) {
    let measured = || async {
        let count = pair.proxy.metric("outrigger_heartbeat_rtt_seconds_count").await;
        if count == round_trips as f64 { Ok(()) } else { Err(count) }
    };
    eventually(DEADLINE, measured).await;
}

// ---- ping frames

#[tokio::test]
async fn a_client_is_pinged_at_each_interval_and_its_pongs_go_no_further() {
    let mut pair = Pair::open(OFTEN).await;
    let since = Instant::now();
    let mut payloads = Vec::new();
    for _ in 0..5 {
        let payload = next_ping(&mut pair.client).await;
        pair.client.send_frame(&Frame::pong(&payload)).await;
        payloads.push(payload);
    }
    assert!(since.elapsed() >= Duration::from_millis(200), "five pings in {:?}", since.elapsed());
    for (number, payload) in (1_u32..).zip(&payloads) {
        assert_eq!(payload[..8], payloads[0][..8], "the connection's nonce");
        assert_eq!(payload[8..], number.to_be_bytes());
    }
    pair.client.text("end").await;
    next_is(&mut pair.server, "end").await;
    measures(&pair, 5).await;
    assert_eq!(pair.proxy.metric("outrigger_heartbeat_missed_total").await, 0.0);
    // Neither ping nor pong is a message, and none of it was passed on.
    let bytes = Frame::text("end").encode(Role::Client).len();
    assert_eq!(pair.proxy.metric("outrigger_bytes_in_total").await, bytes as f64);
    assert_eq!(pair.proxy.metric("outrigger_messages_out_total").await, 0.0);
}

#[tokio::test]
async fn two_connections_are_pinged_with_different_payloads() {
    let mut pair = Pair::open(OFTEN).await;
    let (mut other, _server) = pair.another().await;
    let (one, two) = (next_ping(&mut pair.client).await, next_ping(&mut other).await);
    assert_ne!(one[..8], two[..8]);
    // The other's payload is nobody's here: it passes.
    pair.client.send_frame(&Frame::pong(&two)).await;
    pair.server.expect_pong(&two).await;
}

#[tokio::test]
async fn pongs_that_are_not_ours_pass() {
    let mut pair = Pair::open(OFTEN).await;
    let ours = next_ping(&mut pair.client).await;
    let from_the_future = [&ours[..8], &1_000_000_u32.to_be_bytes()].concat();
    let number_zero = [&ours[..8], &[0; 4]].concat();
    for payload in [&b""[..], b"x", &[0; 12], &[0; 125], &ours[..11], &from_the_future, &number_zero] {
        pair.client.send_frame(&Frame::pong(payload)).await;
        pair.server.expect_pong(payload).await;
    }
    measures(&pair, 0).await;
}

#[tokio::test]
async fn a_pong_that_comes_late_is_recognised_all_the_same() {
    let mut pair = Pair::open("policy: {heartbeat: {interval: 50ms, timeout: 50ms, max_missed: 1000}}").await;
    let mut payloads = Vec::new();
    for _ in 0..10 {
        payloads.push(next_ping(&mut pair.client).await);
    }
    // Oldest, newest, in between, and each of them twice.
    for index in [0, 0, 9, 9, 5, 5] {
        pair.client.send_frame(&Frame::pong(&payloads[index])).await;
    }
    pair.client.text("end").await;
    next_is(&mut pair.server, "end").await;
    assert!(pair.proxy.metric("outrigger_heartbeat_missed_total").await >= 9.0);
}

#[tokio::test]
async fn so_many_misses_in_a_row_end_it_and_no_fewer() {
    for max_missed in [1, 3] {
        let yaml =
            format!("policy: {{heartbeat: {{interval: 200ms, timeout: 100ms, max_missed: {max_missed}}}}}");
        let mut pair = Pair::open(&yaml).await;
        let since = Instant::now();
        let client = pair.client.closed_unanswered().await;
        assert_eq!((client.code, &*client.reason), (1001, "heartbeat timeout"));
        assert_eq!(
            client.before.iter().map(|frame| frame.opcode).collect::<Vec<_>>(),
            vec![wire::PING; max_missed]
        );
        let least = Duration::from_millis(190 + 100 * max_missed as u64);
        assert!(since.elapsed() >= least, "ended after {:?}", since.elapsed());
        assert_eq!(pair.proxy.metric("outrigger_heartbeat_missed_total").await, max_missed as f64);
    }
}

#[tokio::test]
async fn a_pong_lets_the_count_of_misses_begin_anew() {
    let mut pair = Pair::open("policy: {heartbeat: {interval: 50ms, timeout: 500ms, max_missed: 2}}").await;
    for _ in 0..3 {
        let missed = next_ping(&mut pair.client).await;
        let since = Instant::now();
        let answered = next_ping(&mut pair.client).await;
        assert_ne!(missed, answered);
        assert!(since.elapsed() > Duration::from_millis(300), "the next one comes with the miss");
        pair.client.send_frame(&Frame::pong(&answered)).await;
    }
    pair.client.text("still here").await;
    pair.server.expect_text("still here").await;
    assert_eq!(pair.proxy.metric("outrigger_heartbeat_missed_total").await, 3.0);
}

#[tokio::test]
async fn anything_a_client_says_counts_as_life() {
    let mut pair = Pair::open("policy: {heartbeat: {interval: 50ms, timeout: 700ms, max_missed: 1}}").await;
    let half = Frame::text("in two halves").encode(Role::Client);
    for sign in [Frame::ping("app").encode(Role::Client), half[..7].to_vec(), half[7..].to_vec()] {
        next_ping(&mut pair.client).await;
        pair.client.send_bytes(&sign).await;
    }
    next_ping(&mut pair.client).await;
    assert_eq!(pair.proxy.metric("outrigger_heartbeat_missed_total").await, 0.0);
    assert_eq!(pair.server.next_frame().await.payload, b"app");
    pair.server.expect_text("in two halves").await;
}

#[tokio::test]
async fn what_the_server_says_does_not_keep_a_dead_client_alive() {
    let mut pair = Pair::open("policy: {heartbeat: {interval: 50ms, timeout: 100ms, max_missed: 2}}").await;
    let until = Instant::now() + DEADLINE;
    let closed = loop {
        assert!(Instant::now() < until, "the dead client is still there");
        pair.server.text("tick").await;
        match pair.server.receive_within(Duration::from_millis(10)).await {
            Some(Received::Frame(frame)) => break frame,
            Some(Received::End(end)) => panic!("{end:?} without a Close"),
            None => {}
        }
    };
    assert_eq!(closed.close_status(), (1001, "client heartbeat timeout".to_owned()));
}

#[tokio::test]
async fn a_ping_never_goes_into_a_frame_but_between_fragments_it_does() {
    let mut pair = Pair::open(OFTEN).await;
    let message = Frame::binary([0x5a; 5000]).encode(Role::Server);
    pair.server.send_bytes(&message[..2500]).await;
    // Time for several pings. What comes of them here is in the frame, or in front of it.
    let early = pair.client.peek_for(Duration::from_millis(250)).await;
    assert!(early.ends_with(&message[..2500]), "a ping within the frame");
    pair.server.send_bytes(&message[2500..]).await;
    let mut frame = pair.client.next_frame().await;
    while frame.opcode == wire::PING {
        frame = pair.client.next_frame().await;
    }
    assert_eq!(frame.payload, [0x5a; 5000]);
    let payload = next_ping(&mut pair.client).await;
    pair.client.send_frame(&Frame::pong(payload)).await;

    let [first, last] = Frame::fragments(wire::TEXT, &[b"be", b"gun"]).try_into().expect("two parts");
    pair.server.send_frame(&first).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&wire::PING) || !seen.contains(&wire::TEXT) {
        let frame = pair.client.next_frame().await;
        seen.push(frame.opcode);
        if frame.opcode == wire::PING {
            pair.client.send_frame(&Frame::pong(frame.payload)).await;
        }
    }
    pair.server.send_frame(&last).await;
    let mut frame = pair.client.next_frame().await;
    while frame.opcode == wire::PING {
        frame = pair.client.next_frame().await;
    }
    assert_eq!((frame.opcode, frame.as_text()), (CONTINUATION, "gun"));
}

/// A client may answer the newest ping only (RFC 6455 §5.5.3): it must not be the server's that is skipped.
#[tokio::test]
async fn while_a_ping_of_the_servers_is_unanswered_there_is_none_of_ours() {
    let mut pair = Pair::open("policy: {heartbeat: {interval: 200ms, timeout: 5s}}").await;
    pair.server.ping(b"app").await;
    let mut frame = pair.client.next_frame().await;
    while frame.payload != b"app" {
        pair.client.send_frame(&Frame::pong(&frame.payload)).await;
        frame = pair.client.next_frame().await;
    }
    pair.client.expect_silence(Duration::from_millis(700)).await;
    pair.client.send_frame(&Frame::pong(&frame.payload)).await;
    pair.server.expect_pong(b"app").await;
    next_ping(&mut pair.client).await;
}

#[tokio::test]
async fn a_ping_of_the_servers_that_is_never_answered_holds_ours_back_for_one_timeout_only() {
    let mut pair = Pair::open("policy: {heartbeat: {interval: 100ms, timeout: 200ms, max_missed: 1}}").await;
    pair.server.ping(b"app").await;
    let client = pair.client.closed_unanswered().await;
    assert_eq!((client.code, &*client.reason), (1001, "heartbeat timeout"), "{client:?}");
}

#[tokio::test]
async fn there_are_none_where_they_are_off() {
    for yaml in ["policy: {heartbeat: {mode: off, interval: 50ms}}", "policy: {heartbeat: null}"] {
        let mut pair = Pair::open(yaml).await;
        pair.client.expect_silence(Duration::from_millis(300)).await;
        // Every pong is somebody else's then.
        pair.client.send_frame(&Frame::pong([7; 12])).await;
        pair.server.expect_pong(&[7; 12]).await;
    }
}

// ---- JSON

#[tokio::test]
async fn a_client_that_cannot_see_pings_is_asked_in_json_and_the_upstream_never_hears_of_it() {
    let mut pair = Pair::open(OFTEN_IN_JSON).await;
    let pongs = [JSON_PONG, "{ \"type\" : \"pong\" }", "\n{\"type\":\"pong\"}\r\n", "{\t\"type\":\"pong\"}"];
    for pong in pongs {
        let frame = pair.client.next_frame().await;
        assert_eq!((frame.opcode, frame.fin, frame.as_text()), (wire::TEXT, true, JSON_PING));
        pair.client.text(pong).await;
    }
    measures(&pair, pongs.len()).await;
    // Said unasked, and in segments of one byte.
    pair.client.send_in_single_bytes(&Frame::text(JSON_PONG).encode(Role::Client)).await;
    pair.client.text("end").await;
    next_is(&mut pair.server, "end").await;
    assert_eq!(pair.proxy.metric("outrigger_messages_in_total").await, 1.0, "a pong is no message");
}

#[tokio::test]
async fn what_only_resembles_a_json_pong_passes() {
    let mut pair = Pair::open(OFTEN_IN_JSON).await;
    let long = format!("{{\"type\":{}\"pong\"}}", " ".repeat(200));
    let mut frames = Vec::new();
    for text in [r#"{"type":"pong","id":1}"#, r#"{"type":"ping"}"#, JSON_PING, "pong", "", "{", &long] {
        frames.push(Frame::text(text));
    }
    frames.push(Frame::binary(JSON_PONG));
    frames.extend(Frame::fragments(wire::TEXT, &[b"{\"type\":", b"\"pong\"}"]));
    // Ping and pong frames are the application's alone here, even one that looks like ours elsewhere.
    frames.extend([Frame::ping("app"), Frame::pong([0; 12])]);
    for frame in frames {
        pair.client.send_frame(&frame).await;
        let came = pair.server.next_frame().await;
        assert_eq!((came.opcode, came.fin, &came.payload), (frame.opcode, frame.fin, &frame.payload));
    }
    measures(&pair, 0).await;
}

#[tokio::test]
async fn a_server_may_say_what_it_likes_where_clients_are_asked_in_json() {
    let mut pair = Pair::open("policy: {heartbeat: {mode: json, interval: 1h}}").await;
    for text in [JSON_PONG, JSON_PING] {
        pair.server.text(text).await;
        pair.client.expect_text(text).await;
    }
}

#[tokio::test]
async fn compression_is_not_offered_where_texts_are_looked_into() {
    let upstream = Upstream::builder().answering(Answer::Accept);
    let offer = "permessage-deflate; client_max_window_bits";
    let pair = Pair::shaped(OFTEN_IN_JSON, upstream, |dial| dial.header("Sec-WebSocket-Extensions", offer));
    let mut pair = pair.await;
    assert_eq!(pair.server.request.head.header("Sec-WebSocket-Extensions"), None);
    assert_eq!(pair.client.response.header("Sec-WebSocket-Extensions"), None);
    // So compressed frames are an offence.
    pair.client.send_frame(&Frame::text("x").rsv(wire::RSV1)).await;
    assert_eq!(pair.server.closed().await.code, 1002);
}

#[tokio::test]
async fn a_json_heartbeat_waits_for_the_end_of_a_message() {
    let mut pair = Pair::open(OFTEN_IN_JSON).await;
    let [first, last] = Frame::fragments(wire::TEXT, &[b"be", b"gun"]).try_into().expect("two parts");
    pair.server.send_frame(&first).await;
    let mut frame = pair.client.next_frame().await;
    while frame.fin {
        pair.client.text(JSON_PONG).await;
        frame = pair.client.next_frame().await;
    }
    pair.client.expect_silence(Duration::from_millis(250)).await;
    pair.server.send_frame(&last).await;
    assert_eq!(pair.client.next_frame().await.opcode, CONTINUATION);
    assert_eq!(pair.client.next_frame().await.as_text(), JSON_PING);
}

#[tokio::test]
async fn a_client_that_answers_no_json_is_cut() {
    let yaml = "policy: {heartbeat: {mode: json, interval: 100ms, timeout: 100ms, max_missed: 2}}";
    let mut pair = Pair::open(yaml).await;
    let (client, server) = tokio::join!(pair.client.closed_unanswered(), pair.server.closed());
    assert_eq!((client.code, &*client.reason), (1001, "heartbeat timeout"));
    assert_eq!(client.before.iter().map(|frame| frame.as_text()).collect::<Vec<_>>(), [JSON_PING; 2]);
    assert_eq!(said(&server), (1001, "client heartbeat timeout", End::Eof));
    pair.tells("heartbeat_timeout", Some(("proxy", "1001"))).await;
}

// ---- the upstream's

#[tokio::test]
async fn a_server_is_pinged_too_where_that_is_asked_for_and_its_client_sees_nothing_of_it() {
    let mut pair = Pair::open("upstream: {heartbeat: {interval: 50ms, timeout: 5s}}").await;
    for _ in 0..4 {
        let ping = pair.server.next_frame().await;
        assert_eq!((ping.opcode, ping.is_masked(), ping.payload.len()), (wire::PING, true, 12));
        pair.server.send_frame(&Frame::pong(ping.payload)).await;
    }
    measures(&pair, 4).await;
    pair.server.send_frame(&Frame::pong("foreign")).await;
    pair.client.expect_pong(b"foreign").await;
}

// ---- idleness

#[tokio::test]
async fn answered_heartbeats_keep_an_idle_client_unless_only_messages_count() {
    let mut pair = Pair::open("policy: {heartbeat: {interval: 100ms, timeout: 5s}, idle_timeout: 2s}").await;
    let pings = pair.client.answer_pings_for(Duration::from_millis(3500)).await;
    assert!(pings >= 3, "{pings}");
    pair.server.text("still here").await;
    pair.client.expect_text("still here").await;

    let yaml =
        "policy: {heartbeat: {interval: 50ms, timeout: 5s}, idle_timeout: 2s, idle_activity: messages}";
    let mut pair = Pair::open(yaml).await;
    let until = Instant::now() + DEADLINE;
    let mut answered = 0;
    loop {
        assert!(Instant::now() < until, "it is never idle");
        let frame = pair.client.next_frame().await;
        if frame.opcode == wire::CLOSE {
            assert_eq!(frame.close_status(), (1001, "idle timeout".to_owned()));
            break;
        }
        // Neither pongs nor the application's own pings are messages.
        answered += 1;
        pair.client.send_frame(&Frame::pong(&frame.payload)).await;
        pair.client.ping(b"app").await;
    }
    assert!(answered >= 2, "{answered}");
    pair.client.close(1001, "").await;
    assert_eq!(pair.server.closed().await.code, 1001);
    pair.tells("idle_timeout", Some(("proxy", "1001"))).await;
}

#[tokio::test]
async fn messages_of_either_side_keep_a_connection_where_only_they_count() {
    let yaml = "policy: {idle_timeout: 2s, idle_activity: messages}";
    let mut pair = Pair::open(yaml).await;
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(3500) {
        pair.client.text("up").await;
        pair.server.expect_text("up").await;
        pair.client.expect_silence(Duration::from_millis(200)).await;
        pair.server.text("down").await;
        pair.client.expect_text("down").await;
        pair.client.expect_silence(Duration::from_millis(200)).await;
    }
    let (client, _) = tokio::join!(pair.client.closed(), pair.server.closed());
    assert_eq!(said(&client), (1001, "idle timeout", End::Eof));
}

// ---- clocks stand still

#[tokio::test]
async fn a_slow_upstream_does_not_kill_its_healthy_client() {
    let yaml = "policy: {heartbeat: {interval: 100ms, timeout: 300ms, max_missed: 2}, idle_timeout: 1s}";
    let mut pair = Pair::open(yaml).await;
    let sent = pair.block_the_upstream().await;
    // Much longer than both clocks allow; the pongs said meanwhile wait behind what nobody reads.
    pair.client.answer_pings_for(Duration::from_millis(2500)).await;
    assert_eq!(pair.proxy.metric("outrigger_clients{route=\"default\"}").await, 1.0);
    pair.server.resume_reading();
    for _ in 0..sent {
        pair.server.expect_binary(&[0; 16 * 1024]).await;
    }
    pair.client.text("at last").await;
    pair.server.expect_text("at last").await;
}

#[tokio::test]
async fn a_slow_client_does_not_kill_its_healthy_upstream() {
    let yaml = "upstream: {heartbeat: {interval: 100ms, timeout: 300ms, max_missed: 2}}";
    let mut pair = Pair::shaped(yaml, Upstream::builder(), |dial| dial.receive_buffer(16 * 1024)).await;
    pair.client.stop_reading();
    let frame = Frame::binary([0; 16 * 1024]);
    let taken = pair.server.fill_until_blocked(&frame, Duration::from_millis(2000), 64 << 20).await;
    assert_eq!(pair.proxy.metric("outrigger_clients{route=\"default\"}").await, 1.0);
    pair.client.resume_reading();
    let (server, client) = (&mut pair.server, &mut pair.client);
    let last = async {
        server.text("at last").await;
        server.answer_pings_for(Duration::from_millis(500)).await
    };
    let read = async {
        let mut whole = 0;
        loop {
            let frame = client.next_frame().await;
            if frame.opcode == wire::TEXT {
                return whole;
            }
            whole += frame.payload.len();
        }
    };
    let (_, whole) = tokio::join!(last, read);
    assert!(whole >= taken / (16 * 1024 + 4) * (16 * 1024), "{whole} of {taken} bytes came");
}
