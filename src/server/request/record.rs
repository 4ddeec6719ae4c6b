//! What is recorded of a request, and the end of every request: counters, log lines, the last headers.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Response, StatusCode, Uri, header};
use http_body_util::Full;
use tokio::time::Instant;

use super::refusal_close::AcceptThenClose;
use crate::admission::{Kind, LogFields, Refused};
use crate::config::Endpoint;
use crate::net::http::set_close;
use crate::server::access::Access;
use crate::server::fallback::{self, AnswerReason, Cors};
use crate::server::http::body::AnswerBody;
use crate::server::http::connection::HttpConnection;
use crate::server::http::upgrade::PendingUpgrade;
use crate::server::limits::gauge::GaugeGuard;
use crate::server::lines::LogContext;
use crate::server::state::{Route, State};
use crate::telemetry::{HandshakeOutcome, RouteMetrics, StatusClass};

/// Counts a handshake when it is over, also if that is because the client went away.
pub(super) struct HandshakeRecorder {
    route: Arc<RouteMetrics>,
    kind: Kind,
    outcome: HandshakeOutcome,
}

impl HandshakeRecorder {
    pub(super) fn new(route: &Arc<RouteMetrics>, kind: Kind) -> Self {
        Self { route: Arc::clone(route), kind, outcome: HandshakeOutcome::Abandoned }
    }
}

impl Drop for HandshakeRecorder {
    fn drop(&mut self) {
        if self.kind == Kind::Handshake {
            self.route.handshakes.inc(self.outcome);
        }
    }
}

/// What is kept of a request for its record, while admission and the mode take its head apart.
pub(super) struct RequestRecord {
    pub(super) state: Arc<State>,
    pub(super) connection: Arc<HttpConnection>,
    pub(super) route: Arc<Route>,
    pub(super) kind: Kind,
    /// Whether an answer of our own has to have no body, and nobody else sees to it.
    pub(super) is_bodiless: bool,
    /// Of an endpoint this is a copy of its path, which alone is logged: it may be kept for longer than the head.
    pub(super) uri: Uri,
    pub(super) request_id: Box<str>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) log_fields: Arc<LogFields>,
    pub(super) access: Option<Box<Access>>,
    pub(super) accept_then_close: Option<AcceptThenClose>,
    /// The endpoint of the fallback that it came to, and who may read its answer.
    pub(super) endpoint: Option<(Endpoint, Cors)>,
    pub(super) recorder: HandshakeRecorder,
    pub(super) in_flight: GaugeGuard,
}

impl RequestRecord {
    /// Makes the answer from the result of the request, and records it.
    pub(super) fn conclude(mut self, result: Result<Response<AnswerBody>, Refused>) -> Response<AnswerBody> {
        let mut response = match result {
            Ok(response) => response,
            Err(refused) => self.refuse(&refused),
        };
        let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if self.recorder.outcome == HandshakeOutcome::Abandoned {
            self.recorder.outcome =
                if is_upgraded { HandshakeOutcome::Accepted } else { HandshakeOutcome::Refused };
        }
        if self.kind != Kind::Handshake {
            self.route.metrics.http_requests.inc(StatusClass::of(response.status()));
        }
        if let (Some(access), Some(AnswerReason(reason))) = (&mut self.access, response.extensions().get()) {
            access.refused(reason);
        }
        if let Some(access) = &mut self.access {
            access.answered(response.status());
        }
        if self.is_bodiless
            && let Some(length) = response.body_mut().leave_out()
        {
            response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        response.body_mut().set_access(self.access);
        // Bytes after a handshake were meant for a WebSocket: they must not be read as a request.
        let is_last = match self.kind {
            Kind::Handshake => !is_upgraded,
            Kind::Plain | Kind::Fallback(_) => self.state.drain.refuses_new(Instant::now),
        };
        if is_last {
            set_close(response.headers_mut());
        }
        response.body_mut().hold_in_flight(self.in_flight);
        response
    }

    /// Counts and logs a refusal, and answers with its status, or with a 101 and a Close.
    fn refuse(&mut self, refused: &Refused) -> Response<AnswerBody> {
        let (state, connection, route) = (&self.state, &self.connection, &self.route);
        self.recorder.outcome = refused.answer().outcome;
        if let Some(access) = &mut self.access {
            access.refused(refused.answer().reason);
        }
        if let Some(guard) = refused.guard() {
            route.metrics.refusals.inc(guard);
        }
        let log_context = LogContext {
            route: Some(&route.metrics.name),
            client: self.log_fields.client().or(self.peer),
            request_id: Some(&self.request_id),
            path: Some(self.uri.path()),
        };
        // Errors without a kind are the client's (its request body), and not failures of the server.
        if let Refused::Upstream(error) = refused
            && let Some(why) = error.kind()
        {
            state.lines.upstream_failed(self.kind, why, error, &log_context);
        } else {
            state.lines.refused(refused, &log_context);
        }
        let max = state.snapshot().listen.max_refusals;
        let closed = self.accept_then_close.take().and_then(|accept_then_close| {
            accept_then_close.accept(refused, &route.config.policy.close_codes, &state.refusals, max)
        });
        if let Some((endpoint, cors)) = &self.endpoint {
            let mut response =
                fallback::refusal(refused, *endpoint).map(|body| AnswerBody::own(body, connection));
            cors.set(&route.config.policy, response.headers_mut());
            return response;
        }
        let Some((response, pending)) = closed else {
            return refused.response().map(|body| AnswerBody::own(body, connection));
        };
        connection.set_upgrade(PendingUpgrade::Close(pending));
        response.map(|()| AnswerBody::own(Full::default(), connection))
    }
}
