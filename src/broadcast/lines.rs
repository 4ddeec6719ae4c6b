//! Metrics and log lines about a channel's server: each dial and loss is counted, and has a line. A server that fails does
//! so for all channels of its route, again and again: lines of each kind are throttled, and say how many were left out.

use std::fmt::Display;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::{info, warn};

use super::channel::Channel;
use super::state::HubState;
use crate::telemetry::{UplinkOutcome, nonzero};
use crate::upstream::UplinkEnd;
use crate::upstream::redial::{DialFailure, Dialed, Observer};

/// The kind of line about a server that is connected again.
const BACK: &str = "back";

/// Whether a line of this kind may be written now, and how many were left out since the last one.
fn allow(hub: &HubState, kind: &'static str) -> Option<Option<u64>> {
    hub.shared.lines.allow((hub.plan.route.clone(), kind), Instant::now()).map(nonzero)
}

/// Observes the dials of one channel.
#[derive(Debug)]
pub(super) struct DialLines {
    hub: Arc<HubState>,
    /// The channel's name for log lines.
    channel: Box<str>,
}

impl DialLines {
    pub(super) fn new(hub: Arc<HubState>, channel: &Channel) -> Self {
        Self { hub, channel: channel.log_name().to_string().into() }
    }
}

impl Observer for DialLines {
    fn is_in_use(&self) -> bool {
        self.hub.is_connected()
    }

    fn on_dialed(&self, dialed: &Dialed<'_>) {
        on_dialed(&self.hub, &self.channel, dialed);
    }
}

fn on_dialed(hub: &HubState, channel: &str, dialed: &Dialed<'_>) {
    let Dialed { request_id, is_first, ref result } = *dialed;
    hub.metrics.dials.inc(match result {
        Ok(_) => UplinkOutcome::Ok,
        Err(DialFailure::BreakerOpen(_)) => UplinkOutcome::BreakerOpen,
        Err(DialFailure::Failed(_) | DialFailure::OtherProtocol) => UplinkOutcome::Failed,
        Err(DialFailure::Declined(_)) => UplinkOutcome::Refused,
    });
    let route = &*hub.plan.route;
    match result {
        // Not throttled: there is one for each channel that is opened.
        Ok(_) if is_first => info!(route, channel, request_id, "a feed is connected"),
        Ok(_) => {
            if let Some(left_out) = allow(hub, BACK) {
                info!(route, channel, request_id, left_out, "the feed goes on");
            }
        }
        Err(DialFailure::BreakerOpen(_)) => {}
        Err(DialFailure::Failed(error)) => {
            if let Some(left_out) = allow(hub, "failed") {
                warn!(route, channel, request_id, %error, left_out, "no feed");
            }
        }
        Err(DialFailure::OtherProtocol) => {
            if let Some(left_out) = allow(hub, "other_protocol") {
                warn!(
                    route,
                    channel,
                    request_id,
                    left_out,
                    "no feed: the server chose another subprotocol than before"
                );
            }
        }
        Err(DialFailure::Declined(response)) => {
            if let Some(left_out) = allow(hub, "refused") {
                let status = response.status().as_u16();
                warn!(route, channel, request_id, status, left_out, "no feed: the server refused");
            }
        }
    }
}

/// Lines of this kind were left out, and no later one of it has said so.
pub(super) fn log_left_out(route: &str, kind: &'static str, left_out: u64) {
    if kind == BACK {
        info!(route, kind, left_out, "more feeds go on");
    } else {
        warn!(route, kind, left_out, "more channels had no server");
    }
}

/// A channel has lost its server, and dials it again.
pub(super) fn lost(hub: &HubState, channel: &dyn Display, end: &UplinkEnd) {
    hub.metrics.losses.inc(end.loss());
    let route = &*hub.plan.route;
    match end {
        UplinkEnd::Closed(code, _) => {
            if let Some(left_out) = allow(hub, "left") {
                warn!(route, %channel, code = code.0, left_out, "the feed's server left");
            }
        }
        UplinkEnd::Lost
        | UplinkEnd::ProtocolError(_)
        | UplinkEnd::Silent
        | UplinkEnd::Stalled
        | UplinkEnd::Done => {
            if let Some(left_out) = allow(hub, "lost") {
                warn!(route, %channel, why = %end, left_out, "the feed's server is lost");
            }
        }
    }
}
