//! Puts the frames of one direction together to whole messages, for links that end here.
//!
//! # Not here
//! Streaming without assembly ([`super::Scanner`]).

use super::CloseCode;
use super::header::Fault;
use super::scanner::Rules;

/// What a data message is (RFC 6455 §5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// What a peer said.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A whole data message: unmasked, inflated, and valid UTF-8 if it is a text.
    Message(Kind, &'a [u8]),
    /// It wants a pong with this payload.
    Ping(&'a [u8]),
    /// The answer to a ping, or said unasked.
    Pong(&'a [u8]),
    /// The last thing it says: code and payload (code and reason as they came).
    Close(CloseCode, &'a [u8]),
}

/// The state of one direction.
#[derive(Debug)]
pub struct Assembler {
    rules: Rules,
}

impl Assembler {
    /// At the first byte after the handshake. With [`super::Extensions::Deflate`] messages may be compressed
    /// without context takeover; `max_message` bounds them inflated, too.
    pub fn new(rules: Rules) -> Self {
        Self { rules }
    }

    /// Takes what came, and tells `on` each thing that is whole. After a Close or a fault nothing more is told.
    ///
    /// # Errors
    /// What RFC 6455 forbids, or a bound that was exceeded. What came whole before it was told.
    pub fn push(&mut self, bytes: &[u8], on: impl FnMut(Heard<'_>)) -> Result<(), Fault> {
        let _ = (&self.rules, bytes, on);
        unimplemented!()
    }

    /// Bytes that are kept until a message is whole.
    pub fn held(&self) -> usize {
        unimplemented!()
    }
}
