//! Masking (RFC 6455 §5.3).
//!
//! # Not here
//! Who masks: [`super::Role`].

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// An unpredictable key: whoever chose the payload must not choose the bytes on the wire (RFC 6455 §10.3). It is
/// derived from a count with a hash that is keyed by the system's randomness.
pub(super) fn new_key() -> [u8; 4] {
    thread_local! {
        static KEYS: (RandomState, Cell<u64>) = (RandomState::new(), Cell::new(0));
    }
    KEYS.with(|(hasher, count)| {
        count.set(count.get().wrapping_add(1));
        (hasher.hash_one(count.get()) as u32).to_be_bytes()
    })
}

/// Masks or unmasks `payload`, sixteen bytes at a time.
pub(super) fn apply(payload: &mut [u8], key: [u8; 4]) {
    let key: [u8; 16] = std::array::from_fn(|i| key[i % 4]);
    let (wide, rest) = payload.as_chunks_mut::<16>();
    for bytes in wide {
        for (byte, key) in bytes.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_over_any_length() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for len in [0, 1, 3, 4, 15, 16, 17, 31, 32, 125, 1000] {
            let plain: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let expected: Vec<u8> =
                plain.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            let mut masked = plain.clone();
            apply(&mut masked, key);
            assert_eq!(masked, expected, "{len}");
        }
    }

    #[test]
    fn keys_do_not_repeat() {
        let keys: std::collections::HashSet<_> = (0..1000).map(|_| new_key()).collect();
        assert!(keys.len() > 990, "{}", keys.len());
    }
}
