//! Servers and clients of other languages, unmodified, as their users run them.
//!
//! They need Node and Python packages, so they run only with `OUTRIGGER_INTEROP=1`, as `make test` sets
//! it after `scripts/setup-tests.sh`; then a missing peer is a failure. Without it the tests say on
//! standard error that they were skipped, and pass: plain `cargo test` needs nothing but Rust.
//!
//! What the peers are and say to each other: `tests/interop/README.md`.

mod support;

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use support::DEADLINE;
use support::binary::Builder;
use support::metrics::Metrics;
use support::peer::{Peer, command, skipped};
use support::proxy::Proxy;
use support::tls::{self, Authority};
use support::wait::eventually;

/// A client's whole series, on a busy machine.
const SERIES: Duration = Duration::from_secs(60);

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
    let authority = std::env::temp_dir().join(format!("outrigger-interop-{}.pem", std::process::id()));
    std::fs::write(&authority, Authority::known().pem()).expect("a temporary file");
    let server = Peer::start("node_ws_server.mjs").await;
    let proxy = Proxy::to_url(server.url()).tls(tls::listen()).spawn().await;
    for client in ["node_ws_client.mjs", "py_websockets_client.py"] {
        let mut command = command(client);
        // The former is Node's, the latter OpenSSL's, which Python uses.
        command.env("NODE_EXTRA_CA_CERTS", &authority).env("SSL_CERT_FILE", &authority);
        run(client, command, "wss", proxy.address().port(), &[]).await;
    }
    assert_eq!(proxy.metrics().await.sum("outrigger_tls_handshake_failures_total"), 0.0);
    proxy.stop().await;
    server.stop().await;
    std::fs::remove_file(authority).expect("it is still there");
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
