//! What passes through a session whose server stays: messages, the handshake and its answer, extensions, control frames.

use std::io::Read as _;

use flate2::read::DeflateDecoder;

use crate::support::A_MOMENT;
use crate::support::http::assert_ours;
use crate::support::link::Message;
use crate::support::proxy::Proxy;
use crate::support::session::{CHAT, Death, Session, session};
use crate::support::upstream::{Answer, Plain, Upstream};
use crate::support::wire::{self, Frame, RSV1};

const DEFLATE: &str = "permessage-deflate; client_max_window_bits";

fn unpacked(payload: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    // The sender took the end of a block off (RFC 7692 §7.2.1); one that ends the stream follows.
    let whole = [payload, b"\x00\x00\xff\xff\x01\x00\x00\xff\xff"].concat();
    DeflateDecoder::new(&whole[..]).read_to_end(&mut text).unwrap();
    text
}

#[tokio::test]
async fn messages_of_every_size_pass_whole_both_ways() {
    // Two of the longest at once are more than a client may be behind by default.
    let mut session = Session::open("delivery: {max_lag: {bytes: 8MiB}}").await;
    session.works().await;
    for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let payload = Vec::from_iter((0..size).map(|at| (at / 7) as u8));
        let text = "ä".repeat(size / 2);
        let (client, server) = session.ends();
        client.binary(&payload).await;
        client.text(&text).await;
        server.expect_binary(&payload).await;
        server.expect_text(&text).await;
        server.binary(&payload).await;
        server.text(&text).await;
        client.expect_binary(&payload).await;
        client.expect_text(&text).await;
    }
    let metrics = session.proxy.metrics().await;
    assert_eq!(metrics.sum("outrigger_messages_in_total"), 2.0 + 14.0);
    assert_eq!(metrics.sum("outrigger_messages_out_total"), 1.0 + 14.0);
    assert_eq!(metrics.sum("outrigger_messages_lost_total"), 0.0);
    assert_eq!(metrics.sum("outrigger_messages_missed_total"), 0.0);
}

#[tokio::test]
async fn messages_that_come_in_fragments_arrive_as_the_same_messages() {
    let mut session = Session::open("").await;
    let (client, server) = session.ends();
    for opcode in [wire::TEXT, wire::BINARY] {
        for parts in [&[&b"one"[..], b"", b"two", b"three"][..], &[b"", b""], &[b"all"]] {
            let whole = parts.concat();
            let due = match opcode {
                wire::TEXT => Message::Text(String::from_utf8(whole).unwrap()),
                _ => Message::Binary(whole),
            };
            for frame in Frame::fragments(opcode, parts) {
                client.send_frame(&frame).await;
            }
            assert_eq!(server.next_message().await, due);
            for frame in Frame::fragments(opcode, parts) {
                server.send_frame(&frame).await;
            }
            assert_eq!(client.next_message().await, due);
        }
    }
}

#[tokio::test]
async fn frames_that_come_byte_by_byte_are_the_same_messages() {
    let mut session = Session::open("").await;
    let (client, server) = session.ends();
    let frame = Frame::text("grüße, byte by byte");
    client.send_in_single_bytes(&frame.encode(wire::Role::Client)).await;
    server.expect_text("grüße, byte by byte").await;
    server.send_in_single_bytes(&frame.encode(wire::Role::Server)).await;
    client.expect_text("grüße, byte by byte").await;
}

