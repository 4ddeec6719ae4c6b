//! Which clients share a channel: its key, made from a request. Pure.
//!
//! # Invariants
//! 1. What differs in any part of the key has another key: a client must not get into another's channel by an
//!    ambiguous spelling. Values are compared as they came (`a+b`, `a%20b` and `a%2Bb` are three).
//! 2. No credentials: the configuration refuses them as parts, and authentication has taken its token out of
//!    the query and the subprotocols by then.
//!
//! # Why do subprotocols, `Host` and `Origin` set channels apart?
//! There is one answer for all who share a link. Where the server sees `Host`, it may name another tenant. And a
//! server that judges pages by itself sees only the page of the client that came first: any other would come in
//! behind that one, or be refused because of it.
//!
//! # Not here
//! What the server is sent for a channel ([`crate::upstream::opening`]).

use std::fmt::Write;
use std::sync::Arc;

use http::{HeaderMap, Uri, header};

use crate::config::{HostHeader, KeyPart};
use crate::net::http::{query_pairs, tokens};

/// Longest name of a channel, in bytes. Names are kept for as long as their channels are.
pub(super) const MAX_NAME: usize = 2048;

/// What a request says about its channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeySource<'a> {
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) user: Option<&'a str>,
}

/// A channel's identity within its route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// As operators read and write it.
    pub(super) name: Arc<str>,
    /// Where the server sees the clients' `Host` it may be another server to each: then it sets channels
    /// apart, though it is not in their name.
    host: Option<Box<[u8]>>,
    /// The page that the client's connection is for, which the server sees and may refuse: nobody comes in, or is
    /// refused, by what another page is answered. It is not in the name either.
    origin: Option<Box<[u8]>>,
}

impl Key {
    /// The key of a request; `None`: its name is longer than [`MAX_NAME`].
    ///
    /// Path and query come first; what follows stands in the configured order, each behind a space, and
    /// at last the subprotocols that were offered: a link has one answer for all who share it.
    pub(super) fn of(parts: &[KeyPart], host: HostHeader, source: KeySource<'_>) -> Option<Self> {
        let mut name = String::new();
        if parts.contains(&KeyPart::Path) {
            name.push_str(source.uri.path());
        }
        let query = source.uri.query().unwrap_or_default();
        if parts.contains(&KeyPart::Query) && !query.is_empty() {
            name.push('?');
            name.push_str(query);
        }
        for part in parts {
            match part {
                KeyPart::Path | KeyPart::Query => {}
                KeyPart::User => {
                    if let Some(user) = source.user {
                        add(&mut name, "user", None, user.as_bytes());
                    }
                }
                KeyPart::QueryParameter(parameter) => {
                    for pair in query_pairs(query, parameter) {
                        let value = pair.split_once('=').map_or("", |(_, value)| value);
                        add(&mut name, "query", Some(parameter), value.as_bytes());
                    }
                }
                KeyPart::Header(header) => {
                    for value in source.headers.get_all(header.as_str()) {
                        add(&mut name, "header", Some(header), value.as_bytes());
                    }
                }
            }
        }
        let offered: Vec<&str> = tokens(source.headers, &header::SEC_WEBSOCKET_PROTOCOL).collect();
        if !offered.is_empty() {
            add(&mut name, "protocol", None, offered.join(",").as_bytes());
        }
        let host = match host {
            HostHeader::Preserve => source.headers.get(header::HOST),
            HostHeader::Rewrite => None,
        };
        let host = host.map(|host| host.as_bytes().to_ascii_lowercase().into_boxed_slice());
        let origin = source.headers.get(header::ORIGIN).map(|origin| Box::from(origin.as_bytes()));
        let length = |kept: &Option<Box<[u8]>>| kept.as_ref().map_or(0, |bytes| bytes.len());
        let length = name.len() + length(&host) + length(&origin);
        (length <= MAX_NAME).then(|| Self { name: name.into(), host, origin })
    }
}

/// ` what:which=value`
fn add(name: &mut String, what: &str, which: Option<&str>, value: &[u8]) {
    if !name.is_empty() {
        name.push(' ');
    }
    name.push_str(what);
    if let Some(which) = which {
        name.push(':');
        encode(name, which.as_bytes());
    }
    name.push('=');
    encode(name, value);
}

