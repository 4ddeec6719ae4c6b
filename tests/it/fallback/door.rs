//! Who is let in to an endpoint, and what everybody else is answered.

use serde_json::Value;

use crate::support::feed::feed;
use crate::support::http::Response;
use crate::support::proxy::Proxy;
use crate::support::session::session;
use crate::support::upstream::{Answer, Upstream};

const FALLBACK: &str = "fallback: {sse: true, poll: true, replay: true}";
const APP: &str = "https://app.example.com";
const TICKET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// An error of an endpoint, with this reason.
#[track_caller]
fn assert_error(response: &Response, status: u16, reason: &str) {
    let told = (response.status(), response.header("X-Outrigger-Reason"));
    assert_eq!(told, (status, Some(reason)), "{}", response.text());
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    let body: Value = serde_json::from_str(&response.text()).unwrap();
    assert_eq!(body["error"], reason);
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
}

async fn get(proxy: &Proxy, path: &str) -> Response {
    proxy.plain().path(path).answer().await.response
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_opens_nothing() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, FALLBACK).spawn().await;
    for path in [
        "/feed/a/poll?afterSequence=-1",
        "/feed/a/poll?afterSequence=18446744073709551616",
        "/feed/a/poll?limit=1&limit=2",
        "/feed/a/poll?timeout=soon",
        "/feed/a/events?data=binary",
        "/feed/a/events?protocol=a%0d%0aX-Evil:%201",
        "/feed/a/replay?fromSequence=x",
    ] {
        assert_error(&get(&proxy, path).await, 400, "bad_request");
    }
    assert_eq!(proxy.feed("channels").await, 0.0);
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn another_method_is_told_which_there_are() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, FALLBACK).spawn().await;
    for name in ["poll", "events", "replay"] {
        for method in ["POST", "PUT", "DELETE"] {
            let dial = proxy.plain().method(method).path(&format!("/feed/a/{name}"));
            let response = dial.answer().await.response;
            assert_error(&response, 405, "method");
            assert_eq!(response.header("Allow"), Some("GET, OPTIONS"));
        }
    }
    let options = proxy.plain().method("OPTIONS").path("/feed/a/poll").answer().await.response;
    assert_eq!((options.status(), options.header("Allow")), (204, Some("GET, OPTIONS")));
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn an_endpoint_that_is_off_is_a_path_of_the_server() {
    let upstream = Upstream::builder().spawn().await;
    let proxy = feed(&upstream, "fallback: {poll: true, prefix: /.outrigger}").spawn().await;
    for path in ["/feed/a/events", "/feed/a/poll", "/feed/a/.outrigger/replay", "/feed/a/.outrigger/send"] {
        let response = get(&proxy, path).await;
        assert_eq!(response.header("X-Outrigger-Reason"), None, "{path}: {}", response.text());
    }
    assert_error(&get(&proxy, "/feed/a/.outrigger/poll?limit=0").await, 400, "bad_request");
}

