//! How a client of a feed gets its place on a channel, whatever it comes by.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;

use super::routed::RoutedRequest;
use super::target;
use crate::admission::{Bound, Refused, RequestContext};
use crate::broadcast::{Hub, JoinError, JoinRequest, Joiner, Reservation};
use crate::upstream::headers;

/// Why a client has no place.
pub(super) enum NotJoined {
    Refused(Refused),
    /// The server's own answer, to all who asked for the channel.
    Declined(Box<Response<Bytes>>),
}

impl From<Refused> for NotJoined {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Has the head say what may be a part of the channel's key.
pub(super) fn prepare(context: &mut RequestContext) {
    // A part of the channel's key may be a header that only a proxy in front of us may write.
    headers::remove_forged(&mut context.head.headers, context.forwarding.as_deref());
    // Or one that the authentication service sets: then its value counts.
    headers::attest(&mut context.head.headers, &context.attested);
}

/// Reserves a place on the channel, which is opened if there is none.
pub(super) async fn reserve(
    request: &RoutedRequest<'_>,
    hub: &Arc<Hub>,
    by: Joiner<'_>,
) -> Result<Reservation, NotJoined> {
    let context = &request.context;
    let target = target::for_upstream(request.route, &context.head.uri)?;
    let joined = hub.reserve(JoinRequest {
        uri: &context.head.uri,
        target: &target,
        headers: &context.head.headers,
        user: context.user.as_ref().map(|user| &user.name),
        caller: context.caller(),
        requester: context.requester(),
        by,
    });
    joined.await.map_err(|error| match error {
        JoinError::NameTooLong => {
            NotJoined::Refused(Refused::Malformed("its channel's name would be too long"))
        }
        JoinError::Full => Refused::Capacity(Bound::Channels).into(),
        JoinError::BreakerOpen(wait) => Refused::Breaker(wait).into(),
        JoinError::Upstream(error) => Refused::Upstream(error).into(),
        JoinError::Declined(answer) => NotJoined::Declined(answer),
    })
}
