//! A client that does not take what it is sent: when it trips, and how it is tried again.
//!
//! # Not here
//! The breaker's clock ([`super::guard`]); how it is shown ([`super::trouble`]).

use super::closing::Farewell;
use super::subscriber::{Subscriber, Table};
use super::trouble::Trouble;
use crate::config::ResumeFrom;
use crate::log::Cursor;
use crate::telemetry::Reason;

impl Subscriber {
    /// It takes nothing at the moment: is it too far behind?
    pub(super) fn check_lag(&mut self, table: &Table<'_>) {
        let messages = lag(self.cursor, table.log.head());
        self.live.handle().set_lag(messages);
        if self.closing.is_some() || self.is_skipped() {
            return;
        }
        let max = &table.crew.settings.policy.delivery.max_lag;
        let floor = self.trouble.as_ref().map_or_else(Default::default, |trouble| trouble.floor());
        if messages == 0 {
            return;
        }
        // The log is asked only if the numbers do not tell.
        let is_far = messages > max.messages.saturating_add(floor.messages)
            || table.log.lag(self.cursor).bytes > (max.bytes as u64).saturating_add(floor.bytes);
        if is_far {
            self.trip(table);
        }
    }

    /// It is in trouble: it is skipped for a while, or has been too often.
    pub(super) fn trip(&mut self, table: &Table<'_>) {
        self.wire.has_moved = false;
        let (crew, now) = (table.crew, table.now);
        let is_last = match &mut self.trouble {
            Some(trouble) => trouble.on_trip(now),
            none => none.insert(Box::new(Trouble::new(crew, now))).is_last(now),
        };
        if is_last {
            let code = crew.settings.policy.close_codes.slow_consumer;
            self.close(&Farewell::ours(Reason::SlowConsumer, code, "slow consumer"), table);
        }
    }

    /// Its time of being skipped may be over.
    pub(super) fn try_again(&mut self, table: &mut Table<'_>) {
        let Some(trouble) = &mut self.trouble else { return };
        if !trouble.resumes(table.now) {
            return;
        }
        // Not a byte in all that time: there is no use in trying.
        if !self.wire.has_moved && !self.wire.is_flushed() && !self.wire.nudge(table.now) {
            return self.trip(table);
        }
        let delivery = &table.crew.settings.policy.delivery;
        if delivery.resume_from == ResumeFrom::Latest {
            let cursor = table.log.skip_to_latest(self.cursor);
            let skipped = table.log.skipped(self.cursor, cursor);
            table.crew.settings.metrics.missed.inc_by(skipped);
            if let Some(trouble) = &mut self.trouble {
                trouble.on_skipped(skipped);
            }
            self.cursor = cursor;
        }
        let mut floor = table.log.lag(self.cursor);
        floor.messages = lag(self.cursor, table.log.head());
        if let Some(trouble) = &mut self.trouble {
            trouble.set_floor(floor);
        }
    }
}

/// Messages from `cursor` to the newest, those that are not there any more among them.
fn lag(cursor: Cursor, head: u64) -> u64 {
    (head + 1).saturating_sub(cursor.next.max(cursor.all_from))
}
