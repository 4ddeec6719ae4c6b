//! Whose connection it is, behind balancers and proxies; and how many may be on their way.

use std::time::Duration;

use outrigger::config::{Config, Forwarded, ProxyProtocol, TrustedProxies};
use tokio::time::Instant;

use crate::support::DEADLINE;
use crate::support::client::{Dial, RawClient};
use crate::support::http::{Head, assert_ours};
use crate::support::link::{End, Link};
use crate::support::proxy::{Builder, Proxy};
use crate::support::upstream::{Answer, Upstream};
use crate::support::wait::eventually;

/// The longest that something may take which takes no time.
const AT_ONCE: Duration = Duration::from_millis(300);

/// Loopback is a proxy of ours, and 10/8.
fn trusting(config: &mut Config) {
    let nets = ["127.0.0.0/8", "10.0.0.0/8"].map(|net| net.parse().expect("a network")).to_vec();
    config.trusted_proxies = TrustedProxies { nets, unix: true };
}

fn speaking(mode: ProxyProtocol) -> impl FnOnce(&mut Config) + Send + 'static {
    move |config| config.listen.proxy_protocol = mode
}

/// What the upstream was told by the last request of either kind; the other side of `forwarded: both`.
fn told(upstream: &Upstream) -> Head {
    let mut all = upstream.handshakes();
    all.extend(upstream.requests());
    upstream.forget();
    all.pop().expect("a request").head
}

fn both(builder: Builder) -> Builder {
    builder.yaml("upstream: {forwarded: both}")
}

/// These bytes, and then a request on the same connection.
async fn behind(proxy: &Proxy, bytes: &[u8]) -> Link {
    let mut link = proxy.plain().connect().await;
    let request = proxy.plain().header("Connection", "close").request();
    link.send_bytes(&[bytes, &request].concat()).await;
    link
}

/// Version 2 about 203.0.113.7:4711 → 198.51.100.1:443, with a TLV.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x10\xcb\x00\x71\x07\xc6\x33\x64\x01\x12\x67\x01\xbb\x04\x00\x01\x00";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n";

#[tokio::test]
async fn the_client_behind_trusted_proxies_is_the_one_that_the_upstream_hears_of() {
    let upstream = Upstream::echo().await;
    let said = |dial: Dial| {
        dial.also("X-Forwarded-For", "198.51.100.9, 203.0.113.7")
            .also("X-Forwarded-For", "10.0.0.2")
            .also("X-Forwarded-Proto", "https")
            .also("X-Forwarded-Host", "a.example")
            .also("X-Forwarded-Port", "443")
            .also("X-Forwarded-User", "alice")
            .also("X-Outrigger-User", "root")
    };
    let proxy = both(Proxy::to(&upstream)).config(trusting).spawn().await;
    for is_handshake in [true, false] {
        if is_handshake {
            said(proxy.dial()).open().await;
        } else {
            assert_eq!(said(proxy.plain()).answer().await.response.status(), 200);
        }
        let told = told(&upstream);
        let row = "198.51.100.9, 203.0.113.7, 10.0.0.2, 127.0.0.1";
        assert_eq!(told.headers.all("X-Forwarded-For"), [row]);
        assert_eq!(told.header("X-Forwarded-Proto"), Some("https"));
        assert_eq!(told.header("X-Forwarded-Host"), Some("a.example"));
        assert_eq!(told.header("X-Forwarded-Port"), Some("443"));
        assert_eq!(told.header("X-Forwarded-User"), Some("alice"));
        assert_eq!(told.header("X-Outrigger-User"), None, "only we say this");
        // There was no Forwarded: the client that was found begins it, with what was said of its request.
        let element = told.header("Forwarded").expect("forwarded: both");
        let begins = r#"for=203.0.113.7;host="a.example";proto=https, for=127.0.0.1;"#;
        assert!(element.starts_with(begins), "{element}");
    }

    let proxy = both(Proxy::to(&upstream)).spawn().await;
    said(proxy.dial()).open().await;
    let told = told(&upstream);
    assert_eq!(told.headers.all("X-Forwarded-For"), ["127.0.0.1"], "a stranger's word is nothing");
    assert_eq!(told.header("X-Forwarded-Proto"), Some("http"));
    assert_eq!(told.header("X-Forwarded-User"), None);
    assert!(told.header("Forwarded").is_some_and(|element| element.starts_with("for=127.0.0.1;")));
}

