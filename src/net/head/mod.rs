//! What the head of an HTTP message means to whoever reads it next: whom a request is for ([`host`]), where a
//! message ends ([`framing`]), what may stand in a target ([`target`]), and how names are spelled ([`spelling`]). Pure.
//!
//! Two readers that take one head for two different messages are what request smuggling and a host's confusion are
//! made of (RFC 9112 §11.1, §11.2). So a head says one thing, or it is refused; what is safe to mend is mended in place.
//!
//! # Invariants
//! 1. After [`check_request`] there is one `Host` and it is that of the target, or none (HTTP/1.0).
//! 2. After it a path begins with a slash (or is the `*` of OPTIONS).
//! 3. After it and after [`check_answer`] there is at most one framing: one `Transfer-Encoding`, which is `chunked`, or
//!    one `Content-Length`, which is a number.
//!
//! # Not here
//! How bytes become a head: hyper does it, and refuses what is no HTTP/1.1 before anybody here is asked. What is
//! answered, counted and logged ([`crate::server`], [`crate::admission::Refused`]).

mod framing;
mod host;
pub(crate) mod spelling;
mod target;

use http::request::Parts;
use http::{Method, Uri, Version};

/// Headers of one head that are read, on either hop. hyper makes room for as many with each head; those that it has by
/// itself, a hundred, are fewer than applications with policies, cookies and links for preloading send. A head is
/// bounded by its bytes first (`listen.max_header_bytes`, `upstream.max_header_bytes`).
pub(crate) const MAX_HEADERS: usize = 512;

pub(crate) use self::framing::FramingFault;
pub use self::framing::check_answer;
pub(crate) use self::host::is_host;
pub(crate) use self::target::Character;
pub use self::target::RequestLine;

/// Longest target of a request in bytes, as hyper and its URLs have it: one more is a 414.
pub(crate) const MAX_TARGET: usize = u16::MAX as usize - 1;

/// What a request's head is refused for. A text says what is wrong and what is accepted, and shows nothing of what
/// came but the one character that must not be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// RFC 9112 §3.2.
    #[error("it names no host: a request of HTTP/1.1 has to have a Host header, one of HTTP/2 an :authority")]
    NoHost,
    /// RFC 9112 §3.2.
    #[error("it has more than one Host header; there has to be one")]
    SeveralHosts,
    /// RFC 9112 §3.2: empty is for targets without an authority.
    #[error("its Host header is empty although its target names a host; they have to be the same")]
    EmptyHost,
    /// RFC 9110 §7.2.
    #[error(
        "its Host header is not host[:port]: a name or an address, in brackets if it is one of IPv6, and a port up to \
         65535; no list, user, path or white space"
    )]
    BadHost,
    /// RFC 9110 §4.2.4, RFC 9113 §8.3.1.
    #[error(
        "the host in its target is not host[:port]: a name or an address, in brackets if it is one of IPv6, and a port \
         up to 65535; no list and no user"
    )]
    BadAuthority,
    /// RFC 9112 §3.2.
    #[error("its target is neither a path nor a URL: a host alone is for CONNECT, and * is for OPTIONS")]
    TargetForm,
    /// RFC 3986 §2.
    #[error("its target has {0}, which must be percent-encoded there as {code}", code = .0.escaped())]
    Character(Character),
    /// RFC 9112 §3.2; which character it is could not be seen.
    #[error(
        "its target is no path or URL as RFC 3986 has it: \", <, >, ` and bytes that are no UTF-8 must be \
         percent-encoded, and a URL needs a host"
    )]
    Target,
    /// RFC 9112 §6.
    #[error(transparent)]
    Framing(#[from] FramingFault),
    /// RFC 9112 §2.2 to §5.
    #[error(
        "a line of it is not as RFC 9112 has it: `METHOD target HTTP/1.1`, then lines `Name: value` without white \
         space before the name or the colon, without control characters, and not folded"
    )]
    Syntax,
    /// RFC 9113 §3.4.
    #[error("it is HTTP/2, which is not spoken here (listen.http2); HTTP/1.1 is")]
    Http2,
}

/// Checks a request's head as the library has read it, and leaves it with the one `Host` that it is for.
///
/// # Errors
/// The first thing in it that could be read in two ways.
pub fn check_request(head: &mut Parts) -> Result<(), HeadFault> {
    check_form(&head.method, &head.uri)?;
    host::settle(&head.uri, head.version, &mut head.headers)?;
    target::settle_path(&mut head.uri)?;
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

/// Whether it is a version in which heads have no `Host` of their own, but `:authority`.
fn has_pseudo_headers(version: Version) -> bool {
    version > Version::HTTP_11
}

#[cfg(test)]
mod tests;
