//! One dial for a channel: the breaker asked, the handshake held, a refusal kept for all who wait for it.
//!
//! # Not here
//! When to dial, and what to do with what comes of it ([`super::task`]).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::hub::Hub;
use crate::net::Transport;
use crate::resilience::Caller;
use crate::upstream::verify::Offer;
use crate::upstream::{Refusal, UpstreamError, headers};

/// Most of a refusal's body that is kept for those who wait for the same answer.
const MAX_BODY: usize = 64 << 10;

/// What came of a dial.
pub(super) enum DialFailure {
    BreakerOpen(Duration),
    Failed(UpstreamError),
    Declined(Refusal),
    /// Clients were told another subprotocol than the server has now.
    OtherProtocol,
}

/// One dial and handshake. `caller`: whose doing it is, if it fails.
pub(super) async fn attempt(
    hub: &Hub,
    caller: Caller,
    request: http::Request<http_body_util::Empty<Bytes>>,
    told: Option<Option<HeaderValue>>,
) -> Result<(Transport, Option<HeaderValue>), DialFailure> {
    let mut permit = match &hub.plan.breaker {
        // A server that has agreed to the same request before has changed its mind by itself.
        Some(breaker) => {
            let permit = breaker.enter(caller).await.map_err(DialFailure::BreakerOpen)?;
            Some(if told.is_some() { permit.repeated() } else { permit })
        }
        None => None,
    };
    let offer = Offer::of(request.headers());
    let call = hub.plan.upstream.upgrade(request, &offer);
    let result = match &mut permit {
        Some(permit) => permit.watch(call).await,
        None => call.await,
    };
    if let Some(permit) = permit {
        permit.settle(&result, hub.is_connected());
    }
    let upgraded = match result {
        Ok(Ok(upgraded)) => upgraded,
        Ok(Err(refusal)) => return Err(DialFailure::Declined(refusal)),
        Err(error) => return Err(DialFailure::Failed(error)),
    };
    let protocol = upgraded.response.headers().get(header::SEC_WEBSOCKET_PROTOCOL).cloned();
    if told.is_some_and(|told| told != protocol) {
        return Err(DialFailure::OtherProtocol);
    }
    Ok((upgraded.hop, protocol))
}

/// A refusal, for any number of clients.
pub(super) async fn kept(refusal: Refusal, patience: Duration) -> Response<Bytes> {
    let (head, mut body) = refusal.into_parts();
    let mut bytes = Vec::new();
    let reading = async {
        while bytes.len() < MAX_BODY
            && let Some(Ok(frame)) = body.frame().await
        {
            if let Some(data) = frame.data_ref() {
                bytes.extend_from_slice(&data[..data.len().min(MAX_BODY - bytes.len())]);
            }
        }
    };
    // What has come by then is what there is.
    let _ = timeout(patience, reading).await;
    let mut response = Response::new(Bytes::from(bytes));
    *response.status_mut() = head.status;
    *response.headers_mut() = shared(head.status, head.headers);
    // Among them the spelling of the server's headers.
    *response.extensions_mut() = head.extensions;
    response
}

/// What of a refusal's headers may go to clients that did not ask for it themselves.
fn shared(status: StatusCode, mut headers: HeaderMap) -> HeaderMap {
    headers::for_client(status, &mut headers);
    // The body may be cut; and a session that the server begins is nobody's.
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::SET_COOKIE);
    headers
}
