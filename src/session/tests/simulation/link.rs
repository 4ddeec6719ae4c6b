//! A link to a server, and the server at its end.

use std::collections::VecDeque;

use fastrand::Rng;

use super::ledger::Ledger;

/// A message on its way to the server.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    pub(super) number: u64,
    pub(super) text: String,
    pub(super) is_greeting: bool,
}

/// A message on its way from it.
#[derive(Debug)]
pub(super) struct Spoken {
    pub(super) text: String,
    /// It answers the greeting, so that the client does not know of it.
    pub(super) is_for_proxy: bool,
}

pub(super) struct Link {
    pub(super) id: u32,
    /// All that the link was handed; a position is a place in it, from 1.
    pub(super) carried: Vec<Carried>,
    pub(super) left: u64,
    pub(super) heard: u64,
    pub(super) proven: u64,
    pub(super) spoken: VecDeque<Spoken>,
    said: u32,
    answers_pings: bool,
    replies: bool,
}

impl Link {
    /// `is_redial`: the client knows nothing of it.
    pub(super) fn new(id: u32, is_redial: bool, random: &mut Rng) -> Self {
        let mut link = Self {
            id,
            carried: Vec::new(),
            left: 0,
            heard: 0,
            proven: 0,
            spoken: VecDeque::new(),
            said: 0,
            answers_pings: random.u8(..5) != 0,
            replies: random.u8(..12) != 0,
        };
        if link.replies {
            link.spoken.push_back(Spoken { text: "welcome".to_owned(), is_for_proxy: is_redial });
        }
        link
    }

    pub(super) fn sent(&self) -> u64 {
        self.carried.len() as u64
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.left == self.sent()
    }

    pub(super) fn is_answering(&self) -> bool {
        self.answers_pings
    }

    /// What was wrong with the server is not any more. Whoever waits for what it has not said waits on.
    pub(super) fn heal(&mut self) {
        self.answers_pings = true;
        self.replies = true;
    }

    /// The server reads so many messages, and does what they ask for.
    pub(super) fn hear(&mut self, most: u64, ledger: &mut Ledger) {
        let until = self.left.min(self.heard.saturating_add(most));
        for position in self.heard..until {
            let message = self.carried[position as usize].clone();
            ledger.on_heard(self.id, &message);
            let mut words = message.text.split(' ');
            let answer = match words.next() {
                Some("auth") => Some("ok auth".to_owned()),
                Some("join") => words.next().map(|room| format!("ok join {room}")),
                // It says so to everybody in the room.
                Some("leave") => words.next().map(|room| format!("left {room}")),
                _ => None,
            };
            if let Some(text) = answer.filter(|_| self.replies) {
                self.spoken.push_back(Spoken { text, is_for_proxy: message.is_greeting });
            }
        }
        self.heard = until;
    }

    /// The server says something of its own.
    pub(super) fn say(&mut self) {
        self.said += 1;
        self.spoken
            .push_back(Spoken { text: format!("news {} {}", self.id, self.said), is_for_proxy: false });
    }
}
