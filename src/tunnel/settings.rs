//! What a tunnel is given: by its route, and by its handshake.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Heartbeat, HeartbeatMode, Policy};
use crate::frame::Extensions;
use crate::memory::Budget;
use crate::resilience::Expiry;

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
    /// permessage-deflate, since nobody could look into compressed texts.
    pub(crate) fn is_json(&self) -> bool {
        self.policy.heartbeat.is_some_and(|heartbeat| heartbeat.mode == HeartbeatMode::Json)
    }
}

/// What holds for one connection of a route.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    /// What was agreed upon with the upstream.
    pub extensions: Extensions,
    /// When its credentials end, and the connection with them.
    pub expires: Option<Expiry>,
    /// Held until the connection has ended, whatever ends it.
    pub slot: Option<Box<dyn Any + Send + Sync>>,
}
