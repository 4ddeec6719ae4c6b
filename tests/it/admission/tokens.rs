//! Who a client is: tokens and keys, from the handshake to the server behind and to the end of a connection.

use std::time::Duration;

use outrigger::config::{ApiKeys, Auth, HttpMode, Jwt, JwtKeys, TokenSource};
use tokio::time::Instant;

use crate::support::DEADLINE;
use crate::support::client::Dial;
use crate::support::http::assert_ours;
use crate::support::logged::Logged;
use crate::support::proxy::Proxy;
use crate::support::token::{self, SECRET, by_secret, for_user};
use crate::support::upstream::{Answer, Upstream};
use crate::support::wait::eventually;

async fn guarded(upstream: &Upstream, auth: Auth) -> Proxy {
    Proxy::to(upstream)
        .policy(move |policy| {
            policy.auth = Some(auth.clone());
            policy.http.mode = HttpMode::Guard;
        })
        .spawn()
        .await
}

#[tokio::test]
async fn a_token_lets_in_from_each_place_and_the_server_learns_the_user() {
    let upstream = Upstream::echo().await;
    let sources = [
        TokenSource::Header,
        TokenSource::Cookie("sid".into()),
        TokenSource::Query("token".into()),
        TokenSource::Subprotocol,
    ];
    let proxy = guarded(&upstream, by_secret(&sources)).await;
    let token = for_user("ann", 60);
    let bearer = format!("Bearer {token}");
    let cookie = format!("a=1; sid={token}");
    let dials: [(&str, Dial); 4] = [
        ("header", proxy.dial().header("Authorization", &bearer)),
        ("cookie", proxy.dial().header("Cookie", &cookie)),
        ("query", proxy.dial().path(&format!("/chat?a=1&token={token}&b=%20"))),
        (
            "subprotocol",
            proxy.dial().header("Sec-WebSocket-Protocol", &format!("chat, outrigger.bearer, {token}")),
        ),
    ];
    for (place, dial) in dials {
        let mut client = dial.header("X-Outrigger-User", "root").open().await;
        client.text(place).await;
        client.expect_text(place).await;
    }
    let seen = upstream.handshakes();
    for handshake in &seen {
        assert_eq!(handshake.head.headers.all("X-Outrigger-User"), ["ann"]);
    }
    assert_eq!(seen[0].head.header("Authorization"), Some(&*bearer), "it passes on");
    assert_eq!(seen[1].head.header("Cookie"), Some(&*cookie), "it passes on");
    assert_eq!(seen[2].head.target(), "/chat?a=1&b=%20");
    assert_eq!(seen[3].head.headers.all("Sec-WebSocket-Protocol"), ["chat"]);

    let refused = proxy.dial().refused().await;
    assert_ours(&refused, 401, "unauthorized");
    assert_eq!(refused.header("WWW-Authenticate"), Some("Bearer"));
    assert_eq!(upstream.accepted(), 4, "the server does not hear of those who are refused");
}

#[tokio::test]
async fn a_client_that_shows_its_token_as_a_subprotocol_is_answered_with_one() {
    let choosing = Answer::accept_with(&[("Sec-WebSocket-Protocol", "chat")]);
    let sneaky = Answer::accept_with(&[("Sec-WebSocket-Protocol", "outrigger.bearer")]);
    let token = for_user("ann", 60);
    let offer = format!("outrigger.bearer, {token}");
    let both = format!("{offer}, chat");
    // what the server answers, what the client offers, what the server sees, what the client is answered
    let cases = [
        (Answer::Accept, &offer, None, Some("outrigger.bearer")),
        (Answer::Accept, &both, Some("chat"), Some("outrigger.bearer")),
        (choosing, &both, Some("chat"), Some("chat")),
    ];
    for (answer, offered, seen, answered) in cases {
        let upstream = Upstream::builder().answering(answer).spawn().await;
        let proxy = guarded(&upstream, by_secret(&[TokenSource::Subprotocol])).await;
        let client = proxy.dial().header("Sec-WebSocket-Protocol", offered).open().await;
        assert_eq!(upstream.handshakes()[0].head.header("Sec-WebSocket-Protocol"), seen, "{offered}");
        assert_eq!(client.response.header("Sec-WebSocket-Protocol"), answered, "{offered}");
    }
    let upstream = Upstream::builder().answering(sneaky).spawn().await;
    let proxy = guarded(&upstream, by_secret(&[TokenSource::Subprotocol])).await;
    let refused = proxy.dial().header("Sec-WebSocket-Protocol", &both).refused().await;
    assert_ours(&refused, 502, "upstream_bad_upgrade");
}

