//! One task that serves its part of a feed's clients: it writes to them in turn, and looks at single ones only when
//! they were woken or are due.
//!
//! # Invariants
//! 1. Never a look at all clients for the sake of one: only a new message, or the end of the feed, makes a pass over
//!    all.
//! 2. In one poll each kind of work has a turn of its own: [`TURN`] clients come in, as many are told that the feed is
//!    over, or when they are to go, as many are due, as many were woken, as many are sent what is new. What is over waits for the next poll, and
//!    other tasks run meanwhile. So none of these keeps another one from its turn.
//! 3. What all clients say is read within [`READING`] a poll, and whoever was woken first is looked at first: one that
//!    is never silent is behind all others again once it was read.
//! 4. It is not under the runtime's own budget for tasks, by which a socket that would take more seems full: it lets
//!    others run by itself.
//! 5. It ends when nobody can come any more and the last client has gone, or by a panic: then nobody waits for it.

mod parting;
mod relief;

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

use self::parting::Dismissing;
use super::agenda::Agenda;
use super::batch::Batcher;
use super::closing::Farewell;
use super::door::{Door, Post};
use super::fanout::Crew;
use super::holders::Account;
use super::ready::Knock;
use super::subscriber::{State, Subscriber, Table};
use crate::log::Reader;
use crate::resilience::{Standstill, Turn};

/// Clients that one kind of work is done for before other tasks get their turn.
const TURN: usize = 64;

/// What is read of all clients before other tasks get their turn: what four of them may say in a turn of theirs. It
/// takes a fraction of a millisecond, so that a pass over a thousand clients is hardly longer for it.
const READING: Turn = Turn::new(256 * 1024, 4096);

/// The task.
#[derive(Debug)]
pub(super) struct Shard {
    door: Arc<Door>,
    crew: Arc<Crew>,
    reader: Reader,
    batcher: Batcher,
    /// What its clients hold, as the process is told.
    account: Account,
    /// The newest message that may go out now.
    until: u64,
    /// Whether each message is to go out at once.
    is_prompt: bool,
    /// Where the slowest client is to read on, as far as the log was told.
    slowest: u64,
    clients: Vec<Option<Box<Subscriber>>>,
    free: Vec<u32>,
    /// Woken, and not looked at yet.
    woken: VecDeque<u32>,
    /// What may still be read in this poll.
    reading: Turn,
    agenda: Agenda,
    standstill: Standstill,
    sleep: Option<Pin<Box<Sleep>>>,
    /// When more may go out (`delivery.throttle`).
    tick: Option<Instant>,
    /// The next client of the pass that is on, and the place of the slowest so far.
    pass: Option<Pass>,
    farewell: Option<Arc<Farewell>>,
    /// The next client that is to be told of it, until all were.
    parting: Option<usize>,
    /// Clients that are being given their date.
    dismissing: Option<Dismissing>,
}

#[derive(Debug, Clone, Copy)]
struct Pass {
    at: usize,
    slowest: u64,
}

impl Shard {
    /// `from`: where its first client begins.
    pub(super) fn new(door: Arc<Door>, crew: Arc<Crew>, reader: Reader, from: u64) -> Self {
        let throttle = crew.settings.policy.delivery.throttle.as_ref();
        // One that lets messages wait for their time must not make the server wait for it.
        let is_prompt = throttle.is_none();
        if is_prompt {
            reader.set_delivered(from);
        }
        Self {
            batcher: Batcher::new(Arc::clone(reader.log()), throttle),
            account: crew.settings.holders.open(door.ready()),
            until: 0,
            is_prompt,
            slowest: u64::MAX,
            door,
            crew,
            reader,
            clients: Vec::new(),
            free: Vec::new(),
            woken: VecDeque::new(),
            reading: READING,
            agenda: Agenda::default(),
            standstill: Standstill::default(),
            sleep: None,
            tick: None,
            pass: None,
            farewell: None,
            parting: None,
            dismissing: None,
        }
    }

    /// Takes in who has come, as many as it is their turn. True if nobody will come any more.
    fn open_post(&mut self, now: Instant) -> bool {
        // Whoever came in now would be dismissed with those who were there.
        let most = if self.dismissing.is_some() { 0 } else { TURN };
        let Post { arrivals, farewell, dismissal, is_shut, .. } = self.door.take(most);
        if let Some(dismissal) = dismissal {
            self.dismissing = Some(Dismissing::new(dismissal, self.clients.len() - self.free.len()));
        }
        if let Some(farewell) = farewell {
            self.farewell = Some(farewell);
            self.parting = Some(0);
        }
        for (arrival, cursor) in arrivals {
            let index = self.free.pop().unwrap_or_else(|| {
                self.clients.push(None);
                (self.clients.len() - 1) as u32
            });
            let knock = Knock::new(self.door.ready(), index);
            let mut client = Box::new(Subscriber::new(arrival, cursor, knock, &self.crew, now));
            if let Some(farewell) = &self.farewell {
                client.expect_end(farewell, &self.crew, now);
            }
            self.clients[index as usize] = Some(client);
            self.look_at(index);
        }
        is_shut
    }

