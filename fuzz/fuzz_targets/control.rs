//! Any text of a client, with the prefix of its link in front or not: it is a message, or it is one JSON object of a bounded
//! length whose numbers are what it says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger::internals::{ControlError, FromClient, Kind, MAX_CONTROL_TEXT, MAX_SAFE_INTEGER, Prefix};

const PREFIX: &[u8; 16] = b"~abcdefghijklmn:";

fuzz_target!(|input: &[u8]| {
    check(input);
    check(&[PREFIX, input].concat());
});

fn check(payload: &[u8]) {
    let prefix = Prefix::new(*PREFIX).expect("it has the form of one");
    assert!(FromClient::read(&prefix, Kind::Binary, payload).is_none());
    let read = FromClient::read(&prefix, Kind::Text, payload);
    assert_eq!(read.is_some(), payload.starts_with(PREFIX));
    match read {
        None | Some(Err(ControlError::Malformed)) => {}
        Some(Err(error)) => {
            assert_eq!(error, ControlError::TooLong);
            assert!(payload.len() > MAX_CONTROL_TEXT);
        }
        Some(Ok(frame)) => {
            assert!(payload.len() <= MAX_CONTROL_TEXT);
            let text = payload[PREFIX.len()..].trim_ascii();
            assert!(text.starts_with(b"{") && text.ends_with(b"}"));
            for number in [frame.seen, frame.ping, frame.pong].into_iter().flatten() {
                assert!(number <= MAX_SAFE_INTEGER);
                let digits = number.to_string();
                let is_there = text.windows(digits.len()).any(|window| window == digits.as_bytes());
                assert!(is_there, "{digits} was not said");
            }
        }
    }
}
