//! The entries of `Sec-WebSocket-Protocol` that are for this proxy: found, taken out, and which of them is answered. Pure.
//!
//! A page can set no header of a handshake but this one. Whatever begins with `outrigger.` is ours: a version of the
//! protocol that the client speaks, the ticket of a session that it resumes, a token.
//!
//! # Invariants
//! 1. The server behind sees none of them, whatever the route and its mode, well formed or not: some are secrets, and
//!    none is a subprotocol of its own. The others stay in their order; a header with nothing left is removed.
//! 2. What is answered was offered (RFC 6455 §4.2.2), and is never an entry that carries something.
//! 3. Nothing that a client sent here is shown by `Debug`.
//!
//! # Not here
//! Whether a ticket is valid ([`crate::session`]), and a token ([`crate::admission`]).

use std::fmt;

use http::{HeaderMap, HeaderValue, header};

/// What all entries of ours begin with.
const PREFIX: &[u8] = b"outrigger.";
/// The client speaks the protocol of sessions.
const V1: &str = "outrigger.v1";
/// Nothing of the protocol of sessions happens here.
const PLAIN: &str = "outrigger.plain";
/// Stands before a token.
const BEARER: &str = "outrigger.bearer";

/// The largest number that JavaScript has exactly: no number on the wire is above it.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The length of a ticket: 45 bytes in base64url.
pub(crate) const TICKET_LENGTH: usize = 60;
/// The length of a nonce: 16 bytes in base64url.
const NONCE_LENGTH: usize = 22;

/// The entries of ours that a handshake had.
#[derive(Debug, Default)]
pub struct OwnProtocols {
    has_v1: bool,
    has_plain: bool,
    nonce: Once<Nonce>,
    resume: Once<Resume>,
    /// What followed each `outrigger.bearer`.
    bearer: Option<Vec<Token>>,
}

/// What a client wants to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// A session.
    Session {
        /// Not verified.
        ticket: TicketText,
        /// The number of the last message that the client has had.
        seen: u64,
    },
    /// A feed, whose log is everybody's.
    Feed {
        /// Which log it was.
        epoch: u64,
        /// The number of the last message that the client has had.
        seen: u64,
    },
    /// One that cannot be read, or one of several.
    Malformed,
}

/// The form of a ticket: 60 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TicketText(Base64Url<TICKET_LENGTH>);

/// What a client recognizes the hello of its own handshake by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce(Base64Url<NONCE_LENGTH>);

/// So many characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Base64Url<const N: usize>([u8; N]);

#[derive(PartialEq, Eq)]
struct Token(Box<[u8]>);

/// An entry that may stand there once.
#[derive(Debug, Default, PartialEq, Eq)]
enum Once<T> {
    #[default]
    Missing,
    One(T),
    /// Several, or one that cannot be read.
    Malformed,
}

impl<T> Once<T> {
    fn add(&mut self, value: Option<T>) {
        *self = match (&self, value) {
            (Self::Missing, Some(value)) => Self::One(value),
            _ => Self::Malformed,
        };
    }
}

