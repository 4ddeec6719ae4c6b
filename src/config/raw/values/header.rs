//! Names of headers.

use crate::config::error::quoted;
use crate::config::problems::Problems;

/// The spelling that names share which a server takes for the same one when it makes variables of headers.
pub(crate) fn canonical_name(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

/// Headers that HTTP and the handshake itself need.
pub(crate) const RESERVED: [&str; 7] =
    ["connection", "content-length", "host", "keep-alive", "te", "transfer-encoding", "upgrade"];

pub(crate) fn header_name(key: &str, name: &str, problems: &mut Problems) -> String {
    let name = name.to_ascii_lowercase();
    if !is_token(&name) || RESERVED.contains(&name.as_str()) || name.starts_with("sec-websocket-") {
        problems.refuse(key, quoted(&name), "a header of its own, such as x-api-key");
    }
    name
}

/// A token of RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fit)
}
