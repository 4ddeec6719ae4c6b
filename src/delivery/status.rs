//! What became of a turn of a client's link, whichever it is.

use super::control::{ControlError, FromClient};
use crate::frame::{CloseCode, Kind, ProtocolError};

/// How far sending has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendStatus {
    /// Everything that was written has left: there may be more.
    Ready,
    /// The socket is full; the task is woken when it takes more.
    Blocked,
    /// Nothing is left to be done, and the client is to be dropped.
    Closed,
}

/// Something that a client sent, for whom it goes on to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received<'a> {
    /// A whole message, where such are wanted.
    Message(Kind, &'a [u8]),
    /// A control frame, where the protocol among the messages is spoken ([`super::WebSocket::speak_control`]). A pong in it is dealt
    /// with.
    Control(FromClient),
    /// The answer to a ping: so many messages are acknowledged that were not before.
    Receipt(u64),
}

/// What one read came to.
#[derive(Debug)]
pub(crate) enum ReadStatus {
    /// There is nothing; the task is woken when there is.
    Pending,
    /// Nothing more will come.
    Ended,
    /// Something came.
    Read(Input),
}

/// Everything that came with one read, but for what was handed out as [`Received`].
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// What the read is charged with: bytes, or what they were inflated to if that is more, and frames.
    pub(crate) bytes: usize,
    pub(crate) frames: u32,
    /// Messages that ended.
    pub(crate) messages: u32,
    /// Control frames, and texts that belong to the heartbeat.
    pub(crate) controls: u32,
    /// Texts that were control frames of the protocol among the messages.
    pub(crate) control_texts: u32,
    /// The client's Close, with the reason in it.
    pub(crate) close: Option<(CloseCode, Box<str>)>,
    pub(crate) error: Option<ProtocolError>,
    pub(crate) control_error: Option<ControlError>,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteStatus {
    /// The kernel has everything.
    Flushed,
    /// It has not; the task is woken when the socket takes more.
    Blocked,
    /// Nothing can be written any more.
    Broken,
}
