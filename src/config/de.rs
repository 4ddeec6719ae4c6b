//! A [`Node`] as serde reads it, with errors that keep what was found and what is accepted apart.
//!
//! # Why not the deserializer of `config`?
//! It turns text into numbers and booleans by rules of its own (`yes` is `true`), tells an unknown
//! key only as a sentence, and takes a list for a map of settings.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde_path_to_error::Segment;

use super::error::{Problem, closest, quoted};
use super::tree::{Entry, Kind, Node, Step};

/// Why a node does not fit its type.
#[derive(Debug)]
pub(crate) struct TypeMismatch {
    pub(crate) path: Vec<Step>,
    pub(crate) problem: Problem,
}

/// Reads a `T`, up to the first value that does not fit.
pub(crate) fn read<T: DeserializeOwned>(node: &Node) -> Result<T, TypeMismatch> {
    serde_path_to_error::deserialize(node).map_err(|error| {
        let steps = error.path().iter().filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        });
        TypeMismatch { path: steps.collect(), problem: error.into_inner().0 }
    })
}

/// An error of serde, with what was found and what is accepted apart.
#[derive(Debug)]
pub(crate) struct Error(Problem);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Problem::Syntax(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, accepted: &dyn Expected) -> Self {
        Self::invalid_value(found, accepted)
    }

    fn invalid_value(found: Unexpected<'_>, accepted: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Str(text) => quoted(text),
            Unexpected::Unit => "null".into(),
            Unexpected::Seq => "a list".into(),
            Unexpected::Map => "a map".into(),
            other => other.to_string(),
        };
        // serde calls a list a sequence.
        let accepted = accepted.to_string().replace("a sequence", "a list");
        Self(Problem::Value { found, accepted })
    }

    fn unknown_field(field: &str, accepted: &'static [&'static str]) -> Self {
        let suggestions = closest(field, accepted.iter().copied()).map(str::to_owned).into_iter().collect();
        Self(Problem::UnknownKey { suggestions, accepted: accepted.join(", ") })
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Scalar(text) => visitor.visit_borrowed_str(text),
            Kind::List(list) => visitor.visit_seq(SeqDeserializer::new(list.iter())),
            Kind::Map(map) => visitor.visit_map(MapDeserializer::new(
                map.iter().map(|(key, Entry { node, .. })| (StrDeserializer::new(key), node)),
            )),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.kind {
            Kind::Null => visitor.visit_none(),
            Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.kind {
            // serde would read a list as the fields in order.
            Kind::List(_) => Err(serde::de::Error::invalid_type(Unexpected::Seq, &visitor)),
            // The scalar may belong into one of the fields, and may be a secret: it is not shown.
            Kind::Scalar(_) => Err(serde::de::Error::invalid_type(Unexpected::Other("a word"), &visitor)),
            Kind::Null | Kind::Map(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
