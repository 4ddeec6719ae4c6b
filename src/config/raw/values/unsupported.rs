//! Settings of features that are not built: every key is known, so that a typing mistake is found and nothing is
//! silently ignored, but only the default is accepted.
//!
//! When a feature is built, its keys get types of their own and leave this module.
//!
//! # Why refuse them?
//! Whoever sets a limit and is not told that it does nothing believes that it holds.

#[cfg(test)]
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value};

#[cfg(test)]
use crate::config::raw::values::schema::UNSUPPORTED;

/// A value as it was written; maps in it have no other keys than those of `K`.
pub(crate) struct Unsupported<K = Word> {
    value: Value,
    keys: PhantomData<K>,
}

/// The keys that maps in a value may have.
pub(crate) trait Keys {
    const KEYS: Known;
}

/// Keys of a map, and the keys of the maps below them.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    names: &'static [&'static str],
    /// The keys below each of `names`; shorter where the rest are words.
    inner: &'static [Known],
}

/// A word, or a list of words.
pub(crate) struct Word;

impl<K> Unsupported<K> {
    /// A word.
    pub(crate) fn word(text: &str) -> Self {
        Self { value: Value::String(text.to_owned()), keys: PhantomData }
    }
}

/// `null`.
impl<K> Default for Unsupported<K> {
    fn default() -> Self {
        Self { value: Value::Null, keys: PhantomData }
    }
}

impl<K> Clone for Unsupported<K> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), keys: PhantomData }
    }
}

impl<K> fmt::Debug for Unsupported<K> {
    /// Does not show the value: there may be a password in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Later")
    }
}

impl<K> Serialize for Unsupported<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<'de, K: Keys> Deserialize<'de> for Unsupported<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        K::KEYS.deserialize(deserializer).map(|value| Self { value, keys: PhantomData })
    }
}

#[cfg(test)]
impl<K> JsonSchema for Unsupported<K> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Later".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ UNSUPPORTED: true })
    }
}

impl<'de> DeserializeSeed<'de> for Known {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Known {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.names.is_empty() {
            return f.write_str("a word or a list of words");
        }
        write!(f, "a map with the keys {}", self.names.join(", "))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        if self.names.is_empty() {
            return Err(serde::de::Error::invalid_type(serde::de::Unexpected::Map, &self));
        }
        let mut values = Map::new();
        while let Some(key) = map.next_key_seed(Name(self.names))? {
            let inner = self.names.iter().position(|name| *name == key).and_then(|at| self.inner.get(at));
            values.insert(key.to_owned(), map.next_value_seed(inner.copied().unwrap_or(WORD))?);
        }
        Ok(Value::Object(values))
    }
}

/// One of these keys.
struct Name(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<&'static str, E> {
        let known = self.0.iter().find(|name| **name == key);
        known.copied().ok_or_else(|| E::unknown_field(key, self.0))
    }
}

const WORD: Known = Known { names: &[], inner: &[] };

impl Keys for Word {
    const KEYS: Known = WORD;
}

/// A type that stands for the keys of one setting.
macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident: $names:expr, $inner:expr;)+) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl Keys for $name {
            const KEYS: Known = Known { names: $names, inner: $inner };
        }
    )+};
}

keys! {
    /// `policy.session.identity`
    Identity: &["discriminator"], &[];
    /// `store.disk`
    Disk: &["path"], &[];
    /// `store.redis`
    Redis: &["url", "prefix", "ttl"], &[];
}

/// Sections whose fields are all [`Unsupported`]: their keys, and the default of each.
macro_rules! unsupported_sections {
    ($($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty = $default:expr),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[serde(default, deny_unknown_fields, expecting = "a map of settings")]
        pub(crate) struct $name {
            $($key: $type),+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default),+ }
            }
        }
    )+};
}
pub(crate) use unsupported_sections;
