use std::net::SocketAddr;
use std::task::Waker;

use http::{Response, Uri};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server::{Request as Asked, Response as Answered};

use super::*;
use crate::config::{Config, Credentials, Forwarded, HostHeader, KeyPart};
use crate::net::Peer;
use crate::telemetry::Metrics;
use crate::upstream::headers::{ForwardingConfig, Requester};
use crate::upstream::opening::ClientHandshake;
use crate::upstream::revival::Blame;

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn only_a_server_that_knows_who_asks_ends_the_dials() {
    let again = |not_before| Next::Dial { not_before };
    let second = Duration::from_secs(1);
    assert_eq!(after::<()>(&DialFailure::BreakerOpen(second)), again(second));
    assert_eq!(after::<()>(&DialFailure::Failed(UpstreamError::Timeout(second))), again(Duration::ZERO));
    assert_eq!(after::<()>(&DialFailure::OtherProtocol), again(Duration::ZERO));
    for status in 200..600 {
        let status = StatusCode::from_u16(status).unwrap();
        let declined = DialFailure::Declined(Response::builder().status(status).body(()).unwrap());
        let expected = if [401, 403].contains(&status.as_u16()) { Next::Stop } else { again(Duration::ZERO) };
        assert_eq!(after(&declined), expected, "{status}");
    }
}

/// What a server does with one connection.
#[derive(Clone, Copy)]
enum Play {
    Accept,
    HangUp,
    Answer(u16),
    /// Accepts with these headers beside its own.
    AcceptWith(&'static [(&'static str, &'static str)]),
    /// Never answers.
    Hang,
}

#[derive(Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Observer for Seen {
    fn is_in_use(&self) -> bool {
        false
    }

    fn on_dialed(&self, dialed: &Dialed<'_>) {
        let what = match &dialed.result {
            Ok(()) => "up".to_owned(),
            Err(DialFailure::BreakerOpen(_)) => "breaker".to_owned(),
            Err(DialFailure::Failed(_)) => "failed".to_owned(),
            Err(DialFailure::Declined(response)) => response.status().as_u16().to_string(),
            Err(DialFailure::OtherProtocol) => "protocol".to_owned(),
        };
        let first = if dialed.is_first { "first " } else { "" };
        self.0.lock().push(format!("{first}{what}"));
    }
}

/// A server that does one of these with each connection in turn.
async fn serve(plays: Vec<Play>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        for play in plays {
            let (mut stream, _) = listener.accept().await.unwrap();
            match play {
                Play::Accept => {
                    let socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                    open.push(socket.into_inner());
                }
                Play::AcceptWith(more) => {
                    #[expect(clippy::result_large_err, reason = "the library's callback has it so")]
                    let with = |_: &Asked, mut answer: Answered| {
                        for (name, value) in more {
                            answer.headers_mut().append(*name, HeaderValue::from_static(value));
                        }
                        Ok(answer)
                    };
                    let socket = tokio_tungstenite::accept_hdr_async(stream, with).await.unwrap();
                    open.push(socket.into_inner());
                }
                Play::HangUp => drop(stream),
                Play::Hang => open.push(stream),
                Play::Answer(status) => {
                    let _ = stream.read(&mut [0; 4096]).await;
                    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    open.push(stream);
                }
            }
        }
        std::future::pending::<()>().await;
    });
    address
}

/// What is configured for a server at `address`.
fn configured(address: SocketAddr, upstream: &str, redial: &str) -> (Arc<Upstream>, Config) {
    let yaml = format!("upstream: {{url: 'http://{address}'{upstream}}}\npolicy: {{redial: {redial}}}");
    let config = Config::from_yaml(&yaml).unwrap();
    let metrics = Metrics::new("outrigger").unwrap();
    (Upstream::new(Arc::clone(&config.routes[0].upstream), metrics).unwrap(), config)
}

