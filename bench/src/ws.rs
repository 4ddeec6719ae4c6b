//! Just enough of RFC 6455 to load a proxy cheaply, for both ends: the clients and the upstream.
//!
//! # Not here
//! Any check that a well-behaved peer makes needless: both ends are ours.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::events;

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
pub const FIN: u8 = 0x80;

/// Size of the buffer that one read(2) fills.
pub const SCRATCH: usize = 256 * 1024;

/// Every client sends the sample key of the RFC: the expected answer is then a constant.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// One fixed mask, not zero: clients mask their frames ahead of time, proxies do their usual work.
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What stands before a frame's payload.
#[derive(Debug, PartialEq)]
pub struct Head {
    /// FIN, RSV and opcode.
    pub first: u8,
    pub mask: Option<[u8; 4]>,
    /// Bytes of the head itself.
    pub size: usize,
    /// Bytes of the payload.
    pub len: usize,
}

impl Head {
    pub fn opcode(&self) -> u8 {
        self.first & 0x0f
    }
    pub fn is_data(&self) -> bool {
        self.opcode() <= BINARY
    }
    pub fn ends_message(&self) -> bool {
        self.first & FIN != 0
    }
}

/// `None` when more bytes are needed.
pub fn parse_head(b: &[u8]) -> Option<Head> {
    let second = *b.get(1)?;
    let (len, mut size) = match second & 0x7f {
        126 => (u16::from_be_bytes(*b.get(2..)?.first_chunk()?) as usize, 4),
        127 => (u64::from_be_bytes(*b.get(2..)?.first_chunk()?) as usize, 10),
        n => (n as usize, 2),
    };
    let mut mask = None;
    if second & 0x80 != 0 {
        mask = Some(*b.get(size..)?.first_chunk()?);
        size += 4;
    }
    Some(Head { first: b[0], mask, size, len })
}

pub fn put_head(out: &mut Vec<u8>, first: u8, len: usize, mask: Option<[u8; 4]>) {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    out.push(first);
    match len {
        0..=125 => out.push(bit | len as u8),
        126..=65535 => {
            out.push(bit | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(bit | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(mask.as_ref().map_or(&[], |m| m));
}

pub fn xor(buf: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from(u32::from_ne_bytes(mask)) * 0x1_0000_0001;
    let (chunks, rest) = buf.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, m) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= m;
    }
}

/// A whole, masked frame as a client sends it.
pub fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    put_head(&mut frame, FIN | opcode, payload.len(), Some(MASK));
    let at = frame.len();
    frame.extend_from_slice(payload);
    xor(&mut frame[at..], MASK);
    frame
}

/// 16 lower-case hex digits, valid in text frames too.
pub fn hex16(n: u64) -> [u8; 16] {
    std::array::from_fn(|i| b"0123456789abcdef"[(n >> (60 - 4 * i)) as usize & 15])
}

pub fn from_hex16(b: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(b.get(..16)?).ok()?, 16).ok()
}

