use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::frame::{Outcome, Role, Scanner, Verdict, encode};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn rules(sender: Role) -> Rules {
    Rules { sender, extensions: Extensions::None, max_frame: 1 << 20, max_message: 1 << 21, show_text: false }
}

fn deflate_rules(max_message: u64) -> Rules {
    Rules { extensions: Extensions::Deflate, max_message, ..rules(Role::Server) }
}

/// A frame as `first` (fin, rsv, opcode) begins it.
fn frame(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mask = masked.then_some(MASK);
    let mut bytes = encode::frame(Kind::Binary, 0, payload, mask).to_vec();
    bytes[0] = first;
    bytes
}

/// What was assembled, to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, Vec<u8>),
    ProtocolError(ProtocolError),
}

fn owned(assembled: &Assembled<'_>) -> Owned {
    match assembled {
        Assembled::Message(Kind::Text, text) => Owned::Text(String::from_utf8(text.to_vec()).unwrap()),
        Assembled::Message(Kind::Binary, bytes) => Owned::Binary(bytes.to_vec()),
        Assembled::Ping(payload) => Owned::Ping(payload.to_vec()),
        Assembled::Pong(payload) => Owned::Pong(payload.to_vec()),
        Assembled::Close(code, payload) => Owned::Close(code.0, payload.to_vec()),
    }
}

/// Everything that `chunks` come to.
fn run<'a>(rules: Rules, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Owned> {
    let mut assembler = Assembler::new(rules);
    let mut all = Vec::new();
    let mut came = 0;
    for chunk in chunks {
        came += chunk.len();
        if let Err(error) = assembler.push(chunk, |assembled| all.push(owned(&assembled))) {
            all.push(Owned::ProtocolError(error));
        }
        // A header and a control frame, and no more than twice what came.
        assert!(assembler.held() <= 2 * came + 2 * MAX_CONTROL, "{} held of {came}", assembler.held());
    }
    all
}

fn text(text: &str) -> Owned {
    Owned::Text(text.to_owned())
}

#[test]
fn messages_are_whole_however_they_are_cut() {
    let stream = [
        frame(0x81, b"one", true),
        frame(0x01, "tw\u{f6}".as_bytes(), true),
        frame(0x89, b"ping inside", true),
        frame(0x00, b"", true),
        frame(0x8a, b"", true),
        frame(0x80, b" halves", true),
        frame(0x82, &[7; 300], true),
        frame(0x81, b"", true),
        frame(0x88, b"\x03\xe8bye", true),
        frame(0x81, b"after the end", true),
    ]
    .concat();
    let expected = [
        text("one"),
        Owned::Ping(b"ping inside".to_vec()),
        Owned::Pong(Vec::new()),
        text("tw\u{f6} halves"),
        Owned::Binary(vec![7; 300]),
        text(""),
        Owned::Close(1000, b"\x03\xe8bye".to_vec()),
    ];
    for cut in 0..stream.len() {
        let (head, tail) = stream.split_at(cut);
        assert_eq!(run(rules(Role::Client), [head, tail]), expected, "cut at {cut}");
    }
    assert_eq!(run(rules(Role::Client), stream.chunks(1)), expected);
}

#[test]
fn a_message_that_is_there_whole_is_not_copied() {
    let stream =
        [frame(0x81, b"in place", false), frame(0x01, b"", false), frame(0x80, b"too", false)].concat();
    let range = stream.as_ptr_range();
    let mut assembler = Assembler::new(rules(Role::Server));
    let mut messages = 0;
    let pushed = assembler.push(&stream, |assembled| {
        let Assembled::Message(Kind::Text, payload) = assembled else { panic!("{assembled:?}") };
        assert!(range.contains(&payload.as_ptr()));
        messages += 1;
    });
    assert_eq!((pushed, messages, assembler.held()), (Ok(3), 2, 0));
}

