//! How a client's WebSocket ends: a Close, its answer, the end of the stream; all of that within a deadline.

use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::{Ending, WebSocket};
use crate::connections::EndReport;
use crate::delivery::close::CloseCause;
use crate::delivery::status::WriteStatus;
use crate::frame::{CloseCode, ControlFrame};
use crate::telemetry::{By, Reason};

impl WebSocket {
    /// Begins to close, unless an end has begun. It has to be over within `timeout`, also if the client was not read: it is
    /// from now on.
    ///
    /// What was written before leaves first, unless the cause has it dropped ([`CloseCause::replaces_unsent`]). Until the
    /// client's own Close comes its messages are read and handed out as before, unless the cause ends that
    /// ([`CloseCause::ends_reading`]): whether they still mean anything is up to whom they are handed to.
    pub(crate) fn close(&mut self, cause: &CloseCause, timeout: Duration, now: Instant) {
        if !self.is_open() {
            return;
        }
        if cause.replaces_unsent() {
            let lost = self.outbound.cut_to_edge();
            self.handle().on_discarded(lost);
        }
        if cause.ends_reading() {
            self.endpoint.fail(cause.code(), cause.text());
        } else {
            self.endpoint.start_closing(cause.code(), cause.text());
        }
        let report = cause.report();
        self.ending = Some(Box::new(Ending { report, said: "".into(), deadline: Some(now + timeout) }));
        // Its answer is behind what was not read.
        self.limits.resume_reading(now);
    }

    /// The client answers no ping: it is closed, but not waited for.
    pub(crate) fn close_now(&mut self, cause: &CloseCause, now: Instant) {
        // A client that answers no ping will not answer a Close either: it is sent if that can be done at once.
        self.close(cause, Duration::ZERO, now);
    }

    /// The client's Close came.
    pub(super) fn on_close_received(&mut self, code: CloseCode, said: &str, timeout: Duration, now: Instant) {
        let cause = CloseCause::received(code);
        let is_first = self.is_open();
        self.close(&cause, timeout, now);
        if let Some(ending) = self.ending.as_mut().filter(|_| is_first) {
            ending.said = said.into();
        }
        self.endpoint.on_close_received(cause.code());
    }

    /// The code of the client's Close, where it was that Close that began the end.
    pub(crate) fn client_close(&self) -> Option<CloseCode> {
        let (by, code) = self.ending.as_ref()?.report.close?;
        (by == By::Client).then_some(code)
    }

    /// The reason in the client's Close; empty where there was none.
    pub(crate) fn client_close_reason(&self) -> &str {
        self.ending.as_ref().map_or("", |ending| &ending.said)
    }

    /// What is reported of the end that has begun.
    pub(crate) fn end_report(&self) -> Option<EndReport> {
        Some(self.ending.as_ref()?.report)
    }

    /// The client's stream has ended.
    pub(super) fn on_read_end(&mut self) {
        self.endpoint.on_read_end();
        let state = self.endpoint.state();
        // What was being sent may still arrive.
        if !state.close_received() && !state.close_sent() {
            self.on_lost();
        }
    }

    /// The socket is of no use any more.
    pub(super) fn on_lost(&mut self) {
        self.abort(Reason::ClientLost);
    }

    /// Ends now, whatever is unsent.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.outbound.reset_on_drop();
        self.abort(reason);
    }

    /// When the end has to be over.
    pub(super) fn closing_deadline(&self) -> Option<Instant> {
        self.ending.as_ref()?.deadline
    }

    /// The time for the end is over.
    pub(super) fn on_closing_deadline(&mut self) {
        if !(self.endpoint.state().close_sent() && self.outbound.is_flushed()) {
            self.outbound.reset_on_drop();
        }
        self.abort(Reason::ClientLost);
    }

    /// Nothing more is sent nor read; `reason` is reported if no end had begun.
    fn abort(&mut self, reason: Reason) {
        self.endpoint.on_broken();
        self.endpoint.on_read_end();
        let lost = self.outbound.abandon();
        self.handle().on_discarded(lost);
        self.ending.get_or_insert_with(|| {
            let report = EndReport { reason, close: None, fault: None };
            Box::new(Ending { report, said: "".into(), deadline: None })
        });
    }

    /// Whether nothing is left to be done; takes the steps towards that.
    pub(super) fn poll_done(&mut self, cx: &mut Context<'_>) -> bool {
        let (state, is_flushed) = (self.endpoint.state(), self.outbound.is_flushed());
        if state.is_done(is_flushed) {
            if !state.is_broken() {
                self.outbound.send_close_notify();
            }
            return true;
        }
        if state.needs_fin(is_flushed) && self.outbound.poll_shutdown(cx).is_ready() {
            self.endpoint.on_fin_sent();
        }
        false
    }

    /// The task that serves the client has failed: a Close is sent if that can be done at once.
    pub(crate) fn fail(mut self) {
        let mut report = EndReport { reason: Reason::InternalError, close: None, fault: None };
        if let Some(ending) = &self.ending {
            report = ending.report;
        } else if self.outbound.is_flushed() {
            let code = CloseCode(1011);
            let frame = ControlFrame::close(code, "internal error", None);
            let mut cx = Context::from_waker(Waker::noop());
            if self.outbound.write_slice(&mut cx, frame.as_bytes(), Instant::now()) == WriteStatus::Flushed {
                report.close = Some((By::Proxy, code));
                self.outbound.send_close_notify();
            }
        }
        if report.close.is_none() {
            self.outbound.reset_on_drop();
        }
        self.connection.leave(report);
    }

    /// As [`WebSocket::leave`], of a client that another link of it goes on with: what this one has not acknowledged is not lost.
    pub(crate) fn leave_for_another(&mut self) {
        if let Some(ending) = &self.ending {
            self.connection.leave(ending.report);
        }
    }

    /// The client's place in the registry is given back, once an end has begun, and what it has not acknowledged is counted.
    pub(crate) fn leave(&mut self) {
        let Some(ending) = &self.ending else { return };
        let report = ending.report;
        if let Some(acknowledged) = self.pings.as_ref().and_then(|pings| pings.acknowledged()) {
            let failed = self.handle().sent().saturating_sub(acknowledged.messages);
            self.connection.metrics().unacknowledged.inc_by(report.reason, failed);
        }
        self.connection.leave(report);
    }
}
