//! Random lives of a session, each from a seed: servers that die, fall silent or decline, a network that holds back or loses
//! what it was given, clients that drop and come back. The pure parts run as the task runs them; what must hold is judged by
//! [`ledger`], which knows of the session only what both peers see and what was told.
//!
//! # Not here
//! Bytes, sockets and wakers: a message is whole or it is not there.

mod ledger;
mod link;
mod proxy;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use self::ledger::Ledger;
use self::link::Link;
use self::proxy::Proxy;
use crate::config::{GreetingRule, Match, MessageKey, Replay, SessionQueue};
use crate::frame::CloseCode;
use crate::session::cause::{Cause, ServerEnd};
use crate::session::machine::{Client, DialEnd, Server};
use crate::session::ticket::Generations;
use crate::telemetry::Label;

/// How many events a failure prints.
const TOLD: usize = 50;
const STEPS: u32 = 300;

const QUEUE: SessionQueue = SessionQueue {
    messages: 12,
    bytes: 2000,
    age: Duration::from_secs(20),
    replay: Replay::Unsent,
    skip: None,
};

/// What can happen.
#[derive(Debug, Clone, Copy)]
enum Event {
    ClientSays,
    ProxyReads,
    LinkLeaves,
    ServerHears,
    ServerAnswersPing,
    ServerSays,
    ServerIsHeard,
    ClientIsSent,
    ClientHears,
    ServerDies,
    ServerRestarts,
    ServerFails,
    ServerCloses,
    GateGivesTurn,
    DialEnds,
    ServerStops,
    ServerStarts,
    Passes(u64),
    ClientDrops,
    ClientAttaches,
    LifetimeEnds,
    Evicted,
    LogHasHole,
    Drains,
    DrainDate,
}

/// Events by how often they come.
const EVENTS: &[(u32, Event)] = &[
    (60, Event::ClientSays),
    (60, Event::ProxyReads),
    (50, Event::LinkLeaves),
    (40, Event::ServerHears),
    (25, Event::ServerAnswersPing),
    (20, Event::ServerSays),
    (40, Event::ServerIsHeard),
    (30, Event::ClientIsSent),
    (30, Event::ClientHears),
    (10, Event::ServerDies),
    (4, Event::ServerRestarts),
    (3, Event::ServerFails),
    (1, Event::ServerCloses),
    (40, Event::GateGivesTurn),
    (40, Event::DialEnds),
    (3, Event::ServerStops),
    (15, Event::ServerStarts),
    (30, Event::Passes(50)),
    (6, Event::Passes(1_500)),
    (1, Event::Passes(12_000)),
    (8, Event::ClientDrops),
    (16, Event::ClientAttaches),
    (1, Event::LifetimeEnds),
    (1, Event::Evicted),
    (1, Event::LogHasHole),
    (1, Event::Drains),
    (4, Event::DrainDate),
];

/// Prints where it was if a check fails.
struct Trace {
    seed: u64,
    steps: u32,
    /// With what it met, and when.
    last: VecDeque<(u32, Event, Server, Client, Instant)>,
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, step {}; what came before:", self.seed, self.steps);
            let start = self.last.front().map(|(.., now)| *now);
            for (step, event, server, client, now) in &self.last {
                let since = start.map_or(Duration::ZERO, |start| now.saturating_duration_since(start));
                // Moments are told apart by how far they are ahead.
                let server = match server {
                    Server::Waiting { not_before } => {
                        format!("Waiting for {:?}", not_before.saturating_duration_since(*now))
                    }
                    Server::Greeting { reply_by } => {
                        format!("Greeting for {:?}", reply_by.saturating_duration_since(*now))
                    }
                    other => format!("{other:?}"),
                };
                let client = match client {
                    Client::Away { until } => format!("Away for {:?}", until.saturating_duration_since(*now)),
                    other => format!("{other:?}"),
                };
                eprintln!("  {step:6} at {since:?}: {event:?} in {server}, {client}");
            }
        }
    }
}

