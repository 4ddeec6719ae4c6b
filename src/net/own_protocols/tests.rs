use proptest::prelude::*;

use super::*;

const TICKET: &str = "AQ-_56789012345678901234567890123456789012345678901234567890";
const NONCE: &str = "abcdefghijklmnopqrstuv";

fn headers(lines: &[&[u8]]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_bytes(line).unwrap());
    }
    headers
}

fn left(headers: &HeaderMap) -> Vec<&[u8]> {
    headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().map(HeaderValue::as_bytes).collect()
}

fn take(offer: &str) -> (Option<Box<OwnProtocols>>, Option<String>) {
    let mut headers = headers(&[offer.as_bytes()]);
    let own = OwnProtocols::take(&mut headers);
    let left = left(&headers).first().map(|line| String::from_utf8(line.to_vec()).unwrap());
    (own, left)
}

#[test]
fn each_entry_of_ours_goes_and_the_others_stay_in_order() {
    let resume = format!("outrigger.resume.{TICKET}.41");
    let all = format!(
        "a, b, outrigger.plain, outrigger.v1, outrigger.nonce.{NONCE}, {resume}, outrigger.bearer, TOKEN, c"
    );
    // what is offered, whether something of it is ours, what is left
    type Case<'a> = (&'a [&'a [u8]], bool, Option<&'a [u8]>);
    let cases: &[Case<'_>] = &[
        (&[all.as_bytes()], true, Some(b"a, b, c")),
        (&[b"outrigger.v1"], true, None),
        (&[b"outrigger.v1", b"chat", b"outrigger.plain,soap"], true, Some(b"chat, soap")),
        (&[b"\toutrigger.v1 ,chat"], true, Some(b"chat")),
        // Nothing comes of these, but no server sees them.
        (&[b"outrigger., chat"], true, Some(b"chat")),
        (&[b"outrigger.v2, outrigger.nonce.x, outrigger.resume., outrigger.resume.\xff.1"], true, None),
        (&[b"outrigger.V1, chat"], true, Some(b"chat")),
        (&[b"outrigger.v1, \xff"], true, Some(b"\xff")),
        // These are somebody else's.
        (&[b"Outrigger.v1, chat"], false, Some(b"Outrigger.v1, chat")),
        (&[b"outrigger,  my.outrigger.v1"], false, Some(b"outrigger,  my.outrigger.v1")),
        (&[b"chat ,soap"], false, Some(b"chat ,soap")),
        (&[b", ,"], false, Some(b", ,")),
        (&[], false, None),
    ];
    for (lines, is_ours, expected) in cases {
        let mut headers = headers(lines);
        assert_eq!(OwnProtocols::take(&mut headers).is_some(), *is_ours, "{lines:?}");
        assert_eq!(left(&headers), Vec::from_iter(*expected), "{lines:?}");
    }
    let mut two = headers(&[b"chat", b"soap"]);
    assert!(OwnProtocols::take(&mut two).is_none());
    assert_eq!(left(&two), [&b"chat"[..], b"soap"], "untouched, line by line");
}

#[test]
fn which_one_is_answered_depends_on_where_it_leads() {
    let nonce = format!("outrigger.nonce.{NONCE}");
    // what is offered, the answer in a tunnel, the answer in a session
    let cases = [
        ("outrigger.plain, outrigger.v1", Some(PLAIN), Some(V1)),
        ("outrigger.v1, outrigger.plain", Some(PLAIN), Some(V1)),
        ("outrigger.v1", Some(V1), Some(V1)),
        ("outrigger.plain", Some(PLAIN), Some(PLAIN)),
        ("outrigger.bearer, t", Some(BEARER), Some(BEARER)),
        ("outrigger.bearer, t, outrigger.v1", Some(V1), Some(V1)),
        (nonce.as_str(), None, None),
        ("outrigger.v2", None, None),
    ];
    for (offer, of_tunnel, of_session) in cases {
        let own = take(offer).0.unwrap();
        assert_eq!((own.answer_of_tunnel(), own.answer_of_session()), (of_tunnel, of_session), "{offer}");
    }
}

