//! Plain HTTP through the proxy: it streams both ways, keeps what belongs to the ends and drops what
//! belongs to a hop.

use std::time::Duration;

use crate::support::DEADLINE;
use crate::support::http::{self, Body, assert_ours};
use crate::support::http2::Client;
use crate::support::link::End;
use crate::support::proxy::Proxy;
use crate::support::upstream::{Plain, Upstream};
use crate::support::wait::eventually;

// ---- streaming

#[tokio::test]
async fn a_response_arrives_while_it_is_still_being_made() {
    let upstream = Upstream::requests_by_hand().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let mut client = proxy.plain().path("/events").send().await;
    let mut server = upstream.accept().await;
    server.send_bytes(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n").await;
    server.send_bytes(b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n").await;
    assert_eq!(client.read_head().await.header("Content-Type"), Some("text/event-stream"));
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        server.send_bytes(&http::chunk(event.as_bytes())).await;
        // The next one is not sent before this one has come.
        assert_eq!(client.read_chunk().await, Ok(Ok(event.as_bytes().to_vec())));
    }
    server.send_bytes(b"0\r\n\r\n").await;
    assert!(client.read_chunk().await.expect("it ends in order").is_err(), "the last chunk");
}

#[tokio::test]
async fn a_response_of_known_length_arrives_while_it_is_still_being_made() {
    let upstream = Upstream::requests_by_hand().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let mut client = proxy.plain().send().await;
    let mut server = upstream.accept().await;
    server.send_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc").await;
    assert_eq!(client.read_head().await.header("Content-Length"), Some("6"));
    assert_eq!(client.read_exactly(3).await, Ok(b"abc".to_vec()));
    server.send_bytes(b"def").await;
    assert_eq!(client.read_exactly(3).await, Ok(b"def".to_vec()));
}

#[tokio::test]
async fn a_request_body_reaches_the_upstream_while_it_is_still_being_sent() {
    let framings = [("Transfer-Encoding", "chunked", Body::Chunked), ("Content-Length", "6", Body::Fixed(6))];
    for (name, value, framing) in framings {
        let upstream = Upstream::requests_by_hand().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        let mut client = proxy.plain().method("POST").header(name, value).send().await;
        let mut server = upstream.accept().await;
        assert_eq!(server.request.head.body("POST", false), framing);
        for part in [b"abc", b"def"] {
            match framing {
                Body::Chunked => {
                    client.send_bytes(&http::chunk(part)).await;
                    assert_eq!(server.read_chunk().await, Ok(Ok(part.to_vec())));
                }
                _ => {
                    client.send_bytes(part).await;
                    assert_eq!(server.read_exactly(3).await, Ok(part.to_vec()));
                }
            }
        }
        if framing == Body::Chunked {
            client.send_bytes(&http::chunk(b"")).await;
            assert!(server.read_chunk().await.expect("it ends in order").is_err(), "the last chunk");
        }
        server.send_bytes(&http::response(201, &[], b"made")).await;
        let response = client.read_response("POST").await;
        assert_eq!((response.status(), response.text().as_str()), (201, "made"));
    }
}

#[tokio::test]
async fn the_body_of_a_request_whose_method_has_none_by_itself_arrives_all_the_same() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    for (method, name, value, sent) in [
        ("GET", "Transfer-Encoding", "chunked", &b"3\r\nabc\r\n0\r\n\r\n"[..]),
        ("GET", "Content-Length", "3", b"abc"),
        ("HEAD", "Transfer-Encoding", "chunked", b"3\r\nabc\r\n0\r\n\r\n"),
    ] {
        upstream.forget();
        let mut link = proxy.plain().method(method).header(name, value).send().await;
        link.send_bytes(sent).await;
        assert_eq!(link.read_response(method).await.status(), 200);
        assert_eq!(upstream.requests()[0].body, b"abc", "{method} {name}");
    }
    // Over HTTP/2 no header has to announce it.
    upstream.forget();
    let client = Client::connect(proxy.address()).await;
    let get = ::http::Request::get("http://h2.example/").body(()).unwrap();
    assert_eq!(client.plain(get, b"abc").await.unwrap().body, b"abc");
    let get = ::http::Request::get("http://h2.example/").body(()).unwrap();
    assert_eq!(client.plain(get, b"").await.unwrap().status, 200);
    let [with, without] = &upstream.requests()[..] else { panic!("two requests") };
    assert_eq!((with.body.as_slice(), without.body.as_slice()), (&b"abc"[..], &b""[..]));
    assert_eq!(without.head.header("Transfer-Encoding"), None);
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_has_ended() {
    let upstream = Upstream::requests_by_hand().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let mut client = proxy.plain().method("POST").header("Content-Length", "1000000").send().await;
    let mut server = upstream.accept().await;
    client.send_bytes(b"the beginning").await;
    server.send_bytes(&http::response(401, &[], b"who are you?")).await;
    let response = client.read_response("POST").await;
    assert_eq!((response.status(), response.text().as_str()), (401, "who are you?"));
}

#[tokio::test]
async fn the_rest_of_a_body_that_was_answered_early_has_its_time_and_is_taken_for_no_head() {
    let upstream = Upstream::requests_by_hand().await;
    let settings = "listen: {handshake_timeout: 500ms, max_idle_http: 1}";
    let proxy = Proxy::to(&upstream).yaml(settings).spawn().await;
    let mut client = proxy.plain().method("POST").header("Content-Length", "20").send().await;
    let mut server = upstream.accept().await;
    server.send_bytes(&http::response(200, &[], b"I know enough")).await;
    assert_eq!(client.read_response("POST").await.text(), "I know enough");
    for _ in 0..20 {
        client.send_bytes(b"x").await;
        assert_eq!(server.read_exactly(1).await, Ok(b"x".to_vec()));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(proxy.metric("outrigger_request_errors_total{reason=\"timeout\"}").await, 0.0);
    // From here on nothing is asked, and the next one is asked as ever.
    eventually(DEADLINE, || async { proxy.metric("outrigger_http_idle").await == 1.0 }).await;
    client.send_bytes(&proxy.plain().request()).await;
    server.read_head().await;
    server.send_bytes(&http::response(200, &[], b"and again")).await;
    assert_eq!(client.read_response("GET").await.text(), "and again");
}

#[tokio::test]
async fn megabytes_pass_both_ways_in_every_framing() {
    let megabytes = (0..3 << 20).map(|index: u32| (index / 7) as u8).collect::<Vec<_>>();
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let fixed = proxy.plain().method("POST").body(&megabytes);
    let chunks = megabytes.chunks(100_000).map(http::chunk).chain([http::chunk(b"")]);
    let chunked = proxy.plain().method("POST").header("Transfer-Encoding", "chunked");
    let chunked = chunked.pipelined(chunks.collect::<Vec<_>>().concat());
    for dial in [fixed, chunked] {
        assert!(dial.answer().await.response.body == megabytes);
    }
    let framings = [
        Plain::UntilEnd(megabytes.clone()),
        Plain::Chunked(megabytes.chunks(70_000).map(<[u8]>::to_vec).collect(), Duration::ZERO),
    ];
    for framing in framings {
        let upstream = Upstream::builder().on_request(framing).spawn().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        assert!(proxy.plain().answer().await.response.body == megabytes);
    }
}

#[tokio::test]
async fn what_has_no_body_gets_none() {
    let cases = [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: \"a\"\r\n\r\n", Some("1234")),
        ("GET", "HTTP/1.1 204 No Content\r\nETag: \"a\"\r\n\r\n", None),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", None),
        ("DELETE", "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: 0\r\n\r\n", Some("0")),
    ];
    for (method, answer, length) in cases {
        let raw = answer.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").into_bytes();
        let upstream = Upstream::builder().on_request(Plain::Raw(raw)).spawn().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        let mut client = proxy.plain().method(method).send().await;
        // What comes next is the answer to another request, not a body.
        for _ in 0..2 {
            let head = client.read_head().await;
            assert_eq!(head.first_line, answer.lines().next().expect("it has a line"));
            let told = (head.header("ETag"), head.header("Content-Length"), head.header("Transfer-Encoding"));
            assert_eq!(told, (Some("\"a\""), length, None), "{method} {answer}");
            client.send_bytes(&proxy.plain().method(method).request()).await;
        }
    }
}

// ---- connections

#[tokio::test]
async fn requests_share_a_connection_on_either_side() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let mut client = proxy.plain().connect().await;
    for _ in 0..5 {
        assert_eq!(client.ask(&proxy.plain().request()).await.status(), 200);
    }
    // Another client uses it too.
    assert_eq!(proxy.plain().answer().await.response.status(), 200);
    assert_eq!((upstream.requests().len(), upstream.accepted()), (6, 1));
}

