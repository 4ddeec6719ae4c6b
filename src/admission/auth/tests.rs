use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::testing::{context, file, hmac, jwt};
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
    let authenticator = Authenticator::new(auth, [], &metrics).unwrap();
    (Authentication::new(Some(Arc::new(authenticator)), http), metrics)
}

fn certificate() -> Option<User> {
    Some(User { name: "CN=ann".into(), expires: None })
}

fn name(context: &RequestContext) -> Option<&str> {
    context.user.as_ref().map(|user| &*user.name)
}

fn token() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    hmac(Algorithm::HS256, SECRET, &json!({ "sub": "bob", "exp": now + 60 }))
}

/// By the keys of a server at `url`.
fn by_url(url: &str) -> config::Jwt {
    let hour = Duration::from_secs(3600);
    let keys = JwtKeys::JwksUrl { url: url.into(), ca: None, refresh: hour, min_interval: hour };
    jwt(keys, &[JwtAlgorithm::Hs256])
}

#[tokio::test]
async fn keys_that_were_fetched_hold_where_what_is_asked_of_tokens_changes_while_their_server_is_down() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let key = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET) });
    let body = json!({ "keys": [key] }).to_string();
    let metrics = Metrics::new("test").unwrap();
    let before = by_url(&url);
    let first = Arc::new(Authenticator::new(&Auth::Jwt(before.clone()), [], &metrics).unwrap());
    let (mut asked, _) = listener.accept().await.unwrap();
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    asked.write_all(answer.as_bytes()).await.unwrap();
    let bearer = format!("Bearer {}", token());
    let lets_in = async |authenticator: &Authenticator| {
        let mut context = context(Kind::Handshake, "GET", "/", &[("authorization", &bearer)]);
        authenticator.check(&mut context).await.map(drop).map_err(|(failure, _)| failure)
    };
    assert_eq!(lets_in(&first).await, Ok(()));

    drop((asked, listener));
    let change = |change: &dyn Fn(&mut config::Jwt)| {
        let mut jwt = before.clone();
        change(&mut jwt);
        Authenticator::new(&Auth::Jwt(jwt), [&first], &metrics).unwrap()
    };
    assert_eq!(lets_in(&change(&|jwt| jwt.leeway = Duration::ZERO)).await, Ok(()));
    let failure = lets_in(&change(&|jwt| jwt.issuer = Some("other".into()))).await;
    assert_eq!(failure, Err(AuthFailure::Issuer), "what is asked now holds");
    // Keys of somewhere else, or found in another way, are others.
    let elsewhere = change(&|jwt| jwt.keys = by_url(&format!("{url}?other")).keys);
    let other = change(&|jwt| jwt.algorithms = vec![JwtAlgorithm::Hs256, JwtAlgorithm::Hs512]);
    for authenticator in [elsewhere, other] {
        assert_eq!(lets_in(&authenticator).await, Err(AuthFailure::Unavailable));
    }
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
        let mut without = context(kind, "GET", "/", &[]);
        without.user = certificate();
        assert_eq!(layer.check(&mut without).await.is_err(), is_asked, "{kind:?} {http:?}");
        let target = format!("/?token={}&a=1", token());
        let mut with = context(kind, "GET", &target, &[]);
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
    let mut context = context(Kind::Handshake, "GET", "/", &[]);
    context.user = certificate();
    nobody_asks.check(&mut context).await.unwrap();
    assert_eq!(name(&context), Some("CN=ann"));
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
            let mut context = context(*kind, verb, "/?token=x", headers);
            assert_eq!(layer.check(&mut context).await.is_ok(), *passes, "{kind:?} {verb} {headers:?}");
            if matches!(auth, Auth::Jwt(_)) {
                assert_eq!(context.head.uri, "/", "{kind:?} {verb} {headers:?}");
            }
            assert_eq!(name(&context), None);
        }
    }
}

#[tokio::test]
async fn a_failure_is_counted_by_its_reason_and_answered_without() {
    let (layer, metrics) = layer(&by_token(), HttpMode::Guard);
    let old = hmac(Algorithm::HS256, SECRET, &json!({ "sub": "bob", "exp": 1 }));
    for target in ["/", "/?token=x", &format!("/?token={old}")] {
        let refused = layer.check(&mut context(Kind::Handshake, "GET", target, &[])).await.unwrap_err();
        assert!(matches!(refused, Refused::Unauthorized(_)), "{target}: {refused:?}");
    }
    let families = metrics.gather();
    let failures = families.iter().find(|family| family.name() == "test_auth_failures_total").unwrap();
    let counted = failures.get_metric().iter().filter(|metric| metric.get_counter().get_value() > 0.0);
    let mut reasons: Vec<_> = counted.map(|metric| metric.get_label()[0].value().to_owned()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["expired", "malformed", "missing"]);
}
