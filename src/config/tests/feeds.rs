//! Breakers, broadcasts and what is kept of them: what the settings come to.

use super::*;

fn routes(yaml: &str) -> Vec<Route> {
    Config::from_yaml(yaml).unwrap_or_else(|errors| panic!("{yaml}: {errors}")).routes
}

fn policy(yaml: &str) -> Policy {
    Policy::clone(&routes(&format!("policy: {yaml}"))[0].policy)
}

#[test]
fn the_defaults_are_those_of_the_document() {
    let policy = policy("{}");
    let seconds = Duration::from_secs;
    assert_eq!(
        policy.breaker,
        Some(Breaker {
            window: seconds(10),
            min_calls: 10,
            failure_ratio: 0.5,
            statuses: vec![502, 503, 504],
            open_for: seconds(5),
            probes: 1,
            max_waiting: 1000,
            slow_after: seconds(2),
        })
    );
    assert_eq!(
        policy.delivery,
        Delivery {
            on_stall: OnStall::Auto,
            max_lag: Lag { messages: 1000, bytes: 1 << 20 },
            stall_timeout: Some(seconds(60)),
            cool_down: seconds(2),
            max_trips: 3,
            resume_from: ResumeFrom::Oldest,
            throttle: None,
            channel_breaker: Some(ChannelBreaker {
                tripped_ratio: 0.5,
                min_clients: 10,
                open_for: seconds(5)
            }),
        }
    );
    assert_eq!(
        policy.broadcast,
        Broadcast {
            channel_key: vec![KeyPart::Path, KeyPart::Query],
            credentials: Credentials::Strip,
            uplink: UplinkMode::Drop,
            linger: seconds(30),
            greeting: Vec::new(),
            on_redial: OnRedial::Keep,
            final_codes: vec![1008..=1008, 3000..=4999],
            max_channels: 1000,
        }
    );
    assert_eq!(
        policy.redial,
        Redial {
            base: Duration::from_millis(100),
            factor: 2.0,
            cap: seconds(5),
            give_up: Some(seconds(60)),
            reset_after: seconds(10),
        }
    );
    let on_join = OnJoin::None;
    assert_eq!(
        policy.history,
        History { messages: 1000, bytes: 1 << 20, age: seconds(3600), critical: None, on_join }
    );
    assert_eq!((policy.notices, policy.compression), (false, false));
    let config = Config::default();
    assert_eq!(config.admin.max_publish, 1 << 20);
    assert!((1..=256 << 20).contains(&config.max_buffered), "{}", config.max_buffered);
    assert_eq!(Config::from_yaml("memory: { max_buffered: 9GiB }").unwrap().max_buffered, 9 << 30);
}

#[test]
fn a_breaker_that_is_null_is_off_and_its_statuses_are_in_one_form() {
    assert_eq!(policy("{ breaker: null }").breaker, None);
    let statuses =
        |yaml: &str| policy(&format!("{{ breaker: {{ statuses: {yaml} }} }}")).breaker.unwrap().statuses;
    assert_eq!(statuses("[]"), Vec::<u16>::new());
    assert_eq!(statuses("[504, 500, 504]"), [500, 504]);
    for status in [0, 101, 200, 403, 499, 600, 5000, 65_536] {
        let yaml = format!("policy: {{ breaker: {{ statuses: [{status}] }} }}");
        assert!(Config::from_yaml(&yaml).is_err(), "{status}");
    }
}

#[test]
fn codes_that_are_final_are_single_ones_and_ranges() {
    let broadcast = |yaml: &str| policy(&format!("{{ broadcast: {{ final_codes: {yaml} }} }}")).broadcast;
    let cases: [(&str, &[u16], &[u16]); 4] = [
        ("[1008, 3000-4999]", &[1008, 3000, 4000, 4999], &[1000, 1001, 1005, 1011, 1012, 1013, 2999]),
        ("[]", &[], &[1000, 1005, 1008, 3000, 4999]),
        ("[1005]", &[1005], &[1000, 1006]),
        ("[ '1000 - 1001', 4000-4000 ]", &[1000, 1001, 4000], &[1002, 4001]),
    ];
    for (written, are, are_not) in cases {
        let broadcast = broadcast(written);
        assert!(are.iter().all(|code| broadcast.is_final(*code)), "{written}");
        assert!(!are_not.iter().any(|code| broadcast.is_final(*code)), "{written}");
    }
    assert!(policy("{}").broadcast.is_final(1008) && !policy("{}").broadcast.is_final(1000));
    let env = [("OUTRIGGER__POLICY__BROADCAST__FINAL_CODES", "[1000, 4000-4999]")];
    let routes = load(from_env(&env)).unwrap().routes;
    assert_eq!(routes[0].policy.broadcast.final_codes, [1000..=1000, 4000..=4999]);
}

#[test]
fn a_greeting_is_texts_and_bytes() {
    let greeting =
        |yaml: &str| policy(&format!("{{ broadcast: {{ greeting: {yaml} }} }}")).broadcast.greeting;
    let text = |text: &str| Greeting::Text(text.into());
    let said =
        greeting("['{\"op\":\"subscribe\"}', 1, '', { base64: AP8B }, { base64: AP8 }, { base64: '' }]");
    let bytes = |bytes: &[u8]| Greeting::Binary(bytes.into());
    let expected = [
        text("{\"op\":\"subscribe\"}"),
        text("1"),
        text(""),
        bytes(b"\x00\xff\x01"),
        bytes(b"\x00\xff"),
        bytes(b""),
    ];
    assert_eq!(said, expected);
    // What all clients could say as well: one frame of each.
    let long = "x".repeat(1000);
    assert!(
        Config::from_yaml(&format!("policy: {{ max_frame: 1000B, broadcast: {{ greeting: [{long}] }} }}"))
            .is_ok()
    );
    assert!(
        Config::from_yaml(&format!("policy: {{ max_frame: 999B, broadcast: {{ greeting: [{long}] }} }}"))
            .is_err()
    );
}

