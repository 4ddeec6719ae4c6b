//! Shows that the tests' own client and upstream say what they claim to say, directly to each other:
//! what fails with the proxy between them is then the proxy.

use crate::support::client::RawClient;
use crate::support::http::{Headers, accept_value};
use crate::support::link::{End, Link, Message, Received};
use crate::support::metrics::Metrics;
use crate::support::upstream::{Act, Answer, Plain, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{self, Decoder, Frame, Length, Masking, Role};
use crate::support::yaml;
use crate::support::{A_MOMENT, DEADLINE};

// ---- the codec, against bytes from RFC 6455 §5.7 and §1.3

#[test]
fn frames_are_written_and_read_as_the_rfc_prints_them() {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let cases: &[(&str, Frame, Role, &[u8])] = &[
        ("unmasked text", Frame::text("Hello"), Role::Server, b"\x81\x05Hello"),
        (
            "masked text",
            Frame::text("Hello").masked(key),
            Role::Client,
            &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
        ),
        ("first fragment", Frame::text("Hel").not_final(), Role::Server, b"\x01\x03Hel"),
        ("last fragment", Frame::new(wire::CONTINUATION, "lo"), Role::Server, b"\x80\x02lo"),
        ("ping", Frame::ping("Hello"), Role::Server, b"\x89\x05Hello"),
        ("close", Frame::close(1000, "bye"), Role::Server, b"\x88\x05\x03\xe8bye"),
        ("rsv1", Frame::text("").rsv(wire::RSV1), Role::Server, b"\xc1\x00"),
        ("16-bit length too long", Frame::text("a").length(Length::U16), Role::Server, b"\x81\x7e\x00\x01a"),
    ];
    for (name, frame, role, bytes) in cases {
        assert_eq!(frame.encode(*role), *bytes, "{name}");
        for cut in 0..bytes.len() {
            let mut decoder = Decoder::default();
            decoder.buffer.extend_from_slice(&bytes[..cut]);
            assert_eq!(decoder.take(), None, "{name}, cut at {cut}");
            decoder.buffer.extend_from_slice(&bytes[cut..]);
            let back = decoder.take().unwrap_or_else(|| panic!("{name}, cut at {cut}"));
            assert_eq!(back.encode(*role), *bytes, "{name}, cut at {cut}");
            assert_eq!(back.payload, frame.payload, "{name}");
            assert!(decoder.buffer.is_empty(), "{name}");
        }
    }
}

#[test]
fn lengths_take_their_shortest_form_unless_told_otherwise() {
    for (size, header) in [(125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
        let frame = Frame::binary(vec![7; size]);
        assert_eq!(frame.encode(Role::Server).len(), size + header);
        assert_eq!(frame.encode(Role::Client).len(), size + header + 4);
        for form in [Length::Minimal, Length::U64] {
            let mut decoder = Decoder::default();
            decoder.buffer.extend_from_slice(&frame.clone().length(form).encode(Role::Client));
            let back = decoder.take().expect("it is whole");
            assert_eq!(back.payload, frame.payload);
            assert!(matches!(back.masking, Masking::Key(_)));
            let seen = if size > 65_535 { Length::Minimal } else { form };
            assert_eq!(back.length, seen, "{size} bytes as {form:?}");
        }
    }
}

#[test]
fn the_accept_value_is_that_of_the_rfc() {
    assert_eq!(accept_value("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

// ---- echo

#[tokio::test]
async fn messages_come_back_over_tcp_and_over_a_unix_socket() {
    for builder in [Upstream::builder(), Upstream::builder().unix()] {
        let upstream = builder.spawn().await;
        let mut client = RawClient::connect(upstream.address(), "/chat?room=1").await;
        client.text("hello").await;
        client.expect_text("hello").await;
        let megabyte = (0..1 << 20).map(|index: u32| index as u8).collect::<Vec<_>>();
        for payload in [&megabyte[..0], &megabyte[..126], &megabyte[..70_000], &megabyte] {
            client.binary(payload).await;
            client.expect_binary(payload).await;
        }
        assert_eq!(upstream.handshakes()[0].head.first_line, "GET /chat?room=1 HTTP/1.1");
    }
}

#[tokio::test]
async fn fragments_come_back_as_fragments_and_pings_between_them_are_answered() {
    let upstream = Upstream::echo().await;
    let mut client = RawClient::connect(upstream.address(), "/").await;
    let [first, last] = Frame::fragments(wire::TEXT, &[b"frag", b"ment"]).try_into().expect("two parts");
    client.send_frame(&first).await;
    client.ping(b"between").await;
    client.send_frame(&last).await;
    let frame = client.next_frame().await;
    assert_eq!((frame.opcode, frame.fin, frame.as_text()), (wire::TEXT, false, "frag"));
    client.expect_pong(b"between").await;
    let frame = client.next_frame().await;
    assert_eq!((frame.opcode, frame.fin, frame.as_text()), (wire::CONTINUATION, true, "ment"));

    for frame in Frame::fragments(wire::BINARY, &[b"a", b"", b"b"]) {
        client.send_frame(&frame).await;
    }
    assert_eq!(client.next_message().await, Message::Binary(b"ab".to_vec()));
}

#[tokio::test]
async fn two_ends_that_both_write_do_not_wait_for_each_other_for_ever() {
    let upstream = Upstream::echo().await;
    let mut client = RawClient::connect(upstream.address(), "/").await;
    let payload = vec![1; 1 << 20];
    for _ in 0..20 {
        client.binary(&payload).await;
    }
    for _ in 0..20 {
        client.expect_binary(&payload).await;
    }
}

#[tokio::test]
async fn a_handshake_keeps_its_order_its_case_and_what_was_pipelined() {
    let upstream = Upstream::echo().await;
    let headers = [
        ("hOsT", "example.com"),
        ("x-B", "2"),
        ("X-a", "1"),
        ("X-A", "again"),
        ("upgrade", "WebSocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let early = Frame::text("too early").encode(Role::Client);
    let mut client = RawClient::dial(upstream.address()).exactly(&headers).pipelined(&early).open().await;
    client.expect_text("too early").await;
    let seen = upstream.handshakes().remove(0);
    assert_eq!(seen.head.headers.names(), headers.map(|(name, _)| name));
    assert_eq!(seen.head.headers.all("x-a"), ["1", "again"]);
    assert_eq!(seen.early, early);

    let mut client = RawClient::dial(upstream.address()).in_single_bytes().open().await;
    client.send_in_single_bytes(&Frame::text("slow").encode(Role::Client)).await;
    client.expect_text("slow").await;
    assert_eq!(upstream.handshakes()[1].early, b"");
}

// ---- endings

#[tokio::test]
async fn close_codes_travel_both_ways() {
    let upstream = Upstream::builder().on_text("bye", [Act::Close(4001, "as you wish")]).spawn().await;
    let mut client = RawClient::connect(upstream.address(), "/").await;
    client.text("bye").await;
    let closed = client.closed().await;
    assert_eq!((closed.code, closed.reason.as_str(), closed.then), (4001, "as you wish", End::Eof));

    for (frame, code) in [(Frame::close(4002, "enough"), 4002), (Frame::empty_close(), 1005)] {
        let mut client = RawClient::connect(upstream.address(), "/").await;
        client.send_frame(&frame).await;
        assert_eq!(client.closed().await.code, code);
    }
    let codes = || async {
        let codes = upstream.endings().iter().map(|ending| ending.code).collect::<Vec<_>>();
        if codes == [4001, 4002, 1005] { Ok(()) } else { Err(codes) }
    };
    drop(client);
    eventually(DEADLINE, codes).await;
    eventually(DEADLINE, || async { upstream.open() == 0 }).await;
    assert_eq!(upstream.accepted(), 3);
}

#[tokio::test]
async fn every_way_to_go_without_a_close_is_told_apart() {
    let cases =
        [(Act::Hangup, End::Eof, 0), (Act::DieMidFrame, End::EofMidFrame, 14), (Act::Reset, End::Reset, 0)];
    for (act, end, left) in cases {
        let upstream = Upstream::builder().on_text("go", [act]).spawn().await;
        let mut client = RawClient::connect(upstream.address(), "/").await;
        client.text("go").await;
        let closed = client.closed().await;
        assert_eq!((closed.code, closed.then), (1006, end));
        assert_eq!(client.leftover().len(), left);
    }

    let upstream = Upstream::by_hand().await;
    let client = RawClient::connect(upstream.address(), "/").await;
    let mut server = upstream.accept().await;
    client.reset();
    assert_eq!(server.closed().await.then, End::Reset);

    let mut client = RawClient::connect(upstream.address(), "/").await;
    let mut server = upstream.accept().await;
    client.finish_writing().await;
    assert_eq!(server.receive().await, Received::End(End::Eof));
    server.text("still here").await;
    client.expect_text("still here").await;
}

#[tokio::test]
async fn a_test_plays_the_server_by_hand() {
    let upstream = Upstream::by_hand().await;
    let mut client = RawClient::connect(upstream.address(), "/").await;
    let mut server = upstream.accept().await;
    server.ping(b"there?").await;
    let ping = client.next_frame().await;
    assert_eq!((ping.opcode, ping.is_masked()), (wire::PING, false));
    client.send_frame(&Frame::pong(ping.payload)).await;
    server.expect_pong(b"there?").await;
    client.expect_silence(A_MOMENT).await;

    client.send_frame(&Frame::new(0x3, "reserved").unmasked()).await;
    let frame = server.next_frame().await;
    assert_eq!((frame.opcode, frame.is_masked()), (0x3, false));

    server.close(1012, "restart").await;
    let (at_client, at_server) = tokio::join!(client.closed(), async {
        let closed = server.closed().await;
        drop(server);
        closed
    });
    assert_eq!((at_client.code, at_server.code), (1012, 1012));

    let mut client = RawClient::connect(upstream.address(), "/").await;
    let mut server = upstream.accept().await;
    let pings = async {
        for _ in 0..3 {
            server.ping(b"x").await;
            server.expect_pong(b"x").await;
        }
    };
    let (count, ()) = tokio::join!(client.answer_pings_for(5 * A_MOMENT), pings);
    assert_eq!(count, 3);
}

// ---- scripts

#[tokio::test]
async fn a_scripted_handshake_answer_reaches_the_client_as_it_is() {
    let forbidden = Answer::refuse(403, &[("X-Why", "because")], "not you");
    let upstream = Upstream::builder().answering(forbidden).spawn().await;
    let refusal = RawClient::dial(upstream.address()).refused().await;
    assert_eq!((refusal.status(), refusal.text().as_str()), (403, "not you"));
    assert_eq!(refusal.header("x-why"), Some("because"));

    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let upgrade = ("Upgrade", "websocket");
    let connection = ("Connection", "Upgrade");
    let accept = ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let wrong = ("Sec-WebSocket-Accept", "another");
    let unasked = ("Sec-WebSocket-Protocol", "unasked");
    let cases = [
        (Answer::Accept, vec![upgrade, connection, accept]),
        (Answer::WrongAccept, vec![upgrade, connection, wrong]),
        (Answer::NoAccept, vec![upgrade, connection]),
        (Answer::NoUpgrade, vec![connection, accept]),
        (Answer::NoConnection, vec![upgrade, accept]),
        (Answer::accept_with(&[unasked]), vec![upgrade, connection, accept, unasked]),
        (Answer::Raw(b"HTTP/1.1 101 \r\nX: y\r\n\r\n".to_vec()), vec![("X", "y")]),
    ];
    for (answer, expected) in cases {
        upstream.change(Upstream::builder().answering(answer));
        let client = RawClient::dial(upstream.address()).header("Sec-WebSocket-Key", key).answer().await;
        assert_eq!(client.response.status(), 101);
        let seen = &client.response.head.headers;
        assert_eq!(seen.names(), expected.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (name, value) in expected {
            if value == "another" {
                assert_ne!(seen.get(name), Some(accept.1));
            } else {
                assert_eq!(seen.get(name), Some(value));
            }
        }
    }
}

#[tokio::test]
async fn upstreams_that_do_not_answer_fall_silent_or_hang_up_where_they_should() {
    let cases = [
        (Answer::Silent, None),
        (Answer::NeverRead, None),
        (Answer::Hangup, Some(End::Reset)),
        (Answer::HangupAfterRequest, Some(End::Eof)),
        (Answer::ResetAfterRequest, Some(End::Reset)),
    ];
    for (answer, end) in cases {
        let reads = matches!(answer, Answer::Silent | Answer::HangupAfterRequest | Answer::ResetAfterRequest);
        let upstream = Upstream::builder().answering(answer).spawn().await;
        let mut link: Link = RawClient::dial(upstream.address()).send().await;
        match end {
            None => link.expect_silence(A_MOMENT).await,
            // Closed at once: whether our request is met by FIN or by RST is the kernel's race.
            Some(End::Reset) if !reads => assert!(link.try_read_head().await.is_err()),
            Some(end) => assert_eq!(link.try_read_head().await, Err(end)),
        }
        assert_eq!(upstream.handshakes().len(), usize::from(reads));
        assert_eq!(upstream.accepted(), 1);
    }
}

#[tokio::test]
async fn a_late_answer_shows_who_spoke_too_early() {
    let upstream = Upstream::builder().after(3 * A_MOMENT).spawn().await;
    let mut client = RawClient::dial(upstream.address()).connect().await;
    let request = RawClient::dial(upstream.address()).request();
    client.send_bytes(&request).await;
    client.text("too early").await;
    let head = client.read_head().await;
    assert_eq!(head.status(), 101);
    client.expect_text("too early").await;
    assert!(!upstream.handshakes()[0].early.is_empty());
}

#[tokio::test]
async fn a_flood_arrives_whole_and_a_client_that_stopped_reading_holds_it_back() {
    let (messages, size) = (2000, 16 * 1024);
    let script = Upstream::builder().on_text("go", [Act::Flood { messages, size }]);
    let upstream = script.on_text("deaf", [Act::StopReading]).spawn().await;
    let mut client = RawClient::dial(upstream.address()).receive_buffer(8 * 1024).open().await;
    client.stop_reading();
    client.text("go").await;
    client.resume_reading();
    for number in 0..messages as u64 {
        let frame = client.next_frame().await;
        assert_eq!(frame.payload.len(), size);
        assert_eq!(frame.payload[..8], number.to_be_bytes());
    }

    client.text("deaf").await;
    let taken = client.fill_until_blocked(&Frame::binary(vec![0; 64 * 1024]), A_MOMENT, 64 << 20).await;
    assert!(taken > 0, "the kernel's buffers take something");
    client.set_deadline(A_MOMENT);
    let error = client.try_send_frame(&Frame::text("more")).await.expect_err("nobody reads");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn raw_bytes_and_silence_are_acts_too() {
    let acts = [Act::Bytes(b"\x83\x01x".to_vec()), Act::Send(Frame::text("after")), Act::Ignore];
    let upstream = Upstream::builder().on_open(acts).spawn().await;
    let mut client = RawClient::connect(upstream.address(), "/").await;
    assert_eq!(client.next_frame().await.opcode, 0x3);
    client.expect_text("after").await;
    client.ping(b"anyone?").await;
    client.expect_silence(A_MOMENT).await;
    assert_eq!(upstream.open(), 1);
}

#[tokio::test]
async fn plain_requests_are_answered_in_every_framing() {
    let upstream = Upstream::builder().spawn().await;
    let plain = |path: &str| RawClient::plain(upstream.address()).path(path);
    assert_eq!(plain("/a").answer().await.response.text(), "hello from the upstream\n");
    assert_eq!(plain("/a").method("HEAD").answer().await.response.body, b"");

    upstream.change(Upstream::builder().on_request(Plain::EchoBody));
    let mut client = plain("/b").method("POST").body(b"first").answer().await;
    assert_eq!(client.response.body, b"first");
    client.send_bytes(b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send_bytes(b"3\r\nsec\r\n3\r\nond\r\n0\r\n\r\n").await;
    assert_eq!(client.read_response("POST").await.body, b"second");
    assert_eq!(upstream.accepted(), 3, "the second request came on the same connection");

    let parts = [b"one".to_vec(), b"two".to_vec()];
    upstream.change(Upstream::builder().on_request(Plain::Chunked(parts.to_vec(), A_MOMENT)));
    let mut link = plain("/d").send().await;
    assert!(link.read_head().await.headers.lists("transfer-encoding", "chunked"));
    for part in parts {
        assert_eq!(link.read_chunk().await, Ok(Ok(part)));
    }
    assert_eq!(link.read_chunk().await, Ok(Err(Headers::default())));

    upstream.change(Upstream::builder().on_request(Plain::UntilEnd(b"to the end".to_vec())));
    assert_eq!(plain("/e").answer().await.response.body, b"to the end");

    let targets = upstream.requests().iter().map(|seen| seen.head.target().to_owned()).collect::<Vec<_>>();
    assert_eq!(targets, ["/a", "/a", "/b", "/c", "/d", "/e"]);

    upstream.change(Upstream::builder().on_request(Plain::HandOver));
    let mut link = plain("/by-hand").send().await;
    let mut server = upstream.accept().await;
    server.send_bytes(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(link.read_response("GET").await.status(), 204);
}

#[tokio::test]
async fn an_upstream_that_is_stopped_refuses_and_comes_back_on_its_address() {
    let mut upstream = Upstream::echo().await;
    let mut client = RawClient::connect(upstream.address(), "/").await;
    upstream.stop().await;
    assert_eq!(client.closed().await.code, 1006);
    eventually(DEADLINE, || async { upstream.open() == 0 }).await;
    let crate::support::socket::Address::Tcp(address) = upstream.address() else {
        panic!("it listens on TCP")
    };
    let refused = tokio::net::TcpStream::connect(address).await.expect_err("nothing listens there");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    upstream.start().await;
    let mut client = RawClient::connect(upstream.address(), "/").await;
    client.text("again").await;
    client.expect_text("again").await;
}

// ---- waiting, configuring, measuring

#[test]
fn defaults_go_where_a_test_says_nothing() {
    let defaults =
        [("listen", "address", "127.0.0.1:0"), ("drain", "spread", "0s"), ("drain", "timeout", "5s")];
    let filled = yaml::fill_in("policy: {idle_timeout: 1s}\ndrain: {timeout: 9s}", &defaults);
    let expected = "policy: {idle_timeout: 1s}\n\
                    drain: {spread: \"0s\", timeout: 9s}\n\
                    listen: {address: \"127.0.0.1:0\"}";
    assert_eq!(filled, expected);
    assert_eq!(yaml::fill_in("listen: {unix: /tmp/x}", &defaults[..1]), "listen: {unix: /tmp/x}");
}

#[test]
fn a_sample_is_found_by_its_labels_in_any_order() {
    let text = "# TYPE x_total counter\nx_total{a=\"1\",b=\"2\"} 3\nx_total{a=\"1\",b=\"9\"} 4\nplain 1.5\n";
    let metrics = Metrics(text.to_owned());
    assert_eq!(metrics.get("x_total{b=\"2\",a=\"1\"}"), Some(3.0));
    assert_eq!(metrics.get("x_total{a=\"1\"}"), None);
    assert_eq!(metrics.get("x_total"), None);
    assert_eq!(metrics.get("plain"), Some(1.5));
    assert_eq!(metrics.sum("x_total"), 7.0);
}

#[tokio::test]
#[should_panic(expected = "last seen: 41")]
async fn waiting_in_vain_ends_at_its_deadline_and_tells_what_was_seen() {
    eventually(A_MOMENT, || async { Err::<(), _>(41) }).await;
}

#[tokio::test]
#[should_panic(expected = "a frame was due, but: Eof; last frames: [text 5 bytes \"hello\"]")]
async fn a_frame_that_never_comes_is_told_with_what_came_before() {
    let upstream = Upstream::builder().on_open([Act::Send(Frame::text("hello")), Act::Hangup]).spawn().await;
    let mut client = RawClient::connect(upstream.address(), "/").await;
    client.next_frame().await;
    client.next_frame().await;
}
