//! Asks a type what may stand at a key, without a value: serde tells a deserializer what it would
//! like to read.
//!
//! The environment needs it: whether `[::]:8080` is an address or the start of a list depends on
//! who reads it.

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, Visitor};

/// What a type reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A map with these keys.
    Keys(&'static [&'static str]),
    /// A list, a map with any keys, or something that takes several forms.
    Nested,
    /// Text.
    Text,
}

/// What `T` reads at `path`; `None`: it knows no such key.
pub(crate) fn shape_at<T: DeserializeOwned>(path: &[String]) -> Option<Shape> {
    let mut shape = None;
    // There is no value, so this always fails: what was asked for on the way is the answer.
    let _ = T::deserialize(Probe { path, shape: &mut shape }).map(drop);
    shape
}

struct Probe<'a> {
    path: &'a [String],
    shape: &'a mut Option<Shape>,
}

impl Probe<'_> {
    fn answer<T>(self, shape: Shape) -> Result<T, Asked> {
        *self.shape = Some(shape);
        Err(serde::de::Error::custom("asked"))
    }
}

type Asked = serde::de::value::Error;

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Asked;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Asked> {
        if self.path.is_empty() { self.answer(Shape::Keys(fields)) } else { visitor.visit_map(self) }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Asked> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Asked> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Asked> {
        self.answer(Shape::Nested)
    }

    fn deserialize_str<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Asked> {
        self.answer(Shape::Text)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// A map with one key, the next of the path.
impl<'de> MapAccess<'de> for Probe<'_> {
    type Error = Asked;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Asked> {
        match self.path.first() {
            Some(key) => seed.deserialize(StrDeserializer::new(key)).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Asked> {
        let path = self.path.get(1..).unwrap_or_default();
        seed.deserialize(Probe { path, shape: self.shape })
    }
}
