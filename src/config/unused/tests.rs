//! Each setting that does nothing where it stands is told there, and no other.

use std::collections::BTreeSet;

use super::super::layers::Layers;
use super::*;

fn warnings(yaml: &str) -> Vec<String> {
    let checked = Layers::inline(yaml).check().0.unwrap_or_else(|errors| panic!("{yaml}: {errors}"));
    checked.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn what_no_route_reads_is_told_with_its_place_and_what_to_do() {
    let told = warnings("policy:\n  delivery:\n    throttle: { key: /a }\n");
    let expected = "inline:3:5: policy.delivery.throttle does nothing: only routes of mode broadcast read it; set mode: \
                    broadcast on a route, or leave it out";
    assert_eq!(told, [expected]);
}

#[test]
fn each_setting_is_told_where_nothing_reads_it_and_not_where_something_does() {
    const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/files/");
    let jwt = format!("auth: {{ jwt: {{ secret_file: '{KEYS}secret' }} }}");
    for (yaml, expected) in [
        // What only broadcasts read, at the top and on a route.
        ("policy: { history: { messages: 5, on_join: all } }".to_owned(), &["policy.history.messages", "policy.history.on_join"][..]),
        ("policy: { compression: deflate }".into(), &["policy.compression"]),
        ("policy: { broadcast: { linger: 0s } }".into(), &["policy.broadcast.linger"]),
        ("policy: { notices: true }".into(), &["policy.notices"]),
        ("policy: { redial: { cap: 9s } }".into(), &["policy.redial.cap"]),
        ("policy: { broadcast: { greeting: [hello] } }".into(), &["policy.broadcast.greeting"]),
        ("policy: { delivery: { channel_breaker: null, max_trips: 9 } }".into(), &["policy.delivery.channel_breaker", "policy.delivery.max_trips"]),
        ("policy: { delivery: { max_lag: { messages: 9, bytes: 1KiB } } }".into(), &["policy.delivery.max_lag.messages"]),
        ("policy: { history: { messages: 5 } }\nroutes: [{ path: /a, mode: broadcast }, { path: /b }]".into(), &[]),
        (
            "policy: { history: { messages: 5 } }\nroutes: [{ path: /a, mode: broadcast, policy: { history: { messages: 6 } } }]".into(),
            &["policy.history.messages"],
        ),
        ("routes: [{ path: /a, policy: { history: { messages: 5 } } }, { path: /b, mode: broadcast }]".into(), &["routes[0].policy.history.messages"]),
        // What only sessions read, and what they do not.
        ("policy: { session: { receipts: false, queue: { age: 1s } } }".into(), &["policy.session.queue.age", "policy.session.receipts"]),
        ("policy: { session: { receipts: false } }\nroutes: [{ path: /a, mode: session }]".into(), &[]),
        ("routes: [{ path: /a, mode: broadcast, policy: { session: { greeting: { first: 1 } } } }]".into(), &["routes[0].policy.session.greeting"]),
        ("routes: [{ path: /a, mode: session, policy: { broadcast: { linger: 0s }, history: { on_join: all } } }]".into(), &["routes[0].policy.broadcast.linger", "routes[0].policy.history.on_join"]),
        ("routes: [{ path: /a, mode: session, policy: { compression: deflate, notices: true, redial: { cap: 9s }, history: { messages: 5 }, delivery: { max_lag: { messages: 9 } }, close_codes: { unauthorized: 4000 } } }]".into(), &[]),
        (
            format!("routes: [{{ path: /a, mode: session, policy: {{ history: {{ bytes: 1KiB }}, session: {{ resume_window: 0s, max_detached: 5, token_key_file: '{KEYS}token_keys' }} }} }}]"),
            &["routes[0].policy.history.bytes", "routes[0].policy.session.max_detached", "routes[0].policy.session.token_key_file"],
        ),
        // Endpoints for clients without WebSockets.
        ("policy: { fallback: { poll: true, prefix: /x } }".into(), &["policy.fallback.poll", "policy.fallback.prefix"]),
        ("policy: { fallback: { poll: true, prefix: /x } }\nroutes: [{ path: /a, mode: broadcast }]".into(), &[]),
        ("routes: [{ path: /a, mode: broadcast, policy: { fallback: { prefix: /x } } }]".into(), &["routes[0].policy.fallback.prefix"]),
        // The default, written out, and what is inherited.
        ("policy: { history: { messages: 1000 }, compression: off, delivery: { throttle: null } }".into(), &[]),
        ("routes: [{ path: /a, policy: { delivery: { throttle: null } } }]".into(), &[]),
        // What hangs on a neighbour.
        ("policy: { idle_timeout: null, idle_activity: messages, close_codes: { idle: 4000 } }".into(), &["policy.close_codes.idle", "policy.idle_activity"]),
        ("policy: { idle_activity: messages }".into(), &[]),
        ("policy: { heartbeat: { mode: off, interval: 5s } }".into(), &["policy.heartbeat.interval"]),
        ("policy: { heartbeat: null }".into(), &[]),
        ("policy: { handshake_rate: { max_queued: 5, max_keys: 5 } }".into(), &["policy.handshake_rate.max_keys", "policy.handshake_rate.max_queued"]),
        ("policy: { handshake_rate: { queue: 1s, max_queued: 5, per_ip: {}, max_keys: 5 } }".into(), &[]),
        ("policy: { http: { rate: { max_keys: 5 } } }".into(), &["policy.http.rate.max_keys"]),
        ("policy: { http: { rate: { max_keys: 5, per_ip: {} } } }".into(), &[]),
        ("policy: { http: { mode: refuse, max_body: 5 } }".into(), &["policy.http.max_body"]),
        ("policy: { http: { mode: refuse } }\nroutes: [{ path: /a, policy: { http: { mode: pass, max_body: 5 } } }]".into(), &[]),
        ("policy: { close_codes: { capacity: 4000, rate: 4001, unauthorized: 4002, expired: 4003 } }".into(), &["policy.close_codes.capacity", "policy.close_codes.expired", "policy.close_codes.rate", "policy.close_codes.unauthorized"]),
        (format!("policy: {{ on_refuse: close, {jwt}, close_codes: {{ capacity: 4000, rate: 4001, unauthorized: 4002, expired: 4003 }} }}"), &[]),
        ("policy: { broadcast: { anonymous: true } }\nroutes: [{ path: /a, mode: broadcast }]".into(), &["policy.broadcast.anonymous"]),
        ("routes: [{ path: /a, mode: broadcast, policy: { broadcast: { uplink: forward, anonymous: true } } }]".into(), &[]),
        // What comes in.
        ("listen: { http2: false, http2_max_streams: 5 }".into(), &["listen.http2_max_streams"]),
        ("listen: { max_refusals: 5 }".into(), &["listen.max_refusals"]),
        ("listen: { max_refusals: 5 }\nroutes: [{ path: /a, policy: { on_refuse: close } }]".into(), &[]),
        ("listen: { unix: /run/a.sock, max_idle_http_per_ip: 5 }\ntrusted_proxies: [private]".into(), &["listen.max_idle_http_per_ip", "trusted_proxies"]),
        ("listen: { unix: /run/a.sock, max_idle_http_per_ip: 5, proxy_protocol: required }\ntrusted_proxies: [private]".into(), &[]),
        ("listen: { unix: /run/a.sock }\ntrusted_proxies: [private, loopback]".into(), &[]),
        // Routes that nobody reaches, and what is set for nobody then.
        ("routes: [{ path: '/{*rest}' }, { path: /a, mode: broadcast }]".into(), &["routes[1].path"]),
        ("policy: { history: { messages: 5 } }\nroutes: [{ path: '/{*rest}' }, { path: /a, mode: broadcast }]".into(), &["policy.history.messages", "routes[1].path"]),
    ] {
        let told = warnings(&yaml);
        let keys: Vec<&str> = told.iter().filter_map(|told| told.split(' ').nth(1)).collect();
        assert_eq!(keys, expected, "{yaml}\n{told:#?}");
    }
}

/// A setting that is added has to be thought of: is it read in every mode, and whatever else is set?
#[test]
fn every_setting_of_a_policy_has_a_rule_or_is_always_read() {
    const ALWAYS: [&str; 19] = [
        "auth",
        "breaker",
        "close_codes.slow_consumer",
        "close_codes.upstream_lost",
        "close_timeout",
        "delivery.max_lag.bytes",
        "delivery.on_stall",
        "delivery.stall_timeout",
        "handshake_rate.global",
        "handshake_rate.per_ip",
        "handshake_rate.per_user",
        "handshake_rate.queue",
        "heartbeat.mode",
        "http.mode",
        "idle_timeout",
        "limits",
        "max_frame",
        "max_lifetime",
        "on_refuse",
    ];
    const FURTHER: [&str; 2] = ["max_message", "origins"];
    let defaults = serde_json::to_value(RawPolicy::default()).unwrap();
    let keys: BTreeSet<String> =
        changed_settings(&defaults, &leaves_of_nothing(&defaults)).into_iter().collect();
    assert!(keys.len() > 60, "{keys:?}");
    for key in &keys {
        let is_always = ALWAYS.iter().chain(&FURTHER).any(|section| {
            key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        let rules = RULES.iter().filter(|rule| rule.covers(key)).count();
        assert!(is_always != (rules > 0), "policy.{key}: always read {is_always}, rules {rules}");
    }
}

/// The same sections with a value in each place that no setting has.
fn leaves_of_nothing(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, inner)| (key.clone(), leaves_of_nothing(inner))).collect())
        }
        _ => Value::String("\u{0}".into()),
    }
}

#[test]
fn what_is_shipped_sets_nothing_that_does_nothing() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/config/outrigger.yaml");
    for path in crate::config::tests::examples().into_iter().chain([shipped.into()]) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(warnings(&text), Vec::<String>::new(), "{}", path.display());
    }
}
