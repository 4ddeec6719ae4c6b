//! A heartbeat: whether the peer is still there.
//!
//! A ping every interval; a pong (or any other traffic) must come within the timeout; after a miss the
//! next ping goes out at once; so many misses in a row mean that the peer is gone. The worst case is
//! therefore `interval + max_missed × timeout`.
//!
//! # Invariants
//! 1. The pong clock starts when the ping was flushed, not when it was asked for.
//! 2. Pongs are cumulative (RFC 6455 §5.5.3): the answer to a ping answers every older one.
//! 3. While a ping of the *other* side of the tunnel is unanswered none is sent, for at most one timeout however many
//!    there are: a peer may answer the newest ping only, and the other side's must not be the one without an answer.
//! 4. A clock that was stopped ([`Heartbeat::shift`]) goes on where it stood.
//!
//! # Not here
//! What a ping looks like (a frame or a JSON text), which is up to the driver. A JSON pong has no payload
//! ([`Heartbeat::on_plain_pong`]).

mod json;

use std::time::Duration;

use tokio::time::Instant;

use crate::config;

pub(crate) use json::{JSON_PING, is_json_pong};

/// Length of the payload of our pings: a nonce for the connection, and the ping's number.
pub(crate) const PING_PAYLOAD: usize = 12;

/// Unanswered pings whose time is remembered: as many as may be missed by default, and one.
const REMEMBERED: usize = 4;

/// What is to be done when the timer has fired.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeartbeatAction {
    /// Send a ping with this payload, then call [`Heartbeat::on_flushed`].
    SendPing([u8; PING_PAYLOAD]),
    /// The peer is gone.
    GiveUp,
}

/// Whose ping a pong answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PongKind {
    /// Ours. The round-trip time is known unless the ping is too old to be remembered.
    Ours(Option<Duration>),
    /// The other side's, or an unsolicited one: it is forwarded.
    OtherSide,
}

/// The heartbeat of one link. Its moments are nanoseconds since it began: each idle client has one of these, and an
/// `Instant` takes twice as much memory.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    began: Instant,
    interval: u64,
    timeout: u64,
    nonce: u64,
    /// When the newest pings left, by their number; [`NEVER`] for those that were answered.
    sent: [u64; REMEMBERED],
    /// When a ping is due, or the pong ([`Phase`]).
    due: u64,
    /// Until when the other side's ping holds ours back; [`NEVER`]: none of its pings is unanswered.
    other_side_ping_until: u64,
    /// Number of the newest ping; 0: none yet.
    newest: u32,
    max_missed: u32,
    missed: u32,
    phase: Phase,
    /// Whether anything came from the peer since the newest ping left.
    is_active: bool,
}

const NEVER: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing before the next ping.
    Quiet,
    /// A ping is queued behind what the peer has not taken yet.
    Queued,
    /// It has left, at the time that `sent` has of it, and its pong is awaited.
    Waiting,
    /// Terminal.
    Gone,
}

impl Heartbeat {
    /// `nonce` sets this connection's pings apart; it need not be secret.
    pub(crate) fn new(timing: config::Heartbeat, nonce: u64, now: Instant) -> Self {
        let interval = nanos(timing.interval);
        Self {
            began: now,
            interval,
            timeout: nanos(timing.timeout),
            nonce,
            sent: [NEVER; REMEMBERED],
            due: interval,
            other_side_ping_until: NEVER,
            newest: 0,
            max_missed: timing.max_missed,
            missed: 0,
            phase: Phase::Quiet,
            is_active: false,
        }
    }