#[tokio::test]
async fn a_proxy_header_says_whose_connection_it_is() {
    let upstream = Upstream::echo().await;
    for mode in [ProxyProtocol::Required, ProxyProtocol::Optional] {
        let proxy = both(Proxy::to(&upstream)).config(trusting).config(speaking(mode)).spawn().await;
        let ipv6 = b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\n";
        let cases: [(&[u8], &str, String); 5] = [
            (V1, "203.0.113.7", "443".into()),
            (V2, "203.0.113.7", "443".into()),
            (ipv6, "2001:db8::7", "443".into()),
            (b"PROXY UNKNOWN\r\n", "127.0.0.1", proxy.address().port().to_string()),
            (V2_LOCAL, "127.0.0.1", proxy.address().port().to_string()),
        ];
        for (header, client, port) in cases {
            let name = format!("{mode:?}: {}", header.escape_ascii());
            let answer = behind(&proxy, header).await.read_response("GET").await;
            assert_eq!(answer.status(), 200, "{name}");
            let told = told(&upstream);
            assert_eq!(told.header("X-Forwarded-For"), Some(client), "{name}");
            assert_eq!(told.header("X-Forwarded-Port"), Some(port.as_str()), "{name}");
        }
        // Byte by byte, and a WebSocket behind it.
        let dial = proxy.dial().also("X-Forwarded-For", "198.51.100.9");
        let mut link = proxy.plain().connect().await;
        link.send_in_single_bytes(&[V2, &dial.request()].concat()).await;
        assert_eq!(link.read_head().await.status(), 101);
        link.text("hello").await;
        link.expect_text("hello").await;
        let told = told(&upstream);
        assert_eq!(told.header("X-Forwarded-For"), Some("203.0.113.7"), "who was named is no proxy of ours");
        let errors = proxy.metrics().await.sum("outrigger_proxy_protocol_errors_total");
        assert_eq!(errors, 0.0);
    }
}

#[tokio::test]
async fn without_the_proxy_header_that_is_required_nothing_is_served() {
    let upstream = Upstream::echo().await;
    let required = Proxy::to(&upstream).yaml("listen: {handshake_timeout: 500ms}");
    let proxy = required.config(speaking(ProxyProtocol::Required)).spawn().await;
    let cases: [(&[u8], &str); 5] = [
        (b"", "missing"),
        (b"\x16\x03\x01\x02\x00", "missing"),
        (b"PROXY TCP4 nonsense\r\n", "malformed"),
        (b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x00", "malformed"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", "malformed"),
    ];
    let count = async |reason: &str| {
        proxy.metric(&format!("outrigger_proxy_protocol_errors_total{{reason=\"{reason}\"}}")).await
    };
    for (bytes, reason) in cases {
        let before = count(reason).await;
        let mut link = behind(&proxy, bytes).await;
        assert!(link.read_exactly(1).await.is_err(), "{}: it is answered", bytes.escape_ascii());
        assert_eq!(count(reason).await, before + 1.0, "{}", bytes.escape_ascii());
    }
    // Nothing at all, or half a header: its time is that of the handshake.
    for bytes in [&b""[..], &V1[..20]] {
        let (before, since) = (count("timeout").await, Instant::now());
        let mut link = proxy.plain().connect().await;
        link.send_bytes(bytes).await;
        assert!(link.read_exactly(1).await.is_err());
        assert!(since.elapsed() >= Duration::from_millis(500), "{:?}", since.elapsed());
        assert_eq!(count("timeout").await, before + 1.0);
    }
    // Half a header and an end is malformed, an end alone is a look whether the port is open.
    let mut link = proxy.plain().connect().await;
    link.send_bytes(&V2[..14]).await;
    link.finish_writing().await;
    assert!(link.read_exactly(1).await.is_err());
    assert_eq!(count("malformed").await, 4.0);
    let mut link = proxy.plain().connect().await;
    link.finish_writing().await;
    assert!(link.read_exactly(1).await.is_err());
    let errors = proxy.metrics().await.sum("outrigger_proxy_protocol_errors_total");
    assert_eq!(errors, 2.0 + 4.0 + 2.0);
    assert_eq!(upstream.accepted(), 0);
}

