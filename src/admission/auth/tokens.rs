//! Finds the token in a request, and removes it from the places where others would read it. Pure.
//!
//! # Invariants
//! 1. Tokens in the query and in the subprotocols are removed, from every configured source and however often they occur,
//!    whichever source wins and whatever the result.
//! 2. Two different tokens in one place are an error: the server behind might read the other one.
//! 3. The rest of a query or of the subprotocols stays as the client sent it, byte for byte; if nothing is left, the query
//!    or the header is removed.
//!
//! # Not here
//! Whether a token is valid ([`super::jwt`]). `Authorization` and cookies stay: the server behind may
//! want to read them, and no log does.

use std::fmt;

use bytes::{BufMut, BytesMut};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use crate::config::TokenSource;
use crate::net::http::{bearer, percent_decode};
use crate::telemetry::AuthFailure;

/// The entry of `Sec-WebSocket-Protocol` before a token.
const BEARER_PROTOCOL: &str = "outrigger.bearer";

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

/// Looks in `sources`, in their order; the first that has a token wins. Answers the token, or why there is
/// none, and the entry of ours that was among the subprotocols.
pub(super) fn take(
    sources: &[TokenSource],
    head: &mut Parts,
) -> (Result<Token, AuthFailure>, Option<&'static str>) {
    let mut own_protocol = None;
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
            TokenSource::Subprotocol => {
                let (here, was_found) = in_subprotocols(&mut head.headers);
                if was_found {
                    own_protocol = Some(BEARER_PROTOCOL);
                }
                here
            }
        };
        found = found.or(here);
    }
    let token = match found {
        TokensFound::Nothing => Err(AuthFailure::Missing),
        TokensFound::Several => Err(AuthFailure::Ambiguous),
        TokensFound::One(token) if token.len() > MAX_TOKEN => Err(AuthFailure::Malformed),
        TokensFound::One(token) => Ok(Token(token)),
    };
    (token, own_protocol)
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

