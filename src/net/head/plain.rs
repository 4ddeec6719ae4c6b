//! The two heads of a plain handshake with a client, between bytes and what they say, without hyper: one request that is read
//! whole, and the 101 to it. Pure, but for the date.
//!
//! # Invariants
//! 1. What is taken here hyper reads in the same way: the same parser reads it, and what hyper would do more than keep it (a
//!    body, an expectation, an end of the connection) is not in it. What is written here is what hyper would write, byte by
//!    byte. Property tests hold both to that.
//! 2. Whatever is not the plain case is `None`, and is hyper's business from its first byte: so what is a fault, and what it is
//!    answered with, does not depend on who reads it.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::Empty;

use super::spelling::{self, Standard};

/// Bytes that a plain request has, at most. hyper begins with as many.
pub(crate) const MAX_REQUEST: usize = 8192;

/// Fields that it has, at most. Browsers send fifteen.
const MAX_FIELDS: usize = 64;

/// How each 101 begins.
const STATUS_LINE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n";

/// What an average field of an answer takes, and its date.
const FIELD: usize = 40;

/// The handshake that these bytes are: all of them, and nothing but them. Its head may have `max_head` bytes.
pub(crate) fn request(read: &Bytes, max_head: usize) -> Option<Request<()>> {
    if read.len() > max_head || !read.starts_with(b"GET /") || !read.ends_with(b"\r\n\r\n") {
        return None;
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut []);
    let parsed = head.parse_with_uninit_headers(read, &mut fields).ok()?;
    let is_upgrade = head.headers.iter().any(|field| field.name == "Upgrade");
    if parsed != httparse::Status::Complete(read.len()) || head.version != Some(1) || !is_upgrade {
        return None;
    }
    let mut request = Request::new(());
    *request.uri_mut() = Uri::from_maybe_shared(read.slice_ref(head.path?.as_bytes())).ok()?;
    let headers = request.headers_mut();
    headers.reserve(head.headers.len());
    for field in &*head.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        match name {
            header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::EXPECT => return None,
            header::CONNECTION if is_close(field.value) => return None,
            header::UPGRADE if !field.value.eq_ignore_ascii_case(b"websocket") => return None,
            _ => {}
        }
        // Of a name that comes twice our own spelling knows but the first.
        let is_plain = spelling::is_standard(field.name.as_bytes())
            && !(spelling::is_odd(&name) && headers.contains_key(&name));
        if !is_plain {
            return None;
        }
        headers.append(name, HeaderValue::from_maybe_shared(read.slice_ref(field.value)).ok()?);
    }
    *request.extensions_mut() = spelling::standard();
    Some(request)
}

/// Whether this value of `Connection` ends it with the answer.
fn is_close(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// The bytes of this head. `None`: it is no 101, or its names are spelled as only hyper knows.
pub(crate) fn answer<B>(answer: &Response<B>) -> Option<Vec<u8>> {
    answer.extensions().get::<Standard>()?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS || answer.version() != Version::HTTP_11 {
        return None;
    }
    let headers = answer.headers();
    let mut head = Vec::with_capacity(STATUS_LINE.len() + (headers.len() + 1) * FIELD);
    head.extend_from_slice(STATUS_LINE);
    let (mut previous, mut is_dated) = (None, false);
    for (name, value) in headers {
        let is_again = previous.replace(name) == Some(name);
        match *name {
            header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::TRAILER => return None,
            // One line, and one spelling: hyper has ways of its own with more.
            header::CONNECTION if is_again => return None,
            header::DATE => is_dated = true,
            _ if is_again && spelling::is_odd(name) => return None,
            _ => {}
        }
        write(name, value.as_bytes(), &mut head);
    }
    if !is_dated {
        write(&header::DATE, &date()?, &mut head);
    }
    head.extend_from_slice(b"\r\n");
    Some(head)
}

fn write(name: &HeaderName, value: &[u8], into: &mut Vec<u8>) {
    spelling::write(name, into);
    into.extend_from_slice(b": ");
    into.extend_from_slice(value);
    into.extend_from_slice(b"\r\n");
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
type DateText = [u8; 29];

/// The date of an answer (RFC 9110 §6.6.1), in hyper's words: it is asked once a second.
fn date() -> Option<DateText> {
    thread_local! {
        static DATE: Cell<(u64, DateText)> = const { Cell::new((0, [0; 29])) };
    }
    let second = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    let (of, text) = DATE.get();
    if of == second {
        return Some(text);
    }
    let empty: Response<Empty<Bytes>> = Response::default();
    let (_, written) = spelling::exchange::<Empty<Bytes>>(b"GET / HTTP/1.0\r\n\r\n", empty);
    let line = written.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Date: "))?;
    let text = line.trim_ascii().try_into().ok()?;
    DATE.set((second, text));
    Some(text)
}

#[cfg(test)]
mod tests;
