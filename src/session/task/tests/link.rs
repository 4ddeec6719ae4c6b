//! The two ends that a session is between, each a raw WebSocket.

use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::*;

enum Socket {
    /// Takes as little at once as it was made for.
    Pipe(DuplexStream),
    Unix(UnixStream),
    Dropped,
}

/// A client or a server.
pub(super) struct Peer {
    socket: Socket,
    /// Whether it is a client.
    masks: bool,
    heard: Vec<u8>,
    /// It was told that no more will come.
    pub(super) is_ended: bool,
}

/// Polls once, for an answer at once: the test is not woken, and not under the runtime's budget either.
fn at_once<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    pin!(unconstrained(poll_fn(|cx| poll(cx)))).poll(&mut Context::from_waker(Waker::noop()))
}

impl Peer {
    /// One that takes so many bytes at once, and the session's end of it.
    pub(super) fn pipe(room: usize, masks: bool) -> (Transport, Self) {
        let (ours, theirs) = tokio::io::duplex(room);
        let transport = Transport { stream: Stream::Scripted(ours), read_ahead: bytes::Bytes::new() };
        (transport, Self::new(Socket::Pipe(theirs), masks))
    }

    fn new(socket: Socket, masks: bool) -> Self {
        Self { socket, masks, heard: Vec::new(), is_ended: false }
    }

    /// Writes as much as there is room for. What the other end has dropped goes nowhere, and is not counted.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            let rest = &bytes[written..];
            let taken = match &mut self.socket {
                Socket::Pipe(pipe) => match at_once(|cx| Pin::new(&mut *pipe).poll_write(cx, rest)) {
                    Poll::Ready(taken) => taken,
                    Poll::Pending => break,
                },
                Socket::Unix(socket) => socket.write(rest),
                Socket::Dropped => break,
            };
            match taken {
                Ok(taken) => written += taken,
                Err(_) => break,
            }
        }
        written
    }

    /// One whole frame.
    pub(super) fn say(&mut self, first: u8, payload: &[u8]) {
        let frame = self.frame(first, payload);
        assert_eq!(self.write(&frame), frame.len(), "there is room");
    }

    pub(super) fn text(&mut self, text: &str) {
        self.say(0x81, text.as_bytes());
    }

    pub(super) fn frame(&self, first: u8, payload: &[u8]) -> Vec<u8> {
        frame(first, payload, self.masks)
    }

    /// Reads what has come, but no more than this. Answers how much it was.
    pub(super) fn read(&mut self, most: usize) -> usize {
        let mut chunk = [0; 4096];
        let mut read = 0;
        while read < most {
            let room = &mut chunk[..(most - read).min(4096)];
            let count = match &mut self.socket {
                Socket::Pipe(pipe) => {
                    let mut buf = ReadBuf::new(room);
                    match at_once(|cx| Pin::new(&mut *pipe).poll_read(cx, &mut buf)) {
                        Poll::Ready(result) => result.map(|()| buf.filled().len()),
                        Poll::Pending => break,
                    }
                }
                Socket::Unix(socket) => socket.read(room),
                Socket::Dropped => break,
            };
            match count {
                Ok(count) if count > 0 => {
                    self.heard.extend_from_slice(&chunk[..count]);
                    read += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => {
                    self.is_ended = true;
                    break;
                }
            }
        }
        read
    }

    /// The whole frames among what it has read.
    pub(super) fn frames(&mut self) -> Vec<(u8, Vec<u8>)> {
        stage::take_frames(&mut self.heard, Some(!self.masks))
    }

    /// The whole frames that have come since the last call.
    pub(super) fn hear(&mut self) -> Vec<(u8, Vec<u8>)> {
        self.read(usize::MAX);
        self.frames()
    }

    /// What it has of a frame that is not whole.
    pub(super) fn half(&self) -> usize {
        self.heard.len()
    }

    /// It is gone, without a word.
    pub(super) fn cut(&mut self) {
        self.socket = Socket::Dropped;
    }

    pub(super) fn is_cut(&self) -> bool {
        matches!(self.socket, Socket::Dropped)
    }
}

/// A dial, as the server sees it.
pub(super) struct Asked {
    socket: UnixStream,
    request: Vec<u8>,
}

impl Asked {
    pub(super) fn new(socket: UnixStream) -> Self {
        socket.set_nonblocking(true).unwrap();
        Self { socket, request: Vec::new() }
    }

    pub(super) fn is_whole(&mut self) -> bool {
        // Of a dial that was given up there is an end, and no whole request.
        stage::read_all(&mut self.socket, &mut self.request);
        self.request.ends_with(b"\r\n\r\n")
    }

    /// The server says `early` with its 101.
    pub(super) fn accept(mut self, early: &[u8]) -> Peer {
        let request = String::from_utf8(std::mem::take(&mut self.request)).unwrap();
        let key = request
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-key").then_some(value.trim()))
            .expect("a key");
        let accept = derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        let mut peer = Peer::new(Socket::Unix(self.socket), false);
        // Whoever has dialled may not want it any more.
        peer.write(&[answer.as_bytes(), early].concat());
        peer
    }

    pub(super) fn decline(mut self, status: u16) {
        let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
        let _ = self.socket.write_all(answer.as_bytes());
    }
}