#[tokio::test]
async fn the_handshake_passes_as_in_a_tunnel_and_its_answer_too() {
    let answer = Answer::accept_with(&[
        ("Sec-WebSocket-Protocol", "chat.v1"),
        ("Set-Cookie", "sid=1; HttpOnly"),
        ("Set-Cookie", "theme=dark"),
        ("X-Server", "a"),
    ]);
    let dial = |dial: crate::support::client::Dial| {
        dial.path("/rooms/a%20b?x=1&y=%C3%A4&x=2")
            .header("Host", "chat.example.com")
            .header("Cookie", "sid=0; other=1")
            .header("Authorization", "Bearer abc")
            .header("Origin", "https://app.example.com")
            .header("Sec-WebSocket-Protocol", "chat.v2, chat.v1")
            .header("Sec-WebSocket-Extensions", DEFLATE)
            .header("X-Forwarded-For", "203.0.113.7")
            .header("Accept-Language", "de")
    };
    let upstream = Upstream::builder().answering(answer);
    let mut session = Session::before(upstream, "", dial, |proxy| proxy).await;
    session.works().await;

    let head = &session.server().request.head;
    assert_eq!(head.target(), "/rooms/a%20b?x=1&y=%C3%A4&x=2");
    for (name, value) in [
        ("Host", "chat.example.com"),
        ("Cookie", "sid=0; other=1"),
        ("Authorization", "Bearer abc"),
        ("Origin", "https://app.example.com"),
        ("Sec-WebSocket-Protocol", "chat.v2, chat.v1"),
        ("Sec-WebSocket-Version", "13"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "chat.example.com"),
        ("Accept-Language", "de"),
    ] {
        assert_eq!(head.headers.all(name), [value], "{name}: {head:#?}");
    }
    assert_eq!(head.header("Sec-WebSocket-Extensions"), None, "no extension towards the server");
    assert!(head.header("X-Request-Id").is_some(), "{head:#?}");
    assert_eq!(session.server().request.early, b"", "nothing was said before the 101");

    let answer = &session.client.response.head;
    assert_eq!(answer.headers.all("Set-Cookie"), ["sid=1; HttpOnly", "theme=dark"]);
    assert_eq!(answer.headers.all("Sec-WebSocket-Protocol"), ["chat.v1"]);
    assert_eq!(answer.headers.all("X-Server"), ["a"]);
    assert_eq!(answer.header("Sec-WebSocket-Extensions"), None, "compression is off by default");
}

#[tokio::test]
async fn the_keys_of_both_handshakes_are_each_links_own() {
    let dial =
        |dial: crate::support::client::Dial| dial.header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    // `open` holds the client's answer against its key, and the proxy the server's against its own.
    let mut session = Session::shaped("", dial, |proxy| proxy).await;
    let first = session.server().request.head.header("Sec-WebSocket-Key").unwrap().to_owned();
    session.die(Death::Reset).await;
    session.next_link().await;
    let second = session.server().request.head.header("Sec-WebSocket-Key").unwrap().to_owned();
    assert_ne!(first, second, "a fresh key for each handshake (RFC 6455 §4.1)");
}

#[tokio::test]
async fn compression_is_the_clients_hop_alone_and_only_where_it_is_wanted() {
    for (policy, is_on) in [("", false), ("compression: deflate", true), ("compression: off", false)] {
        let dial = |dial: crate::support::client::Dial| dial.header("Sec-WebSocket-Extensions", DEFLATE);
        let mut session = Session::shaped(policy, dial, |proxy| proxy).await;
        let agreed = session.client.response.header("Sec-WebSocket-Extensions").map(str::to_owned);
        assert_eq!(agreed.is_some(), is_on, "{policy}: {agreed:?}");
        assert_eq!(session.server().request.head.header("Sec-WebSocket-Extensions"), None);
        let long = "says the server, again and again; ".repeat(100);
        for _ in 0..3 {
            let (client, server) = session.ends();
            server.text(&long).await;
            let frame = client.next_frame().await;
            let rsv = if is_on { RSV1 } else { 0 };
            let text = if is_on { unpacked(&frame.payload) } else { frame.payload.clone() };
            assert_eq!((frame.rsv, text), (rsv, long.clone().into_bytes()), "{policy}");
            assert_eq!(frame.payload.len() < long.len() / 2, is_on);
        }
        // What the client says is never compressed by us; the server sees plain frames.
        let (client, server) = session.ends();
        client.text(&long).await;
        server.expect_text(&long).await;
        // It holds for the next server too.
        session.die(Death::Reset).await;
        session.next_link().await;
        assert_eq!(session.server().request.head.header("Sec-WebSocket-Extensions"), None);
        let (client, server) = session.ends();
        server.text(&long).await;
        assert_eq!(client.next_frame().await.rsv == RSV1, is_on);
    }
}

#[tokio::test]
async fn pings_are_answered_on_their_own_hop_and_go_no_further() {
    let mut session = Session::open("").await;
    let (client, server) = session.ends();
    client.ping(b"of the client").await;
    client.expect_pong(b"of the client").await;
    client.send_frame(&Frame::pong(b"for nobody")).await;
    server.ping(b"of the server").await;
    server.expect_pong(b"of the server").await;
    server.send_frame(&Frame::pong(b"for nobody")).await;
    client.expect_silence(A_MOMENT).await;
    server.expect_silence(A_MOMENT).await;
    session.works().await;
}

