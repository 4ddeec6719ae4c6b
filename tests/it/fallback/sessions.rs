//! Sessions over HTTP: how they begin, what polls, event streams and posts are told, and how they end.

use std::time::Duration;

use serde_json::{Value, json};

use super::http_client::{HttpClient, Stream, events, json_of};
use crate::support::http::Response;
use crate::support::proxy::Proxy;
use crate::support::session::{Death, die, session};
use crate::support::ticket_client::TicketClient;
use crate::support::upstream::{Answer, Upstream};

const FALLBACK: &str = "fallback: {sse: true, poll: true}, session: {resume_window: 1m}";

async fn proxy_to(upstream: &Upstream) -> Proxy {
    session(upstream, FALLBACK).spawn().await
}

#[track_caller]
fn is_error(response: &Response, status: u16, reason: &str) -> Value {
    assert_eq!((response.status(), response.header("X-Outrigger-Reason")), (status, Some(reason)));
    let body: Value = serde_json::from_str(&response.text()).unwrap();
    assert_eq!(body["error"], reason);
    body
}

#[tokio::test]
async fn polls_that_need_not_wait_are_in_nobodys_way() {
    let upstream = Upstream::by_hand().await;
    let proxy = proxy_to(&upstream).await;
    let mut client = HttpClient::new(&proxy, "/room");
    client.begin().await;
    let polls = Vec::from_iter((0..12).map(|_| client.asking("poll?afterSequence=0&timeout=0")));
    for poll in polls {
        let response = poll.await.unwrap();
        assert_eq!(response.status(), 200, "{}", response.text());
    }
}

#[tokio::test]
async fn a_poll_begins_a_session_as_the_clients_handshake_would() {
    let upstream = Upstream::builder().answering(Answer::accept_with(&[("Set-Cookie", "seen=1")]));
    let upstream = upstream.by_hand().spawn().await;
    let proxy = proxy_to(&upstream).await;
    let asked = proxy
        .plain()
        .path("/room/poll?a=b&afterSequence=0&protocol=chat,other")
        .header("Cookie", "who=ann")
        .header("Authorization", "Basic YQ==")
        .header("Origin", "http://page.example")
        .header("Accept", "application/json")
        .header("If-None-Match", "\"x\"");
    let response = tokio::spawn(async move { asked.answer().await.response });
    let server = upstream.accept().await;
    let head = &server.request.head;
    assert_eq!((head.method(), head.target()), ("GET", "/room?a=b"));
    assert!(head.asks_for_websocket());
    assert_eq!(head.header("Sec-WebSocket-Protocol"), Some("chat, other"));
    assert_eq!((head.header("Cookie"), head.header("Authorization")), (Some("who=ann"), Some("Basic YQ==")));
    assert_eq!(head.header("Origin"), Some("http://page.example"));
    for gone in ["Accept", "If-None-Match", "X-Outrigger-Session"] {
        assert_eq!(head.header(gone), None, "{gone}");
    }
    let response = response.await.unwrap();
    assert_eq!((response.status(), response.header("Set-Cookie")), (200, Some("seen=1")));
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    let first = json_of(&response);
    assert_eq!((&first["events"], &first["nextSequence"]), (&json!([]), &0.into()), "at once");
    assert_eq!(
        (&first["received"], &first["lost"], &first["expiresIn"]),
        (&0.into(), &0.into(), &60_000.into())
    );
    assert!(first["session"].as_str().is_some_and(|ticket| ticket.len() == 60), "{first}");
    proxy.becomes_soon("outrigger_sessions{route=\"chat\",state=\"away\"}", 1.0).await;
}

