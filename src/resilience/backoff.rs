//! How long to wait before the next try: exponential, with full jitter, so that links that were lost
//! at the same moment are not dialled again at the same moment.
//!
//! # Invariants
//! 1. A wait is never above `min(cap, base × factor^n)` after `n` waits, and never below a tenth of `base`: full
//!    jitter alone would let an unlucky link try again at once, many times in a row.
//! 2. Tries that succeed for a moment do not make the waits short again: only a link that stays up for `reset_after` does.
//! 3. Giving up counts from the moment at which the upstream was lost, whatever was tried since: a link that came
//!    up, and did not stay so for `reset_after`, does not set the clock back.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Redial;

/// The part of `base` that every wait lasts at least.
const FLOOR: f64 = 0.1;

/// The waits of one link.
#[derive(Debug)]
pub(crate) struct Backoff {
    rules: Redial,
    /// Waits since the last reset.
    waits: u32,
    /// Since when there is no link that stays up.
    lost_at: Option<Instant>,
    up_at: Option<Instant>,
}

impl Backoff {
    /// No try has failed.
    pub(crate) fn new(rules: Redial) -> Self {
        Self { rules, waits: 0, lost_at: None, up_at: None }
    }

    /// The link was lost, or a try failed, at `now`: how long to wait. `random` is 0 to 1. `None`: it is given up.
    pub(crate) fn next(&mut self, random: f64, now: Instant) -> Option<Duration> {
        let lived = self.up_at.take().map(|up_at| now.saturating_duration_since(up_at));
        if lived.is_some_and(|lived| lived >= self.rules.reset_after) {
            self.waits = 0;
            self.lost_at = None;
        }
        let lost_at = *self.lost_at.get_or_insert(now);
        if self.rules.give_up.is_some_and(|give_up| now.saturating_duration_since(lost_at) >= give_up) {
            return None;
        }
        let wait = self.ceiling().mul_f64(random.clamp(0.0, 1.0));
        self.waits = self.waits.saturating_add(1);
        Some(wait.max(self.rules.base.mul_f64(FLOOR)))
    }

    /// When [`Backoff::next`] gives up, while there is no link that stays up.
    pub(crate) fn gives_up_at(&self) -> Option<Instant> {
        self.lost_at?.checked_add(self.rules.give_up?)
    }

    /// Nobody has wanted the link for some time, and somebody does from now on: giving up is counted from here.
    pub(crate) fn on_wanted(&mut self, now: Instant) {
        self.lost_at = self.lost_at.map(|_| now);
    }

    /// The link is up. The waits begin anew only if it stays so for `reset_after`.
    pub(crate) fn on_up(&mut self, now: Instant) {
        self.up_at = Some(now);
    }

    /// The longest the next wait may be.
    fn ceiling(&self) -> Duration {
        let Redial { base, factor, cap, .. } = self.rules;
        let seconds = base.as_secs_f64() * factor.powf(f64::from(self.waits));
        // After many waits this is infinite.
        if seconds < cap.as_secs_f64() { Duration::from_secs_f64(seconds) } else { cap }
    }
}

#[cfg(test)]
mod tests;
