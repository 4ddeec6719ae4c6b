//! Routes and readings. [`servers`] says how servers read, each written from what that server documents and
//! apart from the code under test.

mod endpoints;
mod servers;

use std::sync::LazyLock;

use tokio::time::Instant;

use super::*;
use crate::config::{Config, Route};

#[derive(Debug)]
struct Entry(Route);

impl Candidate for Entry {
    fn path(&self) -> &PathPattern {
        &self.0.path
    }
    fn hosts(&self) -> &[String] {
        &self.0.hosts
    }
    fn endpoint_prefix(&self) -> &str {
        &self.0.policy.fallback.prefix
    }
    fn has_endpoint(&self, endpoint: Endpoint) -> bool {
        self.0.has_endpoint(endpoint)
    }
    fn is_as_strict_as(&self, other: &Self) -> bool {
        is_as_strict(&self.0, &other.0)
    }
}

fn router_of(yaml: &str, ambiguous: AmbiguousPaths) -> Router<Entry> {
    let config = Config::from_yaml(yaml).unwrap_or_else(|errors| panic!("{yaml}: {errors}"));
    let mut routes: Vec<_> = config.routes.into_iter().map(|route| Arc::new(Entry(route))).collect();
    let fallback = routes.pop().unwrap();
    Router::new(routes, fallback, ambiguous)
}

fn router(routes: &str) -> Router<Entry> {
    router_of(&format!("routes: {routes}"), AmbiguousPaths::Refuse)
}

/// Somewhere to be kept out of.
const GUARD: &str = "policy: {origins: ['https://app.example.com'], http: {mode: guard}}";

fn guarded() -> Router<Entry> {
    router(&format!(
        "[{{name: guarded, path: '/ws/admin/{{*rest}}', {GUARD}}}, {{name: open, path: '/ws/{{*rest}}'}}]"
    ))
}

/// The name of the route, or what is refused.
fn picked<'a>(router: &'a Router<Entry>, host: &str, path: &str) -> &'a str {
    let picked = router.pick(host, path);
    picked.stricter.map_or(&*picked.route.0.name, |_| "refused")
}

#[test]
fn the_first_route_in_file_order_wins() {
    let router = router(
        "[{name: exact, path: /ws/admin}, {name: one, path: '/ws/{room}'}, {name: rest, path: '/ws/{*rest}'},
          {name: escaped, path: '/caf%C3%A9/%7Eme'}, {name: slash, path: '/a%2Fb'},
          {name: host, path: '/{*any}', hosts: [Api.example.com., '[0::1]']}, {name: root, path: /}]",
    );
    // host, path, route
    let cases = [
        ("a", "/ws/admin", "exact"),
        ("a", "/ws/admin/", "exact"),
        ("a", "/ws/lobby", "one"),
        ("a", "/ws", "rest"),
        ("a", "/ws/", "rest"),
        ("a", "/ws/a/b/c", "rest"),
        ("a", "/wsx", "default"),
        ("API.EXAMPLE.COM:8080", "/x", "host"),
        ("api.example.com.:8080", "/x", "host"),
        ("api.example.com", "/", "host"),
        ("[::1]:80", "/", "host"),
        ("[::2]:80", "/", "root"),
        ("a", "/", "root"),
        ("a", "", "root"),
        ("a", "*", "default"),
        // other spellings of the same path
        ("a", "/ws/%61dmin", "exact"),
        ("a", "//ws//admin", "exact"),
        ("a", "/x/../ws/./admin", "exact"),
        ("a", "/%2e%2E/ws/admin", "exact"),
        ("a", "/ws/%zz", "one"),
        ("a", "/ws/%ff", "one"),
        ("a", "/caf%c3%a9/~me", "escaped"),
        ("a", "/café/%7eme", "escaped"),
        ("a", "/a%2fb", "slash"),
        ("a", "/a/b", "default"),
    ];
    for (host, path, name) in cases {
        assert_eq!(picked(&router, host, path), name, "{host} {path}");
    }
}

/// Spellings that lead, or might lead, to something guarded: with what each server makes of them.
fn spellings() -> Vec<String> {
    let mut spellings = Vec::new();
    let slashes = [
        "/", "//", "%2F", "%2f", "%252F", "%25252F", "\\", "%5C", "%255c", "/./", "/%2e/", "/;/", "/.;x/",
        "%2F%2f",
    ];
    let ends = ["", "%2F", ";v=1", "%3Bv", "%00.js", "%3Fq", "%23f", "%0A", "%20.", "%5cx", "/x", ";a/x"];
    let words = [
        "admin",
        "%61dmin",
        "%2561dmin",
        "ADMIN",
        "ad%09min",
        "Admin;s=1",
        "x/../admin",
        "x%2F..%2Fadmin",
        "x/..;/admin",
        "x\\..\\admin",
    ];
    for first in ["/", "//", "/\\", "/%2F", "/;/", "/./", "//h/", "/\\h/", "/x%2F..%2F"] {
        for slash in slashes {
            for word in words {
                for end in ends {
                    spellings.push(format!("{first}ws{slash}{word}{end}"));
                }
            }
        }
    }
    spellings
}

