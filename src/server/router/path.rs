//! A path as this proxy reads it: split at `/`, percent-decoded, without `.`, `..` and empty segments. Pure.
//!
//! # Not here
//! How else servers may read it ([`super::readings`]).

use std::borrow::Cow;

use crate::net::http::percent_decode;

/// A segment as the most lenient server compares it: without the control characters that some strip (WHATWG)
/// or match at the end of a line (`$` in Python), without dots and spaces at its end (Windows), in lower case.
pub(super) fn fold(text: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut folded: Vec<u8> =
        text.filter(|byte| !byte.is_ascii_control()).map(|byte| byte.to_ascii_lowercase()).collect();
    let end = folded.iter().rposition(|byte| !matches!(byte, b' ' | b'.')).map_or(0, |last| last + 1);
    folded.truncate(end);
    folded
}

/// The segments of `path`, as RFC 3986 §6.2.2 has them normalised and servers merge slashes.
pub(super) fn segments(path: &str) -> Vec<Cow<'_, [u8]>> {
    walk(path).into_iter().map(|(segment, _)| segment).collect()
}

/// What is left of `path` behind the segments of `prefix`, byte for byte, if it begins with these: however
/// they are spelled, and wherever they stand. Empty, or it begins with a slash.
pub(crate) fn without_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let (segments, prefix) = (walk(path), walk(prefix));
    let is_same = segments.len() >= prefix.len()
        && segments.iter().zip(&prefix).all(|((segment, _), (wanted, _))| segment == wanted);
    let end = prefix.len().checked_sub(1).map_or(0, |last| segments.get(last).map_or(0, |(_, end)| *end));
    is_same.then(|| path.get(end..)).flatten()
}

/// The segments of `path`, and where each of them ends in it.
fn walk(path: &str) -> Vec<(Cow<'_, [u8]>, usize)> {
    let mut segments = Vec::new();
    let mut end = 0;
    for raw in path.split('/') {
        end += raw.len();
        let segment = percent_decode(raw.as_bytes());
        match &*segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            _ => segments.push((segment, end)),
        }
        end += 1;
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_found_however_it_is_spelled_and_the_rest_stays_as_it_came() {
        for (path, prefix, rest) in [
            ("/ws/a", "/ws", Some("/a")),
            ("/ws/a", "/ws/", Some("/a")),
            ("/ws", "/ws", Some("")),
            ("/ws/", "/ws", Some("/")),
            ("/wsx", "/ws", None),
            ("/w", "/ws", None),
            ("//ws/a", "/ws", Some("/a")),
            ("/%77s/a", "/ws", Some("/a")),
            ("/ws//a%2Fb//", "/ws", Some("//a%2Fb//")),
            ("/./ws/./a", "/ws", Some("/./a")),
            ("/x/../ws/a", "/ws", Some("/a")),
            ("/x/%2e%2E/ws/a", "/ws", Some("/a")),
            ("/ws/../ws/a", "/ws", Some("/a")),
            ("/ws/x/../a", "/ws", Some("/x/../a")),
            ("/ws/..", "/ws", None),
            ("//api//v1//a", "/api/v1", Some("//a")),
            ("/api/v1/../v1/a", "/api/v1", Some("/a")),
            ("/api/x/../v1/a", "/api/v1", Some("/a")),
            ("/api%2Fv1/a", "/api/v1", None),
            ("/caf%c3%a9/a", "/caf%C3%A9", Some("/a")),
            ("/%e4/é", "/%E4", Some("/é")),
        ] {
            assert_eq!(without_prefix(path, prefix), rest, "{path} {prefix}");
        }
    }
}
