//! Reads the head of a plain 101. Pure.
//!
//! # Invariants
//! 1. What is taken here hyper reads in the same way. Whatever is not the plain case (another status, an interim answer, names
//!    that are spelled in a way of their own, a fault, a head that is long) is [`Parsed::Unusual`]: hyper reads it again from
//!    its first byte, and has the say.

use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::net::head::spelling;

/// Bytes that are read of an answer before hyper reads the rest; it begins with as many.
pub(super) const MAX_HEAD: usize = 8192;

/// Fields that a plain 101 has, at most. hyper takes more.
const MAX_FIELDS: usize = 32;

/// How each plain 101 begins.
const STATUS_LINE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n";

/// What the first bytes of an answer are.
#[derive(Debug)]
pub(super) enum Parsed {
    /// Not the whole head of a plain 101.
    Partial,
    /// Something else.
    Unusual,
    /// A plain 101, and the length of its head.
    Switching(Response<()>, usize),
}

/// Reads what has come of an answer. Its head may have `max_head` bytes.
pub(super) fn parse(read: &[u8], max_head: usize) -> Parsed {
    let n = read.len().min(STATUS_LINE.len());
    if read[..n] != STATUS_LINE[..n] {
        return Parsed::Unusual;
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    match head.parse(read) {
        Ok(httparse::Status::Complete(length)) if length <= max_head => match response(head.headers) {
            Some(response) => Parsed::Switching(response, length),
            None => Parsed::Unusual,
        },
        Ok(httparse::Status::Partial) if read.len() < MAX_HEAD.min(max_head) => Parsed::Partial,
        Ok(_) | Err(_) => Parsed::Unusual,
    }
}

fn response(fields: &[httparse::Header<'_>]) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.extensions_mut() = spelling::standard();
    let headers = response.headers_mut();
    headers.reserve(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(field.value).ok()?;
        // Of a name that comes twice our own spelling knows but the first.
        let is_plain = spelling::is_standard(field.name.as_bytes())
            && !(spelling::is_odd(&name) && headers.contains_key(&name));
        if !is_plain {
            return None;
        }
        headers.append(name, value);
    }
    Some(response)
}
