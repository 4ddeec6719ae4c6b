use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;
use crate::config::{Forwarded, HostHeader, Target};
use crate::net::Peer;
use crate::upstream::headers::Forwarding;

const ONE_CLIENT: &[(&str, &str)] = &[
    ("host", "feed.example.com"),
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-extensions", "permessage-deflate"),
    ("sec-websocket-protocol", "b,a"),
    ("sec-websocket-protocol", "c"),
    ("origin", "https://app.example.com"),
    ("user-agent", "Mozilla"),
    ("accept-language", "de"),
    ("cookie", "sid=secret"),
    ("authorization", "Bearer secret"),
    ("proxy-authorization", "Basic secret"),
    ("x-api-key", "secret"),
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-user", "alice"),
    ("x-real-ip", "203.0.113.7"),
    ("forwarded", "for=203.0.113.7"),
    ("x-request-id", "theirs"),
    ("x-outrigger-user", "mallory"),
    ("x-tenant", "blue"),
    ("x-tenant", "green"),
];

fn parameter(name: &str) -> KeyPart {
    KeyPart::QueryParameter(name.to_owned())
}

fn named_header(name: &str) -> KeyPart {
    KeyPart::Header(name.to_owned())
}

fn template(key: &[KeyPart], credentials: Credentials, host: HostHeader, target: &str) -> Opening {
    template_of(key, credentials, host, target, Some("alice"))
}

fn template_of(
    key: &[KeyPart],
    credentials: Credentials,
    host: HostHeader,
    target: &str,
    user: Option<&str>,
) -> Opening {
    let peer = Peer { address: "198.51.100.1:5".parse().ok(), ..Peer::default() };
    let mut headers = HeaderMap::new();
    for (name, value) in ONE_CLIENT {
        headers.append(*name, value.parse().unwrap());
    }
    let upstream = Target::Tcp { host: "10.0.0.1".to_owned(), port: 3000 };
    let telling =
        ForwardingConfig { forwarded: Forwarded::Both, host, target: &upstream, strip_prefix: None };
    let forwarding = Forwarding::default();
    let requester =
        Requester { peer: &peer, forwarding: Some(&forwarding), client: peer.address, user, attested: None };
    let client = ClientHandshake { target: &target.parse().unwrap(), headers: &headers, requester };
    Opening::shared(key, credentials, client, telling)
}

fn names(headers: &HeaderMap) -> BTreeSet<&str> {
    headers.keys().map(HeaderName::as_str).collect()
}

#[test]
fn a_shared_link_carries_nothing_of_one_client_that_is_not_in_the_key() {
    let key = [KeyPart::Path, KeyPart::Query];
    let template = template(&key, Credentials::Strip, HostHeader::Preserve, "/ws/a?b=c");
    let (request, id) = template.request(None);
    assert_eq!((request.method().as_str(), request.uri().to_string()), ("GET", "/ws/a?b=c".to_owned()));
    let headers = request.headers();
    let expected = [
        ("host", "feed.example.com"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "b, a, c"),
        ("origin", "https://app.example.com"),
        ("user-agent", PRODUCT),
        ("x-request-id", &id),
    ];
    for (name, value) in expected {
        let all: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(all, [value], "{name}");
    }
    let mut known: BTreeSet<_> = expected.into_iter().map(|(name, _)| name).collect();
    known.insert("sec-websocket-key");
    assert_eq!(names(headers), known);
    assert_ne!(&*id, "theirs");
}

#[test]
fn what_is_in_the_key_goes_on() {
    let key = [KeyPart::Path, KeyPart::User, named_header("x-tenant"), named_header("user-agent")];
    let (request, _) =
        template(&key, Credentials::Strip, HostHeader::Rewrite, "/ws?token=secret").request(None);
    assert_eq!(request.uri(), "/ws", "no more of the query than the key has");
    let headers = request.headers();
    assert_eq!(headers["x-outrigger-user"], "alice");
    assert_eq!(headers["user-agent"], "Mozilla");
    assert_eq!(headers["host"], "10.0.0.1:3000");
    let tenants: Vec<_> = headers.get_all("x-tenant").iter().collect();
    assert_eq!(tenants, ["blue", "green"]);
}

#[test]
fn a_key_cannot_replace_what_is_ours() {
    let key =
        ["host", "x-outrigger-user", "connection", "sec-websocket-protocol", "missing"].map(named_header);
    let (request, _) = template(&key, Credentials::Strip, HostHeader::Rewrite, "/ws").request(None);
    let headers = request.headers();
    assert_eq!(headers.get_all("host").iter().count(), 1);
    assert_eq!(headers["host"], "10.0.0.1:3000");
    assert_eq!(headers.get_all("connection").iter().count(), 1);
    assert_eq!(headers["sec-websocket-protocol"], "b, a, c");
    assert!(!headers.contains_key("x-outrigger-user"), "nobody vouches for what a client says");
    assert!(!headers.contains_key("missing"));
}

