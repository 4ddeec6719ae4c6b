//! How long a client may take with a request: the timeouts of one HTTP connection. Pure.
//!
//! # Why not hyper's own header timeout?
//! It also runs while a connection is idle between two requests: a handshake timeout of 10 s would end
//! every keep-alive connection after 10 s, and one of 75 s would give a slow loris 75 s.

use std::time::Duration;

use tokio::time::Instant;

use crate::server::limits::idle::IdlePressure;

/// What the connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The rest of a request's head.
    Head { until: Instant },
    /// The answer: making it has timeouts of its own.
    Serving,
    /// Something that the answer is about, for as long as whoever answers wants to.
    Waiting,
    /// The last bytes of the answer to be written.
    Flushing,
    /// The rest of the body of a request that was answered before.
    Body { until: Instant },
    /// The first byte of another request.
    Idle { until: Instant },
}

/// The timeouts of one connection.
#[derive(Debug)]
pub(in crate::server) struct HttpTimeouts {
    handshake: Duration,
    keep_alive: Duration,
    stall: Option<Duration>,
    phase: Phase,
    is_first: bool,
    /// How many request bodies are still being read: one may end after the next request has begun.
    bodies: usize,
    /// Since when the client has taken no byte of an answer.
    stalled_since: Option<Instant>,
    /// Whether something was written that was not flushed yet.
    is_unsent: bool,
}

impl HttpTimeouts {
    /// `now` is when the connection was accepted. A client that takes no byte of an answer for `stall` is given up.
    pub(in crate::server) fn new(
        handshake: Duration,
        keep_alive: Duration,
        stall: Option<Duration>,
        now: Instant,
    ) -> Self {
        Self {
            handshake,
            keep_alive,
            stall,
            phase: Phase::Head { until: now + handshake },
            is_first: true,
            bodies: 0,
            stalled_since: None,
            is_unsent: false,
        }
    }

