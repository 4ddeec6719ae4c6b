//! A segment of a log that was read once: which of its messages are sent, and the batch that is made of them.
//!
//! # Invariants
//! 1. A message is left out for a newer one only if that is in the same segment, and so will be sent next, whether or
//!    not it is in the same batch.
//! 2. A client that goes on inside a segment gets what a read from there would have given: a batch that ends early
//!    counts what was missed up to its end only.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::delivery::encoding::Encoding;
use crate::delivery::events::stream::push_message;
use crate::delivery::events::{DataForm, max_len};
use crate::log::{Cursor, Entry, Log, Progress};

/// The most that one batch has: enough for one system call, and not enough to keep others waiting. A single message is
/// sent however long it is.
const BATCH: Bounds = Bounds { messages: 64, bytes: 64 * 1024 };
/// The most that is looked at together to find the newest of each key.
const CONFLATED: Bounds = Bounds { messages: 4096, bytes: 1024 * 1024 };
/// The most users that a batch can exclude.
const EXCEPTIONS: usize = 16;

struct Bounds {
    messages: usize,
    bytes: usize,
}

/// What a client sees of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::delivery) struct View<'a> {
    /// How it is sent messages.
    pub(in crate::delivery) encoding: Encoding,
    /// The client's user; messages for other users are left out.
    pub(in crate::delivery) user: Option<&'a Arc<str>>,
    /// Whether it counts: then a batch ends where a message is left out, and it is told the number of the next one.
    pub(in crate::delivery) is_counting: bool,
}

/// A segment of a log, as it goes out to clients.
#[derive(Debug, Clone)]
pub(in crate::delivery) struct Batch {
    /// Whole frames: one message's own bytes, or several messages put together; or whole events. Empty if all of the
    /// segment is left out: there may be more after it.
    pub(in crate::delivery) bytes: Bytes,
    /// Messages in it.
    pub(in crate::delivery) messages: u32,
    /// The oldest sequence number in it (0: none is).
    pub(in crate::delivery) oldest: u64,
    /// The newest sequence number in it (0: none is).
    pub(in crate::delivery) newest: u64,
    /// Where to go on after it.
    pub(in crate::delivery) cursor: Cursor,
    /// Messages that cannot be read at this cursor any more.
    pub(in crate::delivery) missed: u64,
    /// Messages that are left out for a newer one with the same key (`delivery.throttle`).
    pub(in crate::delivery) conflated: u64,
    /// Messages that are left out for a newer one since the channel's breaker is open.
    pub(in crate::delivery) shed: u64,
    /// Messages for other users.
    pub(in crate::delivery) others: u64,
    /// Whether there is more to read now.
    pub(in crate::delivery) has_more: bool,
}

impl Batch {
    /// The number that the next message has at least, less one.
    pub(in crate::delivery) fn before(&self) -> u64 {
        let next = if self.messages > 0 { self.oldest } else { self.cursor.next };
        next.saturating_sub(1)
    }

    /// Nothing is due at `cursor`.
    pub(in crate::delivery) fn nothing(cursor: Cursor) -> Self {
        Self {
            bytes: Bytes::new(),
            messages: 0,
            oldest: 0,
            newest: 0,
            cursor,
            missed: 0,
            conflated: 0,
            shed: 0,
            others: 0,
            has_more: false,
        }
    }
}

/// Which messages are left out for a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conflate {
    /// Those of which there is a newer one with the same key.
    pub(super) by_key: bool,
    /// All but the newest.
    pub(super) to_newest: bool,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disposition {
    Sent,
    /// A newer one with the same key is sent instead.
    Conflated,
    /// Only the newest one is sent.
    Shed,
}

