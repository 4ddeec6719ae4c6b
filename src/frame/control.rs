//! Whole control frames of our own: pings, pongs, closes (RFC 6455 §5.5), and short text frames.

use super::CloseCode;
use super::header::Opcode;
use super::masking;

/// Longest payload of a control frame (RFC 6455 §5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;

const MAX_FRAME: usize = 2 + 4 + MAX_CONTROL_PAYLOAD;

/// One short frame, ready to be written. Lives on the stack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ControlFrame {
    bytes: [u8; MAX_FRAME],
    len: u8,
}

impl ControlFrame {
    /// A final frame with the first 125 bytes of `payload`. `mask`: the masking key, for a frame that a client sends
    /// (RFC 6455 §5.1).
    pub(crate) fn new(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> Self {
        let payload = &payload[..payload.len().min(MAX_CONTROL_PAYLOAD)];
        let mut bytes = [0; MAX_FRAME];
        bytes[0] = 0x80 | opcode.bits();
        bytes[1] = payload.len() as u8;
        let mut at = 2;
        if let Some(mask) = mask {
            bytes[1] |= 0x80;
            bytes[2..6].copy_from_slice(&mask);
            at = 6;
        }
        let end = at + payload.len();
        bytes[at..end].copy_from_slice(payload);
        if let Some(mask) = mask {
            masking::apply(&mut bytes[at..end], mask);
        }
        Self { bytes, len: end as u8 }
    }

    /// A Close frame; the reason is cut at a character so that it fits. [`CloseCode::NONE`] makes an empty one.
    pub(crate) fn close(code: CloseCode, reason: &str, mask: Option<[u8; 4]>) -> Self {
        if code == CloseCode::NONE {
            return Self::new(Opcode::Close, &[], mask);
        }
        let mut payload = [0; MAX_CONTROL_PAYLOAD];
        payload[..2].copy_from_slice(&code.0.to_be_bytes());
        let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL_PAYLOAD - 2)];
        payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
        Self::new(Opcode::Close, &payload[..2 + reason.len()], mask)
    }

    /// The frame as it goes onto the wire.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_encoded_as_the_rfc_shows_them() {
        let hello = ControlFrame::new(Opcode::Ping, b"Hello", None);
        assert_eq!(hello.as_bytes(), b"\x89\x05Hello");
        let masked = ControlFrame::new(Opcode::Pong, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]));
        assert_eq!(masked.as_bytes(), b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        let close = ControlFrame::close(CloseCode(1012), "bye", None);
        assert_eq!(close.as_bytes(), b"\x88\x05\x03\xf4bye");
        let empty = ControlFrame::close(CloseCode::NONE, "unsaid", None);
        assert_eq!(empty.as_bytes(), b"\x88\x00", "1005 is never sent");
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let frame = ControlFrame::close(CloseCode(1000), &"ü".repeat(100), None);
        let payload = &frame.as_bytes()[2..];
        assert_eq!(payload.len(), 2 + 122);
        assert!(std::str::from_utf8(&payload[2..]).is_ok());
    }
}
