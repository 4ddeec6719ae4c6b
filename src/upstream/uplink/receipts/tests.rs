use super::*;
use crate::stage::{millis, secs};

const NONCE: u64 = 0x0102_0304_0506_0708;
const BEAT: Payload = [9; PING_PAYLOAD];

/// A link on which ten bytes are a message.
struct Link {
    receipts: Receipts,
    queued: u64,
    start: Instant,
}

impl Link {
    fn new(mode: ReceiptMode) -> Self {
        let start = Instant::now();
        Self { receipts: Receipts::new(mode, NONCE, start), queued: 0, start }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn send(&mut self, messages: u64) {
        for _ in 0..messages {
            self.queued += 10;
            self.receipts.on_message(self.queued);
        }
    }

    fn leave(&mut self, millis: u64) {
        let now = self.at(millis);
        self.receipts.on_left(self.queued, now);
    }

    /// The number of the ping that goes out.
    fn ping(&mut self, millis: u64) -> Option<u32> {
        let now = self.at(millis);
        let payload = self.receipts.next_ping(self.queued, now)?;
        self.queued += PING_FRAME;
        assert_eq!(payload[..8], NONCE.to_be_bytes());
        Some(u32::from_be_bytes(payload[8..].try_into().unwrap()))
    }

    fn beat(&mut self) {
        self.queued += PING_FRAME;
        self.receipts.on_heartbeat_ping(BEAT, self.queued);
    }

    fn pong(&mut self, number: u32) {
        let payload = self.receipts.payload(number);
        self.receipts.on_pong(&payload);
    }

    fn timer(&mut self, millis: u64) {
        let now = self.at(millis);
        self.receipts.on_timer(false, now);
    }

    /// State, messages sent, left and proven, and the deadline in milliseconds.
    fn look(&self) -> String {
        let receipts = &self.receipts;
        let state = match &receipts.state {
            State::Quiet => "quiet".to_owned(),
            State::Queued { covers, .. } => format!("queued({covers})"),
            State::Asked { covers, .. } => format!("asked({covers})"),
            State::Assuming(batches) => format!("assuming({})", batches.len()),
        };
        let due =
            receipts.deadline(false).map_or("-".to_owned(), |at| (at - self.start).as_millis().to_string());
        format!("{state} {}/{}/{} {due}", receipts.sent(), receipts.left(), receipts.proven())
    }
}

/// What a link looks like, and how it comes there.
type Example = (&'static str, fn() -> Link);

/// Each state that there is, all at 1 s or before.
fn states() -> [Example; 8] {
    let asked = || {
        let mut link = Link::new(ReceiptMode::Pings);
        link.send(2);
        assert_eq!(link.ping(0), Some(1));
        link.leave(100);
        link
    };
    fn later() -> Link {
        let mut link = Link::new(ReceiptMode::Pings);
        link.send(1);
        assert_eq!(link.ping(0), Some(1));
        link.leave(0);
        link.pong(1);
        link.send(1);
        assert_eq!(link.ping(250), Some(2));
        link.leave(250);
        link
    }
    [
        ("quiet 0/0/0 -", || Link::new(ReceiptMode::Pings)),
        ("quiet 2/2/1 500", || {
            let mut link = later();
            link.pong(1);
            link.receipts.state = State::Quiet;
            link
        }),
        ("queued(2) 2/0/0 -", || {
            let mut link = Link::new(ReceiptMode::Pings);
            link.send(2);
            assert_eq!(link.ping(0), Some(1));
            link
        }),
        ("asked(2) 2/2/0 10100", asked),
        ("asked(2) 2/2/1 -", later),
        ("quiet 2/2/2 -", || {
            let mut link = later();
            link.pong(2);
            link
        }),
        ("assuming(0) 0/0/0 -", || Link::new(ReceiptMode::Assumed)),
        ("assuming(1) 3/2/0 6000", || {
            let mut link = Link::new(ReceiptMode::Assumed);
            link.send(2);
            link.leave(1000);
            link.send(1);
            link
        }),
    ]
}

type Event = (&'static str, fn(&mut Link));

#[test]
fn every_event_in_every_state() {
    let events: [Event; 11] = [
        ("message", |link| link.send(1)),
        ("left", |link| link.leave(1000)),
        ("may ping", |link| _ = link.ping(1000)),
        ("may ping early", |link| _ = link.ping(300)),
        ("pong 1", |link| link.pong(1)),
        ("pong 2", |link| link.pong(2)),
        ("pong 3", |link| link.pong(3)),
        ("foreign pong", |link| link.receipts.on_pong(b"")),
        ("beat answered", |link| {
            link.beat();
            link.leave(1000);
            link.receipts.on_pong(&BEAT);
        }),
        ("timer", |link| link.timer(20_000)),
        ("timer early", |link| link.timer(5999)),
    ];
    // "=": nothing changes.
    let table: [[&str; 11]; 8] = [
        ["quiet 1/0/0 0", "=", "=", "=", "=", "=", "=", "=", "=", "=", "="],
        ["quiet 3/2/1 500", "=", "queued(2) 2/2/1 -", "=", "=", "=", "=", "=", "quiet 2/2/2 -", "=", "="],
        [
            "queued(2) 3/0/0 -",
            "asked(2) 2/2/0 11000",
            "=",
            "=",
            "=",
            "=",
            "=",
            "=",
            "quiet 2/2/2 -",
            "=",
            "=",
        ],
        [
            "asked(2) 3/2/0 10100",
            "=",
            "=",
            "=",
            "quiet 2/2/2 -",
            "=",
            "=",
            "=",
            "quiet 2/2/2 -",
            "assuming(0) 2/2/2 -",
            "=",
        ],
        ["asked(2) 3/2/1 -", "=", "=", "=", "=", "quiet 2/2/2 -", "=", "=", "quiet 2/2/2 -", "=", "="],
        ["quiet 3/2/2 500", "=", "=", "=", "=", "=", "=", "=", "=", "=", "="],
        ["assuming(0) 1/0/0 -", "=", "=", "=", "=", "=", "=", "=", "=", "=", "="],
        [
            "assuming(1) 4/2/0 6000",
            "assuming(1) 3/3/0 6000",
            "=",
            "=",
            "=",
            "=",
            "=",
            "=",
            "assuming(0) 3/3/3 -",
            "assuming(0) 3/2/2 -",
            "=",
        ],
    ];
    for ((before, state), row) in states().into_iter().zip(table) {
        assert_eq!(state().look(), before);
        for ((name, event), after) in events.into_iter().zip(row) {
            let mut link = state();
            event(&mut link);
            assert_eq!(link.look(), if after == "=" { before } else { after }, "{name} in {before}");
        }
    }
}

#[test]
fn a_pong_before_its_ping_has_left_is_forged() {
    let mut link = Link::new(ReceiptMode::Pings);
    link.send(2);
    link.ping(0);
    link.beat();
    // All but the last byte of each.
    link.receipts.on_left(20 + PING_FRAME - 1, link.start);
    link.pong(1);
    link.receipts.on_pong(&BEAT);
    assert_eq!(link.look(), "queued(2) 2/2/0 -");
    link.receipts.on_left(20 + PING_FRAME, link.start);
    link.receipts.on_pong(&BEAT);
    assert_eq!(link.look(), "asked(2) 2/2/0 10000");
    link.leave(0);
    link.receipts.on_pong(&BEAT);
    assert_eq!(link.look(), "quiet 2/2/2 -");
    // It answers once.
    link.send(1);
    link.leave(1);
    link.receipts.on_pong(&BEAT);
    link.pong(1);
    assert_eq!(link.look(), "quiet 3/3/2 250");
}

#[test]
fn a_receipt_that_something_waits_for_is_asked_for_at_once_behind_the_one_under_way() {
    let mut link = Link::new(ReceiptMode::Pings);
    link.send(1);
    assert_eq!(link.ping(0), Some(1));
    link.leave(0);
    link.send(1);
    let now = link.at(5);
    link.receipts.hasten(now);
    assert_eq!(link.ping(5), None, "one is under way");
    link.pong(1);
    assert_eq!(link.ping(5), Some(2));
    link.leave(5);
    link.pong(2);
    link.send(1);
    assert_eq!(link.ping(6), None, "nothing waits for this one");
    let now = link.at(7);
    link.receipts.hasten(now);
    assert_eq!(link.ping(7), Some(3));
    // It hastens nothing where there is nothing to ask for, and holds nothing up.
    let now = link.at(600);
    link.receipts.hasten(now);
    link.leave(600);
    link.pong(3);
    assert_eq!(link.look(), "quiet 3/3/3 -");
}

#[test]
fn a_ping_of_the_heartbeat_before_ours_does_not_answer_it() {
    let mut link = Link::new(ReceiptMode::Pings);
    link.send(1);
    link.beat();
    link.send(1);
    assert_eq!(link.ping(0), Some(1));
    link.leave(0);
    link.receipts.on_pong(&BEAT);
    assert_eq!(link.look(), "asked(2) 2/2/1 10000");
    link.pong(1);
    assert_eq!(link.look(), "quiet 2/2/2 -");
}

#[test]
fn nothing_is_assumed_before_its_five_seconds_nor_long_after_and_little_is_kept_for_it() {
    let mut link = Link::new(ReceiptMode::Assumed);
    // When each message left.
    let mut lefts = Vec::new();
    for millis in (0..60_000).step_by(10) {
        link.send(1);
        link.leave(millis);
        lefts.push(millis);
        link.timer(millis);
        let proven = link.receipts.proven() as usize;
        assert!(lefts[..proven].iter().all(|left| left + 5000 <= millis), "{millis}");
        assert!(lefts[proven..].iter().all(|left| left + 6000 >= millis), "{millis}");
        let State::Assuming(batches) = &link.receipts.state else { panic!("it asks") };
        assert!(batches.len() <= 7, "{}", batches.len());
    }
    link.timer(65_000);
    assert_eq!(link.receipts.proven(), 6000);
    assert_eq!(link.receipts.held(), 0);
}

#[test]
fn the_time_to_answer_stands_still_while_the_server_is_not_read() {
    let mut link = Link::new(ReceiptMode::Pings);
    link.send(1);
    link.ping(0);
    link.leave(1000);
    assert_eq!(link.receipts.deadline(true), None);
    link.receipts.on_timer(true, link.at(60_000));
    assert_eq!(link.look(), "asked(1) 1/1/0 11000");
    // A pause that began before the ping had left counts from there.
    link.receipts.shift(secs(60), link.at(3000));
    assert_eq!(link.look(), "asked(1) 1/1/0 13000");
    link.receipts.shift(millis(500), link.at(9000));
    assert_eq!(link.look(), "asked(1) 1/1/0 13500");
}

/// What a server reads.
#[derive(Clone, Copy)]
enum Frame {
    Message,
    Ping(Payload),
}

/// A server that is modelled in full: what it has read is known.
#[derive(Default)]
struct Model {
    /// What is on its way, with the offset behind it.
    wire: VecDeque<(Frame, u64)>,
    read: u64,
    /// Pongs that it owes.
    owed: Vec<Payload>,
    /// All pings in the order in which they were queued, whether they are receipts', and how many of them are answered,
    /// since a pong answers all pings before its own.
    pings: Vec<(Payload, bool)>,
    answered: usize,
}

impl Model {
    fn push(&mut self, frame: Frame, link: &Link) {
        self.wire.push_back((frame, link.queued));
    }

    fn ping(&mut self, payload: Payload, is_receipt: bool, link: &Link) {
        self.pings.push((payload, is_receipt));
        self.push(Frame::Ping(payload), link);
    }

    fn is_receipt_under_way(&self) -> bool {
        self.pings[self.answered..].iter().any(|(_, is_receipt)| *is_receipt)
    }

    /// Reads up to `most` frames of those that have left.
    fn read(&mut self, most: usize, left: u64) {
        for _ in 0..most {
            let Some((frame, _)) = self.wire.pop_front_if(|(_, end)| *end <= left) else { break };
            match frame {
                Frame::Message => self.read += 1,
                Frame::Ping(payload) => self.owed.push(payload),
            }
        }
    }

    /// Answers all pings that were read, or the newest alone.
    fn answer(&mut self, is_brief: bool, link: &mut Link) {
        if is_brief {
            self.owed.drain(..self.owed.len().saturating_sub(1));
        }
        for payload in self.owed.drain(..) {
            link.receipts.on_pong(&payload);
            let at = self.pings.iter().position(|(ping, _)| *ping == payload).unwrap();
            self.answered = self.answered.max(at + 1);
        }
    }
}

/// One random life; whether the server was given up.
fn live(seed: u64, mode: ReceiptMode, answers: bool) -> bool {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut link, mut model) = (Link::new(mode), Model::default());
    let (mut millis, mut left) = (0_u64, 0);
    let mut asked: Vec<u64> = Vec::new();
    let mut before = (0, 0, 0);
    for _ in 0..400 {
        let is_assuming = matches!(link.receipts.state, State::Assuming(_));
        match rng.u8(..12) {
            0..3 => {
                link.send(1);
                model.push(Frame::Message, &link);
            }
            3 | 4 => {
                let is_proven = link.receipts.proven() == link.receipts.sent();
                if let Some(number) = link.ping(millis) {
                    assert!(!is_assuming && !is_proven, "seed {seed}: nothing is to be asked");
                    assert!(!model.is_receipt_under_way(), "seed {seed}: one is under way");
                    asked.push(millis);
                    model.ping(link.receipts.payload(number), true, &link);
                }
            }
            5 => {
                let payload = [model.pings.len() as u8 + 1; PING_PAYLOAD];
                link.queued += PING_FRAME;
                link.receipts.on_heartbeat_ping(payload, link.queued);
                model.ping(payload, false, &link);
            }
            6 | 7 => {
                left += rng.u64(..=link.queued - left);
                link.receipts.on_left(left, link.at(millis));
            }
            8 => model.read(rng.usize(..5), left),
            9 if answers => model.answer(rng.bool(), &mut link),
            10 => {
                // What nobody has asked, what was answered before, and what has not left yet.
                link.receipts.on_pong(&link.receipts.payload(rng.u32(1000..)));
                link.receipts
                    .on_pong(&rng.choice(&model.pings[..model.answered]).map_or([0; 12], |ping| ping.0));
                let on_its_way = model.wire.iter().filter(|(_, end)| *end > left);
                for (frame, _) in on_its_way {
                    if let Frame::Ping(payload) = frame {
                        link.receipts.on_pong(payload);
                    }
                }
            }
            _ => {
                millis += rng.u64(..400) + if rng.u8(..60) == 0 { 11_000 } else { 0 };
                link.timer(millis);
            }
        }
        let receipts = &link.receipts;
        let after = (receipts.sent(), receipts.left(), receipts.proven());
        assert!(after.2 <= after.1 && after.1 <= after.0, "seed {seed}: {after:?}");
        assert!(after.0 >= before.0 && after.1 >= before.1 && after.2 >= before.2, "seed {seed}: {after:?}");
        if !matches!(receipts.state, State::Assuming(_)) {
            assert!(after.2 <= model.read, "seed {seed}: {} proven, {} read", after.2, model.read);
        }
        if after.0 == after.2 && !model.is_receipt_under_way() {
            assert_eq!(receipts.deadline(false), None, "seed {seed}: an idle link has no timer");
        }
        before = after;
    }
    for window in asked.windows(5) {
        assert!(window[4] - window[0] >= 1000, "seed {seed}: {window:?}");
    }
    let has_given_up = matches!(link.receipts.state, State::Assuming(_));
    // In the end all is proven, by the server's answers or by time.
    for _ in 0..3 {
        link.leave(millis);
        model.read(usize::MAX, link.queued);
        if answers && !has_given_up {
            model.answer(true, &mut link);
            millis += 250;
            if let Some(number) = link.ping(millis) {
                model.ping(link.receipts.payload(number), true, &link);
            }
        } else {
            millis += 11_000;
            link.timer(millis);
        }
    }
    assert_eq!(link.receipts.proven(), link.receipts.sent(), "seed {seed}");
    has_given_up
}

#[test]
fn what_is_proven_was_read_and_pings_are_few() {
    let given_up = (0..200).filter(|seed| live(*seed, ReceiptMode::Pings, true)).count();
    assert!((10..150).contains(&given_up), "{given_up} of 200: both happen");
    for seed in 0..100 {
        live(seed, ReceiptMode::Pings, false);
        assert!(live(seed, ReceiptMode::Assumed, true));
    }
}