pub fn accept_for(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Length of an HTTP head with its empty line, once it is there.
pub fn http_head_len(b: &[u8]) -> Option<usize> {
    b.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (n, value) = line.split_once(':')?;
        n.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Bytes received and not yet consumed.
#[derive(Default)]
pub struct Inbox {
    pub left: Vec<u8>,
}

impl Inbox {
    /// One read(2), then `on_frame` for every complete frame; `Ok(false)` at the end of the stream.
    /// Complete frames are seen in `scratch` itself: only a partial one is copied aside.
    pub fn read_frames(
        &mut self,
        mut sock: &TcpStream,
        scratch: &mut [u8],
        mut on_frame: impl FnMut(&Head, &[u8]),
    ) -> io::Result<bool> {
        let fresh = self.left.is_empty();
        let n = if fresh {
            sock.read(scratch)
        } else {
            let have = self.left.len();
            let want = parse_head(&self.left).map_or(0, |h| (h.size + h.len).saturating_sub(have));
            self.left.resize(have + want.max(16 * 1024), 0);
            let read = sock.read(&mut self.left[have..]);
            self.left.truncate(have + *read.as_ref().unwrap_or(&0));
            read
        };
        match n {
            Ok(0) => return Ok(false),
            Ok(n) if fresh => {
                let used = frames_in(&scratch[..n], &mut on_frame);
                self.left.extend_from_slice(&scratch[used..n]);
            }
            Ok(_) => self.parse_left(on_frame),
            Err(e) if would_block(&e) => {}
            Err(e) => return Err(e),
        }
        Ok(true)
    }

    /// The same for an event stream, whose messages are shown as if they came in frames.
    pub fn read_events(
        &mut self,
        mut sock: &TcpStream,
        scratch: &mut [u8],
        mut on_message: impl FnMut(&Head, &[u8]),
    ) -> io::Result<bool> {
        match sock.read(scratch) {
            Ok(0) => return Ok(false),
            Ok(n) if self.left.is_empty() => {
                let used = events::in_stream(&scratch[..n], &mut on_message);
                self.left.extend_from_slice(&scratch[used..n]);
            }
            Ok(n) => {
                self.left.extend_from_slice(&scratch[..n]);
                let used = events::in_stream(&self.left, &mut on_message);
                self.left.drain(..used);
            }
            Err(e) if would_block(&e) => {}
            Err(e) => return Err(e),
        }
        Ok(true)
    }

    pub fn parse_left(&mut self, mut on_frame: impl FnMut(&Head, &[u8])) {
        let used = frames_in(&self.left, &mut on_frame);
        self.left.drain(..used);
    }
}

fn frames_in(buf: &[u8], on_frame: &mut impl FnMut(&Head, &[u8])) -> usize {
    let mut at = 0;
    while let Some(head) = parse_head(&buf[at..]) {
        let Some(payload) = buf[at + head.size..].get(..head.len) else { break };
        on_frame(&head, payload);
        at += head.size + head.len;
    }
    at
}

pub fn would_block(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Bytes the socket did not take yet.
#[derive(Default)]
pub struct Outbox {
    pub left: Vec<u8>,
}

impl Outbox {
    /// Sends `data` as far as the socket takes it now, and keeps the rest.
    pub fn send(&mut self, mut sock: &TcpStream, data: &[u8]) -> io::Result<()> {
        if !self.left.is_empty() {
            self.left.extend_from_slice(data);
            return Ok(());
        }
        match sock.write(data) {
            Ok(n) => self.left.extend_from_slice(&data[n..]),
            Err(e) if would_block(&e) => self.left.extend_from_slice(data),
            Err(e) => return Err(e),
        }
        Ok(())
    }

    pub fn flush(&mut self, mut sock: &TcpStream) -> io::Result<()> {
        match sock.write(&self.left) {
            Ok(n) => drop(self.left.drain(..n)),
            Err(e) if would_block(&e) => {}
            Err(e) => return Err(e),
        }
        if self.left.is_empty() && self.left.capacity() > 1 << 20 {
            self.left = Vec::new();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_at_every_length_and_never_before_it_is_whole() {
        for len in [0, 1, 125, 126, 65535, 65536] {
            for mask in [None, Some(MASK)] {
                let mut wire = Vec::new();
                put_head(&mut wire, FIN | BINARY, len, mask);
                for cut in 0..wire.len() {
                    assert_eq!(parse_head(&wire[..cut]), None, "length {len}, cut at {cut}");
                }
                let head = Head { first: FIN | BINARY, mask, size: wire.len(), len };
                assert_eq!(parse_head(&wire), Some(head));
            }
        }
    }

    #[test]
    fn the_sample_key_has_the_sample_answer() {
        assert_eq!(accept_for(KEY), ACCEPT);
    }

    #[test]
    fn masking_twice_gives_the_payload_back() {
        let plain: Vec<u8> = (0..23).collect();
        let frame = client_frame(BINARY, &plain);
        let mut payload = frame[6..].to_vec();
        assert_ne!(payload, plain);
        xor(&mut payload, MASK);
        assert_eq!(payload, plain);
    }

    #[test]
    fn a_number_survives_its_hex_digits() {
        for n in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(from_hex16(&hex16(n)), Some(n));
        }
    }
}
