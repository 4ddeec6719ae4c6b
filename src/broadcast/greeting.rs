//! Clients of a feed that speak the protocol among its messages: where one goes on that comes back, and its hello.
//!
//! There is no ticket: the log is everybody's who may join. Who says which log it was and what it has had gets exactly what
//! it has missed, or is told that it cannot.
//!
//! # Not here
//! What the client is told and says afterwards ([`crate::delivery`]).

use std::sync::Arc;

use crate::config::Policy;
use crate::delivery::FeedHello;
use crate::delivery::control::{Hello, Missed, Prefix};
use crate::log::{Continuation, Cursor, Log};
use crate::net::own_protocols::{Nonce, OwnProtocols, Resume};
use crate::telemetry::{FeedMetrics, ResumeOutcome};

/// What the hello of a client says, as far as it is known when its place is reserved.
#[derive(Debug)]
pub(super) struct Greeting {
    nonce: Option<Nonce>,
    is_resumed: bool,
    missed: Missed,
    policy: Arc<Policy>,
}

/// A client that joins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Joining<'a> {
    pub(super) user: Option<&'a Arc<str>>,
    /// The subprotocols of ours that it offered.
    pub(super) own: Option<&'a OwnProtocols>,
    pub(super) policy: &'a Arc<Policy>,
    pub(super) metrics: &'a FeedMetrics,
}

/// Where a client begins to read, and its hello, if it is to get one.
pub(super) fn begin(log: &Log, joining: Joining<'_>) -> (Cursor, Option<Box<Greeting>>) {
    let policy = joining.policy;
    let fresh = || log.join(policy.history.on_join);
    let Some(own) = joining.own.filter(|own| own.speaks_v1()) else { return (fresh(), None) };
    let (outcome, cursor, missed) = match own.resume() {
        None => (None, fresh(), Missed::Known(0)),
        Some(Resume::Feed { epoch, seen }) if epoch == log.epoch() => match log.after(seen) {
            Continuation::At(cursor) => (Some(ResumeOutcome::Resumed), cursor, Missed::Known(0)),
            Continuation::Missed => {
                let cursor = fresh();
                let missed = cursor.next.saturating_sub(seen + 1);
                (Some(ResumeOutcome::Gap), cursor, Missed::Known(missed))
            }
            Continuation::Ahead => (Some(ResumeOutcome::Ahead), fresh(), Missed::Unknown),
        },
        Some(Resume::Feed { .. }) => (Some(ResumeOutcome::Gone), fresh(), Missed::Unknown),
        Some(Resume::Session { .. } | Resume::Malformed) => {
            (Some(ResumeOutcome::Forged), fresh(), Missed::Unknown)
        }
    };
    if let Some(outcome) = outcome {
        joining.metrics.resumes.inc(outcome);
    }
    let is_resumed = outcome == Some(ResumeOutcome::Resumed);
    let nonce = own.nonce().copied();
    (cursor, Some(Box::new(Greeting { nonce, is_resumed, missed, policy: Arc::clone(policy) })))
}

impl Greeting {
    /// The hello of a client that reads `log` from `cursor` on.
    pub(super) fn hello(&self, log: &Log, cursor: Cursor) -> Box<FeedHello> {
        let prefix = Prefix::random();
        let sequence = cursor.next.saturating_sub(1);
        let hello = Hello {
            nonce: self.nonce.as_ref(),
            ticket: None,
            is_resumed: self.is_resumed,
            epoch: log.epoch(),
            sequence,
            head: log.head(),
            received: 0,
            missed: self.missed,
            prefix: Some(&prefix),
            window: std::time::Duration::ZERO,
            heartbeat: self.policy.heartbeat.map(|heartbeat| heartbeat.timing),
            max_message: self.policy.max_message,
            previous: None,
        };
        Box::new(FeedHello { prefix, frame: hello.frame(), sequence })
    }
}
