//! Who is at the other end of a client's hop.

use std::net::SocketAddr;
use std::sync::Arc;

/// What a hop tells about its other end, before any request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Who connected: the socket's word, or that of a PROXY header that was to be believed. None on a Unix
    /// socket.
    pub address: Option<SocketAddr>,
    /// The port it came to; none on a Unix socket.
    pub port: Option<u16>,
    /// Whether the hop is encrypted.
    pub is_tls: bool,
    /// The subject of the certificate that it showed and that was verified.
    pub subject: Option<Arc<str>>,
}
