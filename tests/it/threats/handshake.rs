//! What a proxy must withstand before a connection is a WebSocket: one test a threat, named after it.
//!
//! "No byte passes" is checked where it counts, at a server played by hand: it reads to the end of its
//! connection, and nothing came but the one request.

use crate::support::A_MOMENT;
use crate::support::binary::Binary;
use crate::support::client::Dial;
use crate::support::http::{self, assert_ours};
use crate::support::link::{End, Link};
use crate::support::proxy::Proxy;
use crate::support::upstream::{Answer, Plain, Upstream};
use crate::support::wire::{Frame, Role};

/// What an attacker would like the upstream to read as a request of its own.
const SMUGGLED: &[u8] = b"GET /internal HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Everything a server still gets, until its connection ends.
async fn all_that_comes(server: &mut Link) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(byte) = server.read_exactly(1).await {
        bytes.extend(byte);
    }
    bytes
}

#[tokio::test]
async fn unverified_101() {
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let good = |dial: &Dial| {
        let request = String::from_utf8(dial.request()).expect("it is ASCII");
        let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        format!("Sec-WebSocket-Accept: {}\r\n", http::accept_value(key.expect("it has a key")))
    };
    // what the upstream answers, and what the client is then told
    let cases: [(&str, &str, u16); 9] = [
        ("200", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
        ("200 that looks like a 101", "HTTP/1.1 200 OK\r\nUPGRADE\r\n", 200),
        ("426", "HTTP/1.1 426 Upgrade Required\r\nUPGRADEContent-Length: 0\r\n\r\n", 426),
        ("401 without a length", "HTTP/1.1 401 Unauthorized\r\n\r\n", 401),
        ("no accept", "HTTP/1.1 101 Fine\r\nUPGRADE\r\n", 502),
        ("a wrong accept", "HTTP/1.1 101 Fine\r\nUPGRADESec-WebSocket-Accept: AAAA\r\n\r\n", 502),
        ("no upgrade", "HTTP/1.1 101 Fine\r\nConnection: Upgrade\r\nACCEPT\r\n", 502),
        ("a subprotocol", "HTTP/1.1 101 Fine\r\nUPGRADEACCEPTSec-WebSocket-Protocol: soap\r\n\r\n", 502),
        ("an extension", "HTTP/1.1 101 Fine\r\nUPGRADEACCEPTSec-WebSocket-Extensions: x-tunnel\r\n\r\n", 502),
    ];
    for (name, answer, status) in cases {
        let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        let dial = proxy.dial();
        let answer = answer.replace("UPGRADE", upgrade).replace("ACCEPT", &good(&dial));
        let mut client = dial.send().await;
        let mut server = upstream.accept().await;
        server.send_bytes(answer.as_bytes()).await;
        let head = client.read_head().await;
        assert_eq!(head.status(), status, "{name}");
        // As if it were a tunnel now. The proxy may have hung up by then: just as well.
        let _ = client.try_send_bytes(SMUGGLED).await;
        let _ = client.try_send_bytes(&Frame::text("boo").encode(Role::Client)).await;
        server.finish_writing().await;
        assert_eq!(all_that_comes(&mut server).await.escape_ascii().to_string(), "", "{name}");
        assert_eq!((upstream.accepted(), upstream.requests().len()), (1, 0), "{name}");
    }
}

#[tokio::test]
async fn bytes_before_acceptance() {
    let payloads = [SMUGGLED.to_vec(), Frame::text("boo").encode(Role::Client), vec![b'x'; 300_000]];
    for payload in payloads {
        let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        let payload_size = payload.len();
        let dial = proxy.dial().pipelined(&payload);
        // In a task of its own: the proxy need not take all of it.
        let client = tokio::spawn(async move {
            let request = dial.request();
            let mut client = dial.connect().await;
            let _ = client.try_send_bytes(&request).await;
            // A reset would take the answer away from clients whose system is not Linux.
            (client.read_response("GET").await, client.read_exactly(1).await)
        });
        let mut server = upstream.accept().await;
        assert_eq!(server.peek_for(A_MOMENT).await, b"", "before the upstream has answered");
        server.send_bytes(&http::response(403, &[], b"no")).await;
        let (refused, then) = client.await.expect("a refusal can be read, whatever was sent behind");
        assert_eq!(then, Err(End::Eof), "{} bytes", payload_size);
        assert_eq!((refused.status(), refused.text().as_str()), (403, "no"));
        server.finish_writing().await;
        assert_eq!(all_that_comes(&mut server).await, b"", "after its refusal");
        assert_eq!((upstream.accepted(), upstream.requests().len()), (1, 0));
    }
}

#[tokio::test]
async fn upgrade_with_a_body() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let chunked = [http::chunk(SMUGGLED), http::chunk(b"")].concat();
    let cases = [
        ("POST", proxy.dial().method("POST").body(SMUGGLED)),
        ("PUT without a body", proxy.dial().method("PUT")),
        ("GET with a length", proxy.dial().body(SMUGGLED)),
        ("GET in chunks", proxy.dial().header("Transfer-Encoding", "chunked").pipelined(&chunked)),
        ("GET in something else", proxy.dial().header("Transfer-Encoding", "gzip").pipelined(SMUGGLED)),
        ("GET with an empty coding", proxy.dial().header("Transfer-Encoding", "").pipelined(SMUGGLED)),
        ("both", proxy.dial().header("Transfer-Encoding", "chunked").body(&chunked)),
        (
            "two lengths",
            proxy.dial().header("Content-Length", "0").also("Content-Length", "5").pipelined("abcde"),
        ),
        ("a signed length", proxy.dial().header("Content-Length", "+5").pipelined("abcde")),
    ];
    for (name, dial) in cases {
        let mut client = dial.answer().await;
        let told = (client.response.status(), client.response.header("X-Outrigger-Reason"));
        assert!(
            matches!(told, (400, Some("malformed_handshake" | "malformed_request"))),
            "{name}: {:#?}",
            client.response.head
        );
        assert!(client.read_exactly(1).await.is_err(), "{name}: what follows is not another request");
    }
    assert_eq!(upstream.accepted(), 0);

    let mut client = proxy.dial().header("Content-Length", "0").open().await;
    client.text("some clients say that there is none").await;
    client.expect_text("some clients say that there is none").await;
}

