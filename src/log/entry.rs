//! A message, on its way into a log and in it.
//!
//! A log may hold hundreds of thousands of messages of a few bytes each, so what is kept beside the bytes counts: one
//! allocation for the entry, one for its frame. What most messages do not have is behind a pointer.
//!
//! # Invariants
//! 1. [`Entry::size`] is what an entry takes of the process, its slots in the rings included: `tests/log_memory.rs` holds
//!    what is counted against what the process grows by.
//! 2. A payload is a part of its frame and never a copy of it.

use std::mem::size_of;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::frame::{Kind, encode};

/// A message together with the frame that carries it to WebSocket clients: header and payload in one piece.
#[derive(Debug, Clone)]
pub struct Message {
    kind: Kind,
    /// The length of the frame's header.
    header: u8,
    frame: Bytes,
}

impl Message {
    /// Encodes a message, which is the one copy of its payload.
    pub fn new(kind: Kind, payload: &[u8]) -> Self {
        Self::from_frame(kind, encode::message(kind, payload))
    }

    /// Takes a message that was encoded before (one final, unmasked frame).
    pub fn from_frame(kind: Kind, frame: Bytes) -> Self {
        // RFC 6455 section 5.2: the length is in the second byte, or in two or eight bytes behind it.
        let header = match frame.get(1).map_or(0, |byte| byte & 0x7f) {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        Self { kind, header: frame.len().min(header) as u8, frame }
    }

    /// The whole frame.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }
}

/// A message on its way into a log.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// What all clients get.
    pub message: Message,
    /// Its frame compressed, where that is smaller.
    pub deflated: Option<Bytes>,
    /// Whether it is kept longest and never conflated.
    pub is_critical: bool,
    /// A newer message with the same key replaces it (`delivery.throttle`).
    pub key: Option<Arc<str>>,
    /// The one user it is for; `None`: all of them.
    pub to: Option<Arc<str>>,
}

/// A message in a log.
#[derive(Debug)]
pub struct Entry {
    /// Its number in the epoch, from 1.
    pub sequence: u64,
    /// Bytes of the frames of all entries before it.
    pub offset: u64,
    /// When it was appended.
    appended: Timestamp,
    /// Whether it is kept longest and never conflated.
    pub is_critical: bool,
    kind: Kind,
    /// The length of the frame's header.
    header: u8,
    frame: FrameBytes,
    extras: Option<Box<Extras>>,
}

/// One moment on both clocks: the monotonic one tells how old an entry is, the wall clock's can be shown to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timestamp {
    /// Nanoseconds on the monotonic clock since the log was opened: half as large as an `Instant`, and enough for 584
    /// years.
    monotonic: u64,
    /// Milliseconds since the Unix epoch.
    wall: u64,
}

impl Timestamp {
    /// `since_opened`: how long the log had been open then.
    pub(super) fn new(since_opened: Duration, wall: SystemTime) -> Self {
        let wall = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { monotonic: saturate(since_opened.as_nanos()), wall: saturate(wall.as_millis()) }
    }

    /// How long the log had been open then.
    pub(super) fn since_opened(self) -> Duration {
        Duration::from_nanos(self.monotonic)
    }
}

