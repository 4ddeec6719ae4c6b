//! What passes a tunnel passes as it came, in order, both ways.

use std::sync::Arc;
use std::time::Duration;

use crate::support::client::RawClient;
use crate::support::http::accept_value;
use crate::support::link::{End, Link, Received};
use crate::support::pair::Pair;
use crate::support::proxy::Proxy;
use crate::support::upstream::{Act, Answer, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{self, Frame, RSV1, Role};

/// Frames of every kind and length form, those of one message side by side.
fn every_kind() -> Vec<(&'static str, Vec<Frame>)> {
    let bytes = |count: usize| (0..count).map(|index| (index * 7 + index / 251) as u8).collect::<Vec<_>>();
    let between = |opcode, parts: &[&[u8]], control: &Frame| {
        let frames = Frame::fragments(opcode, parts);
        frames.into_iter().flat_map(|frame| [control.clone(), frame]).skip(1).collect::<Vec<_>>()
    };
    let mut kinds = vec![
        ("text", vec![Frame::text("grüße")]),
        ("a text that is no UTF-8", vec![Frame::new(wire::TEXT, [0xff, 0xfe, 0xc0])]),
        ("empty text", vec![Frame::text("")]),
        ("empty binary", vec![Frame::binary([])]),
        ("empty ping", vec![Frame::ping([])]),
        ("the longest ping", vec![Frame::ping(bytes(125))]),
        ("a pong that nobody asked for", vec![Frame::pong("unasked")]),
        ("fragments", Frame::fragments(wire::TEXT, &[b"one", b"two", b"three"])),
        ("empty fragments", Frame::fragments(wire::BINARY, &[b"", b"", b""])),
        ("pings between fragments", between(wire::TEXT, &[b"a", b"", b"c", b"d"], &Frame::ping("between"))),
        ("pongs between fragments", between(wire::BINARY, &[b"a", b"b"], &Frame::pong("between"))),
        ("long fragments", Frame::fragments(wire::BINARY, &[&bytes(70_000), &bytes(126), &bytes(65_535)])),
    ];
    for (name, size) in [
        ("125 bytes", 125),
        ("126 bytes", 126),
        ("65535 bytes", 65_535),
        ("65536 bytes", 65_536),
        ("1 MiB", 1 << 20),
    ] {
        kinds.push((name, vec![Frame::binary(bytes(size))]));
    }
    kinds
}

/// Sends `bytes` from one end, wants exactly them at the other.
async fn arrives(name: &str, from: &mut Link, to: &mut Link, bytes: &[u8]) {
    let ((), came) = tokio::join!(from.send_bytes(bytes), to.read_exactly(bytes.len()));
    let came = came.unwrap_or_else(|end| panic!("{name}: {end:?} after {} bytes", to.leftover().len()));
    // Not assert_eq: a megabyte of differing bytes helps nobody.
    if came != bytes {
        let at = came.iter().zip(bytes).position(|(came, sent)| came != sent);
        panic!("{name}: the bytes differ at {at:?} of {}", bytes.len());
    }
    assert!(to.leftover().is_empty(), "{name}: more came than was sent");
}

fn encode(frames: &[Frame], role: Role) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.encode(role)).collect()
}

