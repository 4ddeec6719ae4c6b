//! Servers and clients that nobody here wrote, and a session between them: the server is killed, asked to end, and
//! started again where it was, and the client does not notice.
//!
//! Each row has its configuration from `docs/servers.md`, so that what users read is what is tried. What the peers are and what
//! clients are asked to do: `tests/interop/README.md`. They need packages, as those of `shipped::interop` do.
//!
//! Not here: crashes by the hundred, and how fast the way back is (`tests/load`).

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::shipped::recipes::blocks::one;
use crate::support::DEADLINE;
use crate::support::binary::{Builder, Running};
use crate::support::files::TempFile;
use crate::support::peer::{Peer, command, skipped};
use crate::support::wait::eventually;

const DOCUMENT: &str = "docs/servers.md";

/// A line of the document's table.
struct Row {
    /// The name of the route in the document.
    route: &'static str,
    server: &'static str,
    /// Script and further arguments.
    client: &'static [&'static str],
    /// The client's connections.
    links: u32,
    in_flight: InFlight,
}

impl Row {
    const fn new(route: &'static str, server: &'static str, client: &'static [&'static str]) -> Self {
        Self { route, server, client, links: 1, in_flight: InFlight::Nothing }
    }

    const fn rooms(server: &'static str) -> Self {
        Self::new("app", server, &["sessions/rooms_client.mjs"])
    }
}

/// What the server works on each time that it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InFlight {
    Nothing,
    /// The next server is asked for it again.
    Repeated,
    /// Nobody is.
    Lost,
}

/// How a server ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// SIGKILL: its sockets end with it.
    Killed,
    /// SIGTERM: it may say something first.
    Terminated,
}

impl End {
    async fn come_to(self, server: Peer) {
        match self {
            Self::Killed => server.kill().await,
            Self::Terminated => server.terminate().await,
        }
    }
}

#[tokio::test]
async fn npm_ws() {
    survives(&Row::rooms("sessions/rooms_ws.mjs")).await;
}

#[tokio::test]
async fn python_websockets() {
    survives(&Row::rooms("sessions/rooms_websockets.py")).await;
}

#[tokio::test]
async fn uvicorn_with_starlette() {
    survives(&Row::rooms("sessions/rooms_starlette.py")).await;
}

#[tokio::test]
async fn aiohttp() {
    survives(&Row::rooms("sessions/rooms_aiohttp.py")).await;
}

#[tokio::test]
async fn tornado() {
    survives(&Row::rooms("sessions/rooms_tornado.py")).await;
}

#[tokio::test]
async fn a_client_on_python_websockets() {
    survives(&Row::new("app", "sessions/rooms_websockets.py", &["sessions/rooms_client.py"])).await;
}

#[tokio::test]
async fn a_client_on_partysocket() {
    let client = &["sessions/rooms_client.mjs", "partysocket"];
    survives(&Row::new("app", "sessions/rooms_ws.mjs", client)).await;
}

#[tokio::test]
async fn a_client_on_reconnecting_websocket() {
    let client = &["sessions/rooms_client.mjs", "reconnecting-websocket"];
    survives(&Row::new("app", "sessions/rooms_ws.mjs", client)).await;
}

#[tokio::test]
async fn graphql_ws() {
    let row = Row::new("graphql", "sessions/graphql_server.mjs", &["sessions/graphql_client.mjs"]);
    survives(&Row { in_flight: InFlight::Repeated, ..row }).await;
}

#[tokio::test]
async fn graphql_ws_whose_subscriptions_alone_are_said_again() {
    let row = Row::new("subscriptions", "sessions/graphql_server.mjs", &["sessions/graphql_client.mjs"]);
    survives(&Row { in_flight: InFlight::Lost, ..row }).await;
}

#[tokio::test]
async fn yjs() {
    let row = Row::new("yjs", "sessions/yjs_server.mjs", &["sessions/yjs_client.mjs"]);
    survives(&Row { links: 2, ..row }).await;
}

#[tokio::test]
async fn stomp() {
    survives(&Row::new("stomp", "sessions/stomp_server.mjs", &["sessions/stomp_client.mjs"])).await;
}

#[tokio::test]
async fn phoenix_channels() {
    survives(&Row::new("phoenix", "sessions/phoenix_server.mjs", &["sessions/phoenix_client.mjs"])).await;
}

