use std::time::Duration;

use super::pace::{TRIAL, TRIAL_SPREAD};
use super::*;

mod model;

const ENTRY: usize = size_of::<Entry>();

fn rules(replay: Replay) -> SessionQueue {
    SessionQueue { messages: 3, bytes: 4096, age: Duration::from_secs(60), replay, skip: None }
}

/// An outbox between a client and a link.
struct Desk {
    outbox: Outbox,
    now: Instant,
    sent: u64,
}

impl Desk {
    fn new(replay: Replay, is_held: bool) -> Self {
        Self { outbox: Outbox::new(&rules(replay), is_held), now: Instant::now(), sent: 0 }
    }

    /// The client says its next message, which is its number.
    fn send(&mut self, has_left: bool) {
        self.sent += 1;
        let text = (self.outbox.received() + 1).to_string();
        self.outbox.on_sent(Kind::Text, text.as_bytes(), self.sent, has_left, self.now);
    }

    fn queue(&mut self) -> u64 {
        let text = (self.outbox.received() + 1).to_string();
        self.outbox.queue(Kind::Text, text.as_bytes(), self.now)
    }

    fn lose(&mut self) -> Option<(u64, u64, u64)> {
        let lost = self.outbox.on_lost([]);
        self.sent = 0;
        told(lost)
    }

    /// A link that carries `greeted` messages before anything of the outbox.
    fn open(&mut self, greeted: u64) {
        self.sent = greeted;
    }

    /// Hands over what may be; answers numbers, `r` for those that a server may have heard.
    fn say(&mut self, has_left: bool) -> String {
        let mut said = Vec::new();
        while let Some(saying) = self.outbox.next() {
            assert_eq!(saying.payload, saying.number.to_string().as_bytes());
            said.push(format!("{}{}", saying.number, if saying.is_replay { "r" } else { "" }));
            self.sent += 1;
            self.outbox.on_said(self.sent, has_left);
        }
        said.join(" ")
    }

    fn prove(&mut self, position: u64) {
        self.outbox.advance(self.sent, position);
    }
}

/// First and last number, and how many.
type Told = Option<(u64, u64, u64)>;

fn told(lost: Option<Lost>) -> Told {
    lost.map(|lost| (*lost.numbers.start(), *lost.numbers.end(), lost.messages))
}

/// What is uncertain, and what is lost.
fn expired(outbox: &mut Outbox, now: Instant) -> (Told, Told) {
    let GivenUp { uncertain, lost } = outbox.expire(now);
    (told(uncertain), told(lost))
}

#[test]
fn what_becomes_of_a_message_when_the_server_dies_depends_on_how_far_it_came() {
    use Replay::{Unacknowledged, Unsent};
    // Three messages: so many are handed over, have left, and are taken. Then: what is told, what is said again.
    for (replay, handed, left, taken, uncertain, again) in [
        (Unsent, 0, 0, 0, None, "1 2 3"),
        (Unsent, 3, 0, 0, None, "1 2 3"),
        (Unsent, 3, 1, 0, Some((1, 1, 1)), "2 3"),
        (Unsent, 3, 3, 0, Some((1, 3, 3)), ""),
        (Unsent, 3, 3, 1, Some((2, 3, 2)), ""),
        (Unsent, 3, 2, 2, None, "3"),
        (Unsent, 2, 2, 1, Some((2, 2, 1)), "3"),
        (Unsent, 3, 3, 3, None, ""),
        (Unacknowledged, 0, 0, 0, None, "1 2 3"),
        (Unacknowledged, 3, 0, 0, None, "1 2 3"),
        (Unacknowledged, 3, 1, 0, None, "1r 2 3"),
        (Unacknowledged, 3, 3, 0, None, "1r 2r 3r"),
        (Unacknowledged, 3, 3, 1, None, "2r 3r"),
        (Unacknowledged, 3, 2, 2, None, "3"),
        (Unacknowledged, 2, 2, 1, None, "2r 3"),
        (Unacknowledged, 3, 3, 3, None, ""),
    ] {
        let case = format!("{replay:?} {handed} {left} {taken}");
        for (is_held, greeted) in [(false, 0), (true, 0), (false, 5)] {
            let mut desk = Desk::new(replay, is_held);
            desk.open(greeted);
            (0..handed).for_each(|_| desk.send(false));
            desk.outbox.advance(greeted, greeted);
            desk.outbox.advance(greeted + left, greeted + taken);
            (handed..3).for_each(|_| assert_eq!(desk.queue(), 0));
            assert_eq!(desk.lose(), uncertain, "{case}");
            assert_eq!(desk.outbox.received(), 3, "{case}");
            desk.open(greeted);
            assert_eq!(desk.say(true), again, "{case}");
        }
    }
}

