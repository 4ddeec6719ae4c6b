//! The thread's buffer for records, borrowed for the length of one call: what is whole when the call ends
//! has been dealt with, so that only the beginning of a record is ever kept by a connection.

use std::cell::Cell;

/// Ciphertext read at once.
pub(super) const READ: usize = 64 * 1024;

/// Plaintext encrypted at once: what the relay reads at once.
pub(super) const MAX_PLAINTEXT: usize = 64 * 1024 + 512;

/// The longest beginning of something that is not whole yet: rustls takes handshake messages of up to
/// 64 KiB, in records of their own, and a record has up to 16 KiB.
pub(super) const HELD: usize = 96 * 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Runs `work` with the thread's buffer. A nested call finds none and makes one of its own.
pub(super) fn with<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut scratch = SCRATCH.take().unwrap_or_else(|| vec![0; HELD + READ].into_boxed_slice());
    let result = work(&mut scratch);
    SCRATCH.set(Some(scratch));
    result
}