#[tokio::test]
async fn request_smuggling_in_plain_requests() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let hidden = format!("0\r\n\r\n{}", SMUGGLED.escape_ascii().to_string().replace("\\r\\n", "\r\n"));
    let chunked = |more: &str| {
        let dial = proxy.plain().method("POST").path("/front").header("Transfer-Encoding", "chunked");
        dial.pipelined(format!("3\r\nabc\r\n0\r\n\r\n{more}"))
    };
    // Read one way by us and another way by the upstream, each would make two requests out of one.
    let cases = [
        ("CL.TE", proxy.plain().method("POST").body(&hidden).header("Transfer-Encoding", "chunked")),
        ("TE.CL", chunked("").header("Content-Length", "4")),
        ("two lengths", proxy.plain().method("POST").body("abc").also("Content-Length", "0")),
        ("TE.TE", chunked("").also("Transfer-Encoding", "identity")),
        ("a chunked that is none", chunked("").header("Transfer-Encoding", "xchunked")),
        ("HTTP/1.0 in chunks", chunked("").version("HTTP/1.0")),
        (
            "a space before the colon",
            proxy.plain().method("POST").also("Content-Length ", "44").pipelined(SMUGGLED),
        ),
        ("Connection: Content-Length", {
            let dial = proxy.plain().method("POST").body(SMUGGLED);
            dial.header("Connection", "Content-Length")
        }),
        ("Connection: Transfer-Encoding", chunked("").header("Connection", "Transfer-Encoding")),
    ];
    for (name, dial) in cases {
        let mut link = dial.send().await;
        let head = link.read_head().await;
        assert!(matches!(head.status(), 200 | 400), "{name}: {head:#?}");
    }
    let seen = upstream.requests();
    for request in &seen {
        assert_ne!(request.head.target(), "/internal", "{seen:#?}");
        let framings = request.head.headers.all("Content-Length").len()
            + request.head.headers.all("Transfer-Encoding").len();
        assert!(framings <= 1, "one way to read a body, and no other: {request:#?}");
    }
    let bodies: Vec<_> = seen.iter().map(|request| request.body.as_slice()).collect();
    assert!(bodies.contains(&SMUGGLED), "a body stays a body: {seen:#?}");
}

