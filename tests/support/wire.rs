//! WebSocket frames as bytes: builds any frame, malformed ones too, and reads whatever arrives.
//!
//! The decoder judges nothing (a reserved opcode, a mask on the wrong side, a length in too long a
//! form): it reports what was there, and the test decides whether that is right.

use bytes::{Buf, BytesMut};

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;

/// RSV1, as permessage-deflate uses it; RSV2 and RSV3 are `0b010` and `0b001`.
pub const RSV1: u8 = 0b100;

/// Which end of a connection writes a frame: clients mask, servers do not (RFC 6455 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// How a frame's payload is masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masking {
    /// As RFC 6455 wants it of the writer's [`Role`].
    ByRole,
    /// With this key, whoever writes it.
    Key([u8; 4]),
    /// Not, whoever writes it.
    Never,
}

/// How a frame's length is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// In the shortest form, as RFC 6455 §5.2 wants it.
    Minimal,
    /// In two bytes, whatever it is.
    U16,
    /// In eight bytes, whatever it is.
    U64,
    /// This number in its shortest form, whatever the payload: a lie, or a frame cut short.
    Claimed(u64),
}

/// One frame, to be sent or as it came; the payload is unmasked either way.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    /// The three reserved bits, [`RSV1`] highest.
    pub rsv: u8,
    pub opcode: u8,
    pub masking: Masking,
    pub length: Length,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Self {
            fin: true,
            rsv: 0,
            opcode,
            masking: Masking::ByRole,
            length: Length::Minimal,
            payload: payload.as_ref().to_vec(),
        }
    }

    pub fn text(text: impl AsRef<str>) -> Self {
        Self::new(TEXT, text.as_ref())
    }

    pub fn binary(payload: impl AsRef<[u8]>) -> Self {
        Self::new(BINARY, payload)
    }

    pub fn ping(payload: impl AsRef<[u8]>) -> Self {
        Self::new(PING, payload)
    }

    pub fn pong(payload: impl AsRef<[u8]>) -> Self {
        Self::new(PONG, payload)
    }

    pub fn close(code: u16, reason: &str) -> Self {
        Self::new(CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat())
    }

    /// A Close without a code (RFC 6455 §7.1.5: the other side reports 1005).
    pub fn empty_close() -> Self {
        Self::new(CLOSE, [])
    }

    /// A message in as many frames as there are parts.
    pub fn fragments(opcode: u8, parts: &[&[u8]]) -> Vec<Self> {
        let last = parts.len().saturating_sub(1);
        let fragment = |(index, part): (usize, &&[u8])| {
            let frame = Self::new(if index == 0 { opcode } else { CONTINUATION }, part);
            if index == last { frame } else { frame.not_final() }
        };
        parts.iter().enumerate().map(fragment).collect()
    }

    #[must_use]
    pub fn not_final(mut self) -> Self {
        self.fin = false;
        self
    }

    #[must_use]
    pub fn rsv(mut self, bits: u8) -> Self {
        self.rsv = bits;
        self
    }

    #[must_use]
    pub fn masked(mut self, key: [u8; 4]) -> Self {
        self.masking = Masking::Key(key);
        self
    }

    #[must_use]
    pub fn unmasked(mut self) -> Self {
        self.masking = Masking::Never;
        self
    }

    #[must_use]
    pub fn length(mut self, length: Length) -> Self {
        self.length = length;
        self
    }

    /// The frame on the wire, as `role` would write it.
    pub fn encode(&self, role: Role) -> Vec<u8> {
        let key = match (self.masking, role) {
            (Masking::Key(key), _) => Some(key),
            (Masking::ByRole, Role::Client) => Some(fastrand::u32(..).to_be_bytes()),
            (Masking::ByRole, Role::Server) | (Masking::Never, _) => None,
        };
        let mut out = Vec::with_capacity(self.payload.len() + 14);
        out.push(u8::from(self.fin) << 7 | (self.rsv & 0b111) << 4 | self.opcode & 0x0f);
        let mask_bit = if key.is_some() { 0x80 } else { 0 };
        let actual = self.payload.len() as u64;
        let (number, bytes) = match self.length {
            Length::Minimal => (actual, minimal_length_bytes(actual)),
            Length::Claimed(claimed) => (claimed, minimal_length_bytes(claimed)),
            Length::U16 => (actual, 2),
            Length::U64 => (actual, 8),
        };
        match bytes {
            0 => out.push(mask_bit | number as u8),
            2 => {
                out.push(mask_bit | 126);
                out.extend(u16::try_from(number).expect("two bytes hold at most 65535").to_be_bytes());
            }
            _ => {
                out.push(mask_bit | 127);
                out.extend(number.to_be_bytes());
            }
        }
        match key {
            Some(key) => {
                out.extend(key);
                let start = out.len();
                out.extend_from_slice(&self.payload);
                apply_mask(&mut out[start..], key);
            }
            None => out.extend_from_slice(&self.payload),
        }
        out
    }

    pub fn is_control(&self) -> bool {
        self.opcode >= 0x8
    }

    /// Whether it came with a mask.
    pub fn is_masked(&self) -> bool {
        matches!(self.masking, Masking::Key(_))
    }

    /// The payload as text; panics where it is none.
    #[track_caller]
    pub fn as_text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap_or_else(|_| panic!("{self:?} is not UTF-8"))
    }

    /// Code and reason of a Close; 1005 where it carries none (RFC 6455 §7.1.5).
    #[track_caller]
    pub fn close_status(&self) -> (u16, String) {
        assert_eq!(self.opcode, CLOSE, "{self:?} is not a Close");
        match *self.payload.as_slice() {
            [] => (1005, String::new()),
            [_] => panic!("a Close with half a code: {self:?}"),
            [high, low, ref reason @ ..] => {
                let reason = String::from_utf8(reason.to_vec()).expect("a close reason must be UTF-8");
                (u16::from_be_bytes([high, low]), reason)
            }
        }
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.opcode {
            CONTINUATION => "continuation",
            TEXT => "text",
            BINARY => "binary",
            CLOSE => "close",
            PING => "ping",
            PONG => "pong",
            _ => "reserved opcode",
        };
        write!(f, "[{name}")?;
        if !self.fin {
            write!(f, " not final")?;
        }
        if self.rsv != 0 {
            write!(f, " rsv {:03b}", self.rsv)?;
        }
        if self.length != Length::Minimal {
            write!(f, " length {:?}", self.length)?;
        }
        if self.opcode == CLOSE && self.payload.len() >= 2 {
            write!(f, " {}", u16::from_be_bytes([self.payload[0], self.payload[1]]))?;
        }
        let shown = &self.payload[..self.payload.len().min(40)];
        write!(f, " {} bytes \"{}\"]", self.payload.len(), shown.escape_ascii())
    }
}

