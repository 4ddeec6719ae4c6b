//! Any lines of `Sec-WebSocket-Protocol`: what is ours is gone, what is not stays in its order, and what is answered was
//! offered.

#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use outrigger::internals::{MAX_SAFE_INTEGER, OwnProtocols, Resume};

fuzz_target!(|input: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(20) {
        if let Ok(line) = HeaderValue::from_bytes(line) {
            headers.append("sec-websocket-protocol", line);
        }
    }
    let before = headers.clone();
    let offered = entries(&before);
    let own = OwnProtocols::take(&mut headers);
    let is_ours = |entry: &[u8]| entry.starts_with(b"outrigger.");
    let Some(own) = own else {
        assert!(!offered.iter().any(|entry| is_ours(entry)) && headers == before);
        return;
    };
    let mut expected = Vec::new();
    let mut without_tokens = Vec::new();
    let mut is_token = false;
    for entry in &offered {
        if !is_ours(entry) && !is_token {
            expected.push(*entry);
        }
        without_tokens.push(if is_token && !is_ours(entry) { b"x" } else { *entry });
        is_token = *entry == b"outrigger.bearer";
    }
    assert_eq!(entries(&headers), expected);
    for answer in [own.answer_of_tunnel(), own.answer_of_session()].into_iter().flatten() {
        assert!(offered.contains(&answer.as_bytes()), "{answer} was not offered");
    }
    if let Some(Resume::Session { seen, .. } | Resume::Feed { seen, .. }) = own.resume() {
        assert!(seen <= MAX_SAFE_INTEGER && own.speaks_v1());
    }
    let line = HeaderValue::from_bytes(&without_tokens.join(&b","[..])).expect("each of them was in a header");
    let mut headers = HeaderMap::from_iter([(http::header::SEC_WEBSOCKET_PROTOCOL, line)]);
    let same_without = OwnProtocols::take(&mut headers).expect("the same entries are ours");
    assert_eq!(format!("{own:?}"), format!("{same_without:?}"), "a token is a secret");
});

fn entries(headers: &HeaderMap) -> Vec<&[u8]> {
    let lines = headers.get_all("sec-websocket-protocol").into_iter();
    let entries = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()).collect()
}
