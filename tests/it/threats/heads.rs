//! Heads that two readers could take for two different messages. What a request's head says is one thing, or it is
//! refused and reaches no server; the same of a server's answer. RFC 9112 §3.2 and §6, row by row.
//!
//! Each request is sent twice in one write, so that whatever is left of the first would be seen as a second one.

use crate::support::http::{Headers, Response, assert_ours};
use crate::support::link::{End, Link};
use crate::support::proxy::Proxy;
use crate::support::upstream::{Answer, Plain, Upstream};

/// What makes a request a handshake.
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// What an attacker would like to be read as a message of its own.
const SMUGGLED: &str = "GET /internal HTTP/1.1\r\nHost: a\r\n\r\n";

async fn say(proxy: &Proxy, bytes: &[u8]) -> Link {
    let mut link = proxy.plain().connect().await;
    // The proxy may have hung up before it has taken all of it.
    let _ = link.try_send_bytes(bytes).await;
    link
}

/// Sends `request` twice in one write, and fails unless one refusal is all that comes.
async fn assert_refused(proxy: &Proxy, name: &str, request: &[u8]) -> Response {
    let mut link = say(proxy, &request.repeat(2)).await;
    let refusal = link.read_response("GET").await;
    assert_eq!(refusal.status(), 400, "{name}: {}", request.escape_ascii());
    assert_ours(&refusal, 400, "malformed_request");
    assert_eq!(link.read_exactly(1).await, Err(End::Eof), "{name}: the connection is over");
    refusal
}

/// Sends `request` twice in one write; the last has to end its connection.
async fn assert_taken(proxy: &Proxy, name: &str, request: &[u8]) {
    let mut link = say(proxy, &request.repeat(2)).await;
    for _ in 0..2 {
        assert_eq!(link.read_response("GET").await.status(), 200, "{name}: {}", request.escape_ascii());
    }
}

#[tokio::test]
async fn a_host_that_is_missing_doubled_or_none_reaches_no_server() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    // Where the target is a path, and where it names an authority.
    let (path, url) = ("/", "http://a.example/");
    let cases = [
        (path, "HTTP/1.1", ""),
        (url, "HTTP/1.1", ""),
        (path, "HTTP/1.1", "Host: a\r\nHost: b\r\n"),
        (path, "HTTP/1.1", "Host: a\r\nHost: a\r\n"),
        (path, "HTTP/1.1", "Host: a\r\nhOST:\r\n"),
        (url, "HTTP/1.1", "Host: a.example\r\nHost: a.example\r\n"),
        (path, "HTTP/1.0", "Host: a\r\nHost: b\r\n"),
        (path, "HTTP/1.1", "Host: a, b\r\n"),
        (path, "HTTP/1.1", "Host: a,b\r\n"),
        (path, "HTTP/1.1", "Host: a,\r\n"),
        (path, "HTTP/1.1", "Host: user@h\r\n"),
        (path, "HTTP/1.1", "Host: user@h/x\r\n"),
        (path, "HTTP/1.1", "Host: user:word@h:80\r\n"),
        (path, "HTTP/1.1", "Host: h/x\r\n"),
        (path, "HTTP/1.1", "Host: /x\r\n"),
        (path, "HTTP/1.1", "Host: http://h\r\n"),
        (path, "HTTP/1.1", "Host: h?x\r\n"),
        (path, "HTTP/1.1", "Host: h#x\r\n"),
        (path, "HTTP/1.1", "Host: a b\r\n"),
        (path, "HTTP/1.1", "Host: a\tb\r\n"),
        (path, "HTTP/1.1", "Host: a :80\r\n"),
        (path, "HTTP/1.1", "Host: a: 80\r\n"),
        (path, "HTTP/1.1", "Host: a:b\r\n"),
        (path, "HTTP/1.1", "Host: a:80:80\r\n"),
        (path, "HTTP/1.1", "Host: a:-80\r\n"),
        (path, "HTTP/1.1", "Host: a:65536\r\n"),
        (path, "HTTP/1.1", "Host: :80\r\n"),
        (path, "HTTP/1.1", "Host: ::1\r\n"),
        (path, "HTTP/1.1", "Host: [::1\r\n"),
        (path, "HTTP/1.1", "Host: [a]\r\n"),
        (path, "HTTP/1.1", "Host: [::1]a\r\n"),
        (path, "HTTP/1.1", "Host: a[::1]\r\n"),
        (path, "HTTP/1.1", "Host: \"a\"\r\n"),
        (path, "HTTP/1.1", "Host: a\\b\r\n"),
        (path, "HTTP/1.1", "Host: <a>\r\n"),
        (path, "HTTP/1.1", "Host: a%2fb\r\n"),
        (path, "HTTP/1.1", "Host: \u{fc}.example\r\n"),
        (path, "HTTP/1.0", "Host: a, b\r\n"),
        (url, "HTTP/1.1", "Host: a, b\r\n"),
        (url, "HTTP/1.1", "Host:\r\n"),
        ("http://user@a.example/", "HTTP/1.1", "Host: a.example\r\n"),
        ("http://user:word@a.example/", "HTTP/1.1", "Host: a.example\r\n"),
        ("http://a,b/", "HTTP/1.1", "Host: a.example\r\n"),
        ("http://a.example:65536/", "HTTP/1.1", "Host: a.example\r\n"),
        ("http://[a]/", "HTTP/1.1", "Host: a.example\r\n"),
        // Neither a path nor a URL: a host and nothing else is for CONNECT, `*` for OPTIONS (RFC 9112 §3.2.3, §3.2.4).
        ("a.example", "HTTP/1.1", "Host: a.example\r\n"),
        ("a.example:80", "HTTP/1.1", "Host: a.example\r\n"),
        ("*", "HTTP/1.1", "Host: a.example\r\n"),
    ];
    for (target, version, host) in cases {
        for (kind, more) in [("plain", ""), ("upgrade", UPGRADE)] {
            let request = format!("GET {target} {version}\r\n{host}{more}\r\n");
            let name = format!("{kind} {target} {version} {host:?}");
            let refusal = assert_refused(&proxy, &name, request.as_bytes()).await;
            assert_ne!(
                refusal.text().trim(),
                "the request could not be read as HTTP/1.1",
                "{name}: which of it?"
            );
        }
    }
    assert_eq!(upstream.accepted(), 0, "none of them reaches the server");
}