/// A redialer whose server does one of these with each connection in turn, and what its observer was told.
async fn redialer(plays: Vec<Play>, redial: &str) -> (Redialer<Seen>, Arc<Mutex<Vec<String>>>) {
    let (upstream, config) = configured(serve(plays).await, "", redial);
    let route = &config.routes[0];
    let (uri, headers, peer) = (Uri::from_static("/x"), HeaderMap::new(), Peer::default());
    let requester = Requester { peer: &peer, forwarding: None, client: None, user: None, attested: None };
    let forwarding = ForwardingConfig {
        forwarded: Forwarded::Off,
        host: HostHeader::Rewrite,
        target: &route.upstream.target,
        strip_prefix: None,
    };
    let client = ClientHandshake { target: &uri, headers: &headers, requester };
    let target = LinkTarget {
        upstream,
        breaker: None,
        opening: Opening::shared(&[KeyPart::Path], Credentials::Strip, client, forwarding),
    };
    let seen = Seen::default();
    let reports = Arc::clone(&seen.0);
    (Redialer::new(target, route.policy.redial, seen), reports)
}

async fn redial(redialer: &mut Redialer<Seen>) -> Redialed {
    let redial = std::future::poll_fn(|cx| redialer.poll_redial(cx));
    timeout(DEADLINE, redial).await.expect("it ends")
}

#[tokio::test]
async fn a_lost_link_is_dialled_until_the_server_is_back() {
    let plays = vec![Play::Accept, Play::HangUp, Play::Answer(500), Play::Accept];
    let (mut redialer, reports) = redialer(plays, "{base: 1ms, cap: 2ms}").await;
    let (_link, protocol) = redialer.open(Caller::UNKNOWN).await.unwrap();
    assert_eq!(protocol, None);
    assert!(matches!(redial(&mut redialer).await, Redialed::Up(_)));
    assert_eq!(*reports.lock(), ["first up", "failed", "500", "up"]);
}

#[tokio::test]
async fn a_server_that_does_not_know_us_any_more_is_not_asked_again() {
    for status in [401, 403] {
        let (mut redialer, reports) =
            redialer(vec![Play::Accept, Play::Answer(status)], "{base: 1ms, cap: 2ms}").await;
        let _link = redialer.open(Caller::UNKNOWN).await.unwrap();
        let ended = redial(&mut redialer).await;
        assert!(matches!(ended, Redialed::Declined), "{ended:?}");
        assert_eq!(*reports.lock(), ["first up".to_owned(), status.to_string()]);
    }
}

#[tokio::test]
async fn the_first_dial_is_one_dial() {
    let (mut redialer, reports) = redialer(vec![Play::Answer(404)], "{base: 1ms, cap: 2ms}").await;
    let failure = redialer.open(Caller::UNKNOWN).await.unwrap_err();
    assert!(matches!(failure, DialFailure::Declined(response) if response.status() == 404));
    assert_eq!(*reports.lock(), ["first 404"]);
}

#[tokio::test]
async fn a_server_that_hangs_keeps_nobody_beyond_the_date_to_give_up() {
    let (mut redialer, reports) =
        redialer(vec![Play::Accept, Play::Hang], "{base: 1ms, cap: 2ms, give_up: 50ms}").await;
    let _link = redialer.open(Caller::UNKNOWN).await.unwrap();
    assert!(matches!(redial(&mut redialer).await, Redialed::GivenUp));
    assert_eq!(*reports.lock(), ["first up"]);
}

#[tokio::test]
async fn a_cancelled_attempt_is_dropped_and_another_one_can_follow() {
    let (mut redialer, reports) = redialer(vec![Play::Accept, Play::Accept], "{base: 1ms, cap: 2ms}").await;
    let _link = redialer.open(Caller::UNKNOWN).await.unwrap();
    assert!(redialer.poll_redial(&mut Context::from_waker(Waker::noop())).is_pending());
    redialer.cancel();
    assert!(redialer.attempt.is_none());
    assert!(matches!(redial(&mut redialer).await, Redialed::Up(_)));
    assert_eq!(*reports.lock(), ["first up", "up"]);
}

/// The head of a client that offers these subprotocols.
fn alone(offered: &'static str) -> Opening {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "a.example"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("cookie", "sid=1"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !offered.is_empty() {
        headers.insert("sec-websocket-protocol", HeaderValue::from_static(offered));
    }
    Opening::of_one_client(&Uri::from_static("/x"), headers)
}

/// One dial of a link that had `protocol`.
async fn once(
    play: Play,
    offered: &'static str,
    protocol: Option<&'static str>,
) -> Result<Relinked, DialFailure> {
    let (upstream, _) = configured(serve(vec![play]).await, "", "{}");
    let protocol = protocol.map(HeaderValue::from_static);
    let (request, _) = alone(offered).request(protocol.as_ref());
    // A session keeps it beside other futures.
    let dial: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(redial_once(&upstream, request, protocol));
    timeout(DEADLINE, dial).await.expect("it ends")
}

