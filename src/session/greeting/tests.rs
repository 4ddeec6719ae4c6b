use proptest::prelude::*;

use super::*;
use crate::config::{GreetingRule, Match, MessageKey, Pointer};

fn at(pointer: &str, values: &[&str]) -> Option<Match> {
    Some(Match::Pointer {
        pointer: Pointer { tokens: pointer.split('/').skip(1).map(String::from).collect() },
        values: values.iter().map(|value| (*value).to_string()).collect(),
    })
}

fn regex(expression: &str) -> Option<Match> {
    Some(Match::Regex(expression.to_string()))
}

fn key(pointer: &str) -> Option<MessageKey> {
    let tokens = pointer.split('/').skip(1).map(String::from).collect();
    Some(MessageKey::Pointer(Pointer { tokens }))
}

const NOTHING: GreetingRule = GreetingRule { said: None, reply: None, key: None, forget: None, keep: 64 };

fn greetings(rules: &[GreetingRule]) -> Greetings {
    Greetings::new(Arc::new(Rules::new(rules)), 1 << 20)
}

/// As for graphql-ws.
fn graphql() -> Greetings {
    greetings(&[
        GreetingRule {
            said: at("/type", &["connection_init"]),
            reply: at("/type", &["connection_ack"]),
            ..NOTHING
        },
        GreetingRule {
            said: at("/type", &["subscribe"]),
            key: key("/id"),
            forget: at("/type", &["complete", "error"]),
            ..NOTHING
        },
    ])
}

const INIT: &str = r#"{"type":"connection_init"}"#;
const ACK: &str = r#"{"type":"connection_ack"}"#;

fn subscribe(id: &str) -> String {
    format!(r#"{{"type":"subscribe","id":"{id}"}}"#)
}

fn complete(id: &str) -> String {
    format!(r#"{{"id":"{id}","type":"complete"}}"#)
}

/// The client says these, as its first messages.
fn say(greetings: &mut Greetings, messages: &[&str]) -> u64 {
    (1..)
        .zip(messages)
        .map(|(number, text)| greetings.on_client_message(number, Kind::Text, text.as_bytes()))
        .sum()
}

/// What a server that answers nothing is told, with `…` where something is awaited.
fn told(greetings: &mut Greetings) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        match greetings.next() {
            Step::Say { payload, .. } => told.push(String::from_utf8(payload.to_vec()).unwrap()),
            Step::Await => {
                told.push("…".to_string());
                return told;
            }
            Step::Done => return told,
        }
        greetings.on_said();
    }
}

/// What a new server is told that is asked for nothing.
fn kept(greetings: &mut Greetings) -> Vec<String> {
    greetings.begin();
    told(greetings)
}

