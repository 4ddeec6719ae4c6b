//! Drives one client's connection: PROXY header and TLS, then HTTP, until it ends, runs out of time, or becomes a
//! WebSocket.
//!
//! * [`proxy_header`], [`tls`]: before the first request. [`http1`], [`http2`]: while it is HTTP.
//! * [`upgrade`]: what becomes of its socket after a 101; [`closing`]: a refusal that is sent as a Close; [`linger`]: an end
//!   that lets the last answer arrive.
//!
//! # Not here
//! What a request is answered ([`super::request`]); how long it may take ([`super::http::timeouts`]).

mod closing;
mod http1;
mod http2;
pub(super) mod linger;
mod proxy_header;
mod tls;
mod upgrade;

use std::pin::pin;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use self::http1::End;
use super::http::client_io::ClientIo;
use super::http::connection::HttpConnection;
use super::http::idle_slot::IdleSlot;
use super::http::timeouts::HttpTimeouts;
use super::limits::gauge::GaugeGuard;
use super::limits::handshakes::HandshakePermit;
use super::request;
use super::state::{Snapshot, State};
use crate::net::head::MAX_HEADERS;
use crate::net::{Peer, Stream, Transport};

/// hyper takes no smaller buffer.
const MIN_BUFFER: usize = 8192;

/// Serves `stream` for as long as it is an HTTP connection. Its time runs from the accept, whatever comes before the first
/// request.
pub(super) async fn serve(
    state: Arc<State>,
    stream: Stream,
    mut peer: Peer,
    handshake_permit: HandshakePermit,
) {
    let counted = GaugeGuard::new(&state.metrics.server.http_connections);
    let mut cut = pin!(state.drain.cuts());
    let snapshot = state.snapshot();
    let listen = &snapshot.listen;
    let stall = snapshot.stall_timeout;
    let deadline = handshake_permit.since() + listen.handshake_timeout;
    let begun = tokio::select! {
        begun = begin(&state, &snapshot, stream, &mut peer, deadline) => begun,
        () = cut.as_mut() => return,
    };
    let Some((stream, is_http2)) = begun else { return };
    let peer = Arc::new(peer);
    let timeouts =
        HttpTimeouts::new(listen.handshake_timeout, listen.keep_alive, stall, handshake_permit.since());
    let (http2, max_header_bytes) = (listen.http2, listen.max_header_bytes);
    // The connection may live for days. It loads the snapshot anew for each request, and keeps none from before a reload.
    drop(snapshot);
    let connection = HttpConnection::new(timeouts, handshake_permit, Some(IdleSlot::new(&state, &peer)));
    if let Some(settings) = http2.filter(|_| is_http2) {
        drop(counted);
        return Box::pin(http2::serve(&state, &peer, settings, stream, Bytes::new(), deadline, connection))
            .await;
    }
    let io = TokioIo::new(ClientIo::new(stream, Arc::clone(&connection)));
    // Boxed, since hyper hands the socket back only from a connection whose futures can move.
    let service = service_fn(|request| {
        Box::pin(request::serve_http1(
            Arc::clone(&state),
            Arc::clone(&connection),
            Arc::clone(&peer),
            request,
        ))
    });
    let mut hyper = hyper::server::conn::http1::Builder::new()
        .preserve_header_case(true)
        .title_case_headers(true)
        .max_header_size(max_header_bytes)
        .max_headers(MAX_HEADERS)
        .max_buf_size(max_header_bytes.max(MIN_BUFFER))
        // `HttpTimeouts` has the timeout of a head, which does not run while the connection is idle.
        .header_read_timeout(None)
        .serve_connection(io, service);
    // On the heap, so that it can be dropped before the connection is handed on.
    let mut evicted = Box::pin(connection.is_evicted());
    let poll = |cx: &mut Context<'_>| hyper.poll_without_shutdown(cx);
    let end = http1::drive(poll, &connection, evicted.as_mut(), cut.as_mut(), deadline).await;
    let (io, read_ahead) = {
        let parts = hyper.into_parts();
        (parts.io, parts.read_buf)
    };
    let (stream, character) = io.into_inner().into_parts();
    drop(counted);
    let is_http2 = matches!(end, End::Http2Preface)
        || connection.hyper_status().is_some() && http1::is_preface(&read_ahead);
    if is_http2
        && connection.is_first_head()
        && let Some(settings) = http2
    {
        drop(evicted);
        // Boxed, so that connections of HTTP/1.1 do not pay for its size.
        return Box::pin(http2::serve(&state, &peer, settings, stream, read_ahead, deadline, connection))
            .await;
    }
    let client = (Transport { stream, read_ahead }, character);
    http1::finish(&state, &peer, end, client, &connection, evicted.as_mut()).await;
}

/// Reads what comes before the first request; also answers whether HTTP/2 was negotiated. `None` if the connection has
/// ended.
async fn begin(
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
