//! Keys by URL: fetched, rotated, and kept while nobody answers.

use std::time::Duration;

use outrigger::config::{Auth, JwtKeys};
use serde_json::json;

use crate::support::DEADLINE;
use crate::support::client::Dial;
use crate::support::http::assert_ours;
use crate::support::logged::Logged;
use crate::support::proxy::Proxy;
use crate::support::tls;
use crate::support::token::{self, key_set};
use crate::support::upstream::{Builder, Plain, Upstream};
use crate::support::wait::eventually;

const OLD: (&str, &[u8]) = ("old", b"old secret, old secret, old secret");
const NEW: (&str, &[u8]) = ("new", b"new secret, new secret, new secret");
const HOUR: Duration = Duration::from_secs(3600);

/// A server of keys. Each request comes over a connection of its own, so that a change shows at once.
fn keys(set: &[(&str, &[u8])]) -> Builder {
    answering(200, &key_set(set))
}

fn answering(status: u16, body: &str) -> Builder {
    Upstream::builder().on_request(Plain::fixed(status, &[("Connection", "close")], body))
}

async fn proxy(upstream: &Upstream, url: String, refresh: Duration, min_interval: Duration) -> Proxy {
    let keys = JwtKeys::JwksUrl { url, ca: None, refresh, min_interval };
    Proxy::to(upstream)
        .policy(move |policy| policy.auth = Some(Auth::Jwt(token::jwt(keys.clone()))))
        .spawn()
        .await
}

fn by(proxy: &Proxy, (id, secret): (&str, &[u8])) -> Dial {
    let token = token::hs256(Some(id), secret, &json!({ "sub": "ann", "exp": token::epoch() + 600 }));
    proxy.dial().header("Authorization", &format!("Bearer {token}"))
}

async fn fetches(proxy: &Proxy, outcome: &str) -> f64 {
    proxy.metric(&format!("outrigger_jwks_fetches_total{{outcome=\"{outcome}\"}}")).await
}

#[tokio::test]
async fn a_key_that_is_new_is_fetched_when_a_token_names_it() {
    let upstream = Upstream::echo().await;
    let server = keys(&[OLD]).spawn().await;
    let url = format!("{}/keys?tenant=7", server.url());
    let proxy = proxy(&upstream, url, HOUR, Duration::from_millis(1)).await;
    // The first may come before the first set is there: it waits for it.
    by(&proxy, OLD).open().await;
    assert_eq!(server.requests()[0].head.target(), "/keys?tenant=7");
    server.change(keys(&[OLD, NEW]));
    by(&proxy, OLD).open().await;
    assert_eq!(fetches(&proxy, "ok").await, 1.0, "what is known needs no fetch");
    by(&proxy, NEW).open().await;
    assert_eq!(fetches(&proxy, "ok").await, 2.0);
    server.change(keys(&[NEW]));
    assert_ours(&by(&proxy, ("third", b"x")).refused().await, 401, "unauthorized");
    assert_eq!(fetches(&proxy, "ok").await, 3.0);
    assert_ours(&by(&proxy, OLD).refused().await, 401, "unauthorized");
}

#[tokio::test]
async fn a_set_is_fetched_again_when_it_is_old() {
    let upstream = Upstream::echo().await;
    let server = keys(&[OLD]).spawn().await;
    let proxy = proxy(&upstream, server.url(), Duration::from_millis(100), HOUR).await;
    by(&proxy, OLD).open().await;
    server.change(keys(&[NEW]));
    let before = fetches(&proxy, "ok").await;
    eventually(DEADLINE, || async { fetches(&proxy, "ok").await >= before + 2.0 }).await;
    by(&proxy, NEW).open().await;
    assert_ours(&by(&proxy, OLD).refused().await, 401, "unauthorized");
}

