//! The layers of a configuration: file, environment, flags, each a tree; `config` puts them on top
//! of one another. Built-in defaults lie below all of them: they are what [`super::raw`] fills in
//! where no layer says anything.
//!
//! # Invariants
//! 1. A map is merged key by key, anything else (a list, `null`) replaces what lay below.
//! 2. Each environment variable and flag is a layer of its own, those that go deeper above those
//!    that give a whole section.
//! 3. An environment variable that is empty is none: only a written `null` (or `off`) switches something off.
//!
//! # Why not the sources of `config`?
//! Its merging loses where a map was written, its file and environment sources where a value was,
//! and both turn text into numbers. So the sources here are ours, and places are looked up in the
//! layers afterwards ([`super::problems::Problems`]).

use std::fs::File;
use std::io::Read;
use std::path::Path as FilePath;
use std::sync::Arc;

use config::{Value, ValueKind};

use super::env;
use super::error::Problem;
use super::probe::{self, Shape};
use super::raw::RawConfig;
use super::schema;
use super::sources::Sources;
use super::tree::{Kind, Location, Node, Path, Step};
use super::yaml::{self, Fault};
use crate::yaml::is_null;

/// Trees from bottom to top, and what was wrong in reading them.
pub(crate) struct Layers {
    pub(crate) trees: Vec<Node>,
    pub(crate) faults: Vec<Fault>,
    /// A source could not be read at all: checking the rest would only confuse.
    pub(crate) broken: bool,
    /// Whether there is a file, and neither a setting nor a comment in it.
    pub(crate) is_file_blank: bool,
}

impl Layers {
    pub(crate) fn read(sources: &Sources) -> Self {
        let mut layers = Self { trees: Vec::new(), faults: Vec::new(), broken: false, is_file_blank: false };
        if let Some(path) = &sources.file {
            layers.add_file(path);
        }
        layers.add_env(&sources.env);
        layers.add_flags(sources);
        layers
    }

    /// One text that stands for a file.
    pub(crate) fn inline(text: &str) -> Self {
        let mut layers = Self { trees: Vec::new(), faults: Vec::new(), broken: false, is_file_blank: false };
        layers.add_yaml(&"inline".into(), text);
        layers
    }

    fn add_file(&mut self, path: &FilePath) {
        let name: Arc<str> = path.display().to_string().into();
        match read_text(path) {
            Ok(text) => {
                self.is_file_blank = is_blank(&text);
                self.add_yaml(&name, &text);
            }
            Err(what) => {
                let location = Location::WholeFile { name };
                self.faults.push(Fault { location, path: Path::default(), problem: Problem::File(what) });
                self.broken = true;
            }
        }
    }

    /// A whole file's text; `name` is what its places are told with.
    fn add_yaml(&mut self, name: &Arc<str>, text: &str) {
        let location = |line, column| Location::File { name: Arc::clone(name), line, column };
        let parsed = yaml::parse(text, location);
        self.faults.extend(parsed.faults);
        match parsed.node {
            None => self.broken = true,
            // Everything commented out.
            Some(Node { kind: Kind::Null, location }) => self.trees.push(Node::empty(location)),
            Some(Node { kind: Kind::Map(mut map), location }) => {
                // Anchors are resolved by now.
                map.retain(|key, _| !key.starts_with(schema::EXTENSION_PREFIX));
                self.trees.push(Node::new(Kind::Map(map), location));
            }
            Some(Node { kind, location }) => {
                let found = if matches!(kind, Kind::List(_)) { "a list" } else { "a word" };
                let accepted = "a map of settings, as in `listen: { address: 0.0.0.0:8080 }`".into();
                let problem = Problem::Value { found: found.into(), accepted };
                self.faults.push(Fault { location, path: Path::default(), problem });
                self.broken = true;
            }
        }
    }

    fn add_env(&mut self, variables: &[(String, String)]) {
        let mut settings: Vec<(Vec<String>, &str, &str)> = Vec::new();
        for (name, value) in variables {
            let lower = name.to_ascii_lowercase();
            if let Some(keys) = lower.strip_prefix("outrigger__") {
                let path: Vec<String> = keys.split("__").map(str::to_owned).collect();
                if !env::is_empty(&path, value) {
                    settings.push((path, name, value));
                }
            }
        }
        settings.sort_by(|(a, ..), (b, ..)| (a.len(), a).cmp(&(b.len(), b)));
        for pair in settings.windows(2) {
            if let [(first, one, _), (second, other, _)] = pair
                && first == second
            {
                let problem = Problem::Duplicate { first: Location::Env((*one).into()) };
                let location = Location::Env((*other).into());
                self.faults.push(Fault { location, path: keys(first), problem });
            }
        }
        for (path, name, value) in settings {
            let location = Location::Env(name.into());
            if path.len() > yaml::MAX_DEPTH || path.iter().any(String::is_empty) {
                let problem = Problem::UnknownKey {
                    suggestions: Vec::new(),
                    accepted: "OUTRIGGER__A__B for the setting a.b".into(),
                };
                self.faults.push(Fault { location, path: Path::default(), problem });
                continue;
            }
            let Some(node) = self.env_value(&path, value, &location) else { continue };
            self.trees.push(wrap(&path, node));
        }
    }

