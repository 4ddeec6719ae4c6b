//! A handshake through the proxy: what the upstream is asked, and what the client is told.

use crate::support::client::RawClient;
use crate::support::http::accept_value;
use crate::support::link::End;
use crate::support::proxy::Proxy;
use crate::support::upstream::{Answer, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{Frame, Role};
use crate::support::{A_MOMENT, DEADLINE};

/// Header lines of this hop only, or that say what the proxy saw.
fn is_of_a_hop(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["connection", "upgrade", "x-request-id"].contains(&name.as_str()) || name.starts_with("x-forwarded-")
}

/// Header lines that have to arrive as they left, as `Name: value`.
fn end_to_end<'a>(lines: impl IntoIterator<Item = &'a (String, String)>) -> Vec<String> {
    let kept = lines.into_iter().filter(|(name, _)| !is_of_a_hop(name));
    kept.map(|(name, value)| format!("{name}: {value}")).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

// ---- what the upstream is asked

#[tokio::test]
async fn the_request_reaches_the_upstream_as_it_came() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let headers = [
        ("hOsT", "chat.example.com:8443"),
        ("x-B", "2"),
        ("X-a", "1"),
        ("X-A", "again"),
        ("Origin", "https://app.example.com"),
        ("COOKIE", "a=1; b=\"2\""),
        ("Authorization", "Bearer t.o.k"),
        ("User-Agent", "raw/1"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-PROTOCOL", "chat.v2, graphql-transport-ws"),
        ("Sec-WebSocket-Protocol", "mqtt"),
        ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits, x-mine; a=\"b c\""),
        ("Connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
    ];
    let path = "/chat/%7Eroom%2F1//x?token=a%20b&empty=&q=%zz&u=\u{fc}";
    let mut client = proxy.dial().path(path).exactly(&headers).open().await;
    client.text("hello").await;
    client.expect_text("hello").await;

    let seen = upstream.handshakes().remove(0);
    assert_eq!(seen.head.first_line, format!("GET {path} HTTP/1.1"));
    let sent = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(end_to_end(&seen.head.headers.0), end_to_end(&sent), "case, order and values");
    assert!(seen.head.asks_for_websocket(), "{:#?}", seen.head);
}

#[tokio::test]
async fn no_header_is_lost_or_respelled_where_hop_by_hop_headers_stand_between_the_others() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let headers = [
        ("Host", "a.example"),
        ("Connection", "Upgrade"),
        ("Keep-Alive", "timeout=5"),
        ("upGRADE", "websocket"),
        ("X-one", "1"),
        ("TE", "trailers"),
        ("X-TWO", "2"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let client = proxy.dial().exactly(&headers).open().await;
    drop(client);
    let seen = upstream.handshakes().remove(0).head;
    let kept = headers.iter().filter(|(name, _)| !["Keep-Alive", "TE"].contains(name));
    let kept: Vec<_> = kept.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(sorted(end_to_end(&seen.headers.0)), sorted(end_to_end(&kept)));
    assert!(seen.asks_for_websocket(), "{seen:#?}");
}

#[tokio::test]
async fn the_upstream_is_told_where_a_client_came_from_in_the_form_it_wants() {
    let forms: &[(&str, bool, bool)] = &[
        ("x-forwarded", true, false),
        ("rfc7239", false, true),
        ("both", true, true),
        ("off", false, false),
    ];
    for (form, x_forwarded, rfc7239) in forms {
        let upstream = Upstream::echo().await;
        let proxy = Proxy::to(&upstream).yaml(&format!("upstream: {{forwarded: {form}}}")).spawn().await;
        drop(proxy.dial().header("Host", "chat.example.com").open().await);
        let head = upstream.handshakes().remove(0).head;
        let x = |name: &str| head.headers.all(&format!("X-Forwarded-{name}"));
        let expected: [&[&str]; 4] = if *x_forwarded {
            [&["127.0.0.1"], &["http"], &["chat.example.com"], &[&proxy.address().port().to_string()]]
        } else {
            [&[]; 4]
        };
        assert_eq!([x("For"), x("Proto"), x("Host"), x("Port")], expected.map(<[_]>::to_vec), "{form}");
        let element = "for=127.0.0.1;host=\"chat.example.com\";proto=http";
        let expected = if *rfc7239 { vec![element] } else { Vec::new() };
        assert_eq!(head.headers.all("Forwarded"), expected, "{form}");
    }
}

#[tokio::test]
async fn a_request_id_is_passed_on_or_made() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    drop(proxy.dial().header("X-Request-ID", "from-the-ingress-7").open().await);
    for _ in 0..2 {
        drop(proxy.dial().open().await);
    }
    let seen = upstream.handshakes();
    let id = |at: usize| seen[at].head.header("X-Request-Id").expect("there is always one").to_owned();
    assert_eq!(id(0), "from-the-ingress-7");
    assert_eq!((id(1).len(), id(2).len()), (32, 32));
    assert_ne!(id(1), id(2));
}

#[tokio::test]
async fn the_host_is_kept_or_rewritten_as_configured() {
    let upstream = Upstream::echo().await;
    let own = upstream.url().replace("http://", "");
    for (mode, expected) in [("preserve", "chat.example.com"), ("rewrite", own.as_str())] {
        let proxy = Proxy::to(&upstream).yaml(&format!("upstream: {{host_header: {mode}}}")).spawn().await;
        drop(proxy.dial().header("Host", "chat.example.com").open().await);
        let head = upstream.handshakes().pop().expect("it came").head;
        assert_eq!(head.headers.all("Host"), [expected], "{mode}");
        assert_eq!(head.header("X-Forwarded-Host"), Some("chat.example.com"), "{mode}");
    }
}

#[tokio::test]
async fn a_prefix_is_taken_off_and_the_query_stays() {
    let upstream = Upstream::echo().await;
    let routes = "routes: [{name: app, path: '/app/{*rest}', strip_prefix: /app}]";
    let proxy = Proxy::to(&upstream).yaml(routes).spawn().await;
    let cases = [
        ("/app/ws/1?token=x&y=%2F", "/ws/1?token=x&y=%2F"),
        ("/app?a=b", "/?a=b"),
        ("/app", "/"),
        ("/app/", "/"),
        ("/application?a", "/application?a"),
        ("/?/app/x", "/?/app/x"),
    ];
    for (path, expected) in cases {
        drop(proxy.connect(path).await);
        let head = upstream.handshakes().pop().expect("it came").head;
        assert_eq!(head.target(), expected, "{path}");
    }
}

#[tokio::test]
async fn the_first_route_whose_path_and_host_match_wins() {
    let named = |name: &str| Upstream::builder().answering(Answer::accept_with(&[("X-Server", name)]));
    let (chat, feed, other) =
        (named("chat").spawn().await, named("feed").spawn().await, named("other").spawn().await);
    let routes = format!(
        "routes: [{{name: chat, path: '/ws/{{room}}', hosts: [chat.example.com], upstream: {{url: '{}'}}}}, \
         {{name: feed, path: '/ws/{{*rest}}', upstream: {{url: '{}'}}}}]",
        chat.url(),
        feed.url()
    );
    let proxy = Proxy::to(&other).yaml(&routes).spawn().await;
    // host, path, who answers, the metric's label
    let cases = [
        ("chat.example.com", "/ws/lobby", "chat", "chat"),
        ("CHAT.example.com:8080", "/ws/lobby?x", "chat", "chat"),
        ("chat.example.com", "/ws/lobby/1", "feed", "feed"),
        ("else.example.com", "/ws/lobby", "feed", "feed"),
        ("else.example.com", "/ws", "feed", "feed"),
        ("else.example.com", "/wsx", "other", "default"),
    ];
    for (host, path, server, label) in cases {
        let sample = format!("outrigger_handshakes_total{{route=\"{label}\",outcome=\"accepted\"}}");
        let before = proxy.metric(&sample).await;
        let mut client = proxy.dial().path(path).header("Host", host).open().await;
        assert_eq!(client.response.header("X-Server"), Some(server), "{host} {path}");
        assert_eq!(proxy.metric(&sample).await, before + 1.0, "{host} {path}");
        client.text("hi").await;
        client.expect_text("hi").await;
    }
}

#[tokio::test]
async fn a_unix_socket_on_either_side_works_as_tcp_does() {
    let upstream = Upstream::builder().unix().spawn().await;
    let path = crate::support::files::socket_path();
    let listen = format!("listen: {{unix: '{}'}}", path.display());
    let proxy = Proxy::to(&upstream).yaml(&listen).spawn().await;
    let mut client = RawClient::dial(path.clone()).header("Host", "chat.example.com").open().await;
    client.text("hello").await;
    client.expect_text("hello").await;
    let head = upstream.handshakes().remove(0).head;
    assert_eq!(head.header("X-Forwarded-For"), None, "nobody knows an address");
    assert_eq!(head.header("Host"), Some("chat.example.com"));
    client.close(1000, "").await;
    client.closed().await;
    proxy.stop().await;
    assert!(!path.exists(), "the socket's file goes with the proxy");
}

// ---- what the client is told

#[tokio::test]
async fn the_upstreams_101_reaches_the_client_with_its_headers() {
    let more = [
        ("sec-WebSocket-Protocol", "mqtt"),
        ("Sec-WebSocket-Extensions", "permessage-deflate; server_no_context_takeover"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2; Path=/"),
        ("X-Served-BY", "app-7"),
    ];
    let upstream = Upstream::builder().answering(Answer::accept_with(&more)).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let dial = proxy.dial().header("Sec-WebSocket-Protocol", "chat, mqtt");
    let client = dial.header("Sec-WebSocket-Extensions", "permessage-deflate").open().await;
    let told = end_to_end(&client.response.head.headers.0);
    for (name, value) in more {
        assert!(told.contains(&format!("{name}: {value}")), "{name}: {value} is missing: {told:#?}");
    }
    assert_eq!(client.response.header("X-Outrigger-Reason"), None);
}

#[tokio::test]
async fn what_the_upstream_says_right_behind_its_101_and_what_was_said_before_it_both_arrive() {
    let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let early = Frame::text("eager").encode(Role::Client);
    let mut client = proxy.dial().header("Sec-WebSocket-Key", key).pipelined(&early).send().await;
    let mut server = upstream.accept().await;
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept_value(key)
    );
    // In one write, so that it comes in one segment; an interim answer before both.
    let interim = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n".as_slice();
    let welcome = Frame::text("welcome").encode(Role::Server);
    assert_eq!(server.peek_for(A_MOMENT).await, b"", "not before the client may speak");
    server.send_bytes(&[interim, head.as_bytes(), &welcome].concat()).await;
    assert_eq!(client.read_head().await.status(), 101);
    client.expect_text("welcome").await;
    server.expect_text("eager").await;
}

#[tokio::test]
async fn a_handshake_in_segments_of_one_byte_is_one() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let mut client = proxy.dial().in_single_bytes().open().await;
    client.text("hello").await;
    client.expect_text("hello").await;
}

