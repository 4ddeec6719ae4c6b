pub(in crate::delivery) mod parser;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use self::parser::{Dispatched, EventSource};
use super::*;
use crate::config::{History, OnJoin};
use crate::frame::Kind;
use crate::log::{Cursor, Entry, Log, Logs, Message, NewEntry};
use crate::memory::Budget;
use crate::telemetry::Metrics;

use std::sync::Arc;

/// Messages as a log has them.
pub(in crate::delivery) fn entries(messages: &[(Kind, &[u8])]) -> Vec<Arc<Entry>> {
    let history = History {
        messages: usize::MAX,
        bytes: usize::MAX,
        age: Duration::MAX,
        critical: None,
        on_join: OnJoin::None,
    };
    let metrics = Metrics::new("outrigger").unwrap();
    let mut writer = Log::new(&history, &Logs::new(Arc::new(Budget::new(usize::MAX)), metrics));
    for (place, (kind, payload)) in messages.iter().enumerate() {
        let message = Message::new(*kind, payload);
        writer.append(NewEntry { message, deflated: None, is_critical: place % 2 == 1, key: None, to: None });
    }
    let mut entries = Vec::new();
    let start = Cursor { next: 1, all_from: 1 };
    writer.log().read(start, u64::MAX, usize::MAX, usize::MAX, &mut entries);
    entries
}

fn entry(kind: Kind, payload: &[u8]) -> Arc<Entry> {
    entries(&[(kind, payload)]).remove(0)
}

/// The event of the one message as an `EventSource` gets it, and its JSON.
fn heard(entry: &Entry, id_prefix: &str, form: DataForm) -> (Dispatched, Value) {
    let mut stream = Vec::new();
    stream::push_message(entry, id_prefix, form, &mut stream);
    let mut source = EventSource::read(&stream);
    assert_eq!((source.events.len(), source.comments, source.retry), (1, 0, None), "{stream:?}");
    let event = source.events.remove(0);
    let json = serde_json::from_str(&event.data).unwrap();
    (event, json)
}

