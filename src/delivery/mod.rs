//! From a log to its clients: each has a cursor, and nobody waits for anybody else.
//!
//! * [`fanout`]: all clients of a feed; [`shard`]: one task that serves a part of them, [`door`]: how
//!   others reach it.
//! * [`subscriber`]: one client; [`wire`]: its way out, [`ear`] and [`hearing`]: what it says, [`pulse`]: its
//!   heartbeat and receipts, [`timing`]: its clocks, [`closing`]: its end, [`trouble`] and [`lagging`]: its breaker.
//! * [`batch`]: what goes out together; [`guard`], [`channel_guard`]: breakers, pure.
//! * [`ready`], [`agenda`]: who was woken, and who is due.
//! * [`Holders`]: who holds most of the memory, in the whole process; [`holding`]: what that means, pure.
//!
//! # Not here
//! Where the messages come from ([`crate::broadcast`]); the log itself ([`crate::log`]).

mod agenda;
mod batch;
mod channel_guard;
mod closing;
mod delivering;
mod door;
mod ear;
mod fanout;
mod guard;
mod hearing;
mod holders;
mod holding;
mod lagging;
mod pulse;
mod ready;
mod shard;
mod subscriber;
mod timing;
mod trouble;
mod wire;

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::config::Policy;
use crate::frame::Kind;
use crate::net::Transport;
use crate::resilience::Expiry;
use crate::telemetry::{BreakerMetrics, ConnectionGuard, FeedMetrics, Metrics};

pub(crate) use fanout::Fanout;
pub(crate) use holders::Holders;

/// What holds for all feeds of a route, worked out once.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The route's policy.
    pub policy: Arc<Policy>,
    /// What its feeds count.
    pub metrics: Arc<FeedMetrics>,
    /// The breakers of single clients.
    pub recipients: Arc<BreakerMetrics>,
    /// The breakers of whole channels.
    pub channels: Arc<BreakerMetrics>,
    /// What waits for clients, of all feeds together, and who holds it.
    pub holders: Arc<Holders>,
    /// What is counted of the process.
    pub process: Arc<Metrics>,
    /// Tasks that share the clients of a channel.
    pub shards: usize,
}

/// What becomes of messages from the clients of one feed.
#[derive(Debug, Clone)]
pub(crate) enum FromClients {
    /// They end here, and are counted.
    Drop,
    /// Whoever says one is closed.
    Refuse,
    /// They go here; what there is no room for is dropped and counted.
    Forward(mpsc::Sender<(Kind, Bytes)>),
}

/// A client whose 101 has left.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Its socket.
    pub hop: Transport,
    /// Whether it may be sent compressed messages, and may send such.
    pub has_deflate: bool,
    /// When its credentials end, and the connection with them.
    pub expires: Option<Expiry>,
    /// Held until the connection has ended, whatever ends it.
    pub held: Box<dyn Any + Send + Sync>,
    /// Its place in the registry.
    pub live: ConnectionGuard,
}

#[cfg(test)]
mod tests;