#[tokio::test]
async fn a_storm_of_unknown_keys_makes_one_request() {
    let upstream = Upstream::echo().await;
    let server = keys(&[OLD]).spawn().await;
    let interval = Duration::from_secs(1);
    let proxy = proxy(&upstream, server.url(), HOUR, interval).await;
    by(&proxy, OLD).open().await;
    tokio::time::sleep(interval).await;
    server.change(keys(&[OLD, NEW]).after(Duration::from_millis(200)));
    let mut storm = tokio::task::JoinSet::new();
    for number in 0..100 {
        // Half of them name a key that will be there, half one that nobody has.
        let dial = if number % 2 == 0 { by(&proxy, NEW) } else { by(&proxy, ("none", b"x")) };
        storm.spawn(async move { (number, dial.answer().await.response.status()) });
    }
    while let Some(answer) = storm.join_next().await {
        let (number, status) = answer.unwrap();
        assert_eq!(status, if number % 2 == 0 { 101 } else { 401 }, "{number}");
    }
    assert_eq!(server.requests().len(), 2, "the first, and one for all of them");
    // Right after it nobody's wish is heard, and nobody waits.
    for _ in 0..20 {
        assert_ours(&by(&proxy, ("none", b"x")).refused().await, 401, "unauthorized");
    }
    assert!(server.requests().len() <= 3, "{} in about a second", server.requests().len());
    assert_eq!(proxy.metric("outrigger_auth_waiting").await, 0.0);
}