#[tokio::test]
async fn an_idle_upstream_connection_is_given_up_before_the_upstream_would() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("upstream: {keep_alive: 300ms}").spawn().await;
    let mut client = proxy.plain().connect().await;
    client.ask(&proxy.plain().request()).await;
    eventually(DEADLINE, || async { upstream.open() == 0 }).await;
    assert_eq!(client.ask(&proxy.plain().request()).await.status(), 200);
    assert_eq!(upstream.accepted(), 2);
}

#[tokio::test]
async fn an_upstream_that_wants_its_connection_closed_does_not_close_the_clients() {
    let raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".to_vec();
    let upstream = Upstream::builder().on_request(Plain::Raw(raw)).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let mut client = proxy.plain().connect().await;
    for count in 1..=3 {
        let response = client.ask(&proxy.plain().request()).await;
        assert_eq!((response.status(), response.header("Connection")), (200, None));
        assert_eq!(upstream.accepted(), count);
    }
}

#[tokio::test]
async fn a_client_that_wants_its_connection_closed_does_not_close_the_upstreams() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    for _ in 0..3 {
        let mut client = proxy.plain().header("Connection", "close").answer().await;
        assert!(client.response.head.headers.lists("Connection", "close"));
        assert_eq!(client.read_exactly(1).await, Err(End::Eof));
    }
    assert_eq!((upstream.requests().len(), upstream.accepted()), (3, 1));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let mut client = proxy.plain().connect().await;
    let request = |body: &str| proxy.plain().method("POST").body(body).request();
    let all = ["one", "two", "three", "four"].map(request).concat();
    client.send_bytes(&all).await;
    for body in ["one", "two", "three", "four"] {
        assert_eq!(client.read_response("POST").await.text(), body);
    }
}

