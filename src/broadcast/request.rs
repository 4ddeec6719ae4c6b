//! What the server is sent for a channel. Pure.
//!
//! # Invariants
//! 1. With `credentials: strip` nothing goes on that is not named here: the head is built, not filtered, so that
//!    what one client sent (cookies, `Authorization`, where it came from) cannot reach a link that others share.
//! 2. The key of the handshake is ours and fresh for each dial; compression is not offered.
//!
//! # Not here
//! Which clients share a channel ([`super::key`]).

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::Empty;

use super::key::named;
use crate::config::{Credentials, KeyPart};
use crate::net::head::spelling;
use crate::net::http::{
    PRODUCT, X_OUTRIGGER_USER, X_REQUEST_ID, request_id, set_upgrade, tokens, websocket_key,
};
use crate::upstream::headers::{self, ForwardingConfig, Requester};

/// The client that opens a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct First<'a> {
    /// Path and query as the server is to see them: in origin form, without `strip_prefix`.
    pub(super) target: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) seen: Requester<'a>,
}

/// The head that every dial of a channel begins with.
#[derive(Debug, Clone)]
pub(super) struct Template {
    uri: Uri,
    headers: HeaderMap,
}

impl Template {
    /// Of the channel that `first` opens.
    pub(super) fn new(
        key: &[KeyPart],
        credentials: Credentials,
        first: First<'_>,
        telling: ForwardingConfig<'_>,
    ) -> Self {
        match credentials {
            // Those who are nobody share a channel, and are not one user for that.
            Credentials::First if first.seen.user.is_some() => {
                let mut headers = first.headers.clone();
                headers::for_upstream(&mut headers, first.seen, telling, true);
                headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
                offer_protocols(&mut headers, first.headers);
                Self { uri: first.target.clone(), headers }
            }
            Credentials::First | Credentials::Strip => {
                Self { uri: without_foreign_query(key, first.target), headers: built(key, first, telling) }
            }
        }
    }

    /// The request of one dial, and its id for the log. `protocol`: the one that was agreed upon with the
    /// clients that are there already; nothing else is offered then.
    pub(super) fn request(&self, protocol: Option<&HeaderValue>) -> (Request<Empty<Bytes>>, Box<str>) {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        let mut headers = self.headers.clone();
        headers.insert(header::SEC_WEBSOCKET_KEY, websocket_key());
        if let Some(protocol) = protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
        }
        headers.remove(X_REQUEST_ID);
        let id = request_id(&mut headers);
        *request.headers_mut() = headers;
        *request.extensions_mut() = spelling::own();
        (request, id)
    }
}

/// `target` with no more of its query than the key has: what is not in the key is one client's own.
fn without_foreign_query(key: &[KeyPart], target: &Uri) -> Uri {
    if key.contains(&KeyPart::Query) {
        return target.clone();
    }
    let query = target.query().unwrap_or_default();
    let parameters = key.iter().filter_map(|part| match part {
        KeyPart::QueryParameter(name) => Some(name.as_str()),
        KeyPart::Path | KeyPart::Query | KeyPart::User | KeyPart::Header(_) => None,
    });
    let kept: Vec<&str> = parameters.flat_map(|name| named(query, name)).collect();
    let path = target.path();
    let text = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    // Of parts of a target, which are such in any order.
    PathAndQuery::try_from(text).map_or_else(|_| Uri::from_static("/"), Uri::from)
}

/// Offers the client's subprotocols in one line, as the key has them: a name has one spelling of ours.
fn offer_protocols(headers: &mut HeaderMap, of: &HeaderMap) {
    let offered: Vec<&str> = tokens(of, &header::SEC_WEBSOCKET_PROTOCOL).collect();
    if let Ok(offered) = HeaderValue::try_from(offered.join(", "))
        && !offered.is_empty()
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
    }
}

