//! How a client's WebSocket ends: a Close, its answer, the end of the stream; all of that within a deadline.

use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::{Ending, WebSocket, WriteStatus};
use crate::connections::EndReport;
use crate::delivery::close::CloseCause;
use crate::frame::{CloseCode, ControlFrame};
use crate::telemetry::{By, Reason};

impl WebSocket {
    /// Begins to close, unless an end has begun. It has to be over within `timeout`.
    pub(in crate::delivery) fn close(&mut self, cause: &CloseCause, timeout: Duration, now: Instant) {
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
        self.ending = Some(Box::new(Ending { report: cause.report(), deadline: Some(now + timeout) }));
    }

    /// The client answers no ping: it is closed, but not waited for.
    pub(in crate::delivery) fn close_now(&mut self, cause: &CloseCause, now: Instant) {
        // A client that answers no ping will not answer a Close either: it is sent if that can be done at once.
        self.close(cause, Duration::ZERO, now);
    }

    /// The client's Close came.
    pub(in crate::delivery) fn on_close_received(
        &mut self,
        code: CloseCode,
        timeout: Duration,
        now: Instant,
    ) {
        let cause = CloseCause::received(code);
        self.close(&cause, timeout, now);
        self.endpoint.on_close_received(cause.code());
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
    pub(in crate::delivery) fn reset(&mut self, reason: Reason) {
        self.outbound.reset_on_drop();
        self.abort(reason);
    }

    /// When the end has to be over.
    pub(in crate::delivery) fn closing_deadline(&self) -> Option<Instant> {
        self.ending.as_ref()?.deadline
    }

    /// The time for the end is over.
    pub(in crate::delivery) fn on_closing_deadline(&mut self) {
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
            Box::new(Ending { report: EndReport { reason, close: None, fault: None }, deadline: None })
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
        if state.needs_fin(is_flushed) && Pin::new(&mut self.outbound.stream).poll_shutdown(cx).is_ready() {
            self.endpoint.on_fin_sent();
        }
        false
    }

    /// The client's shard has failed: a Close is sent if that can be done at once.
    pub(in crate::delivery) fn fail(mut self) {
        let mut report = EndReport { reason: Reason::InternalError, close: None, fault: None };
        if let Some(ending) = &self.ending {
            report = ending.report;
        } else if self.outbound.is_flushed() {
            let code = CloseCode(1011);
            let frame = ControlFrame::close(code, "internal error", None);
            let frame = Bytes::copy_from_slice(frame.as_bytes());
            let mut cx = Context::from_waker(Waker::noop());
            if self.outbound.write(&mut cx, &frame, Instant::now()) == WriteStatus::Flushed {
                report.close = Some((By::Proxy, code));
                self.outbound.send_close_notify();
            }
        }
        if report.close.is_none() {
            self.outbound.reset_on_drop();
        }
        self.connection.leave(report);
    }

    /// The client's place in the registry is given back, once an end has begun, and what it has not acknowledged is counted.
    pub(in crate::delivery) fn leave(&mut self) {
        let Some(ending) = &self.ending else { return };
        let report = ending.report;
        if let Some(acknowledged) = self.pings.as_ref().and_then(|pings| pings.acknowledged()) {
            let failed = self.handle().sent().saturating_sub(acknowledged.messages);
            self.connection.metrics().unacknowledged.inc_by(report.reason, failed);
        }
        self.connection.leave(report);
    }
}
