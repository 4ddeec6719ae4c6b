//! Log lines about requests that were refused, and about those that failed at the server: one for each reason
//! and second, with a count of those that were left out; and the throttle of warnings that come once a minute.
//!
//! # Invariants
//! 1. No client can make the log grow without bound: a line is bounded in length, and in a second there are at most as
//!    many lines as reasons (for failures, as reasons and routes).
//! 2. Lines that were left out are counted in a later one, if need be one of its own ([`Lines::log_left_out`]).
//! 3. A line never has a query, nor anything else that may hold credentials.
//!
//! # Not here
//! The answer of a refusal ([`crate::admission::Refused`]); the counters, which count each of them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::admission::{Kind, Refused};
use crate::config::LogRequests;
use crate::net::Peer;
use crate::telemetry::redact::redact_path;
use crate::telemetry::{Label, RequestError, UpstreamErrorKind, WarnThrottle, client_address, nonzero};
use crate::upstream::UpstreamError;

/// The period of lines of the same reason.
const SECOND: Duration = Duration::from_secs(1);
/// The period of warnings of the same kind: their causes, settings or an attack, last for a while.
const MINUTE: Duration = Duration::from_secs(60);

/// Decides whether a line may be written now, and writes it.
#[derive(Debug)]
pub(super) struct Lines {
    refusals: WarnThrottle,
    /// By route: one whose server is down must not hide what happens on another.
    failures: WarnThrottle<Failing>,
    /// `log.requests`
    pub(super) requests: LogRequests,
    /// What is warned of once a minute.
    pub(super) warnings: WarnThrottle,
}

/// What kind of request failed, on which route, and the kind of the error.
type Failing = (Kind, Box<str>, &'static str);

/// What is known of a request that was refused; `None` where it is not known or was not read.
#[derive(Debug, Default)]
pub(super) struct LogContext<'a> {
    /// The name of its route, if one was picked.
    pub(super) route: Option<&'a str>,
    /// The client as admission found it, or else the peer.
    pub(super) client: Option<SocketAddr>,
    pub(super) request_id: Option<&'a str>,
    /// The path; it is logged without its query.
    pub(super) path: Option<&'a str>,
}

impl Lines {
    pub(super) fn new(requests: LogRequests) -> Self {
        Self {
            requests,
            refusals: WarnThrottle::every(SECOND),
            failures: WarnThrottle::every(SECOND),
            warnings: WarnThrottle::every(MINUTE),
        }
    }

    /// Logs a request that was refused, if it is time for a line with this reason.
    pub(super) fn refused(&self, refused: &Refused, context: &LogContext<'_>) {
        let failure = refused.auth_failure();
        let reason = failure.map_or(refused.answer().reason, Label::as_str);
        let Some(left_out) = self.refusals.allow(reason, Instant::now()).map(nonzero) else { return };
        let &LogContext { route, request_id, .. } = context;
        let client = context.client.map(client_address);
        let path = context.path.map(|path| tracing::field::display(redact_path(path)));
        if failure.is_some() {
            info!(route, reason, client, request_id, path, left_out, "not authenticated");
        } else {
            let origin = match refused {
                Refused::Origin(page) => page.origin(),
                _ => None,
            };
            warn!(route, reason, client, request_id, path, origin, left_out, error = %refused, "refused");
        }
    }

    /// Logs a request that was refused before a route was looked for, if it is time for a line with this reason. Its
    /// client is not known yet: `peer` is the other end of the connection.
    pub(super) fn refused_unrouted(&self, reason: RequestError, refused: &Refused, peer: &Peer) {
        let reason = reason.as_str();
        let Some(left_out) = self.refusals.allow(reason, Instant::now()).map(nonzero) else { return };
        let peer = peer.address.map(tracing::field::display);
        warn!(reason, peer, left_out, error = %refused, "refused");
    }

    /// Logs a request to which its server gave no usable answer, if it is time for a line of its route with this
    /// kind of failure.
    pub(super) fn upstream_failed(
        &self,
        what: Kind,
        why: UpstreamErrorKind,
        error: &UpstreamError,
        context: &LogContext<'_>,
    ) {
        let &LogContext { route, request_id, .. } = context;
        let kind = why.as_str();
        let key = (what, route.unwrap_or_default().into(), kind);
        let Some(left_out) = self.failures.allow(key, Instant::now()).map(nonzero) else { return };
        let path = context.path.map(|path| tracing::field::display(redact_path(path)));
        match what {
            Kind::Handshake => warn!(route, request_id, path, kind, left_out, %error, "handshake failed"),
            Kind::Plain | Kind::Fallback(_) => {
                warn!(route, request_id, path, kind, left_out, %error, "request failed");
            }
        }
    }

    /// Logs how many lines were left out, where none has followed since. To be called now and then.
    pub(super) fn log_left_out(&self) {
        let now = Instant::now();
        for ((what, route, kind), left_out) in self.failures.overdue(now) {
            let route = &*route;
            match what {
                Kind::Handshake => warn!(route, kind, left_out, "more handshakes failed"),
                Kind::Plain | Kind::Fallback(_) => warn!(route, kind, left_out, "more requests failed"),
            }
        }
        for (reason, left_out) in self.refusals.overdue(now) {
            warn!(reason, left_out, "refused more of them");
        }
        for (kind, left_out) in self.warnings.overdue(now) {
            warn!(kind, left_out, "more of what was warned of");
        }
    }
}
