//! A client that does not read: its link is closed, or its server waits; nobody else notices either.

use std::time::Duration;

use crate::support::DEADLINE;
use crate::support::link::{End, Message, Received};
use crate::support::session::{Death, Session, said};
use crate::support::wait::eventually;
use crate::support::wire::{self, Frame, Role};

const SMALL: &str = "max_lag: {messages: 50, bytes: 64KiB}";

/// A session whose client has little room in its kernel, and reads nothing.
async fn unread(policy: &str) -> Session {
    let mut session = Session::shaped(policy, |dial| dial.receive_buffer(4096), |proxy| proxy).await;
    session.works().await;
    session.client.stop_reading();
    session
}

#[tokio::test]
async fn by_default_a_client_that_takes_nothing_is_closed_soon_and_what_is_kept_for_it_is_bounded() {
    let mut session = unread(&format!("delivery: {{{SMALL}}}, close_timeout: 300ms")).await;
    let (mut other, mut others_server) =
        (session.proxy.connect("/other").await, session.upstream.accept().await);
    let frame = Frame::binary(vec![1; 16 * 1024]).encode(Role::Server);
    let mut said_bytes = 0;
    while session.proxy.session_ends("slow").await == 0.0 {
        assert!(said_bytes < 64 << 20, "{said_bytes} bytes are kept for a client that does not read");
        // It is closed in the middle of this.
        if session.server().try_send_bytes(&frame).await.is_err() {
            break;
        }
        said_bytes += frame.len();
        others_server.text("for the other").await;
        other.expect_text("for the other").await;
    }
    let closed = session.server().closed().await;
    assert_eq!(said(&closed), (1001, "slow consumer", End::Eof));
    session.client.resume_reading();
    let mut close = None;
    while let Received::Frame(frame) = session.client.receive().await {
        if frame.opcode == wire::CLOSE {
            close = Some(frame.close_status());
        }
    }
    // What its kernel had no room for is not told either.
    assert!(close.is_none_or(|close| close == (1013, "slow consumer".to_owned())));
    let slow = "outrigger_disconnections_total{reason=\"slow_consumer\",route=\"chat\"}";
    assert_eq!(session.proxy.metric(slow).await, 1.0);
    session.proxy.attached(1.0).await;
}

#[tokio::test]
async fn with_backpressure_the_server_waits_and_nothing_is_lost() {
    let policy = format!("delivery: {{on_stall: backpressure, {SMALL}}}");
    let mut session = unread(&policy).await;
    let message = vec![3; 8 * 1024];
    let frame = Frame::binary(&message);
    let server = session.server();
    let taken = server.fill_until_blocked(&frame, Duration::from_millis(400), 64 << 20).await;
    let whole = taken.div_ceil(frame.encode(Role::Server).len());
    let held = session.proxy.metric("outrigger_buffered_bytes").await
        + session.proxy.metrics().await.sum("outrigger_history_bytes");
    assert!(held < 1_000_000.0, "{held} bytes are held");
    session.client.resume_reading();
    let (client, server) = session.ends();
    let finish = async {
        server.try_send_bytes(b"").await.expect("it is read on");
        server.text("the end").await;
    };
    let reading = async {
        for _ in 0..whole {
            client.expect_binary(&message).await;
        }
        // One more was begun where the kernel's room ended between two.
        match client.next_message().await {
            Message::Text(text) => assert_eq!(text, "the end"),
            Message::Binary(bytes) => {
                assert_eq!(bytes, message);
                client.expect_text("the end").await;
            }
        }
    };
    tokio::join!(finish, reading);
    session.works().await;
    assert_eq!(session.proxy.chat("messages_missed_total").await, 0.0);
}

#[tokio::test]
async fn a_client_that_takes_nothing_for_too_long_is_closed_in_either_mode() {
    for mode in ["isolate", "backpressure"] {
        let lag = "max_lag: {messages: 100000, bytes: 64MiB}, stall_timeout: 400ms";
        let policy = format!("delivery: {{on_stall: {mode}, {lag}}}, close_timeout: 300ms");
        let mut session = unread(&policy).await;
        let frame = Frame::binary(vec![1; 16 * 1024]).encode(Role::Server);
        let held = async |session: &Session| {
            let metrics = session.proxy.metrics().await;
            metrics.sum("outrigger_buffered_bytes") + metrics.sum("outrigger_history_bytes")
        };
        while held(&session).await < 100_000.0 {
            session.server().send_bytes(&frame).await;
        }
        let closed = session.server().closed().await;
        assert_eq!(said(&closed), (1001, "slow consumer", End::Eof), "{mode}");
        session.is_over("slow", "slow_consumer").await;
    }
}

#[tokio::test]
async fn a_slow_client_that_reads_on_in_time_gets_everything_across_the_death_of_its_server() {
    let policy = "delivery: {max_lag: {messages: 100000, bytes: 64MiB}}";
    let mut session = unread(policy).await;
    let mut said_by_all = 0_u32;
    for _ in 0..3 {
        for _ in 0..100 {
            let message = [&said_by_all.to_be_bytes()[..], &[0; 8 * 1024]].concat();
            session.server().binary(&message).await;
            said_by_all += 1;
        }
        // What it has said is here, or on the way: none of it may be lost with the server.
        session.die(Death::Fin).await;
        session.next_link().await;
    }
    session.client.resume_reading();
    for n in 0..said_by_all {
        let Message::Binary(bytes) = session.client.next_message().await else { panic!("bytes are due") };
        assert_eq!(u32::from_be_bytes(*bytes.first_chunk().unwrap()), n);
    }
    session.works().await;
    session.proves().await;
    eventually(DEADLINE, || async {
        let metrics = session.proxy.metrics().await;
        metrics.get("outrigger_buffered_bytes") == Some(0.0)
    })
    .await;
}
