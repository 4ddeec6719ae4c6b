//! Clients that come while a feed speaks: from their 101 on they miss nothing, and get nothing twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::feed::feed;
use crate::support::http::switching;
use crate::support::link::Message;
use crate::support::upstream::{Answer, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{Frame, Role};

async fn number(client: &mut RawClient) -> u64 {
    match client.next_message().await {
        Message::Text(text) => text.parse().unwrap_or_else(|_| panic!("no number: {text:?}")),
        Message::Binary(bytes) => panic!("nobody said {bytes:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_right_after_the_101_is_not_missed() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "history: {on_join: none}").spawn().await;
    let mut first = proxy.connect("/feed/a").await;
    let mut server = upstream.accept().await;
    for n in 0..300 {
        let mut client = proxy.connect("/feed/a").await;
        if n % 2 == 0 {
            server.text(&format!("{n}")).await;
        } else {
            let body = json!({ "route": "feed", "text": n.to_string() }).to_string();
            let dial = RawClient::plain(proxy.admin()).method("POST").path("/api/admin/broadcast");
            let response = dial.header("Connection", "close").body(body).answer().await.response;
            assert!(response.text().contains(r#""recipients":2"#), "{}", response.text());
        }
        assert_eq!(number(&mut client).await, n, "and nothing older");
        assert_eq!(number(&mut first).await, n);
        // It is gone before the next one comes.
        client.close(1000, "").await;
        client.closed().await;
        eventually(DEADLINE, async || proxy.metric("outrigger_clients{route=\"feed\"}").await == 1.0).await;
    }
}

#[tokio::test]
async fn a_server_that_greets_with_its_101_is_heard_by_all_who_waited_for_it() {
    let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
    let proxy = feed(&upstream, "history: {on_join: none}").spawn().await;
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(proxy.dial().path("/feed/a").send().await);
    }
    let mut server = upstream.accept().await;
    eventually(DEADLINE, async || {
        let channels = proxy.admin_get("/api/admin/channels").await.text();
        if channels.contains(r#""clients":10"#) { Ok(()) } else { Err(channels) }
    })
    .await;
    // In one write: it is in the log before anybody's own 101 has left.
    let head = switching(&server.request.head);
    server.send_bytes(&[head, Frame::text("greetings").encode(Role::Server)].concat()).await;
    for client in &mut waiting {
        assert_eq!(client.read_response("GET").await.status(), 101);
        client.expect_text("greetings").await;
    }
    let mut late = proxy.connect("/feed/a").await;
    server.text("and now").await;
    late.expect_text("and now").await;
}

#[tokio::test]
async fn a_greeting_longer_than_the_log_reaches_whoever_had_the_server_dialled() {
    let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
    let proxy = feed(&upstream, "history: {messages: 2}").spawn().await;
    let mut client = proxy.dial().path("/feed/a").send().await;
    let mut server = upstream.accept().await;
    // In one write: all of it is in the log before the client's own 101 has left.
    let greeting = (0..20).map(|n| Frame::text(n.to_string()).encode(Role::Server));
    let mut bytes = switching(&server.request.head);
    bytes.extend(greeting.flatten());
    server.send_bytes(&bytes).await;
    assert_eq!(client.read_response("GET").await.status(), 101);
    for n in 0..20 {
        client.expect_text(&n.to_string()).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_its_101_does_not_hold_the_server_up() {
    let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
    let proxy = feed(&upstream, "history: {messages: 20, on_join: none}").spawn().await;
    let first = proxy.dial().path("/feed/a").send().await;
    let mut server = upstream.accept().await;
    first.reset();
    let channels = async || proxy.admin_get("/api/admin/channels").await.text();
    eventually(DEADLINE, async || channels().await.contains(r#""clients":0"#)).await;
    server.accept_websocket().await;
    for n in 0..100 {
        server.text(&n.to_string()).await;
        // Each by itself, so that it is read by itself.
        server.ping(b"and?").await;
        server.expect_pong(b"and?").await;
    }
    // Who comes then finds what is new.
    let mut late = proxy.connect("/feed/a").await;
    server.text("new").await;
    late.expect_text("new").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_and_goes_while_it_speaks_has_neither_gaps_nor_repetitions() {
    for (on_join, back) in [("none", 0), ("{last: 20}", 20)] {
        let upstream = Upstream::by_hand().await;
        let proxy = Arc::new(feed(&upstream, &format!("history: {{on_join: {on_join}}}")).spawn().await);
        let keeper = proxy.connect("/feed/a").await;
        let mut server = upstream.accept().await;
        let is_over = Arc::new(AtomicBool::new(false));
        let said = Arc::new(AtomicU64::new(0));
        let speaking = tokio::spawn({
            let (is_over, said) = (Arc::clone(&is_over), Arc::clone(&said));
            async move {
                while !is_over.load(Relaxed) {
                    let n = said.load(Relaxed) + 1;
                    server.text(&n.to_string()).await;
                    said.store(n, Relaxed);
                    if n % 50 == 0 {
                        sleep(Duration::from_millis(1)).await;
                    }
                }
                server
            }
        });
        let mut visits = JoinSet::new();
        for visitor in 0..8 {
            let (proxy, said) = (Arc::clone(&proxy), Arc::clone(&said));
            visits.spawn(async move {
                for visit in 0..25 {
                    let before = said.load(Relaxed);
                    let mut client = proxy.connect("/feed/a").await;
                    let after = said.load(Relaxed);
                    let first = number(&mut client).await;
                    // What it had before it asked is history, and what came after its 101 is not.
                    let oldest = before.saturating_sub(back + 200).max(1);
                    assert!((oldest..=after + 2).contains(&first), "{first} of {before}..{after}");
                    for n in 1..50 + visit {
                        assert_eq!(number(&mut client).await, first + n, "visit {visit} of {visitor}");
                    }
                    client.reset();
                }
            });
        }
        while let Some(visit) = visits.join_next().await {
            visit.expect("a visit without gaps");
        }
        is_over.store(true, Relaxed);
        let _server = speaking.await.expect("it has spoken");
        drop(keeper);
    }
}
