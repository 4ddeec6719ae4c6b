//! One end of a connection, held by hand: bytes, HTTP heads and WebSocket frames, each with a deadline.
//!
//! # Invariants
//! 1. [`Link::next_frame`] hands out every frame as it came and answers nothing; only the methods in
//!    `messages` and [`Link::closed`] answer, and say so.
//! 2. A write that the peer does not take goes on reading meanwhile (else two honest ends could wait
//!    for each other for ever), unless [`Link::stop_reading`] was called: then not a byte is taken.
//! 3. A write that was given up (deadline, [`Link::fill_until_blocked`]) keeps its rest; the next one
//!    goes on behind it, so a frame is never torn by accident.

mod http;
mod messages;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::rustls::CommonState;

pub use messages::Message;

use super::DEADLINE;
use super::socket::Socket;
use super::wire::{self, Decoder, Frame, Role};

/// How the peer's bytes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In an orderly way (FIN) and between two frames.
    Eof,
    /// FIN, but within a frame or a head: what is left is in [`Link::leftover`].
    EofMidFrame,
    /// With a reset (RST).
    Reset,
    /// FIN, but without the goodbye of TLS.
    NoGoodbye,
}

/// How a WebSocket ended, as [`Link::closed`] saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The code of the Close frame; 1005 where it had none, 1006 where none came (RFC 6455 §7.1.5).
    pub code: u16,
    pub reason: String,
    /// What came on the socket then.
    pub then: End,
    /// Frames that came before the end and nobody had asked for.
    pub before: Vec<Frame>,
}

/// What [`Link::receive`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    Frame(Frame),
    End(End),
}

pub struct Link {
    socket: Socket,
    role: Role,
    name: String,
    deadline: Duration,
    decoder: Decoder,
    outgoing: BytesMut,
    reading: bool,
    close_sent: bool,
    end: Option<End>,
    recent: VecDeque<String>,
}

impl Link {
    pub fn new(socket: Socket, role: Role, name: impl Into<String>) -> Self {
        Self {
            socket,
            role,
            name: name.into(),
            deadline: DEADLINE,
            decoder: Decoder::default(),
            outgoing: BytesMut::new(),
            reading: true,
            close_sent: false,
            end: None,
            recent: VecDeque::new(),
        }
    }

