//! Servers and clients of other languages, unmodified, as their users run them.
//!
//! They need Node and Python packages, so they run only with `OUTRIGGER_INTEROP=1`, as `make test` sets
//! it after `scripts/setup-tests.sh`; then a missing peer is a failure. Without it the tests say on
//! standard error that they were skipped, and pass: plain `cargo test` needs nothing but Rust.
//!
//! What the peers are and say to each other: `tests/interop/README.md`.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::DEADLINE;
use crate::support::binary::Builder;
use crate::support::client::RawClient;
use crate::support::files::TempFile;
use crate::support::metrics::Metrics;
use crate::support::peer::{Peer, command, skipped};
use crate::support::proxy::Proxy;
use crate::support::tls::{self, Authority};
use crate::support::upstream::Upstream;
use crate::support::wait::eventually;

/// A client's whole series, on a busy machine.
const SERIES: Duration = Duration::from_secs(60);

const FEED: &str = "routes: [{name: feed, path: /feed, mode: broadcast}]";

#[tokio::test]
async fn node_ws_with_node_ws() {
    series("node_ws_server.mjs", "node_ws_client.mjs", &[]).await;
}

#[tokio::test]
async fn node_ws_client_with_python_websockets() {
    series("py_websockets_server.py", "node_ws_client.mjs", &[]).await;
}

#[tokio::test]
async fn node_ws_client_with_uvicorn() {
    series("uvicorn_app.py", "node_ws_client.mjs", &["--skip-ping-me"]).await;
}

#[tokio::test]
async fn python_websockets_client_with_node_ws() {
    series("node_ws_server.mjs", "py_websockets_client.py", &[]).await;
}

#[tokio::test]
async fn python_websockets_with_python_websockets() {
    series("py_websockets_server.py", "py_websockets_client.py", &[]).await;
}

#[tokio::test]
async fn python_websockets_client_with_uvicorn() {
    series("uvicorn_app.py", "py_websockets_client.py", &["--skip-ping-me"]).await;
}

#[tokio::test]
async fn socket_io_over_websocket_and_over_long_polling() {
    series("socketio_server.mjs", "socketio_client.mjs", &[]).await;
}

#[tokio::test]
async fn clients_of_node_that_offer_what_is_the_proxys_own() {
    if skipped() {
        return;
    }
    let server = Peer::start("node_ws_bare_server.mjs").await;
    let proxy = Proxy::to_url(server.url()).spawn().await;
    run_client("node_ws_protocols.mjs", proxy.address().port(), &[]).await;
    proxy.stop().await;
    server.stop().await;
}

/// `config/examples/`, each with the server that it is for.
#[tokio::test]
async fn the_example_for_node_ws() {
    with_example("node-ws.yaml", "node_ws_server.mjs", "node_ws_client.mjs", &[]).await;
}

#[tokio::test]
async fn the_example_for_uvicorn() {
    with_example("fastapi.yaml", "uvicorn_app.py", "py_websockets_client.py", &["--skip-ping-me"]).await;
}

#[tokio::test]
async fn the_example_for_socket_io() {
    with_example("socket-io.yaml", "socketio_server.mjs", "socketio_client.mjs", &[]).await;
}

