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
use std::sync::Arc;

use http::{Request, Response, header};
use http_body::Body;
use hyper::body::Incoming;
use tower::ServiceExt;

use self::record::{HandshakeRecorder, RequestRecord};
use self::refusal_close::AcceptThenClose;
use self::routed::RoutedRequest;
use super::access::Access;
use super::fallback::{Asked, Cors};
use super::http::body::AnswerBody;
use super::http::connection::HttpConnection;
use super::limits::gauge::GaugeGuard;
use super::state::{Mode, State};
use crate::admission::{Kind, Refused, RequestContext};
use crate::config::OnRefuse;
use crate::net::Peer;
use crate::net::http::{request_id, set_close};

/// Answers one request of HTTP/1, if its head says one thing. If not, nothing that follows it can be told from its
/// body: the connection ends with the answer (RFC 9112 §6.3).
pub(super) async fn serve_http1(
    state: Arc<State>,
    connection: Arc<HttpConnection>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    connection.on_request();
    match errors::check(&state, &peer, request) {
        Ok(request) => serve(state, connection, peer, request).await,
        Err(refused) => {
            let mut response = refused.response().map(|body| AnswerBody::own(body, &connection));
            set_close(response.headers_mut());
            response.body_mut().hold_in_flight(GaugeGuard::new(&state.metrics.server.http_in_flight));
            Ok(response)
        }
    }
}

/// Answers one request, whose head was found to say one thing. Never fails: a failure is an answer too.
pub(super) async fn serve(
    state: Arc<State>,
    connection: Arc<HttpConnection>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
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
    let peer_address = peer.address;
    let asked = endpoint.map(|(endpoint, path)| {
        let cors = Cors::of(&route.config.policy, &head.headers);
        (Box::new(Asked::take(&mut head, endpoint, &path)), cors)
    });
    let kind = match &asked {
        Some((asked, _)) => Kind::Fallback(asked.takes),
        None if is_handshake => Kind::Handshake,
        None => Kind::Plain,
    };
    let mut context = RequestContext::new(head, kind, peer);
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
    let record = RequestRecord {
        state: &state,
        connection: &connection,
        route: &route,
        kind,
        uri,
        request_id: &request_id,
        peer: peer_address,
        log_fields,
        access,
        accept_then_close,
        endpoint: asked.as_ref().map(|(asked, cors)| (asked.endpoint, cors.clone())),
        recorder: HandshakeRecorder::new(&route.metrics, kind),
        in_flight,
    };

    let result = async {
        if let Some(refused) = ambiguous {
            return Err(refused);
        }
        // Admit.
        let context = route.admission.clone().oneshot(context).await?;
        if let Some(user) = &context.user {
            context.log_fields.set_user(user);
        }
        // Answer. On the heap: a request that waits to be admitted does not need the space yet.
        let request = RoutedRequest {
            state: &state,
            connection: &connection,
            route: &route,
            request_id: &request_id,
            context,
            has_body,
        };
        if let Some((asked, cors)) = asked {
            return Box::pin(fallback::answer(request, *asked, &cors, body)).await;
        }
        match (kind, &route.mode) {
            (Kind::Plain | Kind::Fallback(_), _) => Box::pin(plain::answer(request, body)).await,
            (Kind::Handshake, Mode::Tunnel { settings, breaker }) => {
                Box::pin(tunnel::answer(request, settings, breaker.as_ref())).await
            }
            (Kind::Handshake, Mode::Session { plan, breaker, afresh }) => {
                let route = session::SessionRoute { plan, breaker: breaker.as_ref(), afresh };
                Box::pin(session::answer(request, route)).await
            }
            (Kind::Handshake, Mode::Broadcast { hub, .. }) => Box::pin(broadcast::answer(request, hub)).await,
        }
    };
    let result = result.await;

    // Conclude.
    Ok(record.conclude(result))
}
