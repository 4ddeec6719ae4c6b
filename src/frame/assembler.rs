//! Assembles the frames of one direction into whole messages, for connections that end here.
//!
//! # Invariants
//! 1. Any way of cutting a stream into calls yields the same (property test).
//! 2. A message that is whole and unmasked in what is pushed is handed out in place. Any other is assembled in a
//!    buffer that grows with what has come, not with what was announced, and that is freed with the message's last
//!    byte: between messages no memory is kept.
//! 3. Limits are held against headers: nothing is kept of a message that is too large, and what is inflated
//!    stops at the limit.
//!
//! # Not here
//! Streaming without assembly ([`super::Scanner`]); which frame may follow which (`rules`, for both).

use super::CloseCode;
use super::control::MAX_CONTROL_PAYLOAD;
use super::deflate;
use super::header::{Header, Opcode, ProtocolError};
use super::masking;
use super::message::Kind;
use super::rules::{Extensions, FrameSequence, Rules};

/// The longest control frame, masked: what may have to be held until it is whole.
const MAX_CONTROL: usize = 2 + 4 + MAX_CONTROL_PAYLOAD;

/// What the frames of a peer came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Assembled<'a> {
    /// A whole data message: unmasked, inflated, and valid UTF-8 if it is a text.
    Message(Kind, &'a [u8]),
    /// A ping, which asks for a pong with this payload.
    Ping(&'a [u8]),
    /// A pong: the answer to a ping, or unsolicited (RFC 6455 §5.5.3).
    Pong(&'a [u8]),
    /// A Close, which is the last frame: its code, and its payload as it came (code and reason).
    Close(CloseCode, &'a [u8]),
}

/// The state of one direction.
#[derive(Debug)]
pub struct Assembler {
    sequence: FrameSequence,
    /// The beginning of a header or of a control frame; less than [`MAX_CONTROL`].
    held: Vec<u8>,
    /// Payload of the present message that came before, unmasked.
    body: Vec<u8>,
    /// The data frame whose payload comes.
    frame: Option<Frame>,
    /// What the present message is, and whether it is compressed: from its first frame.
    kind: Kind,
    is_compressed: bool,
    has_ended: bool,
}

/// The present data frame.
#[derive(Debug)]
struct Frame {
    /// Payload bytes that are still to come.
    left: u64,
    /// Rotated so that it begins with the key of the next byte.
    mask: Option<[u8; 4]>,
    ends_message: bool,
}

impl Assembler {
    /// At the first byte after the handshake. With [`Extensions::Deflate`] messages may be compressed
    /// without context takeover; `max_message` bounds them inflated, too. Frames of an unknown
    /// extension could not be decoded here: it counts as none.
    pub fn new(mut rules: Rules) -> Self {
        if rules.extensions == Extensions::Unknown {
            rules.extensions = Extensions::None;
        }
        Self {
            sequence: FrameSequence::new(rules),
            held: Vec::new(),
            body: Vec::new(),
            frame: None,
            kind: Kind::Binary,
            is_compressed: false,
            has_ended: false,
        }
    }

    /// Reads `bytes`, and calls `on` with each message and control frame that is whole; answers how many frames began. After
    /// a Close or a protocol error `on` is not called any more: the rest is ignored, and so is all that is pushed later.
    ///
    /// # Errors
    /// What RFC 6455 forbids, or a bound that was exceeded. `on` was called with everything that was whole before it.
    pub fn push(&mut self, bytes: &[u8], mut on: impl FnMut(Assembled<'_>)) -> Result<u32, ProtocolError> {
        let mut rest = bytes;
        let mut frames = 0;
        while !self.has_ended {
            let is_header = self.frame.is_none();
            let read = if is_header {
                self.read_header(&mut rest, &mut on)
            } else {
                self.read_payload(&mut rest, &mut on)
            };
            match read {
                Ok(true) => frames += u32::from(is_header),
                Ok(false) => return Ok(frames),
                Err(error) => {
                    self.end();
                    return Err(error);
                }
            }
        }
        Ok(frames)
    }

    /// Whether messages may be compressed.
    pub fn inflates(&self) -> bool {
        self.sequence.rules().extensions == Extensions::Deflate
    }

    /// Memory that is kept until a message, or the beginning of a frame, is whole.
    pub fn held(&self) -> usize {
        self.held.capacity() + self.body.capacity()
    }

    /// Reads the next header, or a whole control frame. False if more bytes are needed.
    fn read_header(
        &mut self,
        rest: &mut &[u8],
        on: &mut impl FnMut(Assembled<'_>),
    ) -> Result<bool, ProtocolError> {
        let held = self.held.len();
        let mut joined = [0; MAX_CONTROL];
        let front = if held == 0 {
            *rest
        } else {
            let fits = rest.len().min(MAX_CONTROL - held);
            joined[..held].copy_from_slice(&self.held);
            joined[held..held + fits].copy_from_slice(&rest[..fits]);
            &joined[..held + fits]
        };
        let Some(header) = self.sequence.read_header(front)? else { return Ok(self.hold(rest)) };
        if !header.opcode.is_control() {
            *rest = &rest[header.size - held..];
            self.held = Vec::new();
            self.start_frame(&header);
            return Ok(true);
        }
        let end = header.size + header.payload as usize;
        let Some(payload) = front.get(header.size..end) else { return Ok(self.hold(rest)) };
        let mut plain = [0; MAX_CONTROL_PAYLOAD];
        let plain = &mut plain[..payload.len()];
        plain.copy_from_slice(payload);
        if let Some(mask) = header.mask {
            masking::apply(plain, mask);
        }
        *rest = &rest[end - held..];
        self.held = Vec::new();
        match header.opcode {
            Opcode::Ping => on(Assembled::Ping(plain)),
            Opcode::Pong => on(Assembled::Pong(plain)),
            Opcode::Close => {
                self.end();
                on(Assembled::Close(CloseCode::from_payload(plain), plain));
            }
            // The rules have refused them.
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {}
            Opcode::ReservedData(_) | Opcode::ReservedControl(_) => {}
        }
        Ok(true)
    }

    fn hold(&mut self, rest: &mut &[u8]) -> bool {
        self.held.extend_from_slice(rest);
        false
    }

    /// A data frame begins.
    fn start_frame(&mut self, header: &Header) {
        match header.opcode {
            Opcode::Text => self.kind = Kind::Text,
            Opcode::Binary => self.kind = Kind::Binary,
            _ => {}
        }
        if !self.sequence.is_inside_message() {
            // Of the reserved bits the rules let RSV1 through at most.
            self.is_compressed = header.rsv != 0;
        }
        self.sequence.start_frame(header);
        self.frame = Some(Frame { left: header.payload, mask: header.mask, ends_message: header.fin });
    }

    /// Reads payload of the present frame. False if more of it is to come.
    fn read_payload(
        &mut self,
        rest: &mut &[u8],
        on: &mut impl FnMut(Assembled<'_>),
    ) -> Result<bool, ProtocolError> {
        let Some(frame) = &mut self.frame else { return Ok(true) };
        let here = usize::try_from(frame.left).map_or(rest.len(), |left| left.min(rest.len()));
        let (came, after) = rest.split_at(here);
        *rest = after;
        frame.left -= here as u64;
        let (is_whole, ends_message) = (frame.left == 0, frame.ends_message);
        if is_whole && ends_message && frame.mask.is_none() && self.body.is_empty() {
            self.frame = None;
            self.finish_message(came, on)?;
            return Ok(true);
        }
        make_room(&mut self.body, here, frame.left);
        let start = self.body.len();
        self.body.extend_from_slice(came);
        if let Some(mask) = &mut frame.mask {
            masking::apply(&mut self.body[start..], *mask);
            mask.rotate_left(here % 4);
        }
        if is_whole {
            self.frame = None;
            if ends_message {
                let body = std::mem::take(&mut self.body);
                self.finish_message(&body, on)?;
            }
        }
        Ok(is_whole)
    }

    /// A message is whole.
    fn finish_message(
        &self,
        payload: &[u8],
        on: &mut impl FnMut(Assembled<'_>),
    ) -> Result<(), ProtocolError> {
        let mut inflated = Vec::new();
        let message = if self.is_compressed {
            deflate::inflate(payload, self.sequence.rules().max_message, &mut inflated)?;
            &inflated
        } else {
            payload
        };
        if self.kind == Kind::Text && std::str::from_utf8(message).is_err() {
            return Err(ProtocolError::InvalidUtf8);
        }
        on(Assembled::Message(self.kind, message));
        Ok(())
    }

    fn end(&mut self) {
        self.has_ended = true;
        self.frame = None;
        self.held = Vec::new();
        self.body = Vec::new();
    }
}

/// Makes room for `more` bytes, and for as many again as have come by then if `left` bytes are still to follow: a peer
/// that announces much and sends little costs little memory.
fn make_room(body: &mut Vec<u8>, more: usize, left: u64) {
    let needed = body.len() + more;
    if needed > body.capacity() {
        let ahead = usize::try_from(left).map_or(needed, |left| left.min(needed));
        body.reserve_exact(more + ahead);
    }
}

#[cfg(test)]
mod tests;
