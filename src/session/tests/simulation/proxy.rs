//! The pure parts of a session, put together as its task does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::ledger::Ledger;
use super::link::{Carried, Link};
use crate::config::{GreetingRule, Redial, SessionQueue};
use crate::frame::Kind;
use crate::log::rules::Matcher;
use crate::session::cause::{Cause, ServerEnd};
use crate::session::greeting::{Greetings, Rules, Step};
use crate::session::machine::{Client, Machine, Server};
use crate::session::outbox::Outbox;

const REDIAL: Redial = Redial {
    base: Duration::from_millis(100),
    factor: 2.0,
    cap: Duration::from_secs(5),
    give_up: Some(Duration::from_secs(60)),
    reset_after: Duration::from_secs(2),
};
const WINDOW: Duration = Duration::from_secs(90);

pub(super) struct Proxy {
    pub(super) machine: Machine,
    pub(super) outbox: Outbox,
    pub(super) log: Vec<String>,
    /// What the client is sent next, by its place in the log.
    pub(super) next: usize,
    greetings: Option<Greetings>,
    skip: Option<Matcher>,
    link: Option<Link>,
}

impl Proxy {
    pub(super) fn new(
        rules: &[GreetingRule],
        queue: &SessionQueue,
        is_held: bool,
        link: Link,
        now: Instant,
    ) -> Self {
        let rules = Rules::new(rules);
        Self {
            machine: Machine::new(REDIAL, is_held.then_some(WINDOW), now),
            outbox: Outbox::new(queue, is_held),
            log: Vec::new(),
            next: 0,
            greetings: (!rules.is_empty()).then(|| Greetings::new(Arc::new(rules), 1 << 20)),
            skip: queue.skip.as_ref().map(Matcher::new),
            link: Some(link),
        }
    }

    pub(super) fn with_link(&mut self, act: impl FnOnce(&mut Link)) {
        if let Some(link) = &mut self.link {
            act(link);
        }
    }

    pub(super) fn forget_link(&mut self) {
        self.link = None;
    }

    /// Nothing is on the way to the server, or from it.
    pub(super) fn is_idle(&self) -> bool {
        let is_clear = |link: &Link| link.proven == link.sent() && link.spoken.is_empty();
        self.outbox.is_empty() && self.link.as_ref().is_some_and(is_clear)
    }

    /// Numbers that may still be heard: those of the link, and how many wait.
    pub(super) fn waiting(&self) -> (Vec<u64>, u64) {
        let carried = self.link.iter().flat_map(|link| &link.carried[link.heard as usize..]);
        (carried.map(|message| message.number).collect(), self.outbox.waiting() as u64)
    }

    /// Reads what the client has sent, as far as it can go on.
    pub(super) fn read(
        &mut self,
        pipe: &mut VecDeque<u64>,
        texts: &[String],
        is_flushing: bool,
        now: Instant,
        ledger: &mut Ledger,
    ) {
        while self.may_read() {
            let Some(number) = pipe.pop_front() else { return };
            if self.machine.server() == Server::Over || self.machine.client() != Client::Attached {
                continue;
            }
            assert_eq!(number, self.outbox.received() + 1, "both count the same");
            let payload = texts[number as usize - 1].as_bytes();
            let is_live = self.machine.is_live() && self.outbox.is_empty();
            if let Some(link) = self.link.as_mut().filter(|_| is_live) {
                let text = texts[number as usize - 1].clone();
                link.carried.push(Carried { number, text, is_greeting: false });
                ledger.on_sent();
                if is_flushing {
                    link.left = link.sent();
                    let (sent, left, proven) = (link.sent(), link.left, link.proven);
                    self.advance(left, proven, ledger);
                    self.outbox.on_sent(Kind::Text, payload, sent, true, now);
                    self.on_left(number, payload, ledger);
                } else {
                    let sent = link.sent();
                    self.outbox.on_sent(Kind::Text, payload, sent, false, now);
                }
            } else if self.skip.as_ref().is_some_and(|skip| skip.matches(Kind::Text, payload, number)) {
                self.outbox.pass_over();
                ledger.on_passed_over(number);
            } else {
                ledger.on_dropped(self.outbox.queue(Kind::Text, payload, now));
            }
        }
    }

