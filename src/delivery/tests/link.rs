//! The WebSocket of one client by itself, driven as the task of a session does: it reads whole messages, and may stop.

use tokio::time::Sleep;

use super::*;
use crate::delivery::close::CloseCause;
use crate::delivery::websocket::WebSocket;
use crate::delivery::{ReadStatus, Received, SendStatus, WriteStatus};
use crate::frame::CloseCode;
use crate::telemetry::{By, Reason};

struct Link {
    socket: WebSocket,
    policy: Arc<Policy>,
    /// What the client has said.
    said: Vec<Vec<u8>>,
    is_closed: bool,
    sleep: Pin<Box<Sleep>>,
    armed: Option<Instant>,
    wakes: Arc<Wakes>,
    // The registry that its metrics are gathered by.
    stage: Stage,
}

impl Link {
    fn open(settings: &str, is_narrow: bool) -> (Self, UnixStream) {
        let stage = Stage::open(settings);
        let (ours, theirs) = UnixStream::pair().unwrap();
        if is_narrow {
            for socket in [&ours, &theirs] {
                SockRef::from(socket).set_send_buffer_size(SMALL).unwrap();
            }
        }
        let Arrival { transport, connection, .. } = stage.arrive(ours, &theirs, None, false, Box::new(()));
        let policy = Arc::clone(&stage.policy);
        let socket = WebSocket::new(transport, false, &policy, true, connection.guard, Instant::now());
        let sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
        let wakes = Wakes::woken();
        (
            Self { socket, policy, said: Vec::new(), is_closed: false, sleep, armed: None, wakes, stage },
            theirs,
        )
    }

    fn hears(&mut self, from: &mut UnixStream, first: u8, payload: &[u8]) {
        from.write_all(&frame(first, payload, true)).unwrap();
    }

    /// Wakes it, as whoever has changed something does.
    fn wake(&self) {
        Waker::from(Arc::clone(&self.wakes)).wake();
    }

    fn resume(&mut self) {
        self.socket.limits().resume_reading(Instant::now());
        self.wake();
    }

    fn read(&mut self, cx: &mut Context<'_>, now: Instant) {
        while self.socket.poll_readable(now) {
            let said = &mut self.said;
            let policy = Arc::clone(&self.policy);
            let status = self.socket.receive(cx, policy.idle_activity, 0, now, |received| {
                if let Received::Message(_, payload) = received {
                    said.push(payload.to_vec());
                }
            });
            let ReadStatus::Read(input) = status else { return };
            self.socket.limits().on_messages(input.messages, now);
            self.socket.on_input(&input, policy.control_rate.in_feeds(), &policy, now);
        }
    }

    fn ends(&self) -> HashMap<String, u64> {
        self.stage.ends()
    }
}

impl Driven for Link {
    fn wakes(&self) -> &Arc<Wakes> {
        &self.wakes
    }

