//! A thousand clients of one feed, some of which never read: nobody else notices, and those are let go.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::link::{End, Received};
use crate::support::proxy::Proxy;
use crate::support::upstream::{ServerConn, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{CLOSE, Frame, Role, TEXT};

const CLIENTS: usize = 1000;
const SIZE: usize = 4 << 10;
const COOL_DOWN: Duration = Duration::from_secs(5);

/// What is tried.
struct Trial {
    /// Clients that never read.
    stuck: usize,
    /// More than a stuck client's kernel buffers (`TCP_NOTSENT_LOWAT` is 128 KiB) and `max_lag` hold.
    messages: usize,
    /// Messages that are said together.
    together: usize,
    /// Below what the log comes to.
    max_buffered: usize,
}

fn settings(max_buffered: usize) -> String {
    format!(
        "routes: [{{name: feed, path: '/feed/{{*rest}}', mode: broadcast}}]\n\
         memory: {{max_buffered: {}KiB}}\n\
         policy: {{heartbeat: null, close_timeout: 4s, history: {{messages: 100000, bytes: 64MiB}}, \
         delivery: {{max_lag: {{messages: 30}}, stall_timeout: 2s, cool_down: {}s, max_trips: 2}}}}",
        max_buffered >> 10,
        COOL_DOWN.as_secs()
    )
}

fn message(number: usize) -> String {
    format!("{number:08} {}", "x".repeat(SIZE))
}

/// What is in use of `memory.max_buffered`.
async fn buffered(proxy: &Proxy) -> f64 {
    proxy.metric("outrigger_memory_buffered_bytes").await
}

async fn tripped(proxy: &Proxy) -> f64 {
    let opened = r#"outrigger_breaker_transitions_total{scope="recipient",route="feed",to="open"}"#;
    proxy.metric(opened).await
}

async fn slow_consumers(proxy: &Proxy) -> f64 {
    proxy.metric(r#"outrigger_disconnections_total{route="feed",reason="slow_consumer"}"#).await
}

/// Says so many messages at once. Answers how long the proxy took to read them.
async fn say(server: &mut ServerConn, messages: &[String]) -> Duration {
    let frames: Vec<u8> = messages.iter().flat_map(|text| Frame::text(text).encode(Role::Server)).collect();
    let since = Instant::now();
    server.send_bytes(&frames).await;
    since.elapsed()
}

/// Reads what a stuck client had been sent: whole messages in order, from the first one on. Answers how many, the
/// code of the Close behind them, and how it ended.
async fn read_all(client: &mut RawClient, expected: &[String]) -> (usize, Option<(u16, String)>, End) {
    client.resume_reading();
    let (mut messages, mut close) = (0, None);
    loop {
        match client.receive().await {
            Received::Frame(frame) if frame.opcode == TEXT && close.is_none() => {
                assert_eq!(frame.payload, expected[messages].as_bytes(), "in order, and nothing torn");
                messages += 1;
            }
            Received::Frame(frame) if frame.opcode == CLOSE && close.is_none() => {
                let (code, reason) = frame.close_status();
                // It may not be heard any more.
                let _ = client.try_send_frame(&Frame::close(code, &reason)).await;
                close = Some((code, reason));
            }
            Received::Frame(frame) => panic!("{frame:?} after {messages} messages"),
            Received::End(end) => return (messages, close, end),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_clients_of_a_thousand_never_read_and_nobody_else_notices() {
    let _alone = crate::alone().await;
    try_with(Trial { stuck: 10, messages: 128, together: 8, max_buffered: 512 << 10 }).await;
}

/// What they have begun to take, each counted for itself, would be six times what may be held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_of_a_thousand_never_read_and_the_memory_is_the_others() {
    let _alone = crate::alone().await;
    try_with(Trial { stuck: 100, messages: 256, together: 32, max_buffered: 1 << 20 }).await;
}

async fn try_with(trial: Trial) {
    let Trial { stuck: count, messages: said, together, max_buffered } = trial;
    outrigger::internals::raise_descriptor_limit();
    let upstream = Upstream::by_hand().await;
    let proxy = Proxy::to(&upstream).yaml(&settings(max_buffered)).spawn().await;
    let mut stuck = Vec::new();
    for _ in 0..count {
        let mut client = proxy.dial().path("/feed/a").receive_buffer(4096).open().await;
        client.stop_reading();
        stuck.push(client);
    }
    let mut server = upstream.accept().await;
    let messages: Arc<Vec<String>> = Arc::new((0..=said).map(message).collect());
    let caught_up = Arc::new(Semaphore::new(0));
    let mut well = JoinSet::new();
    for _ in count..CLIENTS {
        let mut client = proxy.connect("/feed/a").await;
        let (messages, caught_up) = (Arc::clone(&messages), Arc::clone(&caught_up));
        well.spawn(async move {
            for (number, message) in messages.iter().enumerate() {
                client.expect_text(message).await;
                if (number + 1) % together == 0 {
                    caught_up.add_permits(1);
                }
            }
            client
        });
    }
    eventually(DEADLINE, async || proxy.metric("outrigger_clients{route=\"feed\"}").await == CLIENTS as f64)
        .await;

    let (mut slowest, mut most) = (Duration::ZERO, 0.0_f64);
    let start = Instant::now();
    for some in messages[..said].chunks(together) {
        slowest = slowest.max(say(&mut server, some).await);
        // Only who keeps up can be said to have noticed nothing: this machine may be slower than the server.
        let all = caught_up.acquire_many((CLIENTS - count) as u32);
        timeout(DEADLINE, all)
            .await
            .expect("the others get it at once")
            .expect("it is never closed")
            .forget();
        most = most.max(buffered(&proxy).await);
    }
    let took = start.elapsed();
    let trips = tripped(&proxy).await;
    assert!(slowest < COOL_DOWN / 2, "the server was made to wait: {slowest:?} of {took:?}");
    assert!(most <= max_buffered as f64, "{most} bytes were held");
    let trimmed = proxy.metrics().await.sum("outrigger_history_trimmed_total");
    assert!(trimmed > 0.0, "the bound was not reached, so that nothing is proven of it");
    assert!(trips >= count as f64, "{trips} trips");
    if took < COOL_DOWN {
        assert_eq!(trips, count as f64, "each of them was isolated once, and nobody else");
        assert_eq!(slow_consumers(&proxy).await, 0.0, "they are tried again before they are let go");
    }

    // Tried again, they still take nothing: their Close stands behind what they have begun to take.
    eventually(DEADLINE + COOL_DOWN, async || match tripped(&proxy).await {
        trips if trips == 2.0 * count as f64 => Ok(()),
        trips => Err(format!("{trips} trips")),
    })
    .await;
    let (late, deaf) = stuck.split_at_mut(count / 2);
    for client in late {
        let (heard, close, end) = read_all(client, &messages).await;
        assert!(heard > 0 && heard < said, "{heard} messages");
        // On a machine that takes so long for the others their time is over by now.
        if took < COOL_DOWN || end != End::Reset {
            assert_eq!(close, Some((1013, "slow consumer".to_owned())), "after {heard} messages");
            assert_eq!(end, End::Eof);
        }
    }
    // The others do not even read that.
    eventually(DEADLINE, async || match slow_consumers(&proxy).await {
        there if there == count as f64 => Ok(()),
        there => Err(format!("{there} of them are gone")),
    })
    .await;
    for client in deaf {
        let (heard, _, end) = read_all(client, &messages).await;
        assert_eq!(end, End::Reset, "after {heard} messages");
    }
    let ended = proxy.metrics().await.sum("outrigger_disconnections_total");
    assert_eq!(ended, count as f64, "nobody else was let go");
    assert_eq!(proxy.metric("outrigger_messages_missed_total{route=\"feed\"}").await, 0.0);

    say(&mut server, &messages[said..]).await;
    let mut clients = Vec::new();
    while let Some(client) = well.join_next().await {
        clients.push(client.expect("it got every message in order"));
    }
    assert_eq!(clients.len(), CLIENTS - count);
    assert_eq!(upstream.accepted(), 1);
    eventually(DEADLINE, async || {
        let (held, kept) = (buffered(&proxy).await, proxy.metric("outrigger_history_bytes").await);
        if held == kept { Ok(()) } else { Err(format!("{held} bytes are held, {kept} of them by the log")) }
    })
    .await;
}