    /// Where a list or map may stand, the text is YAML; anywhere else it is taken as it is, so that
    /// `[::]:8080` is an address and any token a token.
    fn env_value(&mut self, path: &[String], text: &str, location: &Location) -> Option<Node> {
        if is_null(text) {
            return Some(Node::new(Kind::Null, location.clone()));
        }
        match probe::shape_at::<RawConfig>(path) {
            Some(Shape::Keys(_) | Shape::Nested) if text.trim() == "off" => {
                Some(Node::new(Kind::Null, location.clone()))
            }
            Some(Shape::Keys(_) | Shape::Nested) => {
                let parsed = yaml::parse_value(text, location);
                self.broken |= parsed.node.is_none();
                let inner = parsed.faults.into_iter();
                self.faults
                    .extend(inner.map(|fault| Fault { path: keys(path).join(&fault.path.0), ..fault }));
                parsed.node
            }
            Some(Shape::Text) | None => Some(Node::new(Kind::Scalar(text.to_owned()), location.clone())),
        }
    }

    fn add_flags(&mut self, sources: &Sources) {
        let Sources { listen, upstream, admin, file: _, env: _ } = sources;
        let mut set = |path: [&str; 2], kind: Kind, flag: &'static str| {
            self.trees.push(wrap(&path.map(str::to_owned), Node::new(kind, Location::Flag(flag))));
        };
        if let Some(listen) = listen {
            // One of the two, whichever a file has set.
            let (this, other, value) = match listen.strip_prefix("unix:") {
                Some(path) => ("unix", "address", path),
                None => ("address", "unix", listen.as_str()),
            };
            set(["listen", this], Kind::Scalar(value.to_owned()), "--listen");
            set(["listen", other], Kind::Null, "--listen");
        }
        if let Some(url) = upstream {
            set(["upstream", "url"], Kind::Scalar(url.clone()), "--upstream");
        }
        if let Some(address) = admin {
            set(["admin", "address"], Kind::Scalar(address.clone()), "--admin");
        }
    }
}

/// Lays `trees` on top of one another.
pub(crate) fn merge<'a>(trees: impl IntoIterator<Item = &'a Node>) -> Result<Node, config::ConfigError> {
    let mut builder = config::Config::builder();
    for tree in trees {
        builder = builder.add_source(Layer(to_value(tree)));
    }
    let merged = builder.build()?;
    let root = merged.cache.into_table()?.remove(ROOT);
    Ok(root.map_or_else(|| Node::empty(Location::Merged), from_value))
}

/// `config` takes the keys a source hands it for paths (`a.b`, `a[9999]`), so a source hands it this
/// one key; what is below is taken as it is.
const ROOT: &str = "root";

/// A tree, as `config` wants it.
#[derive(Debug, Clone)]
struct Layer(Value);

impl config::Source for Layer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<config::Map<String, Value>, config::ConfigError> {
        Ok(config::Map::from_iter([(ROOT.to_owned(), self.0.clone())]))
    }
}

fn to_value(node: &Node) -> Value {
    let kind = match &node.kind {
        Kind::Null => ValueKind::Nil,
        Kind::Scalar(text) => ValueKind::String(text.clone()),
        Kind::List(list) => ValueKind::Array(list.iter().map(to_value).collect()),
        Kind::Map(map) => {
            ValueKind::Table(map.iter().map(|(key, entry)| (key.clone(), to_value(&entry.node))).collect())
        }
    };
    Value::new(None, kind)
}

fn from_value(value: Value) -> Node {
    let kind = match value.kind {
        ValueKind::Nil => Kind::Null,
        ValueKind::Array(list) => Kind::List(list.into_iter().map(from_value).collect()),
        ValueKind::Table(table) => {
            let mut node = Node::empty(Location::Merged);
            for (key, value) in table {
                node.put(&key, from_value(value));
            }
            node.kind
        }
        scalar => Kind::Scalar(scalar.to_string()),
    };
    Node::new(kind, Location::Merged)
}

/// `node` under the keys of `path`.
fn wrap(path: &[String], node: Node) -> Node {
    path.iter().rev().fold(node, |inner, key| {
        let mut outer = Node::empty(inner.location.clone());
        outer.put(key, inner);
        outer
    })
}

fn keys(path: &[String]) -> Path {
    Path(path.iter().cloned().map(Step::Key).collect())
}

/// Whether nobody wrote anything: what a template makes of a value that is not there.
fn is_blank(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().all(|line| matches!(line.trim(), "" | "---" | "..."))
}

/// The text of a small file.
fn read_text(path: &FilePath) -> Result<String, String> {
    let limit = yaml::MAX_BYTES as u64;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > limit {
        return Err(format!("longer than {limit} bytes"));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 after byte {}", error.utf8_error().valid_up_to()))
}