#[test]
fn with_unsent_nothing_is_kept_of_what_has_left() {
    let mut desk = Desk::new(Replay::Unsent, false);
    for _ in 0..10_000 {
        desk.send(true);
    }
    assert!(desk.outbox.held() <= 1024, "{}", desk.outbox.held());
    assert!(desk.outbox.is_empty() && !desk.outbox.is_full());
    desk.prove(9_990);
    assert_eq!(desk.lose(), Some((9_991, 10_000, 10)));
    assert_eq!(desk.outbox.held(), 0);
}

#[test]
fn a_message_that_leaves_later_is_kept_until_then() {
    let mut desk = Desk::new(Replay::Unsent, false);
    desk.send(false);
    desk.send(false);
    assert_eq!(desk.outbox.held(), 2 * (ENTRY + 1));
    let leaving: Vec<u64> = desk.outbox.leaving(1).map(|saying| saying.number).collect();
    assert_eq!(leaving, [1]);
    desk.outbox.advance(1, 0);
    assert_eq!(desk.outbox.leaving(2).map(|saying| saying.number).collect::<Vec<_>>(), [2]);
    desk.outbox.advance(2, 0);
    assert_eq!(desk.outbox.leaving(2).count(), 0);
    assert_eq!(desk.lose(), Some((1, 2, 2)));
}

#[test]
fn each_message_leaves_once_also_where_its_bytes_are_kept_on() {
    let mut desk = Desk::new(Replay::Unacknowledged, false);
    (0..3).for_each(|_| desk.send(false));
    let mut left = Vec::new();
    for position in 1..=3 {
        left.extend(desk.outbox.leaving(position).map(|saying| saying.number));
        desk.outbox.advance(position, 0);
    }
    assert_eq!(left, [1, 2, 3]);
}

#[test]
fn what_the_greeting_says_is_not_told_as_uncertain() {
    for (greeted, told_then) in [
        (&[][..], Some((1, 4, 4))),
        (&[1], Some((2, 4, 3))),
        (&[1, 2], Some((3, 4, 2))),
        (&[2], Some((1, 4, 3))),
        (&[3, 4], Some((1, 2, 2))),
        (&[4, 3, 2], Some((1, 1, 1))),
        (&[2, 3, 9], Some((1, 4, 2))),
        (&[1, 2, 3, 4], None),
    ] {
        let mut desk = Desk::new(Replay::Unsent, true);
        (0..4).for_each(|_| desk.send(true));
        assert_eq!(told(desk.outbox.on_lost(greeted.iter().copied())), told_then, "{greeted:?}");
    }
}

#[test]
fn what_the_greeting_has_said_is_left_out_of_the_replay() {
    let mut desk = Desk::new(Replay::Unacknowledged, false);
    (0..3).for_each(|_| desk.send(true));
    assert_eq!(desk.lose(), None);
    desk.open(1);
    desk.outbox.leave_out();
    assert_eq!(desk.say(true), "2r 3r");
    desk.prove(3);
    assert_eq!((desk.lose(), desk.say(true)), (None, String::new()));
}

#[test]
fn a_plain_clients_oldest_messages_go_when_there_are_too_many() {
    for replay in [Replay::Unsent, Replay::Unacknowledged] {
        let mut desk = Desk::new(replay, false);
        let dropped: Vec<u64> = (0..5).map(|_| desk.queue()).collect();
        assert_eq!(dropped, [0, 0, 0, 1, 1]);
        assert_eq!(desk.outbox.queue(Kind::Binary, &[7; 4096], desk.now), 3, "it fits alone");
        assert_eq!(
            desk.outbox.queue(Kind::Binary, &[7; 4097], desk.now),
            1,
            "it does not, and the others stay"
        );
        assert_eq!((desk.outbox.waiting(), desk.outbox.received()), (1, 7));
        assert!(!desk.outbox.is_full(), "it is read on");
    }
}

#[test]
fn what_may_be_said_again_does_not_make_room() {
    let mut desk = Desk::new(Replay::Unacknowledged, false);
    (0..5).for_each(|_| desk.send(true));
    desk.lose();
    let dropped: Vec<u64> = (0..5).map(|_| desk.queue()).collect();
    assert_eq!(dropped, [0, 0, 0, 1, 1]);
    assert_eq!(desk.say(true), "1r 2r 3r 4r 5r 8 9 10");
}

