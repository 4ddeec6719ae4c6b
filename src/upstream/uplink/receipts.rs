//! Which messages the server has taken. What tells is the pong to a ping that was queued behind a message: frames are read
//! in order. What else the server says proves nothing, since a server that streams does so whether or not it reads.
//!
//! ```text
//!            next_ping          the ping has left            not within 10 s, the first one
//!   Quiet ──────────────▶ Queued ──────────────▶ Asked ─────────────────────────────────────▶ Assuming
//!     ▲                                            │
//!     └────────────── its pong, or that of a later ping of the heartbeat
//! ```
//!
//! # Invariants
//! 1. `proven ≤ left ≤ sent`, and none of them falls.
//! 2. One ping at most is under way, and one is asked for at most each [`INTERVAL`], unless something waits for it
//!    ([`Receipts::hasten`]); none while all is proven.
//! 3. Pongs are cumulative (RFC 6455 §5.5.3): a server may answer the newest ping alone, whoever sent it. What was not asked
//!    yet, or was answered before, proves nothing.
//! 4. A server that does not answer is not asked again on this link. There, what left [`ASSUMED_AFTER`] ago counts as
//!    taken: without that nothing could be forgotten. Nobody is given up here, unlike by the heartbeat.
//!
//! # Not here
//! Frames and timers. How far a server's application has come with what its WebSocket library has taken: nobody can know.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::marks::Marks;
use crate::resilience::PING_PAYLOAD;

/// Between two pings: four a second at most, whatever the traffic.
const INTERVAL: Duration = Duration::from_millis(250);

/// How long the first ping may stay unanswered: a busy server answers late, and one that answers none has to be told from it.
const PATIENCE: Duration = Duration::from_secs(10);

/// After this time a server that answers no pings has read what the kernel took, or nothing.
const ASSUMED_AFTER: Duration = Duration::from_secs(5);

/// What leaves within this time is assumed to be taken together: a timer a second at most, and a few entries.
const ASSUMED_TOGETHER: Duration = Duration::from_secs(1);

/// A ping on the wire: header, masking key, payload.
const PING_FRAME: u64 = 2 + 4 + PING_PAYLOAD as u64;

/// Tells the pings here from those of the heartbeat, whose link has another nonce.
type Payload = [u8; PING_PAYLOAD];

/// How the messages of a link are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReceiptMode {
    /// Nobody asks: nothing is counted.
    Off,
    /// What left some seconds ago counts as taken.
    Assumed,
    /// Pings ask.
    Pings,
}

/// The messages of one link, and what is known of them.
#[derive(Debug)]
pub(super) struct Receipts {
    marks: Marks,
    /// Bytes of the link that have left.
    left_bytes: u64,
    proven: u64,
    /// Sets the pings of this link apart; need not be secret.
    nonce: u64,
    /// Number of the newest ping; 0: none yet.
    number: u32,
    /// When the next ping may be sent.
    next_at: Instant,
    state: State,
    beat: Option<Beat>,
}

#[derive(Debug)]
enum State {
    /// No ping is under way.
    Quiet,
    /// A ping waits for the socket, behind `covers` messages; it ends at this offset.
    Queued { covers: u64, end: u64 },
    /// It has left.
    Asked { covers: u64, since: Instant },
    /// Time tells. Oldest first; a handful of them.
    Assuming(VecDeque<Batch>),
}

/// Messages that left at about the same time.
#[derive(Debug)]
struct Batch {
    since: Instant,
    last: Instant,
    /// How many messages had left by then.
    left: u64,
}

/// The newest ping of the heartbeat.
#[derive(Debug)]
struct Beat {
    payload: Payload,
    end: u64,
    covers: u64,
    /// Our newest ping before it.
    after: u32,
}

impl Receipts {
    /// Before the first message. `nonce` has to be another one than the heartbeat's.
    pub(super) fn new(mode: ReceiptMode, nonce: u64, now: Instant) -> Self {
        let state = match mode {
            ReceiptMode::Off | ReceiptMode::Assumed => State::Assuming(VecDeque::new()),
            ReceiptMode::Pings => State::Quiet,
        };
        Self {
            marks: Marks::default(),
            left_bytes: 0,
            proven: 0,
            nonce,
            number: 0,
            next_at: now,
            state,
            beat: None,
        }
    }

    /// Messages ever.
    pub(super) fn sent(&self) -> u64 {
        self.marks.sent()
    }

    /// Those whose last byte the kernel has.
    pub(super) fn left(&self) -> u64 {
        self.marks.left()
    }

    /// Those that the server has taken.
    pub(super) fn proven(&self) -> u64 {
        self.proven
    }

    /// Memory that grows with the messages that wait.
    pub(super) fn held_by_marks(&self) -> usize {
        self.marks.held()
    }

    /// Memory beside its own.
    pub(super) fn held(&self) -> usize {
        let batches = match &self.state {
            State::Assuming(batches) => batches.capacity() * size_of::<Batch>(),
            State::Quiet | State::Queued { .. } | State::Asked { .. } => 0,
        };
        self.marks.held() + batches
    }

