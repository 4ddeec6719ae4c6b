//! A drain has one deadline, from whoever asked first: what is left then is cut, whatever it is, and nobody is told
//! that it is over before.

use std::time::Duration;

use http::Request;
use tokio::time::{Instant, sleep_until};

use crate::support::DEADLINE;
use crate::support::binary::{Binary, Builder, Running};
use crate::support::client::RawClient;
use crate::support::http::chunk;
use crate::support::http2::{Came, Client};
use crate::support::link::{End, Link};
use crate::support::upstream::{Answer, Plain, ServerConn, Upstream};
use crate::support::wait::eventually;

/// Handshakes and plain requests are the test's to answer.
async fn by_hand() -> Upstream {
    Upstream::builder().answering(Answer::HandOver).on_request(Plain::HandOver).spawn().await
}

async fn run(upstream: &Upstream, drain: &str) -> Running {
    let settings = [("DRAIN", drain), ("POLICY__CLOSE_TIMEOUT", "60s"), ("LOG__REQUESTS", "all")];
    Binary::run(&upstream.url(), &settings).await
}

/// The beginning of an answer without an end.
async fn begin_endless(server: &mut ServerConn) {
    server.send_bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    server.send_bytes(&chunk(b"first")).await;
}

async fn sample(running: &Running, sample: &str) -> f64 {
    running.metrics().await.get(sample).unwrap_or_else(|| panic!("no {sample}"))
}

/// What an operator reads when the drain is over.
async fn drained(running: &Running) -> Instant {
    let told = Builder::new(&["drain", "--wait", "--admin", &running.admin_url()]).output().await;
    assert_eq!((told.code, told.stdout.as_str()), (Some(0), "drained\n"), "{}", told.stderr);
    Instant::now()
}

/// Not in order, as an answer that is whole would.
async fn assert_cut(name: &str, link: &mut Link) {
    let end = link.discard_to_end().await;
    assert_eq!(end, End::Reset, "{name}: it must not be taken for the end of what was said");
}

#[tokio::test]
async fn what_is_left_at_the_end_of_a_drain_is_cut_whatever_it_is_and_only_then_it_is_over() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    let upstream = by_hand().await;
    let mut running = run(&upstream, "{spread: 0s, timeout: 4s}").await;
    let (tunnel, mut behind_tunnel) = tokio::join!(running.dial().send(), upstream.accept());
    behind_tunnel.accept_websocket().await;
    let mut tunnel = tunnel;
    assert_eq!(tunnel.read_head().await.status(), 101);
    let (mut body, mut behind_body) = tokio::join!(running.plain().send(), upstream.accept());
    begin_endless(&mut behind_body).await;
    assert_eq!(body.read_head().await.status(), 200);
    let (mut unanswered, mut behind_unanswered) = tokio::join!(running.plain().send(), upstream.accept());
    let upload = running.plain().method("POST").header("Content-Length", "100").send();
    let (mut upload, mut behind_upload) = tokio::join!(upload, upstream.accept());
    upload.send_bytes(b"a part").await;
    let (mut handshake, mut behind_handshake) = tokio::join!(running.dial().send(), upstream.accept());
    let mut idle = running.plain().connect().await;
    idle.send_bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut behind_idle = upstream.accept().await;
    behind_idle.send_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(idle.read_response("GET").await.status(), 200);

    let since = Instant::now();
    let at = drained(&running).await;
    assert!(at - since >= TIMEOUT, "after {:?}", at - since);
    let metrics = running.metrics().await;
    assert_eq!(metrics.get("outrigger_http_requests_in_flight"), Some(0.0));
    assert_eq!(metrics.get("outrigger_clients{route=\"default\"}"), Some(0.0));
    assert_eq!(metrics.get("outrigger_drain_cut_total{what=\"connections\"}"), Some(1.0));
    assert_eq!(metrics.get("outrigger_drain_cut_total{what=\"requests\"}"), Some(4.0));
    // It was told, and did not answer.
    assert_eq!(tunnel.next_frame().await.close_status().0, 1012);
    let _end = tunnel.discard_to_end().await;
    for (name, link) in [
        ("body", &mut body),
        ("unanswered", &mut unanswered),
        ("upload", &mut upload),
        ("handshake", &mut handshake),
    ] {
        assert_cut(name, link).await;
    }
    for server in [
        &mut behind_tunnel,
        &mut behind_body,
        &mut behind_unanswered,
        &mut behind_upload,
        &mut behind_handshake,
    ] {
        let _end = server.discard_to_end().await;
    }
    let told = running.binary.line_with("cutting what is left").await;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["clients"], &told["requests"]), (&1.into(), &4.into()), "{told}");
    // Who asks nothing is in nobody's way, and plain requests are answered until the signal.
    idle.send_bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut late = upstream.accept().await;
    late.send_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").await;
    assert_eq!(idle.read_response("GET").await.text(), "late");

    let (_endless, _head) = tokio::join!(running.plain().send(), late.read_head());
    let signalled = Instant::now();
    running.binary.signal("TERM").await;
    assert_eq!(running.binary.exited().await.code(), Some(0), "{}", running.binary.said());
    assert!(signalled.elapsed() < TIMEOUT / 2, "another {:?} after the drain's time", signalled.elapsed());
}

