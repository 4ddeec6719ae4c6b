//! The kept head of a handshake: what each dial of a link that ends here begins with. Pure.
//!
//! # Invariants
//! 1. With `credentials: strip` a shared link carries nothing that is not named here: the head is built, not filtered,
//!    so that what one client sent (cookies, `Authorization`, where it came from) cannot reach a link that others
//!    share. From a filtered one a header that nobody has thought of would carry somebody's credentials.
//! 2. The key of the handshake is ours and fresh for each dial; compression is not offered.
//! 3. A kept head holds its own bytes and no others: values of a request's headers are slices of the buffer that the
//!    request was read into, and would keep all of that.
//! 4. What a head holds is not shown: credentials travel in any of its fields, and in its query.
//!
//! # Not here
//! When it is dialled ([`super::redial`]); who shares a link ([`crate::broadcast`]); what becomes of cookies ([`cookies`]).

mod cookies;
mod http_date;

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::Empty;

use self::cookies::Cookies;
use super::headers::{self, ForwardingConfig, Requester};
use crate::config::{Credentials, KeyPart};
use crate::net::head::spelling;
use crate::net::http::{
    PRODUCT, X_OUTRIGGER_USER, X_REQUEST_ID, query_pairs, request_id, set_upgrade, tokens, websocket_key,
};
use crate::telemetry::redact::redact_path;

/// How the line of the cookies begins in a kept head.
const COOKIE: &[u8] = b"cookie:";

/// How the line begins that has the cookies as the client sent them, once a server has changed them: it has no name, so that it is
/// in no request.
const SENT: &[u8] = b":";

/// A client's handshake, as a head is made from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientHandshake<'a> {
    /// Path and query as the server is to see them: in origin form, without `strip_prefix`.
    pub target: &'a Uri,
    /// Its headers, without anything of ours.
    pub headers: &'a HeaderMap,
    /// Whose it is.
    pub requester: Requester<'a>,
}

/// The head that every dial of one link begins with.
#[derive(Clone)]
pub(crate) struct Opening {
    /// The target and the header fields, a line each, as `name:value` without padding. No value can hold a line feed
    /// (RFC 9110 §5.5).
    head: Box<[u8]>,
}

impl Opening {
    /// For a link that clients share, opened by `client`. `key`: what all who share it have in common.
    pub(crate) fn shared(
        key: &[KeyPart],
        credentials: Credentials,
        client: ClientHandshake<'_>,
        forwarding: ForwardingConfig<'_>,
    ) -> Self {
        match credentials {
            // Clients without a user share a channel, but are not one user.
            Credentials::First if client.requester.user.is_some() => {
                let mut headers = client.headers.clone();
                headers::for_upstream(&mut headers, client.requester, forwarding, true);
                headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
                offer_protocols(&mut headers, client.headers);
                Self::new(client.target, headers)
            }
            Credentials::First | Credentials::Strip => {
                let target = keyed_query_only(key, client.target);
                Self::new(&target, build_headers(key, client, forwarding))
            }
        }
    }

    /// For a link that one client has alone. `headers`: what the server is to see, without anything of ours.
    pub(crate) fn of_one_client(target: &Uri, mut headers: HeaderMap) -> Self {
        headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
        Self::new(target, headers)
    }

    fn new(target: &Uri, mut headers: HeaderMap) -> Self {
        // Each dial has its own, and of the key as well. That one keeps its place among the others: `insert` replaces it.
        headers.remove(X_REQUEST_ID);
        let target = target.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut head = Vec::from(target);
        for (name, value) in &headers {
            head.push(b'\n');
            head.extend_from_slice(name.as_str().as_bytes());
            head.push(b':');
            head.extend_from_slice(value.as_bytes());
        }
        Self { head: head.into() }
    }