#[tokio::test]
async fn an_http_1_0_client_is_served_as_it_asks() {
    let parts = vec![b"ab".to_vec(), b"cd".to_vec()];
    let upstream = Upstream::builder().on_request(Plain::Chunked(parts, Duration::ZERO)).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let mut client = proxy.plain().version("HTTP/1.0").without("Host").send().await;
    let response = client.read_response("GET").await;
    assert_eq!((response.status(), response.text().as_str()), (200, "abcd"));
    assert_eq!(response.header("Transfer-Encoding"), None, "HTTP/1.0 knows no chunks");
    let head = upstream.requests().remove(0).head;
    assert_eq!(head.first_line, "GET / HTTP/1.1", "each hop has its own version");
    assert_eq!(head.header("Host"), Some(upstream.url().replace("http://", "").as_str()));
}

// ---- headers

#[tokio::test]
async fn headers_of_the_ends_pass_in_their_case_and_those_of_a_hop_do_not() {
    let upstream = Upstream::requests_by_hand().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let dial = proxy.plain().path("/a%2Fb?q=%20&x").exactly(&[
        ("hOsT", "app.example.com"),
        ("X-custom-HEADER", "1"),
        ("x-Twice", "a"),
        ("X-TWICE", "b"),
        ("COOKIE", "c=1"),
        ("Accept-Encoding", "gzip, br"),
        ("If-None-Match", "W/\"1\""),
        ("Range", "bytes=0-9"),
        ("Connection", "keep-alive, X-Hop"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eA=="),
        ("TE", "trailers"),
        ("X-Hop", "1"),
    ]);
    let mut client = dial.send().await;
    let mut server = upstream.accept().await;
    let head = server.request.head.clone();
    assert_eq!(head.first_line, "GET /a%2Fb?q=%20&x HTTP/1.1");
    let lines = head.headers.0.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>();
    for kept in [
        "hOsT: app.example.com",
        "X-custom-HEADER: 1",
        "x-Twice: a",
        "X-TWICE: b",
        "COOKIE: c=1",
        "Accept-Encoding: gzip, br",
        "If-None-Match: W/\"1\"",
        "Range: bytes=0-9",
    ] {
        assert!(lines.iter().any(|line| line == kept), "{kept} is missing: {lines:#?}");
    }
    assert_eq!(head.headers.all("x-twice"), ["a", "b"]);
    for gone in ["Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "TE", "X-Hop"] {
        assert_eq!(head.header(gone), None, "{gone} belongs to the client's hop");
    }
    assert_eq!(head.header("X-Forwarded-For"), Some("127.0.0.1"));
    assert_eq!(head.header("X-Forwarded-Host"), Some("app.example.com"));
    assert_eq!(head.header("X-Request-Id").map(str::len), Some(32));

    server
        .send_bytes(
            b"HTTP/1.1 200 OK\r\nx-lower: 1\r\nX-UPPER: 2\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n\
              Server: app/1\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n\
              Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
    let head = client.read_head().await;
    let lines = head.headers.0.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>();
    for kept in ["x-lower: 1", "X-UPPER: 2", "Set-Cookie: a=1", "set-cookie: b=2", "Server: app/1"] {
        assert!(lines.iter().any(|line| line == kept), "{kept} is missing: {lines:#?}");
    }
    assert_eq!(head.headers.all("Set-Cookie"), ["a=1", "b=2"]);
    for gone in ["Connection", "Keep-Alive", "X-Hop", "Proxy-Authenticate", "Upgrade"] {
        assert_eq!(head.header(gone), None, "{gone} belongs to the upstream's hop");
    }
    assert_eq!(head.header("X-Outrigger-Reason"), None, "it is not our answer");
}

#[tokio::test]
async fn a_target_in_absolute_form_names_the_host_and_goes_on_in_origin_form() {
    let upstream = Upstream::echo().await;
    let routes = "routes: [{name: named, path: '/{*rest}', hosts: [named.example.com]}]";
    let proxy = Proxy::to(&upstream).yaml(routes).spawn().await;
    let dial = proxy.plain().path("http://named.example.com:81/a/b?c=d").header("Host", "other.example.com");
    assert_eq!(dial.answer().await.response.status(), 200);
    let head = upstream.requests().remove(0).head;
    assert_eq!(head.first_line, "GET /a/b?c=d HTTP/1.1");
    assert_eq!(head.headers.all("Host"), ["named.example.com:81"], "the URI counts (RFC 9112 §3.2.2)");
    let sample = "outrigger_http_requests_total{route=\"named\",class=\"2xx\"}";
    assert_eq!(proxy.metric(sample).await, 1.0);

    assert_eq!(proxy.plain().path("http://named.example.com").answer().await.response.status(), 200);
    assert_eq!(upstream.requests()[1].head.first_line, "GET / HTTP/1.1");
    assert_eq!(proxy.plain().path("http://named.example.com?c=d").answer().await.response.status(), 200);
    assert_eq!(
        upstream.requests()[2].head.first_line,
        "GET /?c=d HTTP/1.1",
        "an empty path is / (RFC 9112 §3.2.1)"
    );
}

#[tokio::test]
async fn what_is_no_request_for_this_server_is_a_501() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let cases = [("CONNECT", "elsewhere.example.com:443"), ("CONNECT", "127.0.0.1:22"), ("OPTIONS", "*")];
    for (method, target) in cases {
        let mut link = proxy.plain().method(method).path(target).send().await;
        let response = link.read_response("GET").await;
        assert_ours(&response, 501, "unsupported_request");
    }
    assert_eq!(upstream.accepted(), 0, "this is no forward proxy");
    // An OPTIONS for a path is an ordinary request: CORS preflights.
    let preflight = proxy.plain().method("OPTIONS").path("/api").header("Origin", "https://a.example");
    assert_eq!(preflight.answer().await.response.status(), 200);
    assert_eq!(upstream.requests()[0].head.first_line, "OPTIONS /api HTTP/1.1");
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_go_on_is_told() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let dial = proxy.plain().method("POST").header("Content-Length", "5").header("Expect", "100-continue");
    let mut client = dial.send().await;
    assert_eq!(client.read_head().await.status(), 100);
    client.send_bytes(b"hello").await;
    let response = client.read_response("POST").await;
    assert_eq!((response.status(), response.text().as_str()), (200, "hello"));
    assert_eq!(upstream.requests()[0].head.header("Expect"), None, "it was answered already");
}

// ---- metrics

#[tokio::test]
async fn requests_are_counted_by_route_and_class() {
    let upstream = Upstream::echo().await;
    let routes =
        "routes: [{name: api, path: '/api/{*rest}'}, {name: ws, path: /ws, policy: {http: {mode: refuse}}}]";
    let proxy = Proxy::to(&upstream).yaml(routes).spawn().await;
    for (status, count) in [(200, 3), (302, 1), (404, 2), (500, 1), (599, 1)] {
        // For connections that are not accepted yet: each answer ends its own.
        let raw = format!("HTTP/1.1 {status} Fine\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        upstream.change(Upstream::builder().on_request(Plain::Raw(raw.into_bytes())));
        for _ in 0..count {
            assert_eq!(proxy.plain().path("/api/x").answer().await.response.status(), status);
        }
    }
    proxy.plain().path("/ws").answer().await;
    drop(proxy.connect("/api/ws").await);
    let counted = async |route: &str, class: &str| {
        let sample = format!("outrigger_http_requests_total{{route=\"{route}\",class=\"{class}\"}}");
        proxy.metric(&sample).await
    };
    assert_eq!(counted("api", "2xx").await, 3.0);
    assert_eq!(counted("api", "3xx").await, 1.0);
    assert_eq!(counted("api", "4xx").await, 2.0);
    assert_eq!(counted("api", "5xx").await, 2.0);
    assert_eq!(counted("api", "1xx").await, 0.0);
    assert_eq!(counted("ws", "4xx").await, 1.0, "our own answers count too");
    assert_eq!(counted("ws", "2xx").await, 0.0);
}
