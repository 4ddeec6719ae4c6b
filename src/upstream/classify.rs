//! Classifies the upstream's answers, and failures to answer, for its breaker. Pure.
//!
//! # Invariants
//! 1. What counts as a failure of the upstream is decided here alone. What one client can bring about by what it offers does not
//!    count; what it can bring about by what it asks for (a path at which the server is silent, hangs up, or answers 503) is a
//!    suspicion, which is held against that client first ([`crate::resilience::Breaker`]): it must not shut the others
//!    out.
//! 2. No client can open the breaker of a server that works by asking for what it hangs up on: while there are connections
//!    to it, what may be its answer does not count ([`UpstreamError::may_be_an_answer`]).
//!
//! # Not here
//! When a breaker opens and closes ([`crate::resilience::Breaker`]).

use http::StatusCode;

use super::error::UpstreamError;
use super::websocket::Upgrade;
use crate::resilience::CallOutcome;

/// How a handshake ended, as far as the upstream is concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict<'a> {
    /// It answered.
    Answered(StatusCode),
    /// There was no answer, or not a valid one.
    Failed {
        /// Why.
        error: &'a UpstreamError,
        /// Whether somebody is connected to it through the same route.
        is_in_use: bool,
    },
    /// It was not asked.
    NotAsked,
}

impl<'a> Verdict<'a> {
    /// Of a handshake that was made. `is_in_use`: as of [`Verdict::Failed`].
    pub(crate) fn of(result: &'a Result<Upgrade, UpstreamError>, is_in_use: bool) -> Self {
        match result {
            Ok(upgrade) => Self::Answered(upgrade.status()),
            Err(error) => Self::Failed { error, is_in_use },
        }
    }
}

/// The classifier of one upstream.
#[derive(Debug)]
pub(super) struct Classifier {
    /// `breaker.statuses`: answers that are suspicions.
    statuses: Box<[u16]>,
}

impl Classifier {
    pub(super) fn new(statuses: &[u16]) -> Self {
        Self { statuses: statuses.into() }
    }

    pub(super) fn outcome(&self, verdict: Verdict<'_>) -> CallOutcome {
        match verdict {
            Verdict::Answered(status) if self.statuses.contains(&status.as_u16()) => CallOutcome::Suspicion,
            Verdict::Answered(_) => CallOutcome::Success,
            Verdict::Failed { error, is_in_use } => outcome_of_error(error, is_in_use),
            Verdict::NotAsked => CallOutcome::Ignored,
        }
    }
}

fn outcome_of_error(error: &UpstreamError, is_in_use: bool) -> CallOutcome {
    if !error.is_failure() {
        return CallOutcome::Ignored;
    }
    match error {
        // A server that is dead has lost its connections.
        error if error.may_be_an_answer() && is_in_use => CallOutcome::Ignored,
        error if error.may_be_an_answer() => CallOutcome::Suspicion,
        // A server that only hangs has not, and does not answer any client; but one that works may do so at some paths.
        UpstreamError::Timeout(_) => CallOutcome::Suspicion,
        _ => CallOutcome::Failure,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;
    use crate::net::head::FramingFault;
    use crate::net::tls::HandshakeError;
    use crate::upstream::DialError;
    use crate::upstream::verify::BadUpgrade;

    #[test]
    fn answers_are_successes_but_for_the_statuses_that_are_named() {
        use CallOutcome::{Success, Suspicion};
        let classifier = Classifier::new(&[502, 503]);
        for (status, outcome) in [
            (101, Success),
            (200, Success),
            (301, Success),
            (400, Success),
            (401, Success),
            (403, Success),
            (404, Success),
            (429, Success),
            (500, Success),
            (502, Suspicion),
            (503, Suspicion),
            (504, Success),
        ] {
            assert_eq!(
                classifier.outcome(Verdict::Answered(StatusCode::from_u16(status).unwrap())),
                outcome,
                "{status}"
            );
        }
    }

    #[test]
    fn whatever_keeps_the_upstream_from_answering_is_a_failure_and_our_own_doing_is_not() {
        use CallOutcome::{Failure, Ignored, Suspicion};
        let target = || "10.1.2.3:3000".to_owned();
        let second = Duration::from_secs(1);
        let classifier = Classifier::new(&[]);
        for (error, outcome) in [
            (
                DialError::Io { target: target(), source: io::ErrorKind::ConnectionRefused.into() }.into(),
                Failure,
            ),
            (DialError::Io { target: target(), source: io::ErrorKind::NotFound.into() }.into(), Failure),
            (DialError::Timeout { target: target(), after: second }.into(), Failure),
            (DialError::Tls { target: target(), source: HandshakeError::Ended }.into(), Failure),
            (UpstreamError::Timeout(second), Suspicion),
            (UpstreamError::Broken("x".into()), Suspicion),
            (UpstreamError::Framing(FramingFault::Coding), Suspicion),
            (UpstreamError::BadUpgrade(BadUpgrade::Accept), Suspicion),
            (UpstreamError::BodyUntaken(second), Failure),
            // What one client can bring about by what it offers, or fails to, must not shut out the others.
            (UpstreamError::BadUpgrade(BadUpgrade::Protocol), Ignored),
            (UpstreamError::BadUpgrade(BadUpgrade::Extension), Ignored),
            (DialError::TooManyDials { target: target(), after: second, limit: 1 }.into(), Ignored),
            (UpstreamError::BodyTooLarge(5), Ignored),
            (UpstreamError::BodyStalled(second), Ignored),
            (UpstreamError::BodyBroken, Ignored),
        ] {
            assert_eq!(
                classifier.outcome(Verdict::Failed { error: &error, is_in_use: false }),
                outcome,
                "{error}"
            );
            let may_be_an_answer = matches!(
                error,
                UpstreamError::Broken(_) | UpstreamError::Framing(_) | UpstreamError::BadUpgrade(_)
            );
            let in_use = if may_be_an_answer { Ignored } else { outcome };
            assert_eq!(
                classifier.outcome(Verdict::Failed { error: &error, is_in_use: true }),
                in_use,
                "{error}"
            );
        }
    }
}
