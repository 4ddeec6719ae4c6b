//! When a client is told what was received of it, and what it may say to have had. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::ControlError;

/// The client is told once in this time at the most, as long as less than the bounds below has come.
const INTERVAL: Duration = Duration::from_secs(1);
/// More than this is not left untold: a client keeps what it was not told of.
const MESSAGES: u64 = 100;
const BYTES: u64 = 64 * 1024;

/// When the messages of a client are acknowledged to it.
#[derive(Debug)]
pub(crate) struct Acknowledgements {
    /// What the client was told last.
    told: u64,
    told_at: Instant,
    /// Of the messages that came since then.
    bytes: u64,
}

impl Acknowledgements {
    /// A new link, whose hello told `received`.
    pub(crate) fn new(received: u64, now: Instant) -> Self {
        Self { told: received, told_at: now, bytes: 0 }
    }

    /// What the client is told, or was told last.
    pub(crate) fn told(&self) -> u64 {
        self.told
    }

    /// A message was received.
    pub(crate) fn on_message(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// What the client is to be told now, of `received` messages.
    pub(crate) fn take_due(&mut self, received: u64, now: Instant) -> Option<u64> {
        let due = self.next_due(received)?;
        let is_much = received - self.told >= MESSAGES || self.bytes >= BYTES;
        if !is_much && now < due {
            return None;
        }
        *self = Self::new(received, now);
        Some(received)
    }

    /// When [`Acknowledgements::take_due`] is to be asked if nothing more comes.
    pub(crate) fn next_due(&self, received: u64) -> Option<Instant> {
        (received > self.told).then(|| self.told_at + INTERVAL)
    }
}

/// What a client says to have had.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Confirmed(u64);

impl Confirmed {
    /// A client that has had `sequence` messages.
    pub(crate) fn new(sequence: u64) -> Self {
        Self(sequence)
    }

    /// The number of the newest message that it has had.
    #[cfg(test)]
    pub(crate) fn sequence(self) -> u64 {
        self.0
    }

    /// It says to have had `seen`, of `sent` that it was sent. Answers whether that is news.
    ///
    /// # Errors
    /// It cannot be: client and proxy do not count the same.
    pub(crate) fn on_seen(&mut self, seen: u64, sent: u64) -> Result<bool, ControlError> {
        if seen > sent {
            return Err(ControlError::Ahead);
        }
        if seen < self.0 {
            return Err(ControlError::Backwards);
        }
        Ok(std::mem::replace(&mut self.0, seen) < seen)
    }
}
