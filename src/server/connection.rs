//! Drives one client's HTTP connection: until it ends, runs out of time, or becomes a WebSocket.

use std::any::Any;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::debug;

use super::crowd::Busy;
use super::http2;
use super::idle::Rest;
use super::patience::Patience;
use super::preface;
use super::refusal;
use super::service;
use super::session::{ClientIo, Handover, Next, Session, Subscription};
use super::state::{State, Table};
use super::unrouted;
use crate::admission::{QuotaPermit, Refused};
use crate::broadcast;
use crate::net::head::{HeadFault, MAX_HEADERS};
use crate::net::tls::{Acceptor, HandshakeError, Protocol};
use crate::net::{Peer, Stream, Transport};
use crate::telemetry::{ConnectionGuard, ConnectionInfo, TlsFailure};
use crate::tunnel;

/// How long a client may go on sending after our last word before it is cut off: unread bytes would turn
/// our answer into a reset that it never reads.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// How much of it is read.
const LINGER_BYTES: usize = 4 << 20;

/// How the HTTP part of a connection ended.
enum End {
    /// In order, or by an error of the client's, which hyper names.
    Done(Option<hyper::Error>),
    /// By the first bytes of HTTP/2, which hyper gives no answer to.
    Preface,
    /// Time ran out.
    Late,
    /// Nothing is asked, and there are others.
    LetGo,
    /// The time of a drain is over.
    Cut,
}

