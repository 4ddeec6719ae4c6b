//! WebSockets over HTTP/2 (RFC 8441) and plain requests beside them: what a client sees, and that the
//! unmodified server sees a client of HTTP/1.1.

use std::time::Duration;

use h2::Reason;
use h2::client::Builder;
use http::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::DEADLINE;
use crate::support::http2::{Came, Client};
use crate::support::link::{End, Received};
use crate::support::proxy::Proxy;
use crate::support::tls;
use crate::support::upstream::{Act, Answer, Plain, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{Frame, PING, Role};
use outrigger::config::OnRefuse;

const RESTARTING: &str = "server is restarting";

#[tokio::test]
async fn an_extended_connect_is_a_websocket() {
    let accept = Answer::accept_with(&[("Sec-WebSocket-Protocol", "chat"), ("X-Of", "the server")]);
    let upstream = Upstream::builder().answering(accept).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let client = Client::connect(proxy.address()).await;
    let mut request = Client::handshake("/a/b?c=d");
    for (name, value) in [
        ("sec-websocket-protocol", "chat"),
        ("sec-websocket-key", "theirs"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
    ] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let mut socket = client.try_open(request).await.unwrap();
    let headers = socket.head.headers().clone();
    assert_eq!(headers["sec-websocket-protocol"], "chat");
    assert_eq!(headers["x-of"], "the server");
    for name in ["upgrade", "connection", "sec-websocket-accept", "content-length"] {
        assert!(!headers.contains_key(name), "{headers:?}");
    }
    for text in ["hello", "and again"] {
        socket.echoes(text).await;
    }
    let [seen] = &upstream.handshakes()[..] else { panic!("one handshake") };
    assert!(seen.early.is_empty());
    let head = &seen.head;
    assert_eq!((head.method(), head.target()), ("GET", "/a/b?c=d"));
    assert_eq!(head.headers.all("host"), ["h2.example"]);
    assert_eq!(head.headers.all("cookie"), ["a=1; b=2"]);
    assert_eq!(head.headers.all("sec-websocket-version"), ["13"]);
    let [key] = head.headers.all("sec-websocket-key")[..] else { panic!("one key") };
    assert_ne!(key, "theirs");
    assert_eq!(head.header("x-forwarded-for"), Some("127.0.0.1"));

    socket.close(1000).await;
    assert_eq!(socket.frame().await.close_status().0, 1000);
    assert_eq!(socket.receive().await, Came::End);
    proxy.tells("client_close", Some(("client", "1000"))).await;
    // The connection is still there for others.
    upstream.change(Upstream::builder());
    client.open("/").await.echoes("next").await;
}

#[tokio::test]
async fn a_preface_may_come_byte_by_byte() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    for pause_at in 0..preface.len() {
        let mut tcp = TcpStream::connect(proxy.address()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.write_all(&preface[..pause_at]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
        tcp.write_all(&preface[pause_at..]).await.unwrap();
        let mut first = [0; 9];
        tcp.read_exact(&mut first).await.unwrap();
        assert_eq!(first[3], 4, "SETTINGS are due, not {first:?}, cut at {pause_at}");
    }
    let mut tcp = TcpStream::connect(proxy.address()).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    for byte in preface {
        tcp.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut first = [0; 9];
    tcp.read_exact(&mut first).await.unwrap();
    assert_eq!(first[3], 4);
    // What only looks like it is a bad request, as ever; so is a preface that comes too late.
    for (request, served) in [
        ("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 0),
        ("PRI / HTTP/2.0\r\n\r\n", 0),
        ("GET / HTTP/2.0\r\n\r\n", 0),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 1),
    ] {
        let mut link = proxy.plain().connect().await;
        link.send_bytes(request.as_bytes()).await;
        for _ in 0..served {
            assert_eq!(link.read_response("GET").await.status(), 200, "{request:?}");
        }
        if request.contains("PRI *") && served == 0 {
            // It is taken for HTTP/2 until the sixth line: then h2 ends it.
            let _ended = link.discard_to_end().await;
        } else {
            assert_eq!(link.read_response("GET").await.status(), 400, "{request:?}");
        }
    }
}

#[tokio::test]
async fn without_http2_a_preface_is_a_bad_request() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("listen: {http2: false}").spawn().await;
    let mut link = proxy.plain().connect().await;
    link.send_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(link.read_response("GET").await.status(), 400);
    proxy.connect("/").await.text("over HTTP/1.1").await;
}

#[tokio::test]
async fn a_hundred_websockets_share_a_connection() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let client = Client::connect(proxy.address()).await;
    let mut sockets = Vec::new();
    for _ in 0..100 {
        sockets.push(client.open("/").await);
    }
    for (index, socket) in sockets.iter_mut().enumerate() {
        socket.text(&format!("I am {index}")).await;
    }
    for (index, socket) in sockets.iter_mut().enumerate().rev() {
        socket.expect_text(&format!("I am {index}")).await;
    }
    assert_eq!(proxy.metric("outrigger_clients{route=\"default\"}").await, 100.0);
    assert_eq!(proxy.metric("outrigger_http_connections").await, 1.0);
    assert_eq!(upstream.accepted(), 100);
    drop(sockets);
    eventually(DEADLINE, || async { proxy.metric("outrigger_clients{route=\"default\"}").await == 0.0 })
        .await;
    assert_eq!(upstream.open(), 0);
}

#[tokio::test]
async fn a_large_message_goes_both_ways() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let client = Client::connect(proxy.address()).await;
    let mut socket = client.open("/").await;
    let payload: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
    for size in [0, 1, 16 * 1024, 64 * 1024, payload.len()] {
        let bytes = Frame::binary(&payload[..size]).encode(Role::Client);
        socket.send_bytes(bytes).await;
        let frame = socket.frame().await;
        assert!(frame.payload == payload[..size], "{size} bytes came back changed");
    }
}

#[tokio::test]
async fn a_stalled_websocket_does_not_delay_the_others() {
    let flood = [Act::Flood { messages: 4000, size: 4096 }];
    let upstream = Upstream::builder().on_text("flood", flood).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let client = Client::connect(proxy.address()).await;
    let mut stalled = client.open("/").await;
    stalled.text("flood").await;
    stalled.releases = false;
    // Its window is 64 KiB: the rest has to wait with us.
    for _ in 0..8 {
        stalled.frame().await;
    }
    eventually(DEADLINE, || async { proxy.metric("outrigger_buffered_bytes").await > 0.0 }).await;
    let mut other = client.open("/").await;
    let since = tokio::time::Instant::now();
    for n in 0..200 {
        other.echoes(&format!("still here {n}")).await;
    }
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    // It goes on where it stopped.
    stalled.releases = true;
    stalled.recv.flow_control().release_capacity(8 * 4100).unwrap();
    for _ in 8..100 {
        stalled.frame().await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_read_one_does_not_delay_the_others() {
    let upstream = Upstream::builder().on_text("stop", [Act::StopReading]).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let client = Client::connect(proxy.address()).await;
    let mut stalled = client.open("/").await;
    stalled.text("stop").await;
    let junk = Frame::binary(vec![7; 16 << 20]).encode(Role::Client);
    let taken = stalled.send_until_blocked(&junk, Duration::from_millis(300)).await;
    assert!(taken < junk.len(), "16 MiB went to a server that does not read");
    let mut other = client.open("/").await;
    let large = "x".repeat(300_000);
    for _ in 0..5 {
        other.echoes(&large).await;
    }
}

#[tokio::test]
async fn a_client_that_resets_is_lost_and_its_server_is_told() {
    for reason in [Reason::CANCEL, Reason::NO_ERROR, Reason::INTERNAL_ERROR] {
        let upstream = Upstream::by_hand().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        let client = Client::connect(proxy.address()).await;
        let socket = client.open("/").await;
        let mut server = upstream.accept().await;
        socket.reset(reason);
        assert_eq!(server.receive().await, Received::End(End::Eof), "{reason:?}");
        drop(server);
        proxy.tells("client_lost", None).await;
    }
}

#[tokio::test]
async fn a_client_that_ends_its_stream_or_its_connection_is_lost() {
    for is_connection in [false, true] {
        let upstream = Upstream::by_hand().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        let client = Client::connect(proxy.address()).await;
        let mut socket = client.open("/").await;
        let mut server = upstream.accept().await;
        if is_connection {
            client.abort();
        } else {
            socket.end();
        }
        assert_eq!(server.receive().await, Received::End(End::Eof), "{is_connection}");
        drop(server);
        proxy.tells("client_lost", None).await;
        if !is_connection {
            assert_eq!(socket.receive().await, Came::End);
        }
    }
}

#[tokio::test]
async fn a_client_that_resets_behind_what_its_server_does_not_take_is_noticed() {
    let upstream = Upstream::by_hand().await;
    let proxy = Proxy::to(&upstream).yaml("policy: {close_timeout: 1s}").spawn().await;
    let client = Client::connect(proxy.address()).await;
    let mut socket = client.open("/").await;
    let mut server = upstream.accept().await;
    server.stop_reading();
    let junk = Frame::binary(vec![7; 16 << 20]).encode(Role::Client);
    assert!(socket.send_until_blocked(&junk, Duration::from_millis(300)).await < junk.len());
    socket.reset(Reason::CANCEL);
    proxy.tells("client_lost", None).await;
    drop(server);
}

#[tokio::test]
async fn a_server_that_dies_is_told_by_a_close_and_the_end_of_the_stream() {
    let upstream = Upstream::builder().on_text("die", [Act::Hangup]).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let client = Client::connect(proxy.address()).await;
    let (mut socket, mut other) = (client.open("/").await, client.open("/").await);
    socket.text("die").await;
    assert_eq!(socket.frame().await.close_status().0, 1012);
    socket.close(1012).await;
    assert_eq!(socket.receive().await, Came::End);
    other.echoes("as ever").await;
}

#[tokio::test]
async fn a_cut_arrives_as_a_reset() {
    // Half a message is on its way: there is no place for a Close.
    let upstream = Upstream::builder().on_text("die", [Act::DieMidFrame]).spawn().await;
    let proxy = Proxy::to(&upstream).yaml("policy: {close_timeout: 300ms}").spawn().await;
    let client = Client::connect(proxy.address()).await;
    let mut socket = client.open("/").await;
    socket.text("die").await;
    assert_eq!(socket.receive().await, Came::End, "inside a frame the stream ends without a Close");

    // Nobody answers our Close, and the last part of what was sent is not taken.
    let upstream = Upstream::builder().on_text("flood", [Act::Flood { messages: 4000, size: 4096 }]);
    let upstream = upstream.spawn().await;
    let yaml = "policy: {close_timeout: 300ms}\ndrain: {timeout: 1s}";
    let proxy = Proxy::to(&upstream).yaml(yaml).spawn().await;
    let client = Client::connect(proxy.address()).await;
    let (mut socket, mut other) = (client.open("/").await, client.open("/").await);
    socket.releases = false;
    socket.text("flood").await;
    for _ in 0..8 {
        socket.frame().await;
    }
    eventually(DEADLINE, || async { proxy.metric("outrigger_buffered_bytes").await > 0.0 }).await;
    proxy.drain();
    let since = tokio::time::Instant::now();
    let close = other.frame().await.close_status();
    assert_eq!(close, (1012, RESTARTING.to_owned()));
    other.close(1012).await;
    loop {
        match socket.receive().await {
            Came::Frame(_) => {}
            end => {
                assert_eq!(end, Came::Reset(Reason::CANCEL));
                // At once, and not when what it did not take has waited in vain.
                assert!(since.elapsed() < Duration::from_millis(1800), "{:?}", since.elapsed());
                break;
            }
        }
    }
}

#[tokio::test]
async fn heartbeats_go_between_frames_and_their_lack_ends_a_client() {
    let upstream = Upstream::echo().await;
    let beat = "policy: {heartbeat: {interval: 200ms, timeout: 300ms}, close_timeout: 300ms}";
    let proxy = Proxy::to(&upstream).yaml(beat).spawn().await;
    let client = Client::connect(proxy.address()).await;
    let mut socket = client.open("/").await;
    for _ in 0..3 {
        let ping = socket.frame().await;
        assert_eq!(ping.opcode, PING);
        socket.send(&Frame::pong(&ping.payload)).await;
    }
    socket.echoes("I am here").await;
    // And now it says nothing any more.
    loop {
        match socket.receive().await {
            Came::Frame(frame) if frame.opcode == PING => {}
            Came::Frame(frame) => assert_eq!(frame.close_status().0, 1001),
            end => {
                assert!(matches!(end, Came::Reset(_) | Came::End), "{end:?}");
                break;
            }
        }
    }
    proxy.tells("heartbeat_timeout", Some(("proxy", "1001"))).await;
}

#[tokio::test]
async fn a_drain_closes_websockets_and_lets_the_connection_go() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("drain: {spread: 300ms}").spawn().await;
    let client = Client::connect(proxy.address()).await;
    let idle = Client::connect(proxy.address()).await;
    let (mut first, mut second) = (client.open("/").await, client.open("/").await);
    first.echoes("hello").await;
    proxy.drain();
    for socket in [&mut first, &mut second] {
        assert_eq!(socket.frame().await.close_status(), (1012, RESTARTING.to_owned()));
        socket.close(1012).await;
        assert_eq!(socket.receive().await, Came::End);
    }
    proxy.ended_within(DEADLINE).await;
    drop((first, second));
    client.ended().await.expect("GOAWAY, and no error");
    idle.ended().await.expect("GOAWAY, and no error");
}

#[tokio::test]
async fn a_draining_proxy_takes_no_further_streams() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("drain: {spread: 3s, timeout: 8s}").spawn().await;
    let client = Client::connect(proxy.address()).await;
    let mut sockets = Vec::new();
    for _ in 0..8 {
        sockets.push(client.open("/").await);
    }
    proxy.drain();
    eventually(DEADLINE, || async {
        let request = Request::get("http://h2.example/").body(()).unwrap();
        client.plain(request, b"").await.is_err_and(|error| error.is_go_away())
    })
    .await;
    // Most of them are still there: those go one by one.
    let last = sockets.last_mut().unwrap();
    last.text("until then").await;
    let _ = last.frame().await;
}

#[tokio::test]
async fn an_idle_connection_ends_and_one_with_a_websocket_does_not() {
    let upstream = Upstream::echo().await;
    let listen = "listen: {keep_alive: 400ms, handshake_timeout: 300ms}";
    let proxy = Proxy::to(&upstream).yaml(listen).spawn().await;
    let busy = Client::connect(proxy.address()).await;
    let mut socket = busy.open("/").await;
    let never = Client::connect(proxy.address()).await;
    let idle = Client::connect(proxy.address()).await;
    idle.plain(Request::get("http://h2.example/").body(()).unwrap(), b"").await.unwrap();
    let since = tokio::time::Instant::now();
    idle.ended().await.expect("GOAWAY, and no error");
    assert!(since.elapsed() >= Duration::from_millis(350), "{:?}", since.elapsed());
    never.ended().await.expect("GOAWAY, and no error");
    socket.echoes("still here").await;
    // Nobody speaks: half a preface, and half a request.
    let mut half = TcpStream::connect(proxy.address()).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0\r\n\r\nSM").await.unwrap();
    let mut rest = Vec::new();
    let end = tokio::time::timeout(DEADLINE, half.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "half a preface stays for ever");
    socket.echoes("and still").await;
    socket.close(1000).await;
    while socket.receive().await != Came::End {}
    drop(socket);
    busy.ended().await.expect("GOAWAY, and no error");
    eventually(DEADLINE, || async { proxy.metric("outrigger_http_connections").await == 0.0 }).await;
}

#[tokio::test]
async fn refusals_are_plain_answers() {
    let upstream = Upstream::builder().answering(Answer::refuse(429, &[("Retry-After", "7")], "busy"));
    let upstream = upstream.spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let client = Client::connect(proxy.address()).await;
    let refused = client.try_open(Client::handshake("/")).await.err().unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("7")));
    assert_eq!((refused.body, refused.headers.contains_key("connection")), (b"busy".to_vec(), false));

    // Ours.
    let mut old = Client::handshake("/");
    old.headers_mut().insert("sec-websocket-version", "8".parse().unwrap());
    let refused = client.try_open(old).await.err().unwrap();
    assert_eq!(refused.status, 426);
    assert!(refused.headers.contains_key("x-outrigger-reason"));
    let mut none = Client::handshake("/");
    none.headers_mut().remove("sec-websocket-version");
    assert_eq!(client.try_open(none).await.err().unwrap().status, 426);

    // A success that is no WebSocket must not be taken for one.
    upstream.change(Upstream::builder().answering(Answer::refuse(200, &[], "hello")));
    let refused = client.try_open(Client::handshake("/")).await.err().unwrap();
    assert_eq!((refused.status, refused.header("x-outrigger-reason")), (502, Some("upstream_broken")));
    let gone = Proxy::to_url(format!("http://{}", Upstream::nowhere().await)).spawn().await;
    let client = Client::connect(gone.address()).await;
    assert_eq!(client.try_open(Client::handshake("/")).await.err().unwrap().status, 502);
}