    /// When the next timeout runs out.
    pub(in crate::server) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Head { until } | Phase::Body { until } | Phase::Idle { until } => Some(until),
            Phase::Serving | Phase::Waiting | Phase::Flushing => {
                self.stalled_since.zip(self.stall).map(|(since, stall)| since + stall)
            }
        }
    }

    /// Whether part of a request may have come, so that the client should be answered why it ends.
    pub(in crate::server) fn is_in_head(&self) -> bool {
        matches!(self.phase, Phase::Head { .. })
    }

    /// Whether every request is answered, and nothing of another has come.
    pub(in crate::server) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle { .. })
    }

    /// Whether no request has come yet.
    pub(in crate::server) fn is_first_head(&self) -> bool {
        self.is_first
    }

    /// Whether what is written now answers a request. If not, it is hyper's own answer to one that it could not read.
    pub(in crate::server) fn is_answering(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Waiting | Phase::Flushing)
    }

    /// Whether the request that is served waits, and all that went before it is over: earlier answers were flushed, and
    /// no body is being read.
    pub(in crate::server) fn is_only_waiting(&self) -> bool {
        self.phase == Phase::Waiting && !self.is_unsent && self.bodies == 0
    }

    /// The client took something (`true`), or nothing: then the clock is asked.
    pub(in crate::server) fn on_write(&mut self, took: bool, now: impl FnOnce() -> Instant) {
        self.is_unsent = true;
        if took {
            self.stalled_since = None;
        } else {
            self.stalled_since.get_or_insert_with(now);
        }
    }

    /// Bytes came. Idle => Head; answers whether it was idle.
    pub(in crate::server) fn on_bytes(&mut self, now: Instant) -> bool {
        if let Phase::Body { until } = &mut self.phase {
            *until = now + self.keep_alive;
        }
        let is_idle = matches!(self.phase, Phase::Idle { .. });
        if is_idle {
            self.phase = Phase::Head { until: now + self.handshake };
        }
        is_idle
    }

    /// A head is complete. Any => Serving.
    pub(in crate::server) fn on_request(&mut self) {
        self.phase = Phase::Serving;
        self.is_first = false;
    }

    /// The request waits. Serving => Waiting.
    pub(in crate::server) fn on_wait(&mut self) {
        if self.phase == Phase::Serving {
            self.phase = Phase::Waiting;
        }
    }

    /// It does not wait any more. Waiting => Serving.
    pub(in crate::server) fn on_wait_end(&mut self) {
        if self.phase == Phase::Waiting {
            self.phase = Phase::Serving;
        }
    }

    /// The last byte of an answer was handed over. Serving => Flushing.
    pub(in crate::server) fn on_answered(&mut self) {
        if self.phase == Phase::Serving {
            self.phase = Phase::Flushing;
        }
    }

    /// The answer was flushed. Flushing => Idle, or Body; answers whether it is idle now.
    pub(in crate::server) fn on_flushed(&mut self, now: Instant) -> bool {
        self.is_unsent = false;
        if self.phase != Phase::Flushing {
            return false;
        }
        let until = now + self.keep_alive;
        let is_idle = self.bodies == 0;
        self.phase = if is_idle { Phase::Idle { until } } else { Phase::Body { until } };
        is_idle
    }

    /// The body of the request is being read.
    pub(in crate::server) fn on_body(&mut self) {
        self.bodies += 1;
    }

    /// A body was read, or is not read any more. Body => Idle; answers whether it is idle now.
    pub(in crate::server) fn on_body_end(&mut self, now: Instant) -> bool {
        self.bodies = self.bodies.saturating_sub(1);
        let is_over = self.bodies == 0 && matches!(self.phase, Phase::Body { .. });
        if is_over {
            self.phase = Phase::Idle { until: now + self.keep_alive };
        }
        is_over
    }

    /// So many other connections are idle that this idle one is kept for less time.
    pub(in crate::server) fn on_idle_pressure(&mut self, pressure: IdlePressure, now: Instant) {
        if let Phase::Idle { until } = &mut self.phase {
            *until = (*until).min(now + pressure.shorten(self.keep_alive));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_gets_its_own_time_and_idleness_another() {
        let (handshake, keep_alive) = (Duration::from_secs(10), Duration::from_secs(75));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timeouts = HttpTimeouts::new(handshake, keep_alive, Some(Duration::from_secs(60)), start);
        assert!(!timeouts.on_bytes(at(9)));
        assert_eq!(timeouts.deadline(), Some(at(10)), "a first byte late in the day gains no time");
        timeouts.on_request();
        assert_eq!(timeouts.deadline(), None);
        assert!(!timeouts.on_bytes(at(30)));
        assert_eq!(timeouts.deadline(), None, "a body is no head");
        assert!(!timeouts.on_flushed(at(31)));
        assert_eq!(timeouts.deadline(), None, "there may be more to answer");
        timeouts.on_write(false, || at(32));
        timeouts.on_write(false, || at(33));
        assert_eq!(timeouts.deadline(), Some(at(92)), "the client takes nothing");
        timeouts.on_write(true, || at(39));
        timeouts.on_answered();
        assert!(timeouts.is_answering());
        assert!(timeouts.on_flushed(at(40)), "idle now");
        assert!(!timeouts.on_flushed(at(40)), "once");
        assert_eq!((timeouts.deadline(), timeouts.is_in_head()), (Some(at(115)), false));
        assert!(timeouts.on_bytes(at(100)), "and no more");
        assert_eq!((timeouts.deadline(), timeouts.is_in_head()), (Some(at(110)), true));
        assert!(!timeouts.on_bytes(at(109)));
        assert_eq!(timeouts.deadline(), Some(at(110)), "a byte each second does not help");
    }

    #[test]
    fn a_request_that_waits_has_no_timeout_and_the_one_before_it_has() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let stall = Some(Duration::from_secs(60));
        let mut timeouts = HttpTimeouts::new(Duration::from_secs(10), Duration::from_secs(75), stall, start);
        timeouts.on_wait();
        assert!(!timeouts.is_only_waiting() && timeouts.is_in_head(), "nothing was asked yet");
        timeouts.on_request();
        timeouts.on_wait();
        assert_eq!(timeouts.deadline(), None);
        assert!(timeouts.is_only_waiting() && timeouts.is_answering() && !timeouts.is_idle());
        // The answer to the request before it is not taken.
        timeouts.on_write(false, || at(1));
        assert!(!timeouts.is_only_waiting());
        assert_eq!(timeouts.deadline(), Some(at(61)));
        timeouts.on_write(true, || at(2));
        assert!(!timeouts.is_only_waiting(), "some may be left");
        assert!(!timeouts.on_flushed(at(3)), "nor is it idle then");
        assert!(timeouts.is_only_waiting());
        timeouts.on_body();
        assert!(!timeouts.is_only_waiting(), "a body is being read");
        timeouts.on_body_end(at(4));
        assert!(!timeouts.on_bytes(at(5)), "what comes behind it is no head yet");
        assert!(timeouts.is_only_waiting());
        timeouts.on_wait_end();
        assert!(!timeouts.is_only_waiting());
        timeouts.on_wait_end();
        timeouts.on_answered();
        assert!(timeouts.on_flushed(at(6)) && timeouts.is_idle());
    }

    #[test]
    fn the_rest_of_a_body_that_was_answered_early_is_no_head() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timeouts = HttpTimeouts::new(Duration::from_secs(10), Duration::from_secs(75), None, start);
        timeouts.on_request();
        timeouts.on_body();
        timeouts.on_answered();
        assert!(!timeouts.on_flushed(at(1)), "it says something still");
        assert_eq!(timeouts.deadline(), Some(at(76)));
        assert!(!timeouts.on_bytes(at(70)));
        assert_eq!((timeouts.deadline(), timeouts.is_in_head()), (Some(at(145)), false));
        assert!(timeouts.on_body_end(at(80)), "idle now");
        assert_eq!((timeouts.deadline(), timeouts.is_in_head()), (Some(at(155)), false));
        assert!(timeouts.on_bytes(at(90)) && timeouts.is_in_head());

        timeouts.on_request();
        timeouts.on_body();
        assert!(!timeouts.on_body_end(at(100)), "it is served");
        timeouts.on_answered();
        assert!(timeouts.on_flushed(at(101)));
    }
}
