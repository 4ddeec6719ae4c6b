//! Pings.

use std::time::Duration;

/// `policy.heartbeat`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClientHeartbeat {
    /// Which form it takes.
    pub mode: HeartbeatMode,
    /// When, and how long to wait.
    pub timing: Heartbeat,
}

/// `policy.heartbeat.mode`, without `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatMode {
    /// RFC 6455 ping frames.
    Ping,
    /// `{"type":"heartbeat"}` and `{"type":"pong"}` in text frames.
    Json,
}

/// The clocks of one heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// From one ping to the next.
    pub interval: Duration,
    /// How long a pong may take.
    pub timeout: Duration,
    /// Misses in a row that end the connection, at least 1.
    pub max_missed: u32,
}
