use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::config::{Fallback, Heartbeat};
use crate::connections::EndedSession;
use crate::frame::{Kind, encode};
use crate::net::own_protocols::{MAX_SAFE_INTEGER, OwnProtocols, TicketText};

const PREFIX: Prefix = Prefix(*b"~abcdefghijklmn:");

fn read(text: &str) -> Option<Result<FromClient, ControlError>> {
    FromClient::read(&PREFIX, Kind::Text, text.as_bytes())
}

#[test]
fn a_frame_of_a_client_says_what_it_has_and_nothing_else() {
    let none = FromClient::default();
    let cases = [
        (r#"{"seen":41}"#, FromClient { seen: Some(41), ..none }),
        (r#"{"seen":0}"#, FromClient { seen: Some(0), ..none }),
        (r#"{"ping":9007199254740991}"#, FromClient { ping: Some(MAX_SAFE_INTEGER), ..none }),
        (r#" { "pong" : 3 } "#, FromClient { pong: Some(3), ..none }),
        (r#"{"detach":true}"#, FromClient { detach: true, ..none }),
        (r#"{"detach":false,"seen":null}"#, none),
        (
            r#"{"seen":1,"ping":2,"pong":3,"detach":true}"#,
            FromClient { seen: Some(1), ping: Some(2), pong: Some(3), detach: true },
        ),
        (r#"{"later":[{"seen":7}],"seen":5}"#, FromClient { seen: Some(5), ..none }),
        ("{}", none),
    ];
    for (text, expected) in cases {
        assert_eq!(read(&format!("{}{text}", PREFIX.as_str())), Some(Ok(expected)), "{text}");
    }
}

#[test]
fn what_is_no_control_frame_is_broken_and_not_a_message() {
    let nested = format!("{{\"x\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let cases = [
        "",
        "{",
        "null",
        "[1,2,3,true]",
        "7",
        r#"{"seen":-1}"#,
        r#"{"seen":1.5}"#,
        r#"{"seen":1e3}"#,
        r#"{"seen":"1"}"#,
        r#"{"seen":9007199254740992}"#,
        r#"{"seen":18446744073709551616}"#,
        r#"{"seen":true}"#,
        r#"{"seen":1,"seen":2}"#,
        r#"{"detach":1}"#,
        r#"{"seen":1}{"seen":2}"#,
        r#"{"seen":1} x"#,
        "{\"later\":\"\u{0}\"}",
    ];
    for text in cases {
        assert_eq!(read(&format!("{}{text}", PREFIX.as_str())), Some(Err(ControlError::Malformed)), "{text}");
    }
    // Whatever a member that nobody knows holds, and however deep: it says nothing.
    assert!(matches!(read(&format!("{}{nested}", PREFIX.as_str())), Some(Ok(FromClient { seen: None, .. }))));
    let with = |padding: usize| format!("{}{{\"seen\":1}}{}", PREFIX.as_str(), " ".repeat(padding));
    let longest = with(MAX_CONTROL_TEXT - with(0).len());
    assert!(read(&longest).unwrap().is_ok());
    assert_eq!(read(&(longest + " ")), Some(Err(ControlError::TooLong)));
}

#[test]
fn what_has_not_the_prefix_of_the_link_is_for_the_server() {
    let other = Prefix::random();
    for text in [
        String::new(),
        "~".into(),
        "~abcdefghijklmn".into(),
        "~abcdefghijklmN:{\"seen\":1}".into(),
        " ~abcdefghijklmn:{\"seen\":1}".into(),
        "{\"outrigger\":{\"ack\":5}}".into(),
        format!("{}{{\"seen\":1}}", other.as_str()),
        "x".repeat(1000),
    ] {
        assert_eq!(read(&text), None, "{text}");
    }
    let binary = format!("{}{{\"seen\":1}}", PREFIX.as_str());
    assert_eq!(FromClient::read(&PREFIX, Kind::Binary, binary.as_bytes()), None);
}

#[test]
fn a_prefix_has_sixteen_characters_that_nobody_has_seen_before() {
    let prefixes: Vec<Prefix> = (0..100).map(|_| Prefix::random()).collect();
    for (at, prefix) in prefixes.iter().enumerate() {
        let text = prefix.as_str();
        assert_eq!(text.len(), 16);
        assert!(text.starts_with('~') && text.ends_with(':'), "{text}");
        assert!(
            text[1..15].bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
            "{text}"
        );
        assert!(!prefixes[..at].contains(prefix));
        assert_eq!(format!("{prefix:?}"), "Prefix(***)");
    }
    // No character is the same in all of them, which a shorter random part would leave behind.
    for at in 1..15 {
        assert!(prefixes.iter().any(|prefix| prefix.0[at] != prefixes[0].0[at]), "{at}");
    }
}

fn text_of(frame: &bytes::Bytes) -> String {
    assert_eq!(frame[0], 0x81, "one text, whole");
    String::from_utf8(encode::payload_of(frame).to_vec()).unwrap()
}

#[test]
fn frames_of_the_proxy_are_as_documented() {
    let bye = Bye { why: "drain", resume: false, after: Some(Duration::from_millis(1500)), ack: 7 };
    let cases = [
        (FromProxy::Ack(7), r#"{"ack":7}"#),
        (FromProxy::Pong(1), r#"{"pong":1}"#),
        (FromProxy::Ping(2), r#"{"ping":2}"#),
        (FromProxy::SERVER_LOST, r#"{"server":"lost"}"#),
        (FromProxy::SERVER_BACK, r#"{"server":"back"}"#),
        (FromProxy::Uncertain { from: 3, to: 5 }, r#"{"uncertain":{"from":3,"to":5}}"#),
        (
            FromProxy::Lost { from: 3, to: 5, why: LossCause::Age },
            r#"{"lost":{"from":3,"to":5,"why":"age"}}"#,
        ),
        (FromProxy::At(9), r#"{"at":9}"#),
        (FromProxy::Bye(bye), r#"{"bye":{"why":"drain","resume":false,"after":1500,"ack":7}}"#),
        (
            FromProxy::Bye(Bye { resume: true, after: None, ..bye }),
            r#"{"bye":{"why":"drain","resume":true,"ack":7}}"#,
        ),
    ];
    for (frame, expected) in cases {
        let text = text_of(&frame.frame(&PREFIX));
        assert_eq!(text, format!("{}{expected}", PREFIX.as_str()));
        assert!(text.len() <= MAX_CONTROL_TEXT);
    }
    let longest = Bye { why: "upstream_lost", resume: false, after: Some(Duration::MAX), ack: u64::MAX };
    assert!(text_of(&FromProxy::Bye(longest).frame(&PREFIX)).len() <= MAX_CONTROL_TEXT);
}

#[test]
fn a_hello_has_all_its_members() {
    let ticket = TicketText::read(&[b'A'; 60]).unwrap();
    let mut headers = http::HeaderMap::new();
    let offer = "outrigger.v1, outrigger.nonce.abcdefghijklmnopqrstuv";
    headers.insert("sec-websocket-protocol", offer.parse().unwrap());
    let own = OwnProtocols::take(&mut headers).unwrap();
    let secs = Duration::from_secs;
    let hello = Hello {
        nonce: own.nonce(),
        ticket: Some(&ticket),
        is_resumed: true,
        epoch: 255,
        sequence: 41,
        head: 50,
        received: 7,
        missed: Missed::Known(0),
        prefix: Some(&PREFIX),
        window: secs(30),
        heartbeat: Some(Heartbeat { interval: secs(30), timeout: secs(10), max_missed: 3 }),
        max_message: 1024,
        fallback: &Fallback { sse: true, poll: true, replay: false, prefix: "/.outrigger".into() },
        previous: None,
    };
    let value = |hello: &Hello<'_>| serde_json::from_str::<Value>(&text_of(&hello.frame())).unwrap();
    let full = json!({"outrigger": {
        "v": 1, "nonce": "abcdefghijklmnopqrstuv", "session": ticket.as_str(), "resumed": true,
        "epoch": "00000000000000ff", "sequence": 41, "head": 50, "received": 7, "lost": 0,
        "control": PREFIX.as_str(), "window": 30000, "maxMessage": 1024,
        "heartbeat": {"interval": 30000, "timeout": 10000, "misses": 3},
        "fallback": ["sse", "poll"], "prefix": "/.outrigger",
    }});
    assert_eq!(value(&hello), full);
    let bare = Hello {
        nonce: None,
        ticket: None,
        is_resumed: false,
        missed: Missed::Unknown,
        window: Duration::ZERO,
        heartbeat: None,
        fallback: &Fallback::default(),
        previous: Some(EndedSession { received: 12, why: "window" }),
        ..hello
    };
    let bare = &value(&bare)["outrigger"];
    for member in ["nonce", "fallback", "prefix"] {
        assert!(bare.get(member).is_none(), "{bare}");
    }
    for (member, expected) in [
        ("session", Value::Null),
        ("resumed", json!(false)),
        ("lost", Value::Null),
        ("window", json!(0)),
        ("heartbeat", Value::Null),
        ("previous", json!({"received": 12, "why": "window"})),
    ] {
        assert_eq!(bare[member], expected, "{member}");
    }
}

#[test]
fn an_acknowledgement_comes_once_a_second_or_when_there_is_much() {
    let start = Instant::now();
    let at = |millis: u64| start + Duration::from_millis(millis);
    let mut acks = Acknowledgements::new(5, start);
    assert_eq!((acks.take_due(5, at(60_000)), acks.next_due(5)), (None, None), "nothing new, nothing due");
    acks.on_message(10);
    assert_eq!(acks.take_due(6, at(999)), None);
    assert_eq!(acks.next_due(6), Some(at(1000)));
    assert_eq!(acks.take_due(6, at(1000)), Some(6));
    // After a pause the first message is told of at once.
    assert_eq!(acks.take_due(7, at(5000)), Some(7));
    for received in 8..107 {
        acks.on_message(10);
        assert_eq!(acks.take_due(received, at(5100)), None, "{received}");
    }
    assert_eq!(acks.take_due(107, at(5100)), Some(107), "a hundred of them");
    acks.on_message(64 * 1024 - 1);
    assert_eq!(acks.take_due(108, at(5200)), None);
    acks.on_message(1);
    assert_eq!(acks.take_due(109, at(5200)), Some(109), "64 KiB");
    acks.on_message(1);
    assert_eq!(acks.take_due(110, at(5300)), None, "the bytes were counted once");
    assert_eq!(acks.take_due(110, at(6200)), Some(110));
    assert_eq!(acks.take_due(110, at(9000)), None, "it is told already");
}

#[test]
fn a_client_has_had_neither_less_than_before_nor_more_than_it_was_sent() {
    let mut confirmed = Confirmed::new(5);
    assert_eq!(confirmed.on_seen(5, 9), Ok(false));
    assert_eq!(confirmed.on_seen(8, 9), Ok(true));
    assert_eq!(confirmed.on_seen(7, 9), Err(ControlError::Backwards));
    assert_eq!(confirmed.on_seen(10, 9), Err(ControlError::Ahead));
    assert_eq!(confirmed.on_seen(9, 9), Ok(true));
    assert_eq!(confirmed.sequence(), 9);
}

proptest! {
    /// What the fuzz target `control` holds as well.
    #[test]
    fn whatever_comes_is_a_message_or_is_judged(
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..600),
            "[{}\":,a-z0-9\\[\\] -]{0,40}".prop_map(|text| format!("~abcdefghijklmn:{text}").into_bytes()),
            "~[a-z:]{0,17}\\{\"seen\":[0-9]{1,20}\\}".prop_map(String::into_bytes),
        ],
    ) {
        let is_ours = payload.starts_with(b"~abcdefghijklmn:");
        let read = FromClient::read(&PREFIX, Kind::Text, &payload);
        prop_assert_eq!(read.is_some(), is_ours);
        if let Some(Ok(read)) = read {
            prop_assert!(payload.len() <= MAX_CONTROL_TEXT);
            for number in [read.seen, read.ping, read.pong].into_iter().flatten() {
                prop_assert!(number <= MAX_SAFE_INTEGER);
            }
            let value: Value = serde_json::from_slice(&payload[16..]).unwrap();
            prop_assert!(value.is_object());
            prop_assert_eq!(read.seen, value.get("seen").and_then(Value::as_u64));
        }
    }

    #[test]
    fn whatever_comes_all_is_told_in_the_end_and_not_too_often(
        steps in prop::collection::vec((0_u64..400, 0_usize..5_000), 1..200),
    ) {
        let mut now = Instant::now();
        let (mut received, mut told, mut untold_bytes) = (0, 0, 0);
        let mut acks = Acknowledgements::new(0, now);
        let mut told_at = now;
        for (gap, bytes) in steps {
            now += Duration::from_millis(gap);
            received += 1;
            untold_bytes += bytes;
            acks.on_message(bytes);
            match acks.take_due(received, now) {
                Some(all) => {
                    prop_assert_eq!(all, received);
                    let is_much = received - told >= 100 || untold_bytes >= 64 * 1024;
                    prop_assert!(is_much || now - told_at >= Duration::from_secs(1));
                    (told, told_at, untold_bytes) = (received, now, 0);
                }
                None => {
                    prop_assert!(received - told < 100 && untold_bytes < 64 * 1024);
                    prop_assert_eq!(acks.next_due(received), Some(told_at + Duration::from_secs(1)));
                    prop_assert!(now < told_at + Duration::from_secs(1));
                }
            }
        }
    }
}
