//! Collects what is wrong while settings are read and checked, and finds where each was written.
//!
//! # Invariants
//! 1. A problem of the global policy is reported once, not once for each route that inherits it.
//! 2. A location is looked up in the layers, the last one first: that layer has the value that counts.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::de;
use super::error::{ConfigError, ConfigErrors, Problem};
use super::files::FileCache;
use super::model::File;
use super::schema;
use super::tree::{Kind, Location, Node, Path, Step};

/// The problems found so far, and the key that is being read.
pub(crate) struct Problems {
    layers: Vec<Node>,
    list: Vec<ConfigError>,
    /// The path of each entry of `list`.
    paths: Vec<Path>,
    current: Path,
    /// While a route is read: how many steps of `current` lead to its section, and the global section that it
    /// inherits from.
    inherits: Option<(usize, Path)>,
    files: FileCache,
}

impl Problems {
    /// `layers` from the lowest to the highest.
    pub(crate) fn new(layers: Vec<Node>) -> Self {
        Self {
            layers,
            list: Vec::new(),
            paths: Vec::new(),
            current: Path::default(),
            inherits: None,
            files: FileCache::default(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Where the value of `path` that counts was written, if that very key was.
    pub(crate) fn location_of(&self, path: &Path) -> Option<Location> {
        self.layers.iter().rev().find_map(|layer| location_in(layer, &path.0, true))
    }

    /// `value`, if there was no problem.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, ConfigErrors> {
        if self.list.is_empty() { Ok(value) } else { Err(self.into_errors()) }
    }

    pub(crate) fn into_errors(self) -> ConfigErrors {
        ConfigErrors::new(self.list)
    }

    /// The file that `key` names. If it cannot be read, that is a problem, and the file is empty.
    pub(crate) fn file(&mut self, key: &str, path: &FilePath) -> File {
        self.read_file(path).unwrap_or_else(|what| {
            self.add(key, Problem::File(what));
            File { path: path.into(), contents: [].into() }
        })
    }

    /// The file at `path`, or why it cannot be read.
    pub(crate) fn read_file(&mut self, path: &FilePath) -> Result<File, String> {
        let contents = self.files.read(path).map_err(|what| format!("{}: {what}", path.display()))?;
        Ok(File { path: path.into(), contents })
    }

    /// Every file that was asked for, readable or not.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.files.paths()
    }

    /// Adds a problem that was found while a source was read, and so has a location already.
    pub(crate) fn add_at(&mut self, location: Location, path: Path, problem: Problem) {
        self.push(Some(location), path, problem);
    }

    /// Adds a problem of `key`, below the key that is being read; "" is that key itself.
    pub(crate) fn add(&mut self, key: &str, problem: Problem) {
        let path = self.path(key);
        if let Some(global) = self.global(&path)
            && self.reported(&global).any(|error| error.problem == problem)
        {
            return;
        }
        let location = self.location(&path, matches!(problem, Problem::UnknownKey { .. }));
        self.push(location, path, problem);
    }

    /// Refuses a value that is out of range, or that contradicts another.
    pub(crate) fn refuse(&mut self, key: &str, found: impl fmt::Display, accepted: impl fmt::Display) {
        let (found, accepted) = (found.to_string(), accepted.to_string());
        self.add(key, Problem::Value { found, accepted });
    }

    /// Refuses every setting of `given` that differs from the default, since nothing would act on it.
    pub(crate) fn refuse_unless_default<T: Serialize>(&mut self, key: &str, given: &T, default: &T) {
        match (serde_json::to_value(given), serde_json::to_value(default)) {
            (Ok(given), Ok(default)) => self.compare(key, &given, &default),
            (Err(error), _) | (_, Err(error)) => self.add(key, Problem::Syntax(error.to_string())),
        }
    }

    fn compare(&mut self, key: &str, given: &Value, default: &Value) {
        match (given, default) {
            (Value::Object(given), Value::Object(default)) => {
                for (inner, given) in given {
                    let default = default.get(inner).unwrap_or(&Value::Null);
                    self.compare(&format!("{key}.{inner}"), given, default);
                }
            }
            (given, default) if given == default => {}
            // Helm and YAML 1.1 write `off` as `false`.
            (Value::String(given), Value::String(default)) if given == "false" && default == "off" => {}
            // Null stands for an empty text.
            (Value::Null, Value::String(default)) if default.is_empty() => {}
            (_, default) => {
                let accepted = match default {
                    Value::Null => "leave it out, or null".into(),
                    Value::String(text) if text.is_empty() => "leave it out".into(),
                    Value::String(text) => format!("leave it out, or {text}"),
                    Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                        "leave it out".to_owned()
                    }
                };
                self.add(key, Problem::Unsupported { accepted });
            }
        }
    }

