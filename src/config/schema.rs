//! The configuration as a JSON Schema, for editors and for Helm; and of the same document, where a key belongs that
//! stands in a wrong place.
//!
//! It is draft 7, which is what editors and every version of Helm read. The shape comes from the structs in
//! [`super::raw`], defaults from their `Default`.
//!
//! # Invariants
//! 1. What a setting is for is said once: in the comment on its line of `config/outrigger.yaml`. Only keys of sections
//!    that are null there have it in the comment on their field.
//! 2. What [`super::load`] accepts is valid by it. The other way around it knows shapes, words and units, and not what
//!    is at odds with another setting.
//!
//! # Not here
//! How single values are written ([`super::raw::values::schema`]).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Number, Value, json};

use super::error::{Problem, closest};
use super::raw::RawConfig;
use super::raw::values::schema::LATER;
use super::tree::{Path, Step};

/// The JSON Schema of a configuration file, as `outrigger schema` prints it.
pub fn schema() -> String {
    format!("{:#}\n", DOCUMENT.schema)
}

/// The file that has every setting, with a comment on each.
const SHIPPED: &str = include_str!("../../config/outrigger.yaml");

/// Keys at the top level that begin with this are the operator's own: places for YAML anchors.
pub(super) const OWN: &str = "x-";

static DOCUMENT: LazyLock<Document> = LazyLock::new(Document::new);

struct Document {
    schema: Value,
    /// In the order of their names.
    settings: Vec<Setting>,
}

/// A setting or a section, in a path without indexes: `routes[].mode`.
struct Setting {
    path: String,
    is_later: bool,
}

impl Document {
    fn new() -> Self {
        // Whatever is used in one place only stands there: names of structs are nobody's business.
        let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
        let mut schema = Value::from(settings.into_generator().into_root_schema_for::<RawConfig>());
        let comments = comments();
        let mut settings = Vec::new();
        finish(&mut schema, "", &comments, &mut settings);
        if let Value::Object(root) = &mut schema {
            root.insert("title".into(), "Configuration of Outrigger".into());
            let own = json!({ "description": "Yours: a place for YAML anchors. Nothing here is read." });
            root.insert("patternProperties".into(), json!({ format!("^{OWN}"): own }));
        }
        Self { schema, settings }
    }

    fn is_later(&self, path: &str) -> bool {
        self.settings.iter().any(|setting| setting.is_later && setting.path == path)
    }
}

/// Gives the properties below `node`, which stands at `path`, their descriptions, and defaults as YAML has them.
/// Answers whether nothing of it is built.
fn finish(
    node: &mut Value,
    path: &str,
    comments: &BTreeMap<String, String>,
    settings: &mut Vec<Setting>,
) -> bool {
    let Value::Object(node) = node else { return false };
    // What a struct says of itself is for engineers.
    node.remove("description");
    if let Some(Value::Array(forms)) = node.get_mut("anyOf") {
        for form in forms {
            finish(form, path, comments, settings);
        }
    }
    if let Some(item) = node.get_mut("items") {
        finish(item, &format!("{path}[]"), comments, settings);
    }
    let mut is_later = node.remove(LATER).is_some();
    if is_later {
        let default = node.get("default").cloned().unwrap_or_default();
        node.insert("enum".into(), Value::Array(forms_of(&default)));
    }
    if let Some(Value::Object(properties)) = node.get_mut("properties") {
        is_later = true;
        for (key, property) in properties {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let told = property.get("description").cloned();
            let at = settings.len();
            let is_inner_later = finish(property, &path, comments, settings);
            settings.insert(at, Setting { path: path.clone(), is_later: is_inner_later });
            is_later &= is_inner_later;
            if let Value::Object(property) = property {
                let told = comments.get(&path).map(|comment| comment.as_str().into()).or(told);
                property.extend(told.map(|told| ("description".to_owned(), told)));
                type_default(property);
            }
        }
    }
    is_later
}

/// Defaults are text here; a number is to stand in a file as one. What is a section's is told of its keys.
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
            let told = if comment.is_empty() { above.join(" ") } else { comment.trim().to_owned() };
            if !told.is_empty() {
                comments.entry(path.join(".")).or_insert(told);
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

/// What is told of a key that is not known at `path`: names the places where it is, and leaves out of what is accepted
/// whatever is not built.
pub(super) fn at_home(path: &Path, problem: Problem) -> Problem {
    let Problem::UnknownKey { mut suggestions, accepted } = problem else { return problem };
    let Some((Step::Key(key), parents)) = path.0.split_last() else {
        return Problem::UnknownKey { suggestions, accepted };
    };
    let location = Parent::of(parents);
    if suggestions.is_empty() {
        suggestions = elsewhere(key, &location);
    }
    let is_built = |name: &&str| !DOCUMENT.is_later(&location.of_key(name));
    let accepted = accepted.split(", ").filter(is_built).collect::<Vec<_>>().join(", ");
    let accepted = if accepted.is_empty() { "nothing yet".to_owned() } else { accepted };
    Problem::UnknownKey { suggestions, accepted }
}

/// Around a key: of a route or not, and the keys on the way down to it.
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

/// More places than this are no hint.
const MOST_PLACES: usize = 3;

/// Where a setting named `key`, or one with a name like it, is.
fn elsewhere(key: &str, location: &Parent) -> Vec<String> {
    let named = |name: &str| -> Vec<&str> {
        let built = DOCUMENT.settings.iter().filter(|setting| !setting.is_later);
        built.map(|setting| setting.path.as_str()).filter(|path| last(path) == name).collect()
    };
    let mut found = named(key);
    if found.is_empty() {
        let names = DOCUMENT.settings.iter().map(|setting| last(&setting.path));
        found = closest(key, names).map(named).unwrap_or_default();
    }
    // The nearest: what is below where it stands, then what is least deep.
    let rank = |path: &str| {
        let shared =
            location.keys.split('.').zip(path.split('.')).take_while(|(one, other)| one == other).count();
        (Reverse(shared), path.split('.').count())
    };
    let Some(best) = found.iter().map(|path| rank(path)).min() else { return Vec::new() };
    found.retain(|path| rank(path) == best);
    // What holds for clients is meant more often than what holds for the server.
    found.sort_by_key(|path| !path.starts_with("policy."));
    if found.len() > MOST_PLACES {
        return Vec::new();
    }
    let shown = |path: &str| match &location.route {
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
