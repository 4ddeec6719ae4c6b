//! Walks the frames of one direction of a connection, in place.
//!
//! # Invariants
//! 1. What [`Scanned::forward`] covers ends where a header begins or inside a payload, never inside a
//!    header: so after a protocol error the receiving side is always at a frame edge, and a Close can still be sent to it.
//! 2. Any way of cutting a stream into calls forwards the same bytes (property test).
//! 3. Control frames (and, where asked for, short final text frames) are shown whole before any byte of
//!    them goes on, so that they can be lifted out. Until then they are *held*: at most [`MAX_HELD`]
//!    bytes, which the caller puts in front of the next bytes.
//! 4. After a Close frame or a fault nothing is forwarded any more (RFC 6455 §5.5.1).
//!
//! # Not here
//! Payloads of data frames: they are neither unmasked nor inflated nor checked for UTF-8; the peers do.

use std::ops::Range;

use super::control::MAX_CONTROL_PAYLOAD;
use super::header::{Header, Opcode, ProtocolError};
use super::masking;
use super::rules::{FrameSequence, Rules};

/// The longest beginning of a frame that is ever held back: one byte less than a masked control frame.
pub const MAX_HELD: usize = 2 + 4 + MAX_CONTROL_PAYLOAD - 1;

/// A frame that is shown whole.
#[derive(Debug, PartialEq, Eq)]
pub struct WholeFrame<'a> {
    /// What it is: a control opcode, or [`Opcode::Text`] where [`Rules::show_text`] asks for it.
    pub opcode: Opcode,
    /// Unmasked.
    pub payload: &'a [u8],
}

/// What becomes of a [`WholeFrame`] frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as it is.
    Pass,
    /// It ends here.
    Drop,
}

/// Where a stream of frames stands (RFC 6455 §5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// Between messages: anything may follow.
    Message,
    /// Between the fragments of a message: control frames may follow.
    Frame,
    /// Inside a frame: nothing may.
    Inside,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All was read; more may come.
    Open,
    /// As many messages as were allowed have ended; the rest is held, however long it is.
    Enough,
    /// A Close frame was seen. What came after it is ignored, and so is all that may still come.
    Closed,
    /// The sender broke a rule. What came before it may go on, nothing else.
    Faulty(ProtocolError),
}

/// What a stretch of bytes came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Scanned {
    /// `buf[..forward]` may be written on as it stands.
    pub forward: usize,
    /// Where in that stretch the last frame edge lies: its end, unless its last frame is unfinished;
    /// nowhere, if all of it is from the inside of one frame.
    pub edge: Option<usize>,
    /// `buf[held]` comes again in front of the next bytes.
    pub held: Range<usize>,
    /// Data messages that ended.
    pub messages: u32,
    /// Frames that began, those that were lifted out among them.
    pub frames: u32,
    /// Control frames among them, and texts that were lifted out: those are the same in another form.
    pub controls: u32,
    /// What next.
    pub outcome: Outcome,
}

/// The state of one direction: where in a frame and in a message it stands.
#[derive(Debug)]
pub struct Scanner {
    sequence: FrameSequence,
    /// Payload bytes of the present frame that have not come yet.
    payload_left: u64,
    /// Whether the present frame ends a message.
    ends_message: bool,
}

impl Scanner {
    /// At the first byte after the handshake.
    pub fn new(rules: Rules) -> Self {
        Self { sequence: FrameSequence::new(rules), payload_left: 0, ends_message: false }
    }

    /// What may be put between what was forwarded so far and what comes next.
    pub fn edge(&self) -> Edge {
        match (self.payload_left, self.sequence.is_inside_message()) {
            (0, false) => Edge::Message,
            (0, true) => Edge::Frame,
            (_, _) => Edge::Inside,
        }
    }

    /// Whether a control frame may be put there.
    pub fn at_frame_edge(&self) -> bool {
        self.payload_left == 0
    }

    /// Walks `buf`: what was held of the last call, then what came since. Bytes that are lifted out are
    /// closed up, so that what goes on is one stretch at the front. Stops after `most` messages.
    pub fn scan(
        &mut self,
        buf: &mut [u8],
        most: u32,
        mut judge: impl FnMut(WholeFrame<'_>) -> Verdict,
    ) -> Scanned {
        // `buf[..forward]` is settled, `buf[at..]` is unread; between them lies what was lifted out.
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
                messages += u32::from(self.ends_message);
                edge = Some(forward);
            }
            if messages >= most {
                break Outcome::Enough;
            }
            let header = match self.sequence.read_header(&buf[at..]) {
                Ok(Some(header)) => header,
                Ok(None) => break Outcome::Open,
                Err(fault) => break Outcome::Faulty(fault),
            };
            if self.is_shown(&header) {
                let end = at + header.size + header.payload as usize;
                let Some(payload) = buf.get(at + header.size..end) else { break Outcome::Open };
                let mut plain = [0; MAX_CONTROL_PAYLOAD];
                let plain = &mut plain[..payload.len()];
                plain.copy_from_slice(payload);
                if let Some(mask) = header.mask {
                    masking::apply(plain, mask);
                }
                frames += 1;
                let verdict = judge(WholeFrame { opcode: header.opcode, payload: plain });
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
                self.enter(&header);
                pass(buf, &mut forward, &mut at, header.size);
                if self.payload_left == 0 {
                    messages += u32::from(self.ends_message);
                    edge = Some(forward);
                }
            }
        };
        Scanned { forward, edge, held: at..buf.len(), messages, frames, controls, outcome }
    }

    fn is_shown(&self, header: &Header) -> bool {
        header.opcode.is_control()
            || self.sequence.rules().show_text
                && header.opcode == Opcode::Text
                && header.fin
                && header.payload <= MAX_CONTROL_PAYLOAD as u64
    }

    /// Takes a data frame's header into the state.
    fn enter(&mut self, header: &Header) {
        self.payload_left = header.payload;
        self.ends_message = header.fin;
        self.sequence.enter(header);
    }
}

/// Moves the next `n` unread bytes to the settled ones. Nothing is copied unless something was lifted
/// out of this stretch before.
fn pass(buf: &mut [u8], forward: &mut usize, at: &mut usize, n: usize) {
    if forward != at {
        buf.copy_within(*at..*at + n, *forward);
    }
    *forward += n;
    *at += n;
}

#[cfg(test)]
mod tests;
