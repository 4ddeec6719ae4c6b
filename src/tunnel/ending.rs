//! How a connection ends: one table, cause by cause.
//!
//! | what happened | the client is | the upstream is |
//! |---|---|---|
//! | client sent a Close | answered by the upstream's Close, or by ours if none comes | gets it: it passes |
//! | upstream sent a Close | gets it: it passes | answered by the client's Close, or by ours |
//! | client lost | gone | ended without a Close, as it would be without us |
//! | upstream lost | closed (`close_codes.upstream_lost`) | gone |
//! | no pong from the client | closed 1001 if that can be sent at once; then reset, unless all was taken | closed 1001 |
//! | no pong from the upstream | closed (`upstream_lost`) | reset |
//! | idle | closed (`close_codes.idle`) | closed 1001 |
//! | protocol error, too large: of the client | closed 1002, 1009, once the upstream has answered what came before and ended | closed 1002, 1009 |
//! | protocol error, too large: of the upstream | closed 1002, 1009 | closed 1002, 1009 |
//! | client does not read | closed (`slow_consumer`), reset after `close_timeout` | closed 1001 |
//! | more control frames than the client may send | closed 1008, once the upstream has ended | closed 1001 |
//! | upstream does not read | closed (`upstream_lost`) | reset |
//! | lifetime, drain | closed 1012 (`drain.close_code`) | goes on getting the client's frames until that answers, then closed 1001 |
//! | credentials expired | closed (`close_codes.expired`) | goes on getting the client's frames until that answers, then closed 1001 |
//! | a newer connection of its user | closed 1008 | goes on getting the client's frames until that answers, then closed 1001 |
//! | cut | reset | reset |
//!
//! A Close is sent at a frame edge. Inside a frame that still comes it waits for the edge; inside one
//! whose rest can never come the stream ends without a Close. Whatever has not ended after
//! `close_timeout` is reset, except that a side which still waits for our Close then gets as long again.
//!
//! A client that broke a rule still gets what its upstream answers to what came before, as it would without us; nothing
//! more of the client goes on. The answer to our Close, the upstream's end or `close_timeout` says that this was all.
//!
//! A drain gives each connection a date (`Command::CloseAt`), of which the nearest holds ([`crate::resilience::Dates`]).
//! Until then an upstream that is lost, or sends 1001 or 1012, changes nothing for the client.
//!
//! A reset is `SO_LINGER` 0: the kernel forgets what the peer did not take.
//!
//! # Not here
//! When things happen ([`super::relay`]); the names operators see ([`crate::telemetry::Reason`]).

use tokio::time::Instant;

use crate::config::CloseCodes;
use crate::connections::EndReport;
use crate::frame::CloseCode;
use crate::telemetry::Reason;

/// How one hop is ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum CloseAction {
    /// Nothing is to be done: a Close of the other side has passed to it, or will.
    #[default]
    Nothing,
    /// A Close is sent at the next frame edge.
    Close(CloseFrame),
    /// A Close is sent once the other side has ended or its time is over. Until then the frames of the other side go
    /// on; its own Close does too, unless ours is sent `instead`.
    AfterPeer {
        frame: CloseFrame,
        /// Whether the other side's Close is replaced by ours.
        instead: bool,
    },
    /// The stream is ended after what is still to be written.
    Fin,
    /// The hop is reset now; before that this frame is sent if that is possible without waiting.
    Reset(Option<CloseFrame>),
}

impl CloseAction {
    /// The code that is sent of our own accord, in no answer to a Close.
    pub(super) fn own_code(self) -> Option<CloseCode> {
        match self {
            Self::Close(frame) | Self::AfterPeer { frame, instead: true } | Self::Reset(Some(frame)) => {
                Some(frame.code)
            }
            Self::Nothing | Self::AfterPeer { instead: false, .. } | Self::Fin | Self::Reset(None) => None,
        }
    }
}

/// A Close frame of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CloseFrame {
    pub(super) code: CloseCode,
    /// Meant for the logs of the other end.
    pub(super) reason: &'static str,
}

