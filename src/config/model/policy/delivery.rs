//! What holds around each client's feed.

use std::time::Duration;

use crate::config::model::policy::matching::Pointer;

/// `policy.delivery`
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// What happens to the upstream while a client does not read.
    pub on_stall: OnStall,
    /// How far one client may lag behind.
    pub max_lag: Lag,
    /// A client that takes not one byte for this long, while there is something for it, is given up (tunnel),
    /// or trips its breaker (logs).
    pub stall_timeout: Option<Duration>,
    /// How long a client that was tripped is left alone.
    pub cool_down: Duration,
    /// Trips after which it is closed; at least 1.
    pub max_trips: u32,
    /// Where it goes on.
    pub resume_from: ResumeFrom,
    /// `None`: every message is delivered.
    pub throttle: Option<Throttle>,
    /// `policy.delivery.channel_breaker`; `None`: whatever clients lag, all is sent.
    pub channel_breaker: Option<ChannelBreaker>,
}

/// `policy.delivery.on_stall`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStall {
    /// Tunnels: `backpressure`; logs: `isolate`.
    Auto,
    /// Stop reading the upstream.
    Backpressure,
    /// Keep reading it, up to `max_lag`.
    Isolate,
}

/// A distance in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Messages (tunnels do not count them); at least 1.
    pub messages: u64,
    /// Bytes of their frames; at least 1.
    pub bytes: usize,
}

/// `policy.delivery.resume_from`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumeFrom {
    /// From the oldest message that it has not had and that is still there.
    Oldest,
    /// From the next message that comes.
    Latest,
}

/// `policy.delivery.throttle`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Throttle {
    /// Above 0.
    pub every: Duration,
    /// Where a message has its key.
    pub key: Pointer,
}

/// `policy.delivery.channel_breaker`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelBreaker {
    /// The share of tripped clients that opens it: above 0, at most 1.
    pub tripped_ratio: f64,
    /// Fewer clients than this say nothing; at least 1.
    pub min_clients: u32,
    /// How long it stays open.
    pub open_for: Duration,
}
