//! The time of day, as the demo sends it.

use std::time::{SystemTime, UNIX_EPOCH};

/// A clock set before 1970 shows as 0.
pub(super) fn unix_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}
