//! Settings that are one word: what may be written, and how it is written back.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Expected, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

use super::schema;
use super::units::{Bytes, LARGEST};
use crate::config::Secret;

/// A value that is written as one word.
pub(crate) trait Readable: Sized {
    /// Whether what was written may be shown.
    const SECRET: bool = false;

    /// What a reader may write, for messages.
    fn accepted() -> String;

    /// `None`: not one of those.
    fn read(text: &str) -> Option<Self>;

    /// Reads back as the same value; `***` for a secret.
    fn write(&self) -> String;

    /// What `null` means, if it means something here.
    fn null() -> Option<Self> {
        None
    }

    /// What may be written, for editors. It takes at least what [`Self::read`] does; null is added by whoever asks.
    fn schema() -> Schema {
        schema::text()
    }
}

/// A setting of one word, as serde reads and writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scalar<T>(pub(crate) T);

impl<'de, T: Readable> Deserialize<'de> for Scalar<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Word(PhantomData)).map(Self)
    }
}

impl<T: Readable> Serialize for Scalar<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.write())
    }
}

impl<T: Readable> JsonSchema for Scalar<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let schema = T::schema();
        if T::null().is_some() { schema::or_null(schema) } else { schema }
    }
}

struct Word<T>(PhantomData<T>);

impl<T: Readable> Visitor<'_> for Word<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&T::accepted())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        let found =
            if T::SECRET { Unexpected::Other("a value that is not shown") } else { Unexpected::Str(text) };
        T::read(text).ok_or_else(|| E::invalid_value(found, &self as &dyn Expected))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<T, E> {
        T::null().ok_or_else(|| E::invalid_type(Unexpected::Unit, &self as &dyn Expected))
    }
}

/// [`Readable`] for an enum whose variants are words. Those that come `later` are read, so that whoever validates can
/// say so, and told to nobody as accepted.
macro_rules! words {
    ($type:ty { $($variant:ident = $word:literal),+ $(,)? }
        $(later { $($later:ident = $later_word:literal),+ $(,)? })?) => {
        impl $crate::config::raw::scalar::Readable for $type {
            fn accepted() -> String {
                [$($word),+].join(" | ")
            }

            fn read(text: &str) -> Option<Self> {
                // Helm and YAML 1.1 write `off` as `false`.
                match if text == "false" { "off" } else { text } {
                    $($word => Some(Self::$variant),)+
                    $($($later_word => Some(Self::$later),)+)?
                    _ => None,
                }
            }

            fn write(&self) -> String {
                match self { $(Self::$variant => $word,)+ $($(Self::$later => $later_word,)+)? }.to_owned()
            }

            fn schema() -> schemars::Schema {
                $crate::config::raw::schema::words(&[$($word),+])
            }
        }
    };
}
pub(crate) use words;

impl Readable for bool {
    fn accepted() -> String {
        "true | false".into()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(&self) -> String {
        self.to_string()
    }

    fn schema() -> Schema {
        schema::words(&["true", "false"])
    }
}

impl Readable for String {
    fn accepted() -> String {
        "text".into()
    }

    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn write(&self) -> String {
        self.clone()
    }
}

impl Readable for PathBuf {
    fn accepted() -> String {
        "a path".into()
    }

    fn read(text: &str) -> Option<Self> {
        (!text.is_empty() && !text.contains('\0')).then(|| text.into())
    }

    fn write(&self) -> String {
        self.display().to_string()
    }

    fn schema() -> Schema {
        let mut path = schema::text();
        path.insert("minLength".into(), 1.into());
        path
    }
}

impl Readable for SocketAddr {
    fn accepted() -> String {
        "an IP address and a port, such as 0.0.0.0:8080 or [::]:8080".into()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(&self) -> String {
        self.to_string()
    }

    fn schema() -> Schema {
        schema::pattern(r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[.+\]):[0-9]{1,5}$")
    }
}

impl Readable for u32 {
    fn accepted() -> String {
        "a whole number".into()
    }

    fn read(text: &str) -> Option<Self> {
        digits(text)?.parse().ok()
    }

    fn write(&self) -> String {
        self.to_string()
    }

    fn schema() -> Schema {
        schema::whole(0..=u64::from(u32::MAX), "^[0-9]+$")
    }
}

impl Readable for Secret {
    const SECRET: bool = true;

    fn accepted() -> String {
        "visible ASCII characters without spaces, as they go into a header; null is none".into()
    }

    fn read(text: &str) -> Option<Self> {
        let fit = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        (fit && !is_a_slip(text)).then(|| Self::new(text.to_owned()))
    }

