//! One request of a client: through its route's layers to its mode, and whatever comes of it is an answer.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;
use tower::{Service, ServiceExt};

use super::access::Access;
use super::handshake;
use super::lines::Asked;
use super::refusal::Acceptance;
use super::router::without_prefix;
use super::session::{AnswerBody, Session};
use super::state::{Route, State};
use super::unrouted;
use crate::admission::{Kind, Refused, RequestContext};
use crate::config::{HttpMode, OnRefuse};
use crate::net::Peer;
use crate::net::head::HeadFault;
use crate::net::http::{request_id, set_close};
use crate::telemetry::{HandshakeOutcome, RouteMetrics, StatusClass};
use crate::upstream::headers::{self, ForwardingConfig, Requester};

/// What a mode needs of a request besides the guest.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) state: Arc<State>,
    pub(super) session: Arc<Session>,
    pub(super) route: Arc<Route>,
    pub(super) request_id: Box<str>,
    pub(super) body: Incoming,
}

impl Load {
    /// How the route's upstream wants to be told where a request came from.
    pub(super) fn telling(&self) -> ForwardingConfig<'_> {
        let upstream = &self.route.config.upstream;
        ForwardingConfig {
            forwarded: upstream.forwarded,
            host: upstream.host_header,
            target: &upstream.target,
            strip_prefix: self.route.config.strip_prefix.as_deref(),
        }
    }
}

/// What the upstream is told about a guest.
pub(super) fn seen(guest: &RequestContext) -> Requester<'_> {
    Requester {
        peer: &guest.peer,
        forwarding: guest.forwarding.as_deref(),
        client: guest.client.address,
        user: guest.user.as_ref().map(|user| &*user.name),
        attested: Some(&guest.attested),
    }
}

/// Answers one request of HTTP/1, if its head says one thing. If not, nothing that follows it can be told from its
/// body: the connection ends with the answer (RFC 9112 §6.3).
pub(super) async fn serve_http1(
    state: Arc<State>,
    session: Arc<Session>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    session.on_request();
    match unrouted::check(&state, &peer, request) {
        Ok(request) => serve(state, session, peer, request).await,
        Err(refused) => {
            let mut response = refused.response().map(|body| AnswerBody::own(body, &session));
            set_close(response.headers_mut());
            response.body_mut().keep(InFlight::new(&state));
            Ok(response)
        }
    }
}

/// Answers one request, whose head was found to say one thing. Never fails: a failure is an answer too.
pub(super) async fn serve(
    state: Arc<State>,
    session: Arc<Session>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    session.on_request();
    let in_flight = InFlight::new(&state);
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let table = state.table();
    let picked = table.router.pick(host, request.uri().path());
    let route = Arc::clone(picked.route);
    let ambiguous = picked.stricter.map(|(stricter, why)| {
        state.metrics.ambiguous_paths.inc();
        Refused::AmbiguousPath { because: why, stricter: stricter.config.name.clone() }
    });
    let (mut head, body) = request.into_parts();
    let kind = if handshake::is_handshake(&head.headers) { Kind::Handshake } else { Kind::Plain };
    let request_id = request_id(&mut head.headers);
    let mut told = Told { route: &route.metrics, kind, outcome: HandshakeOutcome::Abandoned };
    let (method, uri) = (head.method.clone(), head.uri.clone());
    // Asked for now: the layers may take the head apart.
    let acceptance = (kind == Kind::Handshake && route.config.policy.on_refuse == OnRefuse::Close)
        .then(|| Acceptance::of(&head, !body.is_end_stream()))
        .flatten();
    let peer_address = peer.address;
    let guest = RequestContext::new(head, kind, peer);
    let noted = Arc::clone(&guest.noted);
    let load = Load {
        state: Arc::clone(&state),
        session: Arc::clone(&session),
        route: Arc::clone(&route),
        request_id: request_id.clone(),
        body,
    };
    let mut access = match kind {
        Kind::Handshake => None,
        Kind::Plain => Access::of(state.lines.requests, &route.metrics, &noted, (&method, &uri, &request_id)),
    };
    let result = match ambiguous {
        Some(refused) => Err(refused),
        None => route.stack.clone().oneshot((guest, load)).await,
    };
    let mut response = result.unwrap_or_else(|refused| {
        told.outcome = refused.answer().outcome;
        if let Some(access) = &mut access {
            access.refused(refused.answer().reason);
        }
        if let Some(guard) = refused.guard() {
            route.metrics.on_refusal(guard);
        }
        let asked = Asked {
            route: Some(&route.metrics.name),
            client: noted.client().or(peer_address),
            request_id: Some(&request_id),
            path: Some(uri.path()),
        };
        // A body that is none is the client's fault, and no failure of the server.
        if let Refused::Upstream(error) = &refused
            && let Some(why) = error.kind()
        {
            state.lines.failed(kind, why, error, &asked);
        } else {
            state.lines.refused(&refused, &asked);
        }
        let max = state.table().listen.max_refusals;
        let closed = acceptance.and_then(|acceptance| {
            acceptance.instead_of(&refused, &route.config.policy.close_codes, &state.refusals, max)
        });
        let Some((response, parting)) = closed else {
            return refused.response().map(|body| AnswerBody::own(body, &session));
        };
        session.part(parting);
        response.map(|()| AnswerBody::own(Full::default(), &session))
    });
    let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if told.outcome == HandshakeOutcome::Abandoned {
        told.outcome = if is_upgraded { HandshakeOutcome::Accepted } else { HandshakeOutcome::Refused };
    }
    if kind == Kind::Plain {
        route.metrics.on_http(StatusClass::of(response.status()));
    }
    if let Some(access) = &mut access {
        access.answered(response.status());
    }
    response.body_mut().log(access);
    // What a client sent after a handshake was meant for a WebSocket: it must not be read as a request.
    let is_last = match kind {
        Kind::Handshake => !is_upgraded,
        Kind::Plain => state.drain.refuses(Instant::now()),
    };
    if is_last {
        set_close(response.headers_mut());
    }
    response.body_mut().keep(in_flight);
    Ok(response)
}

