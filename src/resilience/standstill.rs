//! Detects that the process stood still (stopped, starved, its machine suspended). It has not read its peers meanwhile, and
//! has to do so before it judges them.
//!
//! A timer that fires far too late shows it. What peers sent in that time is in the kernel, and the runtime may not know
//! yet: timers can fire before readiness is reported. So judgements are deferred, once.
//!
//! # Invariants
//! 1. A judgement is deferred by one [`GRACE`] at most, however often and however late timers fire.
//!
//! # Not here
//! Dates (a drain, the end of credentials): they do not depend on what a peer has sent, and are not
//! deferred.

use std::time::Duration;

use tokio::time::Instant;

/// In a running process no timer is as late as this, however busy it is: fifty times the resolution of tokio's timers.
const LATE: Duration = Duration::from_millis(50);

/// How long peers are read before they are judged: the time in which a process reads what came for all of
/// its connections, and, in HTTP/2, hands it on from one task to another.
const GRACE: Duration = Duration::from_secs(1);

/// Until when peers are read and not judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standstill {
    until: Option<Instant>,
}

impl Standstill {
    /// A timer that was set to `due` has fired at `now`. True if peers are to be read first, and not judged now.
    pub(crate) fn must_read_first(&mut self, due: Instant, now: Instant) -> bool {
        match self.until {
            Some(until) if now < until => true,
            // A timer that was set to the end of the grace period, or before it, has been deferred by it.
            Some(until) if due <= until => {
                self.until = None;
                false
            }
            // If a later timer is late, that is another standstill.
            _ => {
                let is_late = now.saturating_duration_since(due) >= LATE;
                self.until = is_late.then(|| now + GRACE);
                is_late
            }
        }
    }

    /// When the judgement that is due at `deadline` is to be made: not within a grace period.
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
        assert!(standstill.must_read_first(at(10), at(11)));
        assert_eq!(standstill.defer(at(20)), at(20), "nothing is due until then");
        assert!(standstill.must_read_first(at(20), at(100)), "it stood still again");
        assert!(!standstill.must_read_first(at(101), at(101)));
        assert!(standstill.must_read_first(at(110), at(111)));
        assert!(!standstill.must_read_first(at(120), at(120)), "punctual, long after");
        assert_eq!(standstill.defer(at(120)), at(120));
    }

    #[test]
    fn a_timer_that_is_far_too_late_gives_peers_a_hearing_once() {
        let due = Instant::now();
        let at = |millis| due + Duration::from_millis(millis);
        let mut standstill = Standstill::default();
        for punctual in [0, 1, 49] {
            assert!(!standstill.must_read_first(due, at(punctual)), "{punctual} ms");
            assert_eq!(standstill.defer(due), due);
        }
        for late in [50, 90_000] {
            assert!(standstill.must_read_first(due, at(late)));
            let until = at(late) + GRACE;
            assert_eq!(standstill.defer(due), until);
            assert_eq!(standstill.defer(until + GRACE), until + GRACE);
            assert!(
                standstill.must_read_first(due, until - Duration::from_millis(1)),
                "something else fired"
            );
            assert!(
                !standstill.must_read_first(due, until + Duration::from_secs(90)),
                "late again, and judged"
            );
            assert_eq!(standstill.defer(due), due);
        }
    }
}