impl OwnProtocols {
    /// Takes all of them out of `headers`; `None`: there is none, and nothing was changed.
    ///
    /// Works on bytes: a line that is not text must not carry anything of ours past this.
    pub fn take(headers: &mut HeaderMap) -> Option<Box<Self>> {
        let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
        let entries = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        let mut entries = entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()).peekable();
        let mut own: Option<Box<Self>> = None;
        let mut others: Vec<&[u8]> = Vec::new();
        while let Some(entry) = entries.next() {
            let Some(name) = entry.strip_prefix(PREFIX) else {
                others.push(entry);
                continue;
            };
            let own = own.get_or_insert_default();
            if entry == BEARER.as_bytes() {
                let token = entries.next_if(|token| !token.starts_with(PREFIX)).unwrap_or_default();
                own.bearer.get_or_insert_default().push(Token(token.into()));
            } else {
                own.add(name);
            }
        }
        let own = own?;
        match HeaderValue::from_bytes(&others.join(&b", "[..])) {
            Ok(others) if !others.is_empty() => headers.insert(header::SEC_WEBSOCKET_PROTOCOL, others),
            _ => headers.remove(header::SEC_WEBSOCKET_PROTOCOL),
        };
        Some(own)
    }

    /// One entry, without what all of them begin with.
    fn add(&mut self, name: &[u8]) {
        if name == &V1.as_bytes()[PREFIX.len()..] {
            self.has_v1 = true;
        } else if name == &PLAIN.as_bytes()[PREFIX.len()..] {
            self.has_plain = true;
        } else if let Some(nonce) = name.strip_prefix(b"nonce.") {
            self.nonce.add(Nonce::read(nonce));
        } else if let Some(resume) = name.strip_prefix(b"resume.") {
            self.resume.add(Resume::read(resume));
        }
        // Any other one is of a later version, or a mistake: it is taken out, and nothing comes of it.
    }

    /// Whether the client speaks the protocol of sessions.
    pub fn speaks_v1(&self) -> bool {
        self.has_v1
    }

    /// What the hello repeats. Without a version of the protocol there is no hello.
    pub fn nonce(&self) -> Option<&Nonce> {
        match &self.nonce {
            Once::One(nonce) if self.has_v1 => Some(nonce),
            _ => None,
        }
    }

    /// What the client wants to go on with.
    pub fn resume(&self) -> Option<Resume> {
        match &self.resume {
            _ if !self.has_v1 => None,
            Once::Missing => None,
            Once::One(resume) => Some(*resume),
            Once::Malformed => Some(Resume::Malformed),
        }
    }

    /// What followed each `outrigger.bearer`, the empty one included.
    pub fn bearer_tokens(&self) -> impl Iterator<Item = &[u8]> {
        self.bearer.iter().flatten().map(|token| &*token.0)
    }

    /// What is answered where messages go through as they are, if the server has chosen nothing: browsers fail a
    /// handshake that offered something and was answered nothing.
    pub fn answer_of_tunnel(&self) -> Option<&'static str> {
        let plain = self.has_plain.then_some(PLAIN);
        plain.or(self.has_v1.then_some(V1)).or(self.bearer.is_some().then_some(BEARER))
    }

    /// The same where the protocol of sessions is spoken.
    pub fn answer_of_session(&self) -> Option<&'static str> {
        self.has_v1.then_some(V1).or_else(|| self.answer_of_tunnel())
    }
}

impl Resume {
    /// What follows `outrigger.resume.`
    fn read(text: &[u8]) -> Option<Self> {
        let dot = text.iter().position(|byte| *byte == b'.')?;
        let (what, seen) = (&text[..dot], read_number(&text[dot + 1..])?);
        match what {
            [b'-', epoch @ ..] => Some(Self::Feed { epoch: read_epoch(epoch)?, seen }),
            ticket => Some(Self::Session { ticket: TicketText::read(ticket)?, seen }),
        }
    }
}

/// Decimal digits without a leading zero, of a number that JavaScript has.
pub(crate) fn read_number(text: &[u8]) -> Option<u64> {
    let is_one = matches!(text, [b'0'] | [b'1'..=b'9', ..]) && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| is_one)?.parse().ok()?;
    (number <= MAX_SAFE_INTEGER).then_some(number)
}

/// The epoch of a log, as it is shown everywhere: 16 digits.
pub(crate) fn read_epoch(text: &[u8]) -> Option<u64> {
    let is_one = text.len() == 16 && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let text = std::str::from_utf8(text).ok().filter(|_| is_one)?;
    u64::from_str_radix(text, 16).ok()
}

impl<const N: usize> Base64Url<N> {
    fn read(text: &[u8]) -> Option<Self> {
        let text = <[u8; N]>::try_from(text).ok()?;
        let is_one = text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        is_one.then_some(Self(text))
    }

    fn as_str(&self) -> &str {
        // Always ASCII: see `read`.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl TicketText {
    /// `None`: `text` has not the form of a ticket.
    pub fn read(text: &[u8]) -> Option<Self> {
        Base64Url::read(text).map(Self)
    }

    /// The characters.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Nonce {
    fn read(text: &[u8]) -> Option<Self> {
        Base64Url::read(text).map(Self)
    }

    /// The characters.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for TicketText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketText(***)")
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(***)")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests;