#[tokio::test]
async fn what_is_left_over_http2_is_cut_as_well() {
    let upstream = by_hand().await;
    let mut running = run(&upstream, "{spread: 0s, timeout: 3s}").await;
    let client = Client::connect(running.address()).await;
    let get = || Request::builder().uri("http://h2.example/").body(()).unwrap();
    let mut send = client.send.clone().ready().await.unwrap();
    let (body, _) = send.send_request(get(), true).unwrap();
    let mut behind_body = upstream.accept().await;
    begin_endless(&mut behind_body).await;
    let mut body = body.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "first");
    let (unanswered, _) = send.send_request(get(), true).unwrap();
    let mut behind_unanswered = upstream.accept().await;
    let (handshake, _handshake) = send.send_request(Client::handshake("/"), false).unwrap();
    let mut behind_handshake = upstream.accept().await;
    let (socket, mut behind_socket) = tokio::join!(client.open("/"), async {
        let mut behind = upstream.accept().await;
        behind.accept_websocket().await;
        behind
    });
    let mut socket = socket;

    let since = Instant::now();
    let at = drained(&running).await;
    assert!(at - since >= Duration::from_secs(3), "after {:?}", at - since);
    assert_eq!(sample(&running, "outrigger_http_requests_in_flight").await, 0.0);
    assert_eq!(sample(&running, "outrigger_clients{route=\"default\"}").await, 0.0);
    assert_eq!(sample(&running, "outrigger_http_connections").await, 0.0);
    assert!(body.data().await.unwrap().is_err(), "it has no end");
    assert!(unanswered.await.is_err());
    assert!(handshake.await.is_err());
    assert_eq!(socket.frame().await.close_status().0, 1012);
    assert_eq!(socket.receive().await, Came::End, "it was told everything");
    for server in [&mut behind_body, &mut behind_unanswered, &mut behind_handshake, &mut behind_socket] {
        let _end = server.discard_to_end().await;
    }
    running.binary.signal("TERM").await;
    assert_eq!(running.binary.exited().await.code(), Some(0), "{}", running.binary.said());
}

#[tokio::test]
async fn a_signal_has_what_is_left_of_the_time_of_the_drain_before_it() {
    const TIMEOUT: Duration = Duration::from_secs(6);
    for is_over in [false, true] {
        let upstream = by_hand().await;
        let mut running = run(&upstream, "{spread: 0s, timeout: 6s}").await;
        let begin = async || tokio::join!(running.plain().send(), upstream.accept());
        let mut endless = None;
        if !is_over {
            endless = Some(begin().await);
        }
        let since = Instant::now();
        if is_over {
            drained(&running).await;
            endless = Some(begin().await);
        } else {
            let told = Builder::new(&["drain", "--admin", &running.admin_url()]).output().await;
            assert_eq!(told.code, Some(0), "{}", told.stderr);
        }
        sleep_until(since + TIMEOUT / 2).await;
        assert!(running.binary.is_running());
        let signalled = Instant::now();
        running.binary.signal("TERM").await;
        assert_eq!(running.binary.exited().await.code(), Some(0), "{}", running.binary.said());
        assert!(since.elapsed() >= TIMEOUT, "is over: {is_over}; after {:?}", since.elapsed());
        assert!(signalled.elapsed() < TIMEOUT, "is over: {is_over}; {:?} of its own", signalled.elapsed());
        let Some((mut client, _server)) = endless else { unreachable!() };
        assert!(client.try_read_head().await.is_err());
    }
}

