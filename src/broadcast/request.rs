//! What the server is sent for a channel. Pure.
//!
//! # Invariants
//! 1. With `credentials: strip` nothing goes on that is not named here: the head is built, not filtered, so that
//!    what one client sent (cookies, `Authorization`, where it came from) cannot reach a link that others share.
//! 2. The key of the handshake is ours and fresh for each dial; compression is not offered.
//!
//! # Not here
//! Which clients share a channel ([`super::key`]).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::Empty;

use super::key::named;
use crate::config::{Credentials, KeyPart};
use crate::upstream::headers::{self, Seen, Telling, tokens};

/// Says who we are where no client's word may stand.
const USER_AGENT: &str = concat!("outrigger/", env!("CARGO_PKG_VERSION"));
const X_OUTRIGGER_USER: HeaderName = HeaderName::from_static("x-outrigger-user");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The client that opens a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct First<'a> {
    /// Path and query as the server is to see them: in origin form, without `strip_prefix`.
    pub(super) target: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) seen: Seen<'a>,
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
        telling: Telling<'_>,
    ) -> Self {
        match credentials {
            Credentials::Strip => {
                Self { uri: without_foreign_query(key, first.target), headers: built(key, first, telling) }
            }
            Credentials::First => {
                let mut headers = first.headers.clone();
                headers::for_upstream(&mut headers, first.seen, telling, true);
                headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
                Self { uri: first.target.clone(), headers }
            }
        }
    }

    /// The request of one dial, and its id for the log. `protocol`: the one that was agreed upon with the
    /// clients that are there already; nothing else is offered then.
    pub(super) fn request(&self, protocol: Option<&HeaderValue>) -> (Request<Empty<Bytes>>, Box<str>) {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        let mut headers = self.headers.clone();
        // A nonce, and no secret (RFC 6455 §4.1).
        let key = STANDARD.encode(fastrand::u128(..).to_be_bytes());
        if let Ok(key) = HeaderValue::try_from(key) {
            headers.insert(header::SEC_WEBSOCKET_KEY, key);
        }
        if let Some(protocol) = protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
        }
        headers.remove(X_REQUEST_ID);
        let id = headers::request_id(&mut headers);
        *request.headers_mut() = headers;
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

fn built(key: &[KeyPart], first: First<'_>, telling: Telling<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, headers::host(first.headers, telling));
    headers::set_upgrade(&mut headers);
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    // In one line, as the key has them.
    let offered: Vec<&str> = tokens(first.headers, &header::SEC_WEBSOCKET_PROTOCOL).collect();
    if let Ok(offered) = HeaderValue::try_from(offered.join(", "))
        && !offered.is_empty()
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
    }
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
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
    headers
}
