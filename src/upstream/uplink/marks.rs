//! Where messages end in the stream of bytes to the server, and how many of them have left.
//!
//! # Invariants
//! 1. A message counts as having left exactly when its last byte has.
//! 2. Where all have left there is no queue, nor is there one for the newest message alone.
//!
//! # Not here
//! The bound: what waits is bounded in bytes, these marks among them ([`super::Uplink::send`]).

use std::collections::VecDeque;

/// The marks of one link.
#[derive(Debug, Default)]
pub(super) struct Marks {
    sent: u64,
    left: u64,
    /// The offset behind the newest message.
    newest_end: u64,
    /// The same of all others that have not left.
    ends: VecDeque<u64>,
}

impl Marks {
    /// A message was put on the link, and ends at the offset `end`.
    pub(super) fn on_message(&mut self, end: u64) {
        if self.left < self.sent {
            self.ends.push_back(self.newest_end);
        }
        self.sent += 1;
        self.newest_end = end;
    }

    /// The first `bytes` of the stream have left.
    pub(super) fn on_left(&mut self, bytes: u64) {
        if self.left == self.sent {
            return;
        }
        if bytes >= self.newest_end {
            self.left = self.sent;
            self.ends = VecDeque::new();
        }
        while self.ends.front().is_some_and(|end| *end <= bytes) {
            self.ends.pop_front();
            self.left += 1;
        }
    }

    /// Messages ever.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Those whose last byte has left.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Memory of the queue.
    pub(super) fn held(&self) -> usize {
        self.ends.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_every_byte_as_many_have_left_as_have_their_last_byte_there() {
        // Lengths of messages; between some of them stand bytes that are no message.
        let lens = [6_u64, 7, 6, 200, 1, 1, 30];
        let gaps = [0_u64, 18, 0, 0, 18, 0, 0];
        for step in 1..=9 {
            let (mut marks, mut end, mut ends) = (Marks::default(), 0, Vec::new());
            for (len, gap) in lens.into_iter().zip(gaps) {
                end += gap + len;
                ends.push(end);
                marks.on_message(end);
            }
            for bytes in (0..=end + 18).step_by(step) {
                marks.on_left(bytes);
                let expected = ends.iter().filter(|end| **end <= bytes).count() as u64;
                assert_eq!((marks.left(), marks.sent()), (expected, 7), "{bytes} bytes");
            }
            assert_eq!(marks.held(), 0);
        }
    }

    #[test]
    fn messages_that_leave_one_by_one_need_no_queue() {
        let mut marks = Marks::default();
        for end in (7..700).step_by(7) {
            marks.on_message(end);
            marks.on_left(end - 1);
            assert_eq!((marks.sent() - marks.left(), marks.ends.capacity()), (1, 0));
            marks.on_left(end);
            assert_eq!((marks.sent() - marks.left(), marks.ends.capacity()), (0, 0));
        }
        // What leaves while others come.
        marks.on_message(710);
        marks.on_message(720);
        marks.on_left(710);
        marks.on_message(730);
        assert_eq!((marks.sent() - marks.left(), marks.ends.len()), (2, 1));
        marks.on_left(730);
        assert_eq!((marks.left(), marks.held()), (marks.sent(), 0));
    }
}
