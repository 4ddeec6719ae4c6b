//! Mode `tunnel`: frames stream between a client and its upstream, 1 : 1, nothing kept.
//!
//! [`spawn`] takes the two hops after the handshake and runs one future, [`relay::Relay`], until both
//! have ended:
//!
//! * [`relay`], [`pump`]: the future; reads one side, lets the scanner walk, writes the other.
//! * [`link`]: one hop.
//! * [`pings`]: heartbeats, put between frames.
//! * [`inject`]: messages of an operator, put between messages.
//! * [`rates`]: how much a client may send.
//! * [`timing`]: every clock of a connection behind one timer.
//! * [`ending`], [`closing`]: how it ends, as a table, and when.
//!
//! # Not here
//! Handshakes ([`crate::server`], [`crate::upstream`]); the rules of frames ([`crate::frame`]).

mod closing;
mod ending;
mod inject;
mod link;
mod pings;
mod pump;
mod rates;
mod relay;
mod settings;
mod timing;

use std::sync::Arc;

use crate::connections::Connection;
use crate::frame::Extensions;
use crate::net::Transport;

pub(crate) use settings::Settings;

/// Relays until both hops have ended. The task owns them; it is reached through its handle only. `extensions` are those
/// that the client and the upstream have agreed upon.
pub(crate) fn spawn(
    client: Transport,
    upstream: Transport,
    extensions: Extensions,
    settings: &Arc<Settings>,
    connection: Connection,
) {
    tokio::spawn(relay::Relay::new(client, upstream, extensions, settings, connection));
}

#[cfg(test)]
mod tests;
