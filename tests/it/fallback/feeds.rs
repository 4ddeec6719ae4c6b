//! Feeds over HTTP: what polls, event streams and replays tell of a channel, and whom it counts.

use std::time::Duration;

use outrigger::config::{ApiKeys, Auth, OnUserLimit};
use serde_json::Value;

use crate::support::feed::feed;
use crate::support::http::Response;
use crate::support::link::Link;
use crate::support::proxy::Proxy;
use crate::support::token;
use crate::support::upstream::Upstream;

const FALLBACK: &str = "fallback: {sse: true, poll: true, replay: true}";

/// What a request for this is answered.
async fn get(proxy: &Proxy, path: &str) -> Response {
    proxy.plain().path(path).answer().await.response
}

/// The answer to a poll or a replay.
async fn told(proxy: &Proxy, path: &str) -> Value {
    let response = get(proxy, path).await;
    assert_eq!(response.status(), 200, "{path}: {}", response.text());
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    serde_json::from_str(&response.text()).unwrap_or_else(|_| panic!("{}", response.text()))
}

/// The messages of an answer, and their numbers.
fn events(answer: &Value) -> Vec<(u64, String)> {
    let events = answer["events"].as_array().unwrap().iter();
    let event = |event: &Value| {
        let data = event["data"].as_str().map_or_else(|| event["data"].to_string(), str::to_owned);
        (event["sequenceNumber"].as_u64().unwrap(), data)
    };
    events.map(event).collect()
}

