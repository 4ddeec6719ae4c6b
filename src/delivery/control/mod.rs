//! The protocol that clients with the subprotocol `outrigger.v1` speak with this proxy, among the messages of their server:
//! what is written and read of it. Pure, but for random bytes.
//!
//! The first message of such a link is the [`Hello`]. From then on a text that begins with the link's [`Prefix`] is a control
//! frame: [`FromProxy`] or [`FromClient`], one JSON object each. All others are the application's, whatever they say.
//!
//! # Invariants
//! 1. Both sides count whole data messages, text or binary, empty ones too, and neither the hello nor a control frame.
//! 2. The prefix is new with every link, and nobody can guess it: no message that somebody else wrote is taken for a control
//!    frame.
//! 3. A control frame has at most [`MAX_CONTROL_TEXT`] bytes, and no number above what JavaScript has exactly.
//! 4. A message of the application costs a look at its first byte.
//!
//! # Not here
//! What a subprotocol entry is ([`crate::net::own_protocols`]), and a ticket ([`crate::session`]); when something is sent.

mod counting;
mod from_client;
mod from_proxy;
mod hello;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub use self::from_client::{ControlError, FromClient};

pub(crate) use self::counting::{Acknowledgements, Confirmed};
pub(crate) use self::from_proxy::{Bye, FromProxy, LossCause};
pub(crate) use self::hello::{Hello, Missed};

use crate::net::random_bytes;

/// The longest control frame, with its prefix.
pub const MAX_CONTROL_TEXT: usize = 512;

/// The length of a prefix.
const PREFIX_LENGTH: usize = 16;

/// What the control frames of one link begin with. Its first character begins no JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Prefix([u8; PREFIX_LENGTH]);

impl Prefix {
    /// One that nobody can guess: 84 random bits.
    pub(crate) fn random() -> Self {
        let mut text = [b'A'; PREFIX_LENGTH];
        // 14 characters of the 15 that 11 bytes are: the last one has two bits only.
        let mut encoded = [b'A'; PREFIX_LENGTH];
        let _ = URL_SAFE_NO_PAD.encode_slice(random_bytes::<11>(), &mut encoded);
        text[1..PREFIX_LENGTH - 1].copy_from_slice(&encoded[..PREFIX_LENGTH - 2]);
        text[0] = b'~';
        text[PREFIX_LENGTH - 1] = b':';
        Self(text)
    }

    /// Of these characters, for tests that know it.
    pub fn new(text: [u8; PREFIX_LENGTH]) -> Option<Self> {
        let is_one = text[0] == b'~' && text[PREFIX_LENGTH - 1] == b':' && text.is_ascii();
        is_one.then_some(Self(text))
    }

    /// The characters.
    pub(crate) fn as_str(&self) -> &str {
        // ASCII, however it was made.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// What follows the prefix in `payload`; `None`: it is a message of the application.
    fn rest<'a>(&self, payload: &'a [u8]) -> Option<&'a [u8]> {
        match payload {
            [b'~', ..] => payload.strip_prefix(&self.0),
            _ => None,
        }
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prefix(***)")
    }
}

#[cfg(test)]
mod tests;
