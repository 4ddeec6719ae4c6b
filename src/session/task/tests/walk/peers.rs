//! Both ends of a random life: what each of them says and takes, over all of its links, and what it has heard.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::super::tickets::Hello;
use super::*;

/// Frames of one link that are to be written, in pieces.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) bytes: Vec<u8>,
    /// Of what was ever put here.
    put: usize,
    written: usize,
    /// Where each message ends that is not whole yet.
    pub(super) ends: VecDeque<usize>,
}

impl Outgoing {
    pub(super) fn put(&mut self, frame: &[u8], is_message: bool) {
        self.bytes.extend_from_slice(frame);
        self.put += frame.len();
        if is_message {
            self.ends.push_back(self.put);
        }
    }

    /// Writes no more than this. Answers how many messages became whole by it.
    pub(super) fn write(&mut self, peer: &mut Peer, most: usize) -> u64 {
        let most = most.min(self.bytes.len());
        let written = peer.write(&self.bytes[..most]);
        self.bytes.drain(..written);
        self.written += written;
        let mut whole = 0;
        while self.ends.front().is_some_and(|end| *end <= self.written) {
            self.ends.pop_front();
            whole += 1;
        }
        whole
    }
}

/// The server, over all of its links.
pub(super) struct Server {
    pub(super) peer: Peer,
    pub(super) out: Outgoing,
    /// Whether it is there to be dialled.
    pub(super) is_up: bool,
    pub(super) answers_pings: bool,
    /// Messages of its own that were written whole: the client has to hear all of them.
    pub(super) said: u64,
    /// What it has heard of the client, link after link.
    pub(super) heard: Vec<Vec<u64>>,
}

impl Server {
    pub(super) fn say(&mut self, size: usize) {
        let number = self.said + self.out.ends.len() as u64 + 1;
        let text = format!("s{number} {}", "s".repeat(size));
        let frame = self.peer.frame(0x81, text.as_bytes());
        self.out.put(&frame, true);
    }

    pub(super) fn write(&mut self, most: usize) {
        self.said += self.out.write(&mut self.peer, most);
    }

    pub(super) fn hear(&mut self, most: usize) {
        self.peer.read(most);
        for (first, payload) in self.peer.frames() {
            match first {
                0x81 => self.heard.last_mut().unwrap().push(number(b'c', &payload)),
                0x89 if self.answers_pings => {
                    let pong = self.peer.frame(0x8a, &payload);
                    self.out.put(&pong, false);
                }
                _ => {}
            }
        }
    }

    pub(super) fn die(&mut self) {
        self.peer.cut();
        self.out = Outgoing::default();
    }
}

/// The client, over all of its links.
pub(super) struct Client {
    pub(super) peer: Peer,
    pub(super) out: Outgoing,
    pub(super) is_held: bool,
    /// Of the newest hello that it has read, and whether that was of this link.
    pub(super) hello: Option<Hello>,
    pub(super) is_greeted: bool,
    /// The number of its newest message, and with a ticket the frames of those that were not received as far as it knows.
    pub(super) said: u64,
    pub(super) unreceived: VecDeque<(u64, Vec<u8>)>,
    pub(super) received: u64,
    /// The newest message of the server that it has heard.
    pub(super) heard: u64,
    /// What it was told may be lost.
    pub(super) told: Vec<RangeInclusive<u64>>,
    pub(super) end: Option<u16>,
}

impl Client {
    pub(super) fn say(&mut self, size: usize) {
        self.said += 1;
        let text = format!("c{} {}", self.said, "c".repeat(size));
        let frame = self.peer.frame(0x81, text.as_bytes());
        if self.is_greeted || !self.is_held {
            self.out.put(&frame, true);
        }
        if self.is_held {
            self.unreceived.push_back((self.said, frame));
        }
    }

    pub(super) fn control(&mut self, text: &str) {
        if let Some(hello) = self.hello.as_ref().filter(|_| self.is_greeted) {
            let frame = self.peer.frame(0x81, &hello.control(text));
            self.out.put(&frame, false);
        }
    }

    pub(super) fn write(&mut self, most: usize) {
        self.out.write(&mut self.peer, most);
    }

    pub(super) fn hear(&mut self, most: usize) {
        self.peer.read(most);
        for (first, payload) in self.peer.frames() {
            assert!(self.end.is_none(), "nothing comes after a Close");
            let prefix = self.hello.as_ref().filter(|_| self.is_greeted).map(|hello| hello.prefix.as_bytes());
            match first {
                0x81 if self.is_held && !self.is_greeted => self.on_hello(Hello::of(&(first, payload))),
                0x81 => match prefix.and_then(|prefix| payload.strip_prefix(prefix)) {
                    Some(control) => {
                        let control = serde_json::from_slice(control).unwrap();
                        self.on_control(&control);
                    }
                    None => {
                        let number = number(b's', &payload);
                        assert_eq!(number, self.heard + 1, "in order, and each once");
                        self.heard = number;
                    }
                },
                0x88 => self.end = Some(stage::close_code(&[(first, payload)]).unwrap()),
                _ => {}
            }
        }
    }

    fn on_hello(&mut self, hello: Hello) {
        assert_eq!(hello.is_resumed, self.hello.is_some());
        assert_eq!(hello.sequence, self.heard, "it goes on where the client is");
        self.on_received(hello.received);
        for (_, frame) in &self.unreceived {
            self.out.put(frame, true);
        }
        self.hello = Some(hello);
        self.is_greeted = true;
    }

    fn on_received(&mut self, received: u64) {
        assert!((self.received..=self.said).contains(&received), "{received} of {}", self.said);
        self.received = received;
        self.unreceived.retain(|(number, _)| *number > received);
    }

    fn on_control(&mut self, control: &serde_json::Value) {
        if let Some(received) = control["ack"].as_u64() {
            self.on_received(received);
        }
        if let Some(number) = control["ping"].as_u64() {
            self.control(&format!(r#"{{"pong":{number}}}"#));
        }
        for word in ["uncertain", "lost"] {
            let lost = &control[word];
            if let (Some(from), Some(to)) = (lost["from"].as_u64(), lost["to"].as_u64()) {
                assert!(1 <= from && from <= to && to <= self.said, "{control}");
                self.told.push(from..=to);
            }
        }
    }

    /// The link is gone, and nothing of it is heard any more.
    pub(super) fn drop_link(&mut self) {
        self.peer.cut();
        self.out = Outgoing::default();
        self.is_greeted = false;
    }

    pub(super) fn come_back(&mut self, stage: &Stage, room: usize) {
        let ticket = &self.hello.as_ref().expect("it has a ticket").ticket;
        let peer = stage.come_back(ticket, self.heard, room);
        self.drop_link();
        match peer {
            Some(peer) => self.peer = peer,
            None => {
                let is_over = stage.task.as_ref().is_none_or(|task| task.machine.cause().is_some());
                assert!(is_over, "its ticket is valid");
                self.end = Some(1011);
            }
        }
    }
}

/// The number that a message begins with.
fn number(who: u8, payload: &[u8]) -> u64 {
    assert_eq!(payload[0], who, "{:?}", String::from_utf8_lossy(payload));
    let end = payload.iter().position(|byte| *byte == b' ').unwrap();
    std::str::from_utf8(&payload[1..end]).unwrap().parse().unwrap()
}