/// Threat: a client that says by a PROXY header of its own that it is somebody else.
#[tokio::test]
async fn forged_proxy_headers() {
    let upstream = Upstream::echo().await;
    for mode in [ProxyProtocol::Optional, ProxyProtocol::Off] {
        // Nobody is trusted.
        let proxy = Proxy::to(&upstream).config(speaking(mode)).spawn().await;
        for header in [V1, V2, V2_LOCAL, b"PROXY UNKNOWN\r\n"] {
            let answer = behind(&proxy, header).await.read_response("GET").await;
            assert_ours(&answer, 400, "malformed_request");
        }
        assert_eq!(upstream.accepted(), 0, "{mode:?}");
    }
    // A second one, behind that of the balancer, is no header any more.
    let proxy = Proxy::to(&upstream).config(speaking(ProxyProtocol::Required)).spawn().await;
    let answer = behind(&proxy, &[V2, V1].concat()).await.read_response("GET").await;
    assert_ours(&answer, 400, "malformed_request");
    assert_eq!(upstream.accepted(), 0);
    // And whom a header names is believed no more than any client.
    let named = RawClient::plain(proxy.address()).also("X-Forwarded-For", "198.51.100.9");
    let mut link = proxy.plain().connect().await;
    link.send_bytes(&[V1, &named.request()].concat()).await;
    assert_eq!(link.read_response("GET").await.status(), 200);
    assert_eq!(told(&upstream).headers.all("X-Forwarded-For"), ["203.0.113.7"]);
}

#[tokio::test]
async fn where_it_is_optional_a_trusted_peer_need_not_send_one() {
    let upstream = Upstream::echo().await;
    let listen = "listen: {handshake_timeout: 500ms}";
    let optional = Proxy::to(&upstream).yaml(listen).config(trusting);
    let proxy = optional.config(speaking(ProxyProtocol::Optional)).spawn().await;
    let answer = proxy.plain().in_single_bytes().answer().await;
    assert_eq!(answer.response.status(), 200);
    // A method that begins like one; a header that is none.
    let answer = proxy.plain().method("PROPFIND").answer().await;
    assert_eq!(answer.response.status(), 200);
    let mut link = behind(&proxy, b"PROXY TCP4 nonsense\r\n").await;
    assert!(link.read_exactly(1).await.is_err(), "closed");
    // Who says nothing is told what everybody is told.
    let mut silent = proxy.plain().connect().await;
    assert_ours(&silent.read_response("GET").await, 408, "handshake_timeout");
}

/// Threat: slow loris, where there is something in front of the request to be slow with.
#[tokio::test]
async fn slow_loris_before_the_request() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("listen: {handshake_timeout: 1s}");
    let proxy = proxy.config(speaking(ProxyProtocol::Required)).spawn().await;
    let since = Instant::now();
    let mut drip = proxy.plain().connect().await;
    // Half of the time and more for the header …
    for bytes in V1.chunks(V1.len() / 5) {
        drip.send_bytes(bytes).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // … leaves the rest of it for the request.
    let request = proxy.plain().request();
    for byte in &request[..request.len() - 1] {
        drip.send_bytes(&[*byte]).await;
        if !drip.peek_for(Duration::from_millis(20)).await.is_empty() {
            break;
        }
    }
    assert_ours(&drip.read_response("GET").await, 408, "handshake_timeout");
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(1000) && took < Duration::from_millis(1450), "{took:?}");
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn beyond_max_handshakes_new_connections_are_turned_away_at_once() {
    let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
    let proxy = Proxy::to(&upstream).yaml("listen: {handshake_timeout: 60s}");
    let proxy = proxy.config(|config| config.listen.max_handshakes = 3).spawn().await;
    assert_eq!(proxy.metric("outrigger_limit{kind=\"handshakes\",route=\"\"}").await, 3.0);
    let busy = async |count: f64| {
        eventually(DEADLINE, || async { proxy.metric("outrigger_handshakes_in_progress").await == count })
            .await;
    };

    // Says nothing, half a head, waits for its answer: all three are on their way.
    let silent = proxy.plain().connect().await;
    let request = proxy.dial().request();
    let mut half = proxy.plain().connect().await;
    half.send_bytes(&request[..20]).await;
    let waiting = proxy.dial().send().await;
    let server = upstream.accept().await;
    busy(3.0).await;

    for refused in 1..=20 {
        let since = Instant::now();
        // With a request, and without one: it is not read anyway.
        let mut link =
            if refused % 2 == 0 { proxy.dial().send().await } else { proxy.plain().connect().await };
        let answer = link.read_response("GET").await;
        assert_ours(&answer, 503, "too_many_handshakes");
        assert!(answer.header("Retry-After").is_some());
        assert_eq!(link.read_exactly(1).await, Err(End::Eof));
        assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
        let counted = "outrigger_connections_refused_total{reason=\"too_many_handshakes\"}";
        assert_eq!(proxy.metric(counted).await, f64::from(refused));
    }
    assert_eq!(upstream.accepted(), 1, "the server heard of none of them");
    busy(3.0).await;

    // Whoever is through, is gone, or is idle makes room.
    drop((server, waiting));
    busy(2.0).await;
    upstream.change(Upstream::builder());
    let mut open = Vec::new();
    for _ in 0..5 {
        // None of them counts once it is open.
        let mut client = proxy.connect("/").await;
        client.text("hello").await;
        client.expect_text("hello").await;
        open.push(client);
        busy(2.0).await;
    }
    let mut idle = Vec::new();
    for _ in 0..5 {
        let client = proxy.plain().answer().await;
        assert_eq!(client.response.status(), 200);
        idle.push(client);
        busy(2.0).await;
    }
    // One that was idle is served beyond the bound: it is in.
    let third = proxy.plain().connect().await;
    busy(3.0).await;
    let mut back = idle.pop().expect("five are idle");
    back.send_bytes(&request[..20]).await;
    busy(4.0).await;
    back.send_bytes(&request[20..]).await;
    assert_eq!(back.read_head().await.status(), 101);
    busy(3.0).await;
    drop((silent, half, third));
    busy(0.0).await;
}

