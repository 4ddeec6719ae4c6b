//! YAML that is refused, and text that is anything at all.

use proptest::prelude::*;

use super::*;

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for (yaml, words) in [
        ("log: {}\nlog: {}", "inline:2:1: log\n  this key is given twice; first at inline:1:1"),
        ("log: { level: info, level: debug }", "inline:1:21: log.level\n  this key is given twice"),
        ("log: !!map {}", "tags"),
        ("log: { level: !!str info }", "tags"),
        ("log: { <<: info }", "inline:1:8: log\n  << takes a map"),
        ("log: { <<: [{}, info] }", "<< takes a map"),
        ("log: { <<: {}, <<: {} }", "inline:1:16: log\n  a second <<"),
        ("log: {}\n---\nlog: {}", "a second YAML document"),
        ("? [a]\n: b", "a list or map as a key"),
        ("~: b", "an empty key"),
        ("log: *nothing", "not valid YAML"),
        ("log: &a [*a]", "an alias inside of what it repeats"),
        ("log: {", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
        ("log:\n\t- x", "not valid YAML"),
        ("- a", "found:    a list"),
        ("word", "found:    a word"),
    ] {
        let told = told(Config::from_yaml(yaml));
        assert!(told.contains(words), "{yaml:?}: {told}");
    }
}

#[test]
fn an_alias_stands_for_what_it_repeats() {
    let config =
        Config::from_yaml("policy: { heartbeat: &beat { interval: 5s } }\nupstream: { heartbeat: *beat }");
    let upstream = config.unwrap().routes[0].upstream.heartbeat;
    assert_eq!(upstream.in_tunnels().map(|heartbeat| heartbeat.interval), Some(Duration::from_secs(5)));
}

#[test]
fn a_merge_key_brings_what_its_map_does_not_set_itself() {
    for (yaml, interval, timeout) in [
        ("{ <<: *a }", 1, 2),
        ("{ <<: *a, timeout: 9s }", 1, 9),
        ("{ timeout: 9s, <<: *a }", 1, 9),
        ("{ <<: [*b, *a] }", 1, 5),
        ("{ <<: [*a, *b] }", 1, 2),
        ("{ <<: { <<: *b, interval: 7s } }", 7, 5),
    ] {
        let text = format!(
            "x-a: &a {{ interval: 1s, timeout: 2s }}\nx-b: &b {{ timeout: 5s }}\npolicy: {{ heartbeat: {yaml} }}"
        );
        let config = Config::from_yaml(&text).unwrap_or_else(|errors| panic!("{yaml}: {errors}"));
        let timing = config.routes[0].policy.heartbeat.map(|heartbeat| heartbeat.timing).unwrap();
        assert_eq!((timing.interval.as_secs(), timing.timeout.as_secs()), (interval, timeout), "{yaml}");
    }
    // It is told where it was written.
    let told = told(Config::from_yaml("x-a: &a { intervall: 1s }\npolicy: { heartbeat: { <<: *a } }"));
    assert!(told.contains("inline:1:11: policy.heartbeat.intervall\n"), "{told}");
}

#[test]
fn aliases_that_multiply_and_nesting_without_end_are_cut_short() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let repeated = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{repeated}]\n"));
    }
    assert!(told(Config::from_yaml(&bomb)).contains("more than 20000 values"));
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        for (levels, words) in
            [(32, &["deeper than 32"][..]), (100_000, &["deeper than 32", "not valid YAML"])]
        {
            let deep = format!("a: {}{}", open.repeat(levels), close.repeat(levels));
            let told = told(Config::from_yaml(&deep));
            assert!(words.iter().any(|words| told.contains(words)), "{open} {levels}: {told}");
        }
    }
    // Few values, and gigabytes of text.
    let long = format!("x-a: &a {}\nx-b: [{}]", "y".repeat(900_000), ["*a"; 10_000].join(", "));
    assert!(told(Config::from_yaml(&long)).contains("aliases repeat more than 4194304 bytes of text"));
    let long = format!("x-a: &a {{ {}: 1 }}\nx-b: [{}]", "y".repeat(120), ["*a"; 6_000].join(", "));
    assert!(Config::from_yaml(&long).is_ok(), "what a file may hold itself may be repeated");
    let long = "#".repeat(2 << 20);
    assert!(told(Config::from_yaml(&long)).contains("longer than 1048576 bytes"));
    let many: String = (0..1000).map(|key| format!("k{key}: 1\n")).collect();
    assert!(told(Config::from_yaml(&many)).contains("there may be more"));
}

#[test]
fn an_empty_file_is_the_defaults() {
    for yaml in
        ["", "\n", "# nothing\n", "---\n", "{}", "null", "\u{feff}log: {}", "log:\r\n  level: info\r\n"]
    {
        assert_eq!(Config::from_yaml(yaml).unwrap(), Config::default(), "{yaml:?}");
    }
}

/// Text made of what YAML and the settings are made of, so that many a case gets past the parser.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "policy",
        "routes",
        "listen",
        "upstream",
        "admin",
        "heartbeat",
        "interval",
        "path",
        "url",
        "token",
        ": ",
        ":",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "null",
        "~",
        "5s",
        "0",
        "1MiB",
        "/ws/{*rest}",
        "http://a",
        "'",
        "\"",
        "&a ",
        "*a",
        "!!str ",
        "<<",
        "# ",
        "|\n",
        ">",
        "---\n",
        "?",
        "%",
        "\t",
        "\u{feff}",
        "é",
        "\\",
        "\0",
        "a[99999999999]",
        "a.b",
        "greeting",
        "match",
        "session",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn settle(text: &str) {
    // Accepted or told: either is fine, as long as it comes to an end and back again.
    match Config::from_yaml(text) {
        Ok(config) => assert_eq!(config.routes.last().map(|route| route.name.as_str()), Some("default")),
        Err(errors) => assert!(errors.to_string().contains("problem")),
    }
    let _ = load(from_env(&[
        ("OUTRIGGER__ROUTES", text),
        ("OUTRIGGER__POLICY", text),
        ("OUTRIGGER__LISTEN__ADDRESS", text),
    ]));
}

proptest! {
    #[test]
    fn any_text_is_accepted_or_refused_but_never_a_panic(text in any::<String>()) {
        settle(&text);
    }

    #[test]
    fn any_mixture_of_keys_and_signs_is_accepted_or_refused_but_never_a_panic(text in pieces()) {
        settle(&text);
    }

    #[test]
    fn any_name_in_the_environment_is_accepted_or_refused(name in "[A-Z_.\\[\\]0-9]{0,40}", value in any::<String>()) {
        let _ = load(from_env(&[(&format!("OUTRIGGER__{name}"), &value)]));
    }

    #[test]
    fn any_word_survives_being_written_and_read_again(word in any::<String>()) {
        let written = emit::to_yaml(&serde_json::json!({ "a": [word, { "b": word }], "c": {}, "d": word }));
        let written = written.unwrap();
        let location = |line, column| Location::File { name: "x".into(), line, column };
        let node = super::super::yaml::parse(&written, location).node.unwrap_or_else(|| panic!("{written}"));
        let read: serde_json::Value = de::read(&node).unwrap_or_else(|_| panic!("{written}"));
        let expected = serde_json::json!({ "a": [word, { "b": word }], "c": {}, "d": word });
        prop_assert_eq!(read, expected, "{}", written);
    }
}
