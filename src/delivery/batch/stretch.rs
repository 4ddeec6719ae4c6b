//! A stretch of a log that was read once: which of its messages go, and what is made of them for whom.
//!
//! # Invariants
//! 1. A message is passed over for a newer one only if that is in the same stretch, so it is there to go next,
//!    whether or not it is in the same batch.
//! 2. Who goes on inside a stretch gets what a read from there would have given: a batch that ends early tells what
//!    was missed up to its end only.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Batch, View};
use crate::log::{Cursor, Entry, Log, Progress};

/// What one batch has at most: enough for one system call, not enough to keep others waiting. One message goes
/// however long it is.
const BATCH: Bounds = Bounds { messages: 64, bytes: 64 * 1024 };
/// What is looked at together to find the newest of each key.
const CONFLATED: Bounds = Bounds { messages: 4096, bytes: 1024 * 1024 };
/// Users that a batch can be told not to be for.
const EXCEPTIONS: usize = 16;

struct Bounds {
    messages: usize,
    bytes: usize,
}

/// For which messages a newer one stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conflate {
    /// Those for which there is one with the same key.
    pub(super) by_key: bool,
    /// All but the newest.
    pub(super) to_newest: bool,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lot {
    Goes,
    /// Another one with its key stands for it.
    Conflated,
    /// Only the newest goes.
    Shed,
}

/// Messages as they were read.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    /// `None`: nothing was read.
    read: Option<Read>,
    entries: Vec<Arc<Entry>>,
    /// Of each entry; empty: all go.
    lots: Vec<Lot>,
    /// Kept to be used again.
    keys: HashSet<Arc<str>>,
    /// The places of those that go.
    picked: Vec<usize>,
}

/// From where it was read, and what came of it.
#[derive(Debug)]
struct Read {
    start: Cursor,
    progress: Progress,
}

/// A batch, and who may have it.
#[derive(Debug)]
pub(super) struct Made {
    at: Cursor,
    /// `None`: it is the same for both.
    has_deflate: Option<bool>,
    audience: Audience,
    pub(super) batch: Batch,
    /// Its bytes, for those who keep them.
    pub(super) held: Option<Bytes>,
}

#[derive(Debug)]
enum Audience {
    All,
    AllBut(Vec<Arc<str>>),
    Only(Option<Arc<str>>),
}

impl Made {
    /// Whether it is what that client is to get.
    pub(super) fn is_for(&self, cursor: Cursor, view: View<'_>) -> bool {
        self.at == cursor
            && self.has_deflate.is_none_or(|has_deflate| has_deflate == view.has_deflate)
            && match &self.audience {
                Audience::All => true,
                Audience::AllBut(users) => view.user.is_none_or(|user| !users.contains(user)),
                Audience::Only(user) => user.as_ref() == view.user,
            }
    }
}

impl Stretch {
    pub(super) fn clear(&mut self) {
        self.read = None;
        self.entries.clear();
        self.entries.shrink_to(BATCH.messages);
        self.lots = Vec::new();
    }

    /// Reads from `cursor` on, as far as it takes to tell what goes.
    pub(super) fn read(&mut self, log: &Log, cursor: Cursor, until: u64, conflate: Conflate) {
        self.clear();
        let is_plain = conflate == Conflate { by_key: false, to_newest: false };
        let most = if is_plain { &BATCH } else { &CONFLATED };
        let progress = log.read(cursor, until, most.messages, most.bytes, &mut self.entries);
        self.read = Some(Read { start: cursor, progress });
        if !is_plain {
            self.conflate(conflate);
        }
    }

    fn conflate(&mut self, conflate: Conflate) {
        self.lots.resize(self.entries.len(), Lot::Goes);
        self.keys.clear();
        let mut is_newest = true;
        for (entry, lot) in self.entries.iter().zip(&mut self.lots).rev() {
            if entry.is_critical || entry.to().is_some() {
                continue;
            }
            let is_key_known = match entry.key() {
                Some(key) if conflate.by_key => !self.keys.insert(key.clone()),
                Some(_) | None => false,
            };
            if is_key_known {
                *lot = Lot::Conflated;
            } else if conflate.to_newest && !is_newest {
                *lot = Lot::Shed;
            }
            is_newest = false;
        }
        self.keys.clear();
        self.keys.shrink_to(BATCH.messages);
    }