fn built(key: &[KeyPart], first: First<'_>, telling: ForwardingConfig<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, headers::host(first.headers, telling));
    set_upgrade(&mut headers);
    // The route's own, and the same for all.
    headers::set_prefix(&mut headers, telling);
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    offer_protocols(&mut headers, first.headers);
    if let Some(origin) = first.headers.get(header::ORIGIN) {
        headers.insert(header::ORIGIN, origin.clone());
    }
    for part in key {
        match part {
            KeyPart::User => {
                if let Some(user) = first.seen.user.and_then(|user| HeaderValue::from_str(user).ok()) {
                    headers.insert(X_OUTRIGGER_USER, user);
                }
            }
            KeyPart::Header(name) => {
                let Ok(name) = HeaderName::try_from(name.as_str()) else { continue };
                // What is ours, or stands there already, stays as it is.
                if headers.contains_key(&name) || name.as_str().starts_with("x-outrigger-") {
                    continue;
                }
                for value in first.headers.get_all(&name) {
                    headers.append(&name, value.clone());
                }
            }
            KeyPart::Path | KeyPart::Query | KeyPart::QueryParameter(_) => {}
        }
    }
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(PRODUCT));
    headers
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::config::{Forwarded, HostHeader, Target};
    use crate::net::Peer;
    use crate::upstream::headers::Forwarding;

    const ONE_CLIENT: &[(&str, &str)] = &[
        ("host", "feed.example.com"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("sec-websocket-protocol", "b,a"),
        ("sec-websocket-protocol", "c"),
        ("origin", "https://app.example.com"),
        ("user-agent", "Mozilla"),
        ("accept-language", "de"),
        ("cookie", "sid=secret"),
        ("authorization", "Bearer secret"),
        ("proxy-authorization", "Basic secret"),
        ("x-api-key", "secret"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-user", "alice"),
        ("x-real-ip", "203.0.113.7"),
        ("forwarded", "for=203.0.113.7"),
        ("x-request-id", "theirs"),
        ("x-outrigger-user", "mallory"),
        ("x-tenant", "blue"),
        ("x-tenant", "green"),
    ];

    fn parameter(name: &str) -> KeyPart {
        KeyPart::QueryParameter(name.to_owned())
    }

    fn named_header(name: &str) -> KeyPart {
        KeyPart::Header(name.to_owned())
    }

    fn template(key: &[KeyPart], credentials: Credentials, host: HostHeader, target: &str) -> Template {
        template_of(key, credentials, host, target, Some("alice"))
    }

    fn template_of(
        key: &[KeyPart],
        credentials: Credentials,
        host: HostHeader,
        target: &str,
        user: Option<&str>,
    ) -> Template {
        let peer = Peer { address: "198.51.100.1:5".parse().ok(), ..Peer::default() };
        let mut headers = HeaderMap::new();
        for (name, value) in ONE_CLIENT {
            headers.append(*name, value.parse().unwrap());
        }
        let upstream = Target::Tcp { host: "10.0.0.1".to_owned(), port: 3000 };
        let telling =
            ForwardingConfig { forwarded: Forwarded::Both, host, target: &upstream, strip_prefix: None };
        let said = Forwarding::default();
        let seen =
            Requester { peer: &peer, forwarding: Some(&said), client: peer.address, user, attested: None };
        let first = First { target: &target.parse().unwrap(), headers: &headers, seen };
        Template::new(key, credentials, first, telling)
    }

    fn names(headers: &HeaderMap) -> BTreeSet<&str> {
        headers.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn a_shared_link_carries_nothing_of_one_client_that_is_not_in_the_key() {
        let key = [KeyPart::Path, KeyPart::Query];
        let template = template(&key, Credentials::Strip, HostHeader::Preserve, "/ws/a?b=c");
        let (request, id) = template.request(None);
        assert_eq!((request.method().as_str(), request.uri().to_string()), ("GET", "/ws/a?b=c".to_owned()));
        let headers = request.headers();
        let expected = [
            ("host", "feed.example.com"),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "b, a, c"),
            ("origin", "https://app.example.com"),
            ("user-agent", PRODUCT),
            ("x-request-id", &id),
        ];
        for (name, value) in expected {
            let all: Vec<_> = headers.get_all(name).iter().collect();
            assert_eq!(all, [value], "{name}");
        }
        let mut known: BTreeSet<_> = expected.into_iter().map(|(name, _)| name).collect();
        known.insert("sec-websocket-key");
        assert_eq!(names(headers), known);
        assert_ne!(&*id, "theirs");
    }

    #[test]
    fn what_is_in_the_key_goes_on() {
        let key = [KeyPart::Path, KeyPart::User, named_header("x-tenant"), named_header("user-agent")];
        let (request, _) =
            template(&key, Credentials::Strip, HostHeader::Rewrite, "/ws?token=secret").request(None);
        assert_eq!(request.uri(), "/ws", "no more of the query than the key has");
        let headers = request.headers();
        assert_eq!(headers["x-outrigger-user"], "alice");
        assert_eq!(headers["user-agent"], "Mozilla");
        assert_eq!(headers["host"], "10.0.0.1:3000");
        let tenants: Vec<_> = headers.get_all("x-tenant").iter().collect();
        assert_eq!(tenants, ["blue", "green"]);
    }

    #[test]
    fn a_key_cannot_replace_what_is_ours() {
        let key =
            ["host", "x-outrigger-user", "connection", "sec-websocket-protocol", "missing"].map(named_header);
        let (request, _) = template(&key, Credentials::Strip, HostHeader::Rewrite, "/ws").request(None);
        let headers = request.headers();
        assert_eq!(headers.get_all("host").iter().count(), 1);
        assert_eq!(headers["host"], "10.0.0.1:3000");
        assert_eq!(headers.get_all("connection").iter().count(), 1);
        assert_eq!(headers["sec-websocket-protocol"], "b, a, c");
        assert!(!headers.contains_key("x-outrigger-user"), "nobody vouches for what a client says");
        assert!(!headers.contains_key("missing"));
    }

    #[test]
    fn of_a_query_goes_on_what_the_key_names() {
        let cases = [
            (vec![KeyPart::Path], "/ws?a=1&b=2", "/ws"),
            (vec![KeyPart::Path, KeyPart::Query], "/ws?a=1&b=2", "/ws?a=1&b=2"),
            (vec![parameter("b")], "/ws?a=1&b=2&bb=3", "/ws?b=2"),
            (vec![parameter("b"), parameter("a")], "/ws?a=1&b=2&a=%20+", "/ws?b=2&a=1&a=%20+"),
            (vec![parameter("a")], "/ws?%61=1&A=2", "/ws"),
            (vec![parameter("a")], "/ws?a", "/ws?a"),
            (vec![parameter("a")], "/ws", "/ws"),
        ];
        for (key, target, expected) in cases {
            let template = template(&key, Credentials::Strip, HostHeader::Preserve, target);
            assert_eq!(template.request(None).0.uri(), expected, "{key:?} {target}");
        }
    }

    #[test]
    fn the_first_clients_credentials_go_on_where_that_is_wanted() {
        let key = [KeyPart::Path, KeyPart::User];
        let (request, id) = template(&key, Credentials::First, HostHeader::Preserve, "/ws?x=y").request(None);
        assert_eq!(request.uri(), "/ws?x=y");
        let headers = request.headers();
        assert_eq!(headers["cookie"], "sid=secret");
        assert_eq!(headers["authorization"], "Bearer secret");
        assert_eq!(headers["x-outrigger-user"], "alice");
        assert_eq!(headers["x-forwarded-for"], "203.0.113.7, 198.51.100.1");
        assert_eq!(headers["x-request-id"], *id);
        assert_ne!(headers["sec-websocket-key"], "dGhlIHNhbXBsZSBub25jZQ==");
        assert!(!headers.contains_key("sec-websocket-extensions"), "the link ends here");
        assert!(!headers.contains_key("proxy-authorization"));
    }

    #[test]
    fn of_clients_that_nobody_knows_the_first_lends_the_others_nothing() {
        let key = [KeyPart::Path, KeyPart::User];
        let template = template_of(&key, Credentials::First, HostHeader::Preserve, "/ws?x=y", None);
        let (request, _) = template.request(None);
        assert_eq!(request.uri(), "/ws");
        for name in ["cookie", "authorization", "x-forwarded-for", "x-api-key"] {
            assert!(!request.headers().contains_key(name), "{name}");
        }
    }

    #[test]
    fn each_dial_has_a_key_of_its_own_and_offers_what_clients_were_told() {
        for credentials in [Credentials::Strip, Credentials::First] {
            let template = template(&[KeyPart::Path], credentials, HostHeader::Preserve, "/ws");
            let (first, id) = template.request(None);
            let (second, other_id) = template.request(Some(&HeaderValue::from_static("a")));
            assert_ne!(first.headers()["sec-websocket-key"], second.headers()["sec-websocket-key"]);
            assert_ne!(id, other_id);
            let key = STANDARD.decode(&first.headers()["sec-websocket-key"]).unwrap();
            assert_eq!(key.len(), 16);
            let offered: Vec<_> = second.headers().get_all("sec-websocket-protocol").iter().collect();
            assert_eq!(offered, ["a"]);
        }
    }
}
