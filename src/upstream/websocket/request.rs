//! The head of a handshake, as bytes. Pure.
//!
//! # Invariants
//! 1. What is written here is what hyper would write, byte by byte; a property test holds it to that. What it would write in a
//!    way of its own is left to it.

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Empty;

use crate::net::head::spelling::{self, Standard};

/// The request line without its target, and what an average field takes.
const LINE: usize = 16;
const FIELD: usize = 40;

/// The bytes of this head. `None`: its names are spelled as only hyper knows, or it is no plain handshake.
pub(super) fn head(request: &Request<Empty<Bytes>>) -> Option<Vec<u8>> {
    request.extensions().get::<Standard>()?;
    let (uri, headers) = (request.uri(), request.headers());
    let is_plain = *request.method() == Method::GET
        && uri.authority().is_none()
        && !headers.contains_key(header::TRANSFER_ENCODING);
    if !is_plain {
        return None;
    }
    let query = uri.query();
    let target = uri.path().len() + query.map_or(0, str::len) + 1;
    let mut head = Vec::with_capacity(LINE + target + headers.len() * FIELD);
    head.extend_from_slice(b"GET ");
    head.extend_from_slice(uri.path().as_bytes());
    if let Some(query) = query {
        head.push(b'?');
        head.extend_from_slice(query.as_bytes());
    }
    head.extend_from_slice(b" HTTP/1.1\r\n");
    let mut previous = None;
    for (name, value) in headers {
        // hyper may have noted one spelling for the first of them, and none for the second.
        if previous.replace(name) == Some(name) && spelling::is_odd(name) {
            return None;
        }
        spelling::write(name, &mut head);
        head.extend_from_slice(if value.is_empty() { b":" } else { b": " });
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    Some(head)
}
