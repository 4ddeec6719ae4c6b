//! Which messages a setting means, and where they have their key. Pure.

use std::sync::Arc;

use crate::config::{Match, Pointer};
use crate::frame::Kind;

/// A [`Match`], made ready.
#[derive(Debug)]
pub struct Matcher {}

impl Matcher {
    /// The configuration has checked that it can be made.
    pub fn new(rule: &Match) -> Self {
        let _ = rule;
        unimplemented!()
    }

    /// Whether the message is meant; `number` counts from 1.
    pub fn matches(&self, kind: Kind, payload: &[u8], number: u64) -> bool {
        let _ = (kind, payload, number);
        unimplemented!()
    }
}

/// What stands at `pointer`, as text: strings as they are, other values as JSON. `None`: nothing does, or the
/// message is no JSON.
pub fn key_at(pointer: &Pointer, kind: Kind, payload: &[u8]) -> Option<Arc<str>> {
    let _ = (pointer, kind, payload);
    unimplemented!()
}
