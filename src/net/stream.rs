//! A byte stream of either hop.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::tls::Tls;

/// What a link runs over. An enum and no trait object: the relay calls it for every read and write.
#[derive(Debug)]
pub enum Stream {
    /// TCP, in the clear.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over one of them.
    Tls(Box<Tls>),
}

/// One hop of a connection, as the handshake leaves it.
#[derive(Debug)]
pub struct Hop {
    /// The socket.
    pub stream: Stream,
    /// What came right after the handshake and was read with it.
    pub early: bytes::Bytes,
}

impl Stream {
    /// Writes what the kernel takes at this moment, whatever was said about readiness.
    ///
    /// # Errors
    /// `WouldBlock` if that is nothing; else the connection is broken.
    pub fn write_now(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => SockRef::from(&*tcp).send(buf),
            Self::Unix(unix) => SockRef::from(&*unix).send(buf),
            Self::Tls(tls) => tls.write_now(buf),
        }
    }

    /// Bytes that were accepted by a write and are not with the kernel yet: a flush is due.
    pub fn unsent(&self) -> usize {
        match self {
            Self::Tcp(_) | Self::Unix(_) => 0,
            Self::Tls(tls) => tls.unsent(),
        }
    }

    /// Bytes that the stream holds in this process, in either direction.
    pub fn held(&self) -> usize {
        match self {
            Self::Tcp(_) | Self::Unix(_) => 0,
            Self::Tls(tls) => tls.held(),
        }
    }

    /// How much the kernel has ever taken, where an accepted write does not tell.
    pub fn sent(&self) -> Option<u64> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Tls(tls) => Some(tls.sent()),
        }
    }

    /// Says, before an orderly end, that it is one, where the protocol has words for that and it takes no
    /// waiting.
    pub fn say_goodbye(&mut self) {
        match self {
            Self::Tcp(_) | Self::Unix(_) => {}
            Self::Tls(tls) => tls.say_goodbye(),
        }
    }

    /// Whether the peer has ended or reset its side, though what it said before may not be read yet.
    pub fn is_read_closed(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let ready = match self {
            Self::Tcp(tcp) => pin!(tcp.ready(Interest::READABLE)).poll(&mut cx),
            Self::Unix(unix) => pin!(unix.ready(Interest::READABLE)).poll(&mut cx),
            Self::Tls(tls) => return tls.has_peer_ended() || tls.socket().is_read_closed(),
        };
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Makes the coming drop send a reset rather than an orderly end, and lets the kernel forget what
    /// the peer did not take. Unix sockets know no reset.
    pub fn reset_on_drop(&self) {
        match self {
            Self::Tcp(tcp) => {
                // If the socket is already gone there is nothing left to reset.
                let _ = SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO));
            }
            Self::Unix(_) => {}
            Self::Tls(tls) => tls.socket().reset_on_drop(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_write_vectored(cx, bufs),
        }
    }

    /// Pieces are sealed one by one: whoever has several had better put them together.
    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => true,
            Self::Tls(_) => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Unix(unix) => Pin::new(unix).poll_flush(cx),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
        }
    }
}
