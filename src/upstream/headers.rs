//! What of a request's and an answer's headers goes on (RFC 9110 §7.6).
//!
//! # Invariants
//! 1. A header that belongs to one hop does not go on, nor does one that `Connection` names, except
//!    those that say who a request is from: a client must not be able to have them removed.
//! 2. Forwarding headers say what *we* saw: what a client sent of them is replaced.
//! 3. An upgrade goes on only if it is a WebSocket handshake.

use std::fmt::Write;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::config::{Forwarded, HostHeader, Target};
use crate::net::Peer;

/// The user that authentication found; never believed from a client.
const X_OUTRIGGER_USER: HeaderName = HeaderName::from_static("x-outrigger-user");
/// What ties together the log lines of one request.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

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
    const NAMES: [HeaderName; 8] = [
        header::AUTHORIZATION,
        header::COOKIE,
        header::FORWARDED,
        header::HOST,
        header::ORIGIN,
        header::CONTENT_LENGTH,
        X_REAL_IP,
        X_REQUEST_ID,
    ];
    NAMES.contains(name)
        || ["x-forwarded-", "x-outrigger-", "sec-"].iter().any(|prefix| text.starts_with(prefix))
}

/// Headers that say what *we* saw.
const FORWARDING: [HeaderName; 7] = [
    header::FORWARDED,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PORT,
    X_FORWARDED_PREFIX,
    X_FORWARDED_PROTO,
    X_REAL_IP,
];

/// Whether a server that makes variables of its headers (CGI, WSGI, PHP) would take this one for a header
/// of ours: to them `X_Forwarded_For` and `X-Forwarded-For` are one name.
fn is_look_alike(name: &HeaderName) -> bool {
    let text = name.as_str();
    let is = |ours: &HeaderName| {
        let same = |(a, b): (u8, u8)| a == b || (a, b) == (b'_', b'-');
        ours.as_str().len() == text.len() && text.bytes().zip(ours.as_str().bytes()).all(same)
    };
    text.contains('_') && (FORWARDING.iter().any(is) || is(&X_OUTRIGGER_USER))
}

/// Where a request came in, and from whom.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The hop it came over.
    pub peer: &'a Peer,
    /// Whether the peer's forwarding headers are believed.
    pub is_forwarded: bool,
    /// Who authentication says it is.
    pub user: Option<&'a str>,
}

/// How one upstream wants to be told.
#[derive(Debug, Clone, Copy)]
pub struct Telling<'a> {
    /// Which forwarding headers.
    pub forwarded: Forwarded,
    /// Which `Host`.
    pub host: HostHeader,
    /// The upstream.
    pub target: &'a Target,
}

/// Turns a client's request headers into what the upstream is sent. `is_websocket` keeps the upgrade.
pub fn for_upstream(headers: &mut HeaderMap, seen: Seen<'_>, telling: Telling<'_>, is_websocket: bool) {
    drop_hop_by_hop(headers);
    // Answered by us as soon as the body is read; the upstream need not ask again.
    headers.remove(header::EXPECT);
    headers.remove(X_OUTRIGGER_USER);
    if let Some(user) = seen.user.and_then(|user| HeaderValue::from_str(user).ok()) {
        headers.insert(X_OUTRIGGER_USER, user);
    }
    let look_alikes: Vec<HeaderName> = headers.keys().filter(|name| is_look_alike(name)).cloned().collect();
    for name in look_alikes {
        headers.remove(name);
    }
    let host = headers.get(header::HOST).cloned();
    tell_forwarded(headers, seen, telling.forwarded, host.as_ref());
    if telling.host == HostHeader::Rewrite || host.is_none() {
        headers.insert(header::HOST, authority(telling.target));
    }
    if is_websocket {
        set_upgrade(headers);
    }
}

/// The two headers of this hop that make a message part of a WebSocket handshake.
pub fn set_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Turns an upstream's answer headers into what the client is sent.
pub fn for_client(headers: &mut HeaderMap) {
    drop_hop_by_hop(headers);
}

