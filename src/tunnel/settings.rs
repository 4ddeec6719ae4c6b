//! What holds for every tunnel of a route.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Heartbeat, HeartbeatMode, Policy};
use crate::memory::Budget;

/// What holds for every connection of a route, worked out once.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The route's policy.
    pub policy: Arc<Policy>,
    /// `upstream.stall_timeout`
    pub upstream_stall: Option<Duration>,
    /// `upstream.heartbeat`
    pub upstream_heartbeat: Option<Heartbeat>,
    /// Of the process: what connections hold for sockets that do not take it.
    pub budget: Arc<Budget>,
}

impl Settings {
    /// Whether clients of this route are asked for their pong in JSON: the handshake must then not offer
    /// permessage-deflate, since compressed texts could not be read.
    pub(crate) fn is_json(&self) -> bool {
        self.policy.heartbeat.is_some_and(|heartbeat| heartbeat.mode == HeartbeatMode::Json)
    }
}