#[test]
fn what_the_rules_name_is_said_again_in_order_and_nothing_else() {
    let mut greetings = graphql();
    let (a, b) = (subscribe("a"), subscribe("b"));
    assert_eq!(say(&mut greetings, &[INIT, &a, r#"{"type":"ping"}"#, &b, "no JSON"]), 0);
    greetings.begin();
    assert_eq!(told(&mut greetings), [INIT, "…"]);
    assert!(!greetings.takes(Kind::Text, br#"{"type":"next"}"#), "it is the client's");
    assert_eq!(greetings.next(), Step::Await);
    assert!(!greetings.takes(Kind::Binary, ACK.as_bytes()));
    assert!(greetings.takes(Kind::Text, ACK.as_bytes()));
    assert!(!greetings.takes(Kind::Text, ACK.as_bytes()), "once for each time that it is awaited");
    assert_eq!(told(&mut greetings), [a, b]);
    assert_eq!(greetings.next(), Step::Done);
    assert!(!greetings.takes(Kind::Text, ACK.as_bytes()));
}

#[test]
fn a_greeting_that_was_cut_begins_anew() {
    let mut greetings = graphql();
    let a = subscribe("a");
    say(&mut greetings, &[INIT, &a]);
    for _ in 0..3 {
        greetings.begin();
        assert_eq!(told(&mut greetings), [INIT, "…"]);
    }
    assert!(greetings.takes(Kind::Text, ACK.as_bytes()));
    assert_eq!(told(&mut greetings), [a]);
    greetings.begin();
    assert_eq!(told(&mut greetings), [INIT, "…"], "every server is asked");
}

#[test]
fn nobody_is_greeted_where_nothing_was_kept() {
    let mut greetings = graphql();
    assert_eq!(greetings.next(), Step::Done);
    assert!(!greetings.takes(Kind::Text, ACK.as_bytes()), "the first server's is the client's");
    assert_eq!(kept(&mut greetings), [""; 0]);
    assert!(Rules::new(&[]).is_empty() && !Rules::new(&[NOTHING]).is_empty());
}

#[test]
fn what_is_over_is_forgotten_whoever_says_so() {
    let (a, b) = (subscribe("a"), subscribe("b"));
    let cases: [(&str, &[&str]); 7] = [
        (r#"{"type":"complete","id":"a"}"#, &[&b]),
        (r#"{"type":"error","id":"b"}"#, &[&a]),
        (r#"{"type":"complete","id":"c"}"#, &[&a, &b]),
        (r#"{"type":"complete"}"#, &[&a, &b]),
        (r#"{"type":"next","id":"a"}"#, &[&a, &b]),
        (r#"{"type":"complete","id":"a"} "#, &[&b]),
        (r#"{"type":"complete","id":"a""#, &[&a, &b]),
    ];
    for (message, left) in cases {
        for by_server in [false, true] {
            let mut greetings = graphql();
            assert!(greetings.wants_server_messages());
            say(&mut greetings, &[&a, &b]);
            if by_server {
                greetings.on_server_message(Kind::Text, message.as_bytes());
            } else {
                assert_eq!(greetings.on_client_message(3, Kind::Text, message.as_bytes()), 0);
            }
            assert_eq!(kept(&mut greetings), left, "{message}");
        }
    }
    assert!(!greetings_of_first(3).wants_server_messages());
}

fn greetings_of_first(messages: u64) -> Greetings {
    greetings(&[GreetingRule { said: Some(Match::First(messages)), ..NOTHING }])
}

#[test]
fn something_may_be_over_while_the_server_is_being_greeted() {
    let mut greetings = graphql();
    let (a, b) = (subscribe("a"), subscribe("b"));
    say(&mut greetings, &[INIT, &a, &b]);
    greetings.begin();
    assert_eq!(told(&mut greetings), [INIT, "…"]);
    greetings.on_server_message(Kind::Text, complete("a").as_bytes());
    assert!(greetings.takes(Kind::Text, ACK.as_bytes()));
    assert_eq!(told(&mut greetings), [b]);
}

#[test]
fn the_newest_version_takes_the_place_of_the_one_before() {
    let mut greetings = greetings(&[
        GreetingRule { said: regex("^AUTH "), key: Some(MessageKey::Capture("^(AUTH) ".into())), ..NOTHING },
        GreetingRule { said: regex("^JOIN "), ..NOTHING },
    ]);
    say(&mut greetings, &["AUTH 1", "JOIN a", "JOIN b", "AUTH 2", "JOIN a"]);
    assert_eq!(kept(&mut greetings), ["AUTH 2", "JOIN a", "JOIN b"]);
    // Said once more to a later server, the older one does not come back.
    greetings.on_client_message(1, Kind::Text, b"AUTH 1");
    assert_eq!(kept(&mut greetings), ["AUTH 2", "JOIN a", "JOIN b"]);
    for (number, text, is_kept) in [
        (1, "AUTH 1", true),
        (4, "AUTH 2", true),
        (6, "AUTH 3", false),
        (2, "JOIN a", true),
        (5, "JOIN a", true),
        (6, "JOIN a", false),
        (3, "JOIN c", false),
        (3, "SAY b", false),
    ] {
        assert_eq!(greetings.is_kept(number, Kind::Text, text.as_bytes()), is_kept, "{number} {text}");
    }
    let mut numbers: Vec<u64> = greetings.numbers().collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [3, 4, 5]);
}

#[test]
fn without_a_key_the_whole_message_is_one() {
    let mut greetings = greetings_of_first(4);
    say(&mut greetings, &["a", "b", "a", "c", "d"]);
    assert_eq!(kept(&mut greetings), ["a", "b", "c"]);
    assert_eq!(greetings.on_client_message(3, Kind::Binary, b"c"), 0);
    assert_eq!(kept(&mut greetings), ["a", "b", "c", "c"], "bytes are not the text");
}

#[test]
fn a_message_without_anything_at_the_key_is_told_apart_by_all_of_it() {
    let mut greetings = greetings(&[GreetingRule { said: regex("."), key: key("/id"), ..NOTHING }]);
    say(&mut greetings, &["x", r#"{"id":7}"#, "y", r#"{"id":"7","v":2}"#, "x", "7"]);
    assert_eq!(kept(&mut greetings), ["x", r#"{"id":"7","v":2}"#, "y", "7"]);
}

#[test]
fn the_first_rule_that_matches_has_the_message() {
    let mut greetings = greetings(&[
        GreetingRule { said: Some(Match::First(1)), keep: 1, ..NOTHING },
        GreetingRule { said: regex("a"), keep: 1, ..NOTHING },
    ]);
    assert_eq!(say(&mut greetings, &["a1", "a2", "a3"]), 1);
    assert_eq!(kept(&mut greetings), ["a1", "a3"]);
}

#[test]
fn a_reply_has_to_be_about_what_was_said() {
    let rule = GreetingRule {
        said: at("/op", &["join"]),
        reply: at("/op", &["joined", "failed"]),
        key: key("/room"),
        forget: at("/op", &["failed"]),
        ..NOTHING
    };
    let join = |room: &str| format!(r#"{{"op":"join","room":"{room}"}}"#);
    let (a, b) = (join("a"), join("b"));
    for (reply, takes) in [
        (r#"{"op":"joined","room":"a"}"#, true),
        (r#"{"op":"joined","room":"b"}"#, false),
        (r#"{"op":"joined"}"#, true),
        (r#"{"op":"said","room":"a"}"#, false),
        (r#"{"room":"a"}"#, false),
        ("joined", false),
    ] {
        let mut greetings = greetings(std::slice::from_ref(&rule));
        say(&mut greetings, &[&a, &b]);
        greetings.begin();
        assert_eq!(told(&mut greetings), [&*a, "…"]);
        assert_eq!(greetings.takes(Kind::Text, reply.as_bytes()), takes, "{reply}");
        let then = if takes { vec![&*b, "…"] } else { vec!["…"] };
        assert_eq!(told(&mut greetings), then, "{reply}");
    }
    // A reply that says that it is over is as good as any message.
    let mut greetings = greetings(&[rule]);
    say(&mut greetings, &[&a, &b]);
    greetings.begin();
    told(&mut greetings);
    assert!(greetings.takes(Kind::Text, br#"{"op":"failed","room":"a"}"#));
    assert_eq!(kept(&mut greetings), [&*b, "…"]);
}

#[test]
fn a_server_that_speaks_first_is_listened_to_before_the_rules_behind_it() {
    let rules = [
        GreetingRule { reply: regex("^INFO"), ..NOTHING },
        GreetingRule { said: regex("^CONNECT"), ..NOTHING },
        GreetingRule { reply: regex("^READY"), ..NOTHING },
        GreetingRule { said: regex("^SUB"), ..NOTHING },
    ];
    let mut greetings = greetings(&rules);
    assert!(!greetings.takes(Kind::Text, b"INFO {}"), "the first server's is the client's");
    greetings.begin();
    assert_eq!(told(&mut greetings), ["…"], "also where nothing is to be said");
    assert!(greetings.takes(Kind::Text, b"INFO {}") && greetings.takes(Kind::Text, b"READY"));
    assert_eq!(greetings.next(), Step::Done);

    say(&mut greetings, &["CONNECT", "SUB a"]);
    greetings.begin();
    assert_eq!(told(&mut greetings), ["…"]);
    assert!(!greetings.takes(Kind::Text, b"PING"));
    assert!(greetings.takes(Kind::Text, b"INFO {}"));
    assert!(!greetings.takes(Kind::Text, b"INFO {}"), "the second one is news");
    assert_eq!(told(&mut greetings), ["CONNECT", "…"]);
    assert!(greetings.takes(Kind::Text, b"READY"));
    assert_eq!(told(&mut greetings), ["SUB a"]);

    // It may also say everything before it is told anything.
    greetings.begin();
    assert!(greetings.takes(Kind::Text, b"READY") && greetings.takes(Kind::Text, b"INFO {}"));
    assert_eq!(told(&mut greetings), ["CONNECT", "SUB a"]);
}

#[test]
fn a_flood_costs_its_client_the_oldest_and_nothing_else() {
    let rule = |expression: &str, keep| GreetingRule { said: regex(expression), keep, ..NOTHING };
    let mut greetings = greetings(&[rule("^a", 2), rule("^b", 2)]);
    let flood: Vec<String> = (0..1000).map(|n| format!("b{n:03}")).collect();
    say(&mut greetings, &["a1", "a2"]);
    let given_up: u64 =
        (3..).zip(&flood).map(|(n, text)| greetings.on_client_message(n, Kind::Text, text.as_bytes())).sum();
    assert_eq!(given_up, 998, "each beyond `keep`");
    assert_eq!(kept(&mut greetings), ["a1", "a2", "b998", "b999"]);
}

#[test]
fn bytes_are_bounded_over_all_rules_keys_included() {
    let rule = GreetingRule {
        said: regex("^x"),
        key: Some(MessageKey::Capture("^x(.*)".into())),
        keep: 4096,
        ..NOTHING
    };
    let mut greetings = Greetings::new(Arc::new(Rules::new(&[rule])), 10_000);
    let mut given_up = 0;
    for number in 1..=5000 {
        let text = format!("x{number:0100}");
        given_up += greetings.on_client_message(number, Kind::Text, text.as_bytes());
        assert!(greetings.held() <= 10_000);
    }
    let left = greetings.numbers().count() as u64;
    assert_eq!((given_up + left, left * 201 <= 10_000), (5000, true));
    assert_eq!(greetings.numbers().max(), Some(5000));
    // What alone is too much leaves the others, but not an older version of itself.
    let huge = format!("x{}", "y".repeat(10_000));
    assert_eq!(greetings.on_client_message(5001, Kind::Text, huge.as_bytes()), 1);
    assert_eq!(greetings.numbers().count() as u64, left);
    // One that is nearly as much takes the place of all.
    let large = format!("x{}", "y".repeat(4_900));
    assert_eq!(greetings.on_client_message(5002, Kind::Text, large.as_bytes()), left);
    assert_eq!(greetings.numbers().collect::<Vec<_>>(), [5002]);
}

#[test]
fn an_older_version_goes_where_the_newer_one_is_too_large() {
    let rule = GreetingRule { said: regex("^x"), key: Some(MessageKey::Capture("^(x)".into())), ..NOTHING };
    let mut greetings = Greetings::new(Arc::new(Rules::new(&[rule])), 1000);
    say(&mut greetings, &["x1"]);
    assert_eq!(greetings.on_client_message(2, Kind::Text, &[b'x'; 1001]), 1);
    assert_eq!((kept(&mut greetings).len(), greetings.held()), (0, 0));
}

#[derive(Debug, Clone)]
enum Event {
    /// The client says this about that.
    Subscribes(u8, u8),
    Completes(u8),
    ServerCompletes(u8),
    /// The message with this number is said once more.
    SaysAgain(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (0..12_u8, 0..4_u8).prop_map(|(id, version)| Event::Subscribes(id, version)),
        1 => (0..12_u8).prop_map(Event::Completes),
        1 => (0..12_u8).prop_map(Event::ServerCompletes),
        1 => (0..60_usize).prop_map(Event::SaysAgain),
    ]
}

proptest! {
    #[test]
    fn the_store_does_what_a_list_does(events in prop::collection::vec(event(), 0..80), keep in 1..8_usize) {
        let rule = GreetingRule {
            said: at("/type", &["subscribe"]),
            key: key("/id"),
            forget: at("/type", &["complete"]),
            keep,
            ..NOTHING
        };
        let mut greetings = greetings(&[rule]);
        let mut said: Vec<(u8, String)> = Vec::new();
        // Of each that is kept: the place, the number, the id.
        let mut model: Vec<(u64, u64, u8)> = Vec::new();
        let mut given_up = (0, 0);
        for event in events {
            let number = match event {
                Event::Subscribes(id, version) => {
                    said.push((id, format!(r#"{{"type":"subscribe","id":{id},"v":{version}}}"#)));
                    said.len()
                }
                Event::SaysAgain(number) if (1..=said.len()).contains(&number) => number,
                Event::SaysAgain(_) => continue,
                Event::Completes(id) => {
                    said.push((id, format!(r#"{{"type":"complete","id":"{id}"}}"#)));
                    said.len()
                }
                Event::ServerCompletes(id) => {
                    greetings.on_server_message(Kind::Text, complete(&id.to_string()).as_bytes());
                    model.retain(|kept| kept.2 != id);
                    continue;
                }
            };
            let (id, text) = &said[number - 1];
            let number = number as u64;
            given_up.0 += greetings.on_client_message(number, Kind::Text, text.as_bytes());
            if text.contains("complete") {
                model.retain(|kept| kept.2 != *id);
            } else if let Some(kept) = model.iter_mut().find(|kept| kept.2 == *id) {
                kept.1 = kept.1.max(number);
            } else {
                if model.len() == keep {
                    model.remove(0);
                    given_up.1 += 1;
                }
                model.push((number, number, *id));
                model.sort_unstable();
            }
            prop_assert_eq!(given_up.0, given_up.1);
            let expected: Vec<String> = model.iter().map(|kept| said[kept.1 as usize - 1].1.clone()).collect();
            prop_assert_eq!(kept(&mut greetings), expected);
            prop_assert_eq!(greetings.held() == 0, model.is_empty());
        }
    }

    #[test]
    fn any_bytes_from_either_side_are_harmless(messages in prop::collection::vec((any::<bool>(), any::<Vec<u8>>()), 0..20)) {
        let mut greetings = graphql();
        for (number, (is_text, payload)) in (1..).zip(&messages) {
            let kind = if *is_text { Kind::Text } else { Kind::Binary };
            greetings.on_client_message(number, kind, payload);
            greetings.on_server_message(kind, payload);
            greetings.begin();
            prop_assert!(!greetings.takes(kind, payload));
        }
    }
}