    fn poll_once(&mut self, cx: &mut Context<'_>) {
        if self.is_closed {
            return;
        }
        let now = Instant::now();
        self.read(cx, now);
        self.socket.on_deadlines(&self.policy, now);
        self.is_closed = self.socket.poll_send(cx, 0, now) == SendStatus::Closed;
        if self.is_closed {
            self.socket.leave();
            return;
        }
        let deadlines = [self.socket.next_deadline(&self.policy), self.socket.paused_until()];
        self.armed = deadlines.into_iter().flatten().min();
        if let Some(at) = self.armed {
            self.sleep.as_mut().reset(at);
            if pin!(unconstrained(self.sleep.as_mut())).poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }

    fn armed(&self) -> Option<Instant> {
        self.armed.filter(|_| !self.is_closed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_not_read_keeps_its_clocks_and_says_the_rest_later() {
    let settings = "policy: {idle_timeout: 30s, heartbeat: {interval: 10s, timeout: 5s}}";
    let (mut link, mut client) = Link::open(settings, false);
    link.hears(&mut client, 0x81, b"one");
    link.turn().await;
    link.socket.limits().pause_reading(Instant::now());
    link.hears(&mut client, 0x81, b"two");
    link.pass(secs(600)).await;
    assert_eq!((link.said.len(), link.socket.is_open()), (1, true), "neither idle nor silent");
    link.resume();
    link.turn().await;
    assert_eq!(link.said, [b"one", b"two"]);
    // From here on its clocks go on: the next ping is not answered.
    link.pass(secs(100)).await;
    assert!(link.is_closed);
    assert_eq!(link.ends(), HashMap::from([("heartbeat_timeout".to_owned(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dies_while_it_is_not_read_is_noticed_and_its_rest_has_close_timeout() {
    let settings = "policy: {heartbeat: null, close_timeout: 3s}";
    for resumes in [false, true] {
        let (mut link, mut client) = Link::open(settings, false);
        link.turn().await;
        link.socket.limits().pause_reading(Instant::now());
        link.wake();
        link.pass(secs(60)).await;
        link.hears(&mut client, 0x81, b"last words");
        drop(client);
        link.pass(millis(3_500)).await;
        assert!(link.socket.is_open(), "seen within a second, and not cut at once");
        if resumes {
            link.resume();
            link.turn().await;
            assert_eq!(link.said, [b"last words"]);
        }
        link.pass(millis(1_000)).await;
        assert!(link.is_closed);
        assert_eq!(link.ends(), HashMap::from([("client_lost".to_owned(), 1)]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_not_read_is_when_it_is_closed() {
    let (mut link, mut client) = Link::open("policy: {heartbeat: null, close_timeout: 3s}", false);
    link.turn().await;
    link.socket.limits().pause_reading(Instant::now());
    link.hears(&mut client, 0x81, b"more");
    link.hears(&mut client, 0x88, &4000_u16.to_be_bytes());
    link.turn().await;
    let words = CloseCause::new(Reason::UpstreamClose, By::Upstream, CloseCode(4321), "over");
    link.socket.close(&words, link.policy.close_timeout, Instant::now());
    link.wake();
    link.turn().await;
    assert_eq!(link.said, [b"more"], "what it says until its Close is handed out");
    assert_eq!((link.is_closed, link.socket.client_close()), (true, None), "its Close is an answer");
    let mut heard = Vec::new();
    stage::read_all(&mut client, &mut heard);
    assert_eq!(stage::frames(&heard, Some(false)), [(0x88, [&4321_u16.to_be_bytes()[..], b"over"].concat())]);
    assert_eq!(link.ends(), HashMap::from([("upstream_close".to_owned(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn the_code_and_the_reason_of_a_close_are_those_of_the_client() {
    // What the Close says; the code and reason that are told; the code of the answer.
    let cases: [(&[u8], u16, &str, &[u8]); 4] = [
        (b"", 1005, "", &[]),
        (&[0x03, 0xe9], 1001, "", &[0x03, 0xe9]),
        (b"\x0f\xa0bye \xe2\x9c\x93", 4000, "bye \u{2713}", b"\x0f\xa0"),
        (b"\x0b\xb8auth", 3000, "auth", b"\x0b\xb8"),
    ];
    for (payload, code, reason, answer) in cases {
        let (mut link, mut client) = Link::open("policy: {heartbeat: null}", false);
        link.turn().await;
        assert_eq!(link.socket.client_close(), None);
        link.hears(&mut client, 0x88, payload);
        link.turn().await;
        let told = (link.socket.client_close(), link.socket.client_close_reason());
        assert_eq!(told, (Some(CloseCode(code)), reason));
        assert_eq!(link.socket.end_report().map(|report| report.reason), Some(Reason::ClientClose));
        let mut heard = Vec::new();
        stage::read_all(&mut client, &mut heard);
        assert_eq!(stage::frames(&heard, Some(false)), [(0x88, answer.to_vec())]);
    }
}

#[tokio::test(start_paused = true)]
async fn who_breaks_a_rule_is_read_no_more() {
    let settings = "policy: {heartbeat: null, limits: {control_rate: {rate: 1/s, burst: 3}}}";
    // What breaks a rule, and the code for it.
    let cases: [(Vec<u8>, u16); 3] = [
        (frame(0x81, b"unmasked", false), 1002),
        (frame(0x81, b"\xff", true), 1007),
        (frame(0x89, b"", true).repeat(4), 1008),
    ];
    for (bytes, code) in cases {
        let (mut link, mut client) = Link::open(settings, false);
        link.hears(&mut client, 0x81, b"before");
        client.write_all(&bytes).unwrap();
        link.turn().await;
        link.hears(&mut client, 0x81, b"after");
        link.turn().await;
        assert_eq!((&link.said[..], link.socket.client_close()), (&[b"before".to_vec()][..], None));
        let mut heard = Vec::new();
        stage::read_all(&mut client, &mut heard);
        assert_eq!(stage::close_code(&stage::frames(&heard, Some(false))), Some(code));
    }
}

/// Frames that are borrowed and that the socket takes in pieces arrive as they are, and only what is left is kept.
#[tokio::test(start_paused = true)]
async fn borrowed_frames_are_kept_from_the_one_on_that_was_begun() {
    let sizes = [0, 125, 126, 3_000, 30_000, 70_000, 5];
    let frames: Vec<u8> = sizes.iter().flat_map(|&n| frame(0x82, &vec![n as u8; n], false)).collect();
    for cuts in [false, true] {
        let (mut link, mut client) = Link::open("policy: {heartbeat: null}", true);
        link.turn().await;
        let mut cx = Context::from_waker(Waker::noop());
        let status = link.socket.send_slice(&mut cx, &frames, 7, Instant::now());
        assert_eq!(status, WriteStatus::Blocked);
        let mut heard = Vec::new();
        let kept = link.socket.held();
        if cuts {
            // A slow consumer gets the frame that it has begun to take, and then its Close.
            let cause = CloseCause::ours(Reason::SlowConsumer, 1013, "slow consumer");
            link.socket.close(&cause, secs(5), Instant::now());
        }
        link.wake();
        stage::read_all(&mut client, &mut heard);
        assert_eq!(kept, frames.len() - heard.len(), "what it did not take at once");
        for _ in 0..200 {
            link.turn().await;
            stage::read_all(&mut client, &mut heard);
        }
        let heard = stage::frames(&heard, Some(false));
        let arrived: Vec<usize> =
            heard.iter().filter(|(first, _)| *first == 0x82).map(|(_, p)| p.len()).collect();
        assert_eq!(arrived, sizes[..arrived.len()]);
        if cuts {
            assert!(arrived.len() < sizes.len() && stage::close_code(&heard) == Some(1013), "{arrived:?}");
        } else {
            assert_eq!(arrived.len(), sizes.len());
        }
        let intact = heard
            .iter()
            .filter(|(first, _)| *first == 0x82)
            .all(|(_, p)| p.iter().all(|&b| b == p.len() as u8));
        assert!(intact);
    }
}