#[tokio::test]
async fn connection_nominated_headers() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("upstream: {forwarded: both}").spawn().await;
    let kept = [
        ("Authorization", "Bearer t"),
        ("Cookie", "session=1"),
        ("Origin", "https://app.example.com"),
        ("X-Request-Id", "id-1"),
        ("Sec-Fetch-Site", "same-origin"),
    ];
    let spellings: [fn(&str) -> String; 3] =
        [str::to_owned, str::to_ascii_lowercase, |name| name.to_ascii_uppercase()];
    for spelling in spellings {
        let made = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "Host"];
        let names = kept.iter().map(|(name, _)| *name).chain(made);
        let nominated = names.map(spelling).collect::<Vec<_>>().join(" ,");
        let nominate = |dial: Dial, list: &str| {
            let dial = dial.header("Connection", list).also("Connection", "X-Private").also("X-Private", "1");
            kept.iter().fold(dial, |dial, (name, value)| dial.also(name, value))
        };
        let handshake = nominate(proxy.dial(), &format!("Upgrade, {nominated}, Sec-WebSocket-Protocol"));
        drop(handshake.header("Sec-WebSocket-Protocol", "chat").open().await);
        assert_eq!(nominate(proxy.plain(), &nominated).answer().await.response.status(), 200);

        let handshake = upstream.handshakes().pop().expect("it came");
        let plain = upstream.requests().pop().expect("it came");
        for request in [&handshake, &plain] {
            let head = &request.head;
            for (name, value) in kept {
                assert_eq!(head.headers.all(name), [value], "{name}, nominated as in {nominated}");
            }
            for name in made {
                assert_eq!(head.headers.all(name).len(), 1, "{name}, nominated as in {nominated}");
            }
            assert_eq!(head.header("X-Private"), None, "what is not protected goes (RFC 9110 §7.6.1)");
        }
        assert_eq!(handshake.head.header("Sec-WebSocket-Protocol"), Some("chat"));
    }
}

#[tokio::test]
async fn forged_forwarding_headers() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("upstream: {forwarded: both}").spawn().await;
    let forged = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("x-forwarded-FOR", "6.6.6.7"),
        ("X-Forwarded-Proto", "https, 6.6.6.6"),
        ("X-Forwarded-Host", "6.6.6.6"),
        ("X-Forwarded-Port", "666"),
        ("X-Forwarded-Prefix", "/6.6.6.6"),
        ("X-Real-IP", "6.6.6.6"),
        ("Forwarded", "for=6.6.6.6;proto=https"),
        ("X-Outrigger-User", "root-6.6.6.6"),
        // To a server that makes variables of its headers (CGI, WSGI, PHP) these are the same names.
        ("X_Forwarded_For", "6.6.6.6"),
        ("X-Forwarded_Host", "6.6.6.6"),
        ("X_Outrigger_User", "root-6.6.6.6"),
        ("X.Outrigger.User", "root-6.6.6.6"),
        ("X!Forwarded~For", "6.6.6.6"),
        ("True.Client_IP", "6.6.6.6"),
    ];
    let forge = |dial: Dial| forged.iter().fold(dial, |dial, (name, value)| dial.also(name, value));
    drop(forge(proxy.dial()).open().await);
    assert_eq!(forge(proxy.plain()).answer().await.response.status(), 200);
    for request in upstream.handshakes().iter().chain(&upstream.requests()) {
        let believed = request.head.headers.0.iter().filter(|(_, value)| value.contains("6.6.6"));
        assert_eq!(Vec::from_iter(believed), Vec::<&(String, String)>::new());
        assert_eq!(request.head.headers.all("X-Forwarded-For"), ["127.0.0.1"]);
        assert_eq!(request.head.headers.all("X-Forwarded-Proto"), ["http"]);
        assert_eq!(request.head.headers.all("X-Forwarded-Port"), [proxy.address().port().to_string()]);
    }
    assert_eq!((upstream.handshakes().len(), upstream.requests().len()), (1, 1));
}