    /// A message was put on the link, and ends at the offset `end`.
    pub(super) fn on_message(&mut self, end: u64) {
        self.marks.on_message(end);
    }

    /// The first `bytes` of the link have left, as far as is known since now.
    pub(super) fn on_left(&mut self, bytes: u64, now: Instant) {
        let before = self.marks.left();
        self.left_bytes = self.left_bytes.max(bytes);
        self.marks.on_left(self.left_bytes);
        let left = self.marks.left();
        match &mut self.state {
            State::Queued { covers, end } if *end <= self.left_bytes => {
                self.state = State::Asked { covers: *covers, since: now };
            }
            State::Assuming(batches) if left > before => match batches.back_mut() {
                Some(batch) if now < batch.since + ASSUMED_TOGETHER => (batch.last, batch.left) = (now, left),
                _ => batches.push_back(Batch { since: now, last: now, left }),
            },
            State::Quiet | State::Queued { .. } | State::Asked { .. } | State::Assuming(_) => {}
        }
    }

    /// The payload of a ping that is to follow the `queued` bytes that were put on the link, if one is due.
    pub(super) fn next_ping(&mut self, queued: u64, now: Instant) -> Option<Payload> {
        if !self.wants_ping() || now < self.next_at {
            return None;
        }
        self.number = self.number.wrapping_add(1);
        self.next_at = now + INTERVAL;
        self.state = State::Queued { covers: self.sent(), end: queued + PING_FRAME };
        Some(self.payload(self.number))
    }

    /// Something waits for the next receipt: it is asked for as soon as no other one is.
    pub(super) fn hasten(&mut self, now: Instant) {
        self.next_at = self.next_at.min(now);
    }

    fn wants_ping(&self) -> bool {
        matches!(self.state, State::Quiet) && self.proven < self.sent()
    }

    fn payload(&self, number: u32) -> Payload {
        let mut payload = [0; PING_PAYLOAD];
        payload[..8].copy_from_slice(&self.nonce.to_be_bytes());
        payload[8..].copy_from_slice(&number.to_be_bytes());
        payload
    }

    /// A ping of the heartbeat was put on the link, and ends at the offset `end`.
    pub(super) fn on_heartbeat_ping(&mut self, payload: Payload, end: u64) {
        self.beat = Some(Beat { payload, end, covers: self.sent(), after: self.number });
    }

    /// A pong came.
    pub(super) fn on_pong(&mut self, payload: &[u8]) {
        if let State::Asked { covers, .. } = self.state
            && payload == self.payload(self.number)
        {
            self.state = State::Quiet;
            self.prove(covers);
        }
        let Some(beat) = self.beat.take_if(|beat| beat.payload == payload && beat.end <= self.left_bytes)
        else {
            return;
        };
        // It answers ours as well where that went before it.
        if matches!(self.state, State::Asked { .. }) && beat.after == self.number {
            self.state = State::Quiet;
        }
        self.prove(beat.covers);
    }

    /// The server has taken this many messages.
    fn prove(&mut self, messages: u64) {
        self.proven = self.proven.max(messages.min(self.left()));
        if let State::Assuming(batches) = &mut self.state {
            while batches.front().is_some_and(|batch| batch.left <= self.proven) {
                batches.pop_front();
            }
            if batches.is_empty() {
                *batches = VecDeque::new();
            }
        }
    }

    /// When [`Receipts::on_timer`] is to be called. While the server is not read (`is_paused`) no pong can come, so that
    /// none is waited for.
    pub(super) fn deadline(&self, is_paused: bool) -> Option<Instant> {
        match &self.state {
            // A ping is due, though nobody has asked for it.
            State::Quiet => self.wants_ping().then_some(self.next_at),
            State::Queued { .. } => None,
            // One that has answered a ping will answer this one too.
            State::Asked { since, .. } => (self.number == 1 && !is_paused).then(|| *since + PATIENCE),
            State::Assuming(batches) => Some(batches.front()?.last + ASSUMED_AFTER),
        }
    }

    /// The deadline has passed, and the server was read; an early call changes nothing.
    pub(super) fn on_timer(&mut self, is_paused: bool, now: Instant) {
        if self.deadline(is_paused).is_none_or(|deadline| now < deadline) {
            return;
        }
        match &mut self.state {
            State::Quiet | State::Queued { .. } => {}
            State::Asked { covers, .. } => {
                // They left before the ping, which is longer ago than is asked for.
                let covers = *covers;
                let left = self.left();
                let batch = Batch { since: now, last: now, left };
                self.state = State::Assuming(VecDeque::from([batch]));
                self.prove(covers);
            }
            State::Assuming(batches) => {
                let due = batches.iter().rfind(|batch| batch.last + ASSUMED_AFTER <= now);
                if let Some(left) = due.map(|batch| batch.left) {
                    self.prove(left);
                }
            }
        }
    }

    /// For `pause` until `now` the server was not read: the time in which it may answer stood still.
    pub(super) fn shift(&mut self, pause: Duration, now: Instant) {
        if let State::Asked { since, .. } = &mut self.state {
            *since += pause.min(now.saturating_duration_since(*since));
        }
    }
}

#[cfg(test)]
mod tests;
