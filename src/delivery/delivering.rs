//! Sending one client what its log has for it.

use std::task::Context;

use bytes::Bytes;

use super::batch::View;
use super::subscriber::{State, Subscriber, Table};
use super::wire::Wrote;
use crate::frame::{Kind, encode};
use crate::telemetry::Conflation;

/// Batches that one client is sent before it is the others' turn.
const BATCHES: usize = 4;

impl Subscriber {
    /// Sends what the log has for it; nothing may be left of what was sent before.
    pub(super) fn deliver(&mut self, table: &mut Table<'_>) -> State {
        for _ in 0..BATCHES {
            if self.cursor.next > table.until {
                self.on_caught_up(table);
                return State::Going;
            }
            let view = View { has_deflate: self.has_deflate, user: self.live.handle().about.user.as_ref() };
            let batch = table.batcher.due(self.cursor, view);
            self.cursor = batch.cursor;
            let metrics = &table.crew.settings.metrics;
            if batch.conflated > 0 {
                metrics.conflated.inc_by(Conflation::Throttle, batch.conflated);
            }
            if batch.shed > 0 {
                metrics.conflated.inc_by(Conflation::ChannelBreaker, batch.shed);
            }
            let mut gap = None;
            let untold = self.trouble.as_mut().map_or(0, |trouble| trouble.take_untold());
            let missed = batch.missed.saturating_add(untold);
            metrics.missed.inc_by(batch.missed);
            if missed > 0 {
                gap = table.crew.settings.policy.notices.then(|| gap_notice(missed, &batch.bytes));
            }
            let bytes = gap.as_ref().unwrap_or(&batch.bytes);
            if bytes.is_empty() {
                if batch.has_more {
                    continue;
                }
                self.on_caught_up(table);
                return State::Going;
            }
            self.last_activity = table.now;
            self.live.handle().on_out(batch.messages, bytes.len());
            let has_more = batch.has_more;
            // Without a copy of the waker: this is once a delivery.
            match self.wire.write(&mut Context::from_waker(&self.waker), bytes, table.now) {
                Wrote::All => {}
                Wrote::Blocked => {
                    // TLS may have taken all of it for itself.
                    if self.wire.has_rest() {
                        let budget = table.crew.settings.holders.budget();
                        let held = match gap {
                            Some(gap) => budget.hold(gap),
                            None => table.batcher.held(budget),
                        };
                        self.wire.share(held);
                    }
                    self.account(table.account);
                    return State::Going;
                }
                Wrote::Broken => {
                    self.on_lost();
                    return State::Gone;
                }
            }
            if !has_more {
                self.on_caught_up(table);
                return State::Going;
            }
        }
        State::Again
    }

    pub(super) fn on_caught_up(&mut self, table: &Table<'_>) {
        self.live.handle().set_lag(0);
        if let Some(trouble) = &mut self.trouble
            && trouble.on_caught_up(table.now)
        {
            self.trouble = None;
        }
        // The log may be ahead of what may go out now: its last words wait for that too.
        if self.cursor.next > table.log.head() {
            self.on_last_delivered(table);
        }
    }
}

/// A notice, and what follows it.
fn gap_notice(missed: u64, then: &Bytes) -> Bytes {
    let text = format!(r#"{{"type":"outrigger","event":"gap","missed":{missed}}}"#);
    let notice = encode::message(Kind::Text, text.as_bytes());
    [&notice[..], &then[..]].concat().into()
}
