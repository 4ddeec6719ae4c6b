//! Mode `broadcast`: one upstream link for all clients of a channel, 1 : N.
//!
//! * [`Hubs`]: every hub of the process; [`Hub`]: the channels of one route.
//!
//! # Not here
//! How messages reach a client ([`crate::delivery`]); who may come in ([`crate::admission`]).

use std::sync::Arc;

use bytes::Bytes;

use crate::frame::Kind;
use crate::log::Logs;
use crate::resilience::Budget;
use crate::telemetry::Metrics;

/// Every hub of the process, also those that a reload has replaced and that still have clients.
#[derive(Debug)]
pub struct Hubs {}

/// What came of publishing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Published {
    /// Clients it is for.
    pub recipients: u64,
    /// Its number, where it went into exactly one log.
    pub sequence: Option<u64>,
}

/// A channel, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its route.
    pub route: String,
    /// Its name: what the parts of its key come to.
    pub channel: String,
    /// Clients it has.
    pub clients: u64,
    /// Whether its upstream is connected.
    pub is_connected: bool,
    /// Of its log.
    pub epoch: u64,
    /// The newest sequence number.
    pub sequence: u64,
}

impl Hubs {
    /// None yet. `shards`: tasks that share the clients of a channel.
    pub fn new(logs: Arc<Logs>, budget: Arc<Budget>, metrics: Arc<Metrics>, shards: usize) -> Arc<Self> {
        let _ = (logs, budget, metrics, shards);
        unimplemented!()
    }

    /// Publishes into the log of a channel of `route`, or of all of them; to one user, or to all clients.
    pub async fn publish(
        &self,
        route: &str,
        channel: Option<&str>,
        user: Option<&str>,
        kind: Kind,
        payload: &Bytes,
    ) -> Published {
        let _ = (route, channel, user, kind, payload);
        unimplemented!()
    }

    /// Every channel there is.
    pub fn channels(&self) -> Vec<ChannelInfo> {
        unimplemented!()
    }
}
