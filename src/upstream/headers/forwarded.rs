//! The headers that tell the upstream where a request came from.
//!
//! | header | of a peer that is not trusted | of a trusted one |
//! | --- | --- | --- |
//! | `X-Forwarded-For` | replaced by the peer's address | kept, the peer's address appended |
//! | `X-Forwarded-Proto`, `-Host`, `-Port` | replaced by what we saw | what it said, in one value; what we saw where it says nothing |
//! | `X-Forwarded-Prefix` | removed | what it said |
//! | `Forwarded` | replaced by our element | kept, our element appended |
//! | every other `X-Forwarded-…` (`-User`, `-Email`, `-Ssl` …), `X-Real-IP` and the others of [`TRUSTED_ONLY`] | removed | kept |
//!
//! Of the two kinds only those that the upstream wants to be told (`upstream.forwarded`) are sent at all, and of a trusted
//! peer only one is believed ([`Forwarding`]): the other one, where it is wanted, is made from that. A prefix that the
//! route takes off is appended to `X-Forwarded-Prefix`, for which `Forwarded` has no word: it goes with either kind.
//!
//! `X-Real-IP` is never made: it says less than `X-Forwarded-For`, and two headers for one fact may come to differ.
//!
//! # Invariants
//! 1. Nothing of this comes from a peer that is not trusted.
//! 2. What a trusted peer said in the kind that the upstream does not want is not lost: the client, scheme, host and
//!    port that it named stand in the kind that it does want.
//! 3. Both kinds tell the same.
//!
//! # Not here
//! How a trusted peer's headers are read ([`crate::admission`]).

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::config::{Forwarded, HostHeader, Target, without_port};
use crate::net::Peer;
use crate::net::http::{
    X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PREFIX, X_FORWARDED_PROTO,
};
use crate::telemetry::text::DottedQuad;

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

/// The prefix of the headers by which proxies tell each other about a client.
pub(super) const X_FORWARDED: &str = "x-forwarded-";
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Where a request came from, in the kind that has a header for each thing. Who the user is, which some
/// proxies tell in `X-Forwarded-User`, is not among them.
const X_FORWARDED_ALL: [HeaderName; 6] =
    [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PREFIX, X_FORWARDED_PROTO, X_REAL_IP];

/// Besides `X-Forwarded-…`: by these too proxies and networks of proxies say whom they ask for, over what, and for which
/// URL, and servers believe them.
const TRUSTED_ONLY: [&str; 17] = [
    "forwarded",
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "fastly-client-ip",
    "front-end-https",
    "x-scheme",
    "x-url-scheme",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
];

/// Whether only a trusted peer may say this.
pub(super) fn is_forwarding(name: &str) -> bool {
    name.starts_with(X_FORWARDED) || TRUSTED_ONLY.contains(&name)
}

/// What a trusted peer says of a request before it came to it, besides the client's address. All of it is of one kind:
/// proxies write one, and many pass on what their clients write in the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Forwarding {
    /// Whether it is told in `Forwarded` (RFC 7239); else in `X-Forwarded-…`.
    pub is_rfc7239: bool,
    /// In lower case.
    pub scheme: Option<HeaderValue>,
    /// `host[:port]`
    pub host: Option<HeaderValue>,
    /// Where it is said by itself.
    pub port: Option<u16>,
    /// Begins with a slash and does not end with one.
    pub prefix: Option<Box<str>>,
}

impl Forwarding {
    /// Whether a header by which proxies tell each other of a client is of the kind that counts, or of neither.
    pub(super) fn is_believed(&self, name: &HeaderName) -> bool {
        if self.is_rfc7239 {
            ![X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO].contains(name)
        } else {
            *name != header::FORWARDED
        }
    }

    /// The port, by itself or with the host, or the one that scheme and host mean by having none.
    fn port(&self) -> Option<u16> {
        let host = self.host.as_ref().and_then(|host| host.to_str().ok());
        let with_host = host.and_then(|host| host.get(without_port(host).len()..)?.strip_prefix(':'));
        let by_default = || host.and_then(|_| default_port(self.scheme.as_ref()?));
        self.port.or_else(|| with_host?.parse().ok().filter(|port| *port != 0)).or_else(by_default)
    }