#[tokio::test]
async fn header_injection() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let good =
        String::from_utf8(proxy.dial().path("/PATH").header("Sec-WebSocket-Protocol", "CHAT").request());
    let good = good.expect("it is ASCII");
    let cases = [
        ("CR in the path", "/PATH", "/a\rX-Injected: 1"),
        ("LF in the path", "/PATH", "/a\nX-Injected: 1"),
        ("CRLF in the path", "/PATH", "/a\r\nX-Injected: 1"),
        ("NUL in the path", "/PATH", "/a\0b"),
        ("a space in the path", "/PATH", "/a b"),
        ("DEL in the path", "/PATH", "/a\x7fb"),
        ("CR in a subprotocol", "CHAT", "chat\rX-Injected: 1"),
        ("NUL in a subprotocol", "CHAT", "chat\0"),
        ("BEL in a subprotocol", "CHAT", "chat\x07"),
        ("a folded header", "CHAT", "chat,\r\n X-Injected: 1"),
        ("NUL in a name", "Sec-WebSocket-Protocol", "Sec-\0WebSocket"),
        ("a space in a name", "Sec-WebSocket-Protocol", "Sec WebSocket"),
        ("CR in a name", "Sec-WebSocket-Protocol", "Sec\rX-Injected"),
        ("no name", "Sec-WebSocket-Protocol", ""),
        ("CR in the method", "GET", "GET\rX"),
    ];
    for (name, from, to) in cases {
        let mut link = proxy.plain().connect().await;
        link.send_bytes(good.replacen(from, to, 1).as_bytes()).await;
        println!("{name}");
        assert_ours(&link.read_response("GET").await, 400, "malformed_request");
        assert_eq!(link.read_exactly(1).await, Err(End::Eof), "{name}");
    }
    assert_eq!(upstream.accepted(), 0, "nothing was forwarded");

    // Escaped, they are ordinary characters, and stay escaped.
    drop(proxy.connect("/a%0d%0aX-Injected:%201?b=%00%0a").await);
    let head = upstream.handshakes().remove(0).head;
    assert_eq!(head.target(), "/a%0d%0aX-Injected:%201?b=%00%0a");
    assert_eq!(head.header("X-Injected"), None);
}

#[tokio::test]
async fn response_splitting_by_an_upstream() {
    for bad in ["X-Bad: a\rSet-Cookie: b", "X-Bad: a\0", "X Bad: a", "X-Bad : a"] {
        let upstream =
            Upstream::builder().answering(Answer::HandOver).on_request(Plain::HandOver).spawn().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        for dial in [proxy.dial(), proxy.plain()] {
            let mut link = dial.send().await;
            let mut server = upstream.accept().await;
            server
                .send_bytes(format!("HTTP/1.1 403 No\r\n{bad}\r\nContent-Length: 0\r\n\r\n").as_bytes())
                .await;
            println!("{bad:?}");
            assert_ours(&link.read_response("GET").await, 502, "upstream_broken");
        }
    }
}

