//! Which frames may follow each other in one direction of a connection: the rules of RFC 6455 §5 that cannot be checked on
//! a header alone. All frames are read through [`FrameSequence`].
//!
//! # Not here
//! What is wrong with a header by itself ([`Header::parse`]); what stands inside a message
//! ([`super::Assembler`]).

use std::num::NonZeroU64;

use super::header::{Header, Opcode, ProtocolError};
use super::role::Role;

/// What the handshake negotiated, as far as headers go (RFC 6455 §9).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extensions {
    /// None: reserved bits and opcodes are protocol errors.
    #[default]
    None,
    /// permessage-deflate alone: RSV1 on the first frame of a message (RFC 7692 §6).
    Deflate,
    /// Another one, which may define any reserved bit and opcode.
    Unknown,
}

/// The rules and limits of one direction.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Who sends these frames.
    pub sender: Role,
    /// The extensions that were negotiated.
    pub extensions: Extensions,
    /// Most payload bytes in one frame.
    pub max_frame: u64,
    /// Most payload bytes in all frames of one message, as they are on the wire.
    pub max_message: u64,
    /// Whether final text frames of at most 125 bytes are shown to the caller (JSON heartbeat).
    pub show_text: bool,
}

/// The sequence of frames: whether the next one begins a message or continues one, and what it may be.
#[derive(Debug)]
pub(super) struct FrameSequence {
    rules: Rules,
    /// One more than the payload bytes so far of a fragmented message that is not finished: each direction of a connection
    /// has one of these, and an `Option<u64>` takes twice as much.
    open_message: Option<NonZeroU64>,
}

impl FrameSequence {
    /// At the first byte after the handshake.
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, open_message: None }
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether the next data frame continues a message.
    pub(super) fn is_inside_message(&self) -> bool {
        self.open_message.is_some()
    }

    /// Reads the next header and checks it against the rules, from its first byte on; `None` if more bytes are needed.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub(super) fn read_header(&self, bytes: &[u8]) -> Result<Option<Header>, ProtocolError> {
        if let Some(second) = bytes.get(1) {
            match (self.rules.sender, second & 0x80 != 0) {
                (Role::Client, false) => return Err(ProtocolError::Unmasked),
                (Role::Server, true) => return Err(ProtocolError::Masked),
                (Role::Client, true) | (Role::Server, false) => {}
            }
        }
        let Some(header) = Header::parse(bytes)? else { return Ok(None) };
        let is_unknown = self.rules.extensions == Extensions::Unknown;
        if let Opcode::ReservedData(bits) | Opcode::ReservedControl(bits) = header.opcode
            && !is_unknown
        {
            return Err(ProtocolError::ReservedOpcode(bits));
        }
        let allowed = match self.rules.extensions {
            Extensions::None => 0,
            Extensions::Deflate if matches!(header.opcode, Opcode::Text | Opcode::Binary) => 0b100,
            Extensions::Deflate => 0,
            Extensions::Unknown => 0b111,
        };
        if header.rsv & !allowed != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        if !header.opcode.is_control() {
            self.check_data(&header)?;
        }
        Ok(Some(header))
    }

    /// The size of the frame at the front if it is a whole message without an extension and of at most 64 KiB, as nearly all
    /// are, and may come here. `None` says nothing: [`FrameSequence::read_header`] knows.
    pub(super) fn size_of_plain_message(&self, bytes: &[u8]) -> Option<usize> {
        const FINAL_TEXT: u8 = 0x81;
        const FINAL_BINARY: u8 = 0x82;
        let [FINAL_TEXT | FINAL_BINARY, second, ..] = *bytes else { return None };
        let is_masked = second & 0x80 != 0;
        if is_masked != (self.rules.sender == Role::Client) || self.is_inside_message() {
            return None;
        }
        let (payload, size) = match (second & 0x7f, bytes) {
            (short @ 0..=125, _) => (usize::from(short), 2),
            (126, &[_, _, high, low, ..]) => (usize::from(u16::from_be_bytes([high, low])), 4),
            _ => return None,
        };
        let is_shortest = size == 2 || payload > 125;
        let limit = self.rules.max_frame.min(self.rules.max_message);
        let size = size + payload + if is_masked { 4 } else { 0 };
        (is_shortest && payload as u64 <= limit).then_some(size)
    }

    fn check_data(&self, header: &Header) -> Result<(), ProtocolError> {
        let before = match (header.opcode, self.open_message) {
            (Opcode::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
            (Opcode::Continuation, Some(before)) => before.get() - 1,
            (_, Some(_)) => return Err(ProtocolError::ExpectedContinuation),
            (_, None) => 0,
        };
        if header.payload > self.rules.max_frame {
            return Err(ProtocolError::FrameTooLarge { limit: self.rules.max_frame });
        }
        if before.saturating_add(header.payload) > self.rules.max_message {
            return Err(ProtocolError::MessageTooLarge { limit: self.rules.max_message });
        }
        Ok(())
    }

    /// A data frame begins, which was read with [`FrameSequence::read_header`].
    pub(super) fn start_frame(&mut self, header: &Header) {
        self.open_message = if header.fin {
            None
        } else {
            let before = self.open_message.unwrap_or(NonZeroU64::MIN);
            Some(before.saturating_add(header.payload))
        };
    }
}
