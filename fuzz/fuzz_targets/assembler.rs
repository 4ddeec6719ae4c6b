//! Any bytes, cut anywhere: what the assembler tells is the same, no more is kept than has come, and it finds
//! the faults that the scanner finds.
//!
//! The first byte of the input chooses the rules, the second where the stream is cut; the rest is the
//! stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger::internals::{
    Assembler, Extensions, ProtocolError, Assembled, Kind, MAX_HELD, Outcome, Rules, Scanner, Role, Verdict,
};

const MAX_FRAME: u64 = 1000;
const MAX_MESSAGE: u64 = 2500;

/// Everything that a stream comes to.
#[derive(Debug, Default, PartialEq)]
struct Told {
    /// What each thing is, and its payload.
    heard: Vec<(&'static str, Vec<u8>)>,
    fault: Option<ProtocolError>,
}

fuzz_target!(|input: &[u8]| {
    let [choice, cut, stream @ ..] = input else { return };
    let rules = Rules {
        sender: if choice & 1 == 0 { Role::Client } else { Role::Server },
        extensions: if choice & 2 == 0 { Extensions::None } else { Extensions::Deflate },
        max_frame: MAX_FRAME,
        max_message: MAX_MESSAGE,
        show_text: false,
    };
    let whole = tell(rules, stream, |_| usize::MAX);
    let mut state = u32::from(*cut) + 1;
    let pieces = |_| {
        // Small pieces mostly, now and then a long one: a generator of Knuth's will do.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let n = (state >> 16) as usize;
        1 + if n % 8 == 0 { n % 3000 } else { n % 11 }
    };
    assert_eq!(tell(rules, stream, pieces), whole, "in pieces");
    for (what, payload) in &whole.heard {
        assert!(payload.len() as u64 <= MAX_MESSAGE);
        assert!(*what != "text" || std::str::from_utf8(payload).is_ok());
    }
    let scanned = Scanner::new(rules).scan(&mut stream.to_vec(), u32::MAX, |_| Verdict::Pass).outcome;
    match whole.fault {
        // What is inside a message the scanner does not look at.
        Some(ProtocolError::InvalidUtf8 | ProtocolError::InvalidDeflate) => {}
        Some(ProtocolError::MessageTooLarge { .. }) if rules.extensions == Extensions::Deflate => {}
        Some(fault) => assert_eq!(scanned, Outcome::Invalid(fault)),
        None if whole.heard.last().is_some_and(|(what, _)| *what == "close") => {
            assert_eq!(scanned, Outcome::Closed);
        }
        None => assert_eq!(scanned, Outcome::Open),
    }
});

fn tell(rules: Rules, stream: &[u8], mut piece: impl FnMut(usize) -> usize) -> Told {
    let mut assembler = Assembler::new(rules);
    let mut told = Told::default();
    let mut at = 0;
    while at < stream.len() {
        let n = piece(at).min(stream.len() - at);
        let pushed = assembler.push(&stream[at..at + n], |heard| {
            told.heard.push(match heard {
                Assembled::Message(Kind::Text, payload) => ("text", payload.to_vec()),
                Assembled::Message(Kind::Binary, payload) => ("binary", payload.to_vec()),
                Assembled::Ping(payload) => ("ping", payload.to_vec()),
                Assembled::Pong(payload) => ("pong", payload.to_vec()),
                Assembled::Close(_, payload) => ("close", payload.to_vec()),
            });
        });
        at += n;
        assert!(assembler.held() <= 2 * (at + MAX_HELD), "{} held of {at}", assembler.held());
        if let Err(fault) = pushed {
            told.fault = Some(fault);
            assert_eq!(assembler.held(), 0);
            break;
        }
    }
    told
}
