//! Why a client's WebSocket is closed, and what is sent to it and reported to operators.
//!
//! Unlike in a tunnel the other side is closed apart from it, if there is one. A Close is sent between two frames; its answer has `close_timeout`,
//! then the client is reset ([`super::websocket`]).
//!
//! | cause | the client of a feed is |
//! | --- | --- |
//! | client sent a Close | answered with its code |
//! | client lost | gone |
//! | the server's Close is its word (`broadcast.final_codes`) | sent what the log still has for it, then closed with the server's code and reason |
//! | the server was lost and is back, and `broadcast.on_redial: close` | closed (`close_codes.upstream_lost`), at its place in `drain.spread` (`Fanout::dismiss`) |
//! | the server was given up (`redial.give_up`) | sent what the log still has for it, then closed (`close_codes.upstream_lost`) |
//! | a redial was answered 401 or 403 | the same, with `close_codes.unauthorized` |
//! | `max_trips` | closed (`close_codes.slow_consumer`), in place of what it has not begun to take |
//! | no pong | closed 1001 if that can be sent at once, then reset |
//! | it sent something, and `uplink: refuse`; more control frames than `limits.control_rate` | closed 1008 |
//! | text that is no UTF-8, or compressed data that cannot be inflated (`uplink: forward`) | closed 1007 |
//! | idle, lifetime, credentials, replaced, drain, protocol error, too large, cut | as in a tunnel ([`crate::tunnel`]) |
//! | its shard has failed | closed 1011, where that can be sent between two frames |

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::CloseCodes;
use crate::connections::EndReport;
use crate::frame::{CloseCode, ProtocolError};
use crate::resilience::{Date, spread_evenly};
use crate::telemetry::{By, Reason};

/// The cause of an end, and the Close that goes with it.
#[derive(Debug, Clone)]
pub(crate) struct CloseCause {
    reason: Reason,
    by: By,
    code: CloseCode,
    text: Box<str>,
    error: Option<ProtocolError>,
}

impl CloseCause {
    /// A Close with this code and text, which are `by`'s: a server's own, or ours.
    pub(crate) fn new(reason: Reason, by: By, code: CloseCode, text: &str) -> Self {
        Self { reason, by, code, text: text.into(), error: None }
    }

    /// A Close of our own.
    pub(crate) fn ours(reason: Reason, code: u16, text: &str) -> Self {
        Self::new(reason, By::Proxy, CloseCode(code), text)
    }

    /// A date has come on which the client is closed whatever it does.
    pub(crate) fn of_date(date: Date, codes: &CloseCodes) -> Self {
        match date {
            Date::Lifetime => Self::ours(Reason::Lifetime, 1012, "maximum lifetime reached"),
            Date::Expired => Self::ours(Reason::Expired, codes.expired, "credentials expired"),
            Date::Drained(code) => Self::ours(Reason::Drained, code, "server is restarting"),
        }
    }

    /// The client's own Close, which is answered.
    pub(crate) fn received(code: CloseCode) -> Self {
        Self::new(Reason::ClientClose, By::Client, code, "")
    }

    /// The client broke the protocol.
    pub(crate) fn protocol_error(error: ProtocolError) -> Self {
        let code = error.close_code();
        let (reason, text) = if code == CloseCode::TOO_LARGE {
            (Reason::TooLarge, "message too large")
        } else {
            (Reason::ProtocolError, "protocol error")
        };
        Self { reason, by: By::Proxy, code, text: text.into(), error: Some(error) }
    }

    /// The client broke the protocol among the messages: as if it had broken that of WebSockets.
    pub(crate) fn control_error() -> Self {
        Self::new(Reason::ProtocolError, By::Proxy, CloseCode::PROTOCOL_ERROR, "protocol error")
    }

    /// The code in the Close that is sent. One without a code is answered, and passed on, without one (RFC 6455 §5.5.1).
    pub(crate) fn code(&self) -> CloseCode {
        self.code.answer()
    }

