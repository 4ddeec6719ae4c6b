//! A socket on which a handshake has begun, as hyper gets it: as if nothing had been sent or read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::{Stream, Transport};

/// The socket, and what was read of it.
#[derive(Debug)]
pub(super) struct Replay {
    stream: Stream,
    read: Bytes,
    head: Head,
}

/// The head of the request.
#[derive(Debug)]
enum Head {
    /// Was sent already; hyper has not written it yet. It takes for unasked what it could read before.
    Sent(Option<Waker>),
    /// hyper sends it, or has written what was sent.
    Passed,
}

impl Replay {
    /// Nothing was sent.
    pub(super) fn unsent(stream: Stream) -> Self {
        Self { stream, read: Bytes::new(), head: Head::Passed }
    }

    /// The head was sent, and `read` came.
    pub(super) fn sent(stream: Stream, read: Bytes) -> Self {
        Self { stream, read, head: Head::Sent(None) }
    }

    /// The socket. `read` is what hyper has read and not used.
    pub(super) fn into_transport(self, read: Bytes) -> Transport {
        let read_ahead = match (read.is_empty(), self.read.is_empty()) {
            (_, true) => read,
            (true, false) => self.read,
            (false, false) => [read, self.read].concat().into(),
        };
        Transport { stream: self.stream, read_ahead }
    }

    /// Whether hyper has written what was sent already.
    fn passes_head(&mut self) -> bool {
        let Head::Sent(reader) = &mut self.head else { return false };
        if let Some(reader) = reader.take() {
            reader.wake();
        }
        self.head = Head::Passed;
        true
    }
}

impl AsyncRead for Replay {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Head::Sent(reader) = &mut this.head {
            *reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if this.read.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        buf.put_slice(&this.read.split_to(this.read.len().min(buf.remaining())));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.passes_head() {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut this.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.passes_head() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
