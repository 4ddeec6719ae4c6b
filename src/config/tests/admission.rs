//! Who may come in: what the settings come to.

use super::*;

fn policy(yaml: &str) -> Policy {
    let config = Config::from_yaml(yaml).unwrap_or_else(|errors| panic!("{yaml}: {errors}"));
    Policy::clone(&config.routes[0].policy)
}

fn jwt(yaml: &str) -> Jwt {
    match policy(&format!("policy: {{ origins: [], auth: {{ jwt: {yaml} }} }}")).auth {
        Some(Auth::Jwt(jwt)) => jwt,
        other => panic!("{yaml}: {other:?}"),
    }
}

#[test]
fn the_words_for_networks_stand_for_these() {
    let trusted =
        |yaml: &str| Config::from_yaml(&format!("trusted_proxies: {yaml}")).unwrap().trusted_proxies;
    for (yaml, address, believed) in [
        ("[]", "127.0.0.1", false),
        ("[private]", "10.255.0.1", true),
        ("[private]", "172.31.0.1", true),
        ("[private]", "172.32.0.1", false),
        ("[private]", "192.168.9.9", true),
        ("[private]", "100.64.0.1", true),
        ("[private]", "100.128.0.1", false),
        ("[private]", "169.254.1.1", true),
        ("[private]", "fd00::1", true),
        ("[private]", "fe80::1", true),
        ("[private]", "::ffff:10.0.0.1", true),
        ("[private]", "127.0.0.1", false),
        ("[private]", "2001:db8::1", false),
        ("[loopback]", "127.9.9.9", true),
        ("[loopback]", "::1", true),
        ("[loopback]", "10.0.0.1", false),
        ("['::ffff:192.0.2.0/120']", "192.0.2.9", true),
        ("['::/0']", "192.0.2.9", false),
        ("[192.0.2.9]", "::ffff:192.0.2.9", true),
        ("[192.0.2.9]", "192.0.2.10", false),
    ] {
        assert_eq!(trusted(yaml).contains(Some(address.parse().unwrap())), believed, "{yaml} {address}");
    }
    assert!(trusted("[loopback]").contains(None));
    assert!(!trusted("[private, 0.0.0.0/0, '::/0']").contains(None));
}

#[test]
fn the_proxy_protocol_is_believed_from_somebody_or_required_of_everybody() {
    for (yaml, fit) in [
        ("listen: { proxy_protocol: off }", true),
        ("listen: { proxy_protocol: required }", true),
        ("listen: { proxy_protocol: optional }", false),
        ("listen: { proxy_protocol: optional }\ntrusted_proxies: [loopback]", true),
    ] {
        assert_eq!(Config::from_yaml(yaml).is_ok(), fit, "{yaml}");
    }
}

#[test]
fn a_rate_has_the_defaults_of_its_place() {
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    let policy = policy(
        "policy: { limits: { message_rate: {} }, handshake_rate: { global: { rate: 7/s }, per_ip: {}, per_user: {} } }",
    );
    assert_eq!(policy.message_rate, rate(100.0, 200));
    assert_eq!((policy.control_rate.in_feeds(), policy.control_rate.in_tunnels()), (rate(100.0, 1000), None));
    let HandshakeRate { global, per_ip, per_user, .. } = policy.handshake_rate;
    assert_eq!((global, per_ip, per_user), (rate(7.0, 1000), rate(20.0, 40), rate(20.0, 40)));
}

#[test]
fn no_limit_is_none_however_it_is_written() {
    for off in ["0", "null", "~", ""] {
        let limits = policy(&format!("policy: {{ limits: {{ connections: {off}, per_ip: {off} }} }}")).limits;
        let on_user_limit = OnUserLimit::Refuse;
        let none = Limits { connections: None, per_ip: None, per_user: None, on_user_limit };
        assert_eq!(limits, none, "{off:?}");
    }
    let rate = policy("policy: { handshake_rate: { global: null } }").handshake_rate;
    assert_eq!((rate.global, rate.queue), (None, Duration::ZERO));
}

