//! Any bytes, cut anywhere: the scanner forwards, shows, counts and refuses what a plain reading of
//! RFC 6455 does with all of them at once.
//!
//! The first byte of the input chooses the rules, the second where the stream is cut; the rest is the
//! stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger::internals::{
    Extensions, ProtocolError, MAX_CONTROL_PAYLOAD, MAX_HELD, Opcode, Outcome, Rules, Scanner, Role, Verdict,
};

const MAX_FRAME: u64 = 1000;
const MAX_MESSAGE: u64 = 2500;

/// Everything that a stream comes to.
#[derive(Debug, Default, PartialEq)]
struct Result {
    forwarded: Vec<u8>,
    shown: Vec<(u8, Vec<u8>)>,
    messages: u32,
    /// How it ended, if it did.
    end: Option<std::result::Result<(), ProtocolError>>,
}

fuzz_target!(|input: &[u8]| {
    let [choice, cut, stream @ ..] = input else { return };
    let rules = Rules {
        sender: if choice & 1 == 0 { Role::Client } else { Role::Server },
        extensions: match choice >> 1 & 3 {
            0 | 1 => Extensions::None,
            2 => Extensions::Deflate,
            _ => Extensions::Unknown,
        },
        max_frame: MAX_FRAME,
        max_message: MAX_MESSAGE,
        show_text: choice & 8 != 0,
    };
    let most = if choice & 16 == 0 { u32::MAX } else { 1 + u32::from(choice >> 5) };
    let expected = read_plainly(stream, &rules);
    assert_eq!(scan(stream, &rules, most, |_| usize::MAX), expected, "in one piece");
    let mut state = u32::from(*cut) + 1;
    let pieces = |_| {
        // Small pieces mostly, now and then a long one: a generator of Knuth's will do.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let n = (state >> 16) as usize;
        if n % 8 == 0 { n % 3000 } else { n % 11 }
    };
    assert_eq!(scan(stream, &rules, most, pieces), expected, "in pieces");
});

/// Frames that are shown whole: those that begin with a 'd' are lifted out.
fn judge(payload: &[u8]) -> Verdict {
    if payload.first() == Some(&b'd') { Verdict::Drop } else { Verdict::Pass }
}

fn bits(opcode: Opcode) -> u8 {
    match opcode {
        Opcode::Continuation => 0,
        Opcode::Text => 1,
        Opcode::Binary => 2,
        Opcode::Close => 8,
        Opcode::Ping => 9,
        Opcode::Pong => 10,
        Opcode::ReservedData(bits) | Opcode::ReservedControl(bits) => bits,
    }
}

/// Hands `stream` to the scanner in pieces, as a relay does.
fn scan(stream: &[u8], rules: &Rules, most: u32, mut piece: impl FnMut(usize) -> usize) -> Result {
    let mut scanner = Scanner::new(*rules);
    let mut result = Result::default();
    let (mut at, mut held) = (0, Vec::new());
    let mut has_backlog = false;
    while at < stream.len() || has_backlog {
        let mut buf = std::mem::take(&mut held);
        if !has_backlog {
            let n = piece(at).min(stream.len() - at);
            buf.extend_from_slice(&stream[at..at + n]);
            at += n;
        }
        let edge_before = scanner.at_frame_edge();
        let scanned = scanner.scan(&mut buf, most, |whole| {
            result.shown.push((bits(whole.opcode), whole.payload.to_vec()));
            judge(whole.payload)
        });
        result.forwarded.extend_from_slice(&buf[..scanned.forward]);
        result.messages += scanned.messages;
        match scanned.edge {
            Some(edge) => {
                assert!(edge <= scanned.forward && (edge < scanned.forward) <= !scanner.at_frame_edge())
            }
            None => assert!(!edge_before && !scanner.at_frame_edge()),
        }
        held = buf[scanned.held].to_vec();
        has_backlog = false;
        match scanned.outcome {
            Outcome::Open => assert!(held.len() <= MAX_HELD, "{} bytes held", held.len()),
            Outcome::LimitReached => {
                assert_eq!(scanned.messages, most);
                has_backlog = !held.is_empty();
            }
            Outcome::Closed => {
                result.end = Some(Ok(()));
                return result;
            }
            Outcome::Invalid(fault) => {
                assert!(scanner.at_frame_edge(), "a fault leaves the other side at an edge");
                result.end = Some(Err(fault));
                return result;
            }
        }
    }
    result
}

