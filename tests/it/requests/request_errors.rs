//! What an operator and a client learn when a request is refused before a route is looked for: its cause in words, a
//! count, and a line in the log with the peer, which does not show what the request carried.

use h2::Reason;
use http::Request;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::http::{Response, assert_ours};
use crate::support::http2::Client;
use crate::support::link::End;
use crate::support::logged::Logged;
use crate::support::proxy::Proxy;
use crate::support::tls;
use crate::support::upstream::{Plain, Upstream};
use crate::support::wait::eventually;

async fn count(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric(&format!("outrigger_request_errors_total{{reason=\"{reason}\"}}")).await
}

async fn ask(proxy: &Proxy, request: &[u8]) -> Response {
    let mut link = proxy.plain().connect().await;
    let response = link.ask(request).await;
    assert_eq!(link.read_exactly(1).await, Err(End::Eof), "{}", request.escape_ascii());
    response
}

fn lines(logged: &Logged) -> Vec<Value> {
    logged.text().lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

fn line(logged: &Logged, reason: &str) -> Option<Value> {
    lines(logged).into_iter().find(|line| line["message"] == "refused" && line["reason"] == reason)
}

#[tokio::test]
async fn each_cause_is_told_counted_and_logged_with_its_peer() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("listen: {http2: false}").spawn().await;
    let secret = "Authorization: Bearer hunter2\r\nCookie: hunter2\r\n";
    let get =
        |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\n{lines}{secret}\r\n").into_bytes();
    // reason, request, and words of its refusal
    let cases = [
        ("host", get("/?hunter2", ""), "names no host"),
        ("host", get("/", "Host: hunter2@a\r\n"), "host[:port]"),
        ("host", get("http://hunter2@a/", "Host: a\r\n"), "host[:port]"),
        (
            "target",
            get("/hunter2?<", "Host: a\r\n"),
            "the character <, which must be percent-encoded there as %3C",
        ),
        ("target", get("hunter2", "Host: a\r\n"), "neither a path nor a URL"),
        ("target", get("http://hunter2%zz/", "Host: a\r\n"), "no path or URL"),
        ("framing", get("/", "Host: a\r\nTransfer-Encoding: hunter2, chunked\r\n"), "`chunked`, once"),
        ("framing", get("/", "Host: a\r\nTransfer-Encoding: hunter2\r\n"), "`chunked`, once"),
        ("framing", get("/", "Host: a\r\nContent-Length: hunter2\r\n"), "Content-Length is not one number"),
        (
            "framing",
            format!("GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{secret}\r\n").into_bytes(),
            "which its version of HTTP does not know",
        ),
        ("syntax", get("/", "Host: a\r\nhunter2 : b\r\n"), "a line of it is not as RFC 9112 has it"),
        ("syntax", get("/hunter2 b", "Host: a\r\n"), "a line of it is not as RFC 9112 has it"),
        ("version", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), "it is HTTP/2"),
    ];
    for (reason, request, words) in cases {
        println!("{reason}: {}", request.escape_ascii());
        let before = count(&proxy, reason).await;
        let refusal = ask(&proxy, &request).await;
        assert_ours(&refusal, 400, "malformed_request");
        assert!(refusal.text().contains(words), "{words:?} in {:?}", refusal.text());
        assert_eq!(count(&proxy, reason).await, before + 1.0, "{reason}");
        let line = line(&logged, reason).expect("it is in the log");
        let peer = line["peer"].as_str().expect("it has a peer");
        assert!(peer.starts_with("127.0.0.1:"), "{line}");
        assert_eq!(line["level"], "WARN");
        assert!(line["error"].as_str().is_some_and(|error| error.len() > 30), "{line}");
    }
    // A head that is too large, one that takes too long.
    let large = get("/", &format!("Host: a\r\nX: {}\r\n", "x".repeat(1 << 20)));
    let mut link = proxy.plain().connect().await;
    let _ = link.try_send_bytes(&large).await;
    assert_ours(&link.read_response("GET").await, 431, "head_too_large");
    assert_eq!(count(&proxy, "too_large").await, 1.0);
    assert!(line(&logged, "too_large").is_some());
    let hurried = Proxy::to(&upstream).yaml("listen: {handshake_timeout: 100ms}").spawn().await;
    assert_ours(&ask(&hurried, b"GET / HTTP/1.1\r\nHo").await, 408, "handshake_timeout");
    assert_eq!(count(&hurried, "timeout").await, 1.0);
    assert!(line(&logged, "timeout").is_some());

    assert_eq!(upstream.accepted(), 0, "none of them reaches the server");
    assert!(!logged.text().contains("hunter2"), "{}", logged.text());
}

