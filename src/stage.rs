//! What unit tests share that drive a state machine by hand, between raw sockets and on a paused clock.
//!
//! # Invariants
//! 1. What is driven is polled only after its waker was woken: a wake-up that it misses fails a test, as it
//!    would leave a connection hanging.
//! 2. Time moves in [`Driven::pass`] alone, and stops there wherever the timer stands.
//! 3. What keeps waking itself with nothing to do fails the test that drives it.
//!
//! Each room keeps its own stage: what is put on it, and what its peers say and hear.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::frame::Header;

/// Far more wake-ups in a row than anything in a test has work for.
pub(crate) const SPINS: usize = 10_000;

/// The key that [`frame`] masks with.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Counts wake-ups.
#[derive(Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wakes {
    /// One that is woken already: whatever is new is polled once.
    pub(crate) fn woken() -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(1)))
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// What a test drives by hand.
pub(crate) trait Driven {
    /// How often in a row it may wake itself.
    const SPINS: usize = SPINS;

    /// Who counts its wake-ups.
    fn wakes(&self) -> &Arc<Wakes>;

    /// Polls it, whether it was woken or not.
    fn poll_once(&mut self, cx: &mut Context<'_>);

    /// When its timer fires next.
    fn armed(&self) -> Option<Instant>;

    /// Polls it if it was woken; whether it was.
    fn poll(&mut self) -> bool {
        if self.wakes().0.swap(0, SeqCst) == 0 {
            return false;
        }
        let waker = Waker::from(Arc::clone(self.wakes()));
        self.poll_once(&mut Context::from_waker(&waker));
        true
    }

    /// Lets it do what it was woken for, until nothing wakes it any more.
    async fn turn(&mut self) {
        let (mut quiet, mut rounds) = (0, 0);
        // Once round the loop lets the reactor tell what has happened; the second makes sure.
        while quiet < 2 {
            tokio::task::yield_now().await;
            quiet = if self.poll() { 0 } else { quiet + 1 };
            rounds += 1;
            assert!(rounds < Self::SPINS, "it wakes itself over and over with nothing to do");
        }
    }

    /// Lets time go by, from one moment that it waits for to the next.
    async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut stops = 0;
        loop {
            self.turn().await;
            let now = Instant::now();
            if now >= end {
                return;
            }
            // Timers have milliseconds: what lies between two of them fires at the later one.
            let next = self.armed().map_or(end, |at| at.max(now + millis(1))).min(end);
            tokio::time::advance(next - now).await;
            stops += 1;
            assert!(stops < Self::SPINS, "its timer fires over and over");
        }
    }
}

/// A whole frame as `first` (fin, rsv, opcode) begins it.
pub(crate) fn frame(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mask_bit = u8::from(masked) << 7;
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(mask_bit | len as u8),
        len @ 126..=0xffff => {
            bytes.push(mask_bit | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            bytes.push(mask_bit | 127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let mask = if masked { MASK } else { [0; 4] };
    if masked {
        bytes.extend_from_slice(&mask);
    }
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// The frame at the front of `bytes`, if it is whole: its first byte, its payload in the clear, its length.
pub(crate) fn first_frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let header = Header::parse(bytes).expect("a well-formed header")?;
    let end = header.size + usize::try_from(header.payload).unwrap();
    let mask = header.mask.unwrap_or([0; 4]);
    let payload = bytes.get(header.size..end)?;
    let plain = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Some((bytes[0], plain, end))
}

/// Takes the whole frames from the front of `bytes`: the first byte of each, and its payload in the clear.
/// Whether they are masked has to be `masked`, if that is said.
pub(crate) fn take_frames(bytes: &mut Vec<u8>, masked: Option<bool>) -> Vec<(u8, Vec<u8>)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some((first, payload, len)) = first_frame(&bytes[at..]) {
        let is_masked = bytes[at + 1] & 0x80 != 0;
        assert!(masked.is_none_or(|masked| masked == is_masked), "a client masks, a server does not");
        found.push((first, payload));
        at += len;
    }
    bytes.drain(..at);
    found
}

/// Every frame in `bytes`, which holds whole ones only.
pub(crate) fn frames(bytes: &[u8], masked: Option<bool>) -> Vec<(u8, Vec<u8>)> {
    let mut rest = bytes.to_vec();
    let found = take_frames(&mut rest, masked);
    assert!(rest.is_empty(), "not a whole frame: {rest:x?}");
    found
}

/// The code of the Close that stands last in `frames`.
pub(crate) fn close_code(frames: &[(u8, Vec<u8>)]) -> Option<u16> {
    let (first, payload) = frames.last()?;
    (*first == 0x88).then(|| u16::from_be_bytes([payload[0], payload[1]]))
}

/// Puts behind `heard` all that has come over a socket that does not block; whether that was the end.
pub(crate) fn read_all(socket: &mut UnixStream, heard: &mut Vec<u8>) -> bool {
    match socket.read_to_end(heard) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        // How a Unix socket says that it was closed before all was read.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        Err(error) => panic!("{error}"),
    }
}
