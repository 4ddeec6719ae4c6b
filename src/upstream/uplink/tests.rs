//! The uplink, driven by hand ([`crate::stage`]): its server is a raw end.

mod ending;
mod pausing;
mod receipts;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use socket2::SockRef;

use super::*;
use crate::stage::{self, Driven, Wakes, millis, secs};

const RULES: UplinkRules = UplinkRules {
    max_frame: 1000,
    max_message: 1500,
    heartbeat: None,
    stall_timeout: None,
    close_timeout: secs(5),
    max_waiting: 1 << 20,
    receipts: ReceiptMode::Off,
};

const BEAT: config::Heartbeat = config::Heartbeat { interval: secs(30), timeout: secs(10), max_missed: 2 };

/// A frame of the server as `first` (fin, rsv, opcode) begins it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    stage::frame(first, payload, false)
}

fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// An uplink and its server.
struct Stage {
    server: Option<UnixStream>,
    uplink: Uplink,
    metrics: Arc<Metrics>,
    wakes: Arc<Wakes>,
    told: Vec<(Kind, Vec<u8>)>,
    /// Bytes told by each poll that told any.
    bursts: Vec<usize>,
    end: Option<UplinkEnd>,
    /// Its socket is done with.
    is_over: bool,
    start: Instant,
}

impl Stage {
    async fn open(rules: UplinkRules) -> Self {
        Self::with(rules, b"").await
    }

    async fn with(rules: UplinkRules, early: &'static [u8]) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        for socket in [&ours, &theirs] {
            socket.set_nonblocking(true).unwrap();
        }
        let stream = Stream::Unix(tokio::net::UnixStream::from_std(ours).unwrap());
        let transport = Transport { stream, read_ahead: Bytes::from_static(early) };
        let start = Instant::now();
        let metrics = Metrics::new("outrigger").unwrap();
        let mut stage = Self {
            server: Some(theirs),
            uplink: Uplink::new(transport, rules, Arc::clone(&metrics), start),
            metrics,
            wakes: Wakes::woken(),
            told: Vec::new(),
            bursts: Vec::new(),
            end: None,
            is_over: false,
            start,
        };
        stage.turn().await;
        stage
    }

    /// As whoever has one message for the server.
    fn send(&mut self, kind: Kind, payload: &[u8]) -> bool {
        let is_queued = self.uplink.send(kind, payload);
        self.flush();
        is_queued
    }

    fn flush(&mut self) {
        let waker = Waker::from(Arc::clone(&self.wakes));
        self.uplink.flush(&mut Context::from_waker(&waker));
    }

    async fn pass_until(&mut self, at: Duration) {
        self.pass(self.start + at - Instant::now()).await;
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.server.as_mut().unwrap().write_all(bytes).expect("room");
        self.turn().await;
    }

    async fn leave(&mut self) {
        self.server = None;
        self.turn().await;
    }

    /// What the server got, and whether it was the end.
    fn hear_all(&mut self) -> (Vec<u8>, bool) {
        let mut heard = Vec::new();
        let is_ended = stage::read_all(self.server.as_mut().unwrap(), &mut heard);
        (heard, is_ended)
    }

    /// The frames that the server got: first byte, payload. Each has to be masked.
    fn hear(&mut self) -> Vec<(u8, Vec<u8>)> {
        frames(&self.hear_all().0)
    }

    fn texts(&self) -> Vec<&str> {
        let text = |(kind, payload)| match kind {
            &Kind::Text => std::str::from_utf8(payload).unwrap(),
            Kind::Binary => panic!("a binary message"),
        };
        self.told.iter().map(|(kind, payload)| text((kind, payload))).collect()
    }
}

impl Driven for Stage {
    fn wakes(&self) -> &Arc<Wakes> {
        &self.wakes
    }

    fn poll_once(&mut self, cx: &mut Context<'_>) {
        if self.end.is_none() {
            let (told, before) = (&mut self.told, self.bursts.len());
            let mut burst = 0;
            let polled = self.uplink.poll(cx, &mut |kind, payload| {
                burst += payload.len();
                told.push((kind, payload.to_vec()));
            });
            if burst > 0 {
                self.bursts.insert(before, burst);
            }
            if let Poll::Ready(end) = polled {
                self.end = Some(end);
            }
        }
        // As whoever has heard of the end does, at once and later.
        if self.end.is_some() && !self.is_over {
            self.is_over = self.uplink.poll_rest(cx).is_ready();
        }
    }

    fn armed(&self) -> Option<Instant> {
        self.uplink.alarm.at().filter(|_| !self.is_over)
    }
}

/// Every frame in `bytes`, which a client has sent.
fn frames(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    stage::frames(bytes, Some(true))
}

fn said_close(frames: &[(u8, Vec<u8>)]) -> u16 {
    stage::close_code(frames).unwrap_or_else(|| panic!("no Close in {frames:x?}"))
}

