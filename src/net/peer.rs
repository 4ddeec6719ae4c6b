//! The peer of a client's connection.

use std::net::SocketAddr;
use std::sync::Arc;

/// What a connection tells about its peer, before any request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The address of the socket, or that of a PROXY header from a trusted proxy. `None` on a Unix socket.
    pub address: Option<SocketAddr>,
    /// The port it came to; none on a Unix socket.
    pub port: Option<u16>,
    /// Whether the hop is encrypted.
    pub is_tls: bool,
    /// The subject of the certificate that it showed and that was verified.
    pub subject: Option<Arc<str>>,
}
