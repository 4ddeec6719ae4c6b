//! What a text may be: its limits, and what YAML it may use.

use std::fmt;

/// What a text may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    pub(crate) max_bytes: usize,
    pub(crate) max_depth: usize,
    /// Nodes of all documents; those that an alias repeats are counted each time.
    pub(crate) max_nodes: usize,
    /// Bytes of text that aliases may repeat.
    pub(crate) max_repeated_bytes: usize,
    /// Composing stops after so many errors.
    pub(crate) max_errors: usize,
    pub(crate) key_limit: KeyLimit,
    pub(crate) documents: Documents,
    pub(crate) tags: Tags,
}

/// How long a key may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyLimit {
    Bytes(usize),
    Chars(usize),
}

/// How many documents a text may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Documents {
    One,
    Many,
}

/// Which tags a node may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tags {
    None,
    /// `!!str`, `!!seq` and `!!map`, each on a node of its own kind.
    Core,
}

impl fmt::Display for KeyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(most) => write!(f, "{most} bytes"),
            Self::Chars(most) => write!(f, "{most} characters"),
        }
    }
}
