//! Random lives of an outbox beside a plain model, which keeps each message for ever and goes over all of them every time.

use std::time::Duration;

use proptest::prelude::*;

use super::{Desk, ENTRY, GivenUp, told};
use crate::config::Replay;
use crate::frame::Kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be said.
    Waiting,
    /// The link was handed it, at this position.
    Said(u64),
    /// It was taken, its client was told, or the greeting says it.
    Settled,
}

struct Message {
    state: State,
    size: usize,
    at: Duration,
    deaths: u8,
    may_be_known: bool,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Says { size: usize, has_left: bool },
    PassedOver,
    Leaves(u64),
    Takes(u64),
    Dies { is_newest_greeted: bool },
    Opens { greeted: u64 },
    SaysAgain { has_left: bool },
    Passes(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let says = (prop_oneof![0..10_usize, 0..5000_usize], any::<bool>());
    prop_oneof![
        8 => says.prop_map(|(size, has_left)| Event::Says { size, has_left }),
        1 => Just(Event::PassedOver),
        3 => (0..4_u64).prop_map(Event::Leaves),
        2 => (0..4_u64).prop_map(Event::Takes),
        2 => any::<bool>().prop_map(|is_newest_greeted| Event::Dies { is_newest_greeted }),
        4 => (0..3_u64).prop_map(|greeted| Event::Opens { greeted }),
        6 => any::<bool>().prop_map(|has_left| Event::SaysAgain { has_left }),
        1 => (0..40_u64).prop_map(Event::Passes),
    ]
}

struct Model {
    desk: Desk,
    says_again: bool,
    is_held: bool,
    /// By their numbers; `None`: it did not wait.
    messages: Vec<Option<Message>>,
    now: Duration,
    is_up: bool,
    left: u64,
    proven: u64,
    is_careful: bool,
    is_poisoned: bool,
}

impl Model {
    fn new(replay: Replay, is_held: bool) -> Self {
        Self {
            desk: Desk::new(replay, is_held),
            says_again: replay == Replay::Unacknowledged,
            is_held,
            messages: Vec::new(),
            now: Duration::ZERO,
            is_up: true,
            left: 0,
            proven: 0,
            is_careful: false,
            is_poisoned: false,
        }
    }

    fn those(&self, is_one: impl Fn(&Message) -> bool) -> Vec<(u64, &Message)> {
        let numbered =
            (1..).zip(&self.messages).filter_map(|(number, message)| Some((number, message.as_ref()?)));
        numbered.filter(|(_, message)| is_one(message)).collect()
    }

    fn numbers(&self, is_one: impl Fn(&Message) -> bool) -> Vec<u64> {
        self.those(is_one).into_iter().map(|(number, _)| number).collect()
    }

    fn set(&mut self, numbers: &[u64], state: State) {
        for number in numbers {
            self.message(*number).state = state;
        }
    }

    fn message(&mut self, number: u64) -> &mut Message {
        self.messages[number as usize - 1].as_mut().unwrap()
    }

    /// Handed to the link, at positions in this range.
    fn said(&self, positions: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        self.numbers(
            |message| matches!(message.state, State::Said(position) if positions.contains(&position)),
        )
    }

    fn is_window_full(&self) -> bool {
        let said = self.those(|message| matches!(message.state, State::Said(_)));
        self.says_again && said.iter().map(|(_, message)| ENTRY + message.size).sum::<usize>() >= 4096
    }

    /// What no server has heard of, and its bytes.
    fn fresh(&self) -> (Vec<u64>, usize) {
        let fresh = self.those(|message| message.state == State::Waiting && !message.may_be_known);
        (
            fresh.iter().map(|(number, _)| *number).collect(),
            fresh.iter().map(|(_, message)| message.size).sum(),
        )
    }

    fn next(&self) -> Option<(u64, bool)> {
        let is_under_way = !self.said(0..=u64::MAX).is_empty();
        let (number, message) = *self.those(|message| message.state == State::Waiting).first()?;
        let is_held_back = self.is_poisoned || (self.is_careful && is_under_way) || self.is_window_full();
        (!is_held_back).then_some((number, message.may_be_known))
    }

    fn relax(&mut self) {
        let repeated = self.numbers(|message| message.may_be_known && message.state != State::Settled);
        self.is_careful &= !repeated.is_empty();
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Says { size, has_left } if !self.desk.outbox.is_full() => self.says(size, has_left),
            Event::PassedOver => {
                self.messages.push(None);
                self.desk.outbox.pass_over();
            }
            Event::Leaves(more) if self.is_up => {
                let left = (self.left + more).min(self.desk.sent);
                let told: Vec<u64> = self.desk.outbox.leaving(left).map(|saying| saying.number).collect();
                assert_eq!(told, self.said(self.left + 1..=left));
                self.left = left;
                self.desk.outbox.advance(self.left, self.proven);
            }
            Event::Takes(more) if self.is_up => {
                self.proven = (self.proven + more).min(self.left);
                self.desk.outbox.advance(self.left, self.proven);
                let taken = self.said(0..=self.proven);
                self.set(&taken, State::Settled);
                self.relax();
            }
            Event::Dies { is_newest_greeted } if self.is_up => self.dies(is_newest_greeted),
            Event::Opens { greeted } if !self.is_up => {
                self.is_up = true;
                (self.left, self.desk.sent) = (greeted, greeted);
            }
            Event::SaysAgain { has_left } if self.is_up => {
                let Some((number, _)) = self.next() else { return };
                self.desk.sent += 1;
                let position = self.desk.sent;
                self.set(&[number], State::Said(position));
                self.desk.outbox.on_said(position, has_left);
                self.left = if has_left { position } else { self.left };
            }
            Event::Passes(secs) => {
                self.now += Duration::from_secs(secs);
                self.desk.now += Duration::from_secs(secs);
                let (now, age) = (self.now, Duration::from_secs(60));
                let late = self.numbers(|message| message.state == State::Waiting && message.at + age <= now);
                self.set(&late, State::Settled);
                let (known, fresh): (Vec<u64>, Vec<u64>) =
                    late.into_iter().partition(|number| self.message(*number).may_be_known);
                let GivenUp { uncertain, lost } = self.desk.outbox.expire(self.desk.now);
                assert_eq!((told(uncertain), told(lost)), (span(&known), span(&fresh)));
                self.relax();
            }
            _ => {}
        }
    }