/// Whoever reads a request as guarded never gets it without the guard.
#[test]
fn no_spelling_of_a_path_gets_past_its_guard() {
    let router = guarded();
    let (mut refused, mut passed, mut read) = (0, 0, [0; servers::ALL.len()]);
    for path in spellings() {
        let name = picked(&router, "h", &path);
        refused += usize::from(name == "refused");
        passed += usize::from(name == "open" || name == "default");
        for ((server, reads), read) in servers::ALL.iter().zip(&mut read) {
            let is_guarded = reads(&path).is_some_and(|path| servers::is_below(&path, &["ws", "admin"]));
            *read += usize::from(is_guarded);
            assert!(
                !is_guarded || matches!(name, "guarded" | "refused"),
                "{path} is let in by {name}, and read as guarded by {server}"
            );
        }
    }
    assert!(refused > 1000 && passed > 100, "the table has both: {refused} refused, {passed} passed");
    assert!(read.iter().all(|read| *read > 0), "each server reads some of them as guarded: {read:?}");
}

/// The other way round: what is open is a part of what is guarded.
#[test]
fn no_spelling_passes_for_the_open_part_of_what_is_guarded() {
    let router = router_of(
        &format!(
            "{GUARD}\nroutes: [{{name: public, path: '/public/{{*rest}}', policy: {{origins: null, http: {{mode: pass}}}}}}]"
        ),
        AmbiguousPaths::Refuse,
    );
    let mut refused = 0;
    for path in spellings() {
        let path = path.replacen("ws", "public", 1);
        let name = picked(&router, "h", &path);
        refused += usize::from(name == "refused");
        for (server, reads) in servers::ALL {
            let is_open = reads(&path).is_none_or(|path| servers::is_below(&path, &["public"]));
            assert!(
                is_open || name != "public",
                "{path} is let in as public, and read as guarded by {server}"
            );
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn what_no_server_reads_as_guarded_is_let_in() {
    let guarded = guarded();
    for path in [
        "/ws/lobby",
        "/ws/administrator/x",
        "/ws/room%2F1",
        "/ws/room%20one",
        "/ws/%E2%82%AC/%F0%9F%98%80",
        "/ws/a;b=c",
        "/ws//lobby",
        "/ws/./lobby",
        "/ws/.well-known/x.",
        "/ws/100%25",
        "/ws/a%252Fb",
        "/ws/a\\b",
        "/ws/a%3Fb%23c",
        "/ws/x/admin",
        "/ws/xadmin%2F",
        "/ws/admin-x",
        "/ws/%zz%",
    ] {
        assert_eq!(picked(&guarded, "h", path), "open", "{path}");
    }
    for path in ["/ws/admin", "/ws/admin/x%2Fy", "//ws//admin/x", "/ws/x/../admin", "/ws/%61dmin;a=b/..%2F/x"]
    {
        let name = picked(&guarded, "h", path);
        assert!(matches!(name, "guarded" | "refused"), "{path}: {name}");
    }
    assert_eq!(picked(&guarded, "h", "/ws/x/../admin"), "guarded", "nothing is stricter than that");
    // An escaped literal of an open route, where everything else is guarded.
    let open = router_of(
        &format!(
            "{GUARD}\nroutes: [{{name: open, path: '/caf%C3%A9/{{*rest}}', policy: {{origins: null, http: {{mode: pass}}}}}}]"
        ),
        AmbiguousPaths::Refuse,
    );
    for (path, name) in [
        ("/caf%C3%A9/x", "open"),
        ("/caf%C3%A9", "open"),
        ("/caf%C3%A9/", "open"),
        ("/caf%C3%A9/x%20y", "open"),
        ("/Caf%C3%A9/x", "default"),
        ("/caf%C3%A9%2Fx", "default"),
        ("/caf%C3%A9/%2e%2e/x", "default"),
        ("/%63af%C3%A9/x", "refused"),
        ("/caf%C3%A9;a/x", "default"),
        ("//caf%C3%A9/x", "refused"),
    ] {
        assert_eq!(picked(&open, "h", path), name, "{path}");
    }
}

#[test]
fn hosts_are_the_same_however_they_are_spelled() {
    let routes = format!(
        "[{{name: guarded, path: '/{{*rest}}', hosts: [admin.example.com, '[::1]', 10.0.0.1], {GUARD}}}]"
    );
    let guarded = router(&routes);
    for host in [
        "admin.example.com",
        "ADMIN.Example.com",
        "admin.example.com.",
        "admin.example.com:80",
        "admin.example.com:",
        "Admin.example.COM.:8080",
        "admin%2eexample.com",
        "%61dmin.example.com:80",
        "[::1]",
        "[::1]:80",
        "[0:0:0:0:0:0:0:1]:80",
        "10.0.0.1:8080",
        "[::ffff:10.0.0.1]",
    ] {
        let name = picked(&guarded, host, "/x");
        assert!(matches!(name, "guarded" | "refused"), "{host}: {name}");
    }
    for host in ["example.com", "xadmin.example.com", "", "[::2]", "admin.example.com.evil"] {
        assert_eq!(picked(&guarded, host, "/x"), "default", "{host}");
    }
    // A server that does not take the dot off takes it for another host, which is guarded.
    let open = router_of(
        &format!(
            "{GUARD}\nroutes: [{{name: open, path: '/{{*rest}}', hosts: [a.example], policy: {{origins: null, http: {{mode: pass}}}}}}]"
        ),
        AmbiguousPaths::Refuse,
    );
    for (host, name) in [
        ("a.example", "open"),
        ("A.example:1", "open"),
        ("a.example.", "refused"),
        ("b.example.", "default"),
        ("%61.example", "default"),
    ] {
        assert_eq!(picked(&open, host, "/x"), name, "{host}");
    }
}

#[test]
fn what_is_to_blame_is_told() {
    let router = guarded();
    for (path, why) in [
        ("/ws/admin%2Fx", "an escaped slash (%2F)"),
        ("/ws/a/..%2fb", "a segment `..`"),
        ("/ws/admin%5cx", "a backslash"),
        ("/ws/admin%00", "an escaped NUL, `?` or `#`"),
        ("/ws/%2561dmin", "an escape within an escape (%25)"),
        ("/ws/admin;x/y", "a `;`"),
        ("/ws/admin%0A", "an escaped control character"),
        ("//h/ws/admin", "an empty segment (//)"),
        ("/ws/Admin", "the case of letters"),
        ("/ws/admin./x", "a dot at the end of a segment"),
    ] {
        let (stricter, told) = router.pick("h", path).stricter.unwrap_or_else(|| panic!("{path}"));
        assert_eq!((&*stricter.0.name, told), ("guarded", why), "{path}");
    }
}

#[test]
fn routes_that_are_equally_strict_and_pass_have_one_reading() {
    let yaml = "[{name: a, path: '/a/{*rest}', policy: {idle_timeout: 1s}, upstream: {url: 'http://b'}}]";
    let alike = router(yaml);
    for (path, name) in [("/a%2Fx", "default"), ("//a/x", "a"), ("/x/../a", "a"), ("/A", "default")] {
        assert_eq!(picked(&alike, "h", path), name, "{path}");
    }
    let yaml = format!("routes: [{{name: a, path: '/a/{{*rest}}', {GUARD}}}]");
    let passes = router_of(&yaml, AmbiguousPaths::Pass);
    for (path, name) in [("/a%2Fx", "default"), ("//a/x", "a"), ("/A", "default"), ("/a/..", "default")] {
        assert_eq!(picked(&passes, "h", path), name, "{path}");
    }
}

#[test]
fn a_route_is_as_strict_as_one_that_asks_for_less() {
    let routes = |policies: &[&str]| {
        let list = policies.iter().enumerate();
        let list = Vec::from_iter(list.map(|(index, policy)| format!("{{path: /{index}, {policy}}}")));
        Config::from_yaml(&format!("routes: [{}]", list.join(", "))).unwrap_or_else(|e| panic!("{e}")).routes
    };
    // the stricter one, the other
    let cases = [
        (GUARD, ""),
        ("policy: {origins: ['https://a.example']}", ""),
        ("policy: {http: {mode: refuse}}", "policy: {http: {mode: guard}}"),
        ("policy: {http: {max_body: 5}}", "policy: {http: {max_body: 0}}"),
        ("policy: {http: {mode: refuse}}", "policy: {http: {max_body: 5}}"),
        ("policy: {http: {rate: {per_ip: {rate: 1/m, burst: 1}}}}", ""),
        ("policy: {http: {rate: {global: {rate: 5/s, burst: 5}}}}", ""),
        ("policy: {limits: {control_rate: {rate: 1/s, burst: 5}}}", ""),
        ("mode: broadcast", "mode: broadcast, policy: {limits: {control_rate: off}}"),
        ("mode: broadcast", "policy: {limits: {control_rate: {rate: 200/s, burst: 1000}}}"),
        ("policy: {limits: {per_ip: 5}}", "policy: {limits: {per_ip: 6}}"),
        ("policy: {limits: {per_user: 5}}", ""),
        ("policy: {limits: {connections: 5}}", ""),
        ("policy: {limits: {message_rate: {rate: 1/s, burst: 5}}}", ""),
        ("policy: {handshake_rate: {per_ip: {rate: 5/s, burst: 5}}}", ""),
        ("policy: {max_frame: 1KiB}", ""),
        ("policy: {max_message: 1KiB, max_frame: 1KiB}", "policy: {max_frame: 1KiB}"),
        ("mode: broadcast", ""),
        ("mode: broadcast", "mode: session"),
        ("mode: session", "mode: session, policy: {limits: {control_rate: off}}"),
        ("policy: {limits: {control_rate: {rate: 1/s, burst: 5}}}", "mode: session"),
        ("mode: session, policy: {limits: {per_ip: 5}}", ""),
        ("policy: {limits: {per_ip: 5}}", "mode: session"),
    ];
    for (strict, lax) in cases {
        let routes = routes(&[strict, lax]);
        assert!(is_as_strict(&routes[0], &routes[1]), "{strict} | {lax}");
        assert!(!is_as_strict(&routes[1], &routes[0]), "{lax} | {strict}");
        assert!(is_as_strict(&routes[0], &routes[0]));
    }
    for (one, other) in [
        ("policy: {origins: ['https://a.example']}", "policy: {origins: ['https://b.example']}"),
        ("policy: {limits: {per_ip: 5}}", "policy: {limits: {per_user: 5}}"),
        ("mode: broadcast", "mode: broadcast, policy: {broadcast: {uplink: refuse}}"),
    ] {
        let routes = routes(&[one, other]);
        assert!(
            !is_as_strict(&routes[0], &routes[1]) && !is_as_strict(&routes[1], &routes[0]),
            "{one} {other}"
        );
    }
    for (one, other) in [
        ("", "policy: {idle_timeout: 1s, heartbeat: null}, upstream: {url: 'http://b'}"),
        ("", "mode: session"),
        ("mode: session", "policy: {limits: {control_rate: {rate: 200/s, burst: 1000}}}"),
        ("mode: session", "mode: session, policy: {session: {queue: {replay: unacknowledged}}}"),
    ] {
        let routes = routes(&[one, other]);
        assert!(
            is_as_strict(&routes[0], &routes[1]) && is_as_strict(&routes[1], &routes[0]),
            "{one} {other}"
        );
    }
}

/// A path that fills the largest head, of whatever costs most, against as many routes as there may be.
#[test]
fn the_longest_path_costs_no_more_than_its_length() {
    let list = (0..256).map(|index| match index {
        255 => format!("{{path: '/ws/admin/{{*rest}}', {GUARD}}}"),
        _ => format!("{{path: '/{{a}}/{{b}}/r{index}'}}"),
    });
    let router = router(&format!("[{}]", Vec::from_iter(list).join(", ")));
    let units = [
        "/",
        "/.",
        "%2F",
        "%252F",
        "\\",
        ";",
        "%00",
        "/x;y%00",
        "%2561",
        "/%2e%252f\\;",
        "/..",
        "%25",
        "/a%20",
    ];
    for unit in units {
        let [short, long] = [2, 32].map(|kib: usize| format!("/{}", unit.repeat(kib * 1024 / unit.len())));
        let time = |path: &str| {
            let began = Instant::now();
            std::hint::black_box(router.pick("h", path).stricter.is_some());
            began.elapsed()
        };
        // Sixteen times as long; quadratic work would be 256 times as much. Others use this machine too, so one
        // comparison that nobody disturbed is enough: what is quadratic never passes.
        let is_linear = (0..50).any(|_| time(&long) < time(&short) * 100);
        assert!(is_linear, "{unit}");
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    static GUARDED: LazyLock<Router<Entry>> = LazyLock::new(guarded);

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn no_server_reads_a_random_path_past_the_guard(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "/", "//", "%2F", "%252f", "\\", "%5C", ";", "%3B", ".", "%2e", "..", "%2e%2e", "%252e", "%00", "%3F",
                "%23", "%0a", "ws", "WS", "%77s", "admin", "ad%6din", "%2561dmin", "x", "h", "%25", "%", " ",
            ]), 0..14)
        ) {
            let path = format!("/{}", pieces.concat().replace(' ', "%20"));
            let name = picked(&GUARDED, "h", &path);
            for (server, reads) in servers::ALL {
                let is_guarded = reads(&path).is_some_and(|path| servers::is_below(&path, &["ws", "admin"]));
                prop_assert!(!is_guarded || matches!(name, "guarded" | "refused"), "{path}: {name}, {server}");
            }
        }
    }
}
