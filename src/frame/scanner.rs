//! Walks the frames of one direction of a connection, in place.
//!
//! # Invariants
//! 1. What [`Scanned::forward`] covers ends where a header begins or inside a payload, never inside a
//!    header: after a protocol error the receiving side is always at a frame edge, where a Close can still be sent to it.
//! 2. Any way of cutting a stream into calls forwards the same bytes (property test).
//! 3. Control frames (and, with [`Rules::show_text`], short final text frames) are handed to the caller whole before any
//!    byte of them is forwarded, so that they can be dropped. Until then they are *held*: at most [`MAX_HELD`]
//!    bytes, which the caller puts in front of the next bytes.
//! 4. After a Close frame or a protocol error nothing is forwarded any more (RFC 6455 §5.5.1).
//!
//! # Not here
//! Payloads of data frames: they are neither unmasked nor inflated nor checked for UTF-8, which the receivers do.

use std::ops::Range;

use super::control::MAX_CONTROL_PAYLOAD;
use super::header::{Header, Opcode, ProtocolError};
use super::masking;
use super::rules::{FrameSequence, Rules};

/// The longest beginning of a frame that is ever held back: one byte less than a masked control frame.
pub const MAX_HELD: usize = 2 + 4 + MAX_CONTROL_PAYLOAD - 1;

/// A frame that is handed to the caller whole.
#[derive(Debug, PartialEq, Eq)]
pub struct WholeFrame<'a> {
    /// What it is: a control opcode, or [`Opcode::Text`] where [`Rules::show_text`] asks for it.
    pub opcode: Opcode,
    /// Unmasked.
    pub payload: &'a [u8],
}

/// What becomes of a [`WholeFrame`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is forwarded as it is.
    Pass,
    /// It is dropped.
    Drop,
}

/// Where a stream of frames stands (RFC 6455 §5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// Between messages: anything may follow.
    Message,
    /// Between the fragments of a message: only control frames may follow.
    Frame,
    /// Inside a frame: no other frame may follow.
    Inside,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All was read; more may come.
    Open,
    /// As many messages as were asked for have ended; the rest is held, however long it is.
    LimitReached,
    /// A Close frame was seen. What came after it is ignored, and so is all that may still come.
    Closed,
    /// The sender broke the protocol. What came before that may be forwarded, and nothing else.
    Invalid(ProtocolError),
}

/// What a scan came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Scanned {
    /// `buf[..forward]` is to be forwarded as it stands.
    pub forward: usize,
    /// The offset of the last frame edge in these bytes: their end, unless the last frame is unfinished; `None` if all of
    /// them are from the inside of one frame.
    pub edge: Option<usize>,
    /// `buf[held]` comes again in front of the next bytes.
    pub held: Range<usize>,
    /// Data messages that ended.
    pub messages: u32,
    /// Frames that began, those that were dropped among them.
    pub frames: u32,
    /// Control frames among them, and texts that were dropped: those are pongs of a JSON heartbeat.
    pub controls: u32,
    /// How the scan ended.
    pub outcome: Outcome,
}

/// The state of one direction: where in a frame and in a message it stands.
#[derive(Debug)]
pub struct Scanner {
    sequence: FrameSequence,
    /// Payload bytes of the present frame that have not come yet.
    payload_left: u64,
}

impl Scanner {
    /// At the first byte after the handshake.
    pub fn new(rules: Rules) -> Self {
        Self { sequence: FrameSequence::new(rules), payload_left: 0 }
    }

    /// What may be inserted between what was forwarded so far and what comes next.
    pub fn edge(&self) -> Edge {
        match (self.payload_left, self.sequence.is_inside_message()) {
            (0, false) => Edge::Message,
            (0, true) => Edge::Frame,
            (_, _) => Edge::Inside,
        }
    }

    /// Whether a control frame may be inserted there.
    pub fn at_frame_edge(&self) -> bool {
        self.payload_left == 0
    }

