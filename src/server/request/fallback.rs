//! How a request to an endpoint is answered, for a client that has no WebSocket.
//!
//! * [`feed`]: of a route of mode broadcast. [`session`]: of one of mode session. [`place`]: what a poll of a feed holds.
//!
//! # Not here
//! What a request says, and the form of answers ([`crate::server::fallback`]); messages as events
//! ([`crate::delivery::events`]).

mod failure;
mod feed;
mod place;
mod session;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header};
use http_body_util::Full;
use tokio::time::Instant;

use self::failure::Failure;
use super::routed::{Answering, RoutedRequest};
use super::session::SessionRoute;
use crate::admission::Refused;
use crate::config::{Endpoint, Policy};
use crate::net::ClientBody;
use crate::server::fallback::{
    Asked, Cors, EndpointError, method_error, options, passes, refused_stream, set_passed_on, stream_head,
};
use crate::server::http::body::AnswerBody;
use crate::server::http::connection::HttpConnection;
use crate::server::state::Mode;
use crate::upstream::headers;

/// Answers a request that was admitted. `cors`: who may read the answer.
pub(super) async fn answer<'a>(
    mut request: RoutedRequest<'a>,
    asked: Asked,
    cors: &'a Cors,
    body: ClientBody,
) -> Result<Answering<'a, Refused>, Refused> {
    let (endpoint, connection, route) = (asked.endpoint, request.connection, request.route);
    let policy = &route.config.policy;
    let conclude = Conclusion { endpoint, connection, policy, cors };
    let own = |response: Response<Full<Bytes>>| Ok(Answering::Now(conclude.own(response)));
    if asked.method == Method::OPTIONS {
        return own(options(policy, endpoint));
    }
    if let Some(error) = method_error(endpoint, &asked.method) {
        return own(error.response(endpoint));
    }
    let (in_feed, in_session) = (asked.position_in_feed(), asked.position_in_session());
    let parameters = match asked.parameters {
        Ok(parameters) => parameters,
        Err(bad) => return own(EndpointError::from(bad).response(endpoint)),
    };
    if request.state.drain.refuses_new(Instant::now) {
        return Err(Refused::Draining);
    }
    fill_in_origin(&mut request);
    let answered = match (&route.mode, endpoint) {
        (Mode::Broadcast { hub, left_out }, Endpoint::Poll) => {
            let feed = feed::Feed { hub, left_out };
            feed::poll(request, feed, in_feed, parameters).await.map(Answering::Later)
        }
        (Mode::Broadcast { hub, left_out }, Endpoint::Events) => {
            let feed = feed::Feed { hub, left_out };
            let head = conclude.stream_head();
            feed::events(request, feed, in_feed, parameters.form, head).await.map(Answering::Now)
        }
        (Mode::Broadcast { hub, .. }, Endpoint::Replay) => {
            let own = |body| AnswerBody::own(body, connection);
            feed::replay(request, hub, &parameters).map(|answer| Answering::Now(answer.map(own)))
        }
        (Mode::Session { plan, breaker, afresh }, endpoint) => {
            let route = SessionRoute { plan, breaker: breaker.as_ref(), afresh };
            let answered = match endpoint {
                Endpoint::Poll => {
                    let polled = session::poll(request, route, in_session, parameters).await;
                    return conclude.begun(polled);
                }
                Endpoint::Events => {
                    let head = conclude.stream_head();
                    session::events(request, route, in_session, parameters.form, head).await
                }
                Endpoint::Send => {
                    let brought = session::Brought { body, content_type: asked.content_type };
                    session::send(request, route, brought, parameters.number).await
                }
                Endpoint::Replay => session::replay(request, route, parameters).await,
            };
            answered.map(Answering::Now)
        }
        // No route has another one ([`crate::config::Route::has_endpoint`]).
        _ => Err(Refused::NoHttp.into()),
    };
    conclude.begun(answered)
}

/// What an answer is made of, whatever the endpoint says.
struct Conclusion<'a> {
    endpoint: Endpoint,
    connection: &'a Arc<HttpConnection>,
    policy: &'a Policy,
    cors: &'a Cors,
}

impl<'a> Conclusion<'a> {
    fn own(&self, response: Response<Full<Bytes>>) -> Response<AnswerBody> {
        let mut response = response.map(|body| AnswerBody::own(body, self.connection));
        self.cors.set(self.policy, response.headers_mut());
        response
    }

    fn stream_head(&self) -> Response<()> {
        let mut head = stream_head();
        self.cors.set(self.policy, head.headers_mut());
        head
    }

    /// What the endpoint has begun, with the head that all answers have.
    fn begun(
        self,
        answered: Result<Answering<'a, Failure>, Failure>,
    ) -> Result<Answering<'a, Refused>, Refused> {
        match answered {
            Ok(Answering::Later(later)) => {
                Ok(Answering::Later(Box::pin(async move { self.concluded(later.await) })))
            }
            Ok(Answering::Now(answer)) => self.concluded(Ok(answer)).map(Answering::Now),
            Err(failure) => self.concluded(Err(failure)).map(Answering::Now),
        }
    }

    fn concluded(
        &self,
        answered: Result<Response<AnswerBody>, Failure>,
    ) -> Result<Response<AnswerBody>, Refused> {
        let endpoint = self.endpoint;
        match answered {
            Ok(mut answer) => {
                // The head of a stream was written before.
                if !answer.body().is_stream() {
                    self.cors.set(self.policy, answer.headers_mut());
                }
                Ok(answer)
            }
            Err(Failure::Refused(refused)) => Err(refused),
            Err(Failure::Endpoint(error)) => Ok(self.own(error.response(endpoint))),
            Err(Failure::Declined(answer)) if endpoint == Endpoint::Events && passes(answer.status()) => {
                Ok(self.own(refused_stream("upstream_refused", None)))
            }
            Err(Failure::Declined(mut answer)) => {
                set_passed_on(answer.headers_mut());
                Ok(self.own(answer.map(Full::from)))
            }
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
