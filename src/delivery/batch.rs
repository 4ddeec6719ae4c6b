//! What is due at a cursor, in one piece: made once for all clients that stand there.
//!
//! # Invariants
//! 1. A batch ends between two frames.
//! 2. What it leaves out (messages for others, conflated ones) it counts; critical messages are never conflated.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::config::Throttle;
use crate::log::{Cursor, Log};

/// What stands between a client and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View<'a> {
    /// Whether it takes compressed messages.
    pub(super) has_deflate: bool,
    /// Who it is; messages for other users are left out.
    pub(super) user: Option<&'a Arc<str>>,
}

/// A stretch of a log, as it goes onto the wire.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    /// Whole frames: one message's own bytes, or several messages put together.
    pub(super) bytes: Bytes,
    /// Messages in it.
    pub(super) messages: u32,
    /// The newest sequence number in it (0: none is).
    pub(super) newest: u64,
    /// Where to go on after it.
    pub(super) cursor: Cursor,
    /// Messages that nobody will read at this cursor any more.
    pub(super) missed: u64,
    /// Messages for which a newer one of the same key stands.
    pub(super) throttled: u64,
    /// Messages left out because the channel's breaker is open.
    pub(super) shed: u64,
    /// Whether there is more to read now.
    pub(super) has_more: bool,
}

/// Makes batches, and remembers the last ones: clients mostly stand at the same place.
#[derive(Debug)]
pub(super) struct Batcher {}

impl Batcher {
    /// `throttle`: `delivery.throttle`.
    pub(super) fn new(log: Arc<Log>, throttle: Option<Throttle>) -> Self {
        let _ = (log, throttle);
        unimplemented!()
    }

    /// A new pass begins: the log may have more, and may be conflated to its newest message
    /// (`is_newest_only`). Answers up to which sequence number may be delivered now, and, with a throttle, when
    /// more may be.
    pub(super) fn begin(&mut self, is_newest_only: bool, now: Instant) -> (u64, Option<Instant>) {
        let _ = (is_newest_only, now);
        unimplemented!()
    }

    /// What is due at `cursor`. Costs a comparison where another client stood there in this pass.
    pub(super) fn due(&mut self, cursor: Cursor, view: View<'_>) -> &Batch {
        let _ = (cursor, view);
        unimplemented!()
    }
}