fn next(answer: &Value) -> &str {
    answer["nextSequence"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

#[tokio::test]
async fn polls_that_follow_each_other_get_each_message_once_and_in_order() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, FALLBACK).spawn().await;
    let opening = tokio::spawn({
        let dial = proxy.plain().path("/feed/a/poll?timeout=30s");
        async move { dial.answer().await.response.text() }
    });
    let mut server = upstream.accept().await;
    assert_eq!(server.request.head.target(), "/feed/a", "the server sees a WebSocket's handshake");
    assert!(server.request.head.asks_for_websocket());
    proxy.becomes("outrigger_fallback_clients{route=\"feed\",transport=\"poll\"}", 1.0).await;
    assert_eq!(proxy.feed("clients").await, 0.0, "it has no WebSocket");
    server.text(r#"{"n":1}"#).await;
    let first: Value = serde_json::from_str(&opening.await.unwrap()).unwrap();
    assert_eq!(events(&first), [(1, r#"{"n":1}"#.to_owned())]);
    assert_eq!(
        (&first["session"], &first["lost"], &first["received"]),
        (&Value::Null, &0.into(), &Value::Null)
    );
    proxy.becomes("outrigger_fallback_clients{route=\"feed\",transport=\"poll\"}", 0.0).await;

    // What comes between two polls is not missed: the channel lives on.
    server.text("two").await;
    server.binary(&[3]).await;
    proxy.has("feed_messages_total", 3.0).await;
    let second = told(&proxy, &format!("/feed/a/poll?afterSequence={}&limit=1", next(&first))).await;
    assert_eq!(events(&second), [(2, "two".to_owned())]);
    let third = told(&proxy, &format!("/feed/a/poll?afterSequence={}", next(&second))).await;
    assert_eq!(events(&third), [(3, "Aw==".to_owned())]);
    assert_eq!(third["events"][0]["encoding"], "base64");
    // A number alone is of the log that runs.
    let again = told(&proxy, "/feed/a/poll?afterSequence=1&data=text").await;
    assert_eq!(events(&again).len(), 2);
    // Nothing waits: it is said at once.
    let none = told(&proxy, &format!("/feed/a/poll?afterSequence={}&timeout=0", next(&third))).await;
    assert_eq!((events(&none).len(), next(&none)), (0, next(&third)));
    assert_eq!(proxy.feed("channels").await, 1.0, "it was one channel all the time");
}

#[tokio::test]
async fn a_poll_shares_its_channel_with_websockets_and_is_told_what_it_missed() {
    let upstream = Upstream::by_hand().await;
    let policy = format!("{FALLBACK}, history: {{messages: 2, on_join: all}}");
    let proxy = feed(&upstream, &policy).spawn().await;
    let mut client = proxy.connect("/feed/a?room=1").await;
    let mut server = upstream.accept().await;
    for n in 1..=5 {
        server.text(&n.to_string()).await;
        client.expect_text(&n.to_string()).await;
    }
    let late = told(&proxy, "/feed/a/poll?room=1").await;
    assert_eq!(events(&late), [(4, "4".to_owned()), (5, "5".to_owned())], "history.on_join");
    assert_eq!(late["lost"], 0);
    let behind = told(&proxy, "/feed/a/poll?afterSequence=1&room=1").await;
    assert_eq!(events(&behind), [(4, "4".to_owned()), (5, "5".to_owned())]);
    assert_eq!(behind["lost"], 2, "2 and 3 are not kept any more");
    let other = "0123456789abcdef.3";
    let foreign = told(&proxy, &format!("/feed/a/poll?afterSequence={other}&room=1")).await;
    assert_eq!(
        (events(&foreign).len(), &foreign["lost"]),
        (2, &Value::Null),
        "another log's number says nothing"
    );
    assert_eq!(upstream.accepted(), 1, "one connection to the server for all of it");
}

#[tokio::test]
async fn who_claims_to_have_had_what_never_was_is_told_the_newest_number() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, FALLBACK).spawn().await;
    let mut client = proxy.connect("/feed/a").await;
    let mut server = upstream.accept().await;
    server.text("1").await;
    client.expect_text("1").await;
    for path in ["poll?afterSequence=2", "events?afterSequence=2", "replay?fromSequence=3"] {
        let response = get(&proxy, &format!("/feed/a/{path}")).await;
        assert_eq!(response.status(), 409, "{path}");
        assert_eq!(response.header("X-Outrigger-Reason"), Some("ahead"));
        let body: Value = serde_json::from_str(&response.text()).unwrap();
        assert_eq!((&body["error"], &body["head"]), (&"ahead".into(), &1.into()));
    }
}

#[tokio::test]
async fn a_replay_tells_what_is_kept_and_opens_nothing() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, &format!("{FALLBACK}, history: {{messages: 3}}")).spawn().await;
    let response = get(&proxy, "/feed/a/replay").await;
    assert_eq!(response.status(), 404);
    assert_eq!(response.header("X-Outrigger-Reason"), Some("no_channel"));
    assert_eq!(proxy.feed("channels").await, 0.0);
    let mut client = proxy.connect("/feed/a").await;
    let mut server = upstream.accept().await;
    for n in 1..=5 {
        server.text(&n.to_string()).await;
        client.expect_text(&n.to_string()).await;
    }
    let all = told(&proxy, "/feed/a/replay").await;
    assert_eq!(events(&all).iter().map(|(n, _)| *n).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!((&all["totalEvents"], &all["firstSequence"]), (&3.into(), &3.into()));
    let epoch = all["epoch"].as_str().unwrap();
    let some = told(&proxy, &format!("/feed/a/replay?fromSequence={epoch}.4&limit=1")).await;
    assert_eq!((events(&some), &some["totalEvents"]), (vec![(4, "4".to_owned())], &2.into()));
    let none = told(&proxy, "/feed/a/replay?fromSequence=6").await;
    assert_eq!((events(&none).len(), &none["totalEvents"]), (0, &0.into()));
    assert_eq!(none["events"], Value::Array(Vec::new()));
    let event = &all["events"][0];
    assert!(event["timestamp"].as_u64().unwrap() > 1_600_000_000_000, "{event}");
    assert_eq!(event["isCritical"], false);
}

#[tokio::test]
async fn a_poll_hears_that_the_server_has_closed_the_feed() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, FALLBACK).spawn().await;
    let poll = tokio::spawn({
        let dial = proxy.plain().path("/feed/a/poll");
        async move { dial.answer().await.response.text() }
    });
    let mut server = upstream.accept().await;
    proxy.becomes("outrigger_fallback_clients{route=\"feed\",transport=\"poll\"}", 1.0).await;
    server.close(4001, "that was it").await;
    let answer: Value = serde_json::from_str(&poll.await.unwrap()).unwrap();
    assert_eq!(answer["closed"], serde_json::json!({ "code": 4001, "reason": "that was it" }));
}

