//! What the upstream is told about where a request came from.
//!
//! | header | of a peer that is not trusted | of a trusted one |
//! | --- | --- | --- |
//! | `X-Forwarded-For` | replaced by the peer's address | kept, the peer's address appended |
//! | `X-Forwarded-Proto`, `-Host`, `-Port` | replaced by what we saw | kept; set where it is missing |
//! | `X-Forwarded-Prefix` and every other `X-Forwarded-…` (`-User`, `-Email`, `-Ssl` …), `X-Real-IP` | removed | kept |
//! | `Forwarded` | replaced by our element | kept, our element appended |
//!
//! Of the two kinds only those that the upstream wants to be told (`upstream.forwarded`) are sent at all.
//! `X-Real-IP` is never made: it says less than `X-Forwarded-For`, and two tellers of one thing differ some
//! day.
//!
//! # Invariants
//! 1. Nothing of this comes from a peer that is not trusted.
//! 2. What a trusted peer said in the kind that the upstream does not want is not lost: the client it named
//!    stands in the kind that it does want.

use std::fmt::Write;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::Seen;
use crate::config::Forwarded;

pub(super) const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// Begins every header by which proxies tell each other about a client.
pub(super) const X_FORWARDED: &str = "x-forwarded-";
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Where a request came from, in the kind that has a header for each thing. Who the user is, which some
/// proxies tell in `X-Forwarded-User`, is not among them.
const ROAD: [HeaderName; 6] =
    [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PREFIX, X_FORWARDED_PROTO, X_REAL_IP];

/// Whether only a trusted peer may say this.
pub(super) fn is_forwarding(name: &str) -> bool {
    name.starts_with(X_FORWARDED) || name == X_REAL_IP.as_str() || name == header::FORWARDED.as_str()
}

/// Rewrites what stands in `headers` about the road so far; `host` is what the client asked for.
pub(super) fn tell(headers: &mut HeaderMap, seen: Seen<'_>, form: Forwarded, host: Option<&HeaderValue>) {
    if !seen.is_forwarded {
        let forged: Vec<HeaderName> =
            headers.keys().filter(|name| is_forwarding(name.as_str())).cloned().collect();
        for name in forged {
            headers.remove(name);
        }
    }
    let peer = seen.peer.address.map(|peer| peer.ip().to_canonical());
    // Whom a trusted peer named.
    let named = seen.client.map(|client| client.ip().to_canonical()).filter(|client| Some(*client) != peer);
    if matches!(form, Forwarded::XForwarded | Forwarded::Both) {
        let begins = named.filter(|_| !headers.contains_key(X_FORWARDED_FOR));
        let row: Vec<_> = [begins, peer].into_iter().flatten().map(|ip| ip.to_string()).collect();
        append(headers, X_FORWARDED_FOR, &row.join(", "));
        // A port belongs to the scheme and host it was said with: ours behind theirs would be a wrong URL.
        let is_told = [X_FORWARDED_PROTO, X_FORWARDED_HOST].iter().any(|name| headers.contains_key(name));
        if let Some(port) = seen.peer.port.filter(|_| !is_told) {
            headers.entry(X_FORWARDED_PORT).or_insert(HeaderValue::from(port));
        }
        headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(proto(seen)));
        if let Some(host) = host {
            headers.entry(X_FORWARDED_HOST).or_insert(host.clone());
        }
    } else {
        for name in ROAD {
            headers.remove(name);
        }
    }
    if matches!(form, Forwarded::Rfc7239 | Forwarded::Both) {
        let mut element = element(peer, seen, host.and_then(|host| host.to_str().ok()));
        if let Some(named) = named.filter(|_| !headers.contains_key(header::FORWARDED)) {
            element = format!("for={}, {element}", node(Some(named)));
        }
        append(headers, header::FORWARDED, &element);
    } else {
        headers.remove(header::FORWARDED);
    }
}

/// Makes one header of all of that name, with `last` at its end.
fn append(headers: &mut HeaderMap, name: HeaderName, last: &str) {
    let mut row = Vec::new();
    let values = headers.get_all(&name).into_iter().map(HeaderValue::as_bytes);
    for value in values.chain([last.as_bytes()]).filter(|value| !value.is_empty()) {
        if !row.is_empty() {
            row.extend_from_slice(b", ");
        }
        row.extend_from_slice(value);
    }
    // Of values that are such and of ours, which have no control characters: it is one.
    if let Ok(value) = HeaderValue::from_bytes(&row)
        && !row.is_empty()
    {
        headers.insert(name, value);
    }
}

fn proto(seen: Seen<'_>) -> &'static str {
    if seen.peer.is_tls { "https" } else { "http" }
}

/// Our element of `Forwarded` (RFC 7239 §4). Hosts with a port have to be quoted.
fn element(peer: Option<IpAddr>, seen: Seen<'_>, host: Option<&str>) -> String {
    let mut text = format!("for={}", node(peer));
    if let Some(host) = host {
        let quoted = host.replace('\\', "\\\\").replace('"', "\\\"");
        // Writing to a string cannot fail.
        let _ = write!(text, ";host=\"{quoted}\"");
    }
    let _ = write!(text, ";proto={}", proto(seen));
    text
}

/// IPv6 addresses have to be quoted and in brackets (RFC 7239 §6).
fn node(ip: Option<IpAddr>) -> String {
    match ip {
        None => "unknown".to_owned(),
        Some(IpAddr::V4(ip)) => ip.to_string(),
        Some(IpAddr::V6(ip)) => format!("\"[{ip}]\""),
    }
}
