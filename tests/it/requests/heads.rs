//! Heads that the proxy writes by itself: how their names are spelled, and what they tell of the road so far.

use outrigger::config::{HttpMode, OnRefuse, TokenSource};
use serde_json::json;

use crate::support::client::RawClient;
use crate::support::http::{Head, Headers, Response, assert_ours};
use crate::support::http2;
use crate::support::link::Link;
use crate::support::proxy::{Builder, Proxy};
use crate::support::token::{by_secret, for_user};
use crate::support::upstream::{Answer, Plain, Upstream};

/// Whoever comes over loopback is a proxy.
const TRUSTED: &str = "trusted_proxies: [loopback]";

/// As RFC 6455 and RFC 9110 write them. Devices compare letter by letter.
const SPELLED: [&str; 22] = [
    "Cache-Control",
    "Connection",
    "Content-Length",
    "Content-Type",
    "Date",
    "Host",
    "Origin",
    "Retry-After",
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Version",
    "Upgrade",
    "User-Agent",
    "WWW-Authenticate",
    "X-Content-Type-Options",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Proto",
    "X-Outrigger-Reason",
];

/// Every name is one of these, and each of `has` is there.
fn assert_spelled(head: &Head, has: &[&str]) {
    for name in head.headers.names() {
        assert!(SPELLED.contains(&name) || name == "X-Request-Id", "{name}: {head:#?}");
    }
    for name in has {
        assert!(head.headers.names().contains(name), "{name} is missing: {head:#?}");
    }
}

fn feed(upstream: &Upstream) -> Builder {
    Proxy::to(upstream).yaml("routes: [{name: feed, path: '/feed', mode: broadcast}]")
}

/// The answer to these bytes.
async fn ask(proxy: &Proxy, request: &str) -> Response {
    let mut link: Link = proxy.plain().connect().await;
    link.ask(request.as_bytes()).await
}

// ---- spelling

#[tokio::test]
async fn the_101_of_a_feed_and_the_dial_for_it_have_the_spelling_of_rfc_6455() {
    let upstream =
        Upstream::builder().answering(Answer::accept_with(&[("Sec-WebSocket-Protocol", "b")])).spawn().await;
    let proxy = feed(&upstream).spawn().await;
    let client = proxy
        .dial()
        .path("/feed")
        .header("Sec-WebSocket-Protocol", "a, b")
        .also("sec-websocket-extensions", "permessage-deflate")
        .also("Origin", "https://app.example.com")
        .open()
        .await;
    let accepted = ["Upgrade", "Connection", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol"];
    assert_spelled(&client.response.head, &accepted);
    let asked = &upstream.handshakes()[0].head;
    let names = ["Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"];
    assert_spelled(asked, &names);
    assert_spelled(asked, &["Sec-WebSocket-Protocol", "Origin", "User-Agent"]);
    assert_eq!(asked.header("Upgrade"), Some("websocket"));
    assert_eq!(asked.header("Connection"), Some("Upgrade"));
}

#[tokio::test]
async fn the_101_of_a_refusal_has_the_spelling_of_rfc_6455() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream)
        .policy(|policy| {
            policy.on_refuse = OnRefuse::Close;
            policy.limits.connections = Some(0);
        })
        .spawn()
        .await;
    let client = proxy.dial().header("Sec-WebSocket-Protocol", "chat").open().await;
    let names = ["Upgrade", "Connection", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol"];
    assert_spelled(&client.response.head, &names);
    assert_spelled(&client.response.head, &["X-Outrigger-Reason"]);
}

