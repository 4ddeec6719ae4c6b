//! Collects what is wrong while settings are read and checked, and finds where each was written.
//!
//! # Invariants
//! 1. A problem of the global policy is told once, not once for each route that inherits it.
//! 2. A place is asked of the layers, the last one first: it is where the value that counts stands.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::de;
use super::error::{ConfigError, ConfigErrors, Problem};
use super::files::Files;
use super::model::File;
use super::schema;
use super::tree::{Kind, Location, Node, Path, Step};

/// What was found so far, and the key at which the reader stands.
pub(crate) struct Problems {
    layers: Vec<Node>,
    list: Vec<ConfigError>,
    /// Aligned with `list`.
    paths: Vec<Path>,
    here: Path,
    /// While a route is read: how much of `here` is the route's, and what it inherits from.
    inherits: Option<(usize, Path)>,
    files: Files,
}

impl Problems {
    /// `layers` in the order in which they were laid, the first at the bottom.
    pub(crate) fn new(layers: Vec<Node>) -> Self {
        Self {
            layers,
            list: Vec::new(),
            paths: Vec::new(),
            here: Path::default(),
            inherits: None,
            files: Files::default(),
        }
    }

    /// Whether nothing was told.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Where the value stands that counts for `path`, if anybody wrote that very key.
    pub(crate) fn written(&self, path: &Path) -> Option<Location> {
        self.layers.iter().rev().find_map(|layer| location_in(layer, &path.0, true))
    }

    /// All that was told, or `value` if that is nothing.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, ConfigErrors> {
        if self.list.is_empty() { Ok(value) } else { Err(self.into_errors()) }
    }

    /// All that was told.
    pub(crate) fn into_errors(self) -> ConfigErrors {
        ConfigErrors::new(self.list)
    }

    /// The file that `key` names. It is empty if it could not be read, which is told then.
    pub(crate) fn file(&mut self, key: &str, path: &FilePath) -> File {
        self.read_file(path).unwrap_or_else(|what| {
            self.add(key, Problem::File(what));
            File { path: path.into(), contents: [].into() }
        })
    }

    /// A file that is named somewhere, or why there is none.
    pub(crate) fn read_file(&mut self, path: &FilePath) -> Result<File, String> {
        let contents = self.files.read(path).map_err(|what| format!("{}: {what}", path.display()))?;
        Ok(File { path: path.into(), contents })
    }

    /// Every file that was asked for, whether it could be read or not.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.files.asked()
    }

    /// Something found while reading a source, which knows its place.
    pub(crate) fn add_at(&mut self, location: Location, path: Path, problem: Problem) {
        self.push(Some(location), path, problem);
    }

    /// `key` (of where the reader stands; "" for that itself) has a problem.
    pub(crate) fn add(&mut self, key: &str, problem: Problem) {
        let path = self.path(key);
        if let Some(general) = self.general(&path)
            && self.told(&general).any(|error| error.problem == problem)
        {
            return;
        }
        let location = self.location(&path, matches!(problem, Problem::UnknownKey { .. }));
        self.push(location, path, problem);
    }

    /// A value out of range, or at odds with another.
    pub(crate) fn refuse(&mut self, key: &str, found: impl fmt::Display, accepted: impl fmt::Display) {
        let (found, accepted) = (found.to_string(), accepted.to_string());
        self.add(key, Problem::Value { found, accepted });
    }

    /// Refuses what differs from the default, since nothing would act on it.
    pub(crate) fn only_default<T: Serialize>(&mut self, key: &str, given: &T, default: &T) {
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
            // Nothing is as good as an empty text.
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
                self.add(key, Problem::NotYet { accepted });
            }
        }
    }

    /// Whether a problem with `key`, with what is around it or with what is inside it was told: a
    /// check of it against others would only confuse.
    pub(crate) fn has(&self, key: &str) -> bool {
        let path = self.path(key);
        let mut suspects = vec![path.clone()];
        // What the route sets itself does not suffer from what it would have inherited.
        suspects.extend(self.general(&path).filter(|_| !self.is_own(key)));
        suspects.iter().any(|suspect| {
            let mut told = self.paths.iter().filter(|told| !told.0.is_empty());
            told.any(|told| suspect.0.starts_with(&told.0) || told.0.starts_with(&suspect.0))
        })
    }

    /// Whether `key` is written for this very route (and not inherited).
    pub(crate) fn is_own(&self, key: &str) -> bool {
        let path = self.path(key);
        self.layers.iter().any(|layer| layer.at(&path.0).is_some())
    }

    /// Reads or checks what is under `key`.
    pub(crate) fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.here.clone();
        self.here = self.path(key);
        let value = read(self);
        self.here = outer;
        value
    }

    /// Reads or checks element `index` of the list `key`.
    pub(crate) fn within_item<T>(&mut self, key: &str, index: usize, read: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.here.clone();
        self.here = self.path(key).index(index);
        let value = read(self);
        self.here = outer;
        value
    }

    /// What `read` does stands under `key`, and inherits from the global section of that name.
    pub(crate) fn inheriting<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.within(key, |problems| {
            let general = Path::default().key(key);
            problems.inherits = Some((problems.here.0.len(), general));
            let value = read(problems);
            problems.inherits = None;
            value
        })
    }

    /// Reads a `T`, taking out of `node` whatever does not fit (its default takes the place), until
    /// the rest does: so that one run tells everything.
    pub(crate) fn read<T: DeserializeOwned + Default>(&mut self, node: &mut Node) -> T {
        loop {
            let misfit = match de::read(node) {
                Ok(value) => return value,
                Err(misfit) => misfit,
            };
            let path = self.here.join(&misfit.path);
            let location = self.location(&path, matches!(misfit.problem, Problem::UnknownKey { .. }));
            let problem = schema::with_suggestions(&path, misfit.problem);
            self.push(location, path, problem);
            if self.list.len() >= MOST {
                let path = self.here.clone();
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
        if key.is_empty() { self.here.clone() } else { self.here.key(key) }
    }

    /// The global counterpart of a route's key.
    fn general(&self, path: &Path) -> Option<Path> {
        let (own, general) = self.inherits.as_ref()?;
        Some(general.join(path.0.get(*own..)?))
    }

    fn told(&self, path: &Path) -> impl Iterator<Item = &ConfigError> {
        self.list.iter().zip(&self.paths).filter(move |(_, told)| *told == path).map(|(error, _)| error)
    }

    /// Where `path` was written, or else what is nearest around it. A layer that has anything but a map on the way
    /// there replaces what lies below it: one word may stand for a list.
    fn location(&self, path: &Path, key_itself: bool) -> Option<Location> {
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
                let location = location_in(layer, &path.0[..depth], key_itself)?;
                if is_all {
                    return Some(location);
                }
                around = Some((depth, location));
            }
        }
        around.map(|(_, location)| location)
    }
}

/// More problems than this are not looked for.
const MOST: usize = 64;

fn location_in(layer: &Node, path: &[Step], key_itself: bool) -> Option<Location> {
    let node = layer.at(path)?;
    if key_itself
        && let Some((Step::Key(last), parents)) = path.split_last()
        && let Kind::Map(map) = &layer.at(parents)?.kind
    {
        return map.get(last).map(|entry| entry.key.clone());
    }
    Some(node.location.clone())
}
