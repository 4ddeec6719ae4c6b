//! A [`Node`] as serde reads it, with errors that say where they arose, and keep what was found and what is accepted
//! apart.
//!
//! # Why not the deserializer of `config`?
//! It turns text into numbers and booleans by rules of its own (`yes` is `true`), tells an unknown
//! key only as a sentence, and takes a list for a map of settings.
//!
//! # Why not `serde_path_to_error`?
//! It wraps every visitor and every seed, and each of them is compiled once for each type of a setting. What walks a
//! tree knows where it is: an error gets its path on its way out.

use std::collections::btree_map;
use std::iter::Enumerate;
use std::{fmt, slice};

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};

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
    T::deserialize(node).map_err(|error| {
        let mut mismatch = *error.0;
        mismatch.path.reverse();
        mismatch
    })
}

/// An error of serde, with what was found and what is accepted apart. Its path begins with the innermost step until
/// [`read`] turns it round. In a box, since every reader of a setting hands on a result of it.
#[derive(Debug)]
pub(crate) struct Error(Box<TypeMismatch>);

impl Error {
    fn new(problem: Problem) -> Self {
        Self(Box::new(TypeMismatch { path: Vec::new(), problem }))
    }

    /// The same error, seen from the map or list around.
    fn under(mut self, step: Step) -> Self {
        self.0.path.push(step);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.problem.fmt(f)
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Problem::Syntax(message.to_string()))
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
        Self::new(Problem::Value { found, accepted })
    }

    fn unknown_field(field: &str, accepted: &'static [&'static str]) -> Self {
        let suggestions = closest(field, accepted.iter().copied()).map(str::to_owned).into_iter().collect();
        Self::new(Problem::UnknownKey { suggestions, accepted: accepted.join(", ") })
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Scalar(text) => visitor.visit_borrowed_str(text),
            Kind::List(list) => visitor.visit_seq(Elements(list.iter().enumerate())),
            Kind::Map(map) => visitor.visit_map(Entries { rest: map.iter(), value: None }),
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

/// The elements of a list.
struct Elements<'de>(Enumerate<slice::Iter<'de, Node>>);

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((index, node)) = self.0.next() else { return Ok(None) };
        seed.deserialize(node).map(Some).map_err(|error| error.under(Step::Index(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The entries of a map. An error of a key has the same path as one of its value.
struct Entries<'de> {
    rest: btree_map::Iter<'de, String, Entry>,
    /// Of the key that was read last, until it is read.
    value: Option<(&'de str, &'de Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, Entry { node, .. })) = self.rest.next() else { return Ok(None) };
        self.value = Some((key, node));
        let read = seed.deserialize(StrDeserializer::new(key));
        read.map(Some).map_err(|error: Error| error.under(Step::Key(key.clone())))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((key, node)) = self.value.take() else {
            return Err(serde::de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(node).map_err(|error| error.under(Step::Key(key.to_owned())))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}
