//! How many clients may be connected, and how many control frames each may send.

use crate::config::model::policy::rate::Rate;

/// `policy.limits`, without the rates; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of the route.
    pub connections: Option<u32>,
    /// Connections of one address (IPv6: of one /64) on the route.
    pub per_ip: Option<u32>,
    /// Connections of one user on the route.
    pub per_user: Option<u32>,
    /// What becomes of a user's handshake beyond `per_user`.
    pub on_user_limit: OnUserLimit,
}

/// `policy.limits.on_user_limit`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUserLimit {
    /// It is refused.
    Refuse,
    /// It comes in, and the oldest connection of the user is closed for it.
    ReplaceOldest,
}

/// `policy.limits.control_rate`: control frames of one client (RFC 6455 §5.5).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ControlRate {
    /// [`CONTROL_RATE`] where the proxy answers them; none in tunnels, which pass them.
    Auto,
    /// No limit.
    Off,
    /// This, in every mode.
    At(Rate),
}

impl ControlRate {
    /// Where they end at the proxy.
    pub fn in_feeds(self) -> Option<Rate> {
        match self {
            Self::Auto => Some(CONTROL_RATE),
            Self::Off => None,
            Self::At(rate) => Some(rate),
        }
    }

    /// Where they pass.
    pub fn in_tunnels(self) -> Option<Rate> {
        match self {
            Self::Auto | Self::Off => None,
            Self::At(rate) => Some(rate),
        }
    }
}

/// What `control_rate: auto` comes to in feeds: far more than any client has a use for, heartbeats of applications
/// among them.
pub const CONTROL_RATE: Rate = Rate { per_second: 100.0, burst: 1000 };
