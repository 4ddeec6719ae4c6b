//! `policy.session.greeting`: what of the client is said again to a new server.

#[cfg(test)]
use std::borrow::Cow;
use std::fmt;

#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::config::error::quoted;
use crate::config::model::{GreetingRule, MessageKey, Pointer};
use crate::config::problems::Problems;
use crate::config::raw::values::matching::{RawMatch, check_regex};
use crate::config::raw::values::scalar::{Scalar, ScalarValue};
#[cfg(test)]
use crate::config::raw::values::schema;

/// Each message of a client is held against all of them.
const MAX_RULES: usize = 64;

/// All of them are said again at each redial.
const MAX_KEPT: u32 = 4096;

const KEPT: u32 = 64;

/// A list of rules, or what the only one of them matches.
#[derive(Debug, Clone)]
pub(crate) enum RawGreetingRules {
    Match(RawMatch),
    Rules(Vec<RawGreetingRule>),
}

/// One rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map with match, reply or both")]
pub(crate) struct RawGreetingRule {
    /// Which messages of the client are said again; null: the server speaks first, and reply is what it says
    #[serde(rename = "match")]
    said: Option<RawMatch>,
    /// The server's answer, which is awaited (5 s) and not passed on
    reply: Option<RawMatch>,
    /// Of messages that are equal there the newest is kept: a JSON pointer, or { regex } with one group; null: the whole message
    key: Option<RawMessageKey>,
    /// Messages of either side after which what has their key is not kept any more
    forget: Option<RawMatch>,
    /// So many of them, the oldest goes
    keep: Scalar<u32>,
}

impl Default for RawGreetingRule {
    fn default() -> Self {
        Self { said: None, reply: None, key: None, forget: None, keep: Scalar(KEPT) }
    }
}

/// `key` of a rule: a JSON pointer, or a regular expression with one group.
#[derive(Debug, Clone)]
enum RawMessageKey {
    Pointer(Scalar<Pointer>),
    Capture(RawCapture),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map with regex")]
struct RawCapture {
    /// What its only group matches is the key, as Rust's regex reads it
    regex: Option<Scalar<String>>,
}

impl RawGreetingRules {
    pub(crate) fn validate(self, key: &str, problems: &mut Problems) -> Vec<GreetingRule> {
        let rules = match self {
            Self::Match(said) => {
                let said = problems.within(key, |problems| said.validate(problems));
                return vec![GreetingRule {
                    said,
                    reply: None,
                    key: None,
                    forget: None,
                    keep: KEPT as usize,
                }];
            }
            Self::Rules(rules) => rules,
        };
        if rules.len() > MAX_RULES {
            problems.refuse(key, format!("{} rules", rules.len()), format!("at most {MAX_RULES}"));
            return Vec::new();
        }
        let rules = rules.into_iter().enumerate();
        rules
            .map(|(index, rule)| problems.within_item(key, index, |problems| rule.validate(problems)))
            .collect()
    }
}

impl RawGreetingRule {
    fn validate(self, problems: &mut Problems) -> GreetingRule {
        let Self { said, reply, key, forget, keep } = self;
        if said.is_none() && !problems.has("match") {
            let orphans = [("key", key.is_some()), ("forget", forget.is_some()), ("keep", keep.0 != KEPT)];
            if reply.is_none() && !problems.has("reply") {
                let accepted =
                    "match (what the client says), reply (what a server that speaks first says), or both";
                problems.refuse("", "neither match nor reply", accepted);
            } else if let Some((orphan, _)) = orphans.iter().find(|(_, is_set)| *is_set) {
                let accepted = "match beside it: without one nothing of the client is kept";
                problems.refuse(orphan, "no match", accepted);
            }
        }
        if forget.is_some() && key.is_none() && !problems.has("key") && !problems.has("forget") {
            problems.refuse("forget", "no key", "key beside it, by which what is to be forgotten is found");
        }
        if !(1..=MAX_KEPT).contains(&keep.0) {
            problems.refuse("keep", keep.0, format!("1 to {MAX_KEPT}"));
        }
        GreetingRule {
            said: said.and_then(|rule| problems.within("match", |problems| rule.validate(problems))),
            reply: reply
                .and_then(|rule| problems.within("reply", |problems| rule.validate_by_contents(problems))),
            key: key.and_then(|key| problems.within("key", |problems| key.validate(problems))),
            forget: forget
                .and_then(|rule| problems.within("forget", |problems| rule.validate_by_contents(problems))),
            keep: keep.0 as usize,
        }
    }
}

impl RawMessageKey {
    fn validate(self, problems: &mut Problems) -> Option<MessageKey> {
        let regex = match self {
            Self::Pointer(Scalar(pointer)) => return Some(MessageKey::Pointer(pointer)),
            Self::Capture(RawCapture { regex }) => regex,
        };
        let accepted = "a regular expression with exactly one group, whose match is the key, such as '\\nid:(\\S+)'; \
                        (?:…) is no group";
        let Some(Scalar(regex)) = regex else {
            if !problems.has("regex") {
                problems.refuse("regex", "nothing", accepted);
            }
            return None;
        };
        let compiled = check_regex(&regex, problems)?;
        // The first one is the whole match.
        let groups = compiled.captures_len().saturating_sub(1);
        if groups != 1 {
            problems.refuse("regex", format!("{} with {groups} groups", quoted(&regex)), accepted);
            return None;
        }
        Some(MessageKey::Capture(regex))
    }
}

impl Serialize for RawGreetingRules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Match(rule) => rule.serialize(serializer),
            Self::Rules(rules) => rules.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RawGreetingRules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RulesVisitor;

        impl<'de> Visitor<'de> for RulesVisitor {
            type Value = RawGreetingRules;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a list of rules, or one map with what is matched, such as { first: 1 }; null for none",
                )
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RawGreetingRules, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(RawGreetingRules::Rules)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawGreetingRules, A::Error> {
                RawMatch::deserialize(MapAccessDeserializer::new(map)).map(RawGreetingRules::Match)
            }
        }

        deserializer.deserialize_any(RulesVisitor)
    }
}

impl Serialize for RawMessageKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Pointer(pointer) => pointer.serialize(serializer),
            Self::Capture(capture) => capture.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RawMessageKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = RawMessageKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}; or a map with regex, such as {{ regex: 'id:(\\S+)' }}", Pointer::accepted())
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawMessageKey, E> {
                let pointer = Pointer::read(text).map(|pointer| RawMessageKey::Pointer(Scalar(pointer)));
                pointer.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawMessageKey, A::Error> {
                RawCapture::deserialize(MapAccessDeserializer::new(map)).map(RawMessageKey::Capture)
            }
        }

        deserializer.deserialize_any(KeyVisitor)
    }
}

#[cfg(test)]
impl JsonSchema for RawGreetingRules {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "GreetingRules".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rule = generator.subschema_for::<RawGreetingRule>();
        schema::any_of(&[schema::list_of(&rule), generator.subschema_for::<RawMatch>()])
    }
}

#[cfg(test)]
impl JsonSchema for RawMessageKey {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "MessageKey".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema::any_of(&[Pointer::schema(), generator.subschema_for::<RawCapture>()])
    }
}