fn saturate(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// What most messages do not have.
#[derive(Debug)]
struct Extras {
    deflated: Option<FrameBytes>,
    key: Option<Arc<str>>,
    to: Option<Arc<str>>,
}

/// The bytes of a frame.
#[derive(Debug)]
enum FrameBytes {
    /// To the byte: a [`Bytes`] would take four words, and as much again once it is shared.
    Own(Box<[u8]>),
    /// Others have them too: a published message goes into the logs of many channels.
    Shared(Box<Bytes>),
}

/// The two counters in front of what an [`Arc`] shares.
const COUNTERS: usize = 2 * size_of::<usize>();

/// Slots in a ring that an entry counts for: a ring has up to twice as many as it needs.
const SLOTS: usize = 2;

impl Entry {
    /// Bytes that an entry takes besides its frame.
    pub const OVERHEAD: usize = size_of::<Self>() + COUNTERS + SLOTS * size_of::<Arc<Self>>();
    /// Bytes that a critical one takes besides that: its slot in the ring of critical messages.
    pub const CRITICAL: usize = SLOTS * (size_of::<Arc<Self>>() + size_of::<u64>());

    pub(super) fn new(sequence: u64, appended: Timestamp, offset: u64, entry: NewEntry) -> Self {
        let NewEntry { message: Message { kind, header, frame }, deflated, is_critical, key, to } = entry;
        let has_extras = deflated.is_some() || key.is_some() || to.is_some();
        let extras =
            has_extras.then(|| Box::new(Extras { deflated: deflated.map(FrameBytes::new), key, to }));
        Self { sequence, offset, appended, is_critical, kind, header, frame: FrameBytes::new(frame), extras }
    }

    /// Whether it is a text or binary.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The payload: the frame without its header.
    pub fn payload(&self) -> &[u8] {
        &self.frame()[usize::from(self.header)..]
    }

    /// When it was appended, in milliseconds of the Unix epoch by the wall clock.
    pub fn unix_millis(&self) -> u64 {
        self.appended.wall
    }

    pub(super) fn appended(&self) -> Timestamp {
        self.appended
    }

    /// The whole frame, as clients get it.
    pub fn frame(&self) -> &[u8] {
        self.frame.as_ref()
    }

    /// The frame compressed, where that is smaller.
    pub fn deflated(&self) -> Option<&[u8]> {
        self.extras.as_ref()?.deflated.as_ref().map(FrameBytes::as_ref)
    }

    /// A newer message with the same key replaces it (`delivery.throttle`).
    pub fn key(&self) -> Option<&Arc<str>> {
        self.extras.as_ref()?.key.as_ref()
    }

    /// The one user it is for.
    pub fn to(&self) -> Option<&Arc<str>> {
        self.extras.as_ref()?.to.as_ref()
    }

    /// The frame for a client that takes compressed messages, or for one that does not.
    pub fn frame_for(&self, has_deflate: bool) -> &[u8] {
        self.bytes_for(has_deflate).as_ref()
    }

    /// [`Entry::frame_for`] to be kept, which does not copy it.
    pub fn shared_frame_for(self: &Arc<Self>, has_deflate: bool) -> Bytes {
        match self.bytes_for(has_deflate) {
            FrameBytes::Own(_) => Bytes::from_owner(SharedFrame { entry: Arc::clone(self), has_deflate }),
            FrameBytes::Shared(bytes) => Bytes::clone(bytes),
        }
    }

    fn bytes_for(&self, has_deflate: bool) -> &FrameBytes {
        let deflated = self.extras.as_ref().and_then(|extras| extras.deflated.as_ref());
        deflated.filter(|_| has_deflate).unwrap_or(&self.frame)
    }

    /// Bytes that it takes, everything that belongs to it included.
    pub fn size(&self) -> usize {
        let critical = if self.is_critical { Self::CRITICAL } else { 0 };
        let extras = self.extras.as_ref().map_or(0, |extras| {
            let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| COUNTERS + text.len());
            size_of::<Extras>()
                + extras.deflated.as_ref().map_or(0, FrameBytes::size)
                + text(&extras.key)
                + text(&extras.to)
        });
        Self::OVERHEAD + self.frame.size() + critical + extras
    }
}

impl FrameBytes {
    fn new(bytes: Bytes) -> Self {
        // Not copied if it is not shared.
        if bytes.is_unique() { Self::Own(Vec::from(bytes).into()) } else { Self::Shared(Box::new(bytes)) }
    }

    fn size(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.len(),
            Self::Shared(bytes) => size_of::<Bytes>() + bytes.len(),
        }
    }
}

