//! Whom a request is for: one host, which its target decides over (RFC 9112 §3.2, RFC 9113 §8.3.1).

use std::net::Ipv6Addr;

use http::{HeaderMap, HeaderValue, Uri, Version, header};

use super::fault::HeadFault;

/// Leaves one `Host` in `headers`: the target's where it names one, or the header's. HTTP/1.0 may have none.
///
/// A target that names a host replaces the header, whatever host that names (RFC 9112 §3.2.2), and so does `:authority`
/// over HTTP/2 (RFC 9113 §8.3.1).
///
/// # Errors
/// There is none, more than one, or one that is no host.
pub(super) fn settle(uri: &Uri, version: Version, headers: &mut HeaderMap) -> Result<(), HeadFault> {
    let mut values = headers.get_all(header::HOST).into_iter();
    let (said, more) = (values.next(), values.next());
    if more.is_some() {
        return Err(HeadFault::SeveralHosts);
    }
    if said.is_some_and(|said| !said.is_empty() && !is_host(said.as_bytes())) {
        return Err(HeadFault::BadHost);
    }
    let Some(authority) = uri.authority() else {
        return match said {
            Some(said) if said.is_empty() && has_pseudo_headers(version) => Err(HeadFault::NoHost),
            None if version >= Version::HTTP_11 => Err(HeadFault::NoHost),
            _ => Ok(()),
        };
    };
    let meant = authority.as_str();
    if !is_host(meant.as_bytes()) {
        return Err(HeadFault::BadAuthority);
    }
    match said {
        None if version == Version::HTTP_11 => return Err(HeadFault::NoHost),
        Some(said) if said.is_empty() => return Err(HeadFault::EmptyHost),
        _ => {}
    }
    let host = HeaderValue::from_str(meant).map_err(|_| HeadFault::BadAuthority)?;
    headers.insert(header::HOST, host);
    Ok(())
}

/// Whether `value` is `host[:port]` (RFC 9110 §7.2), and not empty.
///
/// Stricter than the grammar of RFC 3986 §3.2.2 where servers would read something else: no comma, which makes a list
/// of it, and no percent sign, since nobody looks a name up that has one. A port is a number that a port can have.
pub(crate) fn is_host(value: &[u8]) -> bool {
    let (name, rest) = match value.iter().position(|byte| *byte == b']') {
        Some(end) => value.split_at(end + 1),
        None => value.split_at(value.iter().position(|byte| *byte == b':').unwrap_or(value.len())),
    };
    let is_port = match rest {
        [] => true,
        [b':', digits @ ..] => is_port(digits),
        _ => false,
    };
    let is_name = match name {
        [] => false,
        [b'[', address @ .., b']'] => is_literal(address),
        name => name.iter().all(|byte| is_name_byte(*byte)),
    };
    is_name && is_port
}

/// Unreserved characters and subcomponents' delimiters (RFC 3986 §2.2, §2.3) without the comma.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte)
}

/// An address of IPv6, or of a version to come (RFC 3986 §3.2.2). Zones have no meaning to others (RFC 6874 §4).
fn is_literal(address: &[u8]) -> bool {
    if let [b'v' | b'V', future @ ..] = address {
        let mut halves = future.splitn(2, |byte| *byte == b'.');
        let (version, rest) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        let is_version = !version.is_empty() && version.iter().all(u8::is_ascii_hexdigit);
        return is_version
            && !rest.is_empty()
            && rest.iter().all(|byte| is_name_byte(*byte) || *byte == b':');
    }
    std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// Empty is a port too: that of the scheme (RFC 3986 §3.2.3).
fn is_port(digits: &[u8]) -> bool {
    number(digits).is_some()
}

fn number(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0_u16, |number, digit| {
        let digit = char::from(*digit).to_digit(10).and_then(|digit| u16::try_from(digit).ok())?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether it is a version in which heads have no `Host` of their own, but `:authority`.
fn has_pseudo_headers(version: Version) -> bool {
    version > Version::HTTP_11
}
