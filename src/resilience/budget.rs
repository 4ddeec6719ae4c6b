//! Memory that many share, counted in one place.
//!
//! # Not here
//! What goes when it is used up: who holds the memory decides ([`crate::log`], [`crate::tunnel`]).

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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