/// What follows our entry, and whether that was there. Works on bytes: a line that is not text must not
/// carry a token past us.
fn in_subprotocols(headers: &mut HeaderMap) -> (TokensFound, bool) {
    let mut found = TokensFound::Nothing;
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut was_found = false;
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let entries = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let mut entries = entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()).peekable();
    while let Some(entry) = entries.next() {
        if entry == BEARER_PROTOCOL.as_bytes() {
            was_found = true;
            found.add(entries.next_if(|token| *token != BEARER_PROTOCOL.as_bytes()).unwrap_or_default());
        } else {
            kept.push(entry);
        }
    }
    if was_found {
        let rest = HeaderValue::from_bytes(&kept.join(&b", "[..]));
        match rest {
            Ok(rest) if !rest.is_empty() => headers.insert(header::SEC_WEBSOCKET_PROTOCOL, rest),
            _ => headers.remove(header::SEC_WEBSOCKET_PROTOCOL),
        };
    }
    (found, was_found)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn head(target: &str, headers: &[(&str, &[u8])]) -> Parts {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn taken(sources: &[TokenSource], head: &mut Parts) -> Result<String, AuthFailure> {
        take(sources, head).0.map(|token| String::from_utf8(token.0).unwrap())
    }

    #[test]
    fn authorization_counts_if_it_is_one_bearer() {
        use AuthFailure::{Ambiguous, Missing};
        type Case = (&'static [&'static str], Result<&'static str, AuthFailure>);
        const CASES: &[Case] = &[
            (&["Bearer abc"], Ok("abc")),
            (&["bearer abc"], Ok("abc")),
            (&["BEARER   abc "], Ok("abc")),
            (&["Bearer abc", "Bearer abc"], Ok("abc")),
            (&["Bearer abc", "Bearer abd"], Err(Ambiguous)),
            // The server might read the other one.
            (&["Basic cm9vdDpyb290", "Bearer abc"], Err(Ambiguous)),
            (&["Bearer abc", "Basic cm9vdDpyb290"], Err(Ambiguous)),
            (&["Basic cm9vdDpyb290"], Err(Missing)),
            (&["Bearer"], Err(Missing)),
            (&["Bearer "], Err(Missing)),
            (&["Bearerabc"], Err(Missing)),
            (&[""], Err(Missing)),
            (&[], Err(Missing)),
        ];
        for (lines, expected) in CASES {
            let lines: Vec<_> = lines.iter().map(|line| ("authorization", line.as_bytes())).collect();
            let mut head = head("/", &lines);
            let found = taken(&[TokenSource::Header], &mut head);
            assert_eq!(found.as_deref(), expected.as_ref().copied(), "{lines:?}");
            assert_eq!(head.headers.get_all("authorization").iter().count(), lines.len(), "it passes on");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        use AuthFailure::{Ambiguous, Missing};
        type Case = (&'static [&'static str], Result<&'static str, AuthFailure>);
        const CASES: &[Case] = &[
            (&["sid=abc"], Ok("abc")),
            (&["a=1; sid=abc; b=2"], Ok("abc")),
            (&["a=1;sid=abc"], Ok("abc")),
            (&["a=1", "sid=\"abc\""], Ok("abc")),
            (&["sid=a=b="], Ok("a=b=")),
            (&["sid=; a=1"], Err(Missing)),
            (&["xsid=abc; SID=abc; sid"], Err(Missing)),
            (&["sid=abc; sid=abc"], Ok("abc")),
            (&["sid=abc; sid=abd"], Err(Ambiguous)),
            (&["sid=abc", "sid=abd"], Err(Ambiguous)),
        ];
        for (lines, expected) in CASES {
            let lines: Vec<_> = lines.iter().map(|line| ("cookie", line.as_bytes())).collect();
            let found = taken(&[TokenSource::Cookie("sid".into())], &mut head("/", &lines));
            assert_eq!(found.as_deref(), expected.as_ref().copied(), "{lines:?}");
        }
    }

    #[test]
    fn a_query_loses_the_token_and_nothing_else() {
        use AuthFailure::{Ambiguous, Missing};
        type Case = (&'static str, Result<&'static str, AuthFailure>, &'static str);
        const CASES: &[Case] = &[
            ("/ws?token=abc", Ok("abc"), "/ws"),
            ("/ws?a=1&token=abc&b=%2F+x&&c", Ok("abc"), "/ws?a=1&b=%2F+x&&c"),
            ("/ws?token=abc&a=1", Ok("abc"), "/ws?a=1"),
            ("/ws?a=1&token=abc", Ok("abc"), "/ws?a=1"),
            ("/ws?t%6fke%6E=a%62c", Ok("abc"), "/ws"),
            ("/ws?token=abc&token=abc", Ok("abc"), "/ws"),
            ("/ws?token=abc&token=ab%63", Ok("abc"), "/ws"),
            ("/ws?token=abc&x=1&token=abd", Err(Ambiguous), "/ws?x=1"),
            ("/ws?token=", Err(Missing), "/ws"),
            ("/ws?token", Err(Missing), "/ws"),
            ("/ws?token=&token=abc", Ok("abc"), "/ws"),
            ("/ws?Token=abc&tokens=abc", Err(Missing), "/ws?Token=abc&tokens=abc"),
            ("/ws?", Err(Missing), "/ws?"),
            ("/ws", Err(Missing), "/ws"),
            ("/ws?token=a%zz%4", Ok("a%zz%4"), "/ws"),
            ("http://a.example:81/ws?token=abc&x", Ok("abc"), "http://a.example:81/ws?x"),
            ("/?token=a/b?c=d", Ok("a/b?c=d"), "/"),
        ];
        for (target, expected, rest) in CASES {
            let mut head = head(target, &[]);
            let found = taken(&[TokenSource::Query("token".into())], &mut head);
            assert_eq!(found.as_deref(), expected.as_ref().copied(), "{target}");
            assert_eq!(head.uri.to_string(), *rest, "{target}");
        }
    }

    #[test]
    fn a_subprotocol_entry_and_its_token_go_and_no_empty_header_stays() {
        use AuthFailure::{Ambiguous, Missing};
        type Case =
            (&'static [&'static [u8]], Result<&'static str, AuthFailure>, bool, Option<&'static [u8]>);
        const CASES: &[Case] = &[
            (&[b"outrigger.bearer, abc"], Ok("abc"), true, None),
            (&[b"outrigger.bearer,abc,chat"], Ok("abc"), true, Some(b"chat")),
            (&[b"chat, outrigger.bearer, abc, soap"], Ok("abc"), true, Some(b"chat, soap")),
            (&[b"chat", b"outrigger.bearer", b"abc", b"soap"], Ok("abc"), true, Some(b"chat, soap")),
            (&[b"outrigger.bearer"], Err(Missing), true, None),
            (&[b"chat, outrigger.bearer"], Err(Missing), true, Some(b"chat")),
            (&[b"outrigger.bearer, abc, outrigger.bearer, abc"], Ok("abc"), true, None),
            (&[b"outrigger.bearer, abc, outrigger.bearer, abd, chat"], Err(Ambiguous), true, Some(b"chat")),
            (&[b"outrigger.bearer, outrigger.bearer, abc"], Ok("abc"), true, None),
            (&[b"chat"], Err(Missing), false, Some(b"chat")),
            (&[b"Outrigger.Bearer, abc"], Err(Missing), false, Some(b"Outrigger.Bearer, abc")),
            (&[b"outrigger.bearer, abc, \xff"], Ok("abc"), true, Some(b"\xff")),
            (&[b", ,"], Err(Missing), false, Some(b", ,")),
            (&[], Err(Missing), false, None),
        ];
        for (lines, expected, was_found, rest) in CASES {
            let lines: Vec<_> = lines.iter().map(|line| ("sec-websocket-protocol", *line)).collect();
            let mut head = head("/", &lines);
            let (found, own) = take(&[TokenSource::Subprotocol], &mut head);
            let found = found.map(|token| String::from_utf8(token.0).unwrap());
            assert_eq!(found.as_deref(), expected.as_ref().copied(), "{lines:?}");
            assert_eq!(own.is_some(), *was_found, "{lines:?}");
            let left: Vec<_> =
                head.headers.get_all("sec-websocket-protocol").iter().map(HeaderValue::as_bytes).collect();
            assert_eq!(left, Vec::from_iter(*rest), "{lines:?}");
        }
    }

    #[test]
    fn the_first_source_wins_and_all_are_cleaned() {
        let all = [
            TokenSource::Cookie("sid".into()),
            TokenSource::Header,
            TokenSource::Query("token".into()),
            TokenSource::Subprotocol,
        ];
        let request = |query: &str| {
            let headers: [(&str, &[u8]); 3] = [
                ("authorization", b"Bearer from-header"),
                ("cookie", b"sid=from-cookie"),
                ("sec-websocket-protocol", b"outrigger.bearer, from-protocol, chat"),
            ];
            head(&format!("/ws?x=1&token={query}"), &headers)
        };
        let mut head = request("from-query");
        assert_eq!(taken(&all, &mut head).unwrap(), "from-cookie");
        assert_eq!(head.uri, "/ws?x=1");
        assert_eq!(head.headers["sec-websocket-protocol"], "chat");
        assert_eq!(taken(&all[1..], &mut request("from-query")).unwrap(), "from-header");
        assert_eq!(taken(&all[2..], &mut request("from-query")).unwrap(), "from-query");
        assert_eq!(taken(&all[3..], &mut request("from-query")).unwrap(), "from-protocol");
        let twice = taken(&all, &mut request("a&token=b"));
        assert_eq!(twice, Err(AuthFailure::Ambiguous), "even where another source wins");
        let mut untouched = request("from-query");
        taken(&all[..2], &mut untouched).unwrap();
        assert_eq!(untouched.uri, "/ws?x=1&token=from-query", "not a source of this route");
    }

    #[test]
    fn a_token_has_a_longest_length_and_no_debug() {
        let with = |length: usize| {
            head("/", &[("authorization", format!("Bearer {}", "x".repeat(length)).as_bytes())])
        };
        assert!(take(&[TokenSource::Header], &mut with(MAX_TOKEN)).0.is_ok());
        let long = take(&[TokenSource::Header], &mut with(MAX_TOKEN + 1)).0;
        assert_eq!(long, Err(AuthFailure::Malformed));
        assert_eq!(format!("{:?}", Token(b"abc".to_vec())), "Token(***)");
    }

    proptest! {
        #[test]
        fn whatever_a_query_is_the_token_is_gone_from_it(
            before in "[a-z=&%+;0-9]{0,12}", after in "[a-z=&%+;0-9]{0,12}",
        ) {
            let target = format!("/ws?{before}&token=SECRET&{after}");
            let mut head = head(&target, &[]);
            let _ = take(&[TokenSource::Query("token".into())], &mut head);
            prop_assert!(!head.uri.to_string().contains("SECRET"), "{target} became {}", head.uri);
        }
    }
}
