//! Whoever breaks RFC 6455 §5 ends the connection: both sides are told, and not one byte of the
//! offending frame reaches the other one.

use std::time::Duration;

use crate::support::client::RawClient;
use crate::support::link::{Closed, End, Link, Received};
use crate::support::pair::Pair;
use crate::support::proxy::Proxy;
use crate::support::upstream::{Answer, Builder, ServerConn, Upstream};
use crate::support::wire::{self, Frame, Length, RSV1, Role};

/// A way to break the rules.
struct Offence {
    name: String,
    /// What is fine, and goes on.
    before: Vec<Frame>,
    /// What is not.
    frame: Frame,
    code: u16,
}

/// So that every offence fits into a few bytes. (§10.4 lets an endpoint choose its limits.)
const LIMITS: &str = "policy: {max_frame: 1KiB, max_message: 2KiB}";

/// The table of RFC 6455 §5 for one side, without extensions.
fn offences(by: Role) -> Vec<Offence> {
    let mut all = Vec::new();
    let mut add = |name: &str, before: &[Frame], frame: Frame, code| {
        all.push(Offence { name: name.to_owned(), before: before.to_vec(), frame, code });
    };
    let begun = [Frame::text("begun").not_final()];
    // §5.1: clients mask, servers do not.
    let wrong_mask = |frame: Frame| match by {
        Role::Client => frame.unmasked(),
        Role::Server => frame.masked([1, 2, 3, 4]),
    };
    for (name, frame) in [
        ("text", Frame::text("x")),
        ("empty text", Frame::text("")),
        ("ping", Frame::ping("x")),
        ("pong", Frame::pong("x")),
        ("close", Frame::close(1000, "")),
        ("long binary", Frame::binary([0; 700])),
    ] {
        add(&format!("{name} with a mask where none belongs, or without"), &[], wrong_mask(frame), 1002);
    }
    add("continuation with the wrong mask", &begun, wrong_mask(Frame::new(wire::CONTINUATION, "x")), 1002);
    // §5.2: reserved opcodes and bits, the shortest length.
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        add(&format!("reserved opcode {opcode}"), &[], Frame::new(opcode, "x"), 1002);
    }
    add("reserved opcode inside a message", &begun, Frame::new(0x3, "x"), 1002);
    add("reserved control opcode inside a message", &begun, Frame::new(0xb, "x"), 1002);
    for bits in 1..8 {
        add(&format!("reserved bits {bits:03b} on text"), &[], Frame::text("x").rsv(bits), 1002);
    }
    for frame in [Frame::binary("x"), Frame::ping("x"), Frame::pong("x"), Frame::close(1000, "")] {
        add(&format!("a reserved bit on {frame:?}"), &[], frame.rsv(RSV1), 1002);
    }
    add("a reserved bit on a continuation", &begun, Frame::new(wire::CONTINUATION, "x").rsv(0b001), 1002);
    for size in [0, 1, 125] {
        let payload = vec![b'x'; size];
        add(&format!("{size} bytes, length in two"), &[], Frame::binary(&payload).length(Length::U16), 1002);
        add(
            &format!("{size} bytes, length in eight"),
            &[],
            Frame::binary(&payload).length(Length::U64),
            1002,
        );
    }
    add("126 bytes, length in eight", &[], Frame::binary([0; 126]).length(Length::U64), 1002);
    add("a length with its top bit set", &[], Frame::binary("x").length(Length::Claimed(1 << 63)), 1002);
    add("the longest length there is", &[], Frame::binary("x").length(Length::Claimed(u64::MAX)), 1002);
    // §5.4: fragments.
    add("continuation of nothing", &[], Frame::new(wire::CONTINUATION, "x"), 1002);
    add("unfinished continuation of nothing", &[], Frame::new(wire::CONTINUATION, "x").not_final(), 1002);
    let whole = Frame::fragments(wire::TEXT, &[b"a", b"b"]);
    add("continuation after the last", &whole, Frame::new(wire::CONTINUATION, "c"), 1002);
    add("text inside a text", &begun, Frame::text("x"), 1002);
    add("binary inside a text", &begun, Frame::binary("x"), 1002);
    add("a second beginning", &begun, Frame::text("x").not_final(), 1002);
    // §5.5: control frames.
    for opcode in [wire::CLOSE, wire::PING, wire::PONG] {
        add(&format!("fragmented control {opcode:#x}"), &[], Frame::new(opcode, "").not_final(), 1002);
        add(&format!("126 bytes of control {opcode:#x}"), &[], Frame::new(opcode, [3; 126]), 1002);
        let long = Frame::new(opcode, "x").length(Length::U64);
        add(&format!("control {opcode:#x} with a length in eight bytes"), &[], long, 1002);
    }
    add("a fragmented ping inside a message", &begun, Frame::ping("x").not_final(), 1002);
    // Limits.
    add("a frame above max_frame", &[], Frame::binary([0; 1025]), 1009);
    add("a frame that claims an exabyte", &[], Frame::binary("x").length(Length::Claimed(1 << 60)), 1009);
    let kibibyte = [7; 1024];
    let two = Frame::fragments(wire::BINARY, &[&kibibyte, &kibibyte, b""]);
    add("a message above max_message", &two[..2], Frame::new(wire::CONTINUATION, "x"), 1009);
    add("a fragment above max_frame", &begun, Frame::new(wire::CONTINUATION, [0; 1025]).not_final(), 1009);
    all
}