#[test]
fn a_list_of_origins_lets_those_without_one_in_and_a_map_may_refuse_them() {
    let origins = |yaml: &str| policy(&format!("policy: {{ origins: {yaml} }}")).origins;
    assert_eq!(origins("null"), None);
    let pattern = OriginPattern::Of {
        scheme: "https".into(),
        host: "a.example".into(),
        subdomains: false,
        port: Some(443),
    };
    let allow = |missing| Some(Origins { allow: vec![pattern.clone()], missing });
    assert_eq!(origins("['https://a.example']"), allow(true));
    assert_eq!(origins("{ allow: ['https://a.example'] }"), allow(true));
    assert_eq!(origins("{ allow: ['https://a.example'], missing: refuse }"), allow(false));
    assert_eq!(origins("[]"), Some(Origins { allow: vec![], missing: true }));

    for pairs in [
        &[("OUTRIGGER__POLICY__ORIGINS", "['https://a.example']")][..],
        &[("OUTRIGGER__POLICY__ORIGINS__ALLOW", "['https://a.example']")],
    ] {
        assert_eq!(load(from_env(pairs)).unwrap().routes[0].policy.origins, allow(true));
    }
}

#[test]
fn algorithms_follow_the_kind_of_key() {
    use JwtAlgorithm::{EdDsa, Hs256, Rs256};
    let files = "tests/config/files";
    for (yaml, expected) in [
        (format!("{{ secret_file: {files}/secret }}"), vec![Hs256]),
        (format!("{{ public_key_file: {files}/key.pem }}"), vec![Rs256]),
        (format!("{{ jwks_file: {files}/jwks.json }}"), vec![Rs256]),
        ("{ jwks_url: 'http://id/keys' }".into(), vec![Rs256]),
        ("{ jwks_url: 'http://id/keys', algorithms: [EdDSA] }".into(), vec![EdDsa]),
    ] {
        assert_eq!(jwt(&yaml).algorithms, expected, "{yaml}");
    }
}

#[test]
fn threat_key_confusion_a_symmetric_algorithm_never_goes_with_public_keys() {
    let files = "tests/config/files";
    for keys in [
        format!("public_key_file: {files}/key.pem"),
        format!("jwks_file: {files}/jwks.json"),
        "jwks_url: 'http://id/keys'".into(),
    ] {
        for algorithm in ["HS256", "HS384", "HS512"] {
            let yaml = format!("policy: {{ auth: {{ jwt: {{ {keys}, algorithms: [{algorithm}] }} }} }}");
            assert!(told(Config::from_yaml(&yaml)).contains("a public key is no secret"), "{yaml}");
        }
    }
    for algorithm in ["none", "None", "NONE", "hs256", ""] {
        let yaml = format!(
            "policy: {{ auth: {{ jwt: {{ secret_file: {files}/secret, algorithms: ['{algorithm}'] }} }} }}"
        );
        assert!(Config::from_yaml(&yaml).is_err(), "{algorithm}");
    }
}

#[test]
fn an_audience_is_a_word_or_a_list() {
    for (yaml, expected) in [("chat", vec!["chat"]), ("[chat, b]", vec!["chat", "b"]), ("null", vec![])] {
        let jwt = jwt(&format!("{{ secret_file: tests/config/files/secret, audience: {yaml} }}"));
        assert_eq!(jwt.audience, expected, "{yaml}");
    }
}

#[test]
fn tokens_are_looked_for_where_it_says_and_in_that_order() {
    use TokenSource::{Cookie, Header, Query, Subprotocol};
    let jwt = jwt(
        "{ secret_file: tests/config/files/secret, token_from: ['query:t.k', 'cookie:__Host-a', subprotocol, header] }",
    );
    let expected = [Query("t.k".into()), Cookie("__Host-a".into()), Subprotocol, Header];
    assert_eq!(jwt.token_from, expected);
    for wrong in ["query:", "cookie:", "query:a b", "query:a%62", "cookie:a;b", "Header", "body", "header:x"]
    {
        let yaml = format!(
            "policy: {{ origins: [], auth: {{ jwt: {{ secret_file: tests/config/files/secret, token_from: ['{wrong}'] }} }} }}"
        );
        assert!(Config::from_yaml(&yaml).is_err(), "{wrong}");
    }
}

