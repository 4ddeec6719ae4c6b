//! Warnings that clients could otherwise have written without end.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// From one such warning to the next: counters tell how often it happened meanwhile.
const PERIOD: Duration = Duration::from_secs(60);

/// Lets one warning through in a [`PERIOD`].
#[derive(Debug)]
pub(super) struct Sparingly {
    since: Instant,
    /// Milliseconds after `since` from which the next may be said.
    next: AtomicU64,
}

impl Sparingly {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), next: AtomicU64::new(0) }
    }

    /// Whether it may be said now. Of several who ask at once, one may.
    pub(super) fn may(&self, now: Instant) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (now, next) = (millis(now.saturating_duration_since(self.since)), self.next.load(Relaxed));
        let after = now.saturating_add(millis(PERIOD));
        now >= next && self.next.compare_exchange(next, after, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_minute() {
        let warned = Sparingly::new();
        let at = |seconds| warned.since + Duration::from_secs(seconds);
        let said: Vec<u64> = (0..=200).filter(|second| warned.may(at(*second))).collect();
        assert_eq!(said, [0, 60, 120, 180]);
    }
}
