//! What routes override, and what they inherit.

use super::*;

fn routes(yaml: &str) -> Vec<Route> {
    Config::from_yaml(yaml).unwrap_or_else(|errors| panic!("{errors}")).routes
}

#[test]
fn a_route_overrides_single_keys_at_any_depth_and_inherits_the_rest() {
    let routes = routes(
        "
policy:
  heartbeat: { interval: 20s, timeout: 4s }
  max_frame: 1MiB
routes:
  - path: /a
    policy:
      heartbeat: { interval: 5s }
      delivery: { max_lag: { bytes: 2MiB } }
",
    );
    let [route, fallback] = routes.as_slice() else { panic!("{routes:?}") };
    let timing = route.policy.heartbeat.map(|heartbeat| heartbeat.timing);
    let (interval, timeout) = (Duration::from_secs(5), Duration::from_secs(4));
    assert_eq!(timing, Some(Heartbeat { interval, timeout, max_missed: 3 }));
    assert_eq!((route.policy.max_frame, route.policy.delivery.max_lag.bytes), (1 << 20, 2 << 20));
    assert_eq!(route.policy.idle_timeout, fallback.policy.idle_timeout);
    assert_eq!(
        fallback.policy.heartbeat.map(|heartbeat| heartbeat.timing.interval),
        Some(Duration::from_secs(20))
    );
    assert_eq!(fallback.policy.delivery.max_lag.bytes, 1 << 20);
}

#[test]
fn null_in_a_route_is_off_and_a_key_switches_on_what_was_off() {
    let routes = routes(
        "
policy: { heartbeat: null, idle_timeout: 5m, limits: { message_rate: { rate: 10/s } } }
upstream: { heartbeat: { interval: 9s } }
routes:
  - path: /off
    policy: { idle_timeout: null, limits: { message_rate: null } }
    upstream: { heartbeat: null }
  - path: /on
    policy: { heartbeat: { interval: 7s } }
",
    );
    let [off, on, fallback] = routes.as_slice() else { panic!("{routes:?}") };
    assert_eq!(
        (off.policy.idle_timeout, off.policy.message_rate, off.upstream.heartbeat),
        (None, None, UpstreamHeartbeat::Off)
    );
    let timing = on.policy.heartbeat.map(|heartbeat| heartbeat.timing);
    assert_eq!(timing.map(|timing| (timing.interval, timing.max_missed)), Some((Duration::from_secs(7), 3)));
    assert_eq!(on.policy.idle_timeout, Some(Duration::from_secs(300)));
    assert_eq!(fallback.policy.heartbeat, None);
    assert_eq!(fallback.policy.message_rate, Some(Rate { per_second: 10.0, burst: 200 }));
    assert!(matches!(fallback.upstream.heartbeat, UpstreamHeartbeat::Every(_)));
}

#[test]
fn the_rate_of_control_frames_is_a_word_a_rate_or_off_and_a_route_may_change_it() {
    let routes = routes(
        "
policy: { limits: { control_rate: { rate: 7/s } } }
routes:
  - { path: /off, policy: { limits: { control_rate: null } } }
  - { path: /auto, policy: { limits: { control_rate: auto } } }
  - { path: /own, policy: { limits: { control_rate: { burst: 9 } } } }
",
    );
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    let expected = [
        (None, None),
        (rate(100.0, 1000), None),
        (rate(7.0, 9), rate(7.0, 9)),
        (rate(7.0, 1000), rate(7.0, 1000)),
    ];
    for (route, expected) in routes.iter().zip(expected) {
        let set = route.policy.control_rate;
        assert_eq!((set.in_feeds(), set.in_tunnels()), expected, "{:?}", route.path);
    }
    let error = Config::from_yaml("policy: { limits: { control_rate: often } }").unwrap_err().to_string();
    assert!(error.contains("auto, a map with rate and burst, or null for off"), "{error}");
}

#[test]
fn routes_with_equal_settings_share_them() {
    let routes = routes(
        "
routes:
  - { path: /a }
  - { path: /b, policy: { max_frame: 1MiB }, upstream: { url: 'http://b' } }
  - { path: /c, policy: { max_frame: 1024KiB }, upstream: { url: 'http://b:80/' } }
",
    );
    let [a, b, c, fallback] = routes.as_slice() else { panic!("{routes:?}") };
    assert!(std::sync::Arc::ptr_eq(&a.policy, &fallback.policy));
    assert!(std::sync::Arc::ptr_eq(&a.upstream, &fallback.upstream));
    assert!(std::sync::Arc::ptr_eq(&b.policy, &c.policy));
    assert!(std::sync::Arc::ptr_eq(&b.upstream, &c.upstream));
    assert_eq!(b.upstream.target, Target::Tcp { host: "b".into(), port: 80 });
    assert_ne!(a.policy, b.policy);
}

#[test]
fn path_patterns_are_read_segment_by_segment() {
    use Segment::{Literal, One, Rest};
    let segments =
        |path: &str| routes(&format!("routes: [{{ path: '{path}', name: r }}]"))[0].path.segments.clone();
    assert_eq!(segments("/"), [Literal(String::new())]);
    assert_eq!(segments("/ws"), [Literal("ws".into())]);
    assert_eq!(segments("/ws/"), [Literal("ws".into()), Literal(String::new())]);
    assert_eq!(segments("/{*rest}"), [Rest("rest".into())]);
    assert_eq!(
        segments("/ws/{room}/x%20y/{*rest}"),
        [Literal("ws".into()), One("room".into()), Literal("x%20y".into()), Rest("rest".into())]
    );
}

