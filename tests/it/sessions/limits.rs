//! What a client may not do in a session, how fast it may do the rest, and whether it is alive.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::link::{End, Received};
use crate::support::session::{Death, Session, hears, said};
use crate::support::wire::{self, Frame, Length};

#[tokio::test]
async fn a_client_that_breaks_a_rule_is_told_and_its_server_too() {
    let too_long = vec![0; 5000];
    let cases: [(&str, Frame, u16, &str); 8] = [
        ("no mask", Frame::text("plain").unmasked(), 1002, "protocol_error"),
        ("a reserved bit", Frame::text("rsv").rsv(0b001), 1002, "protocol_error"),
        ("a reserved opcode", Frame::new(0xb, b""), 1002, "protocol_error"),
        ("a continuation of nothing", Frame::new(wire::CONTINUATION, b"x"), 1002, "protocol_error"),
        ("a fragmented ping", Frame::ping(b"x").not_final(), 1002, "protocol_error"),
        ("a length in too long a form", Frame::text("x").length(Length::U16), 1002, "protocol_error"),
        ("text that is none", Frame::new(wire::TEXT, b"\xff\xfe"), 1007, "protocol_error"),
        ("too large a message", Frame::binary(&too_long), 1009, "too_large"),
    ];
    for (what, frame, code, reason) in cases {
        let mut session = Session::open("max_message: 4000, max_frame: 4000").await;
        session.client.text("before").await;
        session.client.send_frame(&frame).await;
        session.server().expect_text("before").await;
        let (client, server) = session.closed().await;
        assert_eq!((client.code, client.then), (code, End::Eof), "{what}");
        assert!(server.before.iter().all(Frame::is_control), "{what}: nothing of it went on: {server:?}");
        assert_eq!(server.code, code, "{what}");
        session.is_over("fault", reason).await;
    }
}

#[tokio::test]
async fn a_client_that_breaks_a_rule_while_its_server_is_away_is_told_too() {
    let mut session = Session::open("").await;
    session.lose(Death::Reset).await;
    session.client.send_frame(&Frame::new(wire::TEXT, b"\xff\xfe")).await;
    let closed = session.client.closed().await;
    assert_eq!((closed.code, closed.then), (1007, End::Eof));
    session.is_over("fault", "protocol_error").await;
}

#[tokio::test]
async fn a_client_that_leaves_behind_its_rate_is_seen_to_have_gone_long_before_that_is_over() {
    // A debt of a quarter of an hour, of which the client is not read for the first minutes at the least.
    let policy = "limits: {message_rate: {rate: 1/s, burst: 1}}, close_timeout: 500ms";
    for is_reset in [false, true] {
        let mut session = Session::open(policy).await;
        let flood = Frame::text("x").encode(wire::Role::Client).repeat(1000);
        session.client.send_bytes(&flood).await;
        session.server().expect_text("x").await;
        let since = Instant::now();
        if is_reset {
            session.client.reset();
        } else {
            session.client.finish_writing().await;
        }
        session.proxy.is_over("client", "client_lost").await;
        eprintln!("reset: {is_reset}, seen after {:?}", since.elapsed());
    }
}

#[tokio::test]
async fn too_many_control_frames_end_it_and_never_reach_the_server() {
    let mut session = Session::open("").await;
    session.works().await;
    session.proves().await;
    let flood = Frame::pong(b"flood").encode(wire::Role::Client).repeat(5000);
    // It may be closed before all of it has gone.
    let _ = session.client.try_send_bytes(&flood).await;
    let (client, server) = session.closed().await;
    assert_eq!(said(&client), (1008, "too many control frames", client.then));
    assert_eq!(said(&server), (1001, "too many control frames", End::Eof));
    assert_eq!(server.before, [], "none of them went on");
    session.is_over("fault", "control_rate").await;
}

#[tokio::test]
async fn a_thousand_control_frames_at_once_are_no_attack() {
    let mut session = Session::open("").await;
    let some = Frame::pong(b"unasked").encode(wire::Role::Client).repeat(900);
    session.client.send_bytes(&some).await;
    session.works().await;
}