#[tokio::test]
async fn a_poll_holds_a_place_for_as_long_as_it_takes() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, &format!("{FALLBACK}, limits: {{connections: 1}}")).spawn().await;
    let mut waiting = proxy.plain().path("/feed/a/poll?timeout=50s").send().await;
    let mut server = upstream.accept().await;
    proxy.becomes("outrigger_fallback_clients{route=\"feed\",transport=\"poll\"}", 1.0).await;
    let full = get(&proxy, "/feed/a/poll").await;
    assert_eq!((full.status(), full.header("X-Outrigger-Reason")), (503, Some("capacity")));
    assert!(full.header("Retry-After").is_some());
    server.text("1").await;
    assert_eq!(waiting.read_response("GET").await.status(), 200);
    told(&proxy, "/feed/a/poll?afterSequence=0").await;
    // One that goes away gives it back at once.
    let gone = proxy.plain().path("/feed/a/poll?afterSequence=1&timeout=50s").send().await;
    proxy.becomes("outrigger_fallback_clients{route=\"feed\",transport=\"poll\"}", 1.0).await;
    gone.reset();
    proxy.becomes("outrigger_fallback_clients{route=\"feed\",transport=\"poll\"}", 0.0).await;
    told(&proxy, "/feed/a/poll?afterSequence=0").await;
}

#[tokio::test]
async fn polls_that_wait_do_not_hold_the_server_up() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, &format!("{FALLBACK}, history: {{messages: 4}}")).spawn().await;
    let mut poll = proxy.plain().path("/feed/a/poll").send().await;
    let mut server = upstream.accept().await;
    let mut after = String::new();
    for n in 1..=100 {
        server.text(&n.to_string()).await;
        proxy.has("feed_messages_total", f64::from(n)).await;
        let answer: Value = serde_json::from_str(&poll.read_response("GET").await.text()).unwrap();
        next(&answer).clone_into(&mut after);
        // There is one at any time: nobody else reads.
        poll = proxy.plain().path(&format!("/feed/a/poll?afterSequence={after}")).send().await;
    }
    assert!(after.ends_with(".100"), "{after}");
}

#[tokio::test]
async fn a_page_of_the_same_site_has_the_channel_that_its_websocket_has() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(
        &upstream,
        &format!("{FALLBACK}, origins: ['https://other.example'], history: {{on_join: all}}"),
    );
    let proxy = proxy.spawn().await;
    let host = proxy.address().to_string();
    let page = |path: &str| {
        proxy.plain().path(path).header("Sec-Fetch-Site", "same-origin").header("Sec-Fetch-Mode", "cors")
    };
    let waiting = page("/feed/a/poll").send().await;
    let mut server = upstream.accept().await;
    assert_eq!(
        server.request.head.header("Origin"),
        Some(&*format!("http://{host}")),
        "as a handshake has it"
    );
    server.text("1").await;
    drop(waiting);
    let replayed = page("/feed/a/replay").answer().await.response;
    assert_eq!(replayed.status(), 200, "{}", replayed.text());
}

/// One piece of an event stream: its lines.
async fn piece(stream: &mut Link) -> Vec<String> {
    let bytes = stream.read_to("\n\n").await.expect("the stream goes on");
    String::from_utf8(bytes).unwrap().split('\n').map(str::to_owned).collect()
}