#[tokio::test]
async fn socket_io() {
    comes_back_by_itself(&Row::new("socketio", "socketio_server.mjs", &["sessions/socketio_client.mjs"]))
        .await;
}

#[tokio::test]
async fn mqtt() {
    comes_back_by_itself(&Row::new("mqtt", "sessions/mqtt_server.mjs", &["sessions/mqtt_client.mjs"])).await;
}

/// What the rows stand on: that these clients do notice when there is something to notice.
#[tokio::test]
async fn in_a_tunnel_a_client_is_closed() {
    if skipped() {
        return;
    }
    let row = Row::rooms("sessions/rooms_ws.mjs");
    let server = Peer::start(row.server).await;
    let place = Place::before(&server, "policy: {}\n").await;
    let mut client = Client::start(&row, &place, Notices::Each);
    client.until("ready").await;
    server.kill().await;
    let closed = client.until("closed").await;
    assert_eq!((closed["code"].as_u64(), closed["reason"].as_str()), (Some(1012), Some("upstream lost")));
}

/// The document and this file know the same rows.
#[test]
fn every_row_of_the_document_names_its_test() {
    let root = env!("CARGO_MANIFEST_DIR");
    let document = std::fs::read_to_string(format!("{root}/{DOCUMENT}")).unwrap();
    let mut named: Vec<&str> =
        document.split("`servers::").skip(1).filter_map(|rest| rest.split('`').next()).collect();
    let tests = include_str!("servers.rs").split("#[tokio::test]\nasync fn ").skip(1);
    let mut tests: Vec<&str> = tests.filter_map(|rest| rest.split('(').next()).collect();
    for names in [&mut named, &mut tests] {
        names.sort_unstable();
        names.dedup();
    }
    assert_eq!(named, tests);
}

