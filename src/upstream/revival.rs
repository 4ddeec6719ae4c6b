//! The gate before a server that was lost: of all who lost it one at a time asks whether it is back, and then all may go, a
//! few at a time.
//!
//! Clients of a server that dies have lost it at the same moment. Would each of them dial by waits of its own, thousands of
//! dials would fail while it is away, the breaker would open, most would stand at their longest wait when it is back, and then
//! all of them would be upon a server that has just started.
//!
//! # How it goes together with the waits of a session
//! [`crate::resilience::Backoff`] is one session's own, the gate's is for all. A session that has lost its server
//!
//! 1. calls `Backoff::next` once, which starts the time to give up; the wait that it answers is not slept, the gate has its own.
//!    From then on `Backoff::gives_up_at` is a deadline of the session, whatever it waits for.
//! 2. waits for its turn ([`Revival::wait`]), dials ([`super::redial::redial_once`]), and says what came of it:
//!    * a link: [`Turn::succeeded`], `Backoff::on_up`;
//!    * [`Blame::Server`], [`Blame::Nobody`]: back to 2 at once. When the next one asks is the gate's matter;
//!    * [`Blame::Session`]: `Backoff::next`, which is slept this time, then back to 2. The server is there and has this session
//!      wait; it must not ask again and again on behalf of the others.
//!
//! # Invariants
//! Those of [`gate`], and
//! 1. A turn is settled whatever becomes of whom it was given to, and a waiter that is dropped leaves nothing behind.
//! 2. Wakers are called and dropped outside of the lock: whom they belong to may drop a waiter of this gate with it.
//! 3. Who is not first has no timer.
//!
//! # Not here
//! Dials ([`super::redial`]); metrics of them, and what is done meanwhile ([`crate::session`]). `upstream.max_dials` bounds
//! here how many are between the begin of the dial and its 101, but for those that hang; connects are bounded by it once more,
//! together with those of new handshakes ([`super::Dialer`]).

mod gate;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use self::gate::{Draw, Gate, Look, Outcome, Pass, WaiterId};
use crate::config;

/// Whose fault it is that a dial brought no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The server does not work: others would fare no better.
    Server,
    /// The server has answered, and does not want this session, or not so.
    Session,
    /// The server was not asked.
    Nobody,
}

/// The gate before one server, for the sessions of one route.
#[derive(Debug)]
pub(crate) struct Revival(Mutex<State>);

#[derive(Debug)]
struct State {
    gate: Gate,
    /// Of those who wait and were not woken since they looked.
    wakers: BTreeMap<WaiterId, Waker>,
}

impl State {
    /// Answers the waker that it replaces.
    fn register(&mut self, id: WaiterId, waker: &Waker) -> Option<Waker> {
        match self.wakers.get(&id) {
            Some(known) if known.will_wake(waker) => None,
            _ => self.wakers.insert(id, waker.clone()),
        }
    }
}

impl Revival {
    /// Nobody waits. `max_dials`: the most turns between their begin and their end.
    pub(crate) fn new(rules: config::Redial, max_dials: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { gate: Gate::new(rules, max_dials), wakers: BTreeMap::new() })))
    }

    /// For one who has lost the server, and so many of whose dials have failed since then. It waits from its first poll on.
    pub(crate) fn wait(self: &Arc<Self>, failures: u32) -> Waiting {
        Waiting { revival: Arc::clone(self), failures, id: None, timer: None }
    }

    /// Lets something happen, and wakes those whom it concerns.
    fn update<T>(&self, event: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.lock();
        let answer = event(&mut state);
        let State { gate, wakers } = &mut *state;
        let woken: Vec<Waker> = gate.take_woken().iter().filter_map(|id| wakers.remove(id)).collect();
        drop(state);
        for waker in woken {
            waker.wake();
        }
        answer
    }

    fn settle(&self, pass: Pass, outcome: Outcome) {
        self.update(|state| state.gate.settle(pass, outcome, fastrand::f64(), Instant::now()));
    }
}

fn draw() -> Draw {
    Draw { wait: fastrand::f64(), place: fastrand::u32(..) }
}

/// One who waits for a turn. Dropped, it waits no more, and a turn that it had goes to the next.
#[derive(Debug)]
pub(crate) struct Waiting {
    revival: Arc<Revival>,
    /// Dials of it that have failed since it lost the server.
    failures: u32,
    /// Its place in the queue.
    id: Option<WaiterId>,
    /// While it is the first.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Waiting {
    /// Ready: this one may dial now. Polled again after that, it waits anew.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        loop {
            let (id, failures) = (&mut self.id, self.failures);
            let (look, _replaced) = self.revival.update(|state| {
                let now = Instant::now();
                let id = *id.get_or_insert_with(|| state.gate.join(failures, draw(), now));
                let look = state.gate.look(id, now);
                let replaced = match look {
                    Look::Go(_) => state.wakers.remove(&id),
                    Look::Wait { .. } => state.register(id, cx.waker()),
                };
                (look, replaced)
            });
            match look {
                Look::Go(pass) => {
                    (self.id, self.timer) = (None, None);
                    return Poll::Ready(Turn { revival: Arc::clone(&self.revival), pass: Some(pass) });
                }
                Look::Wait { until: None } => {
                    self.timer = None;
                    return Poll::Pending;
                }
                Look::Wait { until: Some(date) } => {
                    if self.timer_at(date).poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn timer_at(&mut self, date: Instant) -> Pin<&mut Sleep> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(date)));
        if timer.deadline() != date {
            timer.as_mut().reset(date);
        }
        timer.as_mut()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let _waker = self.revival.update(|state| {
            state.gate.leave(id, fastrand::f64(), Instant::now());
            state.wakers.remove(&id)
        });
    }
}

/// The right to dial once. Dropped, it counts as one in which the server was not asked.
#[derive(Debug)]
#[must_use = "others wait for what comes of it"]
pub(crate) struct Turn {
    revival: Arc<Revival>,
    /// Until it is settled.
    pass: Option<Pass>,
}

impl Turn {
    /// There is a link.
    pub(crate) fn succeeded(self) {
        self.settle(Outcome::Answered);
    }

    /// There is none.
    pub(crate) fn failed(self, blame: Blame) {
        self.settle(match blame {
            Blame::Server => Outcome::Failed,
            // A server that answers is there for the others: were they to wait for one another, as many as it refuses would keep
            // back all behind them.
            Blame::Session => Outcome::Answered,
            Blame::Nobody => Outcome::NotAsked,
        });
    }

    fn settle(mut self, outcome: Outcome) {
        if let Some(pass) = self.pass.take() {
            self.revival.settle(pass, outcome);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.revival.settle(pass, Outcome::NotAsked);
        }
    }
}

#[cfg(test)]
mod tests;