#[test]
fn a_cookie_needs_origins_wherever_the_two_are_written() {
    let auth = "auth: { jwt: { secret_file: tests/config/files/secret, token_from: ['cookie:sid'] } }";
    for (yaml, fit) in [
        (format!("policy: {{ {auth} }}"), false),
        (format!("policy: {{ {auth}, origins: ['https://a'] }}"), true),
        (
            format!("policy: {{ origins: ['https://a'] }}\nroutes: [{{ path: /a, policy: {{ {auth} }} }}]"),
            true,
        ),
        (
            format!(
                "policy: {{ {auth}, origins: ['https://a'] }}\nroutes: [{{ path: /a, policy: {{ origins: null }} }}]"
            ),
            false,
        ),
        (format!("routes: [{{ path: /a, policy: {{ {auth} }} }}]"), false),
        (format!("routes: [{{ path: /a, policy: {{ {auth}, origins: [] }} }}]"), true),
    ] {
        assert_eq!(Config::from_yaml(&yaml).is_ok(), fit, "{yaml}");
    }
}

#[test]
fn what_stands_in_named_files_is_part_of_the_configuration_and_is_never_shown() {
    let path = std::env::temp_dir().join(format!("outrigger-secret-{}", std::process::id()));
    std::fs::write(&path, "hunter2").unwrap();
    let yaml = format!("{{ secret_file: {} }}", path.display());
    let (before, again) = (jwt(&yaml), jwt(&yaml));
    assert_eq!(before, again);
    assert!(!format!("{before:?}").contains("hunter2"), "{before:?}");
    let JwtKeys::Secret(file) = &before.keys else { panic!("{before:?}") };
    assert_eq!((file.path.as_path(), &*file.contents), (path.as_path(), &b"hunter2"[..]));

    let sources = from_env(&[("OUTRIGGER__POLICY__AUTH__JWT__SECRET_FILE", path.to_str().unwrap())]);
    let shown = effective(&sources).unwrap();
    assert!(shown.contains(path.to_str().unwrap()) && !shown.contains("hunter2"), "{shown}");

    std::fs::write(&path, "hunter3").unwrap();
    assert_ne!(before, jwt(&yaml));
    std::fs::write(&path, vec![b'x'; 2 << 20]).unwrap();
    let long = format!("policy: {{ auth: {{ jwt: {yaml} }} }}");
    assert!(told(Config::from_yaml(&long)).contains("longer than"));
    std::fs::remove_file(&path).unwrap();
    assert!(told(Config::from_yaml(&long)).contains("cannot be read"));
}

#[test]
fn the_keys_of_a_file_are_handed_on() {
    let auth = policy("policy: { auth: { api_keys: { file: tests/config/files/api_keys } } }").auth;
    let Some(Auth::ApiKeys(keys)) = auth else { panic!("{auth:?}") };
    let users: Vec<&str> = keys.keys().map(|(user, _)| user).collect();
    assert_eq!(
        (users.as_slice(), keys.header.as_str()),
        (&["ann", "ann", "bob@example.com"][..], "x-api-key")
    );
}

#[test]
fn a_server_over_tls_is_checked_by_default_and_a_route_may_do_without() {
    let routes = |yaml: &str| Config::from_yaml(yaml).unwrap_or_else(|errors| panic!("{errors}")).routes;
    assert_eq!(routes("upstream: { url: 'http://app' }")[0].upstream.tls, None);
    assert_eq!(routes("upstream: { url: 'https://app' }")[0].upstream.tls, Some(UpstreamTls::default()));

    let routes = routes(
        "
upstream: { url: 'https://app', tls: { server_name: a.example } }
routes:
  - { path: /plain, upstream: { url: 'http://b' } }
  - { path: /other, upstream: { url: 'https://b' } }
  - { path: /system, upstream: { tls: null } }
",
    );
    let named = UpstreamTls { server_name: Some("a.example".into()), ..UpstreamTls::default() };
    let tls: Vec<_> = routes.iter().map(|route| route.upstream.tls.clone()).collect();
    assert_eq!(tls, [None, Some(named.clone()), Some(UpstreamTls::default()), Some(named)]);
}

#[test]
fn client_certificates_are_required_where_an_authority_is_named_and_nothing_else_is_said() {
    let clients = |more: &str| {
        let files = "cert_file: tests/config/files/cert.pem, key_file: tests/config/files/key.pem";
        let config = Config::from_yaml(&format!("listen: {{ tls: {{ {files}{more} }} }}")).unwrap();
        config.listen.tls.unwrap().clients.map(|clients| clients.required)
    };
    assert_eq!(clients(""), None);
    assert_eq!(clients(", client_ca_file: tests/config/files/ca.pem"), Some(true));
    assert_eq!(
        clients(", client_ca_file: tests/config/files/ca.pem, client_certificate: required"),
        Some(true)
    );
    assert_eq!(
        clients(", client_ca_file: tests/config/files/ca.pem, client_certificate: optional"),
        Some(false)
    );
}

