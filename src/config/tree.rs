//! Settings as they were written: a tree of maps, lists and text, with the location of each.
//!
//! # Invariants
//! 1. A scalar keeps its text. What it means is decided by the type that reads it, so a token
//!    `00123` stays a token.
//! 2. Only a plain `null`, `~` or an empty plain scalar is [`Kind::Null`].
//!
//! # Not here
//! How text becomes a tree ([`super::yaml`]), and how trees are merged ([`super::layers`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub(crate) use crate::yaml::Step;

/// A value, and where it was written.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) location: Location,
}

/// What a [`Node`] holds.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(BTreeMap<String, Entry>),
}

/// A value under a key. The key has a location of its own, which is where an unknown key is reported.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Location,
    pub(crate) node: Node,
}

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Location {
    /// A file as a whole.
    WholeFile {
        name: Arc<str>,
    },
    /// Line and column, which count from 1.
    File {
        name: Arc<str>,
        line: usize,
        column: usize,
    },
    Env(Arc<str>),
    Flag(&'static str),
    /// Made by merging layers, which have the locations.
    Merged,
}

/// From the root of a tree to one of its nodes: `routes[2].policy.max_frame`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Path(pub(crate) Vec<Step>);

impl Node {
    pub(crate) fn new(kind: Kind, location: Location) -> Self {
        Self { kind, location }
    }

    /// A map without entries.
    pub(crate) fn empty(location: Location) -> Self {
        Self::new(Kind::Map(BTreeMap::new()), location)
    }

    /// The entry or element under `step`.
    pub(crate) fn child(&self, step: &Step) -> Option<&Node> {
        match (&self.kind, step) {
            (Kind::Map(map), Step::Key(key)) => map.get(key).map(|entry| &entry.node),
            (Kind::List(list), Step::Index(index)) => list.get(*index),
            (Kind::Null | Kind::Scalar(_) | Kind::List(_) | Kind::Map(_), _) => None,
        }
    }

    fn child_mut(&mut self, step: &Step) -> Option<&mut Node> {
        match (&mut self.kind, step) {
            (Kind::Map(map), Step::Key(key)) => map.get_mut(key).map(|entry| &mut entry.node),
            (Kind::List(list), Step::Index(index)) => list.get_mut(*index),
            (Kind::Null | Kind::Scalar(_) | Kind::List(_) | Kind::Map(_), _) => None,
        }
    }

    /// The node at `path`.
    pub(crate) fn at(&self, path: &[Step]) -> Option<&Node> {
        path.iter().try_fold(self, Node::child)
    }

    /// Takes the entry `key` out of a map.
    pub(crate) fn take(&mut self, key: &str) -> Option<Node> {
        match &mut self.kind {
            Kind::Map(map) => map.remove(key).map(|entry| entry.node),
            Kind::Null | Kind::Scalar(_) | Kind::List(_) => None,
        }
    }

    /// Puts `node` under `key`; does nothing to what is not a map.
    pub(crate) fn put(&mut self, key: &str, node: Node) {
        if let Kind::Map(map) = &mut self.kind {
            map.insert(key.to_owned(), Entry { key: node.location.clone(), node });
        }
    }

    /// Removes the node at `path`, or the nearest map entry around it: an element is never removed from its list
    /// alone, since that would renumber those after it. Answers `false` if there is nothing to remove but the root.
    pub(crate) fn prune(&mut self, path: &[Step]) -> bool {
        let mut path = path;
        while let Some((last, parents)) = path.split_last() {
            let parent = parents.iter().try_fold(&mut *self, |node, step| node.child_mut(step));
            if let (Some(Node { kind: Kind::Map(map), .. }), Step::Key(key)) = (parent, last)
                && map.remove(key).is_some()
            {
                return true;
            }
            path = parents;
        }
        false
    }
}

impl Path {
    /// This path and one key more.
    pub(crate) fn key(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.extend(key.split('.').map(|part| Step::Key(part.to_owned())));
        Self(steps)
    }

    /// This path and one index more.
    pub(crate) fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// This path and further steps.
    pub(crate) fn join(&self, further: &[Step]) -> Self {
        Self(self.0.iter().chain(further).cloned().collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WholeFile { name } => f.write_str(name),
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Merged => f.write_str("configuration"),
        }
    }
}
