//! The buffer that all connections of a thread read into, one at a time.
//!
//! A connection borrows it for the length of one poll and never keeps it: ten thousand idle connections
//! share one buffer, not ten thousand.
//!
//! # Why read into one buffer, and not straight across with `splice`?
//! Small messages are what WebSockets carry. Two ends of a pipe for each direction, and two calls for each message,
//! would cost more than the copy saves.

use std::cell::Cell;

use crate::frame::MAX_HELD;

/// Room in front of what is read for what was held before; see [`MAX_HELD`].
pub(crate) const HELD_ROOM: usize = MAX_HELD;

/// Payload read at once. A 64 KiB message and its header fit, so that it can take one read and one write.
pub(crate) const READ: usize = 64 * 1024 + 512;

thread_local! {
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Runs `work` with the thread's buffer. A nested call gets a buffer of its own.
pub(crate) fn with<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut scratch = SCRATCH.take().unwrap_or_else(|| vec![0; HELD_ROOM + READ].into_boxed_slice());
    let result = work(&mut scratch);
    SCRATCH.set(Some(scratch));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_is_used_again_and_nesting_gets_another() {
        let first = with(|outer| {
            let inner = with(|inner| inner.as_ptr());
            assert_ne!(outer.as_ptr(), inner);
            outer.as_ptr()
        });
        assert_eq!(with(|retry| retry.as_ptr()), first);
    }
}
