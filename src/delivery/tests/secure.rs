//! The way out to a client over TLS, and when it counts as stalled.

use super::super::wire::{Wire, Wrote};
use super::*;
use crate::net::tls::testing;

/// A way out that owes its client what TLS has sealed, since `now`; the client then makes room for it.
async fn owing(now: Instant) -> (Wire, testing::Far) {
    let (stream, mut far) = testing::narrow().await;
    let mut wire = Wire::new(stream);
    let frames: Bytes = frame(0x82, &[7; 60_000], false).into();
    assert_eq!(wire.write(&mut Context::from_waker(Waker::noop()), &frames, now), Wrote::Blocked);
    assert!(!wire.has_rest() && !wire.is_flushed(), "sealed, and not sent");
    assert_eq!(wire.stalled_since(), Some(now));
    far.make_room().await;
    (wire, far)
}

#[tokio::test(start_paused = true)]
async fn what_leaves_while_the_client_is_read_stops_the_stall_clock() {
    let (mut wire, mut far) = owing(Instant::now()).await;
    far.say(b"anything").await;
    tokio::time::advance(secs(9)).await;
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(wire.read(&mut cx, &mut [0; 100], Instant::now()), Poll::Ready(Ok(8))));
    assert!(wire.is_flushed(), "it left with the read");
    assert_eq!(wire.stalled_since(), None);
    assert!(wire.has_moved);
    // Nor does the next message begin with a clock of before.
    let now = Instant::now();
    assert_eq!(wire.write(&mut cx, &frame(0x82, &[7; 4], false).into(), now), Wrote::All);
    assert_eq!(wire.stalled_since(), None);
}

#[tokio::test(start_paused = true)]
async fn what_leaves_when_the_socket_is_asked_directly_stops_the_stall_clock() {
    let (mut wire, _far) = owing(Instant::now()).await;
    tokio::time::advance(secs(9)).await;
    assert!(wire.nudge(Instant::now()));
    assert!(wire.is_flushed());
    assert_eq!(wire.stalled_since(), None);
}