#[tokio::test]
async fn a_link_that_is_back_comes_with_the_headers_of_its_answer() {
    let set =
        &[("set-cookie", "sid=2; HttpOnly"), ("set-cookie", "lang=de"), ("sec-websocket-protocol", "b")];
    let relinked = once(Play::AcceptWith(set), "a, b", Some("b")).await.unwrap();
    let shown = format!("{relinked:?}");
    assert!(!shown.contains("sid"), "{shown}");
    let mut opening = alone("a, b");
    assert_eq!(opening.set_cookies(&relinked.headers), 0);
    assert_eq!(opening.request(None).0.headers()[header::COOKIE], "sid=2; lang=de");
}

#[tokio::test]
async fn a_link_that_is_back_has_the_subprotocol_that_it_had() {
    const A: Play = Play::AcceptWith(&[("sec-websocket-protocol", "a")]);
    const B: Play = Play::AcceptWith(&[("sec-websocket-protocol", "b")]);
    for (case, play, offered, before, is_same) in [
        ("none, as before", Play::Accept, "", None, true),
        ("none, as before, though some are offered", Play::Accept, "a, b", None, true),
        ("the same", A, "a, b", Some("a"), true),
        ("another one that the client has offered", B, "a, b", Some("a"), false),
        ("another one that nobody has offered", B, "a", Some("a"), false),
        ("none any more", Play::Accept, "a, b", Some("a"), false),
        ("one where there was none", A, "a, b", None, false),
        ("one where there was none, which nobody has offered", A, "", None, false),
    ] {
        match once(play, offered, before).await {
            Ok(_) => assert!(is_same, "{case}"),
            Err(DialFailure::OtherProtocol) => assert!(!is_same, "{case}"),
            Err(failure) => panic!("{case}: {failure:?}"),
        }
    }
}

#[tokio::test]
async fn who_is_to_blame_for_a_dial_that_fails_is_told() {
    use Blame::{Server, Session};
    for (play, blame) in [
        (Play::HangUp, Server),
        (Play::Answer(500), Server),
        (Play::Answer(503), Server),
        (Play::Answer(200), Session),
        (Play::Answer(302), Session),
        (Play::Answer(401), Session),
        (Play::Answer(404), Session),
        (Play::Answer(429), Session),
        (Play::AcceptWith(&[("sec-websocket-extensions", "permessage-deflate")]), Server),
        (Play::AcceptWith(&[("sec-websocket-protocol", "x")]), Session),
    ] {
        let failure = once(play, "", None).await.unwrap_err();
        assert_eq!(failure.blame(), blame, "{failure:?}");
    }
    // Nobody listens.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (upstream, _) = configured(address, "", "{}");
    let failure = redial_once(&upstream, alone("").request(None).0, None).await.unwrap_err();
    assert!(matches!(failure, DialFailure::Failed(UpstreamError::Dial(_))), "{failure:?}");
    assert_eq!(failure.blame(), Server);
    // It accepts, and says nothing.
    let (upstream, _) = configured(serve(vec![Play::Hang]).await, ", handshake_timeout: 10ms", "{}");
    let failure = redial_once(&upstream, alone("").request(None).0, None).await.unwrap_err();
    assert!(matches!(failure, DialFailure::Failed(UpstreamError::Timeout(_))), "{failure:?}");
    assert_eq!(failure.blame(), Server);
}

#[tokio::test]
async fn a_dial_that_is_dropped_hangs_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (upstream, _) = configured(listener.local_addr().unwrap(), "", "{}");
    let (request, id) = alone("").request(None);
    let dial = tokio::spawn(async move { redial_once(&upstream, request, None).await.map(drop) });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut some = [0; 1024];
        let len = timeout(DEADLINE, stream.read(&mut some)).await.unwrap().unwrap();
        assert_ne!(len, 0, "it asks first");
        head.extend_from_slice(&some[..len]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.contains(&format!("x-request-id: {id}\r\n")), "{head}");
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
    dial.abort();
    let ended = timeout(DEADLINE, stream.read(&mut [0; 16])).await.expect("it hangs up");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}
