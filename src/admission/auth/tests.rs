use std::time::UNIX_EPOCH;

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::testing::{file, guest, hmac, jwt};
use super::*;
use crate::config::JwtAlgorithm;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn by_token() -> Auth {
    let mut jwt = jwt(JwtKeys::Secret(file("secret", SECRET)), &[JwtAlgorithm::Hs256]);
    jwt.token_from = vec![TokenSource::Query("token".into()), TokenSource::Subprotocol];
    Auth::Jwt(jwt)
}

fn layer(auth: &Auth, http: HttpMode) -> (Authentication, Arc<Metrics>) {
    let metrics = Metrics::new("test").unwrap();
    let authenticator = Authenticator::new(auth, &metrics).unwrap();
    (Authentication::new(Some(Arc::new(authenticator)), http), metrics)
}

fn certificate() -> Option<User> {
    Some(User { name: "CN=ann".into(), expires: None })
}

fn name(guest: &Guest) -> Option<&str> {
    guest.user.as_ref().map(|user| &*user.name)
}

fn token() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    hmac(Algorithm::HS256, SECRET, &json!({ "sub": "bob", "exp": now + 60 }))
}

#[tokio::test]
async fn plain_http_is_asked_where_it_is_guarded_and_only_there() {
    use HttpMode::{Guard, Pass, Refuse};
    for (kind, http, is_asked) in [
        (Kind::Handshake, Pass, true),
        (Kind::Handshake, Guard, true),
        (Kind::Handshake, Refuse, true),
        (Kind::Plain, Pass, false),
        (Kind::Plain, Guard, true),
        // Its mode says so, and not that credentials are missing.
        (Kind::Plain, Refuse, false),
    ] {
        let (layer, _) = layer(&by_token(), http);
        let mut without = guest(kind, "GET", "/", &[]);
        without.user = certificate();
        assert_eq!(layer.check(&mut without).await.is_err(), is_asked, "{kind:?} {http:?}");
        let target = format!("/?token={}&a=1", token());
        let mut with = guest(kind, "GET", &target, &[]);
        with.user = certificate();
        layer.check(&mut with).await.unwrap();
        let (user, left) = if is_asked { ("bob", "/?a=1") } else { ("CN=ann", &*target) };
        assert_eq!(
            (name(&with), with.head.uri.to_string().as_str()),
            (Some(user), left),
            "{kind:?} {http:?}"
        );
    }
    let nobody_asks = Authentication::new(None, Guard);
    let mut guest = guest(Kind::Handshake, "GET", "/", &[]);
    guest.user = certificate();
    nobody_asks.check(&mut guest).await.unwrap();
    assert_eq!(name(&guest), Some("CN=ann"));
}

#[tokio::test]
async fn a_preflight_passes_without_credentials_and_without_a_token_of_ours() {
    let origin = ("origin", "https://app.example");
    let method = ("access-control-request-method", "POST");
    let cases = [
        (Kind::Plain, "OPTIONS", vec![origin, method], true),
        (Kind::Plain, "OPTIONS", vec![origin], false),
        (Kind::Plain, "OPTIONS", vec![method], false),
        (Kind::Plain, "GET", vec![origin, method], false),
        (Kind::Handshake, "OPTIONS", vec![origin, method], false),
    ];
    let keys = Auth::ApiKeys(config::ApiKeys {
        file: file("keys", format!("ann:{}", "0".repeat(64))),
        header: "x-api-key".into(),
    });
    for auth in [by_token(), keys] {
        let (layer, _) = layer(&auth, HttpMode::Guard);
        for (kind, verb, headers, passes) in &cases {
            let mut guest = guest(*kind, verb, "/?token=x", headers);
            assert_eq!(layer.check(&mut guest).await.is_ok(), *passes, "{kind:?} {verb} {headers:?}");
            if matches!(auth, Auth::Jwt(_)) {
                assert_eq!(guest.head.uri, "/", "{kind:?} {verb} {headers:?}");
            }
            assert_eq!(name(&guest), None);
        }
    }
}

#[tokio::test]
async fn a_failure_is_counted_by_its_reason_and_answered_without() {
    let (layer, metrics) = layer(&by_token(), HttpMode::Guard);
    let old = hmac(Algorithm::HS256, SECRET, &json!({ "sub": "bob", "exp": 1 }));
    for target in ["/", "/?token=x", &format!("/?token={old}")] {
        let refused = layer.check(&mut guest(Kind::Handshake, "GET", target, &[])).await.unwrap_err();
        assert!(matches!(refused, Refused::Unauthorized(_)), "{target}: {refused:?}");
    }
    let families = metrics.gather();
    let failures = families.iter().find(|family| family.name() == "test_auth_failures_total").unwrap();
    let counted = failures.get_metric().iter().filter(|metric| metric.get_counter().get_value() > 0.0);
    let mut reasons: Vec<_> = counted.map(|metric| metric.get_label()[0].value().to_owned()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["expired", "malformed", "missing"]);
}