impl AsRef<[u8]> for FrameBytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// The owner of a frame that outlives its log.
struct SharedFrame {
    entry: Arc<Entry>,
    has_deflate: bool,
}

impl AsRef<[u8]> for SharedFrame {
    fn as_ref(&self) -> &[u8] {
        self.entry.frame_for(self.has_deflate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG_AGO: Timestamp = Timestamp { monotonic: 5, wall: 86_400_000 };

    fn entry(entry: NewEntry) -> Arc<Entry> {
        Arc::new(Entry::new(1, LONG_AGO, 0, entry))
    }

    fn plain(frame: Bytes) -> NewEntry {
        NewEntry {
            message: Message::from_frame(Kind::Text, frame),
            deflated: None,
            is_critical: false,
            key: None,
            to: None,
        }
    }

    #[test]
    fn a_small_message_costs_a_hundred_bytes_and_what_is_rare_counts_where_it_is() {
        assert_eq!(size_of::<FrameBytes>(), 2 * size_of::<usize>());
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
        assert_eq!(rare.size(), small.size() + size_of::<Extras>() + 100 + 2 * (COUNTERS + 3));
    }

    #[test]
    fn a_payload_is_the_part_of_the_frame_behind_its_header() {
        for length in [0, 1, 125, 126, 0xffff, 0x1_0000] {
            let payload = vec![b'x'; length];
            let message = Message::new(Kind::Binary, &payload);
            let entry = entry(NewEntry { message, ..plain(Bytes::new()) });
            assert_eq!((entry.payload(), entry.kind), (&payload[..], Kind::Binary));
            let end = entry.frame().as_ptr_range().end;
            assert_eq!(entry.payload().as_ptr_range().end, end, "a part of it and no copy");
        }
        // What is too short to be a frame has no payload, and is no reason to panic.
        for odd in [&b""[..], b"\x81", b"\x82\x7e\x00", b"\x82\x7f"] {
            assert_eq!(entry(plain(Bytes::from_static(odd))).payload(), b"");
        }
    }

    #[test]
    fn it_is_known_when_a_message_came_by_both_clocks() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let moment = Timestamp::new(Duration::from_nanos(7), at(1_700_000_000_123));
        let entry = Entry::new(1, moment, 0, plain(Bytes::new()));
        assert_eq!(entry.unix_millis(), 1_700_000_000_123);
        assert_eq!(entry.appended().since_opened(), Duration::from_nanos(7));
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Timestamp::new(Duration::MAX, before), Timestamp { monotonic: u64::MAX, wall: 0 });
    }

    #[test]
    fn a_frame_is_not_copied_on_its_way_in_nor_out_and_outlives_its_log() {
        let (frame, deflated) = (Bytes::from(b"plain".to_vec()), Bytes::from(b"zip".to_vec()));
        let (at, deflated_at) = (frame.as_ptr(), deflated.as_ptr());
        let mut owned = entry(NewEntry { deflated: Some(deflated), ..plain(frame) });
        assert_eq!((owned.frame().as_ptr(), owned.deflated().map(<[u8]>::as_ptr)), (at, Some(deflated_at)));
        for (has_deflate, form, at) in [(false, &b"plain"[..], at), (true, b"zip", deflated_at)] {
            let bytes = owned.shared_frame_for(has_deflate);
            assert_eq!((&bytes[..], bytes.as_ptr()), (form, at));
            assert!(Arc::get_mut(&mut owned).is_none(), "it holds the entry");
        }
        let shared = Bytes::from(b"for many".to_vec());
        let entries = [entry(plain(shared.clone())), entry(plain(shared.clone()))];
        assert!(entries.iter().all(|entry| entry.frame().as_ptr() == shared.as_ptr()));
        assert!(entries.iter().all(|entry| entry.shared_frame_for(true).as_ptr() == shared.as_ptr()));
        let kept = entries[0].shared_frame_for(false);
        drop((entries, shared));
        assert_eq!(&kept[..], b"for many");
    }
}