#[test]
fn a_held_clients_messages_are_never_dropped_but_it_is_not_read() {
    for replay in [Replay::Unsent, Replay::Unacknowledged] {
        let mut desk = Desk::new(replay, true);
        for number in 1..=5 {
            assert_eq!(desk.outbox.is_full(), number > 3);
            assert_eq!(desk.queue(), 0);
        }
        assert_eq!(desk.outbox.queue(Kind::Binary, &[7; 5000], desk.now), 0);
        assert_eq!(desk.outbox.waiting(), 6);
        let mut desk = Desk::new(replay, true);
        assert_eq!(desk.outbox.queue(Kind::Binary, &[7; 4096], desk.now), 0);
        assert!(desk.outbox.is_full(), "by bytes");
        desk.outbox.on_said(1, true);
        assert_eq!(desk.outbox.is_full(), replay == Replay::Unacknowledged, "until the server has it");
        desk.outbox.advance(1, 1);
        assert!(!desk.outbox.is_full());
    }
}

#[test]
fn no_more_is_uncertain_than_may_be_kept() {
    for is_held in [false, true] {
        let mut desk = Desk::new(Replay::Unacknowledged, is_held);
        let mut sent = 0;
        while !desk.outbox.is_full() {
            desk.send(true);
            sent += 1;
        }
        assert!(desk.outbox.held() >= 4096 && desk.outbox.held() < 4096 + ENTRY + 3);
        for _ in 0..3 {
            assert_eq!(desk.queue(), 0, "what was never said has room of its own");
        }
        desk.lose();
        assert_eq!(desk.outbox.is_full(), is_held, "a plain client is read while its server is away");
        assert_eq!(desk.say(true).split(' ').count(), sent, "not more than the last one was handed");
        assert!(desk.outbox.next().is_none() && desk.outbox.is_full());
        desk.prove(desk.sent);
        assert_eq!(desk.say(true).split(' ').count(), 3, "the rest goes on then");
    }
}

#[test]
fn a_message_that_does_not_wait_is_received_and_no_more() {
    let mut desk = Desk::new(Replay::Unsent, true);
    desk.outbox.pass_over();
    desk.queue();
    desk.outbox.pass_over();
    desk.queue();
    assert_eq!((desk.outbox.received(), desk.outbox.waiting()), (4, 2));
    assert_eq!(desk.say(true), "2 4");
    assert_eq!(desk.lose(), Some((2, 4, 2)), "one of these numbers was not lost");
}

#[test]
fn what_waits_too_long_is_lost_or_uncertain_if_it_may_have_been_heard() {
    let secs = Duration::from_secs;
    for replay in [Replay::Unsent, Replay::Unacknowledged] {
        let mut desk = Desk::new(replay, true);
        desk.send(true);
        desk.now += secs(1);
        desk.queue();
        desk.now += secs(9);
        desk.queue();
        let start = desk.now - secs(10);
        let at_first = desk.outbox.next_expiry();
        assert_eq!(at_first, Some(start + secs(61)), "what the link was handed is not late any more");
        assert_eq!(expired(&mut desk.outbox, start + secs(60)), (None, None));
        assert_eq!(expired(&mut desk.outbox, start + secs(61)), (None, Some((2, 2, 1))));
        desk.lose();
        let again = replay == Replay::Unacknowledged;
        assert_eq!(desk.outbox.next_expiry(), Some(start + if again { secs(60) } else { secs(70) }));
        let uncertain = again.then_some((1, 1, 1));
        assert_eq!(expired(&mut desk.outbox, start + secs(70)), (uncertain, Some((3, 3, 1))));
        assert_eq!((desk.outbox.next_expiry(), desk.outbox.held()), (None, 0));
    }
    let mut rules = rules(Replay::Unsent);
    rules.age = Duration::MAX;
    let mut outbox = Outbox::new(&rules, false);
    outbox.queue(Kind::Text, b"", Instant::now());
    assert_eq!(outbox.next_expiry(), None);
}

#[test]
fn after_two_deaths_with_the_same_suspect_what_is_said_again_is_said_alone() {
    let mut desk = Desk::new(Replay::Unacknowledged, false);
    (0..3).for_each(|_| desk.send(true));
    desk.lose();
    assert_eq!(desk.say(true), "1r 2r 3r", "once proves nothing");
    desk.lose();
    desk.queue();
    assert_eq!(desk.say(true), "1r");
    assert!(!desk.outbox.is_empty(), "nothing may overtake");
    desk.prove(desk.sent);
    assert_eq!(desk.say(true), "2r", "the one before was taken");
    // It is the first death of which 2 is suspect.
    desk.lose();
    assert_eq!(desk.say(true), "2r");
    desk.prove(desk.sent);
    assert_eq!(desk.say(true), "3r");
    assert_eq!(desk.say(true), "", "what is new waits for the last one that is said again");
    desk.prove(desk.sent);
    assert_eq!(desk.say(true), "4");
    assert!(desk.outbox.is_empty() && !desk.outbox.is_poisoned());
}

