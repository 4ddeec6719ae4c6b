//! The deadlines of one client: what it waits for, and what happens when a deadline has come. Those of its link stand in
//! [`crate::delivery::link`].
//!
//! # Invariants
//! 1. [`Subscriber::deadline`] is the one place that knows a deadline; which is next and which has come both ask it.

use std::time::SystemTime;

use tokio::time::Instant;

use super::{PollContext, Subscriber};
use crate::config::Policy;
use crate::delivery::close::CloseCause;
use crate::resilience::Standstill;

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// Its life, its credentials or a drain's schedule end.
    Date,
    /// Its feed closes it.
    FeedClose,
    /// It is tried again after a trip.
    Retry,
    /// It has taken nothing for `stall_timeout`.
    Stall,
}

/// What does not depend on what the client does.
const DATES: [Due; 2] = [Due::Date, Due::FeedClose];
/// Judgements of what the client does, in the order in which they are made; those of its link follow. They are deferred after
/// the process stood still.
const JUDGEMENTS: [Due; 2] = [Due::Retry, Due::Stall];

impl Subscriber {
    /// When it is to be looked at, whatever else happens.
    pub(in crate::delivery) fn next_deadline(
        &self,
        policy: &Policy,
        standstill: Standstill,
    ) -> Option<Instant> {
        let at = |due: Due| self.deadline(due, policy);
        let judgements = JUDGEMENTS.into_iter().filter_map(at).chain(self.link.next_deadline(policy)).min();
        let others = DATES.into_iter().filter_map(at).chain(self.link.paused_until()).min();
        [judgements.map(|deadline| standstill.defer(deadline)), others].into_iter().flatten().min()
    }

    /// Deadlines may have come: does what follows from each. In a grace period the client is not judged.
    pub(in crate::delivery) fn on_deadlines(&mut self, is_grace_period: bool, cx: &PollContext<'_>) {
        // Always, since credentials may have ended by the wall clock before they end by the monotonic one.
        self.on_close_date(cx);
        if is_grace_period {
            return;
        }
        for due in JUDGEMENTS {
            // Each is asked for when it is its turn: one that came before it may have changed it.
            if self.deadline(due, cx.policy()).is_some_and(|deadline| deadline <= cx.now) {
                self.on_due(due, cx);
            }
        }
        self.link.on_deadlines(cx.policy(), cx.now);
    }

    fn deadline(&self, due: Due, policy: &Policy) -> Option<Instant> {
        match due {
            // Whoever is being closed has no other deadline than that.
            _ if !self.link.is_open() => None,
            Due::Date => self.dates.next(),
            Due::FeedClose => self.feed_close.as_ref().map(|close| close.at),
            Due::Retry => self.consumer.retry_at(),
            Due::Stall if self.consumer.is_skipped() => None,
            Due::Stall => Some(self.link.stalled_since()? + policy.delivery.stall_timeout?),
        }
    }

    fn on_due(&mut self, due: Due, cx: &PollContext<'_>) {
        match due {
            Due::Date | Due::FeedClose => self.on_close_date(cx),
            Due::Retry => self.try_again(cx),
            Due::Stall => {
                if !self.link.try_write_now(cx.now) {
                    self.trip(cx);
                }
            }
        }
    }

    /// A Close with a date may be due.
    pub(super) fn on_close_date(&mut self, cx: &PollContext<'_>) {
        if let Some(date) = self.dates.due(cx.now, SystemTime::now) {
            self.close(&CloseCause::of_date(date, &cx.policy().close_codes), cx);
        }
        if let Some(close) = self.feed_close.take_if(|close| close.at <= cx.now) {
            self.close(&close.cause, cx);
        }
    }
}
