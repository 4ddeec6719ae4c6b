//! Clients that use HTTP/2 to wear a proxy out, or to say what HTTP/1.1 cannot. One test a threat, named
//! after it.

use std::time::Duration;

use h2::Reason;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::DEADLINE;
use crate::support::http2::{Client, Socket};
use crate::support::proxy::Proxy;
use crate::support::upstream::{Answer, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{Frame, Role};

/// A connection of whose frames each byte is the test's.
struct Raw(TcpStream);

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Raw {
    async fn connect(proxy: &Proxy) -> Self {
        let mut tcp = TcpStream::connect(proxy.address()).await.expect("the proxy listens");
        tcp.set_nodelay(true).expect("TCP_NODELAY can be set");
        tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("it is open");
        let mut raw = Self(tcp);
        raw.send(SETTINGS, 0, 0, b"").await.expect("it is open");
        raw
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        self.0.write_all(&frame(kind, flags, stream, payload)).await
    }

    /// The next frame of one of these kinds; None: the connection has ended.
    async fn next(&mut self, kinds: &[u8]) -> Option<(u8, u32, Vec<u8>)> {
        loop {
            let mut head = [0; 9];
            let read = timeout(DEADLINE, self.0.read_exact(&mut head)).await.expect("nothing comes");
            read.ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            if kinds.contains(&head[3]) {
                return Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload));
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Header fields as HPACK literals (RFC 7541 §6.2.2), neither indexed nor compressed.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in fields.iter().flat_map(|(name, value)| [None, Some(*name), Some(*value)]) {
        match text {
            None => bytes.push(0),
            Some(text) => {
                bytes.push(u8::try_from(text.len()).ok().filter(|n| *n < 127).expect("short"));
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    bytes
}

const HANDSHAKE: [(&str, &str); 6] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "h2.example"),
    ("sec-websocket-version", "13"),
];
const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "h2.example")];

#[tokio::test]
async fn header_and_url_injection() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let evils = ["\r\nX-Evil: 1", "\n", "\r", "\0", " HTTP/1.1\r\nX-Evil: 1\r\n\r\n"];
    for base in [&HANDSHAKE[..], &GET[..]] {
        for name in
            [":path", ":authority", ":scheme", ":method", ":protocol", "x-value", "sec-websocket-protocol"]
        {
            for evil in evils {
                let mut fields = base.to_vec();
                let value = match fields.iter().find(|(known, _)| *known == name) {
                    Some((_, value)) => format!("{value}{evil}x"),
                    None if name == ":protocol" => continue,
                    None => format!("a{evil}x"),
                };
                fields.retain(|(known, _)| *known != name);
                // Pseudo-headers come first.
                let at = if name.starts_with(':') { 0 } else { fields.len() };
                fields.insert(at, (name, &value));
                let is_get = base.len() == GET.len();
                let mut raw = Raw::connect(&proxy).await;
                let flags = END_HEADERS | if is_get { END_STREAM } else { 0 };
                raw.send(HEADERS, flags, 1, &block(&fields)).await.unwrap();
                let answer = raw.next(&[HEADERS, RST_STREAM, GOAWAY]).await;
                if let Some((HEADERS, _, block)) = answer {
                    // 400, 501 … by its place in the static table, or spelled out; never a 200 (0x88).
                    assert_ne!(block[0], 0x88, "{name}: {value:?} was accepted");
                }
            }
        }
        // Names, and headers of one hop: each could become a line or a request of its own.
        for (name, value) in [
            ("x-evil: 1\r\nx", "1"),
            ("x y", "1"),
            ("X-Upper", "1"),
            (":evil", "1"),
            ("", "1"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("transfer-encoding", "chunked"),
            ("keep-alive", "1"),
        ] {
            let mut raw = Raw::connect(&proxy).await;
            let fields = [base, &[(name, value)]].concat();
            raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields)).await.unwrap();
            if let Some((HEADERS, _, block)) = raw.next(&[HEADERS, RST_STREAM, GOAWAY]).await {
                assert_ne!(block[0], 0x88, "{name}: {value:?} was accepted");
            }
        }
    }
    assert_eq!(upstream.requests().len() + upstream.handshakes().len(), 0, "{:?}", upstream.requests());
    // That it is not for another reason:
    for base in [&HANDSHAKE[..], &GET[..]] {
        let mut raw = Raw::connect(&proxy).await;
        raw.send(HEADERS, END_HEADERS, 1, &block(base)).await.unwrap();
        if base.len() == GET.len() {
            raw.send(0, END_STREAM, 1, b"").await.unwrap();
        }
        assert_eq!(raw.next(&[HEADERS, RST_STREAM, GOAWAY]).await.map(|(_, _, block)| block[0]), Some(0x88));
    }
}

