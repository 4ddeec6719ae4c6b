//! Translates requests and answers between HTTP/2 and HTTP/1.1, which the rest of the proxy and the unmodified server
//! speak. Pure. Requests have passed [`crate::net::head::check_request`].
//!
//! # Invariants
//! 1. A request that becomes a handshake was an extended CONNECT for `websocket` (RFC 8441 §4): a header
//!    cannot make one.
//! 2. No hop-by-hop header of HTTP/1.1 goes to the client (RFC 9113 §8.2.2).

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::ext::Protocol;

use crate::admission::Refused;
use crate::net::head::spelling;
use crate::net::http::{set_upgrade, websocket_key};
use crate::upstream::UpstreamError;

/// Hop-by-hop headers, which HTTP/2 does not have.
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
];

/// Translates a request. Answers whether it is a handshake, whose answer has to go through [`answer`].
pub(super) fn request<B>(request: &mut Request<B>) -> bool {
    let protocol = request.extensions_mut().remove::<Protocol>();
    // Clients may split it; a server of HTTP/1.1 expects one header (RFC 9113 §8.2.3).
    join(request.headers_mut(), &header::COOKIE, b"; ");
    for name in HOP_BY_HOP {
        request.headers_mut().remove(name);
    }
    let is_handshake = *request.method() == Method::CONNECT
        && protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"));
    if is_handshake {
        *request.method_mut() = Method::GET;
        *request.version_mut() = Version::HTTP_11;
        let headers = request.headers_mut();
        set_upgrade(headers);
        // The client sends none (RFC 8441 §5); the server needs one, and its `Sec-WebSocket-Accept` is verified with it.
        headers.insert(header::SEC_WEBSOCKET_KEY, websocket_key());
        // Lists, which may come in several headers; each gets one, in our own spelling.
        join(headers, &header::SEC_WEBSOCKET_PROTOCOL, b", ");
        join(headers, &header::SEC_WEBSOCKET_EXTENSIONS, b", ");
        request.extensions_mut().extend(spelling::own());
    }
    is_handshake
}

/// Translates an answer. To a handshake a 101 becomes a 200 (RFC 8441 §4), and a 2xx of the server is a failure.
pub(super) fn answer<B>(mut response: Response<B>, is_handshake: bool) -> Result<Response<B>, Refused> {
    if is_handshake && response.status() == StatusCode::SWITCHING_PROTOCOLS {
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
        response.headers_mut().remove(header::CONTENT_LENGTH);
    } else if is_handshake && response.status().is_success() {
        // Passed on, it would make the client believe that it has a WebSocket.
        let status = response.status().as_u16();
        let message = format!("it answered {status} where a WebSocket takes a 101");
        return Err(UpstreamError::Broken(message.into()).into());
    }
    for name in HOP_BY_HOP {
        response.headers_mut().remove(name);
    }
    *response.version_mut() = Version::HTTP_2;
    Ok(response)
}

/// Joins the headers of that name into one.
fn join(headers: &mut HeaderMap, name: &HeaderName, between: &[u8]) {
    if headers.get_all(name).iter().nth(1).is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&pieces.join(between)) {
        headers.insert(name, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    fn connect(protocol: Option<&'static str>) -> Request<()> {
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .version(Version::HTTP_2)
            .uri("http://example.com/ws/a?b=c")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "theirs")
            .header("sec-websocket-protocol", "chat")
            .body(())
            .unwrap();
        request.extensions_mut().extend(
            protocol
                .map(|protocol| {
                    let mut extensions = http::Extensions::new();
                    extensions.insert(Protocol::from_static(protocol));
                    extensions
                })
                .unwrap_or_default(),
        );
        request
    }

    #[test]
    fn an_extended_connect_becomes_a_handshake() {
        let mut translated = connect(Some("websocket"));
        assert!(request(&mut translated));
        assert_eq!((translated.method(), translated.version()), (&Method::GET, Version::HTTP_11));
        let headers = translated.headers();
        assert_eq!(headers["upgrade"], "websocket");
        assert_eq!(headers["connection"], "Upgrade");
        assert_eq!(headers["sec-websocket-version"], "13");
        assert_eq!(headers["sec-websocket-protocol"], "chat");
        let keys: Vec<_> = headers.get_all("sec-websocket-key").iter().collect();
        assert_eq!(keys.len(), 1);
        assert_eq!(STANDARD.decode(keys[0]).unwrap().len(), 16);
        let mut another = connect(Some("websocket"));
        request(&mut another);
        assert_ne!(another.headers()["sec-websocket-key"], keys[0], "fresh each time");
        assert!(translated.extensions().get::<Protocol>().is_none());
    }

    #[test]
    fn nothing_else_does() {
        for protocol in [None, Some("connect-udp"), Some("websocket2"), Some("")] {
            let mut other = connect(protocol);
            assert!(!request(&mut other), "{protocol:?}");
            assert_eq!(*other.method(), Method::CONNECT);
        }
        let mut get = Request::get("http://example.com/")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("transfer-encoding", "chunked")
            .body(())
            .unwrap();
        assert!(!request(&mut get));
        assert!(get.headers().is_empty(), "{:?}", get.headers());
    }

    #[test]
    fn cookies_are_joined() {
        let mut cut = Request::get("http://example.com/")
            .header("cookie", "a=1")
            .header("x", "y")
            .header("cookie", "b=2; c=3")
            .header("cookie", "d=4")
            .body(())
            .unwrap();
        request(&mut cut);
        let cookies: Vec<_> = cut.headers().get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3; d=4"]);
    }

    #[test]
    fn answers_lose_what_belongs_to_one_hop() {
        let message = |status: u16| {
            Response::builder()
                .status(status)
                .header("connection", "Upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-accept", "x")
                .header("sec-websocket-protocol", "chat")
                .body(())
                .unwrap()
        };
        let accepted = answer(message(101), true).unwrap();
        assert_eq!(accepted.status(), 200);
        assert_eq!(accepted.headers().len(), 1);
        assert_eq!(accepted.headers()["sec-websocket-protocol"], "chat");
        for status in [200, 201, 204, 299] {
            assert!(answer(message(status), true).is_err(), "{status} would be taken for a WebSocket");
            assert_eq!(answer(message(status), false).unwrap().status(), status);
        }
        for status in [301, 401, 429, 503] {
            let refused = answer(message(status), true).unwrap();
            assert_eq!(refused.status(), status);
            assert!(!refused.headers().contains_key("connection"));
        }
    }
}
