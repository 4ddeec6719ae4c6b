use std::sync::{Arc, LazyLock};

use http::{Extensions, HeaderName, HeaderValue, Version};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::runtime::Runtime;

use super::*;
use crate::config::{self, Config};
use crate::net::head::{spelling, until_close};
use crate::telemetry::Metrics;
use crate::upstream::verify::BadUpgrade;

const MAX_HEADER_BYTES: usize = 4096;
/// More than any answer here has.
const PIPE: usize = 1 << 16;

const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
const PLAIN: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

static UPSTREAM: LazyLock<Arc<Upstream>> = LazyLock::new(|| {
    let config = config::Upstream {
        max_header_bytes: MAX_HEADER_BYTES,
        ..(*Config::default().routes[0].upstream).clone()
    };
    Upstream::new(Arc::new(config), Metrics::new("outrigger").unwrap()).unwrap()
});

fn handshake(extensions: Extensions) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    request.headers_mut().insert("sec-websocket-key", HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
    *request.extensions_mut() = extensions;
    request
}

/// Reads a head to its end.
async fn head_of(pipe: &mut DuplexStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(pipe.read_u8().await.expect("a whole head"));
    }
    head
}

/// Asks a server that answers with these pieces and closes then.
async fn ask(request: Request<Empty<Bytes>>, pieces: &[&[u8]]) -> Result<Answer, UpstreamError> {
    let (ours, mut theirs) = tokio::io::duplex(PIPE);
    let answering = async {
        head_of(&mut theirs).await;
        for piece in pieces {
            // Who has read enough hangs up.
            if theirs.write_all(piece).await.is_err() {
                break;
            }
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
        drop(theirs);
    };
    tokio::join!(UPSTREAM.exchange(Stream::Scripted(ours), request), answering).0
}

/// All that there is to see of what came of it.
async fn seen(answer: Result<Answer, UpstreamError>) -> String {
    match answer {
        Err(error) => format!("{:?}: {error}", error.kind()),
        Ok(Answer::Switching(response, transport)) => switched(response, transport).await,
        Ok(Answer::OfHyper(response, connection)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            let parts = connection.without_shutdown().await.unwrap();
            switched(response.map(drop), parts.io.into_inner().into_transport(parts.read_buf)).await
        }
        Ok(Answer::OfHyper(response, connection)) => {
            tokio::spawn(*connection);
            let (head, body) = response.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes());
            format!("{} {body:?}", told(Response::from_parts(head, ())))
        }
    }
}

async fn switched(response: Response<()>, transport: Transport) -> String {
    let Transport { mut stream, read_ahead } = transport;
    let mut rest = read_ahead.to_vec();
    stream.read_to_end(&mut rest).await.unwrap();
    format!("{} {}", told(response), rest.escape_ascii())
}

/// The head, and how its names are written when it goes on.
fn told(mut response: Response<()>) -> String {
    let head = format!("{} {:?} {:?}", response.status(), response.version(), response.headers());
    *response.status_mut() = StatusCode::OK;
    for name in ["content-length", "transfer-encoding", "connection"] {
        response.headers_mut().remove(name);
    }
    spelling::note(response.extensions_mut());
    let written = String::from_utf8_lossy(&until_close::head(&response)).into_owned();
    let names: Vec<&str> =
        written.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    format!("{head} {names:?}")
}

/// That it makes no difference whether hyper has the whole handshake or only what is not plain of it.
async fn assert_same(pieces: &[&[u8]]) -> String {
    let ours = seen(ask(handshake(spelling::own()), pieces).await).await;
    let by_hyper = seen(ask(handshake(Extensions::new()), pieces).await).await;
    if ours != by_hyper {
        // In a head without an end hyper finds a fault only if that has come with the first bytes: which bytes came together is
        // an accident, and ours come together.
        let at_once = seen(ask(handshake(Extensions::new()), &[&pieces.concat()]).await).await;
        let answer: Vec<_> = pieces.iter().map(|piece| piece.escape_ascii().to_string()).collect();
        assert_eq!(ours, at_once, "{answer:?}");
    }
    ours
}

