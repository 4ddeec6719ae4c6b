//! A hop over TLS.
//!
//! # Invariants
//! 1. An idle stream owns no buffer: what comes is decrypted in the thread's scratch, what goes is encrypted
//!    there; only what the socket does not take, or the reader, or the beginning of a record is kept.
//! 2. A write that is accepted may not have left: [`Tls::unsent`] says how much. Nothing more is accepted
//!    until it has.
//! 3. An end without close_notify is an error (`UnexpectedEof`), which a caller may overlook.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::certificate;
use super::error::HandshakeError;
use super::records::{ByteQueue, End, Outgoing, Records};
use super::scratch::{self, HELD, MAX_PLAINTEXT, READ};
use crate::net::Stream;

/// Read at once at the least: shorter records would cost a system call each.
const MIN_READ: usize = 4 * 1024;

/// The least that a record takes beside what it says: a header of five bytes, and a tag.
const MIN_OVERHEAD: usize = 5 + 16;

/// The most plaintext in a record (RFC 8446 §5.1), which is how rustls cuts what it encrypts.
const MAX_RECORD: usize = 16 * 1024;

/// What both sides agreed to speak (ALPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `http/1.1`, or nothing was said.
    Http1,
    /// `h2`
    Http2,
}

/// A connection over TLS, in either direction.
pub struct Tls {
    socket: Stream,
    records: Records,
    /// The beginning of something that is not whole yet.
    incoming: Vec<u8>,
    /// Decrypted, and not taken by the reader.
    plain: ByteQueue,
    /// Encrypted bytes that the kernel took, ever.
    sent: u64,
    /// The newest write: how long it was, how long its records are, and what `sent` is once the last of them has left.
    newest_write: u32,
    newest_records: u32,
    newest_write_ends: u64,
    /// Records that came since this was last asked, estimated from what they take beside their plaintext: so those
    /// count as well that carry none, as those do that change keys.
    records_read: u32,
    /// The first byte that came.
    first: Option<u8>,
    has_sent_close_notify: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("socket", &self.socket).field("unsent", &self.unsent()).finish()
    }
}

/// How bytes reach the socket: when it says that it is ready, or at once.
type Push<'a> = &'a mut dyn FnMut(&mut Stream, &[u8]) -> Poll<io::Result<usize>>;

impl Tls {
    /// Shakes hands over `socket`. Gives the socket back if that fails.
    pub(super) async fn handshake(socket: Stream, end: End) -> Result<Box<Self>, (HandshakeError, Stream)> {
        let mut tls = Box::new(Self {
            socket,
            records: Records::new(end),
            incoming: Vec::new(),
            plain: ByteQueue::default(),
            sent: 0,
            newest_write: 0,
            newest_records: 0,
            newest_write_ends: 0,
            records_read: 0,
            first: None,
            has_sent_close_notify: false,
        });
        match std::future::poll_fn(|cx| tls.poll_handshake(cx)).await {
            Ok(()) => Ok(tls),
            Err(error) => Err((error, tls.socket)),
        }
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        if self.first.is_none() {
            // A client speaks first.
            self.records.decrypt(&mut [], &mut |_| {}).map_err(HandshakeError::from_rustls)?;
        }
        loop {
            ready!(self.poll_unsent(cx)).map_err(HandshakeError::Io)?;
            if !self.records.state().is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            let error = match ready!(self.fill(cx, None)) {
                Ok(true) => continue,
                Ok(false) => return Poll::Ready(Err(HandshakeError::Ended)),
                Err(error) => error,
            };
            let first = self.first.filter(|_| self.records.is_server());
            let error = HandshakeError::of(error, first);
            if !matches!(error, HandshakeError::Plaintext) {
                // The alert that says why, if it can be sent at once.
                let _ = self.poll_unsent(cx);
            }
            return Poll::Ready(Err(error));
        }
    }

