//! Settings of one scalar: how they are read and written.

#[cfg(test)]
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;

#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Expected, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

#[cfg(test)]
use crate::config::raw::values::schema;

/// A value that is written as one scalar.
pub(crate) trait ScalarValue: Sized {
    /// Whether errors must not show what was written.
    const SECRET: bool = false;

    /// What may be written, for error messages.
    fn accepted() -> String;

    /// `None` if `text` is not one of those.
    fn read(text: &str) -> Option<Self>;

    /// Text that reads back as the same value; `***` for a secret.
    fn write(&self) -> String;

    /// The value of `null`, if that is accepted.
    fn null() -> Option<Self> {
        None
    }

    /// What may be written, for editors: at least what [`Self::read`] accepts. The caller adds null.
    #[cfg(test)]
    fn schema() -> Schema {
        schema::text()
    }
}

/// A setting of one scalar, as serde reads and writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scalar<T>(pub(crate) T);

impl<'de, T: ScalarValue> Deserialize<'de> for Scalar<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Word(PhantomData)).map(Self)
    }
}

impl<T: ScalarValue> Serialize for Scalar<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.write())
    }
}

#[cfg(test)]
impl<T: ScalarValue> JsonSchema for Scalar<T> {
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

impl<T: ScalarValue> Visitor<'_> for Word<T> {
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

/// [`ScalarValue`] for an enum whose variants are words.
macro_rules! words {
    ($type:ty { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $crate::config::raw::values::scalar::ScalarValue for $type {
            fn accepted() -> String {
                [$($word),+].join(" | ")
            }

            fn read(text: &str) -> Option<Self> {
                // Helm and YAML 1.1 write `off` as `false`.
                match if text == "false" { "off" } else { text } {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }

            fn write(&self) -> String {
                match self { $(Self::$variant => $word,)+ }.to_owned()
            }

            #[cfg(test)]
            fn schema() -> schemars::Schema {
                $crate::config::raw::values::schema::words(&[$($word),+])
            }
        }
    };
}
pub(crate) use words;

impl ScalarValue for bool {
    fn accepted() -> String {
        "true | false".into()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(&self) -> String {
        self.to_string()
    }

    #[cfg(test)]
    fn schema() -> Schema {
        schema::words(&["true", "false"])
    }
}

impl ScalarValue for String {
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

impl ScalarValue for PathBuf {
    fn accepted() -> String {
        "a path".into()
    }

    fn read(text: &str) -> Option<Self> {
        (!text.is_empty() && !text.contains('\0')).then(|| text.into())
    }

    fn write(&self) -> String {
        self.display().to_string()
    }

    #[cfg(test)]
    fn schema() -> Schema {
        let mut path = schema::text();
        path.insert("minLength".into(), 1.into());
        path
    }
}

impl ScalarValue for SocketAddr {
    fn accepted() -> String {
        "an IP address and a port, such as 0.0.0.0:8080 or [::]:8080".into()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(&self) -> String {
        self.to_string()
    }

    #[cfg(test)]
    fn schema() -> Schema {
        schema::pattern(r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[.+\]):[0-9]{1,5}$")
    }
}

impl ScalarValue for u32 {
    fn accepted() -> String {
        "a whole number".into()
    }

    fn read(text: &str) -> Option<Self> {
        digits(text)?.parse().ok()
    }

    fn write(&self) -> String {
        self.to_string()
    }

    #[cfg(test)]
    fn schema() -> Schema {
        schema::whole(0..=u64::from(u32::MAX), "^[0-9]+$")
    }
}

/// `text`, if it consists of digits: `parse` would accept `+5` too.
pub(crate) fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}