/// Commits `offence`, cut in two at `cut`, and checks what either side sees of it.
async fn commit(offence: &Offence, cut: usize, offender: &mut Link, other: &mut Link, by: Role) {
    let Offence { name, before, frame, code } = offence;
    let context = format!("{name}, by the {by:?}, cut at {cut}");
    for frame in before {
        offender.send_frame(frame).await;
    }
    let bytes = frame.encode(by);
    offender.send_bytes(&bytes[..cut]).await;
    if cut > 0 && cut < bytes.len() {
        // What comes back afterwards shows that the first part was looked at. The other side may have
        // been told the end by then.
        let _ = other.try_send_frame(&Frame::ping("seen?")).await;
        match offender.receive().await {
            Received::Frame(frame) if frame.opcode == wire::PING => {}
            Received::Frame(frame) if frame.opcode == wire::CLOSE => {
                assert_eq!(frame.close_status().0, *code, "{context}");
                // The rest goes nowhere, and must do no harm.
                let _ = offender.try_send_bytes(&bytes[cut..]).await;
                let other = other.closed().await;
                assert_told(&context, &other, *code, before);
                let then = offender.discard_to_end().await;
                assert_eq!(then, End::Eof, "{context}: the offender is let go in order");
                return;
            }
            seen => panic!("{context}: {seen:?}"),
        }
    }
    // It may be found out before its last byte is sent.
    let _ = offender.try_send_bytes(&bytes[cut..]).await;
    let (other, offender) = tokio::join!(other.closed(), offender.closed());
    assert_told(&context, &other, *code, before);
    assert_told(&context, &offender, *code, &[]);
}

/// `closed` must be: the frames `before`, a Close with `code`, and an orderly end.
#[track_caller]
fn assert_told(context: &str, closed: &Closed, code: u16, before: &[Frame]) {
    let reason = if code == 1009 { "message too large" } else { "protocol error" };
    assert_eq!(
        (closed.code, &*closed.reason, closed.then),
        (code, reason, End::Eof),
        "{context}: {closed:?}"
    );
    let data = closed.before.iter().filter(|frame| frame.payload != b"seen?");
    let key = |frame: &Frame| (frame.opcode, frame.fin, frame.rsv, frame.payload.clone());
    let (came, sent): (Vec<_>, Vec<_>) = (data.map(key).collect(), before.iter().map(key).collect());
    assert!(came == sent, "{context}: other frames came than were sent before it: {:?}", closed.before);
}

