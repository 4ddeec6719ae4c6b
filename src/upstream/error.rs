//! Why a request to the upstream has failed, and whether that counts against the upstream.
//!
//! # Not here
//! What it is to a breaker ([`super::classify`]); what a client is answered ([`crate::admission`]).

use std::error::Error;
use std::time::Duration;

use super::dial::DialError;
use super::verify::BadUpgrade;
use crate::net::head::FramingFault;
use crate::telemetry::UpstreamErrorKind;

/// Why a request to the upstream has failed.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No answer in time.
    #[error("the upstream did not answer within {0:?}")]
    Timeout(Duration),
    /// The connection ended, or what came was not HTTP.
    #[error("the upstream broke off: {0}")]
    Broken(Box<dyn Error + Send + Sync>),
    /// Where the answer ends is not clear.
    #[error("the end of the upstream's answer is not clear: {0}")]
    Framing(#[from] FramingFault),
    /// A 101 that is not a valid answer.
    #[error("the upstream's 101 is not a valid WebSocket answer: {0}")]
    BadUpgrade(#[from] BadUpgrade),
    /// The client's body was longer than `http.max_body`.
    #[error("the request body is longer than {0} bytes")]
    BodyTooLarge(u64),
    /// Nothing more of the client's body came for `delivery.stall_timeout`.
    #[error("the rest of the request body did not come: nothing for {0:?} (delivery.stall_timeout)")]
    BodyStalled(Duration),
    /// The client's body broke a rule (RFC 9112 §7.1), or ended with its connection.
    #[error("the request body did not come whole: it breaks off, or its chunks are not as RFC 9112 has them")]
    BodyBroken,
    /// The server took nothing of the client's body for `upstream.stall_timeout`.
    #[error("the upstream took nothing of the request body for {0:?} (upstream.stall_timeout)")]
    BodyUntaken(Duration),
}

impl UpstreamError {
    /// Whether it may be the answer of a server that works: many hang up on what they do not serve, or have one 101
    /// for all clients, whatever was offered.
    pub fn may_be_an_answer(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Framing(_) | Self::BadUpgrade(_) => true,
            Self::Dial(_)
            | Self::Timeout(_)
            | Self::BodyTooLarge(_)
            | Self::BodyStalled(_)
            | Self::BodyBroken
            | Self::BodyUntaken(_) => false,
        }
    }

    /// How it is counted; `None` if the upstream is not to blame.
    pub fn kind(&self) -> Option<UpstreamErrorKind> {
        match self {
            Self::Dial(DialError::Timeout { .. } | DialError::TooManyDials { .. }) => {
                Some(UpstreamErrorKind::ConnectTimeout)
            }
            Self::Dial(DialError::Io { .. }) => Some(UpstreamErrorKind::Connect),
            Self::Dial(DialError::Tls { .. }) => Some(UpstreamErrorKind::Tls),
            Self::Timeout(_) | Self::BodyUntaken(_) => Some(UpstreamErrorKind::ResponseTimeout),
            Self::Broken(_) | Self::Framing(_) => Some(UpstreamErrorKind::Broken),
            Self::BadUpgrade(_) => Some(UpstreamErrorKind::BadUpgrade),
            Self::BodyTooLarge(_) | Self::BodyStalled(_) | Self::BodyBroken => None,
        }
    }

    /// Whether it shows that the upstream does not work. It does not if a client can bring it about by what it asks
    /// for: a subprotocol or extension that this client did not offer may be the right answer to every other client's
    /// offer. Nor does it if the upstream was not asked.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Dial(DialError::TooManyDials { .. })
            | Self::BadUpgrade(BadUpgrade::Protocol | BadUpgrade::Extension) => false,
            error => error.kind().is_some(),
        }
    }
}
