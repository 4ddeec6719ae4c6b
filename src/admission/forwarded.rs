//! What forwarding headers say about the client, and how far they are believed. Pure.
//!
//! Each proxy writes down, on the right, who it was asked by. So the list is read from the right, for as
//! long as those who wrote it are trusted: the first address that is none of theirs is the client. What
//! stands further left it said itself.
//!
//! `X-Forwarded-For` counts where there is one, else `Forwarded` (RFC 7239): proxies write the first and
//! few know the second. A trusted proxy therefore must not pass on an `X-Forwarded-For` of its client's
//! while it writes `Forwarded` only.
//!
//! # Invariants
//! 1. What stands left of the client's address is not looked at, so that it cannot change anything: not by
//!    being garbage, and not by a quote that is never closed. That is why elements are cut off from the
//!    right, quoted strings included.
//! 2. At most [`MAX_ENTRIES`] entries are looked at.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName};

use crate::config::TrustedProxies;

/// The header that most proxies write.
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// More proxies than stand in any row; whoever has more is the outermost of these.
const MAX_ENTRIES: usize = 64;

/// The client behind `peer`, which is trusted. Its port is 0 where nobody told it.
pub(super) fn client(
    headers: &HeaderMap,
    peer: Option<SocketAddr>,
    trusted: &TrustedProxies,
) -> Option<SocketAddr> {
    if headers.contains_key(X_FORWARDED_FOR) {
        let entries = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
        walk(entries.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b',')), address, peer, trusted)
    } else {
        let elements = headers.get_all(header::FORWARDED).into_iter().rev();
        walk(elements.flat_map(|value| Elements(Some(value.as_bytes()))), forwarded_for, peer, trusted)
    }
}

/// From the nearest entry outwards, until one is no address or not that of a trusted proxy.
fn walk<'a>(
    entries: impl Iterator<Item = &'a [u8]>,
    read: impl Fn(&[u8]) -> Option<SocketAddr>,
    peer: Option<SocketAddr>,
    trusted: &TrustedProxies,
) -> Option<SocketAddr> {
    let mut last = peer;
    // Empty entries of a list say nothing (RFC 9110 §5.6.1).
    let entries = entries.take(MAX_ENTRIES).map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty());
    for entry in entries {
        let Some(address) = read(entry) else { break };
        last = Some(address);
        if !trusted.contains(Some(address.ip())) {
            break;
        }
    }
    last
}

/// `ip`, `ip:port`, `[v6]`, `[v6]:port`. A mapped IPv4 address is the IPv4 address it is.
fn address(entry: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let (ip, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, rest) = rest.split_once(']')?;
            (IpAddr::V6(ip.parse().ok()?), rest)
        }
        // More than one colon without brackets: IPv6, and no port.
        None if text.bytes().filter(|byte| *byte == b':').count() > 1 => (text.parse().ok()?, ""),
        None => {
            let (ip, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            (IpAddr::V4(ip.parse().ok()?), rest)
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => 0,
        None => return None,
        // Obfuscated (RFC 7239 §6.2).
        Some(hidden) if hidden.starts_with('_') => 0,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// The address of an element's `for`; none if it is hidden (`unknown`, `_x`), not there, or there twice.
fn forwarded_for(element: &[u8]) -> Option<SocketAddr> {
    let mut found = None;
    let mut rest = element;
    while !rest.is_empty() {
        let (name, value, after) = pair(rest)?;
        if name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
            return None;
        }
        rest = after;
    }
    address(&found?)
}

/// `name=value` or `name="value"` up to the next `;`, and what comes after it.
fn pair(text: &[u8]) -> Option<(&[u8], Vec<u8>, &[u8])> {
    let (name, rest) = text.split_at(text.iter().position(|byte| *byte == b'=')?);
    let rest = rest.get(1..)?;
    let (value, rest) = match rest.strip_prefix(b"\"") {
        Some(quoted) => unquote(quoted)?,
        None => {
            let end = rest.iter().position(|byte| *byte == b';').unwrap_or(rest.len());
            let (token, rest) = rest.split_at(end);
            (token.trim_ascii().to_vec(), rest)
        }
    };
    let rest = rest.trim_ascii_start();
    let after = if rest.is_empty() { rest } else { rest.strip_prefix(b";")?.trim_ascii_start() };
    Some((name.trim_ascii(), value, after))
}

/// The text of a quoted string whose first quote is taken, and what comes after it (RFC 9110 §5.6.4).
fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((value, text.get(at + 1..)?)),
            b'\\' => value.push(*bytes.next()?.1),
            _ => value.push(*byte),
        }
    }
    None
}

/// The elements of a `Forwarded` header, the last one first.
struct Elements<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.0?;
        let mut is_quoted = false;
        let mut at = text.len();
        while let Some(before) = at.checked_sub(1) {
            at = before;
            match text[at] {
                // From the right the closing quote comes first; inside, only one that is not escaped opens.
                b'"' if is_quoted => is_quoted = is_escaped(&text[..at]),
                b'"' => is_quoted = true,
                b',' if !is_quoted => {
                    self.0 = Some(&text[..at]);
                    return Some(&text[at + 1..]);
                }
                _ => {}
            }
        }
        self.0 = None;
        Some(text)
    }
}

/// Whether the byte after `before` is the second half of an escape.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests;
