//! Memory that many share, counted in one place.
//!
//! # Not here
//! What goes when it is used up: who holds the memory decides ([`crate::log`], [`crate::tunnel`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

/// Bytes in use, and how many there may be. A bound that is told, not kept: whoever adds asks afterwards.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: AtomicUsize,
}

impl Budget {
    /// Nothing is in use.
    pub fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }
    }

    /// Takes `bytes`; true if that is more than there may be.
    pub fn add(&self, bytes: usize) -> bool {
        self.used.fetch_add(bytes, Relaxed).saturating_add(bytes) > self.limit()
    }

    /// Gives `bytes` back.
    pub fn sub(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }

    /// The same bytes, in use as long as anybody has any of them, and counted once however many that are.
    pub fn share(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        self.add(bytes.len());
        Bytes::from_owner(Shared { bytes, budget: Arc::clone(self) })
    }

    /// In use.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// How many there may be.
    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// From now on there may be so many.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    /// Whether more are in use than there may be.
    pub fn is_over(&self) -> bool {
        self.used() > self.limit()
    }
}

/// Bytes that are given back with their last owner.
struct Shared {
    bytes: Bytes,
    budget: Arc<Budget>,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.budget.sub(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_counts_once_until_the_last_who_has_any_of_it_lets_go() {
        let budget = Arc::new(Budget::new(100));
        let frame = budget.share(Bytes::from_static(b"frame"));
        let part = frame.slice(1..3);
        drop(frame);
        assert_eq!((&*part, budget.used()), (&b"ra"[..], 5));
        drop(part);
        assert_eq!(budget.used(), 0);
    }
}