#[test]
fn of_a_query_goes_on_what_the_key_names() {
    let cases = [
        (vec![KeyPart::Path], "/ws?a=1&b=2", "/ws"),
        (vec![KeyPart::Path, KeyPart::Query], "/ws?a=1&b=2", "/ws?a=1&b=2"),
        (vec![parameter("b")], "/ws?a=1&b=2&bb=3", "/ws?b=2"),
        (vec![parameter("b"), parameter("a")], "/ws?a=1&b=2&a=%20+", "/ws?b=2&a=1&a=%20+"),
        (vec![parameter("a")], "/ws?%61=1&A=2", "/ws"),
        (vec![parameter("a")], "/ws?a", "/ws?a"),
        (vec![parameter("a")], "/ws", "/ws"),
    ];
    for (key, target, expected) in cases {
        let template = template(&key, Credentials::Strip, HostHeader::Preserve, target);
        assert_eq!(template.request(None).0.uri(), expected, "{key:?} {target}");
    }
}

#[test]
fn the_first_clients_credentials_go_on_where_that_is_wanted() {
    let key = [KeyPart::Path, KeyPart::User];
    let (request, id) = template(&key, Credentials::First, HostHeader::Preserve, "/ws?x=y").request(None);
    assert_eq!(request.uri(), "/ws?x=y");
    let headers = request.headers();
    assert_eq!(headers["cookie"], "sid=secret");
    assert_eq!(headers["authorization"], "Bearer secret");
    assert_eq!(headers["x-outrigger-user"], "alice");
    assert_eq!(headers["x-forwarded-for"], "203.0.113.7, 198.51.100.1");
    assert_eq!(headers["x-request-id"], *id);
    assert_ne!(headers["sec-websocket-key"], "dGhlIHNhbXBsZSBub25jZQ==");
    assert!(!headers.contains_key("sec-websocket-extensions"), "the link ends here");
    assert!(!headers.contains_key("proxy-authorization"));
}

#[test]
fn of_clients_that_nobody_knows_the_first_lends_the_others_nothing() {
    let key = [KeyPart::Path, KeyPart::User];
    let template = template_of(&key, Credentials::First, HostHeader::Preserve, "/ws?x=y", None);
    let (request, _) = template.request(None);
    assert_eq!(request.uri(), "/ws");
    for name in ["cookie", "authorization", "x-forwarded-for", "x-api-key"] {
        assert!(!request.headers().contains_key(name), "{name}");
    }
}

#[test]
fn each_dial_has_a_key_of_its_own_and_offers_what_clients_were_told() {
    for credentials in [Credentials::Strip, Credentials::First] {
        let template = template(&[KeyPart::Path], credentials, HostHeader::Preserve, "/ws");
        let (first, id) = template.request(None);
        let (second, other_id) = template.request(Some(&HeaderValue::from_static("a")));
        assert_ne!(first.headers()["sec-websocket-key"], second.headers()["sec-websocket-key"]);
        assert_ne!(id, other_id);
        let key = STANDARD.decode(&first.headers()["sec-websocket-key"]).unwrap();
        assert_eq!(key.len(), 16);
        let offered: Vec<_> = second.headers().get_all("sec-websocket-protocol").iter().collect();
        assert_eq!(offered, ["a"]);
    }
}

proptest! {
    #[test]
    fn a_kept_head_is_what_it_was_made_from(
        target in "/[a-z%/]{0,12}(\\?[a-z=&%]{0,12})?",
        fields in proptest::collection::vec(
            ("[a-z][a-z0-9_!#$-]{0,8}", proptest::collection::vec(0x20u8..=0xff, 0..12)),
            0..12,
        ),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in &fields {
            let Ok(value) = HeaderValue::from_bytes(value) else { continue };
            headers.append(HeaderName::try_from(format!("x-{name}")).unwrap(), value);
        }
        let target: Uri = target.parse().unwrap();
        let (request, _) = Opening::new(&target, headers.clone()).request(None);
        prop_assert_eq!(request.uri(), &target);
        for name in headers.keys() {
            let all = |headers: &HeaderMap| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
            prop_assert_eq!(all(request.headers()), all(&headers), "{}", name);
        }
        // Its own key and id.
        prop_assert_eq!(request.headers().keys_len(), headers.keys_len() + 2);
    }
}

