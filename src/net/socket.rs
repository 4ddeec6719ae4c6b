//! Socket options, each with its reason.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

/// Connections the kernel may hold that were not accepted yet: a reconnect storm comes in a burst.
const BACKLOG: u32 = 4096;

/// Unsent bytes that the kernel takes for a client before the socket is full. Without a bound it buffers up to 4 MB for a
/// client that does not read; with too small a one a fast client waits for the proxy.
const CLIENT_NOTSENT: u32 = 128 * 1024;

/// Receive buffer towards the upstream; the kernel doubles it for its own book-keeping. This is the side
/// that is paused while a client does not read: left to itself it would grow to megabytes of unread
/// flood. The upstream is near (same pod, same host), so that a small window costs no throughput.
const UPSTREAM_RECEIVE: u32 = 128 * 1024;

/// A listening TCP socket. Connections that are accepted from it inherit (on Linux) that small frames are sent at once, and
/// the bound of unsent bytes: so these are set once, and not for each connection.
/// `SO_REUSEADDR` lets a restart not wait for old connections.
///
/// # Errors
/// The kernel's error: the address is in use, not of this machine, or not allowed.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?;
    SockRef::from(&socket).set_tcp_notsent_lowat(CLIENT_NOTSENT)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A socket to dial an upstream with.
///
/// # Errors
/// No descriptors left.
pub(crate) fn upstream_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    socket.set_recv_buffer_size(UPSTREAM_RECEIVE)?;
    Ok(socket)
}

/// Raises the number of descriptors this process may have to its hard limit and answers what it is then.
/// Each connection needs two.
pub fn raise_descriptor_limit() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn accepted_sockets_inherit_what_was_set_on_the_listener() {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(accepted.nodelay().unwrap());
        assert_eq!(SockRef::from(&accepted).tcp_notsent_lowat().unwrap(), CLIENT_NOTSENT);
    }
}