/// Messages as they were read.
#[derive(Debug, Default)]
pub(super) struct Segment {
    /// `None`: nothing was read.
    read: Option<Read>,
    entries: Vec<Arc<Entry>>,
    /// What becomes of each entry; empty: all are sent.
    dispositions: Vec<Disposition>,
    /// Kept to be used again.
    keys: HashSet<Arc<str>>,
    /// The indices of those that are sent.
    picked: Vec<usize>,
}

/// Where it was read from, and what came of that.
#[derive(Debug)]
struct Read {
    start: Cursor,
    progress: Progress,
}

/// A batch, and which clients may have it.
#[derive(Debug)]
pub(super) struct CachedBatch {
    at: Cursor,
    encodings: Encodings,
    is_counting: bool,
    audience: Audience,
    pub(super) batch: Batch,
    /// Its bytes, counted once for all clients that keep them.
    pub(super) held: Option<Bytes>,
}

/// For whom it is encoded.
#[derive(Debug)]
enum Encodings {
    /// Frames that are the same with and without compression.
    AnyFrames,
    Only(Encoding),
}

#[derive(Debug)]
enum Audience {
    All,
    AllBut(Vec<Arc<str>>),
    Only(Option<Arc<str>>),
}

impl CachedBatch {
    /// Whether it is due to that client.
    pub(super) fn is_for(&self, cursor: Cursor, view: View<'_>) -> bool {
        self.at == cursor
            && self.is_counting == view.is_counting
            && match self.encodings {
                Encodings::AnyFrames => !matches!(view.encoding, Encoding::Events(_)),
                Encodings::Only(encoding) => encoding == view.encoding,
            }
            && match &self.audience {
                Audience::All => true,
                Audience::AllBut(users) => view.user.is_none_or(|user| !users.contains(user)),
                Audience::Only(user) => user.as_ref() == view.user,
            }
    }
}

impl Segment {
    pub(super) fn clear(&mut self) {
        self.read = None;
        self.entries.clear();
        self.entries.shrink_to(BATCH.messages);
        self.dispositions = Vec::new();
    }

