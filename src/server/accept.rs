//! The accept loop: accepts connections and never waits for any of them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::connection::{self, linger};
use super::limits::handshakes::HandshakePermit;
use super::listener::Listener;
use super::state::State;
use crate::admission::Refused;
use crate::config::Listen;
use crate::net::{Peer, Stream};
use crate::telemetry::{ConnectionRefusal, TaskKind, nonzero, panics};

/// The delay after an accept that failed for want of descriptors or memory: other connections have to end first.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Accepts connections for ever.
pub(super) async fn run(listener: &Listener, state: &Arc<State>) {
    loop {
        match accept(listener).await {
            Ok((stream, peer)) => {
                let snapshot = state.snapshot();
                match HandshakePermit::enter(
                    &state.metrics.server.handshaking,
                    snapshot.listen.max_handshakes,
                    Instant::now(),
                ) {
                    Some(handshake_permit) => {
                        let serving = connection::serve(Arc::clone(state), stream, peer, handshake_permit);
                        panics::spawn(TaskKind::Connection, &state.metrics, serving);
                    }
                    None => turn_away(state, &snapshot.listen, stream),
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

async fn accept(listener: &Listener) -> io::Result<(Stream, Peer)> {
    match listener {
        Listener::Tcp(tcp, port) => {
            let (stream, client) = tcp.accept().await?;
            let peer = Peer { address: Some(client), port: Some(*port), ..Peer::default() };
            Ok((Stream::Tcp(stream), peer))
        }
        Listener::Unix(unix, _) => {
            let (stream, _) = unix.accept().await?;
            Ok((Stream::Unix(stream), Peer::default()))
        }
    }
}

/// Ends a connection beyond the limit, with an answer that says why unless TLS is spoken.
fn turn_away(state: &State, listen: &Listen, stream: Stream) {
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
        panics::spawn(TaskKind::Connection, &state.metrics, async move {
            linger::refuse(stream, &Refused::TooManyHandshakes).await;
            drop(refusing);
        });
    }
}
