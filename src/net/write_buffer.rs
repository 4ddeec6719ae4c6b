//! Bytes that a socket has not taken yet.
//!
//! # Invariants
//! 1. Empty means no memory: an idle connection owns no buffer.
//! 2. Bytes are sent in the order in which they came; none is lost but by [`WriteBuffer::cut_to_edge`].
//!
//! # Not here
//! The bound: the task that fills a buffer stops reading its source, or ends the connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use super::Stream;

/// A queue of bytes behind a full socket. One pointer wide: most links never have one.
#[derive(Debug, Default)]
pub(crate) struct WriteBuffer(Option<Box<Queue>>);

/// Never empty.
#[derive(Debug)]
struct Queue {
    bytes: Vec<u8>,
    /// `bytes[..sent]` were taken.
    sent: usize,
    /// The offset in `bytes` of the last place where a control frame may stand, if it is still here.
    edge: Option<usize>,
}

impl WriteBuffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes.len() - queue.sent)
    }

    /// Memory that it holds.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes.capacity())
    }

    /// Adds what comes next; `edge` is the offset in `more` of its last frame edge, if it has one.
    pub(crate) fn push(&mut self, more: &[u8], edge: Option<usize>) {
        if more.is_empty() {
            return;
        }
        let queue = self.0.get_or_insert_with(|| Box::new(Queue { bytes: Vec::new(), sent: 0, edge: None }));
        if queue.sent > 0 && queue.sent >= queue.bytes.len() / 2 {
            // At most as many bytes are moved as were sent since the last time.
            queue.bytes.drain(..queue.sent);
            queue.edge = queue.edge.and_then(|edge| edge.checked_sub(queue.sent));
            queue.sent = 0;
        }
        if let Some(edge) = edge {
            queue.edge = Some(queue.bytes.len() + edge);
        }
        queue.bytes.extend_from_slice(more);
    }

    /// Forgets what follows the last frame edge, so that a Close can be sent, and answers how much that
    /// was. Nothing if the frame has begun to leave: then the wire is inside it for good.
    pub(crate) fn cut_to_edge(&mut self) -> Option<usize> {
        let queue = self.0.as_mut()?;
        let edge = queue.edge.filter(|edge| *edge >= queue.sent)?;
        let lost = queue.bytes.len() - edge;
        queue.bytes.truncate(edge);
        if queue.sent == edge {
            self.0 = None;
        }
        Some(lost)
    }

    /// Forgets everything and answers how much that was.
    pub(crate) fn clear(&mut self) -> usize {
        let len = self.len();
        self.0 = None;
        len
    }

    /// Writes as much as `socket` takes: ready when nothing is left. `took` is raised by what left.
    pub(crate) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut S,
        took: &mut usize,
    ) -> Poll<io::Result<()>> {
        let Some(queue) = &mut self.0 else { return Poll::Ready(Ok(())) };
        while queue.sent < queue.bytes.len() {
            match Pin::new(&mut *socket).poll_write(cx, &queue.bytes[queue.sent..]) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    queue.sent += n;
                    *took += n;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        self.0 = None;
        Poll::Ready(Ok(()))
    }

    /// Writes to `stream`, and what it has accepted and not sent: ready when the kernel has all. Also whether
    /// it took anything.
    pub(crate) fn send(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> (Poll<io::Result<()>>, bool) {
        let before = stream.sent();
        let mut took = 0;
        let mut sent = self.poll_flush(cx, stream, &mut took);
        if matches!(sent, Poll::Ready(Ok(()))) && stream.unsent() > 0 {
            sent = Pin::new(&mut *stream).poll_flush(cx);
        }
        (sent, has_moved(stream, before, took))
    }

    /// Whether the kernel takes anything after all. A socket counts as writable again only when a good part
    /// of its queue has left, which takes a slow peer longer than its timeout: here it is asked directly.
    pub(crate) fn send_unready(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> bool {
        let before = stream.sent();
        let mut took = 0;
        let _ = self.poll_flush(cx, &mut Unready(stream), &mut took);
        if stream.unsent() > 0 {
            // Nothing more to accept: what was accepted goes on its way.
            let _ = stream.write_now(&[]);
        }
        has_moved(stream, before, took)
    }
}

/// Whether the kernel took anything: `took` bytes of the egress left, and it had taken `before`.
fn has_moved(stream: &Stream, before: Option<u64>, took: usize) -> bool {
    // Where the stream keeps its own account: what it accepted may still be there.
    if before.is_some() { stream.sent() != before } else { took > 0 }
}

/// Writes without asking whether the socket is ready.
struct Unready<'a>(&'a mut Stream);

impl AsyncWrite for Unready<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.0.write_now(buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes and is then full.
    struct Narrow {
        room: usize,
        got: Vec<u8>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let n = buf.len().min(self.room);
            if n == 0 {
                return Poll::Pending;
            }
            self.room -= n;
            self.got.extend_from_slice(&buf[..n]);
            Poll::Ready(Ok(n))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn flush(egress: &mut WriteBuffer, socket: &mut Narrow) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        egress.poll_flush(&mut cx, socket, &mut 0).is_ready()
    }

    #[test]
    fn bytes_leave_in_order_and_memory_with_them() {
        let mut egress = WriteBuffer::default();
        let mut socket = Narrow { room: 3, got: Vec::new() };
        egress.push(b"hello ", Some(6));
        assert!(!flush(&mut egress, &mut socket));
        egress.push(b"world", Some(5));
        assert_eq!(egress.len(), 8);
        for _ in 0..10 {
            socket.room = 2;
            flush(&mut egress, &mut socket);
        }
        assert_eq!(socket.got, b"hello world");
        assert!(egress.is_empty());
        assert_eq!(egress.capacity(), 0);
    }

    #[test]
    fn it_is_cut_at_the_last_edge_while_that_is_still_here() {
        let mut egress = WriteBuffer::default();
        let mut socket = Narrow { room: 1, got: Vec::new() };
        egress.push(b"AAAA", Some(4));
        egress.push(b"BB", Some(0)); // a frame that goes on ...
        egress.push(b"BB", None); // ... and on
        flush(&mut egress, &mut socket);
        assert_eq!(egress.cut_to_edge(), Some(4));
        assert_eq!(egress.len(), 3);
        egress.push(b"CC", Some(0));
        socket.room = 4;
        flush(&mut egress, &mut socket);
        assert_eq!(socket.got, b"AAAAC");
        assert_eq!(egress.cut_to_edge(), None, "half of it is on the wire");
    }

    #[test]
    fn an_edge_survives_that_sent_bytes_are_forgotten() {
        let mut egress = WriteBuffer::default();
        let mut socket = Narrow { room: 5, got: Vec::new() };
        egress.push(b"AAAABB", Some(4));
        flush(&mut egress, &mut socket);
        egress.push(b"BB", None);
        assert_eq!(egress.cut_to_edge(), None, "the frame at the edge has begun to leave");
        egress.push(b"BCC", Some(1));
        assert_eq!(egress.cut_to_edge(), Some(2));
        assert_eq!(egress.len(), 4);
    }
}
