//! Budgets of memory that many share.
//!
//! # Not here
//! What is dropped when a budget is exceeded: that is up to its holders ([`crate::log`], [`crate::tunnel`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

/// Bytes in use, and their limit. The budget does not enforce it: whoever adds bytes asks afterwards.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: AtomicUsize,
    /// The budget that it is a part of.
    whole: Option<Arc<Budget>>,
}

impl Budget {
    /// Nothing is in use.
    pub fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit), whole: None }
    }

    /// A part of `whole`, limited to half of it: the rest is left to the other users.
    pub fn half_of(whole: &Arc<Self>) -> Self {
        Self { whole: Some(Arc::clone(whole)), ..Self::new(0) }
    }

    /// Adds `bytes` to what is in use; true if the limit is exceeded then.
    pub fn add(&self, bytes: usize) -> bool {
        if let Some(whole) = &self.whole {
            whole.add(bytes);
        }
        self.used.fetch_add(bytes, Relaxed).saturating_add(bytes) > self.limit()
    }

    /// `bytes` are not in use any more.
    pub fn sub(&self, bytes: usize) {
        if let Some(whole) = &self.whole {
            whole.sub(bytes);
        }
        self.used.fetch_sub(bytes, Relaxed);
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// The limit.
    pub fn limit(&self) -> usize {
        self.whole.as_ref().map_or_else(|| self.limit.load(Relaxed), |whole| whole.limit() / 2)
    }

    /// Changes the limit. A half has none of its own: its limit follows that of the whole.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    /// Whether the limit is exceeded.
    pub fn is_over(&self) -> bool {
        self.used() > self.limit()
    }

    /// `bytes`, counted as in use until their last clone is dropped.
    pub fn hold(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        self.add(bytes.len());
        Bytes::from_owner(Held { bytes, budget: Arc::clone(self) })
    }

    /// A share for a holder whose use goes up and down.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), held: 0 }
    }
}

struct Held {
    bytes: Bytes,
    budget: Arc<Budget>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.sub(self.bytes.len());
    }
}

/// What one holder uses of a budget; released when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    held: usize,
}

impl Share {
    /// The holder uses `bytes` now. Costs a comparison if nothing has changed.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.held {
            self.budget.add(bytes - self.held);
        } else if bytes < self.held {
            self.budget.sub(self.held - bytes);
        }
        self.held = bytes;
    }

    /// The bytes of the last [`Share::set`].
    pub fn held(&self) -> usize {
        self.held
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_bytes_count_once_until_the_last_who_has_them_lets_go() {
        let budget = Arc::new(Budget::new(100));
        let bytes = budget.hold(Bytes::from_static(b"frame"));
        let part = bytes.slice(1..3);
        drop(bytes);
        assert_eq!((&*part, budget.used()), (&b"ra"[..], 5));
        drop(part);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_half_counts_for_the_whole_and_is_used_up_earlier() {
        let whole = Arc::new(Budget::new(100));
        let half = Arc::new(Budget::half_of(&whole));
        let (mut one, mut other) = (half.share(), whole.share());
        one.set(50);
        other.set(40);
        assert!(!half.is_over() && !whole.is_over());
        one.set(51);
        assert!(half.is_over() && !whole.is_over());
        one.set(10);
        other.set(91);
        assert!(!half.is_over() && whole.is_over());
        assert_eq!((half.used(), whole.used()), (10, 101));
        whole.set_limit(18);
        assert!(half.is_over());
        drop((one, other));
        assert_eq!((half.used(), whole.used()), (0, 0));
    }
}
