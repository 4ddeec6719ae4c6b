//! The messages of a greeting, in the order in which they are said. Pure.
//!
//! They are few, as the rules say how many, so a look-up goes over all of them: hashes come first, so that what is compared in
//! whole is nearly always what was looked for.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::frame::Kind;

pub(super) struct Store {
    /// By their places.
    kept: VecDeque<Kept>,
    /// What they cost, and may cost at most.
    bytes: usize,
    max_bytes: usize,
}

/// A message.
pub(super) struct Kept {
    /// The number of the first version of it.
    place: u64,
    /// The number of this version.
    number: u64,
    rule: usize,
    hash: u64,
    key: Option<Arc<str>>,
    kind: Kind,
    payload: Box<[u8]>,
}

/// What a message is told apart by, within its rule.
#[derive(Clone, Copy)]
struct Id<'a> {
    rule: usize,
    hash: u64,
    key: Option<&'a str>,
    kind: Kind,
    payload: &'a [u8],
}

impl<'a> Id<'a> {
    fn new(rule: usize, key: Option<&'a str>, kind: Kind, payload: &'a [u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        match key {
            Some(key) => key.hash(&mut hasher),
            None => payload.hash(&mut hasher),
        }
        Self { rule, hash: hasher.finish(), key, kind, payload }
    }

    fn is(&self, kept: &Kept) -> bool {
        let is_same = || match (self.key, kept.key()) {
            (Some(key), Some(its)) => key == its,
            (None, None) => self.kind == kept.kind && *self.payload == *kept.payload,
            _ => false,
        };
        self.rule == kept.rule && self.hash == kept.hash && is_same()
    }
}

impl Kept {
    pub(super) fn place(&self) -> u64 {
        self.place
    }

    pub(super) fn rule(&self) -> usize {
        self.rule
    }

    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// What it costs to keep a message.
fn cost(payload: &[u8], key: Option<&str>) -> usize {
    size_of::<Kept>() + payload.len() + key.map_or(0, str::len)
}

impl Store {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { kept: VecDeque::new(), bytes: 0, max_bytes }
    }

    /// Keeps a message, `limit` of its rule. Answers how many are given up for it; itself, if it alone is too much.
    pub(super) fn keep(
        &mut self,
        rule: usize,
        limit: usize,
        number: u64,
        key: Option<Arc<str>>,
        kind: Kind,
        payload: &[u8],
    ) -> u64 {
        let id = Id::new(rule, key.as_deref(), kind, payload);
        let mut place = number;
        if let Some(index) = self.index_of(&id) {
            if self.kept[index].number >= number {
                return 0;
            }
            place = self.kept[index].place;
            self.remove(index);
        }
        let cost = cost(payload, key.as_deref());
        if cost > self.max_bytes {
            return 1;
        }
        let hash = id.hash;
        let mut given_up = 0;
        if self.kept.iter().filter(|kept| kept.rule == rule).count() >= limit
            && let Some(oldest) = self.kept.iter().position(|kept| kept.rule == rule)
        {
            self.remove(oldest);
            given_up += 1;
        }
        while self.bytes + cost > self.max_bytes && !self.kept.is_empty() {
            self.remove(0);
            given_up += 1;
        }
        self.bytes += cost;
        let index = self.kept.partition_point(|kept| kept.place < place);
        self.kept.insert(index, Kept { place, number, rule, hash, key, kind, payload: payload.into() });
        given_up
    }

    /// Keeps nothing with this key of this rule any more.
    pub(super) fn forget(&mut self, rule: usize, key: &str) {
        if let Some(index) = self.index_of(&Id::new(rule, Some(key), Kind::Text, &[])) {
            self.remove(index);
        }
    }

    /// The number of the version that is kept of this message.
    pub(super) fn newest(&self, rule: usize, key: Option<&str>, kind: Kind, payload: &[u8]) -> Option<u64> {
        let index = self.index_of(&Id::new(rule, key, kind, payload))?;
        Some(self.kept[index].number)
    }

    /// What comes behind this place.
    pub(super) fn after(&self, place: u64) -> Option<&Kept> {
        self.kept.get(self.kept.partition_point(|kept| kept.place <= place))
    }

    /// The numbers of all messages.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.kept.iter().map(|kept| kept.number)
    }

    pub(super) fn held(&self) -> usize {
        self.bytes
    }

    fn index_of(&self, id: &Id<'_>) -> Option<usize> {
        self.kept.iter().position(|kept| id.is(kept))
    }

    fn remove(&mut self, index: usize) {
        if let Some(kept) = self.kept.remove(index) {
            self.bytes -= cost(&kept.payload, kept.key());
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
    }
}
