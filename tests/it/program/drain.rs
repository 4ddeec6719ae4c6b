//! Stopping the program: who is told what, when, and what it exits with.

use std::iter;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::binary::{Binary, Builder, Running};
use crate::support::client::RawClient;
use crate::support::http::{self, assert_ours};
use crate::support::link::{Closed, End};
use crate::support::proxy::Proxy;
use crate::support::upstream::{Act, Answer, Upstream};
use crate::support::wait::eventually;
use crate::support::{A_MOMENT, DEADLINE};

/// Until the drain has begun, as a load balancer learns it.
async fn not_ready(running: &Running) {
    eventually(DEADLINE, || async { running.admin_get("/readyz").await.status() == 503 }).await;
}

fn said(closed: &Closed) -> (u16, &str) {
    (closed.code, &closed.reason)
}

#[tokio::test]
async fn within_the_delay_whoever_comes_is_served_and_nobody_is_closed() {
    let upstream = Upstream::echo().await;
    let settings = [("DRAIN", "{delay: 10m, spread: 0s, timeout: 20m}")];
    let mut running = Binary::run(&upstream.url(), &settings).await;
    let mut before = RawClient::connect(running.address(), "/").await;
    running.binary.signal("TERM").await;
    not_ready(&running).await;
    // The delay is for those who were sent here before that was known.
    let mut late = RawClient::connect(running.address(), "/").await;
    for client in [&mut before, &mut late] {
        client.text("hello").await;
        client.expect_text("hello").await;
        client.expect_silence(A_MOMENT).await;
    }
    running.binary.signal("TERM").await;
    assert_eq!(running.binary.exited().await.code(), Some(0), "{}", running.binary.said());
}

#[tokio::test]
async fn sigterm_takes_readiness_away_at_once_clients_after_the_delay_and_the_process_after_them() {
    const DELAY: Duration = Duration::from_millis(2500);
    let upstream = Upstream::echo().await;
    let settings = [("DRAIN", "{delay: 2500ms, spread: 0s, timeout: 30s}"), ("POLICY__CLOSE_TIMEOUT", "30s")];
    let mut running = Binary::run(&upstream.url(), &settings).await;
    assert_eq!(running.admin_get("/readyz").await.status(), 200);
    let mut before = RawClient::connect(running.address(), "/").await;
    let mut slow = RawClient::connect(running.address(), "/").await;

    let since = Instant::now();
    running.binary.signal("TERM").await;
    not_ready(&running).await;
    assert_eq!(running.admin_get("/healthz").await.status(), 200, "it is not ill");
    assert_eq!(running.metrics().await.get("outrigger_draining"), Some(1.0));
    // Who comes late is in and closed as all are; or it came after the delay.
    let mut late = running.dial().answer().await;
    let is_in = late.response.status() == 101;
    let refused_late = if is_in {
        late.text("hello").await;
        0.0
    } else {
        assert_ours(&late.response, 503, "draining");
        assert!(since.elapsed() >= DELAY, "after {:?}", since.elapsed());
        1.0
    };
    for (client, echoes) in iter::once((&mut before, 0)).chain(is_in.then_some((&mut late, 1))) {
        for _ in 0..echoes {
            client.expect_text("hello").await;
        }
        let closed = client.closed().await;
        assert_eq!(said(&closed), (1012, "server is restarting"));
        assert!(closed.before.is_empty(), "{closed:?}");
        assert!(since.elapsed() >= DELAY, "after {:?}", since.elapsed());
    }

    // One client has not answered yet: the process waits for it, and takes nobody in.
    assert_eq!(slow.next_frame().await.close_status().0, 1012);
    let refused = running.dial().refused().await;
    assert_ours(&refused, 503, "draining");
    assert_eq!(refused.header("Retry-After"), Some("1"));
    let plain = running.plain().answer().await.response;
    assert_eq!(plain.status(), 200, "plain requests are served as long as there is somebody to");
    assert!(plain.head.headers.lists("Connection", "close"));
    let metrics = running.metrics().await;
    assert_eq!(metrics.get("outrigger_clients{route=\"default\"}"), Some(1.0));
    let draining = "outrigger_handshakes_total{route=\"default\",outcome=\"draining\"}";
    assert_eq!(metrics.get(draining), Some(1.0 + refused_late));
    let drained = "outrigger_disconnections_total{route=\"default\",reason=\"drained\"}";
    assert_eq!(metrics.get(drained), Some(2.0 - refused_late));
    assert!(running.binary.is_running());

    slow.close(1012, "").await;
    assert_eq!(running.binary.exited().await.code(), Some(0), "{}", running.binary.said());
    let tunnels = 2 + usize::from(is_in);
    eventually(DEADLINE, || async { upstream.endings().len() == tunnels }).await;
    for ending in upstream.endings() {
        assert_eq!(said(&ending), (1001, "proxy is draining"), "not the client's answer to our Close");
    }
    eventually(DEADLINE, || async { upstream.open() == 0 }).await;
    assert_eq!(upstream.endings().len(), tunnels);
}

