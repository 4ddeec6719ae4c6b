//! What operators, drains and limits want of a session while its client is there: it comes by the handle of the client's
//! connection.
//!
//! # Not here
//! What comes by the session's own handle ([`super::attach`]).

use super::Task;
use crate::connections::Command;
use crate::frame::Kind;
use crate::log::{Message, NewEntry};
use crate::session::cause::Cause;
use crate::telemetry::{Injection, Reason};

/// The first byte of a final text frame (RFC 6455 §5.2).
const TEXT: u8 = 0x81;

impl Task {
    /// Takes what others have left in the client's mailbox.
    pub(super) fn take_pending(&mut self) {
        let Some(handle) = self.handle() else { return };
        let pending = handle.take_pending();
        for command in pending.commands.into_iter().flatten() {
            self.on_command(command);
        }
        if pending.has_injections {
            self.take_injections();
        }
    }

    /// What an operator publishes goes into the log, between two messages of the server.
    fn take_injections(&mut self) {
        while let Some(frame) = self.handle().and_then(|handle| handle.next_injection()) {
            let kind = if frame.first() == Some(&TEXT) { Kind::Text } else { Kind::Binary };
            let message = Message::from_frame(kind, frame);
            self.writer.append(NewEntry { message, deflated: None, is_critical: false, key: None, to: None });
            self.plan.shared.metrics.connections.injections.inc(Injection::Ok);
        }
    }

    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::CloseAt { at, code } => {
                self.dates.set_drain(at, code.0);
                self.machine.on_drain();
            }
            Command::Replace => self.machine.leave(Cause::Replaced),
            Command::Cut => self.cut(),
        }
    }

    /// Ends at once, without a word.
    pub(super) fn cut(&mut self) {
        let reason = if self.machine.is_draining() { Reason::Drained } else { Reason::Aborted };
        if let Some(client) = &mut self.client {
            client.reset(reason);
        }
        if let Some(mut link) = self.parting.take() {
            link.reset(reason);
            link.leave();
        }
        self.machine.end(Cause::Cut);
    }
}
