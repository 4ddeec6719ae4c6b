//! A message, on its way into a log and in it.
//!
//! There may be hundreds of thousands of a few bytes each, so what is kept beside the bytes counts: one allocation
//! for the message, one for its frame. What most messages do not have is behind a pointer.
//!
//! # Invariants
//! 1. [`Entry::size`] is what an entry takes of the process, its places in the rings included.

use std::mem::size_of;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

/// A message on its way into a log.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// A whole frame, as clients get it.
    pub frame: Bytes,
    /// The same, compressed, where that is smaller.
    pub deflated: Option<Bytes>,
    /// Kept longest, never conflated.
    pub is_critical: bool,
    /// Messages with the same key stand for each other (`delivery.throttle`).
    pub key: Option<Arc<str>>,
    /// For this user only.
    pub to: Option<Arc<str>>,
}

/// A message in a log.
#[derive(Debug)]
pub struct Entry {
    /// Its number in the epoch, from 1.
    pub sequence: u64,
    /// When it came.
    pub at: Instant,
    /// Bytes of the frames of all entries before it.
    pub offset: u64,
    /// Kept longest, never conflated.
    pub is_critical: bool,
    frame: Body,
    rare: Option<Box<Rare>>,
}

/// What most messages do not have.
#[derive(Debug)]
struct Rare {
    deflated: Option<Body>,
    key: Option<Arc<str>>,
    to: Option<Arc<str>>,
}

/// The bytes of a frame.
#[derive(Debug)]
enum Body {
    /// To the byte: a [`Bytes`] would take four words, and as much again once it is shared.
    Own(Box<[u8]>),
    /// Others have it too: what is published goes into the logs of many channels.
    Shared(Box<Bytes>),
}

/// The two counters in front of what an [`Arc`] shares.
const COUNTERS: usize = 2 * size_of::<usize>();

/// Places in a ring that an entry counts for: a ring has up to twice as many as it needs.
const PLACES: usize = 2;

impl Entry {
    /// Bytes that an entry takes besides its frame.
    pub const OVERHEAD: usize = size_of::<Self>() + COUNTERS + PLACES * size_of::<Arc<Self>>();
    /// Bytes that a critical one takes besides that: its place in the ring of critical messages.
    pub const CRITICAL: usize = PLACES * (size_of::<Arc<Self>>() + size_of::<u64>());

    pub(super) fn new(sequence: u64, at: Instant, offset: u64, draft: NewEntry) -> Self {
        let NewEntry { frame, deflated, is_critical, key, to } = draft;
        let has_rare = deflated.is_some() || key.is_some() || to.is_some();
        let rare = has_rare.then(|| Box::new(Rare { deflated: deflated.map(Body::new), key, to }));
        Self { sequence, at, offset, is_critical, frame: Body::new(frame), rare }
    }

    /// The whole frame, as clients get it.
    pub fn frame(&self) -> &[u8] {
        self.frame.as_ref()
    }

    /// The same, compressed, where that is smaller.
    pub fn deflated(&self) -> Option<&[u8]> {
        self.rare.as_ref()?.deflated.as_ref().map(Body::as_ref)
    }

    /// Messages with the same key stand for each other (`delivery.throttle`).
    pub fn key(&self) -> Option<&Arc<str>> {
        self.rare.as_ref()?.key.as_ref()
    }

    /// For this user only.
    pub fn to(&self) -> Option<&Arc<str>> {
        self.rare.as_ref()?.to.as_ref()
    }

    /// The frame as a client gets it that takes compressed messages, or does not.
    pub fn form(&self, has_deflate: bool) -> &[u8] {
        self.body(has_deflate).as_ref()
    }

    /// [`Entry::form`], to be kept: no copy of it.
    pub fn bytes(self: &Arc<Self>, has_deflate: bool) -> Bytes {
        match self.body(has_deflate) {
            Body::Own(_) => Bytes::from_owner(Form { entry: Arc::clone(self), has_deflate }),
            Body::Shared(bytes) => Bytes::clone(bytes),
        }
    }

