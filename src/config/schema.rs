//! The JSON Schema of the configuration, for editors and for Helm, and where a key belongs that stands in a wrong place.
//!
//! The document is a file of the repository. A test makes it anew from the structs in [`super::raw`] and compares
//! (`generate`); nothing of that is in the program.
//!
//! # Invariants
//! 1. What is suggested for an unknown key is a setting that is built.

use std::cmp::Reverse;
use std::sync::LazyLock;

use serde_json::{Number, Value};

use super::error::{Problem, closest};
use super::tree::{Path, Step};

#[cfg(test)]
pub(crate) mod generate;

/// The JSON Schema of a configuration file, as `outrigger schema` prints it.
pub(crate) fn schema() -> &'static str {
    include_str!("../../config/outrigger.schema.json")
}

/// Keys at the top level that begin with this are the operator's own: places for YAML anchors.
pub(super) const EXTENSION_PREFIX: &str = "x-";

/// Every setting and every section, in the order of their names.
static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let mut settings = Vec::new();
    // A file that is not JSON has no settings; the test that compares it would not let it pass.
    let document = serde_json::from_str(schema()).unwrap_or_default();
    find_settings(&document, "", &mut settings);
    settings
});

/// A setting or a section, in a path without indexes: `routes[].mode`.
struct Setting {
    path: String,
    /// Whether nothing is accepted but its default, since nothing would act on it.
    is_unsupported: bool,
}

fn is_unsupported(path: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.is_unsupported && setting.path == path)
}

#[cfg(test)]
pub(crate) fn unsupported_settings() -> Vec<String> {
    SETTINGS.iter().filter(|setting| setting.is_unsupported).map(|setting| setting.path.clone()).collect()
}

/// Finds what is below `node`, which stands at `path`. Answers whether nothing of it is built.
fn find_settings(node: &Value, path: &str, settings: &mut Vec<Setting>) -> bool {
    for form in node["anyOf"].as_array().into_iter().flatten() {
        find_settings(form, path, settings);
    }
    if node["items"].is_object() {
        find_settings(&node["items"], &format!("{path}[]"), settings);
    }
    let Some(properties) = node["properties"].as_object() else {
        return node["enum"].as_array().is_some_and(|forms| *forms == forms_of(&node["default"]));
    };
    let mut is_all_unsupported = true;
    for (key, property) in properties {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let index = settings.len();
        let is_unsupported = find_settings(property, &path, settings);
        settings.insert(index, Setting { path, is_unsupported });
        is_all_unsupported &= is_unsupported;
    }
    is_all_unsupported
}

/// Every way to write the one value that is accepted of what is not built.
fn forms_of(default: &Value) -> Vec<Value> {
    let mut forms = vec![default.clone()];
    match default.as_str() {
        Some("") => forms.push(Value::Null),
        Some("off" | "false") => forms.push(false.into()),
        Some(text) => forms.extend(number(text)),
        None => {}
    }
    forms
}

fn number(text: &str) -> Option<Value> {
    let whole = text.parse::<u64>().ok().map(Value::from);
    whole.or_else(|| text.parse().ok().and_then(Number::from_f64).map(Value::Number))
}

/// Completes the problem of a key that is unknown at `path`: adds the settings that may have been meant, and leaves out of
/// the accepted keys whatever is not built.
pub(super) fn with_suggestions(path: &Path, problem: Problem) -> Problem {
    let Problem::UnknownKey { mut suggestions, accepted } = problem else { return problem };
    let Some((Step::Key(key), parents)) = path.0.split_last() else {
        return Problem::UnknownKey { suggestions, accepted };
    };
    let parent = Parent::of(parents);
    if suggestions.is_empty() {
        suggestions = similar_settings(key, &parent);
    }
    let is_built = |name: &&str| !is_unsupported(&parent.of_key(name));
    let accepted = accepted.split(", ").filter(is_built).collect::<Vec<_>>().join(", ");
    let accepted = if accepted.is_empty() { "nothing yet".to_owned() } else { accepted };
    Problem::UnknownKey { suggestions, accepted }
}

/// What is around a key: a route or none, and the keys that lead down to it.
struct Parent {
    /// `routes[3]`
    route: Option<String>,
    /// `policy.limits`; within a route, from there.
    keys: String,
}

impl Parent {
    fn of(steps: &[Step]) -> Self {
        let (route, rest) = match steps {
            [Step::Key(key), Step::Index(index), rest @ ..] if key == "routes" => {
                (Some(format!("routes[{index}]")), rest)
            }
            steps => (None, steps),
        };
        let keys = rest.iter().filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        });
        let keys = keys.collect::<Vec<_>>().join(".");
        Self { route, keys }
    }

    /// The path of its key `name`, as [`Setting`] has it.
    fn of_key(&self, name: &str) -> String {
        match (&self.route, self.keys.as_str()) {
            (Some(_), "") => format!("routes[].{name}"),
            (None, "") => name.to_owned(),
            // What a route overrides is what stands at the top.
            (_, keys) => format!("{keys}.{name}"),
        }
    }
}

/// More suggestions than this are no help.
const MAX_SUGGESTIONS: usize = 3;

/// The paths of settings named `key`, or of those with a name like it.
fn similar_settings(key: &str, parent: &Parent) -> Vec<String> {
    let named = |name: &str| -> Vec<&str> {
        let built = SETTINGS.iter().filter(|setting| !setting.is_unsupported);
        built.map(|setting| setting.path.as_str()).filter(|path| last(path) == name).collect()
    };
    let mut found = named(key);
    if found.is_empty() {
        let names = SETTINGS.iter().map(|setting| last(&setting.path));
        found = closest(key, names).map(named).unwrap_or_default();
    }
    // The nearest: what is below where it stands, then what is least deep.
    let rank = |path: &str| {
        let shared =
            parent.keys.split('.').zip(path.split('.')).take_while(|(one, other)| one == other).count();
        (Reverse(shared), path.split('.').count())
    };
    let Some(best) = found.iter().map(|path| rank(path)).min() else { return Vec::new() };
    found.retain(|path| rank(path) == best);
    // What holds for clients is meant more often than what holds for the server.
    found.sort_by_key(|path| !path.starts_with("policy."));
    if found.len() > MAX_SUGGESTIONS {
        return Vec::new();
    }
    let shown = |path: &str| match &parent.route {
        Some(route) if path.starts_with("policy.") || path.starts_with("upstream.") => {
            format!("{route}.{path}")
        }
        Some(route) => path.replacen("routes[]", route, 1),
        None => path.to_owned(),
    };
    found.into_iter().map(shown).collect()
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