    fn at(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.began))
    }

    /// When the newest ping left, as long as its pong is awaited.
    fn newest_sent(&self) -> u64 {
        self.sent[self.newest as usize % REMEMBERED]
    }

    /// When [`Heartbeat::on_timer`] wants to be called next; never earlier than needed. While the peer is not read
    /// (`is_paused`) no pong can come, so that none is waited for.
    pub(crate) fn deadline(&self, is_paused: bool) -> Option<Instant> {
        let at = match self.phase {
            Phase::Quiet if self.other_side_ping_until == NEVER => self.due,
            Phase::Quiet => self.other_side_ping_until.clamp(self.due, self.due.saturating_add(self.timeout)),
            Phase::Waiting if !is_paused => self.due,
            Phase::Waiting | Phase::Queued | Phase::Gone => return None,
        };
        Some(self.began + Duration::from_nanos(at))
    }

    /// Quiet => Queued + ping. Waiting => Quiet (the peer was active), Queued + ping, or Gone. An early call
    /// changes nothing. The second value is whether a pong was missed.
    pub(crate) fn on_timer(&mut self, now: Instant) -> (Option<HeartbeatAction>, bool) {
        if self.deadline(false).is_none_or(|deadline| now < deadline) {
            return (None, false);
        }
        self.other_side_ping_until = NEVER;
        match self.phase {
            Phase::Quiet => (Some(self.ping()), false),
            Phase::Waiting if self.is_active => {
                self.be_quiet(self.newest_sent());
                self.due = self.due.max(self.at(now));
                (None, false)
            }
            Phase::Waiting => {
                self.missed += 1;
                if self.missed >= self.max_missed {
                    self.phase = Phase::Gone;
                    return (Some(HeartbeatAction::GiveUp), true);
                }
                (Some(self.ping()), true)
            }
            Phase::Queued | Phase::Gone => (None, false),
        }
    }

    fn ping(&mut self) -> HeartbeatAction {
        self.newest = self.newest.wrapping_add(1);
        self.sent[self.newest as usize % REMEMBERED] = NEVER;
        self.phase = Phase::Queued;
        HeartbeatAction::SendPing(self.payload())
    }

    /// The next ping is due an interval after `ping`.
    fn be_quiet(&mut self, ping: u64) {
        (self.phase, self.due) = (Phase::Quiet, ping.saturating_add(self.interval));
    }

    /// The payload of the newest ping.
    pub(crate) fn payload(&self) -> [u8; PING_PAYLOAD] {
        let mut payload = [0; PING_PAYLOAD];
        payload[..8].copy_from_slice(&self.nonce.to_be_bytes());
        payload[8..].copy_from_slice(&self.newest.to_be_bytes());
        payload
    }

    /// The newest ping has left: the pong clock starts.
    pub(crate) fn on_flushed(&mut self, now: Instant) {
        if self.phase == Phase::Queued {
            let now = self.at(now);
            (self.phase, self.due) = (Phase::Waiting, now.saturating_add(self.timeout));
            self.sent[self.newest as usize % REMEMBERED] = now;
            self.is_active = false;
        }
    }

    /// Anything came from the peer.
    pub(crate) fn on_activity(&mut self) {
        self.is_active = true;
        self.missed = 0;
    }

    /// The other side's ping went to this peer.
    pub(crate) fn on_other_side_ping(&mut self, now: Instant) {
        self.other_side_ping_until = self.at(now).saturating_add(self.timeout);
    }

    /// A pong came with this payload (RFC 6455 §5.5.3).
    pub(crate) fn on_pong(&mut self, payload: &[u8], now: Instant) -> PongKind {
        let ours = <[u8; PING_PAYLOAD]>::try_from(payload).ok().and_then(|payload| {
            let (nonce, number) = payload.split_at(8);
            let number = u32::from_be_bytes(number.try_into().ok()?);
            (nonce == self.nonce.to_be_bytes() && number != 0 && number <= self.newest).then_some(number)
        });
        match ours {
            Some(number) => self.on_answer(number, now),
            None => {
                self.other_side_ping_until = NEVER;
                PongKind::OtherSide
            }
        }
    }

    /// A pong came that cannot say which ping it answers (JSON): the newest.
    pub(crate) fn on_plain_pong(&mut self, now: Instant) -> PongKind {
        self.on_answer(self.newest, now)
    }

    fn on_answer(&mut self, number: u32, now: Instant) -> PongKind {
        let now = self.at(now);
        let is_remembered = self.newest - number < REMEMBERED as u32;
        let sent = if is_remembered {
            std::mem::replace(&mut self.sent[number as usize % REMEMBERED], NEVER)
        } else {
            NEVER
        };
        if number == self.newest {
            match self.phase {
                Phase::Waiting => self.be_quiet(sent),
                // The ping has left, though what is queued behind it has not.
                Phase::Queued => self.be_quiet(now),
                Phase::Quiet | Phase::Gone => {}
            }
        }
        PongKind::Ours((sent != NEVER).then(|| Duration::from_nanos(now.saturating_sub(sent))))
    }

    /// For `pause` until `now` the clocks stood still: reading from this peer was not possible.
    pub(crate) fn shift(&mut self, pause: Duration, now: Instant) {
        let pause = nanos(pause);
        if self.phase == Phase::Waiting {
            // A ping that left meanwhile has a clock that only stood since then.
            let stood = pause.min(self.at(now).saturating_sub(self.newest_sent()));
            self.due = self.due.saturating_add(stood);
        }
        if self.other_side_ping_until != NEVER {
            self.other_side_ping_until = self.other_side_ping_until.saturating_add(pause);
        }
    }
}

/// 584 years at the most.
fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