    fn body(&self, has_deflate: bool) -> &Body {
        let deflated = self.rare.as_ref().and_then(|rare| rare.deflated.as_ref());
        deflated.filter(|_| has_deflate).unwrap_or(&self.frame)
    }

    /// Bytes that it takes, everything that belongs to it included.
    pub fn size(&self) -> usize {
        let critical = if self.is_critical { Self::CRITICAL } else { 0 };
        let rare = self.rare.as_ref().map_or(0, |rare| {
            let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| COUNTERS + text.len());
            size_of::<Rare>()
                + rare.deflated.as_ref().map_or(0, Body::size)
                + text(&rare.key)
                + text(&rare.to)
        });
        Self::OVERHEAD + self.frame.size() + critical + rare
    }
}

impl Body {
    fn new(bytes: Bytes) -> Self {
        // Without a copy where nobody else has it.
        if bytes.is_unique() { Self::Own(Vec::from(bytes).into()) } else { Self::Shared(Box::new(bytes)) }
    }

    fn size(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.len(),
            Self::Shared(bytes) => size_of::<Bytes>() + bytes.len(),
        }
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// One form of an entry's frame.
struct Form {
    entry: Arc<Entry>,
    has_deflate: bool,
}

impl AsRef<[u8]> for Form {
    fn as_ref(&self) -> &[u8] {
        self.entry.form(self.has_deflate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(draft: NewEntry) -> Arc<Entry> {
        Arc::new(Entry::new(1, Instant::now(), 0, draft))
    }

    fn plain(frame: Bytes) -> NewEntry {
        NewEntry { frame, deflated: None, is_critical: false, key: None, to: None }
    }

    #[test]
    fn a_small_message_costs_a_hundred_bytes_and_what_is_rare_counts_where_it_is() {
        assert_eq!(size_of::<Body>(), 2 * size_of::<usize>());
        assert_eq!(Entry::OVERHEAD, 12 * size_of::<usize>());
        let small = entry(plain(Bytes::from(vec![0x81, 2, b'h', b'i'])));
        assert_eq!(small.size(), Entry::OVERHEAD + 4);
        let critical = entry(NewEntry { is_critical: true, ..plain(Bytes::from(vec![0; 4])) });
        assert_eq!(critical.size(), small.size() + Entry::CRITICAL);
        let rare = entry(NewEntry {
            deflated: Some(Bytes::from(vec![0; 100])),
            key: Some("key".into()),
            to: Some("ann".into()),
            ..plain(Bytes::from(vec![0; 4]))
        });
        assert_eq!(rare.size(), small.size() + size_of::<Rare>() + 100 + 2 * (COUNTERS + 3));
    }

    #[test]
    fn a_frame_is_not_copied_on_its_way_in_nor_out_and_outlives_its_log() {
        let (frame, deflated) = (Bytes::from(b"plain".to_vec()), Bytes::from(b"zip".to_vec()));
        let (at, deflated_at) = (frame.as_ptr(), deflated.as_ptr());
        let mut owned = entry(NewEntry { deflated: Some(deflated), ..plain(frame) });
        assert_eq!((owned.frame().as_ptr(), owned.deflated().map(<[u8]>::as_ptr)), (at, Some(deflated_at)));
        for (has_deflate, form, at) in [(false, &b"plain"[..], at), (true, b"zip", deflated_at)] {
            let bytes = owned.bytes(has_deflate);
            assert_eq!((&bytes[..], bytes.as_ptr()), (form, at));
            assert!(Arc::get_mut(&mut owned).is_none(), "it holds the entry");
        }
        let shared = Bytes::from(b"for many".to_vec());
        let entries = [entry(plain(shared.clone())), entry(plain(shared.clone()))];
        assert!(entries.iter().all(|entry| entry.frame().as_ptr() == shared.as_ptr()));
        assert!(entries.iter().all(|entry| entry.bytes(true).as_ptr() == shared.as_ptr()));
        let kept = entries[0].bytes(false);
        drop((entries, shared));
        assert_eq!(&kept[..], b"for many");
    }
}