    /// Walks `buf`: what was held of the last call, then what came since. Calls `on_frame` with each frame that may be
    /// dropped, once it is whole; the bytes behind a dropped one move up, so that what is forwarded is one piece at the
    /// front. Stops after `max_messages` messages.
    pub fn scan(
        &mut self,
        buf: &mut [u8],
        max_messages: u32,
        mut on_frame: impl FnMut(WholeFrame<'_>) -> Verdict,
    ) -> Scanned {
        // As most reads are.
        if max_messages > 1 && self.is_one_message(buf) {
            let all = buf.len();
            return Scanned {
                forward: all,
                edge: Some(all),
                held: all..all,
                messages: 1,
                frames: 1,
                controls: 0,
                outcome: Outcome::Open,
            };
        }
        // `buf[..forward]` is forwarded, `buf[at..]` is unread; between them lie the frames that were dropped.
        let (mut forward, mut at, mut messages) = (0, 0, 0);
        let (mut frames, mut controls) = (0, 0);
        let mut edge = self.at_frame_edge().then_some(0);
        let outcome = loop {
            if self.payload_left > 0 {
                if at == buf.len() {
                    break Outcome::Open;
                }
                let here = usize::try_from(self.payload_left)
                    .map_or(buf.len() - at, |left| left.min(buf.len() - at));
                pass(buf, &mut forward, &mut at, here);
                self.payload_left -= here as u64;
                if self.payload_left > 0 {
                    break Outcome::Open;
                }
                messages += u32::from(self.ends_message());
                edge = Some(forward);
            }
            if messages >= max_messages {
                break Outcome::LimitReached;
            }
            let header = match self.sequence.read_header(&buf[at..]) {
                Ok(Some(header)) => header,
                Ok(None) => break Outcome::Open,
                Err(error) => break Outcome::Invalid(error),
            };
            if self.is_intercepted(&header) {
                let end = at + header.size + header.payload as usize;
                let Some(payload) = buf.get(at + header.size..end) else { break Outcome::Open };
                let mut plain = [0; MAX_CONTROL_PAYLOAD];
                let plain = &mut plain[..payload.len()];
                plain.copy_from_slice(payload);
                if let Some(mask) = header.mask {
                    masking::apply(plain, mask);
                }
                frames += 1;
                let verdict = on_frame(WholeFrame { opcode: header.opcode, payload: plain });
                controls += u32::from(header.opcode.is_control() || verdict == Verdict::Drop);
                match verdict {
                    Verdict::Pass => {
                        let whole = end - at;
                        pass(buf, &mut forward, &mut at, whole);
                        messages += u32::from(header.opcode == Opcode::Text);
                        edge = Some(forward);
                    }
                    Verdict::Drop => at = end,
                }
                if header.opcode == Opcode::Close {
                    at = buf.len();
                    break Outcome::Closed;
                }
            } else {
                frames += 1;
                self.start_frame(&header);
                pass(buf, &mut forward, &mut at, header.size);
                if self.payload_left == 0 {
                    messages += u32::from(self.ends_message());
                    edge = Some(forward);
                }
            }
        };
        Scanned { forward, edge, held: at..buf.len(), messages, frames, controls, outcome }
    }

    /// Whether the present frame ends a message.
    fn ends_message(&self) -> bool {
        !self.sequence.is_inside_message()
    }

    /// Whether `buf` is one message in one frame that nobody wants to see.
    fn is_one_message(&self, buf: &[u8]) -> bool {
        self.at_frame_edge()
            && !self.sequence.rules().show_text
            && self.sequence.size_of_plain_message(buf) == Some(buf.len())
    }

    fn is_intercepted(&self, header: &Header) -> bool {
        header.opcode.is_control()
            || self.sequence.rules().show_text
                && header.opcode == Opcode::Text
                && header.fin
                && header.payload <= MAX_CONTROL_PAYLOAD as u64
    }

    /// A data frame begins.
    fn start_frame(&mut self, header: &Header) {
        self.payload_left = header.payload;
        self.sequence.start_frame(header);
    }
}

/// Forwards the next `n` unread bytes. Nothing is copied unless a frame was dropped before them.
fn pass(buf: &mut [u8], forward: &mut usize, at: &mut usize, n: usize) {
    if forward != at {
        buf.copy_within(*at..*at + n, *forward);
    }
    *forward += n;
    *at += n;
}

#[cfg(test)]
mod tests;
