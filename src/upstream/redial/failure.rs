//! Why a dial brought no link, and whose fault that was. Pure.
//!
//! # Not here
//! What of it counts for a breaker, which has to be careful with what one client can bring about ([`super::super::classify`]):
//! of a link that had been up the server has accepted the same request before.

use std::time::Duration;

use http::Response;
use hyper::body::Incoming;

use crate::upstream::revival::Blame;
use crate::upstream::verify::BadUpgrade;
use crate::upstream::{DialError, UpstreamError};

/// Why a dial brought no link.
#[derive(Debug)]
pub(crate) enum DialFailure<B = Incoming> {
    /// The breaker is open, and will be for this time.
    BreakerOpen(Duration),
    /// The server cannot be reached, or its answer is not valid.
    Failed(UpstreamError),
    /// It answered with something else than a 101.
    Declined(Response<B>),
    /// It has chosen another subprotocol than before.
    OtherProtocol,
}

impl<B> DialFailure<B> {
    /// Whose fault it is that a link which had been up is not back.
    pub(crate) fn blame(&self) -> Blame {
        match self {
            Self::Declined(response) if response.status().is_server_error() => Blame::Server,
            Self::Declined(_) | Self::OtherProtocol => Blame::Session,
            Self::BreakerOpen(_) => Blame::Nobody,
            Self::Failed(error) => match error {
                UpstreamError::Dial(DialError::TooManyDials { .. })
                | UpstreamError::BodyTooLarge(_)
                | UpstreamError::BodyStalled(_)
                | UpstreamError::BodyBroken => Blame::Nobody,
                UpstreamError::BadUpgrade(BadUpgrade::Protocol) => Blame::Session,
                UpstreamError::Dial(
                    DialError::Timeout { .. } | DialError::Io { .. } | DialError::Tls { .. },
                )
                | UpstreamError::Timeout(_)
                | UpstreamError::Broken(_)
                | UpstreamError::Framing(_)
                | UpstreamError::BadUpgrade(
                    BadUpgrade::Version
                    | BadUpgrade::Upgrade
                    | BadUpgrade::Connection
                    | BadUpgrade::Accept
                    | BadUpgrade::Extension,
                )
                | UpstreamError::BodyUntaken(_) => Blame::Server,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use http::StatusCode;

    use super::*;
    use crate::net::head::FramingFault;
    use crate::net::tls::HandshakeError;

    #[test]
    fn a_server_that_says_5xx_is_at_fault_and_at_other_answers_it_is_the_one_who_asked() {
        for status in 100..=999 {
            let response =
                Response::builder().status(StatusCode::from_u16(status).unwrap()).body(()).unwrap();
            let expected = if (500..=599).contains(&status) { Blame::Server } else { Blame::Session };
            assert_eq!(DialFailure::Declined(response).blame(), expected, "{status}");
        }
        assert_eq!(DialFailure::<()>::OtherProtocol.blame(), Blame::Session);
    }

    #[test]
    fn a_server_that_does_not_work_is_told_from_one_that_was_not_asked() {
        use Blame::{Nobody, Server, Session};
        let target = || "10.1.2.3:3000".to_owned();
        let second = Duration::from_secs(1);
        for (error, blame) in [
            (
                DialError::Io { target: target(), source: io::ErrorKind::ConnectionRefused.into() }.into(),
                Server,
            ),
            (DialError::Timeout { target: target(), after: second }.into(), Server),
            (DialError::Tls { target: target(), source: HandshakeError::Ended }.into(), Server),
            (DialError::TooManyDials { target: target(), after: second, limit: 1 }.into(), Nobody),
            (UpstreamError::Timeout(second), Server),
            (UpstreamError::Broken("x".into()), Server),
            (UpstreamError::Framing(FramingFault::Coding), Server),
            (UpstreamError::BadUpgrade(BadUpgrade::Version), Server),
            (UpstreamError::BadUpgrade(BadUpgrade::Upgrade), Server),
            (UpstreamError::BadUpgrade(BadUpgrade::Connection), Server),
            (UpstreamError::BadUpgrade(BadUpgrade::Accept), Server),
            (UpstreamError::BadUpgrade(BadUpgrade::Extension), Server),
            (UpstreamError::BadUpgrade(BadUpgrade::Protocol), Session),
            (UpstreamError::BodyUntaken(second), Server),
            (UpstreamError::BodyTooLarge(5), Nobody),
            (UpstreamError::BodyStalled(second), Nobody),
            (UpstreamError::BodyBroken, Nobody),
        ] {
            let failure = DialFailure::<()>::Failed(error);
            assert_eq!(failure.blame(), blame, "{failure:?}");
        }
        assert_eq!(DialFailure::<()>::BreakerOpen(second).blame(), Nobody);
    }
}