    fn may_read(&self) -> bool {
        match self.machine.server() {
            Server::Live => {
                let is_flushed = self.link.as_ref().is_none_or(Link::is_flushed);
                self.outbox.is_empty() && is_flushed && !self.outbox.is_full()
            }
            Server::Greeting { .. } | Server::Waiting { .. } | Server::Dialling | Server::Asleep => {
                !self.outbox.is_full()
            }
            Server::Over => true,
        }
    }

    /// So many messages leave.
    pub(super) fn flush(&mut self, most: u64, ledger: &mut Ledger) {
        let Some(link) = &mut self.link else { return };
        link.left = link.sent().min(link.left.saturating_add(most));
        let (left, proven) = (link.left, link.proven);
        self.advance(left, proven, ledger);
    }

    /// The server answers a ping that was sent at some time.
    pub(super) fn prove(&mut self, random: &mut Rng, ledger: &mut Ledger) {
        let Some(link) = self.link.as_mut().filter(|link| link.is_answering()) else { return };
        link.proven = random.u64(link.proven..=link.heard);
        ledger.on_proven(&link.carried[..link.proven as usize]);
        let (left, proven) = (link.left, link.proven);
        self.advance(left, proven, ledger);
    }

    pub(super) fn prove_all(&mut self, ledger: &mut Ledger) {
        let Some(link) = &mut self.link else { return };
        link.proven = link.heard;
        ledger.on_proven(&link.carried[..link.proven as usize]);
        let (left, proven) = (link.left, link.proven);
        self.advance(left, proven, ledger);
    }

    fn advance(&mut self, left: u64, proven: u64, ledger: &mut Ledger) {
        for saying in self.outbox.leaving(left) {
            if let Some(greetings) = &mut self.greetings {
                let given_up = greetings.on_client_message(saying.number, saying.kind, saying.payload);
                ledger.on_left(saying.number, saying.payload, given_up);
            }
        }
        self.outbox.advance(left, proven);
    }

    fn on_left(&mut self, number: u64, payload: &[u8], ledger: &mut Ledger) {
        if let Some(greetings) = &mut self.greetings {
            let given_up = greetings.on_client_message(number, Kind::Text, payload);
            ledger.on_left(number, payload, given_up);
        }
    }

    /// Hears so many messages of the server.
    pub(super) fn listen(&mut self, most: usize, ledger: &mut Ledger) {
        let is_greeting = matches!(self.machine.server(), Server::Greeting { .. });
        for _ in 0..most {
            let Some(spoken) = self.link.as_mut().and_then(|link| link.spoken.pop_front()) else { return };
            let mut is_swallowed = false;
            if let Some(greetings) = &mut self.greetings {
                is_swallowed = is_greeting && greetings.takes(Kind::Text, spoken.text.as_bytes());
                if !is_swallowed && greetings.wants_server_messages() {
                    greetings.on_server_message(Kind::Text, spoken.text.as_bytes());
                }
                ledger.on_spoken(&spoken, is_swallowed, is_greeting);
            }
            if !is_swallowed {
                self.log.push(spoken.text);
            }
        }
    }

    /// Sends the client so many messages.
    pub(super) fn deliver(&mut self, most: usize, pipe: &mut VecDeque<usize>) {
        if !matches!(self.machine.client(), Client::Attached | Client::Leaving { .. }) {
            return;
        }
        let until = self.log.len().min(self.next.saturating_add(most));
        pipe.extend(self.next..until);
        self.next = until;
    }

    pub(super) fn on_server_end(&mut self, end: ServerEnd, random: f64, now: Instant, ledger: &mut Ledger) {
        if self.link.is_none() {
            return;
        }
        self.drop_link(ledger);
        self.machine.on_server_end(end, random, now);
        if self.outbox.is_poisoned() {
            ledger.on_poisoned();
            self.machine.on_over(Cause::Poison);
        }
    }