#[tokio::test]
async fn a_name_and_a_password_before_the_host() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let client = Client::connect(proxy.address()).await;
    let request = Request::get("http://trusted.example@h2.example/").body(()).unwrap();
    assert_eq!(client.plain(request, b"").await.unwrap().status, 400);
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn header_bomb() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("listen: {max_header_bytes: 16KiB}").spawn().await;
    let other = Client::connect(proxy.address()).await;
    let mut witness = other.open("/").await;

    // One field in the table, and then by a byte each: 4 KiB become 16 MiB.
    let mut raw = Raw::connect(&proxy).await;
    let mut bomb = block(&GET);
    bomb.extend_from_slice(&[0x40, 1, b'x', 0x7f, 0x80 + (3900 - 127) as u8 % 128, (3900 - 127) as u8 / 128]);
    let length = 3900_usize;
    let at = bomb.len() - 3;
    bomb.truncate(at);
    // A length of 7 bits and what is beyond them in groups of 7 (RFC 7541 §5.1).
    let beyond = length - 127;
    bomb.extend_from_slice(&[0x7f, 0x80 | (beyond % 128) as u8, (beyond / 128) as u8]);
    bomb.extend(std::iter::repeat_n(b'y', length));
    bomb.extend(std::iter::repeat_n(0x80 | 62, 4000));
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &bomb).await.unwrap();
    if let Some((HEADERS, _, block)) = raw.next(&[HEADERS, RST_STREAM, GOAWAY]).await {
        assert_ne!(block[0], 0x88, "a head of 16 MiB was accepted");
    }

    // A head that never ends.
    let mut raw = Raw::connect(&proxy).await;
    raw.send(HEADERS, 0, 1, &block(&GET)).await.unwrap();
    let more = block(&[("x-more", &"z".repeat(100))]);
    let more = more.repeat(100);
    let mut sent = 0;
    while sent < 64 << 20 && raw.send(CONTINUATION, 0, 1, &more).await.is_ok() {
        sent += more.len();
    }
    assert!(sent < 64 << 20, "{sent} bytes of one head were taken");
    assert_eq!(upstream.requests().len(), 0);
    witness_lives(&mut witness).await;
}

async fn witness_lives(witness: &mut Socket) {
    for n in 0..10 {
        witness.echoes(&format!("unharmed {n}")).await;
    }
}

#[tokio::test]
async fn rapid_reset() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let other = Client::connect(proxy.address()).await;
    let mut witness = other.open("/").await;
    let block = block(&HANDSHAKE);
    let before = upstream.accepted();
    // In one breath: they are taken back before they were looked at.
    for count in [100, 10_000] {
        let mut raw = Raw::connect(&proxy).await;
        let mut breath = Vec::new();
        for stream in (1..2 * count).step_by(2) {
            breath.extend(frame(HEADERS, END_HEADERS, stream, &block));
            breath.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        // It may be ended before all of it was said, and our reset then takes the reason with it.
        let _ = raw.0.write_all(&breath).await;
        match raw.next(&[GOAWAY]).await {
            Some((_, _, payload)) => assert_eq!(payload[4..8], 11_u32.to_be_bytes(), "ENHANCE_YOUR_CALM"),
            None => assert!(count > 100, "a hundred are read to the end"),
        }
    }
    let dialled = upstream.accepted() - before;
    assert!(dialled < 1000, "{dialled} of 10000 were dialled for");
    witness_lives(&mut witness).await;
}

