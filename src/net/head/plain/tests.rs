use std::cell::RefCell;
use std::convert::Infallible;
use std::future::ready;
use std::task::{Context, Waker};

use http::HeaderMap;
use http::request::Parts;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;

use super::super::MAX_HEADERS;
use super::*;

const PLAIN: &str = "GET /ws?a=b HTTP/1.1\r\nHost: example.com\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-A: \r\n\r\n";

const MAX: usize = 4096;

fn ours(bytes: &[u8]) -> Option<Request<()>> {
    request(&Bytes::copy_from_slice(bytes), MAX)
}

/// The first request that hyper reads of these bytes, and whether it has no body.
fn theirs(bytes: &[u8]) -> Option<(Parts, bool)> {
    let seen = RefCell::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let is_bodiless = request.body().is_end_stream();
        seen.borrow_mut().get_or_insert((request.into_parts().0, is_bodiless));
        ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
    });
    let connection = http1::Builder::new()
        .preserve_header_case(true)
        .title_case_headers(true)
        .max_header_size(MAX)
        .max_headers(MAX_HEADERS)
        .half_close(true)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(tokio::io::join(bytes, Vec::new())), service);
    let mut connection = std::pin::pin!(connection);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..8 {
        if connection.as_mut().poll(&mut context).is_ready() {
            break;
        }
    }
    seen.take()
}

/// How hyper spells the names of a head.
fn spelled(headers: &HeaderMap, extensions: &http::Extensions) -> Vec<u8> {
    let mut named = Request::new(Empty::<Bytes>::new());
    for (name, _) in headers {
        named.headers_mut().append(name, HeaderValue::from_static("x"));
    }
    let mut answer = Response::new(Empty::<Bytes>::new());
    *answer.headers_mut() = std::mem::take(named.headers_mut());
    answer.headers_mut().insert(header::DATE, HeaderValue::from_static("x"));
    *answer.extensions_mut() = extensions.clone();
    spelling::note(answer.extensions_mut());
    spelling::exchange::<Empty<Bytes>>(b"GET / HTTP/1.0\r\n\r\n", answer).1
}

/// What is read here is what hyper reads; answers whether anything is.
#[track_caller]
fn assert_same(bytes: &[u8]) -> bool {
    let Some(ours) = ours(bytes) else { return false };
    let text = bytes.escape_ascii().to_string();
    let (theirs, is_bodiless) = theirs(bytes).unwrap_or_else(|| panic!("hyper reads none in {text}"));
    let (ours, ()) = ours.into_parts();
    assert!(is_bodiless, "{text}");
    assert_eq!(
        (&ours.method, &ours.uri, ours.version),
        (&theirs.method, &theirs.uri, theirs.version),
        "{text}"
    );
    let (fields, expected): (Vec<_>, Vec<_>) =
        (ours.headers.iter().collect(), theirs.headers.iter().collect());
    assert_eq!(fields, expected, "{text}");
    assert_eq!(
        spelled(&ours.headers, &ours.extensions).escape_ascii().to_string(),
        spelled(&theirs.headers, &theirs.extensions).escape_ascii().to_string(),
        "{text}"
    );
    true
}

#[test]
fn a_plain_handshake_is_read_if_it_is_whole() {
    assert!(assert_same(PLAIN.as_bytes()));
    for cut in 0..PLAIN.len() {
        assert!(ours(&PLAIN.as_bytes()[..cut]).is_none(), "cut at {cut}");
    }
    let long = PLAIN.replace("X-A: ", &format!("X-A: {}", "a".repeat(MAX - PLAIN.len())));
    assert_eq!(long.len(), MAX);
    assert!(assert_same(long.as_bytes()));
    assert!(ours(long.replace("aaa", "aaaa").as_bytes()).is_none(), "longer than it may be");
}

