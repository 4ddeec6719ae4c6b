//! What becomes of each message of the client, and what may.

use std::collections::HashMap;

use super::link::{Carried, Link, Spoken};
use crate::config::Replay;
use crate::session::cause::Cause;
use crate::session::outbox::{GivenUp, Lost};

#[derive(Debug, Default)]
struct Fate {
    /// Links on which a server has heard it as the client's, and by a greeting.
    heard: Vec<u32>,
    is_greeted: bool,
    is_proven: bool,
    /// How often its server died while it was the oldest uncertain message.
    deaths: u32,
    /// The client can know that it may be lost.
    is_told: bool,
    /// It is the greeting's to say, as long as that is kept.
    is_left_to_greeting: bool,
}

/// What the greeting keeps of one thing.
#[derive(Debug)]
struct Kept {
    place: u64,
    number: u64,
    text: String,
    thing: (u8, String),
}

pub(super) struct Ledger {
    says_again: bool,
    is_held: bool,
    has_rules: bool,
    fates: HashMap<u64, Fate>,
    dropped: u64,
    store: Vec<Kept>,
    /// The place of what the present server was greeted with last.
    greeted: u64,
    /// The newest message of the client's own that each link has carried to its server.
    newest: HashMap<u32, u64>,
    has_dialled: bool,
    /// What is said again is said alone.
    is_careful: bool,
    is_poisoned: bool,
}

/// What a message is about, for the greeting, and how many of these are kept.
fn thing(text: &str) -> Option<((u8, String), usize)> {
    let mut words = text.split(' ');
    match (words.next()?, words.next()?) {
        ("auth", _) => Some(((1, String::new()), 4)),
        ("join", room) => Some(((2, room.to_owned()), 3)),
        ("topic", _) => Some(((3, text.to_owned()), 2)),
        _ => None,
    }
}

impl Ledger {
    pub(super) fn new(replay: Replay, is_held: bool, has_rules: bool) -> Self {
        Self {
            says_again: replay == Replay::Unacknowledged,
            is_held,
            has_rules,
            fates: HashMap::new(),
            dropped: 0,
            store: Vec::new(),
            greeted: 0,
            newest: HashMap::new(),
            has_dialled: true,
            is_careful: false,
            is_poisoned: false,
        }
    }

    fn fate(&mut self, number: u64) -> &mut Fate {
        self.fates.entry(number).or_default()
    }

    pub(super) fn on_heard(&mut self, link: u32, message: &Carried) {
        let says_again = self.says_again;
        let fate = self.fates.entry(message.number).or_default();
        if message.is_greeting {
            fate.is_greeted = true;
            return;
        }
        assert!(says_again || fate.heard.is_empty(), "{} was heard twice", message.number);
        assert!(!fate.heard.contains(&link), "{} was said twice to one server", message.number);
        fate.heard.push(link);
        let newest = self.newest.insert(link, message.number);
        assert!(newest.is_none_or(|newest| newest < message.number), "{} after {newest:?}", message.number);
    }

    /// The server has answered for all of these. What it was greeted with may be said again all the same, when it is no
    /// greeting any more: the client's own message was uncertain then.
    pub(super) fn on_proven(&mut self, messages: &[Carried]) {
        for message in messages.iter().rev().filter(|message| !message.is_greeting) {
            if std::mem::replace(&mut self.fate(message.number).is_proven, true) {
                // So were all before it.
                return;
            }
        }
    }

    /// A message goes on as it comes.
    pub(super) fn on_sent(&mut self) {
        self.is_careful = false;
    }

    /// The session says something again, or for the first time now that it can.
    pub(super) fn on_said(&mut self, number: u64, is_replay: bool, text: &str, link: &Link) {
        let says_again = self.says_again;
        assert!(!self.store.iter().any(|kept| kept.number == number), "{text} is said by the greeting");
        let mut before = link.carried[link.proven as usize..].iter();
        assert!(!self.is_careful || before.all(|message| message.is_greeting), "{text} is not said alone");
        self.is_careful &= is_replay;
        let fate = self.fate(number);
        assert!(!fate.is_proven, "{text} was taken");
        assert!(!is_replay || says_again, "{text} is said again");
        assert!(is_replay || fate.heard.is_empty(), "{text} may have been heard");
    }

    pub(super) fn on_left_out(&mut self, number: u64) {
        assert!(self.says_again, "nothing that waits was greeted");
        self.fate(number).is_left_to_greeting = true;
    }

    pub(super) fn on_passed_over(&mut self, number: u64) {
        self.fate(number).is_told = true;
    }

    pub(super) fn on_dropped(&mut self, messages: u64) {
        assert!(messages == 0 || !self.is_held, "the client was told that it is received");
        self.dropped += messages;
    }

    pub(super) fn on_expired(&mut self, GivenUp { uncertain, lost }: GivenUp) {
        assert!(self.says_again || uncertain.is_none(), "what may have been heard does not wait");
        for number in lost.iter().flat_map(|lost| lost.numbers.clone()) {
            assert!(self.fate(number).heard.is_empty(), "{number} is told lost, and was heard");
        }
        for given_up in [uncertain, lost].into_iter().flatten() {
            assert!(given_up.messages <= given_up.numbers.end() - given_up.numbers.start() + 1);
            for number in given_up.numbers {
                self.fate(number).is_told = true;
            }
        }
    }