#[tokio::test]
async fn a_flood_of_them_is_few_lines_and_all_are_counted() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let since = Instant::now();
    for _ in 0..50 {
        ask(&proxy, b"GET / HTTP/1.1\r\n\r\n").await;
        ask(&proxy, b"GET /< HTTP/1.1\r\nHost: a\r\n\r\n").await;
    }
    let told = |reason: &str| {
        let lines = Vec::from_iter(lines(&logged).into_iter().filter(|line| line["reason"] == reason));
        let own = lines.iter().filter(|line| line["message"] == "refused").count() as u64;
        let others: u64 = lines.iter().filter_map(|line| line["left_out"].as_u64()).sum();
        (lines.len() as u64, own + others)
    };
    for reason in ["host", "target"] {
        eventually(DEADLINE, async || told(reason).1 == 50).await;
        let most = since.elapsed().as_secs() + 2;
        assert!(told(reason).0 <= most, "{reason}: {} lines in {most} seconds", told(reason).0);
        assert_eq!(count(&proxy, reason).await, 50.0, "{reason}");
    }
    assert_eq!((count(&proxy, "framing").await, count(&proxy, "syntax").await), (0.0, 0.0));
}

#[tokio::test]
async fn what_goes_on_is_not_counted() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    assert_eq!(proxy.plain().answer().await.response.status(), 200);
    drop(proxy.connect("/").await);
    // Nor is one that a route refuses.
    assert_eq!(proxy.dial().without("Sec-WebSocket-Key").refused().await.status(), 400);
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("outrigger_request_errors_total"), 0.0, "{}", metrics.0);
    let refused = lines(&logged).into_iter().filter(|line| line["message"] == "refused");
    let reasons: Vec<_> = refused.map(|line| line["reason"].clone()).collect();
    assert_eq!(reasons, ["malformed_handshake"], "{}", logged.text());
}

