//! What forwarding headers say about the client and its request, and how far they are believed. Pure.
//!
//! Each proxy appends the address of its peer. So the list is read from the right, for as long as the proxies that
//! wrote it are trusted: the first address that is not of one of them is the client. What stands further left was
//! written by the client.
//!
//! `X-Forwarded-For` counts where there is one, else `Forwarded` (RFC 7239): proxies write the first and
//! few know the second. A trusted proxy therefore must not pass on an `X-Forwarded-For` of its client's
//! while it writes `Forwarded` only. The same kind tells scheme, host and port, so that what a client says in
//! the other one counts for nothing:
//!
//! * In `Forwarded` they stand in the elements that are believed; of several the outermost counts, which saw the client.
//! * `X-Forwarded-Proto`, `-Host` and `-Port` are single values. Of a list, or of several headers, the last counts: the
//!   peer wrote it, and what stands left of it may be the client's.
//! * `X-Forwarded-Prefix` has no counterpart in `Forwarded` and counts beside either. It is a list of what each proxy
//!   took off a path, the outermost first.
//!
//! A value that cannot be read is left out.
//!
//! # Invariants
//! 1. What stands left of the client's address is not looked at, so that it cannot change anything: not by
//!    being garbage, and not by a quote that is never closed. That is why elements are cut off from the
//!    right, quoted strings included.
//! 2. At most [`MAX_ENTRIES`] entries are looked at.
//!
//! # Why is only one kind of header believed, even of a trusted proxy?
//! Proxies write one kind, and many pass on the other one as their client wrote it. The kind that names the client is
//! the one that the proxy writes.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::config::TrustedProxies;
use crate::net::head::is_host;
use crate::net::http::{
    X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PREFIX, X_FORWARDED_PROTO,
};
use crate::upstream::headers::Forwarding;

/// More proxies than any chain has. Of a longer one the outermost of these counts as the client.
const MAX_ENTRIES: usize = 64;
/// More letters than any scheme has that a browser knows.
const LONGEST_SCHEME: usize = 32;

/// The client behind `peer`, which is trusted, and what is said of its request. Its port is 0 where no proxy told it.
pub(super) fn read(
    headers: &HeaderMap,
    peer: Option<SocketAddr>,
    trusted: &TrustedProxies,
) -> (Option<SocketAddr>, Forwarding) {
    let prefix = prefix(headers);
    if headers.contains_key(X_FORWARDED_FOR) || !headers.contains_key(header::FORWARDED) {
        let client = walk(entries(headers, &X_FORWARDED_FOR), address, peer, trusted);
        let last = |name| entries(headers, &name).map(<[u8]>::trim_ascii).find(|entry| !entry.is_empty());
        let forwarding = Forwarding {
            is_rfc7239: false,
            scheme: last(X_FORWARDED_PROTO).and_then(scheme),
            host: last(X_FORWARDED_HOST).and_then(host),
            port: last(X_FORWARDED_PORT).and_then(port),
            prefix,
        };
        return (client, forwarding);
    }
    let mut forwarding = Forwarding { is_rfc7239: true, prefix, ..Forwarding::default() };
    let elements = headers.get_all(header::FORWARDED).into_iter().rev();
    let elements = elements.flat_map(|value| Elements(Some(value.as_bytes())));
    let client = walk(elements, |element| read_element(element, &mut forwarding), peer, trusted);
    (client, forwarding)
}

/// The entries of a list without quoted strings, the last one first.
fn entries<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).into_iter().rev();
    lines.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','))
}

/// A scheme's name (RFC 3986 §3.1), in lower case.
fn scheme(text: &[u8]) -> Option<HeaderValue> {
    let is_scheme_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let fits = text.len() <= LONGEST_SCHEME
        && text.first().is_some_and(u8::is_ascii_alphabetic)
        && text.iter().all(is_scheme_byte);
    fits.then(|| HeaderValue::from_bytes(&text.to_ascii_lowercase()).ok()).flatten()
}

fn host(text: &[u8]) -> Option<HeaderValue> {
    is_host(text).then(|| HeaderValue::from_bytes(text).ok()).flatten()
}

fn port(text: &[u8]) -> Option<u16> {
    // Digits only: `parse` would take a sign.
    let digits = text.iter().all(u8::is_ascii_digit).then_some(text)?;
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|port| *port != 0)
}

/// What proxies took off a path, one behind the other. All of it has to be such, or it is none: servers make links of it.
fn prefix(headers: &HeaderMap) -> Option<Box<str>> {
    let mut row: Vec<_> = entries(headers, &X_FORWARDED_PREFIX).map(<[u8]>::trim_ascii).collect();
    row.reverse();
    let mut whole = String::new();
    for entry in row.into_iter().filter(|entry| !entry.is_empty()) {
        let text = std::str::from_utf8(entry).ok()?;
        let is_path_byte = |byte: u8| byte.is_ascii_graphic() && !b"?#\\\"<>".contains(&byte);
        // Two slashes would begin the name of a host; dots lead out of what was taken off.
        let leads_out =
            |segment: &str| matches!(&*segment.to_ascii_lowercase().replace("%2e", "."), "." | "..");
        if !text.starts_with('/')
            || text.contains("//")
            || text.split('/').any(leads_out)
            || !text.bytes().all(is_path_byte)
        {
            return None;
        }
        whole.push_str(text.strip_suffix('/').unwrap_or(text));
    }
    (!whole.is_empty()).then(|| whole.into())
}

/// From the nearest entry outwards, until one is no address or not that of a trusted proxy.
fn walk<'a>(
    entries: impl Iterator<Item = &'a [u8]>,
    mut read: impl FnMut(&[u8]) -> Option<SocketAddr>,
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

/// The address of an element's `for`; none if it is hidden (`unknown`, `_x`), not there, or there twice. What else it
/// says stands in `told` then, in place of what elements further in have said.
fn read_element(element: &[u8], told: &mut Forwarding) -> Option<SocketAddr> {
    let mut found: [Option<Vec<u8>>; 3] = [None, None, None];
    let mut is_doubled = [false; 3];
    let mut rest = element;
    while !rest.is_empty() {
        let (name, value, after) = pair(rest)?;
        let parameter =
            [&b"for"[..], b"proto", b"host"].iter().position(|known| name.eq_ignore_ascii_case(known));
        if let Some(parameter) = parameter {
            is_doubled[parameter] |= found[parameter].replace(value).is_some();
        }
        rest = after;
    }
    for (value, is_doubled) in found.iter_mut().zip(is_doubled) {
        if is_doubled {
            *value = None;
        }
    }
    let [node, proto, named] = found;
    told.scheme = proto.as_deref().and_then(scheme).or(told.scheme.take());
    told.host = named.as_deref().and_then(host).or(told.host.take());
    address(&node?)
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