#[test]
fn headers_of_the_first_client_keep_their_order() {
    let template =
        template(&[KeyPart::Path, KeyPart::User], Credentials::First, HostHeader::Preserve, "/ws/a");
    let (first, _) = template.request(None);
    let (again, _) = template.request(None);
    // As `HeaderMap` has it, which fills the place of what is removed with the last one.
    let expected = [
        "host",
        "x-outrigger-user",
        "x-tenant",
        "sec-websocket-version",
        "sec-websocket-key",
        "upgrade",
        "sec-websocket-protocol",
        "origin",
        "user-agent",
        "accept-language",
        "cookie",
        "authorization",
        "connection",
        "x-api-key",
        "x-forwarded-for",
        "x-forwarded-user",
        "x-real-ip",
        "x-forwarded-proto",
        "x-forwarded-host",
        "forwarded",
        "x-request-id",
    ];
    let names = |request: &Request<_>| {
        let names: Vec<_> = request.headers().keys().map(|name| name.as_str().to_owned()).collect();
        names
    };
    assert_eq!(names(&first), expected);
    assert_eq!(names(&again), expected);
    assert_ne!(first.headers()["sec-websocket-key"], "dGhlIHNhbXBsZSBub25jZQ==", "a fresh one");
    assert_ne!(first.headers()["sec-websocket-key"], again.headers()["sec-websocket-key"]);
}