    /// The code and the reason of the server's own Close, if it is one.
    pub(super) fn said_by_server(&self) -> Option<(u16, &str)> {
        (self.by == By::Upstream).then(|| (self.code().0, self.text()))
    }

    /// Whether a newer connection of the user is the cause: whoever came back would replace that one.
    pub(super) fn is_replacement(&self) -> bool {
        self.reason == Reason::Replaced
    }

    /// The reason in the Close that is sent.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the Close goes in place of what the client has not begun to take: it takes nothing.
    pub(super) fn replaces_unsent(&self) -> bool {
        self.reason == Reason::SlowConsumer
    }

    /// Whether nothing more of the client is read but the end of its stream.
    pub(super) fn ends_reading(&self) -> bool {
        self.error.is_some() || matches!(self.reason, Reason::ControlRate | Reason::ProtocolError)
    }

    /// What is reported to operators.
    pub(crate) fn report(&self) -> EndReport {
        EndReport { reason: self.reason, close: Some((self.by, self.code)), fault: self.error }
    }
}

/// All clients of a shard are to be closed, one by one.
#[derive(Debug)]
pub(super) struct Dismissal {
    pub(super) cause: Arc<CloseCause>,
    /// When the first one is closed.
    pub(super) from: Instant,
    /// The time that the others are spread over.
    pub(super) over: Duration,
}

/// How far a dismissal has got.
#[derive(Debug)]
pub(super) struct DismissalProgress {
    dismissal: Arc<Dismissal>,
    /// The index of the next client.
    next: usize,
    /// Clients that have their time, of so many.
    scheduled: usize,
    count: usize,
}

impl DismissalProgress {
    pub(super) fn new(dismissal: Arc<Dismissal>, count: usize) -> Self {
        Self { dismissal, next: 0, scheduled: 0, count }
    }

    /// The next index below `end`.
    pub(super) fn next_index(&mut self, end: usize) -> Option<usize> {
        let index = self.next;
        self.next += 1;
        (index < end).then_some(index)
    }

    /// When the next client is closed, and why. `random` is 0 to 1.
    pub(super) fn schedule(&mut self, random: f64) -> (Instant, &Arc<CloseCause>) {
        let Dismissal { cause, from, over } = &*self.dismissal;
        let at = *from + spread_evenly(self.scheduled, self.count, *over, random);
        self.scheduled += 1;
        (at, cause)
    }
}

/// A Close that a client is to get, and when.
#[derive(Debug)]
pub(super) struct ScheduledClose {
    /// The latest time for it, whatever the client was not sent by then.
    pub(super) at: Instant,
    /// Whether the feed is over: then it is due as soon as the client was sent everything.
    pub(super) is_final: bool,
    pub(super) cause: Arc<CloseCause>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_sent_with_a_code_that_may_stand_in_one() {
        for (code, sent) in [(1005, 1005), (1000, 1000), (4001, 4001), (1006, 1002), (1015, 1002)] {
            let cause = CloseCause::received(CloseCode(code));
            assert_eq!((cause.code().0, cause.report().close), (sent, Some((By::Client, CloseCode(code)))));
        }
    }

    #[test]
    fn who_broke_a_rule_is_read_no_more() {
        let too_large = CloseCause::protocol_error(ProtocolError::MessageTooLarge { limit: 1 });
        assert_eq!((too_large.code().0, too_large.text()), (1009, "message too large"));
        let rate = CloseCause::ours(Reason::ControlRate, 1008, "too many control frames");
        let slow = CloseCause::ours(Reason::SlowConsumer, 1013, "slow consumer");
        let questions = |cause: &CloseCause| (cause.ends_reading(), cause.replaces_unsent());
        assert_eq!(questions(&too_large), (true, false));
        assert_eq!(questions(&rate), (true, false));
        assert_eq!(questions(&slow), (false, true));
    }
}
