//! One request of a client: which route, and is it a WebSocket handshake or plain HTTP?

use std::convert::Infallible;
use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;
use tracing::warn;

use super::handshake;
use super::refusal::Refusal;
use super::session::{AnswerBody, Session};
use super::state::{Route, State};
use crate::telemetry::StatusClass;
use crate::telemetry::redact::redact_path;
use crate::upstream::headers::{self, Seen, Telling};

/// A request on its way: where it came from and where it goes.
#[derive(Debug)]
pub(super) struct Passage {
    pub(super) state: Arc<State>,
    pub(super) session: Arc<Session>,
    pub(super) route: Arc<Route>,
    pub(super) seen: Seen,
}

impl Passage {
    /// How the route's upstream wants to be told where a request came from.
    pub(super) fn telling(&self) -> Telling<'_> {
        let upstream = &self.route.config.upstream;
        Telling { forwarded: upstream.forwarded, host: upstream.host_header, target: &upstream.target }
    }
}

/// Answers one request. Never fails: a failure is an answer too.
pub(super) async fn serve(
    state: Arc<State>,
    session: Arc<Session>,
    seen: Seen,
    mut request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    session.patience().on_request();
    prefer_uri_host(&mut request);
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let route = Arc::clone(state.router.pick(host, request.uri().path()));
    let passage = Passage { state, session, route, seen };
    if handshake::is_handshake(request.headers()) {
        let (head, body) = request.into_parts();
        let has_body = !body.is_end_stream();
        return Ok(handshake::answer(passage, head, has_body).await);
    }
    Ok(plain(passage, request).await)
}

/// A request in absolute form says its host twice; the URI counts (RFC 9112 §3.2.2).
fn prefer_uri_host(request: &mut Request<Incoming>) {
    let authority = request.uri().authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    if let Some(Ok(host)) = authority {
        request.headers_mut().insert(header::HOST, host);
    }
}

async fn plain(passage: Passage, mut request: Request<Incoming>) -> Response<AnswerBody> {
    let state = Arc::clone(&passage.state);
    let metrics = Arc::clone(&passage.route.metrics);
    let in_flight = InFlight::new(&state);
    let request_id = headers::request_id(request.headers_mut());
    let uri = request.uri().clone();
    let mut response = try_plain(&passage, request).await.unwrap_or_else(|refusal| {
        if let Refusal::Upstream(error) = &refusal {
            let path = redact_path(uri.path());
            warn!(route = &*metrics.name, %request_id, %path, %error, "request failed");
        }
        refusal.response().map(|body| AnswerBody::own(body, &passage.session))
    });
    metrics.on_http(StatusClass::of(response.status()));
    if state.drain.refuses(Instant::now()) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.body_mut().keep(in_flight);
    response
}

async fn try_plain(
    passage: &Passage,
    mut request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Refusal> {
    let Passage { route, session, seen, .. } = passage;
    if !route.config.policy.http.pass {
        return Err(Refusal::NoHttp);
    }
    if request.method() == Method::CONNECT {
        return Err(Refusal::Unsupported("CONNECT"));
    }
    *request.uri_mut() = target(route, request.uri())?;
    headers::for_upstream(request.headers_mut(), *seen, passage.telling(), false);
    let mut response = route.upstream.request(request, route.config.policy.http).await?;
    headers::for_client(response.headers_mut());
    Ok(response.map(|body| AnswerBody::upstream(body, session)))
}

/// Path and query as the upstream is to see them: in origin form, without `strip_prefix`.
pub(super) fn target(route: &Route, uri: &Uri) -> Result<Uri, Refusal> {
    strip(route.config.strip_prefix.as_deref(), uri)
}

fn strip(prefix: Option<&str>, uri: &Uri) -> Result<Uri, Refusal> {
    let path_and_query = uri.path_and_query().map_or("/", |target| target.as_str());
    if !path_and_query.starts_with('/') {
        return Err(Refusal::Unsupported("a request without a path"));
    }
    let rest = prefix.map(|prefix| prefix.trim_end_matches('/')).and_then(|prefix| {
        let rest = path_and_query.strip_prefix(prefix)?;
        matches!(rest.bytes().next(), None | Some(b'/' | b'?')).then_some(rest)
    });
    let text = match rest {
        None => path_and_query.to_owned(),
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        Some(rest) => format!("/{rest}"),
    };
    text.parse().map_err(|_| Refusal::Unreadable)
}

/// A request that is not answered in full, plain or a handshake: a drain waits for it.
#[derive(Debug)]
pub(super) struct InFlight(Arc<State>);

impl InFlight {
    pub(super) fn new(state: &Arc<State>) -> Self {
        state.metrics.http_in_flight.inc();
        Self(Arc::clone(state))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.http_in_flight.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_taken_off_at_a_segment() {
        let cases = [
            (None, "/ws/a?b=c", "/ws/a?b=c"),
            (Some("/ws"), "/ws/a?b=c", "/a?b=c"),
            (Some("/ws/"), "/ws/a", "/a"),
            (Some("/ws"), "/ws", "/"),
            (Some("/ws"), "/ws?x", "/?x"),
            (Some("/ws"), "/wsx", "/wsx"),
            (Some("/ws"), "http://host/ws/a", "/a"),
        ];
        for (prefix, uri, expected) in cases {
            assert_eq!(strip(prefix, &uri.parse().unwrap()).unwrap(), expected, "{prefix:?} {uri}");
        }
        assert!(strip(None, &"*".parse().unwrap()).is_err());
    }
}
