//! Attacks on endpoints, each in a test that is named after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tracing::Level;

use super::http_client::{HttpClient, Stream, events, json_of};
use crate::support::DEADLINE;
use crate::support::feed::feed;
use crate::support::http::Response;
use crate::support::link::Link;
use crate::support::logged::Logged;
use crate::support::proxy::Proxy;
use crate::support::session::session;
use crate::support::ticket_client::TicketClient;
use crate::support::upstream::{ServerConn, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{Frame, Role};

const ALL: &str = "fallback: {sse: true, poll: true, replay: true}";
const NO_RATE: &str = "handshake_rate: {global: null, per_ip: null}";
const POLLING: &str = "outrigger_sessions{route=\"chat\",state=\"http\"}";

#[track_caller]
fn assert_error(response: &Response, status: u16, reason: &str, asked: &str) -> Value {
    let told = (response.status(), response.header("X-Outrigger-Reason"));
    assert_eq!(told, (status, Some(reason)), "{asked}: {}", response.text());
    json_of(response)
}

/// Threat: a client, or a script in a loop, opens polls without end.
#[tokio::test]
async fn threat_a_thousand_polls_on_one_session_four_wait_and_nothing_grows() {
    let upstream = Upstream::by_hand().await;
    let proxy =
        session(&upstream, &format!("{ALL}, {NO_RATE}, session: {{resume_window: 1m}}")).spawn().await;
    let mut client = HttpClient::new(&proxy, "/room");
    client.begin().await;
    let mut server = upstream.accept().await;
    let held = async || {
        let metrics = proxy.metrics().await;
        [
            "outrigger_memory_buffered_bytes",
            "outrigger_history_bytes",
            "outrigger_sessions",
            "outrigger_clients",
        ]
        .map(|name| metrics.sum(name))
    };
    let before = held().await;
    let mut asking = JoinSet::new();
    let mut refused = 0;
    for _ in 0..10 {
        for _ in 0..100 {
            let dial = client.dial("poll?afterSequence=0");
            asking.spawn(async move { dial.answer().await.response });
        }
        while asking.len() > 4 {
            let response = asking.join_next().await.unwrap().unwrap();
            assert_error(&response, 429, "polls", "one too many");
            assert_eq!(response.header("Retry-After"), Some("1"));
            refused += 1;
        }
    }
    assert_eq!((refused, held().await), (996, before));
    server.text("one").await;
    for response in asking.join_all().await {
        assert_eq!(events(&json_of(&response)), [(1, json!("one"))]);
    }
    client.seen = 1;
    // Those that do not wait for their answer give their place back at once, whatever became of it.
    for _ in 0..200 {
        client.dial("poll?afterSequence=1").send().await.reset();
    }
    proxy.away(1.0).await;
    let poll = client.polling();
    proxy.becomes_soon(POLLING, 1.0).await;
    server.text("two").await;
    assert_eq!(events(&poll.await.unwrap()), [(2, json!("two"))]);
    assert_eq!(upstream.accepted(), 1);
}

/// Bytes that are held for clients.
async fn held(proxy: &Proxy) -> f64 {
    let metrics = proxy.metrics().await;
    metrics.sum("outrigger_buffered_bytes") + metrics.sum("outrigger_history_bytes")
}

/// Says 16 KiB again and again until that ends something: the most that was held meanwhile. Panics where it never does.
async fn flood(server: &mut ServerConn, proxy: &Proxy, over: &str) -> f64 {
    let frame = Frame::text("x".repeat(16 * 1024)).encode(Role::Server);
    let mut most = 0.0_f64;
    for _ in 0..4096 {
        if proxy.find_metric(over).await.is_some_and(|ended| ended > 0.0) {
            return most;
        }
        if server.try_send_bytes(&frame).await.is_err() {
            break;
        }
        most = most.max(held(proxy).await);
    }
    proxy.becomes_soon(over, 1.0).await;
    most
}

/// Threat: somebody opens event streams and reads none, so that what is meant for them piles up.
#[tokio::test]
async fn threat_an_event_stream_of_a_feed_that_never_reads_holds_no_more_than_a_websocket_that_never_reads() {
    let policy = format!(
        "{ALL}, close_timeout: 300ms, history: {{messages: 200, bytes: 256KiB}}, \
         delivery: {{max_lag: {{messages: 20, bytes: 128KiB}}, max_trips: 1}}"
    );
    let over = "outrigger_disconnections_total{reason=\"slow_consumer\",route=\"feed\"}";
    let mut most = Vec::new();
    for is_websocket in [true, false] {
        let upstream = Upstream::by_hand().await;
        let proxy = feed(&upstream, &policy).spawn().await;
        let mut stuck: Link = if is_websocket {
            proxy.dial().path("/feed/a").receive_buffer(4096).send().await
        } else {
            proxy.plain().path("/feed/a/events").receive_buffer(4096).send().await
        };
        let mut server = upstream.accept().await;
        stuck.read_head().await;
        stuck.stop_reading();
        let mut other = Stream::open(&proxy, "/feed/a/events?data=text", None).await;
        other.hello().await;
        // Whoever reads gets on with it.
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let reading = tokio::spawn(async move {
            loop {
                other.message().await;
                counted.fetch_add(1, Relaxed);
            }
        });
        most.push(flood(&mut server, &proxy, over).await);
        eventually(DEADLINE, async || count.load(Relaxed) > 20).await;
        reading.abort();
        drop(stuck);
    }
    assert!(most[1] <= 1.5 * most[0] + 256.0 * 1024.0, "a stream, a WebSocket: {most:?}");
}

/// The same of a session, which keeps what its client has not had, and no more than it may.
#[tokio::test]
async fn threat_an_event_stream_of_a_session_that_never_reads_holds_no_more_than_a_websocket_that_never_reads()
 {
    let policy = format!(
        "{ALL}, close_timeout: 300ms, history: {{messages: 200, bytes: 512KiB}}, \
         delivery: {{max_lag: {{messages: 20, bytes: 128KiB}}}}"
    );
    let mut most = Vec::new();
    for is_websocket in [true, false] {
        let upstream = Upstream::by_hand().await;
        let proxy = session(&upstream, &policy).spawn().await;
        let mut stuck: Link = if is_websocket {
            let mut client = TicketClient::new(proxy.dial().path("/room").receive_buffer(4096));
            client.handshake().send().await
        } else {
            proxy.plain().path("/room/events").receive_buffer(4096).send().await
        };
        let mut server = upstream.accept().await;
        stuck.read_head().await;
        stuck.stop_reading();
        // It is ended, then away, and at last there is more for it than may be kept.
        let over = "outrigger_session_ends_total{route=\"chat\",why=\"overflow\"}";
        most.push(flood(&mut server, &proxy, over).await);
        let slow = "outrigger_disconnections_total{reason=\"slow_consumer\",route=\"chat\"}";
        assert_eq!(proxy.metric(slow).await, 1.0);
        proxy.becomes_soon("outrigger_sessions_connected{route=\"chat\"}", 0.0).await;
        drop(stuck);
    }
    assert!(most[1] <= 1.5 * most[0] + 256.0 * 1024.0, "a stream, a WebSocket: {most:?}");
}

/// Threat: somebody asks for what is kept again and again and reads no answer: each is a copy of its own.
#[tokio::test]
async fn threat_answers_that_are_not_read_hold_no_more_than_there_is_room_for() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, ALL).yaml("memory: {max_buffered: 16MiB}").spawn().await;
    let mut client = proxy.connect("/feed/a").await;
    let mut server = upstream.accept().await;
    // More than two sockets take.
    let long = "x".repeat(6 << 20);
    server.text(&long).await;
    client.expect_text(&long).await;
    let in_use = "outrigger_memory_buffered_bytes";
    let before = proxy.metric(in_use).await;
    let replay = || proxy.plain().path("/feed/a/replay?limit=1").receive_buffer(4096);
    let mut unread = Vec::new();
    for number in [1.0, 2.0] {
        let mut stuck = replay().send().await;
        stuck.read_head().await;
        stuck.stop_reading();
        unread.push(stuck);
        assert!(proxy.metric(in_use).await >= before + number * f64::from(6 << 20));
    }
    for path in ["/feed/a/replay", "/feed/a/poll?afterSequence=0"] {
        let refused = proxy.plain().path(path).answer().await.response;
        assert_error(&refused, 503, "capacity_memory", path);
        assert_eq!(refused.header("Retry-After"), Some("1"), "{path}");
    }
    drop(unread);
    proxy.becomes(in_use, before).await;
    assert_eq!(replay().answer().await.response.status(), 200);
}

