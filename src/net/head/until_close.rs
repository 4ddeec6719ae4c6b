//! The head of an answer of HTTP/1.1 whose body ends with the connection (RFC 9112 §6.3, rule 8), for who writes that
//! body into the socket: the body has neither a length nor chunks.
//!
//! # Why is hyper given a request of HTTP/1.0?
//! It sends a client of HTTP/1.1 chunks. To one of HTTP/1.0 it writes the same head but for the version in its first
//! line, which is that of the answer's sender, whatever the client's is (RFC 9110 §2.5).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame};

use super::spelling::exchange;
use crate::net::http::set_close;

/// What hyper begins an answer of HTTP/1.0 with, and what stands there for it.
const WRITTEN: &[u8] = b"HTTP/1.0 ";
const VERSION: &[u8] = b"HTTP/1.1 ";

/// The bytes of this head, to its empty line. `Connection` and `Date` are added.
pub(crate) fn head(answer: &Response<()>) -> Bytes {
    let mut whole = Response::new(UntilClose);
    *whole.status_mut() = answer.status();
    whole.headers_mut().clone_from(answer.headers());
    whole.extensions_mut().clone_from(answer.extensions());
    set_close(whole.headers_mut());
    let (_, mut bytes) = exchange(b"GET / HTTP/1.0\r\n\r\n", whole);
    if bytes.starts_with(WRITTEN) {
        bytes[..VERSION.len()].copy_from_slice(VERSION);
    }
    bytes.into()
}

/// A body of which nobody knows the length. It ends at once: whoever writes the rest does that later.
#[derive(Debug, Default)]
struct UntilClose;

impl Body for UntilClose {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, StatusCode, header};

    use super::*;
    use crate::net::head::spelling;

    #[test]
    fn it_announces_no_end_but_that_of_the_connection() {
        let mut answer = Response::new(());
        *answer.extensions_mut() = spelling::own();
        for (name, value) in [
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-store, no-transform"),
            (HeaderName::from_static("x-accel-buffering"), "no"),
            (header::VARY, "Origin"),
        ] {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        answer.headers_mut().append(header::VARY, HeaderValue::from_static("Cookie"));
        let written = head(&answer);
        let text = std::str::from_utf8(&written).unwrap();
        let (lines, rest) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(rest, "", "nothing of a body: {text}");
        let mut lines: Vec<&str> = lines.split("\r\n").collect();
        assert_eq!(lines.remove(0), "HTTP/1.1 200 OK");
        let date = lines.iter().position(|line| line.starts_with("Date: ")).expect("RFC 9110 §6.6.1");
        lines.remove(date);
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "Cache-Control: no-store, no-transform",
                "Connection: close",
                "Content-Type: text/event-stream",
                "Vary: Cookie",
                "Vary: Origin",
                "X-Accel-Buffering: no",
            ]
        );
    }

    #[test]
    fn it_has_the_status_of_the_answer() {
        let mut answer = Response::new(());
        *answer.status_mut() = StatusCode::IM_A_TEAPOT;
        assert!(head(&answer).starts_with(b"HTTP/1.1 418 "));
    }
}