#[test]
fn the_third_death_of_the_same_message_is_poison() {
    let mut desk = Desk::new(Replay::Unacknowledged, true);
    desk.send(true);
    desk.send(true);
    for death in 1..=3 {
        assert!(!desk.outbox.is_poisoned(), "{death}");
        assert_eq!(desk.lose(), None);
        let said = ["1r 2r", "1r", ""][death - 1];
        assert_eq!(desk.say(true), said, "{death}");
    }
    assert!(desk.outbox.is_poisoned());
    assert!(!desk.outbox.is_empty() && desk.outbox.next().is_none());
}

#[test]
fn a_server_that_dies_by_itself_is_said_no_suspect_and_condemns_none() {
    let mut desk = Desk::new(Replay::Unacknowledged, true);
    desk.send(true);
    for said in ["1r", ""] {
        desk.lose();
        desk.outbox.on_greeted(0.5, desk.now);
        assert_eq!(desk.say(true), said, "a suspect from the second death on");
    }
    let trial_ends = desk.outbox.trial_ends().unwrap();
    assert_eq!(trial_ends, desk.now + TRIAL + TRIAL_SPREAD / 2);
    for _ in 0..5 {
        desk.outbox.end_trial(trial_ends - Duration::from_millis(1));
        assert_eq!(desk.say(true), "");
        desk.lose();
        desk.outbox.on_greeted(0.5, desk.now);
    }
    assert!(!desk.outbox.is_poisoned());
    desk.outbox.end_trial(trial_ends);
    assert_eq!((desk.outbox.trial_ends(), desk.say(true).as_str()), (None, "1r"));
    desk.lose();
    assert!(desk.outbox.is_poisoned(), "this one had lived, and heard nothing else");
}

#[test]
fn what_is_held_back_for_a_server_that_is_there_is_never_dropped() {
    let mut desk = Desk::new(Replay::Unsent, false);
    let many = desk.outbox.rules.messages as u64 + 10;
    for number in 1..=many {
        desk.outbox.hold_back(Kind::Text, number.to_string().as_bytes(), desk.now);
    }
    let all = Vec::from_iter((1..=many).map(|number| number.to_string()));
    assert_eq!(desk.say(true), all.join(" "));
}

#[test]
fn who_dies_before_anything_has_left_dies_of_nothing_that_was_said() {
    let mut desk = Desk::new(Replay::Unacknowledged, false);
    desk.send(true);
    for _ in 0..5 {
        desk.lose();
        assert_eq!(desk.say(false), "1r");
    }
    assert!(!desk.outbox.is_poisoned());
    // Nor of what it has taken.
    for _ in 0..5 {
        desk.outbox.advance(desk.sent, desk.sent);
        desk.lose();
        desk.send(true);
    }
    assert!(!desk.outbox.is_poisoned());
    // With `unsent` nothing is said twice, so nothing kills twice.
    let mut desk = Desk::new(Replay::Unsent, false);
    for _ in 0..5 {
        desk.send(true);
        assert!(desk.lose().is_some());
    }
    assert!(!desk.outbox.is_poisoned());
}

#[test]
fn caution_ends_with_what_is_said_again_also_where_it_expires_or_is_greeted() {
    for by_greeting in [false, true] {
        let mut desk = Desk::new(Replay::Unacknowledged, false);
        desk.send(true);
        desk.lose();
        desk.say(true);
        desk.lose();
        desk.now += Duration::from_secs(60);
        desk.queue();
        desk.queue();
        if by_greeting {
            desk.outbox.leave_out();
        } else {
            assert_eq!(expired(&mut desk.outbox, desk.now), (Some((1, 1, 1)), None));
        }
        assert_eq!(desk.say(true), "2 3");
        assert!(desk.outbox.is_empty());
    }
}

#[test]
fn numbers_with_gaps_are_told_as_well_as_can_be_kept() {
    let mut uncertain = Uncertain::default();
    // Every second number was left out, and the positions do not show it.
    for position in 1..=200 {
        uncertain.add(position * 2, position);
    }
    assert!(uncertain.held() <= 2048, "{}", uncertain.held());
    uncertain.prove(10);
    uncertain.prove(150);
    let lost = uncertain.lost([]).unwrap();
    assert_eq!((lost.messages, *lost.numbers.end()), (50, 400));
    assert!(*lost.numbers.start() <= 302, "never less than it is: {lost:?}");
}