/// Counts a handshake when it is over, also if that is because the client went away.
struct Told<'a> {
    route: &'a RouteMetrics,
    kind: Kind,
    outcome: HandshakeOutcome,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if self.kind == Kind::Handshake {
            self.route.on_handshake(self.outcome);
        }
    }
}

/// What stands behind the layers: the route's mode, or the upstream's plain HTTP.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mode;

impl Service<(RequestContext, Load)> for Mode {
    type Response = Response<AnswerBody>;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Refused>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (guest, load): (RequestContext, Load)) -> Self::Future {
        if let Some(user) = &guest.user {
            guest.noted.note_user(user);
        }
        match guest.kind {
            Kind::Handshake => {
                let has_body = !load.body.is_end_stream();
                Box::pin(handshake::answer(guest, load, has_body))
            }
            Kind::Plain => Box::pin(plain(guest, load)),
        }
    }
}

async fn plain(guest: RequestContext, load: Load) -> Result<Response<AnswerBody>, Refused> {
    let policy = &load.route.config.policy;
    if policy.http.mode == HttpMode::Refuse {
        return Err(Refused::NoHttp);
    }
    if guest.head.method == Method::CONNECT {
        return Err(Refused::Unsupported("CONNECT"));
    }
    let mut request = Request::new(());
    *request.uri_mut() = target(&load.route, &guest.head.uri)?;
    *request.headers_mut() = guest.head.headers.clone();
    headers::for_upstream(request.headers_mut(), seen(&guest), load.telling(), false);
    *request.method_mut() = guest.head.method;
    *request.extensions_mut() = guest.head.extensions;
    let Load { route, session, body, .. } = load;
    let policy = &route.config.policy;
    let taken = (!body.is_end_stream()).then(|| session.takes_body());
    let mut response = route.upstream.request(request.map(|()| body), taken, policy).await?;
    headers::for_client(response.status(), response.headers_mut());
    Ok(response.map(|body| AnswerBody::upstream(body, &session)))
}

/// Path and query as the upstream is to see them: in origin form, without `strip_prefix`.
pub(super) fn target(route: &Route, uri: &Uri) -> Result<Uri, Refused> {
    strip(route.config.strip_prefix.as_deref(), uri)
}

fn strip(prefix: Option<&str>, uri: &Uri) -> Result<Uri, Refused> {
    let path_and_query = uri.path_and_query().map_or("/", |target| target.as_str());
    if !path_and_query.starts_with('/') {
        return Err(Refused::Unsupported("a request without a path"));
    }
    let rest = prefix.and_then(|prefix| {
        let rest = without_prefix(uri.path(), prefix)?;
        path_and_query.get(uri.path().len() - rest.len()..)
    });
    let text = match rest {
        None => path_and_query.to_owned(),
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        Some(rest) => format!("/{rest}"),
    };
    text.parse().map_err(|_| HeadFault::Target.into())
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
            (Some("/ws"), "//ws/a?b=//ws", "/a?b=//ws"),
            (Some("/ws"), "/%77s/a%2Fb;c", "/a%2Fb;c"),
            (Some("/ws"), "/x/../ws?a", "/?a"),
        ];
        for (prefix, uri, expected) in cases {
            assert_eq!(strip(prefix, &uri.parse().unwrap()).unwrap(), expected, "{prefix:?} {uri}");
        }
        assert!(strip(None, &"*".parse().unwrap()).is_err());
    }
}
