//! Clients of a feed that come over TLS: bursts, long messages, a slow one, receipts, and how they end.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::feed;
use crate::support::link::{End, Message};
use crate::support::proxy::{self, Proxy};
use crate::support::tls;
use crate::support::upstream::{ServerConn, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{CLOSE, Frame, Role};

const CLIENTS: usize = 20;
/// Nobody is too far behind.
const PATIENT: &str = "history: {messages: 100000, bytes: 16MiB}, \
                       delivery: {max_lag: {messages: 100000, bytes: 16MiB}}";

fn feed(upstream: &Upstream, policy: &str) -> proxy::Builder {
    feed::feed(upstream, policy).tls(tls::listen())
}

async fn join(proxy: &Proxy) -> RawClient {
    proxy.dial().path("/feed/a").tls(tls::client()).open().await
}

/// So many clients, and the server's one connection.
async fn joined(proxy: &Proxy, upstream: &Upstream, count: usize) -> (Vec<RawClient>, ServerConn) {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(join(proxy).await);
    }
    let server = upstream.accept().await;
    proxy.becomes("outrigger_clients{route=\"feed\"}", count as f64).await;
    (clients, server)
}

/// All of them in one write.
async fn say(server: &mut ServerConn, frames: &[Frame]) {
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.encode(Role::Server)).collect();
    server.send_bytes(&bytes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bursts_and_long_messages_arrive_whole_and_in_order() {
    let upstream = Upstream::by_hand().await;
    // Said as fast as it can be: this machine's clients may be behind by all of it.
    let proxy = feed(&upstream, PATIENT).spawn().await;
    let (clients, mut server) = joined(&proxy, &upstream, CLIENTS).await;
    let mut said = Vec::new();
    for burst in 0..50_usize {
        let mut together: Vec<_> =
            (0..50_usize).map(|n| Message::Text(format!("{burst} {n} {}", "x".repeat(n * 7)))).collect();
        // Around the length of a TLS record, and far beyond what is batched.
        let lengths = [0, 1, 16_383, 16_384, 16_385, 70_000];
        together.push(Message::Binary(vec![burst as u8; lengths[burst % lengths.len()]]));
        if burst % 25 == 24 {
            together.push(Message::Text("many words. ".repeat(100_000)));
        }
        said.push(together);
    }
    let mut listening = JoinSet::new();
    for mut client in clients {
        let said = said.clone();
        listening.spawn(async move {
            for (burst, together) in said.iter().enumerate() {
                for (n, message) in together.iter().enumerate() {
                    // Not assert_eq: a megabyte of differing bytes helps nobody.
                    assert!(client.next_message().await == *message, "burst {burst}, message {n}");
                }
            }
            client
        });
    }
    for together in &said {
        let frames: Vec<_> = together
            .iter()
            .map(|message| match message {
                Message::Text(text) => Frame::text(text),
                Message::Binary(bytes) => Frame::binary(bytes),
            })
            .collect();
        say(&mut server, &frames).await;
    }
    while let Some(client) = listening.join_next().await {
        client.expect("it has had all of it");
    }
    assert_eq!(proxy.metric("outrigger_messages_missed_total{route=\"feed\"}").await, 0.0);
    assert_eq!(proxy.metrics().await.sum("outrigger_messages_conflated_total"), 0.0);
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_reads_nothing_is_let_go_and_nobody_else_notices() {
    let upstream = Upstream::by_hand().await;
    let policy = "heartbeat: null, close_timeout: 4s, history: {messages: 100000, bytes: 16MiB}, \
                  delivery: {max_lag: {messages: 40}, stall_timeout: 1s, cool_down: 500ms, max_trips: 2}";
    let proxy = feed(&upstream, policy).spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, CLIENTS).await;
    let narrow = || proxy.dial().path("/feed/a").tls(tls::client()).receive_buffer(4096).open();
    let mut stuck = [narrow().await, narrow().await];
    proxy.becomes("outrigger_clients{route=\"feed\"}", CLIENTS as f64 + 2.0).await;
    let text = |n: usize| format!("{n:04} {}", "x".repeat(4000));
    let since = Instant::now();
    for n in 0..120 {
        server.text(&text(n)).await;
        for client in &mut clients {
            client.expect_text(&text(n)).await;
        }
    }
    let took = since.elapsed();
    // Both have taken nothing for as long as they may, twice.
    let opened = r#"outrigger_breaker_transitions_total{scope="recipient",route="feed",to="open"}"#;
    proxy.becomes(opened, 4.0).await;
    let [late, deaf] = &mut stuck;
    let mut count = 0;
    loop {
        let frame = late.next_frame().await;
        if frame.opcode == CLOSE {
            assert_eq!(frame.close_status(), (1013, "slow consumer".to_owned()));
            break;
        }
        assert_eq!(frame.payload, text(count).as_bytes(), "what was begun is finished, and nothing is torn");
        count += 1;
    }
    assert!(count > 0 && count < 120, "{count} messages");
    late.close(1013, "").await;
    assert_eq!(late.closed().await.then, End::Eof, "with the goodbye of TLS");
    let gone = r#"outrigger_disconnections_total{route="feed",reason="slow_consumer"}"#;
    proxy.becomes(gone, 2.0).await;
    // A reset may come within a record.
    while let Ok(bytes) = deaf.try_read_raw().await
        && !bytes.is_empty()
    {}
    server.text("go on").await;
    for client in &mut clients {
        client.expect_text("go on").await;
    }
    assert_eq!(proxy.metrics().await.sum("outrigger_disconnections_total"), 2.0, "{took:?}");
    let kept = proxy.metric("outrigger_history_bytes").await;
    proxy.becomes("outrigger_memory_buffered_bytes", kept).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_reads_slowly_gets_everything_within_its_lag() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, PATIENT).spawn().await;
    let mut slow = proxy.dial().path("/feed/a").tls(tls::client()).receive_buffer(4096).open().await;
    let (mut clients, mut server) = joined_by(&proxy, &upstream, 2).await;
    let text = |n: usize| format!("{n:04} {}", "x".repeat(10_000));
    let frames: Vec<_> = (0..100).map(|n| Frame::text(text(n))).collect();
    say(&mut server, &frames).await;
    for client in &mut clients {
        for n in 0..100 {
            client.expect_text(&text(n)).await;
        }
    }
    assert!(proxy.metric("outrigger_buffered_bytes").await > 0.0, "it has not taken it all yet");
    for n in 0..100 {
        if n % 10 == 0 {
            sleep(Duration::from_millis(10)).await;
        }
        slow.expect_text(&text(n)).await;
    }
    server.text("in step").await;
    slow.expect_text("in step").await;
    assert_eq!(proxy.metric("outrigger_messages_missed_total{route=\"feed\"}").await, 0.0);
    proxy.becomes("outrigger_buffered_bytes", 0.0).await;
}

