//! Clients that attach and never read, beside others whose servers talk as much as those: what they cost is bounded, and they
//! cost nobody else anything.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::DEADLINE;
use crate::support::link::Message;
use crate::support::session::session;
use crate::support::upstream::{Act, Upstream};
use crate::support::wait::eventually;

const READING: usize = 20;
const STALLED: usize = 20;
/// What a server says at a time, and how often those who read ask for that: they are never behind by more.
const MESSAGES: usize = 20;
const ROUNDS: usize = 100;
const SIZE: usize = 4096;
/// What one of them may cost: `delivery.max_lag.bytes`, a batch, and what is around it.
const EACH: f64 = (256 + 128) as f64 * 1024.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_read_are_bounded_and_closed_and_the_others_get_everything() {
    let _alone = crate::alone().await;
    let upstream = Upstream::builder()
        .on_text("some", [Act::Flood { messages: MESSAGES, size: SIZE }])
        .on_text("a flood", [Act::Flood { messages: MESSAGES * ROUNDS, size: SIZE }]);
    let upstream = upstream.spawn().await;
    let proxy =
        session(&upstream, "delivery: {max_lag: {messages: 100000, bytes: 256KiB}}, close_timeout: 500ms");
    let proxy = proxy.spawn().await;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut client = proxy.dial().receive_buffer(4096).open().await;
        client.stop_reading();
        stalled.push(client);
    }
    let mut reading = Vec::new();
    for _ in 0..READING {
        reading.push(proxy.connect("/").await);
    }
    proxy.attached((READING + STALLED) as f64).await;
    for client in &mut stalled {
        client.text("a flood").await;
    }
    let since = Instant::now();
    let mut readers = JoinSet::new();
    for mut client in reading {
        readers.spawn(async move {
            for _ in 0..ROUNDS {
                client.text("some").await;
                for number in 0..MESSAGES as u64 {
                    let Message::Binary(bytes) = client.next_message().await else { panic!("bytes are due") };
                    assert_eq!(
                        (bytes.len(), u64::from_be_bytes(*bytes.first_chunk().unwrap())),
                        (SIZE, number)
                    );
                }
            }
            client.text("still here").await;
            client.expect_text("still here").await;
            client
        });
    }
    let mut most: f64 = 0.0;
    let mut readers = std::pin::pin!(readers.join_all());
    let stayed = loop {
        match tokio::time::timeout(Duration::from_millis(20), &mut readers).await {
            Ok(stayed) => break stayed,
            Err(_) => {
                let metrics = proxy.metrics().await;
                most = most
                    .max(metrics.sum("outrigger_buffered_bytes") + metrics.sum("outrigger_history_bytes"));
            }
        }
    };
    eprintln!("all read after {:?}; at most {most} bytes were held", since.elapsed());
    assert!(most <= (READING + STALLED) as f64 * EACH, "{most} bytes were held");
    proxy.becomes("outrigger_session_ends_total{route=\"chat\",why=\"slow\"}", STALLED as f64).await;
    assert_eq!(stayed.len(), READING);
    proxy.attached(READING as f64).await;
    eventually(DEADLINE, || async {
        let held = proxy.metrics().await.sum("outrigger_buffered_bytes");
        if held == 0.0 { Ok(()) } else { Err(held) }
    })
    .await;
    eventually(DEADLINE, || async { upstream.open() == READING }).await;
}
