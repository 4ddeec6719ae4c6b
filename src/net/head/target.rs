//! Which character of a request's target is none that can be passed on.
//!
//! The library that reads heads refuses a target without a word about what is wrong with it, and lets go of its bytes.
//! So whoever reads them from the socket shows them to a [`RequestLine`] on their way, which remembers one character and
//! nothing else: targets carry credentials.
//!
//! # Invariants
//! 1. A path and query in which it finds nothing is one that the library takes, and the other way round; a property test
//!    and a fuzzer hold it to that.
//! 2. It finds the same however the bytes are cut.
//!
//! # Not here
//! A verdict: the library has the say, this explains it.

use std::fmt;

use http::Uri;
use http::uri::PathAndQuery;

use super::HeadFault;

/// Gives a URL without a path, `http://host?query`, the one that it means (RFC 9112 §3.2.1): `/`.
pub(super) fn settle_path(uri: &mut Uri) -> Result<(), HeadFault> {
    let Some(query) = uri.path_and_query().map(PathAndQuery::as_str).filter(|text| text.starts_with('?'))
    else {
        return Ok(());
    };
    let target = PathAndQuery::try_from(format!("/{query}")).map_err(|_| HeadFault::Target)?;
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(target);
    *uri = Uri::from_parts(parts).map_err(|_| HeadFault::Target)?;
    Ok(())
}

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
    place: Place,
    /// The beginning of a character of UTF-8 that is not whole yet.
    partial: [u8; 4],
    length: usize,
    found: Option<Character>,
}

/// Where in the line it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
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
            if self.place == Place::After {
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
        self.place = match (self.place, byte) {
            (Place::Before, b'\r' | b'\n') => Place::Before,
            (Place::Before | Place::Method, byte) if is_token(byte) => Place::Method,
            (Place::Method, b' ') => Place::Target,
            (Place::Before | Place::Method, _) => Place::After,
            // Its end, or that of all that is looked at: the library cuts a fragment off unread.
            (_, b' ' | b'\r' | b'\n' | b'#') => {
                self.cut();
                Place::After
            }
            (Place::Target, b'/') => Place::Path,
            (Place::Target, b'?' | b'*') => Place::After,
            (Place::Target, _) => Place::Url(0),
            // `http://host/`: the third slash begins the path.
            (Place::Url(2), b'/') => Place::Path,
            (Place::Url(slashes), b'/') => Place::Url(slashes + 1),
            (Place::Url(2), b'?') => Place::Query,
            (Place::Url(slashes), _) => Place::Url(slashes),
            (place @ (Place::Path | Place::Query), byte) => self.character(place, byte),
            (Place::After, _) => Place::After,
        };
    }

    fn character(&mut self, place: Place, byte: u8) -> Place {
        if byte >= 0x80 {
            return self.piece(place, byte);
        }
        self.cut();
        if self.found.is_some() {
            return Place::After;
        }
        match (place, byte) {
            (Place::Path, b'?') => Place::Query,
            (_, byte) if is_allowed(place, byte) => place,
            (_, byte) => self.find(byte),
        }
    }

    /// One more byte of a character beyond ASCII.
    fn piece(&mut self, place: Place, byte: u8) -> Place {
        let Some(free) = self.partial.get_mut(self.length) else { return self.find(byte) };
        *free = byte;
        self.length += 1;
        match std::str::from_utf8(&self.partial[..self.length]) {
            Ok(_) => self.length = 0,
            Err(error) if error.error_len().is_none() => {}
            Err(_) => return self.find(self.partial[0]),
        }
        place
    }

    /// What has begun of a character goes no further.
    fn cut(&mut self) {
        if self.length > 0 {
            self.find(self.partial[0]);
        }
    }

    fn find(&mut self, byte: u8) -> Place {
        self.found.get_or_insert(Character(byte));
        Place::After
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What of ASCII the library takes as it is; more than RFC 3986 has, for clients that do not escape.
fn is_allowed(place: Place, byte: u8) -> bool {
    let is_refused = match place {
        Place::Query => b"\"<>".contains(&byte),
        _ => b"<>`".contains(&byte),
    };
    (0x21..=0x7e).contains(&byte) && !is_refused
}
