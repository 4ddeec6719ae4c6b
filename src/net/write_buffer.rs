//! Bytes that a socket has not taken yet.
//!
//! # Invariants
//! 1. Empty means no memory: an idle connection owns no buffer. A thread keeps a small one for whoever appends next, since
//!    most of what is put together here leaves at once.
//! 2. Bytes are sent in the order in which they came; none is lost but by [`WriteBuffer::cut_to_edge`].
//!
//! # Not here
//! The bound: the task that fills a buffer stops reading its source, or ends the connection.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use super::Stream;

/// The most memory that a thread keeps: the short messages for which an allocation would show. A link whose socket is
/// full holds on to what it took over, so that it is not much.
const MAX_SPARE: usize = 4 * 1024;

thread_local! {
    static SPARE: Cell<Option<Box<Queue>>> = const { Cell::new(None) };
}

/// A queue of bytes behind a full socket. One pointer wide: most links never have one.
#[derive(Debug, Default)]
pub(crate) struct WriteBuffer(Option<Box<Queue>>);

/// Never empty, but for the one that a thread keeps.
#[derive(Debug, Default)]
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
        let queue = self.0.get_or_insert_default();
        queue.forget_sent();
        if let Some(edge) = edge {
            queue.edge = Some(queue.bytes.len() + edge);
        }
        queue.bytes.extend_from_slice(more);
    }

    /// Adds whole frames, which `write` puts behind what is there; answers how many bytes these are. To be followed by a
    /// flush: it may take over the memory that the thread keeps.
    pub(crate) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let queue = self.0.get_or_insert_with(Queue::spare);
        queue.forget_sent();
        let before = queue.bytes.len();
        write(&mut queue.bytes);
        let after = queue.bytes.len();
        queue.edge = Some(after);
        if after == queue.sent {
            self.free();
        }
        after - before
    }

    /// What it holds is not needed any more.
    fn free(&mut self) {
        if let Some(queue) = self.0.take() {
            queue.keep();
        }
    }

    /// Forgets what follows the last frame edge, so that a Close can be sent, and answers how much that
    /// was. Nothing if the frame has begun to leave: then the wire is inside it for good.
    pub(crate) fn cut_to_edge(&mut self) -> Option<usize> {
        let queue = self.0.as_mut()?;
        let edge = queue.edge.filter(|edge| *edge >= queue.sent)?;
        let lost = queue.bytes.len() - edge;
        queue.bytes.truncate(edge);
        if queue.sent == edge {
            self.free();
        }
        Some(lost)
    }

    /// Forgets everything and answers how much that was.
    pub(crate) fn clear(&mut self) -> usize {
        let len = self.len();
        self.free();
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
        self.free();
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

impl Queue {
    /// An empty one, with the memory that the thread keeps if there is some.
    fn spare() -> Box<Self> {
        // A thread that ends keeps nothing any more.
        SPARE.try_with(Cell::take).ok().flatten().unwrap_or_default()
    }

    /// Lets the thread keep the memory, unless that is much.
    fn keep(mut self: Box<Self>) {
        if self.bytes.capacity() <= MAX_SPARE {
            self.bytes.clear();
            (self.sent, self.edge) = (0, None);
            let _ = SPARE.try_with(|spare| spare.set(Some(self)));
        }
    }

    /// Makes room where bytes were that have left. At most as many bytes are moved as were sent since the last time.
    fn forget_sent(&mut self) {
        if self.sent > 0 && self.sent >= self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.edge = self.edge.and_then(|edge| edge.checked_sub(self.sent));
            self.sent = 0;
        }
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
    fn short_frames_use_the_memory_of_those_before_them_and_long_ones_leave_none() {
        fn send(socket: &mut Narrow, frame: &[u8]) -> *const u8 {
            let mut egress = WriteBuffer::default();
            assert_eq!(egress.append(|out| out.extend_from_slice(frame)), frame.len());
            let at = egress.0.as_ref().unwrap().bytes.as_ptr();
            socket.room = usize::MAX;
            assert!(flush(&mut egress, socket) && egress.is_empty());
            at
        }
        let kept = || {
            let spare = SPARE.take();
            let capacity = spare.as_ref().map(|queue| queue.bytes.capacity());
            SPARE.set(spare);
            capacity
        };
        let mut socket = Narrow { room: 0, got: Vec::new() };
        SPARE.set(None);
        let first = send(&mut socket, b"one");
        assert_eq!(send(&mut socket, b"two"), first);
        let capacity = kept().unwrap();
        // A buffer in use is its own: another one meanwhile gets other memory, and only one is kept.
        let mut held = WriteBuffer::default();
        held.append(|out| out.extend_from_slice(b"three"));
        assert_eq!(kept(), None);
        assert_ne!(send(&mut socket, b"four"), first);
        held.clear();
        assert_eq!(kept(), Some(capacity));
        // Nor is anything left of what was there before.
        let mut again = WriteBuffer::default();
        assert_eq!((again.append(|_| {}), again.is_empty()), (0, true));
        again.append(|out| out.extend_from_slice(b"five"));
        assert_eq!((again.len(), again.cut_to_edge(), again.clear()), (4, Some(0), 4));
        SPARE.set(None);
        send(&mut socket, &[0; MAX_SPARE + 1]);
        assert_eq!(kept(), None);
        assert_eq!(&socket.got[..10], b"onetwofour");
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