/// Serves `stream` until it is no HTTP connection any more. Its time runs from the accept, whatever stands
/// in front of the first request.
pub(super) async fn serve(state: Arc<State>, stream: Stream, mut peer: Peer, busy: Busy) {
    let shown = Shown::new(&state);
    let mut cut = pin!(state.drain.cuts());
    let table = state.table();
    let listen = &table.listen;
    let stall = table.stall_timeout;
    let deadline = busy.since() + listen.handshake_timeout;
    let begun = tokio::select! {
        begun = begin(&state, &table, stream, &mut peer, deadline) => begun,
        () = cut.as_mut() => return,
    };
    let Some((stream, is_http2)) = begun else { return };
    let peer = Arc::new(peer);
    let patience = Patience::new(listen.handshake_timeout, listen.keep_alive, stall, busy.since());
    let (http2, max_header_bytes) = (listen.http2, listen.max_header_bytes);
    // It may live for days: it looks up what holds for each of its requests, and keeps nothing of before a reload.
    drop(table);
    let session = Session::new(patience, busy, Some(Rest::new(&state, &peer)));
    if let Some(settings) = http2.filter(|_| is_http2) {
        drop(shown);
        return Box::pin(http2::serve(&state, &peer, settings, stream, Bytes::new(), deadline, session))
            .await;
    }
    let io = TokioIo::new(ClientIo::new(stream, Arc::clone(&session)));
    // Boxed, since hyper hands the socket back only from a connection whose futures can move.
    let service = service_fn(|request| {
        Box::pin(service::serve_http1(Arc::clone(&state), Arc::clone(&session), Arc::clone(&peer), request))
    });
    let mut connection = http1::Builder::new()
        .preserve_header_case(true)
        .title_case_headers(true)
        .max_header_size(max_header_bytes)
        .max_headers(MAX_HEADERS)
        .max_buf_size(max_header_bytes.max(MIN_BUFFER))
        // Ours tells a slow head from an idle connection.
        .header_read_timeout(None)
        .serve_connection(io, service);
    let mut alarm = pin!(sleep_until(deadline));
    // On the heap, so that it can be let go of before the session is handed on.
    let mut let_go = Box::pin(session.is_let_go());
    let mut is_spared = false;
    let end = poll_fn(|cx| {
        match connection.poll_without_shutdown(cx) {
            Poll::Ready(Err(error)) if error.is_parse_version_h2() => return Poll::Ready(End::Preface),
            Poll::Ready(result) => return Poll::Ready(End::Done(result.err())),
            Poll::Pending => {}
        }
        // Asked after the connection: a request that came meanwhile is served.
        if let_go.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::LetGo);
        }
        if !is_spared && cut.as_mut().poll(cx).is_ready() {
            // Nothing is left on it, and what may still be asked is not what the drain was for.
            is_spared = session.patience().is_idle();
            if !is_spared {
                return Poll::Ready(End::Cut);
            }
        }
        loop {
            // Not a `while let`: its lock would be held through the loop.
            let Some(deadline) = session.patience().deadline() else { return Poll::Pending };
            if alarm.deadline() != deadline {
                alarm.as_mut().reset(deadline);
            }
            std::task::ready!(alarm.as_mut().poll(cx));
            if session.patience().deadline() == Some(deadline) {
                return Poll::Ready(End::Late);
            }
        }
    })
    .await;
    let parts = connection.into_parts();
    let (mut stream, character) = parts.io.into_inner().into_parts();
    drop(shown);
    let is_preface =
        matches!(end, End::Preface) || session.unreadable().is_some() && is_preface(&parts.read_buf);
    if is_preface
        && session.is_first_head()
        && let Some(settings) = http2
    {
        drop(let_go);
        // Boxed: what is said over HTTP/1.1 must not have to make room for it.
        return Box::pin(http2::serve(&state, &peer, settings, stream, parts.read_buf, deadline, session))
            .await;
    }
    match end {
        End::Preface => refuse_unrouted(&state, &peer, stream, &HeadFault::Http2.into()).await,
        End::Done(error) => {
            if let Some(next) = session.take_next() {
                go_on(&state, Transport { stream, read_ahead: parts.read_buf }, next).await;
            } else if let Some(status) = session.unreadable() {
                let refused = unrouted::explain(status, error.as_ref(), character);
                refuse_unrouted(&state, &peer, stream, &refused).await;
            } else {
                // It asks nothing any more, and is one of those that go for others.
                tokio::select! {
                    _ = timeout(LINGER, linger(stream)) => {}
                    () = let_go => {}
                }
            }
        }
        End::LetGo => stream.send_close_notify(),
        // In order it could be taken for the end of what was said.
        End::Cut => stream.reset_on_drop(),
        End::Late => {
            if session.patience().is_in_head() {
                refuse_unrouted(&state, &peer, stream, &Refused::TooSlow).await;
            } else if session.patience().is_answering() {
                // It does not read: what it did not take must not wait for it in the kernel either.
                stream.reset_on_drop();
            } else {
                stream.send_close_notify();
            }
        }
    }
}

/// Reads what stands before the first request; also tells whether HTTP/2 is to be spoken. None if it is over.
async fn begin(
    state: &State,
    table: &Table,
    mut stream: Stream,
    peer: &mut Peer,
    deadline: Instant,
) -> Option<(Stream, bool)> {
    if !preface::read(state, table, &mut stream, peer, deadline).await {
        return None;
    }
    match &table.tls {
        // On the heap: most connections have no such future inside.
        Some(acceptor) => Box::pin(secure(state, acceptor, stream, peer, deadline)).await,
        None => Some((stream, false)),
    }
}

/// Shakes hands over TLS until `deadline`, and notes in `peer` what that told; also whether HTTP/2 is to be
/// spoken. None if nothing came of it.
async fn secure(
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
            debug!(peer = peer.address.map(tracing::field::display), "no TLS in time");
            state.metrics.on_tls_failure(TlsFailure::Timeout);
            return None;
        }
    };
    debug!(peer = peer.address.map(tracing::field::display), %error, "no TLS");
    let reason = match error {
        HandshakeError::Plaintext => TlsFailure::Plaintext,
        HandshakeError::Ended | HandshakeError::Io(_) => TlsFailure::Lost,
        HandshakeError::Certificate { .. } => TlsFailure::Certificate,
        HandshakeError::Protocol { .. } | HandshakeError::NoName => TlsFailure::Protocol,
    };
    state.metrics.on_tls_failure(reason);
    match reason {
        TlsFailure::Plaintext => refuse_unrouted(state, peer, socket, &Refused::Plaintext).await,
        TlsFailure::Lost => {}
        _ => {
            // The alert would be lost with the connection if it ended before what came was read.
            let _ = timeout(LINGER, linger(socket)).await;
        }
    }
    None
}

