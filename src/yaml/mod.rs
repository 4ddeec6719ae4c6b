//! YAML: text to trees, and trees to text. Pure.
//!
//! [`compose()`] drives the parser and puts its events together to [`Node`]s, which know where they were written. A
//! [`Value`] is the same without positions, to be changed and written: [`write()`] lays it out.
//!
//! # Invariants
//! 1. Whatever the text, reading it ends, uses bounded memory and does not panic: its size, its depth, and what its
//!    aliases come to, in nodes and in bytes, have limits.
//! 2. A scalar keeps its text and whether it was quoted. Nothing here turns it into a number or a boolean.
//! 3. Keys of a map are scalars, and they differ.
//!
//! # Not here
//! What keys there are and what a scalar means ([`crate::config`], [`crate::inject`]).

mod compose;
mod dialect;
mod node;
mod value;
mod write;

pub(crate) use compose::{Composed, Error, ErrorKind, compose};
pub(crate) use dialect::{Dialect, Documents, KeyLimit, Tags};
pub(crate) use node::{Content, Entry, Mark, Node, Step};
pub(crate) use value::{Map, Scalar, Style, Value, is_null};
pub(crate) use write::{Layout, write, write_as};
