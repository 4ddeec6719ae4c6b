//! How a client of a feed is let go: Close, its answer, the end; each within `close_timeout`.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use super::fanout::Crew;
use super::subscriber::{Reading, Subscriber, Table};
use super::wire::Wrote;
use crate::frame::{CloseCode, ControlFrame, ProtocolError};
use crate::resilience::Date;
use crate::telemetry::{By, EndReport, Reason};

/// What a client is told, and operators are.
#[derive(Debug, Clone)]
pub(super) struct Farewell {
    pub(super) reason: Reason,
    by: By,
    code: CloseCode,
    words: Box<str>,
    fault: Option<ProtocolError>,
}

impl Farewell {
    /// A Close of our own.
    pub(super) fn ours(reason: Reason, code: u16, words: &str) -> Self {
        Self { reason, by: By::Proxy, code: CloseCode(code), words: words.into(), fault: None }
    }

    /// A Close for all clients of a feed.
    pub(super) fn of_feed(reason: Reason, by: By, code: CloseCode, words: &str) -> Self {
        Self { reason, by, code, words: words.into(), fault: None }
    }

    /// The answer to the client's own.
    pub(super) fn echo(code: CloseCode) -> Self {
        Self { reason: Reason::ClientClose, by: By::Client, code, words: "".into(), fault: None }
    }

    /// The client broke a rule.
    pub(super) fn fault(fault: ProtocolError) -> Self {
        let code = fault.close_code();
        let (reason, words) = if code == CloseCode::TOO_LARGE {
            (Reason::TooLarge, "message too large")
        } else {
            (Reason::ProtocolError, "protocol error")
        };
        Self { reason, by: By::Proxy, code, words: words.into(), fault: Some(fault) }
    }

    fn frame(&self) -> ControlFrame {
        // A Close without a code cannot be sent as one (RFC 6455 §7.1.5).
        let code = if self.code == CloseCode::NONE { CloseCode(1000) } else { self.code.answer() };
        ControlFrame::close(code, &self.words, None)
    }
}

/// Clients that are to be closed one by one.
#[derive(Debug)]
pub(super) struct Dismissal {
    pub(super) farewell: Arc<Farewell>,
    /// They are closed from here on, spread over so long.
    pub(super) from: Instant,
    pub(super) over: Duration,
}

/// A Close that a client is to get, and when.
#[derive(Debug)]
pub(super) struct Parting {
    /// Then, whatever it has not had.
    pub(super) at: Instant,
    /// The feed is over: as soon as it has had everything.
    pub(super) is_last: bool,
    farewell: Arc<Farewell>,
}

/// An end that has begun.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) ended: EndReport,
    pub(super) deadline: Option<Instant>,
    words: Option<Box<ControlFrame>>,
    is_said: bool,
    is_end_said: bool,
    pub(super) is_heard: bool,
    pub(super) is_broken: bool,
}

impl Closing {
    /// Nothing can be said any more.
    pub(super) fn lost(reason: Reason) -> Self {
        Self {
            ended: EndReport { reason, close: None, fault: None },
            deadline: None,
            words: None,
            is_said: false,
            is_end_said: false,
            is_heard: false,
            is_broken: true,
        }
    }

    /// Our Close, once.
    pub(super) fn take_words(&mut self) -> Option<ControlFrame> {
        let words = self.words.take()?;
        self.is_said = true;
        Some(*words)
    }
}

impl Subscriber {
    /// Begins to end, unless that has begun.
    pub(super) fn close(&mut self, farewell: &Farewell, table: &Table<'_>) {
        if self.closing.is_some() {
            return;
        }
        if farewell.reason == Reason::SlowConsumer {
            // Its Close goes in place of what it has not begun to take.
            let lost = self.wire.cut_to_edge();
            self.live.handle().on_discarded(lost);
        }
        if farewell.fault.is_some() {
            self.reading = Reading::Blind;
        }
        self.closing = Some(Box::new(Closing {
            ended: EndReport {
                reason: farewell.reason,
                close: Some((farewell.by, farewell.code)),
                fault: farewell.fault,
            },
            deadline: Some(table.now + table.crew.settings.policy.close_timeout),
            words: Some(Box::new(farewell.frame())),
            is_said: false,
            is_end_said: false,
            is_heard: false,
            is_broken: false,
        }));
    }

    /// The client has said Close.
    pub(super) fn on_close(&mut self, code: CloseCode, table: &Table<'_>) {
        self.reading = Reading::Blind;
        self.close(&Farewell::echo(code), table);
        if let Some(closing) = &mut self.closing {
            closing.is_heard = true;
        }
    }

    /// The client's stream has ended.
    pub(super) fn on_end(&mut self) {
        self.reading = Reading::Ended;
        match &self.closing {
            // What was being said may still arrive.
            Some(closing) if closing.is_heard || closing.is_said => {}
            _ => self.on_lost(),
        }
    }

    /// A Close with a date may be due.
    pub(super) fn on_close_date(&mut self, table: &Table<'_>) {
        if let Some(date) = self.dates.due(table.now, SystemTime::now) {
            let codes = &table.crew.settings.policy.close_codes;
            let farewell = match date {
                Date::Lifetime => Farewell::ours(Reason::Lifetime, 1012, "maximum lifetime reached"),
                Date::Expired => Farewell::ours(Reason::Expired, codes.expired, "credentials expired"),
                Date::Drained(code) => Farewell::ours(Reason::Drained, code, "server is restarting"),
            };
            self.close(&farewell, table);
        }
        if let Some(parting) = self.parting.take_if(|parting| parting.at <= table.now) {
            self.close(&parting.farewell, table);
        }
    }

