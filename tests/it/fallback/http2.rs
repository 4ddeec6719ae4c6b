//! Clients without a WebSocket over HTTP/2, where a browser has all its polls and event streams on one connection.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Request;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::http_client::{Stream, events};
use crate::support::feed::feed;
use crate::support::http2::{Answer, Body, Came, Client};
use crate::support::proxy::Proxy;
use crate::support::session::session;
use crate::support::upstream::Upstream;

const SESSIONS: &str = "fallback: {sse: true, poll: true}, session: {resume_window: 1m}";
const FEEDS: &str = "fallback: {sse: true, poll: true}, history: {on_join: all}";

/// What a request is answered.
async fn asks(http2: &Client, method: &str, path: &str, ticket: Option<&str>, body: &str) -> Answer {
    let request = Request::builder().method(method).uri(format!("http://h2.example{path}"));
    let request =
        ticket.into_iter().fold(request, |request, ticket| request.header("x-outrigger-session", ticket));
    http2.plain(request.body(()).unwrap(), body.as_bytes()).await.expect("it is answered")
}

fn json_of(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

async fn listens(http2: &Client, path: &str, last_id: Option<&str>) -> Stream {
    Stream::over_http2(http2, path, last_id).await.unwrap_or_else(|status| panic!("{path}: {status}"))
}

async fn listening(proxy: &Proxy, route: &str, count: f64) {
    proxy.becomes(&format!("outrigger_fallback_clients{{route=\"{route}\",transport=\"sse\"}}"), count).await;
}

#[tokio::test]
async fn a_session_is_polled_and_posted_to() {
    let upstream = Upstream::by_hand().await;
    let proxy = session(&upstream, SESSIONS).spawn().await;
    let http2 = Client::connect(proxy.address()).await;
    let begun = json_of(&asks(&http2, "GET", "/room/poll", None, "").await);
    let ticket = begun["session"].as_str();
    let mut server = upstream.accept().await;
    let sent = asks(&http2, "POST", "/room/send?n=1", ticket, "hi").await;
    assert_eq!((sent.status, &*sent.body), (202, &br#"{"received":1}"#[..]));
    server.expect_text("hi").await;
    server.text("there").await;
    let told = asks(&http2, "GET", "/room/poll?afterSequence=0", ticket, "").await;
    assert_eq!(events(&json_of(&told)), [(1, json!("there"))]);
}

/// hyper ends such a body as one that is whole.
#[tokio::test]
async fn a_post_whose_stream_is_reset_in_the_middle_is_no_message() {
    let upstream = Upstream::by_hand().await;
    let proxy = session(&upstream, SESSIONS).spawn().await;
    let http2 = Client::connect(proxy.address()).await;
    let begun = json_of(&asks(&http2, "GET", "/room/poll", None, "").await);
    let ticket = begun["session"].as_str().unwrap();
    let mut server = upstream.accept().await;
    for length in [None, Some("1000")] {
        let request = Request::post("http://h2.example/room/send?n=1").header("x-outrigger-session", ticket);
        let request =
            length.into_iter().fold(request, |request, length| request.header("content-length", length));
        let mut ready = http2.send.clone().ready().await.unwrap();
        let (response, mut body) = ready.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(b"the beginning of it"), false).unwrap();
        // It has come, and is read, when another request was answered.
        asks(&http2, "GET", "/room/poll?timeout=0&afterSequence=0", Some(ticket), "").await;
        body.send_reset(Reason::NO_ERROR);
        drop(response);
        let told = asks(&http2, "GET", "/room/poll?timeout=0&afterSequence=0", Some(ticket), "").await;
        assert_eq!(json_of(&told)["received"], 0, "{length:?}");
    }
    let sent = asks(&http2, "POST", "/room/send?n=1", Some(ticket), "all of it").await;
    assert_eq!(sent.status, 202);
    server.expect_text("all of it").await;
}

#[tokio::test]
async fn an_answer_to_a_head_has_no_body() {
    let upstream = Upstream::by_hand().await;
    let proxy = session(&upstream, SESSIONS).spawn().await;
    let http2 = Client::connect(proxy.address()).await;
    for path in ["/room/poll", "/room/send", "/room/events"] {
        let answer = asks(&http2, "HEAD", path, None, "").await;
        assert_eq!((answer.status, answer.body.len()), (405, 0), "{path}");
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        assert!(length > 0, "{path}: that of the answer to another method");
    }
}

#[tokio::test]
async fn a_session_that_listens_posts_on_the_same_connection_and_goes_on_in_another_stream() {
    let upstream = Upstream::by_hand().await;
    let proxy = session(&upstream, SESSIONS).spawn().await;
    let mut http2 = Client::connect(proxy.address()).await;
    let mut stream = listens(&http2, "/room/events", None).await;
    assert_eq!(stream.head.header("Content-Type"), Some("text/event-stream"));
    assert_eq!(stream.head.header("Cache-Control"), Some("no-store, no-transform"));
    let hello = stream.hello().await;
    let ticket = hello["session"].as_str().unwrap().to_owned();
    assert_eq!((&hello["resumed"], &*stream.last_id), (&false.into(), &*format!("{ticket}.0")));
    let mut server = upstream.accept().await;
    for round in 0..3_u64 {
        let (said, n) = (2 * round, round + 1);
        server.text("heard").await;
        assert_eq!(stream.message().await, (said + 1, json!("heard")));
        assert_eq!(stream.last_id, format!("{ticket}.{}", said + 1));
        let sent = asks(&http2, "POST", &format!("/room/send?n={n}"), Some(&ticket), "hi").await;
        assert_eq!((sent.status, sent.body), (202, format!(r#"{{"received":{n}}}"#).into_bytes()));
        server.expect_text("hi").await;
        // Its stream goes, or the connection with all of them.
        let id = stream.last_id.clone();
        if round == 1 {
            http2.abort();
            http2 = Client::connect(proxy.address()).await;
        } else {
            stream.reset();
        }
        listening(&proxy, "chat", 0.0).await;
        proxy.away(1.0).await;
        server.text("meanwhile").await;
        stream = listens(&http2, "/room/events", Some(&id)).await;
        let hello = stream.hello().await;
        assert_eq!((&hello["session"], &hello["resumed"]), (&json!(ticket), &json!(true)), "{hello}");
        assert_eq!(
            (&hello["sequence"], &hello["received"], &hello["lost"]),
            (&(said + 1).into(), &n.into(), &0.into())
        );
        assert_eq!(stream.message().await, (said + 2, json!("meanwhile")));
    }
    assert_eq!(upstream.accepted(), 1, "the server has noticed nothing");
    server.close(4001, "bye").await;
    let mut told = stream.control().await;
    if told.get("uncertain").is_some() {
        // The server need not have answered a ping since it was told the last of it.
        told = stream.control().await;
    }
    assert_eq!(told["bye"]["why"], "server", "{told}");
    assert_eq!(stream.named().await, ("close".to_owned(), json!({"code": 4001, "reason": "bye"})));
    assert_eq!(stream.ends().await, "End");
    let over = Stream::over_http2(&http2, "/room/events", Some(&stream.last_id)).await;
    assert_eq!(over.err(), Some(204));
    assert!(!http2.has_ended(), "what ends is a stream of it");
}

#[tokio::test]
async fn streams_of_feeds_share_a_connection_and_one_that_is_reset_is_in_nobodys_way() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, FEEDS).spawn().await;
    let http2 = Client::connect(proxy.address()).await;
    let mut streams = vec![listens(&http2, "/feed/a/events", None).await];
    let mut server = upstream.accept().await;
    for _ in 0..9 {
        streams.push(listens(&http2, "/feed/a/events", None).await);
    }
    for stream in &mut streams {
        stream.hello().await;
    }
    listening(&proxy, "feed", 10.0).await;
    let long = "x".repeat(100_000);
    for (number, text) in (1..).zip(["one", &long, "three"]) {
        server.text(text).await;
        for stream in &mut streams {
            assert_eq!(stream.message().await, (number, json!(text)));
        }
    }
    let id = streams[0].last_id.clone();
    streams.drain(..5).for_each(Stream::reset);
    listening(&proxy, "feed", 5.0).await;
    server.text("four").await;
    for stream in &mut streams {
        assert_eq!(stream.message().await, (4, json!("four")));
    }
    let mut back = listens(&http2, "/feed/a/events", Some(&id)).await;
    let hello = back.hello().await;
    assert_eq!((&hello["resumed"], &hello["sequence"]), (&true.into(), &3.into()), "{hello}");
    assert_eq!(back.message().await, (4, json!("four")));
    let polled = asks(&http2, "GET", &format!("/feed/a/poll?afterSequence={id}"), None, "").await;
    assert_eq!(events(&json_of(&polled)), [(4, json!("four"))]);
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_drain_ends_streams_and_answers_polls_before_it_ends_the_connection() {
    for (route, path, http) in [
        ("chat", "/room", "outrigger_sessions{route=\"chat\",state=\"http\"}"),
        ("feed", "/feed/a", "outrigger_fallback_clients{route=\"feed\",transport=\"poll\"}"),
    ] {
        let upstream = Upstream::by_hand().await;
        let is_session = route == "chat";
        let proxy = if is_session { session(&upstream, SESSIONS) } else { feed(&upstream, FEEDS) };
        let proxy = proxy.yaml("drain: {delay: 100ms, spread: 300ms, timeout: 20s}").spawn().await;
        let http2 = Client::connect(proxy.address()).await;
        let begun = json_of(&asks(&http2, "GET", &format!("{path}/poll?timeout=0"), None, "").await);
        let first = upstream.accept().await;
        let mut stream = listens(&http2, &format!("{path}/events"), None).await;
        stream.hello().await;
        let second = if is_session { Some(upstream.accept().await) } else { None };
        listening(&proxy, route, 1.0).await;
        let asked =
            format!("{path}/poll?afterSequence={}&timeout=55s", begun["nextSequence"]).replace('"', "");
        let (polled, drained) =
            tokio::join!(asks(&http2, "GET", &asked, begun["session"].as_str(), ""), async {
                proxy.becomes_soon(http, if is_session { 2.0 } else { 1.0 }).await;
                let drained = Instant::now();
                proxy.drain();
                if is_session {
                    assert_eq!(stream.control().await["bye"]["why"], "drain");
                }
                assert_eq!(stream.ends().await, "End", "{route}");
                drained
            });
        let told = json_of(&polled);
        assert_eq!((&told["draining"], events(&told)), (&true.into(), vec![]), "{route}");
        drop((first, second));
        http2.ended().await.expect("it ends well");
        proxy.ended_within(Duration::from_secs(10)).await;
        assert!(drained.elapsed() < Duration::from_secs(10), "{route}: nobody holds it until its timeout");
    }
}

/// The next piece of a stream.
async fn piece(body: &mut Body) -> String {
    let piece = timeout(Duration::from_secs(30), body.read_to("\n\n")).await.expect("nothing comes");
    String::from_utf8(piece.expect("the stream goes on")).unwrap()
}

#[tokio::test]
async fn fifteen_seconds_of_silence_are_broken_by_a_comment() {
    let (of_sessions, of_feeds) = (Upstream::by_hand().await, Upstream::by_hand().await);
    let chat = session(&of_sessions, SESSIONS).spawn().await;
    let feeds = feed(&of_feeds, FEEDS).spawn().await;
    let silent = async |proxy: &Proxy, upstream: &Upstream, path: &str| {
        let http2 = Client::connect(proxy.address()).await;
        let request = Request::get(format!("http://h2.example{path}")).body(()).unwrap();
        let (_, mut body) = http2.ask(request).await;
        let mut server = upstream.accept().await;
        let mut last = piece(&mut body).await;
        while !last.starts_with("event: outrigger") {
            assert!(last.starts_with("retry: "), "{path}: {last}");
            last = piece(&mut body).await;
        }
        let begun = Instant::now();
        assert_eq!(piece(&mut body).await, ":", "{path}");
        assert!(begun.elapsed() > Duration::from_secs(14), "{path}: {:?}", begun.elapsed());
        server.text("one").await;
        let message = piece(&mut body).await;
        assert!(message.contains(r#""data":"one""#), "{path}: {message}");
        server.close(4001, "").await;
        while let Ok(piece) = body.read_to("\n\n").await {
            assert!(!piece.starts_with(b":"), "{path}");
        }
        assert_eq!(body.read_to("\n\n").await, Err(Came::End), "{path}");
    };
    tokio::join!(silent(&chat, &of_sessions, "/room/events"), silent(&feeds, &of_feeds, "/feed/a/events"),);
}
