//! The whole way: sources in, checked configuration or errors out.

mod admission;
mod examples;
mod feeds;
mod fixtures;
mod routes;
mod schema;
mod sessions;
mod sources;
mod yaml;

use std::path::PathBuf;
use std::time::Duration;

use super::*;

/// A path in the project.
fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The configurations in `config/examples`, for which there are files of other programs too.
pub(super) fn examples() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(project("config/examples")).unwrap();
    let is_set_by_proxy = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "yaml")
            && !path.file_name().unwrap().to_string_lossy().starts_with("docker-compose")
    };
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(is_set_by_proxy).collect();
    files.sort();
    files
}

fn from_env(pairs: &[(&str, &str)]) -> Sources {
    let env = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { env, ..Sources::default() }
}

/// What is told of what must not be accepted.
fn told(result: Result<Config, ConfigErrors>) -> String {
    match result {
        Ok(_) => panic!("accepted"),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn the_defaults_are_in_range_and_end_in_the_fallback() {
    let config = Config::default();
    let [fallback] = config.routes.as_slice() else { panic!("{:?}", config.routes) };
    assert_eq!((fallback.name.as_str(), fallback.path.text.as_str()), ("default", "/{*rest}"));
    assert_eq!(fallback.path.segments, [Segment::Rest("rest".into())]);
    assert_eq!(fallback.policy.idle_timeout, Some(Duration::from_secs(600)));
    assert_eq!(fallback.policy.delivery.on_stall, OnStall::Auto);
    assert!(config.listen.workers >= 1);
}

#[test]
fn numbers_in_quotes_and_words_like_numbers_stay_text() {
    for text in ["00123", "\"00123\"", "1e3", "0x10", "true", "~1", "1_000"] {
        let config = Config::from_yaml(&format!("admin: {{ token: {text} }}")).unwrap();
        let token = config.admin.token.unwrap_or_else(|| panic!("{text}"));
        assert!(token.matches(text.trim_matches('"').as_bytes()), "{text}");
    }
    let config = load(from_env(&[("OUTRIGGER__ADMIN__TOKEN", "00123")])).unwrap();
    assert!(config.admin.token.is_some_and(|token| token.matches(b"00123")));
}

#[test]
fn a_quoted_null_is_a_word_and_a_plain_one_is_nothing() {
    let prefix = Config::from_yaml("metrics: { prefix: 'null' }").unwrap().metrics_prefix;
    assert_eq!(prefix, "null");
    let token = |text: &str| Config::from_yaml(&format!("admin: {{ token: {text} }}")).unwrap().admin.token;
    for nothing in ["null", "~", "Null", "NULL", ""] {
        assert_eq!(token(nothing), None, "{nothing:?}");
    }
}

#[test]
fn a_token_file_holds_the_token_without_its_line_break() {
    let path = std::env::temp_dir().join(format!("outrigger-token-{}", std::process::id()));
    let sources = || from_env(&[("OUTRIGGER__ADMIN__TOKEN_FILE", path.to_str().unwrap())]);
    std::fs::write(&path, "s3cret\n").unwrap();
    let admin = load(sources()).unwrap().admin;
    assert!(admin.token.is_some_and(|token| token.matches(b"s3cret")));
    assert!(effective(&sources()).unwrap().contains(path.to_str().unwrap()));

    for wrong in ["", "\n", "two words-x1", "tab\tx1", "\u{e4}x1"] {
        std::fs::write(&path, wrong).unwrap();
        let told = told(load(sources()));
        assert!(told.contains("admin.token_file") && !told.contains("x1"), "{wrong:?}: {told}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(told(load(sources())).contains("cannot be read"));
}

#[test]
fn no_message_holds_a_secret() {
    for yaml in [
        "admin: { token: 'hunter2 x' }",
        "admin: { token: [hunter2] }",
        "admin: { token: { a: hunter2 } }",
        "admin: { tokn: hunter2 }",
        "store: { redis: { url: 'redis://:hunter2@db' } }",
        "store: { redis: { url: { a: hunter2 } } }",
        "upstream: { url: 'http://me:hunter2@app' }",
        "upstream: { url: 'https://me:hunter2@app' }",
        "upstream: { url: 'http://app/?key=hunter2' }",
        "upstream: { url: 'http://app#hunter2' }",
        "policy: { auth: { forward: { url: 'ftp://auth/?key=hunter2' } } }",
        "admin: hunter2",
        "admin: token=hunter2",
        "upstream: 'http://me:hunter2@app'",
        "policy: { auth: hunter2 }",
        "policy: { auth: { api_keys: hunter2 } }",
        "policy: { auth: { jwt: hunter2 } }",
        "policy: { auth: { forward: 'http://me:hunter2@auth' } }",
    ] {
        let told = told(Config::from_yaml(yaml));
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn a_loopback_admin_needs_no_token_and_any_other_does() {
    for (address, needs) in [
        ("127.0.0.1:1", false),
        ("127.8.9.1:1", false),
        ("[::1]:1", false),
        ("[::ffff:127.0.0.1]:1", false),
        ("0.0.0.0:1", true),
        ("[::]:1", true),
        ("10.0.0.1:1", true),
    ] {
        let yaml = format!("admin: {{ address: '{address}' }}");
        assert_eq!(Config::from_yaml(&yaml).is_err(), needs, "{address}");
        let yaml = format!("admin: {{ address: '{address}', token: t }}");
        assert!(Config::from_yaml(&yaml).is_ok(), "{address}");
    }
}

#[test]
fn ports_that_could_not_both_be_opened_are_refused_and_port_0_never_is() {
    for (listen, admin, shape, fit) in [
        ("0.0.0.0:80", "127.0.0.1:81", "0.0.0.0:82", true),
        ("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", true),
        ("127.0.0.2:80", "127.0.0.1:80", "127.0.0.3:80", true),
        ("0.0.0.0:80", "127.0.0.1:80", "0.0.0.0:82", false),
        ("0.0.0.0:80", "127.0.0.1:81", "0.0.0.0:81", false),
        ("127.0.0.1:80", "127.0.0.1:81", "127.0.0.1:80", false),
        ("[::]:80", "127.0.0.1:80", "127.0.0.1:82", false),
    ] {
        let yaml = format!(
            "listen: {{ address: '{listen}' }}\nadmin: {{ address: '{admin}', probe_address: '{shape}' }}"
        );
        assert_eq!(Config::from_yaml(&yaml).is_ok(), fit, "{listen} {admin} {shape}");
    }
}

#[test]
fn every_close_code_that_may_be_sent_is_accepted_and_no_other() {
    for code in (0..=1020).chain(2990..3010).chain(4990..5010).chain([65_535, 65_536, 70_000]) {
        let fit = matches!(code, 1000..=1014 | 3000..=4999) && !matches!(code, 1004..=1006);
        let config = Config::from_yaml(&format!("drain: {{ close_code: {code} }}"));
        assert_eq!(config.is_ok(), fit, "{code}");
    }
}

#[test]
fn off_is_none_however_it_is_written() {
    for off in ["0", "0s", "0ms", "null", "~", ""] {
        let yaml = format!(
            "upstream: {{ stall_timeout: {off} }}\npolicy: {{ idle_timeout: {off}, max_lifetime: {off}, \
             http: {{ response_timeout: {off} }}, delivery: {{ stall_timeout: {off} }} }}"
        );
        let config = Config::from_yaml(&yaml).unwrap_or_else(|errors| panic!("{off:?}: {errors}"));
        let route = &config.routes[0];
        let policy = &route.policy;
        let clocks = [
            policy.idle_timeout,
            policy.max_lifetime,
            policy.http.response_timeout,
            policy.delivery.stall_timeout,
        ];
        assert_eq!((route.upstream.stall_timeout, clocks), (None, [None; 4]), "{off:?}");
    }
    for off in ["null", "{ mode: off }", "{ mode: false }"] {
        let config = Config::from_yaml(&format!("policy: {{ heartbeat: {off} }}")).unwrap();
        assert_eq!(config.routes[0].policy.heartbeat, None, "{off}");
    }
}

#[test]
fn an_upstream_heartbeat_has_defaults_of_its_own_once_it_is_there() {
    let beat = |yaml: &str| Config::from_yaml(yaml).unwrap().routes[0].upstream.heartbeat;
    assert_eq!(beat(""), UpstreamHeartbeat::Auto);
    let client = Config::default().routes[0].policy.heartbeat.unwrap().timing;
    assert_eq!(beat("upstream: { heartbeat: {} }"), UpstreamHeartbeat::Every(client));
    assert_eq!(SHARED_HEARTBEAT, client, "as often as clients are pinged");
    let quick = Heartbeat { interval: Duration::from_secs(5), ..client };
    assert_eq!(beat("upstream: { heartbeat: { interval: 5s } }"), UpstreamHeartbeat::Every(quick));
    for (name, value, expected) in [
        ("OUTRIGGER__UPSTREAM__HEARTBEAT__INTERVAL", "5s", UpstreamHeartbeat::Every(quick)),
        ("OUTRIGGER__UPSTREAM__HEARTBEAT", "{interval: 5s}", UpstreamHeartbeat::Every(quick)),
        ("OUTRIGGER__UPSTREAM__HEARTBEAT", "off", UpstreamHeartbeat::Off),
        ("OUTRIGGER__UPSTREAM__HEARTBEAT", "null", UpstreamHeartbeat::Off),
        ("OUTRIGGER__UPSTREAM__HEARTBEAT", "auto", UpstreamHeartbeat::Auto),
    ] {
        let config = load(from_env(&[(name, value)])).unwrap_or_else(|errors| panic!("{value}: {errors}"));
        assert_eq!(config.routes[0].upstream.heartbeat, expected, "{name}={value}");
    }
}
