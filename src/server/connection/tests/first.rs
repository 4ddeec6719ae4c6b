//! The first request of a connection, read whole and in two pieces: hyper reads what comes in pieces, and nobody can tell.

use parking_lot::Mutex;

use http::StatusCode;
use http_body_util::BodyExt;
use tokio::io::DuplexStream;
use tokio::time::sleep;

use super::*;
use crate::net::head::plain;
use crate::net::http::{set_close, switching_protocols};

/// Room for all that is said in either direction.
const PIPE: usize = 1 << 16;

/// What came of what a client said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Came {
    /// The requests, as they were served.
    requests: Vec<String>,
    /// What the client got, without dates.
    answers: String,
    /// What whoever took the socket read of it.
    taken: Option<String>,
    counts: (i64, i64, i64),
}

/// Answers by the path: `/ws` with a 101, `/late` after a while, `/waits` after a wait, `/refused` with an end of the
/// connection, and all else with its path.
async fn answer(
    connection: &Arc<HttpConnection>,
    path: &str,
    taken: oneshot::Sender<Transport>,
) -> Response<AnswerBody> {
    let own = |body: &str| AnswerBody::own(Full::from(body.to_owned()), connection);
    match path {
        "/late" => sleep(Duration::from_millis(50)).await,
        "/waits" => connection.wait(sleep(Duration::from_millis(50))).await,
        "/ws" => {}
        "/refused" => {
            let mut refused = Response::new(own("no"));
            *refused.status_mut() = StatusCode::FORBIDDEN;
            set_close(refused.headers_mut());
            return refused;
        }
        path => return Response::new(own(path)),
    }
    connection.set_upgrade(PendingUpgrade::Taken(taken));
    switching_protocols(HeaderValue::from_static("x")).map(|()| own(""))
}

/// What comes of these pieces, each of which is read before the next one is said.
async fn came_of(pieces: &[&[u8]]) -> Came {
    let config = Config::from_yaml("upstream: { url: http://127.0.0.1:1 }").unwrap();
    let state = State::new(config, Metrics::new("outrigger").unwrap(), Workers::default()).unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let (take, mut takes) = mpsc::channel::<oneshot::Receiver<Transport>>(16);
    let seen = Arc::clone(&requests);
    let serve =
        move |state: Arc<State>, connection: Arc<HttpConnection>, _, request: Request<_>| -> Serving {
            let (head, body) = request.into_parts();
            let body: ClientBody = body;
            let is_bodiless = hyper::body::Body::is_end_stream(&body);
            let path = head.uri.path().to_owned();
            let seen = Arc::clone(&seen);
            let (said, taken) = oneshot::channel();
            take.try_send(taken).unwrap();
            Box::pin(async move {
                connection.on_request();
                let in_flight = GaugeGuard::new(&state.metrics.server.http_in_flight);
                let body = body.collect().await.map(|body| body.to_bytes().escape_ascii().to_string());
                let http::request::Parts { method, uri, version, headers, .. } = head;
                let told = format!("{method} {uri} {version:?} {headers:?} {is_bodiless} {:?}", body.ok());
                seen.lock().push(told);
                let mut answer = answer(&connection, &path, said).await;
                answer.body_mut().hold_in_flight(in_flight);
                Ok(answer)
            })
        };
    let (ours, client) = tokio::io::duplex(PIPE);
    let permit = HandshakePermit::enter(&state.metrics.server.handshaking, 10_000, Instant::now()).unwrap();
    let serving = serve_with(
        Arc::clone(&state),
        Stream::Scripted(ours),
        Peer::default(),
        permit,
        (serve.clone(), serve),
    );
    let task = tokio::spawn(serving);
    let taking = tokio::spawn(async move {
        while let Some(taken) = takes.recv().await {
            let Ok(Transport { mut stream, read_ahead }) = taken.await else { continue };
            let mut read = read_ahead.to_vec();
            stream.read_to_end(&mut read).await.unwrap();
            return Some(read.escape_ascii().to_string());
        }
        None
    });
    let (mut reads, mut says): (_, tokio::io::WriteHalf<DuplexStream>) = tokio::io::split(client);
    let reading = tokio::spawn(async move {
        let mut answers = Vec::new();
        reads.read_to_end(&mut answers).await.unwrap();
        answers
    });
    for piece in pieces {
        // It may have been refused already.
        let _ = says.write_all(piece).await;
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_secs(1)).await;
    let counts = {
        let server = &state.metrics.server;
        (server.handshaking.get(), server.http_connections.get(), server.http_in_flight.get())
    };
    let _ = says.shutdown().await;
    task.await.unwrap();
    drop(says);
    let answers = reading.await.unwrap();
    let answers = String::from_utf8_lossy(&answers);
    let answers = answers.split_inclusive("\r\n").filter(|line| !line.starts_with("Date: ")).collect();
    let taken = taking.await.unwrap();
    let requests = std::mem::take(&mut *requests.lock());
    Came { requests, answers, taken, counts }
}