#[test]
fn any_answer_is_read_as_hyper_reads_it_wherever_it_is_cut() {
    let with = |lines: &str| PLAIN.replace(ACCEPT, &format!("{ACCEPT}{lines}"));
    let first = |line: &str| PLAIN.replace("HTTP/1.1 101 Switching Protocols", line);
    let cases: Vec<(String, &str)> = vec![
        (PLAIN.to_owned(), "101 Switching Protocols HTTP/1.1"),
        (format!("{PLAIN}\u{1}frames"), "frames"),
        (with("X-Own: a\r\nX-Own: b\r\nX-Empty:\r\nX-Wide: \t \u{e9} \r\n"), "101"),
        (with("Content-Length: 5\r\n"), "101"),
        (with("Transfer-Encoding: chunked\r\n"), "101"),
        // In a spelling of its own.
        (
            PLAIN
                .to_lowercase()
                .replace("http", "HTTP")
                .replace("switching protocols", "Switching Protocols"),
            "101",
        ),
        (with("sec-websocket-PROTOCOL: a\r\n"), "sec-websocket-PROTOCOL"),
        (with("Sec-Websocket-Protocol: a\r\n"), "Sec-Websocket-Protocol"),
        (with("Sec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: b\r\n"), "101"),
        (with("DNT: 1\r\nX-A: 1\r\nx-a: 2\r\n"), "DNT"),
        // Other first lines.
        (first("HTTP/1.1 101 Yes"), "101"),
        (first("HTTP/1.1 101 "), "101"),
        (first("HTTP/1.1 101"), "101"),
        (first("HTTP/1.0 101 Switching Protocols"), "HTTP/1.0"),
        (first("HTTP/2.0 101 Switching Protocols"), "does not begin as an answer of HTTP/1.1"),
        (first("HTTP/1.1 abc OK"), "the status of its answer is none"),
        (first("HTTP/1.1 1010 OK"), "Broken"),
        (first("HTTP/1.1  101 Switching Protocols"), "Broken"),
        (format!("\r\n\r\n{PLAIN}"), "101"),
        (PLAIN.replace("\r\n", "\n"), "101"),
        (with("X-A: 1\nX-B: 2\n"), "101"),
        // Interim answers.
        (format!("HTTP/1.1 100 Continue\r\n\r\n{PLAIN}"), "101"),
        (format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{PLAIN}frames"), "frames"),
        (format!("{}{PLAIN}", "HTTP/1.1 102 Processing\r\n\r\n".repeat(5)), "101"),
        ("HTTP/1.1 100 Continue\r\n\r\n".to_owned(), "closed the connection"),
        // Refusals.
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".to_owned(), "b\"no\""),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno".to_owned(), "Err"),
        ("HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n".to_owned(), "b\"no\""),
        ("HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n".to_owned(), "Err"),
        ("HTTP/1.0 404 Not Found\r\nx-A: 1\r\n\r\nuntil close".to_owned(), "until close"),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), "204"),
        // What is no answer.
        (String::new(), "closed the connection"),
        (PLAIN[..PLAIN.len() - 2].to_owned(), "closed the connection"),
        ("SSH-2.0-OpenSSH_9.6\r\n".to_owned(), "does not begin as an answer of HTTP/1.1"),
        (with("no colon\r\n"), "a header of its answer is malformed"),
        (with("X-A: 1\r\n folded\r\n"), "a header of its answer is malformed"),
        (with("X A: 1\r\n"), "a header of its answer is malformed"),
        (with("X-A : 1\r\n"), "a header of its answer is malformed"),
        (with(": 1\r\n"), "a header of its answer is malformed"),
        (with("X-A: \0\r\n"), "a header of its answer is malformed"),
        (with("X-A: 1\rX-B: 2\r\n"), "a header of its answer is malformed"),
        (with("X-A: \u{7f}\r\n"), "a header of its answer is malformed"),
    ];
    runtime().block_on(async {
        for (answer, part) in &cases {
            for cut in 0..=answer.len() {
                let (head, rest) = answer.as_bytes().split_at(cut);
                let seen = assert_same(&[head, rest]).await;
                assert!(seen.contains(part), "{part:?} in {seen} of {answer:?}");
            }
        }
    });
}

#[test]
fn heads_that_are_long_or_have_many_fields_are_read_up_to_the_same_limits() {
    let head = |fields: &str| PLAIN.replace(ACCEPT, &format!("{ACCEPT}{fields}"));
    let long = |n: usize| head(&format!("X-A: {}\r\n", "b".repeat(n)));
    let fits = MAX_HEADER_BYTES - long(0).len();
    let too_large = "is longer than 4096 bytes (upstream.max_header_bytes)";
    let cases = [
        (long(fits), "101"),
        (long(fits + 1), too_large),
        (long(3 * MAX_HEADER_BYTES), too_large),
        (long(3 * MAX_HEADER_BYTES)[..2 * MAX_HEADER_BYTES].to_owned(), "Broken"),
        (head(&"A: b\r\n".repeat(29)), "101"),
        (head(&"A: b\r\n".repeat(30)), "101"),
        (head(&"A: b\r\n".repeat(509)), "101"),
        (head(&"A: b\r\n".repeat(510)), too_large),
        (format!("{PLAIN}{}", "f".repeat(3 * MAX_HEADER_BYTES)), "fff"),
    ];
    runtime().block_on(async {
        for (answer, part) in &cases {
            for cut in [0, 1, 100, MAX_HEADER_BYTES - 1, MAX_HEADER_BYTES, MAX_HEADER_BYTES + 1] {
                let (head, rest) = answer.as_bytes().split_at(cut.min(answer.len()));
                let seen = assert_same(&[head, rest]).await;
                assert!(seen.contains(part), "{part:?} in {seen:.600}");
            }
        }
    });
}

