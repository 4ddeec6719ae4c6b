//! Random lives of a session, each from a seed: both ends say and take as much as they like and break off where they like, the
//! server dies and comes back, the client drops and comes back. What each of them hears is held against what the other one has
//! surely said.

mod peers;

use std::collections::{BTreeSet, VecDeque};

use fastrand::Rng;

use self::peers::{Client, Outgoing, Server};
use super::*;

const SEEDS: u64 = 300;
const STEPS: u32 = 120;
/// How many events a failure prints.
const TOLD: usize = 40;

/// Prints where it was if a check fails.
struct Trace {
    seed: u64,
    last: VecDeque<String>,
}

impl Trace {
    fn note(&mut self, what: String) {
        if self.last.len() == TOLD {
            self.last.pop_front();
        }
        self.last.push_back(what);
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}; what came before:", self.seed);
            self.last.iter().for_each(|event| eprintln!("  {event}"));
        }
    }
}

struct Walk {
    trace: Trace,
    random: Rng,
    stage: Stage,
    server: Server,
    client: Client,
    says_again: bool,
    /// Whether the client loses links: with a link goes what it was told over it and has not read, until it is told again.
    drops: bool,
    /// The longest message of either.
    longest: usize,
}

impl Walk {
    async fn begin(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let (is_held, says_again, drops) = (random.bool(), random.bool(), random.u8(..3) > 0);
        let replay = if says_again { "unacknowledged" } else { "unsent" };
        let max_lag = [5, 100][random.usize(..2)];
        let queue = ["", ", messages: 10", ", bytes: 3KiB"][random.usize(..3)];
        let policy = format!(
            "{{heartbeat: null, notices: false, close_timeout: 2s, \
             session: {{resume_window: 30m, queue: {{replay: {replay}, age: 30m{queue}}}}}, \
             redial: {{base: 20ms, cap: 200ms, give_up: 30m}}, \
             history: {{messages: 100000, bytes: 64MiB}}, \
             delivery: {{on_stall: backpressure, stall_timeout: 30m, max_lag: {{messages: {max_lag}}}}}}}"
        );
        let room = |random: &mut Rng| [1, 20, 300, 5_000, ROOM][random.usize(..5)];
        let rooms = Rooms { client: room(&mut random), server: room(&mut random) };
        let longest = (rooms.client.min(rooms.server) * 30).min(20_000);
        let (stage, client, server) = Stage::open(&policy, is_held, rooms).await;
        let mut client = Client {
            peer: client,
            out: Outgoing::default(),
            is_held,
            hello: None,
            is_greeted: false,
            said: 0,
            unreceived: VecDeque::new(),
            received: 0,
            heard: 0,
            told: Vec::new(),
            end: None,
        };
        let server = Server {
            peer: server,
            out: Outgoing::default(),
            is_up: true,
            answers_pings: random.u8(..4) > 0,
            said: 0,
            heard: vec![Vec::new()],
        };
        let mut stage = stage;
        // Without the first hello there is nothing to come back with.
        while is_held && !client.is_greeted {
            stage.turn().await;
            client.hear(usize::MAX);
        }
        let trace = Trace { seed, last: VecDeque::new() };
        let mut walk =
            Self { trace, random, stage, server, client, says_again, drops: drops && is_held, longest };
        walk.trace.note(format!("{policy} {rooms:?} held: {is_held}"));
        walk
    }

