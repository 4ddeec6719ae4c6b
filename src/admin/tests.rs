//! The admin port over real sockets, asked in bytes: what a kubelet, Prometheus, curl or a hostile page
//! would see.

mod feeds;

use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{IntGauge, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::routes::{Class, ROUTES};
use super::*;
use crate::config::Secret;
use crate::telemetry::lifecycle::State;

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
    async fn open(probes_only: bool, token: Option<&str>, upstream_ready: Option<UpstreamCheck>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let registry = Registry::new();
        let gauge = IntGauge::new("outrigger_clients", "clients").unwrap();
        gauge.set(7);
        registry.register(Box::new(gauge)).unwrap();
        let life = Lifecycle::new();
        let published: Arc<Mutex<Vec<Publication>>> = Arc::default();
        let admin = Admin {
            lifecycle: life.clone(),
            gather: Arc::new(move || registry.gather()),
            clients: Arc::new(|| 7),
            upstream_ready,
            publish: {
                let published = Arc::clone(&published);
                Arc::new(move |publication| {
                    let answer = answer_to(&publication);
                    published.lock().push(publication);
                    Box::pin(async { answer })
                })
            },
            max_publish: MAX_PUBLISH,
            routes: Arc::new(|| vec![("feed".into(), Mode::Broadcast), ("tunnel".into(), Mode::Tunnel)]),
            channels: Arc::new(|| (0..CHANNELS).rev().map(channel).collect()),
            subscribers: Arc::new(|| (0..3).map(feeds::subscriber).collect()),
        };
        let access = if probes_only {
            Access::Probes
        } else {
            Access::All(Guard::new(address, &[], token.map(|token| Secret::new(token.into()))))
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, access, Arc::new(admin), stopped));
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

/// A port of a process without clients.
pub(super) fn bare(lifecycle: Lifecycle) -> Admin {
    Admin {
        lifecycle,
        gather: Arc::new(Vec::new),
        clients: Arc::new(|| 0),
        upstream_ready: None,
        publish: Arc::new(|_| Box::pin(async { Ok(Published::default()) })),
        max_publish: MAX_PUBLISH,
        routes: Arc::new(Vec::new),
        channels: Arc::new(Vec::new),
        subscribers: Arc::new(Vec::new),
    }
}

/// What the process behind the port says.
fn answer_to(publication: &Publication) -> Result<Published, PublishError> {
    match &*publication.route {
        "feed" => Ok(Published { recipients: 3, sequence: Some(7) }),
        "tunnel" if publication.channel.is_some() => Err(PublishError::NoChannels { route: "tunnel".into() }),
        "tunnel" => Ok(Published { recipients: 2, sequence: None }),
        "short" => Err(PublishError::TooLong { setting: "policy.max_message", most: 9 }),
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
    let refusing: UpstreamCheck = Arc::new(|| Box::pin(async { Err("connection refused".to_owned()) }));
    let silent: UpstreamCheck = Arc::new(|| Box::pin(std::future::pending()));
    let fine: UpstreamCheck = Arc::new(|| Box::pin(async { Ok(()) }));
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

#[tokio::test]
async fn operator_routes_want_the_token_and_probes_do_not() {
    let port = Port::open(false, Some("s3cret"), None).await;
    for route in ROUTES {
        let line = format!("{} {}", route.method, route.path);
        let answer = port.ask(&line).await;
        let wrong = port.ask_with(&line, "Authorization: Bearer secret\r\n").await;
        match route.class {
            Class::Probe => assert_ne!(answer.status, 401, "{line}"),
            Class::Operator => {
                for refused in [answer, wrong] {
                    assert_eq!(refused.status, 401, "{line}");
                    assert!(refused.header("www-authenticate").unwrap().starts_with("Bearer"), "{line}");
                    assert!(!refused.body.contains("s3cret"), "{line}");
                }
            }
        }
    }
    assert_eq!(port.life.state(), State::Starting, "nothing was started without the token");
    let answer = port.ask_with("POST /api/admin/drain", "Authorization: Bearer s3cret\r\n").await;
    assert_eq!(answer.status, 202);
    assert!(port.life.is_draining());
}

#[tokio::test]
async fn a_web_page_cannot_drain() {
    let port = Port::open(false, None, None).await;
    let rebound = "POST /api/admin/drain HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let rebound = read_answer(port.send(rebound).await).await;
    let foreign = port.ask_with("POST /api/admin/drain", "Origin: http://evil.example\r\n").await;
    let none = read_answer(port.send("POST /api/admin/drain HTTP/1.0\r\n\r\n").await).await;
    let form = port.ask_with("POST /api/admin/drain", "Sec-Fetch-Site: cross-site\r\n").await;
    let neighbour = port.ask_with("POST /api/admin/drain", "Sec-Fetch-Site: same-site\r\n").await;
    let image = port.ask_with("GET /api/admin/drain", "Sec-Fetch-Site: cross-site\r\n").await;
    for (answer, word) in [
        (rebound, "Host"),
        (foreign, "Origin"),
        (none, "Host"),
        (form, "Sec-Fetch-Site"),
        (neighbour, "Sec-Fetch-Site"),
        (image, "Sec-Fetch-Site"),
    ] {
        assert_eq!(answer.status, 403);
        assert!(answer.error().contains(word), "{}", answer.body);
    }
    assert_eq!(port.life.state(), State::Starting);
    for path in ["/healthz", "/metrics"] {
        let probe = port.ask_with(&format!("GET {path}"), "Sec-Fetch-Site: cross-site\r\n").await;
        assert_eq!(probe.status, 200, "{path} is for everybody");
    }
    let own = port.ask_with("POST /api/admin/drain", "Sec-Fetch-Site: same-origin\r\n").await;
    assert_eq!(own.status, 202);
}

#[tokio::test]
async fn a_probe_port_has_no_operator_routes() {
    let port = Port::open(true, None, None).await;
    for route in ROUTES {
        let answer = port.ask(&format!("{} {}", route.method, route.path)).await;
        assert_eq!(answer.status == 404, route.class == Class::Operator, "{}", route.path);
    }
    let listed = port.ask("GET /").await.error();
    assert!(listed.contains("/metrics") && !listed.contains("/api"), "{listed}");
    assert_eq!(port.life.state(), State::Starting);
}

#[tokio::test]
async fn a_head_too_long_is_refused_and_a_body_is_not_read() {
    let port = Port::open(false, None, None).await;
    let filler = "x".repeat(server::HEADER_BYTES);
    let answer = port.ask_with("GET /healthz", &format!("X-Filler: {filler}\r\n")).await;
    assert_eq!(answer.status, 431);
    let filler = "x".repeat(server::HEADER_BYTES - 200);
    let answer = port.ask_with("GET /healthz", &format!("X-Filler: {filler}\r\n")).await;
    assert_eq!(answer.status, 200, "what fits passes");
    // The body never comes; the answer does.
    let answer = port.ask_with("POST /api/admin/drain", "Content-Length: 100000\r\n").await;
    assert_eq!(answer.status, 202);
}

#[tokio::test(start_paused = true)]
async fn who_dawdles_over_a_request_is_cut() {
    let port = Port::open(false, None, None).await;
    let began = tokio::time::Instant::now();
    for beginning in ["", "GET /healthz HT"] {
        let mut stream = port.send(beginning).await;
        let mut rest = Vec::new();
        // Paused time runs on only while everybody waits: this ends by the port's own clock.
        stream.read_to_end(&mut rest).await.unwrap();
    }
    assert!(began.elapsed() >= server::HEADER_TIMEOUT, "{:?}", began.elapsed());
    assert!(began.elapsed() < 3 * server::HEADER_TIMEOUT, "{:?}", began.elapsed());
}

const PROBE: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
const LAST_PROBE: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn whoever_keeps_all_connections_keeps_no_probe_out() {
    let port = Port::open(true, None, None).await;
    let mut kept = Vec::new();
    for n in 0..server::CONNECTIONS {
        // Half of them ask, and stay; half say nothing whole.
        let mut stream = port.send(if n % 2 == 0 { PROBE } else { "GET /healthz HTTP/1.1\r\n" }).await;
        if n % 2 == 0 {
            // An answer proves that this one is among those accepted.
            timeout(SOON, stream.read_exact(&mut [0; 1])).await.unwrap().unwrap();
        }
        kept.push(stream);
    }
    let began = tokio::time::Instant::now();
    for _ in 0..10 {
        assert_eq!(read_answer(port.send(LAST_PROBE).await).await.status, 200);
    }
    assert!(
        began.elapsed() < server::HEADER_TIMEOUT,
        "none had to run out of time first: {:?}",
        began.elapsed()
    );
    // Who has rested longest has gone, and who came last is still there.
    let mut youngest = kept.swap_remove(server::CONNECTIONS - 2);
    youngest.write_all(LAST_PROBE.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    timeout(SOON, youngest.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(
        rest.ends_with(b"ok\n") && rest.windows(8).filter(|at| at == b"HTTP/1.1").count() == 1,
        "{rest:?}"
    );
}

#[tokio::test]
async fn beyond_the_connection_bound_one_waits_for_a_place_while_all_are_being_answered() {
    let (asked, mut are_asked) = tokio::sync::watch::channel(0);
    let publish: Publish = Arc::new(move |_| {
        asked.send_modify(|asked| *asked += 1);
        Box::pin(std::future::pending())
    });
    let admin = Arc::new(Admin { publish, max_publish: MAX_PUBLISH, ..bare(Lifecycle::new()) });
    let body = r#"{"route":"r","text":"x"}"#;
    let line = "POST /api/admin/broadcast HTTP/1.1\r\nHost: localhost\r\n";
    let request = format!("{line}Content-Length: {}\r\n\r\n{body}", body.len());
    stopped_under(&admin, async |address| {
        let mut asking = Vec::new();
        for _ in 0..server::CONNECTIONS {
            asking.push(send_to(address, &request).await);
        }
        are_asked.wait_for(|asked| *asked == server::CONNECTIONS).await.unwrap();
        let mut waiting = send_to(address, LAST_PROBE).await;
        let early = timeout(Duration::from_millis(200), waiting.read_u8()).await;
        assert!(early.is_err(), "no place, no answer: {early:?}");
        asking.pop();
        assert_eq!(read_answer(waiting).await.status, 200);
    })
    .await;
}

/// Runs `serve` and, beside it, a client that returns once it wants the port to stop. Gives what the
/// client had, and the time from the stop to the end of `serve`.
async fn stopped_under<T>(admin: &Arc<Admin>, client: impl AsyncFnOnce(SocketAddr) -> T) -> (T, Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let access = Access::All(Guard::new(address, &[], None));
    let client = async {
        let had = client(address).await;
        drop(stop);
        (had, tokio::time::Instant::now())
    };
    let ((), (had, began)) = tokio::join!(serve(listener, access, Arc::clone(admin), stopped), client);
    (had, began.elapsed())
}

fn admin(upstream_ready: Option<UpstreamCheck>) -> Arc<Admin> {
    let lifecycle = Lifecycle::new();
    lifecycle.ready();
    Arc::new(Admin { upstream_ready, ..bare(lifecycle) })
}

async fn send_to(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

const WAIT: &str = "POST /api/admin/drain?wait=true HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_stop_ends_idle_connections_at_once() {
    let admin = admin(None);
    let (mut idle, took) = stopped_under(&admin, async |address| {
        let fresh = send_to(address, "").await;
        let mut used = send_to(address, "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(used.read_u8().await.unwrap());
        }
        [fresh, used]
    })
    .await;
    assert!(took < server::GRACE, "{took:?}");
    for stream in &mut idle {
        assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_cuts_who_waits_and_leaves_nothing_behind() {
    let admin = admin(None);
    let (mut waiting, took) = stopped_under(&admin, async |address| {
        let waiting = send_to(address, WAIT).await;
        admin.lifecycle.until(State::Draining).await;
        waiting
    })
    .await;
    assert_eq!(Arc::strong_count(&admin), 1, "no connection holds it any more");
    assert!(took >= server::GRACE && took < 2 * server::GRACE, "{took:?}");
    let mut rest = Vec::new();
    let _ = waiting.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn an_answer_under_way_at_a_stop_is_still_given() {
    let (asked, mut is_asked) = tokio::sync::watch::channel(());
    let (go, may_go) = tokio::sync::watch::channel(());
    let admin = admin(Some(Arc::new(move || {
        asked.send_replace(());
        let mut may_go = may_go.clone();
        Box::pin(async move { may_go.changed().await.map_err(|gone| gone.to_string()) })
    })));
    let (answered, answer) = oneshot::channel();
    let ((), took) = stopped_under(&admin, async |address| {
        let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let asking = send_to(address, request).await;
        is_asked.changed().await.unwrap();
        tokio::spawn(async move {
            // Refused: the port has seen the stop.
            while TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
            go.send_replace(());
            let _ = answered.send(read_answer(asking).await);
        });
    })
    .await;
    assert!(took < server::GRACE, "{took:?}");
    let answer = answer.await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "ready\n"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_peer_that_takes_nothing_is_given_up_by_the_kernel() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    server::set_options(&stream).unwrap();
    let bound = socket2::SockRef::from(&stream).tcp_user_timeout().unwrap();
    assert_eq!(bound, Some(server::UNSENT_TIMEOUT));
}