    /// Has a client looked at when it is its turn.
    fn look_at(&mut self, index: u32) {
        if let Some(Some(client)) = self.clients.get(index as usize)
            && client.knock.is_new()
        {
            self.woken.push_back(index);
        }
    }

    /// Does something with one client, and with what becomes of it.
    fn with(
        &mut self,
        index: u32,
        now: Instant,
        work: impl FnOnce(&mut Subscriber, &mut Table<'_>) -> State,
    ) {
        let Some(client) = self.clients.get_mut(index as usize).and_then(Option::as_mut) else { return };
        let mut table = Table {
            crew: &self.crew,
            log: self.reader.log(),
            batcher: &mut self.batcher,
            account: &self.account,
            until: self.until,
            reading: &mut self.reading,
            now,
        };
        match work(client, &mut table) {
            State::Gone => return self.remove(index),
            State::Again => self.look_at(index),
            State::Going => {}
        }
        let Some(client) = self.clients.get_mut(index as usize).and_then(Option::as_mut) else { return };
        let deadline = client.next_deadline(&self.crew, self.standstill, now);
        self.agenda.arm(index, deadline, &mut client.armed);
    }

    /// One that came late may still be behind all others: what it is to read is not what nobody needs.
    fn keep_for(&mut self, index: u32) {
        let client = self.clients.get(index as usize).and_then(Option::as_ref);
        if let Some(place) = client.map(|client| client.place())
            && place < self.slowest
            && place <= self.until
        {
            self.slowest = place;
            self.reader.set_oldest_needed(place);
        }
    }

    fn remove(&mut self, index: u32) {
        if let Some(client) = self.clients[index as usize].take() {
            drop(client);
            self.free.push(index);
            self.door.on_left();
            self.crew.on_client(false);
        }
        if self.free.len() == self.clients.len() {
            // A crowd that has gone leaves nothing behind.
            self.clients = Vec::new();
            self.free = Vec::new();
            self.woken = VecDeque::new();
            self.agenda = Agenda::default();
        }
    }

    /// Looks at the next of those who are due.
    fn on_time(&mut self, now: Instant) {
        let Some(due) = self.agenda.next().filter(|due| *due <= now) else { return };
        let hears_first = self.standstill.hears_first(due, now);
        for _ in 0..TURN {
            // Nobody is judged that cannot be heard first.
            if self.reading.is_over() {
                break;
            }
            let Some((index, at)) = self.agenda.pop(now) else { break };
            let Some(client) = self.clients.get_mut(index as usize).and_then(Option::as_mut) else {
                continue;
            };
            if client.armed != Some(at) {
                continue;
            }
            client.armed = None;
            self.with(index, now, |client, table| {
                // It is heard before it is judged: what came before a deadline counts.
                let heard = client.poll(table);
                if heard == State::Gone {
                    return heard;
                }
                client.on_close_date(table);
                if !hears_first {
                    client.on_time(table);
                }
                let after = client.poll(table);
                if after == State::Going { heard } else { after }
            });
        }
    }

    /// Forgets moments that do not count any more, when they are the most. Clients that come and go leave some behind
    /// although none is due for a long time.
    fn tidy(&mut self) {
        if self.agenda.len() <= 64 + 4 * self.clients.len() {
            return;
        }
        let clients = &self.clients;
        self.agenda.sweep(|index, at| {
            clients
                .get(index as usize)
                .and_then(Option::as_ref)
                .is_some_and(|client| client.armed == Some(at))
        });
    }

    /// Looks at the next of those who were woken.
    fn look(&mut self, now: Instant) {
        for _ in 0..self.woken.len().min(TURN) {
            if self.reading.is_over() {
                break;
            }
            let Some(index) = self.woken.pop_front() else { break };
            if let Some(client) = self.clients.get(index as usize).and_then(Option::as_ref) {
                client.knock.take();
            }
            self.with(index, now, Subscriber::poll);
            self.keep_for(index);
        }
    }

    /// Sends what is new to the next clients. True when all have had it.
    fn pass(&mut self, now: Instant) -> bool {
        let Some(mut pass) = self.pass else { return true };
        let mut turn = TURN;
        while pass.at < self.clients.len() {
            if turn == 0 {
                self.pass = Some(pass);
                return false;
            }
            let index = pass.at;
            pass.at += 1;
            let Some(client) = &mut self.clients[index] else { continue };
            if client.cursor.next > self.until {
                continue;
            }
            turn -= 1;
            let mut table = Table {
                crew: &self.crew,
                log: self.reader.log(),
                batcher: &mut self.batcher,
                account: &self.account,
                until: self.until,
                reading: &mut self.reading,
                now,
            };
            let mut is_watched = true;
            if client.is_served() {
                let state = client.deliver(&mut table);
                is_watched = state != State::Going || !client.is_served();
                if state == State::Again && client.knock.is_new() {
                    self.woken.push_back(index as u32);
                }
            } else {
                client.check_lag(&table);
            }
            pass.slowest = pass.slowest.min(client.place());
            // Who took it all has no new deadline; the others are looked at once more.
            if is_watched {
                self.with(index as u32, now, |client, table| client.settle(table));
            }
        }
        self.pass = None;
        if self.is_prompt {
            self.reader.set_delivered(self.until + 1);
        }
        self.slowest = pass.slowest.min(self.until + 1);
        self.reader.set_oldest_needed(self.slowest);
        if self.slowest > self.until {
            // Nobody stands where it remembers something for.
            self.batcher.forget();
        }
        true
    }

    /// Clients that it has taken in and not let go.
    #[cfg(test)]
    pub(super) fn seated(&self) -> usize {
        self.clients.len() - self.free.len()
    }

    /// Moments that it remembers.
    #[cfg(test)]
    pub(super) fn moments(&self) -> usize {
        self.agenda.len()
    }

    /// Places in the list of those that are to be looked at.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.woken.len()
    }

