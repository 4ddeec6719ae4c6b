//! While the server is not read.

use super::*;
use crate::frame::CloseCode;

#[tokio::test(start_paused = true)]
async fn a_paused_server_is_not_heard_and_still_spoken_to_until_it_goes_on() {
    let mut stage = Stage::open(RULES).await;
    stage.uplink.pause(Instant::now());
    stage.say(&frame(0x81, b"one")).await;
    assert!(stage.send(Kind::Text, b"meanwhile"));
    stage.pass(secs(3600)).await;
    stage.say(&frame(0x81, b"two")).await;
    assert_eq!((stage.texts().len(), stage.hear().len()), (0, 1));
    // Twice is once.
    stage.uplink.pause(Instant::now());
    stage.uplink.resume(Instant::now());
    stage.turn().await;
    assert_eq!(stage.texts(), ["one", "two"]);
    stage.uplink.resume(Instant::now());
    stage.say(&frame(0x81, b"three")).await;
    assert_eq!((stage.texts().len(), &stage.end), (3, &None));
}

#[tokio::test(start_paused = true)]
async fn what_came_with_the_handshake_waits_while_paused() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let stream = Stream::Unix(tokio::net::UnixStream::from_std(ours).unwrap());
    let transport = Transport { stream, read_ahead: Bytes::from_static(b"\x81\x05early") };
    let mut uplink = Uplink::new(transport, RULES, Metrics::new("outrigger").unwrap(), Instant::now());
    let mut cx = Context::from_waker(Waker::noop());
    let mut told = Vec::new();
    uplink.pause(Instant::now());
    assert!(uplink.poll(&mut cx, &mut |_, text| told.push(text.to_vec())).is_pending());
    assert_eq!((told.len(), uplink.buffered()), (0, 5 + 2));
    uplink.resume(Instant::now());
    assert!(uplink.poll(&mut cx, &mut |_, text| told.push(text.to_vec())).is_pending());
    assert_eq!((told, uplink.buffered()), (vec![b"early".to_vec()], 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_read_cannot_miss_a_pong() {
    let mut stage = Stage::open(UplinkRules { heartbeat: Some(BEAT), ..RULES }).await;
    stage.pass_until(secs(30)).await;
    assert_eq!(stage.hear().len(), 1);
    // Four of its ten seconds are over when it is paused.
    stage.pass_until(secs(34)).await;
    stage.uplink.pause(Instant::now());
    stage.pass_until(secs(1034)).await;
    assert_eq!((&stage.end, stage.metrics.connections.heartbeat_missed.get()), (&None, 0));
    assert_eq!(stage.hear(), [], "one ping is under way");
    stage.uplink.resume(Instant::now());
    stage.pass_until(secs(1040) - millis(1)).await;
    assert_eq!(stage.metrics.connections.heartbeat_missed.get(), 0);
    stage.pass_until(secs(1040)).await;
    assert_eq!(stage.metrics.connections.heartbeat_missed.get(), 1);
    stage.pass_until(secs(1050)).await;
    assert_eq!(stage.end, Some(UplinkEnd::Silent));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_nothing_is_given_up_while_paused() {
    let mut stage = Stage::open(UplinkRules { stall_timeout: Some(secs(20)), ..RULES }).await;
    SockRef::from(stage.server.as_ref().unwrap()).set_recv_buffer_size(4096).unwrap();
    while stage.send(Kind::Binary, &[1; 10_000]) {}
    let since = Instant::now();
    stage.pass(secs(5)).await;
    stage.uplink.pause(Instant::now());
    stage.pass(since + secs(20) - millis(1) - Instant::now()).await;
    assert_eq!(stage.end, None);
    stage.pass(millis(1)).await;
    assert_eq!(stage.end, Some(UplinkEnd::Stalled));
}

#[tokio::test(start_paused = true)]
async fn a_paused_link_that_is_closed_ends_in_order() {
    let mut stage = Stage::open(RULES).await;
    stage.uplink.pause(Instant::now());
    stage.uplink.close(CloseCode(1001), "");
    stage.turn().await;
    assert_eq!(said_close(&stage.hear()), 1001);
    stage.uplink.pause(Instant::now());
    stage.say(&close(1001, "")).await;
    assert_eq!(stage.end, Some(UplinkEnd::Done));
    stage.leave().await;
    assert!(stage.is_over);
}

#[tokio::test(start_paused = true)]
async fn a_paused_server_that_is_gone_is_lost_by_the_next_message() {
    let mut stage = Stage::open(RULES).await;
    stage.uplink.pause(Instant::now());
    stage.leave().await;
    assert_eq!(stage.end, None);
    stage.send(Kind::Text, b"anybody there?");
    assert!(!stage.uplink.can_send());
    stage.pass(secs(5)).await;
    assert_eq!((&stage.end, stage.is_over), (&Some(UplinkEnd::Lost), true));
}

#[tokio::test(start_paused = true)]
async fn what_a_server_said_before_it_died_is_heard_also_while_it_is_not_read() {
    for is_paused_first in [true, false] {
        let mut stage = Stage::open(UplinkRules { receipts: ReceiptMode::Pings, ..RULES }).await;
        if is_paused_first {
            stage.uplink.pause(Instant::now());
        }
        let server = stage.server.as_mut().unwrap();
        server.write_all(&frame(0x81, b"last words")).unwrap();
        stage.server = None;
        // Nobody takes it any more.
        stage.send(Kind::Text, b"lost");
        if !is_paused_first {
            stage.uplink.pause(Instant::now());
        }
        stage.pass(secs(60)).await;
        assert_eq!((stage.texts(), &stage.end), (vec!["last words"], &Some(UplinkEnd::Lost)));
    }
}
