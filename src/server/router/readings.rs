//! How servers may read a path. Pure.
//!
//! Some decode it as a whole and then look for slashes (ASGI, WSGI, nginx), some split it first, some never
//! decode it (Node's `req.url`), some decode it twice, because something before them did so once. Some take a
//! backslash for a slash (IIS, whatever parses it as a browser does), drop what follows a `;` (Java), stop at a NUL or at a `?` that was escaped, merge
//! slashes or do not, ignore case (Express, IIS), or read `//host/path` as a URL.
//!
//! All of these together are thousands of readings. So only the separators are enumerated: how often the path
//! is decoded, which of its escapes are decoded before it is split, and whether a backslash splits. Within one
//! of these (twelve at most, two as a rule) each other choice is left open for every segment by itself, and a pattern is
//! compared with all of them at once: [`Reading::fit`] says whether *some* choice leads to it. That takes in
//! chains of servers too, each with a habit of its own, and errs to the side of `Maybe`.
//!
//! # Invariants
//! 1. The work is bounded: twelve readings, each walked once, and for each pattern as many segments as it has
//!    and [`MAX_DROPPABLE`] more.
//! 2. A `..` is not followed: where it leads depends on all other choices, and no client that means well sends
//!    one (RFC 3986 §5.2.4 has it resolved before). Such a path may be [`Readings::Any`] other one.

use super::path;
use super::pattern::{Fit, Part, Pattern};
use crate::net::http::hex_byte;

/// How often a path may be decoded: once, and once more by a server behind.
const MAX_DECODINGS: u8 = 2;

/// A path with more segments that may be dropped than this may be read as any path. States are bits of a `u64`.
const MAX_DROPPABLE: usize = 32;

/// A byte of a path and how often it was decoded: 0 is as it came.
#[derive(Debug, Clone, Copy)]
struct Unit {
    byte: u8,
    depth: u8,
}

/// What a path may be read as, besides the one reading of [`path`].
pub(super) enum Readings {
    /// Any other path.
    Any,
    These(Vec<Reading>),
}

/// One way to split a path.
#[derive(Debug)]
pub(super) struct Reading {
    segments: Vec<Piece>,
    /// Nothing was decoded.
    is_raw: bool,
}

/// A segment, and what servers may make of it.
#[derive(Debug, Default)]
struct Piece {
    text: Vec<u8>,
    folded: Vec<u8>,
    /// Folded, without its parameters (`;a=b`).
    bare: Option<Vec<u8>>,
    /// Folded: what is left of it if the path ends in it, at a NUL, or a `?` or `#` that was escaped.
    cut: Option<Vec<u8>>,
    /// Empty or `.`, perhaps without its parameters; or a host's name in the place of a path.
    may_be_dropped: bool,
}

/// Why a path has several readings, in words: the first cause of this list.
pub(super) fn ambiguity(path: &str) -> Option<&'static str> {
    let levels = levels(path);
    let last = levels.last().map_or(&[][..], Vec::as_slice);
    let escaped = |wanted: &[u8]| last.iter().any(|unit| unit.depth > 0 && wanted.contains(&unit.byte));
    let has = |byte: u8| last.iter().any(|unit| unit.byte == byte);
    let found = [
        (has_dot_dot(last), "a segment `..`"),
        (escaped(b"/"), "an escaped slash (%2F)"),
        (has(b'\\'), "a backslash"),
        (escaped(b"\0?#"), "an escaped NUL, `?` or `#`"),
        (levels.len() > 2, "an escape within an escape (%25)"),
        (
            last.iter().any(|unit| unit.depth > 0 && unit.byte.is_ascii_control()),
            "an escaped control character",
        ),
        (has(b';'), "a `;`"),
        (path.contains("//"), "an empty segment (//)"),
        (path.split('/').any(|segment| segment == "."), "a segment `.`"),
        (levels.len() > 1, "an escape (%XX)"),
        (path.split('/').any(|segment| segment.ends_with('.')), "a dot at the end of a segment"),
    ];
    found.into_iter().find_map(|(is_so, words)| is_so.then_some(words))
}

