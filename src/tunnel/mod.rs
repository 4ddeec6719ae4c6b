//! Mode `tunnel`: frames stream between a client and its upstream, 1 : 1, nothing kept.
//!
//! [`spawn`] takes the two hops after the handshake and runs one future, [`relay::Relay`], until both
//! have ended:
//!
//! * [`relay`]: the future; reads one side, lets the scanner walk, writes the other.
//! * [`link`]: one hop.
//! * [`pings`]: heartbeats, put between frames.
//! * [`inject`]: messages of an operator, put between messages.
//! * [`rates`]: how much a client may say.
//! * [`timing`]: every clock of a connection behind one timer.
//! * [`ending`], [`closing`]: how it ends, as a table and as steps.
//!
//! # Not here
//! Handshakes ([`crate::server`], [`crate::upstream`]); the rules of frames ([`crate::frame`]).

mod closing;
mod ending;
mod inject;
mod link;
mod pings;
mod rates;
mod relay;
mod timing;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Heartbeat, HeartbeatMode, Policy};
use crate::frame::Extensions;
use crate::net::Transport;
use crate::resilience::{Budget, Expiry};
use crate::telemetry::ConnectionGuard;

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

/// Relays until both hops have ended. The task owns them; it is reached through its handle only.
pub(crate) fn spawn(
    client: Transport,
    upstream: Transport,
    terms: Terms,
    settings: &Arc<Settings>,
    live: ConnectionGuard,
) {
    tokio::spawn(relay::Relay::new(client, upstream, terms, settings, live));
}

#[cfg(test)]
mod tests;
