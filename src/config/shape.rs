//! Finds out what may stand at a key, without a value: a type tells its deserializer what it expects.
//!
//! Environment variables need it: whether `[::]:8080` is an address or the start of a list depends on the setting's
//! type.

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, Visitor};

/// What a type expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A map with these keys.
    Keys(&'static [&'static str]),
    /// A list, a map with any keys, or a value with several forms.
    Nested,
    /// Text.
    Text,
}

/// What `T` expects at `path`; `None` if it has no such key.
pub(crate) fn shape_at<T: DeserializeOwned>(path: &[String]) -> Option<Shape> {
    let mut shape = None;
    // There is no value, so this always fails; what the type asked for on the way is the answer.
    let _ = T::deserialize(ShapeQuery { path, shape: &mut shape }).map(drop);
    shape
}

struct ShapeQuery<'a> {
    path: &'a [String],
    shape: &'a mut Option<Shape>,
}

impl ShapeQuery<'_> {
    fn answer<T>(self, shape: Shape) -> Result<T, QueryError> {
        *self.shape = Some(shape);
        Err(serde::de::Error::custom("asked"))
    }
}

type QueryError = serde::de::value::Error;

impl<'de> Deserializer<'de> for ShapeQuery<'_> {
    type Error = QueryError;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, QueryError> {
        if self.path.is_empty() { self.answer(Shape::Keys(fields)) } else { visitor.visit_map(self) }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, QueryError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, QueryError> {
        self.answer(Shape::Nested)
    }

    fn deserialize_str<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, QueryError> {
        self.answer(Shape::Text)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// A map with one key, which is the next one of the path.
impl<'de> MapAccess<'de> for ShapeQuery<'_> {
    type Error = QueryError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, QueryError> {
        match self.path.first() {
            Some(key) => seed.deserialize(StrDeserializer::new(key)).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, QueryError> {
        let path = self.path.get(1..).unwrap_or_default();
        seed.deserialize(ShapeQuery { path, shape: self.shape })
    }
}