#[tokio::test]
async fn http_in_the_clear_where_tls_is_spoken_is_counted_and_logged() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).tls(tls::listen()).spawn().await;
    let refusal = ask(&proxy, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_ours(&refusal, 400, "tls_expected");
    assert_eq!(count(&proxy, "plaintext").await, 1.0);
    assert!(line(&logged, "plaintext").is_some(), "{}", logged.text());

    // Over TLS the same holds as without.
    let plain = RawClient::plain(proxy.address()).tls(tls::client());
    let mut link = plain.connect().await;
    link.send_bytes(b"GET /> HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let refusal = link.read_response("GET").await;
    assert_ours(&refusal, 400, "malformed_request");
    assert!(refusal.text().contains("the character >"), "{}", refusal.text());
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn what_a_target_may_have_goes_on_byte_for_byte_and_what_it_must_not_have_is_named() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    // Bytes that end a target are not in it; of a fragment nothing goes on.
    for byte in (0_u8..=0xff).filter(|byte| !b" \r\n#".contains(byte)) {
        for before in [&b"/a"[..], b"/a?b="] {
            let request =
                [b"GET ", before, &[byte], b"c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"].concat();
            let answer = ask(&proxy, &request).await;
            let is_taken = answer.status() == 200;
            if is_taken {
                let seen = upstream.requests().pop().expect("it came");
                assert_eq!(seen.head.target().as_bytes(), [before, &[byte], b"c"].concat());
                continue;
            }
            assert_ours(&answer, 400, "malformed_request");
            let named = match byte {
                0x21..=0x7e => format!("the character {}", char::from(byte)),
                0x80.. => format!("the byte 0x{byte:02X}"),
                _ => format!("the control character 0x{byte:02X}"),
            };
            let typed = format!("%{byte:02X}");
            let text = answer.text();
            assert!(text.contains(&named) && text.contains(&typed), "{}: {text}", request.escape_ascii());
            let is_odd = !(0x21..=0x7e).contains(&byte) || b"\"<>`".contains(&byte);
            assert!(is_odd, "{} could go on", request.escape_ascii());
        }
    }
    // A character of UTF-8 is whole.
    drop(proxy.connect("/ü?😀={}|^\\[]").await);
    assert_eq!(upstream.handshakes().remove(0).head.target(), "/ü?😀={}|^\\[]");
}

#[tokio::test]
async fn a_character_is_named_on_a_connection_that_was_used_before_and_however_it_is_cut() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let mut link = proxy.plain().connect().await;
    for body in ["", "abc"] {
        let length = body.len();
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
        link.send_bytes(request.as_bytes()).await;
        assert_eq!(link.read_response("POST").await.text(), body);
    }
    link.send_in_single_bytes(b"GET /a?b=\xc3\xbc\" HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let refusal = link.read_response("GET").await;
    assert_ours(&refusal, 400, "malformed_request");
    assert!(refusal.text().contains("the character \""), "{}", refusal.text());

    // Of one that came together with another nobody sees the characters: it is refused all the same, and the text
    // tells which they may be.
    let good = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut link = proxy.plain().connect().await;
    link.send_bytes(&[&good[..], b"GET /?< HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).await;
    assert_eq!(link.read_response("GET").await.status(), 200);
    let refusal = link.read_response("GET").await;
    assert_ours(&refusal, 400, "malformed_request");
    assert!(refusal.text().contains("\", <, >, `"), "{}", refusal.text());
    eventually(DEADLINE, async || count(&proxy, "target").await >= 2.0).await;
}

#[tokio::test]
async fn over_http_2_the_authority_is_the_one_host_or_the_request_is_refused() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let client = Client::connect(proxy.address()).await;
    let get = |authority: &str, hosts: &[&str]| {
        let request = Request::get(format!("http://{authority}/"));
        hosts.iter().fold(request, |request, host| request.header("host", *host)).body(()).expect("a request")
    };
    for (authority, hosts) in [
        ("a.example", &["a.example", "a.example"][..]),
        ("a.example", &["a.example", "b.example"]),
        ("a.example", &["a.example, b.example"]),
        ("a.example", &[""]),
        ("user@a.example", &[]),
        ("user:word@a.example", &["a.example"]),
        ("a,b", &[]),
    ] {
        println!("{authority} {hosts:?}");
        let answer = client.plain(get(authority, hosts), b"").await.expect("an answer");
        assert_eq!(
            (answer.status, answer.headers["x-outrigger-reason"].as_bytes()),
            (400, &b"malformed_request"[..]),
            "{authority} {hosts:?}"
        );
        let mut handshake = Client::handshake("/");
        *handshake.uri_mut() = format!("http://{authority}/").parse().expect("a URL");
        for host in hosts {
            handshake.headers_mut().append("host", host.parse().expect("a value"));
        }
        let refused = client.try_open(handshake).await.err().expect("it is refused");
        assert_eq!(refused.status, 400, "{authority} {hosts:?}");
    }
    assert_eq!(count(&proxy, "host").await, 14.0);
    assert!(line(&logged, "host").is_some());
    assert_eq!(upstream.accepted(), 0, "none of them reaches the server");

    for (authority, hosts, seen) in [
        ("a.example", &[][..], "a.example"),
        ("a.example", &["A.Example"], "a.example"),
        // RFC 9113 §8.3.1: whoever makes HTTP/1.1 of it replaces the header.
        ("a.example", &["b.example"], "a.example"),
        ("a.example", &["a.example:80"], "a.example"),
        ("a.example:80", &["a.example"], "a.example:80"),
        ("[::1]:8080", &["[::1]:8080"], "[::1]:8080"),
    ] {
        assert_eq!(client.plain(get(authority, hosts), b"").await.expect("an answer").status, 200);
        let request = upstream.requests().pop().expect("it came");
        assert_eq!(request.head.headers.all("Host"), [seen], "{authority} {hosts:?}");
    }
}

#[tokio::test]
async fn over_http_2_a_length_is_one_number_and_that_of_the_body() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let post = |lengths: &[&str]| {
        let request = Request::post("http://a.example/");
        let header =
            |request: http::request::Builder, length: &&str| request.header("content-length", *length);
        lengths.iter().fold(request, header).body(()).expect("a request")
    };
    // The library resets what breaks RFC 9113 §8.1.1; what it lets through is refused by us.
    for lengths in [&["3", "5"][..], &["4"], &["2"], &["3, 5"], &["x"], &["+3"], &[""]] {
        println!("{lengths:?}");
        let client = Client::connect(proxy.address()).await;
        match client.plain(post(lengths), b"abc").await {
            Ok(answer) => assert_eq!(answer.status, 400, "{lengths:?}"),
            Err(error) => assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR), "{lengths:?}: {error}"),
        }
    }
    let bodies: Vec<_> = upstream.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, Vec::<Vec<u8>>::new(), "none of them reaches the server whole");
    for lengths in [&[][..], &["3"], &["3", "3"]] {
        let client = Client::connect(proxy.address()).await;
        let answer = client.plain(post(lengths), b"abc").await.expect("an answer");
        assert_eq!((answer.status, &answer.body[..]), (200, &b"abc"[..]), "{lengths:?}");
        let request = upstream.requests().pop().expect("it came");
        let framings = request.head.headers.all("Content-Length").len()
            + request.head.headers.all("Transfer-Encoding").len();
        assert_eq!(framings, 1, "{lengths:?}: {request:#?}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_without_a_request_is_no_error() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    for said in [&b""[..], b"\r\n", b"GET / HTT", b"GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut tcp = TcpStream::connect(proxy.address()).await.expect("the proxy listens");
        tcp.write_all(said).await.expect("it is open");
        tcp.shutdown().await.expect("it is open");
        let mut rest = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut tcp, &mut rest).await;
        assert_eq!(rest, b"", "{}", said.escape_ascii());
    }
    assert_eq!(proxy.metrics().await.sum("outrigger_request_errors_total"), 0.0);
}
