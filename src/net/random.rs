//! Random bytes that nobody can guess.
//!
//! # Not here
//! Jitter, masks and ids, which are no secrets and come from a faster generator.

use aws_lc_rs::rand;

/// So many bytes of the cryptographic generator.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The generator seeds itself from the kernel, and waits for it rather than fail.
    rand::fill(&mut bytes).unwrap_or_else(|_| unreachable!("the random generator always answers"));
    bytes
}
