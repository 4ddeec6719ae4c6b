//! Plain HTTP that does not go well: limits, upstreams that break off, clients that do not read.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::support::http::{self, assert_ours};
use crate::support::link::End;
use crate::support::logged::Logged;
use crate::support::proxy::Proxy;
use crate::support::upstream::{Plain, Upstream};
use crate::support::wait::eventually;
use crate::support::{A_MOMENT, DEADLINE};

// ---- policies

#[tokio::test]
async fn a_route_without_http_is_a_404_and_still_takes_websockets() {
    let upstream = Upstream::echo().await;
    let routes = "routes: [{name: ws, path: '/ws/{*rest}', policy: {http: {mode: refuse}}}]";
    let proxy = Proxy::to(&upstream).yaml(routes).spawn().await;
    let client = proxy.plain().path("/ws/x").answer().await;
    assert_ours(&client.response, 404, "http_refused");
    assert_eq!(upstream.accepted(), 0);
    let mut client = proxy.connect("/ws/x").await;
    client.text("hello").await;
    client.expect_text("hello").await;
    assert_eq!(proxy.plain().path("/else").answer().await.response.status(), 200);
}

#[tokio::test]
async fn a_body_above_max_body_is_a_413_the_client_can_read() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy = Proxy::to(&upstream).yaml("policy: {http: {max_body: 1KiB}}").spawn().await;
    let post = || proxy.plain().method("POST");
    let chunks = |size: usize| {
        let chunks = vec![b'x'; size].chunks(100).map(http::chunk).collect::<Vec<_>>().concat();
        let chunked = post().header("Transfer-Encoding", "chunked");
        chunked.pipelined([chunks, http::chunk(b"")].concat())
    };
    for dial in [post().body(vec![b'x'; 1024]), chunks(1024)] {
        assert_eq!(dial.answer().await.response.body.len(), 1024, "exactly as much is fine");
    }
    let announced = post().header("Content-Length", "1025");
    let mut client = announced.send().await;
    assert_ours(&client.read_response("POST").await, 413, "body_too_large");
    assert_eq!(upstream.requests().len(), 2, "it was told by its length alone");

    let large = [("announced", post().body(vec![b'x'; 1_000_000])), ("in chunks", chunks(1_000_000))];
    for (name, dial) in large {
        let mut link = dial.clone().connect().await;
        // As most clients: all of it is sent before anything is read.
        link.stop_reading();
        link.send_bytes(&dial.request()).await;
        link.resume_reading();
        println!("{name}");
        assert_ours(&link.read_response("POST").await, 413, "body_too_large");
        assert_eq!(link.read_exactly(1).await, Err(End::Eof), "{name}: what follows is no request");
        // No reset has come, which would have taken the answer from clients whose system is not Linux.
        link.try_send_bytes(b"still talking").await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let whole = upstream.requests().iter().filter(|request| request.body.len() == 1024).count();
    assert_eq!((whole, upstream.requests().len()), (2, 2), "no cut-off body passed for a whole one");
}

#[tokio::test]
async fn a_body_that_breaks_a_rule_is_a_400_and_no_fault_of_the_upstream() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let chunked = proxy.plain().method("POST").header("Transfer-Encoding", "chunked");
    for body in [
        "zz\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "fffffffffffffffff\r\n",
        "5\r\nhello\r\nZZ\r\n",
    ] {
        let mut link = chunked.clone().pipelined(body).send().await;
        assert_ours(&link.read_response("POST").await, 400, "body_broken");
        assert_eq!(link.read_exactly(1).await, Err(End::Eof), "{body:?}: what follows is no request");
    }
    assert_eq!(proxy.metric("outrigger_upstream_errors_total{kind=\"broken\"}").await, 0.0);
}

#[tokio::test]
async fn bodies_that_are_refused_have_a_line_a_second_and_the_others_are_counted() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("policy: {http: {max_body: 4}}").spawn().await;
    let since = Instant::now();
    for _ in 0..50 {
        let large = proxy.plain().method("POST").body(b"hello");
        assert_ours(&large.answer().await.response, 413, "body_too_large");
    }
    let seconds = since.elapsed().as_secs() as usize + 1;
    let text = logged.text();
    let lines = text.lines().filter(|line| line.contains("WARN") && line.contains("body_too_large")).count();
    assert!((1..=2 * seconds).contains(&lines), "{lines} lines in {seconds} s:\n{text}");
    assert!(!text.contains("request failed"), "{text}");
}

