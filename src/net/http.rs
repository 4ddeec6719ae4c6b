//! The vocabulary of HTTP that several rooms share: names of header fields, lists of tokens, credentials,
//! percent-encoding, and the 101 that this proxy writes itself. Pure.
//!
//! # Not here
//! Whether a head can be read in one way only ([`super::head`]); what of a client's head the server is sent
//! ([`crate::upstream::headers`]).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::head::spelling;

/// On answers of the proxy itself: why it did not ask the server.
pub(crate) const X_OUTRIGGER_REASON: HeaderName = HeaderName::from_static("x-outrigger-reason");
/// The ticket of a session, for this proxy alone.
pub(crate) const X_OUTRIGGER_SESSION: HeaderName = HeaderName::from_static("x-outrigger-session");
/// The user that authentication found; never believed from a client.
pub(crate) const X_OUTRIGGER_USER: HeaderName = HeaderName::from_static("x-outrigger-user");
/// Ties the log lines of one request together.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The address of the client, as the proxies before us have it.
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The host that the client asked for.
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The port that it came to.
pub(crate) const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// What was taken off its path.
pub(crate) const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// The scheme of its URL.
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// `User-Agent` of the requests that this proxy makes itself (RFC 9110 §10.1.5).
pub(crate) const PRODUCT: &str = concat!("outrigger/", env!("CARGO_PKG_VERSION"));

/// Longest request id that is taken from a client.
const MAX_REQUEST_ID: usize = 128;

/// The comma-separated entries of every header of that name (RFC 9110 §5.6.1). A line that is not text has no entries.
pub(crate) fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// Whether `text` is a token (RFC 9110 §5.6.2).
pub(crate) fn is_token(text: &str) -> bool {
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fit)
}

/// What follows `Bearer ` in an `Authorization` (RFC 6750 §2.1); schemes have no case (RFC 9110 §11.1).
pub(crate) fn bearer(credentials: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = credentials.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// A header's name as servers have it that make variables of headers (CGI, WSGI, PHP), with `-` for what stands between
/// words. To all of them `X_Forwarded_For` and `X-Forwarded-For` are one name; PHP takes `.` for the same, and lighttpd
/// whatever is no letter and no digit.
pub(crate) fn plain_name(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

/// The pairs of a query of that name, as they stand there. A name is what stands there, not what it may
/// decode to: the server is sent these pairs and no others.
pub(crate) fn query_pairs<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    query.split('&').filter(move |pair| pair.split_once('=').map_or(*pair, |(name, _)| name) == name)
}

/// Decodes `raw` (RFC 3986 §2.1). A `%` that is not followed by two hexadecimal digits stays.
pub(crate) fn percent_decode(raw: &[u8]) -> Cow<'_, [u8]> {
    percent_encoding::percent_decode(raw).into()
}

/// The byte that two hexadecimal digits are.
pub(crate) fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |digit| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// The request's id: the client's, if it is one that can stand in a log line, else a new one. Of several none is taken:
/// the server might log another one of them than this proxy does.
pub(crate) fn request_id(headers: &mut HeaderMap) -> Box<str> {
    let mut lines = headers.get_all(X_REQUEST_ID).into_iter();
    let given = lines.next().filter(|_| lines.next().is_none()).and_then(|id| id.to_str().ok());
    if let Some(id) = given.filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len())) {
        return id.into();
    }
    let digits = hex(fastrand::u128(..));
    // Digits are text.
    let id = std::str::from_utf8(&digits).unwrap_or_default();
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(X_REQUEST_ID, value);
    }
    id.into()
}

/// A number as 32 hexadecimal digits. `std` would take ten times as long, for each request.
fn hex(number: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(number.to_be_bytes()) {
        *pair =
            [byte >> 4, byte & 0xf].map(|digit| if digit < 10 { b'0' + digit } else { b'a' - 10 + digit });
    }
    digits
}

/// The two headers of one hop that make a message part of a WebSocket handshake.
pub(crate) fn set_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Announces that the connection ends with this answer, beside an upgrade that `Connection` may name already.
pub(crate) fn set_close(headers: &mut HeaderMap) {
    let value = if headers.contains_key(header::CONNECTION) { "Upgrade, close" } else { "close" };
    headers.insert(header::CONNECTION, HeaderValue::from_static(value));
}

