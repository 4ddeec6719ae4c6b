//! Attacks on feeds, by their clients, by whoever publishes, and by their servers. One test a threat, named after it.
//!
//! Others stand where what they attack is tested: leaked identities, tenants and invented paths in `broadcast::channels`,
//! clients that do not read in `tests/load`, cross-site publishing in `relay::publish`.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::{Value, json};

use crate::support::feed::feed;
use crate::support::upstream::{Answer, Upstream};
use crate::support::wire::{Frame, Length, PONG, RSV1, Role, TEXT};

const FORWARD: &str = "broadcast: {uplink: forward, anonymous: true}";

#[tokio::test]
async fn decompression_bombs() {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; 64 << 20]).expect("into memory");
    encoder.flush().expect("into memory");
    let mut bomb = encoder.get_ref().clone();
    bomb.truncate(bomb.len() - 4);
    assert!(bomb.len() < 80_000, "1000 : 1, {}", bomb.len());
    let bomb = Frame::binary(bomb).rsv(RSV1);
    for (uplink, code) in [(FORWARD, Some(1009)), ("broadcast: {uplink: drop}", None)] {
        let upstream = Upstream::by_hand().await;
        let policy = format!("compression: deflate, max_frame: 1MiB, max_message: 1MiB, {uplink}");
        let proxy = feed(&upstream, &policy).spawn().await;
        let dial = || proxy.dial().path("/feed/a").header("Sec-WebSocket-Extensions", "permessage-deflate");
        let mut attacker = dial().open().await;
        let mut server = upstream.accept().await;
        let mut other = dial().open().await;
        attacker.send_frame(&bomb).await;
        match code {
            Some(code) => assert_eq!(attacker.closed().await.code, code),
            // Nobody looks into what nobody is to get.
            None => proxy.becomes("outrigger_uplink_dropped_total{route=\"feed\"}", 1.0).await,
        }
        server.expect_silence(Duration::from_millis(50)).await;
        server.text("go on").await;
        other.expect_text("go on").await;
        proxy.becomes("outrigger_buffered_bytes", 0.0).await;
    }
}

#[tokio::test]
async fn bytes_before_acceptance() {
    let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
    let proxy = feed(&upstream, FORWARD).spawn().await;
    let early = Frame::text("GET /internal HTTP/1.1").encode(Role::Client);
    for is_accepted in [false, true] {
        let mut client = proxy.dial().path("/feed/a").pipelined(&early).send().await;
        let mut server = upstream.accept().await;
        server.expect_silence(Duration::from_millis(100)).await;
        assert_eq!(server.leftover(), b"", "not a byte before it has agreed");
        if is_accepted {
            server.accept_websocket().await;
            assert_eq!(client.read_response("GET").await.status(), 101);
            server.expect_text("GET /internal HTTP/1.1").await;
        } else {
            server.send_bytes(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
            assert_eq!(client.read_response("GET").await.status(), 403);
            server.discard_to_end().await;
            assert_eq!(server.leftover(), b"", "nor after it has refused");
        }
    }
}

#[tokio::test]
async fn malformed_frames_of_a_client() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, &format!("{FORWARD}, max_frame: 1000B, max_message: 1500B")).spawn().await;
    let mut other = proxy.connect("/feed/a").await;
    let mut server = upstream.accept().await;
    let long = [7; 126];
    for (name, frames, code) in [
        ("unmasked", vec![Frame::text("x").unmasked()], 1002),
        ("a reserved opcode", vec![Frame::new(3, "x")], 1002),
        ("a reserved bit", vec![Frame::text("x").rsv(0b010)], 1002),
        ("compressed, which was not agreed upon", vec![Frame::text("x").rsv(RSV1)], 1002),
        ("a long ping", vec![Frame::ping(long)], 1002),
        ("a ping in parts", vec![Frame::ping("x").not_final()], 1002),
        ("a length in too long a form", vec![Frame::text("x").length(Length::U64)], 1002),
        ("the rest of nothing", vec![Frame::new(0, "x")], 1002),
        ("a message within another", vec![Frame::text("a").not_final(), Frame::text("b")], 1002),
        ("a Close with a code that may not be said", vec![Frame::close(1006, "")], 1002),
        ("a Close with a code that is none", vec![Frame::close(999, "")], 1002),
        ("a frame above the limit", vec![Frame::binary("").length(Length::Claimed(1001))], 1009),
        ("a message above it", vec![Frame::binary([0; 900]).not_final(), Frame::new(0, [0; 900])], 1009),
    ] {
        let mut client = proxy.connect("/feed/a").await;
        for frame in &frames {
            // It may be cut after the first.
            let _ = client.try_send_frame(frame).await;
        }
        assert_eq!(client.closed().await.code, code, "{name}");
        server.text(name).await;
        other.expect_text(name).await;
    }
    server.expect_silence(Duration::from_millis(50)).await;
    assert_eq!(upstream.accepted(), 1, "it is no fault of the server's");
}