#[tokio::test]
async fn a_connection_ends_when_its_token_does() {
    let upstream = Upstream::echo().await;
    let proxy = guarded(&upstream, by_secret(&[TokenSource::Header])).await;
    let expires = token::epoch() + 2;
    let claims = serde_json::json!({ "sub": "ann", "exp": expires });
    let bearer = format!("Bearer {}", token::hs256(None, SECRET, &claims));
    let since = Instant::now();
    let mut client = proxy.dial().header("Authorization", &bearer).open().await;
    client.text("in time").await;
    client.expect_text("in time").await;
    let closed = client.closed().await;
    assert_eq!((closed.code, closed.reason.as_str()), (1008, "credentials expired"));
    assert!(since.elapsed() < Duration::from_secs(5), "after {:?}", since.elapsed());
    assert!(token::epoch() >= expires, "not before its time");
    eventually(DEADLINE, || async {
        proxy.metric(r#"outrigger_disconnections_total{route="default",reason="expired"}"#).await == 1.0
    })
    .await;
    eventually(DEADLINE, || async { upstream.endings().len() == 1 }).await;
    assert_eq!(upstream.endings()[0].code, 1001);
    // And nobody comes in with it any more.
    assert_ours(&proxy.dial().header("Authorization", &bearer).refused().await, 401, "unauthorized");
    assert_eq!(proxy.metric(r#"outrigger_auth_failures_total{reason="expired"}"#).await, 1.0);
}

#[tokio::test]
async fn without_close_on_expiry_a_connection_stays() {
    let upstream = Upstream::echo().await;
    let jwt = Jwt { close_on_expiry: false, ..token::jwt(JwtKeys::Secret(token::file("secret", SECRET))) };
    let proxy = guarded(&upstream, Auth::Jwt(jwt)).await;
    let bearer = format!("Bearer {}", for_user("ann", 1));
    let mut client = proxy.dial().header("Authorization", &bearer).open().await;
    client.expect_silence(Duration::from_millis(1500)).await;
    client.text("still here").await;
    client.expect_text("still here").await;
}

#[tokio::test]
async fn plain_http_is_guarded_where_that_is_wanted() {
    let upstream = Upstream::echo().await;
    let proxy = guarded(&upstream, by_secret(&[TokenSource::Header])).await;
    assert_ours(&proxy.plain().answer().await.response, 401, "unauthorized");
    assert_eq!(upstream.accepted(), 0);
    let bearer = format!("Bearer {}", for_user("ann", 60));
    let answer =
        proxy.plain().header("Authorization", &bearer).header("X-Outrigger-User", "root").answer().await;
    assert_eq!(answer.response.status(), 200);
    assert_eq!(upstream.requests()[0].head.headers.all("X-Outrigger-User"), ["ann"]);
    let preflight = proxy.plain().method("OPTIONS").header("Origin", "https://app.example");
    let preflight = preflight.header("Access-Control-Request-Method", "POST");
    assert_eq!(preflight.header("X-Outrigger-User", "root").answer().await.response.status(), 200);
    assert!(upstream.requests()[1].head.headers.all("X-Outrigger-User").is_empty());

    let open = Proxy::to(&upstream).policy(|policy| policy.auth = Some(by_secret(&[TokenSource::Header])));
    let open = open.spawn().await;
    assert_eq!(open.plain().answer().await.response.status(), 200, "http.mode is pass");
    assert_ours(&open.dial().refused().await, 401, "unauthorized");
}

#[tokio::test]
async fn an_api_key_lets_in_and_passes_on() {
    let upstream = Upstream::echo().await;
    let list = format!("ann:{}\nbob:{}\n", token::sha256_hex("key-a"), token::sha256_hex("key-b"));
    let auth = Auth::ApiKeys(ApiKeys { file: token::file("keys", list), header: "x-api-key".into() });
    let proxy = guarded(&upstream, auth).await;
    let _client = proxy.dial().header("X-Api-Key", "key-b").open().await;
    let seen = &upstream.handshakes()[0].head;
    assert_eq!((seen.header("X-Outrigger-User"), seen.header("X-Api-Key")), (Some("bob"), Some("key-b")));
    for (keys, reason) in [(&["key-c"][..], "api_key"), (&[], "missing"), (&["key-a", "key-b"], "ambiguous")]
    {
        let dial = keys.iter().fold(proxy.dial(), |dial, key| dial.also("X-Api-Key", key));
        assert_ours(&dial.refused().await, 401, "unauthorized");
        let sample = format!("outrigger_auth_failures_total{{reason=\"{reason}\"}}");
        assert_eq!(proxy.metric(&sample).await, 1.0, "{keys:?}");
    }
}

#[tokio::test]
async fn why_somebody_stays_outside_is_a_line_in_the_log_and_not_in_the_answer() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::echo().await;
    let proxy = guarded(&upstream, by_secret(&[TokenSource::Header])).await;
    let strangers = token::hs256(None, b"another secret", &serde_json::json!({ "sub": "x", "exp": 1 }));
    let dial = proxy.dial().path("/chat/7?x=1").header("X-Request-Id", "request-7");
    let refused = dial.header("Authorization", &format!("Bearer {strangers}")).refused().await;
    assert_ours(&refused, 401, "unauthorized");
    assert!(!refused.text().contains("signature"), "{}", refused.text());
    let line = logged.line("not authenticated");
    assert_eq!((&line["reason"], &line["path"]), (&"signature".into(), &"/chat/7".into()));
    assert_eq!(line["request_id"], "request-7");
    assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
}

#[tokio::test]
async fn a_proxy_without_usable_keys_does_not_start() {
    let upstream = Upstream::echo().await;
    let url = upstream.url();
    let mut config = outrigger::config::Config::from_yaml(&format!(
        "listen: {{address: '127.0.0.1:0'}}\nadmin: {{address: '127.0.0.1:0'}}\nupstream: {{url: '{url}'}}\n"
    ))
    .unwrap();
    let keys = JwtKeys::Secret(token::file("/etc/outrigger/secret", ""));
    let policy = &mut config.routes.last_mut().unwrap().policy;
    std::sync::Arc::make_mut(policy).auth = Some(Auth::Jwt(token::jwt(keys)));
    let error = outrigger::server::Server::bind(config).await.unwrap_err().to_string();
    assert!(error.contains("/etc/outrigger/secret") && error.contains("secret_file"), "{error}");
}
