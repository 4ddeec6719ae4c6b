//! Decodes what a client sends.
//!
//! Where its messages end here they are scanned and never assembled; they are put together only where they go on to the
//! server.

use crate::config::Policy;
use crate::delivery::control::{ControlError, FromClient, Prefix};
use crate::frame::{
    Assembled, Assembler, CloseCode, Extensions, Kind, MAX_HELD, Opcode, Outcome, ProtocolError, Role, Rules,
    Scanned, Scanner, Verdict,
};

/// Something that a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ClientEvent<'a> {
    /// A ping, which is to be answered with this payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// A text that may be the answer of a JSON heartbeat; whether it was is answered.
    ShortText(&'a [u8]),
    /// A whole message, where such are wanted.
    Message(Kind, &'a [u8]),
    /// A control frame of the protocol among the messages, where that is spoken.
    Control(FromClient),
    /// A Close, with the reason in it.
    Close(CloseCode, &'a str),
}

/// What the bytes of one read came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Messages that ended here.
    pub(super) messages: u32,
    /// Frames that began.
    pub(super) frames: u32,
    /// Control frames among them, and texts that were a heartbeat's.
    pub(super) controls: u32,
    /// Texts that were control frames of the protocol among the messages.
    pub(super) control_texts: u32,
    /// The client broke a rule.
    pub(super) error: Option<ProtocolError>,
    /// It broke one of the protocol among the messages: the first one.
    pub(super) control_error: Option<ControlError>,
}

/// The beginning of a frame whose end has not come.
#[derive(Debug)]
pub(super) struct Partial {
    bytes: [u8; MAX_HELD],
    length: usize,
}

impl Partial {
    fn of(held: &[u8]) -> Option<Box<Self>> {
        if held.is_empty() {
            return None;
        }
        let mut partial = Self { bytes: [0; MAX_HELD], length: held.len() };
        partial.bytes[..held.len()].copy_from_slice(held);
        Some(Box::new(partial))
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The direction from one client to us.
#[derive(Debug)]
pub(super) enum InboundDecoder {
    /// Messages end here.
    Scan {
        scanner: Scanner,
        /// The beginning of a frame that has to be whole before it is looked at.
        partial: Option<Box<Partial>>,
    },
    /// Messages go on, or control frames are among them.
    Assemble(Box<Assembling>),
}

/// Messages are put together here.
#[derive(Debug)]
pub(super) struct Assembling {
    assembler: Assembler,
    /// What control frames begin with; `None`: there are none.
    prefix: Option<Prefix>,
    /// Whether messages are handed out.
    wants_messages: bool,
}

impl InboundDecoder {
    pub(super) fn new(policy: &Policy, has_deflate: bool, is_json: bool, wants_messages: bool) -> Self {
        let rules = rules(policy, has_deflate, is_json);
        if wants_messages {
            Self::assemble(Assembler::new(rules), None, true)
        } else {
            Self::Scan { scanner: Scanner::new(rules), partial: None }
        }
    }

    /// The same for a client whose control frames begin with `prefix`.
    pub(super) fn with_control(
        policy: &Policy,
        has_deflate: bool,
        wants_messages: bool,
        prefix: Prefix,
    ) -> Self {
        Self::assemble(Assembler::new(rules(policy, has_deflate, false)), Some(prefix), wants_messages)
    }

    fn assemble(assembler: Assembler, prefix: Option<Prefix>, wants_messages: bool) -> Self {
        Self::Assemble(Box::new(Assembling { assembler, prefix, wants_messages }))
    }

    /// What the client's control frames begin with.
    pub(super) fn prefix(&self) -> Option<&Prefix> {
        match self {
            Self::Scan { .. } => None,
            Self::Assemble(assembling) => assembling.prefix.as_ref(),
        }
    }

    /// Bytes that are kept between two reads.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Scan { partial, .. } => partial.as_ref().map_or(0, |partial| partial.bytes().len()),
            Self::Assemble(assembling) => assembling.assembler.held(),
        }
    }

    /// Whether messages are inflated here: what was read may come to a thousand times as much.
    pub(super) fn inflates(&self) -> bool {
        matches!(self, Self::Assemble(assembling) if assembling.assembler.inflates())
    }

    /// Decodes what was read into `buf[MAX_HELD..]`, and calls `on` for each event; `on` answers whether a
    /// [`ClientEvent::ShortText`] was a heartbeat's.
    pub(super) fn decode(&mut self, buf: &mut [u8], mut on: impl FnMut(ClientEvent<'_>) -> bool) -> Decoded {
        match self {
            Self::Scan { scanner, partial } => {
                let before = partial.take();
                let before = before.as_ref().map_or(&[][..], |before| before.bytes());
                let start = MAX_HELD - before.len();
                buf[start..MAX_HELD].copy_from_slice(before);
                let buf = &mut buf[start..];
                let scanned = scanner.scan(buf, u32::MAX, |whole| {
                    let is_own = match whole.opcode {
                        Opcode::Ping => on(ClientEvent::Ping(whole.payload)),
                        Opcode::Pong => on(ClientEvent::Pong(whole.payload)),
                        Opcode::Text => on(ClientEvent::ShortText(whole.payload)),
                        Opcode::Close => on(close(whole.payload)),
                        _ => false,
                    };
                    if is_own { Verdict::Drop } else { Verdict::Pass }
                });
                let error = match scanned.outcome {
                    Outcome::Open | Outcome::LimitReached => {
                        *partial = Partial::of(&buf[scanned.held]);
                        None
                    }
                    Outcome::Closed => None,
                    Outcome::Invalid(error) => Some(error),
                };
                let Scanned { messages, frames, controls, .. } = scanned;
                Decoded { messages, frames, controls, control_texts: 0, error, control_error: None }
            }
            Self::Assemble(assembling) => {
                let Assembling { assembler, prefix, wants_messages } = &mut **assembling;
                let (mut messages, mut controls) = (0, 0);
                let (mut control_texts, mut control_error) = (0, None);
                let result = assembler.push(&buf[MAX_HELD..], |assembled| match assembled {
                    Assembled::Message(kind, payload) => {
                        match prefix.as_ref().and_then(|prefix| FromClient::read(prefix, kind, payload)) {
                            Some(control) => {
                                control_texts += 1;
                                match control {
                                    // Nothing counts after what was broken.
                                    Ok(control) if control_error.is_none() => {
                                        on(ClientEvent::Control(control));
                                    }
                                    Ok(_) => {}
                                    Err(error) => control_error = control_error.or(Some(error)),
                                }
                                return;
                            }
                            None if control_error.is_some() => return,
                            None => {
                                let may_be_pong =
                                    prefix.is_none() && kind == Kind::Text && payload.len() < 126;
                                if may_be_pong && on(ClientEvent::ShortText(payload)) {
                                    controls += 1;
                                    return;
                                }
                            }
                        }
                        messages += 1;
                        if *wants_messages {
                            on(ClientEvent::Message(kind, payload));
                        }
                    }
                    Assembled::Ping(payload) => {
                        controls += 1;
                        on(ClientEvent::Ping(payload));
                    }
                    Assembled::Pong(payload) => {
                        controls += 1;
                        on(ClientEvent::Pong(payload));
                    }
                    Assembled::Close(_, payload) => {
                        controls += 1;
                        on(close(payload));
                    }
                });
                let frames = *result.as_ref().unwrap_or(&0);
                Decoded { messages, frames, controls, control_texts, error: result.err(), control_error }
            }
        }
    }
}

fn rules(policy: &Policy, has_deflate: bool, show_text: bool) -> Rules {
    Rules {
        sender: Role::Client,
        extensions: if has_deflate { Extensions::Deflate } else { Extensions::None },
        max_frame: policy.max_frame,
        max_message: policy.max_message,
        show_text,
    }
}

/// Whether a reason is UTF-8 was checked when the frame was read (RFC 6455 §5.5.1); one that is not counts as none.
fn close(payload: &[u8]) -> ClientEvent<'_> {
    let reason = payload.get(2..).and_then(|reason| std::str::from_utf8(reason).ok());
    ClientEvent::Close(CloseCode::from_payload(payload), reason.unwrap_or_default())
}