/// Percent-encodes what could be taken for the end of a value, and what nobody could read.
fn encode(name: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'%' {
            name.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(name, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> Vec<KeyPart> {
        let part = |word: &str| match word.split_once(':') {
            Some(("query", name)) => KeyPart::QueryParameter(name.to_owned()),
            Some(("header", name)) => KeyPart::Header(name.to_owned()),
            _ => match word {
                "path" => KeyPart::Path,
                "query" => KeyPart::Query,
                "user" => KeyPart::User,
                other => panic!("{other}"),
            },
        };
        text.split_whitespace().map(part).collect()
    }

    fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
            })
            .collect()
    }

    fn key(of: &str, uri: &str, lines: &[(&'static str, &[u8])], user: Option<&str>) -> Option<Key> {
        let (uri, headers) = (uri.parse().unwrap(), headers(lines));
        Key::of(&parts(of), HostHeader::Preserve, KeySource { uri: &uri, headers: &headers, user })
    }

    #[test]
    fn a_name_says_what_its_clients_have_in_common() {
        // the key, the request's target, its headers, its user, and the channel's name
        type Case<'a> = (&'a str, &'a str, &'a [(&'static str, &'a [u8])], Option<&'a str>, &'a str);
        const CASES: &[Case<'_>] = &[
            ("path query", "/ws/a", &[], None, "/ws/a"),
            ("path query", "/ws/a?", &[], None, "/ws/a"),
            ("path query", "/ws/a?b=c&d", &[], None, "/ws/a?b=c&d"),
            ("query path", "/ws/a?b=c", &[], None, "/ws/a?b=c"),
            ("path", "/ws/a?b=c", &[], Some("alice"), "/ws/a"),
            ("path", "http://host/ws/%61/../b", &[], None, "/ws/%61/../b"),
            ("query", "/ws/a?b", &[], None, "?b"),
            ("user", "/ws/a?b", &[], Some("alice"), "user=alice"),
            ("user path", "/ws/a?b", &[], Some("a b%c"), "/ws/a user=a%20b%25c"),
            ("path user", "/ws", &[], None, "/ws"),
            ("path query:room", "/ws?room=1&x=2", &[], None, "/ws query:room=1"),
            ("path query:room", "/ws?Room=1&rooms=2&%72oom=3", &[], None, "/ws"),
            ("path query:room", "/ws?room", &[], None, "/ws query:room="),
            ("path query:room", "/ws?room=1&a&room=2", &[], None, "/ws query:room=1 query:room=2"),
            ("path query:room", "/ws?room=a%20b=+c", &[], None, "/ws query:room=a%2520b=+c"),
            ("path query:b query:a", "/ws?a=1&b=2", &[], None, "/ws query:b=2 query:a=1"),
            ("path header:x-tenant", "/ws", &[("x-tenant", b"blue")], None, "/ws header:x-tenant=blue"),
            (
                "path header:x-tenant",
                "/ws",
                &[("x-tenant", b"\xfc, 1")],
                None,
                "/ws header:x-tenant=%FC,%201",
            ),
            (
                "path header:x-tenant",
                "/ws",
                &[("x-tenant", b"a"), ("x-tenant", b"b")],
                None,
                "/ws header:x-tenant=a header:x-tenant=b",
            ),
            (
                "header:x-tenant path user",
                "/ws",
                &[("sec-websocket-protocol", b"a,  b"), ("x-tenant", b"t"), ("sec-websocket-protocol", b"c")],
                Some("u"),
                "/ws header:x-tenant=t user=u protocol=a,b,c",
            ),
            ("path", "/ws", &[("cookie", b"sid=1"), ("authorization", b"Bearer x")], Some("u"), "/ws"),
        ];
        for (of, uri, lines, user, expected) in CASES {
            let found = key(of, uri, lines, *user).unwrap();
            assert_eq!(&*found.name, *expected, "{of}: {uri}");
        }
    }

    #[test]
    fn hosts_are_set_apart_where_the_server_sees_them() {
        let of = |host: &'static [u8], rule| {
            let (uri, headers) = (Uri::from_static("/ws"), headers(&[("host", host)]));
            Key::of(&[KeyPart::Path], rule, KeySource { uri: &uri, headers: &headers, user: None }).unwrap()
        };
        let (a, b) = (of(b"a.example.com", HostHeader::Preserve), of(b"b.example.com", HostHeader::Preserve));
        assert_ne!(a, b);
        assert_eq!(a.name, b.name);
        assert_eq!(a, of(b"A.Example.COM", HostHeader::Preserve));
        assert_eq!(of(b"a.example.com", HostHeader::Rewrite), of(b"b.example.com", HostHeader::Rewrite));
    }

    #[test]
    fn pages_are_set_apart_and_share_a_name() {
        let of = |origin: Option<&'static [u8]>| {
            let lines: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
            key("path", "/ws", &lines, None).unwrap()
        };
        let pages =
            [None, Some(&b"null"[..]), Some(b"https://a.example.com"), Some(b"https://b.example.com")];
        for (at, page) in pages.iter().enumerate() {
            for (other_at, other) in pages.iter().enumerate() {
                assert_eq!(of(*page) == of(*other), at == other_at);
                assert_eq!(of(*page).name, of(*other).name);
            }
        }
    }

    #[test]
    fn a_name_has_an_end() {
        let path = |length: usize| format!("/{}", "x".repeat(length - 1));
        assert!(key("path", &path(MAX_NAME), &[], None).is_some());
        assert!(key("path", &path(MAX_NAME + 1), &[], None).is_none());
        let host = vec![b'h'; MAX_NAME];
        for header in ["host", "origin"] {
            assert!(key("path", "/ws", &[(header, &host)], None).is_none(), "{header} is kept as well");
        }
    }

    proptest! {
        #[test]
        fn what_differs_is_told_apart(
            a in proptest::collection::vec(0x20u8..=0xff, 0..6),
            b in proptest::collection::vec(0x20u8..=0xff, 0..6),
            c in proptest::collection::vec(0x20u8..=0xff, 0..6),
        ) {
            let valid = |bytes: &[u8]| HeaderValue::from_bytes(bytes).is_ok();
            prop_assume!(valid(&a) && valid(&b) && valid(&c));
            let of = |x: &[u8], y: &[u8]| key("path header:x header:y", "/ws", &[("x", x), ("y", y)], None);
            prop_assert_eq!(of(&a, &b) == of(&a, &c), b == c);
            prop_assert_eq!(of(&a, &b) == of(&b, &a), a == b);
            let moved = key("path header:x header:y", "/ws", &[("x", &a), ("x", &b)], None);
            prop_assert!(of(&a, &b) != moved);
        }
    }
}