/// Cuts frames out of bytes as they arrive.
#[derive(Default)]
pub struct Decoder {
    /// What came and was not taken yet. HTTP heads are cut out of the same bytes before the frames are.
    pub buffer: BytesMut,
}

impl Decoder {
    /// The next whole frame, if it is all there.
    pub fn take(&mut self) -> Option<Frame> {
        let [first, second, ..] = *self.buffer else { return None };
        let (form, header) = match second & 0x7f {
            126 => (Length::U16, 4),
            127 => (Length::U64, 10),
            _ => (Length::Minimal, 2),
        };
        let masked = second & 0x80 != 0;
        let header_with_key = header + if masked { 4 } else { 0 };
        if self.buffer.len() < header_with_key {
            return None;
        }
        let length = match form {
            Length::U16 => u64::from(u16::from_be_bytes([self.buffer[2], self.buffer[3]])),
            Length::U64 => self.buffer[2..10].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            Length::Minimal | Length::Claimed(_) => u64::from(second & 0x7f),
        };
        let length_on_wire = usize::try_from(length).ok()?;
        if self.buffer.len() - header_with_key < length_on_wire {
            return None;
        }
        let key = masked.then(|| [0, 1, 2, 3].map(|index| self.buffer[header + index])).map(Masking::Key);
        self.buffer.advance(header_with_key);
        let mut payload = self.buffer.split_to(length_on_wire).to_vec();
        if let Some(Masking::Key(key)) = key {
            apply_mask(&mut payload, key);
        }
        let shortest = match minimal_length_bytes(length) {
            0 => Length::Minimal,
            2 => Length::U16,
            _ => Length::U64,
        };
        Some(Frame {
            fin: first & 0x80 != 0,
            rsv: first >> 4 & 0b111,
            opcode: first & 0x0f,
            masking: key.unwrap_or(Masking::Never),
            length: if form == shortest { Length::Minimal } else { form },
            payload,
        })
    }
}

/// How many extension bytes the shortest form of this length takes.
fn minimal_length_bytes(length: u64) -> usize {
    match length {
        0..=125 => 0,
        126..=0xffff => 2,
        _ => 8,
    }
}

fn apply_mask(payload: &mut [u8], key: [u8; 4]) {
    for (byte, key) in payload.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}
