//! How an uplink ends: the first cause, the last word, the end of the stream.

use std::fmt;

use tokio::time::Instant;

use super::{Uplink, new_assembler};
use crate::frame::{CloseCode, ControlFrame, ProtocolError};
use crate::telemetry::UplinkLoss;

/// How an uplink ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UplinkEnd {
    /// The server said Close, with this code and reason.
    Closed(CloseCode, String),
    /// The stream ended without a Close.
    Lost,
    /// The server broke a rule.
    ProtocolError(ProtocolError),
    /// It answered no ping.
    Silent,
    /// It takes nothing.
    Stalled,
    /// We closed it.
    Done,
}

impl UplinkEnd {
    /// What it is counted as, where the server is dialled again for it.
    pub(crate) fn loss(&self) -> UplinkLoss {
        match self {
            Self::Closed(..) => UplinkLoss::Closed,
            Self::Lost | Self::Done => UplinkLoss::Lost,
            Self::ProtocolError(_) => UplinkLoss::ProtocolError,
            Self::Silent => UplinkLoss::Silent,
            Self::Stalled => UplinkLoss::Stalled,
        }
    }
}

impl fmt::Display for UplinkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(code, _) if *code == CloseCode::NONE => f.write_str("it said Close without a code"),
            Self::Closed(code, _) => write!(f, "it said Close with {}", code.0),
            Self::Lost => f.write_str("the connection ended without a Close"),
            Self::ProtocolError(fault) => write!(f, "it broke a rule: {fault}"),
            Self::Silent => f.write_str("it answers no ping (upstream.heartbeat)"),
            Self::Stalled => f.write_str("it reads nothing (upstream.stall_timeout)"),
            Self::Done => f.write_str("it was closed from here"),
        }
    }
}

/// What the server's bytes are taken for. Only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    Frames,
    /// Nothing any more: read until its end, so that it can finish in peace.
    Blind,
    Ended,
}

/// What the server can still be sent. Only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    Frames,
    CloseSaid,
    EndSaid,
    /// A write failed. What the server said before it went may still be read.
    Broken,
}

impl Uplink {
    /// Says Close; [`Uplink::poll`] then ends with [`UplinkEnd::Done`], within `close_timeout`. Until the
    /// server has answered, what it says is still told.
    pub(crate) fn close(&mut self, code: CloseCode, reason: &str) {
        let now = Instant::now();
        self.begin(UplinkEnd::Done, now);
        self.say_close(code, reason, now);
        self.wake();
    }

    /// Begins to end, unless that has begun.
    pub(super) fn begin(&mut self, end: UplinkEnd, now: Instant) {
        if self.end.is_none() && self.stream.is_some() {
            self.end = Some(end);
            self.heartbeat = None;
            self.deadline = Some(now + self.rules.close_timeout);
        }
    }

    /// Says our last word, unless that is said.
    pub(super) fn say_close(&mut self, code: CloseCode, reason: &str, now: Instant) {
        if self.stream.is_some() && self.writing == Writing::Frames {
            let mask = self.masks.next();
            self.push(ControlFrame::close(code, reason, Some(mask)).as_bytes(), now);
            self.writing = Writing::CloseSaid;
            self.owed_pong = None;
        }
    }

    /// The server takes nothing more; what it said before that is still read, for a while.
    pub(super) fn break_off(&mut self, now: Instant) {
        self.writing = Writing::Broken;
        self.heartbeat = None;
        self.egress.clear();
        self.stall.clear();
        self.owed_pong = None;
        self.deadline.get_or_insert(now + self.rules.close_timeout);
    }

    /// It is over, whatever is still under way.
    pub(super) fn finish(&mut self, end: UplinkEnd, is_cut: bool) {
        self.end.get_or_insert(end);
        let is_settled = matches!(self.writing, Writing::CloseSaid | Writing::EndSaid) && self.waiting() == 0;
        if let Some(mut stream) = self.stream.take() {
            if is_cut && !is_settled {
                stream.reset_on_drop();
            } else if self.writing != Writing::Broken {
                stream.send_close_notify();
            }
        }
        self.reading = Reading::Ended;
        self.heartbeat = None;
        self.egress.clear();
        self.assembler = new_assembler(&self.rules);
    }
}