#[tokio::test]
async fn pages_are_judged_by_their_origin_or_by_what_the_browser_says_of_them() {
    let upstream = Upstream::by_hand().await;
    for (missing, is_missing_let_in) in [("allow", true), ("refuse", false)] {
        let origins = format!("{FALLBACK}, origins: {{allow: ['{APP}'], missing: {missing}}}");
        let proxy = feed(&upstream, &origins).spawn().await;
        for (header, value, is_let_in) in [
            ("Origin", APP, true),
            ("Origin", "https://evil.example", false),
            ("Origin", "null", false),
            ("Sec-Fetch-Site", "same-origin", true),
            ("Sec-Fetch-Site", "same-site", false),
            ("Sec-Fetch-Site", "cross-site", false),
            ("Sec-Fetch-Site", "none", is_missing_let_in),
            ("X-Nothing", "1", is_missing_let_in),
        ] {
            let dial = proxy.plain().path("/feed/a/replay").header(header, value);
            let response = dial.header("Sec-Fetch-Mode", "no-cors").answer().await.response;
            if is_let_in {
                assert_error(&response, 404, "no_channel");
            } else {
                assert_error(&response, 403, "origin");
            }
            let readable = response.header("Access-Control-Allow-Origin");
            let expected = (header == "Origin" && is_let_in).then_some(APP);
            assert_eq!(readable, expected, "{missing}: {header}: {value}");
            assert_eq!(response.header("Vary"), Some("Origin"));
        }
    }
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn a_page_may_ask_before_it_sends_credentials() {
    let upstream = Upstream::by_hand().await;
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/files/api_keys");
    let policy = format!("{FALLBACK}, origins: ['{APP}'], auth: {{api_keys: {{file: '{keys}'}}}}");
    let proxy = feed(&upstream, &policy).spawn().await;
    let preflight = |origin: &str| {
        let dial = proxy.plain().method("OPTIONS").path("/feed/a/poll").header("Origin", origin);
        dial.header("Access-Control-Request-Method", "GET")
            .header("Access-Control-Request-Headers", "x-outrigger-session")
    };
    let told = preflight(APP).answer().await.response;
    assert_eq!(told.status(), 204, "{}", told.text());
    assert_eq!(told.header("Access-Control-Allow-Origin"), Some(APP));
    assert_eq!(told.header("Access-Control-Allow-Credentials"), Some("true"));
    assert!(told.header("Access-Control-Allow-Headers").unwrap().contains("X-Outrigger-Session"));
    let foreign = preflight("https://evil.example").answer().await.response;
    assert_error(&foreign, 403, "origin");
    assert_eq!(foreign.header("Access-Control-Allow-Origin"), None);
    // What is asked then needs credentials, and the page can read that it does.
    let asked = proxy.plain().path("/feed/a/poll").header("Origin", APP).answer().await.response;
    assert_error(&asked, 401, "unauthorized");
    assert_eq!(asked.header("Access-Control-Allow-Origin"), Some(APP));
    assert_eq!(asked.header("WWW-Authenticate"), Some("Bearer"));
}

#[tokio::test]
async fn http_refuse_and_its_rate_are_for_what_goes_to_the_server() {
    let upstream = Upstream::by_hand().await;
    let policy = format!("{FALLBACK}, http: {{mode: refuse, rate: {{global: {{rate: 1/m, burst: 1}}}}}}");
    let proxy = feed(&upstream, &policy).spawn().await;
    for _ in 0..5 {
        assert_error(&get(&proxy, "/feed/a/replay").await, 404, "no_channel");
    }
}

#[tokio::test]
async fn a_poll_that_goes_on_reading_costs_no_handshake_and_one_that_begins_does() {
    let upstream = Upstream::by_hand().await;
    let policy = format!(
        "{FALLBACK}, history: {{on_join: all}}, handshake_rate: {{global: {{rate: 1/m, burst: 3}}, per_ip: null}}"
    );
    let proxy = feed(&upstream, &policy).spawn().await;
    let mut client = proxy.connect("/feed/a").await;
    let mut server = upstream.accept().await;
    server.text("1").await;
    client.expect_text("1").await;
    let first = get(&proxy, "/feed/a/poll").await;
    let answer: Value = serde_json::from_str(&first.text()).unwrap();
    let after = answer["nextSequence"].as_str().unwrap();
    for _ in 0..20 {
        let path = format!("/feed/a/poll?afterSequence={after}&timeout=0");
        assert_eq!(get(&proxy, &path).await.status(), 200);
    }
    // The log of one channel is no way into another one: that costs what is left, and then there is nothing.
    let path = format!("/feed/other/poll?afterSequence={after}&timeout=0");
    let mut opening = proxy.plain().path(&path).send().await;
    let _server = upstream.accept().await;
    assert_eq!(opening.read_response("GET").await.status(), 200);
    let path = format!("/feed/third/poll?afterSequence={after}&timeout=0");
    assert_error(&get(&proxy, &path).await, 429, "rate_global");
    assert_error(&get(&proxy, "/feed/a/poll").await, 429, "rate_global");
    let refused = get(&proxy, "/feed/a/events").await;
    assert_eq!((refused.status(), refused.header("X-Outrigger-Reason")), (200, Some("rate_global")));
}

#[tokio::test]
async fn tickets_and_what_else_is_ours_never_reach_a_server_or_a_channels_name() {
    let upstream = Upstream::by_hand().await;
    let policy = format!("{FALLBACK}, broadcast: {{channel_key: [path, query]}}");
    let proxy = feed(&upstream, &policy).spawn().await;
    let path = format!("/feed/a/poll?x=1&session={TICKET}&session=mine&afterSequence=0&timeout=0&limit=5");
    let mut asked = proxy.plain().path(&path).header("X-Outrigger-Session", TICKET).send().await;
    let server = upstream.accept().await;
    let head = format!("{:?}", server.request.head);
    assert_eq!(server.request.head.target(), "/feed/a?x=1&session=mine");
    assert!(!head.contains(TICKET) && !head.contains("afterSequence"), "{head}");
    assert_eq!(asked.read_response("GET").await.status(), 200);
    let channels = proxy.channels().await;
    assert_eq!(channels[0]["channel"], "/feed/a?x=1&session=mine");
}

#[tokio::test]
async fn refusals_are_told_by_their_status_where_websockets_are_told_by_a_close() {
    let upstream = Upstream::by_hand().await;
    let policy = format!("{FALLBACK}, on_refuse: close, origins: ['{APP}']");
    let proxy = feed(&upstream, &policy).spawn().await;
    let response = proxy.plain().path("/feed/a/poll").header("Origin", "https://evil.example");
    assert_error(&response.answer().await.response, 403, "origin");
}

#[tokio::test]
async fn what_the_server_declines_is_passed_on_but_who_may_keep_and_read_it_is_ours_to_say() {
    let theirs = [
        ("X-Why", "no"),
        ("Set-Cookie", "seen=1"),
        ("Cache-Control", "public, max-age=60"),
        ("ETag", "\"v1\""),
        ("Last-Modified", "Tue, 01 Dec 2026 00:00:00 GMT"),
        ("X-Accel-Expires", "60"),
        ("Access-Control-Allow-Origin", "https://evil.example"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Allow-Methods", "DELETE"),
        ("Vary", "Accept-Language"),
    ];
    let upstream = Upstream::builder().answering(Answer::refuse(403, &theirs, "go away")).spawn().await;
    let listed = format!("origins: ['{APP}']");
    // A page of its own site, any page, and one that is listed.
    for (origins, origin, readable, with_credentials) in [
        ("", None, None, None),
        ("", Some(APP), Some("*"), None),
        (&*listed, Some(APP), Some(APP), Some("true")),
    ] {
        let policy = format!("fallback: {{sse: true, poll: true}}, {origins}");
        let (feeds, sessions) =
            (feed(&upstream, &policy).spawn().await, session(&upstream, &policy).spawn().await);
        for (proxy, path) in [
            (&feeds, "/feed/a/poll"),
            (&feeds, "/feed/a/events"),
            (&sessions, "/room/poll"),
            (&sessions, "/room/events"),
        ] {
            let who = format!("{path} of {origin:?}, {origins}");
            let dial = proxy.plain().path(path);
            let dial = origin.into_iter().fold(dial, |dial, origin| dial.header("Origin", origin));
            let response = dial.answer().await.response;
            assert_eq!((response.status(), response.header("X-Why")), (403, Some("no")), "{who}");
            assert_eq!(response.text(), "go away", "{who}");
            let all = |name: &str| response.head.headers.all(name);
            assert_eq!(all("Cache-Control"), ["no-store"], "{who}");
            for gone in ["ETag", "Last-Modified", "X-Accel-Expires", "Access-Control-Allow-Methods"] {
                assert_eq!(all(gone), [""; 0], "{who}: {gone}");
            }
            assert_eq!(all("Access-Control-Allow-Origin"), Vec::from_iter(readable), "{who}");
            assert_eq!(all("Access-Control-Allow-Credentials"), Vec::from_iter(with_credentials), "{who}");
            let vary: &[&str] =
                if origins.is_empty() { &["Accept-Language"] } else { &["Accept-Language", "Origin"] };
            assert_eq!(all("Vary"), vary, "{who}");
            // Whoever shares a feed's connection shares no cookie.
            let is_own = path.starts_with("/room");
            assert_eq!(all("Set-Cookie"), Vec::from_iter(is_own.then_some("seen=1")), "{who}");
        }
        assert_eq!(sessions.metrics().await.sum("outrigger_sessions"), 0.0, "no session is begun");
        assert_eq!(feeds.feed("channels").await, 0.0);
    }
}
