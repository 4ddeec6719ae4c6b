//! Whole data frames, ready for the wire.

use bytes::Bytes;

use super::assembler::Kind;

/// One final frame of a server: header and payload in one piece.
pub fn message(kind: Kind, payload: &[u8]) -> Bytes {
    let _ = (kind, payload);
    unimplemented!()
}

/// One final frame of a client.
pub fn masked_message(kind: Kind, payload: &[u8], mask: [u8; 4]) -> Bytes {
    let _ = (kind, payload, mask);
    unimplemented!()
}

/// The payload of what [`message`] made.
pub fn payload_of(frame: &Bytes) -> Bytes {
    let _ = frame;
    unimplemented!()
}
