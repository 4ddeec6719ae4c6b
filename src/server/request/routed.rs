//! A request whose route is known, and what comes of it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Response;
use tokio::time::Instant;

use crate::admission::RequestContext;
use crate::connections::Admitted;
use crate::server::http::body::AnswerBody;
use crate::server::http::connection::HttpConnection;
use crate::server::state::{Route, State};

/// What a mode gets of a request that was admitted.
pub(super) struct RoutedRequest<'a> {
    pub(super) state: &'a State,
    pub(super) connection: &'a Arc<HttpConnection>,
    pub(super) route: &'a Route,
    pub(super) request_id: &'a str,
    /// Its head, and what the layers of admission have found out about it.
    pub(super) context: Box<RequestContext>,
    pub(super) has_body: bool,
}

impl RoutedRequest<'_> {
    /// When a wait of this length ends: not beyond the end of the client's credentials.
    pub(super) fn waits_until(&self, timeout: Duration) -> Instant {
        let now = Instant::now();
        let expiry = self.context.user.as_ref().and_then(|user| user.expires);
        let left = expiry.map(|expiry| expiry.left(now, SystemTime::now()));
        now + left.map_or(timeout, |left| timeout.min(left))
    }

    /// Its client, whose handshake has succeeded.
    pub(super) fn into_admitted(self) -> Admitted {
        self.context.into_admitted(self.request_id.into(), Arc::clone(&self.route.metrics))
    }
}

/// An answer, or what waits for one.
pub(super) enum Answering<'a, E> {
    Now(Response<AnswerBody>),
    Later(Later<'a, E>),
}

/// Waits for an answer. It holds what that takes, and nothing of the way there: thousands of requests may wait.
pub(super) type Later<'a, E> = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, E>> + Send + 'a>>;