#[tokio::test]
async fn a_response_that_does_not_come_in_time_is_a_504() {
    let upstream = Upstream::builder().on_request(Plain::Silent).spawn().await;
    let proxy = Proxy::to(&upstream).yaml("policy: {http: {response_timeout: 200ms}}").spawn().await;
    let since = Instant::now();
    let client = proxy.plain().answer().await;
    assert_ours(&client.response, 504, "upstream_timeout");
    assert!(since.elapsed() >= Duration::from_millis(200));
    assert_eq!(proxy.metric("outrigger_upstream_errors_total{kind=\"response_timeout\"}").await, 1.0);
    eventually(DEADLINE, || async { upstream.open() == 0 }).await;
}

#[tokio::test]
async fn the_time_for_a_response_begins_with_the_end_of_the_request() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy = Proxy::to(&upstream).yaml("policy: {http: {response_timeout: 700ms}}").spawn().await;
    let mut client = proxy.plain().method("POST").header("Content-Length", "10").send().await;
    // The body alone takes longer than that.
    for _ in 0..10 {
        assert_eq!(client.peek_for(A_MOMENT).await, b"", "its time has not even begun");
        client.send_bytes(b"x").await;
    }
    assert_eq!(client.read_response("POST").await.text(), "xxxxxxxxxx");
}

// ---- faults

#[tokio::test]
async fn an_upstream_that_is_down_or_breaks_off_is_a_502() {
    let nowhere = Upstream::nowhere().await;
    let proxy = Proxy::to_url(format!("http://{nowhere}")).spawn().await;
    let mut client = proxy.plain().answer().await;
    assert_ours(&client.response, 502, "upstream_unreachable");
    assert!(!client.response.text().contains(&nowhere.to_string()), "a client need not know where it is");
    // The client's own connection is none the worse for it.
    assert_ours(&client.ask(&proxy.plain().request()).await, 502, "upstream_unreachable");
    assert_eq!(proxy.metric("outrigger_upstream_errors_total{kind=\"connect\"}").await, 2.0);

    let upstream = Upstream::requests_by_hand().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let breaks: [(&str, Option<&[u8]>); 4] = [
        ("reset", None),
        ("closed", Some(b"")),
        ("half a head", Some(b"HTTP/1.1 200 OK\r\nContent-Le")),
        ("no HTTP", Some(b"+OK this is redis\r\n\r\n")),
    ];
    for (name, bytes) in breaks {
        let mut client = proxy.plain().method("POST").body("x").send().await;
        let mut server = upstream.accept().await;
        match bytes {
            None => server.reset(),
            Some(bytes) => {
                server.send_bytes(bytes).await;
                server.finish_writing().await;
            }
        }
        println!("{name}");
        assert_ours(&client.read_response("POST").await, 502, "upstream_broken");
    }
    assert_eq!(proxy.metric("outrigger_upstream_errors_total{kind=\"broken\"}").await, 4.0);
}

