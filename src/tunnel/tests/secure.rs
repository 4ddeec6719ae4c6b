//! Hops over TLS, where what was accepted may not have left.

use super::*;
use crate::frame::{Role, Rules, Scanner};
use crate::tunnel::link::Link;

/// What it takes is ciphertext of a write that was accepted long before: it counts all the same.
#[tokio::test(start_paused = true)]
async fn a_client_over_tls_that_reads_a_little_is_not_given_up_and_one_that_reads_nothing_is() {
    let mut stage = Stage::with(Props {
        settings: "policy: { heartbeat: null, idle_timeout: 0s, delivery: { stall_timeout: 60s } }",
        buffers: Some(SMALL),
        tls: [true, false],
        ..Props::default()
    })
    .await;
    SockRef::from(stage.upstream.socket.as_ref().unwrap()).set_send_buffer_size(FLOOD).unwrap();
    let message = frame(0x82, &[7; 60_000], false);
    assert_eq!(stage.pour(Which::Upstream, &message).await, message.len());
    assert!(stage.relay().client.egress.is_empty(), "all of it was accepted");
    assert!(!stage.relay().client.is_flushed());
    for _ in 0..2 {
        stage.pass(secs(59)).await;
        // Less than a record may have come.
        stage.client.hear();
        stage.turn().await;
        assert!(!stage.relay().client.is_flushed());
    }
    stage.pass(secs(50)).await;
    assert!(stage.relay().ending.is_none());
    stage.pass(secs(11)).await;
    stage.upstream.leave();
    assert!(stage.lasts(secs(60)).await <= secs(5));
    assert_eq!(stage.reason(), "slow_consumer");
}

/// A link that owes its peer what TLS has sealed, since `now`; the peer then makes room for it.
async fn owing(now: Instant) -> (Link, testing::Far) {
    let (stream, mut far) = testing::narrow().await;
    let rules = Rules {
        sender: Role::Client,
        extensions: Extensions::None,
        max_frame: 1 << 20,
        max_message: 1 << 20,
        show_text: false,
    };
    let mut link = Link::new(stream, b"", Scanner::new(rules), Role::Server);
    let message = frame(0x82, &[7; 60_000], false);
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(link.send(&mut cx, &message, Some(message.len()), now), 0);
    assert!(link.egress.is_empty() && !link.is_flushed(), "sealed, and not sent");
    assert_eq!(link.stalled_since(), Some(now));
    far.make_room().await;
    (link, far)
}

#[tokio::test(start_paused = true)]
async fn what_leaves_while_the_peer_is_read_stops_the_stall_clock() {
    let (mut link, mut far) = owing(Instant::now()).await;
    far.say(b"anything").await;
    tokio::time::advance(secs(9)).await;
    let mut buf = [0; 100];
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(link.poll_read(&mut cx, &mut buf, Instant::now()), Poll::Ready(Ok(8))));
    assert!(link.is_flushed(), "it left with the read");
    assert_eq!(link.stalled_since(), None);
}

#[tokio::test(start_paused = true)]
async fn what_leaves_with_the_next_write_or_with_the_end_stops_the_stall_clock() {
    let mut cx = Context::from_waker(Waker::noop());
    let (mut link, _far) = owing(Instant::now()).await;
    tokio::time::advance(secs(9)).await;
    assert_eq!(link.send(&mut cx, b"\x81\x01x", Some(3), Instant::now()), 0);
    assert!(link.is_flushed(), "both left");
    assert_eq!(link.stalled_since(), None);

    let (mut link, _far) = owing(Instant::now()).await;
    assert!(link.send_fin(&mut cx, Instant::now()));
    assert!(link.is_flushed());
    assert_eq!(link.stalled_since(), None);
}

#[tokio::test]
async fn a_change_of_keys_is_charged_as_a_record_though_it_says_nothing() {
    let (mut stream, mut far) = testing::narrow().await;
    stream.take_records();
    far.peer.change_keys(30);
    far.say(b"x").await;
    let mut room = [0; 100];
    let mut buf = tokio::io::ReadBuf::new(&mut room);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(tokio::io::AsyncRead::poll_read(Pin::new(&mut stream), &mut cx, &mut buf).is_ready());
    assert_eq!(buf.filled(), b"x");
    assert!((31..62).contains(&stream.take_records()));
    assert_eq!(stream.take_records(), 0);
}
