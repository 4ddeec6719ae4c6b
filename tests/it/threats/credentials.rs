//! What becomes of credentials, and who can make them up: one test a threat, named after it.

use outrigger::config::{ApiKeys, Auth, HttpMode, TokenSource};
use tracing::Level;

use crate::support::http::assert_ours;
use crate::support::logged::Logged;
use crate::support::proxy::Proxy;
use crate::support::token::{self, by_secret, for_user};
use crate::support::upstream::{Answer, Upstream};

#[tokio::test]
async fn tokens_in_logs() {
    let (logged, _logging) = Logged::down_to(Level::TRACE);
    let upstream = Upstream::echo().await;
    let sources = [
        TokenSource::Query("token".into()),
        TokenSource::Header,
        TokenSource::Cookie("sid".into()),
        TokenSource::Subprotocol,
    ];
    let guard = |auth: Auth| {
        move |policy: &mut outrigger::config::Policy| {
            policy.auth = Some(auth.clone());
            policy.http.mode = HttpMode::Guard;
        }
    };
    let proxy = Proxy::to(&upstream).policy(guard(by_secret(&sources))).spawn().await;
    let gone = format!("http://{}", Upstream::nowhere().await);
    let broken = Proxy::to_url(gone).policy(guard(by_secret(&sources))).spawn().await;
    let keys = ApiKeys {
        file: token::file("keys", format!("ann:{}", token::sha256_hex("SECRET-key"))),
        header: "x-api-key".into(),
    };
    let by_key = Proxy::to(&upstream).policy(guard(Auth::ApiKeys(keys))).spawn().await;

    let good = for_user("ann", 60);
    let bad = format!("{good}x");
    let mut answers = Vec::new();
    for (token, is_good) in [(&good, true), (&bad, false)] {
        for proxy in [&proxy, &broken] {
            let shapes = [
                proxy.dial().path(&format!("/chat?token={token}&a=1")),
                proxy.dial().path(&format!("/chat?%74oken={token}&token={token}")),
                proxy.dial().header("Sec-WebSocket-Protocol", &format!("outrigger.bearer, {token}")),
                proxy.dial().header("Authorization", &format!("Bearer {token}")),
                proxy.dial().header("Cookie", &format!("sid={token}")),
                proxy.plain().path(&format!("/chat?token={token}")).header("Connection", "close"),
                proxy
                    .plain()
                    .method("OPTIONS")
                    .path(&format!("/chat?token={token}"))
                    .header("Origin", "https://app.example")
                    .header("Access-Control-Request-Method", "POST"),
                // Not a handshake, and twice something else.
                proxy.dial().path(&format!("/chat?token={token}")).header("Sec-WebSocket-Version", "8"),
                proxy.dial().path(&format!("/chat?token={token}&token=other")),
            ];
            for shape in shapes {
                answers.push((is_good, shape.answer().await.response));
            }
        }
    }
    let accepted = answers.iter().filter(|(_, answer)| answer.status() == 101).count();
    assert_eq!(accepted, 5, "the good token in each place, where there is a server");
    assert!(answers.iter().any(|(_, answer)| answer.status() == 502), "and where there is none");
    let kept = by_key.dial().header("X-Api-Key", "SECRET-key").open().await;
    by_key.dial().header("X-Api-Key", "SECRET-typo").refused().await;
    drop(kept);

    let signature = good.rsplit('.').next().unwrap_or_default();
    let metrics = [proxy.metrics().await.0, broken.metrics().await.0, by_key.metrics().await.0].concat();
    let told = answers.iter().map(|(_, answer)| format!("{:?}{}", answer.head, answer.text()));
    let told = told.collect::<String>();
    let log = logged.text();
    assert!(log.contains("not authenticated") && log.contains("handshake failed"), "{log}");
    for (place, text) in [("log", &log), ("metrics", &metrics), ("answers", &told)] {
        for secret in [signature, "SECRET-key", "SECRET-typo", "token="] {
            assert!(!text.contains(secret), "{secret} in the {place}:\n{text}");
        }
    }
    for request in upstream.handshakes().iter().chain(&upstream.requests()) {
        let target = request.head.target();
        assert!(!target.contains(signature) && !target.contains("token"), "{target}");
        assert_eq!(request.head.header("Sec-WebSocket-Protocol"), None, "{:?}", request.head);
    }
}

#[tokio::test]
async fn forged_user() {
    let upstream = Upstream::echo().await;
    let forged = |dial: crate::support::client::Dial| {
        let dial = dial.header("X-Outrigger-User", "root").also("x-outrigger-user", "root");
        let dial = dial.also("X_Outrigger_User", "root").also("X-Outrigger_User", "root");
        dial.header("Connection", "Upgrade, X-Outrigger-User")
    };
    // Where nobody asks, where plain HTTP is not asked, and where somebody is known.
    let open = Proxy::to(&upstream).spawn().await;
    forged(open.dial()).open().await;
    let known = Proxy::to(&upstream).policy(|policy| policy.auth = Some(by_secret(&[TokenSource::Header])));
    let known = known.spawn().await;
    forged(known.plain()).answer().await;
    let bearer = format!("Bearer {}", for_user("ann", 60));
    forged(known.dial()).header("Authorization", &bearer).open().await;
    let heads: Vec<_> =
        upstream.handshakes().into_iter().chain(upstream.requests()).map(|r| r.head).collect();
    let users = |head: &crate::support::http::Head| {
        let names = head
            .headers
            .names()
            .into_iter()
            .filter(|name| name.to_lowercase().replace('_', "-") == "x-outrigger-user");
        names
            .flat_map(|name| head.headers.all(name).into_iter().map(str::to_owned).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    assert_eq!(heads.iter().map(users).collect::<Vec<_>>(), [vec![], vec!["ann".to_owned()], vec![]]);
    // The name itself cannot carry a header.
    let claims = serde_json::json!({ "sub": "ann\r\nX-Admin: 1", "exp": token::epoch() + 60 });
    let injected = format!("Bearer {}", token::hs256(None, token::SECRET, &claims));
    assert_ours(&known.dial().header("Authorization", &injected).refused().await, 401, "unauthorized");
    assert_eq!(known.metric(r#"outrigger_auth_failures_total{reason="user"}"#).await, 1.0);
}

#[tokio::test]
async fn two_tokens_for_two_readers() {
    // One for the proxy, the other for a server that reads the last, or the first.
    let upstream = Upstream::builder().answering(Answer::Accept).spawn().await;
    let sources =
        [TokenSource::Header, TokenSource::Cookie("sid".into()), TokenSource::Query("token".into())];
    let proxy =
        Proxy::to(&upstream).policy(move |policy| policy.auth = Some(by_secret(&sources))).spawn().await;
    let (mine, theirs) = (for_user("ann", 60), for_user("root", 60));
    let bearer = format!("Bearer {mine}");
    let dials = [
        proxy.dial().also("Authorization", &bearer).also("Authorization", &format!("Bearer {theirs}")),
        proxy.dial().also("Authorization", "Basic cm9vdDpyb290").also("Authorization", &bearer),
        proxy.dial().header("Cookie", &format!("sid={mine}; sid={theirs}")),
        proxy.dial().path(&format!("/?token={mine}&token={theirs}")),
    ];
    let count = dials.len() as f64;
    for dial in dials {
        assert_ours(&dial.refused().await, 401, "unauthorized");
    }
    assert_eq!(proxy.metric(r#"outrigger_auth_failures_total{reason="ambiguous"}"#).await, count);
    assert_eq!(upstream.accepted(), 0);
}