    /// The host, with the port that the client came to unless it goes without saying.
    fn authority(&self) -> Option<String> {
        let host = self.host.as_ref()?.to_str().ok()?;
        let is_bare = without_port(host).len() == host.len();
        let port =
            self.port.filter(|port| is_bare && self.scheme.as_ref().and_then(default_port) != Some(*port));
        Some(port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    }
}

fn default_port(scheme: &HeaderValue) -> Option<u16> {
    match scheme.as_bytes() {
        b"https" | b"wss" => Some(443),
        b"http" | b"ws" => Some(80),
        _ => None,
    }
}

/// Rewrites what stands in `headers` about the road so far; `host` is what the client asked for.
pub(super) fn set_forwarding(
    headers: &mut HeaderMap,
    requester: Requester<'_>,
    config: ForwardingConfig<'_>,
    host: Option<&HeaderValue>,
) {
    let nothing = Forwarding::default();
    let claimed = requester.forwarding.unwrap_or(&nothing);
    if requester.forwarding.is_none() {
        let forged: Vec<HeaderName> =
            headers.keys().filter(|name| is_forwarding(name.as_str())).cloned().collect();
        for name in forged {
            headers.remove(name);
        }
    } else {
        // Read already, and set anew.
        for name in [X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PREFIX, X_FORWARDED_PROTO] {
            headers.remove(name);
        }
        if !claimed.is_rfc7239 || !is_readable(headers) {
            headers.remove(header::FORWARDED);
        }
    }
    let peer = requester.peer.address.map(|peer| peer.ip().to_canonical());
    // Whom a trusted peer named.
    let named =
        requester.client.map(|client| client.ip().to_canonical()).filter(|client| Some(*client) != peer);
    let form = config.forwarded;
    if matches!(form, Forwarded::XForwarded | Forwarded::Both) {
        let begins = named.filter(|_| !headers.contains_key(X_FORWARDED_FOR));
        let mut list = String::new();
        for ip in [begins, peer].into_iter().flatten() {
            if !list.is_empty() {
                list.push_str(", ");
            }
            push_ip(&mut list, ip);
        }
        append(headers, X_FORWARDED_FOR, &list);
        // A port belongs to the scheme and host that it came with: our port with their host would be a wrong URL.
        let is_own = claimed.scheme.is_none() && claimed.host.is_none();
        if let Some(port) = claimed.port().or(requester.peer.port.filter(|_| is_own)) {
            headers.insert(X_FORWARDED_PORT, HeaderValue::from(port));
        }
        let scheme = claimed.scheme.clone().unwrap_or(HeaderValue::from_static(scheme(requester)));
        headers.insert(X_FORWARDED_PROTO, scheme);
        if let Some(host) = claimed.host.as_ref().or(host) {
            headers.insert(X_FORWARDED_HOST, host.clone());
        }
    } else {
        for name in X_FORWARDED_ALL {
            headers.remove(name);
        }
    }
    if let Some(prefix) = prefix(claimed.prefix.as_deref(), config)
        && form != Forwarded::Off
    {
        headers.insert(X_FORWARDED_PREFIX, prefix);
    }
    if matches!(form, Forwarded::Rfc7239 | Forwarded::Both) {
        let host = host.and_then(|host| host.to_str().ok());
        let mut list = element(peer, host, Some(scheme(requester)));
        let is_told = named.is_some() || claimed.scheme.is_some() || claimed.host.is_some();
        if is_told && !headers.contains_key(header::FORWARDED) {
            let scheme = claimed.scheme.as_ref().and_then(|scheme| scheme.to_str().ok());
            list = format!("{}, {list}", element(named, claimed.authority().as_deref(), scheme));
        }
        append(headers, header::FORWARDED, &list);
    } else {
        headers.remove(header::FORWARDED);
    }
}

/// What is missing in front of the path that the upstream sees: what a trusted peer took off it, and what the route does.
pub(super) fn prefix(claimed: Option<&str>, config: ForwardingConfig<'_>) -> Option<HeaderValue> {
    let whole = format!("{}{}", claimed.unwrap_or_default(), config.strip_prefix.unwrap_or_default());
    HeaderValue::try_from(whole).ok().filter(|prefix| !prefix.is_empty())
}

/// Whether each `Forwarded` ends outside of quotes, read from the left: a quote that a client has left open would swallow
/// everything behind it, our element too.
fn is_readable(headers: &HeaderMap) -> bool {
    headers.get_all(header::FORWARDED).into_iter().all(|value| {
        let (mut is_quoted, mut is_escaped) = (false, false);
        for byte in value.as_bytes() {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_quoted => is_escaped = true,
                b'"' => is_quoted = !is_quoted,
                _ => {}
            }
        }
        !is_quoted
    })
}

/// Makes one header of all of that name, with `last` at its end.
fn append(headers: &mut HeaderMap, name: HeaderName, last: &str) {
    let mut list = Vec::new();
    let values = headers.get_all(&name).into_iter().map(HeaderValue::as_bytes);
    for value in values.chain([last.as_bytes()]).filter(|value| !value.is_empty()) {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(value);
    }
    // The values are valid, and ours has no control characters: so the list is valid.
    if let Ok(value) = HeaderValue::from_bytes(&list)
        && !list.is_empty()
    {
        headers.insert(name, value);
    }
}

/// The origin of pages of the very site that a request came to (RFC 6454 §6.2); `host` is its `Host`.
pub(crate) fn own_origin(requester: Requester<'_>, host: Option<&HeaderValue>) -> Option<HeaderValue> {
    let claimed = requester.forwarding;
    let claimed_scheme = claimed.and_then(|claimed| claimed.scheme.as_ref());
    let scheme = match claimed_scheme.map(HeaderValue::as_bytes) {
        None => scheme(requester),
        Some(b"https" | b"wss") => "https",
        Some(b"http" | b"ws") => "http",
        Some(_) => return None,
    };
    let authority = match claimed.and_then(Forwarding::authority) {
        Some(authority) => authority,
        None => host?.to_str().ok()?.to_owned(),
    };
    HeaderValue::try_from(format!("{scheme}://{}", authority.to_ascii_lowercase())).ok()
}

fn scheme(requester: Requester<'_>) -> &'static str {
    if requester.peer.is_tls { "https" } else { "http" }
}

fn push_ip(text: &mut String, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => text.push_str(DottedQuad::of(ip).as_str()),
        // Writing to a string cannot fail.
        IpAddr::V6(ip) => drop(write!(text, "{ip}")),
    }
}

/// An element of `Forwarded` (RFC 7239 §4). Hosts with a port have to be quoted.
fn element(node: Option<IpAddr>, host: Option<&str>, scheme: Option<&str>) -> String {
    let mut text = format!("for={}", self::node(node));
    if let Some(host) = host {
        let quoted = host.replace('\\', "\\\\").replace('"', "\\\"");
        // Writing to a string cannot fail.
        let _ = write!(text, ";host=\"{quoted}\"");
    }
    if let Some(scheme) = scheme {
        let _ = write!(text, ";proto={scheme}");
    }
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
