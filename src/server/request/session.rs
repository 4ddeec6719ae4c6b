//! Mode `session` answers a handshake as its server does, with a 101 of our own: each side gets a WebSocket that ends here.

use std::sync::Arc;

use http::{HeaderValue, Response, header};
use http_body_util::Full;

use super::handshake;
use super::routed::RoutedRequest;
use super::target;
use crate::admission::{BreakerGuard, Refused};
use crate::frame::{accept_for, deflate};
use crate::net::head::{HeadFault, spelling};
use crate::net::http::X_REQUEST_ID;
use crate::server::http::body::AnswerBody;
use crate::server::http::upgrade::{PendingSession, PendingUpgrade};
use crate::session::{Opened, Plan};
use crate::upstream::opening::Opening;
use crate::upstream::verify::Offer;
use crate::upstream::{Upgrade, headers};

/// Sends the handshake to the upstream, if its breaker is closed.
pub(super) async fn answer(
    request: RoutedRequest<'_>,
    plan: &Arc<Plan>,
    breaker: Option<&BreakerGuard>,
) -> Result<Response<AnswerBody>, Refused> {
    match breaker {
        Some(breaker) => {
            let caller = request.context.caller();
            breaker.guard(caller, Box::pin(open(request, plan))).await
        }
        None => Box::pin(open(request, plan)).await,
    }
}

async fn open(mut request: RoutedRequest<'_>, plan: &Arc<Plan>) -> Result<Response<AnswerBody>, Refused> {
    handshake::prepare(&mut request)?;
    let (route, connection) = (request.route, request.connection);
    let context = &mut request.context;
    let mut asked = std::mem::take(&mut context.head.headers);
    let key = asked.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    let accept = HeaderValue::try_from(accept_for(key)).map_err(|_| HeadFault::Syntax)?;
    let offers = asked.get_all(header::SEC_WEBSOCKET_EXTENSIONS).into_iter();
    let offers = offers.filter_map(|offers| offers.to_str().ok());
    let extension = route.config.policy.compression.then(|| deflate::accept(offers)).flatten();
    headers::for_upstream(&mut asked, context.requester(), route.forwarding(), true);
    // Both links end here: what one of them agrees upon is nothing to the other.
    asked.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    let target = target::for_upstream(route, &context.head.uri)?;
    let opening = Opening::of_one_client(&target, asked);
    let (mut upstream_request, _) = opening.request(None);
    if let Ok(id) = HeaderValue::from_str(request.request_id) {
        upstream_request.headers_mut().insert(X_REQUEST_ID, id);
    }
    let offer = Offer::of(upstream_request.headers());
    match route.upstream.upgrade(upstream_request, &offer).await? {
        Upgrade::Accepted(upgraded) => {
            let protocol = upgraded.response.headers().get(header::SEC_WEBSOCKET_PROTOCOL).cloned();
            let mut response = upgraded.response.map(|()| AnswerBody::own(Full::default(), connection));
            response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            let mut added = Vec::new();
            if let Some(extension) = extension {
                let extension = HeaderValue::from_static(extension);
                response.headers_mut().insert(header::SEC_WEBSOCKET_EXTENSIONS, extension);
                added.push(header::SEC_WEBSOCKET_EXTENSIONS);
            }
            let own = context.own_protocols.as_ref().and_then(|own| own.answer_of_tunnel());
            if handshake::choose_own_protocol(own, response.headers_mut()) {
                added.push(header::SEC_WEBSOCKET_PROTOCOL);
            }
            let headers = response.headers().clone();
            for name in &added {
                spelling::add(response.extensions_mut(), &headers, name);
            }
            let opened = Opened { transport: upgraded.transport, protocol, opening };
            let pending = PendingSession {
                admitted: request.into_admitted(),
                plan: Arc::clone(plan),
                opened,
                has_deflate: extension.is_some(),
            };
            connection.set_upgrade(PendingUpgrade::Session(Box::new(pending)));
            Ok(response)
        }
        Upgrade::Declined(mut declined) => {
            headers::for_client(declined.status(), declined.headers_mut());
            Ok(declined.map(|body| AnswerBody::upstream(body, connection)))
        }
    }
}
