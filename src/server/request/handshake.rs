//! Handshakes, whatever mode answers them: which requests are handshakes, and whether they are well formed
//! (RFC 6455 §4.2.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version, header};
use tokio::time::Instant;

use super::routed::RoutedRequest;
use crate::admission::Refused;
use crate::config::HeartbeatMode;
use crate::net::http::tokens;

/// Whether a request asks for a WebSocket. Any other request with an `Upgrade` is plain HTTP, and is sent on without
/// it.
pub(super) fn is_handshake(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && tokens(headers, &header::UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket"))
        && tokens(headers, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

/// The checks of every mode before it does anything for a handshake.
pub(super) fn prepare(request: &mut RoutedRequest<'_>) -> Result<(), Refused> {
    check(&request.context.head, request.has_body)?;
    if request.state.drain.refuses_new(Instant::now) {
        return Err(Refused::Draining);
    }
    let heartbeat = request.route.config.policy.heartbeat;
    if heartbeat.is_some_and(|heartbeat| heartbeat.mode == HeartbeatMode::Json) {
        // The client's pong could not be found in compressed texts.
        request.context.head.headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    }
    Ok(())
}

/// Answers an entry of ours if the client offered one and the server chose none of the others; answers whether it did.
/// `own`: which one that is.
pub(super) fn choose_own_protocol(own: Option<&'static str>, answer: &mut HeaderMap) -> bool {
    let Some(own) = own.filter(|_| !answer.contains_key(header::SEC_WEBSOCKET_PROTOCOL)) else {
        return false;
    };
    answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(own));
    true
}

/// Whether a handshake is well formed (RFC 6455 §4.2.1).
pub(super) fn check(head: &Parts, has_body: bool) -> Result<(), Refused> {
    let malformed = |what| Err(Refused::Malformed(what));
    if head.method != Method::GET {
        return malformed("the method has to be GET");
    }
    if head.version != Version::HTTP_11 {
        return malformed("it takes HTTP/1.1");
    }
    let announces_body = head.headers.contains_key(header::TRANSFER_ENCODING)
        || head.headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0");
    if has_body || announces_body {
        return malformed("it must not have a body");
    }
    let one = |name| {
        let mut values = head.headers.get_all(name).into_iter();
        values.next().filter(|_| values.next().is_none())
    };
    if one(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refused::Version);
    }
    let key = one(header::SEC_WEBSOCKET_KEY).and_then(|key| STANDARD.decode(key).ok());
    if key.is_none_or(|key| key.len() != 16) {
        return malformed("Sec-WebSocket-Key has to be 16 bytes in base64");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const GOOD: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn head(method: &str, version: Version, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn reason(result: Result<(), Refused>) -> Option<String> {
        result.err().map(|refused| refused.to_string())
    }

    #[test]
    fn a_handshake_is_checked_line_by_line() {
        assert_eq!(reason(check(&head("GET", Version::HTTP_11, &GOOD), false)), None);
        // what replaces a header of that name or is added, and a word of the refusal
        let cases = [
            ("content-length", "5", "body"),
            ("transfer-encoding", "chunked", "body"),
            ("sec-websocket-version", "8", "version 13"),
            ("sec-websocket-key", "c2hvcnQ=", "Sec-WebSocket-Key"),
            ("sec-websocket-key", "not base64 at all!!!!!!!", "Sec-WebSocket-Key"),
        ];
        for (name, value, word) in cases {
            let mut headers: Vec<_> = GOOD.into_iter().filter(|(known, _)| *known != name).collect();
            headers.push((name, value));
            let reason = reason(check(&head("GET", Version::HTTP_11, &headers), false)).unwrap();
            assert!(reason.contains(word), "{name}: {value}: {reason}");
        }
        for missing in ["sec-websocket-version", "sec-websocket-key"] {
            let headers: Vec<_> = GOOD.into_iter().filter(|(name, _)| *name != missing).collect();
            assert!(check(&head("GET", Version::HTTP_11, &headers), false).is_err(), "{missing}");
            let twice = [&GOOD[..], &[*GOOD.iter().find(|(name, _)| *name == missing).unwrap()]].concat();
            assert!(check(&head("GET", Version::HTTP_11, &twice), false).is_err(), "{missing} twice");
        }
        assert!(check(&head("POST", Version::HTTP_11, &GOOD), false).is_err());
        assert!(check(&head("GET", Version::HTTP_10, &GOOD), false).is_err());
        assert!(check(&head("GET", Version::HTTP_11, &GOOD), true).is_err());
        let empty = [&GOOD[..], &[("content-length", "0")]].concat();
        assert!(
            check(&head("GET", Version::HTTP_11, &empty), false).is_ok(),
            "some clients say that there is none"
        );
    }

    #[test]
    fn other_upgrades_are_no_handshake() {
        let cases = [
            (&[("connection", "Upgrade"), ("upgrade", "h2c")][..], false),
            (&[("connection", "close"), ("upgrade", "websocket")], false),
            (&[("upgrade", "websocket")], false),
            (&[("connection", "UPGRADE"), ("upgrade", "WebSocket")], true),
            (&[("connection", "upgrade, http2-settings"), ("upgrade", "h2c, websocket")], true),
        ];
        for (headers, expected) in cases {
            assert_eq!(
                is_handshake(&head("GET", Version::HTTP_11, headers).headers),
                expected,
                "{headers:?}"
            );
        }
    }
}
