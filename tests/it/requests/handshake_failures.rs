//! A handshake that comes to nothing: who is told what, and whose fault it was.

use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::http::{Head, accept_value, assert_ours};
use crate::support::link::End;
use crate::support::logged::Logged;
use crate::support::proxy::Proxy;
use crate::support::upstream::{Act, Answer, Upstream};
use crate::support::wait::eventually;

// ---- requests that are no handshake

#[tokio::test]
async fn a_malformed_handshake_is_refused_and_costs_the_upstream_nothing() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let dial = || proxy.dial();
    let cases = [
        ("no key", dial().without("Sec-WebSocket-Key"), 400, "malformed_handshake"),
        ("a short key", dial().header("Sec-WebSocket-Key", "c2hvcnQ="), 400, "malformed_handshake"),
        (
            "no base64",
            dial().header("Sec-WebSocket-Key", "????????????????????????"),
            400,
            "malformed_handshake",
        ),
        (
            "two keys",
            dial().also("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            400,
            "malformed_handshake",
        ),
        ("HTTP/1.0", dial().version("HTTP/1.0"), 400, "malformed_handshake"),
        ("POST", dial().method("POST"), 400, "malformed_handshake"),
        ("HEAD", dial().method("HEAD"), 400, "malformed_handshake"),
        ("no version", dial().without("Sec-WebSocket-Version"), 426, "unsupported_version"),
        ("version 8", dial().header("Sec-WebSocket-Version", "8"), 426, "unsupported_version"),
        ("two versions", dial().also("Sec-WebSocket-Version", "8"), 426, "unsupported_version"),
    ];
    let count = cases.len();
    for (name, dial, status, reason) in cases {
        let mut client = dial.answer().await;
        let response = &client.response;
        assert_eq!(
            (response.status(), response.header("X-Outrigger-Reason")),
            (status, Some(reason)),
            "{name}: {:#?}",
            response.head
        );
        if status == 426 {
            assert_eq!(response.header("Sec-WebSocket-Version"), Some("13"), "{name} (RFC 6455 §4.4)");
        }
        assert_eq!(client.read_exactly(1).await, Err(End::Eof), "{name}: what follows is not to be believed");
    }
    let malformed = "outrigger_handshakes_total{route=\"default\",outcome=\"malformed\"}";
    assert_eq!(proxy.metric(malformed).await, count as f64);
    assert_eq!(upstream.accepted(), 0, "the upstream was dialled for nothing");
}

#[tokio::test]
async fn what_is_no_http_is_told_so() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let tls_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice();
    let cases = [
        b"this is not http\r\n\r\n".as_slice(),
        b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"\x00\x00\x00\x00",
        tls_hello,
    ];
    for bytes in cases {
        let mut link = proxy.plain().connect().await;
        link.send_bytes(bytes).await;
        let response = link.read_response("GET").await;
        assert_ours(&response, 400, "malformed_request");
        assert_eq!(link.read_exactly(1).await, Err(End::Eof));
    }
    assert_eq!(upstream.accepted(), 0);
}

// ---- upstreams that do not answer

