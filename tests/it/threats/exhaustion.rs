//! Clients that would wear a proxy out before they have a WebSocket: slow ones, large ones, many names.
//! One test a threat, named after it.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::support::DEADLINE;
use crate::support::client::Dial;
use crate::support::http::assert_ours;
use crate::support::link::End;
use crate::support::proxy::Proxy;
use crate::support::upstream::Upstream;
use crate::support::wait::eventually;

#[tokio::test]
async fn slow_loris() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("listen: {handshake_timeout: 500ms}").spawn().await;
    let request = proxy.dial().request();

    // Half a handshake, and then nothing.
    let since = Instant::now();
    let mut half = proxy.plain().connect().await;
    half.send_bytes(&request[..request.len() / 2]).await;
    // Not even that.
    let mut silent = proxy.plain().connect().await;
    // A byte now and then: none of them buys time.
    let mut drip = proxy.plain().connect().await;
    for byte in request.iter().chain(std::iter::repeat(&b'x')) {
        drip.send_bytes(&[*byte]).await;
        if !drip.peek_for(Duration::from_millis(20)).await.is_empty() {
            break;
        }
        assert!(since.elapsed() < DEADLINE, "it may go on for ever");
    }
    for (name, link) in [("drip", &mut drip), ("half", &mut half), ("silent", &mut silent)] {
        assert_ours(&link.read_response("GET").await, 408, "handshake_timeout");
        assert!(since.elapsed() >= Duration::from_millis(500), "{name}: sooner than was promised");
        assert_eq!(link.read_exactly(1).await, Err(End::Eof), "{name}");
    }
    assert_eq!(upstream.accepted(), 0);
    drop((half, silent, drip));
    eventually(DEADLINE, || async { proxy.metric("outrigger_http_connections").await == 0.0 }).await;
}

#[tokio::test]
async fn slow_loris_on_a_kept_connection() {
    let upstream = Upstream::echo().await;
    let listen = "listen: {handshake_timeout: 400ms, keep_alive: 1500ms}";
    let proxy = Proxy::to(&upstream).yaml(listen).spawn().await;
    let plain = proxy.plain().request();

    // Idle, it lives longer than a handshake may take …
    let mut idle = proxy.plain().connect().await;
    for _ in 0..2 {
        idle.send_bytes(&plain).await;
        assert_eq!(idle.read_response("GET").await.status(), 200);
        assert_eq!(idle.peek_for(Duration::from_millis(800)).await, b"");
    }
    // … and ends without a word when nothing more is asked.
    idle.send_bytes(&plain).await;
    assert_eq!(idle.read_response("GET").await.status(), 200);
    let since = Instant::now();
    assert_eq!(idle.read_exactly(1).await, Err(End::Eof));
    assert!(since.elapsed() >= Duration::from_millis(1300), "after {:?}", since.elapsed());

    // A further request has as long as the first one, from its first byte.
    let mut drip = proxy.plain().connect().await;
    drip.send_bytes(&plain).await;
    assert_eq!(drip.read_response("GET").await.status(), 200);
    let since = Instant::now();
    for byte in &plain {
        drip.send_bytes(&[*byte]).await;
        if !drip.peek_for(Duration::from_millis(50)).await.is_empty() {
            break;
        }
    }
    assert_ours(&drip.read_response("GET").await, 408, "handshake_timeout");
    assert!(since.elapsed() >= Duration::from_millis(400), "after {:?}", since.elapsed());
}

