//! Which messages a setting means, and where they have their key. Pure.
//!
//! A message is read once from end to end, and only along the pointer: nothing else of it is kept, nothing is built.
//!
//! # Invariants
//! 1. However deep a message is nested, the stack is not: what is not on the pointer's way is skipped in a loop, and
//!    of the way itself there is as much as the pointer is long.
//! 2. Where a key stands twice in an object the last one counts, as for browsers.
//! 3. A message that is not JSON to its last byte has nothing anywhere.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use regex::Regex;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::{Match, Pointer};
use crate::frame::Kind;

/// A [`Match`], made ready.
#[derive(Debug)]
pub(crate) struct Matcher {
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Pointer {
        pointer: Pointer,
        values: Vec<String>,
    },
    Regex(Regex),
    First(u64),
    /// An expression that does not compile, which the configuration would have refused.
    Nothing,
}

impl Matcher {
    /// The configuration has checked that it can be made.
    pub(crate) fn new(rule: &Match) -> Self {
        let rule = match rule {
            Match::Pointer { pointer, values } => {
                Rule::Pointer { pointer: pointer.clone(), values: values.clone() }
            }
            Match::Regex(expression) => Match::compile(expression).map_or(Rule::Nothing, Rule::Regex),
            Match::First(messages) => Rule::First(*messages),
        };
        Self { rule }
    }

    /// Whether the message is meant; `number` counts from 1. Values that are no strings are compared as they are
    /// written. Binary messages have nothing at a pointer, and no expression matches them.
    pub(crate) fn matches(&self, kind: Kind, payload: &[u8], number: u64) -> bool {
        match &self.rule {
            Rule::Pointer { pointer, values } => {
                text_at(pointer, kind, payload).is_some_and(|text| values.iter().any(|value| *value == text))
            }
            Rule::Regex(expression) => {
                kind == Kind::Text && std::str::from_utf8(payload).is_ok_and(|text| expression.is_match(text))
            }
            Rule::First(messages) => (1..=*messages).contains(&number),
            Rule::Nothing => false,
        }
    }
}

/// What stands at `pointer`, as text: strings as they are, other values as they are written in the message. `None`:
/// nothing does, or the message is no JSON.
pub(crate) fn key_at(pointer: &Pointer, kind: Kind, payload: &[u8]) -> Option<Arc<str>> {
    text_at(pointer, kind, payload).map(Arc::from)
}

fn text_at<'a>(pointer: &Pointer, kind: Kind, payload: &'a [u8]) -> Option<Cow<'a, str>> {
    if kind != Kind::Text {
        return None;
    }
    let mut json = serde_json::Deserializer::from_slice(payload);
    let found = Seek(&pointer.tokens).deserialize(&mut json).ok()?;
    json.end().ok()?;
    let written = found?.get();
    match written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        None => Some(Cow::Borrowed(written)),
        Some(plain) if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        Some(_) => serde_json::from_str(written).ok().map(Cow::Owned),
    }
}

/// Goes down the tokens that are left.
struct Seek<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            [] => <&RawValue>::deserialize(json).map(Some),
            [token, rest @ ..] => json.deserialize_any(Step { token, rest }),
        }
    }
}

/// The value that is to have something at `token`.
struct Step<'p> {
    token: &'p str,
    rest: &'p [String],
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(IsKey(self.token))? {
            if is_it {
                found = map.next_value_seed(Seek(self.rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        if let Some(array_index) = array_index(self.token) {
            for _ in 0..array_index {
                if seq.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(None);
                }
            }
            let found = seq.next_element_seed(Seek(self.rest))?.flatten();
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(found);
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// An array index as RFC 6901 §4 has it: digits without a leading zero. `-`, the place after the last element, has no
/// value.
fn array_index(token: &str) -> Option<usize> {
    let is_index = token == "0" || (!token.starts_with('0') && token.bytes().all(|b| b.is_ascii_digit()));
    if is_index { token.parse().ok() } else { None }
}

/// Whether a key is this one.
struct IsKey<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<bool, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

#[cfg(test)]
mod tests;