/// Whether servers may differ on `path`, apart from the case of letters. Cheap: it is asked of every request.
pub(super) fn is_ambiguous(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.iter().any(|byte| matches!(byte, b'%' | b'\\' | b';'))
        || bytes.windows(2).any(|pair| matches!(pair, b"//" | b"/." | b"./"))
        || bytes.last() == Some(&b'.')
}

/// All readings of `path`; `max_parts`: parts of the longest pattern that they are compared with.
pub(super) fn readings(path: &str, max_parts: usize) -> Readings {
    let levels = levels(path);
    if levels.last().is_some_and(|last| has_dot_dot(last)) {
        return Readings::Any;
    }
    let mut readings = Vec::new();
    for (level, units) in (0u8..).zip(&levels) {
        for depth in 0..=level {
            for backslash in [false, true] {
                let is_separator = |unit: &Unit| {
                    unit.depth <= depth && (unit.byte == b'/' || (backslash && unit.byte == b'\\'))
                };
                // Where nothing more splits it than before it would be the same reading once more.
                let has_new =
                    depth == 0 || units.iter().any(|unit| is_separator(unit) && unit.depth == depth);
                let has_backslash =
                    !backslash || units.iter().any(|unit| is_separator(unit) && unit.byte == b'\\');
                if !has_new || !has_backslash {
                    continue;
                }
                match Reading::new(units, is_separator, max_parts, level == 0) {
                    Some(reading) => readings.push(reading),
                    None => return Readings::Any,
                }
            }
        }
    }
    Readings::These(readings)
}

/// `path` as it came, decoded once, and twice; only as far as there is something to decode.
fn levels(path: &str) -> Vec<Vec<Unit>> {
    let mut levels = vec![path.bytes().map(|byte| Unit { byte, depth: 0 }).collect::<Vec<_>>()];
    for depth in 1..=MAX_DECODINGS {
        let Some(decoded) = levels.last().and_then(|units| decode(units, depth)) else { break };
        levels.push(decoded);
    }
    levels
}