/// Threat: what a client says of its subprotocols ends a header line, and begins another one of its own.
#[tokio::test]
async fn threat_line_ends_in_protocol_reach_no_head() {
    let upstream = Upstream::by_hand().await;
    let of_feed = feed(&upstream, ALL).spawn().await;
    let of_chat = session(&upstream, ALL).spawn().await;
    let evil = [
        "%0d%0aX-Evil:%201",
        "a%0d%0a%0d%0aGET%20/%20HTTP/1.1",
        "a%0aX-Evil:1",
        "a,%0d",
        "a%00b",
        "a%c0%8ab",
    ];
    for (proxy, path) in [(&of_feed, "/feed/a"), (&of_chat, "/room")] {
        for endpoint in ["poll", "events"] {
            for value in evil {
                for name in ["protocol", "%70rotocol"] {
                    let path = format!("{path}/{endpoint}?{name}={value}");
                    let response = proxy.plain().path(&path).answer().await.response;
                    assert_error(&response, 400, "bad_request", &path);
                    assert_eq!(response.header("X-Evil"), None);
                }
            }
        }
    }
    assert_eq!(upstream.accepted(), 0, "no server has heard of it");
}

/// What a server says, from the harmless to what would break lines, parsers or stacks.
fn evil_texts() -> Vec<String> {
    let controls: String =
        (0..0xa0_u32).chain([0x2028, 0x2029, 0xfeff, 0x1_f600]).filter_map(char::from_u32).collect();
    vec![
        controls.clone(),
        "\r".into(),
        "\n\n".into(),
        "\r\n\r\ndata: {\"forged\":1}\r\n\r\n".into(),
        "\n\nevent: close\ndata: {\"code\":1000}\n\n".into(),
        "id: 7\nretry: 1".into(),
        "\0".into(),
        "\u{2028}data: x\u{2029}".into(),
        String::new(),
        "{\r\n\"a\": \"b\\n\",\r\n\"c\": [1,\t2]\r\n}".into(),
        "{\"a\":1,\"a\":2}".into(),
        "1e999".into(),
        "{\"__proto__\":{}}".into(),
        "\"\\ud800\"".into(),
        "}]}".into(),
        "[".repeat(100_000),
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000)),
        format!("{}\n", "x".repeat(1 << 20)),
        controls.repeat((1 << 16) / controls.len()),
    ]
}

