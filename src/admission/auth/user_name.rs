//! Which names a user may have.

use std::sync::Arc;

/// Longest name of a user: it travels in a header, and is a key of limits.
const MAX_USER: usize = 256;
/// A name that can travel in a header and stand in a log line as it is.
pub(super) fn user_name(name: &str) -> Option<Arc<str>> {
    let is_good = (1..=MAX_USER).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_good.then(|| name.into())
}
