//! An upstream link that ends here: whole messages in, whole messages out, pings answered.
//!
//! # Not here
//! Dialling it again, and what becomes of the messages ([`crate::broadcast`]).

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Heartbeat;
use crate::frame::{CloseCode, Fault, Kind};
use crate::net::Hop;

/// What holds for an uplink.
#[derive(Debug, Clone, Copy)]
pub struct UplinkRules {
    /// Most payload bytes in one frame.
    pub max_frame: u64,
    /// Most in a message.
    pub max_message: u64,
    /// `upstream.heartbeat`
    pub heartbeat: Option<Heartbeat>,
    /// `upstream.stall_timeout`
    pub stall_timeout: Option<Duration>,
    /// How long a close handshake may take.
    pub close_timeout: Duration,
    /// Most bytes that may wait for the server.
    pub max_waiting: usize,
}

/// How an uplink ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UplinkEnd {
    /// The server said Close, with this code and reason.
    Closed(CloseCode, String),
    /// The stream ended without a Close.
    Lost,
    /// The server broke a rule.
    Fault(Fault),
    /// It answered no ping.
    Silent,
    /// It takes nothing.
    Stalled,
    /// We closed it.
    Done,
}

/// One upstream link.
#[derive(Debug)]
pub struct Uplink {}

impl Uplink {
    /// After the handshake.
    pub fn new(hop: Hop, rules: UplinkRules, now: Instant) -> Self {
        let _ = (hop, rules, now);
        unimplemented!()
    }

    /// Drives the link and tells `on` each message, until the link has ended. Yields after a while.
    pub fn poll(&mut self, cx: &mut Context<'_>, on: &mut dyn FnMut(Kind, &[u8])) -> Poll<UplinkEnd> {
        let _ = (cx, on);
        unimplemented!()
    }

    /// Queues a message for the server; false: too much waits already, or the link is ending.
    pub fn send(&mut self, kind: Kind, payload: &[u8]) -> bool {
        let _ = (kind, payload);
        unimplemented!()
    }

    /// Says Close; [`Uplink::poll`] then ends with [`UplinkEnd::Done`], within `close_timeout`.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        let _ = (code, reason);
        unimplemented!()
    }
}