const HEAD: &str = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// What is said, and whether the first road takes it when it comes whole.
fn table() -> Vec<(String, bool)> {
    let plus = |line: &str| HEAD.replace("Host: x\r\n", &format!("Host: x\r\n{line}\r\n"));
    vec![
        (HEAD.to_owned(), true),
        (HEAD.replace("/ws", "/late"), true),
        (HEAD.replace("/ws", "/waits"), true),
        (HEAD.replace("/ws", "/refused"), true),
        (HEAD.replace("/ws", "/kept?a"), true),
        (plus("Cookie: a=b\r\nCookie: c=\u{e9}"), true),
        (format!("{HEAD}\u{1}\u{2}frames"), false),
        (format!("{}{}", HEAD.replace("/ws", "/kept"), HEAD), false),
        (format!("{}{}", HEAD.replace("/ws", "/refused"), HEAD), false),
        (format!("{}{}", HEAD.replace("/ws", "/late"), "\u{1}\u{2}frames"), false),
        (HEAD.to_lowercase().replace("http/1.1", "HTTP/1.1").replace("get", "GET"), false),
        (HEAD.replace("1.1", "1.0"), false),
        (HEAD.replace("/ws", "http://y/ws"), false),
        (HEAD.replace("\r\n", "\n"), false),
        (HEAD.replace("GET", "POST"), false),
        (plus("Content-Length: 2").replace("/ws", "/kept") + "ab", false),
        (plus("Transfer-Encoding: chunked").replace("/ws", "/kept") + "1\r\na\r\n0\r\n\r\n", false),
        (plus("Expect: 100-continue"), false),
        (plus("Connection: close").replace("/ws", "/kept"), false),
        (plus("X-A: x\r\n folded"), false),
        (plus("X-A\u{0}: x"), false),
        (plus("X A: x"), false),
        (plus("Sec-WebSocket-Key: 2"), false),
        (HEAD.replace("HTTP/1.1", "HTTP/1.2"), false),
        (format!("\r\n{HEAD}"), false),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), false),
        ("\u{16}\u{3}\u{1}".to_owned(), false),
        (String::new(), false),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_first_request_means_the_same_whole_and_cut_anywhere() {
    for (said, is_plain) in table() {
        let said = said.as_bytes();
        assert_eq!(
            plain::request(&Bytes::copy_from_slice(said), 8192).is_some(),
            is_plain,
            "{}",
            said.escape_ascii()
        );
        let whole = came_of(&[said]).await;
        if is_plain {
            assert_eq!(whole.requests.len(), 1, "{whole:?}");
        }
        for cut in 1..said.len() {
            let (one, other) = said.split_at(cut);
            assert_eq!(came_of(&[one, other]).await, whole, "{} cut at {cut}", said.escape_ascii());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_first_request_is_served_as_after_any_other() {
    let first = HEAD.replace("/ws", "/kept");
    let second = request("/second");
    let came = came_of(&[first.as_bytes(), second.as_bytes(), HEAD.as_bytes(), b"frames"]).await;
    assert_eq!(came.requests.len(), 3, "{came:?}");
    assert_eq!(came.taken.as_deref(), Some("frames"));
    assert!(came.answers.contains("/kept") && came.answers.contains("/second"), "{came:?}");
    // What comes while the first one is being answered, of which only a part is read.
    let late = HEAD.replace("/ws", "/late");
    let early = "early".repeat(1000);
    let came = came_of(&[late.as_bytes(), early.as_bytes()]).await;
    assert_eq!(came.taken, Some(early));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_while_its_first_request_is_answered_is_noticed_at_once() {
    for path in ["/late", "/waits"] {
        let config = Config::from_yaml("upstream: { url: http://127.0.0.1:1 }").unwrap();
        let state = State::new(config, Metrics::new("outrigger").unwrap(), Workers::default()).unwrap();
        let (said, mut heard) = mpsc::channel::<()>(1);
        let serve = move |_: Arc<State>, connection: Arc<HttpConnection>, _, _| -> Serving {
            let said = said.clone();
            Box::pin(async move {
                connection.on_request();
                let _said = said;
                let (taken, _socket) = oneshot::channel();
                connection.wait(sleep(Duration::from_secs(3600))).await;
                Ok(answer(&connection, path, taken).await)
            })
        };
        let (ours, mut client) = tokio::io::duplex(PIPE);
        let permit =
            HandshakePermit::enter(&state.metrics.server.handshaking, 10_000, Instant::now()).unwrap();
        let serving = serve_with(
            Arc::clone(&state),
            Stream::Scripted(ours),
            Peer::default(),
            permit,
            (serve.clone(), serve),
        );
        let task = tokio::spawn(serving);
        client.write_all(HEAD.replace("/ws", path).as_bytes()).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        let since = Instant::now();
        drop(client);
        task.await.unwrap();
        assert!(since.elapsed() < Duration::from_secs(60), "{path}");
        assert!(heard.recv().await.is_none(), "nobody answers it any more");
    }
}
