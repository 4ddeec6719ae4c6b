//! The client's socket, as hyper reads and writes it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::connection::HttpConnection;
use crate::net::head::spelling::is_standard_head;
use crate::net::head::{Character, RequestLine};
use crate::net::{Stream, Transport};

/// The client's socket under hyper. It drives the timeouts, and it suppresses the answers that hyper itself gives to
/// unreadable requests, because these do not say that the proxy refused them. It also looks at the first line of each
/// request: hyper does not tell for which character it refuses one.
#[derive(Debug)]
pub(in crate::server) struct ClientIo {
    stream: Stream,
    /// What was read before, and is read again first.
    read_ahead: Bytes,
    connection: Arc<HttpConnection>,
    /// The request line of the head that is being read. That of a head that came together with bytes before it
    /// (pipelined, or behind a body) is not seen.
    line: RequestLine,
    /// Whether nothing of that head was read before.
    is_head_new: bool,
}

impl ClientIo {
    pub(in crate::server) fn new(client: Transport, connection: Arc<HttpConnection>) -> Self {
        let Transport { stream, read_ahead } = client;
        Self { stream, read_ahead, connection, line: RequestLine::default(), is_head_new: true }
    }

    /// The socket, with what hyper has `read` and not used, and the character that the last target must not have had.
    pub(in crate::server) fn into_parts(self, read: Bytes) -> (Transport, Option<Character>) {
        let read_ahead = match (read.is_empty(), self.read_ahead.is_empty()) {
            (_, true) => read,
            (true, false) => self.read_ahead,
            (false, false) => [read, self.read_ahead].concat().into(),
        };
        (Transport { stream: self.stream, read_ahead }, self.line.found())
    }

    /// Reads, up to `max` bytes of the socket, for who is not hyper. It is an error that there are no more.
    pub(in crate::server) fn poll_ahead(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Bytes>> {
        if !self.read_ahead.is_empty() {
            return Poll::Ready(Ok(std::mem::take(&mut self.read_ahead)));
        }
        let read = self.stream.poll_read_bytes(cx, max);
        if read.is_pending() && self.stream.sent().is_some() {
            // What TLS has to say by itself does not wait for an answer.
            if let Poll::Ready(Err(error)) = Pin::new(&mut *self).poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
        }
        read.map(|read| {
            read.and_then(
                |read| if read.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(read) },
            )
        })
    }

    /// Has hyper read these bytes first.
    pub(in crate::server) fn unread(&mut self, bytes: Bytes) {
        self.read_ahead = if self.read_ahead.is_empty() {
            bytes
        } else {
            [bytes, std::mem::take(&mut self.read_ahead)].concat().into()
        };
    }

    fn poll_read_any(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read_ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        buf.put_slice(&self.read_ahead.split_to(self.read_ahead.len().min(buf.remaining())));
        if self.read_ahead.is_empty() {
            // This frees its memory too.
            self.read_ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = this.poll_read_any(cx, buf);
        if buf.filled().len() > before {
            let (was_idle, is_in_head) = {
                let mut timeouts = this.connection.timeouts();
                (timeouts.on_bytes(Instant::now()), timeouts.is_in_head())
            };
            if was_idle {
                this.connection.resume();
                this.line = RequestLine::default();
                this.is_head_new = true;
            }
            // One that comes in pieces is left to hyper, however it is spelled.
            let is_whole = is_in_head && std::mem::take(&mut this.is_head_new);
            this.connection.set_standard(is_whole && is_standard_head(&buf.filled()[before..]));
            if is_in_head {
                this.line.read(&buf.filled()[before..]);
            }
        }
        result
    }
}

impl ClientIo {
    /// Whether `bytes` are an answer of hyper's own; its status is then noted, and nothing is written.
    fn suppresses(&self, bytes: &[u8]) -> bool {
        if self.connection.timeouts().is_answering() {
            return false;
        }
        let status = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(status) = status.and_then(|digits| digits.parse().ok()) {
            self.connection.set_hyper_status(status);
        }
        true
    }

    fn on_written(&self, result: &Poll<io::Result<usize>>) {
        self.connection.timeouts().on_write(result.is_ready(), Instant::now);
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.suppresses(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.on_written(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.suppresses(bufs.iter().find(|buf| !buf.is_empty()).map_or(&[], |buf| buf)) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.on_written(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = self.stream.sent();
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        if before.is_some() {
            // Bytes of earlier writes may have been sent by this flush.
            let took = result.is_ready() || self.stream.sent() != before;
            self.connection.timeouts().on_write(took, Instant::now);
        }
        if result.is_ready() {
            let now = Instant::now();
            let is_idle = self.connection.timeouts().on_flushed(now);
            if is_idle {
                self.connection.enter_idle(now);
            }
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
