//! The clocks of one client: which is the next, and what happens when it has run out.
//!
//! # Invariants
//! 1. A client is read before it is judged, also when the process stood still ([`crate::resilience::Standstill`]):
//!    its shard sees to that.

use tokio::time::Instant;

use super::closing::Farewell;
use super::fanout::Crew;
use super::subscriber::{Subscriber, Table};
use crate::resilience::Standstill;
use crate::telemetry::Reason;

impl Subscriber {
    /// When it is to be looked at, whatever else happens. Judgements of what it does may have to wait; what it may
    /// say, and dates, do not.
    pub(super) fn next_deadline(
        &mut self,
        crew: &Crew,
        standstill: Standstill,
        now: Instant,
    ) -> Option<Instant> {
        let judgement = self.next_judgement(crew, now).map(|deadline| standstill.defer(deadline));
        let tokens = self.paused_until();
        let is_open = self.closing.is_none();
        let date = self.dates.next().filter(|_| is_open);
        let parting = self.parting.as_ref().map(|parting| parting.at).filter(|_| is_open);
        [judgement, tokens, date, parting].into_iter().flatten().min()
    }

    /// The nearest deadline of what it does.
    fn next_judgement(&mut self, crew: &Crew, now: Instant) -> Option<Instant> {
        let is_paused = self.is_paused();
        if let Some(closing) = &self.closing {
            return closing.deadline;
        }
        let policy = &crew.settings.policy;
        let is_skipped = self.is_skipped();
        let deadlines = [
            self.pulse.as_ref().and_then(|pulse| pulse.deadline(is_paused)),
            policy.idle_timeout.filter(|_| !is_paused).map(|idle| self.last_activity + idle),
            self.trouble.as_mut().and_then(|trouble| trouble.until(now)),
            self.stall_deadline(crew).filter(|_| !is_skipped),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// When it trips for taking nothing.
    fn stall_deadline(&self, crew: &Crew) -> Option<Instant> {
        Some(self.wire.stalled_since()? + crew.settings.policy.delivery.stall_timeout?)
    }

    /// A deadline has passed that is no date: which? What is left to be done for it follows.
    pub(super) fn on_time(&mut self, table: &mut Table<'_>) {
        let now = table.now;
        if let Some(closing) = &self.closing {
            if closing.deadline.is_some_and(|deadline| deadline <= now) {
                self.on_closing_deadline();
            }
            return;
        }
        if self.trouble.is_some() {
            self.try_again(table);
        }
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if !self.is_skipped() && is_due(self.stall_deadline(table.crew)) && !self.wire.nudge(now) {
            self.trip(table);
        }
        let policy = &table.crew.settings.policy;
        let is_paused = self.is_paused();
        if !is_paused && is_due(policy.idle_timeout.map(|idle| self.last_activity + idle)) {
            return self
                .close(&Farewell::ours(Reason::IdleTimeout, policy.close_codes.idle, "idle timeout"), table);
        }
        if let Some(pulse) = &mut self.pulse
            && pulse.on_timer(is_paused, now, self.live.metrics())
        {
            self.on_silence(table);
        }
    }
}