#[tokio::test]
async fn where_nothing_is_left_the_signal_after_a_drain_ends_the_process_at_once() {
    const TIMEOUT: Duration = Duration::from_secs(20);
    let upstream = Upstream::echo().await;
    let mut running = run(&upstream, "{spread: 0s, timeout: 20s}").await;
    let mut client = RawClient::connect(running.address(), "/").await;
    let closing = tokio::spawn(async move { client.closed().await.code });
    drained(&running).await;
    assert_eq!(closing.await.unwrap(), 1012);
    let signalled = Instant::now();
    running.binary.signal("TERM").await;
    assert_eq!(running.binary.exited().await.code(), Some(0));
    assert!(signalled.elapsed() < TIMEOUT / 4, "after {:?}", signalled.elapsed());
}

#[tokio::test]
async fn a_hello_over_tls_that_never_ends_does_not_outlast_a_drain() {
    use crate::support::proxy::Proxy;
    let upstream = Upstream::echo().await;
    let drain = "drain: {timeout: 1s}\nlisten: {handshake_timeout: 60s}";
    let proxy = Proxy::to(&upstream).yaml(drain).tls(crate::support::tls::listen()).spawn().await;
    let mut hello = proxy.plain().connect().await;
    hello.send_bytes(&[22, 3, 1]).await;
    let mut websocket = proxy.dial().tls(crate::support::tls::client()).open().await;
    eventually(DEADLINE, || async { proxy.metric("outrigger_handshakes_in_progress").await == 1.0 }).await;
    let asked = {
        let admin = proxy.admin();
        tokio::spawn(async move {
            RawClient::plain(admin)
                .method("POST")
                .path("/api/admin/drain?wait=true")
                .answer()
                .await
                .response
                .text()
        })
    };
    // It does not answer, so that there is something to wait for.
    assert_eq!(websocket.next_frame().await.close_status().0, 1012);
    let told = asked.await.unwrap();
    assert!(told.contains("drained"), "{told}");
    let _end = hello.discard_to_end().await;
    eventually(DEADLINE, || async { proxy.metric("outrigger_handshakes_in_progress").await == 0.0 }).await;
}

#[tokio::test]
async fn a_feed_whose_server_answers_no_close_and_one_that_is_dialled_do_not_outlast_a_drain() {
    let upstream = by_hand().await;
    let settings = [
        ("DRAIN", "{spread: 0s, timeout: 2s}"),
        ("POLICY__CLOSE_TIMEOUT", "60s"),
        ("ROUTES", "[{name: feed, path: '/{*rest}', mode: broadcast}]"),
    ];
    let mut running = Binary::run(&upstream.url(), &settings).await;
    let (mut client, mut behind) = tokio::join!(running.dial().path("/a").send(), async {
        let mut behind = upstream.accept().await;
        behind.accept_websocket().await;
        behind
    });
    assert_eq!(client.read_head().await.status(), 101);
    let (mut dialling, mut silent) = tokio::join!(running.dial().path("/b").send(), upstream.accept());
    drained(&running).await;
    let metrics = running.metrics().await;
    assert_eq!(metrics.get("outrigger_channels{route=\"feed\"}"), Some(0.0));
    assert_eq!(metrics.get("outrigger_http_requests_in_flight"), Some(0.0));
    assert_eq!(metrics.get("outrigger_disconnections_total{route=\"feed\",reason=\"drained\"}"), Some(1.0));
    assert_eq!(client.next_frame().await.close_status().0, 1012);
    assert_cut("a handshake for a feed", &mut dialling).await;
    assert_eq!(behind.next_frame().await.close_status(), (1001, "no clients".to_owned()));
    let _end = silent.discard_to_end().await;
    running.binary.signal("TERM").await;
    assert_eq!(running.binary.exited().await.code(), Some(0), "{}", running.binary.said());
}
