//! A stream whose first bytes were read already, and that yields after a number of bytes: h2 reads small frames for as
//! long as there are any, without letting other tasks run.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::{Stream, Transport};

/// Bytes read before the task yields: 3600 empty frames are a few hundred microseconds' work.
const TURN: usize = 32 * 1024;
/// The size of an empty frame (RFC 9113 §4.1). A TLS record counts as at least as much.
const EMPTY: usize = 9;

/// A stream that gives back what was read from it before, and then reads on.
#[derive(Debug)]
pub(super) struct Rewind {
    read_ahead: Bytes,
    stream: Stream,
    /// Bytes that may be read before the task yields.
    turn: usize,
    /// Whether our direction has been shut down.
    is_write_shut: Arc<AtomicBool>,
}

impl Rewind {
    pub(super) fn new(client: Transport) -> Self {
        let Transport { stream, read_ahead } = client;
        Self { read_ahead, stream, turn: TURN, is_write_shut: Arc::default() }
    }

    /// A flag that says, wherever it is read, whether our direction was shut down: the last thing that h2 does with a
    /// connection.
    pub(super) fn is_write_shut(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_write_shut)
    }
}

impl AsyncRead for Rewind {
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
        if self.read_ahead.is_empty() {
            let before = buf.filled().len();
            let result = Pin::new(&mut self.stream).poll_read(cx, buf);
            let records = self.stream.take_records() as usize;
            self.turn = match result {
                Poll::Pending => TURN,
                Poll::Ready(_) => {
                    self.turn.saturating_sub((buf.filled().len() - before).max(records * EMPTY))
                }
            };
            return result;
        }
        let n = self.read_ahead.len().min(buf.remaining());
        buf.put_slice(&self.read_ahead[..n]);
        self.read_ahead.advance(n);
        if self.read_ahead.is_empty() {
            // This frees its memory too.
            self.read_ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewind {
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
        self.is_write_shut.store(true, Relaxed);
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use socket2::SockRef;

    use super::*;
    use crate::net::tls::testing;

    #[tokio::test]
    async fn tls_records_of_one_byte_use_up_a_turn_as_empty_frames_do() {
        const SAID: usize = 8000;
        let (stream, mut far) = testing::narrow().await;
        SockRef::from(&far.socket).set_send_buffer_size(1 << 20).unwrap();
        far.peer.say_each(&mut far.socket, &[7; SAID]);
        tokio::task::yield_now().await;
        let mut rewind = Rewind::new(Transport { stream, read_ahead: Bytes::new() });
        let mut cx = Context::from_waker(Waker::noop());
        let (mut heard, mut most) = (0, 0);
        for _ in 0..1000 {
            let mut turn = 0;
            loop {
                let mut room = [0; 8192];
                let mut buf = ReadBuf::new(&mut room);
                match Pin::new(&mut rewind).poll_read(&mut cx, &mut buf) {
                    Poll::Ready(result) => result.unwrap(),
                    Poll::Pending => break,
                }
                turn += buf.filled().len();
            }
            (heard, most) = (heard + turn, most.max(turn));
            tokio::task::yield_now().await;
        }
        assert_eq!(heard, SAID);
        assert!(most <= TURN / EMPTY + 8192 / 23 + 1, "{most} records in one turn");
    }
}
