//! Somebody else is asked who may come in.

mod support;

use std::time::Duration;

use outrigger::config::{Auth, ForwardAuth, HttpMode};

use support::http::assert_ours;
use support::logged::Logged;
use support::proxy::Proxy;
use support::upstream::{Plain, Upstream};

async fn asking(upstream: &Upstream, url: String) -> Proxy {
    let timeout = Duration::from_millis(500);
    let forward = ForwardAuth { url, timeout, user_header: "x-user-id".into() };
    Proxy::to(upstream)
        .policy(move |policy| {
            policy.auth = Some(Auth::Forward(forward.clone()));
            policy.http.mode = HttpMode::Guard;
        })
        .spawn()
        .await
}

async fn service(status: u16, headers: &[(&str, &str)], body: &str) -> Upstream {
    Upstream::builder().on_request(Plain::fixed(status, headers, body)).spawn().await
}

#[tokio::test]
async fn whoever_it_lets_in_comes_in_under_the_name_it_gives() {
    let upstream = Upstream::echo().await;
    let service = service(200, &[("X-User-Id", "ann")], "").await;
    let proxy = asking(&upstream, format!("{}/check?tenant=7", service.url())).await;
    let dial = proxy.dial().path("/chat?room=1").header("Cookie", "sid=1").header("X-Outrigger-User", "root");
    let mut client = dial.header("X-Original-URI", "/public").open().await;
    client.text("hello").await;
    client.expect_text("hello").await;
    let asked = &service.requests()[0].head;
    assert_eq!((asked.method(), asked.target()), ("GET", "/check?tenant=7"));
    assert_eq!(asked.header("Host").map(|host| format!("http://{host}")), Some(service.url()));
    assert_eq!(asked.headers.all("X-Original-URI"), ["/chat?room=1"]);
    assert_eq!(asked.header("X-Original-Method"), Some("GET"));
    assert_eq!(asked.header("X-Forwarded-For"), Some("127.0.0.1"));
    assert_eq!(asked.header("Cookie"), Some("sid=1"));
    for none in ["Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "X-Outrigger-User"] {
        assert_eq!(asked.header(none), None, "{none}");
    }
    assert_eq!(upstream.handshakes()[0].head.headers.all("X-Outrigger-User"), ["ann"]);

    // A plain request with a body: it is asked for without the body.
    let posted = proxy.plain().method("POST").path("/api").body("payload").answer().await;
    assert_eq!(posted.response.status(), 200);
    let asked = &service.requests()[1];
    assert_eq!((asked.head.method(), asked.head.header("X-Forwarded-Method")), ("GET", Some("POST")));
    assert_eq!((asked.head.header("Content-Length"), asked.body.len()), (None, 0));
    assert_eq!(upstream.requests()[0].body, b"payload");
    assert_eq!(service.accepted(), 1, "its connections are kept");
}

#[tokio::test]
async fn who_has_no_name_comes_in_without_one() {
    let upstream = Upstream::echo().await;
    let service = service(204, &[], "").await;
    let proxy = asking(&upstream, service.url()).await;
    proxy.dial().header("X-Outrigger-User", "root").header("X-User-Id", "root").open().await;
    assert_eq!(upstream.handshakes()[0].head.header("X-Outrigger-User"), None);
}

#[tokio::test]
async fn a_refusal_is_passed_on_as_it_is() {
    let upstream = Upstream::echo().await;
    let headers = [
        ("WWW-Authenticate", "Basic realm=\"chat\""),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Location", "https://login.example/?back=chat"),
        ("Content-Type", "application/json"),
        ("X-User-Id", "ann"),
        ("X-Internal", "10.1.2.3"),
    ];
    for status in [401, 403, 302] {
        let service = service(status, &headers, r#"{"why":"no"}"#).await;
        let proxy = asking(&upstream, service.url()).await;
        for answer in [proxy.dial().refused().await, proxy.plain().answer().await.response] {
            assert_ours(&answer, status, "unauthorized_by_service");
            assert_eq!(answer.text(), r#"{"why":"no"}"#);
            assert_eq!(answer.head.headers.all("Set-Cookie"), ["a=1", "b=2"]);
            assert_eq!(answer.header("WWW-Authenticate"), Some("Basic realm=\"chat\""));
            assert_eq!(answer.header("Location"), Some("https://login.example/?back=chat"));
            assert_eq!(answer.header("Content-Type"), Some("application/json"));
            assert_eq!((answer.header("X-User-Id"), answer.header("X-Internal")), (None, None));
        }
        assert_eq!(proxy.metric(r#"outrigger_auth_failures_total{reason="forward"}"#).await, 2.0);
    }
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn a_service_that_is_broken_lets_nobody_in_and_that_is_said_once() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::echo().await;
    let close = ("Connection", "close");
    let long = "x".repeat(100_000);
    let answers = [
        Plain::fixed(500, &[close], "secret stack trace"),
        Plain::fixed(404, &[close], ""),
        Plain::fixed(200, &[close, ("X-User-Id", "a b")], ""),
        Plain::fixed(401, &[close], &long),
        Plain::Raw(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()),
        Plain::Silent,
    ];
    let mut service = service(200, &[close], "").await;
    let proxy = asking(&upstream, format!("{}/check?secret=hunter2", service.url())).await;
    proxy.dial().open().await;
    for (number, answer) in answers.into_iter().enumerate() {
        service.change(Upstream::builder().on_request(answer));
        let refused = proxy.dial().refused().await;
        assert_ours(&refused, 503, "auth_unavailable");
        assert!(refused.header("Retry-After").is_some());
        assert!(!refused.text().contains("stack"), "{number}: {}", refused.text());
    }
    service.stop().await;
    assert_ours(&proxy.dial().refused().await, 503, "auth_unavailable");
    service.change(Upstream::builder().on_request(Plain::fixed(200, &[close], "")));
    service.start().await;
    proxy.dial().open().await;
    let said = |message: &str| logged.text().lines().filter(|line| line.contains(message)).count();
    let told = (said("authentication service fails"), said("authentication service answers again"));
    assert_eq!(told, (1, 1), "{}", logged.text());
    assert!(!logged.text().contains("hunter2"), "{}", logged.text());
    assert_eq!(proxy.metric(r#"outrigger_auth_failures_total{reason="unavailable"}"#).await, 7.0);
    assert_eq!(proxy.metric("outrigger_auth_waiting").await, 0.0);
}