#[tokio::test]
async fn closes_are_spread_over_the_window_and_do_not_come_at_once() {
    const CLIENTS: usize = 200;
    const WINDOW: Duration = Duration::from_secs(2);
    let upstream = Upstream::echo().await;
    let settings = [("DRAIN", "{spread: 2s, timeout: 30s}")];
    let mut running = Binary::run(&upstream.url(), &settings).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(RawClient::connect(running.address(), "/").await);
    }
    let since = Instant::now();
    let mut closes = JoinSet::new();
    for mut client in clients {
        closes.spawn(async move {
            let close = client.next_frame().await.close_status().0;
            let at = since.elapsed();
            client.close(close, "").await;
            (close, at)
        });
    }
    running.binary.signal("TERM").await;
    let mut times = Vec::new();
    for (code, at) in closes.join_all().await {
        assert_eq!(code, 1012);
        times.push(at);
    }
    times.sort();
    // Counted from the first: the signal may have taken its time. A machine that is busy may hold some
    // up, but not most of them into one tenth.
    let mut tenths = [0; 10];
    for at in &times {
        let place = (*at - times[0]).as_secs_f64() / WINDOW.as_secs_f64();
        tenths[((place * 10.0) as usize).min(9)] += 1;
    }
    assert!(tenths.iter().all(|count| *count <= CLIENTS / 2), "{tenths:?}");
    assert!(tenths.iter().filter(|count| **count > 0).count() >= 5, "{tenths:?}");
    assert!(times[CLIENTS - 1] - times[0] >= WINDOW / 2, "{tenths:?}");
    assert_eq!(running.binary.exited().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_cuts_the_drain_short() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("INT", "TERM")] {
        let upstream = Upstream::echo().await;
        let settings = [("DRAIN", "{delay: 60s, timeout: 120s}")];
        let mut running = Binary::run(&upstream.url(), &settings).await;
        let mut client = RawClient::connect(running.address(), "/").await;
        running.binary.signal(first).await;
        not_ready(&running).await;
        assert!(running.binary.is_running());
        running.binary.signal(second).await;
        assert_eq!(running.binary.exited().await.code(), Some(0), "{first}, {second}");
        assert_eq!(client.closed().await.code, 1006, "nobody had the time to say Close");
    }
}

#[tokio::test]
async fn a_signal_right_after_the_start_is_a_drain_too() {
    let upstream = Upstream::echo().await;
    for _ in 0..5 {
        let mut running = Binary::run(&upstream.url(), &[]).await;
        running.binary.signal("TERM").await;
        assert_eq!(running.binary.exited().await.code(), Some(0), "it was ready, so it has to hear it");
    }
}

#[tokio::test]
async fn outrigger_drain_starts_a_drain_and_with_wait_sees_it_through() {
    let upstream = Upstream::echo().await;
    let settings = [("DRAIN", "{spread: 0s, timeout: 60s}"), ("POLICY__CLOSE_TIMEOUT", "60s")];
    let mut running = Binary::run(&upstream.url(), &settings).await;
    let mut client = RawClient::connect(running.address(), "/").await;
    let admin = running.admin_url();

    let told = Builder::new(&["drain", "--admin", &admin]).output().await;
    assert_eq!((told.code, told.stdout.as_str()), (Some(0), "draining, 1 clients are connected\n"));
    assert_eq!(client.closed().await.code, 1012);
    running.binary.signal("TERM").await;
    assert_eq!(running.binary.exited().await.code(), Some(0));

    let mut running = Binary::run(&upstream.url(), &settings).await;
    let mut client = RawClient::connect(running.address(), "/").await;
    let admin = running.admin_url();
    let mut waiting = Builder::new(&["drain", "--wait", "--admin", &admin]).spawn();
    assert_eq!(client.next_frame().await.close_status(), (1012, "server is restarting".to_owned()));
    assert!(waiting.is_running() && running.binary.is_running(), "one client has not answered");
    client.close(1012, "").await;
    assert_eq!(waiting.exited().await.code(), Some(0));
    assert_eq!(waiting.lines(), ["drained"]);
    running.binary.signal("TERM").await;
    assert_eq!(running.binary.exited().await.code(), Some(0));

    let nobody = Builder::new(&["drain", "--admin", &admin]).output().await;
    assert_eq!(nobody.code, Some(1), "there is nobody to drain any more");
    assert!(nobody.stderr.contains("nothing answers"), "{}", nobody.stderr);
}