#[test]
fn a_plain_handshake_takes_the_plain_road_and_no_other_does() {
    runtime().block_on(async {
        for (answer, is_plain) in [
            (PLAIN.to_owned(), true),
            (PLAIN.replace("Upgrade: w", "upgrade: w"), false),
            (PLAIN.replace("Switching Protocols", "OK"), false),
        ] {
            let road = ask(handshake(spelling::own()), &[answer.as_bytes()]).await.unwrap();
            assert_eq!(matches!(road, Answer::Switching(..)), is_plain, "{answer}");
        }
        let road = ask(handshake(Extensions::new()), &[PLAIN.as_bytes()]).await.unwrap();
        assert!(matches!(road, Answer::OfHyper(..)), "a spelling that only hyper knows");
    });
}

#[test]
fn a_101_of_another_version_is_not_verified() {
    runtime().block_on(async {
        let answer = PLAIN.replace("HTTP/1.1", "HTTP/1.0");
        let Answer::OfHyper(response, _) =
            ask(handshake(spelling::own()), &[answer.as_bytes()]).await.unwrap()
        else {
            panic!("not plain");
        };
        assert_eq!(response.version(), Version::HTTP_10);
        let offer = Offer::of(handshake(Extensions::new()).headers());
        assert_eq!(offer.verify(&response), Err(BadUpgrade::Version));
    });
}

/// What hyper writes of a request.
async fn written(request: Request<Empty<Bytes>>) -> Vec<u8> {
    let (ours, mut theirs) = tokio::io::duplex(PIPE);
    let replay = Replay::unsent(Stream::Scripted(ours));
    tokio::select! {
        _ = exchange_by_hyper(&UPSTREAM.http, replay, request) => panic!("nothing was answered"),
        head = head_of(&mut theirs) => head,
    }
}

fn a_field() -> impl Strategy<Value = (&'static str, String)> {
    let names = [
        "Host",
        "Origin",
        "Cookie",
        "Upgrade",
        "Connection",
        "X-Forwarded-For",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Version",
        "WWW-Authenticate",
        "X--1a_B".trim_end_matches('B'),
        "Content-Length",
        "Transfer-Encoding",
        "dnt",
        "Sec-Websocket-Extensions",
    ];
    (prop::sample::select(names.to_vec()), "[ -~]{0,12}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_head_of_ours_is_what_hyper_would_write(
        fields in prop::collection::vec(a_field(), 0..10),
        added in prop::collection::vec(a_field(), 0..3),
        target in "/[a-z%]{0,5}(\\?[a-z=&]{0,5})?",
        is_own in any::<bool>(),
    ) {
        let lines: String = fields.iter().map(|(name, _)| format!("{name}: x\r\n")).collect();
        // What the proxy adds it spells itself, and none of it is odd.
        let added = added.into_iter().filter(|(name, _)| !spelling::is_odd(&HeaderName::from_bytes(name.as_bytes()).unwrap()));
        // hyper reads no head with a length that is none.
        let is_readable = !lines.contains("Content-Length") && !lines.contains("Transfer-Encoding");
        let extensions = if is_own || !is_readable { spelling::standard() } else { spelling::of_client(&lines) };
        let request = || {
            let mut request = Request::new(Empty::<Bytes>::new());
            *request.uri_mut() = target.parse().unwrap();
            *request.extensions_mut() = extensions.clone();
            for (name, value) in fields.iter().cloned().chain(added.clone()) {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                request.headers_mut().append(name, HeaderValue::from_str(value.trim()).unwrap());
            }
            request
        };
        if let Some(ours) = request::head(&request()) {
            let theirs = runtime().block_on(written(request()));
            prop_assert_eq!(ours.escape_ascii().to_string(), theirs.escape_ascii().to_string());
        }
    }

    /// Bytes that are changed, left out or put in.
    #[test]
    fn an_answer_that_is_damaged_is_read_as_hyper_reads_it(
        damages in prop::collection::vec((0..PLAIN.len(), 0..3_u8, prop::sample::select(b"\r\n: \t\0aA-1\xff".to_vec())), 1..4),
        cut in 0..PLAIN.len(),
    ) {
        let mut answer = PLAIN.as_bytes().to_vec();
        for (at, how, byte) in damages {
            let at = at.min(answer.len() - 1);
            match how {
                0 => answer[at] = byte,
                1 => drop(answer.remove(at)),
                _ => answer.insert(at, byte),
            }
        }
        let (head, rest) = answer.split_at(cut.min(answer.len()));
        runtime().block_on(assert_same(&[head, rest]));
    }
}