/// An ending that has begun.
#[derive(Debug)]
pub(super) struct Ending {
    report: EndReport,
    deadline: Instant,
    /// The deadline passed once, and a side got our Close only then.
    is_prolonged: bool,
}

impl Ending {
    pub(super) fn new(report: EndReport, deadline: Instant) -> Self {
        Self { report, deadline, is_prolonged: false }
    }

    /// What is reported of it to operators.
    pub(super) fn report(&self) -> EndReport {
        self.report
    }

    /// Whether a client ends because it did not take what it was sent.
    pub(super) fn is_slow(&self) -> bool {
        self.report.reason == Reason::SlowConsumer
    }

    /// When both hops are reset.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether it may go on after its deadline: once.
    pub(super) fn can_be_prolonged(&self) -> bool {
        !self.is_prolonged
    }

    /// Goes on until then.
    pub(super) fn prolong(&mut self, deadline: Instant) {
        self.is_prolonged = true;
        self.deadline = deadline;
    }

    /// No Close is sent after all.
    pub(super) fn without_close(&mut self) {
        self.report.close = None;
    }
}

/// The table above: how the client's hop is ended, and how the upstream's. `given` is the code of the Close that
/// came, of the protocol error, or of the command, where there was one; `is_client_error`: the error is the client's.
pub(super) fn close_actions(
    reason: Reason,
    given: CloseCode,
    is_client_error: bool,
    codes: &CloseCodes,
) -> (CloseAction, CloseAction) {
    use CloseAction::{AfterPeer, Close, Fin, Nothing, Reset};
    let frame = |code: u16, reason| CloseFrame { code: CloseCode(code), reason };
    let lost = frame(codes.upstream_lost, "upstream lost");
    let away = |reason| CloseFrame { code: CloseCode::GOING_AWAY, reason };
    // What stood in a frame passes as it is, for its receiver to judge; what we send ourselves has to be right.
    let echo = CloseFrame {
        code: if given == CloseCode::NONE { CloseCode(1000) } else { given.answer() },
        reason: "",
    };
    // Without a proxy a server would have answered what came before the error, and only then have seen it.
    let for_offender = |frame| match is_client_error {
        true => AfterPeer { frame, instead: true },
        false => Close(frame),
    };
    match reason {
        Reason::ClientClose => (AfterPeer { frame: echo, instead: false }, Nothing),
        Reason::UpstreamClose => (Nothing, AfterPeer { frame: echo, instead: false }),
        Reason::ClientLost => (Reset(None), Fin),
        Reason::UpstreamLost => (Close(lost), Reset(None)),
        Reason::HeartbeatTimeout => {
            (Reset(Some(away("heartbeat timeout"))), Close(away("client heartbeat timeout")))
        }
        Reason::UpstreamHeartbeatTimeout | Reason::SlowUpstream => (Close(lost), Reset(None)),
        Reason::IdleTimeout => (Close(frame(codes.idle, "idle timeout")), Close(away("idle timeout"))),
        Reason::ProtocolError => {
            let frame = CloseFrame { code: given, reason: "protocol error" };
            (for_offender(frame), Close(frame))
        }
        Reason::TooLarge => {
            let frame = CloseFrame { code: given, reason: "message too large" };
            (for_offender(frame), Close(frame))
        }
        Reason::SlowConsumer => {
            (Close(frame(codes.slow_consumer, "slow consumer")), Close(away("slow consumer")))
        }
        // Only a feed refuses what clients send; here for a total match.
        Reason::UplinkRefused => (Close(frame(1008, "uplink refused")), Close(away("uplink refused"))),
        Reason::ControlRate => (
            AfterPeer { frame: frame(1008, "too many control frames"), instead: true },
            Close(away("too many control frames")),
        ),
        Reason::Lifetime => {
            let frame = CloseFrame { code: given, reason: "maximum lifetime reached" };
            (Close(frame), AfterPeer { frame: away("maximum lifetime reached"), instead: true })
        }
        Reason::Expired => {
            let frame = CloseFrame { code: given, reason: "credentials expired" };
            (Close(frame), AfterPeer { frame: away("credentials expired"), instead: true })
        }
        // A code after which clients do not reconnect by themselves: two that replace each other would never end.
        Reason::Replaced => (
            Close(frame(1008, "replaced by a newer connection")),
            AfterPeer { frame: away("replaced by a newer connection"), instead: true },
        ),
        // Only a session has a second link for its client, or says a message to a second server; here for a total match.
        Reason::TakenOver => (Close(frame(1008, "taken over")), Close(away("taken over"))),
        Reason::Poison => {
            let reason = "a message ends the server each time it is sent";
            (Close(frame(1011, reason)), Close(away(reason)))
        }
        Reason::Drained => {
            let frame = CloseFrame { code: given, reason: "server is restarting" };
            (Close(frame), AfterPeer { frame: away("proxy is draining"), instead: true })
        }
        // Only a feed has a task left that can send it; here for a total match.
        Reason::InternalError => {
            let frame = frame(1011, "internal error");
            (Close(frame), Close(frame))
        }
        Reason::Aborted => (Reset(None), Reset(None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Label;

    const CODES: CloseCodes = CloseCodes {
        capacity: 4008,
        rate: 4009,
        unauthorized: 4010,
        expired: 4011,
        upstream_lost: 4012,
        slow_consumer: 4013,
        idle: 4001,
    };

    #[test]
    fn every_cause_settles_both_sides() {
        for &reason in Reason::ALL {
            let (client, upstream) = close_actions(reason, CloseCode(4000), false, &CODES);
            assert_ne!(
                (client, upstream),
                (CloseAction::Nothing, CloseAction::Nothing),
                "{reason:?} would never end"
            );
            // A client that is not to blame and still there is sent a Close, not reset.
            let is_innocent_client = matches!(
                reason,
                Reason::UpstreamLost
                    | Reason::UpstreamHeartbeatTimeout
                    | Reason::SlowUpstream
                    | Reason::Drained
            );
            assert!(!is_innocent_client || matches!(client, CloseAction::Close(_)), "{reason:?}");
            assert!(
                !matches!(upstream, CloseAction::Reset(_)) || reason == Reason::Aborted || is_innocent_client,
                "{reason:?} resets the upstream"
            );
        }
    }

    #[test]
    fn a_close_with_a_code_that_no_frame_may_have_is_answered_as_a_violation() {
        for (said, answered) in [(1006, 1002), (1015, 1002), (0, 1002), (5000, 1002), (4999, 4999)] {
            let (client, _) = close_actions(Reason::ClientClose, CloseCode(said), false, &CODES);
            let (_, upstream) = close_actions(Reason::UpstreamClose, CloseCode(said), false, &CODES);
            for close_action in [client, upstream] {
                let CloseAction::AfterPeer { frame, .. } = close_action else { panic!("{close_action:?}") };
                assert_eq!(frame.code, CloseCode(answered), "{said}");
            }
        }
    }

    #[test]
    fn configured_codes_are_used_and_a_close_without_a_code_is_answered_with_1000() {
        let code = |close_action| match close_action {
            CloseAction::Close(frame) | CloseAction::AfterPeer { frame, .. } => frame.code.0,
            other => panic!("{other:?}"),
        };
        let client = |reason| code(close_actions(reason, CloseCode(4000), false, &CODES).0);
        assert_eq!(client(Reason::UpstreamLost), 4012);
        assert_eq!(client(Reason::SlowConsumer), 4013);
        assert_eq!(client(Reason::IdleTimeout), 4001);
        assert_eq!(client(Reason::Drained), 4000);
        assert_eq!(code(close_actions(Reason::ClientClose, CloseCode::NONE, false, &CODES).0), 1000);
        assert_eq!(code(close_actions(Reason::UpstreamClose, CloseCode(4003), false, &CODES).1), 4003);
    }
}
