//! How an uplink ended, for the redial and for operators.

use std::fmt;

use crate::frame::{CloseCode, ProtocolError};
use crate::telemetry::UplinkLoss;

/// How an uplink ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UplinkEnd {
    /// The server sent a Close, with this code and reason.
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