#[tokio::test(start_paused = true)]
async fn messages_come_whole_also_those_that_came_with_the_handshake() {
    let mut stage = Stage::with(RULES, b"\x81\x05early\x01\x03fra").await;
    assert_eq!(stage.texts(), ["early"]);
    stage.say(b"\x80\x05gmen").await;
    stage.say(b"t\x81\x02ok").await;
    assert_eq!(stage.texts(), ["early", "fragment", "ok"]);
    assert_eq!(stage.uplink.buffered(), 0);
    assert_eq!(stage.end, None);
}

#[tokio::test(start_paused = true)]
async fn messages_go_masked_and_each_with_another_mask() {
    let mut stage = Stage::open(RULES).await;
    assert!(stage.uplink.send(Kind::Text, b"one"));
    assert!(stage.uplink.send(Kind::Binary, &[2; 300]));
    assert!(!stage.uplink.is_flushed());
    stage.turn().await;
    assert_eq!(stage.hear(), [], "nobody has asked for it");
    stage.flush();
    assert!(stage.uplink.is_flushed());
    let (raw, _) = stage.hear_all();
    assert_ne!(raw[2..6], raw[9 + 4..9 + 8]);
    assert_eq!(frames(&raw), [(0x81, b"one".to_vec()), (0x82, vec![2; 300])]);
    assert_eq!(stage.uplink.buffered(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_the_newest_of_many() {
    let mut stage = Stage::open(RULES).await;
    stage.say(&frame(0x89, b"are you there")).await;
    assert_eq!(stage.hear(), [(0x8a, b"are you there".to_vec())]);
    stage.say(&[frame(0x89, b"1"), frame(0x89, b"2"), frame(0x89, b"3")].concat()).await;
    assert_eq!(stage.hear(), [(0x8a, b"3".to_vec())]);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_from_a_server_that_reads_nothing_is_bounded() {
    let mut stage = Stage::open(RULES).await;
    // Fill the way to it.
    while stage.uplink.waiting() == 0 {
        assert!(stage.send(Kind::Binary, &[0; 10_000]));
        stage.turn().await;
    }
    let before = stage.uplink.waiting();
    for i in 0..100_u32 {
        stage.say(&frame(0x89, &i.to_be_bytes().repeat(31))).await;
    }
    let more = stage.uplink.waiting() - before;
    assert!(more <= 2 * 131, "{more} bytes of pongs");
    // Whatever is queued all the time: both get out, the first and the newest.
    let mut heard = Vec::new();
    for _ in 0..200 {
        heard.extend(stage.hear_all().0);
        stage.turn().await;
    }
    let pongs: Vec<_> = frames(&heard).into_iter().filter(|(first, _)| *first == 0x8a).collect();
    assert_eq!(pongs.len(), 2);
    assert_eq!(pongs[1].1[..4], 99_u32.to_be_bytes());
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_the_server_is_bounded() {
    let mut stage = Stage::open(UplinkRules { max_waiting: 20_000, ..RULES }).await;
    assert!(!stage.send(Kind::Binary, &[0; 20_000]), "it would never fit");
    let mut sent = 0_u64;
    while stage.send(Kind::Binary, &[1; 5000]) {
        sent += 1;
        stage.turn().await;
        assert!(stage.uplink.waiting() <= 20_000);
    }
    assert!(sent > 3);
    let mut heard = Vec::new();
    while (heard.len() as u64) < sent * 5008 {
        heard.extend(stage.hear_all().0);
        stage.turn().await;
    }
    assert_eq!(frames(&heard).len() as u64, sent);
    assert!(stage.send(Kind::Binary, &[1; 5000]), "there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_after_its_missed_pongs_and_one_that_answers_is_not() {
    let mut stage = Stage::open(UplinkRules { heartbeat: Some(BEAT), ..RULES }).await;
    stage.pass_until(secs(30)).await;
    let pings = stage.hear();
    assert_eq!((pings.len(), pings[0].0), (1, 0x89));
    stage.pass_until(secs(35)).await;
    stage.say(&frame(0x8a, &pings[0].1)).await;
    // The next is due an interval after the first; that one and the one after it are not answered.
    stage.pass_until(secs(60)).await;
    assert_eq!(stage.hear().len(), 1);
    stage.pass_until(secs(70)).await;
    assert_eq!(stage.hear().len(), 1);
    stage.pass_until(secs(80) - millis(1)).await;
    assert_eq!(stage.end, None);
    stage.pass(millis(1)).await;
    assert_eq!(stage.end, Some(UplinkEnd::Silent));
    let (heard, is_ended) = stage.hear_all();
    assert_eq!((heard.len(), is_ended), (0, true), "who answers no ping is told nothing");
    let rtt = &stage.metrics.connections.heartbeat_rtt;
    assert_eq!((rtt.get_sample_count(), rtt.get_sample_sum().round()), (1, 5.0));
    assert_eq!(stage.metrics.connections.heartbeat_missed.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_nothing_is_given_up() {
    let rules = UplinkRules { stall_timeout: Some(secs(20)), ..RULES };
    let mut stage = Stage::open(rules).await;
    SockRef::from(stage.server.as_ref().unwrap()).set_recv_buffer_size(4096).unwrap();
    stage.pass_until(secs(100)).await;
    assert_eq!(stage.end, None, "nothing waits for it");
    while stage.send(Kind::Binary, &[1; 10_000]) {
        stage.turn().await;
    }
    stage.pass_until(secs(110)).await;
    // It takes a little after all: its time begins anew.
    let mut little = vec![0; 300_000];
    let n = stage.server.as_mut().unwrap().read(&mut little).unwrap();
    assert!(n > 0);
    stage.turn().await;
    stage.pass_until(secs(120)).await;
    assert_eq!(stage.end, None);
    stage.pass_until(secs(141)).await;
    assert_eq!(stage.end, Some(UplinkEnd::Stalled));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_its_time_to_hear_nothing_more_is_read_for_a_while() {
    let mut stage = Stage::open(RULES).await;
    // Its ear is shut, its mouth is not.
    stage.server.as_ref().unwrap().shutdown(std::net::Shutdown::Read).unwrap();
    stage.send(Kind::Text, b"into the void");
    stage.turn().await;
    stage.say(&frame(0x81, b"still here")).await;
    assert_eq!((stage.texts(), &stage.end), (vec!["still here"], &None));
    assert!(!stage.send(Kind::Text, b"no more"));
    stage.pass(secs(5)).await;
    assert_eq!(stage.end, Some(UplinkEnd::Lost));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_much_does_not_keep_the_thread() {
    let rules = UplinkRules { max_frame: 1 << 20, max_message: 1 << 20, ..RULES };
    let mut stage = Stage::open(rules).await;
    SockRef::from(stage.server.as_ref().unwrap()).set_send_buffer_size(4 << 20).unwrap();
    let flood = frame(0x82, &[7; 1000]).repeat(3000);
    let mut at = 0;
    let mut most = 0;
    while at < flood.len() {
        let before = stage.bursts.len();
        at += stage.server.as_mut().unwrap().write(&flood[at..]).unwrap();
        stage.turn().await;
        most = most.max(stage.bursts.len() - before);
    }
    assert_eq!(stage.told.len(), 3000);
    assert!(most > 1, "the kernel had more than one budget");
    let budget = READ_BUDGET.bytes() + scratch::HELD_ROOM + scratch::READ;
    assert!(stage.bursts.iter().all(|burst| *burst <= budget), "{:?}", stage.bursts);
}

#[tokio::test(start_paused = true)]
async fn what_leaves_while_the_server_is_read_stops_the_stall_clock() {
    let (stream, mut far) = crate::net::tls::testing::narrow().await;
    let now = Instant::now();
    let rules = UplinkRules { stall_timeout: Some(secs(10)), ..RULES };
    let transport = Transport { stream, read_ahead: Bytes::new() };
    let mut uplink = Uplink::new(transport, rules, Metrics::new("outrigger").unwrap(), now);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(uplink.send(Kind::Binary, &[7; 60_000]));
    uplink.write(&mut cx, now);
    assert!(uplink.egress.is_empty() && uplink.waiting() > 0, "sealed, and not sent");
    assert_eq!(uplink.stall.since(), Some(now));
    far.make_room().await;
    far.say(&frame(0x81, b"anything")).await;
    tokio::time::advance(secs(9)).await;
    let mut told = 0;
    uplink.read(&mut cx, &mut |_, _| told += 1, Instant::now());
    assert_eq!((told, uplink.waiting()), (1, 0), "it left with the read");
    assert_eq!(uplink.stall.since(), None);
}

#[tokio::test(start_paused = true)]
async fn a_pong_that_came_in_time_counts_though_its_clock_is_looked_at_first() {
    let beat = config::Heartbeat { max_missed: 1, ..BEAT };
    for standstill in [secs(0), secs(3600)] {
        let mut stage = Stage::open(UplinkRules { heartbeat: Some(beat), ..RULES }).await;
        stage.pass_until(secs(30)).await;
        let pong = frame(0x8a, &stage.hear()[0].1);
        if standstill.is_zero() {
            stage.server.as_mut().unwrap().write_all(&pong).unwrap();
            tokio::time::advance(secs(10)).await;
        } else {
            // Nothing but its timer tells that anything has happened.
            tokio::time::advance(standstill).await;
            stage.server.as_mut().unwrap().write_all(&pong).unwrap();
            assert!(stage.poll());
        }
        stage.turn().await;
        stage.pass(secs(5)).await;
        assert_eq!(
            (&stage.end, stage.metrics.connections.heartbeat_missed.get()),
            (&None, 0),
            "{standstill:?}"
        );
    }
}
