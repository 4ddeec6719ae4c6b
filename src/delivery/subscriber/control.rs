//! What a client that speaks the protocol among the messages ([`crate::delivery::control`]) is told beside them, and what it says.
//!
//! It counts what it gets, and so knows the number of each message: a client that comes back says which it has had. Where
//! the next message has not the number that follows, it is told so before.
//!
//! # Not here
//! A client that comes back ([`crate::broadcast`]). What the client has had is not kept for it: the log is everybody's.

use bytes::Bytes;

use crate::delivery::FeedHello;
use crate::delivery::batch::Batch;
use crate::delivery::control::{Confirmed, ControlError, FromClient, FromProxy, Prefix};

#[derive(Debug)]
pub(super) struct Control {
    /// Not sent yet.
    hello: Option<Bytes>,
    /// What the client asked for last, not answered yet.
    pong: Option<u64>,
    /// The number of the last message that it was sent, as it counts.
    sequence: u64,
    confirmed: Confirmed,
    /// What it has said that cannot be.
    error: Option<ControlError>,
}

impl Control {
    pub(super) fn new(hello: FeedHello) -> Self {
        let FeedHello { frame, sequence, prefix: _ } = hello;
        let confirmed = Confirmed::new(sequence);
        Self { hello: Some(frame), pong: None, sequence, confirmed, error: None }
    }

    /// Whether something goes out before the next message.
    pub(super) fn has_frame(&self) -> bool {
        self.hello.is_some() || self.pong.is_some()
    }

    /// What goes out before the next message.
    pub(super) fn next_frame(&mut self, prefix: Option<&Prefix>) -> Option<Bytes> {
        if let Some(hello) = self.hello.take() {
            return Some(hello);
        }
        let pong = self.pong.take()?;
        prefix.map(|prefix| FromProxy::Pong(pong).frame(prefix))
    }

    /// These messages are sent to it next. Answers what it is told before them: where they begin, if they do not follow what
    /// it has had.
    pub(super) fn on_batch(&mut self, batch: &Batch, prefix: Option<&Prefix>) -> Option<Bytes> {
        if batch.messages == 0 {
            return None;
        }
        let before = batch.oldest.saturating_sub(1);
        let follows = before == self.sequence;
        self.sequence = batch.newest;
        prefix.filter(|_| !follows).map(|prefix| FromProxy::At(before).frame(prefix))
    }

    /// It says something.
    pub(super) fn on_frame(&mut self, frame: FromClient) {
        if let Some(ping) = frame.ping {
            self.pong = Some(ping);
        }
        if let Some(seen) = frame.seen {
            self.error = self.error.or(self.confirmed.on_seen(seen, self.sequence).err());
        }
    }

    /// What it has said that cannot be.
    pub(super) fn take_error(&mut self) -> Option<ControlError> {
        self.error.take()
    }
}