/// Threat: a client that announces a body and does not send it.
#[tokio::test]
async fn slow_loris_in_a_body() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("policy: {delivery: {stall_timeout: 500ms}}").spawn().await;
    let heads = [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ];
    for head in heads {
        let since = Instant::now();
        let mut link = proxy.plain().connect().await;
        link.send_bytes(head.as_bytes()).await;
        assert_ours(&link.read_response("POST").await, 408, "body_timeout");
        assert_eq!(link.read_exactly(1).await, Err(End::Eof), "and the connection ends");
        assert!(since.elapsed() >= Duration::from_millis(500), "{:?}", since.elapsed());
    }
    eventually(DEADLINE, || async { upstream.open() == 0 }).await;

    // Slow is not silent, and waiting for the server is neither. The bound is far above what a busy machine may stand still.
    let proxy = Proxy::to(&upstream).yaml("policy: {delivery: {stall_timeout: 2s}}").spawn().await;
    let mut link = proxy.plain().connect().await;
    link.send_bytes(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n").await;
    for byte in b"0123456789" {
        assert_eq!(link.peek_for(Duration::from_millis(250)).await, b"");
        link.send_bytes(&[*byte]).await;
    }
    assert_eq!(link.read_response("POST").await.status(), 200);
    upstream.change(Upstream::builder().after(Duration::from_millis(2500)));
    let answer = proxy.plain().method("POST").body("all of it").answer().await;
    assert_eq!(answer.response.status(), 200);
}

/// Threat: DNS rebinding.
#[tokio::test]
async fn operator_routes_answer_to_names_that_the_operator_gave() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream)
        .config(|config| config.admin.hosts = vec!["ops.example.com".into()])
        .spawn()
        .await;
    // host, and whether an operator route answers to it
    for (host, passes) in [("ops.example.com", true), ("OPS.example.com:8443", true), ("evil.example", false)]
    {
        let ask = |path: &str| RawClient::plain(proxy.admin()).path(path).header("Host", host).answer();
        assert_eq!(ask("/api/admin/drain").await.response.status(), if passes { 200 } else { 403 }, "{host}");
        for probe in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(ask(probe).await.response.status(), 200, "{host} {probe}");
        }
    }
    let across = RawClient::plain(proxy.admin()).method("POST").path("/api/admin/drain");
    let across = across.header("Host", "ops.example.com").header("Origin", "https://app.example.com");
    assert_eq!(across.answer().await.response.status(), 403);
    assert_eq!(proxy.metric("outrigger_draining").await, 0.0);
}

#[tokio::test]
async fn an_upstream_that_wants_to_be_told_nothing_is_told_nothing() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("upstream: {forwarded: 'off'}").config(trusting);
    let proxy = proxy
        .config(|config| {
            assert!(config.routes.iter().all(|route| route.upstream.forwarded == Forwarded::Off));
        })
        .spawn()
        .await;
    proxy.dial().also("X-Forwarded-For", "203.0.113.7").also("Forwarded", "for=203.0.113.7").open().await;
    let told = told(&upstream);
    for name in ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded"] {
        assert_eq!(told.header(name), None, "{name}");
    }
}