#[tokio::test]
async fn a_refusal_by_a_close_is_one_over_http2_too() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).policy(|policy| {
        policy.on_refuse = OnRefuse::Close;
        policy.limits.connections = Some(0);
    });
    let proxy = proxy.spawn().await;
    let client = Client::connect(proxy.address()).await;
    for _ in 0..3 {
        let mut request = Client::handshake("/");
        request.headers_mut().insert("sec-websocket-protocol", "chat, mqtt".parse().unwrap());
        let mut socket = client.try_open(request).await.unwrap();
        assert_eq!(socket.head.headers()["sec-websocket-protocol"], "chat");
        assert_eq!(socket.head.headers()["x-outrigger-reason"], "capacity");
        assert_eq!(socket.frame().await.close_status(), (1008, "Server at capacity".to_owned()));
        socket.close(1008).await;
        assert_eq!(socket.receive().await, Came::End);
    }
    assert_eq!(upstream.accepted(), 0, "the server hears nothing of it");
    eventually(DEADLINE, || async { proxy.metric("outrigger_refusals_closing").await == 0.0 }).await;
    assert_eq!(proxy.metrics().await.sum("outrigger_connections_total"), 0.0, "it is no connection");
}

#[tokio::test]
async fn over_tls_http2_is_agreed_upon_and_carries_websockets_and_plain_requests() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).tls(tls::listen()).spawn().await;
    let client = Client::secured(proxy.address()).await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(client.open("/").await);
    }
    let large = "x".repeat(300_000);
    for socket in &mut sockets {
        socket.echoes("hello").await;
        socket.echoes(&large).await;
    }
    let head = upstream.handshakes()[0].head.clone();
    assert_eq!(head.header("x-forwarded-proto"), Some("https"));
    let request = Request::get("https://h2.example/plain").body(()).unwrap();
    assert_eq!(client.plain(request, b"").await.unwrap().status, 200);
    assert_eq!(proxy.metric("outrigger_handshakes_in_progress").await, 0.0, "WebSockets are none any more");
    for mut socket in sockets {
        socket.close(1000).await;
        assert_eq!(socket.frame().await.close_status().0, 1000);
        assert_eq!(socket.receive().await, Came::End);
    }
}

