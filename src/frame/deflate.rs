//! permessage-deflate without context takeover (RFC 7692 §7): each message is compressed by itself, so that one
//! compressed frame serves every client.
//!
//! # Invariants
//! 1. No connection owns a compressor or a window: each thread has one of each, which a message borrows.
//! 2. Inflating stops at its bound, and memory is taken in steps, for what has come out.
//!
//! # Why without context takeover?
//! With a window for each client there would be as many compressions as deliveries, and 32 KiB or more for each
//! client.
//!
//! # Not here
//! Where RSV1 may stand (`rules`).

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::encode;
use super::header::ProtocolError;
use super::message::Kind;

const NAME: &str = "permessage-deflate";

/// The answers to an offer without `server_max_window_bits`, and to one that asks for the full window, which has to be
/// confirmed.
const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
const ANSWER_WITH_WINDOW: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15";

/// The window that deflate has at most, and that both directions have here.
const WINDOW_BITS: u8 = 15;

/// A message is compressed once, however many clients get it: level 3 takes two to three times as long as 1 (some 20 µs for 1 KB
/// of JSON), which is less than the writes to five clients, and leaves a quarter fewer bytes for each of them.
/// Level 1 makes a JSON text of 100 bytes no smaller at all; above 3 only the time grows.
const LEVEL: u32 = 3;

/// A shorter payload is sent as it is: deflate saves nothing that is worth the client's work.
const MIN_PAYLOAD: usize = 32;

/// The end of a sync flush, which is left out on the wire (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The tail with a final block behind it: unless the stream ends exactly there, something was missing.
const TAIL_AND_END: [u8; 9] = [0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff];

/// What deflate adds to any message: the heads and ends of blocks, and the tail.
const OVERHEAD: usize = 64;

/// Memory for the first bytes that come out, and the most that a thread keeps of its buffer.
const INITIAL_CAPACITY: usize = 1024;
const MAX_KEPT: usize = 256 * 1024;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor>> = const { RefCell::new(None) };
    static INFLATER: RefCell<Option<Decompress>> = const { RefCell::new(None) };
}

/// Accepts the first acceptable one of a client's offers (the values of its `Sec-WebSocket-Extensions`, in order), and
/// answers the value of our own header. Offers that want a smaller window of us are declined, as are unknown parameters.
pub(crate) fn accept<'a>(offers: impl IntoIterator<Item = &'a str>) -> Option<&'static str> {
    offers.into_iter().flat_map(|value| split(value, ',')).find_map(accept_offer)
}

/// One offer: `permessage-deflate` and its parameters (RFC 7692 §7.1).
fn accept_offer(offer: &str) -> Option<&'static str> {
    let mut parts = split(offer, ';').map(str::trim_ascii);
    if parts.next() != Some(NAME) {
        return None;
    }
    let mut seen: [&str; 4] = [""; 4];
    let mut answer = ANSWER;
    for (at, part) in parts.enumerate() {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim_ascii_end(), Some(value.trim_ascii_start())),
            None => (part, None),
        };
        // Four are known and none may be repeated, so the array has room for the next one.
        if seen.contains(&name) {
            return None;
        }
        *seen.get_mut(at)? = name;
        match (name, value) {
            (
                "server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits",
                None,
            ) => {}
            // Whatever the client's window is, the largest one inflates it.
            ("client_max_window_bits", Some(value)) => drop(window_bits(value)?),
            ("server_max_window_bits", Some(value)) if window_bits(value)? == WINDOW_BITS => {
                answer = ANSWER_WITH_WINDOW;
            }
            _ => return None,
        }
    }
    Some(answer)
}

/// 8 to 15, without leading zeros, quoted or not.
fn window_bits(value: &str) -> Option<u8> {
    let value = match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"')?,
        None => value,
    };
    ["8", "9", "10", "11", "12", "13", "14", "15"]
        .iter()
        .position(|bits| *bits == value)
        .map(|at| at as u8 + 8)
}

/// The parts of `text` between separators that stand outside quoted strings.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |c| {
        if is_escaped {
            is_escaped = false;
        } else if is_quoted && c == '\\' {
            is_escaped = true;
        } else if c == '"' {
            is_quoted = !is_quoted;
        }
        c == separator && !is_quoted
    })
}

