//! Puts the frames of one direction together to whole messages, for links that end here.
//!
//! # Invariants
//! 1. Any way of cutting a stream into calls yields the same (property test).
//! 2. A message that is whole and unmasked in what is pushed is passed on in place. Any other is put together in a
//!    buffer that grows with what has come, not with what was announced, and that is let go with its last
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

/// The longest frame that is passed on whole without being a message: a masked control frame.
const MAX_CONTROL: usize = 2 + 4 + MAX_CONTROL_PAYLOAD;

/// What a peer sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A whole data message: unmasked, inflated, and valid UTF-8 if it is a text.
    Message(Kind, &'a [u8]),
    /// It wants a pong with this payload.
    Ping(&'a [u8]),
    /// The answer to a ping, or sent unasked (RFC 6455 §5.5.3).
    Pong(&'a [u8]),
    /// The last frame it sends: code and payload (code and reason as they came).
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
    /// Payload bytes that have not come yet.
    left: u64,
    /// Turned so that it begins with the next byte's key.
    mask: Option<[u8; 4]>,
    ends_message: bool,
}

impl Assembler {
    /// At the first byte after the handshake. With [`Extensions::Deflate`] messages may be compressed
    /// without context takeover; `max_message` bounds them inflated, too. Nobody here could read what an
    /// unknown extension makes of a frame: it counts as none.
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

    /// Takes what came, and calls `on` with each thing that is whole; answers how many frames began. After a Close or a
    /// protocol error it is not called any more: the rest is ignored, and so is all that may still be pushed.
    ///
    /// # Errors
    /// What RFC 6455 forbids, or a bound that was exceeded. `on` was called with what came whole before it.
    pub fn push(&mut self, bytes: &[u8], mut on: impl FnMut(Heard<'_>)) -> Result<u32, ProtocolError> {
        let mut rest = bytes;
        let mut frames = 0;
        while !self.has_ended {
            let is_new = self.frame.is_none();
            let read = if is_new { self.begin(&mut rest, &mut on) } else { self.take(&mut rest, &mut on) };
            match read {
                Ok(true) => frames += u32::from(is_new),
                Ok(false) => return Ok(frames),
                Err(fault) => {
                    self.end();
                    return Err(fault);
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

    /// Reads the next header, and a control frame as a whole. False: more has to come first.
    fn begin(&mut self, rest: &mut &[u8], on: &mut impl FnMut(Heard<'_>)) -> Result<bool, ProtocolError> {
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
            self.enter(&header);
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
            Opcode::Ping => on(Heard::Ping(plain)),
            Opcode::Pong => on(Heard::Pong(plain)),
            Opcode::Close => {
                self.end();
                on(Heard::Close(CloseCode::from_payload(plain), plain));
            }
            // No rule lets them through.
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {}
            Opcode::ReservedData(_) | Opcode::ReservedControl(_) => {}
        }
        Ok(true)
    }

    fn hold(&mut self, rest: &mut &[u8]) -> bool {
        self.held.extend_from_slice(rest);
        false
    }

    /// Takes a data frame's header into the state.
    fn enter(&mut self, header: &Header) {
        match header.opcode {
            Opcode::Text => self.kind = Kind::Text,
            Opcode::Binary => self.kind = Kind::Binary,
            _ => {}
        }
        if !self.sequence.is_inside_message() {
            // RSV1, where it is allowed.
            self.is_compressed = header.rsv != 0;
        }
        self.sequence.enter(header);
        self.frame = Some(Frame { left: header.payload, mask: header.mask, ends_message: header.fin });
    }

    /// Takes payload. False: more of it has to come.
    fn take(&mut self, rest: &mut &[u8], on: &mut impl FnMut(Heard<'_>)) -> Result<bool, ProtocolError> {
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
    fn finish_message(&self, payload: &[u8], on: &mut impl FnMut(Heard<'_>)) -> Result<(), ProtocolError> {
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
        on(Heard::Message(self.kind, message));
        Ok(())
    }

    fn end(&mut self) {
        self.has_ended = true;
        self.frame = None;
        self.held = Vec::new();
        self.body = Vec::new();
    }
}

/// Room for `more`, and for as much again as has come by then, if `left` bytes will still follow: whoever
/// announces much and sends little takes up little.
fn make_room(body: &mut Vec<u8>, more: usize, left: u64) {
    let needed = body.len() + more;
    if needed > body.capacity() {
        let ahead = usize::try_from(left).map_or(needed, |left| left.min(needed));
        body.reserve_exact(more + ahead);
    }
}

#[cfg(test)]
mod tests;