#[tokio::test]
async fn a_handshake_made_for_a_client_of_http2_has_the_spelling_of_rfc_6455() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let client = http2::Client::connect(proxy.address()).await;
    let mut request = http2::Client::handshake("/chat");
    for value in ["chat", "mqtt, graphql-ws"] {
        request.headers_mut().append("sec-websocket-protocol", value.parse().unwrap());
    }
    for value in ["permessage-deflate", "x-mine"] {
        request.headers_mut().append("sec-websocket-extensions", value.parse().unwrap());
    }
    let _socket = client.try_open(request).await.unwrap();
    let asked = &upstream.handshakes()[0].head;
    let names = ["Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"];
    assert_spelled(asked, &names);
    assert_spelled(asked, &["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port"]);
    assert_eq!(asked.headers.all("Sec-WebSocket-Protocol"), ["chat, mqtt, graphql-ws"]);
    assert_eq!(asked.headers.all("Sec-WebSocket-Extensions"), ["permessage-deflate, x-mine"]);
}

#[tokio::test]
async fn answers_of_our_own_have_the_spelling_of_their_rfcs() {
    let upstream = Upstream::echo().await;
    let guarded = Proxy::to(&upstream)
        .policy(|policy| {
            policy.auth = Some(by_secret(&[TokenSource::Header]));
            policy.http.mode = HttpMode::Guard;
        })
        .spawn()
        .await;
    let refused = guarded.dial().refused().await;
    assert_ours(&refused, 401, "unauthorized");
    assert_spelled(
        &refused.head,
        &["WWW-Authenticate", "Cache-Control", "Content-Type", "Content-Length", "Date"],
    );
    assert_spelled(
        &guarded.plain().answer().await.response.head,
        &["WWW-Authenticate", "X-Outrigger-Reason"],
    );

    let full = Proxy::to(&upstream).policy(|policy| policy.limits.connections = Some(0)).spawn().await;
    assert_spelled(&full.dial().refused().await.head, &["Retry-After", "Connection"]);
    // What is answered before there is a request, and to one that can be read in two ways.
    for request in ["GET / HTTP/1.1\r\nHost : a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"] {
        let refused = ask(&full, request).await;
        assert_ours(&refused, 400, "malformed_request");
        assert_spelled(
            &refused.head,
            &["X-Outrigger-Reason", "Content-Type", "Content-Length", "Connection"],
        );
    }
    let admin = RawClient::plain(full.admin()).path("/nothing").answer().await.response;
    assert_spelled(&admin.head, &["Content-Type", "Content-Length"]);
}

