//! Which endpoint a path may name, and what the path of the WebSocket is to which it belongs. Pure.
//!
//! An endpoint has one spelling: a path that ends in another one of it (`/ws/%70oll`, `/ws/poll/`) is a path as any other,
//! and nothing of an endpoint answers it. What stands before is the path of a WebSocket, in whatever spelling, and is
//! judged as that of a handshake is.
//!
//! # Not here
//! Which route has which endpoint ([`super::Router`]).

use crate::config::Endpoint;

/// A request to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct EndpointMatch<'p> {
    pub(in crate::server) endpoint: Endpoint,
    /// The path of the WebSocket that the client would have, as it came.
    pub(in crate::server) path: &'p str,
}

/// The endpoint that `path` ends in the name of, and what stands before the slash in front of that.
pub(super) fn named(path: &str) -> Option<(Endpoint, &str)> {
    let (before, name) = path.rsplit_once('/')?;
    let endpoint = match name {
        "poll" => Endpoint::Poll,
        "send" => Endpoint::Send,
        "events" => Endpoint::Events,
        "replay" => Endpoint::Replay,
        _ => return None,
    };
    Some((endpoint, before))
}

/// The path of the WebSocket, if what stands `before` the name of an endpoint ends in `prefix`.
pub(super) fn base<'p>(before: &'p str, prefix: &str) -> Option<&'p str> {
    let base = before.strip_suffix(prefix)?;
    Some(if base.is_empty() { "/" } else { base })
}
