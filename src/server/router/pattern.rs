//! A route's path pattern, made ready for being compared. Pure.

use super::path;
use crate::config::{PathPattern, Segment};
use crate::net::http::percent_decode;

/// How well something fits: a path its pattern, a host its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    No,
    /// To some servers.
    Maybe,
    Yes,
}

/// The parts of a [`PathPattern`], without a closing slash: it is dropped from paths too.
#[derive(Debug)]
pub(super) struct Pattern {
    parts: Vec<Part>,
    /// One of its segments has an escaped separator, where a reading splits and the pattern does not.
    has_escaped_separator: bool,
}

#[derive(Debug)]
pub(super) enum Part {
    Literal(Literal),
    One,
    Rest,
}

/// A segment that stands for itself.
#[derive(Debug)]
pub(super) struct Literal {
    decoded: Vec<u8>,
    folded: Vec<u8>,
    /// As the operator wrote it: servers that never decode see that.
    written: Vec<u8>,
    written_folded: Vec<u8>,
}

impl Pattern {
    pub(super) fn new(pattern: &PathPattern) -> Self {
        let parts: Vec<Part> = pattern
            .segments
            .iter()
            .filter_map(|segment| match segment {
                Segment::Literal(text) if text.is_empty() => None,
                Segment::Literal(text) => Some(Part::Literal(Literal::new(text))),
                Segment::One(_) => Some(Part::One),
                Segment::Rest(_) => Some(Part::Rest),
            })
            .collect();
        let has_escaped_separator = parts.iter().any(|part| match part {
            Part::Literal(literal) => literal.decoded.iter().any(|byte| b"/\\\0".contains(byte)),
            Part::One | Part::Rest => false,
        });
        Self { parts, has_escaped_separator }
    }

    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    pub(super) fn has_escaped_separator(&self) -> bool {
        self.has_escaped_separator
    }

    pub(super) fn part(&self, index: usize) -> Option<&Part> {
        self.parts.get(index)
    }

    /// Whether a path that ends before part `index` has all that it takes.
    pub(super) fn may_end_at(&self, index: usize) -> bool {
        matches!(self.parts.get(index), None | Some(Part::Rest))
    }

    /// Compares with the segments of a path as this proxy reads it. `Maybe`: but for the case of letters.
    pub(super) fn fit<S: AsRef<[u8]>>(&self, segments: &[S]) -> Fit {
        let mut fit = Fit::Yes;
        let mut segments = segments.iter();
        for part in &self.parts {
            let literal = match part {
                Part::Rest => return fit,
                Part::One => None,
                Part::Literal(literal) => Some(literal),
            };
            let Some(segment) = segments.next() else { return Fit::No };
            let Some(literal) = literal else { continue };
            if !segment.as_ref().eq_ignore_ascii_case(&literal.decoded) {
                return Fit::No;
            }
            if segment.as_ref() != literal.decoded {
                fit = Fit::Maybe;
            }
        }
        if segments.next().is_some() { Fit::No } else { fit }
    }
}

impl Literal {
    fn new(text: &str) -> Self {
        let decoded = percent_decode(text.as_bytes()).into_owned();
        Self {
            folded: path::fold(decoded.iter().copied()),
            decoded,
            written: text.as_bytes().to_owned(),
            written_folded: path::fold(text.bytes()),
        }
    }

    /// Whether it is this text, byte for byte. `is_raw`: nothing of the text was decoded.
    pub(super) fn is(&self, text: &[u8], is_raw: bool) -> bool {
        self.decoded == text || (is_raw && self.written == text)
    }

    /// Whether some server takes this text, which is folded, for it.
    pub(super) fn is_like(&self, folded: &[u8], is_raw: bool) -> bool {
        self.folded == folded || (is_raw && self.written_folded == folded)
    }
}