    /// Applies what an answer of the server sets to the cookies of the next dials. Answers how many cookies found no room.
    pub(crate) fn set_cookies(&mut self, answer: &HeaderMap) -> usize {
        let mut set = answer.get_all(header::SET_COOKIE).iter().peekable();
        if set.peek().is_none() {
            return 0;
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
        let mut cookies = Cookies::of_lines(self.lines_of(COOKIE));
        let sent = cookies.to_line();
        let refused = set.filter(|line| !cookies.set(line.as_bytes(), now)).count();
        let line = cookies.to_line();
        self.replace_cookie(&line, &sent);
        refused
    }

    /// Takes over the cookies that servers have set in `before`, which was made of an earlier handshake of the same client: it was
    /// told none of them. Where it says something else now than it said then, that is newer.
    pub(crate) fn carry_cookies_from(&mut self, before: &Self) {
        let Some(sent) = before.lines_of(SENT).next() else { return };
        let (sent, kept) =
            (Cookies::of_lines([sent].into_iter()), Cookies::of_lines(before.lines_of(COOKIE)));
        let mut cookies = Cookies::of_lines(self.lines_of(COOKIE));
        let own = cookies.to_line();
        cookies.carry_over(&sent, &kept);
        let line = cookies.to_line();
        if line != own {
            self.replace_cookie(&line, &own);
        }
    }

    /// What stands in the lines that begin so.
    fn lines_of(&self, begin: &'static [u8]) -> impl Iterator<Item = &[u8]> {
        self.head.split(|byte| *byte == b'\n').filter_map(move |line| line.strip_prefix(begin))
    }

    /// Puts `line` where the first `Cookie` stands, or last if there is none; empty: there is none any more. `sent`: what the
    /// client said, unless that is kept already.
    fn replace_cookie(&mut self, line: &[u8], sent: &[u8]) {
        let is_kept = line == sent || self.lines_of(SENT).next().is_some();
        let sent = (!is_kept).then_some(sent);
        let more = COOKIE.len() + line.len() + SENT.len() + sent.map_or(0, <[u8]>::len) + 2;
        let mut head = Vec::with_capacity(self.head.len() + more);
        let mut line = Some(line).filter(|line| !line.is_empty());
        let mut push_cookie = |head: &mut Vec<u8>| {
            if let Some(line) = line.take() {
                head.extend_from_slice(b"\n");
                head.extend_from_slice(COOKIE);
                head.extend_from_slice(line);
            }
        };
        for (nth, kept) in self.head.split(|byte| *byte == b'\n').enumerate() {
            if kept.starts_with(COOKIE) {
                push_cookie(&mut head);
                continue;
            }
            if nth > 0 {
                head.push(b'\n');
            }
            head.extend_from_slice(kept);
        }
        push_cookie(&mut head);
        if let Some(sent) = sent {
            head.push(b'\n');
            head.extend_from_slice(SENT);
            head.extend_from_slice(sent);
        }
        self.head = head.into();
    }

    /// Bytes that it holds.
    pub(crate) fn size(&self) -> usize {
        self.head.len()
    }

    /// The request of one dial, and its id for the log. `protocol`: the one that was agreed upon with the
    /// clients that are there already; nothing else is offered then.
    pub(crate) fn request(&self, protocol: Option<&HeaderValue>) -> (Request<Empty<Bytes>>, Box<str>) {
        let mut request = Request::new(Empty::new());
        let mut lines = self.head.split(|byte| *byte == b'\n');
        // The target was valid when it was kept, and so were the names and values below.
        let target = lines.next().and_then(|target| PathAndQuery::try_from(target).ok());
        *request.uri_mut() = target.map_or_else(|| Uri::from_static("/"), Uri::from);
        let headers = request.headers_mut();
        for line in lines.filter(|line| !line.starts_with(SENT)) {
            let mut halves = line.splitn(2, |byte| *byte == b':');
            if let (Some(name), Some(value)) = (halves.next(), halves.next())
                && let (Ok(name), Ok(mut value)) =
                    (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            {
                value.set_sensitive(is_credential(&name));
                headers.append(name, value);
            }
        }
        headers.insert(header::SEC_WEBSOCKET_KEY, websocket_key());
        if let Some(protocol) = protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
        }
        let id = request_id(headers);
        *request.extensions_mut() = spelling::own();
        (request, id)
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.head.split(|byte| matches!(byte, b'\n' | b'?')).next().unwrap_or_default();
        let fields = self.head.iter().filter(|byte| **byte == b'\n').count();
        f.debug_struct("Opening")
            .field("path", &redact_path(&String::from_utf8_lossy(target)))
            .field("fields", &fields)
            .field("bytes", &self.size())
            .finish()
    }
}

/// Whether a header's value is shown by nothing that shows headers.
fn is_credential(name: &HeaderName) -> bool {
    [header::COOKIE, header::AUTHORIZATION].contains(name)
}

/// `target` with only those parts of its query that the key has: the rest belongs to one client.
fn keyed_query_only(key: &[KeyPart], target: &Uri) -> Uri {
    if key.contains(&KeyPart::Query) {
        return target.clone();
    }
    let query = target.query().unwrap_or_default();
    let parameters = key.iter().filter_map(|part| match part {
        KeyPart::QueryParameter(name) => Some(name.as_str()),
        KeyPart::Path | KeyPart::Query | KeyPart::User | KeyPart::Header(_) => None,
    });
    let kept: Vec<&str> = parameters.flat_map(|name| query_pairs(query, name)).collect();
    let path = target.path();
    let text = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    // Parts of a valid target are one in any order.
    PathAndQuery::try_from(text).map_or_else(|_| Uri::from_static("/"), Uri::from)
}

/// Offers the client's subprotocols in one header, as the key has them.
fn offer_protocols(headers: &mut HeaderMap, of: &HeaderMap) {
    let offered: Vec<&str> = tokens(of, &header::SEC_WEBSOCKET_PROTOCOL).collect();
    if let Ok(offered) = HeaderValue::try_from(offered.join(", "))
        && !offered.is_empty()
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
    }
}

fn build_headers(
    key: &[KeyPart],
    client: ClientHandshake<'_>,
    forwarding: ForwardingConfig<'_>,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, headers::host(client.headers, forwarding));
    set_upgrade(&mut headers);
    // The route's own, and the same for all.
    headers::set_prefix(&mut headers, forwarding);
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    offer_protocols(&mut headers, client.headers);
    if let Some(origin) = client.headers.get(header::ORIGIN) {
        headers.insert(header::ORIGIN, origin.clone());
    }
    for part in key {
        match part {
            KeyPart::User => {
                if let Some(user) = client.requester.user.and_then(|user| HeaderValue::from_str(user).ok()) {
                    headers.insert(X_OUTRIGGER_USER, user);
                }
            }
            KeyPart::Header(name) => {
                let Ok(name) = HeaderName::try_from(name.as_str()) else { continue };
                // Headers that are set already, and those that are ours, are not replaced.
                if headers.contains_key(&name) || name.as_str().starts_with("x-outrigger-") {
                    continue;
                }
                for value in client.headers.get_all(&name) {
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
mod tests;
