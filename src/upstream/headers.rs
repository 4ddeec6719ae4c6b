//! Which headers of a request and of a response are forwarded (RFC 9110 §7.6).
//!
//! # Invariants
//! 1. Hop-by-hop headers are not forwarded, nor are those that `Connection` names, except
//!    those that say who a request is from: a client must not be able to have them removed.
//! 2. Forwarding headers say what the proxy itself saw, or what a trusted proxy says ([`forwarded`]): those of a client
//!    are replaced.
//! 3. What the authentication service says of a request is forwarded whatever `Connection` names, and replaces whatever
//!    others have put under those names.
//! 4. What is between a client and this proxy, such as the ticket of a session, goes no further.
//! 5. An upgrade is forwarded only if it is a WebSocket handshake.

mod forwarded;

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use self::forwarded::is_forwarding;
pub(crate) use self::forwarded::{Forwarding, ForwardingConfig, Requester, own_origin};
use crate::config::{Forwarded, HostHeader, Target};
use crate::net::http::{
    X_FORWARDED_PREFIX, X_OUTRIGGER_SESSION, X_OUTRIGGER_USER, X_REQUEST_ID, plain_name, set_upgrade, tokens,
};
use crate::telemetry::text::all_bytes;

/// Hop-by-hop headers.
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that say who a request is from, where it was addressed to, or what it is: naming them in
/// `Connection` does not remove them (CVE-2024-45410, CVE-2026-29054).
fn is_protected(name: &HeaderName) -> bool {
    let text = name.as_str();
    static NAMES: [HeaderName; 6] = [
        header::AUTHORIZATION,
        header::COOKIE,
        header::HOST,
        header::ORIGIN,
        header::CONTENT_LENGTH,
        X_REQUEST_ID,
    ];
    NAMES.contains(name)
        || is_forwarding(text)
        || ["x-outrigger-", "sec-"].iter().any(|prefix| text.starts_with(prefix))
}

/// Whether a client that says this says it to us, or in our name.
fn is_ours(name: &str) -> bool {
    name == X_OUTRIGGER_USER.as_str() || name == X_OUTRIGGER_SESSION.as_str()
}

/// Whether a server that makes variables of headers would take this one for a header of ours ([`plain_name`]).
fn is_look_alike(name: &HeaderName) -> bool {
    let text = name.as_str();
    // A name is in lower case.
    let is_separator = |byte: u8| !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let plain = || plain_name(text);
    !all_bytes(text.as_bytes(), |byte| !is_separator(byte)) && (is_forwarding(&plain()) || is_ours(&plain()))
}

/// Turns a client's request headers into what the upstream is sent. `is_websocket` keeps the upgrade.
pub(crate) fn for_upstream(
    headers: &mut HeaderMap,
    requester: Requester<'_>,
    config: ForwardingConfig<'_>,
    is_websocket: bool,
) {
    drop_hop_by_hop(headers);
    // The proxy answers it as soon as the body is read; the upstream need not ask again.
    headers.remove(header::EXPECT);
    headers.remove(X_OUTRIGGER_USER);
    headers.remove(X_OUTRIGGER_SESSION);
    if let Some(user) = requester.user.and_then(|user| HeaderValue::from_str(user).ok()) {
        headers.insert(X_OUTRIGGER_USER, user);
    }
    if let Some(attested) = requester.attested.filter(|attested| !attested.is_empty()) {
        attest(headers, attested);
    }
    let look_alikes: Vec<HeaderName> = headers.keys().filter(|name| is_look_alike(name)).cloned().collect();
    for name in look_alikes {
        headers.remove(name);
    }
    let host = headers.get(header::HOST).cloned();
    forwarded::set_forwarding(headers, requester, config, host.as_ref());
    if config.host == HostHeader::Rewrite || host.is_none() {
        headers.insert(header::HOST, authority(config.target));
    }
    if is_websocket {
        set_upgrade(headers);
    }
}

/// Removes headers that a client may have forged: forwarding headers of a peer that is not trusted, those that a trusted
/// peer passed on in the kind that it does not write itself, and names that are ours. For code that reads single headers
/// of a client instead of forwarding all of them ([`for_upstream`]).
pub(crate) fn remove_forged(headers: &mut HeaderMap, forwarding: Option<&Forwarding>) {
    let is_forged = |name: &HeaderName| {
        let is_believed = forwarding.is_some_and(|forwarding| forwarding.is_believed(name));
        is_ours(name.as_str()) || is_look_alike(name) || is_forwarding(name.as_str()) && !is_believed
    };
    let forged: Vec<HeaderName> = headers.keys().filter(|name| is_forged(name)).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}

/// Puts what the authentication service says in place of whatever stands under these names.
pub(crate) fn attest(headers: &mut HeaderMap, attested: &HeaderMap) {
    for name in attested.keys() {
        headers.remove(name);
    }
    headers.extend(attested.clone());
}

/// The `Host` of a request that is made from one with these headers.
pub(crate) fn host(headers: &HeaderMap, config: ForwardingConfig<'_>) -> HeaderValue {
    let preserved = headers.get(header::HOST).filter(|_| config.host == HostHeader::Preserve);
    preserved.cloned().unwrap_or_else(|| authority(config.target))
}

/// Sets the header that says which prefix the route strips, in a head that is built and not forwarded.
pub(crate) fn set_prefix(headers: &mut HeaderMap, config: ForwardingConfig<'_>) {
    if let Some(prefix) = forwarded::prefix(None, config).filter(|_| config.forwarded != Forwarded::Off) {
        headers.insert(X_FORWARDED_PREFIX, prefix);
    }
}

/// Turns the headers of an upstream's answer into what the client is sent. A 426 has to say what to upgrade to (RFC 9110
/// §15.5.22), and the one upgrade that can be had through us is a WebSocket: a server that wants another one, such as
/// TLS, is not promised for.
pub(crate) fn for_client(status: StatusCode, headers: &mut HeaderMap) {
    let wants_websocket = status == StatusCode::UPGRADE_REQUIRED && {
        let mut wanted = tokens(headers, &header::UPGRADE).peekable();
        wanted.peek().is_none() || wanted.any(|protocol| protocol.eq_ignore_ascii_case("websocket"))
    };
    drop_hop_by_hop(headers);
    if wants_websocket {
        set_upgrade(headers);
    }
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &header::CONNECTION)
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            .filter(|name| !is_protected(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    // Most heads have one or two of them: a look at each name costs less than a search for each of these. They leave in
    // this order, which says where others stand that are sent on.
    let mut is_there = [false; HOP_BY_HOP.len()];
    // None of them begins otherwise.
    let may_be = |name: &&HeaderName| {
        matches!(name.as_str().as_bytes().first(), Some(b'c' | b'k' | b'p' | b't' | b'u'))
    };
    for name in headers.keys().filter(may_be) {
        if let Some(at) = HOP_BY_HOP.iter().position(|hop_by_hop| hop_by_hop == name) {
            is_there[at] = true;
        }
    }
    for (name, _) in HOP_BY_HOP.iter().zip(is_there).filter(|(_, is_there)| *is_there) {
        headers.remove(name);
    }
}

/// What stands in `Host` for the upstream itself.
fn authority(target: &Target) -> HeaderValue {
    let text = match target {
        Target::Unix(_) => "localhost".to_owned(),
        Target::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        Target::Tcp { host, port: 80 } => host.clone(),
        Target::Tcp { host, port } => format!("{host}:{port}"),
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("localhost"))
}

#[cfg(test)]
mod tests;