#[tokio::test]
async fn rapid_reset_in_small_breaths() {
    // One by one, each seen and dialled for before it is taken back: by a server that does not answer.
    let upstream = Upstream::builder().answering(Answer::Silent).spawn().await;
    let other = Upstream::echo().await;
    let yaml = format!(
        "routes: [{{name: other, path: /other, upstream: {{url: \"{}\"}}}}]\nupstream: {{max_dials: 10}}",
        other.url()
    );
    let proxy = Proxy::to(&upstream).yaml(&yaml).spawn().await;
    let witnessing = Client::connect(proxy.address()).await;
    let mut witness = witnessing.open("/other").await;
    let client = Client::connect(proxy.address()).await;
    let mut asked = 0;
    for _ in 0..5000 {
        let Ok(mut ready) = client.send.clone().ready().await else { break };
        let Ok((_response, mut send)) = ready.send_request(Client::handshake("/"), false) else { break };
        asked += 1;
        let seen = upstream.accepted();
        let _ = timeout(Duration::from_millis(50), async {
            while upstream.accepted() == seen && !client.has_ended() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        send.send_reset(Reason::CANCEL);
    }
    assert!(asked < 1000, "{asked} were taken back, and nobody minds");
    assert!(upstream.accepted() < 1000);
    eventually(DEADLINE, || async { client.has_ended() }).await;
    assert_eq!(proxy.metric("outrigger_http2_rapid_resets_total").await, 1.0);
    eventually(DEADLINE, || async { upstream.open() == 0 }).await;
    witness_lives(&mut witness).await;
}

#[tokio::test]
async fn streams_beyond_the_bound() {
    let upstream = Upstream::builder().answering(Answer::Silent).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    // A client that does not heed the bound it was told.
    let mut raw = Raw::connect(&proxy).await;
    let block = block(&HANDSHAKE);
    for stream in (1..2000_u32).step_by(2) {
        if raw.send(HEADERS, END_HEADERS, stream, &block).await.is_err() {
            break;
        }
    }
    let mut refused = 0;
    while let Some((RST_STREAM, _, code)) = raw.next(&[RST_STREAM, GOAWAY]).await {
        assert_eq!(code, 7_u32.to_be_bytes(), "REFUSED_STREAM");
        refused += 1;
    }
    assert!(upstream.accepted() <= 128, "{} streams at once", upstream.accepted());
    assert!(refused <= 100, "and then the connection ends: {refused}");
}

#[tokio::test]
async fn small_frames() {
    // Messages of one byte each, to a server that does not read: their room is bounded, and no others end.
    let upstream = Upstream::by_hand().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let client = Client::connect(proxy.address()).await;
    let mut witness = client.open("/").await;
    let mut server = upstream.accept().await;
    let large = Frame::binary(vec![7; 16 * 1024]).encode(Role::Client);
    let small = Frame::binary([7]).encode(Role::Client);
    let mut sockets = vec![];
    for _ in 0..4 {
        let mut socket = client.open("/").await;
        let mut deaf = upstream.accept().await;
        deaf.stop_reading();
        // Until nobody takes any more …
        let held = proxy.metric("outrigger_buffered_bytes").await;
        while proxy.metric("outrigger_buffered_bytes").await == held {
            socket.send_bytes(large.clone()).await;
        }
        sockets.push((socket, deaf));
    }
    // … and then small ones up to the brim: large ones in between would make up for them.
    for (socket, _) in &mut sockets {
        let mut count = 0;
        while socket.send_until_blocked(&small, Duration::from_millis(200)).await > 0 {
            count += 1;
        }
        assert!(count > 4500, "{count}");
    }
    witness.text("still here").await;
    server.expect_text("still here").await;
}
