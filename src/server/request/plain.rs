//! Plain HTTP: a request that is not a handshake goes to the upstream as it is, if the route passes them on.

use http::{Method, Request, Response};
use http_body::Body;

use super::routed::RoutedRequest;
use super::target;
use crate::admission::Refused;
use crate::config::HttpMode;
use crate::net::ClientBody;
use crate::net::head::spelling;
use crate::server::http::body::AnswerBody;
use crate::upstream::headers;

/// Sends the request to the upstream, and answers with its response. Bodies are streamed both ways.
pub(super) async fn answer(
    request: RoutedRequest<'_>,
    body: ClientBody,
) -> Result<Response<AnswerBody>, Refused> {
    let RoutedRequest { connection, route, context, .. } = request;
    let policy = &route.config.policy;
    if policy.http.mode == HttpMode::Refuse {
        return Err(Refused::NoHttp);
    }
    if context.head.method == Method::CONNECT {
        return Err(Refused::Unsupported("CONNECT"));
    }
    let mut upstream_request = Request::new(());
    *upstream_request.uri_mut() = target::for_upstream(route, &context.head.uri)?;
    *upstream_request.headers_mut() = context.head.headers.clone();
    headers::for_upstream(upstream_request.headers_mut(), context.requester(), route.forwarding(), false);
    *upstream_request.method_mut() = context.head.method;
    *upstream_request.version_mut() = context.head.version;
    *upstream_request.extensions_mut() = context.head.extensions;
    spelling::note(upstream_request.extensions_mut());
    let body_guard = (!body.is_end_stream()).then(|| connection.hold_request_body());
    let mut response = route.upstream.request(upstream_request.map(|()| body), body_guard, policy).await?;
    headers::for_client(response.status(), response.headers_mut());
    Ok(response.map(|body| AnswerBody::upstream(body, connection)))
}
