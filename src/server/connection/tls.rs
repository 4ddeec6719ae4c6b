//! The TLS handshake of a client, where `listen.tls` asks for one.

use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::linger::{self, LINGER};
use crate::admission::Refused;
use crate::net::tls::{Acceptor, HandshakeError, Protocol};
use crate::net::{Peer, Stream};
use crate::server::state::State;
use crate::telemetry::TlsFailure;

/// Of log lines: operators choose by it (`log.level`), so it does not follow the name of the module.
const TARGET: &str = "outrigger::server::connection";

/// Does the TLS handshake, until `deadline` at most, and notes in `peer` the subject of the client's certificate; answers also
/// whether HTTP/2 was negotiated. `None` if it failed.
pub(super) async fn accept(
    state: &State,
    acceptor: &Acceptor,
    socket: Stream,
    peer: &mut Peer,
    deadline: Instant,
) -> Option<(Stream, bool)> {
    let (error, socket) = match timeout_at(deadline, acceptor.accept(socket)).await {
        Ok(Ok(tls)) => {
            peer.is_tls = true;
            peer.subject = tls.subject();
            let is_http2 = tls.protocol() == Protocol::Http2;
            return Some((Stream::Tls(tls), is_http2));
        }
        Ok(Err((error, socket))) => (error, socket),
        Err(_) => {
            debug!(target: TARGET, peer = peer.address.map(tracing::field::display), "no TLS in time");
            state.metrics.server.tls_failures.inc(TlsFailure::Timeout);
            return None;
        }
    };
    debug!(target: TARGET, peer = peer.address.map(tracing::field::display), %error, "no TLS");
    let reason = match error {
        HandshakeError::Plaintext => TlsFailure::Plaintext,
        HandshakeError::Ended | HandshakeError::Io(_) => TlsFailure::Lost,
        HandshakeError::Certificate { .. } => TlsFailure::Certificate,
        HandshakeError::Protocol { .. } | HandshakeError::NoName => TlsFailure::Protocol,
    };
    state.metrics.server.tls_failures.inc(reason);
    match reason {
        TlsFailure::Plaintext => linger::refuse_and_log(state, peer, socket, &Refused::Plaintext).await,
        TlsFailure::Lost => {}
        _ => {
            // Without this the kernel would reset the connection over unread bytes, and the alert would be lost.
            let _ = timeout(LINGER, linger::linger(socket)).await;
        }
    }
    None
}
