//! How a server that was lost is dialled again.

use std::time::Duration;

/// `policy.redial`, for every link that outlives its upstream; with full jitter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Redial {
    /// The longest wait before the first try; above 0.
    pub base: Duration,
    /// How much longer each further wait may be; at least 1.
    pub factor: f64,
    /// The longest wait of all; at least `base`.
    pub cap: Duration,
    /// After this long without an upstream its clients are closed; `None`: never.
    pub give_up: Option<Duration>,
    /// The waits begin anew only after a link has lived for so long.
    pub reset_after: Duration,
}
