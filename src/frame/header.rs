//! One frame header (RFC 6455 §5.2) and everything that can be wrong with it.

use super::CloseCode;

/// The four opcode bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation,
    /// A text message, or its first fragment.
    Text,
    /// A binary message, or its first fragment.
    Binary,
    /// Begins or answers the closing handshake.
    Close,
    /// Asks for an [`Opcode::Pong`] with the same payload.
    Ping,
    /// Answers an [`Opcode::Ping`], or is unsolicited.
    Pong,
    /// 3 to 7: data frames that only an extension may define.
    ReservedData(u8),
    /// 11 to 15: control frames that only an extension may define.
    ReservedControl(u8),
}

impl Opcode {
    fn from_bits(bits: u8) -> Self {
        match bits & 0x0f {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            bits @ 3..=7 => Self::ReservedData(bits),
            bits => Self::ReservedControl(bits),
        }
    }

    pub(super) fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
            Self::ReservedData(bits) | Self::ReservedControl(bits) => bits,
        }
    }

    /// Control frames may stand between the fragments of a message (RFC 6455 §5.4).
    pub fn is_control(self) -> bool {
        self.bits() & 0x08 != 0
    }
}

/// What a peer did wrong, after which a stream of frames cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// RFC 6455 §5.2: opcodes 3 to 7 and 11 to 15.
    #[error("reserved opcode {0}")]
    ReservedOpcode(u8),
    /// RFC 6455 §5.2: a bit that no negotiated extension gives a meaning.
    #[error("reserved bits set without an extension that defines them")]
    ReservedBits,
    /// RFC 6455 §5.5.
    #[error("fragmented control frame")]
    FragmentedControl,
    /// RFC 6455 §5.5: above 125 bytes.
    #[error("control frame of more than 125 bytes")]
    LongControl,
    /// RFC 6455 §5.1: a client must mask.
    #[error("unmasked frame from a client")]
    Unmasked,
    /// RFC 6455 §5.1: a server must not mask.
    #[error("masked frame from a server")]
    Masked,
    /// RFC 6455 §5.2: the shortest form must be used, and the top bit is zero.
    #[error("length not in its shortest form")]
    NonMinimalLength,
    /// RFC 6455 §5.4: there is no message to continue.
    #[error("continuation frame outside a message")]
    UnexpectedContinuation,
    /// RFC 6455 §5.4: the message before is not finished.
    #[error("new message inside a fragmented one")]
    ExpectedContinuation,
    /// Above `max_frame`.
    #[error("frame above the limit of {limit} bytes")]
    FrameTooLarge {
        /// The setting.
        limit: u64,
    },
    /// Above `max_message`.
    #[error("message above the limit of {limit} bytes")]
    MessageTooLarge {
        /// The setting.
        limit: u64,
    },
    /// RFC 6455 §8.1: a text message has to be UTF-8.
    #[error("text that is not UTF-8")]
    InvalidUtf8,
    /// RFC 7692 §7.2.2: a message that is marked as compressed cannot be inflated.
    #[error("compressed message that is not valid deflate")]
    InvalidDeflate,
}

impl ProtocolError {
    /// The code that both sides get (RFC 6455 §7.4.1).
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::FrameTooLarge { .. } | Self::MessageTooLarge { .. } => CloseCode::TOO_LARGE,
            Self::InvalidUtf8 | Self::InvalidDeflate => CloseCode::INVALID_DATA,
            Self::ReservedOpcode(_)
            | Self::ReservedBits
            | Self::FragmentedControl
            | Self::LongControl
            | Self::Unmasked
            | Self::Masked
            | Self::NonMinimalLength
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation => CloseCode::PROTOCOL_ERROR,
        }
    }
}

/// A header that is whole and well formed by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Last frame of its message.
    pub fin: bool,
    /// RSV1, RSV2, RSV3 in the bits 4, 2, 1.
    pub rsv: u8,
    /// The opcode.
    pub opcode: Opcode,
    /// The masking key, if masked.
    pub mask: Option<[u8; 4]>,
    /// Payload bytes that follow.
    pub payload: u64,
    /// Bytes of the header itself, 2 to 14.
    pub size: usize,
}