    /// Reads once from the socket and decrypts what is whole, into `buf` as far as it goes. False at the
    /// end of the socket's stream.
    fn fill(&mut self, cx: &mut Context<'_>, mut buf: Option<&mut ReadBuf<'_>>) -> Poll<io::Result<bool>> {
        let Self { socket, records, incoming, plain, first, records_read: count, .. } = self;
        scratch::with(|scratch| {
            let held = incoming.len();
            let room = buf.as_ref().map_or(MIN_READ, |buf| buf.remaining().clamp(MIN_READ, READ));
            if held > HELD {
                return Poll::Ready(Err(broken(rustls::Error::General("a message without an end".into()))));
            }
            let mut into = ReadBuf::new(&mut scratch[held..held + room]);
            ready!(Pin::new(socket).poll_read(cx, &mut into))?;
            let n = into.filled().len();
            if n == 0 {
                return Poll::Ready(Ok(false));
            }
            if is_short(incoming, n) {
                // Nothing to decrypt yet: a peer that sends single bytes costs no copy of all before them.
                incoming.extend_from_slice(&scratch[held..held + n]);
                return Poll::Ready(Ok(true));
            }
            scratch[..held].copy_from_slice(incoming);
            // Its memory too.
            *incoming = Vec::new();
            let received = &mut scratch[..held + n];
            first.get_or_insert(received[0]);
            let mut decrypted_bytes = 0;
            let decrypted = records.decrypt(received, &mut |bytes| {
                decrypted_bytes += bytes.len();
                let fits = buf.as_ref().map_or(0, |buf| buf.remaining().min(bytes.len()));
                if let Some(buf) = &mut buf {
                    buf.put_slice(&bytes[..fits]);
                }
                plain.push(&bytes[fits..]);
            });
            let used = decrypted.map_err(broken)?;
            *count = count.saturating_add((used.saturating_sub(decrypted_bytes) / MIN_OVERHEAD) as u32);
            if !records.has_peer_ended {
                incoming.extend_from_slice(&received[used..]);
            }
            Poll::Ready(Ok(true))
        })
    }

    /// Sends what is encrypted.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.drain(&mut |socket, bytes| Pin::new(socket).poll_write(cx, bytes))
    }

    fn drain(&mut self, push: Push<'_>) -> Poll<io::Result<()>> {
        while !self.records.unsent.is_empty() {
            let n = ready!(push(&mut self.socket, self.records.unsent.front()))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += n as u64;
            self.records.unsent.take(n);
        }
        Poll::Ready(Ok(()))
    }

    /// Encrypts `outgoing` and pushes it as far as it goes; the rest is `unsent`.
    fn send(&mut self, outgoing: Outgoing<'_>, push: Push<'_>) -> io::Result<()> {
        let Self { socket, records, incoming, plain, sent, .. } = self;
        scratch::with(|scratch| {
            let len = records
                .encrypt(incoming, outgoing, scratch, &mut |bytes| plain.push(bytes))
                .map_err(broken)?;
            let encrypted = &scratch[..len];
            let mut at = 0;
            while at < len && records.unsent.is_empty() {
                match push(socket, &encrypted[at..]) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(Ok(n)) => {
                        at += n;
                        *sent += n as u64;
                    }
                    Poll::Ready(Err(error)) => return Err(error),
                }
            }
            records.unsent.push(&encrypted[at..]);
            Ok(())
        })
    }

    fn write(&mut self, bytes: &[u8], push: Push<'_>) -> Poll<io::Result<usize>> {
        ready!(self.drain(push))?;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let n = bytes.len().min(MAX_PLAINTEXT);
        let before = self.sent;
        self.send(Outgoing::Data(&bytes[..n]), push)?;
        self.newest_write = n as u32;
        self.newest_write_ends = self.sent + self.unsent() as u64;
        self.newest_records = (self.newest_write_ends - before) as u32;
        Poll::Ready(Ok(n))
    }

    /// As [`Stream::write_now`].
    pub(in crate::net) fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.write(bytes, &mut |socket, bytes| would_block(socket.write_now(bytes))) {
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            Poll::Ready(result) => result,
        }
    }

    /// Sends close_notify if that takes no waiting: no answer to it is read.
    pub(in crate::net) fn send_close_notify(&mut self) {
        if !self.has_sent_close_notify && self.records.unsent.is_empty() {
            self.has_sent_close_notify = true;
            // A peer that is gone reads none.
            let _ =
                self.send(Outgoing::CloseNotify, &mut |socket, bytes| would_block(socket.write_now(bytes)));
        }
    }

    /// Accepted and encrypted, but not with the kernel.
    pub fn unsent(&self) -> usize {
        self.records.unsent.len()
    }

    /// As [`Stream::unsent_data`]. A write is accepted only when all before it has left: this is the end of the newest one.
    pub(in crate::net) fn unsent_data(&self) -> usize {
        let left = self.newest_write_ends.saturating_sub(self.sent) as usize;
        if left == 0 {
            0
        } else {
            unsent_data(self.newest_write as usize, self.newest_records as usize, left)
        }
    }

    /// Bytes that this stream holds, in either direction.
    pub fn held(&self) -> usize {
        self.unsent() + self.plain.len() + self.incoming.len()
    }

    /// Encrypted bytes that the kernel took, ever.
    pub(in crate::net) fn sent(&self) -> u64 {
        self.sent
    }

    /// As [`Stream::take_records`].
    pub(in crate::net) fn take_records(&mut self) -> u32 {
        std::mem::take(&mut self.records_read)
    }

    /// What it runs over.
    pub(in crate::net) fn socket(&self) -> &Stream {
        &self.socket
    }

    /// Whether the peer has sent its close_notify.
    pub(in crate::net) fn has_peer_ended(&self) -> bool {
        self.records.has_peer_ended
    }

    /// What is spoken over it.
    pub fn protocol(&self) -> Protocol {
        match self.records.state().alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        }
    }

    /// Whose certificate the peer showed, which was verified: the one common name, or the whole name where
    /// there is none or more than one. None if no header could carry it.
    pub fn subject(&self) -> Option<Arc<str>> {
        certificate::subject(self.records.state().peer_certificates()?.first()?)
    }
}

