//! JSON Schema (draft 7) of single values.
//!
//! # Invariants
//! 1. A schema accepts at least what is read: a file that an editor calls wrong is wrong.
//! 2. Readers of YAML make a number of `8080` and a boolean of `true`, where this proxy keeps text: both are
//!    accepted.
//!
//! # Not here
//! The whole document, and what each setting is for ([`crate::config::schema`]).

#[cfg(test)]
use schemars::{Schema, json_schema};
use serde_json::{Number, Value};

/// Marks settings of which nothing is built, for [`crate::config::schema`], which takes the mark out of the document.
pub(crate) const UNSUPPORTED: &str = "x-later";

/// Any text. A number or a boolean is text that was written without quotes.
pub(crate) fn text() -> Schema {
    json_schema!({ "type": ["string", "number", "boolean"] })
}

/// Text that matches `regex` (ECMA 262), and that is never read as a number.
pub(crate) fn pattern(regex: &str) -> Schema {
    json_schema!({ "type": "string", "pattern": regex })
}

/// A whole number within `range`, or text that matches `regex`.
pub(crate) fn whole(range: std::ops::RangeInclusive<u64>, regex: &str) -> Schema {
    json_schema!({ "type": ["integer", "string"], "minimum": range.start(), "maximum": range.end(), "pattern": regex })
}

/// One of `words`.
pub(crate) fn words(words: &[&str]) -> Schema {
    let mut values: Vec<Value> = Vec::new();
    for word in words {
        values.push((*word).into());
        // `1.2` is a number to readers of YAML, and `off` is false to readers of YAML 1.1.
        match *word {
            "true" => values.push(true.into()),
            "false" | "off" => values.push(false.into()),
            word => values.extend(word.parse().ok().and_then(Number::from_f64).map(Value::Number)),
        }
    }
    json_schema!({ "enum": values })
}

/// One of several forms.
pub(crate) fn any_of(forms: &[Schema]) -> Schema {
    json_schema!({ "anyOf": forms })
}

/// A list of `item`.
pub(crate) fn list_of(item: &Schema) -> Schema {
    json_schema!({ "type": "array", "items": item })
}

/// `schema`, or null.
pub(crate) fn or_null(mut schema: Schema) -> Schema {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.push("null".into());
        return schema;
    }
    any_of(&[schema, json_schema!({ "type": "null" })])
}

/// For `schemars(schema_with)`: keys of the global `policy`, as a route may set them.
pub(crate) fn keys_of_policy(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "allOf": [{ "$ref": "#/properties/policy" }] })
}

/// For `schemars(schema_with)`: keys of the global `upstream`, as a route may set them.
pub(crate) fn keys_of_upstream(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "allOf": [{ "$ref": "#/properties/upstream" }] })
}