/// Commits each of `offences` in as many connections as there are places to cut it (in its header and
/// the first bytes after it).
async fn commit_all(offences: &[Offence], by: Role, upstream: Builder, extensions: Option<&str>) {
    let upstream = upstream.by_hand().spawn().await;
    let proxy = Proxy::to(&upstream).yaml(LIMITS).spawn().await;
    let mut count = [0, 0];
    for offence in offences {
        let cuts = offence.frame.encode(by).len().min(16);
        for cut in 0..cuts {
            let (mut client, mut server) = connect(&proxy, &upstream, extensions).await;
            match by {
                Role::Client => commit(offence, cut, &mut client, &mut server, by).await,
                Role::Server => commit(offence, cut, &mut server, &mut client, by).await,
            }
            count[usize::from(offence.code == 1009)] += 1;
        }
    }
    let all_gone = || async { proxy.metric("outrigger_clients{route=\"default\"}").await == 0.0 };
    crate::support::wait::eventually(crate::support::DEADLINE, all_gone).await;
    let metrics = proxy.metrics().await;
    for (reason, code, count) in [("protocol_error", 1002, count[0]), ("too_large", 1009, count[1])] {
        let sample = format!("outrigger_disconnections_total{{route=\"default\",reason=\"{reason}\"}}");
        assert_eq!(metrics.get(&sample), Some(f64::from(count)), "{sample}");
        let sample = format!("outrigger_closes_total{{by=\"proxy\",code=\"{code}\"}}");
        assert_eq!(metrics.get(&sample).unwrap_or(0.0), f64::from(count), "{sample}");
    }
    assert_eq!(metrics.sum("outrigger_closes_total"), f64::from(count[0] + count[1]));
    assert_eq!(upstream.open(), 0, "every upstream link has ended");
}

async fn connect(proxy: &Proxy, upstream: &Upstream, extensions: Option<&str>) -> (RawClient, ServerConn) {
    let dial = match extensions {
        Some(extensions) => proxy.dial().header("Sec-WebSocket-Extensions", extensions),
        None => proxy.dial(),
    };
    (dial.open().await, upstream.accept().await)
}

#[tokio::test]
async fn unmasked_malformed_frames() {
    let offences = offences(Role::Client);
    assert_eq!(offences.len(), 60);
    commit_all(&offences, Role::Client, Upstream::builder(), None).await;
}

#[tokio::test]
async fn masked_malformed_frames_of_an_upstream() {
    let offences = offences(Role::Server);
    assert_eq!(offences.len(), 60);
    commit_all(&offences, Role::Server, Upstream::builder(), None).await;
}

#[tokio::test]
async fn permessage_deflate_allows_one_bit_in_one_place() {
    let begun = [Frame::text("begun").rsv(RSV1).not_final()];
    let case = |name: &str, before: &[Frame], frame: Frame| Offence {
        name: name.to_owned(),
        before: before.to_vec(),
        frame,
        code: 1002,
    };
    let offences = [
        case("the second bit", &[], Frame::text("x").rsv(0b010)),
        case("the third bit", &[], Frame::text("x").rsv(0b001)),
        case("all bits", &[], Frame::binary("x").rsv(0b111)),
        case("the bit on a continuation", &begun, Frame::new(wire::CONTINUATION, "x").rsv(RSV1)),
        case("the bit on a ping", &[], Frame::ping("x").rsv(RSV1)),
        case("the bit on a close", &[], Frame::close(1000, "").rsv(RSV1)),
        case("a reserved opcode", &[], Frame::new(0x5, "x")),
    ];
    let extension = "permessage-deflate";
    for by in [Role::Client, Role::Server] {
        let upstream =
            Upstream::builder().answering(Answer::accept_with(&[("Sec-WebSocket-Extensions", extension)]));
        commit_all(&offences, by, upstream, Some(extension)).await;
    }
}

#[tokio::test]
async fn an_extension_that_was_offered_but_not_agreed_upon_allows_nothing() {
    let offence = Offence {
        name: "rsv1".to_owned(),
        before: Vec::new(),
        frame: Frame::text("x").rsv(RSV1),
        code: 1002,
    };
    for by in [Role::Client, Role::Server] {
        commit_all(std::slice::from_ref(&offence), by, Upstream::builder(), Some("permessage-deflate")).await;
    }
}

