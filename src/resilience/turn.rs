//! What one peer may say before others get their turn.
//!
//! # Invariants
//! 1. Whatever a peer sends uses it up: bytes, frames however short, TLS records however little they hold, reads however
//!    little they bring. So no stream, and no way of cutting one, keeps a task busy for longer than its turn.
//!
//! # Why is a read bounded by frames as well as by bytes?
//! An empty frame costs as much as one of a kilobyte. And a read that does not fill the buffer says nothing about the
//! next one: over TLS and HTTP/2 no read ever fills it.
//!
//! # Not here
//! What follows when a turn is used up: the task that reads wakes itself, and goes on where it was.

/// Bytes and frames that may still be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    bytes: usize,
    frames: u32,
}

impl Turn {
    /// The whole of it.
    pub(crate) const fn new(bytes: usize, frames: u32) -> Self {
        Self { bytes, frames }
    }

    /// Whether it is used up: others first.
    pub(crate) const fn is_over(&self) -> bool {
        self.bytes == 0 || self.frames == 0
    }

    /// Bytes that are left.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// A read brought so much. It counts as a frame at the least: one that brings a byte costs as much.
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
            let mut turn = Turn::new(100, 100);
            let mut done = 0;
            while !turn.is_over() {
                turn.take(bytes, frames);
                done += 1;
            }
            assert_eq!(done, reads, "{bytes} bytes and {frames} frames a read");
        }
    }
}