#[tokio::test]
async fn a_response_cut_short_by_the_upstream_is_seen_as_cut_short() {
    let upstream = Upstream::requests_by_hand().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let heads = [("Content-Length: 1000", "half"), ("Transfer-Encoding: chunked", "4\r\nhalf\r\n")];
    for (framing, part) in heads {
        for reset in [false, true] {
            let mut client = proxy.plain().send().await;
            let mut server = upstream.accept().await;
            server.send_bytes(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{part}").as_bytes()).await;
            let head = client.read_head().await;
            // It has come before the end does, so that the end cannot overtake it.
            assert_eq!(client.read_exactly(part.len()).await, Ok(part.as_bytes().to_vec()));
            if reset {
                server.reset();
            } else {
                drop(server);
            }
            let rest = client.read_body(head.body("GET", true)).await;
            assert!(rest.is_err(), "{framing}, reset {reset}: it passed for whole: {rest:?}");
        }
    }
    eventually(DEADLINE, || async { proxy.metric("outrigger_http_requests_in_flight").await == 0.0 }).await;
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_with_it() {
    let upstream = Upstream::requests_by_hand().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    // While it waits for the answer, in the middle of it, in the middle of its own body.
    for stage in ["waiting", "reading", "sending"] {
        let length = if stage == "sending" { "1000" } else { "0" };
        let mut client = proxy.plain().method("POST").header("Content-Length", length).send().await;
        let mut server = upstream.accept().await;
        match stage {
            "reading" => {
                server.send_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf").await;
                client.read_head().await;
            }
            "sending" => client.send_bytes(b"half").await,
            _ => {}
        }
        client.reset();
        let told = async { while server.read_exactly(1).await.is_ok() {} };
        timeout(DEADLINE, told).await.expect("the upstream need not go on");
    }
    eventually(DEADLINE, || async { proxy.metric("outrigger_http_requests_in_flight").await == 0.0 }).await;
    eventually(DEADLINE, || async { proxy.metric("outrigger_http_connections").await == 0.0 }).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_a_large_answer_is_cut() {
    let answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n".to_vec(), vec![b'x'; 50_000_000]];
    let upstream = Upstream::builder().on_request(Plain::Raw(answer.concat())).spawn().await;
    let proxy = Proxy::to(&upstream).yaml("policy: {delivery: {stall_timeout: 700ms}}").spawn().await;
    let mut stalled = proxy.plain().receive_buffer(16 * 1024).send().await;
    stalled.stop_reading();
    let since = Instant::now();
    eventually(DEADLINE, || async { upstream.requests().len() == 1 }).await;
    eventually(DEADLINE, || async { upstream.open() == 0 }).await;
    assert!(since.elapsed() >= Duration::from_millis(700), "after {:?}", since.elapsed());
    assert_eq!(proxy.metric("outrigger_http_requests_in_flight").await, 0.0);
    stalled.resume_reading();
    let seen = stalled.discard_to_end().await;
    assert_eq!(seen, End::Reset, "what it did not take is not kept for it");

    // One that reads slowly, but reads, is not cut.
    let mut slow = proxy.plain().receive_buffer(16 * 1024).send().await;
    slow.read_head().await;
    let until = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < until {
        slow.stop_reading();
        tokio::time::sleep(Duration::from_millis(40)).await;
        slow.resume_reading();
        slow.read_exactly(64 * 1024).await.expect("it is still served");
    }
}

#[tokio::test]
async fn a_slow_answer_is_no_stall() {
    let upstream = Upstream::requests_by_hand().await;
    let settings =
        "policy: {delivery: {stall_timeout: 400ms}}\nlisten: {handshake_timeout: 400ms, keep_alive: 400ms}";
    let proxy = Proxy::to(&upstream).yaml(settings).spawn().await;
    let mut client = proxy.plain().send().await;
    let mut server = upstream.accept().await;
    // Far beyond every clock of the client's, none of which runs while it is the upstream's turn.
    assert_eq!(client.peek_for(Duration::from_millis(700)).await, b"");
    server.send_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha").await;
    client.read_head().await;
    assert_eq!(client.peek_for(Duration::from_millis(700)).await, b"ha");
    server.send_bytes(b"lf").await;
    assert_eq!(client.read_exactly(4).await, Ok(b"half".to_vec()));
}

#[tokio::test]
async fn a_server_that_takes_nothing_of_a_body_is_given_up() {
    let upstream = Upstream::requests_by_hand().await;
    let proxy = Proxy::to(&upstream).yaml("upstream: {stall_timeout: 1s}").spawn().await;
    let since = Instant::now();
    let mut client = proxy.plain().method("POST").header("Content-Length", "100000000").send().await;
    let server = upstream.accept().await;
    let body = vec![b'x'; 100_000_000];
    // It takes what the kernel takes for it, and then no more.
    tokio::select! {
        () = client.send_bytes(&body) => panic!("nobody reads that"),
        () = eventually(DEADLINE, || async {
            proxy.metric("outrigger_upstream_errors_total{kind=\"response_timeout\"}").await == 1.0
        }) => {}
    }
    assert!(since.elapsed() >= Duration::from_secs(1));
    assert_ours(&client.read_response("POST").await, 504, "upstream_timeout");
    drop(server);
}

#[tokio::test]
async fn the_log_says_what_an_upstream_broke_off_with() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::requests_by_hand().await;
    for (bytes, words) in [
        (&b"SSH-2.0-x\r\n"[..], "does it speak HTTP/1.1 on this port?"),
        (b"", "it closed the connection before"),
    ] {
        // Of its own: each has a line for each kind of failure and second.
        let proxy = Proxy::to(&upstream).spawn().await;
        let mut client = proxy.plain().send().await;
        let mut server = upstream.accept().await;
        server.send_bytes(bytes).await;
        server.finish_writing().await;
        assert_ours(&client.read_response("GET").await, 502, "upstream_broken");
        assert!(logged.text().contains(words), "{}", logged.text());
    }
}

/// Answers whoever asks first, and ends the connection as it gets the head of a second request.
async fn first_answered(upstream: &Upstream) -> crate::support::upstream::ServerConn {
    let mut server = upstream.accept().await;
    server.send_bytes(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    server
}

#[tokio::test]
async fn a_request_that_meets_the_end_of_a_kept_connection_is_sent_once_more_if_it_may_be() {
    const RETRIES: &str = "outrigger_upstream_retries_total";
    let upstream = Upstream::requests_by_hand().await;
    let proxy = Proxy::to(&upstream).yaml("upstream: {keep_alive: 60s}").spawn().await;
    let mut client = proxy.plain().send().await;
    for resets in [false, true] {
        for (method, body, is_repeated) in [
            ("GET", None, true),
            ("HEAD", None, true),
            ("DELETE", None, true),
            ("PUT", Some("begun"), false),
            ("POST", None, false),
        ] {
            println!("{method}, {body:?}, resets: {resets}");
            let before = proxy.metric(RETRIES).await;
            let mut kept = first_answered(&upstream).await;
            assert_eq!(client.read_response("GET").await.status(), 204);
            let dial = proxy.plain().method(method).path("/second");
            let dial = if let Some(body) = body { dial.body(body) } else { dial };
            client.send_bytes(&dial.request()).await;
            let head = kept.read_head().await;
            assert_eq!((head.method(), head.target()), (method, "/second"));
            if resets {
                kept.reset();
            } else {
                drop(kept);
            }
            if is_repeated {
                let mut again = upstream.accept().await;
                assert_eq!(again.request.head.target(), "/second");
                again.send_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
                again.finish_writing().await;
                assert_eq!(client.read_response(method).await.status(), 200);
            } else {
                assert_ours(&client.read_response(method).await, 502, "upstream_broken");
            }
            let retries = proxy.metric(RETRIES).await - before;
            assert_eq!(retries, f64::from(u8::from(is_repeated)), "{method}");
            // For the next round.
            client = proxy.plain().send().await;
        }
    }
    drop(first_answered(&upstream).await);
    assert_eq!(proxy.metric("outrigger_upstream_errors_total{kind=\"broken\"}").await, 4.0);
}

#[tokio::test]
async fn an_answer_with_many_headers_passes_and_beyond_the_limits_the_log_names_them() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::requests_by_hand().await;
    let proxy = Proxy::to(&upstream).yaml("upstream: {max_header_bytes: 16KiB}").spawn().await;
    let lines = |count: usize, size: usize| format!("X-Many: {}\r\n", "x".repeat(size)).repeat(count);
    for (count, size, passes) in [(500, 8, true), (600, 8, false), (1, 20_000, false)] {
        let mut client = proxy.plain().send().await;
        let mut server = upstream.accept().await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}\r\n", lines(count, size));
        server.send_bytes(head.as_bytes()).await;
        let response = client.read_response("GET").await;
        if passes {
            assert_eq!((response.status(), response.head.headers.all("X-Many").len()), (200, count));
        } else {
            assert_ours(&response, 502, "upstream_broken");
            let limits = "longer than 16384 bytes (upstream.max_header_bytes), or has more than 512 headers";
            assert!(logged.text().contains(limits), "{}", logged.text());
        }
    }
    let metric = "outrigger_limit{kind=\"upstream_header_bytes\",route=\"\"}";
    assert_eq!(proxy.metric(metric).await, 16384.0);
}