#[test]
fn paths_that_could_match_nothing_or_be_read_in_two_ways_are_refused() {
    for path in [
        "",
        "ws",
        "/a//b",
        "/a/./b",
        "/a/../b",
        "/a/%2E%2e",
        "//",
        "/a?b",
        "/a#b",
        "/a b",
        "/\u{e4}",
        "/x{a}",
        "/{a}x",
        "/{a",
        "/a}",
        "/{}",
        "/{*}",
        "/{1a}",
        "/{a-b}",
        "/{*a}/b",
        "/{a}/{a}",
        "/{a}/{*a}",
        "/{{a}}",
    ] {
        let told = told(Config::from_yaml(&format!("routes: [{{ path: '{path}', name: r }}]")));
        assert!(told.contains("inline:1:18: routes[0].path"), "{path}: {told}");
    }
}

#[test]
fn patterns_of_other_routers_are_refused_with_what_they_are_here() {
    for (path, accepted) in [
        ("/ws/*", "{*rest} as the last segment"),
        ("/*", "{*rest} as the last segment"),
        ("/a/*/b", "{name} for one segment"),
        ("/ws*", "%2A"),
        ("/**", "{*rest}"),
        ("/c/:id", "{id} for one segment"),
        ("/c/:id/members", "{id} for one segment"),
        ("/c/:", "{name} for one segment"),
        ("/c/:a-b", "{name} for one segment"),
    ] {
        let told = told(Config::from_yaml(&format!("routes: [{{ path: '{path}', name: r }}]")));
        assert!(told.contains("routes[0].path") && told.contains(accepted), "{path}: {told}");
    }
    // Escaped it is itself, and a colon anywhere else is one.
    for path in ["/a/%2A", "/a/%3Aid", "/a/b:c", "/a/b:"] {
        let yaml = format!("routes: [{{ path: '{path}', name: r }}]");
        assert!(Config::from_yaml(&yaml).is_ok(), "{path}");
    }
}

#[test]
fn a_route_is_named_after_its_path_and_hosts_are_in_lower_case() {
    let routes =
        routes("routes: [{ path: '/ws/{*rest}', hosts: [WS.Example.com, '[::1]', 10.0.0.1, ::1, FE80::1] }]");
    assert_eq!(routes[0].name, "/ws/{*rest}");
    assert_eq!(routes[0].hosts, ["ws.example.com", "[::1]", "10.0.0.1", "::1", "fe80::1"]);
}

#[test]
fn a_prefix_can_be_stripped_only_where_every_match_has_it() {
    for (path, prefix, fit) in [
        ("/api/{*rest}", "/api", true),
        ("/api/v1/{x}", "/api/v1", true),
        ("/api", "/api", true),
        ("/api/{*rest}", "/ap", false),
        ("/api/{*rest}", "/api/", false),
        ("/api/{*rest}", "/", false),
        ("/api/{*rest}", "api", false),
        ("/{x}/y", "/{x}", false),
        ("/{*rest}", "/api", false),
    ] {
        let yaml = format!("routes: [{{ path: '{path}', strip_prefix: '{prefix}' }}]");
        assert_eq!(Config::from_yaml(&yaml).is_ok(), fit, "{yaml}");
    }
}

#[test]
fn a_problem_of_the_global_policy_is_told_once_however_many_routes_inherit_it() {
    let told = told(Config::from_yaml(
        "
policy: { heartbeat: { interval: 0s }, breaker: { window: 0s }, max_frame: 128MiB, close_timeout: soon }
upstream: { max_dials: 0 }
routes:
  - { path: /a, policy: { heartbeat: { timeout: 1s } }, upstream: { connect_timeout: 1s } }
  - { path: /b, policy: { close_timeout: 0s } }
  - { path: /c }
",
    ));
    assert!(told.starts_with("6 problems"), "{told}");
    for at in [
        "2:34: policy.heartbeat.interval",
        "2:59: policy.breaker.window",
        "2:76: policy.max_frame",
        "2:99: policy.close_timeout",
        "3:24: upstream.max_dials",
        "6:42: routes[1].policy.close_timeout",
    ] {
        assert!(told.contains(&format!("inline:{at}\n")), "{at}: {told}");
    }
}

#[test]
fn a_route_at_odds_with_what_it_inherits_is_told_at_its_own_key() {
    let told = told(Config::from_yaml("routes: [{ path: /a, policy: { max_message: 1MiB } }]"));
    assert!(told.contains("inline:1:45: routes[0].policy.max_message"), "{told}");
    assert!(told.contains("at least max_frame, \"16MiB\""), "{told}");
}

#[test]
fn there_are_at_most_256_routes() {
    let yaml = |count: usize| {
        let routes: String = (0..count).map(|index| format!("  - path: /{index}\n")).collect();
        format!("routes:\n{routes}")
    };
    assert_eq!(routes(&yaml(256)).len(), 257);
    assert!(told(Config::from_yaml(&yaml(257))).contains("at most 256"));
}