/// A session with its peers.
struct World {
    random: Rng,
    now: Instant,
    is_server_up: bool,
    /// What the client says, in order of its numbers.
    texts: Vec<String>,
    /// How many of them its present link was handed, and what of them the proxy has not read.
    client_sent: u64,
    client_pipe: VecDeque<u64>,
    /// How many messages it has heard, and what is on the way to it, by their places in the log.
    heard: usize,
    proxy_pipe: VecDeque<usize>,
    links: u32,
    /// Since when nothing goes wrong any more.
    healed_at: Option<Instant>,
    /// The ticket that the client has, by its number.
    ticket: u32,
    tickets: Generations,
    proxy: Proxy,
    ledger: Ledger,
}

fn rules() -> Vec<GreetingRule> {
    let regex = |text: &str| Some(Match::Regex(text.to_owned()));
    let capture = |text: &str| Some(MessageKey::Capture(text.to_owned()));
    let rule = |said, reply, key, forget, keep| GreetingRule { said, reply, key, forget, keep };
    vec![
        rule(None, regex("^welcome$"), None, None, 1),
        rule(regex("^auth "), regex("^ok auth"), capture("^(?:ok )?(auth)"), None, 4),
        rule(
            regex("^join "),
            regex("^ok join "),
            capture("(?:join|leave|left) (r\\d)"),
            regex("^(?:leave|left) "),
            3,
        ),
        rule(regex("^topic "), None, None, None, 2),
    ]
}

impl World {
    fn new(mut random: Rng) -> Self {
        let replay = if random.bool() { Replay::Unsent } else { Replay::Unacknowledged };
        let is_held = random.bool();
        let rules = if random.u8(..4) == 0 { Vec::new() } else { rules() };
        let queue = SessionQueue { replay, skip: Some(Match::Regex("^beat".into())), ..QUEUE };
        let now = Instant::now();
        let link = Link::new(0, false, &mut random);
        let mut tickets = Generations::default();
        let ticket = tickets.issue().unwrap();
        Self {
            random,
            now,
            is_server_up: true,
            texts: Vec::new(),
            client_sent: 0,
            client_pipe: VecDeque::new(),
            heard: 0,
            proxy_pipe: VecDeque::new(),
            links: 1,
            healed_at: None,
            ticket,
            tickets,
            proxy: Proxy::new(&rules, &queue, is_held, link, now),
            ledger: Ledger::new(replay, is_held, !rules.is_empty()),
        }
    }

    fn is_over(&self) -> bool {
        self.proxy.machine.client() == Client::Gone
    }