    fn says(&mut self, size: usize, has_left: bool) {
        let payload = format!("{:0size$}", self.messages.len() + 1).into_bytes();
        let (size, now) = (payload.len(), self.desk.now);
        let message = Message { state: State::Waiting, size, at: self.now, deaths: 0, may_be_known: false };
        self.messages.push(Some(message));
        let number = self.messages.len() as u64;
        if self.is_up && self.desk.outbox.is_empty() {
            self.desk.sent += 1;
            let position = self.desk.sent;
            self.desk.outbox.on_sent(Kind::Text, &payload, position, has_left, now);
            self.set(&[number], State::Said(position));
            self.left = if has_left { position } else { self.left };
            return;
        }
        let mut dropped = 0;
        if !self.is_held && size > 4096 {
            self.set(&[number], State::Settled);
            dropped = 1;
        }
        loop {
            let (fresh, bytes) = self.fresh();
            if self.is_held || (fresh.len() <= 3 && bytes <= 4096) {
                break;
            }
            self.set(&fresh[..1], State::Settled);
            dropped += 1;
        }
        assert_eq!(self.desk.outbox.queue(Kind::Text, &payload, now), dropped);
    }

    fn dies(&mut self, is_newest_greeted: bool) {
        self.is_up = false;
        let uncertain = self.said(0..=self.left);
        let mut greeted = None;
        let mut lost = None;
        if self.says_again {
            for number in &uncertain {
                self.message(*number).may_be_known = true;
            }
            if let Some(oldest) = uncertain.first() {
                let deaths = self.message(*oldest).deaths + 1;
                self.message(*oldest).deaths = deaths;
                self.is_poisoned |= deaths >= 3 && uncertain.len() == 1;
                self.is_careful |= deaths >= 2;
            }
        } else {
            self.set(&uncertain, State::Settled);
            greeted = uncertain.last().copied().filter(|_| is_newest_greeted);
            lost = span(&uncertain[..uncertain.len() - usize::from(greeted.is_some())]);
        }
        let waiting = self.said(0..=u64::MAX);
        self.set(&waiting, State::Waiting);
        (self.left, self.proven, self.desk.sent) = (0, 0, 0);
        assert_eq!(told(self.desk.outbox.on_lost(greeted)), lost);
    }

    fn check(&self) {
        let outbox = &self.desk.outbox;
        let waiting = self.numbers(|message| message.state == State::Waiting);
        assert_eq!(outbox.received(), self.messages.len() as u64);
        assert_eq!(outbox.next().map(|saying| (saying.number, saying.is_replay)), self.next());
        assert_eq!(outbox.waiting(), waiting.len());
        let is_fresh = |message: &Message| message.state == State::Waiting && !message.may_be_known;
        let is_known = |message: &Message| message.state == State::Waiting && message.may_be_known;
        let GivenUp { uncertain, lost } = outbox.unsaid();
        let unsaid = (span(&self.numbers(is_known)), span(&self.numbers(is_fresh)));
        assert_eq!((told(uncertain), told(lost)), unsaid);
        assert_eq!(outbox.is_empty(), waiting.is_empty() && !self.is_careful && !self.is_poisoned);
        assert_eq!(outbox.is_poisoned(), self.is_poisoned);
        let (fresh, bytes) = self.fresh();
        let has_too_many = fresh.len() >= 3 || bytes >= 4096;
        assert_eq!(outbox.is_full(), (self.is_held && has_too_many) || self.is_window_full());
        let kept = self.those(|message| match message.state {
            State::Waiting => true,
            State::Said(position) => self.says_again || position > self.left,
            State::Settled => false,
        });
        let cost: usize = kept.iter().map(|(_, message)| ENTRY + message.size).sum();
        assert!((cost..=cost + 2048).contains(&outbox.held()), "{} for {cost}", outbox.held());
        // The link is handed what it does not take at once, so that its messages may wait without a bound of ours; what
        // may be said again is bounded, so is what was never said, and one message exceeds either.
        let bound = 2 * (4096 + 5000 + ENTRY) + 3 * ENTRY + 2048;
        assert!(!self.says_again || outbox.held() <= bound, "{}", outbox.held());
    }
}

fn span(numbers: &[u64]) -> Option<(u64, u64, u64)> {
    Some((*numbers.first()?, *numbers.last()?, numbers.len() as u64))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn an_outbox_does_what_a_list_of_all_messages_does(
        events in prop::collection::vec(event(), 1..120),
        says_again in any::<bool>(),
        is_held in any::<bool>(),
    ) {
        let replay = if says_again { Replay::Unacknowledged } else { Replay::Unsent };
        let mut model = Model::new(replay, is_held);
        for event in events {
            model.step(event);
            model.check();
        }
    }
}