/// RFC 6455 §5 from front to back, with the whole stream in hand.
fn read_plainly(stream: &[u8], rules: &Rules) -> Result {
    let mut result = Result::default();
    let mut rest = stream;
    let mut message: Option<u64> = None;
    // What stands in the first two bytes can be judged before the rest of the header is there.
    while let [first, second, ..] = *rest {
        let fail = |mut result: Result, fault| {
            result.end = Some(Err(fault));
            result
        };
        let (is_final, opcode, is_masked) = (first >= 0x80, first & 15, second >= 0x80);
        let is_control = opcode >= 8;
        match rules.sender {
            Role::Client if !is_masked => return fail(result, ProtocolError::Unmasked),
            Role::Server if is_masked => return fail(result, ProtocolError::Masked),
            _ => {}
        }
        if is_control && !is_final {
            return fail(result, ProtocolError::FragmentedControl);
        }
        let short = second & 0x7f;
        if is_control && short > 125 {
            return fail(result, ProtocolError::LongControl);
        }
        let wide = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(length) = rest.get(2..2 + wide) else { break };
        let length = length.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let length = if wide == 0 { u64::from(short) } else { length };
        let is_shortest = match wide {
            0 => true,
            2 => length > 125,
            _ => length > 0xffff && length < 1 << 63,
        };
        if !is_shortest {
            return fail(result, ProtocolError::NonMinimalLength);
        }
        let header = 2 + wide + if is_masked { 4 } else { 0 };
        if rest.len() < header {
            break;
        }
        let is_reserved = matches!(opcode, 3..=7 | 11..);
        let rsv = first >> 4 & 7;
        match rules.extensions {
            Extensions::None if is_reserved => return fail(result, ProtocolError::ReservedOpcode(opcode)),
            Extensions::Deflate if is_reserved => return fail(result, ProtocolError::ReservedOpcode(opcode)),
            Extensions::None if rsv != 0 => return fail(result, ProtocolError::ReservedBits),
            Extensions::Deflate if rsv != 0 && (rsv != 4 || !matches!(opcode, 1 | 2)) => {
                return fail(result, ProtocolError::ReservedBits);
            }
            _ => {}
        }
        if !is_control {
            match (opcode, message) {
                (0, None) => return fail(result, ProtocolError::UnexpectedContinuation),
                (1.., Some(_)) => return fail(result, ProtocolError::ExpectedContinuation),
                _ => {}
            }
            if length > MAX_FRAME {
                return fail(result, ProtocolError::FrameTooLarge { limit: MAX_FRAME });
            }
            if message.unwrap_or(0) + length > MAX_MESSAGE {
                return fail(result, ProtocolError::MessageTooLarge { limit: MAX_MESSAGE });
            }
        }
        let whole = header + length as usize;
        let is_short_text = opcode == 1 && is_final && length <= MAX_CONTROL_PAYLOAD as u64;
        if is_control || rules.show_text && is_short_text {
            let Some(payload) = rest.get(header..whole) else { break };
            let key = if is_masked { &rest[header - 4..header] } else { &[0; 4][..] };
            let payload: Vec<u8> =
                payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            if judge(&payload) == Verdict::Pass {
                result.forwarded.extend_from_slice(&rest[..whole]);
                result.messages += u32::from(!is_control);
            }
            result.shown.push((opcode, payload));
            if opcode == 8 {
                result.end = Some(Ok(()));
                return result;
            }
        } else {
            let here = whole.min(rest.len());
            result.forwarded.extend_from_slice(&rest[..here]);
            if here < whole {
                break;
            }
            result.messages += u32::from(is_final);
            message = if is_final { None } else { Some(message.unwrap_or(0) + length) };
        }
        rest = &rest[whole..];
    }
    result
}
