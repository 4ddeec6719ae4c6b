//! How a request to an endpoint is answered, for a client that has no WebSocket.
//!
//! * [`feed`]: of a route of mode broadcast. [`session`]: of one of mode session.
//!
//! # Not here
//! What a request says, and the form of answers ([`crate::server::fallback`]); messages as events
//! ([`crate::delivery::events`]).

mod failure;
mod feed;
mod session;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;

use self::failure::Failure;
use super::routed::RoutedRequest;
use super::session::SessionRoute;
use crate::admission::Refused;
use crate::config::Endpoint;
use crate::server::fallback::{
    Asked, Cors, EndpointError, NO_STORE, method_error, options, passes, refused_stream, stream_head,
};
use crate::server::http::body::AnswerBody;
use crate::server::state::Mode;
use crate::upstream::headers;

/// Answers a request that was admitted. `cors`: who may read the answer.
pub(super) async fn answer(
    mut request: RoutedRequest<'_>,
    asked: Asked,
    cors: &Cors,
    body: Incoming,
) -> Result<Response<AnswerBody>, Refused> {
    let (endpoint, connection, route) = (asked.endpoint, request.connection, request.route);
    let policy = &route.config.policy;
    let own = |response: Response<Full<Bytes>>| {
        let mut response = response.map(|body| AnswerBody::own(body, connection));
        cors.set(policy, response.headers_mut());
        response
    };
    if asked.method == Method::OPTIONS {
        return Ok(own(options(policy, endpoint)));
    }
    if let Some(error) = method_error(endpoint, &asked.method) {
        return Ok(own(error.response(endpoint)));
    }
    let parameters = match asked.parameters {
        Ok(parameters) => parameters,
        Err(bad) => return Ok(own(EndpointError::from(bad).response(endpoint))),
    };
    if request.state.drain.refuses_new(Instant::now()) {
        return Err(Refused::Draining);
    }
    fill_in_origin(&mut request);
    let answered = match (&route.mode, endpoint) {
        (Mode::Broadcast { hub, left_out }, Endpoint::Poll) => {
            let feed = feed::Feed { hub, left_out };
            feed::poll(request, feed, asked.position, parameters).await.map(&own)
        }
        (Mode::Broadcast { hub, left_out }, Endpoint::Events) => {
            let feed = feed::Feed { hub, left_out };
            let mut head = stream_head();
            cors.set(policy, head.headers_mut());
            feed::events(request, feed, asked.position, parameters.form, head).await
        }
        (Mode::Broadcast { hub, .. }, Endpoint::Replay) => feed::replay(request, hub, &parameters).map(&own),
        (Mode::Session { plan, breaker, afresh }, endpoint) => {
            let route = SessionRoute { plan, breaker: breaker.as_ref(), afresh };
            let answered = match endpoint {
                Endpoint::Poll => session::poll(request, route, asked.position, parameters).await,
                Endpoint::Events => {
                    let mut head = stream_head();
                    cors.set(policy, head.headers_mut());
                    session::events(request, route, asked.position, parameters.form, head).await
                }
                Endpoint::Send => {
                    let brought = session::Brought { body, content_type: asked.content_type };
                    session::send(request, route, brought, parameters.number).await
                }
                Endpoint::Replay => session::replay(request, route, parameters).await,
            };
            answered.map(|mut answer| {
                if !answer.body().is_stream() {
                    cors.set(policy, answer.headers_mut());
                }
                answer
            })
        }
        // No route has another one ([`crate::config::Route::has_endpoint`]).
        _ => Err(Refused::NoHttp.into()),
    };
    match answered {
        Ok(answer) => Ok(answer),
        Err(Failure::Refused(refused)) => Err(refused),
        Err(Failure::Endpoint(error)) => Ok(own(error.response(endpoint))),
        Err(Failure::Declined(answer)) if endpoint == Endpoint::Events && passes(answer.status()) => {
            Ok(own(refused_stream("upstream_refused", None)))
        }
        Err(Failure::Declined(mut answer)) => {
            answer.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
            Ok(own(answer.map(Full::from)))
        }
    }
}

/// A browser names the page's origin in every handshake, and leaves it out of a GET of the page's own site. What the page
/// asks for is the same: the same channel, and a server that judges origins by itself.
fn fill_in_origin(request: &mut RoutedRequest<'_>) {
    let context = &mut request.context;
    let mut sites = context.head.headers.get_all("sec-fetch-site").into_iter();
    let is_own_page = sites.next().is_some_and(|site| site == "same-origin") && sites.next().is_none();
    if !is_own_page || context.head.headers.contains_key(header::ORIGIN) {
        return;
    }
    let host = context.head.headers.get(header::HOST).cloned();
    let origin: Option<HeaderValue> = headers::own_origin(context.requester(), host.as_ref());
    if let Some(origin) = origin {
        context.head.headers.insert(header::ORIGIN, origin);
    }
}
