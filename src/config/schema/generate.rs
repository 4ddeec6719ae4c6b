//! Makes the JSON Schema of the configuration, for the test that compares it with the one on file.
//!
//! It is draft 7, which is what editors and every version of Helm read. The shape comes from the structs in
//! [`crate::config::raw`], defaults from their `Default`.
//!
//! # Invariants
//! 1. What a setting is for is said once: in the comment on its line of `config/outrigger.yaml`. Only keys of sections
//!    that are null there have it in the comment on their field.
//! 2. What [`crate::config::load`] accepts is valid by it. The other way around it knows shapes, words and units, and
//!    not what is at odds with another setting.
//!
//! # Not here
//! How single values are written ([`crate::config::raw::values::schema`]).

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{EXTENSION_PREFIX, forms_of, number};
use crate::config::raw::RawConfig;
use crate::config::raw::values::schema::UNSUPPORTED;

/// The file that has every setting, with a comment on each.
const SHIPPED: &str = include_str!("../../../config/outrigger.yaml");

/// The document, and the path of each setting of which nothing is built.
pub(crate) fn generate() -> (String, Vec<String>) {
    // Whatever is used in one place only stands there: names of structs are an internal matter.
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = Value::from(settings.into_generator().into_root_schema_for::<RawConfig>());
    let mut unsupported = Vec::new();
    finish(&mut schema, "", &comments(), &mut unsupported);
    if let Value::Object(root) = &mut schema {
        root.insert("title".into(), "Configuration of Outrigger".into());
        let own = json!({ "description": "Yours: a place for YAML anchors. Nothing here is read." });
        root.insert("patternProperties".into(), json!({ format!("^{EXTENSION_PREFIX}"): own }));
    }
    (format!("{schema:#}\n"), unsupported)
}

/// Gives the properties below `node`, which stands at `path`, their descriptions, and defaults as YAML has them.
/// Answers whether nothing of it is built, and notes the paths of all below it of which nothing is.
fn finish(
    node: &mut Value,
    path: &str,
    comments: &BTreeMap<String, String>,
    unsupported: &mut Vec<String>,
) -> bool {
    let Value::Object(node) = node else { return false };
    // The comment on a struct is for engineers.
    node.remove("description");
    if let Some(Value::Array(forms)) = node.get_mut("anyOf") {
        for form in forms {
            finish(form, path, comments, unsupported);
        }
    }
    if let Some(item) = node.get_mut("items") {
        finish(item, &format!("{path}[]"), comments, unsupported);
    }
    let mut is_unsupported = node.remove(UNSUPPORTED).is_some();
    if is_unsupported {
        let default = node.get("default").cloned().unwrap_or_default();
        node.insert("enum".into(), Value::Array(forms_of(&default)));
    }
    if let Some(Value::Object(properties)) = node.get_mut("properties") {
        is_unsupported = true;
        for (key, property) in properties {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let description = property.get("description").cloned();
            let is_inner_unsupported = finish(property, &path, comments, unsupported);
            if is_inner_unsupported {
                unsupported.push(path.clone());
            }
            is_unsupported &= is_inner_unsupported;
            if let Value::Object(property) = property {
                let description = comments.get(&path).map(|comment| comment.as_str().into()).or(description);
                property.extend(description.map(|description| ("description".to_owned(), description)));
                type_default(property);
            }
        }
    }
    is_unsupported
}

/// Defaults are text here; a number is to stand in a file as one. What is a section's is description of its keys.
fn type_default(property: &mut Map<String, Value>) {
    let takes = |types: &[&str]| {
        let given = property.get("type").and_then(Value::as_array);
        given.is_some_and(|given| types.iter().all(|wanted| given.iter().any(|one| one == wanted)))
    };
    let is_number = takes(&["integer"]) || takes(&["number"]) && !takes(&["boolean"]);
    let is_truth =
        property.get("enum").and_then(Value::as_array).is_some_and(|one| one.contains(&true.into()));
    let typed = match property.get("default") {
        Some(Value::Object(_)) => None,
        Some(Value::String(text)) if is_number => Some(number(text).unwrap_or_else(|| text.as_str().into())),
        Some(Value::String(text)) if is_truth => Some(Value::Bool(text == "true")),
        other => other.cloned(),
    };
    match typed {
        Some(typed) => property.insert("default".into(), typed),
        None => property.remove("default"),
    };
}

/// What the shipped file says of each setting: behind it, or in the lines right above it.
fn comments() -> BTreeMap<String, String> {
    let mut comments = BTreeMap::new();
    let mut above: Vec<&str> = Vec::new();
    let mut path: Vec<&str> = Vec::new();
    let mut is_route = false;
    for line in SHIPPED.lines() {
        // Routes are there as an example, of which the first one has every key.
        let line = if is_route { line.strip_prefix("  # ").unwrap_or_default() } else { line };
        let (depth, text) = match (is_route, line.strip_prefix("- ").or_else(|| line.strip_prefix("  "))) {
            (true, Some(text)) => (1, text),
            (true, None) => break,
            (false, _) => ((line.len() - line.trim_start().len()) / 2, line.trim_start()),
        };
        if let Some(comment) = text.strip_prefix('#') {
            above.push(comment.trim());
            continue;
        }
        let (setting, comment) = text.split_once(" # ").unwrap_or((text, ""));
        if let Some((key, value)) = setting.split_once(':') {
            path.truncate(depth);
            path.push(key);
            let description = if comment.is_empty() { above.join(" ") } else { comment.trim().to_owned() };
            if !description.is_empty() {
                comments.entry(path.join(".")).or_insert(description);
            }
            if key == "routes" && value.trim() == "[]" {
                is_route = true;
                path = vec!["routes[]"];
            }
        }
        above.clear();
    }
    comments
}
