//! Whole data frames, ready for the wire.
//!
//! # Not here
//! Compressed ones ([`super::deflate`]); control frames ([`super::ControlFrame`]).

use bytes::Bytes;

use super::header::{Header, Opcode};
use super::masking;
use super::message::Kind;
use super::role::Role;

/// The longest header that a server sends.
const MAX_HEADER: usize = 10;

/// FIN.
const FIN: u8 = 0x80;

/// RSV1: the message is compressed (RFC 7692 §6).
pub(super) const RSV1: u8 = 0x40;

/// One final frame of a server: header and payload in one piece.
pub fn message(kind: Kind, payload: &[u8]) -> Bytes {
    frame(kind, 0, payload, None)
}

/// Puts one final frame of `role` behind `out`.
pub(crate) fn append_message(role: Role, kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    append(kind, 0, payload, role.masking_key(), out);
}

/// The payload of what [`message`] made.
pub fn payload_of(frame: &Bytes) -> Bytes {
    match Header::parse(frame) {
        Ok(Some(header)) => frame.slice(header.size..),
        // Not a frame that was made here.
        Ok(None) | Err(_) => Bytes::new(),
    }
}

/// One final frame; `rsv` are its reserved bits in their place.
pub(super) fn frame(kind: Kind, rsv: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Bytes {
    // Exactly as large as the frame: a log may keep it, and counts no spare capacity.
    let mut bytes = Vec::with_capacity(frame_len(payload.len(), mask));
    append(kind, rsv, payload, mask, &mut bytes);
    bytes.into()
}

/// How long a frame with `len` bytes of payload is.
fn frame_len(len: usize, mask: Option<[u8; 4]>) -> usize {
    let size = match len {
        0..126 => 2,
        126..=0xffff => 4,
        _ => MAX_HEADER,
    };
    size + mask.map_or(0, |mask| mask.len()) + len
}

fn append(kind: Kind, rsv: u8, payload: &[u8], mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let opcode = match kind {
        Kind::Text => Opcode::Text,
        Kind::Binary => Opcode::Binary,
    };
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    let mut header = [0; MAX_HEADER];
    header[0] = FIN | rsv | opcode.bits();
    let size = match payload.len() {
        len @ 0..126 => {
            header[1] = mask_bit | len as u8;
            2
        }
        len @ 126..=0xffff => {
            header[1] = mask_bit | 126;
            header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            4
        }
        len => {
            header[1] = mask_bit | 127;
            header[2..].copy_from_slice(&(len as u64).to_be_bytes());
            MAX_HEADER
        }
    };
    out.reserve(frame_len(payload.len(), mask));
    out.extend_from_slice(&header[..size]);
    out.extend_from_slice(mask.as_ref().map_or(&[], |mask| &mask[..]));
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        masking::apply(&mut out[start..], mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_encoded_as_the_rfc_shows_them() {
        assert_eq!(message(Kind::Text, b"Hello"), &b"\x81\x05Hello"[..]);
        let masked = frame(Kind::Text, 0, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]));
        assert_eq!(masked, &b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"[..]);
        assert_eq!(message(Kind::Binary, &[7; 256])[..4], [0x82, 126, 1, 0]);
        assert_eq!(message(Kind::Binary, &[7; 65536])[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    fn header_mask(frame: &[u8]) -> Option<[u8; 4]> {
        Header::parse(frame).unwrap().unwrap().mask
    }

    #[test]
    fn a_frame_goes_behind_what_is_there_with_a_key_of_its_own() {
        let mut out = b"before".to_vec();
        append_message(Role::Client, Kind::Text, b"Hello", &mut out);
        append_message(Role::Client, Kind::Text, b"Hello", &mut out);
        assert_eq!(&out[..6], b"before");
        let (first, second) = out[6..].split_at(11);
        assert_ne!(header_mask(first).unwrap(), header_mask(second).unwrap());
        for frame in [first, second] {
            let mut payload = frame[6..].to_vec();
            masking::apply(&mut payload, header_mask(frame).unwrap());
            assert_eq!((frame[0], &payload[..]), (0x81, &b"Hello"[..]));
        }
    }

    #[test]
    fn lengths_take_their_shortest_form_and_payloads_come_back() {
        for len in [0, 1, 125, 126, 127, 0xffff, 0x1_0000, 200_000] {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let whole = message(Kind::Binary, &payload);
            let header = Header::parse(&whole).unwrap().unwrap();
            assert_eq!((header.payload, header.fin, header.mask), (len, true, None));
            assert_eq!(payload_of(&whole), payload);
            let mask = [1, 2, 3, 4];
            let masked = frame(Kind::Binary, 0, &payload, Some(mask));
            let header = Header::parse(&masked).unwrap().unwrap();
            assert_eq!((header.payload, header.mask), (len, Some(mask)));
            for frame in [&whole, &masked] {
                let (payload, size) = (len as usize, frame.len());
                let mask = header_mask(frame);
                assert_eq!(frame_len(payload, mask), size, "no spare capacity");
            }
        }
    }

    #[test]
    fn a_payload_is_no_copy_and_what_is_no_frame_has_none() {
        let frame = message(Kind::Text, b"a message");
        assert_eq!(payload_of(&frame).as_ptr(), frame[2..].as_ptr());
        for odd in [&b""[..], b"\x81", b"\x82\x7e\x00", b"\x09\x7f"] {
            assert_eq!(payload_of(&Bytes::from_static(odd)), "");
        }
    }
}