#[tokio::test]
async fn a_host_that_is_one_goes_on_and_the_target_decides_over_it() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    // target, version, lines, the one Host that the server is to see
    let cases = [
        ("/", "HTTP/1.1", "Host: a\r\n", Some("a")),
        ("/", "HTTP/1.1", "hOsT:   A.Example:8080  \r\n", Some("A.Example:8080")),
        ("/", "HTTP/1.1", "Host: a_b-c.d.\r\n", Some("a_b-c.d.")),
        ("/", "HTTP/1.1", "Host: a:\r\n", Some("a:")),
        ("/", "HTTP/1.1", "Host: 127.0.0.1:65535\r\n", Some("127.0.0.1:65535")),
        ("/", "HTTP/1.1", "Host: [::1]\r\n", Some("[::1]")),
        ("/", "HTTP/1.1", "Host: [2001:db8::1]:443\r\n", Some("[2001:db8::1]:443")),
        ("/", "HTTP/1.1", "Host: xn--bcher-kva.example\r\n", Some("xn--bcher-kva.example")),
        // RFC 9112 §3.2: of a target without an authority.
        ("/", "HTTP/1.1", "Host:\r\n", Some("")),
        // RFC 9112 §3.2.2: a proxy ignores the header.
        ("http://a.example/", "HTTP/1.1", "Host: b.example\r\n", Some("a.example")),
        ("http://a.example:8080/", "HTTP/1.1", "Host: a.example\r\n", Some("a.example:8080")),
        ("http://A.example", "HTTP/1.1", "Host: a.example\r\n", Some("A.example")),
        ("http://[::1]:8080/", "HTTP/1.1", "Host: b\r\n", Some("[::1]:8080")),
        ("http://a.example/", "HTTP/1.0", "", Some("a.example")),
        // Before HTTP/1.1 there was none: the server is told its own name.
        ("/", "HTTP/1.0", "", None),
    ];
    for (target, version, lines, expected) in cases {
        let more = if version == "HTTP/1.0" { "Connection: keep-alive\r\n" } else { "" };
        let request = format!("GET {target} {version}\r\n{lines}{more}\r\n");
        assert_taken(&proxy, &format!("{target} {version} {lines:?}"), request.as_bytes()).await;
        let seen = upstream.requests();
        assert_eq!(seen.len(), 2, "{lines:?}");
        for request in seen {
            let own = upstream.address().to_string();
            assert_eq!(request.head.headers.all("Host"), [expected.unwrap_or(&own)], "{target} {lines:?}");
        }
        upstream.forget();
    }
    let mut client = proxy.dial().path("http://a.example/ws").header("Host", "b.example").open().await;
    client.text("hello").await;
    client.expect_text("hello").await;
    let handshake = upstream.handshakes().remove(0);
    assert_eq!((handshake.head.target(), handshake.head.headers.all("Host")), ("/ws", vec!["a.example"]));
}

