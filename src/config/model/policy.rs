//! What holds for every connection of a route.

mod auth;
mod breaker;
mod broadcast;
mod close_codes;
mod delivery;
mod fallback;
mod handshake_rate;
mod heartbeat;
mod history;
mod http;
mod limits;
mod matching;
mod origins;
mod rate;
mod redial;
mod session;

pub use auth::*;
pub use breaker::*;
pub use broadcast::*;
pub use close_codes::*;
pub use delivery::*;
pub use fallback::*;
pub use handshake_rate::*;
pub use heartbeat::*;
pub use history::*;
pub use http::*;
pub use limits::*;
pub use matching::*;
pub use origins::*;
pub use rate::*;
pub use redial::*;
pub use session::*;

use std::time::Duration;

/// What holds for every connection of a route.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// `None`: off.
    pub heartbeat: Option<ClientHeartbeat>,
    /// No sign of life for this long.
    pub idle_timeout: Option<Duration>,
    /// What counts as life.
    pub idle_activity: IdleActivity,
    /// Oldest a connection may get; closes are jittered.
    pub max_lifetime: Option<Duration>,
    /// How long a close handshake may take.
    pub close_timeout: Duration,
    /// Longest frame payload, in bytes on the wire.
    pub max_frame: u64,
    /// Longest message, in payload bytes on the wire, over all its frames.
    pub max_message: u64,
    /// Messages from one client.
    pub message_rate: Option<Rate>,
    /// Control frames from one client.
    pub control_rate: ControlRate,
    /// How many may be connected.
    pub limits: Limits,
    /// How fast they may come.
    pub handshake_rate: HandshakeRate,
    /// How a refusal is told.
    pub on_refuse: OnRefuse,
    /// Which pages may connect; `None`: any.
    pub origins: Option<Origins>,
    /// Who clients are; `None`: nobody asks.
    pub auth: Option<Auth>,
    /// Close codes for what the proxy itself ends.
    pub close_codes: CloseCodes,
    /// Plain HTTP on this route.
    pub http: Http,
    /// Around handshakes with the upstream; `None`: off.
    pub breaker: Option<Breaker>,
    /// Around each client's feed.
    pub delivery: Delivery,
    /// Mode `broadcast`.
    pub broadcast: Broadcast,
    /// Mode `session`.
    pub session: Session,
    /// How an upstream that was lost is dialled again.
    pub redial: Redial,
    /// Whether clients are told what happened to their feed; `auto` is resolved by then.
    pub notices: bool,
    /// The log.
    pub history: History,
    /// Endpoints for clients that cannot have a WebSocket.
    pub fallback: Fallback,
    /// `compression: deflate`, towards clients of a log.
    pub compression: bool,
}

/// `policy.idle_activity`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleActivity {
    /// Anything from either side, answered heartbeats included.
    Any,
    /// Application messages only.
    Messages,
}

/// `policy.on_refuse`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRefuse {
    /// By a status.
    Http,
    /// Accepted, and closed with a code that browsers can read.
    Close,
}