/// A server that ends twice each way, and a client that has the same connection at the end as at first.
async fn survives(row: &Row) {
    if skipped() {
        return;
    }
    let mut server = Peer::start(row.server).await;
    let port = server.port();
    let place = Place::before(&server, &one(DOCUMENT, &format!("name: {}", row.route))).await;
    let mut client = Client::start(row, &place, Notices::Nothing);
    client.until("ready").await;
    client.hears(&server).await;
    client.does("exchange").await;

    let ends = [End::Killed, End::Terminated, End::Killed, End::Terminated];
    for end in ends {
        if row.in_flight != InFlight::Nothing {
            client.does("be in flight").await;
        }
        end.come_to(server).await;
        place.has("sessions_connected", row, 0).await;
        // While there is no server.
        client.order("exchange").await;
        server = Peer::start_at(row.server, Some(port)).await;
        client.hears(&server).await;
        client.until("done").await;
        if row.in_flight == InFlight::Lost {
            // The next one that is answered, unless the lost one was said again.
            client.does("be in flight").await;
        }
        client.does("exchange").await;
        if row.in_flight != InFlight::Nothing {
            let landed = client.until("landed").await;
            let is_repeated = row.in_flight == InFlight::Repeated;
            assert_eq!(landed["moved"], is_repeated, "{end:?}: {:?}", row.in_flight);
        }
    }

    let metrics = place.running.metrics().await;
    for (what, expected) in [
        ("connections_total", row.links),
        ("disconnections_total", 0),
        ("session_ends_total", 0),
        ("messages_missed_total", 0),
    ] {
        let name = format!("outrigger_{what}");
        assert!(metrics.0.contains(&format!("\n{name}{{")), "no {name}");
        assert_eq!(metrics.sum(&name), f64::from(expected), "{}: {what}\n{}", row.server, metrics.0);
    }
    // But for what is uncertain: that a message was answered just before its server died is no receipt for it.
    for reason in ["queue", "age", "greeting"] {
        let lost = format!(r#"outrigger_messages_lost_total{{route="{}",reason="{reason}"}}"#, row.route);
        assert_eq!(metrics.get(&lost).unwrap_or_default(), 0.0, "{}: {reason}", row.server);
    }
    let redials = format!(r#"outrigger_redials_total{{route="{}",outcome="ok"}}"#, row.route);
    let needed = f64::from(row.links) * ends.len() as f64;
    assert!(metrics.get(&redials).is_some_and(|there| there >= needed), "{}", metrics.0);
    client.leaves().await;
    place.has("sessions_connected", row, 0).await;
    server.stop().await;
}

/// A tunnel: the client notices each end of its server, and helps itself.
async fn comes_back_by_itself(row: &Row) {
    if skipped() {
        return;
    }
    let mut server = Peer::start(row.server).await;
    let port = server.port();
    let place = Place::before(&server, &one(DOCUMENT, &format!("name: {}", row.route))).await;
    let mut client = Client::start(row, &place, Notices::Each);
    client.until("ready").await;
    client.does("exchange").await;
    for end in [End::Killed, End::Terminated] {
        end.come_to(server).await;
        client.until("closed").await;
        server = Peer::start_at(row.server, Some(port)).await;
        client.forget();
        client.until("ready").await;
        client.does("exchange").await;
    }
    client.leaves().await;
    server.stop().await;
}

/// The program before a server, with a configuration of the document.
struct Place {
    running: Running,
    _file: TempFile,
}

impl Place {
    async fn before(server: &Peer, configuration: &str) -> Self {
        let file = TempFile::new("servers.yaml", configuration);
        let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", &server.url()];
        let builder = Builder::new(&["run", "--config", file.path()]).args(&ports);
        Self { running: builder.spawn().ready().await, _file: file }
    }

    /// Waits until a number of the route is this.
    async fn has(&self, name: &str, row: &Row, expected: u32) {
        let sample = format!(r#"outrigger_{name}{{route="{}"}}"#, row.route);
        eventually(DEADLINE, || async {
            match self.running.metrics().await.get(&sample) {
                Some(there) if there == f64::from(expected) => Ok(()),
                other => Err(format!("{sample}: {other:?}")),
            }
        })
        .await;
    }
}

/// A client in another process, which tells what it sees; killed when it is dropped.
struct Client {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// What it has told and nobody has asked for.
    told: Vec<Value>,
    script: &'static str,
    notices: Notices,
}

/// Of the ends of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notices {
    Nothing,
    /// That it was disconnected.
    Each,
}

impl Client {
    fn start(row: &Row, place: &Place, notices: Notices) -> Self {
        let [script, arguments @ ..] = row.client else { panic!("a client is a script") };
        let mut command = command(script);
        command.arg(format!("ws://{}", place.running.address())).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{script} cannot be run: {error}"));
        let stdin = child.stdin.take().expect("its input is piped");
        let lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
        Self { child, stdin, lines, told: Vec::new(), script, notices }
    }

    async fn order(&mut self, order: &str) {
        self.stdin.write_all(format!("{order}\n").as_bytes()).await.expect("it reads its orders");
    }

    async fn does(&mut self, order: &str) {
        self.order(order).await;
        self.until("done").await;
    }

    /// It hears this server, and has not before.
    async fn hears(&mut self, server: &Peer) {
        let heard = self.until("server").await;
        assert_eq!(heard["server"].to_string().trim_matches('"'), server.id().to_string(), "{}", self.script);
    }

    /// The next thing of this name that it tells; panics if something failed, and if it noticed what it must not.
    async fn until(&mut self, wanted: &str) -> Value {
        if let Some(index) = self.told.iter().position(|told| told["event"] == wanted) {
            return self.told.remove(index);
        }
        loop {
            let line = timeout(DEADLINE, self.lines.next_line()).await;
            let Ok(Ok(Some(line))) = line else {
                panic!("{} did not tell {wanted}: {line:?}; only {:?}", self.script, self.told)
            };
            let told: Value = serde_json::from_str(&line).expect("a line is JSON");
            let event = told["event"].as_str().expect("an event has a name").to_owned();
            if event == wanted {
                return told;
            }
            let is_bad = match &*event {
                "failed" => true,
                "closed" | "error" | "opened again" => self.notices == Notices::Nothing,
                _ => false,
            };
            assert!(!is_bad, "{} told {line} instead of {wanted}", self.script);
            self.told.push(told);
        }
    }

    /// Whatever it has told until now.
    fn forget(&mut self) {
        self.told.clear();
    }

    /// It closes its connection, and ends well.
    async fn leaves(mut self) {
        self.order("end").await;
        let status = timeout(DEADLINE, self.child.wait()).await;
        assert!(matches!(&status, Ok(Ok(status)) if status.success()), "{}: {status:?}", self.script);
    }
}