    fn drop_link(&mut self, ledger: &mut Ledger) {
        let Some(link) = self.link.take() else { return };
        self.advance(link.left, link.proven, ledger);
        let greeted: Vec<u64> = self.greetings.iter().flat_map(|greetings| greetings.numbers()).collect();
        let lost = self.outbox.on_lost(greeted.iter().copied());
        ledger.on_lost(&link, &greeted, lost.as_ref());
    }

    /// A link that the machine does not count on any more.
    pub(super) fn drop_unwanted_link(&mut self, ledger: &mut Ledger) {
        if !matches!(self.machine.server(), Server::Live | Server::Greeting { .. }) {
            self.drop_link(ledger);
        }
    }

    pub(super) fn on_linked(&mut self, link: Link, now: Instant, ledger: &mut Ledger) {
        if self.machine.on_linked(now) {
            self.link = Some(link);
            ledger.on_linked();
            if let Some(greetings) = &mut self.greetings {
                greetings.begin();
            }
        }
    }

    /// Says what the server has to hear.
    pub(super) fn say(&mut self, random: &mut Rng, now: Instant, ledger: &mut Ledger) {
        if matches!(self.machine.server(), Server::Greeting { .. }) && self.greet(ledger) {
            self.machine.on_greeted(now);
        }
        if !self.machine.is_live() {
            return;
        }
        while let (Some(link), Some(saying)) = (&mut self.link, self.outbox.next()) {
            let is_greeted =
                |greetings: &Greetings| greetings.is_kept(saying.number, saying.kind, saying.payload);
            if self.greetings.as_ref().is_some_and(is_greeted) {
                ledger.on_left_out(saying.number);
                self.outbox.leave_out();
                continue;
            }
            // The link does not take everything at once.
            if random.u8(..4) == 0 {
                return;
            }
            let text = String::from_utf8_lossy(saying.payload).into_owned();
            ledger.on_said(saying.number, saying.is_replay, &text, link);
            link.carried.push(Carried { number: saying.number, text, is_greeting: false });
            let sent = link.sent();
            self.outbox.on_said(sent, false);
        }
    }

    fn greet(&mut self, ledger: &mut Ledger) -> bool {
        let (Some(link), Some(greetings)) = (&mut self.link, &mut self.greetings) else {
            return self.link.is_some();
        };
        loop {
            match greetings.next() {
                Step::Say { payload, .. } => {
                    let text = String::from_utf8_lossy(payload).into_owned();
                    let number = ledger.on_greeted(&text);
                    link.carried.push(Carried { number, text, is_greeting: true });
                }
                Step::Await => return false,
                Step::Done => {
                    ledger.on_greeting_done();
                    return true;
                }
            }
            greetings.on_said();
        }
    }

    pub(super) fn on_time(&mut self, random: f64, now: Instant, ledger: &mut Ledger) {
        self.machine.on_time(random, now);
        if !self.machine.is_live() {
            ledger.on_expired(self.outbox.expire(now));
        }
    }

    /// What holds after each event.
    pub(super) fn check(&self) {
        let (server, client) = (self.machine.server(), self.machine.client());
        let is_linked = matches!(server, Server::Live | Server::Greeting { .. });
        assert_eq!(self.link.is_some(), is_linked, "{server:?}");
        let is_attached = client == Client::Attached;
        let has_deadline = self.machine.deadline().or(self.machine.turn_at()).is_some();
        // A gate that gives a turn and a dial wake by themselves.
        let is_waited_for = is_linked || is_attached && matches!(server, Server::Dialling);
        assert!(
            client == Client::Gone || is_waited_for || has_deadline || server == Server::Over,
            "nothing wakes it"
        );
        assert!(self.machine.is_held() || !matches!(client, Client::Away { .. }), "nobody could come back");
    }
}