/// A fresh `Sec-WebSocket-Key`: a nonce, and no secret (RFC 6455 §4.1).
pub(crate) fn websocket_key() -> HeaderValue {
    let key = STANDARD.encode(fastrand::u128(..).to_be_bytes());
    HeaderValue::try_from(key).unwrap_or_else(|_| unreachable!("base64 is text"))
}

/// A 101 of our own, where no server's is passed on. `accept`: the value of `Sec-WebSocket-Accept`.
pub(crate) fn switching_protocols(accept: HeaderValue) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.extensions_mut() = spelling::standard();
    set_upgrade(response.headers_mut());
    response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_that_are_none_stay() {
        for (raw, bytes) in [
            ("", &b""[..]),
            ("a", b"a"),
            ("%", b"%"),
            ("%2", b"%2"),
            ("%zz", b"%zz"),
            ("%%41", b"%A"),
            ("%4", b"%4"),
            ("%c3%A9", "é".as_bytes()),
            ("%ff", b"\xff"),
            ("%252F", b"%2F"),
        ] {
            assert_eq!(&*percent_decode(raw.as_bytes()), bytes, "{raw}");
        }
    }

    #[test]
    fn a_list_is_read_over_all_its_lines() {
        let mut headers = HeaderMap::new();
        for line in [&b"a,  b ,,"[..], b"\xff,x", b" ", b"c"] {
            headers.append(header::CONNECTION, HeaderValue::from_bytes(line).unwrap());
        }
        headers.append(header::UPGRADE, HeaderValue::from_static("d"));
        assert_eq!(tokens(&headers, &header::CONNECTION).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn a_bearer_token_is_what_follows_its_scheme() {
        for (credentials, token) in [
            ("Bearer abc", Some("abc")),
            ("bEARER  abc ", Some("abc")),
            ("Bearer ", Some("")),
            ("Bearer", None),
            ("Bearerabc", None),
            ("Basic abc", None),
            ("", None),
        ] {
            assert_eq!(bearer(credentials.as_bytes()), token.map(str::as_bytes), "{credentials:?}");
        }
    }

    #[test]
    fn a_request_id_is_kept_if_it_can_be_logged_and_made_if_not() {
        let of = |ids: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for id in ids {
                headers.append(X_REQUEST_ID, HeaderValue::from_bytes(id).unwrap());
            }
            headers
        };
        assert_eq!(&*request_id(&mut of(&[b"abc-1"])), "abc-1");
        for bad in ["", "\u{e9}"] {
            let mut headers = of(&[bad.as_bytes()]);
            let made = request_id(&mut headers);
            assert_eq!(made.len(), 32);
            assert_eq!(headers[&X_REQUEST_ID], *made);
        }
        assert_eq!(request_id(&mut of(&["x".repeat(129).as_bytes()])).len(), 32);
        let mut headers = of(&[b"abc-1", b"abc-2"]);
        let made = request_id(&mut headers);
        let all: Vec<_> = headers.get_all(X_REQUEST_ID).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!((made.len(), all), (32, vec![made.as_bytes()]), "nobody knows which is meant");
    }

    #[test]
    fn a_number_has_the_digits_that_std_gives_it() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, u128::MAX, u128::MAX / 3, fastrand::u128(..)] {
            assert_eq!(hex(number), *format!("{number:032x}").as_bytes());
        }
    }

    #[test]
    fn a_101_of_our_own_is_a_whole_one() {
        let response = switching_protocols(HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(response.status(), 101);
        let headers = response.headers();
        assert_eq!(headers.len(), 3);
        assert_eq!(headers["connection"], "Upgrade");
        assert_eq!(headers["upgrade"], "websocket");
        assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn each_handshake_has_a_key_of_its_own() {
        let (one, other) = (websocket_key(), websocket_key());
        assert_ne!(one, other);
        assert_eq!(STANDARD.decode(&one).unwrap().len(), 16, "RFC 6455 §4.1");
    }
}