#[test]
fn a_resume_is_one_entry_of_one_form() {
    let long = "9".repeat(70);
    // what stands behind `outrigger.resume.`, whether it can be read
    let cases = [
        (format!("{TICKET}.0"), true),
        (format!("{TICKET}.41"), true),
        (format!("{TICKET}.9007199254740991"), true),
        (format!("{TICKET}.9007199254740992"), false),
        (format!("{TICKET}.18446744073709551616"), false),
        (format!("{TICKET}.{long}"), false),
        (format!("{TICKET}.-1"), false),
        (format!("{TICKET}.+1"), false),
        (format!("{TICKET}.01"), false),
        (format!("{TICKET}.1e3"), false),
        (format!("{TICKET}."), false),
        (format!("{TICKET}.1.2"), false),
        (TICKET.to_owned(), false),
        (format!("{}.1", &TICKET[1..]), false),
        (format!("{TICKET}A.1"), false),
        (format!("{}+.1", &TICKET[1..]), false),
        ("-00000000000000ff.41".to_owned(), true),
        ("-00000000000000FF.41".to_owned(), false),
        ("-ff.41".to_owned(), false),
        ("-+0000000000000ff.41".to_owned(), false),
        ("-00000000000000ff.".to_owned(), false),
        ("-.41".to_owned(), false),
        (String::new(), false),
        (".".to_owned(), false),
    ];
    for (text, is_one) in &cases {
        let own = take(&format!("outrigger.v1, outrigger.resume.{text}")).0.unwrap();
        let resume = own.resume().unwrap();
        assert_eq!(resume != Resume::Malformed, *is_one, "{text}");
    }
    let own = take(&format!("outrigger.v1, outrigger.resume.{TICKET}.41")).0.unwrap();
    let Some(Resume::Session { ticket, seen: 41 }) = own.resume() else { panic!("{own:?}") };
    assert_eq!(ticket.as_str(), TICKET);
    let own = take("outrigger.v1, outrigger.resume.-00000000000000ff.41").0.unwrap();
    assert_eq!(own.resume(), Some(Resume::Feed { epoch: 255, seen: 41 }));
    let twice = format!("outrigger.v1, outrigger.resume.{TICKET}.41, outrigger.resume.{TICKET}.41");
    assert_eq!(take(&twice).0.unwrap().resume(), Some(Resume::Malformed));
    let alone = take(&format!("outrigger.resume.{TICKET}.41")).0.unwrap();
    assert_eq!(alone.resume(), None, "who does not speak the protocol cannot resume");
}

#[test]
fn a_nonce_is_taken_if_it_is_one_and_a_client_without_a_hello_needs_none() {
    let nonce = |offer: &str| take(offer).0.unwrap().nonce().map(|nonce| nonce.as_str().to_owned());
    let good = format!("outrigger.nonce.{NONCE}");
    assert_eq!(nonce(&format!("outrigger.v1, {good}")).as_deref(), Some(NONCE));
    for bad in ["", "x", &NONCE[1..], "abcdefghijklmnopqrstu=", "abcdefghijklmnopqrstuvw"] {
        assert_eq!(nonce(&format!("outrigger.v1, outrigger.nonce.{bad}")), None, "{bad}");
    }
    assert_eq!(nonce(&format!("outrigger.v1, {good}, {good}")), None);
    assert_eq!(nonce(&good), None);
}

#[test]
fn nothing_that_came_is_shown() {
    let (own, _) = take(&format!(
        "outrigger.v1, outrigger.nonce.{NONCE}, outrigger.resume.{TICKET}.41, outrigger.bearer, SECRET"
    ));
    let shown = format!("{own:?}");
    for secret in [TICKET, NONCE, "SECRET"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

proptest! {
    #[test]
    fn whatever_is_offered_nothing_of_ours_is_left_and_nothing_of_others_is_lost(
        entries in prop::collection::vec(
            prop_oneof![
                "[a-z.]{1,6}",
                "outrigger\\.[a-z0-9.-]{0,8}",
                Just(format!("outrigger.resume.{TICKET}.7")),
                Just("outrigger.bearer".to_owned()),
                "[ -+--~]{1,10}",
            ],
            0..12,
        ),
        separator in prop_oneof![Just(","), Just(", "), Just(" ,, ")],
    ) {
        let offer = entries.join(separator);
        let mut headers = headers(&[offer.as_bytes()]);
        OwnProtocols::take(&mut headers);
        let rest = left(&headers).concat();
        let rest: Vec<&[u8]> = rest.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()).collect();
        // The plain reading: what is ours goes, and what follows a bearer with it unless that is ours too.
        let mut expected = Vec::new();
        let mut is_token = false;
        for entry in offer.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let is_ours = entry.starts_with("outrigger.");
            if !is_ours && !is_token {
                expected.push(entry.as_bytes());
            }
            is_token = entry == "outrigger.bearer";
        }
        prop_assert_eq!(rest, expected);
    }
}
