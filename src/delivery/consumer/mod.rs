//! A reader of a log: where it is, and how far it may be behind.
//!
//! A consumer does not know how its client is reached; any transport can take what it reads.
//!
//! # Invariants
//! 1. It reads the log by its cursor alone: what its client does not take waits there, and not in a queue of its own.
//! 2. Each message that its client will never get is counted once, and its client is told if it wants to be.
//!
//! # Why is a client that has tripped not held against how far it was behind then?
//! It could never catch up: it was behind by as much as `max_lag`, or it had not tripped. That lag is its *floor*:
//! only what is beyond it counts.
//!
//! # Not here
//! What is sent together ([`super::batch`]); what its client has acknowledged ([`super::receipts`]); when its client takes
//! nothing ([`super::subscriber`]).

mod breaker;
mod tripped;

use std::sync::Arc;

use tokio::time::Instant;

use self::tripped::Tripped;
use super::batch::{Batch, Batcher, View};
use super::shared::FanoutShared;
use crate::config::{self, ResumeFrom};
use crate::log::{Cursor, Log};
use crate::telemetry::{Conflation, FeedMetrics};

/// One reader of a log.
#[derive(Debug)]
pub(super) struct Consumer {
    cursor: Cursor,
    /// `Some` from its client's first trip until its trips are forgotten.
    tripped: Option<Box<Tripped>>,
}

impl Consumer {
    pub(super) fn new(cursor: Cursor) -> Self {
        Self { cursor, tripped: None }
    }

    /// The number of the next message.
    pub(super) fn next(&self) -> u64 {
        self.cursor.next
    }

    /// The number from which on it reads every message: older ones need not be kept for it.
    pub(super) fn oldest_needed(&self) -> u64 {
        self.cursor.next.max(self.cursor.all_from)
    }

    /// The newest message that it was given.
    pub(super) fn sequence(&self) -> u64 {
        self.cursor.next.saturating_sub(1)
    }

    /// Messages up to `head` that it is still to read, including those that are not kept any more.
    pub(super) fn lag(&self, head: u64) -> u64 {
        (head + 1).saturating_sub(self.oldest_needed())
    }

    /// What is due to it next, and how many messages its client has missed before that. Counts what is left out.
    pub(super) fn next_batch<'a>(
        &mut self,
        batcher: &'a mut Batcher,
        view: View<'_>,
        metrics: &FeedMetrics,
    ) -> (&'a Batch, u64) {
        let batch = batcher.due(self.cursor, view);
        self.cursor = batch.cursor;
        if batch.conflated > 0 {
            metrics.conflated.inc_by(Conflation::Throttle, batch.conflated);
        }
        if batch.shed > 0 {
            metrics.conflated.inc_by(Conflation::ChannelBreaker, batch.shed);
        }
        metrics.missed.inc_by(batch.missed);
        let unreported = self.tripped.as_mut().map_or(0, |tripped| tripped.take_unreported_gap());
        (batch, batch.missed.saturating_add(unreported))
    }

    /// Its client has taken all there is.
    pub(super) fn on_caught_up(&mut self, now: Instant) {
        self.tripped.take_if(|tripped| tripped.on_caught_up(now));
    }

    /// Whether its client is skipped, since it has tripped.
    pub(super) fn is_skipped(&self) -> bool {
        self.tripped.as_ref().is_some_and(|tripped| tripped.is_skipped())
    }

    /// When its client is tried again, if it is skipped.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.tripped.as_ref()?.retry_at()
    }

    /// Whether its client, which takes nothing at the moment, is too far behind.
    pub(super) fn is_beyond(&self, max: &config::Lag, log: &Log) -> bool {
        let messages = self.lag(log.head());
        if messages == 0 {
            return false;
        }
        let floor = self.tripped.as_ref().map_or_else(Default::default, |tripped| tripped.floor());
        // The log is asked only if the numbers do not tell.
        messages > max.messages.saturating_add(floor.messages)
            || log.lag(self.cursor).bytes > (max.bytes as u64).saturating_add(floor.bytes)
    }

    /// Its client is too far behind, or has taken nothing for too long: it is skipped for a while. True if that was once
    /// too often.
    pub(super) fn trip(&mut self, shared: &Arc<FanoutShared>, now: Instant) -> bool {
        match &mut self.tripped {
            Some(tripped) => {
                tripped.on_trip(now);
                tripped.has_tripped_too_often()
            }
            none => none.insert(Box::new(Tripped::new(shared, now))).has_tripped_too_often(),
        }
    }

    /// Whether the time in which its client is skipped ends now: it is to be tried again.
    pub(super) fn ends_cool_down(&mut self, now: Instant) -> bool {
        self.tripped.as_mut().is_some_and(|tripped| tripped.ends_cool_down(now))
    }

    /// Its client is tried again: it goes on from there.
    pub(super) fn resume(&mut self, from: ResumeFrom, log: &Log, metrics: &FeedMetrics) {
        let Some(tripped) = &mut self.tripped else { return };
        if from == ResumeFrom::Latest {
            let cursor = log.skip_to_latest(self.cursor);
            let skipped = log.skipped(self.cursor, cursor);
            metrics.missed.inc_by(skipped);
            tripped.on_skipped(skipped);
            self.cursor = cursor;
        }
        let mut floor = log.lag(self.cursor);
        floor.messages = (log.head() + 1).saturating_sub(self.cursor.next.max(self.cursor.all_from));
        tripped.set_floor(floor);
    }
}
