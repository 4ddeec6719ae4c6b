//! What operators are told of a channel's server: a number for each dial and loss, and a line. A server that fails does
//! so for all channels of its route, again and again: of each kind of line one is written in a while, with the number of
//! those that were left out.

use std::fmt::Display;

use tokio::time::Instant;
use tracing::{info, warn};

use super::dial::DialFailure;
use super::hub::Hub;
use crate::telemetry::{UplinkOutcome, some};
use crate::upstream::UplinkEnd;

/// The kind of line that tells of a server that is there again.
const BACK: &str = "back";

/// Whether a line of this kind may be written now, and how many were left out since the last one.
fn may(hub: &Hub, kind: &'static str) -> Option<Option<u64>> {
    hub.shared.lines.may((hub.plan.route.clone(), kind), Instant::now()).map(some)
}

/// A dial has ended: the channel's first, or one again. `channel`: as it may stand in a line.
pub(super) fn dialled<T>(
    hub: &Hub,
    channel: &str,
    request_id: &str,
    is_first: bool,
    result: &Result<T, DialFailure>,
) {
    hub.metrics.dials.inc(match result {
        Ok(_) => UplinkOutcome::Ok,
        Err(DialFailure::BreakerOpen(_)) => UplinkOutcome::BreakerOpen,
        Err(DialFailure::Failed(_) | DialFailure::OtherProtocol) => UplinkOutcome::Failed,
        Err(DialFailure::Declined(_)) => UplinkOutcome::Refused,
    });
    let route = &*hub.plan.route;
    match result {
        // There are as many of these as channels are opened.
        Ok(_) if is_first => info!(route, channel, request_id, "a feed is connected"),
        Ok(_) => {
            if let Some(left_out) = may(hub, BACK) {
                info!(route, channel, request_id, left_out, "the feed goes on");
            }
        }
        Err(DialFailure::BreakerOpen(_)) => {}
        Err(DialFailure::Failed(error)) => {
            if let Some(left_out) = may(hub, "failed") {
                warn!(route, channel, request_id, %error, left_out, "no feed");
            }
        }
        Err(DialFailure::OtherProtocol) => {
            if let Some(left_out) = may(hub, "other_protocol") {
                warn!(
                    route,
                    channel,
                    request_id,
                    left_out,
                    "no feed: the server chose another subprotocol than before"
                );
            }
        }
        Err(DialFailure::Declined(refusal)) => {
            if let Some(left_out) = may(hub, "refused") {
                let status = refusal.status().as_u16();
                warn!(route, channel, request_id, status, left_out, "no feed: the server refused");
            }
        }
    }
}

/// So many lines of this kind were left out, and no other has told of it since.
pub(super) fn left_out(route: &str, kind: &'static str, left_out: u64) {
    if kind == BACK {
        info!(route, kind, left_out, "more feeds go on");
    } else {
        warn!(route, kind, left_out, "more channels had no server");
    }
}

/// A channel that goes on has lost its server.
pub(super) fn lost(hub: &Hub, channel: &dyn Display, end: &UplinkEnd) {
    hub.metrics.losses.inc(end.loss());
    let route = &*hub.plan.route;
    match end {
        UplinkEnd::Closed(code, _) => {
            if let Some(left_out) = may(hub, "left") {
                warn!(route, %channel, code = code.0, left_out, "the feed's server left");
            }
        }
        UplinkEnd::Lost
        | UplinkEnd::ProtocolError(_)
        | UplinkEnd::Silent
        | UplinkEnd::Stalled
        | UplinkEnd::Done => {
            if let Some(left_out) = may(hub, "lost") {
                warn!(route, %channel, why = %end, left_out, "the feed's server is lost");
            }
        }
    }
}