#[tokio::test]
async fn other_connects_are_not_passed_on() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let client = Client::connect(proxy.address()).await;
    let tunnel = Request::builder().method(Method::CONNECT).uri("inner.example:22").body(()).unwrap();
    assert_eq!(client.try_open(tunnel).await.err().unwrap().status, 501);
    for protocol in ["connect-udp", "webtransport", "websocket-too"] {
        let mut other = Client::handshake("/");
        other.extensions_mut().insert(h2::ext::Protocol::from(protocol));
        assert_eq!(client.try_open(other).await.err().unwrap().status, 501, "{protocol}");
    }
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn a_connect_that_announces_a_body_is_reset_and_the_other_streams_go_on() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let client = Client::connect(proxy.address()).await;
    let mut witness = client.open("/").await;
    let announcing = || {
        let mut request = Client::handshake("/");
        request.headers_mut().insert("content-length", "5".parse().unwrap());
        request
    };
    // One, and some that come in one breath.
    for count in [1, 20] {
        let mut answers = Vec::new();
        for _ in 0..count {
            let mut ready = client.send.clone().ready().await.unwrap();
            answers.push(ready.send_request(announcing(), false).unwrap());
        }
        for (answer, _send) in answers {
            let error = tokio::time::timeout(DEADLINE, answer).await.unwrap().unwrap_err();
            assert_eq!((error.is_reset(), error.reason()), (true, Some(Reason::INTERNAL_ERROR)), "{error}");
        }
        witness.echoes("still here").await;
    }
    client.open("/").await.echoes("and further ones come in").await;
    assert_eq!(upstream.accepted(), 2, "nobody was dialled for");
    // Who does nothing else is let go, as who takes back all that it asks for.
    let bad = Client::connect(proxy.address()).await;
    for _ in 0..1000 {
        let Ok(mut ready) = bad.send.clone().ready().await else { break };
        let Ok((answer, _send)) = ready.send_request(announcing(), false) else { break };
        let _reset = tokio::time::timeout(DEADLINE, answer).await.unwrap();
    }
    assert!(bad.has_ended(), "a thousand were taken");
    assert_eq!(proxy.metric("outrigger_http2_rapid_resets_total").await, 1.0);
    witness.echoes("unharmed").await;
}

