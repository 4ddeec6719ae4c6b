//! Lists of words, where a single word stands for a list of it alone, as it is written in an environment variable.
//!
//! # Invariants
//! 1. No word that switches something off or on elsewhere ([`SWITCHES`]) stands for a list: `hosts: off` would keep every
//!    host away from a route, and from what guards it. In brackets it is a word like any other.

#[cfg(test)]
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::StrDeserializer;
use serde::de::{Deserialize, Deserializer, SeqAccess, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};
#[cfg(test)]
use serde_json::json;

use crate::config::raw::values::scalar::{Scalar, ScalarValue};
#[cfg(test)]
use crate::config::raw::values::schema;

/// Words that are not meant as the only entry of a list, and that YAML 1.1 or Helm may write one for another.
const SWITCHES: [&str; 6] = ["off", "on", "false", "true", "no", "yes"];

/// Whether a word is one of [`SWITCHES`], in any case.
pub(crate) fn is_switch(word: &str) -> bool {
    SWITCHES.iter().any(|switch| word.eq_ignore_ascii_case(switch))
}

/// A list of words, or one of them.
#[derive(Debug, Clone)]
pub(crate) struct List<T>(pub(crate) Vec<Scalar<T>>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> List<T> {
    /// For the [`Default`] of a section.
    pub(crate) fn of(values: impl IntoIterator<Item = T>) -> Self {
        Self(values.into_iter().map(Scalar).collect())
    }
}

impl<T: ScalarValue> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: ScalarValue> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);

        impl<'de, T: ScalarValue> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list, of which each is {}", T::accepted())
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<List<T>, E> {
                if is_switch(text) {
                    let accepted =
                        format!("a list, of which each is {}: if it is one, in brackets", T::accepted());
                    return Err(E::invalid_value(Unexpected::Str(text), &accepted.as_str()));
                }
                // A template makes an empty text of a value that is not there.
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

        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

#[cfg(test)]
impl<T: ScalarValue> JsonSchema for List<T> {
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
        // As an editor reads these words.
        let mut others = vec![json!(""), json!(false), json!(true)];
        others.extend(SWITCHES.map(|switch| json!(switch)));
        word.insert("not".into(), json!({ "enum": others }));
        schema::any_of(&[word, list])
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    use super::*;

    #[test]
    fn one_word_is_a_list_unless_it_switches_something_off_or_on_elsewhere() {
        let hosts = |written: &str| {
            let read = Config::from_yaml(&format!("routes: [{{ path: /a, hosts: {written} }}]"));
            read.map(|config| config.routes[0].hosts.clone()).map_err(|errors| errors.to_string())
        };
        assert_eq!(hosts("a.example").unwrap(), ["a.example"]);
        for switch in SWITCHES {
            for written in [switch.to_owned(), switch.to_ascii_uppercase(), format!("'{switch}'")] {
                let told = hosts(&written).unwrap_err();
                assert!(told.contains("accepted: a list"), "{written}: {told}");
            }
            assert_eq!(hosts(&format!("[{switch}]")).unwrap(), [switch]);
        }
    }
}