#[tokio::test]
async fn frames_of_every_kind_pass_byte_for_byte_both_ways() {
    let mut pair = Pair::open("").await;
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for (name, frames) in every_kind() {
        let (client, server) = (encode(&frames, Role::Client), encode(&frames, Role::Server));
        arrives(name, &mut pair.client, &mut pair.server, &client).await;
        arrives(name, &mut pair.server, &mut pair.client, &server).await;
        up.extend(client);
        down.extend(server);
    }
    arrives("all of it at once", &mut pair.client, &mut pair.server, &up).await;
    arrives("all of it at once", &mut pair.server, &mut pair.client, &down).await;
    // Control frames are no messages, and each fragmented message is one.
    let messages = 2.0 * (every_kind().len() - 3) as f64;
    let metrics = pair.proxy.metrics().await;
    for (name, value) in [
        ("outrigger_messages_in_total", messages),
        ("outrigger_messages_out_total", messages),
        ("outrigger_bytes_in_total", 2.0 * up.len() as f64),
        ("outrigger_bytes_out_total", 2.0 * down.len() as f64),
        ("outrigger_discarded_bytes_total", 0.0),
    ] {
        assert_eq!(metrics.get(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn segments_of_one_byte_pass_both_ways() {
    let mut pair = Pair::open("").await;
    for (name, frames) in every_kind() {
        let (up, down) = (encode(&frames, Role::Client), encode(&frames, Role::Server));
        if up.len() > 1000 {
            continue;
        }
        pair.client.send_in_single_bytes(&up).await;
        assert_eq!(pair.server.read_exactly(up.len()).await.as_deref(), Ok(&*up), "{name}");
        pair.server.send_in_single_bytes(&down).await;
        assert_eq!(pair.client.read_exactly(down.len()).await.as_deref(), Ok(&*down), "{name}");
    }
    // Each byte on the wire by itself, told from its neighbours by what comes back in between.
    let slow = Frame::ping("one by one").encode(Role::Client);
    for byte in &slow {
        pair.client.send_bytes(&[*byte]).await;
        pair.server.text("tick").await;
        pair.client.expect_text("tick").await;
    }
    assert_eq!(pair.server.read_exactly(slow.len()).await, Ok(slow));
}

#[tokio::test]
async fn a_handshake_in_segments_of_one_byte_opens_a_websocket_that_works() {
    let pair = Pair::shaped("", Upstream::builder(), |dial| dial.in_single_bytes());
    pair.await.works().await;
}

#[tokio::test]
async fn compressed_frames_pass_where_permessage_deflate_was_agreed_upon() {
    let offer = "permessage-deflate; client_max_window_bits";
    let upstream = Upstream::builder()
        .answering(Answer::accept_with(&[("Sec-WebSocket-Extensions", "permessage-deflate")]));
    let mut pair = Pair::shaped("", upstream, |dial| dial.header("Sec-WebSocket-Extensions", offer)).await;
    assert_eq!(pair.server.request.head.header("Sec-WebSocket-Extensions"), Some(offer));
    assert_eq!(pair.client.response.header("Sec-WebSocket-Extensions"), Some("permessage-deflate"));
    let squeezed = Frame::text("").rsv(RSV1);
    let [first, ping, last] =
        [Frame::binary([1, 2]).rsv(RSV1).not_final(), Frame::ping("p"), Frame::new(wire::CONTINUATION, [3])];
    // What is not worth it is sent as it is, among the others (RFC 7692 §6).
    let frames = [squeezed, first, ping, last, Frame::text("plain"), Frame::binary([0; 300]).rsv(RSV1)];
    let up = encode(&frames, Role::Client);
    arrives("compressed", &mut pair.client, &mut pair.server, &up).await;
    let down = encode(&frames, Role::Server);
    arrives("compressed", &mut pair.server, &mut pair.client, &down).await;
}

#[tokio::test]
async fn any_reserved_bit_and_opcode_passes_where_an_unknown_extension_was_agreed_upon() {
    let upstream =
        Upstream::builder().answering(Answer::accept_with(&[("Sec-WebSocket-Extensions", "x-sparkle")]));
    let mut pair =
        Pair::shaped("", upstream, |dial| dial.header("Sec-WebSocket-Extensions", "x-sparkle; level=9"))
            .await;
    for opcode in [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15] {
        for bits in 0..8 {
            let frame = Frame::new(opcode, "sparkle").rsv(bits);
            let name = format!("{frame:?}");
            arrives(&name, &mut pair.client, &mut pair.server, &frame.encode(Role::Client)).await;
            arrives(&name, &mut pair.server, &mut pair.client, &frame.encode(Role::Server)).await;
        }
    }
}

#[tokio::test]
async fn what_a_client_says_too_early_waits_for_the_upstreams_101() {
    let delay = Duration::from_millis(150);
    let early = encode(&[Frame::text("early"), Frame::ping("bird")], Role::Client);
    let pair = Pair::shaped("", Upstream::builder().after(delay), |dial| dial.pipelined(&early));
    let mut pair = pair.await;
    assert_eq!(pair.server.request.early, b"", "a byte came before the 101");
    assert_eq!(pair.server.read_exactly(early.len()).await, Ok(early));
    pair.works().await;
}

#[tokio::test]
async fn half_a_frame_that_came_with_the_handshake_is_continued() {
    let frame = Frame::binary([9; 5000]).encode(Role::Client);
    for cut in [1, 2, 7, 8, 9, 2500] {
        let pair = Pair::shaped("", Upstream::builder(), |dial| dial.pipelined(&frame[..cut]));
        let mut pair = pair.await;
        pair.server.text("go on").await;
        pair.client.expect_text("go on").await;
        pair.client.send_bytes(&frame[cut..]).await;
        assert_eq!(pair.server.read_exactly(frame.len()).await.as_deref(), Ok(&*frame), "cut at {cut}");
    }
}

/// A server that says these bytes in one write with its 101.
fn talks_first(bytes: Vec<u8>) -> crate::support::upstream::Builder {
    Upstream::builder().answering(Answer::With(Arc::new(move |request| {
        let accept = accept_value(request.header("Sec-WebSocket-Key").expect("a handshake has a key"));
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        [head.as_bytes(), &bytes].concat()
    })))
}

#[tokio::test]
async fn what_an_upstream_says_with_its_101_reaches_the_client() {
    let long = Frame::binary(vec![3; 40_000]);
    let early = encode(&[Frame::text("welcome"), Frame::ping("?"), long], Role::Server);
    for cut in [1, 2, 9, 10, 100, early.len()] {
        let mut pair = Pair::shaped("", talks_first(early[..cut].to_vec()), |dial| dial).await;
        pair.server.send_bytes(&early[cut..]).await;
        assert_eq!(pair.client.read_exactly(early.len()).await.as_deref(), Ok(&*early), "cut at {cut}");
        pair.works().await;
    }
}

#[tokio::test]
async fn an_upstream_that_closes_with_its_101_is_heard() {
    let goodbye = encode(&[Frame::text("only this"), Frame::close(4100, "full")], Role::Server);
    let mut pair = Pair::shaped("", talks_first(goodbye), |dial| dial).await;
    let (client, server) = tokio::join!(pair.client.closed(), pair.server.closed());
    assert_eq!((client.code, &*client.reason, client.then), (4100, "full", End::Eof));
    assert_eq!(client.before.len(), 1);
    assert_eq!((server.code, server.then), (4100, End::Eof));
    pair.tells("upstream_close", Some(("upstream", "4xxx"))).await;
}

#[tokio::test]
async fn pings_and_pongs_of_both_peers_pass_end_to_end_and_nobody_else_answers() {
    let mut pair = Pair::open("").await;
    pair.client.ping(b"are you there?").await;
    let ping = pair.server.next_frame().await;
    assert_eq!((ping.opcode, &*ping.payload, ping.is_masked()), (wire::PING, &b"are you there?"[..], true));
    // Whoever answered in the server's place would have been heard before this.
    pair.server.text("thinking").await;
    pair.client.expect_text("thinking").await;
    pair.server.send_frame(&Frame::pong("are you there?")).await;
    pair.client.expect_pong(b"are you there?").await;

    pair.server.ping(b"and you?").await;
    let ping = pair.client.next_frame().await;
    assert_eq!((ping.opcode, &*ping.payload, ping.is_masked()), (wire::PING, &b"and you?"[..], false));
    pair.client.text("thinking").await;
    pair.server.expect_text("thinking").await;
    pair.client.send_frame(&Frame::pong("and you?")).await;
    pair.server.expect_pong(b"and you?").await;
}

/// Says `count` messages of random length while reading; then wants as many of `seed`'s.
async fn chat(link: &mut Link, count: usize, own: u64, seed: u64) {
    let message = |random: &mut fastrand::Rng| vec![random.u8(..); random.usize(..12_000)];
    let mut random = fastrand::Rng::with_seed(own);
    for _ in 0..count {
        link.binary(&message(&mut random)).await;
    }
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..count {
        link.expect_binary(&message(&mut random)).await;
    }
}

#[tokio::test]
async fn both_ways_at_once_with_many_messages_in_flight() {
    let Pair { mut client, mut server, proxy, upstream: _upstream } = Pair::open("").await;
    tokio::join!(chat(&mut client, 800, 1, 2), chat(&mut server, 800, 2, 1));
    assert_eq!(proxy.metric("outrigger_messages_in_total").await, 800.0);
    assert_eq!(proxy.metric("outrigger_messages_out_total").await, 800.0);
    let nothing_is_left = || async { proxy.metric("outrigger_buffered_bytes").await == 0.0 };
    eventually(crate::support::DEADLINE, nothing_is_left).await;
}

#[tokio::test]
async fn connections_side_by_side_never_hear_each_other() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let mut clients = Vec::new();
    for number in 0..40_u64 {
        let mut client = proxy.connect("/").await;
        clients.push(tokio::spawn(async move {
            chat(&mut client, 50, number, number).await;
        }));
    }
    for client in clients {
        client.await.expect("each hears itself");
    }
    assert_eq!(proxy.metric("outrigger_connections_total{route=\"default\"}").await, 40.0);
}

#[tokio::test]
async fn an_upstream_on_a_unix_socket_is_as_good_as_any() {
    let mut pair = Pair::shaped("", Upstream::builder().unix(), |dial| dial).await;
    for (name, frames) in every_kind() {
        arrives(name, &mut pair.client, &mut pair.server, &encode(&frames, Role::Client)).await;
        arrives(name, &mut pair.server, &mut pair.client, &encode(&frames, Role::Server)).await;
    }
    pair.client.close(1000, "").await;
    let (server, client) = tokio::join!(pair.server.closed(), pair.client.closed());
    assert_eq!((server.code, server.then, client.code, client.then), (1000, End::Eof, 1000, End::Eof));
    pair.tells("client_close", Some(("client", "1000"))).await;
}

#[tokio::test]
async fn a_client_on_a_unix_socket_is_as_good_as_any() {
    let path = crate::support::files::socket_path();
    let upstream = Upstream::builder().on_text("bye", [Act::Close(4000, "as you like")]).spawn().await;
    let listen = format!("listen: {{unix: \"{}\"}}", path.display());
    let _proxy = Proxy::to(&upstream).yaml(&listen).spawn().await;
    let mut client = RawClient::connect(path, "/").await;
    for (_, frames) in every_kind() {
        let messages = frames.into_iter().filter(|frame| !frame.is_control());
        for frame in messages {
            client.send_frame(&frame).await;
            let Received::Frame(echo) = client.receive().await else { panic!("{frame:?} ended it") };
            assert!(echo.payload == frame.payload, "{frame:?} came back as {echo:?}");
        }
    }
    client.text("bye").await;
    let closed = client.closed().await;
    assert_eq!((closed.code, &*closed.reason, closed.then), (4000, "as you like", End::Eof));
}