/// One final frame of a server, compressed (RSV1 set); `None` where that makes it no smaller.
pub(crate) fn message(kind: Kind, payload: &[u8]) -> Option<Bytes> {
    if payload.len() < MIN_PAYLOAD {
        return None;
    }
    COMPRESSOR.with_borrow_mut(|compressor| {
        let compressor = compressor.get_or_insert_with(Compressor::new);
        let frame = compressor
            .compress(payload)
            .map(|compressed| encode::frame(kind, encode::RSV1, compressed, None));
        compressor.shrink();
        frame
    })
}

fn new_state() -> Compress {
    Compress::new_with_window_bits(Compression::new(LEVEL), false, WINDOW_BITS)
}

/// A thread's compressor, and what came out of it.
struct Compressor {
    state: Compress,
    out: Vec<u8>,
}

impl Compressor {
    fn new() -> Self {
        Self { state: new_state(), out: Vec::new() }
    }

    /// The compressed payload, if it is smaller.
    fn compress(&mut self, payload: &[u8]) -> Option<&[u8]> {
        self.out.clear();
        // Nine bits a byte is the most that comes out. There has to be room for it although such a result is not used: a
        // compressor with output that it could not write is not clean after a reset (zlib-rs 0.6.8).
        self.out.reserve_exact(payload.len() + payload.len() / 8 + OVERHEAD);
        let flushed = self.state.compress_vec(payload, &mut self.out, FlushCompress::Sync);
        let is_complete = flushed.is_ok()
            && self.state.total_in() == payload.len() as u64
            && self.out.len() < self.out.capacity();
        if !is_complete {
            // Since there was room for any output, the compressor is broken: it is not used again.
            self.state = new_state();
            return None;
        }
        self.state.reset();
        let compressed = self.out.strip_suffix(&TAIL)?;
        (compressed.len() < payload.len()).then_some(compressed)
    }

    fn shrink(&mut self) {
        if self.out.capacity() > MAX_KEPT {
            self.out = Vec::new();
        }
    }
}

/// Appends to `into` what `payload` inflates to.
///
/// # Errors
/// It is not deflate, or comes to more than `max` bytes. `into` then holds what was inflated before that.
pub(crate) fn inflate(payload: &[u8], max: u64, into: &mut Vec<u8>) -> Result<(), ProtocolError> {
    if payload.is_empty() {
        // An empty message is one byte (RFC 7692 §7.2.3.6); without that byte it is still unambiguous.
        return Ok(());
    }
    INFLATER.with_borrow_mut(|state| {
        let state = state.get_or_insert_with(|| Decompress::new_with_window_bits(false, WINDOW_BITS));
        state.reset(false);
        inflate_with(state, payload, max, into)
    })
}

fn inflate_with(
    state: &mut Decompress,
    payload: &[u8],
    max: u64,
    into: &mut Vec<u8>,
) -> Result<(), ProtocolError> {
    let start = into.len();
    let (mut input, mut is_tail) = (payload, false);
    loop {
        if into.len() == into.capacity() {
            // The buffer doubles, so that a decompression bomb has to grow, and has one byte beyond `max` at most, which is
            // enough to see that it is exceeded.
            let out = into.len() - start;
            let most = usize::try_from(max - out as u64).map_or(usize::MAX, |left| left.saturating_add(1));
            into.reserve_exact(out.max(INITIAL_CAPACITY).min(most));
        }
        let (taken, given) = (state.total_in(), into.len());
        let status = state
            .decompress_vec(input, into, FlushDecompress::None)
            .map_err(|_| ProtocolError::InvalidDeflate)?;
        let taken = (state.total_in() - taken) as usize;
        input = &input[taken..];
        if (into.len() - start) as u64 > max {
            return Err(ProtocolError::MessageTooLarge { limit: max });
        }
        match status {
            Status::StreamEnd if input.is_empty() => return Ok(()),
            Status::StreamEnd if is_tail => return Err(ProtocolError::InvalidDeflate),
            // More blocks may follow one that is marked as final (RFC 7692 §7.2.3.4).
            Status::StreamEnd => state.reset(false),
            Status::Ok | Status::BufError if into.len() == into.capacity() => {}
            Status::Ok | Status::BufError if input.is_empty() && !is_tail => {
                (input, is_tail) = (&TAIL_AND_END, true);
            }
            Status::Ok | Status::BufError if taken > 0 && !input.is_empty() || into.len() > given => {}
            Status::Ok | Status::BufError => return Err(ProtocolError::InvalidDeflate),
        }
    }
}

#[cfg(test)]
mod tests;
