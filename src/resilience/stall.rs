//! Since when a peer has taken nothing of what waits for it.
//!
//! # Invariants
//! 1. While nothing waits no clock runs, whichever call sent the last byte: a flush, the next write, a read, or a write
//!    that did not wait for readiness.
//! 2. Each byte that leaves restarts the clock.
//!
//! # Not here
//! How long that may last, and what follows.

use tokio::time::Instant;

/// The stall clock of one socket, updated after every call on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stall(Option<Instant>);

impl Stall {
    /// `has_moved`: the socket took something. `is_waiting`: there is something that it has not taken.
    pub(crate) fn note(&mut self, has_moved: bool, is_waiting: bool, now: Instant) {
        self.0 = match (is_waiting, has_moved) {
            (false, _) => None,
            (true, true) => Some(now),
            (true, false) => self.0.or(Some(now)),
        };
    }

    /// Nothing waits any more, because it was dropped.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// Since when the peer takes nothing, if there is something for it.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_runs_while_something_waits_and_begins_anew_with_each_byte_that_leaves() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut stall = Stall::default();
        // has_moved, is_waiting, and since when it runs after that.
        let steps = [
            (false, false, None),
            (false, true, Some(1)),
            (false, true, Some(1)),
            (true, true, Some(3)),
            (false, true, Some(3)),
            (true, false, None),
            (true, true, Some(6)),
            (false, false, None),
            (false, true, Some(8)),
        ];
        for (second, (has_moved, is_waiting, since)) in steps.into_iter().enumerate() {
            stall.note(has_moved, is_waiting, at(second as u64));
            assert_eq!(stall.since(), since.map(at), "step {second}");
        }
        stall.clear();
        assert_eq!(stall.since(), None);
    }
}
