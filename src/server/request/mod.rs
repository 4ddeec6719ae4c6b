//! One request of a client, from its head to its answer.
//!
//! [`serve`] has the phases, in order: receive, route, admit, answer by the route's mode, conclude.
//!
//! * [`errors`]: requests that are refused before a route is looked for. [`handshake`]: what a handshake has to be;
//!   [`target`]: what the upstream sees of a target.
//! * [`tunnel`], [`session`], [`broadcast`], [`plain`]: how a mode answers. [`fallback`]: the same for a client without a
//!   WebSocket; [`feeds`]: how either gets its place on a channel. [`record`]: what is recorded, whatever came of it.
//! * [`refusal_close`]: refusals that a browser can read.
//!
//! # Not here
//! The connection that a request came over ([`super::http`]); which route it takes ([`super::router`]); who is let in
//! ([`crate::admission`]).

mod broadcast;
pub(super) mod errors;
mod fallback;
mod feeds;
mod handshake;
mod plain;
mod record;
mod refusal_close;
mod routed;
mod session;
mod target;
mod tunnel;

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use futures_util::future::Either;
use http::{Method, Request, Response, header};
use http_body::Body;
use tower::ServiceExt;

use self::record::{HandshakeRecorder, RequestRecord};
use self::refusal_close::AcceptThenClose;
use self::routed::{Answering, RoutedRequest};
use super::access::Access;
use super::fallback::{Asked, Cors};
use super::http::body::AnswerBody;
use super::http::connection::HttpConnection;
use super::limits::gauge::GaugeGuard;
use super::state::{Mode, State};
use crate::admission::{Kind, Refused, RequestContext};
use crate::config::OnRefuse;
use crate::net::http::{request_id, set_close};
use crate::net::{ClientBody, Peer};

/// Answers one request of HTTP/1, if its head says one thing. If not, nothing that follows it can be told from its
/// body: the connection ends with the answer (RFC 9112 §6.3).
pub(super) fn serve_http1(
    state: Arc<State>,
    connection: Arc<HttpConnection>,
    peer: Arc<Peer>,
    request: Request<ClientBody>,
) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> + Send {
    connection.on_request();
    match errors::check(&state, &peer, request) {
        Ok(request) => Either::Left(serve(state, connection, peer, request)),
        Err(refused) => {
            let mut response = refused.response().map(|body| AnswerBody::own(body, &connection));
            set_close(response.headers_mut());
            response.body_mut().hold_in_flight(GaugeGuard::new(&state.metrics.server.http_in_flight));
            Either::Right(ready(Ok(response)))
        }
    }
}

/// Answers one request, whose head was found to say one thing. Never fails: a failure is an answer too.
///
/// Not an async function, since that would hold the request for as long as its answer takes.
pub(super) fn serve(
    state: Arc<State>,
    connection: Arc<HttpConnection>,
    peer: Arc<Peer>,
    request: Request<ClientBody>,
) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> + Send {
    let (record, asks) = receive(state, connection, peer, request);
    answer(record, asks)
}

/// What is needed of a request until its answer is known, or all that it takes to wait for that.
struct Asks {
    ambiguous: Option<Refused>,
    context: Box<RequestContext>,
    body: ClientBody,
    has_body: bool,
    /// What it asks an endpoint.
    asked: Option<Asked>,
}

