//! YAML text of settings to a [`Node`] that knows where each piece was written.
//!
//! # Not here
//! How YAML is read, and what bounds it ([`crate::yaml`]); which keys there are, and what a scalar means: that is up to
//! the types in [`super::raw`].

use std::rc::Rc;

use super::error::Problem;
use super::tree::{Entry, Kind, Location, Node, Path};
use crate::yaml::{
    self, Composed, Content, Dialect, Documents, ErrorKind, KeyLimit, Mark, Scalar, Style, Tags, compose,
};

/// What was read, and what is wrong with it. Without a node nothing more can be said of the text.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) node: Option<Node>,
    pub(crate) source_problems: Vec<SourceProblem>,
}

/// One thing that is wrong with a source.
#[derive(Debug)]
pub(crate) struct SourceProblem {
    pub(crate) location: Location,
    pub(crate) path: Path,
    pub(crate) problem: Problem,
}

/// The longest file of settings: hundreds of routes fit, and no limit below is reached first.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;
/// The deepest setting is 6 levels down; recursion over a tree stays far from any stack's end.
pub(crate) const MAX_DEPTH: usize = 32;

const DIALECT: Dialect = Dialect {
    max_bytes: MAX_BYTES,
    max_depth: MAX_DEPTH,
    max_nodes: 20_000,
    // What is read of a text is kept several times over while a configuration is checked.
    max_repeated_bytes: 4 * MAX_BYTES,
    // More than an operator reads in one go.
    max_errors: 64,
    key_limit: KeyLimit::Bytes(128),
    documents: Documents::One,
    tags: Tags::None,
};

/// Reads the text of a file; `locate` makes a location of a line and column (counted from 1).
pub(crate) fn parse(text: &str, locate: impl Fn(usize, usize) -> Location) -> Parsed {
    read(text, Empty::Null, &|mark: Mark| locate(mark.line, mark.column))
}

/// Reads the value of an environment variable, where nothing at all is an empty text and not null, since it may be what
/// an unset variable came to (`{ auth: ${AUTH} }`).
pub(crate) fn parse_value(text: &str, location: &Location) -> Parsed {
    read(text, Empty::Text, &|_| location.clone())
}

/// What a plain scalar without a character stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Empty {
    Null,
    Text,
}

fn read(text: &str, empty: Empty, locate: &dyn Fn(Mark) -> Location) -> Parsed {
    let Composed { mut documents, errors, is_complete } = compose(text, &DIALECT);
    let source_problems = errors.into_iter().map(|yaml::Error { document: _, mark, path, kind }| {
        SourceProblem { location: locate(mark), path: Path(path), problem: problem(kind, locate) }
    });
    let source_problems = source_problems.collect();
    let node = is_complete.then(|| match documents.pop() {
        Some(document) => node(document.root, empty, locate),
        None => {
            let kind = if empty == Empty::Text { Kind::Scalar(String::new()) } else { Kind::Null };
            Node::new(kind, locate(Mark { line: 1, column: 1 }))
        }
    });
    Parsed { node, source_problems }
}

/// An error, in the words for settings.
fn problem(kind: ErrorKind, locate: &dyn Fn(Mark) -> Location) -> Problem {
    match kind {
        ErrorKind::DuplicateKey { first, key: _ } => Problem::Duplicate { first: locate(first) },
        ErrorKind::Tag(_) => {
            Problem::Syntax("YAML tags (!…) are not supported; the key decides the type".into())
        }
        other => Problem::Syntax(other.to_string()),
    }
}

fn node(node: Rc<yaml::Node>, empty: Empty, locate: &dyn Fn(Mark) -> Location) -> Node {
    let yaml::Node { mark, content, .. } = Rc::unwrap_or_clone(node);
    let kind = match content {
        Content::Scalar(Scalar { text, style }) => {
            let is_text = text.is_empty() && empty == Empty::Text;
            if style == Style::Plain && yaml::is_null(&text) && !is_text {
                Kind::Null
            } else {
                Kind::Scalar(text)
            }
        }
        Content::List(list) => {
            Kind::List(list.into_iter().map(|item| self::node(item, empty, locate)).collect())
        }
        Content::Map(map) => {
            let entries = map.into_iter().map(|yaml::Entry { key, mark, value }| {
                (key.text, Entry { key: locate(mark), node: self::node(value, empty, locate) })
            });
            Kind::Map(entries.collect())
        }
    };
    Node::new(kind, locate(mark))
}