/// Rows of RFC 9112 §6 that a request is refused for: what stands in its head, and what follows it.
const UNFRAMED: &[(&str, &str, &str)] = &[
    ("chunked twice, in two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "CHUNKS"),
    ("chunked twice, in one", "Transfer-Encoding: chunked, chunked\r\n", "CHUNKS"),
    ("another coding before it", "Transfer-Encoding: gzip, chunked\r\n", "CHUNKS"),
    ("another line before it", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "CHUNKS"),
    ("identity before it", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", "CHUNKS"),
    ("an empty line before it", "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n", "CHUNKS"),
    ("an empty element before it", "Transfer-Encoding: , chunked\r\n", "CHUNKS"),
    ("an empty element behind it", "Transfer-Encoding: chunked,\r\n", "CHUNKS"),
    ("another coding behind it", "Transfer-Encoding: chunked, gzip\r\n", "CHUNKS"),
    ("another line behind it", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "CHUNKS"),
    ("a parameter", "Transfer-Encoding: chunked;q=1\r\n", "CHUNKS"),
    ("a quoted one", "Transfer-Encoding: \"chunked\"\r\n", "CHUNKS"),
    ("something like it", "Transfer-Encoding: xchunked\r\n", "CHUNKS"),
    ("gzip alone", "Transfer-Encoding: gzip\r\n", "abc"),
    ("identity alone", "Transfer-Encoding: identity\r\n", "abc"),
    ("none", "Transfer-Encoding:\r\n", "abc"),
    ("a vertical tab before it", "Transfer-Encoding: \x0bchunked\r\n", "CHUNKS"),
    ("a space before the colon", "Transfer-Encoding : chunked\r\n", "CHUNKS"),
    ("a line that goes on", "Transfer-Encoding:\r\n chunked\r\n", "CHUNKS"),
    ("a bare CR", "X: a\rTransfer-Encoding: chunked\r\n", "CHUNKS"),
    ("two lengths", "Content-Length: 3\r\nContent-Length: 5\r\n", "abcde"),
    ("a list of lengths", "Content-Length: 3, 5\r\n", "abcde"),
    ("a list of one length", "Content-Length: 3, 3\r\n", "abc"),
    ("a signed length", "Content-Length: +3\r\n", "abc"),
    ("a negative length", "Content-Length: -3\r\n", "abc"),
    ("a length with a space inside", "Content-Length: 3 3\r\n", "abc"),
    ("a hexadecimal length", "Content-Length: 0x3\r\n", "abc"),
    ("a length with a fraction", "Content-Length: 3.0\r\n", "abc"),
    ("no length", "Content-Length:\r\n", "abc"),
    ("a length beyond all numbers", "Content-Length: 18446744073709551619\r\n", "abc"),
    ("a wrong length before chunked", "Content-Length: x\r\nTransfer-Encoding: chunked\r\n", "CHUNKS"),
    ("a line without a colon", "Transfer-Encoding\r\n", "CHUNKS"),
    ("white space before the first header", " Transfer-Encoding: chunked\r\n", "CHUNKS"),
];

fn framed(head: &str, lines: &str, body: &str) -> Vec<u8> {
    format!("{head}{lines}\r\n{body}").replace("CHUNKS", "3\r\nabc\r\n0\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn a_request_whose_end_is_not_clear_is_refused_and_what_follows_it_is_no_request() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    for (name, lines, body) in UNFRAMED {
        for (kind, more) in [("plain", ""), ("upgrade", UPGRADE)] {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{more}");
            // Behind each there is a request that must not be seen as one.
            let request = framed(&head, lines, &format!("{body}{SMUGGLED}"));
            assert_refused(&proxy, &format!("{kind}, {name}"), &request).await;
        }
    }
    let late = framed("POST / HTTP/1.0\r\nHost: a\r\n", "Transfer-Encoding: chunked\r\n", "CHUNKS");
    assert_refused(&proxy, "chunked over HTTP/1.0", &late).await;
    assert_eq!(upstream.accepted(), 0, "none of them reaches the server");
}

#[tokio::test]
async fn a_request_whose_end_is_clear_goes_on_with_one_framing() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let cases = [
        ("chunked", "Transfer-Encoding: chunked\r\n", "CHUNKS", "abc"),
        ("in odd case", "tRANSFER-eNCODING: ChUnKeD\r\n", "CHUNKS", "abc"),
        ("with space around it", "Transfer-Encoding: \t chunked \t \r\n", "CHUNKS", "abc"),
        ("a length", "Content-Length: 3\r\n", "abc", "abc"),
        ("a length twice", "Content-Length: 3\r\nContent-Length: 3\r\n", "abc", "abc"),
        ("a length with zeros", "Content-Length: 0003\r\n", "abc", "abc"),
        ("none", "", "", ""),
    ];
    for (name, lines, body, expected) in cases {
        assert_taken(&proxy, name, &framed("POST / HTTP/1.1\r\nHost: a\r\n", lines, body)).await;
        let seen = upstream.requests();
        assert_eq!(seen.len(), 2, "{name}: {seen:#?}");
        for request in seen {
            assert_eq!(String::from_utf8_lossy(&request.body), expected, "{name}");
            assert!(framings(&request.head.headers) <= 1, "{name}: {request:#?}");
        }
        upstream.forget();
    }
    // RFC 9112 §6.1: chunked decides, the length goes, and the connection ends after the answer.
    for lines in [
        "Content-Length: 44\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: x\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\nContent-Length: 44\r\n",
    ] {
        let request = framed("POST / HTTP/1.1\r\nHost: a\r\n", lines, &format!("CHUNKS{SMUGGLED}"));
        println!("{lines:?}");
        let mut link = say(&proxy, &request.repeat(2)).await;
        assert_eq!(link.read_response("POST").await.status(), 200);
        assert_eq!(link.read_exactly(1).await, Err(End::Eof), "{lines:?}");
        let seen = upstream.requests();
        assert_eq!((seen.len(), &seen[0].body[..]), (1, &b"abc"[..]), "{lines:?}: {seen:#?}");
        assert_eq!(framings(&seen[0].head.headers), 1, "{lines:?}: {seen:#?}");
        upstream.forget();
    }
}

fn framings(headers: &Headers) -> usize {
    headers.all("Content-Length").len() + headers.all("Transfer-Encoding").len()
}

/// A second answer, which nobody has asked for.
const STRAY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray";

#[tokio::test]
async fn an_answer_whose_end_is_not_clear_is_a_502_and_its_connection_is_not_used_again() {
    let rows = UNFRAMED.iter().filter(|(name, ..)| {
        // Rules of requests only: an answer may repeat a length, and its lines are checked elsewhere.
        !["a list of one length", "a wrong length before chunked"].contains(name)
    });
    let more = [
        ("both", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "CHUNKS"),
        ("both, the other way round", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "CHUNKS"),
        ("both, and the length none", "Transfer-Encoding: chunked\r\nContent-Length: x\r\n", "CHUNKS"),
    ];
    for (name, lines, body) in rows.chain(&more) {
        let answer = framed("HTTP/1.1 200 OK\r\n", lines, body);
        let with_stray = framed("HTTP/1.1 200 OK\r\n", lines, &format!("{body}{STRAY}"));
        for answer in [answer, with_stray] {
            println!("{name}: {}", answer.escape_ascii());
            let upstream = Upstream::builder()
                .on_request(Plain::Raw(answer.clone()))
                .answering(Answer::Raw(answer))
                .spawn()
                .await;
            let proxy = Proxy::to(&upstream).spawn().await;
            let mut link = proxy.plain().connect().await;
            for time in 1..=2 {
                link.send_bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                assert_ours(&link.read_response("GET").await, 502, "upstream_broken");
                assert_eq!(upstream.accepted(), time, "{name}: a connection of its own for each");
            }
            assert_ours(&proxy.dial().refused().await, 502, "upstream_broken");
        }
    }
    let late = framed("HTTP/1.0 200 OK\r\n", "Transfer-Encoding: chunked\r\n", "CHUNKS");
    let upstream = Upstream::builder().on_request(Plain::Raw(late)).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    assert_ours(&proxy.plain().answer().await.response, 502, "upstream_broken");
}

#[tokio::test]
async fn an_answer_whose_end_is_clear_goes_on_with_one_framing() {
    let cases = [
        ("chunked", "GET", "200 OK", "Transfer-Encoding: chunked\r\n", "CHUNKS", "abc", 1),
        ("in odd case", "GET", "200 OK", "tRANSFER-eNCODING:  ChUnKeD \r\n", "CHUNKS", "abc", 1),
        ("a length", "GET", "200 OK", "Content-Length: 3\r\n", "abc", "abc", 1),
        ("a length twice", "GET", "200 OK", "Content-Length: 3\r\nContent-Length: 3\r\n", "abc", "abc", 1),
        ("a list of one length", "GET", "200 OK", "Content-Length: 3, 3\r\n", "abc", "abc", 1),
        ("a length of what HEAD does not show", "HEAD", "200 OK", "Content-Length: 3\r\n", "", "", 1),
        ("the same twice", "HEAD", "200 OK", "Content-Length: 3\r\nContent-Length: 3\r\n", "", "", 1),
        ("chunks that HEAD does not show", "HEAD", "200 OK", "Transfer-Encoding: chunked\r\n", "", "", 1),
        ("a length of what is not modified", "GET", "304 Not Modified", "Content-Length: 3\r\n", "", "", 1),
        (
            "chunks of what is not modified",
            "GET",
            "304 Not Modified",
            "Transfer-Encoding: chunked\r\n",
            "",
            "",
            1,
        ),
        ("no content", "GET", "204 No Content", "", "", "", 1),
        // A length that RFC 9110 §8.6 forbids there.
        ("a length of no content", "GET", "204 No Content", "Content-Length: 0\r\n", "", "", 1),
    ];
    for (name, method, status, lines, body, expected, accepted) in cases {
        let answer = framed(&format!("HTTP/1.1 {status}\r\n"), lines, body);
        println!("{name}: {}", answer.escape_ascii());
        let upstream = Upstream::builder().on_request(Plain::Raw(answer)).spawn().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        let mut link = proxy.plain().connect().await;
        for _ in 0..2 {
            link.send_bytes(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
            let response = link.read_response(method).await;
            let told = status.split(' ').next().and_then(|status| status.parse().ok());
            assert_eq!((Some(response.status()), response.text().as_str()), (told, expected), "{name}");
            assert!(framings(&response.head.headers) <= 1, "{name}: {:#?}", response.head);
            if status.starts_with("204") {
                assert_eq!(framings(&response.head.headers), 0, "{name}: {:#?}", response.head);
            }
        }
        assert_eq!(upstream.accepted(), accepted, "{name}: connections to the server");
    }
}

#[tokio::test]
async fn a_body_where_there_can_be_none_is_not_the_answer_to_the_next_request() {
    for (name, method, status, lines, body) in [
        ("204 in chunks", "GET", "204 No Content", "Transfer-Encoding: chunked\r\n", "CHUNKS"),
        ("204 with a length", "GET", "204 No Content", "Content-Length: 54\r\n", STRAY),
        ("204 with an answer behind", "GET", "204 No Content", "", STRAY),
        ("304 with a body", "GET", "304 Not Modified", "Content-Length: 54\r\n", STRAY),
        ("HEAD with a body", "HEAD", "200 OK", "Content-Length: 54\r\n", STRAY),
    ] {
        let answer = framed(&format!("HTTP/1.1 {status}\r\n"), lines, body);
        println!("{name}: {}", answer.escape_ascii());
        let upstream = Upstream::builder().on_request(Plain::Raw(answer)).spawn().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        let mut link = proxy.plain().connect().await;
        for time in 1..=3 {
            link.send_bytes(format!("{method} /{time} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
            let response = link.read_response(method).await;
            assert!(status.starts_with(&response.status().to_string()), "{name}: {:#?}", response.head);
            assert_eq!(response.text(), "", "{name}");
        }
        assert_eq!((upstream.requests().len(), upstream.accepted()), (3, 3), "{name}");
    }
}

#[tokio::test]
async fn a_101_over_http_1_0_is_none() {
    let accept =
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    for (version, told) in [("HTTP/1.0", 502), ("HTTP/1.1", 101)] {
        let answer = format!("{version} 101 Fine\r\n{accept}\r\n");
        let upstream = Upstream::builder().answering(Answer::Raw(answer.into_bytes())).spawn().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        let mut link = say(&proxy, format!("GET / HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n").as_bytes()).await;
        let response = link.read_response("GET").await;
        assert_eq!(response.status(), told, "{version}");
        if told == 502 {
            assert_ours(&response, 502, "upstream_bad_upgrade");
            assert!(response.text().contains("HTTP/1.1"), "{}", response.text());
        }
    }
}

#[tokio::test]
async fn a_101_says_nothing_of_a_body() {
    let accept =
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    for line in ["Content-Length: 0\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        let answer = format!("HTTP/1.1 101 Fine\r\n{accept}{line}\r\n");
        let upstream = Upstream::builder().answering(Answer::Raw(answer.into_bytes())).spawn().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        let mut link = say(&proxy, format!("GET / HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n").as_bytes()).await;
        let head = link.read_head().await;
        // RFC 9110 §8.6, RFC 9112 §6.1: neither stands in a 1xx.
        assert_eq!((head.status(), framings(&head.headers)), (101, 0), "{line:?}: {head:#?}");
    }
}