    /// Every further wait on this link may take this long.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// Our own address; `None` on a Unix socket.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.socket.local_address()
    }

    /// The peer's address; `None` on a Unix socket.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.socket.peer_address()
    }

    /// Bytes that came and are not a whole frame (yet).
    pub fn leftover(&self) -> &[u8] {
        &self.decoder.buffer
    }

    /// Bytes that were read by hand come first again.
    pub fn put_back(&mut self, bytes: &[u8]) {
        self.decoder.buffer = [bytes, &self.decoder.buffer].concat().as_slice().into();
    }

    // ---- writing

    #[track_caller]
    pub fn send_frame(&mut self, frame: &Frame) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            if let Err(error) = self.try_send_frame(frame).await {
                panic!("{caller}: {}: {frame:?} could not be sent: {error}; {}", self.name, self.story());
            }
        }
    }

    /// As [`Link::send_frame`], where the peer may be gone.
    pub async fn try_send_frame(&mut self, frame: &Frame) -> io::Result<()> {
        self.close_sent |= frame.opcode == wire::CLOSE;
        self.try_send_bytes(&frame.encode(self.role)).await
    }

    /// Any bytes, as they are.
    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            if let Err(error) = self.try_send_bytes(bytes).await {
                let count = bytes.len();
                panic!("{caller}: {}: {count} bytes could not be sent: {error}; {}", self.name, self.story());
            }
        }
    }

    /// As [`Link::send_bytes`], where the peer may be gone.
    pub async fn try_send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.outgoing.extend_from_slice(bytes);
        match timeout(self.deadline, self.flush()).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not take it")),
        }
    }

    /// Each byte in a TCP segment of its own (`TCP_NODELAY` is set, and each waits for its own write).
    pub async fn send_in_single_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send_bytes(&[*byte]).await;
            tokio::task::yield_now().await;
        }
    }

    /// Sends `frame` again and again until the peer has taken nothing for `quiet`; returns how many
    /// bytes it took. Panics when it goes on taking them past `most`.
    pub async fn fill_until_blocked(&mut self, frame: &Frame, quiet: Duration, most: usize) -> usize {
        let bytes = frame.encode(self.role);
        let mut taken = 0;
        loop {
            if self.outgoing.is_empty() {
                self.outgoing.extend_from_slice(&bytes);
            }
            let before = self.outgoing.len();
            match timeout(quiet, poll_fn(|cx| self.poll_write_some(cx))).await {
                Ok(Ok(())) => taken += before - self.outgoing.len(),
                Ok(Err(error)) => panic!("{}: after {taken} bytes: {error}; {}", self.name, self.story()),
                Err(_) => return taken,
            }
            assert!(taken <= most, "{}: the peer took {taken} bytes and still reads", self.name);
        }
    }

    /// Writes what is left of earlier writes.
    async fn flush(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            poll_fn(|cx| self.poll_write_some(cx)).await?;
        }
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// What TLS has taken goes to the kernel.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = Pin::new(&mut self.socket).poll_flush(cx) {
            return Poll::Ready(result);
        }
        while self.reading && self.end.is_none() && self.poll_fill(cx).is_ready() {}
        Poll::Pending
    }

    fn poll_write_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_write(cx, &self.outgoing) {
            Poll::Ready(Ok(count)) => {
                self.outgoing.advance(count);
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {}
        }
        while self.reading && self.end.is_none() && self.poll_fill(cx).is_ready() {}
        Poll::Pending
    }

    /// Says "no more" (FIN) and goes on reading.
    pub async fn finish_writing(&mut self) {
        // The peer may have reset the connection by then; whoever reads on will see it.
        let _ = self.socket.shutdown().await;
    }

    // ---- reading

    /// From now on not a byte is taken from the socket, not even during a write.
    pub fn stop_reading(&mut self) {
        self.reading = false;
    }

    pub fn resume_reading(&mut self) {
        self.reading = true;
    }

    /// The next frame of any kind. Panics when the connection ends or the deadline passes.
    #[track_caller]
    pub fn next_frame(&mut self) -> impl Future<Output = Frame> {
        let caller = Location::caller();
        async move {
            match self.receive_within(self.deadline).await {
                Some(Received::Frame(frame)) => frame,
                Some(Received::End(end)) => {
                    panic!("{caller}: {}: a frame was due, but: {end:?}; {}", self.name, self.story())
                }
                None => panic!("{caller}: {}: no frame in {:?}; {}", self.name, self.deadline, self.story()),
            }
        }
    }

    /// The next frame or the end of the connection. Panics when the deadline passes.
    #[track_caller]
    pub fn receive(&mut self) -> impl Future<Output = Received> {
        let caller = Location::caller();
        async move {
            let received = self.receive_within(self.deadline).await;
            let late = || panic!("{caller}: {}: nothing in {:?}; {}", self.name, self.deadline, self.story());
            received.unwrap_or_else(late)
        }
    }

    /// The next frame or the end of the connection, if one comes in time.
    pub async fn receive_within(&mut self, patience: Duration) -> Option<Received> {
        let until = Instant::now() + patience;
        loop {
            if let Some(frame) = self.decoder.take() {
                if self.recent.len() == 5 {
                    self.recent.pop_front();
                }
                self.recent.push_back(format!("{frame:?}"));
                return Some(Received::Frame(frame));
            }
            if let Some(end) = self.end() {
                return Some(Received::End(end));
            }
            timeout_at(until, self.fill()).await.ok()?;
        }
    }

    /// Reads and forgets whatever comes, until the connection ends.
    pub async fn discard_to_end(&mut self) -> End {
        while self.end.is_none() {
            self.decoder.buffer.clear();
            self.fill().await;
        }
        self.decoder.buffer.clear();
        self.end().unwrap_or(End::Eof)
    }

    /// Panics on any frame, and on the end of the connection, within `patience`. For what must *not*
    /// happen: there is no event to wait for.
    #[track_caller]
    pub fn expect_silence(&mut self, patience: Duration) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            if let Some(received) = self.receive_within(patience).await {
                panic!("{caller}: {}: silence was due, but: {received:?}; {}", self.name, self.story());
            }
        }
    }

    /// Reads until the WebSocket has ended and the socket too: answers a Close with the same code
    /// (unless one of ours went out before), wants nothing after it but the end, and ends our side too.
    #[track_caller]
    pub fn closed(&mut self) -> impl Future<Output = Closed> {
        self.read_to_end(true)
    }

    /// As [`Link::closed`], but never answers the Close: the peer has to end it on its own.
    #[track_caller]
    pub fn closed_unanswered(&mut self) -> impl Future<Output = Closed> {
        self.read_to_end(false)
    }

    #[track_caller]
    fn read_to_end(&mut self, answering: bool) -> impl Future<Output = Closed> {
        let caller = Location::caller();
        async move {
            let until = Instant::now() + self.deadline;
            let mut before = Vec::new();
            let mut close = None;
            loop {
                match self.receive_within(until.saturating_duration_since(Instant::now())).await {
                    Some(Received::Frame(frame)) if close.is_some() => {
                        panic!("{caller}: {}: {frame:?} came after the Close; {}", self.name, self.story())
                    }
                    Some(Received::Frame(frame)) if frame.opcode == wire::CLOSE => {
                        close = Some(frame.close_status());
                        if answering && !self.close_sent {
                            // It may have gone by then; what it said stands.
                            let _ = self.try_send_frame(&Frame::new(wire::CLOSE, frame.payload)).await;
                        }
                        if answering && self.role == Role::Server {
                            self.finish_writing().await;
                        }
                    }
                    Some(Received::Frame(frame)) => before.push(frame),
                    Some(Received::End(then)) => {
                        if answering {
                            self.finish_writing().await;
                        }
                        let (code, reason) = close.unwrap_or((1006, String::new()));
                        return Closed { code, reason, then, before };
                    }
                    None => panic!(
                        "{caller}: {}: still open after {:?} (Close: {close:?}, {} frames before it); {}",
                        self.name,
                        self.deadline,
                        before.len(),
                        self.story()
                    ),
                }
            }
        }
    }

    /// Ends the connection with a reset, as a crashed machine or a closed laptop does.
    pub fn reset(self) {
        self.socket.reset_on_drop();
    }

    /// Says "no more" underneath TLS: the peer sees an end without a goodbye.
    pub async fn finish_without_goodbye(&mut self) {
        let _ = self.socket.bare().shutdown().await;
    }

    /// Whatever comes next, or the error that the socket tells, TLS's among them. Panics when nothing comes.
    pub async fn try_read_raw(&mut self) -> io::Result<Vec<u8>> {
        let mut space = vec![0; 16 * 1024];
        let n = timeout(self.deadline, self.socket.read(&mut space)).await.expect("something comes")?;
        space.truncate(n);
        Ok(space)
    }

    /// What TLS agreed upon.
    pub fn tls(&self) -> &CommonState {
        self.socket.tls()
    }

    // ---- underneath

    /// Takes what the socket has (at least something, or its end) into the decoder's buffer.
    async fn fill(&mut self) {
        assert!(self.reading, "{}: a test reads after stop_reading()", self.name);
        poll_fn(|cx| self.poll_fill(cx)).await;
    }

    /// How the connection ended, if it did; to be asked only when no whole frame is left.
    fn end(&self) -> Option<End> {
        self.end.map(|end| match end {
            End::Eof if !self.decoder.buffer.is_empty() => End::EofMidFrame,
            end => end,
        })
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 16 * 1024];
        let mut space = ReadBuf::new(&mut space);
        match std::task::ready!(Pin::new(&mut self.socket).poll_read(cx, &mut space)) {
            Ok(()) if space.filled().is_empty() => {
                self.end = Some(End::Eof);
            }
            Ok(()) => self.decoder.buffer.extend_from_slice(space.filled()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.end = Some(End::Reset),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.end = Some(End::NoGoodbye),
            Err(error) => panic!("{}: reading failed: {error}; {}", self.name, self.story()),
        }
        Poll::Ready(())
    }

    /// What came until now, for a failure's message.
    fn story(&self) -> String {
        let mut story = String::new();
        match self.recent.is_empty() {
            true => story.push_str("no frame came before"),
            false => {
                let _ =
                    write!(story, "last frames: {}", Vec::from_iter(self.recent.iter().cloned()).join(" "));
            }
        }
        if !self.decoder.buffer.is_empty() {
            let shown = &self.decoder.buffer[..self.decoder.buffer.len().min(200)];
            let _ = write!(story, "; {} bytes left: \"{}\"", self.decoder.buffer.len(), shown.escape_ascii());
        }
        story
    }
}