#[tokio::test]
async fn outrigger_drain_leaves_a_process_that_takes_nobody_in_until_a_signal_ends_it() {
    let upstream = Upstream::requests_by_hand().await;
    let settings = [("DRAIN", "{spread: 0s, timeout: 60s}")];
    let mut running = Binary::run(&upstream.url(), &settings).await;
    let admin = running.admin_url();
    let drain = || Builder::new(&["drain", "--wait", "--admin", &admin]).output();
    // Twice: a kubelet runs the hook again when it was restarted itself.
    for _ in 0..2 {
        let told = drain().await;
        assert_eq!((told.code, told.stdout.as_str()), (Some(0), "drained\n"), "{}", told.stderr);
    }
    assert_ours(&running.dial().refused().await, 503, "draining");
    assert_eq!(running.admin_get("/healthz").await.status(), 200, "nobody is to start it anew");
    let ready = running.admin_get("/readyz").await;
    assert_eq!((ready.status(), ready.text().contains("drained")), (503, true), "{}", ready.text());
    assert!(running.binary.is_running(), "{}", running.binary.said());

    // The server may go on answering plain requests, and the signal waits for the one that is under way.
    let mut client = running.plain().send().await;
    let mut server = upstream.accept().await;
    running.binary.signal("TERM").await;
    eventually(DEADLINE, || async { running.binary.lines().iter().any(|line| line.contains("ending")) })
        .await;
    server.send_bytes(&http::response(200, &[], b"the last one")).await;
    assert_eq!(client.read_response("GET").await.text(), "the last one");
    assert_eq!(running.binary.exited().await.code(), Some(0), "{}", running.binary.said());
}

#[tokio::test]
async fn a_signal_during_a_drain_that_was_asked_for_otherwise_joins_it_and_the_next_cuts_it_short() {
    let upstream = Upstream::echo().await;
    let settings = [("DRAIN", "{delay: 700ms, spread: 0s, timeout: 60s}"), ("POLICY__CLOSE_TIMEOUT", "60s")];
    let mut running = Binary::run(&upstream.url(), &settings).await;
    let mut client = RawClient::connect(running.address(), "/").await;
    let mut slow = RawClient::connect(running.address(), "/").await;
    let told = Builder::new(&["drain", "--admin", &running.admin_url()]).output().await;
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    running.binary.signal("TERM").await;
    assert_eq!(said(&client.closed().await), (1012, "server is restarting"));
    assert_eq!(slow.next_frame().await.close_status().0, 1012);
    assert!(running.binary.is_running(), "one client has not answered");
    running.binary.signal("TERM").await;
    assert_eq!(running.binary.exited().await.code(), Some(0));
}

#[tokio::test]
async fn drain_timeout_ends_what_does_not_end_by_itself() {
    let upstream = Upstream::requests_by_hand().await;
    let settings = [("DRAIN", "{spread: 0s, timeout: 700ms}"), ("POLICY__CLOSE_TIMEOUT", "60s")];
    let mut running = Binary::run(&upstream.url(), &settings).await;
    let mut silent = RawClient::connect(running.address(), "/").await;
    let mut endless = running.plain().send().await;
    let _server = upstream.accept().await;
    let since = Instant::now();
    running.binary.signal("TERM").await;
    assert_eq!(running.binary.exited().await.code(), Some(0));
    assert!(since.elapsed() >= Duration::from_millis(700), "after {:?}", since.elapsed());
    assert_eq!(silent.next_frame().await.close_status().0, 1012, "it was told, and did not answer");
    assert!(endless.try_read_head().await.is_err());
}