#[test]
fn an_event_has_its_members_and_the_text_stands_as_the_json_that_it_is_or_as_a_string() {
    // What the server said; `data` as a value, and as text.
    let cases: &[(&str, &str, &str)] = &[
        ("hello", r#""hello""#, r#""hello""#),
        ("", r#""""#, r#""""#),
        (r#""a""#, r#""a""#, r#""\"a\"""#),
        ("a", r#""a""#, r#""a""#),
        ("9007199254740993", "9007199254740993", r#""9007199254740993""#),
        (" [1,\r\n 2.50]\n", "[1,   2.50]", r#"" [1,\r\n 2.50]\n""#),
        (r#"{"a":"\u2028\n"}"#, r#"{"a":"\u2028\n"}"#, r#""{\"a\":\"\\u2028\\n\"}""#),
        ("{\"a\":\"\u{2028}\"}", "{\"a\":\"\u{2028}\"}", r#""{\"a\":\"\u2028\"}""#),
        ("\"\u{2029}", r#""\"\u2029""#, r#""\"\u2029""#),
        ("null", "null", r#""null""#),
        ("null null", r#""null null""#, r#""null null""#),
        ("[1,]", r#""[1,]""#, r#""[1,]""#),
        ("\u{feff}1", "\"\u{feff}1\"", "\"\u{feff}1\""),
        ("[\"a\nb\"]", r#""[\"a\nb\"]""#, r#""[\"a\nb\"]""#),
        ("NaN", r#""NaN""#, r#""NaN""#),
        ("-1.5e300", "-1.5e300", r#""-1.5e300""#),
        // By the grammar these are JSON, and have no value.
        ("1e999", r#""1e999""#, r#""1e999""#),
        (r#"[{"a":-1e999}]"#, r#""[{\"a\":-1e999}]""#, r#""[{\"a\":-1e999}]""#),
        (r#""\ud800""#, r#""\"\\ud800\"""#, r#""\"\\ud800\"""#),
        (r#"{"\udc00":1}"#, r#""{\"\\udc00\":1}""#, r#""{\"\\udc00\":1}""#),
        (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#, r#""\"\\ud83d\\ude00\"""#),
        (
            "a\r\nb\u{0}\u{85}\u{7f}\té",
            r#""a\r\nb\u0000\u0085\u007f\té""#,
            r#""a\r\nb\u0000\u0085\u007f\té""#,
        ),
        ("data: x\n\nid: 7\n\n", r#""data: x\n\nid: 7\n\n""#, r#""data: x\n\nid: 7\n\n""#),
    ];
    for (said, value, text) in cases {
        let entry = entry(Kind::Text, said.as_bytes());
        let at = entry.unix_millis();
        for (form, data) in [(DataForm::Value, value), (DataForm::Text, text)] {
            let (event, _) = heard(&entry, "epoch.", form);
            let members =
                format!(r#"{{"sequenceNumber":1,"timestamp":{at},"data":{data},"isCritical":false}}"#);
            let expected =
                Dispatched { name: "message".into(), data: members, last_event_id: "epoch.1".into() };
            assert_eq!(event, expected, "{said:?} as {form:?}");
        }
    }
}

#[test]
fn what_is_binary_or_no_utf_8_is_base64() {
    for (kind, said) in [
        (Kind::Binary, &b""[..]),
        (Kind::Binary, b"1"),
        (Kind::Binary, b"text"),
        (Kind::Text, b"\"\xff\""),
        (Kind::Text, b"\xed\xa0\x80"),
    ] {
        for form in [DataForm::Value, DataForm::Text] {
            let entry = entry(kind, said);
            let expected = json!({
                "sequenceNumber": 1, "timestamp": entry.unix_millis(), "isCritical": false,
                "data": STANDARD.encode(said), "encoding": "base64",
            });
            assert_eq!(heard(&entry, "", form).1, expected);
        }
    }
}

#[test]
fn a_text_that_is_nested_too_deep_is_a_string_and_overflows_nothing() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", r#"{"[":"#.repeat(depth), "}".repeat(depth));
    // As deep as may be, and one deeper; brackets beside each other, or in a string, do not count.
    let flat = format!("[{}[]]", "[],".repeat(200));
    let quoted = format!(r#"["{}\"{}"]"#, "[".repeat(200), "{".repeat(200));
    for (said, is_json) in [
        (nested(61), true),
        (nested(62), false),
        (objects(61), true),
        (objects(62), false),
        (flat, true),
        (quoted, true),
        (nested(100_000), false),
        ("[".repeat(100_000), false),
        (r#"{"a":"#.repeat(100_000), false),
    ] {
        let entry = entry(Kind::Text, said.as_bytes());
        let entries = [Arc::clone(&entry)];
        let answer = poll(&entries).to_json(DataForm::Value);
        // As strict as the strictest: its own bound on depth is 128, and it would refuse what is too deep for itself.
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let data = &answer["events"][0]["data"];
        assert_eq!(data.is_string(), !is_json, "{} bytes", said.len());
        if !is_json {
            assert_eq!(data.as_str(), Some(&*said));
        }
    }
}

fn poll(entries: &[Arc<Entry>]) -> PollAnswer<'_> {
    PollAnswer {
        session: None,
        epoch: 255,
        received: None,
        entries,
        next: 2,
        lost: Some(0),
        expires_in: None,
        closed: None,
        is_draining: false,
    }
}

#[test]
fn a_poll_on_a_feed_and_one_on_a_session_are_answered_with_all_their_members() {
    let entries = entries(&[(Kind::Text, b"{\"a\": 1}"), (Kind::Binary, b"\x00")]);
    let at = |place: usize| entries[place].unix_millis();
    let events = json!([
        {"sequenceNumber": 1, "timestamp": at(0), "data": {"a": 1}, "isCritical": false},
        {"sequenceNumber": 2, "timestamp": at(1), "data": "AA==", "encoding": "base64", "isCritical": true},
    ]);
    let value =
        |answer: PollAnswer<'_>| serde_json::from_slice::<Value>(&answer.to_json(DataForm::Value)).unwrap();
    let feed = json!({
        "session": null, "epoch": "00000000000000ff", "received": null, "events": events,
        "nextSequence": "00000000000000ff.2", "lost": 0, "expiresIn": null,
    });
    assert_eq!(value(poll(&entries)), feed);
    let session = PollAnswer {
        session: Some("ticket"),
        received: Some(7),
        lost: None,
        expires_in: Some(Duration::from_millis(30_500)),
        closed: Some((4321, "a \"word\"\n")),
        is_draining: true,
        entries: &[],
        ..poll(&[])
    };
    let expected = json!({
        "session": "ticket", "epoch": "00000000000000ff", "received": 7, "events": [],
        "nextSequence": 2, "lost": null, "expiresIn": 30_500,
        "closed": {"code": 4321, "reason": "a \"word\"\n"}, "draining": true,
    });
    assert_eq!(value(session), expected);
    let replay = ReplayAnswer { epoch: 1, entries: &entries, total: 9, first: 1 };
    let replay: Value = serde_json::from_slice(&replay.to_json(DataForm::Value)).unwrap();
    let expected =
        json!({"epoch": "0000000000000001", "events": events, "totalEvents": 9, "firstSequence": 1});
    assert_eq!(replay, expected);
}

#[test]
fn what_the_proxy_says_has_a_name_and_does_not_move_the_place_where_a_client_goes_on() {
    let mut stream = Vec::new();
    stream::push_retry(&mut stream);
    stream::push_hello("e.", 41, br#"{"v":1}"#, &mut stream);
    stream.extend_from_slice(stream::COMMENT);
    stream::push_message(&entry(Kind::Text, b"one"), "e.", DataForm::Text, &mut stream);
    stream.extend_from_slice(&stream::gap(44, 3));
    stream.extend_from_slice(&stream::last(Some((1000, "done\r\ndata: 1\n\n"))));
    let source = EventSource::read(&stream);
    let told: Vec<_> = source
        .events
        .iter()
        .map(|event| (event.name.as_str(), event.last_event_id.as_str(), event.data.as_str()))
        .filter(|(name, ..)| *name != "message")
        .collect();
    let expected = [
        ("outrigger", "e.41", r#"{"v":1}"#),
        ("outrigger", "e.1", r#"{"at":44,"missed":3}"#),
        ("close", "e.1", r#"{"code":1000,"reason":"done\r\ndata: 1\n\n"}"#),
    ];
    assert_eq!((&told[..], source.events.len(), source.comments), (&expected[..], 4, 1));
    // Who is not closed by the server is told when to come back, and who is turned away also why.
    let (bare, refused) =
        (EventSource::read(&stream::last(None)), EventSource::read(&stream::refusal("polls")));
    for retry in [source.retry, bare.retry, refused.retry] {
        assert!(retry.is_some_and(|retry| (2000..=4000).contains(&retry)), "{retry:?}");
    }
    assert!(bare.events.is_empty());
    assert_eq!((refused.events.len(), &*refused.events[0].data), (1, r#"{"error":"polls"}"#));
    // Two that take each other's place are to do that seldom.
    let replaced = EventSource::read(&stream::replaced());
    assert_eq!((replaced.retry, &*replaced.events[0].data), (Some(60_000), r#"{"error":"replaced"}"#));
}

/// Texts that are made of what could break a line, a string or a value.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[ -~]{0,6}".prop_map(String::from),
        1 => any::<char>().prop_map(String::from),
        4 => proptest::sample::select(vec![
            "\n", "\r", "\r\n", "\n\n", "\0", "\u{2028}", "\u{2029}", "\u{85}", "\u{feff}", "\\", "\"", "data:",
            "\ndata: x", "\nid: 1\n\n", ":", "{", "}", "[", "]", ",", "1", "null", " ", "\t", "\\u", "é",
        ]).prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// JSON with white space wherever it may stand.
fn spaced_json() -> impl Strategy<Value = String> {
    let space = || proptest::sample::select(vec!["", " ", "\n", "\r\n", "\r", "\t\n "]);
    let leaf = prop_oneof![
        nasty().prop_map(|text| Value::from(text).to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        proptest::sample::select(vec!["null", "true", "1.50", "-0", "1e400"]).prop_map(String::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let item = (space(), inner, space()).prop_map(|(a, item, b)| format!("{a}{item}{b}"));
        let pair = (space(), nasty(), item.clone())
            .prop_map(|(a, key, item)| format!("{a}{}:{item}", Value::from(key)));
        prop_oneof![
            proptest::collection::vec(item, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec(pair, 0..4).prop_map(|pairs| format!("{{{}}}", pairs.join(","))),
        ]
    })
}

/// Whatever the text is, it makes one event, which is no longer than was promised, and can be had again.
fn check_text(said: &str) {
    let entry = entry(Kind::Text, said.as_bytes());
    for form in [DataForm::Value, DataForm::Text] {
        let (event, json) = heard(&entry, "0123456789abcdef.", form);
        assert_eq!((&*event.name, &*event.last_event_id), ("message", "0123456789abcdef.1"));
        assert!(event.data.len() + 64 <= max_len(&entry), "{} of {}", event.data.len(), max_len(&entry));
        assert!(!event.data.contains(['\n', '\r']));
        let data = &json["data"];
        match (form, serde_json::from_str::<Value>(said)) {
            (DataForm::Value, Ok(value)) => assert_eq!(*data, value, "{said:?}"),
            // As JavaScript has it, but too large for a number here.
            (DataForm::Value, Err(error)) if error.to_string().starts_with("number out of range") => {}
            _ => assert_eq!(data.as_str(), Some(said), "{form:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_one_event_and_can_be_had_again(said in nasty()) {
        check_text(&said);
    }

    #[test]
    fn json_stays_what_it_is_however_it_is_spaced(said in spaced_json()) {
        // A number beyond what is read here would make the whole event unreadable here, though not to others.
        if !said.contains("1e400") {
            check_text(&said);
        }
    }

    #[test]
    fn any_bytes_are_one_event_and_can_be_had_again(
        said in proptest::collection::vec(any::<u8>(), 0..64),
        is_text: bool,
        form in proptest::sample::select(vec![DataForm::Value, DataForm::Text]),
    ) {
        let entry = entry(if is_text { Kind::Text } else { Kind::Binary }, &said);
        let (event, json) = heard(&entry, "", form);
        prop_assert!(event.data.len() + 64 <= max_len(&entry));
        if json.get("encoding").is_some() {
            prop_assert_eq!(STANDARD.decode(json["data"].as_str().unwrap()).unwrap(), said);
        } else {
            let text = std::str::from_utf8(&said);
            prop_assert!(is_text && text.is_ok());
            check_text(text.unwrap());
        }
    }
}
