//! All logs under one bound (`memory.max_buffered`).

use std::sync::Arc;

use crate::resilience::Budget;
use crate::telemetry::Metrics;

/// Every log of the process.
#[derive(Debug)]
pub struct Logs {
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
}

impl Logs {
    /// None yet. What logs hold is taken from `budget`, which others share.
    pub fn new(budget: Arc<Budget>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { budget, metrics })
    }

    /// Makes room if the budget is exceeded, in this order: messages that are not critical and that no reader is
    /// to read any more, the longest log first; then the oldest messages of the log whose readers are furthest
    /// behind.
    pub fn relieve(&self) {
        let _ = (&self.budget, &self.metrics);
        unimplemented!()
    }

    /// Forgets what is older than `history.age`, in every log. To be called now and then.
    pub fn expire(&self) {
        unimplemented!()
    }
}