impl Header {
    /// Reads a header from the front of `bytes`; `None` if more bytes are needed. An error that the
    /// first bytes already show is answered at once, so that a peer cannot keep half of a bad header back.
    ///
    /// # Errors
    /// What RFC 6455 forbids both roles: fragmented or long control frames, lengths that are
    /// not in their shortest form.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, ProtocolError> {
        let [first, second, ..] = *bytes else { return Ok(None) };
        let (fin, rsv, opcode) = (first & 0x80 != 0, first >> 4 & 7, Opcode::from_bits(first));
        let masked = second & 0x80 != 0;
        let short = second & 0x7f;
        if opcode.is_control() {
            if !fin {
                return Err(ProtocolError::FragmentedControl);
            }
            if short > 125 {
                return Err(ProtocolError::LongControl);
            }
        }
        let (payload, mut size) = match short {
            126 => {
                let Some(wide) = bytes.get(2..4).and_then(|wide| wide.try_into().ok()) else {
                    return Ok(None);
                };
                let payload = u64::from(u16::from_be_bytes(wide));
                if payload < 126 {
                    return Err(ProtocolError::NonMinimalLength);
                }
                (payload, 4)
            }
            127 => {
                let Some(wide) = bytes.get(2..10).and_then(|wide| wide.try_into().ok()) else {
                    return Ok(None);
                };
                let payload = u64::from_be_bytes(wide);
                if payload <= u64::from(u16::MAX) || payload >> 63 != 0 {
                    return Err(ProtocolError::NonMinimalLength);
                }
                (payload, 10)
            }
            short => (u64::from(short), 2),
        };
        let mut mask = None;
        if masked {
            let Some(key) = bytes.get(size..size + 4).and_then(|key| key.try_into().ok()) else {
                return Ok(None);
            };
            mask = Some(key);
            size += 4;
        }
        Ok(Some(Self { fin, rsv, opcode, mask, payload, size }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Option<Header>, ProtocolError> {
        Header::parse(bytes)
    }

    #[test]
    fn headers_of_every_length_form_are_read() {
        // bytes, payload, header size, masked
        let cases: [(&[u8], u64, usize, bool); 7] = [
            (&[0x81, 0], 0, 2, false),
            (&[0x82, 125], 125, 2, false),
            (&[0x82, 126, 0, 126], 126, 4, false),
            (&[0x82, 126, 0xff, 0xff], 65535, 4, false),
            (&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], 65536, 10, false),
            (&[0x81, 0x85, 1, 2, 3, 4], 5, 6, true),
            (&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4], 65536, 14, true),
        ];
        for (bytes, payload, size, masked) in cases {
            let header = parse(bytes).unwrap().unwrap();
            assert_eq!((header.payload, header.size, header.mask.is_some()), (payload, size, masked));
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Ok(None), "{bytes:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_the_rfc_forbids_is_named() {
        let cases: [(&[u8], ProtocolError); 7] = [
            (&[0x09, 0], ProtocolError::FragmentedControl),
            (&[0x08, 0x80], ProtocolError::FragmentedControl),
            (&[0x89, 126], ProtocolError::LongControl),
            (&[0x8a, 0xff], ProtocolError::LongControl),
            (&[0x82, 126, 0, 125], ProtocolError::NonMinimalLength),
            (&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], ProtocolError::NonMinimalLength),
            (&[0x82, 127, 0x80, 0, 0, 0, 0, 1, 0, 0], ProtocolError::NonMinimalLength),
        ];
        for (bytes, error) in cases {
            assert_eq!(parse(bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn every_opcode_keeps_its_bits() {
        for bits in 0..16 {
            let opcode = Opcode::from_bits(bits);
            assert_eq!(opcode.bits(), bits);
            assert_eq!(opcode.is_control(), bits >= 8);
        }
    }
}