/// Whether the record that `held` begins with, and whose header rustls has seen, is not whole with `n` more.
fn is_short(held: &[u8], n: usize) -> bool {
    let &[_, _, _, high, low, ..] = held else { return false };
    held.len() + n < 5 + usize::from(u16::from_be_bytes([high, low]))
}

/// How much of `data` bytes is in records of which not all has left: together these are `records` bytes long, the last `left`
/// of which are still here. All records but the last are full, and each adds as much.
fn unsent_data(data: usize, records: usize, left: usize) -> usize {
    let count = data.div_ceil(MAX_RECORD).max(1);
    let overhead = records.saturating_sub(data);
    if !overhead.is_multiple_of(count) {
        // Keys were changed in between: where is not known, so that all may be there.
        return 0;
    }
    let whole = records.saturating_sub(left) / (MAX_RECORD + overhead / count);
    data.saturating_sub(whole * MAX_RECORD)
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn would_block(result: io::Result<usize>) -> Poll<io::Result<usize>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl AsyncRead for Tls {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        loop {
            let n = this.plain.len().min(buf.remaining());
            buf.put_slice(&this.plain.front()[..n]);
            this.plain.take(n);
            if buf.filled().len() > before || buf.remaining() == 0 || this.records.has_peer_ended {
                return Poll::Ready(Ok(()));
            }
            let filled = ready!(this.fill(cx, Some(buf)));
            if !this.records.unsent.is_empty() {
                // What the peer asked for, or why it is not listened to; an error shows when it is written.
                let _ = this.poll_unsent(cx);
            }
            if !filled? {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

impl AsyncWrite for Tls {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write(buf, &mut |socket, bytes| Pin::new(socket).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_unsent(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(cx))?;
        if !this.has_sent_close_notify {
            this.has_sent_close_notify = true;
            this.send(Outgoing::CloseNotify, &mut |socket, bytes| Pin::new(socket).poll_write(cx, bytes))?;
            ready!(this.poll_unsent(cx))?;
        }
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_into_a_record_is_there_with_the_last_byte_of_it() {
        const FULL: usize = MAX_RECORD + 22;
        // data, its records, how much of these is here, how much data that is
        let cases = [
            (1, 23, 23, 1),
            (1, 23, 1, 1),
            (MAX_RECORD, FULL, FULL, MAX_RECORD),
            (MAX_RECORD, FULL, 1, MAX_RECORD),
            (MAX_RECORD + 1, FULL + 23, FULL + 23, MAX_RECORD + 1),
            (MAX_RECORD + 1, FULL + 23, 24, MAX_RECORD + 1),
            (MAX_RECORD + 1, FULL + 23, 23, 1),
            (MAX_RECORD + 1, FULL + 23, 1, 1),
            (3 * MAX_RECORD, 3 * FULL, 2 * FULL + 1, 3 * MAX_RECORD),
            (3 * MAX_RECORD, 3 * FULL, 2 * FULL, 2 * MAX_RECORD),
            (3 * MAX_RECORD, 3 * FULL, FULL + 1, 2 * MAX_RECORD),
            (3 * MAX_RECORD, 3 * FULL, 1, MAX_RECORD),
            // Something else was encrypted along with it.
            (MAX_RECORD + 1, FULL + 23 + 27, 100, 0),
        ];
        for (data, records, left, unsent) in cases {
            assert_eq!(unsent_data(data, records, left), unsent, "{data} in {records}, {left} left");
        }
    }
}
