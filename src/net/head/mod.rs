//! What the head of an HTTP message means to the next reader: whom a request is for ([`host`]), where a
//! message ends ([`framing`]), what may stand in a target ([`target`]), how names are spelled ([`spelling`]), and the
//! head of an answer that ends with its connection ([`until_close`]). Pure.
//!
//! Two readers that take one head for two different messages are what request smuggling and a host's confusion are made
//! of (RFC 9112 §11.1, §11.2). So a head says one thing, or it is refused; what is safe to mend is mended in place.
//!
//! # Invariants
//! 1. After [`check_request`] there is one `Host` and it is that of the target, or none (HTTP/1.0).
//! 2. After it a path begins with a slash (or is the `*` of OPTIONS).
//! 3. After it and after [`check_answer`] there is at most one framing: one `Transfer-Encoding`, which is `chunked`, or
//!    one `Content-Length`, which is a number.
//!
//! # Why check heads that hyper has read?
//! hyper takes what it can read in one way: two `Host`s, `chunked` twice, a coding and a length in one answer.
//! Somebody else on the road reads them in another way, and one request becomes two.
//!
//! # Not here
//! How bytes become a head: hyper does it, and refuses what is no HTTP/1.1 before anybody here is asked; but a plain handshake is
//! read, and its 101 written, in [`plain`]. What is
//! answered, counted and logged ([`crate::server`], [`crate::admission::Refused`]).

mod fault;
mod framing;
mod host;
pub(crate) mod plain;
pub(crate) mod spelling;
mod target;
pub(crate) mod until_close;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Uri};

/// Headers of one head that are read, on either hop. hyper makes room for as many with each head; those that it has by
/// itself, a hundred, are fewer than applications with policies, cookies and links for preloading send. A head is
/// bounded by its bytes first (`listen.max_header_bytes`, `upstream.max_header_bytes`).
pub(crate) const MAX_HEADERS: usize = 512;

pub(crate) use self::fault::HeadFault;
pub(crate) use self::framing::FramingFault;
pub use self::framing::check_answer;
pub(crate) use self::host::is_host;
pub(crate) use self::target::Character;
pub use self::target::RequestLine;

/// Longest target of a request in bytes, as hyper and its URLs have it: one more is a 414.
pub(crate) const MAX_TARGET: usize = u16::MAX as usize - 1;

/// Checks a request's head as the library has read it, and leaves it with the one `Host` that it is for.
///
/// # Errors
/// The first thing in it that could be read in two ways.
pub fn check_request(head: &mut Parts) -> Result<(), HeadFault> {
    check_form(&head.method, &head.uri)?;
    host::settle(&head.uri, head.version, &mut head.headers)?;
    settle_path(&mut head.uri)?;
    framing::check_request(head.version, &mut head.headers)?;
    Ok(())
}

/// Whether the target has a form that this method may have (RFC 9112 §3.2).
fn check_form(method: &Method, uri: &Uri) -> Result<(), HeadFault> {
    let is_authority = uri.scheme().is_none() && uri.authority().is_some();
    let is_asterisk = uri.authority().is_none() && uri.path() == "*";
    if is_authority && *method != Method::CONNECT || is_asterisk && *method != Method::OPTIONS {
        return Err(HeadFault::TargetForm);
    }
    Ok(())
}

/// Gives a URL without a path, `http://host?query`, the one that it means (RFC 9112 §3.2.1): `/`.
fn settle_path(uri: &mut Uri) -> Result<(), HeadFault> {
    let Some(query) = uri.path_and_query().map(PathAndQuery::as_str).filter(|text| text.starts_with('?'))
    else {
        return Ok(());
    };
    let target = PathAndQuery::try_from(format!("/{query}")).map_err(|_| HeadFault::Target)?;
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(target);
    *uri = Uri::from_parts(parts).map_err(|_| HeadFault::Target)?;
    Ok(())
}

#[cfg(test)]
mod tests;
