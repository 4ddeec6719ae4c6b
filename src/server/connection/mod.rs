//! Drives one client's connection: PROXY header and TLS, then HTTP, until it ends, runs out of time, or becomes a
//! WebSocket.
//!
//! * [`proxy_header`], [`tls`]: before the first request. [`first`]: that one, if it is a plain handshake. [`http1`], [`http2`]:
//!   while it is HTTP; [`in_service`] and [`waiting`]: requests that are taken from hyper.
//! * [`upgrade`]: what becomes of its socket after a 101; [`closing`]: a refusal that is sent as a Close; [`linger`]:
//!   an end that lets the last answer arrive.
//!
//! # Not here
//! What a request is answered ([`super::request`]); how long it may take ([`super::http::timeouts`]).

mod closing;
mod first;
mod http1;
mod http2;
mod in_service;
pub(super) mod linger;
mod proxy_header;
mod tls;
mod upgrade;
mod waiting;

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;

use self::http1::End;
use self::in_service::{Serve, Serving};
use super::http::connection::HttpConnection;
use super::http::idle_slot::IdleSlot;
use super::http::timeouts::HttpTimeouts;
use super::limits::gauge::GaugeGuard;
use super::limits::handshakes::HandshakePermit;
use super::request;
use super::state::{Snapshot, State};
use crate::config;
use crate::net::{ClientBody, Peer, Stream, Transport};

/// [`Serve`], as the product does it.
type ServeFn = fn(Arc<State>, Arc<HttpConnection>, Arc<Peer>, Request<ClientBody>) -> Serving;

/// Serves `stream` for as long as it is an HTTP connection. Its time runs from the accept, whatever comes before the
/// first request.
pub(super) fn serve(
    state: Arc<State>,
    stream: Stream,
    peer: Peer,
    handshake_permit: HandshakePermit,
) -> impl Future<Output = ()> + Send {
    let http1: ServeFn =
        |state, connection, peer, request| Box::pin(request::serve_http1(state, connection, peer, request));
    let http2: ServeFn =
        |state, connection, peer, request| Box::pin(request::serve(state, connection, peer, request));
    serve_with(state, stream, peer, handshake_permit, (http1, http2))
}

/// As [`serve`], with what answers the requests of either protocol.
///
/// Not an async function: what it is called with would be part of the connection for as long as that lives.
fn serve_with<S: Serve>(
    state: Arc<State>,
    stream: Stream,
    peer: Peer,
    handshake_permit: HandshakePermit,
    (serve_http1, serve_http2): (S, S),
) -> impl Future<Output = ()> + Send {
    // Boxed, so that what comes later does not pay for its size.
    let beginning = Box::pin(begin(Arc::clone(&state), stream, peer, handshake_permit));
    async move {
        let Some((mut begun, client)) = beginning.await else { return };
        let (connection, peer) = (&begun.connection, &begun.peer);
        // On the heap, so that it can be dropped before the connection is handed on.
        let mut evicted = Box::pin(connection.is_evicted());
        let (end, client, character) = if begun.is_http2 {
            (End::Http2Preface, client, None)
        } else {
            let mut driver = http1::Driver {
                connection,
                evicted: evicted.as_mut(),
                cut: http1::Cut::new(begun.cut.as_mut()),
                deadline: begun.deadline,
                max_header_bytes: begun.max_header_bytes,
            };
            let serving = driver.serve(client, |request| {
                serve_http1(Arc::clone(&state), Arc::clone(connection), Arc::clone(peer), request)
            });
            serving.await
        };
        begun.counted = None;
        let is_http2 = matches!(end, End::Http2Preface)
            || connection.hyper_status().is_some() && http1::is_preface(&client.read_ahead);
        if is_http2
            && connection.is_first_head()
            && let Some(settings) = begun.http2
        {
            drop(evicted);
            // As a whole: the permit of the handshake ends with the first stream.
            let Begun { connection, peer, deadline, .. } = begun;
            // Boxed, so that connections of HTTP/1.1 do not pay for its size.
            let serving = http2::serve(&state, &peer, settings, client, deadline, connection, serve_http2);
            return Box::pin(serving).await;
        }
        // Boxed: it needs more than all that comes before, and for a short time.
        let finishing = http1::finish(&state, peer, end, (client, character), connection, evicted.as_mut());
        Box::pin(finishing).await;
    }
}

/// A connection whose first request may come.
struct Begun {
    connection: Arc<HttpConnection>,
    peer: Arc<Peer>,
    /// Completes when a drain cuts the connection.
    cut: Pin<Box<OwnedNotified>>,
    counted: Option<GaugeGuard>,
    /// When the first head has to have come.
    deadline: Instant,
    max_header_bytes: usize,
    /// What HTTP/2 may take, if it is spoken here.
    http2: Option<config::Http2>,
    /// Whether it was negotiated.
    is_http2: bool,
}

/// Reads what comes before the first request. `None` if the connection has ended.
async fn begin(
    state: Arc<State>,
    stream: Stream,
    mut peer: Peer,
    handshake_permit: HandshakePermit,
) -> Option<(Begun, Transport)> {
    let counted = GaugeGuard::new(&state.metrics.server.http_connections);
    let mut cut = Box::pin(state.drain.cuts());
    // The connection may live for days. It loads the snapshot anew for each request, and keeps none from before a
    // reload.
    let snapshot = state.snapshot();
    let listen = &snapshot.listen;
    let since = handshake_permit.since();
    let deadline = since + listen.handshake_timeout;
    let (stream, is_http2) = tokio::select! {
        read = read_ahead_of_http(&state, &snapshot, stream, &mut peer, deadline) => read?,
        () = cut.as_mut() => return None,
    };
    let peer = Arc::new(peer);
    let stall = snapshot.stall_timeout;
    let timeouts = HttpTimeouts::new(listen.handshake_timeout, listen.keep_alive, stall, since);
    let idle = IdleSlot::new(&state, &peer);
    let begun = Begun {
        connection: HttpConnection::new(timeouts, handshake_permit, Some(idle)),
        peer,
        cut,
        counted: Some(counted),
        deadline,
        max_header_bytes: listen.max_header_bytes,
        http2: listen.http2,
        is_http2: is_http2 && listen.http2.is_some(),
    };
    Some((begun, Transport { stream, read_ahead: Bytes::new() }))
}

/// Reads PROXY header and TLS handshake; also answers whether HTTP/2 was negotiated. `None` if the connection has ended.
async fn read_ahead_of_http(
    state: &State,
    snapshot: &Snapshot,
    mut stream: Stream,
    peer: &mut Peer,
    deadline: Instant,
) -> Option<(Stream, bool)> {
    proxy_header::read(state, snapshot, &mut stream, peer, deadline).await.ok()?;
    match &snapshot.tls {
        // Boxed, so that connections without TLS do not pay for its size.
        Some(acceptor) => Box::pin(tls::accept(state, acceptor, stream, peer, deadline)).await,
        None => Some((stream, false)),
    }
}
