//! Mode `session` answers a handshake as its server does, with a 101 of our own: each side gets a WebSocket that ends here. A
//! client that comes back to its session is answered without its server.
//!
//! # Invariants
//! 1. A handshake that was let in for its ticket, and whose session does not take it, meets what was left out for the ticket
//!    before the server is asked for a new connection.
//!
//! # Not here
//! Which tickets are valid ([`crate::admission`], [`crate::session`]).

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tower::ServiceExt;

use super::handshake;
use super::routed::RoutedRequest;
use super::target;
use crate::admission::{BreakerGuard, Refused, ResumeDecision, Stack};
use crate::connections::{EndedSession, ResumeGrant};
use crate::frame::{CloseCode, accept_for, deflate};
use crate::net::head::{HeadFault, spelling};
use crate::net::http::{X_REQUEST_ID, switching_protocols};
use crate::net::own_protocols::{OwnProtocols, Resume};
use crate::server::http::body::AnswerBody;
use crate::server::http::upgrade::{PendingResume, PendingSession, PendingUpgrade};
use crate::session::{Greeted, Handle, Identity, NotResumed, Opened, Plan, TicketKeys, Wire};
use crate::telemetry::ResumeOutcome;
use crate::upstream::opening::Opening;
use crate::upstream::verify::Offer;
use crate::upstream::{Upgrade, headers};

/// What the mode has of a route.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionRoute<'a> {
    pub(super) plan: &'a Arc<Plan>,
    pub(super) breaker: Option<&'a BreakerGuard>,
    /// What a handshake passes whose ticket was good for nothing after all.
    pub(super) afresh: &'a Stack,
}

/// The session that a client comes back to.
struct Found {
    handle: Arc<Handle>,
    /// The number of the newest message that the client has had.
    seen: u64,
    keys: Arc<TicketKeys>,
}

/// What is agreed upon with the client, beside its subprotocol.
struct Agreed {
    accept: HeaderValue,
    extension: Option<&'static str>,
}

/// Lets a client come back to its session, or opens a new one if the server's breaker is closed.
pub(super) async fn answer(
    mut request: RoutedRequest<'_>,
    route: SessionRoute<'_>,
) -> Result<Response<AnswerBody>, Refused> {
    handshake::prepare(&mut request)?;
    let agreed = agree(&request)?;
    let asks = request.context.own_protocols.as_deref().is_some_and(|own| own.resume().is_some());
    let mut missed = (!asks).then_some(0);
    let mut previous = None;
    match request.context.resume {
        // It may have asked all the same, where there are no tickets.
        ResumeDecision::None => {}
        ResumeDecision::Refused(ended) => previous = ended,
        ResumeDecision::Granted(grant) => {
            match find(&request, route.plan, grant).await {
                Ok(found) => return resume(request, found, grant.generation, agreed),
                Err(not_resumed) => (missed, previous) = not_resumed,
            }
            request.context = route.afresh.clone().oneshot(request.context).await?;
        }
    }
    let own = request.context.own_protocols.as_deref();
    let greeted = own.filter(|own| own.speaks_v1());
    let greeted = greeted.map(|own| Greeted { nonce: own.nonce().copied(), missed, previous });
    match route.breaker {
        Some(breaker) => {
            let caller = request.context.caller();
            breaker.guard(caller, Box::pin(open(request, route.plan, agreed, greeted))).await
        }
        None => Box::pin(open(request, route.plan, agreed, greeted)).await,
    }
}

fn agree(request: &RoutedRequest<'_>) -> Result<Agreed, Refused> {
    let asked = &request.context.head.headers;
    let key = asked.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    let accept = HeaderValue::try_from(accept_for(key)).map_err(|_| HeadFault::Syntax)?;
    let offers = asked.get_all(header::SEC_WEBSOCKET_EXTENSIONS).into_iter();
    let offers = offers.filter_map(|offers| offers.to_str().ok());
    let extension = request.route.config.policy.compression.then(|| deflate::accept(offers)).flatten();
    Ok(Agreed { accept, extension })
}

/// The session that the client's ticket is of, if it takes the client. If not: how much the client has missed of it, and
/// what is known of it.
async fn find(
    request: &RoutedRequest<'_>,
    plan: &Plan,
    grant: ResumeGrant,
) -> Result<Found, (Option<u64>, Option<EndedSession>)> {
    let refuse = |outcome, missed, ended| {
        plan.metrics().resumes.inc(outcome);
        Err((missed, ended))
    };
    // It may have ended since its ticket was looked at.
    let gone = || refuse(ResumeOutcome::Gone, None, plan.ended(&grant.session));
    let own = request.context.own_protocols.as_deref();
    let (Some(handle), Some(keys), Some(Resume::Session { seen, .. })) =
        (plan.find(&grant.session), plan.ticket_keys(), own.and_then(OwnProtocols::resume))
    else {
        return gone();
    };
    if !handle.is_offered_by(&request.context.head.headers) {
        return refuse(ResumeOutcome::Foreign, None, None);
    }
    match handle.ask(grant.generation, seen).await {
        Ok(()) => Ok(Found { handle, seen, keys }),
        Err(NotResumed::Used | NotResumed::Busy) => refuse(ResumeOutcome::Used, None, None),
        Err(NotResumed::Gone) => gone(),
        Err(NotResumed::Ahead(ended)) => refuse(ResumeOutcome::Ahead, None, Some(ended)),
        Err(NotResumed::Gap(missed, ended)) => refuse(ResumeOutcome::Gap, Some(missed), Some(ended)),
    }
}

