//! The accept loop: takes connections in and never waits for any of them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::connection;
use super::crowd::{self, Busy};
use super::state::State;
use crate::net::{Peer, Stream};
use crate::telemetry::{TaskKind, panics};

/// After an accept that failed for want of descriptors or memory: others have to end first, and trying
/// again at once would only burn the processor they need for it.
const PAUSE: Duration = Duration::from_millis(100);

/// Where clients come in.
#[derive(Debug)]
pub(super) enum Listener {
    /// TCP, and its port.
    Tcp(TcpListener, u16),
    /// A Unix socket; its file goes with it.
    Unix(UnixListener, #[expect(dead_code, reason = "held for its drop")] SocketFile),
}

/// The file of a Unix socket, removed when it is no longer listened on.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already; nothing depends on it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Listens on a Unix socket. A file that a process which died left behind is taken over; one that
/// somebody listens on is not.
pub(super) fn listen_unix(path: &Path) -> io::Result<Listener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    Ok(Listener::Unix(listener, SocketFile(path.to_owned())))
}

/// Takes clients in for ever.
pub(super) async fn run(listener: &Listener, state: &Arc<State>) {
    loop {
        match accept(listener).await {
            Ok((stream, peer)) => {
                let table = state.table();
                match Busy::enter(&state.metrics.handshaking, table.listen.max_handshakes, Instant::now()) {
                    Some(busy) => {
                        let serving = connection::serve(Arc::clone(state), stream, peer, busy);
                        panics::spawn(TaskKind::Connection, &state.metrics, serving);
                    }
                    None => crowd::turn_away(state, &table.listen, stream),
                }
            }
            Err(error) => {
                state.metrics.accept_errors.inc();
                // A client that is gone before it was taken in is no reason to wait.
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
                {
                    warn!(%error, "cannot accept; trying again shortly");
                    sleep(PAUSE).await;
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