    fn step(&mut self, event: Event) {
        let (now, random) = (self.now, &mut self.random);
        let is_attached = self.proxy.machine.client() == Client::Attached;
        match event {
            Event::ClientSays if is_attached => self.say(),
            Event::ProxyReads => {
                let is_flushing = random.bool();
                self.proxy.read(&mut self.client_pipe, &self.texts, is_flushing, now, &mut self.ledger);
            }
            Event::LinkLeaves => self.proxy.flush(random.u64(1..6), &mut self.ledger),
            Event::ServerHears => self.proxy.with_link(|link| link.hear(random.u64(1..6), &mut self.ledger)),
            Event::ServerAnswersPing => self.proxy.prove(random, &mut self.ledger),
            Event::ServerSays => self.proxy.with_link(Link::say),
            Event::ServerIsHeard => self.proxy.listen(random.usize(1..4), &mut self.ledger),
            Event::ClientIsSent => self.proxy.deliver(random.usize(1..6), &mut self.proxy_pipe),
            Event::ClientHears => self.hear(3),
            Event::ServerDies => self.end(ServerEnd::Lost),
            Event::ServerRestarts => {
                // It says goodbye, and hears what is on the way to it before.
                self.proxy.with_link(|link| link.hear(u64::MAX, &mut self.ledger));
                self.proxy.listen(usize::MAX, &mut self.ledger);
                self.end(ServerEnd::Lost);
            }
            Event::ServerFails => self.end(ServerEnd::Failed("oops".into())),
            Event::ServerCloses => self.end(ServerEnd::Final(CloseCode(4001), "bye".into())),
            Event::GateGivesTurn if self.proxy.machine.wants_turn(now) => {
                self.proxy.machine.on_turn();
                self.ledger.on_dial(is_attached, self.proxy.machine.is_draining());
            }
            Event::DialEnds if self.proxy.machine.server() == Server::Dialling => self.dialled(),
            Event::ServerStops => self.is_server_up = false,
            Event::ServerStarts => self.is_server_up = true,
            Event::Passes(millis) => self.pass(millis),
            Event::ClientDrops if is_attached && (self.proxy.machine.is_held() || random.u8(..40) == 0) => {
                let cause = if random.bool() { Cause::ClientLost } else { Cause::ClientSilent };
                self.unlink();
                self.proxy.machine.on_client_end(cause, now);
            }
            Event::ClientAttaches if matches!(self.proxy.machine.client(), Client::Away { .. }) => {
                self.attach();
            }
            // It may also be back before the proxy has noticed that it was gone.
            Event::ClientAttaches if is_attached && self.proxy.machine.is_held() && random.u8(..8) == 0 => {
                self.attach();
            }
            Event::LifetimeEnds if is_attached => self.proxy.machine.leave(Cause::Lifetime),
            Event::Evicted
                if matches!(self.proxy.machine.client(), Client::Away { .. }) && random.u8(..4) == 0 =>
            {
                self.proxy.machine.end(Cause::Evicted);
            }
            Event::LogHasHole if is_attached && random.u8(..20) == 0 => {
                self.proxy.machine.leave(Cause::Memory);
            }
            Event::Drains if random.u8(..4) == 0 => self.proxy.machine.on_drain(),
            Event::DrainDate if is_attached && self.proxy.machine.is_draining() => {
                self.proxy.machine.leave(Cause::Drain(CloseCode(1012)));
            }
            _ => {}
        }
        self.settle();
    }

    /// What the task does after each turn.
    fn settle(&mut self) {
        self.proxy.say(&mut self.random, self.now, &mut self.ledger);
        let machine = &mut self.proxy.machine;
        if machine.client() == Client::Attached && machine.server() == Server::Over {
            let cause = machine.cause().cloned();
            self.ledger.on_over(cause.as_ref());
            if let Some(cause) = cause {
                machine.leave(cause);
            }
        }
        if let Some(leaving) = machine.leaving().cloned() {
            if leaving.is_after_log() {
                self.proxy.deliver(usize::MAX, &mut self.proxy_pipe);
                self.hear(usize::MAX);
                self.ledger.on_last_words(self.heard, &self.proxy.log);
            }
            self.unlink();
            self.proxy.machine.on_client_end(leaving, self.now);
        }
        self.proxy.drop_unwanted_link(&mut self.ledger);
        self.proxy.check();
    }

    fn say(&mut self) {
        if self.client_pipe.len() > 20 {
            return;
        }
        let number = self.client_sent as usize;
        if number == self.texts.len() {
            let (random, n) = (&mut self.random, number + 1);
            self.texts.push(match random.u8(..20) {
                0 => format!("auth {n}"),
                1..3 => format!("join r{} {n}", random.u8(..5)),
                3 => format!("leave r{} {n}", random.u8(..5)),
                4 => format!("topic {}", random.u8(..4)),
                5 => format!("beat {n}"),
                6 => format!("say {n} {}", "x".repeat(random.usize(..1800))),
                _ => format!("say {n}"),
            });
        }
        self.client_sent += 1;
        self.client_pipe.push_back(self.client_sent);
    }