/// Answers a client that comes back.
fn resume(
    mut request: RoutedRequest<'_>,
    found: Found,
    generation: u32,
    agreed: Agreed,
) -> Result<Response<AnswerBody>, Refused> {
    let Found { handle, seen, keys } = found;
    let connection = request.connection;
    let over = CloseCode(request.route.config.policy.close_codes.upstream_lost);
    let opening = opening_of(&mut request)?;
    let own = request.context.own_protocols.as_deref();
    let nonce = own.and_then(OwnProtocols::nonce).copied();
    let mut response =
        switching_protocols(agreed.accept).map(|()| AnswerBody::own(Full::default(), connection));
    if let Some(protocol) = &handle.identity().protocol {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
    }
    if let Some(extension) = agreed.extension {
        response.headers_mut().insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(extension));
    }
    handshake::choose_own_protocol(own.and_then(OwnProtocols::answer_of_session), response.headers_mut());
    let pending = PendingResume {
        admitted: request.into_admitted(),
        handle,
        generation,
        seen,
        nonce,
        opening,
        keys,
        over,
        wire: Wire::WebSocket { has_deflate: agreed.extension.is_some() },
    };
    connection.set_upgrade(PendingUpgrade::Resume(Box::new(pending)));
    Ok(response)
}

/// What the server is asked for the client, whenever it is.
pub(super) fn opening_of(request: &mut RoutedRequest<'_>) -> Result<Opening, Refused> {
    let context = &mut request.context;
    let target = target::for_upstream(request.route, &context.head.uri)?;
    let mut asked: HeaderMap = std::mem::take(&mut context.head.headers);
    headers::for_upstream(&mut asked, context.requester(), request.route.forwarding(), true);
    // Both links end here: what one of them agrees upon is nothing to the other.
    asked.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    Ok(Opening::of_one_client(&target, asked))
}

/// What the server says to a handshake.
pub(super) enum Answered {
    Accepted(Box<Accepted>),
    Declined(Incoming),
}

/// The server has accepted.
pub(super) struct Accepted {
    pub(super) opened: Opened,
    /// What the session is.
    pub(super) identity: Identity,
}

/// Asks the server for a connection. The head of what it says is as the client is to get it.
pub(super) async fn ask_server(request: &mut RoutedRequest<'_>) -> Result<Response<Answered>, Refused> {
    let path = request.context.head.uri.path().into();
    let mut opening = opening_of(request)?;
    let (mut upstream_request, _) = opening.request(None);
    if let Ok(id) = HeaderValue::from_str(request.request_id) {
        upstream_request.headers_mut().insert(X_REQUEST_ID, id);
    }
    let offer = Offer::of(upstream_request.headers());
    match request.route.upstream.upgrade(upstream_request, &offer).await? {
        Upgrade::Accepted(upgraded) => {
            let protocol = upgraded.response.headers().get(header::SEC_WEBSOCKET_PROTOCOL).cloned();
            // The client hears of them as well, but its server's next connection begins without it.
            opening.set_cookies(upgraded.response.headers());
            let identity = Identity {
                route: Arc::from(&*request.route.config.name),
                user: request.context.user.as_ref().map(|user| Arc::clone(&user.name)),
                caller: request.context.caller(),
                path,
                protocol: protocol.clone(),
            };
            let opened = Opened { transport: upgraded.transport, protocol, opening };
            let accepted = Answered::Accepted(Box::new(Accepted { opened, identity }));
            Ok(upgraded.response.map(|()| accepted))
        }
        Upgrade::Declined(mut declined) => {
            headers::for_client(declined.status(), declined.headers_mut());
            Ok(declined.map(Answered::Declined))
        }
    }
}

/// Asks the server for a connection, and answers what it answers.
async fn open(
    mut request: RoutedRequest<'_>,
    plan: &Arc<Plan>,
    agreed: Agreed,
    greeted: Option<Greeted>,
) -> Result<Response<AnswerBody>, Refused> {
    let connection = request.connection;
    let (head, answered) = ask_server(&mut request).await?.into_parts();
    match answered {
        Answered::Accepted(accepted) => {
            let Accepted { opened, identity } = *accepted;
            let mut response = Response::from_parts(head, AnswerBody::own(Full::default(), connection));
            response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, agreed.accept);
            let mut added = Vec::new();
            if let Some(extension) = agreed.extension {
                let extension = HeaderValue::from_static(extension);
                response.headers_mut().insert(header::SEC_WEBSOCKET_EXTENSIONS, extension);
                added.push(header::SEC_WEBSOCKET_EXTENSIONS);
            }
            let own = request.context.own_protocols.as_deref().and_then(OwnProtocols::answer_of_session);
            if handshake::choose_own_protocol(own, response.headers_mut()) {
                added.push(header::SEC_WEBSOCKET_PROTOCOL);
            }
            let headers = response.headers().clone();
            for name in &added {
                spelling::add(response.extensions_mut(), &headers, name);
            }
            let pending = PendingSession {
                admitted: request.into_admitted(),
                plan: Arc::clone(plan),
                opened,
                identity,
                greeted,
                has_deflate: agreed.extension.is_some(),
            };
            connection.set_upgrade(PendingUpgrade::Session(Box::new(pending)));
            Ok(response)
        }
        Answered::Declined(body) => Ok(Response::from_parts(head, AnswerBody::upstream(body, connection))),
    }
}