/// As [`joined`], beside one that is there.
async fn joined_by(proxy: &Proxy, upstream: &Upstream, count: usize) -> (Vec<RawClient>, ServerConn) {
    let server = upstream.accept().await;
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(join(proxy).await);
    }
    proxy.becomes("outrigger_clients{route=\"feed\"}", count as f64 + 1.0).await;
    (clients, server)
}

#[tokio::test]
async fn closes_are_answered_and_end_with_the_goodbye_of_tls() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "").spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, 4).await;
    // The client's own Close, a broken rule, a client that is just gone, and the application's end.
    let mut polite = clients.remove(0);
    polite.close(4001, "that was all").await;
    let closed = polite.closed().await;
    assert_eq!((closed.code, closed.then), (4001, End::Eof));
    let mut rude = clients.remove(0);
    rude.send_bytes(b"\x81\x05plain").await;
    let closed = rude.closed().await;
    assert_eq!((closed.code, closed.then), (1002, End::Eof));
    clients.remove(0).reset();
    proxy.becomes("outrigger_clients{route=\"feed\"}", 1.0).await;
    server.text("the last").await;
    server.close(4002, "match over").await;
    let mut last = clients.remove(0);
    last.expect_text("the last").await;
    let closed = last.closed().await;
    assert_eq!((closed.code, &*closed.reason, closed.then), (4002, "match over", End::Eof));
    for reason in ["client_close", "protocol_error", "client_lost", "upstream_close"] {
        let ended = format!("outrigger_disconnections_total{{route=\"feed\",reason=\"{reason}\"}}");
        proxy.becomes(&ended, 1.0).await;
    }
}

#[tokio::test]
async fn pongs_are_receipts_and_what_has_none_is_told_at_the_end() {
    let upstream = Upstream::by_hand().await;
    let policy = "heartbeat: {interval: 100ms, timeout: 5s}";
    let proxy = feed(&upstream, policy).spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, 3).await;
    for n in 0..50 {
        server.text(&format!("message {n}")).await;
    }
    for client in &mut clients {
        for n in 0..50 {
            client.expect_text(&format!("message {n}")).await;
        }
    }
    let receipts = "outrigger_delivery_acknowledged_total{route=\"feed\"}";
    // Reading answers the pings.
    let until = Instant::now() + DEADLINE;
    while proxy.metric(receipts).await < 150.0 {
        assert!(Instant::now() < until, "{} receipts", proxy.metric(receipts).await);
        for client in &mut clients {
            client.answer_pings_for(Duration::from_millis(50)).await;
        }
    }
    // From here on nobody reads, so that nobody answers.
    for n in 0..7 {
        server.text(&format!("unheard {n}")).await;
    }
    proxy.becomes("outrigger_feed_messages_total{route=\"feed\"}", 57.0).await;
    eventually(DEADLINE, async || {
        let metrics = proxy.metrics().await;
        if metrics.sum("outrigger_messages_out_total") == 171.0 { Ok(()) } else { Err("not sent yet") }
    })
    .await;
    clients.remove(0).reset();
    proxy.becomes("outrigger_message_failures_total{reason=\"client_lost\"}", 7.0).await;
    assert_eq!(proxy.metric(receipts).await, 150.0);
}
