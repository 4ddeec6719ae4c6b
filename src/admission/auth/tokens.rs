//! Finds the token in a request, and removes it from the places where others would read it. Pure.
//!
//! # Invariants
//! 1. Tokens in the query are removed, from every configured source and however often they occur, whichever source wins
//!    and whatever the result.
//! 2. Two different tokens in one place are an error: the server behind might read the other one.
//! 3. The rest of a query stays as the client sent it, byte for byte; if nothing is left, the query is removed.
//!
//! # Not here
//! Whether a token is valid ([`super::jwt`]). Those among the subprotocols, which are taken out of every request
//! ([`crate::net::own_protocols`]). `Authorization` and cookies stay: the server behind may want to read them, and no log
//! does.

use std::fmt;

use bytes::{BufMut, BytesMut};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Uri, header};

use crate::config::TokenSource;
use crate::net::http::{bearer, percent_decode};
use crate::net::own_protocols::OwnProtocols;
use crate::telemetry::AuthFailure;

/// Longest token: an order of magnitude above what issuers make, and well below `listen.max_header_bytes`.
pub(super) const MAX_TOKEN: usize = 8192;

/// A token or key of a client. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(Vec<u8>);

impl Token {
    /// Its bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// Looks in `sources`, in their order; the first that has a token wins. Answers the token, or why there is none.
/// `own`: the entries of ours that the head had.
pub(super) fn take(
    sources: &[TokenSource],
    head: &mut Parts,
    own: Option<&OwnProtocols>,
) -> Result<Token, AuthFailure> {
    let mut found = TokensFound::Nothing;
    for source in sources {
        let here = match source {
            TokenSource::Header => in_authorization(&head.headers),
            TokenSource::Cookie(name) => in_cookies(&head.headers, name),
            TokenSource::Query(name) => {
                let (here, rest) = in_query(&head.uri, name);
                if let Some(rest) = rest {
                    head.uri = rest;
                }
                here
            }
            TokenSource::Subprotocol => in_subprotocols(own),
        };
        found = found.or(here);
    }
    match found {
        TokensFound::Nothing => Err(AuthFailure::Missing),
        TokensFound::Several => Err(AuthFailure::Ambiguous),
        TokensFound::One(token) if token.len() > MAX_TOKEN => Err(AuthFailure::Malformed),
        TokensFound::One(token) => Ok(Token(token)),
    }
}

/// The value of a header. Several equal ones count as one.
pub(super) fn in_header(headers: &HeaderMap, name: &HeaderName) -> Result<Token, AuthFailure> {
    let mut found = TokensFound::Nothing;
    for value in headers.get_all(name) {
        found.add(value.as_bytes());
    }
    match found {
        TokensFound::Nothing => Err(AuthFailure::Missing),
        TokensFound::Several => Err(AuthFailure::Ambiguous),
        TokensFound::One(token) if token.len() > MAX_TOKEN => Err(AuthFailure::Malformed),
        TokensFound::One(token) => Ok(Token(token)),
    }
}

/// The tokens that one source has.
#[derive(Debug, Clone, PartialEq, Eq)]
enum TokensFound {
    Nothing,
    One(Vec<u8>),
    /// Several that differ.
    Several,
}

impl TokensFound {
    /// Empty is nothing: cookies and queries are emptied where a user logs out.
    fn add(&mut self, token: &[u8]) {
        match self {
            _ if token.is_empty() => {}
            Self::Nothing => *self = Self::One(token.to_vec()),
            Self::One(other) if other == token => {}
            Self::One(_) | Self::Several => *self = Self::Several,
        }
    }

    /// The first source wins, but none may hold two.
    fn or(self, later: Self) -> Self {
        match (self, later) {
            (Self::Several, _) | (_, Self::Several) => Self::Several,
            (Self::Nothing, later) => later,
            (earlier, _) => earlier,
        }
    }
}

fn in_authorization(headers: &HeaderMap) -> TokensFound {
    let mut lines = TokensFound::Nothing;
    for value in headers.get_all(header::AUTHORIZATION) {
        lines.add(value.as_bytes());
    }
    let TokensFound::One(line) = lines else { return lines };
    match bearer(&line) {
        Some(token) => {
            let mut found = TokensFound::Nothing;
            found.add(token);
            found
        }
        // Credentials of another scheme are not for the proxy.
        None => TokensFound::Nothing,
    }
}

fn in_cookies(headers: &HeaderMap, name: &str) -> TokensFound {
    let mut found = TokensFound::Nothing;
    for line in headers.get_all(header::COOKIE) {
        for cookie in line.as_bytes().split(|byte| *byte == b';') {
            let mut halves = cookie.splitn(2, |byte| *byte == b'=');
            let (Some(key), Some(value)) = (halves.next(), halves.next()) else { continue };
            if key.trim_ascii() == name.as_bytes() {
                let value = value.trim_ascii();
                // RFC 6265 §4.1.1 lets a value stand in quotes.
                let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
                found.add(bare.unwrap_or(value));
            }
        }
    }
    found
}

/// What stands in the query, and the target without it if there was any.
fn in_query(uri: &Uri, name: &str) -> (TokensFound, Option<Uri>) {
    let mut found = TokensFound::Nothing;
    let Some(query) = uri.query() else { return (found, None) };
    let mut kept = Vec::new();
    let mut is_changed = false;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if form_decode(key) == name.as_bytes() {
            is_changed = true;
            found.add(&form_decode(value));
        } else {
            kept.push(pair);
        }
    }
    if !is_changed {
        return (found, None);
    }
    let mut target = BytesMut::from(uri.path());
    for (number, pair) in kept.iter().enumerate() {
        target.put_u8(if number == 0 { b'?' } else { b'&' });
        target.put_slice(pair.as_bytes());
    }
    let mut parts = uri.clone().into_parts();
    // A part of a target that was one is a target. Were it not so, no query is better than the token.
    let target = PathAndQuery::from_maybe_shared(target.freeze());
    parts.path_and_query = Some(target.unwrap_or_else(|_| PathAndQuery::from_static("/")));
    (found, Some(Uri::from_parts(parts).unwrap_or_default()))
}

/// Decodes as forms do: `+` is a space, and `%XX` a byte. An invalid escape stays as it is.
fn form_decode(text: &str) -> Vec<u8> {
    percent_decode(text.replace('+', " ").as_bytes()).into_owned()
}

fn in_subprotocols(own: Option<&OwnProtocols>) -> TokensFound {
    let mut found = TokensFound::Nothing;
    for token in own.into_iter().flat_map(OwnProtocols::bearer_tokens) {
        found.add(token);
    }
    found
}

#[cfg(test)]
mod tests;
