//! Which character of a request's target is none that can be passed on.
//!
//! hyper refuses a target without saying what is wrong with it, and drops its bytes. So what is read from the socket is
//! shown to a [`RequestLine`] on its way, which remembers one character and
//! nothing else: targets carry credentials.
//!
//! # Invariants
//! 1. A path and query in which it finds nothing is one that the library takes, and the other way round; a property test
//!    and a fuzzer hold it to that.
//! 2. It finds the same however the bytes are cut.
//!
//! # Why are `"`, `<`, `>` and `` ` `` refused where hyper refuses them, and not passed on?
//! The type that carries a target through hyper on both hops cannot hold them. A parser of our own beside it would
//! have to agree with hyper's on where each head begins. If they were escaped for the client, the server would see
//! another target than was asked for.
//!
//! # Not here
//! A verdict: the library has the say, this explains it.

use std::fmt;

/// A byte that cannot stand in a target as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Character(pub u8);

impl Character {
    /// How it is written in a target.
    pub fn escaped(self) -> String {
        format!("%{:02X}", self.0)
    }
}

impl fmt::Display for Character {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            byte @ 0x21..=0x7e => write!(f, "the character {}", char::from(byte)),
            byte @ 0x80.. => write!(f, "the byte 0x{byte:02X}, which is no UTF-8 there"),
            byte => write!(f, "the control character 0x{byte:02X}"),
        }
    }
}

/// Follows the first line of a request from byte to byte.
#[derive(Debug, Clone, Default)]
pub struct RequestLine {
    position: Position,
    /// The beginning of a character of UTF-8 that is not whole yet.
    partial: [u8; 4],
    length: usize,
    found: Option<Character>,
}

/// Where in the line it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Position {
    /// Before the method: empty lines are passed over (RFC 9112 §2.2).
    #[default]
    Before,
    Method,
    /// At the first byte of the target.
    Target,
    /// In a URL, before its path; how many slashes have come.
    Url(u8),
    Path,
    Query,
    /// Behind the target.
    After,
}

impl RequestLine {
    /// Takes what came next.
    pub fn read(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.position == Position::After {
                return;
            }
            self.step(*byte);
        }
    }

    /// The first character that must not be where it is.
    pub fn found(&self) -> Option<Character> {
        self.found
    }

    fn step(&mut self, byte: u8) {
        self.position = match (self.position, byte) {
            (Position::Before, b'\r' | b'\n') => Position::Before,
            (Position::Before | Position::Method, byte) if is_token(byte) => Position::Method,
            (Position::Method, b' ') => Position::Target,
            (Position::Before | Position::Method, _) => Position::After,
            // Its end, or that of all that is looked at: the library cuts a fragment off unread.
            (_, b' ' | b'\r' | b'\n' | b'#') => {
                self.cut();
                Position::After
            }
            (Position::Target, b'/') => Position::Path,
            (Position::Target, b'?' | b'*') => Position::After,
            (Position::Target, _) => Position::Url(0),
            // `http://host/`: the third slash begins the path.
            (Position::Url(2), b'/') => Position::Path,
            (Position::Url(slashes), b'/') => Position::Url(slashes + 1),
            (Position::Url(2), b'?') => Position::Query,
            (Position::Url(slashes), _) => Position::Url(slashes),
            (position @ (Position::Path | Position::Query), byte) => self.character(position, byte),
            (Position::After, _) => Position::After,
        };
    }

    fn character(&mut self, position: Position, byte: u8) -> Position {
        if byte >= 0x80 {
            return self.piece(position, byte);
        }
        self.cut();
        if self.found.is_some() {
            return Position::After;
        }
        match (position, byte) {
            (Position::Path, b'?') => Position::Query,
            (_, byte) if is_allowed(position, byte) => position,
            (_, byte) => self.find(byte),
        }
    }

    /// One more byte of a character beyond ASCII.
    fn piece(&mut self, position: Position, byte: u8) -> Position {
        let Some(free) = self.partial.get_mut(self.length) else { return self.find(byte) };
        *free = byte;
        self.length += 1;
        match std::str::from_utf8(&self.partial[..self.length]) {
            Ok(_) => self.length = 0,
            Err(error) if error.error_len().is_none() => {}
            Err(_) => return self.find(self.partial[0]),
        }
        position
    }

    /// What has begun of a character goes no further.
    fn cut(&mut self) {
        if self.length > 0 {
            self.find(self.partial[0]);
        }
    }

    fn find(&mut self, byte: u8) -> Position {
        self.found.get_or_insert(Character(byte));
        Position::After
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What of ASCII the library takes as it is; more than RFC 3986 has, for clients that do not escape.
fn is_allowed(position: Position, byte: u8) -> bool {
    let is_refused = match position {
        Position::Query => b"\"<>".contains(&byte),
        _ => b"<>`".contains(&byte),
    };
    (0x21..=0x7e).contains(&byte) && !is_refused
}