    /// Whether `key`, a section around it or a key inside it has a problem: then checking it against other settings
    /// would only confuse.
    pub(crate) fn has(&self, key: &str) -> bool {
        let path = self.path(key);
        let mut suspects = vec![path.clone()];
        // What a route sets itself is not affected by a problem in what it would have inherited.
        suspects.extend(self.global(&path).filter(|_| !self.is_own(key)));
        suspects.iter().any(|suspect| {
            let mut reported = self.paths.iter().filter(|reported| !reported.0.is_empty());
            reported.any(|reported| suspect.0.starts_with(&reported.0) || reported.0.starts_with(&suspect.0))
        })
    }

    /// Whether `key` is written for this very route, and not inherited.
    pub(crate) fn is_own(&self, key: &str) -> bool {
        let path = self.path(key);
        self.layers.iter().any(|layer| layer.at(&path.0).is_some())
    }

    /// Reads or checks what is under `key`.
    pub(crate) fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.current.clone();
        self.current = self.path(key);
        let value = read(self);
        self.current = outer;
        value
    }

    /// Reads or checks element `index` of the list `key`.
    pub(crate) fn within_item<T>(&mut self, key: &str, index: usize, read: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.current.clone();
        self.current = self.path(key).index(index);
        let value = read(self);
        self.current = outer;
        value
    }

    /// Reads or checks a route's section `key`, which inherits from the global section of that name.
    pub(crate) fn inheriting<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.within(key, |problems| {
            let global = Path::default().key(key);
            problems.inherits = Some((problems.current.0.len(), global));
            let value = read(problems);
            problems.inherits = None;
            value
        })
    }

    /// Reads a `T`. What does not fit its type is reported, taken out of `node` and replaced by its default, until
    /// the rest fits, so that one run reports everything.
    pub(crate) fn read<T: DeserializeOwned + Default>(&mut self, node: &mut Node) -> T {
        loop {
            let misfit = match de::read(node) {
                Ok(value) => return value,
                Err(misfit) => misfit,
            };
            let path = self.current.join(&misfit.path);
            let location = self.location(&path, matches!(misfit.problem, Problem::UnknownKey { .. }));
            let problem = schema::with_suggestions(&path, misfit.problem);
            self.push(location, path, problem);
            if self.list.len() >= MAX_PROBLEMS {
                let path = self.current.clone();
                self.push(None, path, Problem::TooMany("there may be more: mend these first"));
                return T::default();
            }
            if !node.prune(&misfit.path) {
                return T::default();
            }
        }
    }

    fn push(&mut self, location: Option<Location>, path: Path, problem: Problem) {
        self.list.push(ConfigError { location, key: path.to_string(), problem });
        self.paths.push(path);
    }

    fn path(&self, key: &str) -> Path {
        if key.is_empty() { self.current.clone() } else { self.current.key(key) }
    }

    /// The path that a route's key inherits from.
    fn global(&self, path: &Path) -> Option<Path> {
        let (own, global) = self.inherits.as_ref()?;
        Some(global.join(path.0.get(*own..)?))
    }

    fn reported(&self, path: &Path) -> impl Iterator<Item = &ConfigError> {
        self.list
            .iter()
            .zip(&self.paths)
            .filter(move |(_, reported)| *reported == path)
            .map(|(error, _)| error)
    }

    /// Where `path` was written, or else the nearest section around it. A layer that has anything but a map on the
    /// way there replaces what lies below it: a single scalar may stand for a list.
    fn location(&self, path: &Path, of_key: bool) -> Option<Location> {
        let mut around: Option<(usize, Location)> = None;
        for layer in self.layers.iter().rev() {
            let mut node = layer;
            let down = path.0.iter().map_while(|step| {
                node = node.child(step)?;
                Some(())
            });
            let depth = down.count();
            let is_all = depth == path.0.len() || !matches!(node.kind, Kind::Map(_));
            if depth > 0 && (is_all || around.as_ref().is_none_or(|(best, _)| depth > *best)) {
                let location = location_in(layer, &path.0[..depth], of_key)?;
                if is_all {
                    return Some(location);
                }
                around = Some((depth, location));
            }
        }
        around.map(|(_, location)| location)
    }
}

/// Reading stops after so many problems.
const MAX_PROBLEMS: usize = 64;

fn location_in(layer: &Node, path: &[Step], of_key: bool) -> Option<Location> {
    let node = layer.at(path)?;
    if of_key
        && let Some((Step::Key(last), parents)) = path.split_last()
        && let Kind::Map(map) = &layer.at(parents)?.kind
    {
        return map.get(last).map(|entry| entry.key.clone());
    }
    Some(node.location.clone())
}
