//! Socket options, each with its reason.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};

/// Connections the kernel may hold that were not accepted yet: a reconnect storm comes in a burst.
const BACKLOG: u32 = 4096;

/// Unsent bytes that the kernel takes for a client before the socket is full. Without a bound it buffers up to 4 MB for
/// a client that does not read; with too small a one a fast client waits for the proxy.
const CLIENT_NOTSENT: u32 = 128 * 1024;

/// Receive buffer towards the upstream; the kernel doubles it for its own book-keeping. This is the side
/// that is paused while a client does not read: left to itself it would grow to megabytes of unread
/// flood. The upstream is near (same pod, same host), so that a small window costs no throughput.
const UPSTREAM_RECEIVE: usize = 128 * 1024;

/// A listening TCP socket. Connections that are accepted from it inherit (on Linux) that small frames are sent at once,
/// and the bound of unsent bytes: so these are set once, and not for each connection. `SO_REUSEADDR` lets a restart not
/// wait for old connections.
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

/// What the kernel says of a connect that goes on (`EINPROGRESS`); std has no stable name for it.
const IN_PROGRESS: i32 = if cfg!(target_os = "linux") { 115 } else { 36 };

/// Connects to an upstream. A connect on loopback is done when it returns, though the kernel says that it goes on: whether there
/// is a peer is asked then, and readiness is waited for only if there is none. A write right after it is to be tried
/// (`Stream::write_now`): no event has told of readiness yet.
///
/// # Errors
/// No descriptors left, or the connect failed.
pub(crate) async fn connect_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = stream_socket(Domain::for_address(address), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_recv_buffer_size(UPSTREAM_RECEIVE)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let stream = TcpStream::from_std(socket.into())?;
    if stream.peer_addr().is_err() {
        stream.writable().await?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
    }
    Ok(stream)
}

/// Connects to an upstream on this machine. It is connected at once, or not at all.
///
/// # Errors
/// No descriptors left, nobody listens there, or too many wait already.
pub(crate) fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let socket = stream_socket(Domain::UNIX, None)?;
    socket.connect(&SockAddr::unix(path)?)?;
    UnixStream::from_std(socket.into())
}

fn stream_socket(domain: Domain, protocol: Option<Protocol>) -> io::Result<Socket> {
    #[cfg(target_os = "linux")]
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), protocol)?;
    #[cfg(not(target_os = "linux"))]
    let socket = Socket::new(domain, Type::STREAM, protocol)?;
    #[cfg(not(target_os = "linux"))]
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Raises the number of descriptors this process may have to its hard limit and answers what it is then.
/// Each connection needs two.
pub fn raise_descriptor_limit() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn accepted_sockets_inherit_what_was_set_on_the_listener() {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(accepted.nodelay().unwrap());
        assert_eq!(SockRef::from(&accepted).tcp_notsent_lowat().unwrap(), CLIENT_NOTSENT);
    }

    #[tokio::test]
    async fn a_connection_to_an_upstream_has_its_options_and_carries_bytes() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address).await else { continue };
            let mut ours = connect_tcp(listener.local_addr().unwrap()).await.unwrap();
            let (mut theirs, _) = listener.accept().await.unwrap();
            assert!(ours.nodelay().unwrap());
            assert_eq!(SockRef::from(&ours).recv_buffer_size().unwrap(), 2 * UPSTREAM_RECEIVE);
            ours.write_all(b"a").await.unwrap();
            assert_eq!(theirs.read_u8().await.unwrap(), b'a');
            theirs.write_all(b"b").await.unwrap();
            assert_eq!(ours.read_u8().await.unwrap(), b'b');
        }
    }

    #[tokio::test]
    async fn a_port_at_which_nobody_listens_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(connect_tcp(address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    /// A listener whose queue is full drops what is sent to it: the connect is not over when it returns.
    #[tokio::test]
    async fn a_connect_that_goes_on_is_waited_for() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let _first = connect_tcp(address).await.unwrap();
        let mut second = tokio::spawn(connect_tcp(address));
        // The kernel sends its SYN again after a second; if it took it at first, there is nothing to wait for.
        let early = tokio::time::timeout(std::time::Duration::from_millis(50), &mut second).await;
        let _ = listener.accept().await.unwrap();
        let second = match early {
            Ok(second) => second,
            Err(_) => second.await,
        };
        assert_eq!(second.unwrap().unwrap().peer_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn a_unix_socket_is_connected_at_once_or_not_at_all() {
        let path = std::env::temp_dir().join(format!("outrigger-connect-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        assert_eq!(connect_unix(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = UnixListener::bind(&path).unwrap();
        let mut ours = connect_unix(&path).unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        ours.write_all(b"a").await.unwrap();
        assert_eq!(theirs.read_u8().await.unwrap(), b'a');
        drop(listener);
        assert_eq!(connect_unix(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        std::fs::remove_file(&path).unwrap();
    }
}