/// Receives a request, and finds its route.
fn receive(
    state: Arc<State>,
    connection: Arc<HttpConnection>,
    peer: Arc<Peer>,
    request: Request<ClientBody>,
) -> (Box<RequestRecord>, Box<Asks>) {
    // Receive: from here on a drain waits for it.
    connection.on_request();
    let in_flight = GaugeGuard::new(&state.metrics.server.http_in_flight);

    // Route.
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let snapshot = state.snapshot();
    let is_handshake = handshake::is_handshake(request.headers());
    let path = request.uri().path();
    let route_match = if is_handshake {
        snapshot.router.pick(host, path)
    } else {
        snapshot.router.pick_request(host, path)
    };
    let endpoint = route_match.endpoint.map(|found| (found.endpoint, found.path.to_owned()));
    let route = Arc::clone(route_match.route);
    let ambiguous = route_match.stricter.map(|(stricter, why)| {
        state.metrics.server.ambiguous_paths.inc();
        Refused::AmbiguousPath { because: why, stricter: stricter.config.name.clone() }
    });

    let (mut head, body) = request.into_parts();
    let request_id = request_id(&mut head.headers);
    let has_body = !body.is_end_stream();
    let (method, uri) = (head.method.clone(), head.uri.clone());
    let is_bodiless = method == Method::HEAD && connection.is_http2_stream();
    let uri = if endpoint.is_some() { uri.path().parse().unwrap_or_default() } else { uri };
    let peer_address = peer.address;
    let asked = endpoint.map(|(endpoint, path)| {
        let cors = Cors::of(&route.config.policy, &head.headers);
        (Asked::take(&mut head, endpoint, &path), cors)
    });
    let kind = match &asked {
        Some((asked, _)) => Kind::Fallback(asked.takes),
        None if is_handshake => Kind::Handshake,
        None => Kind::Plain,
    };
    let mut context = Box::new(RequestContext::new(head, kind, peer));
    if let Some((asked, _)) = &asked {
        context.ticket = asked.ticket;
        context.epoch = asked.epoch();
    }
    // Asked for now: the layers may take the head apart.
    let accept_then_close = (kind == Kind::Handshake && route.config.policy.on_refuse == OnRefuse::Close)
        .then(|| AcceptThenClose::of(&context.head, has_body, context.own_protocols.as_deref()))
        .flatten();
    let log_fields = Arc::clone(&context.log_fields);
    let access = match kind {
        Kind::Handshake => None,
        Kind::Plain | Kind::Fallback(_) => {
            Access::new(state.lines.requests, &route.metrics, &log_fields, (&method, &uri, &request_id))
        }
    };
    let (asked, endpoint) = match asked {
        Some((asked, cors)) => {
            let endpoint = asked.endpoint;
            (Some(asked), Some((endpoint, cors)))
        }
        None => (None, None),
    };
    let record = RequestRecord {
        recorder: HandshakeRecorder::new(&route.metrics, kind),
        state,
        connection,
        route,
        kind,
        is_bodiless,
        uri,
        request_id,
        peer: peer_address,
        log_fields,
        access,
        accept_then_close,
        endpoint,
        in_flight,
    };
    (Box::new(record), Box::new(Asks { ambiguous, context, body, has_body, asked }))
}

/// Answers a request that was received.
async fn answer(record: Box<RequestRecord>, asks: Box<Asks>) -> Result<Response<AnswerBody>, Infallible> {
    let result = {
        // On the heap: what it takes to be admitted is not needed while an answer is waited for.
        let begun = Box::pin(begin(&record, asks)).await;
        match begun {
            Ok(Answering::Now(answer)) => Ok(answer),
            Ok(Answering::Later(later)) => later.await,
            Err(refused) => Err(refused),
        }
    };

    // Conclude.
    Ok(record.conclude(result))
}

/// Admits a request, and answers it by its route's mode as far as that needs the request.
async fn begin(record: &RequestRecord, asks: Box<Asks>) -> Result<Answering<'_, Refused>, Refused> {
    let RequestRecord { state, connection, route, request_id, kind, .. } = record;
    let Asks { ambiguous, context, body, has_body, asked } = *asks;
    if let Some(refused) = ambiguous {
        return Err(refused);
    }
    // Admit.
    let context = route.admission.clone().oneshot(context).await?;
    if let Some(user) = &context.user {
        context.log_fields.set_user(user);
    }
    // Answer. On the heap: a request that waits to be admitted does not need the space yet.
    let request = RoutedRequest { state, connection, route, request_id, context, has_body };
    if let (Some(asked), Some((_, cors))) = (asked, &record.endpoint) {
        return Box::pin(fallback::answer(request, asked, cors, body)).await;
    }
    let answer = match (kind, &route.mode) {
        (Kind::Plain | Kind::Fallback(_), _) => Box::pin(plain::answer(request, body)).await,
        (Kind::Handshake, Mode::Tunnel { settings, breaker }) => {
            Box::pin(tunnel::answer(request, settings, breaker.as_ref())).await
        }
        (Kind::Handshake, Mode::Session { plan, breaker, afresh }) => {
            let route = session::SessionRoute { plan, breaker: breaker.as_ref(), afresh };
            Box::pin(session::answer(request, route)).await
        }
        (Kind::Handshake, Mode::Broadcast { hub, .. }) => Box::pin(broadcast::answer(request, hub)).await,
    };
    answer.map(Answering::Now)
}
