//! `policy.history`: what is kept of what a server sends.

#[cfg(test)]
use std::borrow::Cow;
use std::fmt;

#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::config::model::{History, OnJoin};
use crate::config::problems::Problems;
use crate::config::raw::values::check;
use crate::config::raw::values::matching::RawMatch;
use crate::config::raw::values::scalar::{Scalar, ScalarValue, words};
#[cfg(test)]
use crate::config::raw::values::schema;
use crate::config::raw::values::units::{Bytes, Span};
use crate::config::raw::values::unsupported::Unsupported;

/// `policy.history`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawHistory {
    messages: Scalar<u32>,
    bytes: Scalar<Bytes>,
    age: Scalar<Span>,
    critical: Option<RawMatch>,
    on_join: RawOnJoin,
    store: Unsupported,
}

impl Default for RawHistory {
    fn default() -> Self {
        Self {
            messages: Scalar(1000),
            bytes: Scalar(Bytes(1 << 20)),
            age: Scalar(Span::secs(3600)),
            critical: None,
            on_join: RawOnJoin::Word(Scalar(OnJoinWord::None)),
            store: Unsupported::word("memory"),
        }
    }
}

impl RawHistory {
    pub(crate) fn validate(self, problems: &mut Problems) -> History {
        let defaults = Self::default();
        let Self { messages, bytes, age, critical, on_join, store } = self;
        problems.refuse_unless_default("store", &store, &defaults.store);
        check::at_least_one("messages", messages, problems);
        check::not_empty("bytes", bytes, problems);
        check::positive("age", age, problems);
        History {
            messages: messages.0 as usize,
            bytes: bytes.0.0 as usize,
            age: age.0.0,
            critical: critical
                .and_then(|rule| problems.within("critical", |problems| rule.validate(problems))),
            on_join: problems.within("on_join", |problems| on_join.validate(problems)),
        }
    }
}

/// `policy.history.on_join`: a word, or `{ last: N }`.
#[derive(Debug, Clone)]
enum RawOnJoin {
    Word(Scalar<OnJoinWord>),
    Last(RawLast),
}

impl Serialize for RawOnJoin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Word(word) => word.serialize(serializer),
            Self::Last(last) => last.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RawOnJoin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnJoinVisitor;

        impl<'de> Visitor<'de> for OnJoinVisitor {
            type Value = RawOnJoin;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or a map with last, such as {{ last: 100 }}", OnJoinWord::accepted())
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawOnJoin, E> {
                let word = OnJoinWord::read(text).map(|word| RawOnJoin::Word(Scalar(word)));
                word.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawOnJoin, A::Error> {
                RawLast::deserialize(MapAccessDeserializer::new(map)).map(RawOnJoin::Last)
            }
        }

        deserializer.deserialize_any(OnJoinVisitor)
    }
}

#[cfg(test)]
impl JsonSchema for RawOnJoin {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OnJoin".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema::any_of(&[OnJoinWord::schema(), generator.subschema_for::<RawLast>()])
    }
}

impl RawOnJoin {
    fn validate(self, problems: &mut Problems) -> OnJoin {
        match self {
            Self::Word(Scalar(OnJoinWord::None)) => OnJoin::None,
            Self::Word(Scalar(OnJoinWord::Critical)) => OnJoin::Critical,
            Self::Word(Scalar(OnJoinWord::All)) => OnJoin::All,
            Self::Last(RawLast { last: Some(last) }) => {
                check::at_least_one("last", last, problems);
                OnJoin::Last(u64::from(last.0))
            }
            Self::Last(RawLast { last: None }) => {
                if !problems.has("last") {
                    problems.refuse("last", "nothing", "how many of the newest, a whole number from 1");
                }
                OnJoin::None
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum OnJoinWord {
    None,
    Critical,
    All,
}

words!(OnJoinWord { None = "none", Critical = "critical", All = "all" });

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a map with last")]
struct RawLast {
    /// So many of the newest messages, and critical ones
    last: Option<Scalar<u32>>,
}