/// hyper takes no smaller buffer.
const MIN_BUFFER: usize = 8192;

/// What a client of HTTP/2 says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether what hyper could not read as a request may become that: it gives up as soon as the version has
/// come, and its answer was kept back.
fn is_preface(read: &[u8]) -> bool {
    let n = read.len().min(PREFACE.len());
    n >= b"PRI * HTTP/".len() && read[..n] == PREFACE[..n]
}

/// The answer to a handshake is with the client.
pub(super) async fn go_on(state: &State, client: Transport, next: Next) {
    match next {
        Next::Tunnel(handover) => upgrade(state, client, handover),
        Next::Subscribe(subscription) => subscribe(state, client, *subscription),
        Next::Part(parting) => refusal::close(client, parting).await,
    }
}

/// The 101 is with the client: from here on it is frames.
fn upgrade(state: &State, client: Transport, handover: Handover) {
    let Handover { upstream, mut terms, slot, route, client: address, user, request_id } = handover;
    let about = ConnectionInfo {
        client: address,
        user,
        channel: None,
        request_id,
        route: Arc::clone(&route.metrics),
    };
    let live = state.registry.enter(about);
    state.drain.admit(live.handle());
    terms.slot = occupied(slot, &live);
    tunnel::spawn(client, upstream, terms, &route.tunnel, live);
}

/// The same of a client that gets a feed.
fn subscribe(state: &State, hop: Transport, subscription: Subscription) {
    let Subscription { seat, has_deflate, expires, slot, route, client, user, request_id } = subscription;
    let about = ConnectionInfo {
        client,
        user,
        channel: Some(seat.channel()),
        request_id,
        route: Arc::clone(&route.metrics),
    };
    let live = state.registry.enter(about);
    state.drain.admit(live.handle());
    let slot = occupied(slot, &live);
    seat.take(broadcast::Client { hop, has_deflate, expires, slot, live });
}

/// The place of a handshake that has become a connection: from here on it is given back with that.
fn occupied(slot: Option<QuotaPermit>, live: &ConnectionGuard) -> Option<Box<dyn Any + Send + Sync>> {
    let mut slot = slot?;
    slot.on_open(live.handle());
    Some(slot)
}

/// As [`refuse`], for a request that came: counted, and told in the log.
async fn refuse_unrouted(state: &State, peer: &Peer, stream: Stream, refused: &Refused) {
    unrouted::note(state, peer, refused);
    refuse(stream, refused).await;
}

/// Answers for a request that never became one, and lets the answer arrive.
pub(super) async fn refuse(mut stream: Stream, refusal: &Refused) {
    let told = async {
        stream.write_all(&refusal.to_bytes()).await?;
        linger(stream).await
    };
    // A client that will not hear it has only itself to blame.
    let _ = timeout(LINGER, told).await;
}

/// Ends our side, and reads on until the client has ended its own or enough was read.
async fn linger(mut stream: Stream) -> io::Result<()> {
    stream.shutdown().await?;
    // On the heap, or every connection's task would have it inside.
    let mut sink = vec![0; 8192];
    let mut left = LINGER_BYTES;
    while left > 0 {
        match stream.read(&mut sink).await? {
            0 => break,
            n => left = left.saturating_sub(n),
        }
    }
    Ok(())
}

/// Shows the connection in the metrics for as long as it is HTTP.
pub(super) struct Shown<'a>(&'a State);

impl<'a> Shown<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        state.metrics.http_connections.inc();
        Self(state)
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.metrics.http_connections.dec();
    }
}