    /// What is told of a lost link is exactly what may have been heard and will not be said again.
    pub(super) fn on_lost(&mut self, link: &Link, greeted: &[u64], lost: Option<&Lost>) {
        let left = &link.carried[link.proven as usize..link.left as usize];
        let numbers = left.iter().filter(|message| !message.is_greeting).map(|message| message.number);
        let (greeted, uncertain): (Vec<u64>, Vec<u64>) = numbers.partition(|number| greeted.contains(number));
        let told = lost.map(|lost| (*lost.numbers.start(), *lost.numbers.end(), lost.messages));
        if self.says_again {
            assert_eq!(told, None, "it is said again");
            let carried = left.iter().find(|message| !message.is_greeting);
            if let Some(oldest) = carried {
                let fate = self.fate(oldest.number);
                fate.deaths += 1;
                self.is_careful |= fate.deaths >= 2;
            }
            return;
        }
        let expected = uncertain.first().zip(uncertain.last());
        assert_eq!(told, expected.map(|(first, last)| (*first, *last, uncertain.len() as u64)));
        for number in uncertain {
            self.fate(number).is_told = true;
        }
        for number in greeted {
            self.fate(number).is_left_to_greeting = true;
        }
    }

    /// A message has left for a server: the greeting keeps it, if it is one of those.
    pub(super) fn on_left(&mut self, number: u64, payload: &[u8], given_up: u64) {
        let text = String::from_utf8_lossy(payload).into_owned();
        self.forget(&text);
        let mut expected = 0;
        if let Some((thing, keep)) = thing(&text) {
            if let Some(kept) = self.store.iter_mut().find(|kept| kept.thing == thing) {
                if number > kept.number {
                    (kept.number, kept.text) = (number, text);
                }
            } else {
                let of_rule = |kept: &&Kept| kept.thing.0 == thing.0;
                if self.store.iter().filter(of_rule).count() == keep {
                    let oldest = self.store.iter().position(|kept| kept.thing.0 == thing.0);
                    self.store.remove(oldest.unwrap());
                    expected = 1;
                }
                self.store.push(Kept { place: number, number, text, thing });
                self.store.sort_by_key(|kept| kept.place);
            }
        }
        assert_eq!(given_up, expected);
    }

    fn forget(&mut self, text: &str) {
        if let Some(room) = text.strip_prefix("leave ").or(text.strip_prefix("left ")) {
            let room = room.split(' ').next().unwrap();
            self.store.retain(|kept| kept.thing != (2, room.to_owned()));
        }
    }

    pub(super) fn on_spoken(&mut self, spoken: &Spoken, is_swallowed: bool, is_greeting: bool) {
        // Where a drain has cut the greeting short, its replies are not waited for any more.
        let is_for_proxy = spoken.is_for_proxy && is_greeting;
        assert_eq!(is_swallowed, is_for_proxy, "{}", spoken.text);
        self.forget(&spoken.text);
    }

    pub(super) fn on_linked(&mut self) {
        self.greeted = 0;
    }

    /// The server is greeted with this: exactly with what comes next. Answers its number.
    pub(super) fn on_greeted(&mut self, text: &str) -> u64 {
        let next = self.store.iter().find(|kept| kept.place > self.greeted);
        let next = next.unwrap_or_else(|| panic!("nothing of that is kept: {text}"));
        assert_eq!(next.text, text);
        self.greeted = next.place;
        next.number
    }

    pub(super) fn on_greeting_done(&mut self) {
        let left = self.store.iter().find(|kept| kept.place > self.greeted);
        assert!(left.is_none(), "it was not said: {left:?}");
    }

    pub(super) fn on_dial(&mut self, is_attached: bool, is_draining: bool) {
        assert!(is_attached && !is_draining, "nobody wants the server");
        self.has_dialled = true;
    }

    /// A client came back for which a server that is lost has to be asked at least once.
    pub(super) fn on_comeback(&mut self) {
        self.has_dialled = false;
    }

    pub(super) fn on_poisoned(&mut self) {
        assert!(self.says_again, "nothing is said twice");
        self.is_poisoned = true;
    }

    /// The session is over: for a reason that there is.
    pub(super) fn on_over(&mut self, cause: Option<&Cause>) {
        assert!(self.is_poisoned || cause != Some(&Cause::Poison), "nobody has died of anything");
        assert!(self.has_dialled || cause != Some(&Cause::UpstreamLost), "it was not even asked");
    }

    /// All that the server has said has come to the client before the Close does.
    pub(super) fn on_last_words(&mut self, heard: usize, log: &[String]) {
        assert_eq!(heard, log.len(), "the rest of the log comes before the Close");
    }

    /// Each message was heard, or its client could know, or it is still on its way.
    pub(super) fn balance(&mut self, received: u64, (carried, waiting): (Vec<u64>, u64), texts: &[String]) {
        let is_settled = |number: &u64| {
            let fate = self.fates.get(number);
            carried.contains(number)
                || fate.is_some_and(|fate| {
                    !fate.heard.is_empty() || fate.is_greeted || fate.is_told || fate.is_left_to_greeting
                })
        };
        let missing: Vec<u64> = (1..=received).filter(|number| !is_settled(number)).collect();
        let texts: Vec<&str> = missing.iter().map(|number| &*texts[*number as usize - 1]).take(5).collect();
        assert!(missing.len() as u64 <= self.dropped + waiting, "{} are missing: {texts:?}", missing.len());
        assert!(self.has_rules || self.store.is_empty());
    }
}
