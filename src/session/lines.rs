//! Log lines about the servers of sessions. One that fails does so for all sessions of its route, again and again: lines of each
//! kind are throttled, and say how many were left out.

use tokio::time::Instant;
use tracing::{info, warn};

use super::cause::Cause;
use super::plan::Plan;
use crate::telemetry::nonzero;
use crate::upstream::UplinkEnd;
use crate::upstream::redial::DialFailure;

/// The kind of line about a server that is connected again.
const BACK: &str = "back";

/// Whether a line of this kind may be written now, and how many were left out since the last one.
fn allow(plan: &Plan, kind: &'static str) -> Option<Option<u64>> {
    plan.shared.lines.allow((plan.route.clone(), kind), Instant::now()).map(nonzero)
}

/// A session has lost its server, and keeps its client meanwhile.
pub(super) fn lost(plan: &Plan, connection: Option<u64>, end: &UplinkEnd) {
    if let Some(left_out) = allow(plan, "lost") {
        let route = &*plan.route;
        warn!(route, connection, why = %end, left_out, "a session has lost its server, and keeps its client");
    }
}

/// A session is connected to its server again.
pub(super) fn back(plan: &Plan, connection: Option<u64>, away_ms: u64) {
    if let Some(left_out) = allow(plan, BACK) {
        info!(route = &*plan.route, connection, away_ms, left_out, "a session goes on with its server");
    }
}

/// A dial has failed.
pub(super) fn failed(plan: &Plan, connection: Option<u64>, failure: &DialFailure) {
    let route = &*plan.route;
    match failure {
        // None is asked.
        DialFailure::BreakerOpen(_) => {}
        DialFailure::Failed(error) => {
            if let Some(left_out) = allow(plan, "failed") {
                warn!(route, connection, %error, left_out, "a session's server is not back yet");
            }
        }
        DialFailure::OtherProtocol => {
            if let Some(left_out) = allow(plan, "other_protocol") {
                warn!(
                    route,
                    connection,
                    left_out,
                    "a session is over: its server chose another subprotocol than before"
                );
            }
        }
        DialFailure::Declined(response) => {
            if let Some(left_out) = allow(plan, "refused") {
                let status = response.status().as_u16();
                warn!(route, connection, status, left_out, "a session's server refused the handshake");
            }
        }
    }
}

/// A new server has not replied to the greeting.
pub(super) fn no_reply(plan: &Plan, connection: Option<u64>) {
    if let Some(left_out) = allow(plan, "no_reply") {
        let route = &*plan.route;
        warn!(
            route,
            connection,
            left_out,
            "a session's server did not reply to the greeting (policy.session.greeting)"
        );
    }
}

/// Messages of a client were lost, or may be.
pub(super) fn messages_lost(plan: &Plan, connection: Option<u64>, why: &'static str, messages: u64) {
    if let Some(left_out) = allow(plan, why) {
        let route = &*plan.route;
        warn!(
            route,
            connection,
            why,
            messages,
            left_out,
            "messages of a session's client did not surely reach its server"
        );
    }
}

/// A session is over although its client would have stayed.
pub(super) fn over(plan: &Plan, connection: Option<u64>, cause: &Cause) {
    let why = crate::telemetry::Label::as_str(cause.session_end());
    if let Some(left_out) = allow(plan, why) {
        info!(route = &*plan.route, connection, why, left_out, "a session is over");
    }
}

/// Lines of this kind were left out, and no later one of it has said so.
pub(super) fn log_left_out(route: &str, kind: &'static str, left_out: u64) {
    if kind == BACK {
        info!(route, kind, left_out, "more sessions go on");
    } else {
        warn!(route, kind, left_out, "more sessions had trouble with their servers");
    }
}
