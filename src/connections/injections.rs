//! Whole frames that wait to be sent between two messages of a tunnel. Pure.
//!
//! # Invariants
//! 1. They are bounded: [`MESSAGES`], and the bytes given to [`Injections::open`].
//! 2. They are sent in the order in which they came.
//! 3. Without frames only the bound takes memory.
//!
//! # Not here
//! Between which messages they are sent ([`crate::tunnel`]); the lock around this ([`super::registry`]).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::telemetry::Injection;

/// Enough for a burst while a long message passes; for more there is mode `broadcast`.
const MESSAGES: usize = 64;

/// The injections of one connection.
#[derive(Debug)]
pub(super) enum Injections {
    /// None are taken: what becomes of those that come.
    Closed(Injection),
    /// They are.
    Open {
        /// How many bytes of them may wait.
        bound: usize,
        /// `None`: nothing waits.
        waiting: Option<Box<Waiting>>,
    },
}

/// Never empty.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Default for Injections {
    fn default() -> Self {
        Self::Closed(Injection::Ended)
    }
}

impl Injections {
    /// Empty; at most `bound` bytes may wait.
    pub(super) fn open(bound: usize) -> Self {
        Self::Open { bound, waiting: None }
    }

    /// Adds one, unless that is too many.
    pub(super) fn push(&mut self, frame: &Bytes) -> Result<(), Injection> {
        let (bound, waiting) = match self {
            Self::Closed(why) => return Err(*why),
            Self::Open { bound, waiting } => (*bound, waiting),
        };
        let (frames, bytes) =
            waiting.as_ref().map_or((0, 0), |waiting| (waiting.frames.len(), waiting.bytes));
        if frames == MESSAGES || frame.len() > bound.saturating_sub(bytes) {
            return Err(Injection::Full);
        }
        let waiting = waiting.get_or_insert_default();
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame.clone());
        Ok(())
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let Self::Open { waiting, .. } = self else { return None };
        let queue = waiting.as_mut()?;
        let frame = queue.frames.pop_front();
        queue.bytes -= frame.as_ref().map_or(0, Bytes::len);
        if queue.frames.is_empty() {
            *waiting = None;
        }
        frame
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self, Self::Open { waiting: Some(_), .. })
    }

    /// Takes no more; answers how many waited, which are forgotten.
    pub(super) fn close(&mut self, why: Injection) -> usize {
        match std::mem::replace(self, Self::Closed(why)) {
            Self::Open { waiting: Some(waiting), .. } => waiting.frames.len(),
            Self::Open { waiting: None, .. } | Self::Closed(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_in_number_and_in_bytes_and_leaves_in_order() {
        // frame, bound, how many are taken
        for (len, bound, taken) in
            [(1, 1000, MESSAGES), (10, 35, 3), (10, 30, 3), (31, 30, 0), (0, 0, MESSAGES), (1, 0, 0)]
        {
            let mut injections = Injections::open(bound);
            for round in 0..2 {
                let frame = |n: usize| Bytes::from(vec![n as u8; len]);
                for n in 0..taken {
                    assert_eq!(injections.push(&frame(n)), Ok(()), "{len} {bound} {n}");
                }
                assert_eq!(injections.push(&frame(0)), Err(Injection::Full), "{len} {bound}");
                assert_eq!(injections.is_waiting(), taken > 0);
                for n in 0..taken {
                    assert_eq!(injections.pop(), Some(frame(n)), "{round}");
                }
                assert_eq!(injections.pop(), None);
                assert!(matches!(injections, Injections::Open { waiting: None, .. }), "no memory is left");
            }
        }
    }

    #[test]
    fn what_is_closed_takes_nothing_and_tells_what_was_lost() {
        let mut injections = Injections::default();
        let frame = Bytes::from_static(b"frame");
        assert_eq!(injections.push(&frame), Err(Injection::Ended));
        injections = Injections::open(100);
        injections.push(&frame).unwrap();
        injections.push(&frame).unwrap();
        assert_eq!(injections.close(Injection::Extension), 2);
        assert_eq!((injections.push(&frame), injections.pop()), (Err(Injection::Extension), None));
        assert_eq!(injections.close(Injection::Ended), 0);
    }
}