    /// It has panicked: whoever is here or on the way is let go with a word, where there is room for one.
    pub(super) fn give_up(mut self) {
        let (arrivals, clients) = self.door.give_up();
        // What has panicked once may do so again: that is one client's end then, and was counted.
        let end = |client: Box<Subscriber>| {
            let _ = catch_unwind(AssertUnwindSafe(move || client.fail()));
        };
        for client in std::mem::take(&mut self.clients).into_iter().flatten() {
            end(client);
        }
        for (arrival, cursor) in arrivals {
            let knock = Knock::new(self.door.ready(), 0);
            end(Box::new(Subscriber::new(arrival, cursor, knock, &self.crew, Instant::now())));
        }
        for _ in 0..clients {
            self.crew.on_client(false);
        }
    }

    /// When it wants to be woken, whatever else happens.
    pub(super) fn next_moment(&self) -> Option<Instant> {
        [self.agenda.next(), self.tick].into_iter().flatten().min()
    }

    /// Sets the timer to the nearest moment.
    fn arm(&mut self, cx: &mut Context<'_>) {
        let Some(next) = self.next_moment() else { return };
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if sleep.deadline() != next || sleep.is_elapsed() {
                    sleep.as_mut().reset(next);
                }
                sleep
            }
            None => self.sleep.insert(Box::pin(tokio::time::sleep_until(next))),
        };
        if pin!(sleep.as_mut()).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

impl Future for Shard {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let now = Instant::now();
        this.door.ready().wake_with(cx.waker());
        this.reader.wake_with(cx.waker());
        this.reading = READING;
        let is_shut = this.open_post(now);
        this.part(now);
        this.dismiss();
        this.on_time(now);
        this.door.ready().drain(&mut this.woken);
        if this.pass.is_none() {
            let (until, tick) = this.batcher.begin(this.crew.is_shedding(now), now);
            this.tick = tick;
            if until > this.until {
                this.until = until;
                this.pass = Some(Pass { at: 0, slowest: u64::MAX });
            }
        }
        // A pong does not wait for a thousand deliveries, nor do these for a thousand pongs.
        this.look(now);
        let is_done = this.pass(now);
        this.relieve(now);
        this.tidy();
        if is_shut && this.clients.is_empty() {
            return Poll::Ready(());
        }
        let has_more = this.reader.log().head() > this.until && this.tick.is_none();
        let has_due = this.agenda.next().is_some_and(|at| at <= now);
        let is_telling = this.parting.is_some() || this.dismissing.is_some();
        let is_crowded = is_telling || this.door.has_arrivals();
        if !is_done || !this.woken.is_empty() || has_more || has_due || is_crowded {
            cx.waker().wake_by_ref();
        }
        this.arm(cx);
        Poll::Pending
    }
}