    /// Reads from `cursor` on, as far as it takes to tell which messages are sent.
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
        self.dispositions.resize(self.entries.len(), Disposition::Sent);
        self.keys.clear();
        let mut is_newest = true;
        for (entry, disposition) in self.entries.iter().zip(&mut self.dispositions).rev() {
            if entry.is_critical || entry.to().is_some() {
                continue;
            }
            let is_key_known = match entry.key() {
                Some(key) if conflate.by_key => !self.keys.insert(key.clone()),
                Some(_) | None => false,
            };
            if is_key_known {
                *disposition = Disposition::Conflated;
            } else if conflate.to_newest && !is_newest {
                *disposition = Disposition::Shed;
            }
            is_newest = false;
        }
        self.keys.clear();
        self.keys.shrink_to(BATCH.messages);
    }

    /// The index in the segment at which a client at `cursor` goes on; `None`: the log has to be read.
    pub(super) fn place_of(&self, cursor: Cursor) -> Option<usize> {
        let read = self.read.as_ref()?;
        if cursor == read.start {
            return Some(0);
        }
        let is_inside = (read.start.next..read.progress.cursor.next).contains(&cursor.next)
            && cursor.all_from == read.start.all_from.max(cursor.next);
        is_inside.then(|| self.entries.partition_point(|entry| entry.sequence < cursor.next))
    }

    /// What is due to a client at `cursor`, which is at index `from` in the segment.
    /// `id_prefix`: what ids of events begin with.
    pub(super) fn make(
        &mut self,
        cursor: Cursor,
        from: usize,
        view: View<'_>,
        id_prefix: &str,
    ) -> CachedBatch {
        let Some(read) = &self.read else {
            let batch = Batch::nothing(cursor);
            let (encodings, audience) = (Encodings::Only(view.encoding), Audience::All);
            let is_counting = view.is_counting;
            return CachedBatch { at: cursor, encodings, is_counting, audience, batch, held: None };
        };
        let mut batch = Batch { has_more: read.progress.has_more, ..Batch::nothing(read.progress.cursor) };
        let mut bytes = 0;
        let (mut is_personal, mut has_two_forms) = (false, false);
        let mut others = Vec::new();
        let mut end = self.entries.len();
        let mut stop_before = |batch: &mut Batch, place: usize, next: u64| {
            batch.cursor = Cursor { next, all_from: cursor.all_from.max(next) };
            batch.has_more = true;
            end = place;
        };
        for (place, entry) in self.entries.iter().enumerate().skip(from) {
            // Who counts is told where it goes on before the first message that does not follow the one before it.
            let must_follow = view.is_counting && !self.picked.is_empty();
            if let Some(user) = entry.to() {
                if view.user != Some(user) {
                    // Also where the batch only ends here: for its own user it does not.
                    if others.len() <= EXCEPTIONS && !others.contains(user) {
                        others.push(user.clone());
                    }
                    if must_follow {
                        stop_before(&mut batch, place, entry.sequence);
                        break;
                    }
                    batch.others += 1;
                    continue;
                }
                is_personal = true;
            }
            let disposition = self.dispositions.get(place).copied().unwrap_or(Disposition::Sent);
            let follows = disposition == Disposition::Sent && entry.sequence == batch.newest + 1;
            if must_follow && !follows {
                stop_before(&mut batch, place, entry.sequence);
                break;
            }
            match disposition {
                Disposition::Conflated => {
                    batch.conflated += 1;
                    continue;
                }
                Disposition::Shed => {
                    batch.shed += 1;
                    continue;
                }
                Disposition::Sent => {}
            }
            has_two_forms |= entry.deflated().is_some();
            let length = match view.encoding {
                Encoding::Events(_) => max_len(entry),
                frames => entry.frame_for(frames.has_deflate()).len(),
            };
            let is_full = self.picked.len() >= BATCH.messages || bytes + length > BATCH.bytes;
            if is_full && !self.picked.is_empty() {
                stop_before(&mut batch, place, entry.sequence);
                break;
            }
            bytes += length;
            batch.messages += 1;
            if self.picked.is_empty() {
                batch.oldest = entry.sequence;
            }
            batch.newest = entry.sequence;
            self.picked.push(place);
        }
        // Up to where the batch ends and not of the whole segment: what is sent later may be missed until then.
        let done = self.entries.get(from..end).unwrap_or_default();
        let found = done.len() - done.partition_point(|entry| entry.sequence < cursor.all_from);
        batch.missed = batch.cursor.next.saturating_sub(cursor.all_from).saturating_sub(found as u64);
        batch.bytes = match view.encoding {
            Encoding::Events(form) => events(&self.entries, &self.picked, form, id_prefix, bytes),
            frames => join(&self.entries, &self.picked, frames.has_deflate(), bytes),
        };
        self.picked.clear();
        let audience = if is_personal || others.len() > EXCEPTIONS {
            Audience::Only(view.user.cloned())
        } else if others.is_empty() {
            Audience::All
        } else {
            Audience::AllBut(others)
        };
        CachedBatch {
            at: cursor,
            encodings: match view.encoding {
                Encoding::Frames | Encoding::DeflatedFrames if !has_two_forms => Encodings::AnyFrames,
                encoding => Encodings::Only(encoding),
            },
            is_counting: view.is_counting,
            audience,
            batch,
            held: None,
        }
    }
}

/// Joins the frames of the entries that were picked; a single one is not copied.
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

/// The events of the entries that were picked; `length`: how long they are at most.
fn events(entries: &[Arc<Entry>], picked: &[usize], form: DataForm, id_prefix: &str, length: usize) -> Bytes {
    let mut events = Vec::with_capacity(length);
    for &place in picked {
        push_message(&entries[place], id_prefix, form, &mut events);
    }
    // Without the rest of what was reserved: many clients may keep it.
    events.into_boxed_slice().into()
}