/// `heard` is what such a text is told as.
#[track_caller]
fn assert_told(heard: &Value, said: &str, form: &str) {
    let short = &said[..said.len().min(40)];
    if form == "text" {
        assert!(heard.as_str() == Some(said), "{short:?}: {:.80}", heard.to_string());
        return;
    }
    // JSON is told as what it is where a common parser can read it, and everything else as the text.
    let is_value = serde_json::from_str::<Value>(said).is_ok_and(|value| value == *heard);
    assert!(is_value || heard.as_str() == Some(said), "{short:?}: {:.80}", heard.to_string());
}

/// Polls for all of `said`, from its first message on.
async fn poll_all(proxy: &Proxy, path: &str, ticket: Option<&str>, said: &[String], form: &str) {
    let (mut heard, mut after) = (0, "0".to_owned());
    while heard < said.len() {
        let path = format!("{path}/poll?afterSequence={after}&data={form}&timeout=0");
        let dial = proxy.plain().path(&path);
        let dial = match ticket {
            Some(ticket) => dial.header("X-Outrigger-Session", ticket),
            None => dial,
        };
        let response = dial.answer().await.response;
        assert_eq!(response.status(), 200, "{}", response.text());
        assert!(!response.body.contains(&b'\n') && !response.body.contains(&b'\r'), "one line");
        let told = json_of(&response);
        let events = events(&told);
        assert!(!events.is_empty(), "{heard} of {}", said.len());
        for (number, data) in events {
            heard += 1;
            assert_eq!(number, heard as u64);
            assert_told(&data, &said[heard - 1], form);
        }
        after = told["nextSequence"].as_str().map_or_else(|| told["nextSequence"].to_string(), str::to_owned);
    }
}

