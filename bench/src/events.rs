//! Just enough of event streams (WHATWG HTML §9.2) to take them from a proxy cheaply.
//!
//! # Not here
//! Chunked bodies: proxies are told to send none. Ids and names: the number of a message is in its text.

use crate::ws::{FIN, Head, TEXT};

/// What ends an event.
const END: &[u8] = b"\n\n";

/// Calls `on_message` for each whole event with a message, as if it had come in a frame; answers how many bytes these were.
///
/// A message is what stands behind `data:`, or, where that is JSON, the string in its member `data`; the messages of the feed
/// need no escapes.
pub fn in_stream(bytes: &[u8], on_message: &mut impl FnMut(&Head, &[u8])) -> usize {
    let mut at = 0;
    while let Some(end) = bytes[at..].windows(END.len()).position(|w| w == END) {
        if let Some(text) = message(&bytes[at..at + end]) {
            let head = Head { first: FIN | TEXT, mask: None, size: 0, len: text.len() };
            on_message(&head, text);
        }
        at += end + END.len();
    }
    at
}

/// Events with a name are the proxy's own, comments nobody's.
fn message(event: &[u8]) -> Option<&[u8]> {
    let mut lines = event.split(|&byte| byte == b'\n');
    let mut data = None;
    for line in &mut lines {
        if line.starts_with(b"event:") {
            return None;
        }
        data = line.strip_prefix(b"data: ").or(data);
    }
    let data = data?;
    if !data.starts_with(b"{") {
        return Some(data);
    }
    const MEMBER: &[u8] = b"\"data\":\"";
    let start = data.windows(MEMBER.len()).position(|w| w == MEMBER)? + MEMBER.len();
    let length = data[start..].iter().position(|&byte| byte == b'"')?;
    Some(&data[start..start + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_wherever_the_stream_is_cut_and_nothing_else_is() {
        let stream = b"retry: 3000\n\nevent: outrigger\nid: e.0\ndata: {\"data\":\"no\"}\n\n:\n\nid: e.1\n\
            data: {\"sequenceNumber\":1,\"data\":\"one\",\"isCritical\":false}\n\nid: 2\ndata: two\n\n";
        for cut in 0..=stream.len() {
            let mut found = Vec::new();
            let mut on = |_: &Head, text: &[u8]| found.push(String::from_utf8(text.to_vec()).unwrap());
            let mut left = stream[..cut].to_vec();
            left.drain(..in_stream(&left, &mut on));
            left.extend_from_slice(&stream[cut..]);
            left.drain(..in_stream(&left, &mut on));
            assert_eq!((found, left.len()), (vec!["one".to_owned(), "two".to_owned()], 0), "cut at {cut}");
        }
    }
}