/// The request's id: the client's, if it is one that can stand in a log line, else a new one.
pub fn request_id(headers: &mut HeaderMap) -> Box<str> {
    let given = headers.get(X_REQUEST_ID).and_then(|id| id.to_str().ok());
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
pub fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

fn tell_forwarded(headers: &mut HeaderMap, seen: Seen<'_>, form: Forwarded, host: Option<&HeaderValue>) {
    for name in FORWARDING {
        headers.remove(name);
    }
    if matches!(form, Forwarded::XForwarded | Forwarded::Both) {
        if let Some(client) = seen.peer.address
            && let Ok(value) = HeaderValue::from_str(&client.ip().to_canonical().to_string())
        {
            headers.insert(X_FORWARDED_FOR, value);
        }
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
        if let Some(host) = host {
            headers.insert(X_FORWARDED_HOST, host.clone());
        }
        if let Some(port) = seen.peer.port {
            headers.insert(X_FORWARDED_PORT, HeaderValue::from(port));
        }
    }
    if matches!(form, Forwarded::Rfc7239 | Forwarded::Both)
        && let Ok(value) = HeaderValue::from_str(&rfc7239(seen, host.and_then(|host| host.to_str().ok())))
    {
        headers.insert(header::FORWARDED, value);
    }
}

/// One element of `Forwarded` (RFC 7239 §4). IPv6 addresses and hosts with a port have to be quoted.
fn rfc7239(seen: Seen<'_>, host: Option<&str>) -> String {
    let mut text = match seen.peer.address.map(|client| client.ip().to_canonical()) {
        None => "for=unknown".to_owned(),
        Some(std::net::IpAddr::V4(ip)) => format!("for={ip}"),
        Some(std::net::IpAddr::V6(ip)) => format!("for=\"[{ip}]\""),
    };
    if let Some(host) = host {
        let quoted = host.replace('\\', "\\\\").replace('"', "\\\"");
        // Writing to a string cannot fail.
        let _ = write!(text, ";host=\"{quoted}\"");
    }
    text.push_str(";proto=http");
    text
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
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn sent(pairs: &[(&'static str, &'static str)], forwarded: Forwarded, is_websocket: bool) -> HeaderMap {
        let mut headers = map(pairs);
        let target = Target::Tcp { host: "::1".into(), port: 3000 };
        let peer = Peer { address: "[2001:db8::7]:1234".parse().ok(), port: Some(8080), ..Peer::default() };
        let seen = Seen { peer: &peer, is_forwarded: false, user: None };
        for_upstream(
            &mut headers,
            seen,
            Telling { forwarded, host: HostHeader::Preserve, target: &target },
            is_websocket,
        );
        headers
    }

    #[test]
    fn headers_that_connection_names_go_but_identity_stays() {
        let headers = sent(
            &[
                ("host", "a.example"),
                (
                    "connection",
                    "close, X-Private, AUTHORIZATION, x-forwarded-for , Cookie, X-Outrigger-User, Content-Length",
                ),
                ("x-private", "1"),
                ("authorization", "Bearer t"),
                ("cookie", "c=1"),
                ("keep-alive", "timeout=5"),
                ("te", "trailers"),
                ("upgrade", "h2c"),
                ("http2-settings", "AAMAAABk"),
                ("x-kept", "1"),
                ("content-length", "3"),
            ],
            Forwarded::XForwarded,
            false,
        );
        for gone in ["connection", "x-private", "keep-alive", "te", "upgrade"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        for kept in ["authorization", "cookie", "host", "x-kept", "x-forwarded-for", "content-length"] {
            assert!(headers.contains_key(kept), "{kept}");
        }
    }

    #[test]
    fn what_a_client_says_of_itself_is_replaced() {
        let forged = [
            ("host", "a.example:8080"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-prefix", "/evil"),
            ("x-real-ip", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-outrigger-user", "root"),
        ];
        let headers = sent(&forged, Forwarded::Both, false);
        let all = |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("x-forwarded-for"), ["2001:db8::7"]);
        assert_eq!(all("x-forwarded-proto"), ["http"]);
        assert_eq!(all("x-forwarded-host"), ["a.example:8080"]);
        assert_eq!(all("x-forwarded-port"), ["8080"]);
        assert_eq!(all("forwarded"), [r#"for="[2001:db8::7]";host="a.example:8080";proto=http"#]);
        for gone in ["x-real-ip", "x-outrigger-user", "x-forwarded-prefix"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        let headers = sent(&forged, Forwarded::Off, false);
        assert!(!headers.contains_key("x-forwarded-for") && !headers.contains_key("forwarded"));
    }

    #[test]
    fn only_a_websocket_handshake_keeps_its_upgrade() {
        let handshake = [
            ("host", "a"),
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "k"),
        ];
        let headers = sent(&handshake, Forwarded::Off, true);
        assert_eq!(headers["connection"], "Upgrade");
        assert_eq!(headers["upgrade"], "websocket");
        assert!(headers.contains_key("sec-websocket-key"));
    }

    #[test]
    fn a_mapped_address_is_told_as_the_ipv4_address_it_is() {
        let mapped = Peer { address: "[::ffff:192.0.2.1]:1".parse().ok(), ..Peer::default() };
        let unknown = Peer::default();
        let seen = |peer| Seen { peer, is_forwarded: false, user: None };
        assert_eq!(rfc7239(seen(&mapped), None), "for=192.0.2.1;proto=http");
        assert_eq!(rfc7239(seen(&unknown), Some("a\"b")), r#"for=unknown;host="a\"b";proto=http"#);
    }

    #[test]
    fn a_request_id_is_kept_if_it_can_be_logged_and_made_if_not() {
        let mut headers = map(&[("x-request-id", "abc-1")]);
        assert_eq!(&*request_id(&mut headers), "abc-1");
        for bad in ["", "\u{e9}"] {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(bad.as_bytes()).unwrap());
            let made = request_id(&mut headers);
            assert_eq!(made.len(), 32);
            assert_eq!(headers[&X_REQUEST_ID], &*made);
        }
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_str(&"x".repeat(129)).unwrap());
        assert_eq!(request_id(&mut headers).len(), 32);
    }

    #[test]
    fn the_upstreams_own_host_is_a_valid_authority() {
        let tcp = |host: &str, port| authority(&Target::Tcp { host: host.into(), port });
        assert_eq!(tcp("app", 80), "app");
        assert_eq!(tcp("app", 3000), "app:3000");
        assert_eq!(tcp("::1", 80), "[::1]:80");
        assert_eq!(authority(&Target::Unix("/run/a.sock".into())), "localhost");
    }
}