    /// The client hears what has come to it: each message once, in order.
    fn hear(&mut self, most: usize) {
        for _ in 0..most {
            let Some(place) = self.proxy_pipe.pop_front() else { return };
            assert_eq!(place, self.heard, "each message once, and in order");
            self.heard += 1;
        }
    }

    fn end(&mut self, end: ServerEnd) {
        // What it said before that is heard, unless its end was a reset.
        if self.random.bool() {
            self.proxy.listen(usize::MAX, &mut self.ledger);
        }
        self.proxy.on_server_end(end, self.random.f64(), self.now, &mut self.ledger);
    }

    fn dialled(&mut self) {
        let random = &mut self.random;
        if self.is_server_up && (self.healed_at.is_some() || random.u8(..20) != 0) {
            let link = Link::new(self.links, true, random);
            self.links += 1;
            self.proxy.on_linked(link, self.now, &mut self.ledger);
            return;
        }
        let end = match random.u8(..200) {
            0 => DialEnd::Unauthorized,
            1 => DialEnd::OtherProtocol,
            2..60 => DialEnd::Declined,
            _ => DialEnd::ServerDown,
        };
        self.proxy.machine.on_dial_failed(end, random.f64(), self.now);
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(self.random.u64(1..=millis));
        self.proxy.on_time(self.random.f64(), self.now, &mut self.ledger);
    }

    /// The client's link is gone, and with it whatever was on the way.
    fn unlink(&mut self) {
        self.client_pipe.clear();
        self.proxy_pipe.clear();
    }

    /// The client comes back: each side says how much it has, and the other goes on from there.
    fn attach(&mut self) {
        self.unlink();
        assert!(self.tickets.prove(self.ticket), "a hello that is lost locks nobody out");
        for used in 0..self.ticket {
            assert!(!self.tickets.is_valid(used), "a ticket that was replaced is worth nothing");
        }
        let ticket = self.tickets.issue().unwrap();
        self.proxy.machine.attach(self.now);
        self.proxy.next = self.heard;
        // The hello may be lost, so that the client knows no more than before.
        if self.random.u8(..6) == 0 {
            self.proxy.machine.on_client_end(Cause::ClientLost, self.now);
        } else {
            self.ticket = ticket;
            self.client_sent = self.proxy.outbox.received();
        }
    }

    /// Everything is well again, for long enough: nothing is left over that was not told.
    fn heal(&mut self) {
        self.is_server_up = true;
        self.healed_at = Some(self.now);
        self.proxy.with_link(Link::heal);
        for _ in 0..1000 {
            if self.is_over() || self.proxy.machine.is_draining() || self.is_whole() {
                break;
            }
            match self.proxy.machine.client() {
                Client::Away { until } => {
                    if self.proxy.machine.server() == Server::Asleep {
                        // It may come as late as it may, which is later than a server is waited for.
                        let left = until.saturating_duration_since(self.now);
                        self.now += left.mul_f64(self.random.f64());
                        self.ledger.on_comeback();
                    }
                    self.attach();
                    self.healed_at = Some(self.now);
                    // No gate gives a turn at once.
                    self.pass(100);
                }
                _ => self.pass(200),
            }
            for event in [Event::GateGivesTurn, Event::DialEnds] {
                self.step(event);
            }
            self.proxy.with_link(Link::heal);
            self.proxy.flush(u64::MAX, &mut self.ledger);
            self.proxy.with_link(|link| link.hear(u64::MAX, &mut self.ledger));
            self.proxy.listen(usize::MAX, &mut self.ledger);
            self.proxy.prove_all(&mut self.ledger);
            for event in [Event::ProxyReads, Event::ClientIsSent, Event::ClientHears] {
                self.step(event);
            }
        }
        let well_for = self.healed_at.map_or(Duration::ZERO, |at| self.now - at);
        let is_given_up = self.proxy.machine.cause() == Some(&Cause::UpstreamLost);
        assert!(!is_given_up || well_for < Duration::from_secs(15), "a server that is well was given up");
        let is_left_alone = self.is_over() || self.proxy.machine.is_draining();
        assert!(is_left_alone || self.is_whole(), "all is well, and still something waits");
        if !is_left_alone {
            assert_eq!(self.proxy.outbox.held(), 0, "nothing is kept of what was taken");
        }
        let received = self.proxy.outbox.received();
        self.ledger.balance(received, self.proxy.waiting(), &self.texts);
    }