    fn write(&self) -> String {
        "***".into()
    }

    fn schema() -> Schema {
        let mut secret = schema::text();
        secret.insert("pattern".into(), "^[!-~]+$".into());
        secret
    }
}

/// Whether it is what somebody writes who means no token, or forgets to fill one in: anybody could guess it. Files of
/// variables keep quotes (`TOKEN=""`), and templates that nobody filled in their names.
fn is_a_slip(text: &str) -> bool {
    let bare = text.trim_matches(['"', '\'']);
    let is_name = |open: &str, close: &str| bare.starts_with(open) && bare.ends_with(close);
    bare.is_empty()
        || ["null", "off", "false", "none", "~"].iter().any(|word| bare.eq_ignore_ascii_case(word))
        || is_name("${", "}")
        || is_name("{{", "}}")
}

/// Worker threads: a number, or as many as there are cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workers {
    Auto,
    Count(u32),
}

impl Readable for Workers {
    fn accepted() -> String {
        "auto, or a number from 1 to 1024".into()
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            _ => u32::read(text).filter(|count| (1..=1024).contains(count)).map(Self::Count),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Auto => "auto".into(),
            Self::Count(count) => count.to_string(),
        }
    }

    fn schema() -> Schema {
        schema::whole(1..=1024, "^(auto|[0-9]+)$")
    }
}

/// `listen.max_idle_http`: a number from 1, or one that follows another setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MaxIdle {
    Auto,
    Count(u32),
}

impl Readable for MaxIdle {
    fn accepted() -> String {
        "auto, or a whole number from 1".into()
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            _ => u32::read(text).filter(|count| *count > 0).map(Self::Count),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Auto => "auto".into(),
            Self::Count(count) => count.to_string(),
        }
    }

    fn schema() -> Schema {
        schema::whole(1..=u64::from(u32::MAX), "^(auto|[0-9]+)$")
    }
}

/// `memory.max_buffered`: a size, or a share of what the container may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MaxBuffered {
    Auto,
    Size(Bytes),
}

impl Readable for MaxBuffered {
    fn accepted() -> String {
        format!("auto, or {}", Bytes::accepted())
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            _ => Bytes::read(text).map(Self::Size),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Auto => "auto".into(),
            Self::Size(size) => size.write(),
        }
    }

    fn schema() -> Schema {
        schema::whole(0..=LARGEST, "^(auto|[0-9]+(B|KiB|MiB|GiB)?)$")
    }
}

/// A close code an endpoint may send (RFC 6455 §7.4): 1004, 1005, 1006 and 1015 never go over the
/// wire, 1016 to 2999 are not assigned, and 4999 is the last one there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CloseCode(pub(crate) u16);

impl Readable for CloseCode {
    fn accepted() -> String {
        "a close code: 1000 to 1014 without 1004, 1005 and 1006, or 3000 to 4999".into()
    }

    fn read(text: &str) -> Option<Self> {
        let code = digits(text)?.parse().ok()?;
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(Self(code))
    }

    fn write(&self) -> String {
        self.0.to_string()
    }

    fn schema() -> Schema {
        let mut code = schema::whole(1000..=4999, "^0*(100[0-37-9]|101[0-4]|[34][0-9]{3})$");
        code.insert("not".into(), serde_json::json!({ "enum": [1004, 1005, 1006] }));
        code
    }
}

/// Codes of a server's Close: one, or all from one to another. 1005 stands for a Close without a code (RFC 6455
/// §7.1.5); a server that says a code which nobody may say is held against it as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CloseCodes(pub(crate) RangeInclusive<u16>);

impl Readable for CloseCodes {
    fn accepted() -> String {
        "a close code from 1000 to 4999, or a range of them, such as 1008 or 3000-4999; 1005 is a Close without one"
            .into()
    }

    fn schema() -> Schema {
        schema::whole(1000..=4999, "^[0-9]+( *- *[0-9]+)?$")
    }

    fn read(text: &str) -> Option<Self> {
        let code = |text: &str| -> Option<u16> {
            let code = digits(text)?.parse().ok()?;
            (1000..=4999).contains(&code).then_some(code)
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (code(first.trim_end())?, code(last.trim_start())?),
            None => (code(text)?, code(text)?),
        };
        (first <= last).then_some(Self(first..=last))
    }

    fn write(&self) -> String {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    }
}

/// `text`, if it is nothing but digits: `parse` would take `+5` too.
pub(super) fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}
