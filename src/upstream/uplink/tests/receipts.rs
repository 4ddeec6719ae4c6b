//! What is known of messages: sent, with the kernel, taken by the server.

use super::*;
use crate::frame::CloseCode;

const ASKING: UplinkRules = UplinkRules { receipts: ReceiptMode::Pings, ..RULES };
const ASSUMING: UplinkRules = UplinkRules { receipts: ReceiptMode::Assumed, ..RULES };

impl Stage {
    /// Messages that were sent, that have left, and that were taken.
    fn counts(&self) -> (u64, u64, u64) {
        (self.uplink.sent(), self.uplink.left(), self.uplink.proven())
    }

    /// The payload of the one ping that the server has got, behind `messages` messages.
    fn hear_ping(&mut self, messages: usize) -> Vec<u8> {
        let heard = self.hear();
        let pings: Vec<_> = heard.iter().map(|(first, _)| *first == 0x89).collect();
        assert_eq!(pings, [vec![false; messages], vec![true]].concat());
        heard.into_iter().next_back().unwrap().1
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_leaves_together_with_the_ping_whose_pong_proves_it() {
    let mut stage = Stage::open(ASKING).await;
    assert_eq!(stage.uplink.alarm.at(), None);
    stage.uplink.greet(Kind::Text, b"hello");
    for _ in 0..3 {
        assert!(stage.uplink.send(Kind::Text, b"a message"));
    }
    assert_eq!(stage.counts(), (4, 0, 0));
    stage.flush();
    assert_eq!(stage.counts(), (4, 4, 0));
    let ping = stage.hear_ping(4);
    stage.say(&frame(0x8a, &ping)).await;
    assert_eq!(stage.counts(), (4, 4, 4));
    // Its timer may fire once more; then there is none, and nothing is said.
    stage.pass(secs(11)).await;
    assert_eq!((stage.uplink.alarm.at(), stage.hear().len(), stage.uplink.buffered()), (None, 0, 0));
    // Idle for long: the next message brings its ping along.
    stage.send(Kind::Text, b"later");
    assert_ne!(stage.hear_ping(1), ping);
    assert_eq!(stage.counts(), (5, 5, 4));
}

#[tokio::test(start_paused = true)]
async fn what_follows_an_answered_ping_is_asked_for_when_a_quarter_of_a_second_has_passed() {
    let mut stage = Stage::open(ASKING).await;
    stage.send(Kind::Text, b"first");
    let ping = stage.hear_ping(1);
    stage.pass_until(millis(100)).await;
    stage.say(&frame(0x8a, &ping)).await;
    stage.send(Kind::Text, b"second");
    assert_eq!(stage.hear().len(), 1, "without a ping");
    stage.pass_until(millis(249)).await;
    assert_eq!(stage.hear().len(), 0);
    stage.pass_until(millis(250)).await;
    let ping = stage.hear_ping(0);
    // Under way: more messages ask for nothing, however long it takes.
    stage.send(Kind::Text, b"third");
    stage.pass_until(secs(60)).await;
    assert_eq!(stage.hear().len(), 1);
    assert_eq!(stage.counts(), (3, 3, 1));
    // The answer proves what was before the ping, and the next goes out with it.
    stage.say(&frame(0x8a, &ping)).await;
    assert_eq!(stage.counts(), (3, 3, 2));
    let ping = stage.hear_ping(0);
    stage.say(&frame(0x8a, &ping)).await;
    assert_eq!(stage.counts(), (3, 3, 3));
}

#[tokio::test(start_paused = true)]
async fn nothing_but_the_pong_proves_and_it_does_so_with_its_last_byte() {
    let mut stage = Stage::open(ASKING).await;
    stage.send(Kind::Text, b"first");
    let ping = stage.hear_ping(1);
    let mut other = ping.clone();
    other[11] += 1;
    let noise = [frame(0x81, b"talk"), frame(0x8a, b""), frame(0x8a, &other), frame(0x89, &ping)].concat();
    stage.say(&noise).await;
    assert_eq!(stage.counts(), (1, 1, 0));
    let pong = frame(0x8a, &ping);
    for cut in 0..pong.len() {
        let mut stage = Stage::open(ASKING).await;
        stage.send(Kind::Text, b"first");
        let pong = frame(0x8a, &stage.hear_ping(1));
        stage.say(&pong[..cut]).await;
        assert_eq!(stage.counts(), (1, 1, 0), "{cut} bytes");
        stage.say(&pong[cut..]).await;
        assert_eq!(stage.counts(), (1, 1, 1), "cut at {cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_have_left_as_the_server_can_read_whole() {
    let mut stage = Stage::open(ASKING).await;
    let Some(Stream::Unix(socket)) = &stage.uplink.stream else { panic!("a Unix socket") };
    SockRef::from(socket).set_send_buffer_size(8 * 1024).unwrap();
    let payload = |i: usize| vec![i as u8; 1 + i * 37 % 991];
    let mut sent = 0;
    // More than the kernel takes.
    while stage.uplink.is_flushed() {
        stage.send(Kind::Binary, &payload(sent));
        sent += 1;
    }
    for _ in 0..1000 {
        assert!(stage.uplink.send(Kind::Binary, &payload(sent)));
        sent += 1;
    }
    assert!(stage.uplink.buffered() > stage.uplink.waiting(), "marks are counted");
    let mut heard = Vec::new();
    let mut steps = 0;
    while !stage.uplink.is_flushed() {
        // All that the kernel has: the rest still waits here.
        heard.extend(stage.hear_all().0);
        let mut whole = heard.clone();
        let messages =
            stage::take_frames(&mut whole, Some(true)).iter().filter(|(first, _)| *first == 0x82).count();
        assert_eq!(stage.uplink.left(), messages as u64);
        steps += 1;
        stage.turn().await;
    }
    assert!(steps > 20, "the kernel took all at once");
    assert_eq!(stage.counts(), (sent as u64, sent as u64, 0));
    assert_eq!(stage.uplink.buffered(), 0);
}

#[tokio::test(start_paused = true)]
async fn over_tls_a_message_has_left_with_the_last_byte_of_its_record() {
    let (stream, mut far) = crate::net::tls::testing::narrow().await;
    let rules = UplinkRules { max_message: 1 << 20, ..ASSUMING };
    let now = Instant::now();
    let transport = Transport { stream, read_ahead: Bytes::new() };
    let mut uplink = Uplink::new(transport, rules, Metrics::new("outrigger").unwrap(), now);
    let mut cx = Context::from_waker(Waker::noop());
    // Two messages in records that the kernel has, and one in a record of which it has only the beginning.
    for message in [&[1; 100][..], &[2; 100], &[3; 16_000]] {
        assert!(uplink.send(Kind::Binary, message));
        uplink.flush(&mut cx);
    }
    assert!(uplink.egress.is_empty() && !uplink.is_flushed(), "sealed, and not sent");
    assert_eq!((uplink.sent(), uplink.left()), (3, 2));
    // Nothing more is sealed meanwhile.
    assert!(uplink.send(Kind::Binary, &[4; 60_000]));
    uplink.flush(&mut cx);
    assert_eq!((uplink.sent(), uplink.left()), (4, 2));
    far.make_room().await;
    uplink.flush(&mut cx);
    assert_eq!((uplink.sent(), uplink.left(), uplink.is_flushed()), (4, 4, true));
}

#[tokio::test(start_paused = true)]
async fn over_tls_what_was_accepted_with_earlier_records_has_left_though_the_last_one_has_not() {
    let (stream, mut far) = crate::net::tls::testing::narrow().await;
    let transport = Transport { stream, read_ahead: Bytes::new() };
    let metrics = Metrics::new("outrigger").unwrap();
    let mut uplink = Uplink::new(transport, ASKING, metrics, Instant::now());
    let mut cx = Context::from_waker(Waker::noop());
    // In one go, so that it is cut into records anywhere.
    for _ in 0..70 {
        assert!(uplink.send(Kind::Binary, &[7; 990]));
    }
    let mut heard = Vec::new();
    let mut lefts = Vec::new();
    for _ in 0..1000 {
        uplink.flush(&mut cx);
        heard.extend(far.peer.hear_all(&mut far.socket).0);
        let mut whole = heard.clone();
        let frames = stage::take_frames(&mut whole, Some(true));
        let messages = frames.iter().filter(|(first, _)| *first == 0x82).count() as u64;
        assert_eq!(uplink.left(), messages, "what the server can decrypt");
        lefts.push(messages);
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        if uplink.is_flushed() {
            break;
        }
    }
    lefts.dedup();
    assert!(uplink.is_flushed() && lefts.len() > 3, "{lefts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_no_ping_is_asked_once_and_then_time_proves() {
    let mut stage = Stage::open(ASKING).await;
    stage.send(Kind::Text, b"first");
    let ping = stage.hear_ping(1);
    stage.pass_until(secs(9)).await;
    stage.send(Kind::Text, b"second");
    stage.pass_until(secs(10) - millis(1)).await;
    assert_eq!(stage.counts(), (2, 2, 0));
    stage.pass_until(secs(10)).await;
    assert_eq!(stage.counts(), (2, 2, 1), "it left long ago");
    stage.pass_until(secs(15)).await;
    assert_eq!(stage.counts(), (2, 2, 2));
    stage.say(&frame(0x8a, &ping)).await;
    stage.pass_until(secs(60)).await;
    stage.send(Kind::Text, b"third");
    stage.pass_until(secs(65) - millis(1)).await;
    assert_eq!(stage.counts(), (3, 3, 2));
    stage.pass_until(secs(65)).await;
    assert_eq!(stage.counts(), (3, 3, 3));
    assert_eq!(stage.hear().len(), 2, "no ping any more");
    assert_eq!((&stage.end, stage.uplink.alarm.at(), stage.uplink.buffered()), (&None, None, 0));
}

#[tokio::test(start_paused = true)]
async fn without_pings_what_left_five_seconds_ago_is_taken_and_with_none_at_all_nothing_is_counted() {
    let mut stage = Stage::open(ASSUMING).await;
    stage.send(Kind::Text, b"first");
    stage.pass_until(secs(5) - millis(1)).await;
    assert_eq!(stage.counts(), (1, 1, 0));
    stage.pass_until(secs(5)).await;
    assert_eq!(stage.counts(), (1, 1, 1));
    assert_eq!((stage.hear().len(), stage.uplink.alarm.at()), (1, None));
    let mut stage = Stage::open(RULES).await;
    stage.send(Kind::Text, b"first");
    assert_eq!((stage.counts(), stage.uplink.alarm.at(), stage.hear().len()), ((0, 0, 0), None, 1));
    assert!(stage.uplink.receipts.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_answered_ping_of_the_heartbeat_proves_what_went_before_it() {
    let mut stage = Stage::open(UplinkRules { heartbeat: Some(BEAT), ..ASKING }).await;
    stage.send(Kind::Text, b"first");
    let first = stage.hear_ping(1);
    stage.say(&frame(0x8a, &first)).await;
    stage.pass_until(secs(29)).await;
    stage.send(Kind::Text, b"second");
    let ours = stage.hear_ping(1);
    stage.pass_until(secs(30)).await;
    let beat = stage.hear_ping(0);
    assert_ne!(beat[..8], ours[..8], "another nonce");
    stage.send(Kind::Text, b"third");
    assert_eq!(stage.hear().len(), 1, "ours is under way");
    // The newest ping alone is answered: what is behind it is asked for at once.
    stage.say(&frame(0x8a, &beat)).await;
    assert_eq!(stage.counts(), (3, 3, 2));
    let ours = stage.hear_ping(0);
    stage.say(&frame(0x8a, &ours)).await;
    assert_eq!(stage.counts(), (3, 3, 3));
    assert_eq!(stage.metrics.connections.heartbeat_rtt.get_sample_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_read_has_its_time_to_answer_afterwards() {
    let mut stage = Stage::open(ASKING).await;
    stage.send(Kind::Text, b"first");
    let ping = stage.hear_ping(1);
    stage.pass_until(secs(4)).await;
    stage.uplink.pause(Instant::now());
    stage.say(&frame(0x8a, &ping)).await;
    stage.send(Kind::Text, b"second");
    stage.pass_until(secs(100)).await;
    assert_eq!(stage.counts(), (2, 2, 0));
    stage.uplink.resume(Instant::now());
    stage.turn().await;
    assert_eq!(stage.counts(), (2, 2, 1));
    assert_eq!(stage.hear().len(), 2, "the second, and a ping");
}

#[tokio::test(start_paused = true)]
async fn the_counts_of_a_link_that_ends_stand_and_nothing_is_asked() {
    let mut stage = Stage::open(ASKING).await;
    SockRef::from(stage.server.as_ref().unwrap()).set_recv_buffer_size(4096).unwrap();
    while stage.send(Kind::Binary, &[1; 900]) {}
    let (sent, left, _) = stage.counts();
    assert!(left > 3 && left < sent);
    stage.leave().await;
    assert_eq!((&stage.end, stage.counts()), (&Some(UplinkEnd::Lost), (sent, left, 0)));
    stage.flush();
    assert!(!stage.send(Kind::Text, b"late"));
    assert_eq!(stage.counts(), (sent, left, 0));
    // While a Close is under way the pong still counts.
    let mut stage = Stage::open(ASKING).await;
    stage.send(Kind::Text, b"first");
    let ping = stage.hear_ping(1);
    stage.send(Kind::Text, b"second");
    stage.uplink.close(CloseCode(1001), "");
    stage.say(&[frame(0x8a, &ping), close(1001, "")].concat()).await;
    assert_eq!(stage.counts(), (2, 2, 1));
    assert_eq!(stage.hear().len(), 2, "the second and the Close");
}

#[tokio::test(start_paused = true)]
async fn the_marks_of_empty_messages_are_bounded_with_them() {
    let mut stage = Stage::open(UplinkRules { max_waiting: 10_000, ..ASKING }).await;
    let mut sent = 0;
    while stage.uplink.send(Kind::Text, b"") {
        sent += 1;
    }
    assert!((200..10_000 / 6).contains(&sent), "{sent}");
    assert!(stage.uplink.buffered() <= 10_000 + 8 * 1024, "{}", stage.uplink.buffered());
    stage.flush();
    assert!(stage.uplink.send(Kind::Text, b"there is room again"));
}
