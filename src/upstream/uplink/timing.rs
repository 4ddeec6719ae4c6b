//! The deadlines of an uplink: which is next, and what happens when one has passed.

use std::task::Context;

use tokio::time::Instant;

use super::{Uplink, UplinkEnd};
use crate::resilience::HeartbeatAction;

/// What is due at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The end, however far the closing handshake has come.
    Ending,
    /// The server took nothing for `stall_timeout`.
    Stall,
    /// A ping, or the answer to one.
    Heartbeat,
    /// A ping that asks what the server has taken, or what it is assumed to have.
    Receipts,
}

impl Uplink {
    /// All deadlines, in the order in which they are judged. One that everything ends with leaves no others.
    fn deadlines(&self) -> impl Iterator<Item = (Instant, Due)> + use<> {
        let is_open = self.deadline.is_none();
        let stall = self.stall.since().zip(self.rules.stall_timeout).map(|(since, timeout)| since + timeout);
        let is_paused = self.is_paused();
        let heartbeat = self.heartbeat.as_ref().and_then(|heartbeat| heartbeat.deadline(is_paused));
        let receipts = self.receipts.as_ref().and_then(|receipts| receipts.deadline(is_paused));
        [
            self.deadline.map(|at| (at, Due::Ending)),
            stall.filter(|_| is_open).map(|at| (at, Due::Stall)),
            heartbeat.filter(|_| is_open).map(|at| (at, Due::Heartbeat)),
            receipts.filter(|_| is_open).map(|at| (at, Due::Receipts)),
        ]
        .into_iter()
        .flatten()
    }

    /// The timer, which was set to `due`, has fired: does what is due.
    pub(super) fn on_time(&mut self, cx: &mut Context<'_>, due: Instant, now: Instant) {
        self.alarm.clear();
        if self.standstill.must_read_first(due, now) {
            return;
        }
        for (_, due) in self.deadlines().filter(|(at, _)| *at <= now) {
            match due {
                Due::Ending => self.finish(UplinkEnd::Lost, true),
                Due::Stall => self.on_stall(cx, now),
                Due::Heartbeat => self.on_heartbeat(now),
                // What it asks for is asked with the write that follows.
                Due::Receipts => self.on_receipts(now),
            }
            if self.stream.is_none() {
                return;
            }
        }
    }

    fn on_stall(&mut self, cx: &mut Context<'_>, now: Instant) {
        let Some(stream) = &mut self.stream else { return };
        if !self.egress.send_unready(cx, stream) {
            return self.finish(UplinkEnd::Stalled, true);
        }
        self.note_left(now);
        self.stall.note(true, self.waiting() > 0, now);
    }

    fn on_receipts(&mut self, now: Instant) {
        let is_paused = self.is_paused();
        if let Some(receipts) = &mut self.receipts {
            receipts.on_timer(is_paused, now);
        }
    }

    fn on_heartbeat(&mut self, now: Instant) {
        let Some(heartbeat) = &mut self.heartbeat else { return };
        let (action, is_missed) = heartbeat.on_timer(now);
        if is_missed {
            self.metrics.connections.heartbeat_missed.inc();
        }
        match action {
            Some(HeartbeatAction::SendPing(payload)) => {
                self.push_ping(&payload);
                self.ping_leaves_at = Some(self.queued);
                if let Some(receipts) = &mut self.receipts {
                    receipts.on_heartbeat_ping(payload, self.queued);
                }
            }
            Some(HeartbeatAction::GiveUp) => self.finish(UplinkEnd::Silent, true),
            None => {}
        }
    }

    /// Sets the timer to the nearest deadline, if that is earlier than the one it is set to.
    pub(super) fn arm(&mut self, cx: &mut Context<'_>) {
        let next = self.deadlines().map(|(at, _)| at).min().map(|next| self.standstill.defer(next));
        self.alarm.arm(next, cx);
    }
}