/// `None`: there is nothing to decode.
fn decode(units: &[Unit], depth: u8) -> Option<Vec<Unit>> {
    let mut decoded = Vec::with_capacity(units.len());
    let mut rest = units;
    while let Some((first, tail)) = rest.split_first() {
        let escaped = match tail {
            [high, low, ..] if first.byte == b'%' => hex_byte(high.byte, low.byte),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                decoded.push(Unit { byte, depth });
                rest = &tail[2..];
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    (decoded.len() < units.len()).then_some(decoded)
}

/// Whether a `..` is among the segments, whatever separates them and whatever is dropped from it.
fn has_dot_dot(units: &[Unit]) -> bool {
    units.split(|unit| matches!(unit.byte, b'/' | b'\\')).any(|segment| {
        let text = segment.split(|unit| unit.byte == b';' || ends_path(unit)).next().unwrap_or_default();
        let mut text = text.iter().map(|unit| unit.byte).filter(|byte| !byte.is_ascii_control());
        text.next() == Some(b'.') && text.next() == Some(b'.') && text.all(|byte| byte == b' ')
    })
}

fn ends_path(unit: &Unit) -> bool {
    unit.depth > 0 && matches!(unit.byte, b'\0' | b'?' | b'#')
}

impl Reading {
    /// `None`: too many of its segments may be dropped.
    fn new(
        units: &[Unit],
        is_separator: impl Fn(&Unit) -> bool,
        max_parts: usize,
        is_raw: bool,
    ) -> Option<Self> {
        let mut pieces = units.split(is_separator).peekable();
        // What stands before the first slash.
        pieces.next_if(|first| first.is_empty());
        let (mut segments, mut droppable) = (Vec::new(), 0);
        let mut may_be_url = false;
        while let Some(units) = pieces.next() {
            // A closing slash is not told apart.
            if units.is_empty() && pieces.peek().is_none() {
                break;
            }
            let mut piece = Piece::new(units);
            if segments.is_empty() && units.is_empty() {
                may_be_url = true;
            } else if !piece.may_be_dropped && std::mem::take(&mut may_be_url) {
                piece.may_be_dropped = true;
            }
            droppable += usize::from(piece.may_be_dropped);
            if droppable > MAX_DROPPABLE {
                return None;
            }
            segments.push(piece);
            if segments.len() > max_parts + MAX_DROPPABLE + 1 {
                break;
            }
        }
        Some(Self { segments, is_raw })
    }

    /// Whether some server finds `pattern` in the path (`Maybe`), or all that split it so (`Yes`).
    pub(super) fn fit(&self, pattern: &Pattern) -> Fit {
        if pattern.has_escaped_separator() {
            return Fit::Maybe;
        }
        // Bit n: some server has dropped n of the segments so far, and found the others in the pattern.
        let mut states = 1u64;
        let (mut is_certain, mut may_have_ended) = (true, false);
        let verdict = |is_certain| if is_certain { Fit::Yes } else { Fit::Maybe };
        for (index, piece) in self.segments.iter().enumerate() {
            let mut kept = 0;
            for dropped in bits(states) {
                let at = index.saturating_sub(dropped);
                let (is_found, is_cut_found) = match pattern.part(at) {
                    None => (false, false),
                    Some(Part::Rest) => return verdict(is_certain),
                    Some(Part::One) => (!piece.text.is_empty(), piece.cut.is_some()),
                    Some(Part::Literal(literal)) => {
                        let like = |text: &Vec<u8>| literal.is_like(text, self.is_raw);
                        let is_exact = literal.is(&piece.text, self.is_raw);
                        is_certain &= is_exact;
                        let is_found =
                            is_exact || like(&piece.folded) || piece.bare.as_ref().is_some_and(like);
                        (is_found, piece.cut.as_ref().is_some_and(like))
                    }
                };
                if is_found {
                    kept |= 1 << dropped;
                }
                may_have_ended |= is_cut_found && pattern.may_end_at(at + 1);
                may_have_ended |= piece.cut.as_ref().is_some_and(Vec::is_empty) && pattern.may_end_at(at);
            }
            is_certain &= !piece.may_be_dropped && piece.bare.is_none() && piece.cut.is_none();
            states = if piece.may_be_dropped { kept | states << 1 } else { kept };
            if states == 0 {
                break;
            }
        }
        let count = self.segments.len();
        if bits(states).any(|dropped| pattern.may_end_at(count.saturating_sub(dropped))) {
            verdict(is_certain)
        } else if may_have_ended {
            Fit::Maybe
        } else {
            Fit::No
        }
    }
}

impl Piece {
    fn new(units: &[Unit]) -> Self {
        let bytes = |units: &[Unit]| Vec::from_iter(units.iter().map(|unit| unit.byte));
        let folded = |units: &[Unit]| path::fold(units.iter().map(|unit| unit.byte));
        let before = |end: &dyn Fn(&Unit) -> bool| units.iter().position(end).map(|end| &units[..end]);
        let parameters = before(&|unit| unit.byte == b';');
        let cut = before(&ends_path).map(|cut| {
            let bare = cut.iter().position(|unit| unit.byte == b';').unwrap_or(cut.len());
            folded(&cut[..bare])
        });
        let may_be_dropped = |units: &[Unit]| {
            let mut text = units.iter().map(|unit| unit.byte).filter(|byte| !byte.is_ascii_control());
            matches!((text.next(), text.next()), (None, _) | (Some(b'.'), None))
        };
        Self {
            text: bytes(units),
            folded: folded(units),
            bare: parameters.map(folded),
            cut,
            may_be_dropped: may_be_dropped(units) || parameters.is_some_and(may_be_dropped),
        }
    }
}

/// The numbers of the bits that are set.
fn bits(mut of: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = of.trailing_zeros() as usize;
        of &= of.wrapping_sub(1);
        (lowest < 64).then_some(lowest)
    })
}
