//! Lists of words, where one word stands for a list that has nothing else in it: so it is written in an environment
//! variable, and by whoever has one host.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::StrDeserializer;
use serde::de::{Deserialize, Deserializer, SeqAccess, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::json;

use super::scalar::{Readable, Scalar};
use super::schema;

/// A list of words, or one of them.
#[derive(Debug, Clone)]
pub(crate) struct List<T>(pub(crate) Vec<Scalar<T>>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> List<T> {
    /// What [`Default`] of a section says.
    pub(crate) fn of(values: impl IntoIterator<Item = T>) -> Self {
        Self(values.into_iter().map(Scalar).collect())
    }
}

impl<T: Readable> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Readable> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Readable> Visitor<'de> for Either<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list, of which each is {}", T::accepted())
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<List<T>, E> {
                // What a template made of something that nobody filled in.
                if text.is_empty() {
                    return Err(E::invalid_value(Unexpected::Str(text), &self));
                }
                Scalar::deserialize(StrDeserializer::new(text)).map(|word| List(vec![word]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List<T>, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                Ok(List(words))
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

impl<T: Readable> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "List".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<Scalar<T>>();
        let list = schema::list_of(&item);
        let mut word = item;
        // An empty text is no list.
        word.insert("not".into(), json!({ "const": "" }));
        schema::any_of(&[word, list])
    }
}
