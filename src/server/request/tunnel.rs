//! Mode `tunnel` answers a handshake: each is sent to the upstream, and the client gets the upstream's answer.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{Empty, Full};

use super::handshake;
use super::routed::RoutedRequest;
use super::target;
use crate::admission::{BreakerGuard, Refused};
use crate::net::head::spelling;
use crate::server::http::body::AnswerBody;
use crate::server::http::upgrade::{PendingTunnel, PendingUpgrade};
use crate::tunnel;
use crate::upstream::Upgrade;
use crate::upstream::headers;
use crate::upstream::verify::Offer;

/// Sends the handshake to the upstream, if its breaker is closed.
pub(super) async fn answer(
    request: RoutedRequest<'_>,
    settings: &Arc<tunnel::Settings>,
    breaker: Option<&BreakerGuard>,
) -> Result<Response<AnswerBody>, Refused> {
    match breaker {
        Some(breaker) => {
            let caller = request.context.caller();
            breaker.guard(caller, Box::pin(upgrade(request, settings))).await
        }
        None => Box::pin(upgrade(request, settings)).await,
    }
}

async fn upgrade(
    mut request: RoutedRequest<'_>,
    settings: &Arc<tunnel::Settings>,
) -> Result<Response<AnswerBody>, Refused> {
    handshake::prepare(&mut request)?;
    let (route, connection) = (request.route, request.connection);
    let context = &mut request.context;
    let offer = Offer::of(&context.head.headers);
    let mut upstream_request = Request::new(Empty::<Bytes>::new());
    *upstream_request.uri_mut() = target::for_upstream(route, &context.head.uri)?;
    *upstream_request.headers_mut() = std::mem::take(&mut context.head.headers);
    // Among them the spelling of the client's headers.
    *upstream_request.extensions_mut() = std::mem::take(&mut context.head.extensions);
    headers::for_upstream(upstream_request.headers_mut(), context.requester(), route.forwarding(), true);
    match route.upstream.upgrade(upstream_request, &offer).await? {
        Upgrade::Accepted(upgraded) => {
            let mut response = upgraded.response.map(|()| AnswerBody::own(Full::default(), connection));
            let own = context.own_protocols.as_ref().and_then(|own| own.answer_of_tunnel());
            if handshake::choose_own_protocol(own, response.headers_mut()) {
                let headers = response.headers().clone();
                spelling::add(response.extensions_mut(), &headers, &header::SEC_WEBSOCKET_PROTOCOL);
            }
            connection.set_upgrade(PendingUpgrade::Tunnel(PendingTunnel {
                admitted: request.into_admitted(),
                upstream: upgraded.transport,
                extensions: upgraded.extensions,
                settings: Arc::clone(settings),
            }));
            Ok(response)
        }
        Upgrade::Declined(mut declined) => {
            headers::for_client(declined.status(), declined.headers_mut());
            Ok(declined.map(|body| AnswerBody::upstream(body, connection)))
        }
    }
}
