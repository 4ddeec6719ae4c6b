//! A byte stream of either hop.
//!
//! # Why do this file and that of TLS import each other?
//! TLS runs over any stream, and is one of them. A trait object between them would cost a call through a table for each
//! read and write, and a type parameter would end in every type that holds a stream.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::http2::Http2;
use super::scratch;
use super::tls::Tls;

/// What a link runs over. An enum and no trait object: the relay calls it for every read and write.
#[derive(Debug)]
pub enum Stream {
    /// TCP, in the clear.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// One stream of an HTTP/2 connection.
    Http2(Box<Http2>),
    /// TLS over one of them.
    Tls(Box<Tls>),
    /// In memory: a test says how much it takes at once, down to one byte, which a kernel's buffers do not let it.
    #[cfg(test)]
    Scripted(tokio::io::DuplexStream),
}

/// What one hop of a connection is carried by once its handshake is over.
#[derive(Debug)]
pub(crate) struct Transport {
    /// The socket.
    pub stream: Stream,
    /// What came right after the handshake and was read with it.
    pub read_ahead: Bytes,
}

impl Stream {
    /// Reads up to `max` bytes through the thread's buffer, so that they take as much memory as they are. None: the stream has
    /// ended.
    pub(crate) fn poll_read_bytes(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<Bytes>> {
        scratch::with(|scratch| {
            let max = max.min(scratch.len());
            let mut buf = ReadBuf::new(&mut scratch[..max]);
            let read = Pin::new(self).poll_read(cx, &mut buf);
            read.map_ok(|()| Bytes::copy_from_slice(buf.filled()))
        })
    }

    /// Writes what the kernel takes at this moment, whatever was said about readiness.
    ///
    /// # Errors
    /// `WouldBlock` if that is nothing; else the connection is broken.
    pub fn write_now(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => SockRef::from(&*tcp).send(buf),
            Self::Unix(unix) => SockRef::from(&*unix).send(buf),
            Self::Tls(tls) => tls.write_now(buf),
            // It has no kernel to ask: its task is woken for each byte that the peer has room for.
            Self::Http2(_) => Err(io::ErrorKind::WouldBlock.into()),
            #[cfg(test)]
            Self::Scripted(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Whether the runtime has heard that there is something to read, or an end; of a stream that cannot tell, that there
    /// may be. Costs one load, and registers nobody.
    pub(crate) fn may_be_readable(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.try_io(Interest::READABLE, || Ok(())).is_ok(),
            Self::Unix(unix) => unix.try_io(Interest::READABLE, || Ok(())).is_ok(),
            Self::Http2(_) | Self::Tls(_) => true,
            #[cfg(test)]
            Self::Scripted(_) => true,
        }
    }

    /// Whether what was written may still wait inside the stream: it is to be flushed then each time the
    /// task is woken, also without anything more to write.
    pub fn wants_flush(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Bytes that were accepted by a write and are not with the kernel yet: a flush is due.
    pub fn unsent(&self) -> usize {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Http2(_) => 0,
            #[cfg(test)]
            Self::Scripted(_) => 0,
            Self::Tls(tls) => tls.unsent(),
        }
    }

    /// How many bytes at the end of all that was ever accepted cannot have reached the peer: they went into records whose
    /// last byte the kernel has not taken.
    pub(crate) fn unsent_data(&self) -> usize {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Http2(_) => 0,
            #[cfg(test)]
            Self::Scripted(_) => 0,
            Self::Tls(tls) => tls.unsent_data(),
        }
    }

    /// Bytes that the stream holds in this process, in either direction.
    pub fn held(&self) -> usize {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Http2(_) => 0,
            #[cfg(test)]
            Self::Scripted(_) => 0,
            Self::Tls(tls) => tls.held(),
        }
    }

    /// How much the kernel has ever taken, where an accepted write does not tell.
    pub fn sent(&self) -> Option<u64> {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Http2(_) => None,
            #[cfg(test)]
            Self::Scripted(_) => None,
            Self::Tls(tls) => Some(tls.sent()),
        }
    }

    /// How many records were read since this was last asked, where a read brings more than one; rather too many than
    /// too few. Each costs as much as a frame, whatever it holds.
    pub fn take_records(&mut self) -> u32 {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Http2(_) => 0,
            #[cfg(test)]
            Self::Scripted(_) => 0,
            Self::Tls(tls) => tls.take_records(),
        }
    }

    /// Announces an orderly end, where the protocol has a message for that and it can be sent without waiting.
    pub fn send_close_notify(&mut self) {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Http2(_) => {}
            #[cfg(test)]
            Self::Scripted(_) => {}
            Self::Tls(tls) => tls.send_close_notify(),
        }
    }

    /// Whether the peer has ended or reset its side, though what it sent before may not be read yet. Some
    /// streams have to be asked with `task`, which is then woken when it does.
    pub fn is_read_closed(&mut self, task: &mut Context<'_>) -> bool {
        match self {
            Self::Tls(tls) => tls.has_peer_ended() || tls.socket().is_socket_closed(),
            Self::Http2(stream) => stream.is_reset(task),
            Self::Tcp(_) | Self::Unix(_) => self.is_socket_closed(),
            #[cfg(test)]
            Self::Scripted(_) => false,
        }
    }

    /// What the kernel says of the other end.
    fn is_socket_closed(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let ready = match self {
            Self::Tcp(tcp) => pin!(tcp.ready(Interest::READABLE)).poll(&mut cx),
            Self::Unix(unix) => pin!(unix.ready(Interest::READABLE)).poll(&mut cx),
            Self::Tls(_) | Self::Http2(_) => return false,
            #[cfg(test)]
            Self::Scripted(_) => return false,
        };
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Makes the coming drop send a reset rather than an orderly end, and lets the kernel forget what
    /// the peer did not take. Unix sockets know no reset.
    pub fn reset_on_drop(&self) {
        match self {
            // If the socket is already gone there is nothing left to reset.
            Self::Tcp(tcp) => drop(SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO))),
            Self::Unix(_) => {}
            #[cfg(test)]
            Self::Scripted(_) => {}
            Self::Http2(stream) => stream.reset_on_drop(),
            Self::Tls(tls) => tls.socket().reset_on_drop(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
            Self::Http2(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_read(cx, buf),
            #[cfg(test)]
            Self::Scripted(pipe) => Pin::new(pipe).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, buf),
            Self::Http2(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_write(cx, buf),
            #[cfg(test)]
            Self::Scripted(pipe) => Pin::new(pipe).poll_write(cx, buf),
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
            Self::Tls(tls) => Pin::new(&mut **tls).poll_write_vectored(cx, bufs),
            #[cfg(test)]
            Self::Scripted(pipe) => Pin::new(pipe).poll_write_vectored(cx, bufs),
        }
    }

    /// Over TLS pieces are encrypted one by one: whoever has several had better put them together.
    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => true,
            Self::Tls(_) => false,
            Self::Http2(stream) => stream.is_write_vectored(),
            #[cfg(test)]
            Self::Scripted(pipe) => pipe.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Unix(unix) => Pin::new(unix).poll_flush(cx),
            Self::Http2(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_flush(cx),
            #[cfg(test)]
            Self::Scripted(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
            Self::Http2(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
            #[cfg(test)]
            Self::Scripted(pipe) => Pin::new(pipe).poll_shutdown(cx),
        }
    }
}
