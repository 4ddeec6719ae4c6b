//! Mode `session`: what its settings come to, and what a route of that mode may not inherit.

use super::*;

fn session(yaml: &str) -> Session {
    let config = Config::from_yaml(&format!("policy: {{ session: {yaml} }}"));
    config.unwrap_or_else(|errors| panic!("{yaml}: {errors}")).routes[0].policy.session.clone()
}

fn pointer(tokens: &[&str]) -> Pointer {
    Pointer { tokens: tokens.iter().map(|&token| token.to_owned()).collect() }
}

fn kind_of(values: &[&str]) -> Match {
    Match::Pointer {
        pointer: pointer(&["type"]),
        values: values.iter().map(|&value| value.to_owned()).collect(),
    }
}

const RULE: GreetingRule = GreetingRule { said: None, reply: None, key: None, forget: None, keep: 64 };

#[test]
fn the_defaults_are_those_of_the_document() {
    let expected = Session {
        resume_window: Some(Duration::from_secs(30)),
        max_detached: 1000,
        receipts: true,
        greeting: Vec::new(),
        queue: SessionQueue {
            messages: 100,
            bytes: 1 << 20,
            age: Duration::from_secs(60),
            replay: Replay::Unsent,
            skip: None,
        },
        token_keys: None,
    };
    assert_eq!(session("{}"), expected);
    assert_eq!(session("{ greeting: [] }"), expected);
    let routes = Config::from_yaml("routes: [{ path: /a, mode: session }]").unwrap().routes;
    assert_eq!(routes.iter().map(|route| route.mode).collect::<Vec<_>>(), [Mode::Session, Mode::Tunnel]);
    assert!(!routes[0].policy.notices, "nobody is told by a text of ours who has not asked for it");
    assert!(routes[0].policy.control_rate.in_feeds().is_some());
}

#[test]
fn a_greeting_is_a_list_of_rules_or_what_the_only_one_matches() {
    for (written, expected) in [
        ("{ first: 2 }", GreetingRule { said: Some(Match::First(2)), ..RULE }),
        ("[{ match: { first: 2 } }]", GreetingRule { said: Some(Match::First(2)), ..RULE }),
        ("{ pointer: /type, values: join }", GreetingRule { said: Some(kind_of(&["join"])), ..RULE }),
        (
            "[{ reply: { pointer: /type, values: [welcome] } }]",
            GreetingRule { reply: Some(kind_of(&["welcome"])), ..RULE },
        ),
        (
            "[{ match: { pointer: /type, values: [subscribe] }, key: /id, forget: { pointer: /type, values: \
             [complete, error] }, keep: 9 }]",
            GreetingRule {
                said: Some(kind_of(&["subscribe"])),
                key: Some(MessageKey::Pointer(pointer(&["id"]))),
                forget: Some(kind_of(&["complete", "error"])),
                keep: 9,
                ..RULE
            },
        ),
        (
            r"[{ match: { regex: '^SUBSCRIBE\n' }, key: { regex: '\nid:(\S+)' } }]",
            GreetingRule {
                said: Some(Match::Regex(r"^SUBSCRIBE\n".into())),
                key: Some(MessageKey::Capture(r"\nid:(\S+)".into())),
                ..RULE
            },
        ),
    ] {
        assert_eq!(session(&format!("{{ greeting: {written} }}")).greeting, [expected], "{written}");
    }
    let env = [("OUTRIGGER__POLICY__SESSION__GREETING", "[{match: {first: 1}}, {reply: {regex: INFO}}]")];
    assert_eq!(load(from_env(&env)).unwrap().routes[0].policy.session.greeting.len(), 2);
}

#[test]
fn a_greeting_has_up_to_64_rules() {
    let rules =
        |count: usize| format!("{{ greeting: [{}] }}", vec!["{ match: { first: 1 } }"; count].join(", "));
    assert_eq!(session(&rules(64)).greeting.len(), 64);
    let told = told(Config::from_yaml(&format!("policy: {{ session: {} }}", rules(65))));
    assert!(told.contains("65 rules") && told.contains("at most 64"), "{told}");
}

#[test]
fn keys_of_tickets_are_read_with_the_configuration_and_make_it_another_one() {
    let files = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/files");
    let keys = session(&format!("{{ token_key_file: '{files}/token_keys' }}")).token_keys.unwrap();
    assert_eq!(keys.all().map(<[u8]>::len).collect::<Vec<_>>(), [32, 40]);
    assert_eq!(keys.signing(), Vec::from_iter(0..32));

    let path = std::env::temp_dir().join(format!("outrigger-token-keys-{}", std::process::id()));
    let file = path.display().to_string();
    let load = |contents: &str| {
        std::fs::write(&path, contents).unwrap();
        let Loaded { config, files, .. } =
            read(&from_env(&[("OUTRIGGER__POLICY__SESSION__TOKEN_KEY_FILE", &file)]));
        assert_eq!(files, std::slice::from_ref(&path), "it is watched");
        config.unwrap()
    };
    let (one, two) = ("A".repeat(43), "B".repeat(44));
    assert_eq!(load(&one), load(&format!("# the same\n{one}=\n")));
    assert_ne!(load(&one), load(&two));
    assert_ne!(load(&one), load(&format!("{one}\n{two}")));
    assert!(!format!("{:?}", load(&one)).contains("[0, 0"), "keys are not shown");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn what_a_session_would_inherit_and_may_not_is_told_at_its_mode() {
    for (top, own, told_at) in [
        ("delivery: { throttle: { key: /a } }", "{}", Some("routes[0].mode")),
        ("delivery: { throttle: { key: /a } }", "{ delivery: { throttle: null } }", None),
        (
            "delivery: { cool_down: 9s, max_trips: 9, resume_from: latest, channel_breaker: { min_clients: 9 } }",
            "{}",
            None,
        ),
        ("delivery: { on_stall: backpressure }", "{}", None),
        ("history: { age: 29s }", "{}", Some("routes[0].mode")),
        ("history: { age: 29s }", "{ session: { resume_window: 0s } }", None),
        (
            "history: { age: 29s }",
            "{ session: { resume_window: 31s } }",
            Some("routes[0].policy.session.resume_window"),
        ),
        ("session: { resume_window: 2h }", "{ history: { age: 1h } }", Some("routes[0].policy.history.age")),
        ("session: { resume_window: 2h }", "{ history: { age: 2h } }", None),
    ] {
        let yaml = format!("policy: {{ {top} }}\nroutes: [{{ path: /a, mode: session, policy: {own} }}]");
        match (Config::from_yaml(&yaml), told_at) {
            (Ok(_), None) => {}
            (Ok(_), Some(at)) => panic!("{yaml}: accepted, and {at} is wrong"),
            (Err(errors), at) => {
                let told: Vec<String> = errors.iter().map(|error| error.to_string()).collect();
                let is_there =
                    at.is_some_and(|at| told.len() == 1 && told[0].lines().next().unwrap().ends_with(at));
                assert!(is_there, "{yaml}: {told:?}");
            }
        }
        // None of it is wrong anywhere else.
        let tunnel = yaml.replace("mode: session", "mode: tunnel");
        assert!(Config::from_yaml(&tunnel).is_ok(), "{tunnel}");
    }
}
