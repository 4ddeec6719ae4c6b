//! Plain HTTP: whatever is not a handshake goes to the upstream as it is, if the route lets it.

use http::{Method, Request, Response};
use http_body::Body;
use hyper::body::Incoming;

use super::routed::RoutedRequest;
use super::target;
use crate::admission::Refused;
use crate::config::HttpMode;
use crate::server::http::body::AnswerBody;
use crate::upstream::headers;

/// Asks the upstream, and answers what it said. Bodies are streamed both ways.
pub(super) async fn answer(
    request: RoutedRequest<'_>,
    body: Incoming,
) -> Result<Response<AnswerBody>, Refused> {
    let RoutedRequest { connection, route, context, .. } = request;
    let policy = &route.config.policy;
    if policy.http.mode == HttpMode::Refuse {
        return Err(Refused::NoHttp);
    }
    if context.head.method == Method::CONNECT {
        return Err(Refused::Unsupported("CONNECT"));
    }
    let mut asked = Request::new(());
    *asked.uri_mut() = target::for_upstream(route, &context.head.uri)?;
    *asked.headers_mut() = context.head.headers.clone();
    headers::for_upstream(asked.headers_mut(), context.requester(), route.forwarding(), false);
    *asked.method_mut() = context.head.method;
    *asked.extensions_mut() = context.head.extensions;
    let taken = (!body.is_end_stream()).then(|| connection.takes_body());
    let mut response = route.upstream.request(asked.map(|()| body), taken, policy).await?;
    headers::for_client(response.status(), response.headers_mut());
    Ok(response.map(|body| AnswerBody::upstream(body, connection)))
}
