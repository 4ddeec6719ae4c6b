//! The clocks of an uplink: which is the next, and what happens when it has run out.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::task::unconstrained;
use tokio::time::Instant;

use super::Uplink;
use super::ending::UplinkEnd;
use crate::frame::{ControlFrame, Opcode};
use crate::resilience::HeartbeatAction;

impl Uplink {
    /// The timer, which stood at `due`, has fired: which deadline has passed?
    pub(super) fn on_time(&mut self, cx: &mut Context<'_>, due: Instant, now: Instant) {
        self.armed = None;
        if self.standstill.hears_first(due, now) {
            return;
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return self.finish(UplinkEnd::Lost, true);
        }
        if self.stall_deadline().is_some_and(|deadline| deadline <= now)
            && let Some(stream) = &mut self.stream
        {
            let has_moved = self.egress.send_unready(cx, stream);
            if !has_moved {
                return self.finish(UplinkEnd::Stalled, true);
            }
            self.stall.note(has_moved, self.waiting() > 0, now);
        }
        let Some(heartbeat) = &mut self.heartbeat else { return };
        let (act, is_missed) = heartbeat.on_timer(now);
        if is_missed {
            self.metrics.heartbeat_missed.inc();
        }
        match act {
            Some(HeartbeatAction::SendPing(payload)) => {
                let mask = self.masks.next();
                self.push(ControlFrame::new(Opcode::Ping, &payload, Some(mask)).as_bytes(), now);
                self.ping_leaves_at = Some(self.queued);
            }
            Some(HeartbeatAction::GiveUp) => self.finish(UplinkEnd::Silent, true),
            None => {}
        }
    }

    fn stall_deadline(&self) -> Option<Instant> {
        Some(self.stall.since()? + self.rules.stall_timeout?)
    }

    /// The nearest deadline. One that everything ends with leaves no others.
    fn next_deadline(&self) -> Option<Instant> {
        let next = self.deadline.or_else(|| {
            let heartbeat = self.heartbeat.as_ref().and_then(|heartbeat| heartbeat.deadline());
            [heartbeat, self.stall_deadline()].into_iter().flatten().min()
        });
        next.map(|deadline| self.standstill.defer(deadline))
    }

    /// Sets the timer to the nearest deadline if that is earlier than what it stands at.
    pub(super) fn arm(&mut self, cx: &mut Context<'_>) {
        let Some(next) = self.next_deadline() else { return };
        if self.armed.is_some_and(|armed| armed <= next) {
            return;
        }
        let timer = match &mut self.timer {
            Some(timer) => {
                timer.as_mut().reset(next);
                timer
            }
            None => self.timer.insert(Box::pin(tokio::time::sleep_until(next))),
        };
        self.armed = Some(next);
        // Not under the runtime's budget for this task: a timer that has none left does not keep the waker.
        if pin!(unconstrained(timer.as_mut())).poll(cx) == Poll::Ready(()) {
            cx.waker().wake_by_ref();
        }
    }
}