    fn is_whole(&self) -> bool {
        let proxy = &self.proxy;
        let is_up = proxy.machine.is_live() && proxy.machine.client() == Client::Attached;
        is_up && proxy.is_idle() && self.client_pipe.is_empty() && self.heard == proxy.log.len()
    }

    /// Whatever it was, the client leaves, and nothing of the session stays.
    fn leave(&mut self) {
        self.unlink();
        self.proxy.machine.on_client_end(Cause::Client(CloseCode(1000), "".into()), self.now);
        if !self.is_over() {
            // It was away.
            self.pass(120_000);
            self.pass(120_000);
        }
        self.settle();
        while !self.is_over() {
            self.pass(120_000);
            self.settle();
        }
        self.proxy.forget_link();
        // A link that was being greeted is closed by then.
        let is_greeting = matches!(self.proxy.machine.server(), Server::Greeting { .. });
        assert!(is_greeting || self.proxy.machine.deadline().is_none(), "nothing is left to wake for");
        assert_eq!(self.proxy.machine.turn_at(), None, "nobody is left to dial for");
    }
}

/// So many steps, which are several lives where one ends. Answers how sessions have ended.
fn run(seed: u64, steps: u32) -> BTreeSet<&'static str> {
    let mut ends = BTreeSet::new();
    let mut trace = Trace { seed, steps: 0, last: VecDeque::new() };
    let mut random = Rng::with_seed(seed);
    let total: u32 = EVENTS.iter().map(|(weight, _)| weight).sum();
    while trace.steps < steps {
        let mut world = World::new(random.fork());
        let life = random.u32(30..2 * STEPS);
        for _ in 0..life {
            if world.is_over() || trace.steps == steps {
                break;
            }
            trace.steps += 1;
            let mut pick = random.u32(..total);
            let mut events = EVENTS.iter();
            let event = loop {
                let Some((weight, event)) = events.next() else { unreachable!("the weights add up") };
                if pick < *weight {
                    break *event;
                }
                pick -= weight;
            };
            if trace.last.len() == TOLD {
                trace.last.pop_front();
            }
            let machine = &world.proxy.machine;
            trace.last.push_back((trace.steps, event, machine.server(), machine.client(), world.now));
            world.step(event);
        }
        world.heal();
        world.leave();
        ends.extend(world.proxy.machine.cause().map(|cause| cause.session_end().as_str()));
    }
    ends
}

fn from_environment(name: &str, default: u32) -> u32 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn a_thousand_lives_lose_nothing_in_silence() {
    let ends: BTreeSet<&str> = (0..1000).flat_map(|seed| run(seed, STEPS)).collect();
    let known = [
        "client",
        "drain",
        "evicted",
        "lifetime",
        "memory",
        "poison",
        "server",
        "unauthorized",
        "upstream_lost",
        "window",
    ];
    assert!(ends.iter().eq(&known), "what never happens is not tried: {ends:?}");
}

/// `OUTRIGGER_SEEDS` lives of `OUTRIGGER_STEPS` steps each, from the seed `OUTRIGGER_SEED` on.
#[test]
#[ignore = "takes minutes; proves the same for longer lives"]
fn long_lives_lose_nothing_in_silence() {
    let (first, seeds) = (from_environment("OUTRIGGER_SEED", 0), from_environment("OUTRIGGER_SEEDS", 100));
    let steps = from_environment("OUTRIGGER_STEPS", 100_000);
    for seed in first..first + seeds {
        run(seed.into(), steps);
    }
}
