//! A stream of which something was read already, and that is read in turns: of small frames h2 takes as many as there
//! are before it lets others run.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Stream;

/// Bytes read before other tasks get their turn. An empty frame has nine of them (RFC 9113 §4.1): 3600 such are a few
/// hundred microseconds' work.
const TURN: usize = 32 * 1024;

/// Reads what was read before, and then on.
#[derive(Debug)]
pub(super) struct Replayed {
    first: Bytes,
    stream: Stream,
    /// Bytes that may be read until others get their turn.
    turn: usize,
}

impl Replayed {
    pub(super) fn new(first: Bytes, stream: Stream) -> Self {
        Self { first, stream, turn: TURN }
    }
}

impl AsyncRead for Replayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.turn == 0 {
            self.turn = TURN;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.first.is_empty() {
            let before = buf.filled().len();
            let result = Pin::new(&mut self.stream).poll_read(cx, buf);
            self.turn = match result {
                Poll::Pending => TURN,
                Poll::Ready(_) => self.turn.saturating_sub(buf.filled().len() - before),
            };
            return result;
        }
        let n = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..n]);
        self.first.advance(n);
        if self.first.is_empty() {
            // Its memory with it.
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
