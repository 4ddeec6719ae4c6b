//! The layers of a configuration: file, environment and flags, each a tree, which `config` merges. Built-in defaults
//! lie below all of them: [`super::raw`] fills them in where no layer has a value.
//!
//! # Invariants
//! 1. A map is merged key by key, anything else (a list, `null`) replaces what lay below.
//! 2. Each environment variable and flag is a layer of its own, those that go deeper above those
//!    that give a whole section.
//! 3. An environment variable that is empty counts as not set: only a written `null` (or `off`) switches something
//!    off.
//!
//! # Why not the sources of `config`?
//! Its merging forgets where a map was written, its file and environment sources where a value was, and both turn
//! text into numbers. So the sources here are our own, and locations are looked up in the layers afterwards
//! ([`super::problems::Problems`]).

use std::fs::File;
use std::io::Read;
use std::path::Path as FilePath;
use std::sync::Arc;

use config::{Value, ValueKind};

use super::env;
use super::error::Problem;
use super::raw::RawConfig;
use super::schema;
use super::shape::{self, Shape};
use super::sources::Sources;
use super::tree::{Kind, Location, Node, Path, Step};
use super::yaml::{self, SourceProblem};
use crate::yaml::is_null;

/// Trees from the lowest to the highest, and what went wrong in reading them.
pub(crate) struct Layers {
    pub(crate) trees: Vec<Node>,
    pub(crate) source_problems: Vec<SourceProblem>,
    /// Whether a source could not be read at all. Checking the rest would only confuse then.
    pub(crate) is_unreadable: bool,
    /// Whether there is a file, and neither a setting nor a comment in it.
    pub(crate) is_file_blank: bool,
}

impl Layers {
    pub(crate) fn read(sources: &Sources) -> Self {
        let mut layers = Self {
            trees: Vec::new(),
            source_problems: Vec::new(),
            is_unreadable: false,
            is_file_blank: false,
        };
        if let Some(path) = &sources.file {
            layers.add_file(path);
        }
        layers.add_env(&sources.env);
        layers.add_flags(sources);
        layers
    }

    /// One layer of a text that stands for a file.
    pub(crate) fn inline(text: &str) -> Self {
        let mut layers = Self {
            trees: Vec::new(),
            source_problems: Vec::new(),
            is_unreadable: false,
            is_file_blank: false,
        };
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
                self.source_problems.push(SourceProblem {
                    location,
                    path: Path::default(),
                    problem: Problem::File(what),
                });
                self.is_unreadable = true;
            }
        }
    }

    /// Adds a file's text; `name` is part of its locations.
    fn add_yaml(&mut self, name: &Arc<str>, text: &str) {
        let location = |line, column| Location::File { name: Arc::clone(name), line, column };
        let parsed = yaml::parse(text, location);
        self.source_problems.extend(parsed.source_problems);
        match parsed.node {
            None => self.is_unreadable = true,
            // Everything in the file is commented out.
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
                self.source_problems.push(SourceProblem { location, path: Path::default(), problem });
                self.is_unreadable = true;
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
                self.source_problems.push(SourceProblem { location, path: keys(first), problem });
            }
        }
        for (path, name, value) in settings {
            let location = Location::Env(name.into());
            if path.len() > yaml::MAX_DEPTH || path.iter().any(String::is_empty) {
                let problem = Problem::UnknownKey {
                    suggestions: Vec::new(),
                    accepted: "OUTRIGGER__A__B for the setting a.b".into(),
                };
                self.source_problems.push(SourceProblem { location, path: Path::default(), problem });
                continue;
            }
            let Some(node) = self.env_value(&path, value, &location) else { continue };
            self.trees.push(wrap(&path, node));
        }
    }

    /// Reads a variable's value: as YAML where the setting may be a list or a map, and else as it is, so that
    /// `[::]:8080` is an address and any token a token.
    fn env_value(&mut self, path: &[String], text: &str, location: &Location) -> Option<Node> {
        if is_null(text) {
            return Some(Node::new(Kind::Null, location.clone()));
        }
        match shape::shape_at::<RawConfig>(path) {
            Some(Shape::Keys(_) | Shape::Nested) if text.trim() == "off" => {
                Some(Node::new(Kind::Null, location.clone()))
            }
            Some(Shape::Keys(_) | Shape::Nested) => {
                let parsed = yaml::parse_value(text, location);
                self.is_unreadable |= parsed.node.is_none();
                let inner = parsed.source_problems.into_iter();
                self.source_problems.extend(inner.map(|source_problem| SourceProblem {
                    path: keys(path).join(&source_problem.path.0),
                    ..source_problem
                }));
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
            // The flag replaces both, whichever of them a file has set.
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

/// Merges `trees`, the first at the bottom.
pub(crate) fn merge<'a>(trees: impl IntoIterator<Item = &'a Node>) -> Result<Node, config::ConfigError> {
    let mut builder = config::Config::builder();
    for tree in trees {
        builder = builder.add_source(Layer(to_value(tree)));
    }
    let merged = builder.build()?;
    let root = merged.cache.into_table()?.remove(ROOT);
    Ok(root.map_or_else(|| Node::empty(Location::Merged), from_value))
}

/// `config` takes a source's keys for paths (`a.b`, `a[9999]`). So a source has this one key, and what is below it is
/// taken as it is.
const ROOT: &str = "root";

/// A tree as a source of `config`.
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

/// Whether a file has no content. A template makes such a file of a value that is not there.
fn is_blank(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().all(|line| matches!(line.trim(), "" | "---" | "..."))
}

/// Reads a file that is not too long.
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