#[tokio::test]
async fn clients_over_tls() {
    if skipped() {
        return;
    }
    let authority = TempFile::new("authority.pem", &Authority::known().pem());
    let server = Peer::start("node_ws_server.mjs").await;
    let proxy = Proxy::to_url(server.url()).tls(tls::listen()).spawn().await;
    for client in ["node_ws_client.mjs", "py_websockets_client.py"] {
        let mut command = command(client);
        // The former is Node's, the latter OpenSSL's, which Python uses.
        command.env("NODE_EXTRA_CA_CERTS", authority.path()).env("SSL_CERT_FILE", authority.path());
        run(client, command, "wss", proxy.address().port(), &[]).await;
    }
    assert_eq!(proxy.metrics().await.sum("outrigger_tls_handshake_failures_total"), 0.0);
    proxy.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn plain_requests_to_servers_that_speak_websocket() {
    if skipped() {
        return;
    }
    for script in ["node_ws_server.mjs", "uvicorn_app.py"] {
        let server = Peer::start(script).await;
        let proxy = Proxy::to_url(server.url()).spawn().await;
        let response = proxy.plain().path("/a/b").answer().await.response;
        assert_eq!((response.status(), response.text().as_str()), (200, "plain GET /a/b\n"), "{script}");
        proxy.stop().await;
        server.stop().await;
    }
}

#[tokio::test]
async fn a_compressed_feed_to_node_ws_and_python_websockets() {
    if skipped() {
        return;
    }
    let upstream = Upstream::by_hand().await;
    let policy = "policy: {compression: deflate, heartbeat: {interval: 200ms, timeout: 9s}, \
                  broadcast: {uplink: forward, anonymous: true}}";
    let proxy = Proxy::to(&upstream).yaml(FEED).yaml(policy).spawn().await;
    let mut listeners = [
        Listener::start("node_ws_listener.mjs", &proxy).await,
        Listener::start("py_websockets_listener.py", &proxy).await,
    ];
    let mut plain = proxy.connect("/feed").await;
    let mut server = upstream.accept().await;
    for listener in &mut listeners {
        let opened = listener.line().await;
        assert!(opened.starts_with("open permessage-deflate"), "{}: {opened}", listener.script);
    }
    proxy_has_clients(&proxy, 3.0).await;

    // It is worth compressing, it is not, it is empty; and long in each way.
    let noise = Vec::from_iter(std::iter::repeat_with(|| fastrand::u8(..)).take(1 << 20));
    let long = "many words, often the same. ".repeat(40_000);
    let wide = "wörld, 世界, 🌍 ".repeat(1000);
    let texts = ["", "x", "hello, wörld", &wide, &long];
    let binaries = [&b""[..], b"\x00\x01\xfe\xff", &[7; 70_000], &noise];
    for round in 0..3 {
        for text in texts {
            server.text(text).await;
            plain.expect_text(text).await;
            for listener in &mut listeners {
                listener.expect("text", text.as_bytes()).await;
            }
        }
        for binary in binaries {
            server.binary(binary).await;
            plain.expect_binary(binary).await;
            for listener in &mut listeners {
                listener.expect("binary", binary).await;
            }
        }
        // A burst, with each message compressed on its own.
        for number in 0..200 {
            server.text(&format!("round {round}, message {number} of a burst")).await;
        }
        for number in 0..200 {
            let text = format!("round {round}, message {number} of a burst");
            plain.expect_text(&text).await;
            for listener in &mut listeners {
                listener.expect("text", text.as_bytes()).await;
            }
        }
    }
    // Pings both ways, and the other direction, which they compress as well.
    for listener in &mut listeners {
        listener.order("ping").await;
        assert_eq!(listener.line().await, "pong", "{}", listener.script);
        let text = format!("from {} {}", listener.script, "again and ".repeat(100));
        listener.order(&format!("say {text}")).await;
        server.expect_text(&text).await;
    }
    let all = 2.0 * 3.0 * (texts.len() + binaries.len() + 200) as f64;
    let receipts = r#"outrigger_delivery_acknowledged_total{route="feed"}"#;
    eventually(DEADLINE, || async {
        let acknowledged = proxy.metric(receipts).await;
        if acknowledged >= all { Ok(()) } else { Err(format!("{acknowledged} of {all}")) }
    })
    .await;
    assert_eq!(proxy.metric("outrigger_heartbeat_missed_total").await, 0.0);
    server.close(4002, "match over").await;
    for listener in listeners {
        listener.ended("close 4002 match over").await;
    }
    assert_eq!(plain.closed().await.code, 4002);
}

#[tokio::test]
async fn a_feed_from_node_ws() {
    feed_from("node_ws_server.mjs").await;
}

#[tokio::test]
async fn a_feed_from_python_websockets() {
    feed_from("py_websockets_server.py").await;
}

/// Three clients of a feed whose server echoes what they say, is killed, and comes back.
async fn feed_from(script: &str) {
    if skipped() {
        return;
    }
    let server = Peer::start(script).await;
    let proxy = Proxy::to_url(server.url())
        .yaml(FEED)
        .yaml("upstream: {heartbeat: {interval: 100ms, timeout: 5s}}")
        .yaml(
            "policy: {heartbeat: null, redial: {base: 10ms, cap: 100ms}, history: {on_join: all}, \
             broadcast: {uplink: forward, anonymous: true, greeting: [subscribe]}}",
        )
        .spawn()
        .await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(proxy.connect("/feed?a=1").await);
    }
    proxy_has_clients(&proxy, 3.0).await;
    // As much of what clients say may wait for the server: policy.delivery.max_lag.bytes.
    let long = "many words, often the same. ".repeat(35_000);
    let in_step = async |clients: &mut [RawClient], said: &str, heard: &str| {
        clients[0].text(said).await;
        for client in clients {
            client.expect_text(heard).await;
        }
    };
    let pings = async || {
        let before = proxy.metric("outrigger_heartbeat_rtt_seconds_count").await;
        eventually(DEADLINE, || async {
            proxy.metric("outrigger_heartbeat_rtt_seconds_count").await >= before + 2.0
        })
        .await;
    };
    let connected = async |expected: f64| {
        let sample = r#"outrigger_channels_connected{route="feed"}"#;
        eventually(DEADLINE, || async { proxy.metric(sample).await == expected }).await;
    };
    // The server's answer to the greeting is the first that each of them gets.
    for client in &mut clients {
        client.expect_text("subscribe").await;
    }
    let are_told = async |clients: &mut [RawClient]| {
        for client in clients {
            client.expect_text(r#"{"type":"outrigger","event":"upstream_lost"}"#).await;
            client.expect_text(r#"{"type":"outrigger","event":"upstream_restored"}"#).await;
            client.expect_text("subscribe").await;
        }
    };
    in_step(&mut clients, "hello, wörld", "hello, wörld").await;
    in_step(&mut clients, &long, &long).await;
    in_step(&mut clients, "tell target", "/feed?a=1").await;
    clients[1].binary(b"\x00\xff").await;
    for client in &mut clients {
        client.expect_binary(b"\x00\xff").await;
    }
    // The server's ping is answered here, and ours there.
    in_step(&mut clients, "ping me", "pong from the server").await;
    pings().await;

    let port = server.port();
    server.kill().await;
    connected(0.0).await;
    let server = Peer::start_at(script, Some(port)).await;
    connected(1.0).await;
    are_told(&mut clients).await;
    in_step(&mut clients, "after it was killed", "after it was killed").await;
    server.stop().await;
    connected(0.0).await;
    let server = Peer::start_at(script, Some(port)).await;
    connected(1.0).await;
    are_told(&mut clients).await;
    in_step(&mut clients, "after it was stopped", "after it was stopped").await;
    in_step(&mut clients, "ping me", "pong from the server").await;
    pings().await;
    proxy_has_clients(&proxy, 3.0).await;
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("outrigger_disconnections_total"), 0.0, "all of them stayed:\n{}", metrics.0);
    assert_eq!(metrics.get(r#"outrigger_uplink_dials_total{route="feed",outcome="ok"}"#), Some(3.0));

    clients[0].text("close 4002 enough, thank you").await;
    for client in &mut clients {
        let closed = client.closed().await;
        assert_eq!((closed.code, &*closed.reason), (4002, "enough, thank you"));
    }
    proxy.stop().await;
    server.stop().await;
}

async fn proxy_has_clients(proxy: &Proxy, expected: f64) {
    eventually(DEADLINE, || async { proxy.metric(r#"outrigger_clients{route="feed"}"#).await == expected })
        .await;
}

/// Runs the client against the server, first directly (what fails there is not the proxy), then through
/// the proxy with its settings as they come.
async fn series(server: &str, client: &str, flags: &[&str]) {
    if skipped() {
        return;
    }
    let server = Peer::start(server).await;
    run_client(client, server.port(), flags).await;
    let proxy = Proxy::to_url(server.url()).spawn().await;
    run_client(client, proxy.address().port(), flags).await;

    eventually(DEADLINE, || async { proxy.metric(r#"outrigger_clients{route="default"}"#).await == 0.0 })
        .await;
    assert_well(&proxy.metrics().await);
    proxy.stop().await;
    server.stop().await;
}

/// Runs the client against the server through the program, with an example as its configuration; only the ports
/// are others.
async fn with_example(example: &str, server: &str, client: &str, flags: &[&str]) {
    if skipped() {
        return;
    }
    let server = Peer::start(server).await;
    let file = format!("{}/config/examples/{example}", env!("CARGO_MANIFEST_DIR"));
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", &server.url()];
    let proxy = Builder::new(&["run", "--config", &file]).args(&ports).spawn().ready().await;
    run_client(client, proxy.address().port(), flags).await;

    let everybody_left = || async { proxy.metrics().await.sum("outrigger_clients") == 0.0 };
    eventually(DEADLINE, everybody_left).await;
    assert_well(&proxy.metrics().await);
    server.stop().await;
}

/// Connections went through the proxy, and it found nothing wrong with them.
#[track_caller]
fn assert_well(metrics: &Metrics) {
    assert!(metrics.sum("outrigger_connections_total") >= 1.0, "it went past the proxy:\n{}", metrics.0);
    for reason in ["protocol_error", "too_large", "heartbeat_timeout", "upstream_lost"] {
        let ended = format!(r#"outrigger_disconnections_total{{route="default",reason="{reason}"}}"#);
        assert_eq!(metrics.get(&ended).unwrap_or(0.0), 0.0, "honest peers were cut: {reason}");
    }
}

/// A client of a feed in another process; killed when it is dropped.
struct Listener {
    child: Child,
    script: String,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Listener {
    async fn start(script: &str, proxy: &Proxy) -> Self {
        let mut command = command(script);
        command.arg(format!("ws://{}/feed", proxy.address()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{script} cannot be run: {error}"));
        let stdin = child.stdin.take().expect("its input is piped");
        let stdout = BufReader::new(child.stdout.take().expect("its output is piped"));
        Self { child, script: script.to_owned(), stdin, stdout }
    }

    /// What it says next.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        match timeout(DEADLINE, self.stdout.read_line(&mut line)).await {
            Ok(Ok(1..)) => line.trim().to_owned(),
            other => panic!("{} said nothing: {other:?}", self.script),
        }
    }

    /// The next message that it gets is this one, byte for byte.
    async fn expect(&mut self, kind: &str, payload: &[u8]) {
        let hash = Sha256::digest(payload).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let due = format!("{kind} {} {hash}", payload.len());
        assert_eq!(self.line().await, due, "{}", self.script);
    }

    async fn order(&mut self, order: &str) {
        self.stdin.write_all(format!("{order}\n").as_bytes()).await.expect("it reads its orders");
    }

    /// Its last words are these, and it ends well.
    async fn ended(mut self, words: &str) {
        assert_eq!(self.line().await, words, "{}", self.script);
        let status = timeout(DEADLINE, self.child.wait()).await;
        let ended_well = matches!(&status, Ok(Ok(status)) if ExitStatus::success(status));
        assert!(ended_well, "{}: {status:?}", self.script);
    }
}

/// Runs a client's series against this port; panics with all it said when it fails.
async fn run_client(script: &str, port: u16, flags: &[&str]) {
    let scheme = if script.starts_with("socketio") { "http" } else { "ws" };
    run(script, command(script), scheme, port, flags).await;
}

async fn run(script: &str, mut command: Command, scheme: &str, port: u16, flags: &[&str]) {
    command.arg(format!("{scheme}://127.0.0.1:{port}")).args(flags).stdin(Stdio::null()).kill_on_drop(true);
    let output = match timeout(SERIES, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => panic!("{script} cannot be run: {error}"),
        Err(_) => panic!("{script} was not done within {SERIES:?}"),
    };
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} failed on port {port}, {}:\n{said}", output.status);
    assert!(said.starts_with("ok: "), "{script} did nothing:\n{said}");
}