#[tokio::test]
async fn polls_and_posts_carry_a_session_over_servers_that_die() {
    let mut upstream = Upstream::by_hand().await;
    let proxy = proxy_to(&upstream).await;
    let mut client = HttpClient::new(&proxy, "/room");
    client.begin().await;
    let mut server = upstream.accept().await;
    assert_eq!(client.post("one").await.status(), 202);
    server.expect_text("one").await;
    let poll = client.polling();
    proxy.becomes_soon("outrigger_sessions{route=\"chat\",state=\"http\"}", 1.0).await;
    server.text(r#"{"hello": 1}"#).await;
    let told = poll.await.unwrap();
    assert_eq!(events(&told), [(1, json!({"hello": 1}))]);
    client.had(&told);
    // It dies while a poll waits, which hears of what is uncertain, and asks again.
    let poll = client.polling();
    proxy.becomes_soon("outrigger_sessions{route=\"chat\",state=\"http\"}", 1.0).await;
    upstream.stop().await;
    die(server, Death::Reset).await;
    proxy.connected(0.0).await;
    let told = poll.await.unwrap();
    assert_eq!((events(&told), &told["control"]), (vec![], &json!([{"uncertain": {"from": 1, "to": 1}}])));
    let poll = client.polling();
    proxy.becomes_soon("outrigger_sessions{route=\"chat\",state=\"http\"}", 1.0).await;
    assert_eq!(client.post("two").await.status(), 202);
    upstream.start().await;
    let mut server = upstream.accept().await;
    server.expect_text("two").await;
    server.text("back").await;
    let told = poll.await.unwrap();
    assert_eq!(events(&told), [(2, json!("back"))]);
    assert_eq!(told["received"], 2);
}

#[tokio::test]
async fn a_numbered_post_is_taken_once_and_a_batch_from_where_it_is_new() {
    let upstream = Upstream::by_hand().await;
    let proxy = proxy_to(&upstream).await;
    let mut client = HttpClient::new(&proxy, "/room");
    client.begin().await;
    let mut server = upstream.accept().await;
    let batch = "application/vnd.outrigger.messages+json";
    let cases = [
        ("send?n=1", "text/plain", "1", 202, 1),
        ("send?n=1", "text/plain", "1", 200, 1),
        ("send", "application/octet-stream", "\u{2}", 202, 2),
        (
            "send",
            batch,
            r#"{"n":2,"messages":[{"data":"2"},{"data":"3"},{"data":"BA==","encoding":"base64"}]}"#,
            202,
            4,
        ),
    ];
    for (path, content_type, body, status, received) in cases {
        let response = client.post_as(path, content_type, body).await;
        assert_eq!(
            (response.status(), json_of(&response)),
            (status, json!({"received": received})),
            "{path}"
        );
    }
    let body = is_error(&client.post_as("send?n=9", "text/plain", "9").await, 409, "gap");
    assert_eq!(body["received"], 4);
    server.expect_text("1").await;
    server.expect_binary(&[2]).await;
    server.expect_text("3").await;
    server.expect_binary(&[4]).await;
    server.expect_silence(Duration::from_millis(30)).await;
}

#[tokio::test]
async fn each_refusal_of_a_session_has_its_status() {
    let upstream = Upstream::by_hand().await;
    let policy = format!(
        "{FALLBACK}, max_frame: 1KiB, max_message: 1KiB, limits: {{message_rate: {{rate: 1/h, burst: 3}}}}"
    );
    let proxy = session(&upstream, &policy).spawn().await;
    let mut client = HttpClient::new(&proxy, "/room");
    client.begin().await;
    let mut server = upstream.accept().await;
    is_error(&client.post_as("send", "text/plain", &"x".repeat(1025)).await, 413, "too_large");
    is_error(&client.post_bytes("send", "text/plain", b"\xff").await, 400, "bad_request");
    is_error(&client.post_as("send?n=0", "text/plain", "x").await, 400, "bad_request");
    is_error(&client.get("poll?afterSequence=x").await, 400, "bad_request");
    let body = is_error(&client.get("poll?afterSequence=1").await, 409, "ahead");
    assert_eq!(body["head"], 0);
    let method = client.get("send").await;
    assert_eq!(method.header("Allow"), Some("POST, OPTIONS"));
    is_error(&method, 405, "method");
    is_error(&client.post_as("poll", "text/plain", "x").await, 405, "method");
    let without = proxy.plain().method("POST").path("/room/send").header("Content-Length", "1").body("x");
    is_error(&without.answer().await.response, 400, "bad_request");
    // Four wait, the fifth is one too many.
    let waiting: Vec<_> = (0..4).map(|_| client.polling()).collect();
    proxy.becomes_soon("outrigger_http_requests_in_flight", 4.0).await;
    let fifth = loop {
        let response = client.get("poll?afterSequence=0&timeout=0").await;
        if response.status() != 200 {
            break response;
        }
    };
    assert_eq!(fifth.header("Retry-After"), Some("1"));
    is_error(&fifth, 429, "polls");
    server.text("hello").await;
    for poll in waiting {
        assert_eq!(events(&poll.await.unwrap()), [(1, json!("hello"))]);
    }
    for n in 1..=3 {
        assert_eq!(client.post(&n.to_string()).await.status(), 202);
    }
    let rate = client.post_as("send", "text/plain", "4").await;
    assert!(rate.header("Retry-After").is_some());
    is_error(&rate, 429, "message_rate");
    // Nobody's ticket, a ticket of another path, a ticket that was cut, and two that differ.
    let forged = "A".repeat(60);
    let two = format!("/room/poll?session={forged}");
    for (path, ticket, status, reason) in [
        ("/room/poll", &forged[..], 410, "gone"),
        ("/other/poll", client.ticket(), 410, "gone"),
        ("/room/poll", "short", 400, "bad_request"),
        (&two, client.ticket(), 400, "bad_request"),
    ] {
        let response = proxy.plain().path(path).header("X-Outrigger-Session", ticket).answer().await.response;
        is_error(&response, status, reason);
    }
    assert_eq!(upstream.accepted(), 1, "nothing was opened for any of them");
}

#[tokio::test]
async fn the_servers_close_is_told_behind_its_last_message_and_then_the_session_is_gone() {
    let upstream = Upstream::by_hand().await;
    let proxy = proxy_to(&upstream).await;
    let mut client = HttpClient::new(&proxy, "/room");
    client.begin().await;
    client.post("one").await;
    let mut server = upstream.accept().await;
    server.expect_text("one").await;
    server.text("last").await;
    server.close(4000, "done").await;
    proxy.connected(0.0).await;
    let told = client.poll().await;
    assert_eq!((events(&told), told.get("closed")), (vec![(1, json!("last"))], None));
    client.had(&told);
    let told = client.poll().await;
    assert_eq!((events(&told), &told["closed"]), (vec![], &json!({"code": 4000, "reason": "done"})));
    proxy.ends_sessions("server", 1.0).await;
    let body = is_error(&client.get("poll?afterSequence=1").await, 410, "gone");
    assert_eq!((&body["why"], &body["received"]), (&json!("server"), &json!(1)));
    // An EventSource is told to stop.
    let id = format!("{}.1", client.ticket());
    let response = proxy.plain().path("/room/events").header("Last-Event-ID", &id).answer().await.response;
    assert_eq!(response.status(), 204);
}

#[tokio::test]
async fn an_event_stream_begins_a_session_and_goes_on_with_it_by_the_last_id() {
    let mut upstream = Upstream::by_hand().await;
    let proxy = proxy_to(&upstream).await;
    let mut stream = Stream::open(&proxy, "/room/events?data=text", None).await;
    assert_eq!(stream.head.header("Content-Type"), Some("text/event-stream"));
    assert_eq!(stream.head.header("Cache-Control"), Some("no-store, no-transform"));
    assert_eq!(stream.head.header("X-Accel-Buffering"), Some("no"));
    let hello = stream.hello().await;
    assert_eq!(
        (&hello["resumed"], &hello["sequence"], &hello["received"]),
        (&false.into(), &0.into(), &0.into())
    );
    let ticket = hello["session"].as_str().unwrap().to_owned();
    assert_eq!(stream.last_id, format!("{ticket}.0"));
    let mut server = upstream.accept().await;
    proxy.becomes_soon("outrigger_sessions{route=\"chat\",state=\"http\"}", 1.0).await;
    server.text("one\r\n: two\n\nid: 7").await;
    server.binary(&[1]).await;
    assert_eq!(stream.message().await, (1, json!("one\r\n: two\n\nid: 7")));
    assert_eq!(stream.message().await, (2, json!("AQ==")));
    assert_eq!(stream.last_id, format!("{ticket}.2"));
    // What it says goes by posts, and its session is the same.
    let mut client = HttpClient::new(&proxy, "/room");
    client.set_ticket(&ticket);
    assert_eq!(client.post("hi").await.status(), 202);
    server.expect_text("hi").await;
    server.text("three").await;
    assert_eq!(stream.message().await, (3, json!("three")), "it goes on beside");
    // Its network goes, and the server meanwhile.
    let id = format!("{ticket}.2");
    stream.reset();
    proxy.away(1.0).await;
    server.text("four").await;
    let mut stream = Stream::open(&proxy, "/room/events?data=text", Some(&id)).await;
    let hello = stream.hello().await;
    assert_eq!(
        (&hello["resumed"], &hello["sequence"], &hello["received"]),
        (&true.into(), &2.into(), &1.into())
    );
    assert_eq!(hello["session"], ticket, "the ticket is the same");
    assert_eq!(stream.message().await, (3, json!("three")));
    assert_eq!(stream.message().await, (4, json!("four")));
    upstream.stop().await;
    die(server, Death::Reset).await;
    assert_eq!(stream.control().await, json!({"uncertain": {"from": 1, "to": 1}}), "it gave no receipt");
    assert_eq!(stream.control().await, json!({"server": "lost"}));
    upstream.start().await;
    let mut server = upstream.accept().await;
    assert_eq!(stream.control().await, json!({"server": "back"}));
    server.text("five").await;
    assert_eq!(stream.message().await, (5, json!("five")));
    // A newer stream has the session.
    let mut newer = Stream::open(&proxy, "/room/events", Some(&stream.last_id)).await;
    assert_eq!(newer.hello().await["resumed"], true);
    assert_eq!(stream.control().await["bye"]["why"], "taken_over");
    stream.ends().await;
    server.close(4001, "bye").await;
    assert_eq!(newer.control().await["bye"]["why"], "server");
    assert_eq!(newer.named().await, ("close".to_owned(), json!({"code": 4001, "reason": "bye"})));
    newer.ends().await;
    proxy.ends_sessions("server", 1.0).await;
}

#[tokio::test]
async fn a_stream_whose_ticket_is_good_for_nothing_begins_another_session() {
    let upstream = Upstream::by_hand().await;
    let proxy = proxy_to(&upstream).await;
    let forged = format!("{}.5", "A".repeat(60));
    let mut stream = Stream::open(&proxy, "/room/events", Some(&forged)).await;
    let hello = stream.hello().await;
    assert_eq!(
        (&hello["resumed"], &hello["lost"], &hello["sequence"]),
        (&false.into(), &Value::Null, &0.into())
    );
    let _server = upstream.accept().await;
    // One that claims to have had what it was not sent gets nothing, and the session stays.
    let id = format!("{}.9", hello["session"].as_str().unwrap());
    let response = proxy.plain().path("/room/events").header("Last-Event-ID", &id).answer().await.response;
    assert_eq!(is_error(&response, 409, "ahead")["head"], 0);
    assert_eq!(proxy.metrics().await.sum("outrigger_session_ends_total"), 0.0);
}

#[tokio::test]
async fn a_client_that_goes_while_its_poll_waits_is_away_at_once() {
    let upstream = Upstream::by_hand().await;
    let proxy = proxy_to(&upstream).await;
    let mut client = HttpClient::new(&proxy, "/room");
    client.begin().await;
    let _server = upstream.accept().await;
    let link = client.dial("poll?afterSequence=0").send().await;
    proxy.becomes_soon("outrigger_sessions{route=\"chat\",state=\"http\"}", 1.0).await;
    link.reset();
    proxy.away(1.0).await;
    let polls = "outrigger_fallback_clients{route=\"chat\",transport=\"poll\"}";
    assert_eq!(proxy.metric(polls).await, 1.0, "it is expected to poll again");
}

#[tokio::test]
async fn polls_and_streams_do_not_hold_a_drain_until_its_timeout() {
    let upstream = Upstream::by_hand().await;
    let proxy = session(&upstream, FALLBACK).yaml("drain: {delay: 100ms, spread: 300ms, timeout: 20s}");
    let proxy = proxy.spawn().await;
    let mut client = HttpClient::new(&proxy, "/room");
    client.begin().await;
    let _first = upstream.accept().await;
    let mut stream = Stream::open(&proxy, "/room/events", None).await;
    stream.hello().await;
    let _second = upstream.accept().await;
    let poll = client.polling();
    proxy.becomes_soon("outrigger_sessions{route=\"chat\",state=\"http\"}", 2.0).await;
    proxy.drain();
    let told = poll.await.unwrap();
    assert_eq!((&told["draining"], events(&told)), (&true.into(), vec![]));
    assert_eq!(stream.control().await["bye"]["why"], "drain");
    stream.ends().await;
    drop((_first, _second));
    proxy.stop_within(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_websocket_that_comes_back_ends_polls_and_streams_and_is_left_alone_while_it_is_young() {
    let upstream = Upstream::by_hand().await;
    let proxy = proxy_to(&upstream).await;
    let mut client = HttpClient::new(&proxy, "/room");
    client.begin().await;
    let mut server = upstream.accept().await;
    let poll = client.asking("poll?afterSequence=0");
    proxy.becomes_soon("outrigger_sessions{route=\"chat\",state=\"http\"}", 1.0).await;
    let mut socket = TicketClient::new(proxy.dial().path("/room"));
    socket.ticket = Some(client.ticket().to_owned());
    socket.resume().await;
    is_error(&poll.await.unwrap(), 409, "attached");
    // It has not shown its new ticket.
    let refused = client.get("poll?afterSequence=0").await;
    assert_eq!(refused.header("Retry-After"), Some("5"));
    is_error(&refused, 409, "attached");
    // An `EventSource` would give up for good on that status.
    let stream = client.get("events?afterSequence=0").await;
    assert_eq!((stream.status(), stream.header("X-Outrigger-Reason")), (200, Some("attached")));
    let text = stream.text();
    assert!(text.contains("retry: 5000\n") && text.contains(r#"data: {"error":"attached"}"#), "{text}");
    server.text("one").await;
    socket.hears(&["one"]).await;
    socket.confirm().await;
    // Now the ticket before is worth nothing any more, and the new one takes over.
    loop {
        let response = client.get("poll?afterSequence=1").await;
        if response.status() == 410 {
            assert_eq!(json_of(&response)["received"], Value::Null);
            break;
        }
        is_error(&response, 409, "attached");
    }
    client.set_ticket(socket.ticket.as_deref().unwrap());
    client.seen = 1;
    let poll = client.polling();
    assert_eq!(socket.let_go().await.0, 1008);
    server.text("two").await;
    assert_eq!(events(&poll.await.unwrap()), [(2, json!("two"))]);
}

#[tokio::test]
async fn what_is_kept_is_shown_again_and_confirms_nothing() {
    let upstream = Upstream::by_hand().await;
    let policy =
        format!("{FALLBACK}, history: {{messages: 3}}").replace("poll: true", "poll: true, replay: true");
    let proxy = session(&upstream, &policy).spawn().await;
    let mut client = HttpClient::new(&proxy, "/room");
    client.begin().await;
    let mut server = upstream.accept().await;
    for n in 1..=5 {
        server.text(&n.to_string()).await;
        let told = client.poll().await;
        assert_eq!(events(&told), [(n, json!(n))]);
        client.had(&told);
    }
    let replayed = json_of(&client.get("replay?limit=2").await);
    assert_eq!(
        events(&replayed),
        [(3, json!(3)), (4, json!(4))],
        "as many as history says, confirmed or not"
    );
    assert_eq!((&replayed["totalEvents"], &replayed["firstSequence"]), (&3.into(), &3.into()));
    let replayed = json_of(&client.get("replay?fromSequence=5").await);
    assert_eq!((events(&replayed), &replayed["totalEvents"]), (vec![(5, json!(5))], &1.into()));
    assert_eq!(is_error(&client.get("replay?fromSequence=7").await, 409, "ahead")["head"], 5);
    // A poll goes on where it was, and a replay has nobody attached.
    server.text("6").await;
    proxy.away(1.0).await;
    let told = client.poll().await;
    assert_eq!(events(&told), [(5, json!(5)), (6, json!(6))].split_at(1).1);
    is_error(&proxy.plain().path("/room/replay").answer().await.response, 400, "bad_request");
}

#[tokio::test]
async fn an_event_stream_that_is_not_read_is_bounded_as_a_websocket_is_and_may_come_back() {
    let upstream = Upstream::by_hand().await;
    let lag =
        "delivery: {max_lag: {messages: 50, bytes: 64KiB}}, close_timeout: 300ms, history: {bytes: 64MiB}";
    let proxy = session(&upstream, &format!("{FALLBACK}, {lag}")).spawn().await;
    let dial = proxy.plain().path("/room/events?data=text").receive_buffer(4096);
    let mut stream = Stream::of(dial).await.unwrap();
    let ticket = stream.hello().await["session"].as_str().unwrap().to_owned();
    let mut server = upstream.accept().await;
    let text = "x".repeat(16 * 1024);
    let mut said = 0;
    // Until its link is closed: what is kept then is history's.
    while proxy.find_metric("outrigger_sessions{route=\"chat\",state=\"away\"}").await != Some(1.0) {
        assert!(said < 4_000, "{said} messages are kept for a client that reads nothing");
        server.text(&text).await;
        said += 1;
    }
    let slow = "outrigger_disconnections_total{reason=\"slow_consumer\",route=\"chat\"}";
    assert_eq!(proxy.metric(slow).await, 1.0);
    let mut stream = Stream::open(&proxy, "/room/events", Some(&format!("{ticket}.0"))).await;
    assert_eq!(stream.hello().await["resumed"], true);
    for number in 1..=said {
        assert_eq!(stream.message().await.0, number, "all of it, in order");
    }
}

/// Of two that come at the same moment one has the session, and none of them is left without an answer.
#[tokio::test]
async fn a_poll_and_a_websocket_at_the_same_moment_end_in_an_order() {
    let upstream = Upstream::by_hand().await;
    let proxy = proxy_to(&upstream).await;
    let mut client = HttpClient::new(&proxy, "/room");
    client.begin().await;
    let mut server = upstream.accept().await;
    for round in 1..=30 {
        let poll = client.asking(&format!("poll?afterSequence={}&timeout=50ms", client.seen));
        let mut socket = TicketClient::new(proxy.dial().path("/room"));
        (socket.ticket, socket.seen) = (Some(client.ticket().to_owned()), client.seen);
        socket.resume().await;
        server.text(&round.to_string()).await;
        let response = poll.await.unwrap();
        match response.status() {
            409 => is_error(&response, 409, "attached"),
            200 => json_of(&response),
            _ => panic!("{}", response.text()),
        };
        // Whoever has it, the message is there for the one that asks.
        client.set_ticket(socket.ticket.as_deref().unwrap());
        drop(socket);
        loop {
            let response = client.get(&format!("poll?afterSequence={}", client.seen)).await;
            if response.status() == 200 {
                let told = json_of(&response);
                assert_eq!(events(&told), [(round, json!(round))]);
                client.had(&told);
                break;
            }
            is_error(&response, 409, "attached");
        }
    }
    assert_eq!(upstream.accepted(), 1);
}
