//! How much is read of one peer before others are read.
//!
//! # Invariants
//! 1. Whatever a peer sends spends it: bytes, frames however short, TLS records however little they hold, reads however
//!    little they bring. So no stream, however it is cut, keeps a task busy for longer than the budget allows.
//!
//! # Why is a read bounded by frames as well as by bytes?
//! An empty frame costs as much as one of a kilobyte. And a read that does not fill the buffer says nothing about the
//! next one: over TLS and HTTP/2 no read ever fills it.
//!
//! # Not here
//! What follows when it is spent: the task that reads wakes itself, and goes on where it was.

/// Bytes and frames that may still be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadBudget {
    bytes: usize,
    frames: u32,
}

impl ReadBudget {
    pub(crate) const fn new(bytes: usize, frames: u32) -> Self {
        Self { bytes, frames }
    }

    /// Whether it is spent: others are read first.
    pub(crate) const fn is_spent(&self) -> bool {
        self.bytes == 0 || self.frames == 0
    }

    /// Bytes that are left.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Charges one read. It counts as a frame at the least: to read a single byte costs as much.
    pub(crate) fn take(&mut self, bytes: usize, frames: u32) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.frames = self.frames.saturating_sub(frames.max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_by_bytes_by_frames_and_by_reads() {
        for (bytes, frames, reads) in
            [(10, 0, 10), (1, 0, 100), (0, 0, 100), (0, 7, 15), (1, 100, 1), (100, 1, 1)]
        {
            let mut budget = ReadBudget::new(100, 100);
            let mut done = 0;
            while !budget.is_spent() {
                budget.take(bytes, frames);
                done += 1;
            }
            assert_eq!(done, reads, "{bytes} bytes and {frames} frames a read");
        }
    }
}
