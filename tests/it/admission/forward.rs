//! Somebody else is asked who may come in.

use std::time::Duration;

use outrigger::config::{Auth, ForwardAuth, HttpMode};

use crate::support::client::Dial;
use crate::support::http::assert_ours;
use crate::support::http2;
use crate::support::logged::Logged;
use crate::support::proxy::{Builder, Proxy};
use crate::support::tls;
use crate::support::upstream::{Plain, Upstream};

fn forward(url: String) -> ForwardAuth {
    let timeout = Duration::from_millis(500);
    ForwardAuth { url, ca: None, timeout, user_header: "x-user-id".into(), headers: Vec::new() }
}

async fn asking(upstream: &Upstream, url: String) -> Proxy {
    let forward = forward(url);
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
async fn no_client_can_say_what_names_the_user_neither_to_the_service_nor_to_the_server() {
    let upstream = Upstream::echo().await;
    let service = service(200, &[], "").await;
    // No `headers` are named: what names the user is the service's word all the same.
    let proxy = asking(&upstream, service.url()).await;
    for dial in [proxy.dial(), proxy.plain()] {
        upstream.forget();
        service.forget();
        let status = lying(dial).answer().await.response.status();
        assert!(matches!(status, 101 | 200), "{status}");
        let seen = [upstream.handshakes(), upstream.requests(), service.requests()].concat();
        assert_eq!(seen.len(), 2);
        for seen in seen {
            for none in ["X-User-Id", "x_user_id", "X!User.Id"] {
                assert_eq!(seen.head.header(none), None, "{none}");
            }
            assert_eq!(seen.head.headers.all("X-Tenant"), ["theirs"], "it is nobody else's");
        }
    }
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

/// As [`asking`], with headers of the answer that go on.
fn telling(upstream: &Upstream, url: String, mode: HttpMode) -> Builder {
    let headers = vec!["x-user-id".into(), "x-tenant".into()];
    let forward = ForwardAuth { headers, ..forward(url) };
    Proxy::to(upstream).policy(move |policy| {
        policy.auth = Some(Auth::Forward(forward.clone()));
        policy.http.mode = mode;
    })
}

/// What a client would like the server to believe, and would like to have removed.
fn lying(dial: Dial) -> Dial {
    dial.header("X-User-Id", "root")
        .also("x-user-id", "admin")
        .header("X-Tenant", "theirs")
        .header("X_Tenant", "theirs")
        .header("x_user_id", "root")
        .header("X.Tenant", "theirs")
        .header("X!User.Id", "root")
}

#[tokio::test]
async fn headers_of_its_answer_reach_the_server_and_no_client_can_say_them() {
    let upstream = Upstream::echo().await;
    let said = [("X-User-Id", "ann"), ("X-Tenant", "a, b"), ("X-Tenant", "c"), ("X-Other", "not named")];
    let service = service(200, &said, "").await;
    let proxy = telling(&upstream, service.url(), HttpMode::Guard).spawn().await;
    let hop = |upgrade: &str| format!("{upgrade}, X-User-Id, x-tenant, X_Tenant");
    let dials = [
        lying(proxy.dial().header("Connection", &hop("Upgrade"))),
        lying(proxy.plain().header("Connection", &hop("keep-alive"))),
    ];
    for dial in dials {
        upstream.forget();
        service.forget();
        let status = dial.answer().await.response.status();
        assert!(matches!(status, 101 | 200), "{status}");
        let [seen] = &[upstream.handshakes(), upstream.requests()].concat()[..] else {
            panic!("one request")
        };
        assert_eq!(seen.head.headers.all("X-User-Id"), ["ann"]);
        assert_eq!(seen.head.headers.all("X-Tenant"), ["a, b", "c"]);
        assert_eq!(seen.head.headers.all("X-Outrigger-User"), ["ann"]);
        let [asked] = &service.requests()[..] else { panic!("one question") };
        for head in [&seen.head, &asked.head] {
            for none in ["X_Tenant", "x_user_id", "X.Tenant", "X!User.Id", "X-Other"] {
                assert_eq!(head.header(none), None, "{none}: {head:#?}");
            }
        }
        for none in ["X-User-Id", "X-Tenant"] {
            assert_eq!(asked.head.header(none), None, "the service is not asked with what it has to say");
        }
    }
    let client = http2::Client::connect(proxy.address()).await;
    let mut request = http2::Client::handshake("/");
    for (name, value) in [("x-tenant", "theirs"), ("x_tenant", "theirs"), ("x-user-id", "root")] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    upstream.forget();
    client.try_open(request).await.unwrap().echoes("hello").await;
    let head = &upstream.handshakes()[0].head;
    assert_eq!(head.headers.all("X-Tenant"), ["a, b", "c"]);
    assert_eq!((head.headers.all("X-User-Id"), head.header("x_tenant")), (vec!["ann"], None));
}

#[tokio::test]
async fn what_a_client_says_under_those_names_is_taken_out_where_the_service_says_nothing() {
    let upstream = Upstream::echo().await;
    // It names nobody.
    let service = service(204, &[], "").await;
    for mode in [HttpMode::Guard, HttpMode::Pass] {
        let proxy = telling(&upstream, service.url(), mode).spawn().await;
        let preflight = proxy.plain().method("OPTIONS").header("Origin", "https://a.example");
        let preflight = preflight.header("Access-Control-Request-Method", "GET");
        let names = "X-User-Id, X-Tenant";
        for dial in [proxy.dial(), proxy.plain(), preflight, proxy.plain().header("Connection", names)] {
            upstream.forget();
            let status = lying(dial).header("X-Kept", "1").answer().await.response.status();
            assert!(matches!(status, 101 | 200), "{status}");
            let [seen] = &[upstream.handshakes(), upstream.requests()].concat()[..] else { panic!("one") };
            for none in ["X-User-Id", "X-Tenant", "X_Tenant", "x_user_id", "X.Tenant", "X!User.Id"] {
                assert_eq!(seen.head.header(none), None, "{mode:?} {none}");
            }
            assert_eq!(seen.head.header("X-Kept"), Some("1"));
        }
    }
}

#[tokio::test]
async fn the_link_of_a_feed_carries_those_of_its_key_and_no_others() {
    let upstream = Upstream::builder().spawn().await;
    let said = |tenant: &'static str| {
        let headers = [("X-User-Id", "ann"), ("X-Tenant", tenant), ("Connection", "close")];
        Upstream::builder().on_request(Plain::fixed(200, &headers, ""))
    };
    let service = said("red").spawn().await;
    let key = "policy: {broadcast: {channel_key: [path, 'header:X-Tenant']}}";
    let proxy = telling(&upstream, service.url(), HttpMode::Guard)
        .yaml("routes: [{name: feed, path: '/feed', mode: broadcast}]")
        .yaml(key)
        .spawn()
        .await;
    let _first = lying(proxy.dial()).path("/feed").open().await;
    // Of the same tenant by the service's word, whatever they say themselves.
    let _second = proxy.dial().header("X-Tenant", "blue").path("/feed").open().await;
    service.change(said("blue"));
    let _third = proxy.dial().header("X-Tenant", "red").path("/feed").open().await;
    let tenants: Vec<_> =
        upstream.handshakes().iter().map(|seen| seen.head.headers.all("X-Tenant").join(";")).collect();
    assert_eq!(tenants, ["red", "blue"], "two channels, by what the service says");
    for seen in upstream.handshakes() {
        assert_eq!(seen.head.header("X-User-Id"), None, "it is one client's and not in the key");
    }
}

#[tokio::test]
async fn a_link_with_the_credentials_of_its_first_client_carries_what_the_service_says_of_it() {
    let upstream = Upstream::builder().spawn().await;
    let service = service(200, &[("X-User-Id", "ann"), ("X-Tenant", "red")], "").await;
    let auth = format!("{{forward: {{url: '{}', headers: [X-User-Id, x-tenant]}}}}", service.url());
    let feed = "broadcast: {channel_key: [path, user], credentials: first}";
    let proxy = Proxy::to(&upstream)
        .yaml("routes: [{name: feed, path: '/feed', mode: broadcast}]")
        .yaml(&format!("policy: {{auth: {auth}, {feed}}}"))
        .spawn()
        .await;
    let names = "Upgrade, X-User-Id, X-Tenant";
    let _first = lying(proxy.dial().header("Connection", names)).path("/feed").open().await;
    let head = &upstream.handshakes()[0].head;
    assert_eq!((head.headers.all("X-User-Id"), head.headers.all("X-Tenant")), (vec!["ann"], vec!["red"]));
    assert_eq!(head.header("X_Tenant"), None);
}

#[tokio::test]
async fn a_service_whose_certificate_a_private_authority_has_signed_is_believed_with_its_file() {
    let upstream = Upstream::echo().await;
    let identity = tls::Authority::known().issue(&["localhost"], "auth");
    let answer = Plain::fixed(200, &[("X-User-Id", "ann")], "");
    let service =
        Upstream::builder().on_request(answer).tls(tls::Authority::server(&identity, None)).spawn().await;
    let url = service.url().replace("http://127.0.0.1", "https://localhost");
    for (ca, status) in
        [(Some(tls::Authority::known().file()), 101), (Some(tls::Authority::new("another").file()), 503)]
    {
        let forward = ForwardAuth { ca, ..forward(url.clone()) };
        let proxy = Proxy::to(&upstream)
            .policy(move |policy| policy.auth = Some(Auth::Forward(forward.clone())))
            .spawn()
            .await;
        assert_eq!(proxy.dial().answer().await.response.status(), status);
    }
    for (contents, told) in [
        ("nothing of the kind", "ca.pem holds no certificate authority in PEM, but text without a line"),
        (identity.key.as_str(), "ca.pem holds no certificate authority in PEM, but a private key; is it"),
    ] {
        let forward = ForwardAuth { ca: Some(tls::file("ca.pem", contents)), ..forward(url.clone()) };
        let refused = Proxy::to(&upstream)
            .policy(move |policy| policy.auth = Some(Auth::Forward(forward.clone())))
            .try_spawn()
            .await;
        let error = refused.err().unwrap().to_string();
        assert!(error.contains(&format!("policy.auth.forward.ca_file: {told}")), "{error}");
    }
}
