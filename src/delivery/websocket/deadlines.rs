//! The deadlines of a client's link by itself, and what happens when one has come. All of them judge the client.
//!
//! # Invariants
//! 1. [`WebSocket::deadline`] is the one place that knows a deadline; which is next and which has come both ask it.
//!
//! # Not here
//! When the process has stood still, and may not judge yet ([`crate::resilience::Standstill`]); a client that takes nothing
//! for too long, which each mode treats in its own way; the end of a pause in reading, which is no judgement
//! ([`WebSocket::paused_until`]).

use tokio::time::Instant;

use super::WebSocket;
use crate::config::Policy;
use crate::delivery::close::CloseCause;
use crate::frame::CloseCode;
use crate::telemetry::Reason;

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// An end that has begun has to be over.
    Closing,
    /// A client that is not read is looked at, whether it is still there: by the next [`WebSocket::poll_send`].
    Presence,
    /// A client that has gone behind what is not read of it has had its time.
    Gone,
    /// Nothing has happened for `idle_timeout`.
    Idle,
    /// A ping is to be sent, or was not answered.
    Ping,
}

/// In the order in which they are judged.
const ALL: [Due; 5] = [Due::Closing, Due::Presence, Due::Gone, Due::Idle, Due::Ping];

impl WebSocket {
    /// When [`WebSocket::on_deadlines`] and [`WebSocket::poll_send`] are to be called, unless judgements are deferred.
    pub(crate) fn next_deadline(&self, policy: &Policy) -> Option<Instant> {
        ALL.into_iter().filter_map(|due| self.deadline(due, policy)).min()
    }

    /// Deadlines may have come: does what follows from each.
    pub(crate) fn on_deadlines(&mut self, policy: &Policy, now: Instant) {
        for due in ALL {
            // Each is asked for when it is its turn: one that came before it may have changed it.
            if self.deadline(due, policy).is_some_and(|deadline| deadline <= now) {
                self.on_due(due, policy, now);
            }
        }
    }

    /// Whether it is to be closed since nothing happens on it.
    pub(crate) fn is_idle(&self, policy: &Policy, now: Instant) -> bool {
        self.deadline(Due::Idle, policy).is_some_and(|deadline| deadline <= now)
    }

    fn deadline(&self, due: Due, policy: &Policy) -> Option<Instant> {
        match due {
            Due::Closing => self.closing_deadline(),
            // Whoever is being closed has no other deadline than that.
            _ if !self.is_open() => None,
            Due::Presence => self.limits.presence_check_at(),
            Due::Gone => Some(self.limits.gone_since()? + policy.close_timeout),
            // While the client is not read this clock stands still.
            Due::Idle if self.limits.is_paused() => None,
            Due::Idle => Some(self.last_activity + policy.idle_timeout?),
            Due::Ping => self.pings.as_ref()?.deadline(self.limits.is_paused()),
        }
    }

    fn on_due(&mut self, due: Due, policy: &Policy, now: Instant) {
        match due {
            Due::Closing => self.on_closing_deadline(),
            Due::Presence => {}
            Due::Gone => self.on_lost(),
            Due::Idle => {
                let cause = CloseCause::ours(Reason::IdleTimeout, policy.close_codes.idle, "idle timeout");
                self.close(&cause, policy.close_timeout, now);
            }
            Due::Ping => {
                if self.on_ping_timer(now) {
                    let code = CloseCode::GOING_AWAY.0;
                    let cause = CloseCause::ours(Reason::HeartbeatTimeout, code, "heartbeat timeout");
                    self.close_now(&cause, now);
                }
            }
        }
    }

    /// A ping is due, or one was not answered. True when the client is to be given up.
    fn on_ping_timer(&mut self, now: Instant) -> bool {
        let is_paused = self.limits.is_paused();
        let metrics = self.connection.metrics();
        self.pings.as_mut().is_some_and(|pings| pings.on_timer(is_paused, now, metrics))
    }
}
