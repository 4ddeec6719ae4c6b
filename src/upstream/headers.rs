//! What of a request's and an answer's headers goes on (RFC 9110 §7.6).
//!
//! # Invariants
//! 1. A header that belongs to one hop does not go on, nor does one that `Connection` names, except
//!    those that say who a request is from: a client must not be able to have them removed.
//! 2. Forwarding headers say what *we* saw, or what a trusted proxy did ([`forwarded`]): what a client sent
//!    of them is replaced.
//! 3. What the authentication service says of a request goes on whatever `Connection` names, and nobody else's
//!    word under those names.
//! 4. An upgrade goes on only if it is a WebSocket handshake.

mod forwarded;

use std::net::SocketAddr;

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use self::forwarded::is_forwarding;
pub(crate) use self::forwarded::{
    Forwarding, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PREFIX, X_FORWARDED_PROTO,
};
use crate::config::{Forwarded, HostHeader, Target};
use crate::net::Peer;

/// The user that authentication found; never believed from a client.
const X_OUTRIGGER_USER: HeaderName = HeaderName::from_static("x-outrigger-user");
/// What ties together the log lines of one request.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is taken from a client.
const MAX_REQUEST_ID: usize = 128;

/// Headers of one hop.
const HOP_BY_HOP: [HeaderName; 9] = [
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

/// Headers that say who a request is from, where it was meant for, or what it is: naming them in
/// `Connection` does not remove them (CVE-2024-45410, CVE-2026-29054).
fn is_protected(name: &HeaderName) -> bool {
    let text = name.as_str();
    const NAMES: [HeaderName; 6] = [
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

/// A header's name as servers have it that make variables of headers (CGI, WSGI, PHP), with `-` for what stands between
/// words. To all of them `X_Forwarded_For` and `X-Forwarded-For` are one name; PHP takes `.` for the same, and lighttpd
/// whatever is no letter and no digit.
pub(crate) fn plain_name(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

/// Whether such a server would take this one for a header of ours.
fn is_look_alike(name: &HeaderName) -> bool {
    let text = name.as_str();
    let is_mark = |byte: u8| !byte.is_ascii_alphanumeric() && byte != b'-';
    let meant = || plain_name(text);
    text.bytes().any(is_mark) && (is_forwarding(&meant()) || meant() == X_OUTRIGGER_USER.as_str())
}

/// Where a request came in, and from whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Requester<'a> {
    /// The hop it came over.
    pub peer: &'a Peer,
    /// What the peer says of where it comes from; `None`: it is not trusted, and nothing of that is believed.
    pub forwarding: Option<&'a Forwarding>,
    /// Whose request it is.
    pub client: Option<SocketAddr>,
    /// Who authentication says it is.
    pub user: Option<&'a str>,
    /// What the authentication service says of it.
    pub attested: Option<&'a HeaderMap>,
}

/// How one upstream wants to be told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForwardingConfig<'a> {
    /// Which forwarding headers.
    pub forwarded: Forwarded,
    /// Which `Host`.
    pub host: HostHeader,
    /// The upstream.
    pub target: &'a Target,
    /// What the route takes off the path.
    pub strip_prefix: Option<&'a str>,
}

/// Turns a client's request headers into what the upstream is sent. `is_websocket` keeps the upgrade.
pub(crate) fn for_upstream(
    headers: &mut HeaderMap,
    seen: Requester<'_>,
    telling: ForwardingConfig<'_>,
    is_websocket: bool,
) {
    drop_hop_by_hop(headers);
    // Answered by us as soon as the body is read; the upstream need not ask again.
    headers.remove(header::EXPECT);
    headers.remove(X_OUTRIGGER_USER);
    if let Some(user) = seen.user.and_then(|user| HeaderValue::from_str(user).ok()) {
        headers.insert(X_OUTRIGGER_USER, user);
    }
    if let Some(attested) = seen.attested {
        attest(headers, attested);
    }
    let look_alikes: Vec<HeaderName> = headers.keys().filter(|name| is_look_alike(name)).cloned().collect();
    for name in look_alikes {
        headers.remove(name);
    }
    let host = headers.get(header::HOST).cloned();
    forwarded::tell(headers, seen, telling, host.as_ref());
    if telling.host == HostHeader::Rewrite || host.is_none() {
        headers.insert(header::HOST, authority(telling.target));
    }
    if is_websocket {
        set_upgrade(headers);
    }
}

/// Takes out what nobody who may say it has said: what only proxies tell, where the peer is not trusted, what a trusted
/// one passed on in the kind that it does not write itself, and names that are ours. For whoever reads single headers
/// of a client's, and does not pass all of them on ([`for_upstream`]).
pub(crate) fn forget_forged(headers: &mut HeaderMap, forwarding: Option<&Forwarding>) {
    let is_forged = |name: &HeaderName| {
        let is_believed = forwarding.is_some_and(|said| said.is_believed(name));
        *name == X_OUTRIGGER_USER || is_look_alike(name) || is_forwarding(name.as_str()) && !is_believed
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
pub(crate) fn host(headers: &HeaderMap, telling: ForwardingConfig<'_>) -> HeaderValue {
    let preserved = headers.get(header::HOST).filter(|_| telling.host == HostHeader::Preserve);
    preserved.cloned().unwrap_or_else(|| authority(telling.target))
}

/// What says which prefix the route takes off, in a head that is built and not passed on.
pub(crate) fn set_prefix(headers: &mut HeaderMap, telling: ForwardingConfig<'_>) {
    if let Some(prefix) = forwarded::prefix(None, telling).filter(|_| telling.forwarded != Forwarded::Off) {
        headers.insert(X_FORWARDED_PREFIX, prefix);
    }
}

/// The two headers of this hop that make a message part of a WebSocket handshake.
pub(crate) fn set_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
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

/// Has the connection end with this answer, beside what `Connection` names already.
pub(crate) fn set_last(headers: &mut HeaderMap) {
    let value = if headers.contains_key(header::CONNECTION) { "Upgrade, close" } else { "close" };
    headers.insert(header::CONNECTION, HeaderValue::from_static(value));
}

/// The request's id: the client's, if it is one that can stand in a log line, else a new one. There is one of them then:
/// of several the server behind might log another one than we do.
pub(crate) fn request_id(headers: &mut HeaderMap) -> Box<str> {
    let mut lines = headers.get_all(X_REQUEST_ID).into_iter();
    let given = lines.next().filter(|_| lines.next().is_none()).and_then(|id| id.to_str().ok());
    if let Some(id) = given.filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len())) {
        return id.into();
    }
    let id = format!("{:032x}", fastrand::u128(..));
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(X_REQUEST_ID, value);
    }
    id.into()
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
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The comma-separated entries of every header of that name (RFC 9110 §5.6.1). What is not text has no
/// entries.
pub(crate) fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
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
