//! Refusals that a browser can read: it hides the status of a handshake that failed, and shows the code of a
//! Close. So the handshake succeeds, and a Close is all that comes.
//!
//! # Invariants
//! 1. What is accepted so is no connection: it has no upstream, no place in the registry, and counts as the
//!    refusal that it is.
//! 2. It is no amplifier: one answer and one Close, a few hundred bytes, whatever the client sends. It costs a
//!    buffer and a socket for [`PATIENCE`], and at most `listen.max_refusals` at the same time: others get the
//!    status.
//!
//! # Not here
//! What is refused, and in which words ([`crate::admission::Refused`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::handshake;
use crate::admission::Refused;
use crate::config::CloseCodes;
use crate::frame::{CloseCode, ControlFrame, Header, Opcode, accept_for};
use crate::net::Transport;
use crate::net::http::{X_OUTRIGGER_REASON, switching_protocols, tokens};
use crate::telemetry::Metrics;

/// How long a client may take to answer the Close, and how much it may say before it does.
const PATIENCE: Duration = Duration::from_secs(2);
const MOST: usize = 8 << 10;

/// Those who are being told at the moment.
#[derive(Debug)]
pub(super) struct Refusals {
    closing: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// One of them.
#[derive(Debug)]
struct Room(Arc<Refusals>);

impl Refusals {
    pub(super) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { closing: AtomicUsize::new(0), metrics })
    }

    fn enter(self: &Arc<Self>, max: usize) -> Option<Room> {
        let enter = |closing: usize| (closing < max).then_some(closing + 1);
        if self.closing.fetch_update(Relaxed, Relaxed, enter).is_err() {
            self.metrics.refusals_not_closed.inc();
            return None;
        }
        self.metrics.refusals_closing.inc();
        Some(Room(Arc::clone(self)))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.closing.fetch_sub(1, Relaxed);
        self.0.metrics.refusals_closing.dec();
    }
}

/// A Close that waits for its client's socket: the 101 is on its way.
#[derive(Debug)]
pub(super) struct Parting {
    code: CloseCode,
    reason: &'static str,
    room: Room,
}

/// What a well-formed handshake is answered if it is to be accepted, whatever becomes of it.
#[derive(Debug)]
pub(super) struct Acceptance {
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
}

impl Acceptance {
    /// `None`: it is not well formed, and its sender no browser.
    pub(super) fn of(head: &Parts, has_body: bool) -> Option<Self> {
        handshake::check(head, has_body).ok()?;
        let key = head.headers.get(header::SEC_WEBSOCKET_KEY)?;
        Some(Self {
            accept: HeaderValue::from_str(&accept_for(key.as_bytes())).ok()?,
            protocol: first_protocol(&head.headers),
        })
    }

    /// The 101 in place of `refused`, and the Close after it; `None`: it is told by its status.
    pub(super) fn instead_of(
        self,
        refused: &Refused,
        codes: &CloseCodes,
        refusals: &Arc<Refusals>,
        max: usize,
    ) -> Option<(Response<()>, Parting)> {
        let answer = refused.answer();
        let (code, reason) = answer.closing?.words(codes);
        let room = refusals.enter(max)?;
        let mut response = switching_protocols(self.accept);
        let headers = response.headers_mut();
        if let Some(protocol) = self.protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        headers.insert(X_OUTRIGGER_REASON, HeaderValue::from_static(answer.reason));
        Some((response, Parting { code, reason, room }))
    }
}

/// Of those that the client offers: browsers fail a handshake when none of theirs is chosen, and nobody would
/// read the Close.
fn first_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let first = tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).next()?;
    HeaderValue::from_str(first).ok()
}

/// Says the Close, and lets it arrive: until the client answers it, ends, or has said or taken enough.
pub(super) async fn close(client: Transport, parting: Parting) {
    let Transport { mut stream, read_ahead } = client;
    let Parting { code, reason, room } = parting;
    let told = async {
        stream.write_all(ControlFrame::close(code, reason, None).as_bytes()).await?;
        stream.flush().await?;
        let mut said = Vec::from(&read_ahead[..read_ahead.len().min(MOST)]);
        while said.len() < MOST && !has_close(&said) {
            if stream.read_buf(&mut said).await? == 0 {
                break;
            }
        }
        stream.shutdown().await
    };
    // A client that will not hear it has only itself to blame.
    let _ = timeout(PATIENCE, Box::pin(told)).await;
    drop(room);
}

/// Whether there is a Close among these frames, or something that is none: it will not come after that.
fn has_close(mut said: &[u8]) -> bool {
    loop {
        match Header::parse(said) {
            Err(_) => return true,
            Ok(None) => return false,
            Ok(Some(header)) if header.opcode == Opcode::Close => return true,
            Ok(Some(header)) => {
                let payload = usize::try_from(header.payload).unwrap_or(usize::MAX);
                let Some(rest) = said.get(header.size.saturating_add(payload)..) else { return false };
                said = rest;
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
        let said = [text, &long, text, close].concat();
        let before = said.len() - close.len();
        for cut in 0..=said.len() {
            // Its header is enough.
            assert_eq!(has_close(&said[..cut]), cut >= before + 6, "cut at {cut}");
        }
        assert!(has_close(b"\x09\x80"), "nothing sensible comes after a broken frame");
        assert!(!has_close(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00"));
    }

    #[test]
    fn no_more_are_told_at_once_than_there_is_room_for() {
        let refusals = Refusals::new(Metrics::new("outrigger").unwrap());
        let mut rooms = Vec::from_iter((0..3).map(|_| refusals.enter(3).unwrap()));
        assert!(refusals.enter(3).is_none());
        assert_eq!(refusals.metrics.refusals_closing.get(), 3);
        assert_eq!(refusals.metrics.refusals_not_closed.get(), 1);
        rooms.pop();
        assert!(refusals.enter(2).is_none(), "a smaller bound holds at once");
        assert!(refusals.enter(3).is_some());
        drop(rooms);
        assert_eq!(refusals.metrics.refusals_closing.get(), 0);
        assert!(refusals.enter(0).is_none(), "none at all");
    }
}
