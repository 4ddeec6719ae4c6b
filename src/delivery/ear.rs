//! What a client of a feed says.
//!
//! Where its messages end here they are walked over and never assembled; only where they go to the server are they
//! put together.

use crate::config::Policy;
use crate::frame::{
    Assembler, CloseCode, Extensions, Heard, Kind, MAX_HELD, Opcode, Outcome, ProtocolError, Role, Rules,
    Scanned, Scanner, Verdict,
};

/// Something that a client said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// It wants a pong with this payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// A text that may be its half of a JSON heartbeat; whether it was is to be answered.
    ShortText(&'a [u8]),
    /// A whole message, where such are wanted.
    Message(Kind, &'a [u8]),
    /// Its last word.
    Close(CloseCode),
}

/// How a stretch was taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Messages that ended here.
    pub(super) messages: u32,
    /// Frames that began.
    pub(super) frames: u32,
    /// Control frames among them, and texts that were a heartbeat's.
    pub(super) controls: u32,
    /// The client broke a rule.
    pub(super) fault: Option<ProtocolError>,
}

/// What came of a frame.
#[derive(Debug)]
pub(super) struct Begun {
    bytes: [u8; MAX_HELD],
    length: usize,
}

impl Begun {
    fn of(held: &[u8]) -> Option<Box<Self>> {
        if held.is_empty() {
            return None;
        }
        let mut begun = Self { bytes: [0; MAX_HELD], length: held.len() };
        begun.bytes[..held.len()].copy_from_slice(held);
        Some(Box::new(begun))
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// One client's direction towards us.
#[derive(Debug)]
pub(super) enum Ear {
    /// Messages end here.
    Walk {
        scanner: Scanner,
        /// The beginning of a frame that has to be whole first, while its end has not come.
        begun: Option<Box<Begun>>,
    },
    /// Messages go on.
    Gather(Box<Assembler>),
}

impl Ear {
    pub(super) fn new(policy: &Policy, has_deflate: bool, is_json: bool, wants_messages: bool) -> Self {
        let rules = Rules {
            sender: Role::Client,
            extensions: if has_deflate { Extensions::Deflate } else { Extensions::None },
            max_frame: policy.max_frame,
            max_message: policy.max_message,
            show_text: is_json,
        };
        if wants_messages {
            Self::Gather(Box::new(Assembler::new(rules)))
        } else {
            Self::Walk { scanner: Scanner::new(rules), begun: None }
        }
    }

    /// Bytes that are kept.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Walk { begun, .. } => begun.as_ref().map_or(0, |begun| begun.bytes().len()),
            Self::Gather(assembler) => assembler.held(),
        }
    }

    /// Whether messages are inflated here: what was read may come to a thousand times as much.
    pub(super) fn inflates(&self) -> bool {
        matches!(self, Self::Gather(assembler) if assembler.inflates())
    }

    /// Takes what was read into `buf[MAX_HELD..]`, and tells `on` what it comes to; `on` answers whether a
    /// [`Said::ShortText`] was a heartbeat's.
    pub(super) fn take(&mut self, buf: &mut [u8], mut on: impl FnMut(Said<'_>) -> bool) -> Taken {
        match self {
            Self::Walk { scanner, begun } => {
                let before = begun.take();
                let before = before.as_ref().map_or(&[][..], |before| before.bytes());
                let start = MAX_HELD - before.len();
                buf[start..MAX_HELD].copy_from_slice(before);
                let buf = &mut buf[start..];
                let scanned = scanner.scan(buf, u32::MAX, |whole| {
                    let is_own = match whole.opcode {
                        Opcode::Ping => on(Said::Ping(whole.payload)),
                        Opcode::Pong => on(Said::Pong(whole.payload)),
                        Opcode::Text => on(Said::ShortText(whole.payload)),
                        Opcode::Close => on(Said::Close(CloseCode::from_payload(whole.payload))),
                        _ => false,
                    };
                    if is_own { Verdict::Drop } else { Verdict::Pass }
                });
                let fault = match scanned.outcome {
                    Outcome::Open | Outcome::Enough => {
                        *begun = Begun::of(&buf[scanned.held]);
                        None
                    }
                    Outcome::Closed => None,
                    Outcome::Faulty(fault) => Some(fault),
                };
                let Scanned { messages, frames, controls, .. } = scanned;
                Taken { messages, frames, controls, fault }
            }
            Self::Gather(assembler) => {
                let (mut messages, mut controls) = (0, 0);
                let result = assembler.push(&buf[MAX_HELD..], |heard| match heard {
                    Heard::Message(kind, payload) => {
                        if kind == Kind::Text && payload.len() < 126 && on(Said::ShortText(payload)) {
                            controls += 1;
                            return;
                        }
                        messages += 1;
                        on(Said::Message(kind, payload));
                    }
                    Heard::Ping(payload) => {
                        controls += 1;
                        on(Said::Ping(payload));
                    }
                    Heard::Pong(payload) => {
                        controls += 1;
                        on(Said::Pong(payload));
                    }
                    Heard::Close(code, _) => {
                        controls += 1;
                        on(Said::Close(code));
                    }
                });
                let frames = *result.as_ref().unwrap_or(&0);
                Taken { messages, frames, controls, fault: result.err() }
            }
        }
    }
}