#[tokio::test]
async fn plain_requests_work_as_over_http1() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let client = Client::connect(proxy.address()).await;
    let get = Request::get("http://h2.example/a?b")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("host", "other.example")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let answer = client.plain(get, b"").await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let body: Vec<u8> = (0..60_000_u32).map(|n| (n % 253) as u8).collect();
    let post = Request::post("http://h2.example/post").body(()).unwrap();
    let answer = client.plain(post, &body).await.unwrap();
    assert!(answer.body == body);
    let [get, post] = &upstream.requests()[..] else { panic!("two requests") };
    assert_eq!((get.head.method(), get.head.target()), ("GET", "/a?b"));
    assert_eq!(get.head.headers.all("host"), ["h2.example"]);
    assert_eq!(get.head.headers.all("cookie"), ["a=1; b=2"]);
    assert_eq!(get.head.header("te"), None);
    assert_eq!((post.head.method(), post.head.target()), ("POST", "/post"));
}

#[tokio::test]
async fn hyper_as_a_client_agrees() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let tcp = TcpStream::connect(proxy.address()).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(tcp);
    let (mut send, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let driver = tokio::spawn(connection);
    let body = http_body_util::Full::new(bytes::Bytes::from_static(b"over hyper"));
    let request = Request::post("http://hyper.example/").body(body).unwrap();
    let answer = send.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    assert_eq!(&body[..], b"over hyper");
    let mut request = Request::connect("http://hyper.example/ws")
        .header("sec-websocket-version", "13")
        .body(http_body_util::Full::new(bytes::Bytes::new()))
        .unwrap();
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    let answer = send.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut socket = hyper_util::rt::TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    socket.write_all(&Frame::text("hello").encode(Role::Client)).await.unwrap();
    let mut echo = [0; 7];
    socket.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"\x81\x05hello");
    driver.abort();
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_an_answer_is_given_up() {
    let large = "x".repeat(1 << 20);
    let upstream = Upstream::builder().on_request(Plain::fixed(200, &[], &large)).spawn().await;
    let yaml = "policy: {delivery: {stall_timeout: 500ms}}";
    let proxy = Proxy::to(&upstream).yaml(yaml).spawn().await;
    let client = Client::with(proxy.address(), Builder::new().initial_window_size(20_000)).await;
    let mut ready = client.send.clone().ready().await.unwrap();
    let request = Request::get("http://h2.example/").body(()).unwrap();
    let (response, _) = ready.send_request(request, true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let end = loop {
        match tokio::time::timeout(DEADLINE, body.data()).await.expect("it waits for ever") {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error.reason(),
            None => panic!("that was all of it?"),
        }
    };
    assert_eq!(end, Some(Reason::CANCEL));
    eventually(DEADLINE, || async { upstream.open() == 0 }).await;
}