#[tokio::test]
async fn control_frames_inside_of_a_message_are_answered_there() {
    let mut session = Session::open("").await;
    let (client, server) = session.ends();
    client.send_frame(&Frame::text("in ").not_final()).await;
    client.ping(b"between").await;
    client.expect_pong(b"between").await;
    client.send_frame(&Frame::new(wire::CONTINUATION, b"pieces")).await;
    server.expect_text("in pieces").await;
    server.send_frame(&Frame::text("in ").not_final()).await;
    server.ping(b"between").await;
    loop {
        let frame = server.next_frame().await;
        match frame.opcode {
            wire::PONG => break assert_eq!(frame.payload, b"between"),
            wire::PING => server.send_frame(&Frame::pong(frame.payload)).await,
            _ => panic!("{frame:?}"),
        }
    }
    server.send_frame(&Frame::new(wire::CONTINUATION, b"pieces")).await;
    client.expect_text("in pieces").await;
}

#[tokio::test]
async fn an_idle_session_sends_no_pings_to_its_server() {
    let mut session = Session::open("").await;
    session.works().await;
    // The last message's receipt, and nothing after it: a second is four times what lies between two of them.
    let pings = session.server().answer_pings_for(std::time::Duration::from_secs(1)).await;
    assert!(pings <= 2, "{pings} pings for two messages");
    let (client, server) = session.ends();
    server.expect_silence(A_MOMENT).await;
    client.expect_silence(A_MOMENT).await;
}

#[tokio::test]
async fn what_either_side_says_as_early_as_it_can_arrives() {
    let greeting = Frame::text("welcome");
    let with_101 = move |request: &crate::support::http::Head| {
        let greeting = greeting.encode(wire::Role::Server);
        [crate::support::http::switching(request), greeting].concat()
    };
    let upstream = Upstream::builder().answering(Answer::With(std::sync::Arc::new(with_101)));
    let early = Frame::text("early").encode(wire::Role::Client);
    let dial = move |dial: crate::support::client::Dial| dial.pipelined(early);
    let mut session = Session::before(upstream, "", dial, |proxy| proxy).await;
    assert_eq!(session.server().request.early, b"", "it waits for the server's 101");
    let (client, server) = session.ends();
    client.expect_text("welcome").await;
    server.expect_text("early").await;
    session.works().await;
}

#[tokio::test]
async fn a_refusal_passes_to_the_client_and_no_session_begins() {
    let answer = Answer::refuse(403, &[("X-Why", "banned")], "not you");
    let upstream = Upstream::builder().answering(answer).spawn().await;
    let proxy = session(&upstream, "").spawn().await;
    let refused = proxy.dial().refused().await;
    assert_eq!((refused.status(), refused.header("X-Why")), (403, Some("banned")));
    assert_eq!(refused.text(), "not you");
    drop(upstream);
    let refused = proxy.dial().refused().await;
    assert_ours(&refused, 502, "upstream_unreachable");
    let metrics = proxy.metrics().await;
    for name in ["outrigger_sessions", "outrigger_session_ends_total", "outrigger_redials_total"] {
        assert_eq!(metrics.sum(name), 0.0, "{name}");
    }
}

#[tokio::test]
async fn plain_requests_on_such_a_route_go_to_the_server() {
    let plain = Plain::fixed(200, &[("X-Kind", "plain")], "hello");
    let upstream = Upstream::builder().on_request(plain).spawn().await;
    let proxy = session(&upstream, "").spawn().await;
    let answer = proxy.plain().path("/index.html").answer().await.response;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    assert_eq!(upstream.requests()[0].head.target(), "/index.html");
}

#[tokio::test]
async fn sessions_beside_each_other_and_beside_tunnels_never_hear_each_other() {
    let upstream = Upstream::echo().await;
    let yaml = "routes: [{name: chat, path: '/chat/{*rest}', mode: session}]";
    assert_ne!(yaml, CHAT);
    let proxy = Proxy::to(&upstream).yaml(yaml).spawn().await;
    let mut clients = Vec::new();
    for n in 0..20 {
        clients.push(proxy.connect(&format!("/chat/{n}")).await);
        clients.push(proxy.connect(&format!("/tunnel/{n}")).await);
    }
    proxy.attached(20.0).await;
    for (n, client) in clients.iter_mut().enumerate() {
        client.text(&format!("from {n}")).await;
    }
    for (n, client) in clients.iter_mut().enumerate() {
        client.expect_text(&format!("from {n}")).await;
        client.expect_silence(std::time::Duration::ZERO).await;
    }
    assert_eq!(upstream.accepted(), 40, "each has a link to the server for itself");
}
