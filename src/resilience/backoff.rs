//! How long to wait before the next try: exponential, with full jitter, so that whoever lost the same server at
//! the same moment does not come back at the same moment.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Redial;

/// The waits of one link.
#[derive(Debug)]
pub struct Backoff {
    rules: Redial,
}

impl Backoff {
    /// No try has failed.
    pub fn new(rules: Redial) -> Self {
        Self { rules }
    }

    /// The link was lost, or a try failed, now: how long to wait. `random` is 0 to 1. `None`: given up.
    pub fn next(&mut self, random: f64, now: Instant) -> Option<Duration> {
        let _ = (&self.rules, random, now);
        unimplemented!()
    }

    /// The link is up. The waits begin anew only if it stays so for `reset_after`.
    pub fn on_up(&mut self, now: Instant) {
        let _ = now;
        unimplemented!()
    }
}
