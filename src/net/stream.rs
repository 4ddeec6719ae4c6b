//! A byte stream of either hop.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::http2::Http2;

/// What a link runs over. An enum and no trait object: the relay calls it for every read and write.
#[derive(Debug)]
pub enum Stream {
    /// TCP, in the clear.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// One stream of an HTTP/2 connection.
    Http2(Box<Http2>),
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
    pub fn write_now(&self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => SockRef::from(tcp).send(buf),
            Self::Unix(unix) => SockRef::from(unix).send(buf),
            // It has no kernel to ask: its task is woken for each byte that the peer has room for.
            Self::Http2(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Whether what was written may still wait inside the stream: it is to be flushed then each time the
    /// task is woken, also without anything more to write.
    pub fn wants_flush(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Makes the coming drop send a reset rather than an orderly end, and lets the kernel forget what
    /// the peer did not take. Unix sockets know no reset.
    pub fn reset_on_drop(&self) {
        match self {
            // If the socket is already gone there is nothing left to reset.
            Self::Tcp(tcp) => drop(SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO))),
            Self::Unix(_) => {}
            Self::Http2(stream) => stream.reset_on_drop(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
            Self::Http2(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, buf),
            Self::Http2(stream) => Pin::new(stream).poll_write(cx, buf),
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
            Self::Http2(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Unix(unix) => Pin::new(unix).poll_flush(cx),
            Self::Http2(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
            Self::Http2(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