#[tokio::test]
async fn header_size() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let line = format!("X-Filler: {}\r\n", "x".repeat(1000));
    let lines = |count: usize| line.repeat(count);
    let many = "X-Filler: x\r\n".repeat(600);
    let one = format!("X-Filler: {}\r\n", "x".repeat(1 << 20));
    let cases = [
        ("1 MB in many headers", format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines(1024))),
        ("1 MB in one header", format!("GET / HTTP/1.1\r\nHost: a\r\n{one}\r\n")),
        ("1 MB that never ends", format!("GET / HTTP/1.1\r\nHost: a\r\n{}", lines(1024))),
        ("600 headers", format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")),
        ("a path of 1 MB", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1 << 20))),
        ("a path of 70 KB", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000))),
    ];
    for (name, request) in cases {
        let mut link = proxy.plain().connect().await;
        // As most clients: all of it is sent before anything is read.
        link.stop_reading();
        link.send_bytes(request.as_bytes()).await;
        link.resume_reading();
        println!("{name}");
        let refused = link.read_response("GET").await;
        assert_ours(&refused, 431, "head_too_large");
        let limits = ["listen.max_header_bytes", "512 headers"];
        assert!(limits.iter().all(|limit| refused.text().contains(limit)), "{name}: {}", refused.text());
        assert_eq!(link.read_exactly(1).await, Err(End::Eof), "{name}");
        // No reset has come, which would have taken the answer from clients whose system is not Linux.
        link.try_send_bytes(b"still talking").await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_eq!(upstream.accepted(), 0);

    let within = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}\r\n", lines(30));
    let mut link = proxy.plain().connect().await;
    link.send_bytes(within.as_bytes()).await;
    assert_eq!(link.read_response("GET").await.status(), 200, "listen.max_header_bytes is 32 KiB");
    assert_eq!(upstream.requests()[0].head.headers.all("X-Filler").len(), 30);

    let many =
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}\r\n", "X-Filler: x\r\n".repeat(500));
    let mut link = proxy.plain().connect().await;
    link.send_bytes(many.as_bytes()).await;
    assert_eq!(link.read_response("GET").await.status(), 200, "a head is bounded by its bytes first");
    assert_eq!(upstream.requests()[1].head.headers.all("X-Filler").len(), 500);

    // Whoever goes on for ever is not listened to for ever.
    let mut link = proxy.plain().connect().await;
    link.send_bytes(b"GET / HTTP/1.1\r\n").await;
    let flood = async { while link.try_send_bytes(line.as_bytes()).await.is_ok() {} };
    timeout(DEADLINE, flood).await.expect("it ends");
}

#[tokio::test]
async fn accept_loop_stall() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("listen: {handshake_timeout: 60s}").spawn().await;
    let half = proxy.dial().request();
    let mut slow = Vec::new();
    for number in 0..200 {
        let mut link = proxy.plain().connect().await;
        // Nothing, half a head, or a body that does not come.
        match number % 3 {
            0 => {}
            1 => link.send_bytes(&half[..half.len() - 3]).await,
            _ => link.send_bytes(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf").await,
        }
        slow.push(link);
    }
    eventually(DEADLINE, || async { proxy.metric("outrigger_http_connections").await >= 200.0 }).await;
    let quick = async {
        let mut client = proxy.connect("/").await;
        client.text("hello").await;
        client.expect_text("hello").await;
        assert_eq!(proxy.plain().answer().await.response.status(), 200);
    };
    timeout(Duration::from_secs(5), quick).await.expect("one slow client delays no other");
    drop(slow);
    eventually(DEADLINE, || async { proxy.metric("outrigger_http_connections").await == 0.0 }).await;
}

#[tokio::test]
async fn unbounded_names() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("routes: [{name: chat, path: '/chat/{room}'}]").spawn().await;
    let one_of_each = async |number: usize| {
        let name = format!("invented{number}");
        let shape = |dial: Dial| {
            let path =
                if number.is_multiple_of(2) { format!("/chat/{name}") } else { format!("/{name}?{name}") };
            let dial = dial.path(&path).header("Host", &format!("{name}.example.com"));
            dial.header("X-Request-Id", &name).header("X-Outrigger-User", &name).also(&name, &name)
        };
        let mut client = shape(proxy.dial()).header("Sec-WebSocket-Protocol", &name).open().await;
        client.close(3000 + number as u16, &name).await;
        client.closed().await;
        let plain = shape(proxy.plain()).method(&name.to_uppercase()).header("Connection", "close");
        assert_eq!(plain.answer().await.response.status(), 200);
        shape(proxy.dial()).header("Sec-WebSocket-Version", &name).refused().await;
    };
    let names = async || {
        // Connections of the first round are told before they are compared.
        eventually(DEADLINE, || async { proxy.metrics().await.sum("outrigger_clients") == 0.0 }).await;
        let metrics = proxy.metrics().await.0;
        let samples = metrics.lines().filter(|line| !line.starts_with('#'));
        samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect::<Vec<_>>()
    };
    one_of_each(0).await;
    one_of_each(1).await;
    one_of_each(1000).await;
    let before = names().await;
    for number in 2..60 {
        one_of_each(number).await;
    }
    assert_eq!(names().await, before, "what a client makes up is no label");
    assert!(!before.iter().any(|name| name.contains("invented")), "{before:#?}");
}