#[test]
fn whatever_hyper_does_more_with_than_to_keep_it_is_left_to_hyper() {
    let plus = |line: &str| PLAIN.replace("X-A: ", line);
    for harmless in
        ["X-B: \u{e9}", "X-B: a\r\nX-B: b", "Connection: Close-Not", "Te: trailers", "Trailer: x", "Date: x"]
    {
        assert!(assert_same(plus(harmless).as_bytes()), "{harmless}");
    }
    assert!(assert_same(PLAIN.replace("/ws", "/\u{e9}").as_bytes()));
    let unusual = [
        plus("Content-Length: 0"),
        plus("Transfer-Encoding: chunked"),
        plus("Expect: 100-continue"),
        plus("Connection: x, Close"),
        plus("Upgrade: h2c"),
        plus("x-a: "),
        plus("X-A : x"),
        plus("X-A: x\r\n folded"),
        plus("Sec-WebSocket-Key: x"),
        plus(&"X-A: x\r\n".repeat(MAX_FIELDS)),
        PLAIN.replace("Upgrade: websocket\r\n", ""),
        PLAIN.replace("websocket", "websocket, h2c"),
        PLAIN.replace("GET", "POST"),
        PLAIN.replace("1.1", "1.0"),
        PLAIN.replace("/ws", "http://example.com/ws"),
        PLAIN.replace("/ws?a=b", "*"),
        PLAIN.replace("/ws", "/a b"),
        format!("\r\n{PLAIN}"),
        format!("{PLAIN}\r\n"),
        format!("{PLAIN}{PLAIN}"),
        format!("{PLAIN}\u{1}"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        String::new(),
    ];
    for head in unusual {
        assert!(ours(head.as_bytes()).is_none(), "{head}");
    }
}

fn a_field() -> impl Strategy<Value = (String, String)> {
    let names = [
        "Connection",
        "Upgrade",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Protocol",
        "WWW-Authenticate",
        "Set-Cookie",
        "Date",
        "Content-Length",
        "Transfer-Encoding",
        "Trailer",
        "Expect",
        "X-1a-B",
        "x-lower",
        "Host",
    ];
    let values =
        ["x", "", "close", "Upgrade", "keep-alive, upgrade", "websocket", "0", "chunked", "a,  b", "\u{e9}"];
    (prop::sample::select(names.to_vec()), prop::sample::select(values.to_vec()))
        .prop_map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// An answer without the value of its date.
fn undated(answer: &[u8]) -> String {
    let lines = answer.split_inclusive(|byte| *byte == b'\n');
    let is_date =
        |line: &[u8]| line.starts_with(b"Date: ") && line.ends_with(b" GMT\r\n") && line.len() == 37;
    lines
        .map(|line| if is_date(line) { "Date\n".to_owned() } else { line.escape_ascii().to_string() })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_handshake_that_is_damaged_is_read_as_hyper_reads_it(
        damages in prop::collection::vec(
            (0..PLAIN.len(), 0..3_u8, prop::sample::select(b"\r\n: \t\0aA-1,/?%#\x7f\xff".to_vec())), 1..4),
    ) {
        let mut bytes = PLAIN.as_bytes().to_vec();
        for (at, how, byte) in damages {
            let at = at.min(bytes.len() - 1);
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        assert_same(&bytes);
    }

    #[test]
    fn a_handshake_with_any_fields_is_read_as_hyper_reads_it(
        fields in prop::collection::vec(a_field(), 0..6),
        target in "/[a-z%?#/:@é]{0,6}",
    ) {
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        assert_same(format!("GET {target} HTTP/1.1\r\nUpgrade: websocket\r\n{lines}\r\n").as_bytes());
    }

    #[test]
    fn a_101_of_ours_is_what_hyper_would_write(fields in prop::collection::vec(a_field(), 0..8), is_own in any::<bool>()) {
        let answered = || {
            let mut answered = Response::new(Empty::<Bytes>::new());
            *answered.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            if is_own {
                *answered.extensions_mut() = spelling::standard();
            }
            for (name, value) in &fields {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                answered.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
            }
            answered
        };
        if let Some(ours) = answer(&answered()) {
            assert!(is_own);
            let head = format!("{}\r\n", PLAIN.trim_end());
            let mut answered = answered();
            spelling::note(answered.extensions_mut());
            let (_, theirs) = spelling::exchange(format!("{head}\r\n").as_bytes(), answered);
            prop_assert_eq!(undated(&ours), undated(&theirs));
        } else {
            prop_assert!(!is_own || fields.iter().any(|(name, _)| name != "X-1a-B"));
        }
    }
}

#[test]
fn a_101_without_a_date_gets_one() {
    let mut switching = crate::net::http::switching_protocols(HeaderValue::from_static("x"));
    let written = answer(&switching).unwrap();
    spelling::note(switching.extensions_mut());
    let (_, theirs) = spelling::exchange::<Empty<Bytes>>(PLAIN.as_bytes(), switching.map(|()| Empty::new()));
    assert_eq!(undated(&written), undated(&theirs));
    assert_eq!(undated(&written).matches("Date\n").count(), 1, "{}", written.escape_ascii());
    assert!(answer(&Response::new(())).is_none());
}