/// Threat: a member of a chat says what a server passes on, and what a reader of events takes for an end of a line, an event of
/// its own, or more than its stack bears.
#[tokio::test]
async fn threat_line_ends_nul_long_and_deep_messages_arrive_as_they_were_said_and_as_nothing_else() {
    let said = evil_texts();
    let room = "history: {messages: 1000, bytes: 64MiB, on_join: all}, delivery: {max_lag: {messages: 1000, bytes: 64MiB}}";
    let policy = format!("{ALL}, {NO_RATE}, {room}");
    for form in ["text", "value"] {
        let upstream = Upstream::by_hand().await;
        let of_feed = feed(&upstream, &policy).spawn().await;
        let path = format!("/feed/a/events?data={form}");
        let dial = of_feed.plain().path(&path).send().await;
        let mut server = upstream.accept().await;
        let mut stream = Stream::open(&of_feed, &path, None).await;
        stream.hello().await;
        drop(dial);
        let saying = async {
            for text in &said {
                server.text(text).await;
            }
        };
        let hearing = async {
            for (at, text) in said.iter().enumerate() {
                let (number, data) = stream.message().await;
                assert_eq!(number, at as u64 + 1);
                assert_told(&data, text, form);
            }
        };
        tokio::join!(saying, hearing);
        poll_all(&of_feed, "/feed/a", None, &said, form).await;

        let of_chat = session(&upstream, &policy).spawn().await;
        let mut stream = Stream::open(&of_chat, &format!("/room/events?data={form}"), None).await;
        let ticket = stream.hello().await["session"].as_str().unwrap().to_owned();
        let mut server = upstream.accept().await;
        let saying = async {
            for text in &said {
                server.text(text).await;
            }
        };
        let hearing = async {
            for (at, text) in said.iter().enumerate() {
                let (number, data) = stream.message().await;
                assert_eq!(number, at as u64 + 1);
                assert_told(&data, text, form);
            }
        };
        tokio::join!(saying, hearing);
        stream.reset();
        poll_all(&of_chat, "/room", Some(&ticket), &said, form).await;
    }
}

