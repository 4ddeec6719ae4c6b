//! Messages of an operator, put between two messages of the server.
//!
//! # Invariants
//! 1. One goes out only where anything may follow ([`Edge::Message`]): never inside a message that the
//!    server has not finished, never past a Close, never once an ending has begun.
//! 2. One at a time: what the client has not taken stays in its mailbox, which is bounded, and not in the
//!    egress. So a message that waits neither pauses the server nor lets an isolated client lag.
//! 3. Each message that was accepted is counted once: as sent, or as lost when the connection ended.
//!
//! # Not here
//! Who may publish, and to whom ([`crate::server`]); the queue ([`crate::connections::Handle::inject`]).

use std::task::Context;

use tokio::time::Instant;

use super::relay::Relay;
use crate::frame::Edge;
use crate::telemetry::Injection;

impl Relay {
    /// Sends messages that wait, while there is a place for one and the client has taken everything; stops after `most`
    /// bytes. Answers how many bytes were sent.
    pub(super) fn inject(&mut self, cx: &mut Context<'_>, most: usize, now: Instant) -> usize {
        let mut sent = 0;
        while sent < most && self.has_place() {
            let Some(frame) = self.connection.handle().next_injection() else {
                self.has_injections = false;
                break;
            };
            // This is no activity: the idle timeout goes by what the two sides send themselves.
            let lost = self.client.send(cx, &frame, Some(frame.len()), now);
            let handle = self.connection.handle();
            handle.on_out(1, frame.len() - lost.min(frame.len()));
            handle.on_discarded(lost);
            self.connection.metrics().connections.injections.inc(Injection::Ok);
            sent += frame.len();
        }
        sent
    }

    /// Whether a message may be put between what the client was sent and what comes next, and it has taken
    /// all before.
    fn has_place(&self) -> bool {
        self.ending.is_none()
            && self.client.can_send()
            && self.client.is_flushed()
            && self.upstream.scanner.edge() == Edge::Message
    }
}