    async fn step(&mut self) {
        let event = self.random.u8(..100);
        let size = self.size();
        let most = self.random.usize(1..=2 * self.longest);
        let Server { said, out, peer, .. } = &self.server;
        let server = (said, out.ends.len(), out.bytes.len(), peer.is_cut());
        self.trace.note(format!("{event} {size} {most} {} server: {server:?}", self.stage.state()));
        match event {
            0..14 => (0..self.random.u8(1..6)).for_each(|_| self.client.say(size)),
            14..32 => self.client.write(most),
            32..46 => self.client.hear(most),
            46..56 if !self.server.peer.is_cut() => {
                (0..self.random.u8(1..6)).for_each(|_| self.server.say(size));
            }
            56..68 => self.server.write(most),
            68..80 => self.server.hear(most),
            80..84 => self.server.die(),
            84..86 => self.server.is_up = !self.server.is_up,
            86..91 => {
                let time = [1, 5, 30, 300, 3_000][self.random.usize(..5)];
                self.stage.pass(millis(time)).await;
            }
            91..93 => {
                let (seen, ping) = (self.client.heard, self.random.u32(..));
                self.client.control(&format!(r#"{{"seen":{seen},"ping":{ping}}}"#));
            }
            93..95 if self.drops => self.client.drop_link(),
            95..98 if self.drops => {
                let room = [1, 20, 300, ROOM][self.random.usize(..4)];
                self.client.come_back(&self.stage, room);
            }
            _ => self.stage.turn().await,
        }
        if self.random.u8(..4) == 0 {
            self.stage.settle().await;
        } else {
            self.stage.turn().await;
        }
        self.answer_dial().await;
        self.check();
    }

    fn size(&mut self) -> usize {
        match self.random.u8(..4) {
            0 => self.random.usize(..=self.longest),
            _ => self.random.usize(..=self.longest.min(60)),
        }
    }

    /// What the server does with the next dial, if one has come.
    async fn answer_dial(&mut self) {
        let Some(asked) = self.stage.next_dial() else { return };
        if !self.server.is_up {
            return match self.random.bool() {
                true => asked.decline(503),
                false => drop(asked),
            };
        }
        // Where it did not die, whoever dials has lost it.
        self.server.die();
        self.server.peer = asked.accept(b"");
        self.server.heard.push(Vec::new());
        // Whoever has dialled is there, or has given it up by now: nobody hears what is said then.
        self.stage.turn().await;
        self.server.hear(usize::MAX);
        if self.server.peer.is_ended {
            self.server.die();
        }
    }

    /// What holds at any time.
    fn check(&self) {
        assert!(self.client.heard <= self.server.said, "nothing is made up");
        for heard in &self.server.heard {
            assert!(heard.is_sorted_by(|a, b| a < b), "in order and once on one link: {heard:?}");
        }
        if !self.says_again {
            let all: Vec<u64> = self.server.heard.concat();
            assert!(all.is_sorted_by(|a, b| a < b), "in order and once: {all:?}");
        }
        let newest = self.server.heard.iter().flatten().max();
        assert!(newest.is_none_or(|newest| *newest <= self.client.said));
    }

    /// Both ends are there and take everything, until nothing is left to be said. Whether the session has lived so long.
    async fn rest(&mut self) -> bool {
        self.server.is_up = true;
        if self.drops {
            // Over a link that takes more.
            self.client.come_back(&self.stage, ROOM);
        }
        for _ in 0..20_000 {
            if self.stage.task.is_none() {
                return false;
            }
            let before = self.client.out.bytes.len() + self.server.out.bytes.len();
            self.client.write(usize::MAX);
            self.server.write(usize::MAX);
            self.stage.turn().await;
            self.answer_dial().await;
            let read = self.client.peer.read(usize::MAX) + self.server.peer.read(usize::MAX);
            self.client.hear(usize::MAX);
            self.server.hear(usize::MAX);
            self.check();
            if self.client.end.is_some() {
                return false;
            }
            let to_say = self.client.out.bytes.len() + self.server.out.bytes.len();
            if read == 0 && to_say == before {
                if self.is_done() {
                    return true;
                }
                self.stage.pass(millis(50)).await;
            }
        }
        panic!("it does not come to rest: {}", self.stage.state());
    }

    fn is_done(&self) -> bool {
        let task = self.stage.task();
        let is_acknowledged = !self.client.is_held || self.client.received == self.client.said;
        let is_heard = self.client.heard == self.server.said;
        let is_said = self.client.out.bytes.is_empty() && self.server.out.bytes.is_empty();
        is_said && is_acknowledged && is_heard && task.machine.is_live() && task.outbox.held() == 0
    }

    /// What holds when nothing is left to be said.
    fn check_all(&self) {
        let heard: BTreeSet<u64> = self.server.heard.iter().flatten().copied().collect();
        let missing: Vec<u64> = (1..=self.client.said).filter(|number| !heard.contains(number)).collect();
        let (queue, uncertain) =
            (self.stage.lost(MessageLoss::Queue), self.stage.lost(MessageLoss::Uncertain));
        if self.client.is_held {
            assert_eq!(queue, 0, "what was received is not dropped");
            for number in &missing {
                let is_told = self.client.told.iter().any(|told| told.contains(number));
                assert!(is_told, "{number} is lost, and the client was told of {:?}", self.client.told);
            }
        }
        if self.says_again {
            assert_eq!((missing.len() as u64, uncertain), (queue, 0), "{missing:?}");
        } else {
            let missing = missing.len() as u64;
            assert!((queue..=queue + uncertain).contains(&missing), "{missing}: {queue} and {uncertain}");
        }
    }

    /// One of the two ends it, and nothing is left.
    async fn end(mut self, is_poisoned: bool) {
        if self.client.end.is_none() {
            let kept = self.stage.task().opening.size();
            if self.client.is_held {
                self.client.control(&format!(r#"{{"seen":{}}}"#, self.client.heard));
            }
            for _ in 0..20 {
                self.client.write(usize::MAX);
                self.server.write(usize::MAX);
                self.stage.settle().await;
                self.client.hear(usize::MAX);
                self.server.hear(usize::MAX);
            }
            if self.client.out.bytes.is_empty() && self.server.out.bytes.is_empty() {
                // Old links have their time to close.
                self.stage.pass(secs(5)).await;
                self.client.hear(usize::MAX);
                self.server.hear(usize::MAX);
                self.server.write(usize::MAX);
                self.stage.settle().await;
                assert_eq!(self.stage.budget.used(), kept, "{}", self.stage.state());
            }
        }
        self.client.drop_link();
        self.server.die();
        self.stage.settle().await;
        if self.client.is_held {
            self.stage.sessions.end_detached();
        }
        self.stage.pass(secs(10)).await;
        self.stage.is_over();
        let (poison, other) = self.stage.ends(SessionEnd::Poison);
        assert_eq!((poison, other), if is_poisoned { (1, 0) } else { (0, 1) }, "each is counted once");
    }
}

#[tokio::test(start_paused = true)]
async fn random_lives_lose_nothing_in_silence() {
    let (mut ended, mut served) = (0, 0);
    let seeds = match std::env::var("OUTRIGGER_TEST_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("a number");
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    };
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let (mut walk, mut is_poisoned) = (Walk::begin(seed).await, false);
        for _ in 0..STEPS {
            walk.step().await;
            if walk.client.end.is_some() || walk.stage.task.is_none() {
                break;
            }
        }
        if walk.stage.task.is_some() && walk.client.end.is_none() && walk.rest().await {
            walk.check_all();
        } else {
            // One message has ended three servers in a row, as far as anybody can see.
            assert!(walk.says_again, "seed {seed}: {:?}", walk.client.end);
            is_poisoned = true;
            ended += 1;
        }
        served += walk.server.heard.len();
        walk.end(is_poisoned).await;
    }
    assert!(ended * 4 <= count, "{ended} of {count} ended early");
    assert!(served as u64 >= 2 * count || count == 1, "there were redials: {served}");
}