#[tokio::test]
async fn messages_beyond_the_rate_wait_and_none_is_lost() {
    let policy = "limits: {message_rate: {rate: 50/s, burst: 5}}";
    let mut session = Session::open(policy).await;
    let since = Instant::now();
    let texts = Vec::from_iter((0..30).map(|n| n.to_string()));
    for text in &texts {
        session.client.text(text).await;
    }
    hears(session.server(), &Vec::from_iter(texts.iter().map(String::as_str))).await;
    // What comes in one read goes on together; the next one waits for all of it.
    session.works().await;
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(450), "25 messages beyond the burst in {took:?}");
    assert_eq!(session.proxy.metrics().await.sum("outrigger_messages_lost_total"), 0.0);
}

#[tokio::test]
async fn a_client_that_answers_its_pings_stays_also_while_its_server_is_away() {
    let policy = "heartbeat: {interval: 50ms, timeout: 200ms, max_missed: 3}";
    let mut session = Session::open(policy).await;
    assert!(session.client.answer_pings_for(Duration::from_millis(400)).await >= 3);
    session.lose(Death::Reset).await;
    assert!(session.client.answer_pings_for(Duration::from_millis(800)).await >= 3);
    session.back().await;
    session.server().expect_silence(Duration::from_millis(50)).await;
    session.works().await;
}

#[tokio::test]
async fn a_client_that_answers_no_pings_is_gone_and_its_server_is_told() {
    let policy = "heartbeat: {interval: 50ms, timeout: 50ms, max_missed: 2}";
    let mut session = Session::open(policy).await;
    let closed = session.server().closed().await;
    assert_eq!(said(&closed), (1001, "client heartbeat timeout", End::Eof));
    let closed = session.client.closed_unanswered().await;
    assert_eq!((closed.code, &*closed.reason), (1001, "heartbeat timeout"));
    assert!(closed.before.iter().all(|frame| frame.opcode == wire::PING), "{closed:?}");
    session.is_over("client", "heartbeat_timeout").await;
}

#[tokio::test]
async fn a_heartbeat_in_json_is_between_the_client_and_the_proxy() {
    let policy = "heartbeat: {mode: json, interval: 50ms, timeout: 300ms, max_missed: 2}";
    let mut session = Session::open(policy).await;
    for _ in 0..10 {
        session.client.expect_text(r#"{"type":"heartbeat"}"#).await;
        session.client.text(r#"{"type":"pong"}"#).await;
    }
    session.server().expect_silence(Duration::from_millis(50)).await;
    assert_eq!(session.proxy.metric("outrigger_messages_in_total").await, 0.0, "they are no messages");
    session.client.text("hello").await;
    session.server().expect_text("hello").await;
    // It goes on while the server is away, and none of it waits for the next one.
    session.gives_its_receipt().await;
    session.lose(Death::Fin).await;
    for _ in 0..5 {
        session.client.expect_text(r#"{"type":"heartbeat"}"#).await;
        session.client.text(r#"{"type":"pong"}"#).await;
    }
    session.back().await;
    session.server().expect_silence(Duration::from_millis(50)).await;
    let closed = session.server().closed().await;
    assert_eq!(said(&closed), (1001, "client heartbeat timeout", End::Eof));
}

impl Session {
    /// The receipt for what was said last is given; what else comes is the client's to read.
    async fn gives_its_receipt(&mut self) {
        match self.server().receive().await {
            Received::Frame(frame) if frame.opcode == wire::PING => {
                self.server().send_frame(&Frame::pong(frame.payload)).await;
            }
            other => panic!("a receipt is asked for: {other:?}"),
        }
    }
}

/// Threat: frames that ask for an answer each, at full speed, while nothing is read.
#[tokio::test]
async fn threat_a_flood_of_pings_is_bounded_and_costs_its_sender_alone() {
    let mut session = Session::open("").await;
    let (mut other, mut others_server) = {
        let client = session.proxy.connect("/other").await;
        (client, session.upstream.accept().await)
    };
    session.client.stop_reading();
    let flood = Frame::ping([0; 125]).encode(wire::Role::Client).repeat(20_000);
    let _ = session.client.try_send_bytes(&flood).await;
    let closed = session.server().closed().await;
    assert_eq!(closed.code, 1001, "{closed:?}");
    assert!(session.proxy.metric("outrigger_memory_buffered_bytes").await < 300_000.0);
    other.text("hello").await;
    others_server.expect_text("hello").await;
}
