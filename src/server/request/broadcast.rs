//! Mode `broadcast` answers a handshake itself, once the channel that the client asks for runs.

use std::sync::Arc;

use http::{HeaderValue, Response, header};
use http_body_util::Full;

use super::handshake;
use super::routed::RoutedRequest;
use super::target;
use crate::admission::{Bound, Refused};
use crate::broadcast::{self, Hub, JoinError};
use crate::frame::{accept_for, deflate};
use crate::net::head::HeadFault;
use crate::net::http::switching_protocols;
use crate::server::http::body::AnswerBody;
use crate::server::http::upgrade::{PendingSubscription, PendingUpgrade};
use crate::upstream::headers;

/// Reserves a place on the channel, and answers with a 101 of our own.
pub(super) async fn answer(
    mut request: RoutedRequest<'_>,
    hub: &Arc<Hub>,
) -> Result<Response<AnswerBody>, Refused> {
    handshake::prepare(&mut request)?;
    let (route, connection) = (request.route, request.connection);
    let context = &mut request.context;
    // A part of the channel's key may be a header that only a proxy in front of us may write.
    headers::remove_forged(&mut context.head.headers, context.forwarding.as_deref());
    // Or one that the authentication service sets: then its value counts.
    headers::attest(&mut context.head.headers, &context.attested);
    let headers = &context.head.headers;
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    let accept = HeaderValue::try_from(accept_for(key)).map_err(|_| HeadFault::Syntax)?;
    let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).into_iter();
    let offers = offers.filter_map(|offers| offers.to_str().ok());
    let extension = route.config.policy.compression.then(|| deflate::accept(offers)).flatten();
    let target = target::for_upstream(route, &context.head.uri)?;
    let joined = hub.reserve(broadcast::JoinRequest {
        uri: &context.head.uri,
        target: &target,
        headers,
        user: context.user.as_ref().map(|user| &user.name),
        caller: context.caller(),
        requester: context.requester(),
        own_protocols: context.own_protocols.as_deref(),
    });
    let reservation = match joined.await {
        Ok(reservation) => reservation,
        Err(JoinError::NameTooLong) => {
            return Err(Refused::Malformed("its channel's name would be too long"));
        }
        Err(JoinError::Full) => return Err(Refused::Capacity(Bound::Channels)),
        Err(JoinError::BreakerOpen(wait)) => return Err(Refused::Breaker(wait)),
        Err(JoinError::Upstream(error)) => return Err(Refused::Upstream(error)),
        Err(JoinError::Declined(answer)) => {
            return Ok(answer.map(|body| AnswerBody::own(Full::from(body), connection)));
        }
    };
    let mut response = switching_protocols(accept).map(|()| AnswerBody::own(Full::default(), connection));
    let headers = response.headers_mut();
    if let Some(protocol) = reservation.protocol() {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
    }
    if let Some(extension) = extension {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(extension));
    }
    let own = context.own_protocols.as_ref().and_then(|own| own.answer_of_session());
    handshake::choose_own_protocol(own, headers);
    let admitted = request.into_admitted();
    let has_deflate = extension.is_some();
    let pending = PendingSubscription { admitted, reservation, has_deflate };
    connection.set_upgrade(PendingUpgrade::Broadcast(Box::new(pending)));
    Ok(response)
}
