//! The control frames of a client. Pure.

use serde::Deserialize;
use serde::de::{Error, Unexpected};

use super::{MAX_CONTROL_TEXT, Prefix};
use crate::frame::Kind;
use crate::net::own_protocols::MAX_SAFE_INTEGER;

/// One control frame of a client. Members that are not known are ignored: a later version may have them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FromClient {
    /// The number of the newest message that the client has had.
    #[serde(deserialize_with = "number")]
    pub seen: Option<u64>,
    /// A question, to be answered with the same number.
    #[serde(deserialize_with = "number")]
    pub ping: Option<u64>,
    /// The answer to one.
    #[serde(deserialize_with = "number")]
    pub pong: Option<u64>,
    /// Whether the session is to be held although a Close follows: a page cannot send the code that says so by itself.
    #[serde(deserialize_with = "flag")]
    pub detach: bool,
}

/// What a control frame breaks. The link is closed for it, as for a frame that breaks RFC 6455.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Longer than any.
    #[error("a control frame of more than 512 bytes")]
    TooLong,
    /// Not one JSON object, or a member that has not the type it has to have.
    #[error("a control frame that cannot be read")]
    Malformed,
    /// `seen` is less than it was.
    #[error("a client has seen less than before")]
    Backwards,
    /// `seen` is more than was ever sent.
    #[error("a client has seen what was not sent")]
    Ahead,
}

impl FromClient {
    /// What a message says to this proxy; `None`: it is for the server.
    ///
    /// # Errors
    /// It has the prefix, and is no control frame.
    pub fn read(prefix: &Prefix, kind: Kind, payload: &[u8]) -> Option<Result<Self, ControlError>> {
        if kind != Kind::Text {
            return None;
        }
        let rest = prefix.rest(payload)?;
        if payload.len() > MAX_CONTROL_TEXT {
            return Some(Err(ControlError::TooLong));
        }
        // A list would be taken for the members in their order.
        let is_object = rest.trim_ascii_start().first() == Some(&b'{');
        let read = serde_json::from_slice(rest).ok().filter(|_| is_object);
        Some(read.ok_or(ControlError::Malformed))
    }
}

/// A number that JavaScript has exactly. Null is as if the member were not there.
fn number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<u64>::deserialize(from)?;
    match number {
        Some(number) if number > MAX_SAFE_INTEGER => {
            Err(D::Error::invalid_value(Unexpected::Unsigned(number), &"a number up to 2^53 - 1"))
        }
        number => Ok(number),
    }
}

fn flag<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(Option::<bool>::deserialize(from)?.unwrap_or_default())
}
