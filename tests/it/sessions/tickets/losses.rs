//! What is kept for a client that is away, for how long, and what follows beyond that.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::support::link::Message;
use crate::support::session::session;
use crate::support::ticket_client::{Cut, TicketClient};
use crate::support::ticketed::Ticketed;
use crate::support::upstream::Upstream;
use crate::support::wire::Frame;

#[tokio::test]
async fn a_session_is_held_for_its_window_and_no_longer() {
    let mut session = Ticketed::open("session: {resume_window: 700ms}").await;
    session.works().await;
    let since = Instant::now();
    session.lose_client(Cut::Reset).await;
    let closed = session.server().closed().await;
    assert_eq!((closed.code, &*closed.reason), (1001, "client did not come back"));
    let held = since.elapsed();
    assert!(held >= Duration::from_millis(690) && held < Duration::from_secs(4), "{held:?}");
    session.proxy.ends_sessions("window", 1.0).await;
    assert_eq!(session.proxy.resumes("expired").await, 1.0);
    let metrics = session.proxy.metrics().await;
    for left in
        ["outrigger_sessions", "outrigger_sessions_connected", "outrigger_history_bytes", "outrigger_clients"]
    {
        assert_eq!(metrics.sum(left), 0.0, "{left}");
    }
    // Each absence has a window of its own.
    let hello = session.client.begin_anew().await;
    assert_eq!(hello["previous"], json!({"received": 2, "why": "window"}));
    session.next_server().await;
    for _ in 0..3 {
        session.lose_client(Cut::Fin).await;
        tokio::time::sleep(Duration::from_millis(350)).await;
        session.client.resume().await;
        session.works().await;
    }
}

#[tokio::test]
async fn beyond_max_detached_the_one_that_has_been_away_for_longest_goes() {
    let upstream = Upstream::by_hand().await;
    let proxy = session(&upstream, "session: {max_detached: 2}").spawn().await;
    let mut sessions = Vec::new();
    for number in 0..4 {
        let mut client = TicketClient::new(proxy.dial());
        client.begin_anew().await;
        sessions.push((number, client, upstream.accept().await));
    }
    // Not in the order in which they began.
    for away in [2, 0, 3] {
        sessions[away].1.cut(Cut::Reset).await;
        let expected = 1.0 + f64::from(u8::from(away != 2));
        proxy.away(expected).await;
        if away == 3 {
            proxy.ends_sessions("evicted", 1.0).await;
        }
    }
    let closed = sessions[2].2.closed().await;
    assert_eq!((closed.code, &*closed.reason), (1001, "client did not come back"));
    let hello = sessions[2].1.begin_anew().await;
    assert_eq!(hello["previous"], json!({"received": 0, "why": "evicted"}));
    for stays in [0, 3] {
        let (_, client, server) = &mut sessions[stays];
        server.text("still here").await;
        client.resume().await;
        client.hears(&["still here"]).await;
    }
    // Whoever is attached takes no place among them.
    let (_, client, server) = &mut sessions[1];
    client.say("never away").await;
    server.expect_text("never away").await;
    assert_eq!(proxy.session_ends("evicted").await, 1.0);
}

#[tokio::test]
async fn more_than_the_history_holds_ends_a_session_whose_client_is_away() {
    for history in ["messages: 10", "messages: 1000, bytes: 1000"] {
        let mut session = Ticketed::open(&format!("history: {{{history}}}")).await;
        session.works().await;
        session.lose_client(Cut::Reset).await;
        // As much as may be, and it goes on.
        for _ in 0..10 {
            session.server().text("123456789012345678901234567890").await;
        }
        session.client.resume().await;
        for _ in 0..10 {
            session.client.next_message().await;
        }
        session.works().await;
        session.confirm().await;
        session.lose_client(Cut::Reset).await;
        for _ in 0..12 {
            session.server().binary(&[0; 100]).await;
        }
        let closed = session.server().closed().await;
        assert_eq!((closed.code, &*closed.reason), (1001, "slow consumer"), "{history}");
        session.proxy.ends_sessions("overflow", 1.0).await;
        let hello = session.client.begin_anew().await;
        assert_eq!(hello["previous"]["why"], "overflow");
    }
}

#[tokio::test]
async fn with_back_pressure_the_server_of_a_client_that_is_away_waits() {
    let policy = "history: {messages: 10}, delivery: {on_stall: backpressure}";
    let mut session = Ticketed::open(policy).await;
    session.works().await;
    session.lose_client(Cut::Reset).await;
    let frame = Frame::binary(vec![1; 64 << 10]);
    let taken = session.server().fill_until_blocked(&frame, Duration::from_millis(500), 64 << 20).await;
    let held = session.proxy.metrics().await.sum("outrigger_history_bytes");
    assert!(held < 3e6, "{held} bytes are held of {taken}");
    session.client.resume().await;
    // The server is read on.
    let (client, server) = session.ends();
    let finishing = server.text("the end");
    let mut heard = 0;
    let reading = async {
        loop {
            match client.next_message().await {
                Message::Binary(bytes) => heard += bytes.len(),
                Message::Text(text) => break assert_eq!(text, "the end"),
            }
        }
    };
    tokio::join!(finishing, reading);
    assert!(heard >= taken / 2, "{heard} of {taken}");
    session.works().await;
    assert_eq!(session.proxy.metrics().await.sum("outrigger_session_ends_total"), 0.0);
}

#[tokio::test]
async fn a_client_that_comes_and_never_reads_is_let_go_and_gets_all_of_it_when_it_comes_back() {
    let policy = "delivery: {max_lag: {messages: 100000, bytes: 1MiB}}, history: {messages: 100000, bytes: 64MiB}, \
                  close_timeout: 300ms";
    let mut session = Ticketed::open(policy).await;
    session.works().await;
    session.client.cut(Cut::Silence).await;
    let mut said = 0_u32;
    let slow = "outrigger_disconnections_total{reason=\"slow_consumer\",route=\"chat\"}";
    while session.proxy.metric(slow).await == 0.0 {
        for _ in 0..20 {
            session.server().binary(&[&said.to_be_bytes()[..], &[0; 16 << 10]].concat()).await;
            said += 1;
        }
        assert!(said < 10_000, "it is never let go");
    }
    session.proxy.away(1.0).await;
    session.client.resume().await;
    for number in 0..said {
        let Message::Binary(bytes) = session.client.next_message().await else { panic!("bytes are due") };
        assert_eq!(u32::from_be_bytes(*bytes.first_chunk().unwrap()), number);
    }
    session.works().await;
    assert_eq!(session.upstream.handshakes().len(), 1);
}

/// Threat: a client that connects and drops as fast as it can.
#[tokio::test]
async fn threat_connecting_and_dropping_holds_no_more_than_max_detached() {
    let upstream = Upstream::echo().await;
    let proxy = session(&upstream, "session: {max_detached: 10}, close_timeout: 300ms").spawn().await;
    let mut most = 0;
    for _ in 0..300 {
        let mut client = TicketClient::new(proxy.dial());
        if client.try_connect().await.is_ok() {
            client.cut(Cut::Reset).await;
        }
        most = most.max(upstream.open());
    }
    proxy.away(10.0).await;
    crate::support::wait::eventually(crate::support::DEADLINE, || async {
        let open = upstream.open();
        if open == 10 { Ok(()) } else { Err(open) }
    })
    .await;
    assert!(most <= 60, "{most} links to the server at once");
    assert_eq!(proxy.session_ends("evicted").await, 290.0);
}
