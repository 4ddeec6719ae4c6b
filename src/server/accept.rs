//! The accept loop: accepts connections, hands each to a worker, and never waits for any of them.
//!
//! # Why one loop, and not one for each worker?
//! A connection would wake all of them, and the first one would take a burst for itself. Here it goes where there is least to do,
//! `listen.max_handshakes` is held to exactly, and a worker that is busy does not keep others from new connections. What it
//! costs is one wake of another thread for each connection.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::connection::{self, linger};
use super::limits::handshakes::HandshakePermit;
use super::listener::Listener;
use super::state::State;
use crate::admission::Refused;
use crate::config::Listen;
use crate::net::{Peer, Stream, Workers};
use crate::telemetry::{ConnectionRefusal, TaskKind, nonzero, panics};

/// The delay after an accept that failed for want of descriptors or memory: other connections have to end first.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Accepts connections for ever.
pub(super) async fn run(listener: &Listener, state: &Arc<State>) {
    loop {
        match accept(listener, &state.workers).await {
            Ok((stream, peer, worker)) => {
                let snapshot = state.snapshot();
                match HandshakePermit::enter(
                    &state.metrics.server.handshaking,
                    snapshot.listen.max_handshakes,
                    Instant::now(),
                ) {
                    Some(handshake_permit) => {
                        let serving = connection::serve(Arc::clone(state), stream, peer, handshake_permit);
                        panics::spawn_on(&worker, TaskKind::Connection, &state.metrics, serving);
                    }
                    None => turn_away(state, &snapshot.listen, &worker, stream),
                }
            }
            Err(error) => {
                state.metrics.server.accept_errors.inc();
                // A client that disconnected before it was accepted is no reason to wait.
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
                {
                    warn!(%error, "cannot accept; trying again shortly");
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }
}

/// The next connection, registered with the worker that is to serve it.
async fn accept(listener: &Listener, workers: &Workers) -> io::Result<(Stream, Peer, Handle)> {
    poll_fn(|cx| {
        let worker = workers.least_busy();
        // A socket is registered with the runtime that is entered when it is accepted.
        let _entered = worker.enter();
        let accepted = match listener {
            Listener::Tcp(tcp, port) => tcp.poll_accept(cx).map_ok(|(stream, client)| {
                (Stream::Tcp(stream), Peer { address: Some(client), port: Some(*port), ..Peer::default() })
            }),
            Listener::Unix(unix, _) => {
                unix.poll_accept(cx).map_ok(|(stream, _)| (Stream::Unix(stream), Peer::default()))
            }
        };
        accepted.map_ok(|(stream, peer)| (stream, peer, worker.clone()))
    })
    .await
}

/// Ends a connection beyond the limit, with an answer that says why unless TLS is spoken.
fn turn_away(state: &State, listen: &Listen, worker: &Handle, stream: Stream) {
    state.metrics.server.connections_refused.inc(ConnectionRefusal::TooManyHandshakes);
    if let Some(left_out) = state.lines.warnings.allow("too_many_handshakes", Instant::now()) {
        warn!(
            // Operators may filter by the target, so it has not changed with the name of the file.
            target: "outrigger::server::crowd",
            max_handshakes = listen.max_handshakes,
            left_out = nonzero(left_out),
            "too many handshakes are in progress (listen.max_handshakes): new connections are turned away; \
             outrigger_connections_refused_total counts them"
        );
    }
    // A plain answer would be garbage in a TLS handshake.
    if listen.tls.is_none()
        && let Some(refusing) = state.handshakes.try_refuse()
    {
        panics::spawn_on(worker, TaskKind::Connection, &state.metrics, async move {
            linger::refuse(stream, &Refused::TooManyHandshakes).await;
            drop(refusing);
        });
    }
}
