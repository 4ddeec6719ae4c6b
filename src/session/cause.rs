//! Why a session, or one link of its client, ends: one table. Pure.
//!
//! | cause | the client is | the server is | a client with a ticket may resume |
//! | --- | --- | --- | --- |
//! | the server's Close is its word ([`ServerEnd`]) | sent what the log still has for it, then closed with the server's code and reason | answered | no |
//! | the server broke RFC 6455, or a bound | the same, closed 1002, 1007 or 1009 | closed likewise | no |
//! | the server was given up (`redial.give_up`), or chose another subprotocol | the same, closed (`close_codes.upstream_lost`) | gone | no |
//! | a redial was answered 401 or 403 | the same, closed (`close_codes.unauthorized`) | gone | no |
//! | one message ended three of its links | the same, closed 1011 | closed 1001 | no |
//! | the client said Close | answered with its code | closed with the client's code | no |
//! | the client said Close with 1001, its connection broke, or it answered no ping | gone | closed 1001, if nobody may resume | yes |
//! | the client broke RFC 6455, the protocol among the messages, a bound or the rate of control frames | closed 1002, 1007, 1008 or 1009 | closed 1001 | no |
//! | it takes nothing, for less long if it is beyond `max_lag` | closed (`close_codes.slow_consumer`) in place of what it has not begun to take | closed 1001, if nobody may resume | yes |
//! | lifetime | closed 1012 | closed 1001, if nobody may resume | yes |
//! | credentials expired | closed (`close_codes.expired`) | closed 1001, if nobody may resume | yes |
//! | idle, replaced, drain | as in a tunnel ([`crate::tunnel`]) | closed 1001 | no |
//! | cut | reset | closed 1001 | no |
//!
//! # Not here
//! How a link is closed ([`crate::delivery`], [`crate::upstream`]).

use crate::config::CloseCodes;
use crate::delivery::CloseCause;
use crate::frame::{CloseCode, ProtocolError};
use crate::telemetry::{By, Reason, SessionEnd};
use crate::upstream::UplinkEnd;

/// How a link to the server has ended, as a session takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerEnd {
    /// It is dialled again: it broke off, or said that it stops or restarts (1001, 1012, 1013).
    Lost,
    /// It said that it has failed (1011): it is dialled again, but not for ever.
    Failed(Box<str>),
    /// What it said is meant for the client.
    Final(CloseCode, Box<str>),
    /// It broke a rule, and would do so again.
    Fault(ProtocolError),
}

impl From<UplinkEnd> for ServerEnd {
    fn from(end: UplinkEnd) -> Self {
        match end {
            UplinkEnd::Closed(CloseCode(1001 | 1012 | 1013), _)
            | UplinkEnd::Lost
            | UplinkEnd::Silent
            | UplinkEnd::Stalled
            | UplinkEnd::Done => Self::Lost,
            UplinkEnd::Closed(CloseCode(1011), reason) => Self::Failed(reason.into()),
            UplinkEnd::Closed(code, reason) => Self::Final(code, reason.into()),
            UplinkEnd::ProtocolError(error) => Self::Fault(error),
        }
    }
}

/// Why a session, or a link of its client, ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// The server's word.
    Server(CloseCode, Box<str>),
    ServerFault(ProtocolError),
    /// It was given up.
    UpstreamLost,
    /// It does not want this client any more.
    Unauthorized,
    /// One message has ended link after link.
    Poison,
    /// The client's Close.
    Client(CloseCode, Box<str>),
    /// The client's connection broke.
    ClientLost,
    /// It answered no ping.
    ClientSilent,
    ClientFault(ProtocolError),
    ControlRate,
    Slow,
    Idle,
    Lifetime,
    Expired,
    Replaced,
    /// With the code of the drain.
    Drain(CloseCode),
    Cut,
    /// A newer connection has the session.
    TakenOver,
    /// Messages that the client did not get were given up for the memory of the process.
    Memory,
    /// More waits for a client that is away than may.
    Overflow,
    /// Nobody came back in time.
    Window,
    /// Too many sessions of the route wait for their clients.
    Evicted,
    /// The client broke the protocol among the messages: it said what cannot be read, or to have had what it was not sent, or
    /// less than before.
    ControlFault,
}

impl Cause {
    /// As sessions count it.
    pub(super) fn session_end(&self) -> SessionEnd {
        match self {
            Self::Server(..) => SessionEnd::Server,
            Self::UpstreamLost => SessionEnd::UpstreamLost,
            Self::Unauthorized => SessionEnd::Unauthorized,
            Self::Poison => SessionEnd::Poison,
            Self::Client(..) | Self::ClientLost | Self::ClientSilent | Self::TakenOver | Self::Cut => {
                SessionEnd::Client
            }
            Self::ServerFault(_) | Self::ClientFault(_) | Self::ControlRate | Self::ControlFault => {
                SessionEnd::Fault
            }
            Self::Slow => SessionEnd::Slow,
            Self::Idle => SessionEnd::Idle,
            Self::Lifetime => SessionEnd::Lifetime,
            Self::Expired => SessionEnd::Expired,
            Self::Replaced => SessionEnd::Replaced,
            Self::Drain(_) => SessionEnd::Drain,
            Self::Memory => SessionEnd::Memory,
            Self::Overflow => SessionEnd::Overflow,
            Self::Window => SessionEnd::Window,
            Self::Evicted => SessionEnd::Evicted,
        }
    }