#[tokio::test]
async fn a_connection_that_was_plain_http_may_still_become_a_websocket() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let mut link = proxy.plain().send().await;
    assert_eq!(link.read_response("GET").await.status(), 200);
    link.send_bytes(&proxy.dial().request()).await;
    assert_eq!(link.read_head().await.status(), 101);
    link.text("hello").await;
    link.expect_text("hello").await;
}

#[tokio::test]
async fn a_refusal_of_the_upstream_passes_through_and_ends_the_connection() {
    type Case<'a> = (u16, &'a [(&'a str, &'a str)], &'a str);
    let cases: &[Case<'_>] = &[
        (403, &[("Content-Type", "application/json"), ("X-App-REASON", "banned")], "{\"error\":\"banned\"}"),
        (401, &[("WWW-Authenticate", "Bearer realm=\"chat\""), ("Set-Cookie", "a=1")], ""),
        (302, &[("Location", "https://elsewhere.example/ws?x=1")], ""),
        (426, &[("Sec-WebSocket-Version", "13, 8")], "upgrade, please\n"),
        (503, &[("Retry-After", "7")], "busy\n"),
        (200, &[], "an ordinary page\n"),
    ];
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    for (count, (status, headers, body)) in cases.iter().enumerate() {
        upstream.change(Upstream::builder().answering(Answer::refuse(*status, headers, body)));
        let mut client = proxy.dial().answer().await;
        assert_eq!((client.response.status(), client.response.text()), (*status, (*body).to_owned()));
        for (name, value) in *headers {
            let lines = &client.response.head.headers.0;
            assert!(
                lines.contains(&((*name).to_owned(), (*value).to_owned())),
                "{status} {name}: {lines:#?}"
            );
        }
        assert_eq!(client.response.header("X-Outrigger-Reason"), None, "{status}: it is not our answer");
        assert!(client.response.head.headers.lists("Connection", "close"), "{status}");
        assert_eq!(client.read_exactly(1).await, Err(End::Eof), "{status}: the connection has to end");
        let refused = "outrigger_handshakes_total{route=\"default\",outcome=\"refused\"}";
        assert_eq!(proxy.metric(refused).await, (count + 1) as f64);
    }
    // The server kept its side open: it must not be left waiting.
    eventually(DEADLINE, || async { upstream.open() == 0 }).await;
    assert_eq!(proxy.metrics().await.sum("outrigger_upstream_errors_total"), 0.0, "a refusal is no fault");
}

#[tokio::test]
async fn a_refusal_without_a_length_streams_to_its_end() {
    let chunked =
        "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnot \r\n5\r\ntoday\r\n0\r\n\r\n";
    let until_end = "HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\nnot today";
    for (raw, ends) in [(chunked, false), (until_end, true)] {
        let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        let mut client = proxy.dial().send().await;
        let mut server = upstream.accept().await;
        server.send_bytes(raw.as_bytes()).await;
        if ends {
            server.finish_writing().await;
        }
        let response = client.read_response("GET").await;
        assert_eq!((response.status(), response.text().as_str()), (403, "not today"), "{raw}");
        assert_eq!(client.read_exactly(1).await, Err(End::Eof));
    }
}
