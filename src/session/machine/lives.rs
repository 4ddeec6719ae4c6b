//! How long links to the server have lived, one after the other, and what follows from that for the next one. Pure.

use std::time::Duration;

use crate::config::Redial;

/// A server that says 1011 so soon after the greeting fails on what the client has said.
const QUICK_FAILURE: Duration = Duration::from_secs(1);
/// A link that ended so soon after it was greeted, or before, has brought nothing.
pub(super) const SHORT_LIFE: Duration = Duration::from_millis(100);
/// So many quick failures in a row are the server's word.
const MAX_QUICK_FAILURES: u8 = 3;

#[derive(Debug, Default)]
pub(super) struct Lives {
    quick_failures: u8,
    /// Links in a row that have brought nothing.
    short: u16,
}

impl Lives {
    /// A link has ended that has lived for so long since it was greeted, if it was; `is_failure`: the server said that it has
    /// failed. True if that is its word: it does so each time.
    pub(super) fn on_end(&mut self, lived: Option<Duration>, is_failure: bool) -> bool {
        let is_shorter = |than| lived.is_none_or(|lived| lived < than);
        self.short = if is_shorter(SHORT_LIFE) { self.short.saturating_add(1) } else { 0 };
        let is_quick = is_failure && is_shorter(QUICK_FAILURE);
        self.quick_failures = if is_quick { self.quick_failures.saturating_add(1) } else { 0 };
        self.quick_failures >= MAX_QUICK_FAILURES
    }

    /// How long to wait for the next link: not at all, unless several in a row have brought nothing.
    pub(super) fn wait(&self, redial: &Redial, random: f64) -> Duration {
        if self.short < 2 {
            return Duration::ZERO;
        }
        let Redial { base, factor, cap, .. } = *redial;
        let seconds = base.as_secs_f64() * factor.powf(f64::from(self.short - 1));
        // After many links this is infinite.
        let longest = if seconds < cap.as_secs_f64() { Duration::from_secs_f64(seconds) } else { cap };
        longest.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }
}
