use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::frame::{ControlFrame, Extensions, Role};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn rules(sender: Role) -> Rules {
    Rules { sender, extensions: Extensions::None, max_frame: 1 << 20, max_message: 1 << 21, show_text: false }
}

/// One frame as it stands on the wire, its payload unchanged by the mask (payloads do not matter here).
fn frame(first: u8, payload: usize, masked: bool) -> Vec<u8> {
    let mut bytes = vec![first];
    let bit = if masked { 0x80 } else { 0 };
    match payload {
        0..=125 => bytes.push(bit | payload as u8),
        126..=0xffff => {
            bytes.push(bit | 126);
            bytes.extend_from_slice(&(payload as u16).to_be_bytes());
        }
        _ => {
            bytes.push(bit | 127);
            bytes.extend_from_slice(&(payload as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend_from_slice(&MASK);
    }
    bytes.extend((0..payload).map(|i| i as u8));
    bytes
}

/// Feeds `chunks` as a tunnel does (what is held comes again in front) and says what went on.
fn run<'a>(
    scanner: &mut Scanner,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    mut judge: impl FnMut(WholeFrame<'_>) -> Verdict,
) -> (Vec<u8>, u32, Outcome) {
    let (mut out, mut held, mut messages) = (Vec::new(), Vec::new(), 0);
    for chunk in chunks {
        let mut buf = std::mem::take(&mut held);
        buf.extend_from_slice(chunk);
        let scanned = scanner.scan(&mut buf, u32::MAX, &mut judge);
        out.extend_from_slice(&buf[..scanned.forward]);
        messages += scanned.messages;
        if scanned.outcome != Outcome::Open {
            return (out, messages, scanned.outcome);
        }
        assert!(scanned.held.len() <= MAX_HELD, "{} bytes held", scanned.held.len());
        assert!(scanned.edge.is_none_or(|edge| edge <= scanned.forward));
        assert_eq!(scanner.at_frame_edge(), scanned.edge == Some(scanned.forward));
        held = buf[scanned.held].to_vec();
    }
    (out, messages, Outcome::Open)
}

#[test]
fn every_fault_stops_the_stream_at_a_frame_edge_wherever_it_is_cut() {
    let good = frame(0x81, 3, true);
    let part = frame(0x01, 3, true);
    // name, frames before, the bad one, the fault
    let cases: &[(&str, &[u8], Vec<u8>, ProtocolError)] = &[
        ("reserved data opcode", &good, frame(0x83, 1, true), ProtocolError::ReservedOpcode(3)),
        ("reserved control opcode", &good, frame(0x8b, 1, true), ProtocolError::ReservedOpcode(11)),
        ("RSV1", &good, frame(0xc1, 1, true), ProtocolError::ReservedBits),
        ("RSV2", &good, frame(0xa2, 1, true), ProtocolError::ReservedBits),
        ("RSV3 on a ping", &good, frame(0x99, 1, true), ProtocolError::ReservedBits),
        ("unmasked", &good, frame(0x81, 1, false), ProtocolError::Unmasked),
        ("continuation of nothing", &good, frame(0x80, 1, true), ProtocolError::UnexpectedContinuation),
        ("text inside a message", &part, frame(0x81, 1, true), ProtocolError::ExpectedContinuation),
        ("fragmented ping", &part, frame(0x09, 1, true), ProtocolError::FragmentedControl),
        ("long ping", &good, frame(0x89, 126, true), ProtocolError::LongControl),
        ("long length", &good, vec![0x82, 0xfe, 0, 5, 1, 2, 3, 4], ProtocolError::NonMinimalLength),
        (
            "large frame",
            &good,
            frame(0x82, (1 << 20) + 1, true),
            ProtocolError::FrameTooLarge { limit: 1 << 20 },
        ),
    ];
    for (name, before, bad, error) in cases {
        let stream = [before, &bad[..bad.len().min(40)]].concat();
        for cut in 0..stream.len() {
            let mut scanner = Scanner::new(rules(Role::Client));
            let (out, _, outcome) = run(&mut scanner, [&stream[..cut], &stream[cut..]], |_| Verdict::Pass);
            assert_eq!(outcome, Outcome::Invalid(*error), "{name} cut at {cut}");
            assert_eq!(&out, before, "{name} cut at {cut}: the bad frame must not go on");
            assert!(scanner.at_frame_edge(), "{name} cut at {cut}");
        }
    }
}

#[test]
fn a_server_must_not_mask() {
    let (out, _, outcome) =
        run(&mut Scanner::new(rules(Role::Server)), [&frame(0x81, 1, true)[..]], |_| Verdict::Pass);
    assert_eq!((out.len(), outcome), (0, Outcome::Invalid(ProtocolError::Masked)));
}

#[test]
fn a_message_is_too_large_when_its_fragments_are() {
    let mut small = rules(Role::Client);
    small.max_message = 10;
    let stream =
        [frame(0x01, 6, true), frame(0x89, 2, true), frame(0x00, 4, true), frame(0x80, 1, true)].concat();
    let (out, _, outcome) = run(&mut Scanner::new(small), [&stream[..]], |_| Verdict::Pass);
    assert_eq!(outcome, Outcome::Invalid(ProtocolError::MessageTooLarge { limit: 10 }));
    assert_eq!(out.len(), stream.len() - frame(0x80, 1, true).len());
}

#[test]
fn negotiated_extensions_free_their_bits() {
    // extensions, first byte, allowed
    let cases = [
        (Extensions::Deflate, 0xc1, true),
        (Extensions::Deflate, 0xc2, true),
        (Extensions::Deflate, 0xa1, false),
        (Extensions::Deflate, 0xc9, false),
        (Extensions::Unknown, 0xf1, true),
        (Extensions::Unknown, 0x83, true),
        (Extensions::Unknown, 0x8b, true),
    ];
    for (extensions, first, allowed) in cases {
        let mut scanner = Scanner::new(Rules { extensions, ..rules(Role::Client) });
        let (_, _, outcome) = run(&mut scanner, [&frame(first, 1, true)[..]], |_| Verdict::Pass);
        assert_eq!(outcome == Outcome::Open, allowed, "{extensions:?} {first:#x}");
    }
}

#[test]
fn a_control_frame_is_shown_whole_and_unmasked_however_it_arrives() {
    let ping = ControlFrame::new(Opcode::Ping, b"are you there", Some(MASK));
    for cut in 0..ping.as_bytes().len() {
        let mut shown = Vec::new();
        let (head, tail) = ping.as_bytes().split_at(cut);
        let (out, messages, _) = run(&mut Scanner::new(rules(Role::Client)), [head, tail], |whole| {
            shown.push((whole.opcode, whole.payload.to_vec()));
            Verdict::Pass
        });
        assert_eq!(shown, [(Opcode::Ping, b"are you there".to_vec())]);
        assert_eq!((out.as_slice(), messages), (ping.as_bytes(), 0));
    }
}

#[test]
fn short_text_is_shown_only_where_it_is_asked_for() {
    for (show_text, expected) in [(false, 0), (true, 1)] {
        let stream =
            [frame(0x81, 5, true), frame(0x81, 126, true), frame(0x01, 5, true), frame(0x80, 5, true)]
                .concat();
        let mut shown = 0;
        let mut scanner = Scanner::new(Rules { show_text, ..rules(Role::Client) });
        let (out, messages, _) = run(&mut scanner, [&stream[..]], |_| {
            shown += 1;
            Verdict::Drop
        });
        assert_eq!(shown, expected);
        let dropped = if show_text { frame(0x81, 5, true).len() } else { 0 };
        assert_eq!(out, &stream[dropped..]);
        assert_eq!(messages, 3 - expected);
    }
}

#[test]
fn nothing_follows_a_close_frame() {
    let close = frame(0x88, 2, false);
    let stream = [frame(0x82, 9, false), close, frame(0x82, 9, false)].concat();
    let (out, messages, outcome) =
        run(&mut Scanner::new(rules(Role::Server)), [&stream[..]], |_| Verdict::Pass);
    assert_eq!(outcome, Outcome::Closed);
    assert_eq!((out.len(), messages), (11 + 4, 1));
}

#[test]
fn it_stops_after_as_many_messages_as_are_allowed() {
    let one = frame(0x82, 9, true);
    let mut buf = one.repeat(5);
    let mut scanner = Scanner::new(rules(Role::Client));
    let scanned = scanner.scan(&mut buf, 2, |_| Verdict::Pass);
    assert_eq!(
        (scanned.forward, scanned.messages, scanned.outcome),
        (2 * one.len(), 2, Outcome::LimitReached)
    );
    assert_eq!(scanned.held, 2 * one.len()..5 * one.len());
}

#[test]
fn the_edges_are_where_the_rfc_has_them() {
    let mut scanner = Scanner::new(rules(Role::Server));
    let steps: [(&[u8], Edge); 5] = [
        (&[0x02, 2, 0], Edge::Inside),
        (&[0], Edge::Frame),
        (&[0x80, 1], Edge::Inside),
        (&[0], Edge::Message),
        (&[0x82], Edge::Message), // half a header is held, not forwarded
    ];
    for (bytes, edge) in steps {
        scanner.scan(&mut bytes.to_vec(), u32::MAX, |_| Verdict::Pass);
        assert_eq!(scanner.edge(), edge, "after {bytes:?}");
    }
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (prop_oneof![Just(0x81_u8), Just(0x82)], prop_oneof![0..200_usize, 60_000..70_000_usize])
            .prop_map(|(first, n)| frame(first, n, true)),
        2 => (0..300_usize, 0..300_usize, 0..20_usize).prop_map(|(a, b, p)| {
            [frame(0x01, a, true), frame(0x89, p, true), frame(0x80, b, true)].concat()
        }),
        4 => (prop_oneof![Just(0x89_u8), Just(0x8a)], 0..126_usize).prop_map(|(first, n)| frame(first, n, true)),
    ]
}

/// A header with any first byte, in any form of length, also a longer one than is needed.
fn any_header_and_payload() -> impl Strategy<Value = Vec<u8>> {
    let lengths = prop_oneof![0..130_usize, 250..260_usize, 65_530..65_540_usize];
    (any::<u8>(), lengths, any::<bool>(), 0..3_u8).prop_map(|(first, payload, masked, form)| {
        let bit = if masked { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match form {
            0 if payload < 126 => bytes.push(bit | payload as u8),
            0 | 1 if payload <= 0xffff => {
                bytes.push(bit | 126);
                bytes.extend_from_slice(&(payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(bit | 127);
                bytes.extend_from_slice(&(payload as u64).to_be_bytes());
            }
        }
        if masked {
            bytes.extend_from_slice(&MASK);
        }
        bytes.resize(bytes.len() + payload, 7);
        bytes
    })
}

proptest! {
    /// One message that comes whole is answered without a walk: it has to be the answer of the walk, which a message that
    /// comes in two reads always takes.
    #[test]
    fn a_whole_message_is_judged_as_one_that_comes_in_pieces(
        first in prop_oneof![3 => Just(0x81_u8), 3 => Just(0x82), 1 => any::<u8>()],
        mut frame in any_header_and_payload(),
        sender in prop_oneof![Just(Role::Client), Just(Role::Server)],
        extensions in prop_oneof![Just(Extensions::None), Just(Extensions::Deflate), Just(Extensions::Unknown)],
        limits in (prop_oneof![Just(100_u64), Just(255), Just(65_535)], prop_oneof![Just(120_u64), Just(1 << 20)]),
        show_text: bool,
        is_inside_message: bool,
        extra in 0..3_usize,
        cut in 1..20_usize,
    ) {
        frame[0] = first;
        frame.resize(frame.len() + extra, 0);
        let (max_frame, max_message) = limits;
        let open = || {
            let mut scanner = Scanner::new(Rules { sender, extensions, max_frame, max_message, show_text });
            if is_inside_message {
                let begun = self::frame(0x01, 1, sender == Role::Client);
                run(&mut scanner, [&begun[..]], |_| Verdict::Pass);
            }
            scanner
        };
        let (mut whole, mut split) = (open(), open());
        let (head, tail) = frame.split_at(cut.min(frame.len()));
        let at_once = run(&mut whole, [&frame[..]], |_| Verdict::Pass);
        let in_pieces = run(&mut split, [head, tail], |_| Verdict::Pass);
        prop_assert!(at_once == in_pieces);
        prop_assert_eq!(whole.edge(), split.edge());
    }

    /// Invariant 2: every split of every stream comes out byte for byte, minus what is lifted out.
    #[test]
    fn any_split_forwards_the_same_bytes(
        frames in vec((any_frame(), any::<bool>()), 1..12),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let pong = ControlFrame::new(Opcode::Pong, b"ours", Some(MASK));
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for (frame, pong_first) in &frames {
            if *pong_first {
                stream.extend_from_slice(pong.as_bytes());
            }
            stream.extend_from_slice(frame);
            expected.extend_from_slice(frame);
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let chunks = cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]]);
        let (out, _, outcome) = run(&mut Scanner::new(rules(Role::Client)), chunks, |whole| {
            if whole.payload == b"ours" { Verdict::Drop } else { Verdict::Pass }
        });
        prop_assert_eq!(outcome, Outcome::Open);
        prop_assert!(out == expected);
    }

    /// Invariant 1 for hostile bytes: no panic, and whatever goes on is the same for any cut.
    #[test]
    fn hostile_bytes_end_the_same_way_however_they_are_cut(
        bytes in vec(any::<u8>(), 0..400), at in any::<prop::sample::Index>(),
    ) {
        let cut = at.index(bytes.len() + 1);
        let whole = run(&mut Scanner::new(rules(Role::Server)), [&bytes[..]], |_| Verdict::Pass);
        let split = run(&mut Scanner::new(rules(Role::Server)), [&bytes[..cut], &bytes[cut..]], |_| Verdict::Pass);
        prop_assert_eq!(whole, split);
    }
}