#[tokio::test]
async fn a_plain_request_is_answered_to_its_end_before_the_process_ends() {
    let upstream = Upstream::requests_by_hand().await;
    let settings = [("DRAIN", "{spread: 0s, timeout: 60s}")];
    let mut running = Binary::run(&upstream.url(), &settings).await;
    let mut client = running.plain().send().await;
    let mut server = upstream.accept().await;
    running.binary.signal("TERM").await;
    not_ready(&running).await;
    let answer = http::response(200, &[], b"worth waiting for");
    let (first, last) = answer.split_at(answer.len() - 5);
    server.send_bytes(first).await;
    let head = client.read_head().await;
    assert!(head.headers.lists("Connection", "close"), "there is no next request here: {head:#?}");
    assert!(running.binary.is_running(), "half an answer is none");
    server.send_bytes(last).await;
    assert_eq!(client.read_exactly(17).await, Ok(b"worth waiting for".to_vec()));
    assert_eq!(client.read_exactly(1).await, Err(End::Eof));
    assert_eq!(running.binary.exited().await.code(), Some(0));
}

#[tokio::test]
async fn an_upstream_that_stops_at_the_same_time_hurries_nobody() {
    let losses = [
        ("FIN", Act::Hangup),
        ("RST", Act::Reset),
        ("1001", Act::Close(1001, "going away")),
        ("1012", Act::Close(1012, "restarting")),
    ];
    for (name, act) in losses {
        let upstream = Upstream::builder().on_text("stop", [act]).spawn().await;
        let drain =
            "drain: {delay: 600ms, spread: 0s, timeout: 30s}\npolicy: {close_codes: {upstream_lost: 4012}}";
        let proxy = Proxy::to(&upstream).yaml(drain).spawn().await;
        let mut client = proxy.connect("/").await;
        let since = Instant::now();
        proxy.drain();
        eventually(DEADLINE, || async { proxy.admin_get("/readyz").await.status() == 503 }).await;
        client.text("stop").await;
        let closed = client.closed().await;
        assert_eq!(said(&closed), (1012, "server is restarting"), "{name}");
        assert!(since.elapsed() >= Duration::from_millis(600), "{name}: after {:?}", since.elapsed());
        proxy.ended_within(DEADLINE).await;
    }
}

#[tokio::test]
async fn a_close_of_the_application_itself_does_not_wait_for_the_drain() {
    let upstream = Upstream::builder().on_text("bye", [Act::Close(4001, "as you wish")]).spawn().await;
    let proxy = Proxy::to(&upstream).yaml("drain: {delay: 60s, timeout: 120s}").spawn().await;
    let mut client = proxy.connect("/").await;
    proxy.drain();
    eventually(DEADLINE, || async { proxy.admin_get("/readyz").await.status() == 503 }).await;
    client.text("bye").await;
    assert_eq!(said(&client.closed().await), (4001, "as you wish"));
    eventually(DEADLINE, || async { upstream.endings().len() == 1 }).await;
    assert_eq!(said(&upstream.endings()[0]), (4001, "as you wish"), "it is answered as it was said");
}

#[tokio::test]
async fn a_handshake_that_is_answered_after_the_delay_is_let_go_in_an_orderly_way() {
    let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
    let drain = "drain: {spread: 0s, timeout: 30s}\npolicy: {close_timeout: 30s}";
    let proxy = Proxy::to(&upstream).yaml(drain).spawn().await;
    let first = proxy.dial().send();
    let (mut first, mut server) = tokio::join!(first, upstream.accept());
    server.accept_websocket().await;
    assert_eq!(first.read_head().await.status(), 101);
    let (mut second, mut behind) = tokio::join!(proxy.dial().send(), upstream.accept());

    proxy.drain();
    // The first keeps the process; the second was asked for before anybody knew.
    assert_eq!(first.next_frame().await.close_status().0, 1012);
    behind.accept_websocket().await;
    assert_eq!(second.read_head().await.status(), 101);
    assert_eq!(said(&second.closed().await), (1012, "server is restarting"));
    assert_eq!(said(&behind.closed().await), (1001, "proxy is draining"));
    first.close(1012, "").await;
    assert_eq!(said(&server.closed().await), (1001, "proxy is draining"));
    proxy.ended_within(DEADLINE).await;
}