#[test]
fn clients_are_told_by_default_where_the_server_may_have_forgotten_what_they_said() {
    let forward = "uplink: forward, anonymous: true";
    for (broadcast, notices, are_sent) in [
        ("", "auto", false),
        ("uplink: refuse", "auto", false),
        (forward, "auto", true),
        ("uplink: forward, anonymous: true, on_redial: close", "auto", false),
        (forward, "false", false),
        (forward, "off", false),
        ("", "true", true),
    ] {
        let policy = policy(&format!("{{ notices: {notices}, broadcast: {{ {broadcast} }} }}"));
        assert_eq!(policy.notices, are_sent, "{broadcast}, {notices}");
    }
}

#[test]
fn a_match_is_a_place_an_expression_or_a_count() {
    let critical = |yaml: &str| policy(&format!("{{ history: {{ critical: {yaml} }} }}")).history.critical;
    let pointer = Pointer { tokens: vec!["a/b".into(), "0".into()] };
    let values = vec!["x".into(), "1".into()];
    assert_eq!(critical("{ pointer: /a~1b/0, values: [x, 1] }"), Some(Match::Pointer { pointer, values }));
    assert_eq!(critical("{ regex: '^a.b' }"), Some(Match::Regex("^a.b".into())));
    assert_eq!(critical("{ first: 3 }"), Some(Match::First(3)));
    assert_eq!(critical("null"), None);
    assert!(Match::compile("(?i)^gr[a-z]+\\d").unwrap().is_match("Graft1"));
}

#[test]
fn a_late_joiner_is_sent_what_a_word_or_a_number_says() {
    let on_join = |yaml: &str| policy(&format!("{{ history: {{ on_join: {yaml} }} }}")).history.on_join;
    for (yaml, expected) in [
        ("none", OnJoin::None),
        ("critical", OnJoin::Critical),
        ("all", OnJoin::All),
        ("{ last: 9 }", OnJoin::Last(9)),
    ] {
        assert_eq!(on_join(yaml), expected, "{yaml}");
    }
    let env = [("OUTRIGGER__POLICY__HISTORY__ON_JOIN__LAST", "4")];
    assert_eq!(load(from_env(&env)).unwrap().routes[0].policy.history.on_join, OnJoin::Last(4));
    let env = [("OUTRIGGER__POLICY__HISTORY__ON_JOIN", "all")];
    assert_eq!(load(from_env(&env)).unwrap().routes[0].policy.history.on_join, OnJoin::All);
}

#[test]
fn a_route_of_mode_broadcast_is_one_and_the_fallback_stays_a_tunnel() {
    let routes = routes("routes: [{ path: '/ws/{room}', mode: broadcast }, { path: /t }]");
    let modes: Vec<Mode> = routes.iter().map(|route| route.mode).collect();
    assert_eq!(modes, [Mode::Broadcast, Mode::Tunnel, Mode::Tunnel]);
}

/// Each place where a token may stand, and the part of a key that would hold it.
#[test]
fn where_authentication_looks_for_a_token_never_enters_the_key() {
    let auth =
        "jwt: { secret_file: tests/config/files/secret, token_from: [header, 'query:token', 'cookie:sid'] }";
    let keys = "api_keys: { file: tests/config/files/api_keys, header: X-Secret }";
    for (auth, part, fit) in [
        (auth, "query:token", false),
        (auth, "query:tokens", true),
        (auth, "query", true),
        (auth, "header:authorization", false),
        (auth, "header:Cookie", false),
        (auth, "header:x-secret", true),
        (keys, "header:x-SECRET", false),
        (keys, "query:token", true),
        (keys, "header:sec-websocket-protocol", false),
        (keys, "header:sec-websocket-key", false),
        (keys, "header:proxy-authorization", false),
    ] {
        for mode in ["tunnel", "broadcast"] {
            let yaml = format!(
                "routes: [{{ path: /ws, mode: {mode}, policy: {{ origins: [], auth: {{ {auth} }}, \
                 broadcast: {{ channel_key: [path, '{part}'] }} }} }}]"
            );
            assert_eq!(Config::from_yaml(&yaml).is_ok(), fit, "{yaml}");
        }
    }
}

#[test]
fn what_one_user_is_told_is_shared_with_nobody_else() {
    let auth = "auth: { api_keys: { file: tests/config/files/api_keys } }";
    for (policy, fit) in [
        ("broadcast: { credentials: first }".to_owned(), false),
        ("broadcast: { credentials: first, channel_key: [path, user] }".to_owned(), false),
        (format!("{auth}, broadcast: {{ credentials: first }}"), false),
        (format!("{auth}, broadcast: {{ credentials: first, channel_key: [path, user] }}"), true),
        (format!("{auth}, broadcast: {{ credentials: first, anonymous: true }}"), false),
        ("broadcast: { uplink: forward }".to_owned(), false),
        ("broadcast: { uplink: forward, anonymous: true }".to_owned(), true),
        ("broadcast: { uplink: refuse }".to_owned(), true),
        (format!("{auth}, broadcast: {{ uplink: forward, channel_key: [path, user] }}"), true),
    ] {
        let yaml = format!("routes: [{{ path: /ws, mode: broadcast, policy: {{ {policy} }} }}]");
        assert_eq!(Config::from_yaml(&yaml).is_ok(), fit, "{yaml}");
    }
}
