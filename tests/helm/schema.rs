//! What a schema of values knows, and what values there are, both as paths: `.image.tag`, `.env[].name`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Every property of a schema by its path, and whether it is an object that takes any key.
pub fn known_to(root: &Value, schema: &Value, path: &str, known: &mut BTreeMap<String, bool>) {
    if let Some(name) = schema["$ref"].as_str() {
        return known_to(root, root.pointer(name.trim_start_matches('#')).unwrap(), path, known);
    }
    let is_object = schema["type"] == "object" || schema["type"][0] == "object";
    if !path.is_empty() {
        known.insert(path.to_owned(), is_object && schema.get("additionalProperties").is_none());
    }
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        known_to(root, inner, &format!("{path}.{key}"), known);
    }
    if schema["items"].is_object() {
        known_to(root, &schema["items"], &format!("{path}[]"), known);
    }
}

/// Every key of the values by its path, as deep as the schema goes.
pub fn keys_of(values: &Value, path: &str, known: &BTreeMap<String, bool>, there: &mut BTreeSet<String>) {
    for (key, value) in values.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        there.insert(path.clone());
        let is_deeper = known.keys().any(|known| known.starts_with(&format!("{path}.")));
        if is_deeper {
            keys_of(value, &path, known, there);
        }
    }
}