#[tokio::test]
async fn an_event_stream_tells_each_message_with_an_id_to_come_back_by() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, &format!("{FALLBACK}, history: {{on_join: all}}")).spawn().await;
    let mut stream = proxy.plain().path("/feed/a/events").send().await;
    let mut server = upstream.accept().await;
    let head = stream.read_head().await;
    assert_eq!(head.status(), 200);
    assert_eq!(head.header("Content-Type"), Some("text/event-stream"));
    assert_eq!(head.header("Cache-Control"), Some("no-store, no-transform"));
    assert_eq!(head.header("X-Accel-Buffering"), Some("no"));
    let retry = piece(&mut stream).await;
    let retry: u64 = retry[0].strip_prefix("retry: ").unwrap().parse().unwrap();
    assert!((2000..=4000).contains(&retry), "{retry}");
    let hello = piece(&mut stream).await;
    assert_eq!(hello[0], "event: outrigger");
    let said: Value = serde_json::from_str(hello[2].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&said["session"], &said["sequence"]), (&Value::Null, &0.into()));
    assert!(said.get("control").is_none(), "{said}");
    let epoch = said["epoch"].as_str().unwrap().to_owned();
    assert_eq!(hello[1], format!("id: {epoch}.0"));
    proxy.becomes("outrigger_fallback_clients{route=\"feed\",transport=\"sse\"}", 1.0).await;
    assert_eq!(proxy.feed("clients").await, 0.0);
    let listed = proxy.admin_get("/api/admin/subscribers").await.text();
    assert!(listed.contains(r#""transport":"sse""#), "{listed}");

    server.text("a\nb\r\u{2028}").await;
    let event = piece(&mut stream).await;
    assert_eq!(event[0], format!("id: {epoch}.1"));
    let data: Value = serde_json::from_str(event[1].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&data["data"], event.len()), (&"a\nb\r\u{2028}".into(), 2));
    drop(stream);
    proxy.becomes("outrigger_fallback_clients{route=\"feed\",transport=\"sse\"}", 0.0).await;

    // It comes back to exactly what came meanwhile.
    server.text("2").await;
    server.text("3").await;
    proxy.has("feed_messages_total", 3.0).await;
    let dial = proxy.plain().path("/feed/a/events").header("Last-Event-ID", &format!("{epoch}.2"));
    let mut stream = dial.send().await;
    stream.read_head().await;
    piece(&mut stream).await;
    let hello = piece(&mut stream).await;
    let said: Value = serde_json::from_str(hello[2].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&said["resumed"], &said["lost"]), (&true.into(), &0.into()));
    assert_eq!(piece(&mut stream).await[0], format!("id: {epoch}.3"));
    server.close(4001, "bye").await;
    assert_eq!(piece(&mut stream).await, ["event: close", r#"data: {"code":4001,"reason":"bye"}"#]);
    assert!(stream.read_to("\n\n").await.is_err(), "and nothing more");
}

#[tokio::test]
async fn an_event_source_is_told_by_a_stream_that_it_may_come_back() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, &format!("{FALLBACK}, limits: {{connections: 0}}")).policy(|policy| {
        policy.limits.connections = Some(0);
    });
    let proxy = proxy.spawn().await;
    let refused = get(&proxy, "/feed/a/events").await;
    assert_eq!((refused.status(), refused.header("X-Outrigger-Reason")), (200, Some("capacity")));
    assert_eq!(refused.header("Content-Type"), Some("text/event-stream"));
    let body = refused.text();
    assert!(body.contains("event: outrigger\ndata: {\"error\":\"capacity\"}\n\n"), "{body}");
    assert!(body.contains("retry: "), "{body}");
    let polled = get(&proxy, "/feed/a/poll").await;
    assert_eq!((polled.status(), polled.header("X-Outrigger-Reason")), (503, Some("capacity")));
    // The server is away.
    let nobody = Proxy::to_url("http://127.0.0.1:1").yaml(crate::support::feed::FEED);
    let nobody = nobody.yaml(&format!("policy: {{{FALLBACK}}}")).spawn().await;
    let refused = get(&nobody, "/feed/a/events").await;
    assert_eq!((refused.status(), refused.header("X-Outrigger-Reason")), (200, Some("upstream_unreachable")));
    let polled = get(&nobody, "/feed/a/poll").await;
    assert_eq!((polled.status(), polled.header("X-Outrigger-Reason")), (502, Some("upstream_unreachable")));
}