#[tokio::test]
async fn what_is_added_to_a_tunnels_heads_is_spelled_and_what_came_keeps_its_spelling() {
    let said = [("Sec-Websocket-MINE", "1"), ("x-lower", "2"), ("X-UPPER", "3")];
    let upstream = Upstream::builder().answering(Answer::accept_with(&said)).spawn().await;
    let proxy = Proxy::to(&upstream)
        .policy(|policy| policy.auth = Some(by_secret(&[TokenSource::Subprotocol])))
        .spawn()
        .await;
    let offer = format!("outrigger.bearer, {}", for_user("ann", 60));
    let dial = proxy.dial().header("sec-websocket-PROTOCOL", &offer);
    let client = dial.also("Sec-Websocket-Mine", "a").also("x-lower", "b").also("X-UPPER", "c").open().await;
    let answer = client.response.head.headers.names();
    for name in ["Sec-Websocket-MINE", "x-lower", "X-UPPER", "Sec-WebSocket-Protocol", "Sec-WebSocket-Accept"]
    {
        assert!(answer.contains(&name), "{name}: {answer:?}");
    }
    let asked = upstream.handshakes().remove(0).head;
    let names = asked.headers.names();
    for name in
        ["Sec-Websocket-Mine", "x-lower", "X-UPPER", "X-Forwarded-For", "X-Outrigger-User", "X-Request-Id"]
    {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
}

#[tokio::test]
async fn what_is_added_to_a_plain_request_and_its_answer_is_spelled() {
    let upstream = Upstream::builder()
        .on_request(Plain::fixed(200, &[("x-lower", "1"), ("X-UPPER", "2")], "ok"))
        .spawn()
        .await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let response = proxy.plain().also("x-lower", "1").also("X-UPPER", "2").answer().await.response;
    for name in ["x-lower", "X-UPPER", "Date"] {
        assert!(response.head.headers.names().contains(&name), "{name}: {:#?}", response.head);
    }
    let client = http2::Client::connect(proxy.address()).await;
    let request = http::Request::get("http://h2.example/").header("accept-language", "de").body(()).unwrap();
    client.plain(request, b"").await.unwrap();
    let [http1, http2] = &upstream.requests()[..] else { panic!("{:#?}", upstream.requests()) };
    for name in ["x-lower", "X-UPPER", "X-Forwarded-For", "X-Request-Id"] {
        assert!(http1.head.headers.names().contains(&name), "{name}: {http1:#?}");
    }
    for name in ["Host", "Accept-Language", "X-Forwarded-For", "X-Request-Id"] {
        assert!(http2.head.headers.names().contains(&name), "{name}: {http2:#?}");
    }
}

// ---- 426

#[tokio::test]
async fn a_426_says_what_to_upgrade_to_whoever_says_it_but_not_over_http2() {
    let said = |upgrade| Answer::refuse(426, &[("Upgrade", upgrade), ("Connection", "Upgrade")], "no");
    let upstream = Upstream::builder()
        .answering(said("WebSocket"))
        .on_request(Plain::fixed(426, &[("Upgrade", "websocket"), ("Connection", "Upgrade")], "no"))
        .spawn()
        .await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let told = |response: &Response| {
        assert_eq!(response.status(), 426);
        assert_eq!(response.head.headers.all("Upgrade"), ["websocket"], "{:#?}", response.head);
        assert!(response.head.headers.lists("Connection", "Upgrade"), "{:#?}", response.head);
    };
    let ours = proxy.dial().header("Sec-WebSocket-Version", "8").refused().await;
    assert_ours(&ours, 426, "unsupported_version");
    told(&ours);
    assert_spelled(&ours.head, &["Upgrade", "Connection", "Sec-WebSocket-Version"]);
    assert!(ours.head.headers.lists("Connection", "close"), "{:#?}", ours.head);
    told(&proxy.dial().refused().await);
    told(&proxy.plain().answer().await.response);
    let shared = feed(&upstream).spawn().await;
    told(&shared.dial().path("/feed").refused().await);

    let client = http2::Client::connect(proxy.address()).await;
    let request = http::Request::get("http://h2.example/").body(()).unwrap();
    let mut answers = vec![client.plain(request, b"").await.unwrap()];
    let mut request = http2::Client::handshake("/");
    request.headers_mut().insert("sec-websocket-version", "8".parse().unwrap());
    answers.extend(
        [client.try_open(request).await.err(), client.try_open(http2::Client::handshake("/")).await.err()]
            .into_iter()
            .flatten(),
    );
    assert_eq!(answers.len(), 3);
    for answer in answers {
        assert_eq!(answer.status, 426);
        assert_eq!((answer.header("upgrade"), answer.header("connection")), (None, None));
    }
    // Another protocol than ours cannot be had through us, so that it is not on offer; what says nothing means ours.
    upstream.change(Upstream::builder().answering(said("TLS/1.0")));
    assert_eq!(proxy.dial().refused().await.header("Upgrade"), None);
    upstream.change(Upstream::builder().answering(Answer::refuse(426, &[], "no")));
    told(&proxy.dial().refused().await);
}

// ---- the road

/// What the server is told of a handshake with these headers.
async fn told(yaml: &[&str], path: &str, said: &[(&str, &str)]) -> Headers {
    let upstream = Upstream::echo().await;
    let proxy = yaml.iter().fold(Proxy::to(&upstream), |proxy, yaml| proxy.yaml(yaml)).spawn().await;
    let dial = proxy.dial().path(path).header("Host", "inner");
    let dial = said.iter().fold(dial, |dial, (name, value)| dial.also(name, value));
    dial.open().await;
    upstream.handshakes().remove(0).head.headers
}

#[tokio::test]
async fn scheme_host_and_port_are_carried_over_between_the_two_kinds() {
    let said = [("Forwarded", r#"for=203.0.113.7;proto=https;host="app.example.com:8443""#)];
    let headers = told(&[TRUSTED], "/", &said).await;
    for (name, value) in [
        ("X-Forwarded-For", "203.0.113.7, 127.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "app.example.com:8443"),
        ("X-Forwarded-Port", "8443"),
    ] {
        assert_eq!(headers.all(name), [value], "{name}");
    }
    assert_eq!(headers.get("Forwarded"), None);
    let said = [
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "app.example.com"),
        ("X-Forwarded-Port", "8443"),
    ];
    let headers = told(&[TRUSTED, "upstream: {forwarded: rfc7239}"], "/", &said).await;
    let road =
        r#"for=203.0.113.7;host="app.example.com:8443";proto=https, for=127.0.0.1;host="inner";proto=http"#;
    assert_eq!(headers.all("Forwarded"), [road]);
    assert_eq!(headers.get("X-Forwarded-Proto"), None);
}

#[tokio::test]
async fn a_prefix_that_is_taken_off_is_told() {
    const API: &str = "routes: [{path: '/api/{*rest}', strip_prefix: /api}]";
    assert_eq!(told(&[API], "/api/a", &[]).await.all("X-Forwarded-Prefix"), ["/api"]);
    let said = [("X-Forwarded-Prefix", "/outer")];
    assert_eq!(told(&[API, TRUSTED], "/api/a", &said).await.all("X-Forwarded-Prefix"), ["/outer/api"]);
    assert_eq!(told(&[API], "/api/a", &said).await.all("X-Forwarded-Prefix"), ["/api"], "nobody is believed");
    assert_eq!(told(&[TRUSTED], "/a", &said).await.all("X-Forwarded-Prefix"), ["/outer"]);
    const FEED: &str = "routes: [{path: '/api/{*rest}', strip_prefix: /api, mode: broadcast}]";
    assert_eq!(told(&[FEED], "/api/a", &[]).await.all("X-Forwarded-Prefix"), ["/api"]);
}

#[tokio::test]
async fn of_a_peer_that_is_not_trusted_nothing_of_the_road_is_believed() {
    let said = [
        ("Forwarded", "for=10.0.0.1;proto=https;host=evil"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil"),
        ("X-Forwarded-Port", "1"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Forwarded-Ssl", "on"),
        ("X-Forwarded-Scheme", "https"),
        ("X-Forwarded-Server", "evil"),
        ("X-Real-IP", "10.0.0.1"),
        ("Front-End-Https", "on"),
        ("X-Original-URL", "/admin"),
        ("X-Rewrite-URL", "/admin"),
        ("X-Client-IP", "10.0.0.1"),
        ("CF-Connecting-IP", "10.0.0.1"),
        ("front_end_https", "on"),
    ];
    let headers = told(&[], "/", &said).await;
    let is_said = |name: &str| said.iter().any(|(said, _)| said.eq_ignore_ascii_case(name));
    let left: Vec<_> = headers.names().into_iter().filter(|name| is_said(name)).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    assert_eq!(headers.all("X-Forwarded-Proto"), ["http"]);
    assert_eq!(headers.all("X-Forwarded-Host"), ["inner"]);
}

// ---- what else may come in

#[tokio::test]
async fn an_expectation_is_answered_here_and_hints_of_the_server_go_no_further() {
    let raw = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
        .to_vec();
    let upstream = Upstream::builder().on_request(Plain::Raw(raw)).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    let mut link = proxy.plain().connect().await;
    link.send_bytes(request.as_bytes()).await;
    let early = link.read_head().await;
    assert_eq!(early.status(), 100);
    link.send_bytes(b"abc").await;
    let response = link.read_response("POST").await;
    assert_eq!((response.status(), response.text().as_str()), (200, "hi"));
    let asked = upstream.requests().remove(0);
    assert_eq!((asked.head.header("Expect"), &asked.body[..]), (None, &b"abc"[..]));
}

#[tokio::test]
async fn other_upgrades_are_served_as_plain_requests_and_connect_is_refused() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    for (upgrade, connection) in
        [("h2c", "Upgrade, HTTP2-Settings"), ("TLS/1.0", "Upgrade"), ("websocket", "close")]
    {
        let dial = proxy.plain().also("Upgrade", upgrade).also("Connection", connection);
        let response = dial.also("HTTP2-Settings", "AAMAAABkAAQAAP__").answer().await.response;
        assert_eq!(response.status(), 200, "{upgrade}");
        let asked = upstream.requests().pop().unwrap().head;
        assert_eq!(asked.header("Upgrade"), None, "{upgrade}");
    }
    let refused = proxy.plain().method("CONNECT").path("a.example:443").answer().await.response;
    assert_ours(&refused, 501, "unsupported_request");
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn a_url_that_is_too_long_names_its_own_limit() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("listen: {max_header_bytes: 256KiB}").spawn().await;
    let at_most = proxy.plain().path(&format!("/{}", "a".repeat(65_533))).answer().await.response;
    assert_eq!(at_most.status(), 200);
    let refused = proxy.plain().path(&format!("/{}", "a".repeat(65_534))).answer().await.response;
    assert_ours(&refused, 414, "target_too_long");
    assert!(
        refused.text().contains("65534") && !refused.text().contains("max_header_bytes"),
        "{}",
        refused.text()
    );
    // Below that it is the head's limit that it meets.
    let small = Proxy::to(&upstream).yaml("listen: {max_header_bytes: 8KiB}").spawn().await;
    let refused = small.plain().path(&format!("/{}", "a".repeat(20_000))).answer().await.response;
    assert_ours(&refused, 431, "head_too_large");
    assert!(refused.text().contains("listen.max_header_bytes"), "{}", refused.text());
    let many = (0..513).fold(small.plain(), |dial, n| dial.also(&format!("x{n}"), "1"));
    let refused = many.answer().await.response;
    assert_ours(&refused, 431, "head_too_large");
    assert!(refused.text().contains("512 headers"), "{}", refused.text());
}

/// What the admin port answers to this publication.
async fn publish(proxy: &Proxy, what: serde_json::Value) -> Response {
    let dial = RawClient::plain(proxy.admin()).method("POST").path("/api/admin/broadcast");
    dial.header("Connection", "close").body(what.to_string()).answer().await.response
}

#[tokio::test]
async fn publishing_to_nobody_in_particular_or_to_a_channel_that_is_not_there_is_refused() {
    let upstream = Upstream::echo().await;
    let proxy = feed(&upstream).spawn().await;
    let _client = proxy.dial().path("/feed").open().await;
    for key in ["user", "channel"] {
        for route in ["feed", "default"] {
            let answer = publish(&proxy, json!({ "route": route, "text": "x", key: "" })).await;
            assert_eq!(answer.status(), 400, "{route} {key}: {}", answer.text());
            assert!(answer.text().contains(key), "{}", answer.text());
        }
        let answer = publish(&proxy, json!({ "route": "feed", "text": "x", key: null })).await;
        assert_eq!(answer.status(), 200, "null is all: {}", answer.text());
    }
    for (key, value) in [("route", "other"), ("channel", "/other")] {
        let mut what = json!({ "route": "feed", "text": "x" });
        what[key] = json!(value);
        let answer = publish(&proxy, what).await;
        assert_eq!(answer.status(), 404, "{}", answer.text());
        assert!(answer.text().contains(value), "{}", answer.text());
    }
    let answer = publish(&proxy, json!({ "route": "feed", "channel": "/feed", "text": "x" })).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let answer = publish(&proxy, json!({ "route": "", "text": "x" })).await;
    assert_eq!(answer.status(), 400, "{}", answer.text());
}
