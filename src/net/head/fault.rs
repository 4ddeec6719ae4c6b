//! What a request's head is refused for.

use super::framing::FramingFault;
use super::target::Character;

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