#[test]
fn memory_follows_what_came_and_not_what_was_announced() {
    let announced = frame(0x82, &vec![1; 1 << 20], false);
    let mut assembler = Assembler::new(rules(Role::Server));
    for byte in announced[..2000].chunks(1) {
        assembler.push(byte, |assembled| panic!("{assembled:?}")).unwrap();
    }
    assert!(assembler.held() <= 4000, "{}", assembler.held());
    let mut messages = 0;
    assembler.push(&announced[2000..], |_| messages += 1).unwrap();
    assert_eq!((messages, assembler.held()), (1, 0), "nothing is kept between messages");
    assembler.push(b"\x89\x05pi", |_| ()).unwrap();
    assert!(assembler.held() > 0);
    assembler.push(b"ngs", |_| messages += 1).unwrap();
    assert_eq!((messages, assembler.held()), (2, 0));
}

#[test]
fn what_is_too_large_is_refused_by_its_header_and_nothing_is_kept() {
    let small = Rules { max_frame: 10, max_message: 15, ..rules(Role::Server) };
    let long = frame(0x82, &[0; 11], false);
    let mut assembler = Assembler::new(small);
    assert_eq!(assembler.push(&long[..2], |_| ()), Err(ProtocolError::FrameTooLarge { limit: 10 }));
    assert_eq!(assembler.held(), 0);
    let fragments = [frame(0x02, &[0; 10], false), frame(0x80, &[0; 6], false)].concat();
    let mut assembler = Assembler::new(small);
    assert_eq!(assembler.push(&fragments[..14], |_| ()), Err(ProtocolError::MessageTooLarge { limit: 15 }));
    assert_eq!(assembler.held(), 0);
    // Nothing more is handed out.
    assert_eq!(assembler.push(&frame(0x81, b"more", false), |assembled| panic!("{assembled:?}")), Ok(0));
}

#[test]
fn texts_are_utf8_over_all_their_fragments() {
    let (head, tail) = "\u{20ac}".as_bytes().split_at(1);
    let split = [frame(0x01, head, false), frame(0x80, tail, false)].concat();
    assert_eq!(run(rules(Role::Server), [&split[..]]), [text("\u{20ac}")]);
    for bad in [&b"\xff"[..], b"ab\xc0\x80", b"\xed\xa0\x80", head] {
        let whole = frame(0x81, bad, false);
        assert_eq!(
            run(rules(Role::Server), [&whole[..]]),
            [Owned::ProtocolError(ProtocolError::InvalidUtf8)],
            "{bad:x?}"
        );
        let binary = frame(0x82, bad, false);
        assert_eq!(run(rules(Role::Server), [&binary[..]]), [Owned::Binary(bad.to_vec())]);
    }
    assert_eq!(ProtocolError::InvalidUtf8.close_code().0, 1007);
}

#[test]
fn compressed_messages_are_inflated() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let stream = [
        frame(0xc1, &hello, false),
        frame(0x41, &hello[..3], false),
        frame(0x89, b"?", false),
        frame(0x80, &hello[3..], false),
        frame(0x81, b"as it is", false),
        frame(0x01, b"al", false),
        frame(0x80, b"so", false),
    ]
    .concat();
    let expected = [text("Hello"), Owned::Ping(b"?".to_vec()), text("Hello"), text("as it is"), text("also")];
    for cut in 0..stream.len() {
        let (head, tail) = stream.split_at(cut);
        assert_eq!(run(deflate_rules(100), [head, tail]), expected, "cut at {cut}");
    }
    let unasked = run(rules(Role::Server), [&stream[..]]);
    assert_eq!(unasked, [Owned::ProtocolError(ProtocolError::ReservedBits)], "nothing was agreed upon");
}