#[tokio::test]
async fn malformed_frames_of_a_server() {
    let upstream = Upstream::by_hand().await;
    let policy = "max_frame: 1000B, max_message: 1500B, redial: {base: 1ms, cap: 10ms}";
    let proxy = feed(&upstream, policy).spawn().await;
    let mut client = proxy.connect("/feed/a").await;
    for (name, frames) in [
        ("masked", vec![Frame::text("x").masked([1; 4])]),
        ("a reserved opcode", vec![Frame::new(3, "x")]),
        ("a reserved bit", vec![Frame::text("x").rsv(0b001)]),
        ("compressed, which was not offered", vec![Frame::text("x").rsv(RSV1)]),
        ("a ping in parts", vec![Frame::ping("x").not_final()]),
        ("the rest of nothing", vec![Frame::new(0, "x")]),
        ("a message within another", vec![Frame::text("a").not_final(), Frame::text("b")]),
        ("no text", vec![Frame::new(TEXT, b"\xff\xfe")]),
        ("a message above the limit", vec![Frame::binary([0; 900]).not_final(), Frame::new(0, [0; 900])]),
    ] {
        let mut server = upstream.accept().await;
        server.text(name).await;
        client.expect_text(name).await;
        for frame in &frames {
            let _ = server.try_send_frame(frame).await;
        }
        let code = server.closed().await.code;
        assert!([1002, 1007, 1009].contains(&code), "{name}: {code}");
    }
    let mut server = upstream.accept().await;
    server.text("nothing of all that").await;
    client.expect_text("nothing of all that").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ping_flood() {
    let upstream = Upstream::by_hand().await;
    // Without the rate, by which it would be closed at once (`tests/load/noise.rs`).
    let proxy = feed(&upstream, "heartbeat: null, limits: {control_rate: null}").spawn().await;
    let mut attacker = proxy.connect("/feed/a").await;
    let mut server = upstream.accept().await;
    let mut other = proxy.connect("/feed/a").await;
    let some: Vec<u8> = (0..1000).flat_map(|_| Frame::ping([7; 125]).encode(Role::Client)).collect();
    for n in 0..100 {
        attacker.send_bytes(&some).await;
        server.text(&n.to_string()).await;
        other.expect_text(&n.to_string()).await;
    }
    attacker.send_frame(&Frame::ping("the last")).await;
    let mut pongs = 0;
    loop {
        let frame = attacker.next_frame().await;
        if frame.opcode == PONG {
            pongs += 1;
            if frame.payload == b"the last" {
                break;
            }
        }
    }
    assert!(pongs <= 100_001, "{pongs}: no more comes back than was sent");
    // One that does not even read its pongs gets one of them, when it does.
    let mut deaf = proxy.dial().path("/feed/a").receive_buffer(4096).open().await;
    deaf.stop_reading();
    for _ in 0..100 {
        deaf.send_bytes(&some).await;
    }
    server.text("still there").await;
    other.expect_text("still there").await;
    let held = proxy.metric("outrigger_buffered_bytes").await;
    assert!(held < 1024.0, "{held} bytes of pongs are kept");
    assert_eq!(proxy.metrics().await.sum("outrigger_disconnections_total"), 0.0);
    server.expect_silence(Duration::from_millis(20)).await;
}

#[tokio::test]
async fn unbounded_names() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "broadcast: {linger: 0s}").spawn().await;
    let visit = async |n: usize| {
        let path = format!("/feed/invented{n}?invented{n}=1");
        let dial = proxy.dial().path(&path).header("Host", &format!("invented{n}.example"));
        let mut client = dial.header("Sec-WebSocket-Protocol", &format!("invented{n}")).open().await;
        let mut server = upstream.accept().await;
        server.text("x").await;
        client.expect_text("x").await;
        // As the admin port lists it: what was offered is a part of it.
        let name = format!("{path} protocol=invented{n}");
        for body in [
            json!({ "route": "feed", "channel": name, "text": "y" }),
            json!({ "route": "feed", "channel": format!("/invented{n}"), "text": "y" }),
            json!({ "route": "feed", "user": format!("invented{n}"), "text": "y" }),
            json!({ "route": format!("invented{n}"), "text": "y" }),
        ] {
            proxy.post(&body.to_string()).await;
        }
        client.expect_text("y").await;
        client.close(1000, "").await;
        client.closed().await;
        assert_eq!(server.closed().await.code, 1001);
        proxy.becomes("outrigger_channels{route=\"feed\"}", 0.0).await;
    };
    let names = async || {
        let metrics = proxy.metrics().await.0;
        let samples = metrics.lines().filter(|line| !line.starts_with('#'));
        samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect::<Vec<_>>()
    };
    visit(0).await;
    let before = names().await;
    for n in 1..40 {
        visit(n).await;
    }
    assert_eq!(names().await, before, "what a client makes up is no label");
    assert!(!before.iter().any(|name| name.contains("invented")), "{before:#?}");
    proxy.becomes("outrigger_history_messages", 0.0).await;
    proxy.becomes("outrigger_memory_buffered_bytes", 0.0).await;
}

