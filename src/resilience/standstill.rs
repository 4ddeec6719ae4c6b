//! A process that stood still (stopped, starved, its machine suspended) has not looked at its peers meanwhile: it
//! hears them before it judges them.
//!
//! A timer that fires far too late tells of it. What peers said in that time is in the kernel, and the runtime
//! may not know yet: timers can fire before readiness is told. So judgements wait for a moment, once.
//!
//! # Invariants
//! 1. A judgement waits for one [`HEARING`] at most, however often and however late timers fire.
//!
//! # Not here
//! Dates (a drain, the end of credentials): they do not depend on what a peer has said, and do not wait.

use std::time::Duration;

use tokio::time::Instant;

/// So late no timer is in a process that runs, however busy it is: fifty times the resolution of tokio's timers.
const LATE: Duration = Duration::from_millis(50);

/// How long peers are listened to before they are judged: the time in which a process reads what came for all of
/// its connections, and, in HTTP/2, hands it on from one task to another.
const HEARING: Duration = Duration::from_secs(1);

/// Up to when peers are only listened to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standstill {
    until: Option<Instant>,
}

impl Standstill {
    /// A timer that stood at `due` has fired `now`. Whether peers are to be heard first: then nobody is judged.
    pub(crate) fn hears_first(&mut self, due: Instant, now: Instant) -> bool {
        match self.until {
            Some(until) if now < until => true,
            // What stood at the end of the hearing, or before it, has waited for it.
            Some(until) if due <= until => {
                self.until = None;
                false
            }
            // A timer of later: that it is late tells of another standstill.
            _ => {
                let is_late = now.saturating_duration_since(due) >= LATE;
                self.until = is_late.then(|| now + HEARING);
                is_late
            }
        }
    }

    /// When `deadline`, a judgement's, is to be looked at: not while peers are only listened to.
    pub(crate) fn defer(&self, deadline: Instant) -> Instant {
        self.until.map_or(deadline, |until| until.max(deadline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_standstill_gives_a_hearing_as_well() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut standstill = Standstill::default();
        assert!(standstill.hears_first(at(10), at(11)));
        assert_eq!(standstill.defer(at(20)), at(20), "nothing is due until then");
        assert!(standstill.hears_first(at(20), at(100)), "it stood still again");
        assert!(!standstill.hears_first(at(101), at(101)));
        assert!(standstill.hears_first(at(110), at(111)));
        assert!(!standstill.hears_first(at(120), at(120)), "punctual, long after");
        assert_eq!(standstill.defer(at(120)), at(120));
    }

    #[test]
    fn a_timer_that_is_far_too_late_gives_peers_a_hearing_once() {
        let due = Instant::now();
        let at = |millis| due + Duration::from_millis(millis);
        let mut standstill = Standstill::default();
        for punctual in [0, 1, 49] {
            assert!(!standstill.hears_first(due, at(punctual)), "{punctual} ms");
            assert_eq!(standstill.defer(due), due);
        }
        for late in [50, 90_000] {
            assert!(standstill.hears_first(due, at(late)));
            let until = at(late) + HEARING;
            assert_eq!(standstill.defer(due), until);
            assert_eq!(standstill.defer(until + HEARING), until + HEARING);
            assert!(standstill.hears_first(due, until - Duration::from_millis(1)), "something else fired");
            assert!(!standstill.hears_first(due, until + Duration::from_secs(90)), "late again, and judged");
            assert_eq!(standstill.defer(due), due);
        }
    }
}
