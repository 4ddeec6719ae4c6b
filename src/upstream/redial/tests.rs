use std::task::Waker;

use http::{Response, Uri};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::config::{Config, Credentials, Forwarded, HostHeader, KeyPart};
use crate::net::Peer;
use crate::telemetry::Metrics;
use crate::upstream::headers::{ForwardingConfig, Requester};
use crate::upstream::opening::ClientHandshake;

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

/// A redialer whose server does one of these with each connection in turn, and what its observer was told.
async fn redialer(plays: Vec<Play>, redial: &str) -> (Redialer<Seen>, Arc<Mutex<Vec<String>>>) {
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
    let yaml = format!("upstream: {{url: 'http://{address}'}}\npolicy: {{redial: {redial}}}");
    let config = Config::from_yaml(&yaml).unwrap();
    let route = &config.routes[0];
    let metrics = Metrics::new("outrigger").unwrap();
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
        upstream: Upstream::new(Arc::clone(&route.upstream), metrics).unwrap(),
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
