//! How a connection ends: one table, cause by cause.
//!
//! | what happened | the client is | the upstream is |
//! |---|---|---|
//! | client said Close | answered by the upstream's Close, or by ours if none comes | told so: its Close passes |
//! | upstream said Close | told so: its Close passes | answered by the client's Close, or by ours |
//! | client lost | gone | ended without a Close, as it would be without us |
//! | upstream lost | closed (`close_codes.upstream_lost`) | gone |
//! | no pong from the client | closed 1001 if that can be said at once; cut, with a reset unless all was taken | closed 1001 |
//! | no pong from the upstream | closed (`upstream_lost`) | reset |
//! | idle | closed (`close_codes.idle`) | closed 1001 |
//! | protocol error, too large: of the client | closed 1002, 1009, once the upstream has said all to what came before and ended | closed 1002, 1009 |
//! | protocol error, too large: of the upstream | closed 1002, 1009 | closed 1002, 1009 |
//! | client does not read | closed (`slow_consumer`), reset after `close_timeout` | closed 1001 |
//! | more control frames than the client may say | closed 1008, once the upstream has ended | closed 1001 |
//! | upstream does not read | closed (`upstream_lost`) | reset |
//! | lifetime, drain | closed 1012 (`drain.close_code`) | goes on hearing the client until it answers, then closed 1001 |
//! | a newer connection of its user | closed 1008 | goes on hearing the client until it answers, then closed 1001 |
//! | cut | reset | reset |
//!
//! A Close is said at a frame edge. Inside a frame that still comes it waits for the edge; inside one
//! whose rest can never come the stream ends without a Close. Whatever has not ended after
//! `close_timeout` is reset, except that a side which is owed our Close then gets as long again.
//!
//! # Not here
//! When things happen ([`super::relay`]); the names operators see ([`crate::telemetry::Reason`]).

use crate::config::CloseCodes;
use crate::frame::CloseCode;
use crate::telemetry::Reason;

/// What one side is owed when a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseAction {
    /// Nothing: a Close of the other side has passed to it, or will.
    Nothing,
    /// A Close, at the next frame edge.
    Close(CloseFrame),
    /// A Close once the other side has ended or its time is over. Until then what the other side says
    /// goes on; its own Close does too, unless `instead` of it ours is said.
    AfterPeer {
        /// Our Close.
        frame: CloseFrame,
        /// Whether the other side's Close is replaced by ours.
        instead: bool,
    },
    /// The end of the stream, after what is still to be written.
    Fin,
    /// A reset, now; before it these words if they can be said without waiting.
    Reset(Option<CloseFrame>),
}

/// A Close frame of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CloseFrame {
    /// The code.
    pub(super) code: CloseCode,
    /// For whoever reads a log at the other end.
    pub(super) reason: &'static str,
}

/// The table above: what the client and what the upstream is owed. `said` is the code of the Close that
/// came, of the fault, or of the command, where there was one; `is_clients`: the fault is the client's.
pub(super) fn close_actions(
    reason: Reason,
    said: CloseCode,
    is_clients: bool,
    codes: &CloseCodes,
) -> (CloseAction, CloseAction) {
    use CloseAction::{AfterPeer, Close, Fin, Nothing, Reset};
    let frame = |code: u16, reason| CloseFrame { code: CloseCode(code), reason };
    let lost = frame(codes.upstream_lost, "upstream lost");
    let away = |reason| CloseFrame { code: CloseCode::GOING_AWAY, reason };
    // What stood in a frame passes as it is, for its receiver to judge; what we say ourselves has to be right.
    let echo = CloseFrame {
        code: if said == CloseCode::NONE { CloseCode(1000) } else { said.answer() },
        reason: "",
    };
    // Without a proxy a server would have answered what came before it sees the fault.
    let offence = |frame| match is_clients {
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
            let frame = CloseFrame { code: said, reason: "protocol error" };
            (offence(frame), Close(frame))
        }
        Reason::TooLarge => {
            let frame = CloseFrame { code: said, reason: "message too large" };
            (offence(frame), Close(frame))
        }
        Reason::SlowConsumer => {
            (Close(frame(codes.slow_consumer, "slow consumer")), Close(away("slow consumer")))
        }
        // Only feeds refuse what clients say.
        Reason::UplinkRefused => (Close(frame(1008, "uplink refused")), Close(away("uplink refused"))),
        Reason::ControlRate => (
            AfterPeer { frame: frame(1008, "too many control frames"), instead: true },
            Close(away("too many control frames")),
        ),
        Reason::Lifetime => {
            let frame = CloseFrame { code: said, reason: "maximum lifetime reached" };
            (Close(frame), AfterPeer { frame: away("maximum lifetime reached"), instead: true })
        }
        Reason::Expired => {
            let frame = CloseFrame { code: said, reason: "credentials expired" };
            (Close(frame), AfterPeer { frame: away("credentials expired"), instead: true })
        }
        // A code that no client comes back for by itself: two that replace each other would never end.
        Reason::Replaced => (
            Close(frame(1008, "replaced by a newer connection")),
            AfterPeer { frame: away("replaced by a newer connection"), instead: true },
        ),
        Reason::Drained => {
            let frame = CloseFrame { code: said, reason: "server is restarting" };
            (Close(frame), AfterPeer { frame: away("proxy is draining"), instead: true })
        }
        // Only feeds have somebody left who can say it.
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
        use CloseAction as F;
        for &reason in Reason::ALL {
            let (client, upstream) = close_actions(reason, CloseCode(4000), false, &CODES);
            assert_ne!((client, upstream), (F::Nothing, F::Nothing), "{reason:?} would never end");
            // Whoever is not to blame and still there is told, not cut.
            let innocent_client = matches!(
                reason,
                Reason::UpstreamLost
                    | Reason::UpstreamHeartbeatTimeout
                    | Reason::SlowUpstream
                    | Reason::Drained
            );
            assert!(!innocent_client || matches!(client, F::Close(_)), "{reason:?}");
            assert!(
                !matches!(upstream, F::Reset(_)) || reason == Reason::Aborted || innocent_client,
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
