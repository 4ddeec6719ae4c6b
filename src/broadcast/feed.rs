//! Writes a channel's log: what the server sends, what operators publish, and notices.
//!
//! # Invariants
//! 1. The feed is the only writer of the log.
//! 2. A message is encoded once, and compressed once, for all.
//!
//! # Not here
//! Where messages come from ([`super::task`]); who gets them ([`crate::delivery`]).

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::channel::PublishRequest;
use super::state::HubState;
use crate::frame::{Kind, deflate, encode};
use crate::log::rules::key_at;
use crate::log::{Message, NewEntry, Writer};
use crate::telemetry::FeedMetrics;

/// Makes log entries of messages.
#[derive(Debug)]
pub(super) struct Feed {
    hub: Arc<HubState>,
    metrics: Arc<FeedMetrics>,
    writer: Writer,
}

impl Feed {
    pub(super) fn new(hub: &Arc<HubState>, writer: Writer) -> Self {
        Self { hub: Arc::clone(hub), metrics: Arc::clone(&hub.metrics), writer }
    }

    /// See [`Writer::poll_room`].
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        self.writer.poll_room(cx)
    }

    /// The newest sequence number.
    pub(super) fn head(&self) -> u64 {
        self.writer.log().head()
    }

    /// Wakes the readers of the log: once for all messages that came together.
    pub(super) fn wake(&self) {
        self.writer.wake();
    }

    /// The server sent a message.
    pub(super) fn on_message(&mut self, kind: Kind, payload: &[u8]) {
        self.metrics.received.inc();
        let deflated = self.deflated(kind, payload);
        self.append(kind, payload, encode::message(kind, payload), deflated, None);
    }

    /// An operator publishes a message.
    pub(super) fn publish(&mut self, request: PublishRequest) {
        let PublishRequest { kind, payload, frame, deflated, to, reply } = request;
        self.metrics.published.inc();
        let sequence = self.append(kind, &payload, frame, deflated, to);
        self.writer.wake();
        // The operator may have gone away meanwhile.
        let _ = reply.send(sequence);
    }

    /// Adds a notice of our own, if clients are to get them.
    pub(super) fn notice(&mut self, text: &[u8]) {
        if self.hub.plan.policy.notices {
            let message = Message::new(Kind::Text, text);
            self.writer.append(NewEntry { message, deflated: None, is_critical: false, key: None, to: None });
            self.writer.wake();
        }
    }

    fn append(
        &mut self,
        kind: Kind,
        payload: &[u8],
        frame: Bytes,
        deflated: Option<Bytes>,
        to: Option<Arc<str>>,
    ) -> u64 {
        let number = self.writer.log().head() + 1;
        let is_critical = self.hub.critical.as_ref().is_some_and(|rule| rule.matches(kind, payload, number));
        let throttle = self.hub.plan.policy.delivery.throttle.as_ref().filter(|_| !is_critical);
        let key = throttle.and_then(|throttle| key_at(&throttle.key, kind, payload));
        let message = Message::from_frame(kind, frame);
        self.writer.append(NewEntry { message, deflated, is_critical, key, to })
    }

    fn deflated(&self, kind: Kind, payload: &[u8]) -> Option<Bytes> {
        self.hub.plan.policy.compression.then(|| deflate::message(kind, payload)).flatten()
    }
}
