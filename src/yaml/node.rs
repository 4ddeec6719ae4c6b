//! Nodes: values, and where each was written.

use std::rc::Rc;

use super::value::{Map, Scalar, Style, Value};

/// A position in the text; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// One step down a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// A value, and where it was written.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) content: Content,
    pub(super) size: Size,
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    /// In the order of the text; what merge keys bring stands behind it.
    Map(Vec<Entry>),
}

/// A key of a map, and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Scalar,
    pub(crate) mark: Mark,
    pub(crate) value: Rc<Node>,
}

/// What a node comes to, with all that is below it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    pub(super) nodes: usize,
    pub(super) bytes: usize,
}

impl Node {
    pub(super) fn new(mark: Mark, content: Content) -> Self {
        let add = |sum: Size, size: Size| Size {
            nodes: sum.nodes.saturating_add(size.nodes),
            bytes: sum.bytes.saturating_add(size.bytes),
        };
        let one = Size { nodes: 1, bytes: 0 };
        let size = match &content {
            Content::Scalar(scalar) => Size { nodes: 1, bytes: scalar.text.len() },
            Content::List(list) => list.iter().map(|node| node.size).fold(one, add),
            Content::Map(map) => {
                let sizes = map.iter().map(|Entry { key, value, .. }| {
                    add(value.size, Size { nodes: 0, bytes: key.text.len() })
                });
                sizes.fold(one, add)
            }
        };
        Self { mark, content, size }
    }
}

/// Without positions. The recursion is as deep as the [`Dialect`](super::Dialect) let the text be.
impl From<Node> for Value {
    fn from(node: Node) -> Self {
        let own = |node: Rc<Node>| Value::from(Rc::unwrap_or_clone(node));
        match node.content {
            // A value that is left out is written as what it means.
            Content::Scalar(Scalar { text, style: Style::Plain }) if text.is_empty() => {
                Self::Scalar(Scalar::plain("null"))
            }
            Content::Scalar(scalar) => Self::Scalar(scalar),
            Content::List(list) => Self::List(list.into_iter().map(own).collect()),
            Content::Map(map) => {
                Self::Map(Map(map.into_iter().map(|Entry { key, value, .. }| (key, own(value))).collect()))
            }
        }
    }
}