/// Threat: numbers that are none, or of another log, or of the future, have somebody told what he is not to get, or end what
/// they should not.
#[tokio::test]
async fn threat_numbers_from_the_future_from_elsewhere_and_that_are_none_change_nothing() {
    const NONE: [&str; 11] = [
        "-1",
        "9007199254740992",
        "18446744073709551615",
        "18446744073709551616",
        "1e3",
        "0x1",
        "+1",
        "%201",
        "",
        "%00",
        "one",
    ];
    let upstream = Upstream::by_hand().await;
    let proxy = session(&upstream, &format!("{ALL}, {NO_RATE}")).spawn().await;
    let mut client = HttpClient::new(&proxy, "/room");
    client.begin().await;
    let mut server = upstream.accept().await;
    server.text("one").await;
    assert_eq!(events(&client.poll().await), [(1, json!("one"))]);
    for (endpoint, name) in
        [("poll", "afterSequence"), ("events", "afterSequence"), ("replay", "fromSequence")]
    {
        for value in NONE {
            let asked = format!("{endpoint}?{name}={value}");
            assert_error(&client.get(&asked).await, 400, "bad_request", &asked);
        }
        let asked = format!("{endpoint}?{name}=1&{name}=1");
        assert_error(&client.get(&asked).await, 400, "bad_request", &asked);
        for value in ["3", "9007199254740991"] {
            let asked = format!("{endpoint}?{name}={value}");
            assert_eq!(assert_error(&client.get(&asked).await, 409, "ahead", &asked)["head"], 1, "{asked}");
        }
    }
    for value in NONE.into_iter().chain(["0"]) {
        let asked = format!("send?n={value}");
        assert_error(&client.post_as(&asked, "text/plain", "x").await, 400, "bad_request", &asked);
    }
    let asked = "send?n=1&n=1";
    assert_error(&client.post_as(asked, "text/plain", "x").await, 400, "bad_request", asked);
    let body = assert_error(&client.post_as("send?n=2", "text/plain", "x").await, 409, "gap", "n=2");
    assert_eq!(body["received"], 0);
    // All of it has changed nothing.
    server.expect_silence(Duration::from_millis(30)).await;
    assert_eq!(client.post("hi").await.status(), 202);
    server.expect_text("hi").await;
    client.seen = 1;
    server.text("two").await;
    assert_eq!(events(&client.poll().await), [(2, json!("two"))]);

    let proxy = feed(&upstream, &format!("{ALL}, {NO_RATE}, history: {{on_join: none}}")).spawn().await;
    let mut stream = Stream::open(&proxy, "/feed/a/events", None).await;
    let mut server = upstream.accept().await;
    let epoch = stream.hello().await["epoch"].as_str().unwrap().to_owned();
    server.text("one").await;
    assert_eq!(stream.message().await, (1, json!("one")));
    let get = async |asked: &str| proxy.plain().path(&format!("/feed/a/{asked}")).answer().await.response;
    for (endpoint, name) in
        [("poll", "afterSequence"), ("events", "afterSequence"), ("replay", "fromSequence")]
    {
        let of_epoch = NONE.map(|value| format!("{epoch}.{value}"));
        let torn = ["1.1", ".1", "zz.1"].map(str::to_owned);
        let torn = torn.into_iter().chain([format!("{epoch}.1.1"), format!("{epoch}0.1")]);
        for value in NONE.map(str::to_owned).into_iter().chain(of_epoch).chain(torn) {
            let asked = format!("{endpoint}?{name}={value}");
            assert_error(&get(&asked).await, 400, "bad_request", &asked);
        }
        for value in ["3".to_owned(), format!("{epoch}.3")] {
            let asked = format!("{endpoint}?{name}={value}");
            assert_eq!(assert_error(&get(&asked).await, 409, "ahead", &asked)["head"], 1, "{asked}");
        }
    }
    // Of another log: as none, and nobody knows what is missing.
    let other = if epoch.starts_with('0') { "1" } else { "0" }.to_owned() + &epoch[1..];
    let told = json_of(&get(&format!("poll?afterSequence={other}.99&timeout=0")).await);
    assert_eq!((events(&told), &told["lost"]), (vec![], &Value::Null));
    let mut resumed = Stream::open(&proxy, "/feed/a/events", Some(&format!("{other}.99"))).await;
    let hello = resumed.hello().await;
    assert_eq!(
        (&hello["resumed"], &hello["lost"], &hello["sequence"]),
        (&json!(false), &Value::Null, &json!(1))
    );
    let huge = Stream::open(&proxy, "/feed/a/events", Some(&format!("{epoch}.18446744073709551616")))
        .await
        .hello()
        .await;
    assert_eq!((&huge["resumed"], &huge["sequence"]), (&json!(false), &json!(1)));
}

