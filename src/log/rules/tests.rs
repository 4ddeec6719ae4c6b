use proptest::prelude::*;
use serde_json::Value;

use super::{Matcher, key_at};
use crate::config::{Match, Pointer};
use crate::frame::Kind::{Binary, Text};

fn pointer(tokens: &[&str]) -> Pointer {
    Pointer { tokens: tokens.iter().map(|&token| token.to_owned()).collect() }
}

fn text_at(tokens: &[&str], message: &str) -> Option<String> {
    key_at(&pointer(tokens), Text, message.as_bytes()).map(|text| text.as_ref().to_owned())
}

#[test]
fn a_pointer_finds_what_stands_there_and_nothing_else() {
    const CASES: &[(&[&str], &str, Option<&str>)] = &[
        (&["type"], r#"{"type":"GRAFT","n":1}"#, Some("GRAFT")),
        (&["type"], r#" { "n" : [1,{"type":"no"}] , "type" : "PRUNE" } "#, Some("PRUNE")),
        (&["type"], r#"{"n":1}"#, None),
        (&["type"], r#"{"Type":"GRAFT"}"#, None),
        (&["a", "b"], r#"{"b":"no","a":{"b":"yes"},"c":{"b":"no"}}"#, Some("yes")),
        (&["a", "b"], r#"{"a":"b"}"#, None),
        (&["a", "b"], r#"{"a":null}"#, None),
        (&["a", "b"], r#"{"a":true}"#, None),
        (&["a", "b"], r#"{"a":-1}"#, None),
        (&["a", "b"], r#"{"a":1.5}"#, None),
        (&["a", "b"], r#"{"a":7}"#, None),
        // Values that are no strings, as they are written.
        (&["n"], r#"{"n":1}"#, Some("1")),
        (&["n"], r#"{"n":1.50}"#, Some("1.50")),
        (&["n"], r#"{"n":123456789012345678901234567890}"#, Some("123456789012345678901234567890")),
        (&["n"], r#"{"n":true}"#, Some("true")),
        (&["n"], r#"{"n":null}"#, Some("null")),
        (&["n"], r#"{"n": {"a": [1, 2]} }"#, Some(r#"{"a": [1, 2]}"#)),
        // Escapes, in keys and in values.
        (&["t"], r#"{"t":"a\"bü\n"}"#, Some("a\"bü\n")),
        (&["ty"], r#"{"\u0074y":"x"}"#, Some("x")),
        (&["t"], r#"{"t":""}"#, Some("")),
        (&["t"], r#"{"t":"\ud800"}"#, None),
        (&["a/b~"], r#"{"a/b~":1}"#, Some("1")),
        (&[""], r#"{"":"empty"}"#, Some("empty")),
        // Arrays.
        (&["1"], r#"["a","b","c"]"#, Some("b")),
        (&["0", "k"], r#"[{"k":"v"},2]"#, Some("v")),
        (&["3"], r#"["a","b","c"]"#, None),
        (&["-"], r#"["a"]"#, None),
        (&["01"], r#"["a","b"]"#, None),
        (&["+1"], r#"["a","b"]"#, None),
        (&[""], r#"["a"]"#, None),
        (&["99999999999999999999999"], r#"["a"]"#, None),
        (&["1"], r#"{"1":"key"}"#, Some("key")),
        // The whole message.
        (&[], r#" "hello" "#, Some("hello")),
        (&[], "17", Some("17")),
        // The last of two counts, also where there is nothing under it.
        (&["a"], r#"{"a":1,"a":2}"#, Some("2")),
        (&["a", "b"], r#"{"a":{"b":1},"a":{}}"#, None),
        // No JSON, also behind the place.
        (&["a"], r#"{"a":1"#, None),
        (&["a"], r#"{"a":1}}"#, None),
        (&["a"], r#"{"a":1} {"a":2}"#, None),
        (&["a"], r#"{"a":1,}"#, None),
        (&["0"], r#"[1,"#, None),
        (&["5"], r#"[1,"#, None),
        (&["a"], "", None),
        (&["a"], "hello", None),
        (&[], "", None),
    ];
    for &(tokens, message, expected) in CASES {
        assert_eq!(text_at(tokens, message).as_deref(), expected, "{tokens:?} in {message}");
    }
}

#[test]
fn only_texts_have_keys() {
    let message = br#"{"type":"GRAFT"}"#;
    assert!(key_at(&pointer(&["type"]), Text, message).is_some());
    assert!(key_at(&pointer(&["type"]), Binary, message).is_none());
    assert!(key_at(&pointer(&["type"]), Text, b"{\"type\":\"\xff\"}").is_none());
}

#[test]
fn a_message_nested_a_hundred_thousand_deep_does_not_exhaust_the_stack() {
    let deep = |open: &str, close: &str| open.repeat(100_000) + "1" + &close.repeat(100_000);
    let arrays = deep("[", "]");
    let objects = deep(r#"{"a":"#, "}");
    let all_tokens = vec!["a"; 100_000];
    let all_zeros = vec!["0"; 100_000];
    for message in [&arrays, &objects, &"[".repeat(100_000), &r#"{"a":"#.repeat(100_000)] {
        for tokens in [&["a"][..], &["0"], &["0", "0"], &["a", "a", "b"], &[], &all_tokens, &all_zeros] {
            let _ = text_at(tokens, message);
        }
        // Beside the way, and behind it.
        assert_eq!(
            text_at(&["t"], &format!(r#"{{"x":{message},"t":1}}"#)).is_some(),
            message.ends_with(['}', ']'])
        );
        assert_eq!(
            text_at(&["t"], &format!(r#"{{"t":1,"x":{message}}}"#)).is_some(),
            message.ends_with(['}', ']'])
        );
    }
    assert_eq!(text_at(&["a"], &objects).map(|text| text.len()), Some(objects.len() - 6));
}

#[test]
fn a_rule_means_the_messages_it_says() {
    let types = Match::Pointer {
        pointer: pointer(&["type"]),
        values: vec!["GRAFT".to_owned(), "7".to_owned(), "true".to_owned()],
    };
    let expression = Match::Regex("^ping|(?i)ÄRGER".to_owned());
    let cases = [
        (&types, Text, r#"{"type":"GRAFT"}"#, true),
        (&types, Text, r#"{"type":"GRAF"}"#, false),
        (&types, Text, r#"{"type":7}"#, true),
        (&types, Text, r#"{"type":7.0}"#, false),
        (&types, Text, r#"{"type":true}"#, true),
        (&types, Text, r#"{"type":["GRAFT"]}"#, false),
        (&types, Text, "GRAFT", false),
        (&types, Binary, r#"{"type":"GRAFT"}"#, false),
        (&expression, Text, "ping pong", true),
        (&expression, Text, "a ping", false),
        (&expression, Text, "viel ärger", true),
        (&expression, Binary, "ping", false),
    ];
    for (rule, kind, message, is_meant) in cases {
        assert_eq!(Matcher::new(rule).matches(kind, message.as_bytes(), 1), is_meant, "{rule:?}: {message}");
    }
    assert!(!Matcher::new(&expression).matches(Text, b"ping \xff", 1), "no text at all");
}

#[test]
fn the_first_messages_are_meant_whatever_they_are() {
    let matcher = Matcher::new(&Match::First(2));
    for (number, is_meant) in [(0, false), (1, true), (2, true), (3, false), (u64::MAX, false)] {
        assert_eq!(matcher.matches(Text, b"x", number), is_meant, "{number}");
        assert_eq!(matcher.matches(Binary, b"\xff", number), is_meant, "{number}");
    }
}

#[test]
fn an_expression_that_does_not_compile_means_nothing() {
    assert!(!Matcher::new(&Match::Regex("(".to_owned())).matches(Text, b"(", 1));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(payload in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = key_at(&pointer(&["a", "0"]), Text, &payload);
    }

    #[test]
    fn it_finds_what_a_whole_parse_finds(
        value in json(),
        tokens in prop::collection::vec("[ab01]", 0..4),
        is_pretty: bool,
        cut in 0_usize..1000,
    ) {
        let at = tokens.iter().map(|token| format!("/{token}")).collect::<String>();
        let pointer = Pointer { tokens };
        let to_string = if is_pretty { serde_json::to_string_pretty } else { serde_json::to_string };
        let message = to_string(&value).unwrap();
        let found = key_at(&pointer, Text, message.as_bytes());
        match value.pointer(&at) {
            Some(Value::String(text)) => prop_assert_eq!(found.as_deref(), Some(&**text)),
            Some(value) => prop_assert_eq!(&serde_json::from_str::<Value>(&found.unwrap()).unwrap(), value),
            None => prop_assert_eq!(found, None),
        }
        if message.starts_with(['{', '[', '"']) {
            let part = &message.as_bytes()[..cut % message.len()];
            prop_assert_eq!(key_at(&pointer, Text, part), None, "cut short");
        }
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[ab01]", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}
