//! The way out to a client over TLS, and when it counts as stalled.

use super::super::encoding::Encoding;
use super::super::outbound::Outbound;
use super::super::status::WriteStatus;
use super::*;
use crate::net::tls::testing;

/// A way out that owes its client what TLS has sealed, since `now`; the client then makes room for it.
async fn owing(now: Instant) -> (Outbound, testing::Far) {
    let (stream, mut far) = testing::narrow().await;
    let mut outbound = Outbound::new(stream, Encoding::Frames, Bytes::new());
    let frames: Bytes = frame(0x82, &[7; 60_000], false).into();
    assert_eq!(outbound.write(&mut Context::from_waker(Waker::noop()), &frames, now), WriteStatus::Blocked);
    assert!(!outbound.has_rest() && !outbound.is_flushed(), "sealed, and not sent");
    assert_eq!(outbound.stalled_since(), Some(now));
    far.make_room().await;
    (outbound, far)
}

#[tokio::test(start_paused = true)]
async fn what_leaves_while_the_client_is_read_stops_the_stall_clock() {
    let (mut outbound, mut far) = owing(Instant::now()).await;
    far.say(b"anything").await;
    tokio::time::advance(secs(9)).await;
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(outbound.read(&mut cx, &mut [0; 100], Instant::now()), Poll::Ready(Ok(8))));
    assert!(outbound.is_flushed(), "it left with the read");
    assert_eq!(outbound.stalled_since(), None);
    assert!(outbound.has_moved());
    // Nor does the next message begin with a clock of before.
    let now = Instant::now();
    assert_eq!(outbound.write(&mut cx, &frame(0x82, &[7; 4], false).into(), now), WriteStatus::Flushed);
    assert_eq!(outbound.stalled_since(), None);
}

#[tokio::test(start_paused = true)]
async fn what_leaves_when_the_socket_is_asked_directly_stops_the_stall_clock() {
    let (mut outbound, _far) = owing(Instant::now()).await;
    tokio::time::advance(secs(9)).await;
    assert!(outbound.try_write_now(Instant::now()));
    assert!(outbound.is_flushed());
    assert_eq!(outbound.stalled_since(), None);
}