/// Threat: somebody reads the log, the metrics, the operators' pages or an error, and takes sessions over.
#[tokio::test]
async fn threat_tickets_that_come_over_http_are_in_no_log_no_metric_no_error_and_no_answer_of_the_operators_port()
 {
    let (logged, _guard) = Logged::down_to(Level::TRACE);
    let upstream = Upstream::by_hand().await;
    let policy = format!("{ALL}, {NO_RATE}, close_timeout: 300ms");
    let proxy = session(&upstream, &policy).spawn().await;
    let mut client = HttpClient::new(&proxy, "/room");
    client.begin().await;
    let mut server = upstream.accept().await;
    let ticket = client.ticket().to_owned();
    let forged = format!("{}{}", &ticket[1..], &ticket[..1]);
    let mut errors = Vec::new();
    for ticket in [&ticket, &forged] {
        for path in ["/room", "/other"] {
            // By the header, by the query, well and badly.
            client.set_ticket(ticket);
            for asked in ["poll?afterSequence=9", "poll?limit=0", "replay?fromSequence=9", "send?n=7"] {
                let queried = format!("{path}/{asked}&session={ticket}");
                for dial in [client.dial(asked), proxy.plain().path(&queried)] {
                    let dial = if asked.starts_with("send") { dial.method("POST").body("x") } else { dial };
                    errors.push(dial.answer().await.response);
                }
            }
            let twice = format!("{path}/poll?session={ticket}&session={ticket}");
            errors.push(proxy.plain().path(&twice).answer().await.response);
            errors.push(
                proxy
                    .plain()
                    .method("PUT")
                    .path(&format!("{path}/poll?session={ticket}"))
                    .answer()
                    .await
                    .response,
            );
            let id = format!("{ticket}.99");
            let dial = proxy.plain().path("/room/events").header("Last-Event-ID", &id);
            if ticket == &forged {
                // It begins another session.
                let mut anew = dial.send().await;
                anew.read_head().await;
                anew.reset();
            } else {
                errors.push(dial.answer().await.response);
            }
        }
    }
    client.set_ticket(&ticket);
    errors.push(client.post_bytes("send", "text/plain", b"\xff").await);
    assert_eq!(client.post("hi").await.status(), 202);
    server.expect_text("hi").await;
    let mut stream = Stream::open(&proxy, "/room/events", Some(&format!("{ticket}.0"))).await;
    stream.hello().await;
    let mut shown = Vec::new();
    for path in [
        "/metrics",
        "/api/admin/connections",
        "/api/admin/subscribers",
        "/api/admin/channels",
        "/api/admin/routes",
        "/api/admin/stats",
        "/status",
        "/readyz",
    ] {
        shown.push((path, proxy.admin_get(path).await.text()));
    }
    server.reset();
    let server = upstream.accept().await;
    drop(server);
    stream.reset();
    shown.extend(errors.iter().map(|error| ("an error", format!("{:?} {}", error.head, error.text()))));
    let seen = upstream.handshakes().into_iter().chain(upstream.requests());
    shown.push(("the server", Vec::from_iter(seen.map(|request| format!("{:?}", request.head))).join("\n")));
    shown.push(("the log", logged.text()));
    let refused = errors.iter().filter(|error| error.status() >= 400).count();
    assert!(refused > 20, "{refused} errors are looked at");
    assert!(logged.text().lines().count() > 5, "something was logged: {}", logged.text());
    for secret in [&ticket, &forged] {
        // The parts that are random, too.
        for part in [&secret[..], &secret[12..24], &secret[40..52]] {
            for (place, text) in &shown {
                let at = text.find(part);
                assert!(
                    at.is_none(),
                    "{place} shows {part}: {:?}",
                    at.map(|at| &text[at.saturating_sub(200)..at])
                );
            }
        }
    }
}
