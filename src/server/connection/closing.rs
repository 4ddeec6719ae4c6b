//! A Close in place of a connection: writes it after the 101, and waits until it has arrived.
//!
//! # Not here
//! Which refusals are sent so, and the 101 (`request::refusal_close`); which clients find no session ([`super::upgrade`]).

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::frame::{CloseCode, ControlFrame, Header, Opcode};
use crate::net::Transport;

/// How long a client may take to answer the Close, and how many bytes it may send before it does.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_READ: usize = 8 << 10;

/// Sends the Close, and waits until the client answers it or ends the connection, or a bound is met.
pub(super) async fn close(client: Transport, code: CloseCode, reason: &str) {
    let Transport { mut stream, read_ahead } = client;
    let closing = async {
        stream.write_all(ControlFrame::close(code, reason, None).as_bytes()).await?;
        stream.flush().await?;
        let mut received = Vec::from(&read_ahead[..read_ahead.len().min(MAX_READ)]);
        while received.len() < MAX_READ && !has_close(&received) {
            if stream.read_buf(&mut received).await? == 0 {
                break;
            }
        }
        stream.shutdown().await
    };
    // A client that does not read the Close in time does not get it.
    let _ = timeout(CLOSE_TIMEOUT, Box::pin(closing)).await;
}

/// Writes the beginning of an event stream, and ends it there.
pub(super) async fn end_stream(client: Transport, preface: &[u8]) {
    let Transport { mut stream, .. } = client;
    let ending = async {
        stream.write_all(preface).await?;
        stream.flush().await?;
        stream.shutdown().await
    };
    let _ = timeout(CLOSE_TIMEOUT, Box::pin(ending)).await;
}

/// Whether there is a Close among these frames, or something that is not a frame: no Close can follow that.
fn has_close(mut received: &[u8]) -> bool {
    loop {
        match Header::parse(received) {
            Err(_) => return true,
            Ok(None) => return false,
            Ok(Some(header)) if header.opcode == Opcode::Close => return true,
            Ok(Some(header)) => {
                let payload = usize::try_from(header.payload).unwrap_or(usize::MAX);
                let Some(rest) = received.get(header.size.saturating_add(payload)..) else { return false };
                received = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_found_among_other_frames_wherever_they_are_cut() {
        let text = b"\x81\x85\x00\x00\x00\x00hello".as_slice();
        let long = [b"\x82\xfe\x01\x00\x00\x00\x00\x00".as_slice(), &[b'x'; 256]].concat();
        let close = b"\x88\x82\x00\x00\x00\x00\x03\xe8".as_slice();
        let received = [text, &long, text, close].concat();
        let before = received.len() - close.len();
        for cut in 0..=received.len() {
            // Its header is enough.
            assert_eq!(has_close(&received[..cut]), cut >= before + 6, "cut at {cut}");
        }
        assert!(has_close(b"\x09\x80"), "nothing sensible comes after a broken frame");
        assert!(!has_close(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00"));
    }
}