#[tokio::test]
async fn header_and_url_injection() {
    let upstream = Upstream::by_hand().await;
    let policy = "broadcast: {channel_key: [path, 'query:room', 'header:X-Tenant']}";
    let proxy = feed(&upstream, policy).spawn().await;
    let path = "/feed/a%0d%0aX-Evil:%201?room=b%0d%0aX-Evil:%202&other=secret";
    let dial = proxy.dial().path(path).header("X-Tenant", "blue\tX-Evil: 3");
    let _client = dial.open().await;
    let server = upstream.accept().await;
    let head = &server.request.head;
    assert_eq!(head.target(), "/feed/a%0d%0aX-Evil:%201?room=b%0d%0aX-Evil:%202");
    assert_eq!(head.header("x-tenant"), Some("blue\tX-Evil: 3"));
    assert_eq!(head.header("x-evil"), None);
    for (name, value) in [("X-Tenant", "blue\rX-Evil: 4"), ("X-Tenant", "blue\0"), ("Origin", "a\rX-Evil: 5")]
    {
        let response = proxy.dial().path("/feed/b").header(name, value).refused().await;
        assert_eq!(response.status(), 400, "{value:?}");
    }
    assert_eq!(upstream.accepted(), 1);
}

/// Whoever publishes gets told what is wrong, and no client gets any of it.
#[tokio::test]
async fn bad_publishing() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "max_message: 100B, max_frame: 100B")
        .config(|config| config.admin.max_publish = 1000)
        .spawn()
        .await;
    let mut client = proxy.connect("/feed/a").await;
    let mut server = upstream.accept().await;
    let text = |n: usize| json!({ "route": "feed", "text": "x".repeat(n) }).to_string();
    let bytes = |n: usize| format!(r#"{{"route":"feed","base64":"{}"}}"#, "AAAA".repeat(n));
    for (body, status, told) in [
        (r#"{"route":"fed","text":"x"}"#.to_owned(), 404, r#"no route "fed"; there is feed, default"#),
        (r#"{"route":"feed","text":"x""#.to_owned(), 400, "line 1 column"),
        (r#"{"route":"feed","text":"\ud800"}"#.to_owned(), 400, "line 1 column"),
        ("\u{0}".to_owned(), 400, "line 1 column"),
        (String::new(), 400, "line 1 column"),
        ("[".repeat(900), 400, "line 1 column"),
        (r#"{"route":"feed","channel":7,"text":"x"}"#.to_owned(), 400, "invalid type"),
        (r#"{"route":"feed","user":["ann"],"text":"x"}"#.to_owned(), 400, "invalid type"),
        (r#"{"route":"feed","chanel":"/feed/a","text":"x"}"#.to_owned(), 400, "unknown field `chanel`"),
        (text(101), 413, "policy.max_message (100 bytes)"),
        (bytes(34), 413, "policy.max_message (100 bytes)"),
        (text(1000), 413, "admin.max_publish (1000 bytes)"),
    ] {
        let response = proxy.post(&body).await;
        assert_eq!(response.status(), status, "{body}: {}", response.text());
        let answer: Value = serde_json::from_str(&response.text()).expect("JSON");
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.contains(told), "{body}: {error}");
    }
    assert_eq!(proxy.metric("outrigger_published_total{route=\"feed\"}").await, 0.0);
    let response = proxy.post(&text(100)).await;
    assert_eq!(response.text().trim(), r#"{"recipients":1,"sequence":1}"#);
    client.expect_text(&"x".repeat(100)).await;
    server.text("and nothing else").await;
    client.expect_text("and nothing else").await;
}
