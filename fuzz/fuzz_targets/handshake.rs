//! Any headers from either side of a handshake: nothing panics, and whatever a 101 is taken for was offered.
//!
//! The input is lines `name: value`; an empty line parts the client's from the server's.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use libfuzzer_sys::fuzz_target;
use outrigger::internals::{Extensions, accept_for};
use outrigger::internals::Offer;

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|byte| *byte == b'\n');
    let asked = headers(lines.by_ref().take_while(|line| !line.is_empty()));
    let mut answered = headers(lines);
    let offer = Offer::of(&asked);
    verify(&offer, &asked, answered.clone());
    // The same answer with the one header that cannot be guessed.
    let key = asked.get("sec-websocket-key").map_or(&b""[..], HeaderValue::as_bytes);
    answered.insert("sec-websocket-accept", accept_for(key).parse().expect("base64"));
    verify(&offer, &asked, answered);
});

fn verify(offer: &Offer, asked: &HeaderMap, answered: HeaderMap) {
    let mut response = Response::builder().status(101).body(()).expect("a response");
    *response.headers_mut() = answered;
    let Ok(extensions) = offer.verify(&response) else { return };
    let answered = response.headers();
    let says = |headers: &HeaderMap, name: &str, word: &str| {
        headers.get_all(name).iter().any(|value| {
            String::from_utf8_lossy(value.as_bytes())
                .to_ascii_lowercase()
                .contains(&word.to_ascii_lowercase())
        })
    };
    assert!(says(answered, "upgrade", "websocket") && says(answered, "connection", "upgrade"));
    if extensions == Extensions::Deflate {
        assert!(says(answered, "sec-websocket-extensions", "permessage-deflate"));
        assert!(says(asked, "sec-websocket-extensions", "permessage-deflate"), "it was not offered");
    }
    if let Some(protocol) = answered.get("sec-websocket-protocol") {
        let protocol = String::from_utf8_lossy(protocol.as_bytes()).into_owned();
        assert!(says(asked, "sec-websocket-protocol", &protocol), "{protocol:?} was not offered");
    }
}

fn headers<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.take(100) {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else { continue };
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii()))
        {
            headers.append(name, value);
        }
    }
    headers
}
