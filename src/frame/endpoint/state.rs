//! How far each direction of a connection has come on its way to the end.
//!
//! # Invariants
//! 1. Each direction only ever moves down its list, and only by the moves named here: a move that comes too late changes
//!    nothing.
//!
//! # Not here
//! Which Close is sent, and when ([`super::Endpoint`], `tunnel::ending`).

use super::super::role::Role;

/// What an end may still send, and what it still reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionState {
    role: Role,
    read: Read,
    write: Write,
}

/// What the peer's bytes are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Read {
    Frames,
    /// After a protocol error. What follows is read and discarded up to the end of the stream, so that the peer gets our
    /// Close: unread bytes would turn the end of the connection into a reset.
    Discarding,
    /// The peer's Close came. What follows is discarded likewise.
    CloseReceived,
    Ended {
        close_received: bool,
    },
}

/// What the peer can still be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Write {
    Frames,
    /// Our Close is the next frame and the last one (RFC 6455 §5.5.1).
    CloseQueued,
    /// It is on its way, or there.
    CloseSent,
    /// The end of the stream was sent.
    FinSent {
        close_sent: bool,
    },
    /// A write failed. What the peer sent before may still be read.
    Broken,
}

impl ConnectionState {
    pub(crate) fn new(role: Role) -> Self {
        Self { role, read: Read::Frames, write: Write::Frames }
    }

    /// Which end this is.
    pub(crate) fn role(self) -> Role {
        self.role
    }

    /// The peer broke the protocol, or may send nothing more for another reason: what it sends is discarded.
    pub(crate) fn discard(&mut self) {
        self.read = self.read.max(Read::Discarding);
    }

    /// The peer's Close came.
    pub(crate) fn on_close_received(&mut self) {
        // Also while it is discarded: the Close came in the same read as what that began with.
        if self.read < Read::CloseReceived {
            self.read = Read::CloseReceived;
        }
    }

    /// The peer's stream has ended, in order or by an error.
    pub(crate) fn on_read_end(&mut self) {
        self.read = Read::Ended { close_received: self.close_received() };
    }

    /// A Close is to be sent next; false if none can be sent any more.
    pub(super) fn queue_close(&mut self) -> bool {
        let can_send = self.can_send();
        if can_send {
            self.write = Write::CloseQueued;
        }
        can_send
    }

    /// A Close was sent: ours, or the one of another connection that was forwarded.
    pub(crate) fn on_close_sent(&mut self) {
        if self.write < Write::CloseSent {
            self.write = Write::CloseSent;
        }
    }

    /// The end of the stream was sent.
    pub(crate) fn on_fin_sent(&mut self) {
        if self.write <= Write::CloseSent {
            self.write = Write::FinSent { close_sent: self.close_sent() };
        }
    }

    /// A write failed, or nothing is to be sent any more.
    pub(crate) fn on_broken(&mut self) {
        self.write = Write::Broken;
    }

    /// Whether frames may be sent and are read: no end has begun.
    pub(crate) fn is_open(self) -> bool {
        self.can_send() && self.can_read()
    }

    /// Whether frames may still be sent.
    pub(crate) fn can_send(self) -> bool {
        self.write == Write::Frames
    }

    /// Whether frames of the peer are still read.
    pub(crate) fn can_read(self) -> bool {
        self.read == Read::Frames
    }

    /// Whether the peer's Close came.
    pub(crate) fn close_received(self) -> bool {
        matches!(self.read, Read::CloseReceived | Read::Ended { close_received: true })
    }

    /// Whether the peer's stream has ended.
    pub(crate) fn is_read_ended(self) -> bool {
        matches!(self.read, Read::Ended { .. })
    }

    /// Whether a Close was sent, and no write has failed since.
    pub(crate) fn close_sent(self) -> bool {
        matches!(self.write, Write::CloseSent | Write::FinSent { close_sent: true })
    }

    /// Whether the end of the stream was sent.
    pub(crate) fn fin_sent(self) -> bool {
        matches!(self.write, Write::FinSent { .. })
    }

    /// Whether a write has failed.
    pub(crate) fn is_broken(self) -> bool {
        self.write == Write::Broken
    }

    /// Whether the stream is to be ended now, though the peer's Close has not come; `is_flushed`: the kernel has all that
    /// was sent. A peer that broke the protocol is sent the reason, and then the end of the stream.
    pub(crate) fn needs_fin(self, is_flushed: bool) -> bool {
        self.read == Read::Discarding && self.write == Write::CloseSent && is_flushed
    }

    /// Whether nothing is left to be done; `is_flushed`: the kernel has all that was sent.
    pub(crate) fn is_done(self, is_flushed: bool) -> bool {
        // The server ends the TCP connection first (RFC 6455 §7.1.1): a client waits for that, and a server that has both
        // Closes does not wait.
        let has_finished = self.is_read_ended() || self.role == Role::Server && self.close_received();
        match self.write {
            Write::Frames | Write::CloseQueued => false,
            Write::CloseSent => is_flushed && has_finished,
            Write::FinSent { close_sent: true } => has_finished,
            Write::FinSent { close_sent: false } | Write::Broken => self.is_read_ended(),
        }
    }
}

#[cfg(test)]
impl ConnectionState {
    pub(super) fn at(role: Role, read: Read, write: Write) -> Self {
        Self { role, read, write }
    }

    pub(super) fn read(self) -> Read {
        self.read
    }

    pub(super) fn write(self) -> Write {
        self.write
    }
}
