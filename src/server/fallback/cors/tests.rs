use super::*;
use crate::config::Config;

fn policy(yaml: &str) -> Policy {
    let config = Config::from_yaml(&format!("policy: {yaml}")).unwrap_or_else(|errors| panic!("{errors}"));
    Policy::clone(&config.routes[0].policy)
}

fn headers_for(policy: &Policy, origins: &[&'static str]) -> Vec<String> {
    let mut asked = HeaderMap::new();
    for origin in origins {
        asked.append(header::ORIGIN, HeaderValue::from_static(origin));
    }
    let mut answer = HeaderMap::new();
    Cors::of(policy, &asked).set(policy, &mut answer);
    let short = |name: &str| name.replace("access-control-", "");
    let line = |(name, value): (&http::HeaderName, &HeaderValue)| {
        format!("{}: {}", short(name.as_str()), value.to_str().unwrap())
    };
    let mut lines: Vec<String> = answer.iter().map(line).collect();
    lines.retain(|line| !line.starts_with("expose-headers"));
    lines.sort();
    lines
}

#[test]
fn who_may_connect_may_read() {
    let open = policy("{}");
    assert_eq!(headers_for(&open, &[]), [""; 0]);
    assert_eq!(headers_for(&open, &["https://any.example"]), ["allow-origin: *"]);
    let listed = policy("{ origins: ['https://app.example.com', 'https://*.example.org', 'null'] }");
    for (origin, is_with_credentials) in
        [("https://app.example.com", true), ("https://a.example.org", true), ("null", false)]
    {
        let mut expected = vec![format!("allow-origin: {origin}"), "vary: Origin".to_owned()];
        if is_with_credentials {
            expected.insert(0, "allow-credentials: true".to_owned());
        }
        assert_eq!(headers_for(&listed, &[origin]), expected, "{origin}");
    }
    for foreign in ["https://evil.example", "https://app.example.com.evil.example", "*", ""] {
        assert_eq!(headers_for(&listed, &[foreign]), ["vary: Origin"], "{foreign}");
    }
    let several = ["https://app.example.com", "https://app.example.com"];
    assert_eq!(headers_for(&listed, &several), ["vary: Origin"]);
    assert_eq!(headers_for(&listed, &[]), ["vary: Origin"], "a cache must know, whoever asked first");
}

#[test]
fn a_preflight_is_told_what_may_be_sent() {
    let text = |headers: &HeaderMap, name: header::HeaderName| headers[name].to_str().unwrap().to_owned();
    let mut answer = HeaderMap::new();
    set_preflight(&policy("{}"), Endpoint::Send, &mut answer);
    assert_eq!(text(&answer, header::ACCESS_CONTROL_ALLOW_METHODS), "POST, OPTIONS");
    assert_eq!(text(&answer, header::ACCESS_CONTROL_ALLOW_HEADERS), ALLOWED);
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/files/api_keys");
    let with_keys = policy(&format!("{{ auth: {{ api_keys: {{ file: '{keys}', header: x-key }} }} }}"));
    let mut answer = HeaderMap::new();
    set_preflight(&with_keys, Endpoint::Poll, &mut answer);
    assert_eq!(text(&answer, header::ACCESS_CONTROL_ALLOW_METHODS), "GET, OPTIONS");
    assert_eq!(text(&answer, header::ACCESS_CONTROL_ALLOW_HEADERS), format!("{ALLOWED}, x-key"));
}