#[tokio::test]
async fn good_keys_are_kept_while_the_url_is_down_and_that_is_said_once() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::echo().await;
    let mut server = keys(&[OLD]).spawn().await;
    let url = format!("{}/keys?secret=hunter2", server.url());
    let proxy = proxy(&upstream, url, Duration::from_millis(100), Duration::from_millis(1)).await;
    by(&proxy, OLD).open().await;
    let broken = [
        (answering(503, "{}"), "unreachable"),
        (answering(200, "<html>"), "invalid"),
        (answering(200, r#"{"keys":[]}"#), "invalid"),
        (answering(200, &format!("{}{}", key_set(&[NEW]), " ".repeat(300_000))), "unreachable"),
    ];
    for (answer, outcome) in broken {
        server.change(answer);
        let before = fetches(&proxy, outcome).await;
        eventually(DEADLINE, || async { fetches(&proxy, outcome).await > before }).await;
        by(&proxy, OLD).open().await;
    }
    server.stop().await;
    let before = fetches(&proxy, "unreachable").await;
    eventually(DEADLINE, || async { fetches(&proxy, "unreachable").await > before }).await;
    by(&proxy, OLD).open().await;
    // It may be a new key: nobody can say at the moment.
    assert_ours(&by(&proxy, NEW).refused().await, 503, "auth_unavailable");
    server.change(keys(&[NEW]));
    server.start().await;
    eventually(DEADLINE, || async { by(&proxy, NEW).answer().await.response.status() == 101 }).await;

    let said = |message: &str| logged.text().lines().filter(|line| line.contains(message)).count();
    assert_eq!((said("key set fetched"), said("key set cannot be fetched")), (2, 1), "{}", logged.text());
    assert!(!logged.text().contains("hunter2"), "{}", logged.text());
}

#[tokio::test]
async fn without_any_keys_nobody_can_be_checked() {
    let upstream = Upstream::echo().await;
    let nowhere = format!("http://{}/", Upstream::nowhere().await);
    let proxy = proxy(&upstream, nowhere, HOUR, HOUR).await;
    let refused = by(&proxy, OLD).refused().await;
    assert_ours(&refused, 503, "auth_unavailable");
    assert!(refused.header("Retry-After").is_some());
    assert_eq!(proxy.metric(r#"outrigger_auth_failures_total{reason="unavailable"}"#).await, 1.0);
    // What is no token at all is no question of keys.
    let garbage = proxy.dial().header("Authorization", "Bearer garbage");
    assert_ours(&garbage.refused().await, 503, "auth_unavailable");
    assert_ours(&proxy.dial().refused().await, 401, "unauthorized");
}

#[tokio::test]
async fn a_server_of_keys_that_does_not_answer_holds_nobody_for_long() {
    let upstream = Upstream::echo().await;
    let server = Upstream::builder().on_request(Plain::Silent).spawn().await;
    let proxy = proxy(&upstream, server.url(), HOUR, HOUR).await;
    let since = tokio::time::Instant::now();
    assert_ours(&by(&proxy, OLD).refused().await, 503, "auth_unavailable");
    assert!(since.elapsed() < Duration::from_secs(4), "after {:?}", since.elapsed());
}

#[tokio::test]
async fn a_key_that_was_replaced_under_its_own_id_is_fetched_once_and_then_fits() {
    let upstream = Upstream::echo().await;
    let same_id = |secret: &'static [u8]| ("main", secret);
    let server = keys(&[same_id(OLD.1)]).spawn().await;
    let proxy = proxy(&upstream, server.url(), HOUR, Duration::from_millis(1)).await;
    by(&proxy, same_id(OLD.1)).open().await;
    // Whoever rotates keys by replacing the one that there is changes neither its id nor the tokens' heads.
    server.change(keys(&[same_id(NEW.1)]));
    by(&proxy, same_id(NEW.1)).open().await;
    assert_eq!(fetches(&proxy, "ok").await, 2.0);
    assert_ours(&by(&proxy, same_id(OLD.1)).refused().await, 401, "unauthorized");
}

#[tokio::test]
async fn a_key_that_was_replaced_is_fetched_for_a_token_that_names_none_too() {
    let upstream = Upstream::echo().await;
    let server = keys(&[OLD]).spawn().await;
    let proxy = proxy(&upstream, server.url(), HOUR, Duration::from_millis(1)).await;
    let nameless = |secret: &[u8]| {
        let token = token::hs256(None, secret, &json!({ "sub": "ann", "exp": token::epoch() + 600 }));
        proxy.dial().header("Authorization", &format!("Bearer {token}"))
    };
    nameless(OLD.1).open().await;
    server.change(keys(&[NEW]));
    nameless(NEW.1).open().await;
    assert_eq!(fetches(&proxy, "ok").await, 2.0);
}

#[tokio::test]
async fn wrong_signatures_drive_no_more_fetches_than_the_interval_lets_them() {
    let upstream = Upstream::echo().await;
    let server = keys(&[OLD]).spawn().await;
    let proxy = proxy(&upstream, server.url(), HOUR, HOUR).await;
    by(&proxy, OLD).open().await;
    let mut forgers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let forged = by(&proxy, ("old", b"guessed, guessed, guessed, guessed"));
        forgers.spawn(async move { forged.refused().await });
    }
    while let Some(refused) = forgers.join_next().await {
        assert_ours(&refused.unwrap(), 401, "unauthorized");
    }
    assert_eq!(server.requests().len(), 1, "the first fetch was less than an interval ago");
    assert_eq!(proxy.metric(r#"outrigger_auth_failures_total{reason="signature"}"#).await, 100.0);
    by(&proxy, OLD).open().await;
}

#[tokio::test]
async fn a_wrong_signature_is_wrong_also_while_nobody_can_say_whether_its_key_was_replaced() {
    let upstream = Upstream::echo().await;
    let mut server = keys(&[OLD]).spawn().await;
    let proxy = proxy(&upstream, server.url(), HOUR, Duration::from_millis(1)).await;
    by(&proxy, OLD).open().await;
    server.stop().await;
    let forged = by(&proxy, ("old", b"guessed, guessed, guessed, guessed"));
    assert_ours(&forged.clone().refused().await, 401, "unauthorized");
    assert!(fetches(&proxy, "unreachable").await >= 1.0);
    // A server that takes the question and does not answer it holds nobody for longer than the others.
    server.change(Upstream::builder().on_request(Plain::Silent));
    server.start().await;
    let since = tokio::time::Instant::now();
    assert_ours(&forged.refused().await, 401, "unauthorized");
    assert!(since.elapsed() < Duration::from_secs(4), "after {:?}", since.elapsed());
    by(&proxy, OLD).open().await;
}

#[tokio::test]
async fn keys_of_a_server_whose_certificate_a_private_authority_has_signed_are_had_with_its_file() {
    let upstream = Upstream::echo().await;
    let identity = tls::Authority::known().issue(&["localhost"], "keys");
    let server = keys(&[OLD]).tls(tls::Authority::server(&identity, None)).spawn().await;
    let url = server.url().replace("http://127.0.0.1", "https://localhost");
    for (ca, status) in [(tls::Authority::known().file(), 101), (tls::Authority::new("another").file(), 503)]
    {
        let keys = JwtKeys::JwksUrl { url: url.clone(), ca: Some(ca), refresh: HOUR, min_interval: HOUR };
        let proxy = Proxy::to(&upstream)
            .policy(move |policy| policy.auth = Some(Auth::Jwt(token::jwt(keys.clone()))))
            .spawn()
            .await;
        assert_eq!(by(&proxy, OLD).answer().await.response.status(), status);
    }
}