    /// Whether an operator wants to hear of it: neither side has asked for the end.
    pub(super) fn is_trouble(&self) -> bool {
        matches!(
            self,
            Self::UpstreamLost
                | Self::Unauthorized
                | Self::Poison
                | Self::ServerFault(_)
                | Self::Memory
                | Self::Overflow
        )
    }

    /// Whether a client with a ticket may come back after it.
    pub(super) fn may_resume(&self) -> bool {
        match self {
            Self::ClientLost
            | Self::ClientSilent
            | Self::Client(CloseCode::GOING_AWAY, _)
            | Self::Slow
            | Self::Lifetime
            | Self::Expired => true,
            Self::Server(..)
            | Self::ServerFault(_)
            | Self::UpstreamLost
            | Self::Unauthorized
            | Self::Poison
            | Self::Client(..)
            | Self::ClientFault(_)
            | Self::ControlRate
            | Self::Idle
            | Self::Replaced
            | Self::Drain(_)
            | Self::Cut
            | Self::TakenOver
            | Self::Memory
            | Self::Overflow
            | Self::Window
            | Self::Evicted
            | Self::ControlFault => false,
        }
    }

    /// Whether the client gets what the log has for it before its Close: nothing more will come.
    pub(super) fn is_after_log(&self) -> bool {
        match self {
            Self::Server(..)
            | Self::ServerFault(_)
            | Self::UpstreamLost
            | Self::Unauthorized
            | Self::Poison
            | Self::Drain(_) => true,
            Self::Client(..)
            | Self::ClientLost
            | Self::ClientSilent
            | Self::ClientFault(_)
            | Self::ControlRate
            | Self::Slow
            | Self::Idle
            | Self::Lifetime
            | Self::Expired
            | Self::Replaced
            | Self::Cut
            | Self::TakenOver
            | Self::Memory
            | Self::Overflow
            | Self::Window
            | Self::Evicted
            | Self::ControlFault => false,
        }
    }

    /// The Close of ours that the client gets; `None`: its link has ended, or is ending by itself.
    pub(super) fn to_client(&self, codes: &CloseCodes) -> Option<CloseCause> {
        let ours = |reason, code, text| Some(CloseCause::ours(reason, code, text));
        match self {
            Self::Server(code, reason) => {
                Some(CloseCause::new(Reason::UpstreamClose, By::Upstream, *code, reason))
            }
            Self::ServerFault(error) => Some(CloseCause::protocol_error(*error)),
            Self::UpstreamLost => ours(Reason::UpstreamLost, codes.upstream_lost, "upstream lost"),
            Self::Unauthorized => ours(Reason::UpstreamClose, codes.unauthorized, "unauthorized"),
            Self::Poison => ours(Reason::Poison, 1011, "a message ends the server each time it is sent"),
            Self::Slow => ours(Reason::SlowConsumer, codes.slow_consumer, "slow consumer"),
            Self::Memory => ours(Reason::SlowConsumer, 1013, "out of memory"),
            Self::Overflow => ours(Reason::SlowConsumer, 1013, "too much was missed"),
            Self::TakenOver => ours(Reason::TakenOver, 1008, "taken over"),
            Self::Idle => ours(Reason::IdleTimeout, codes.idle, "idle timeout"),
            Self::Lifetime => ours(Reason::Lifetime, 1012, "maximum lifetime reached"),
            Self::Expired => ours(Reason::Expired, codes.expired, "credentials expired"),
            Self::Replaced => ours(Reason::Replaced, 1008, "replaced by a newer connection"),
            Self::Drain(code) => ours(Reason::Drained, code.0, "server is restarting"),
            Self::ControlFault => Some(CloseCause::control_error()),
            // The link itself has begun these ends.
            Self::Client(..)
            | Self::ClientLost
            | Self::ClientSilent
            | Self::ClientFault(_)
            | Self::ControlRate
            | Self::Cut
            | Self::Window
            | Self::Evicted => None,
        }
    }

    /// What the server is told when the session is over.
    pub(super) fn to_server(&self) -> (CloseCode, &str) {
        let away = |text| (CloseCode::GOING_AWAY, text);
        match self {
            Self::Client(code, reason) => (code.answer(), reason),
            Self::ServerFault(error) => (error.close_code(), ""),
            // It has closed the link, or there is none.
            Self::Server(..) | Self::UpstreamLost | Self::Unauthorized => away(""),
            Self::Poison => away("a message ended the connection too often"),
            Self::ClientLost | Self::Cut => away("client lost"),
            Self::ClientSilent => away("client heartbeat timeout"),
            Self::ClientFault(error) => (error.close_code(), "protocol error"),
            Self::ControlRate => away("too many control frames"),
            Self::ControlFault => (CloseCode::PROTOCOL_ERROR, "protocol error"),
            Self::Slow | Self::Memory | Self::Overflow => away("slow consumer"),
            Self::Idle => away("idle timeout"),
            Self::Lifetime => away("maximum lifetime reached"),
            Self::Expired => away("credentials expired"),
            Self::Replaced | Self::TakenOver => away("replaced by a newer connection"),
            Self::Drain(_) => away("proxy is draining"),
            Self::Window | Self::Evicted => away("client did not come back"),
        }
    }
}