#[tokio::test]
async fn a_poll_that_finds_nothing_is_answered_after_its_timeout() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, FALLBACK).spawn().await;
    let asked = tokio::time::Instant::now();
    let answer = told(&proxy, "/feed/a/poll?timeout=300ms").await;
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert_eq!(events(&answer).len(), 0);
}

#[tokio::test]
async fn a_drain_has_waiting_polls_answered_and_streams_ended() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, FALLBACK).yaml("drain: {spread: 300ms, timeout: 20s}").spawn().await;
    let mut polls = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..10 {
        polls.push(proxy.plain().path("/feed/a/poll?timeout=55s").send().await);
        streams.push(proxy.plain().path("/feed/a/events").send().await);
    }
    let _server = upstream.accept().await;
    proxy.becomes("outrigger_fallback_clients{route=\"feed\",transport=\"poll\"}", 10.0).await;
    proxy.becomes("outrigger_fallback_clients{route=\"feed\",transport=\"sse\"}", 10.0).await;
    let begun = tokio::time::Instant::now();
    proxy.drain();
    for poll in &mut polls {
        let response = poll.read_response("GET").await;
        assert_eq!(response.status(), 200);
        let answer: Value = serde_json::from_str(&response.text()).unwrap();
        assert_eq!((&answer["draining"], events(&answer).len()), (&true.into(), 0));
    }
    for stream in &mut streams {
        stream.read_head().await;
        let mut last = Vec::new();
        while let Ok(piece) = stream.read_to("\n\n").await {
            last = piece;
        }
        let last = String::from_utf8(last).unwrap();
        assert!(last.starts_with("retry: "), "{last}");
    }
    proxy.ended_within(Duration::from_secs(10)).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "nobody holds it until its timeout");
}

#[track_caller]
fn is_replaced(response: &Response) {
    assert_eq!((response.status(), response.header("X-Outrigger-Reason")), (409, Some("replaced")));
}

#[tokio::test]
async fn a_poll_that_waits_gives_its_place_to_its_users_next_connection_and_takes_that_of_the_last_one() {
    let upstream = Upstream::by_hand().await;
    let keys = format!("ann:{}\n", token::sha256_hex("key-ann"));
    let proxy = feed(&upstream, FALLBACK).policy(move |policy| {
        policy.auth = Some(Auth::ApiKeys(ApiKeys {
            file: token::file("keys", keys.clone()),
            header: "x-api-key".into(),
        }));
        policy.limits.per_user = Some(1);
        policy.limits.on_user_limit = OnUserLimit::ReplaceOldest;
    });
    let proxy = proxy.spawn().await;
    let poll = || {
        let dial = proxy.plain().path("/feed/a/poll?timeout=30s").header("X-Api-Key", "key-ann");
        tokio::spawn(async move { dial.answer().await.response })
    };
    let polls = |count| proxy.becomes("outrigger_fallback_clients{route=\"feed\",transport=\"poll\"}", count);
    let first = poll();
    let _server = upstream.accept().await;
    polls(1.0).await;
    // Each of them comes in at once, and takes the place of the one before.
    let mut socket = proxy.dial().path("/feed/a").header("X-Api-Key", "key-ann").open().await;
    is_replaced(&first.await.unwrap());
    let second = poll();
    let closed = socket.closed().await;
    assert_eq!((closed.code, closed.reason.as_str()), (1008, "replaced by a newer connection"));
    polls(1.0).await;
    let third = poll();
    is_replaced(&second.await.unwrap());
    third.abort();
    polls(0.0).await;
}
