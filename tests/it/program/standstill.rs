//! A proxy that stood still (a stopped process, a frozen container) has not heard its peers meanwhile. None of
//! them is given up for that.

use std::time::Duration;

use crate::support::DEADLINE;
use crate::support::binary::{Binary, Running};
use crate::support::client::RawClient;
use crate::support::http2;
use crate::support::link::Link;
use crate::support::upstream::Upstream;
use crate::support::wait::eventually;
use crate::support::wire::{Frame, PING};

/// How long a peer has for its answer: the proxy stands still for longer than that.
const TIMEOUT: Duration = Duration::from_secs(6);

/// The next ping of the proxy; it is not answered yet.
async fn ping(link: &mut Link) -> Vec<u8> {
    let frame = link.next_frame().await;
    assert_eq!(frame.opcode, PING, "{frame:?}");
    frame.payload
}

/// Stops it; it has when this returns.
async fn stop(running: &Running) {
    running.binary.signal("STOP").await;
    let stat = format!("/proc/{}/stat", running.binary.id());
    eventually(DEADLINE, || async {
        let stat = std::fs::read_to_string(&stat).expect("it is there");
        // The state follows the name, which ends with the last parenthesis.
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    })
    .await;
}

#[tokio::test]
async fn nobody_who_answered_while_the_process_stood_still_is_given_up() {
    let upstream = Upstream::by_hand().await;
    let beat = format!("{{interval: 1s, timeout: {}s, max_missed: 1}}", TIMEOUT.as_secs());
    let settings = [
        ("ROUTES", "[{name: feed, path: /feed, mode: broadcast}]"),
        ("POLICY__HEARTBEAT", &*beat),
        ("UPSTREAM__HEARTBEAT", &*beat),
    ];
    let mut running = Binary::run(&upstream.url(), &settings).await;
    let mut client = RawClient::connect(running.address(), "/").await;
    let mut server = upstream.accept().await;
    let mut subscriber = RawClient::connect(running.address(), "/feed").await;
    let mut feed = upstream.accept().await;
    let connection = http2::Client::connect(running.address()).await;
    let mut stream = connection.open("/").await;
    let mut behind = upstream.accept().await;

    let links: [&mut Link; 5] = [&mut client, &mut server, &mut subscriber, &mut feed, &mut behind];
    let mut owed = Vec::new();
    for link in links {
        owed.push((ping(link).await, link));
    }
    let frame = stream.frame().await;
    assert_eq!(frame.opcode, PING, "{frame:?}");
    stop(&running).await;
    // All of them answer in time, and nobody hears it.
    for (payload, link) in owed {
        link.send_frame(&Frame::pong(&payload)).await;
    }
    stream.send(&Frame::pong(&frame.payload)).await;
    // It is time itself that has to pass.
    tokio::time::sleep(TIMEOUT + Duration::from_secs(1)).await;
    running.binary.signal("CONT").await;

    client.text("from the client").await;
    server.expect_text("from the client").await;
    server.text("from the server").await;
    client.expect_text("from the server").await;
    feed.text("to all").await;
    subscriber.expect_text("to all").await;
    stream.text("over HTTP/2").await;
    behind.expect_text("over HTTP/2").await;
    let metrics = running.metrics().await;
    assert_eq!(metrics.get("outrigger_heartbeat_missed_total"), Some(0.0));
    let line = running.binary.line_with("stood still").await;
    let line: serde_json::Value = serde_json::from_str(&line).expect("a log line is JSON");
    let told = Duration::from_millis(line["ms"].as_u64().expect("for how long"));
    assert!(told >= TIMEOUT, "{line}");
}