/// A head that one client has alone.
fn alone(target: &str, fields: &[(&'static str, &str)]) -> Opening {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, value.parse().unwrap());
    }
    Opening::of_one_client(&target.parse().unwrap(), headers)
}

/// The names and values of a request, but for what each dial has of its own.
fn fields(opening: &Opening) -> Vec<(String, String)> {
    let (request, _) = opening.request(None);
    let own = [X_REQUEST_ID, header::SEC_WEBSOCKET_KEY];
    let fields = request.headers().iter().filter(|(name, _)| !own.contains(name));
    fields.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}

fn answer(set: &[&'static str]) -> HeaderMap {
    set.iter().map(|set| (header::SET_COOKIE, HeaderValue::from_static(set))).collect()
}

#[test]
fn a_head_of_one_client_says_what_the_client_said() {
    let opening = alone("/ws?token=1", ONE_CLIENT);
    let (request, id) = opening.request(Some(&HeaderValue::from_static("a")));
    assert_eq!(request.uri(), "/ws?token=1");
    let headers = request.headers();
    for (name, _) in ONE_CLIENT {
        let sent: Vec<_> = headers.get_all(*name).iter().map(|value| value.to_str().unwrap()).collect();
        let said: Vec<_> =
            ONE_CLIENT.iter().filter(|(other, _)| other == name).map(|(_, value)| *value).collect();
        match *name {
            "sec-websocket-extensions" => assert!(sent.is_empty(), "nothing of ours is compressed"),
            "sec-websocket-protocol" => assert_eq!(sent, ["a"]),
            "x-request-id" => assert_eq!(sent, [&*id]),
            "sec-websocket-key" => assert_ne!(sent, said),
            _ => assert_eq!(sent, said, "{name}"),
        }
    }
}

#[test]
fn cookies_that_are_set_are_sent_at_the_next_dial_and_all_else_stays() {
    let before =
        [("host", "a"), ("cookie", "sid=old; a=1"), ("x-tenant", "blue"), ("cookie", "b=2"), ("origin", "o")];
    let mut opening = alone("/ws?x=y", &before);
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    // An answer that sets nothing changes nothing.
    let kept = opening.head.clone();
    assert_eq!(opening.set_cookies(&answer(&[])), 0);
    assert_eq!(opening.head, kept);
    assert_eq!(opening.set_cookies(&answer(&["sid=new; Path=/", "c=3", "a=; Max-Age=0"])), 0);
    let expected = [("host", "a"), ("cookie", "sid=new; b=2; c=3"), ("x-tenant", "blue"), ("origin", "o")];
    assert_eq!(fields(&opening), pairs(&expected));
    assert_eq!(opening.request(None).0.uri(), "/ws?x=y");
    // A second crash: what was set by the redial is rotated once more.
    assert_eq!(opening.set_cookies(&answer(&["sid=newest"])), 0);
    assert_eq!(fields(&opening)[1].1, "sid=newest; b=2; c=3");
    assert_eq!(opening.set_cookies(&answer(&["sid=; Max-Age=0", "b=; Max-Age=0", "c=; Max-Age=0"])), 0);
    assert_eq!(fields(&opening), pairs(&[("host", "a"), ("x-tenant", "blue"), ("origin", "o")]));
    // And where there was none.
    assert_eq!(opening.set_cookies(&answer(&["sid=again"])), 0);
    assert_eq!(fields(&opening).last().unwrap().1, "sid=again");
    let mut bare = alone("/", &[]);
    assert_eq!(bare.set_cookies(&answer(&["sid=1"])), 0);
    assert_eq!((bare.request(None).0.uri().path(), fields(&bare)), ("/", pairs(&[("cookie", "sid=1")])));
}

#[test]
fn cookies_for_which_there_is_no_room_are_told() {
    let mut opening = alone("/", &[("cookie", "a=1")]);
    let long = HeaderValue::try_from(format!("b={}", "x".repeat(16 * 1024))).unwrap();
    let mut set = answer(&["c=3"]);
    set.append(header::SET_COOKIE, long);
    assert_eq!(opening.set_cookies(&set), 1);
    assert_eq!(fields(&opening), [("cookie".to_owned(), "a=1; c=3".to_owned())]);
    for n in 0..200 {
        let set = HeaderValue::try_from(format!("n{n}=x")).unwrap();
        opening.set_cookies(&HeaderMap::from_iter([(header::SET_COOKIE, set)]));
    }
    assert_eq!(fields(&opening)[0].1.split("; ").count(), 64);
    assert!(opening.size() < 1024);
}

#[test]
fn nothing_that_shows_a_head_shows_a_credential() {
    let opening = alone("/ws?token=secret", ONE_CLIENT);
    let shown = format!("{opening:?} {:#?}", opening.clone());
    assert!(!shown.contains("secret") && shown.contains("/ws"), "{shown}");
    let (request, _) = opening.request(None);
    for name in [header::COOKIE, header::AUTHORIZATION] {
        let shown = format!("{:?}", request.headers()[&name]);
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[test]
fn a_head_holds_what_it_says_and_no_more() {
    let opening = alone("/ws", &[("host", "a"), ("cookie", "b=c")]);
    assert_eq!(opening.size(), "/ws\nhost:a\ncookie:b=c".len());
}

#[test]
fn what_a_server_has_set_is_carried_over_unless_the_client_says_something_new() {
    let with = |cookies: &str| {
        let mut headers = HeaderMap::new();
        if !cookies.is_empty() {
            headers.insert(header::COOKIE, HeaderValue::from_str(cookies).unwrap());
        }
        Opening::of_one_client(&Uri::from_static("/ws"), headers)
    };
    let answer = |set: &[&'static str]| {
        HeaderMap::from_iter(set.iter().map(|set| (header::SET_COOKIE, HeaderValue::from_static(set))))
    };
    let said = |opening: &Opening| {
        let (request, _) = opening.request(None);
        let line = request.headers().get(header::COOKIE).map(|line| line.to_str().unwrap().to_owned());
        assert!(request.headers().iter().all(|(name, _)| !name.as_str().is_empty()));
        line.unwrap_or_default()
    };
    // What the client said, what redials have set, what it says when it is back; what is said of both.
    for (first, set, next, expected) in [
        ("sid=0; theme=dark", &["sid=1", "csrf=a"][..], "sid=0; theme=light", "sid=1; theme=light; csrf=a"),
        ("sid=0; theme=dark", &["sid=1", "csrf=a"], "theme=dark; sid=9", "theme=dark; sid=9; csrf=a"),
        // It was logged out meanwhile.
        ("sid=0", &["sid=1", "csrf=a"], "", "csrf=a"),
        ("sid=0", &["sid=; Max-Age=0"], "sid=0; theme=dark", "theme=dark"),
        ("sid=0", &["sid=; Max-Age=0"], "sid=9", "sid=9"),
        ("a=1; a=2; b=1", &["a=3"], "a=1; a=2; b=1", "a=3; b=1"),
        ("a=1; a=2; b=1", &["a=3"], "a=1; b=1", "a=1; b=1"),
        ("", &["sid=1"], "", "sid=1"),
        ("", &["sid=1"], "sid=2", "sid=2"),
        ("sid=0", &["sid=0"], "sid=0", "sid=0"),
        ("sid=0", &[], "sid=0", "sid=0"),
    ] {
        let mut opening = with(first);
        opening.set_cookies(&answer(set));
        // However often it comes back.
        for _ in 0..3 {
            let mut back = with(next);
            back.carry_cookies_from(&opening);
            assert_eq!(said(&back), expected, "{first:?} {set:?} {next:?}");
            opening = back;
        }
        // What it said is the same also for what comes later.
        opening.set_cookies(&answer(&["later=1"]));
        let mut back = with(next);
        back.carry_cookies_from(&opening);
        let all = [expected, "later=1"].into_iter().filter(|one| !one.is_empty()).collect::<Vec<_>>();
        assert_eq!(said(&back), all.join("; "), "{first:?} {set:?} {next:?}");
    }
    // What is beyond the bounds is left as the client says it.
    let mut opening = with("");
    opening.set_cookies(&answer(&["sid=1"]));
    let many: Vec<String> = (0..64).map(|n| format!("c{n}={n}")).collect();
    let mut back = with(&many.join("; "));
    back.carry_cookies_from(&opening);
    assert_eq!(said(&back), many.join("; "));
}