#[test]
fn what_is_inflated_is_bounded_and_checked() {
    let bomb = deflate::message(Kind::Binary, &[0; 100_000]).unwrap();
    assert_eq!(run(deflate_rules(100_000), [&bomb[..]]), [Owned::Binary(vec![0; 100_000])]);
    let limit = 99_999;
    assert_eq!(
        run(deflate_rules(limit), [&bomb[..]]),
        [Owned::ProtocolError(ProtocolError::MessageTooLarge { limit })]
    );
    let garbage = frame(0xc2, b"\xff\xff\xff", false);
    assert_eq!(
        run(deflate_rules(100), [&garbage[..]]),
        [Owned::ProtocolError(ProtocolError::InvalidDeflate)]
    );
    assert_eq!(ProtocolError::InvalidDeflate.close_code().0, 1007);
    let latin = deflate::message(Kind::Text, &[0xe9; 100]).unwrap();
    assert_eq!(run(deflate_rules(100), [&latin[..]]), [Owned::ProtocolError(ProtocolError::InvalidUtf8)]);
}

#[test]
fn an_unknown_extension_is_none_here() {
    let unknown = Rules { extensions: Extensions::Unknown, ..rules(Role::Server) };
    assert_eq!(
        run(unknown, [&frame(0xc1, b"?", false)[..]]),
        [Owned::ProtocolError(ProtocolError::ReservedBits)]
    );
    assert_eq!(
        run(unknown, [&frame(0x83, b"?", false)[..]]),
        [Owned::ProtocolError(ProtocolError::ReservedOpcode(3))]
    );
}

/// A frame as anybody may send it: right ones mostly.
fn any_frame(masked: bool) -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        20 => select(vec![0x81_u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a, 0xc1, 0xc2, 0x41]),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        8 => "[a-z\u{e9}]{0,20}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..140),
        1 => vec(any::<u8>(), 60..1200),
        2 => Just(vec![0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]),
    ];
    let masked = prop_oneof![40 => Just(masked), 1 => Just(!masked)];
    (first, payload, masked).prop_map(|(first, payload, masked)| frame(first, &payload, masked))
}

fn any_stream(masked: bool) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any_frame(masked), 0..12).prop_map(|frames| frames.concat()),
        1 => vec(any::<u8>(), 0..300),
    ]
}

/// The ends of the pieces that `stream` is cut into.
fn pieces<'a>(stream: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = stream;
    sizes.iter().cycle().map_while(move |size| {
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

fn any_case() -> impl Strategy<Value = (Rules, Vec<u8>)> {
    let extensions = select(vec![Extensions::None, Extensions::Deflate]);
    (any::<bool>(), extensions).prop_flat_map(|(is_client, extensions)| {
        let sender = if is_client { Role::Client } else { Role::Server };
        let rules = Rules { sender, extensions, max_frame: 1000, max_message: 1500, show_text: false };
        any_stream(is_client).prop_map(move |stream| (rules, stream))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_cut_tells_the_same((rules, stream) in any_case(), sizes in vec(1..40_usize, 1..8)) {
        prop_assert_eq!(run(rules, pieces(&stream, &sizes)), run(rules, [&stream[..]]));
    }

    #[test]
    fn it_finds_the_faults_that_the_scanner_finds((rules, stream) in any_case(), sizes in vec(1..40_usize, 1..8)) {
        let mut scanner = Scanner::new(rules);
        let scanned = scanner.scan(&mut stream.clone(), u32::MAX, |_| Verdict::Pass);
        let all = run(rules, pieces(&stream, &sizes));
        let messages = all.iter().filter(|owned| matches!(owned, Owned::Text(_) | Owned::Binary(_))).count();
        match all.last() {
            // What is inside a message the scanner does not look at.
            Some(Owned::ProtocolError(ProtocolError::InvalidUtf8 | ProtocolError::InvalidDeflate)) => {}
            Some(Owned::ProtocolError(ProtocolError::MessageTooLarge { .. })) if rules.extensions == Extensions::Deflate => {}
            Some(Owned::ProtocolError(error)) => prop_assert_eq!(scanned.outcome, Outcome::Invalid(*error)),
            Some(Owned::Close(..)) => prop_assert_eq!(scanned.outcome, Outcome::Closed),
            _ => {
                prop_assert_eq!(scanned.outcome, Outcome::Open);
                prop_assert_eq!(scanned.messages as usize, messages);
            }
        }
    }
}
