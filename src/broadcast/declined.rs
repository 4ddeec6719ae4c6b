//! A server's answer to the first dial of a channel that is not a 101, kept for all who wait for it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::upstream::{Declined, headers};

/// Most of its body that is kept.
const MAX_BODY: usize = 64 << 10;

/// The response with as much of its body as comes within `patience`, for any number of clients.
pub(super) async fn buffer(declined: Declined, patience: Duration) -> Response<Bytes> {
    let (head, mut body) = declined.into_parts();
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
    // On a timeout, what has come by then is used.
    let _ = timeout(patience, reading).await;
    let mut response = Response::new(Bytes::from(bytes));
    *response.status_mut() = head.status;
    *response.headers_mut() = for_all(head.status, head.headers);
    // Among them the spelling of the server's headers.
    *response.extensions_mut() = head.extensions;
    response
}

/// The headers of such a response that may go to clients other than the one that the server answered.
fn for_all(status: StatusCode, mut headers: HeaderMap) -> HeaderMap {
    headers::for_client(status, &mut headers);
    // The body may be cut; and a session that the server begins must not be shared.
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::SET_COOKIE);
    headers
}