#[tokio::test]
async fn tokens_in_logs() {
    let mut upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let settings = [("LOG", "{level: trace}"), ("POLICY__HTTP", "{max_body: 64B}")];
    let mut running = Binary::run(&upstream.url(), &settings).await;
    let with_secrets = |dial: Dial, path: &str| {
        dial.path(&format!("{path}?access_token=hunter2-query&room=1"))
            .header("Authorization", "Bearer hunter2-bearer")
            .header("Cookie", "session=hunter2-cookie")
            .header("Sec-WebSocket-Protocol", "chat, hunter2-subprotocol")
            .header("X-Api-Key", "hunter2-key")
    };
    // Each way a request may go, and each place that may tell of it.
    let mut client = with_secrets(running.dial(), "/ok").header("X-Request-Id", "the-good-one").open().await;
    client.text("hunter2-payload").await;
    client.expect_text("hunter2-payload").await;
    client.close(4000, "hunter2-reason").await;
    client.closed().await;
    let mut client = with_secrets(running.dial(), "/bad-frame").open().await;
    client.send_frame(&Frame::text("hunter2-unmasked").unmasked()).await;
    client.closed().await;
    with_secrets(running.dial(), "/malformed").without("Sec-WebSocket-Key").refused().await;
    assert_eq!(with_secrets(running.plain(), "/plain").answer().await.response.status(), 200);
    let body = with_secrets(running.plain(), "/plain").method("POST").body("hunter2-body".repeat(10));
    assert_eq!(body.answer().await.response.status(), 413);
    let mut unreadable = running.plain().connect().await;
    unreadable.send_bytes(b"GET /?hunter2-unreadable HTTP/1.1\r\nhunter2\r\n\r\n").await;
    assert_eq!(unreadable.read_response("GET").await.status(), 400);
    upstream.change(Upstream::builder().answering(Answer::accept_with(&[("Sec-WebSocket-Protocol", "x")])));
    assert_eq!(with_secrets(running.dial(), "/bad-101").answer().await.response.status(), 502);
    upstream.stop().await;
    assert_eq!(with_secrets(running.dial(), "/down").answer().await.response.status(), 502);
    assert_eq!(with_secrets(running.plain(), "/down").answer().await.response.status(), 502);
    let user_info = with_secrets(running.plain(), "http://me:hunter2-password@host/down");
    assert_eq!(user_info.answer().await.response.status(), 400);

    let metrics = running.metrics().await.0;
    running.binary.signal("TERM").await;
    assert!(running.binary.exited().await.success());
    let said = running.binary.said();
    for line in said.lines().chain(metrics.lines()) {
        assert!(!line.contains("hunter2"), "{line}");
    }
    // It was not silence that kept them: what may be told is.
    for told in
        ["\"connected\"", "\"disconnected\"", "refused", "handshake failed", "request failed", "the-good-one"]
    {
        assert!(said.contains(told), "no {told} in\n{said}");
    }
}

#[tokio::test]
async fn h2c_upgrade_is_not_forwarded() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let upgrades = ["h2c", "TLS/1.0", "websocket2", "IRC/6.9, RTA/x11", "http/2.0"];
    // Named by `Connection` or not: servers differ in whether they look.
    let connections = ["Upgrade, HTTP2-Settings", "HTTP2-Settings"];
    for (upgrade, connection) in upgrades.iter().flat_map(|upgrade| connections.map(|c| (upgrade, c))) {
        let dial = proxy.plain().header("Connection", connection).header("Upgrade", upgrade);
        let mut client = dial.header("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA").answer().await;
        assert_eq!(client.response.status(), 200, "{upgrade}: it is served as plain HTTP");
        let head = upstream.requests().pop().expect("it came").head;
        for name in ["Upgrade", "Connection", "HTTP2-Settings"] {
            assert_eq!(head.header(name), None, "{upgrade}: {head:#?}");
        }
        // And the client's side has not become something else.
        client.send_bytes(&proxy.plain().request()).await;
        assert_eq!(client.read_response("GET").await.status(), 200, "{upgrade}");
    }

    // Named together with a WebSocket, it is a WebSocket and nothing else.
    let both = proxy.dial().header("Upgrade", "h2c, websocket").header("HTTP2-Settings", "AAMAAABk");
    drop(both.header("Connection", "Upgrade, HTTP2-Settings").open().await);
    let head = upstream.handshakes().pop().expect("it came").head;
    assert_eq!(
        (head.headers.all("Upgrade"), head.headers.all("Connection")),
        (vec!["websocket"], vec!["Upgrade"])
    );
    assert_eq!(head.header("HTTP2-Settings"), None);

    // HTTP/2 by prior knowledge is not smuggled through either.
    let mut link = proxy.plain().connect().await;
    link.send_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let _ = link.peek_for(A_MOMENT).await;
    assert!(upstream.requests().iter().all(|request| request.head.method() != "PRI"));
}

#[tokio::test]
async fn an_upstream_cannot_switch_a_plain_request_to_another_protocol() {
    let upstream = Upstream::builder().on_request(Plain::HandOver).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let mut client = proxy.plain().send().await;
    let mut server = upstream.accept().await;
    server.send_bytes(b"HTTP/1.1 101 Fine\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n").await;
    assert_ours(&client.read_response("GET").await, 502, "upstream_broken");
    let _ = client.try_send_bytes(SMUGGLED).await;
    server.finish_writing().await;
    assert_eq!(all_that_comes(&mut server).await, b"");
}
