//! The admin port over real sockets, asked in bytes: what a kubelet, Prometheus, curl or a hostile page
//! would see.

mod access;
mod feeds;
mod port;
pub(super) mod process;

use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{IntGauge, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::process::{Process, UpstreamCheck};
use super::routes::{Class, ROUTES};
use super::*;
use crate::config::Secret;
use crate::connections::lifecycle::State;

/// Generous: nothing here takes that long unless it is broken.
const SOON: Duration = Duration::from_secs(20);

const MAX_PUBLISH: usize = 2000;
const CHANNELS: usize = 250;

struct Port {
    address: SocketAddr,
    life: Lifecycle,
    published: Arc<Mutex<Vec<Publication>>>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(": ")?;
            own.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn error(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        body["error"].as_str().unwrap_or_else(|| panic!("no error in {body}")).to_owned()
    }
}

impl Port {
    async fn open(probes_only: bool, token: Option<&str>, upstream: Option<UpstreamCheck>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let registry = Registry::new();
        let gauge = IntGauge::new("outrigger_clients", "clients").unwrap();
        gauge.set(7);
        registry.register(Box::new(gauge)).unwrap();
        let life = Lifecycle::new();
        let published: Arc<Mutex<Vec<Publication>>> = Arc::default();
        let process = Process {
            clients: 7,
            registry,
            upstream,
            publish: {
                let published = Arc::clone(&published);
                Box::new(move |publication| {
                    let answer = answer_to(&publication);
                    published.lock().push(publication);
                    Box::pin(async { answer })
                })
            },
            routes: vec![("feed".into(), Mode::Broadcast), ("tunnel".into(), Mode::Tunnel)],
            channels: CHANNELS,
            subscribers: 3,
            ..Process::bare(life.clone())
        };
        let access = if probes_only {
            Access::Probes
        } else {
            Access::All(Guard::new(address, &[], token.map(|token| Secret::new(token.into()))))
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, access, Arc::new(process.admin()), stopped));
        Self { address, life, published, stop: Some(stop), served }
    }

    async fn connect(&self) -> TcpStream {
        timeout(SOON, TcpStream::connect(self.address)).await.unwrap().unwrap()
    }

    async fn send(&self, request: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// `line` is method and target; headers end in CR LF each.
    async fn ask_with(&self, line: &str, headers: &str) -> Answer {
        let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        read_answer(self.send(&request).await).await
    }

    async fn ask(&self, line: &str) -> Answer {
        self.ask_with(line, "").await
    }

    async fn publish(&self, body: &str) -> Answer {
        let request = format!(
            "POST /api/admin/broadcast HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        read_answer(self.send(&request).await).await
    }

    fn published(&self) -> Vec<Publication> {
        self.published.lock().clone()
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        timeout(SOON, self.served).await.expect("serve ends after stop").unwrap();
    }
}

/// What the process behind the port says.
fn answer_to(publication: &Publication) -> Result<Published, PublishError> {
    match &*publication.route {
        "feed" => Ok(Published { recipients: 3, sequence: Some(7) }),
        "tunnel" if publication.channel.is_some() => Err(PublishError::NoChannels { route: "tunnel".into() }),
        "tunnel" => Ok(Published { recipients: 2, sequence: None }),
        "short" => Err(PublishError::TooLong { setting: "policy.max_message", max: 9 }),
        "full" => Err(PublishError::NoMemory),
        other => Err(PublishError::NoRoute {
            name: other.into(),
            known: (0..1000).map(|n| format!("route-{n}")).collect(),
        }),
    }
}

fn channel(n: usize) -> Channel {
    Channel {
        route: "feed".into(),
        channel: format!("{n:06}"),
        clients: 2,
        connected: n.is_multiple_of(2),
        epoch: "0000000000000005".into(),
        sequence: 6,
    }
}

async fn read_answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("an answer, and its end").unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head["HTTP/1.1 ".len()..][..3].parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

#[test]
fn the_table_in_the_documentation_is_the_table_of_routes() {
    let documented: Vec<_> = include_str!("mod.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "))
        .filter(|row| !row.starts_with("method") && !row.starts_with("---"))
        .collect();
    let built: Vec<_> = ROUTES
        .iter()
        .map(|route| {
            let class = match route.class {
                Class::Probe => "probe",
                Class::Operator => "operator",
            };
            format!("{} | `{}` | {class} | ", route.method, route.path)
        })
        .collect();
    assert_eq!(documented.len(), built.len(), "{documented:?}");
    for (documented, built) in documented.iter().zip(&built) {
        let about =
            documented.strip_prefix(built.as_str()).unwrap_or_else(|| panic!("{documented}: not {built}"));
        assert!(about.len() > 10, "{documented}: says nothing about it");
    }
}

#[test]
fn no_path_has_methods_of_two_classes() {
    for route in ROUTES {
        for other in ROUTES.iter().filter(|other| other.path == route.path) {
            assert_eq!(route.class, other.class, "{}", route.path);
        }
    }
}

#[tokio::test]
async fn health_is_told_at_every_station_of_life_and_readiness_at_one() {
    let port = Port::open(false, None, None).await;
    let at = async |status: u16, words: &str| {
        let healthy = port.ask("GET /healthz").await;
        assert_eq!((healthy.status, healthy.body.as_str()), (200, "ok\n"));
        let ready = port.ask("GET /readyz").await;
        assert_eq!(ready.status, status, "{}", ready.body);
        let said = if status == 200 { ready.body } else { ready.error() };
        assert!(said.starts_with(words), "{said}");
    };
    at(503, "starting").await;
    port.life.ready();
    at(200, "ready\n").await;
    port.life.request_drain();
    at(503, "draining").await;
    port.life.drained();
    at(503, "drained").await;
    port.stop().await;
}

#[tokio::test]
async fn readiness_asks_the_upstream_only_where_configured_and_repeats_its_reason() {
    let refusing: UpstreamCheck = Box::new(|| Box::pin(async { Err("connection refused".to_owned()) }));
    let silent: UpstreamCheck = Box::new(|| Box::pin(std::future::pending()));
    let fine: UpstreamCheck = Box::new(|| Box::pin(async { Ok(()) }));
    for (check, status, words) in [
        (refusing, 503, "connection refused"),
        (silent, 503, "no answer within 800 ms"),
        (fine, 200, "ready"),
    ] {
        let port = Port::open(true, None, Some(check)).await;
        assert!(port.ask("GET /readyz").await.error().starts_with("starting"), "own state comes first");
        port.life.ready();
        let answer = port.ask("GET /readyz").await;
        assert_eq!(answer.status, status);
        assert!(answer.body.contains(words), "{}", answer.body);
    }
}

#[tokio::test]
async fn metrics_come_in_prometheus_text_format() {
    let port = Port::open(false, None, None).await;
    let answer = port.ask("GET /metrics?ignored=1").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(answer.body.contains("\noutrigger_clients 7\n"), "{}", answer.body);
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let port = Port::open(false, None, None).await;
    for route in ROUTES.iter().filter(|route| route.method == "GET") {
        let got = port.ask(&format!("GET {}", route.path)).await;
        let head = port.ask(&format!("HEAD {}", route.path)).await;
        assert_eq!((head.status, head.body.as_str()), (got.status, ""), "{}", route.path);
        assert_eq!(
            head.header("content-length"),
            Some(got.body.len().to_string().as_str()),
            "{}",
            route.path
        );
    }
}

#[tokio::test]
async fn a_wrong_method_and_a_wrong_path_are_told_what_there_is() {
    let port = Port::open(false, None, None).await;
    for (line, allow) in [
        ("POST /healthz", "GET, HEAD"),
        ("DELETE /api/admin/drain", "GET, HEAD, POST"),
        ("OPTIONS /metrics", "GET, HEAD"),
    ] {
        let answer = port.ask(line).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{line}");
        assert!(answer.error().contains(allow), "{line}");
    }
    for path in ["/", "/healthz/", "/api/admin", "//healthz", "/HEALTHZ"] {
        let answer = port.ask(&format!("GET {path}")).await;
        assert_eq!(answer.status, 404, "{path}");
        for route in ROUTES {
            assert!(answer.error().contains(&format!("{} {}", route.method, route.path)), "{path}");
        }
    }
    assert_eq!(port.life.state(), State::Starting);
}

#[tokio::test]
async fn every_answer_forbids_caching() {
    let port = Port::open(false, Some("t"), None).await;
    for line in
        ["GET /healthz", "GET /readyz", "GET /metrics", "GET /no", "PUT /metrics", "GET /api/admin/drain"]
    {
        assert_eq!(port.ask(line).await.header("cache-control"), Some("no-store"), "{line}");
    }
}

#[tokio::test]
async fn a_drain_is_started_once_and_its_state_shown() {
    let port = Port::open(false, None, None).await;
    port.life.ready();
    assert_eq!(port.ask("GET /api/admin/drain").await.body, "{\"clients\":7,\"state\":\"ready\"}\n");
    for _ in 0..2 {
        let answer = port.ask("POST /api/admin/drain").await;
        assert_eq!((answer.status, answer.body.as_str()), (202, "{\"clients\":7,\"state\":\"draining\"}\n"));
        assert!(port.life.is_draining());
    }
    port.life.drained();
    let answer = port.ask("POST /api/admin/drain").await;
    assert_eq!((answer.status, answer.body.as_str()), (202, "{\"clients\":7,\"state\":\"drained\"}\n"));
}

#[tokio::test]
async fn who_waits_for_a_drain_is_answered_when_it_is_over() {
    let port = Port::open(false, None, None).await;
    port.life.ready();
    let request = "POST /api/admin/drain?wait=true HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut waiting = port.send(request).await;
    timeout(SOON, port.life.until(State::Draining)).await.expect("the drain begins at once");
    // The port answers others meanwhile, and nothing has come for who waits.
    assert_eq!(port.ask("GET /healthz").await.status, 200);
    let early = waiting.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    port.life.drained();
    // As in the process: the port is stopped once everybody has gone, and the answer still gets out.
    port.stop().await;
    waiting.flush().await.unwrap();
    let answer = read_answer(waiting).await;
    assert_eq!((answer.status, answer.body.contains("drained")), (202, true));
}

#[tokio::test]
async fn a_mistyped_drain_starts_nothing() {
    let port = Port::open(false, None, None).await;
    for query in ["?wait=yes", "?wait", "?wiat=true", "?wait=true&x=1"] {
        let answer = port.ask(&format!("POST /api/admin/drain{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.error().contains("wait=true"), "{query}");
    }
    assert_eq!(port.life.state(), State::Starting);
    assert_eq!(port.ask("POST /api/admin/drain?wait=false").await.status, 202);
}