async fn failed(proxy: &Proxy, status: u16, reason: &str, outcome: &str, kind: &str) {
    let mut client = proxy.dial().answer().await;
    assert_ours(&client.response, status, reason);
    assert_eq!(client.read_exactly(1).await, Err(End::Eof), "{reason}: the connection has to end");
    let sample = format!("outrigger_handshakes_total{{route=\"default\",outcome=\"{outcome}\"}}");
    assert_eq!(proxy.metric(&sample).await, 1.0);
    assert_eq!(proxy.metric(&format!("outrigger_upstream_errors_total{{kind=\"{kind}\"}}")).await, 1.0);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_502() {
    let nowhere = Upstream::nowhere().await;
    let missing = crate::support::files::socket_path();
    for url in [format!("http://{nowhere}"), format!("unix://{}", missing.display())] {
        let proxy = Proxy::to_url(&url).spawn().await;
        failed(&proxy, 502, "upstream_unreachable", "unreachable", "connect").await;
        let told = proxy.dial().refused().await.text();
        let address = url.split("//").nth(1).expect("it is a URL");
        assert!(!told.contains(address), "a client need not know where the server is: {told}");
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_be_connected_to_in_time_is_a_504() {
    // Its queue is full and nobody takes anything out of it: further SYNs are dropped.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let listener = socket.listen(1).expect("it listens");
    let address = listener.local_addr().expect("it has an address");
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queued.push(stream.expect("it is queued"));
        assert!(queued.len() < 100, "the queue is never full");
    }
    let proxy =
        Proxy::to_url(format!("http://{address}")).yaml("upstream: {connect_timeout: 100ms}").spawn().await;
    failed(&proxy, 504, "upstream_timeout", "timeout", "connect_timeout").await;
}

#[tokio::test]
async fn an_upstream_that_accepts_and_says_nothing_is_a_504() {
    for answer in [Answer::Silent, Answer::NeverRead] {
        let upstream = Upstream::builder().answering(answer).spawn().await;
        let proxy = Proxy::to(&upstream).yaml("upstream: {handshake_timeout: 150ms}").spawn().await;
        failed(&proxy, 504, "upstream_timeout", "timeout", "response_timeout").await;
    }
}

#[tokio::test]
async fn an_upstream_that_begins_an_answer_and_never_ends_it_is_a_504() {
    let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
    let proxy = Proxy::to(&upstream).yaml("upstream: {handshake_timeout: 300ms}").spawn().await;
    let mut client = proxy.dial().send().await;
    let mut server = upstream.accept().await;
    server.send_bytes(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: webso").await;
    assert_ours(&client.read_response("GET").await, 504, "upstream_timeout");
    assert!(server.read_exactly(1).await.is_err(), "the server is let go");
}

#[tokio::test]
async fn an_upstream_that_goes_without_an_answer_is_a_502() {
    let garbage = Answer::Raw(b"\x00\x01 no HTTP at all\r\n\r\n".to_vec());
    for answer in [Answer::Hangup, Answer::HangupAfterRequest, Answer::ResetAfterRequest, garbage] {
        let upstream = Upstream::builder().answering(answer).spawn().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        failed(&proxy, 502, "upstream_broken", "unreachable", "broken").await;
    }
}

#[tokio::test]
async fn an_upstream_with_an_endless_head_is_a_502() {
    let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let mut client = proxy.dial().send().await;
    let mut server = upstream.accept().await;
    let line = format!("X-More: {}\r\n", "x".repeat(1000));
    // It is cut off somewhere in there.
    let _ = server.try_send_bytes(format!("HTTP/1.1 101 Fine\r\n{}", line.repeat(2000)).as_bytes()).await;
    assert_ours(&client.read_response("GET").await, 502, "upstream_broken");
}

#[tokio::test]
async fn a_101_that_is_none_is_a_502() {
    let switching = |headers: &[&str]| {
        let headers = headers.iter().map(|line| format!("{line}\r\n")).collect::<String>();
        Answer::With(std::sync::Arc::new(move |head: &Head| {
            let accept = accept_value(head.header("Sec-WebSocket-Key").unwrap_or_default());
            format!("HTTP/1.1 101 Fine\r\n{}\r\n", headers.replace("ACCEPT", &accept)).into_bytes()
        }))
    };
    let good = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: ACCEPT"];
    let and = |more: &str| switching(&[&good[..], &[more]].concat());
    let cases = [
        ("another key's accept", Answer::WrongAccept),
        ("no accept", Answer::NoAccept),
        ("no upgrade", Answer::NoUpgrade),
        ("no connection", Answer::NoConnection),
        ("two accepts", and("Sec-WebSocket-Accept: ACCEPT")),
        ("another upgrade", switching(&["Upgrade: h2c", good[1], good[2]])),
        ("two upgrades", switching(&["Upgrade: websocket, h2c", good[1], good[2]])),
        ("connection names something else", switching(&[good[0], "Connection: keep-alive", good[2]])),
        ("a subprotocol nobody offered", and("Sec-WebSocket-Protocol: soap")),
        ("an extension nobody offered", and("Sec-WebSocket-Extensions: permessage-deflate")),
    ];
    for (name, answer) in cases {
        let upstream = Upstream::builder().answering(answer).spawn().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        println!("{name}");
        failed(&proxy, 502, "upstream_bad_upgrade", "bad_upgrade", "bad_upgrade").await;
        eventually(DEADLINE, || async { upstream.open() == 0 }).await;
    }
}

#[tokio::test]
async fn a_client_that_gives_up_during_its_handshake_takes_the_dial_with_it() {
    let upstream = Upstream::builder().answering(Answer::Silent).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    for reset in [false, true] {
        let link = proxy.dial().send().await;
        eventually(DEADLINE, || async { upstream.open() == 1 }).await;
        if reset {
            link.reset();
        } else {
            drop(link);
        }
        eventually(DEADLINE, || async { upstream.open() == 0 }).await;
    }
    let abandoned = "outrigger_handshakes_total{route=\"default\",outcome=\"abandoned\"}";
    eventually(DEADLINE, || async { proxy.metric(abandoned).await == 2.0 }).await;
    assert_eq!(proxy.metric("outrigger_http_connections").await, 0.0);
}

#[tokio::test]
async fn handshakes_beyond_max_dials_take_their_turn() {
    let upstream = Upstream::builder().on_open([Act::Ignore]).spawn().await;
    let proxy = Proxy::to(&upstream).yaml("upstream: {max_dials: 1}").spawn().await;
    let clients = (0..50).map(|_| tokio::spawn(RawClient::connect(proxy.address(), "/")));
    for client in Vec::from_iter(clients) {
        drop(client.await.expect("every one of them is let in, one dial after another"));
    }
    assert_eq!(upstream.accepted(), 50);
    assert_eq!(proxy.metric("outrigger_dials_in_progress").await, 0.0);
}

#[tokio::test]
async fn an_upstream_that_comes_back_is_found_again() {
    let mut upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    drop(proxy.connect("/").await);
    upstream.stop().await;
    assert_ours(&proxy.dial().refused().await, 502, "upstream_unreachable");
    upstream.start().await;
    let mut client = proxy.connect("/").await;
    client.text("hello again").await;
    client.expect_text("hello again").await;
}

#[tokio::test]
async fn a_refusal_with_more_behind_it_than_it_said_is_still_the_refusal() {
    let cases: [(&[u8], u16, &str); 2] = [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nnomore", 403, "no"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", 204, ""),
    ];
    for (raw, status, text) in cases {
        let upstream = Upstream::builder().answering(Answer::Raw(raw.to_vec())).spawn().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        let refused = proxy.dial().refused().await;
        assert_eq!((refused.status(), &*refused.text()), (status, text));
    }
}

#[tokio::test]
async fn answers_to_a_handshake_with_many_headers_pass_whether_they_are_a_101_or_not() {
    let (logged, _logging) = Logged::of_this_thread();
    let many = |count: usize| "X-Many: x\r\n".repeat(count);
    let refusing = |count| format!("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n{}\r\n", many(count));
    let upstream = Upstream::builder().answering(Answer::Raw(refusing(500).into())).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let refused = proxy.dial().refused().await;
    assert_eq!((refused.status(), refused.head.headers.all("X-Many").len()), (403, 500));
    let headers = vec![("X-Many", "x"); 500];
    upstream.change(Upstream::builder().answering(Answer::accept_with(&headers)));
    let client = proxy.dial().open().await;
    assert_eq!(client.response.head.headers.all("X-Many").len(), 500);
    upstream.change(Upstream::builder().answering(Answer::Raw(refusing(600).into())));
    assert_ours(&proxy.dial().refused().await, 502, "upstream_broken");
    let limits = "(upstream.max_header_bytes), or has more than 512 headers";
    assert!(logged.text().contains(limits), "{}", logged.text());
}

#[tokio::test]
async fn no_word_of_a_library_stands_in_the_log_when_a_server_fails() {
    let (logged, _logging) = Logged::of_this_thread();
    let garbage = |text: &str| Answer::Raw(text.as_bytes().to_vec());
    for answer in [
        Answer::Hangup,
        Answer::HangupAfterRequest,
        Answer::ResetAfterRequest,
        garbage("SSH-2.0-OpenSSH\r\n"),
        garbage("HTTP/1.1 abc\r\n\r\n"),
        garbage("HTTP/1.1 200 OK\r\nno colon\r\n\r\n"),
        garbage("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
    ] {
        let upstream = Upstream::builder().answering(answer).spawn().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        assert_ours(&proxy.dial().refused().await, 502, "upstream_broken");
    }
    let text = logged.text();
    assert!(text.matches("the upstream broke off: ").count() >= 7, "{text}");
    for words in ["parsed", "client error", "connection error", "hyper", "message completed", "operation was"]
    {
        assert!(!text.contains(words), "{words}: {text}");
    }
}