    /// The feed is over: it is closed when it has had everything, and not much later.
    pub(super) fn expect_end(&mut self, farewell: &Arc<Farewell>, crew: &Crew, now: Instant) {
        let at = now + crew.settings.policy.close_timeout;
        let at = self.parting.take().map_or(at, |parting| parting.at.min(at));
        self.parting = Some(Box::new(Parting { at, is_last: true, farewell: Arc::clone(farewell) }));
    }

    /// It is closed at this date, and goes on as usual until then. One that it has already stands if it is earlier.
    pub(super) fn expect_close(&mut self, at: Instant, farewell: &Arc<Farewell>) {
        if self.parting.as_ref().is_none_or(|parting| at < parting.at && !parting.is_last) {
            self.parting = Some(Box::new(Parting { at, is_last: false, farewell: Arc::clone(farewell) }));
        }
    }

    /// It has had everything that its log has.
    pub(super) fn on_last_delivered(&mut self, table: &Table<'_>) {
        if let Some(parting) = self.parting.take_if(|parting| parting.is_last) {
            self.close(&parting.farewell, table);
        }
    }

    /// It answers no ping.
    pub(super) fn on_silence(&mut self, table: &Table<'_>) {
        self.close(
            &Farewell::ours(Reason::HeartbeatTimeout, CloseCode::GOING_AWAY.0, "heartbeat timeout"),
            table,
        );
        if let Some(closing) = &mut self.closing {
            // Whoever answers no ping will not answer a Close either: it is said if that can be done at once.
            closing.deadline = Some(table.now);
        }
    }

    /// Its shard has panicked and serves nobody any more: it is told if that can be done at once.
    pub(super) fn fail(mut self) {
        let mut ended = EndReport { reason: Reason::InternalError, close: None, fault: None };
        if let Some(closing) = &self.closing {
            ended = closing.ended;
        } else if self.wire.is_flushed() {
            let code = CloseCode(1011);
            let words = ControlFrame::close(code, "internal error", None);
            let frame = Bytes::copy_from_slice(words.as_bytes());
            let mut cx = Context::from_waker(Waker::noop());
            if self.wire.write(&mut cx, &frame, Instant::now()) == Wrote::All {
                ended.close = Some((By::Proxy, code));
                self.wire.stream.send_close_notify();
            }
        }
        if ended.close.is_none() {
            self.wire.stream.reset_on_drop();
        }
        self.live.leave(ended);
    }

    /// The time for ending is over.
    pub(super) fn on_closing_deadline(&mut self) {
        let is_settled =
            self.closing.as_ref().is_some_and(|closing| closing.is_said) && self.wire.is_flushed();
        if !is_settled {
            self.wire.stream.reset_on_drop();
        }
        let lost = self.wire.abandon();
        self.live.handle().on_discarded(lost);
        if let Some(closing) = &mut self.closing {
            closing.is_broken = true;
        }
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(closing) = &mut self.closing else { return false };
        if closing.is_broken {
            return true;
        }
        if !closing.is_said || !self.wire.is_flushed() {
            return false;
        }
        // A server ends the TCP connection first (RFC 6455 §7.1.1).
        if closing.is_heard || self.reading == Reading::Ended {
            self.wire.stream.send_close_notify();
            return true;
        }
        // Whoever broke a rule is not listened to any more: its stream is ended, and read to its end, so that it
        // gets to hear why.
        if self.reading == Reading::Blind && !closing.is_end_said {
            let shutdown =
                tokio::io::AsyncWrite::poll_shutdown(std::pin::Pin::new(&mut self.wire.stream), cx);
            closing.is_end_said = shutdown.is_ready();
        }
        false
    }

    /// Its stream is of no use any more.
    pub(super) fn on_lost(&mut self) {
        self.reading = Reading::Ended;
        match &mut self.closing {
            Some(closing) => closing.is_broken = true,
            None => {
                self.closing = Some(Box::new(Closing::lost(Reason::ClientLost)));
            }
        }
        let lost = self.wire.abandon();
        self.live.handle().on_discarded(lost);
    }

    /// Ends now, whatever is unsaid.
    pub(super) fn cut(&mut self, reason: Reason) {
        self.wire.stream.reset_on_drop();
        let lost = self.wire.abandon();
        self.live.handle().on_discarded(lost);
        self.reading = Reading::Ended;
        match &mut self.closing {
            Some(closing) => closing.is_broken = true,
            None => self.closing = Some(Box::new(Closing::lost(reason))),
        }
    }

    /// The client's place in the registry is given back, and what it did not acknowledge is counted.
    pub(super) fn leave(&mut self) {
        let Some(closing) = &self.closing else { return };
        let ended = closing.ended;
        if let Some(acknowledged) = self.pulse.as_ref().and_then(|pulse| pulse.acknowledged()) {
            let failed = self.live.handle().sent().saturating_sub(acknowledged.messages);
            self.live.metrics().on_unacknowledged(ended.reason, failed);
        }
        self.live.leave(ended);
    }
}
