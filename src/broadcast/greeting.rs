//! Clients of a feed that count its messages, by the protocol among these or without a WebSocket: where one goes on that
//! comes back, and its hello.
//!
//! There is no ticket: the log is everybody's who may join. Who says which log it was and what it has had gets exactly what
//! it has missed, or is told that it cannot.
//!
//! # Not here
//! What the client is told and says afterwards ([`crate::delivery`]).

use std::sync::Arc;

use crate::config::{OnJoin, Policy};
use crate::delivery::FeedHello;
use crate::delivery::control::{Hello, Missed, Prefix};
use crate::delivery::events::stream;
use crate::log::{Continuation, Cursor, Log};
use crate::net::own_protocols::{Nonce, OwnProtocols, Resume};
use crate::net::position::Position;
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
    pub(super) by: Joiner<'a>,
    pub(super) policy: &'a Arc<Policy>,
    pub(super) metrics: &'a FeedMetrics,
}

/// How a client comes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Joiner<'a> {
    /// By a WebSocket, with these subprotocols of ours.
    WebSocket(Option<&'a OwnProtocols>),
    /// For an event stream, having had so much.
    Events(Option<Position>),
    /// For one answer, having had so much.
    Poll(Option<Position>),
}

/// Where a client begins to read.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) cursor: Cursor,
    /// What it will not get of what came after what it has had.
    pub(super) missed: Missed,
    /// The newest number, if it claims to have had a later one.
    pub(super) ahead_of: Option<u64>,
    /// `None`: it is not to get a hello.
    pub(super) greeting: Option<Box<Greeting>>,
}

/// Where a client begins to read, and its hello, if it is to get one.
pub(super) fn begin(log: &Log, joining: Joining<'_>) -> Beginning {
    match joining.by {
        Joiner::WebSocket(own) => {
            let (cursor, greeting) = begin_websocket(log, joining, own);
            Beginning { cursor, missed: Missed::Known(0), ahead_of: None, greeting }
        }
        Joiner::Events(position) => {
            let (outcome, beginning) = begin_at(log, position, joining.policy);
            if let Some(outcome) = outcome {
                joining.metrics.resumes.inc(outcome);
            }
            let is_resumed = outcome == Some(ResumeOutcome::Resumed);
            let policy = Arc::clone(joining.policy);
            let greeting = Greeting { nonce: None, is_resumed, missed: beginning.missed, policy };
            Beginning { greeting: Some(Box::new(greeting)), ..beginning }
        }
        // One follows the other: that it goes on is nothing to be counted.
        Joiner::Poll(position) => begin_at(log, position, joining.policy).1,
    }
}

/// Where a client begins that has had so much. What it has missed and is kept it gets, the rest is told.
fn begin_at(log: &Log, position: Option<Position>, policy: &Policy) -> (Option<ResumeOutcome>, Beginning) {
    let beginning = |cursor, missed, ahead_of| Beginning { cursor, missed, ahead_of, greeting: None };
    let fresh = |missed| beginning(log.join(policy.history.on_join), missed, None);
    let sequence = match position {
        None => return (None, fresh(Missed::Known(0))),
        Some(Position::Number(sequence)) => sequence,
        Some(Position::Of { epoch, sequence }) if epoch == log.epoch() => sequence,
        Some(Position::Of { .. } | Position::Unknown) => {
            return (Some(ResumeOutcome::Gone), fresh(Missed::Unknown));
        }
    };
    match log.after(sequence) {
        Continuation::At(cursor) => (Some(ResumeOutcome::Resumed), beginning(cursor, Missed::Known(0), None)),
        Continuation::Missed => {
            let next = sequence + 1;
            let kept = log.join(OnJoin::All);
            let cursor = Cursor { next: kept.next.max(next), all_from: kept.all_from.max(next) };
            let missed = log.skipped(Cursor { next, all_from: next }, cursor);
            (Some(ResumeOutcome::Gap), beginning(cursor, Missed::Known(missed), None))
        }
        Continuation::Ahead => {
            let beginning = beginning(log.join(OnJoin::None), Missed::Unknown, Some(log.head()));
            (Some(ResumeOutcome::Ahead), beginning)
        }
    }
}

fn begin_websocket(
    log: &Log,
    joining: Joining<'_>,
    own: Option<&OwnProtocols>,
) -> (Cursor, Option<Box<Greeting>>) {
    let policy = joining.policy;
    let fresh = || log.join(policy.history.on_join);
    let Some(own) = own.filter(|own| own.speaks_v1()) else { return (fresh(), None) };
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
        let frame = self.hello_of(log, sequence, Some(&prefix)).frame();
        Box::new(FeedHello { prefix, frame, sequence })
    }

    /// What stands in front of the first message of an event stream.
    pub(super) fn push_event(&self, log: &Log, cursor: Cursor, out: &mut Vec<u8>) {
        let sequence = cursor.next.saturating_sub(1);
        let members = self.hello_of(log, sequence, None).members();
        stream::push_retry(out);
        stream::push_hello(&stream::epoch_prefix(log.epoch()), sequence, &members, out);
    }

    fn hello_of<'a>(&'a self, log: &Log, sequence: u64, prefix: Option<&'a Prefix>) -> Hello<'a> {
        Hello {
            nonce: self.nonce.as_ref(),
            ticket: None,
            is_resumed: self.is_resumed,
            epoch: log.epoch(),
            sequence,
            head: log.head(),
            received: 0,
            missed: self.missed,
            prefix,
            window: std::time::Duration::ZERO,
            heartbeat: self.policy.heartbeat.map(|heartbeat| heartbeat.timing),
            max_message: self.policy.max_message,
            fallback: &self.policy.fallback,
            previous: None,
        }
    }
}
