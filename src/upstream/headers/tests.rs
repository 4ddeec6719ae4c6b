use super::*;

fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

/// A peer that nobody trusts.
fn stranger() -> Peer {
    Peer { address: "[2001:db8::7]:1234".parse().ok(), port: Some(8080), ..Peer::default() }
}

fn seen(peer: &Peer) -> Seen<'_> {
    Seen { peer, is_forwarded: false, client: peer.address, user: None, attested: None }
}

fn sent(pairs: &[(&'static str, &'static str)], forwarded: Forwarded, is_websocket: bool) -> HeaderMap {
    told(pairs, seen(&stranger()), forwarded, is_websocket)
}

fn told(
    pairs: &[(&'static str, &'static str)],
    seen: Seen<'_>,
    forwarded: Forwarded,
    is_websocket: bool,
) -> HeaderMap {
    let mut headers = map(pairs);
    let target = Target::Tcp { host: "::1".into(), port: 3000 };
    let telling = Telling { forwarded, host: HostHeader::Preserve, target: &target };
    for_upstream(&mut headers, seen, telling, is_websocket);
    headers
}

/// Every header of that name.
fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn headers_that_connection_names_go_but_identity_stays() {
    let headers = sent(
        &[
            ("host", "a.example"),
            (
                "connection",
                "close, X-Private, AUTHORIZATION, x-forwarded-for , Cookie, X-Outrigger-User, Content-Length",
            ),
            ("x-private", "1"),
            ("authorization", "Bearer t"),
            ("cookie", "c=1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("x-kept", "1"),
            ("content-length", "3"),
        ],
        Forwarded::XForwarded,
        false,
    );
    for gone in ["connection", "x-private", "keep-alive", "te", "upgrade"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    for kept in ["authorization", "cookie", "host", "x-kept", "x-forwarded-for", "content-length"] {
        assert!(headers.contains_key(kept), "{kept}");
    }
}

#[test]
fn what_a_client_says_of_itself_is_replaced() {
    let forged = [
        ("host", "a.example:8080"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-for", "10.0.0.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-prefix", "/evil"),
        ("x-real-ip", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("x-outrigger-user", "root"),
        ("x-forwarded-user", "root"),
        ("x-forwarded-email", "root@a.example"),
        ("x-forwarded-groups", "wheel"),
        ("x-forwarded-preferred-username", "root"),
        ("x-forwarded-ssl", "on"),
        ("x-forwarded-whatever", "1"),
        ("x_forwarded_for", "10.0.0.1"),
        ("x-forwarded_user", "root"),
        ("x_outrigger_user", "root"),
        ("x_real_ip", "10.0.0.1"),
    ];
    let headers = sent(&forged, Forwarded::Both, false);
    assert_eq!(all(&headers, "x-forwarded-for"), ["2001:db8::7"]);
    assert_eq!(all(&headers, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&headers, "x-forwarded-host"), ["a.example:8080"]);
    assert_eq!(all(&headers, "x-forwarded-port"), ["8080"]);
    assert_eq!(all(&headers, "forwarded"), [r#"for="[2001:db8::7]";host="a.example:8080";proto=http"#]);
    let left: Vec<_> = headers.keys().map(HeaderName::as_str).filter(|name| name.contains('_')).collect();
    assert_eq!(headers.len(), 6, "those five and Host: {headers:?}");
    assert!(left.is_empty(), "{left:?}");
    let headers = sent(&forged, Forwarded::Off, false);
    assert_eq!(headers.len(), 1, "Host: {headers:?}");
    assert_eq!(sent(&forged, Forwarded::Rfc7239, false).len(), 2, "and Forwarded");
    assert_eq!(sent(&forged, Forwarded::XForwarded, false).len(), 5, "and four");
}

#[test]
fn what_a_trusted_proxy_says_is_kept_and_its_own_address_appended() {
    let proxy = Peer { is_tls: true, ..stranger() };
    let client = "203.0.113.7:0".parse().ok();
    let seen = Seen { is_forwarded: true, client, ..seen(&proxy) };
    let said = [
        ("host", "inner"),
        ("x-forwarded-for", "198.51.100.9"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "a.example"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-prefix", "/app"),
        ("x-forwarded-user", "alice"),
        ("x-real-ip", "203.0.113.7"),
        ("forwarded", "for=203.0.113.7;proto=https"),
        ("x-outrigger-user", "root"),
        ("x_forwarded_for", "10.0.0.1"),
    ];
    let headers = told(&said, seen, Forwarded::Both, false);
    assert_eq!(all(&headers, "x-forwarded-for"), ["198.51.100.9, 203.0.113.7, 2001:db8::7"]);
    let ours = r#"for=203.0.113.7;proto=https, for="[2001:db8::7]";host="inner";proto=https"#;
    assert_eq!(all(&headers, "forwarded"), [ours]);
    for (name, value) in &said[3..9] {
        assert_eq!(all(&headers, name), [*value], "{name}");
    }
    for gone in ["x-outrigger-user", "x_forwarded_for"] {
        assert!(!headers.contains_key(gone), "{gone}: only we say this");
    }
    // The kind that the upstream does not want is not sent; who the user is does not belong to either.
    let headers = told(&said, seen, Forwarded::XForwarded, false);
    assert!(!headers.contains_key("forwarded") && headers.contains_key("x-real-ip"));
    let headers = told(&said, seen, Forwarded::Rfc7239, false);
    assert_eq!(all(&headers, "forwarded"), [ours]);
    assert!(!headers.contains_key("x-forwarded-for") && !headers.contains_key("x-real-ip"));
    let headers = told(&said, seen, Forwarded::Off, false);
    assert!(!headers.contains_key("x-forwarded-for") && !headers.contains_key("forwarded"));
    assert_eq!(all(&headers, "x-forwarded-user"), ["alice"]);
}

#[test]
fn only_what_a_trusted_proxy_did_not_say_is_made() {
    let proxy = Peer { is_tls: true, ..stranger() };
    let seen = Seen { is_forwarded: true, ..seen(&proxy) };
    // what it said besides Host; X-Forwarded-For, -Proto, -Host, -Port as they arrive
    type Row = (&'static [(&'static str, &'static str)], [Option<&'static str>; 4]);
    const OWN: Option<&str> = Some("2001:db8::7");
    const CASES: &[Row] = &[
        (&[], [OWN, Some("https"), Some("inner"), Some("8080")]),
        (&[("x-forwarded-for", "")], [OWN, Some("https"), Some("inner"), Some("8080")]),
        // A port of ours behind a scheme or host of theirs would be a wrong URL.
        (&[("x-forwarded-proto", "http")], [OWN, Some("http"), Some("inner"), None]),
        (&[("x-forwarded-host", "a.example")], [OWN, Some("https"), Some("a.example"), None]),
        (&[("x-forwarded-port", "444")], [OWN, Some("https"), Some("inner"), Some("444")]),
    ];
    for (said, expected) in CASES {
        let said = [&[("host", "inner")], *said].concat();
        let headers = told(&said, seen, Forwarded::XForwarded, false);
        for (name, value) in ["for", "proto", "host", "port"].iter().zip(expected) {
            let name = format!("x-forwarded-{name}");
            assert_eq!(all(&headers, &name), Vec::from_iter(*value), "{name}: {said:?}");
        }
    }
}

#[test]
fn a_client_that_was_named_in_the_other_kind_is_not_lost() {
    let proxy = Peer { address: "10.0.0.1:1".parse().ok(), ..Peer::default() };
    let seen = Seen { is_forwarded: true, client: "203.0.113.7:0".parse().ok(), ..seen(&proxy) };
    let headers = told(&[("forwarded", "for=203.0.113.7")], seen, Forwarded::XForwarded, false);
    assert_eq!(all(&headers, "x-forwarded-for"), ["203.0.113.7, 10.0.0.1"]);
    let headers = told(&[("x-forwarded-for", "203.0.113.7")], seen, Forwarded::Rfc7239, false);
    assert_eq!(all(&headers, "forwarded"), ["for=203.0.113.7, for=10.0.0.1;proto=http"]);
}

#[test]
fn a_mapped_address_is_told_as_the_ipv4_address_it_is() {
    let mapped = Peer { address: "[::ffff:192.0.2.1]:1".parse().ok(), ..Peer::default() };
    let headers = told(&[], seen(&mapped), Forwarded::Both, false);
    assert_eq!(all(&headers, "x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(all(&headers, "forwarded"), ["for=192.0.2.1;proto=http"]);
}

#[test]
fn on_a_unix_socket_nobody_has_an_address() {
    let unix = Peer::default();
    let headers = told(&[("host", "a\"b\\")], seen(&unix), Forwarded::Both, false);
    assert!(!headers.contains_key("x-forwarded-for") && !headers.contains_key("x-forwarded-port"));
    assert_eq!(all(&headers, "forwarded"), [r#"for=unknown;host="a\"b\\";proto=http"#]);
    let trusted = Seen { is_forwarded: true, client: "203.0.113.7:0".parse().ok(), ..seen(&unix) };
    let headers = told(&[("x-forwarded-for", "203.0.113.7")], trusted, Forwarded::Both, false);
    assert_eq!(all(&headers, "x-forwarded-for"), ["203.0.113.7"]);
}

/// Threat: header injection. No value can be made that ends a line.
#[test]
fn header_injection() {
    for evil in ["a\r\nX-Admin: 1", "a\nX-Admin: 1", "a\0", "a\u{7f}", "\u{1b}[0m"] {
        let peer = stranger();
        let headers = told(&[("host", "a")], Seen { user: Some(evil), ..seen(&peer) }, Forwarded::Both, true);
        assert!(!headers.contains_key("x-outrigger-user"), "{evil:?}");
        assert!(HeaderValue::from_str(evil).is_err() && HeaderValue::from_bytes(evil.as_bytes()).is_err());
        assert!(HeaderName::from_bytes(evil.as_bytes()).is_err());
        assert!(format!("/{evil}").parse::<http::Uri>().is_err(), "{evil:?}");
    }
    // A quote cannot end the quoted string of our element either.
    let peer = stranger();
    let headers = told(&[("host", "a\";for=1.2.3.4,\"")], seen(&peer), Forwarded::Rfc7239, false);
    assert_eq!(all(&headers, "forwarded"), [r#"for="[2001:db8::7]";host="a\";for=1.2.3.4,\"";proto=http"#]);
}

#[test]
fn only_a_websocket_handshake_keeps_its_upgrade() {
    let handshake = [
        ("host", "a"),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "k"),
    ];
    let headers = sent(&handshake, Forwarded::Off, true);
    assert_eq!(headers["connection"], "Upgrade");
    assert_eq!(headers["upgrade"], "websocket");
    assert!(headers.contains_key("sec-websocket-key"));
}

#[test]
fn a_request_id_is_kept_if_it_can_be_logged_and_made_if_not() {
    let mut headers = map(&[("x-request-id", "abc-1")]);
    assert_eq!(&*request_id(&mut headers), "abc-1");
    for bad in ["", "\u{e9}"] {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(bad.as_bytes()).unwrap());
        let made = request_id(&mut headers);
        assert_eq!(made.len(), 32);
        assert_eq!(headers[&X_REQUEST_ID], &*made);
    }
    let mut headers = HeaderMap::new();
    headers.insert(X_REQUEST_ID, HeaderValue::from_str(&"x".repeat(129)).unwrap());
    assert_eq!(request_id(&mut headers).len(), 32);
}

#[test]
fn the_upstreams_own_host_is_a_valid_authority() {
    let tcp = |host: &str, port| authority(&Target::Tcp { host: host.into(), port });
    assert_eq!(tcp("app", 80), "app");
    assert_eq!(tcp("app", 3000), "app:3000");
    assert_eq!(tcp("::1", 80), "[::1]:80");
    assert_eq!(authority(&Target::Unix("/run/a.sock".into())), "localhost");
}

#[test]
fn what_the_authentication_service_says_goes_on_whatever_the_client_names_as_its_hops() {
    let mut attested = HeaderMap::new();
    for value in ["a", "b"] {
        attested.append("x-tenant", HeaderValue::from_static(value));
    }
    attested.append("authorization", HeaderValue::from_static("Bearer theirs"));
    let peer = stranger();
    let seen = Seen { attested: Some(&attested), ..seen(&peer) };
    let said = [
        ("host", "a"),
        ("connection", "upgrade, x-tenant"),
        ("authorization", "Bearer own"),
        ("x-tenant", "own"),
        ("x-kept", "1"),
    ];
    for is_websocket in [false, true] {
        let headers = told(&said, seen, Forwarded::Off, is_websocket);
        assert_eq!(all(&headers, "x-tenant"), ["a", "b"]);
        assert_eq!(all(&headers, "authorization"), ["Bearer theirs"]);
        assert_eq!(all(&headers, "x-kept"), ["1"]);
    }
}