#[tokio::test]
async fn what_is_exactly_at_a_limit_passes() {
    let upstream = Upstream::builder().by_hand().spawn().await;
    let proxy = Proxy::to(&upstream).yaml(LIMITS).spawn().await;
    let (mut client, mut server) = connect(&proxy, &upstream, None).await;
    let kibibyte = [7; 1024];
    for _ in 0..2 {
        // The count starts anew with each message; pings in between do not count.
        let [first, last] = Frame::fragments(wire::BINARY, &[&kibibyte, &kibibyte]).try_into().expect("two");
        for frame in [first, Frame::ping([1; 125]), last, Frame::binary(kibibyte)] {
            client.send_frame(&frame).await;
            assert_eq!(server.next_frame().await.payload, frame.payload);
            server.send_frame(&frame).await;
            assert_eq!(client.next_frame().await.payload, frame.payload);
        }
    }
}

#[tokio::test]
async fn what_came_whole_in_front_of_a_violation_still_goes_on_and_what_follows_does_not() {
    let upstream = Upstream::builder().by_hand().spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    for by in [Role::Client, Role::Server] {
        let (mut client, mut server) = connect(&proxy, &upstream, None).await;
        let (offender, other): (&mut Link, &mut Link) = match by {
            Role::Client => (&mut client, &mut server),
            Role::Server => (&mut server, &mut client),
        };
        let good = [Frame::text("first"), Frame::ping("second"), Frame::binary([3; 300])];
        let mut bytes = good.iter().flat_map(|frame| frame.encode(by)).collect::<Vec<_>>();
        bytes.extend(Frame::new(0x3, "reserved").encode(by));
        bytes.extend(Frame::text("after it").encode(by));
        offender.send_bytes(&bytes).await;
        let (other, offender) = tokio::join!(other.closed(), offender.closed());
        assert_told("in one write", &other, 1002, &good);
        assert_told("in one write", &offender, 1002, &[]);
    }
}

#[tokio::test]
async fn the_answers_to_all_that_came_before_a_violation_reach_the_client_before_it_is_told() {
    for (is_secure, yaml, offence, code) in [
        (false, "", Frame::new(0x3, "reserved"), 1002),
        (true, "", Frame::text("unmasked").unmasked(), 1002),
        (false, LIMITS, Frame::binary([0; 1025]), 1009),
        (true, LIMITS, Frame::binary([0; 1025]), 1009),
    ] {
        let mut pair = Pair::secured(yaml, is_secure, is_secure, |dial| dial).await;
        let said = [Frame::text("A"), Frame::text("B"), offence];
        let said: Vec<_> = said.iter().flat_map(|frame| frame.encode(Role::Client)).collect();
        pair.client.send_bytes(&said).await;
        // A server that takes its time for an answer.
        for asked in ["A", "B"] {
            pair.server.expect_text(asked).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            pair.server.text(&format!("to {asked}")).await;
        }
        let (client, server) = tokio::join!(pair.client.closed(), pair.server.closed());
        assert_told("the client", &client, code, &[Frame::text("to A"), Frame::text("to B")]);
        assert_told("the server", &server, code, &[]);
        let reason = if code == 1009 { "too_large" } else { "protocol_error" };
        pair.tells(reason, Some(("proxy", &code.to_string()))).await;
    }
}

#[tokio::test]
async fn an_offender_that_does_not_stop_is_told_all_the_same_and_nothing_of_it_goes_on() {
    let upstream = Upstream::builder().by_hand().spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    for by in [Role::Client, Role::Server] {
        let (mut client, mut server) = connect(&proxy, &upstream, None).await;
        let (offender, other): (&mut Link, &mut Link) = match by {
            Role::Client => (&mut client, &mut server),
            Role::Server => (&mut server, &mut client),
        };
        offender.send_frame(&Frame::new(0x3, [0; 1000])).await;
        let told = other.closed().await;
        assert_told("the other side", &told, 1002, &[]);
        for _ in 0..50 {
            offender.send_frame(&Frame::binary([0; 1000])).await;
        }
        let told = offender.closed().await;
        assert_told("the offender", &told, 1002, &[]);
    }
    let sample = "outrigger_disconnections_total{route=\"default\",reason=\"protocol_error\"}";
    let both_are_told = || async { proxy.metric(sample).await == 2.0 };
    crate::support::wait::eventually(crate::support::DEADLINE, both_are_told).await;
}