#[test]
fn a_list_of_audiences_that_is_empty_is_refused_and_does_not_come_to_any() {
    let files = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/files");
    let with = |audience: &str| {
        let keys = format!("secret_file: '{files}/secret'");
        Config::from_yaml(&format!("policy: {{ auth: {{ jwt: {{ {keys}, audience: {audience} }} }} }}"))
    };
    let problems = with("[]").unwrap_err().to_string();
    assert!(
        problems.contains("policy.auth.jwt.audience") && problems.contains("an empty list"),
        "{problems}"
    );
    for audience in ["null", "mine", "[mine]", "[mine, yours]"] {
        assert!(with(audience).is_ok(), "{audience}");
    }
}

/// Null switches off what can be off, a whole section of it as well as each key.
#[test]
fn null_for_a_section_of_limits_is_none_of_them() {
    let policy = |yaml: &str| {
        let config = Config::from_yaml(yaml).unwrap_or_else(|errors| panic!("{yaml}: {errors}"));
        config.routes[0].policy.as_ref().clone()
    };
    let off = policy(
        "policy: { handshake_rate: null, limits: ~, http: { rate: null }, delivery: { channel_breaker: null } }",
    );
    assert_eq!(
        (off.handshake_rate.global, off.handshake_rate.per_ip, off.handshake_rate.per_user),
        (None, None, None)
    );
    assert_eq!((off.limits.connections, off.limits.per_ip, off.limits.per_user), (None, None, None));
    assert_eq!((off.message_rate, off.control_rate), (None, ControlRate::Off));
    assert_eq!((off.http.rate.global, off.http.rate.per_ip), (None, None));
    assert_eq!(off.delivery.channel_breaker, None);

    // On one route only, and on again on one route.
    let route = "policy: { handshake_rate: { per_ip: {} } }\nroutes: [{ path: /a, policy: { handshake_rate: null } }]";
    assert_eq!(policy(route).handshake_rate, off.handshake_rate);
    let again = policy("policy: { limits: null }\nroutes: [{ path: /a, policy: { limits: { per_ip: 5 } } }]");
    assert_eq!((again.limits.per_ip, again.limits.connections), (Some(5), Some(10_000)));
    let env = load(from_env(&[("OUTRIGGER__POLICY__HANDSHAKE_RATE", "off")])).unwrap();
    assert_eq!(env.routes[0].policy.handshake_rate, off.handshake_rate);

    // What it comes to is printed so, and read back.
    let sources = from_env(&[("OUTRIGGER__POLICY__LIMITS", "null")]);
    let text = effective(&sources).unwrap();
    assert!(text.contains("\n  limits: null\n"), "{text}");
    assert_eq!(Config::from_yaml(&text).unwrap(), load(sources).unwrap());

    // What cannot be off is told as ever.
    for yaml in ["listen: null", "drain: null", "policy: { delivery: null }", "policy: { close_codes: null }"]
    {
        assert!(told(Config::from_yaml(yaml)).contains("a map of settings"), "{yaml}");
    }
}

#[test]
fn the_printed_configuration_hides_queries_of_urls_that_are_asked() {
    let sources = from_env(&[
        ("OUTRIGGER__POLICY__AUTH", "{ forward: { url: 'http://auth:81/verify?token=hunter2' } }"),
        (
            "OUTRIGGER__ROUTES",
            "[{ path: /a, policy: { auth: { forward: null, jwt: { jwks_url: 'http://keys/set?key=hunter2&b=c' } } } }]",
        ),
    ]);
    let text = effective(&sources).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    for shown in ["url: \"http://auth:81/verify?***\"", "jwks_url: \"http://keys/set?***\""] {
        assert!(text.contains(shown), "{text}");
    }
    // Without a query nothing is hidden.
    let sources = from_env(&[("OUTRIGGER__POLICY__AUTH", "{ forward: { url: 'http://auth:81/verify' } }")]);
    assert!(effective(&sources).unwrap().contains("url: http://auth:81/verify\n"));
}
