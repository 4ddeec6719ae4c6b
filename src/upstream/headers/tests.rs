use super::*;
use crate::net::Peer;

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

fn requester(peer: &Peer) -> Requester<'_> {
    Requester { peer, forwarding: None, client: peer.address, user: None, attested: None }
}

fn sent(pairs: &[(&'static str, &'static str)], forwarded: Forwarded, is_websocket: bool) -> HeaderMap {
    forwarded_headers(pairs, requester(&stranger()), forwarded, is_websocket)
}

fn forwarded_headers(
    pairs: &[(&'static str, &'static str)],
    requester: Requester<'_>,
    forwarded: Forwarded,
    is_websocket: bool,
) -> HeaderMap {
    let mut headers = map(pairs);
    let target = Target::Tcp { host: "::1".into(), port: 3000 };
    let config =
        ForwardingConfig { forwarded, host: HostHeader::Preserve, target: &target, strip_prefix: None };
    for_upstream(&mut headers, requester, config, is_websocket);
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
        ("x-outrigger-session", "ticket"),
        ("x_outrigger_session", "ticket"),
        ("x-forwarded-user", "root"),
        ("x-forwarded-email", "root@a.example"),
        ("x-forwarded-groups", "wheel"),
        ("x-forwarded-preferred-username", "root"),
        ("x-forwarded-ssl", "on"),
        ("x-forwarded-whatever", "1"),
        ("front-end-https", "on"),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("cf-connecting-ip", "10.0.0.1"),
        ("front_end_https", "on"),
        ("x_forwarded_for", "10.0.0.1"),
        ("x-forwarded_user", "root"),
        ("x_outrigger_user", "root"),
        ("x_real_ip", "10.0.0.1"),
        ("x.forwarded.for", "10.0.0.1"),
        ("x~outrigger!user", "root"),
    ];
    let headers = sent(&forged, Forwarded::Both, false);
    assert_eq!(all(&headers, "x-forwarded-for"), ["2001:db8::7"]);
    assert_eq!(all(&headers, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&headers, "x-forwarded-host"), ["a.example:8080"]);
    assert_eq!(all(&headers, "x-forwarded-port"), ["8080"]);
    assert_eq!(all(&headers, "forwarded"), [r#"for="[2001:db8::7]";host="a.example:8080";proto=http"#]);
    let left: Vec<_> =
        headers.keys().map(HeaderName::as_str).filter(|name| name.contains(['_', '.', '~'])).collect();
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
    let read = road(Some("https"), Some("a.example"), Some(443), Some("/app"));
    let requester = Requester { forwarding: Some(&read), client, ..requester(&proxy) };
    let sent = [
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
        ("x-outrigger-session", "ticket"),
    ];
    let headers = forwarded_headers(&sent, requester, Forwarded::Both, false);
    assert_eq!(all(&headers, "x-forwarded-for"), ["198.51.100.9, 203.0.113.7, 2001:db8::7"]);
    let ours =
        r#"for=203.0.113.7;host="a.example";proto=https, for="[2001:db8::7]";host="inner";proto=https"#;
    assert_eq!(all(&headers, "forwarded"), [ours]);
    for (name, value) in &sent[3..9] {
        assert_eq!(all(&headers, name), [*value], "{name}");
    }
    for gone in ["x-outrigger-user", "x_forwarded_for", "x-outrigger-session"] {
        assert!(!headers.contains_key(gone), "{gone}: only we say this, or are told it");
    }
    // The kind that the upstream does not want is not sent; who the user is does not belong to either.
    let headers = forwarded_headers(&sent, requester, Forwarded::XForwarded, false);
    assert!(!headers.contains_key("forwarded") && headers.contains_key("x-real-ip"));
    let headers = forwarded_headers(&sent, requester, Forwarded::Rfc7239, false);
    assert_eq!(all(&headers, "forwarded"), [ours]);
    assert!(!headers.contains_key("x-forwarded-for") && !headers.contains_key("x-real-ip"));
    let headers = forwarded_headers(&sent, requester, Forwarded::Off, false);
    assert!(!headers.contains_key("x-forwarded-for") && !headers.contains_key("forwarded"));
    assert_eq!(all(&headers, "x-forwarded-user"), ["alice"]);
}

#[test]
fn only_what_a_trusted_proxy_did_not_say_is_made() {
    let proxy = Peer { is_tls: true, ..stranger() };
    // scheme, host, port and prefix that it said; X-Forwarded-Proto, -Host, -Port, -Prefix, and what its element of
    // Forwarded says, which is not there where it said nothing
    type Said = (Option<&'static str>, Option<&'static str>, Option<u16>, Option<&'static str>);
    type Row = (Said, [&'static str; 4], &'static str);
    const CASES: &[Row] = &[
        ((None, None, None, None), ["https", "inner", "8080", ""], ""),
        // A port of ours behind a scheme or host of theirs would be a wrong URL.
        ((Some("http"), None, None, None), ["http", "inner", "", ""], ";proto=http"),
        ((Some("wss"), None, None, None), ["wss", "inner", "", ""], ";proto=wss"),
        ((None, Some("a.example"), None, None), ["https", "a.example", "", ""], r#";host="a.example""#),
        (
            (None, Some("a.example:81"), None, None),
            ["https", "a.example:81", "81", ""],
            r#";host="a.example:81""#,
        ),
        ((None, None, Some(444), None), ["https", "inner", "444", ""], ""),
        // The port that goes without saying.
        (
            (Some("https"), Some("a.example"), None, None),
            ["https", "a.example", "443", ""],
            r#";host="a.example";proto=https"#,
        ),
        (
            (Some("ws"), Some("a.example"), None, None),
            ["ws", "a.example", "80", ""],
            r#";host="a.example";proto=ws"#,
        ),
        (
            (Some("x+y"), Some("a.example"), None, None),
            ["x+y", "a.example", "", ""],
            r#";host="a.example";proto=x+y"#,
        ),
        (
            (Some("https"), Some("a.example"), Some(443), None),
            ["https", "a.example", "443", ""],
            r#";host="a.example";proto=https"#,
        ),
        (
            (Some("https"), Some("a.example"), Some(80), None),
            ["https", "a.example", "80", ""],
            r#";host="a.example:80";proto=https"#,
        ),
        (
            (Some("https"), Some("[::1]"), Some(8443), None),
            ["https", "[::1]", "8443", ""],
            r#";host="[::1]:8443";proto=https"#,
        ),
        (
            (Some("https"), Some("[::1]:8443"), None, None),
            ["https", "[::1]:8443", "8443", ""],
            r#";host="[::1]:8443";proto=https"#,
        ),
        ((Some("https"), Some("a:"), None, None), ["https", "a:", "443", ""], r#";host="a:";proto=https"#),
        ((None, None, None, Some("/app")), ["https", "inner", "8080", "/app"], ""),
    ];
    for (is_rfc7239, (sent, expected, element)) in
        [false, true].iter().flat_map(|kind| CASES.iter().map(move |row| (kind, row)))
    {
        let (scheme, host, port, prefix) = *sent;
        let read = Forwarding { is_rfc7239: *is_rfc7239, ..road(scheme, host, port, prefix) };
        let requester = Requester { forwarding: Some(&read), ..requester(&proxy) };
        // What stands there has been read.
        let stale = [
            ("host", "inner"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-host", "stale"),
            ("x-forwarded-port", "1, 2"),
            ("x-forwarded-prefix", "/stale"),
        ];
        let headers = forwarded_headers(&stale, requester, Forwarded::Both, false);
        assert_eq!(all(&headers, "x-forwarded-for"), ["2001:db8::7"]);
        for (name, value) in ["proto", "host", "port", "prefix"].iter().zip(expected) {
            let name = format!("x-forwarded-{name}");
            let expected: Vec<_> = Some(*value).filter(|value| !value.is_empty()).into_iter().collect();
            assert_eq!(all(&headers, &name), expected, "{name}: {sent:?}");
        }
        let ours = r#"for="[2001:db8::7]";host="inner";proto=https"#;
        let whole =
            if element.is_empty() { ours.to_owned() } else { format!("for=unknown{element}, {ours}") };
        assert_eq!(all(&headers, "forwarded"), [whole], "{sent:?}");
        let headers = forwarded_headers(&stale, requester, Forwarded::Off, false);
        assert_eq!(headers.len(), 1, "Host: {headers:?}");
    }
}

/// What was read of a trusted proxy's headers.
fn road(
    scheme: Option<&'static str>,
    host: Option<&'static str>,
    port: Option<u16>,
    prefix: Option<&str>,
) -> Forwarding {
    Forwarding {
        is_rfc7239: false,
        scheme: scheme.map(HeaderValue::from_static),
        host: host.map(HeaderValue::from_static),
        port,
        prefix: prefix.map(Into::into),
    }
}

#[test]
fn of_the_two_kinds_the_one_that_is_not_believed_is_made_from_the_other() {
    let proxy = Peer { address: "10.0.0.1:1".parse().ok(), ..Peer::default() };
    let client = "203.0.113.7:0".parse().ok();
    // A client's own `Forwarded`, which a proxy that writes the other kind lets pass.
    let sent = [
        ("host", "inner"),
        ("x-forwarded-for", "203.0.113.7"),
        ("forwarded", "for=10.9.9.9;proto=https;host=evil"),
    ];
    let read = road(Some("http"), None, None, None);
    let seen_x = Requester { forwarding: Some(&read), client, ..requester(&proxy) };
    let ours = r#"for=10.0.0.1;host="inner";proto=http"#;
    for form in [Forwarded::Both, Forwarded::Rfc7239] {
        let headers = forwarded_headers(&sent, seen_x, form, false);
        assert_eq!(all(&headers, "forwarded"), [format!("for=203.0.113.7;proto=http, {ours}")]);
    }
    // One that was left open takes in what stands behind it.
    let read = Forwarding { is_rfc7239: true, ..road(Some("https"), None, None, None) };
    let seen_forwarded = Requester { forwarding: Some(&read), client, ..requester(&proxy) };
    for (sent, expected) in [
        ("for=203.0.113.7;proto=https", "for=203.0.113.7;proto=https"),
        (r#"for="_a, for=203.0.113.7;proto=https"#, "for=203.0.113.7;proto=https"),
        (r#"for="_a\", for=203.0.113.7;proto=https"#, "for=203.0.113.7;proto=https"),
        (r#"for="_a\"", for=203.0.113.7;proto=https"#, r#"for="_a\"", for=203.0.113.7;proto=https"#),
    ] {
        let headers = forwarded_headers(
            &[("host", "inner"), ("forwarded", sent)],
            seen_forwarded,
            Forwarded::Both,
            false,
        );
        assert_eq!(all(&headers, "forwarded"), [format!("{expected}, {ours}")], "{sent}");
        assert_eq!(all(&headers, "x-forwarded-for"), ["203.0.113.7, 10.0.0.1"]);
        assert_eq!(all(&headers, "x-forwarded-proto"), ["https"]);
    }
}

#[test]
fn a_prefix_that_the_route_takes_off_stands_behind_those_that_were_taken_off_before() {
    let peer = stranger();
    let target = Target::Tcp { host: "a".into(), port: 80 };
    for (sent, strip_prefix, expected) in [
        (None, None, None),
        (Some("/app"), None, Some("/app")),
        (None, Some("/api"), Some("/api")),
        (Some("/app"), Some("/api/v1"), Some("/app/api/v1")),
    ] {
        let read = road(None, None, None, sent);
        for form in [Forwarded::XForwarded, Forwarded::Rfc7239, Forwarded::Both, Forwarded::Off] {
            let mut headers = map(&[("host", "a")]);
            let config = ForwardingConfig {
                forwarded: form,
                host: HostHeader::Preserve,
                target: &target,
                strip_prefix,
            };
            for_upstream(
                &mut headers,
                Requester { forwarding: Some(&read), ..requester(&peer) },
                config,
                true,
            );
            let expected = expected.filter(|_| form != Forwarded::Off);
            assert_eq!(all(&headers, "x-forwarded-prefix"), Vec::from_iter(expected), "{sent:?} {form:?}");
        }
    }
}

#[test]
fn a_client_that_was_named_in_the_other_kind_is_not_lost() {
    let proxy = Peer { address: "10.0.0.1:1".parse().ok(), ..Peer::default() };
    let read = Forwarding::default();
    let requester =
        Requester { forwarding: Some(&read), client: "203.0.113.7:0".parse().ok(), ..requester(&proxy) };
    let headers =
        forwarded_headers(&[("forwarded", "for=203.0.113.7")], requester, Forwarded::XForwarded, false);
    assert_eq!(all(&headers, "x-forwarded-for"), ["203.0.113.7, 10.0.0.1"]);
    let headers =
        forwarded_headers(&[("x-forwarded-for", "203.0.113.7")], requester, Forwarded::Rfc7239, false);
    assert_eq!(all(&headers, "forwarded"), ["for=203.0.113.7, for=10.0.0.1;proto=http"]);
}

#[test]
fn a_mapped_address_is_told_as_the_ipv4_address_it_is() {
    let mapped = Peer { address: "[::ffff:192.0.2.1]:1".parse().ok(), ..Peer::default() };
    let headers = forwarded_headers(&[], requester(&mapped), Forwarded::Both, false);
    assert_eq!(all(&headers, "x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(all(&headers, "forwarded"), ["for=192.0.2.1;proto=http"]);
}

#[test]
fn on_a_unix_socket_nobody_has_an_address() {
    let unix = Peer::default();
    let headers = forwarded_headers(&[("host", "a\"b\\")], requester(&unix), Forwarded::Both, false);
    assert!(!headers.contains_key("x-forwarded-for") && !headers.contains_key("x-forwarded-port"));
    assert_eq!(all(&headers, "forwarded"), [r#"for=unknown;host="a\"b\\";proto=http"#]);
    let read = Forwarding::default();
    let trusted =
        Requester { forwarding: Some(&read), client: "203.0.113.7:0".parse().ok(), ..requester(&unix) };
    let headers = forwarded_headers(&[("x-forwarded-for", "203.0.113.7")], trusted, Forwarded::Both, false);
    assert_eq!(all(&headers, "x-forwarded-for"), ["203.0.113.7"]);
}

/// Threat: header injection. No value can be made that ends a line.
#[test]
fn header_injection() {
    for evil in ["a\r\nX-Admin: 1", "a\nX-Admin: 1", "a\0", "a\u{7f}", "\u{1b}[0m"] {
        let peer = stranger();
        let headers = forwarded_headers(
            &[("host", "a")],
            Requester { user: Some(evil), ..requester(&peer) },
            Forwarded::Both,
            true,
        );
        assert!(!headers.contains_key("x-outrigger-user"), "{evil:?}");
        assert!(HeaderValue::from_str(evil).is_err() && HeaderValue::from_bytes(evil.as_bytes()).is_err());
        assert!(HeaderName::from_bytes(evil.as_bytes()).is_err());
        assert!(format!("/{evil}").parse::<http::Uri>().is_err(), "{evil:?}");
    }
    // A quote cannot end the quoted string of our element either.
    let peer = stranger();
    let headers =
        forwarded_headers(&[("host", "a\";for=1.2.3.4,\"")], requester(&peer), Forwarded::Rfc7239, false);
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
    let requester = Requester { attested: Some(&attested), ..requester(&peer) };
    let sent = [
        ("host", "a"),
        ("connection", "upgrade, x-tenant"),
        ("authorization", "Bearer own"),
        ("x-tenant", "own"),
        ("x-kept", "1"),
    ];
    for is_websocket in [false, true] {
        let headers = forwarded_headers(&sent, requester, Forwarded::Off, is_websocket);
        assert_eq!(all(&headers, "x-tenant"), ["a", "b"]);
        assert_eq!(all(&headers, "authorization"), ["Bearer theirs"]);
        assert_eq!(all(&headers, "x-kept"), ["1"]);
    }
}

#[test]
fn what_is_sent_on_stands_where_it_stood_if_each_hop_by_hop_header_left_by_itself() {
    let names: Vec<&HeaderName> =
        HOP_BY_HOP.iter().chain([&header::HOST, &header::ORIGIN, &header::COOKIE]).collect();
    for set in 0..1_u32 << names.len() {
        let mut headers = HeaderMap::new();
        // From the last to the first, so that they do not stand in the order in which they leave.
        for (at, name) in names.iter().enumerate().rev().filter(|(at, _)| set >> at & 1 == 1) {
            headers.append(*name, HeaderValue::from(at));
        }
        let mut expected = headers.clone();
        for name in &HOP_BY_HOP {
            expected.remove(name);
        }
        drop_hop_by_hop(&mut headers);
        assert!(headers.iter().eq(expected.iter()), "{headers:?}, not {expected:?}");
    }
}
