//! The access log of plain HTTP (`log.requests`): one line for each request, when the last byte of its answer was
//! handed on, or when its client has gone away.
//!
//! # Invariants
//! 1. A line is bounded in length, and has neither a query nor anything else that may hold credentials.
//! 2. A request that gets no line costs a comparison.
//!
//! # Not here
//! WebSockets, which have lines of their own ([`crate::connections::Registry`]); refusals, which are logged whatever this
//! is set to ([`super::lines`]).

use std::sync::Arc;

use http::{Method, StatusCode, Uri};
use tokio::time::Instant;
use tracing::info;

use crate::admission::LogFields;
use crate::config::LogRequests;
use crate::telemetry::redact::redact_path;
use crate::telemetry::{RouteMetrics, client_address};

/// Longest method logged, in bytes: registered methods have at most 17.
const MAX_METHOD_CHARS: usize = 32;

/// The line of one request; written when this is dropped.
#[derive(Debug)]
pub(super) struct Access {
    wanted: LogRequests,
    route: Arc<RouteMetrics>,
    log_fields: Arc<LogFields>,
    method: Method,
    uri: Uri,
    request_id: Box<str>,
    since: Instant,
    /// `None`: it was not answered, because its client went away.
    status: Option<StatusCode>,
    reason: Option<&'static str>,
    bytes_out: u64,
    is_broken: bool,
}

impl Access {
    /// For a request that has just come; `None` if it gets no line in any case.
    pub(super) fn new(
        wanted: LogRequests,
        route: &Arc<RouteMetrics>,
        log_fields: &Arc<LogFields>,
        (method, uri, request_id): (&Method, &Uri, &str),
    ) -> Option<Box<Self>> {
        (wanted != LogRequests::Off).then(|| {
            Box::new(Self {
                wanted,
                route: Arc::clone(route),
                log_fields: Arc::clone(log_fields),
                method: method.clone(),
                uri: uri.clone(),
                request_id: request_id.into(),
                since: Instant::now(),
                status: None,
                reason: None,
                bytes_out: 0,
                is_broken: false,
            })
        })
    }

    /// The proxy refused the request, for this reason.
    pub(super) fn refused(&mut self, reason: &'static str) {
        self.reason = Some(reason);
    }

    /// The status of the answer is known.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Counts bytes of the answer's body that were handed on.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    /// The answer broke off.
    pub(super) fn broken(&mut self) {
        self.is_broken = true;
    }
}

/// Whether a request that ended so gets a line.
fn is_logged(wanted: LogRequests, status: Option<StatusCode>, is_broken: bool) -> bool {
    match wanted {
        LogRequests::All => true,
        LogRequests::Errors => {
            is_broken || status.is_none_or(|status| status.is_client_error() || status.is_server_error())
        }
        LogRequests::Off => false,
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        if !is_logged(self.wanted, self.status, self.is_broken) {
            return;
        }
        // A method is ASCII: it can be cut anywhere.
        let method = self.method.as_str();
        info!(
            route = &*self.route.name,
            request_id = &*self.request_id,
            client = self.log_fields.client().map(client_address),
            user = self.log_fields.user(),
            method = &method[..method.len().min(MAX_METHOD_CHARS)],
            path = %redact_path(self.uri.path()),
            status = self.status.map(|status| status.as_u16()),
            reason = self.reason,
            broken = self.is_broken.then_some(true),
            duration_ms = self.since.elapsed().as_millis() as u64,
            bytes_out = self.bytes_out,
            "request"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_what_a_client_could_not_use() {
        use LogRequests::{All, Errors, Off};
        let of = |status| StatusCode::from_u16(status).ok();
        for (status, is_broken, is_error) in [
            (of(200), false, false),
            (of(304), false, false),
            (of(200), true, true),
            (of(400), false, true),
            (of(404), false, true),
            (of(503), false, true),
            (None, false, true),
        ] {
            assert_eq!(is_logged(Errors, status, is_broken), is_error, "{status:?} {is_broken}");
            assert!(is_logged(All, status, is_broken) && !is_logged(Off, status, is_broken));
        }
    }
}