    /// Where in the stretch a client goes on that stands at `cursor`; `None`: it has to be read.
    pub(super) fn place_of(&self, cursor: Cursor) -> Option<usize> {
        let read = self.read.as_ref()?;
        if cursor == read.start {
            return Some(0);
        }
        let is_inside = (read.start.next..read.progress.cursor.next).contains(&cursor.next)
            && cursor.all_from == read.start.all_from.max(cursor.next);
        is_inside.then(|| self.entries.partition_point(|entry| entry.sequence < cursor.next))
    }

    /// What is due to a client that stands at `cursor`, which is at `from` in the stretch.
    pub(super) fn make(&mut self, cursor: Cursor, from: usize, view: View<'_>) -> Made {
        let Some(read) = &self.read else {
            let batch = Batch::nothing(cursor);
            return Made { at: cursor, has_deflate: None, audience: Audience::All, batch, held: None };
        };
        let mut batch = Batch { has_more: read.progress.has_more, ..Batch::nothing(read.progress.cursor) };
        let mut bytes = 0;
        let (mut is_personal, mut has_two_forms) = (false, false);
        let mut others = Vec::new();
        let mut end = self.entries.len();
        for (place, entry) in self.entries.iter().enumerate().skip(from) {
            if let Some(user) = entry.to() {
                if view.user != Some(user) {
                    batch.others += 1;
                    if others.len() <= EXCEPTIONS && !others.contains(user) {
                        others.push(user.clone());
                    }
                    continue;
                }
                is_personal = true;
            }
            match self.lots.get(place) {
                Some(Lot::Conflated) => {
                    batch.conflated += 1;
                    continue;
                }
                Some(Lot::Shed) => {
                    batch.shed += 1;
                    continue;
                }
                Some(Lot::Goes) | None => {}
            }
            has_two_forms |= entry.deflated().is_some();
            let length = entry.frame_for(view.has_deflate).len();
            let is_full = self.picked.len() >= BATCH.messages || bytes + length > BATCH.bytes;
            if is_full && !self.picked.is_empty() {
                let next = entry.sequence;
                batch.cursor = Cursor { next, all_from: cursor.all_from.max(next) };
                batch.has_more = true;
                end = place;
                break;
            }
            bytes += length;
            batch.messages += 1;
            batch.newest = entry.sequence;
            self.picked.push(place);
        }
        // Up to where it ends, and not of the whole stretch: what goes later may be missed until then.
        let done = self.entries.get(from..end).unwrap_or_default();
        let found = done.len() - done.partition_point(|entry| entry.sequence < cursor.all_from);
        batch.missed = batch.cursor.next.saturating_sub(cursor.all_from).saturating_sub(found as u64);
        batch.bytes = join(&self.entries, &self.picked, view.has_deflate, bytes);
        self.picked.clear();
        let audience = if is_personal || others.len() > EXCEPTIONS {
            Audience::Only(view.user.cloned())
        } else if others.is_empty() {
            Audience::All
        } else {
            Audience::AllBut(others)
        };
        Made {
            at: cursor,
            has_deflate: has_two_forms.then_some(view.has_deflate),
            audience,
            batch,
            held: None,
        }
    }
}

/// Puts the frames of those that were picked together; a single one stays what it is.
fn join(entries: &[Arc<Entry>], picked: &[usize], has_deflate: bool, length: usize) -> Bytes {
    if let [place] = *picked {
        return entries[place].shared_frame_for(has_deflate);
    }
    let mut joined = BytesMut::with_capacity(length);
    for &place in picked {
        joined.extend_from_slice(entries[place].frame_for(has_deflate));
    }
    joined.freeze()
}
