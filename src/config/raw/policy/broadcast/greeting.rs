//! `policy.broadcast.greeting`: messages that a server is sent at each dial.

#[cfg(test)]
use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::config::model::Greeting;
use crate::config::problems::Problems;
use crate::config::raw::values::check;
use crate::config::raw::values::scalar::{Scalar, ScalarValue};
#[cfg(test)]
use crate::config::raw::values::schema;
use crate::config::raw::values::units::Bytes;

/// All of them are kept in memory while the server is dialled.
const MAX_MESSAGES: usize = 64;

/// The most bytes of all messages together.
const MAX_BYTES: usize = 256 << 10;

/// Reads base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One message: a text, or bytes as base64.
#[derive(Debug, Clone)]
pub(crate) enum RawGreeting {
    Text(Scalar<String>),
    Binary(RawBinary),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a map with base64")]
pub(crate) struct RawBinary {
    /// The bytes of a binary message
    base64: Option<Scalar<Base64>>,
}

/// Bytes, as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Base64(Vec<u8>);

impl ScalarValue for Base64 {
    fn accepted() -> String {
        "base64 (RFC 4648 §4), such as AAEC".into()
    }

    #[cfg(test)]
    fn schema() -> Schema {
        let mut base64 = schema::text();
        base64.insert("pattern".into(), "^[A-Za-z0-9+/]*={0,2}$".into());
        base64
    }

    fn read(text: &str) -> Option<Self> {
        BASE64.decode(text).ok().map(Self)
    }

    fn write(&self) -> String {
        BASE64.encode(&self.0)
    }
}

impl Serialize for RawGreeting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(serializer),
            Self::Binary(bytes) => bytes.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RawGreeting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct GreetingVisitor;

        impl<'de> Visitor<'de> for GreetingVisitor {
            type Value = RawGreeting;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or bytes as a map with base64, such as { base64: AAEC }")
            }

            fn visit_str<E>(self, text: &str) -> Result<RawGreeting, E> {
                Ok(RawGreeting::Text(Scalar(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawGreeting, A::Error> {
                RawBinary::deserialize(MapAccessDeserializer::new(map)).map(RawGreeting::Binary)
            }
        }

        deserializer.deserialize_any(GreetingVisitor)
    }
}

#[cfg(test)]
impl JsonSchema for RawGreeting {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Greeting".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema::any_of(&[schema::text(), generator.subschema_for::<RawBinary>()])
    }
}

impl RawGreeting {
    pub(crate) fn validate(self, problems: &mut Problems) -> Greeting {
        match self {
            Self::Text(text) => Greeting::Text(text.0),
            Self::Binary(RawBinary { base64: Some(bytes) }) => Greeting::Binary(bytes.0.0),
            Self::Binary(RawBinary { base64: None }) => {
                if !problems.has("base64") {
                    problems.refuse("base64", "nothing", Base64::accepted());
                }
                Greeting::Binary(Vec::new())
            }
        }
    }
}

/// Checks how many messages there are, and that each is as long as a client's may be.
pub(crate) fn check(greeting: &[Greeting], max_frame: Scalar<Bytes>, problems: &mut Problems) {
    const KEY: &str = "broadcast.greeting";
    if problems.has(KEY) {
        return;
    }
    if greeting.len() > MAX_MESSAGES {
        let accepted = format!("at most {MAX_MESSAGES} messages");
        return problems.refuse(KEY, format!("{} messages", greeting.len()), accepted);
    }
    let all: usize = greeting.iter().map(|message| message.payload().len()).sum();
    if all > MAX_BYTES {
        let accepted = format!("at most {} of messages together", Bytes(MAX_BYTES as u64).write());
        return problems.refuse(KEY, format!("{all} bytes"), accepted);
    }
    let longest = greeting.iter().enumerate().max_by_key(|(_, message)| message.payload().len());
    let Some((index, longest)) = longest else { return };
    let length = longest.payload().len();
    if problems.has("max_frame") || length as u64 <= max_frame.0.0 {
        return;
    }
    // On a route the problem is that of the key which the route sets.
    if problems.is_own("max_frame") && !problems.is_own(KEY) {
        let accepted = format!("at least {length} bytes, as the longest message of broadcast.greeting");
        problems.refuse("max_frame", check::shown(max_frame), accepted);
    } else {
        let accepted = format!("at most max_frame, {}", check::shown(max_frame));
        problems.within_item(KEY, index, |problems| {
            problems.refuse("", format!("{length} bytes"), accepted);
        });
    }
}
