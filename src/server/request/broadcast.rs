//! Mode `broadcast` answers a handshake itself, once the channel that the client asks for runs.

use std::sync::Arc;

use http::{HeaderValue, Response, header};
use http_body_util::Full;

use super::feeds::{self, NotJoined};
use super::handshake;
use super::routed::RoutedRequest;
use crate::admission::Refused;
use crate::broadcast::{Hub, Joiner};
use crate::frame::{accept_for, deflate};
use crate::net::head::HeadFault;
use crate::net::http::switching_protocols;
use crate::server::http::body::AnswerBody;
use crate::server::http::upgrade::{PendingSubscription, PendingUpgrade};

/// Reserves a place on the channel, and answers with a 101 of our own.
pub(super) async fn answer(
    mut request: RoutedRequest<'_>,
    hub: &Arc<Hub>,
) -> Result<Response<AnswerBody>, Refused> {
    handshake::prepare(&mut request)?;
    let (route, connection) = (request.route, request.connection);
    let context = &mut request.context;
    feeds::prepare(context);
    let headers = &context.head.headers;
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    let accept = HeaderValue::try_from(accept_for(key)).map_err(|_| HeadFault::Syntax)?;
    let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).into_iter();
    let offers = offers.filter_map(|offers| offers.to_str().ok());
    let extension = route.config.policy.compression.then(|| deflate::accept(offers)).flatten();
    let by = Joiner::WebSocket(request.context.own_protocols.as_deref());
    let reservation = match feeds::reserve(&request, hub, by).await {
        Ok(reservation) => reservation,
        Err(NotJoined::Refused(refused)) => return Err(refused),
        Err(NotJoined::Declined(answer)) => {
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
    let own = request.context.own_protocols.as_ref().and_then(|own| own.answer_of_session());
    handshake::choose_own_protocol(own, headers);
    let admitted = request.into_admitted();
    let has_deflate = extension.is_some();
    let pending = PendingSubscription { admitted, reservation, has_deflate };
    connection.set_upgrade(PendingUpgrade::Broadcast(Box::new(pending)));
    Ok(response)
}
