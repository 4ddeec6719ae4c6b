//! permessage-deflate without context takeover (RFC 7692 §7): each message by itself, so that one compressed
//! frame serves every client.

use bytes::Bytes;

use super::assembler::Kind;
use super::header::Fault;

/// Which of a client's offers is taken (the values of its `Sec-WebSocket-Extensions`, in order), and the answer's
/// value. Offers that want a smaller window of us are declined, as are unknown parameters.
pub fn accept<'a>(offers: impl IntoIterator<Item = &'a str>) -> Option<&'static str> {
    let _ = offers.into_iter().next();
    unimplemented!()
}

/// One final frame of a server, compressed (RSV1 set); `None` where that makes it no smaller.
pub fn message(kind: Kind, payload: &[u8]) -> Option<Bytes> {
    let _ = (kind, payload);
    unimplemented!()
}

/// Appends to `into` what `payload` inflates to.
///
/// # Errors
/// It is not deflate, or comes to more than `max` bytes.
pub fn inflate(payload: &[u8], max: u64, into: &mut Vec<u8>) -> Result<(), Fault> {
    let _ = (payload, max, into);
    unimplemented!()
}
