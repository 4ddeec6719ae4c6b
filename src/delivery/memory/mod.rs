//! The memory that holds what waits for clients of feeds, of the whole process. When that is more than it may be, the
//! clients that hold most are evicted, whichever feed they are on and whether or not anything happens there.
//!
//! Each shard has an [`Account`] here with one number: the most that any of its clients may hold, raised when a socket is
//! full. The shard that finds too much in use begins a *round*. The shard with the greatest number is asked; it looks at its own
//! clients, reports what its heaviest [`holding`] weighs, and evicts it if no other shard may have a heavier one.
//! Otherwise that shard is asked. What was reported stands until the round is over, so that each shard is asked in vain
//! at most once.
//!
//! # Invariants
//! 1. One shard at a time is asked, and no other one evicts: not two for the same excess.
//! 2. Nobody looks at the clients of another shard: a step is a look at one number for each shard, or at the clients
//!    of one.
//! 3. What is taken is found by the shard that takes it, when it has had its turn. A bound that was lowered, and what
//!    others use of it, is found by a look now and then ([`ClientMemory::enforce_budget`]).
//! 4. When a shard ends while it is asked, the next one is asked.
//! 5. No lock of another part is taken under the lock here; wakers are called outside of it.
//!
//! # Not here
//! What is held by logs ([`crate::log`]) and tunnels ([`crate::tunnel`]).

mod holding;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::warn;

use self::holding::Weight;
use super::wake_list::WakeList;
use crate::memory::{Budget, Share};
use crate::telemetry::WarnThrottle;

pub(super) use self::holding::{Usage, holdings};

/// From one line in the log about evicted clients to the next.
const QUIET: Duration = Duration::from_secs(10);

/// So much of the bound (a part of it) has to change before it is tried again in vain.
const SLACK: usize = 16;

/// What waits for clients of feeds, and the accounts of the shards that serve them.
#[derive(Debug)]
pub(crate) struct ClientMemory {
    budget: Arc<Budget>,
    /// Whether a round is under way, to be read without the lock.
    has_round: AtomicBool,
    /// What was in use when no client was found that holds it; `usize::MAX`: one was found.
    last_futile_eviction: AtomicUsize,
    /// For the lines in the log about evicted clients.
    lines: WarnThrottle,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    accounts: HashMap<u64, Arc<PublicAccount>>,
    next_id: u64,
    round: Option<Round>,
}

#[derive(Debug, Default)]
struct Round {
    /// The shard that is asked.
    asked: u64,
    /// What shards have reported that were asked; `None`: their clients hold nothing.
    reported: HashMap<u64, Option<Weight>>,
}

/// What others see of a shard.
#[derive(Debug)]
struct PublicAccount {
    /// No client holds more, and none has a part in more.
    most: AtomicUsize,
    is_asked: AtomicBool,
    wakes: Arc<WakeList>,
}

/// A shard's account, closed when it is dropped.
#[derive(Debug)]
pub(super) struct Account {
    memory: Arc<ClientMemory>,
    id: u64,
    public: Arc<PublicAccount>,
}

impl ClientMemory {
    /// `budget`: what all clients may hold together.
    pub(crate) fn new(budget: Budget) -> Arc<Self> {
        Arc::new(Self {
            budget: Arc::new(budget),
            has_round: AtomicBool::new(false),
            last_futile_eviction: AtomicUsize::new(usize::MAX),
            lines: WarnThrottle::every(QUIET),
            inner: Mutex::default(),
        })
    }

    /// What all clients may hold together, and what they hold.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Has the clients that hold most evicted if more is in use than may be. Costs two loads if not; to be called after
    /// something was taken, and now and then.
    pub(crate) fn enforce_budget(&self) {
        if !self.budget.is_over() || self.has_round.load(Ordering::Acquire) {
            return;
        }
        let (used, last_futile_eviction) =
            (self.budget.used(), self.last_futile_eviction.load(Ordering::Relaxed));
        if last_futile_eviction != usize::MAX
            && used.abs_diff(last_futile_eviction) < self.budget.limit() / SLACK
        {
            return;
        }
        let mut inner = self.inner.lock();
        if inner.round.is_none() {
            let next = self.begin(&mut inner);
            drop(inner);
            next.wake();
        }
    }

    /// Writes into the log of evicted clients that it has no line of yet. To be called now and then.
    pub(crate) fn log_left_out(&self) {
        for (_, clients) in self.lines.overdue(Instant::now()) {
            warn_of_evicted(clients);
        }
    }

    /// An account for the shard that `wakes` wakes.
    pub(super) fn open(self: &Arc<Self>, wakes: &Arc<WakeList>) -> Account {
        let public = Arc::new(PublicAccount {
            most: AtomicUsize::new(0),
            is_asked: AtomicBool::new(false),
            wakes: Arc::clone(wakes),
        });
        let mut inner = self.inner.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        inner.accounts.insert(id, Arc::clone(&public));
        drop(inner);
        Account { memory: Arc::clone(self), id, public }
    }

    /// Begins a round with the shard that may hold most.
    fn begin(&self, inner: &mut Inner) -> AskedShard {
        self.has_round.store(true, Ordering::Release);
        inner.round = Some(Round::default());
        match inner.heaviest(None) {
            Some((id, _)) => inner.ask(id),
            None => self.end(inner, true),
        }
    }

    /// Ends the round; `is_futile`: no client holds anything.
    fn end(&self, inner: &mut Inner, is_futile: bool) -> AskedShard {
        inner.round = None;
        let last_futile_eviction = if is_futile { self.budget.used() } else { usize::MAX };
        self.last_futile_eviction.store(last_futile_eviction, Ordering::Relaxed);
        self.has_round.store(false, Ordering::Release);
        AskedShard { asked: None }
    }
}

impl Inner {
    /// The shard that may have the heaviest holding, without regard to `but`.
    fn heaviest(&self, but: Option<u64>) -> Option<(u64, Weight)> {
        let reported = self.round.as_ref().map(|round| &round.reported);
        let weight = |id: &u64, public: &PublicAccount| match reported.and_then(|reported| reported.get(id)) {
            Some(reported) => *reported,
            None => Some(public.most.load(Ordering::Relaxed)).filter(|most| *most > 0).map(Weight::at_most),
        };
        let others = self.accounts.iter().filter(|(id, _)| Some(**id) != but);
        others.filter_map(|(id, public)| Some((*id, weight(id, public)?))).max_by_key(|(_, weight)| *weight)
    }

    /// Asks that shard.
    fn ask(&mut self, id: u64) -> AskedShard {
        let asked = self.accounts.get(&id).map(Arc::clone);
        if let (Some(round), Some(public)) = (&mut self.round, &asked) {
            round.asked = id;
            public.is_asked.store(true, Ordering::Release);
        }
        AskedShard { asked }
    }
}

/// The shard that is to be woken when the lock is released.
#[must_use]
struct AskedShard {
    asked: Option<Arc<PublicAccount>>,
}

impl AskedShard {
    fn wake(self) {
        if let Some(public) = self.asked {
            public.wakes.wake_task();
        }
    }
}

fn warn_of_evicted(clients: u64) {
    warn!(
        // Operators may filter by the target, so it has not changed with the name of the file.
        target: "outrigger::delivery::holders",
        clients,
        "cut clients of feeds that held most: half of memory.max_buffered is for what waits for such as them"
    );
}

impl Account {
    /// A share of what all of them may hold.
    pub(super) fn share(&self) -> Share {
        self.memory.budget().share()
    }

    /// One of its clients holds so much, alone and together with others.
    pub(super) fn note(&self, bytes: usize) {
        // Only its shard writes this number.
        if bytes > self.public.most.load(Ordering::Relaxed) {
            self.public.most.store(bytes, Ordering::Relaxed);
        }
    }

    /// None of its clients holds more than that any more.
    pub(super) fn set_most(&self, bytes: usize) {
        self.public.most.store(bytes, Ordering::Relaxed);
    }

    /// Whether it is asked to evict a client, or to report that others hold more. Begins a round if there has to be one.
    pub(super) fn is_asked(&self) -> bool {
        if self.public.is_asked.load(Ordering::Acquire) {
            return true;
        }
        self.memory.enforce_budget();
        self.public.is_asked.load(Ordering::Acquire)
    }

    /// Its heaviest holding weighs so much (`None`: its clients hold nothing). Whether that is to be evicted; if not,
    /// another shard is asked, or there is room.
    pub(super) fn report(&self, own: Option<Weight>) -> bool {
        let memory = &self.memory;
        let mut inner = memory.inner.lock();
        let Some(round) = inner.round.as_mut().filter(|round| round.asked == self.id) else {
            self.public.is_asked.store(false, Ordering::Release);
            return false;
        };
        round.reported.insert(self.id, own);
        let next = if memory.budget.is_over() {
            let rival = inner.heaviest(Some(self.id));
            match (own, rival) {
                (Some(own), rival) if rival.is_none_or(|(_, rival)| rival <= own) => return true,
                (_, Some((id, _))) => inner.ask(id),
                (_, None) => memory.end(&mut inner, true),
            }
        } else {
            memory.end(&mut inner, false)
        };
        self.public.is_asked.store(false, Ordering::Release);
        drop(inner);
        next.wake();
        false
    }

    /// It has evicted a client.
    pub(super) fn on_evicted(&self) {
        if let Some(left_out) = self.memory.lines.allow("cut", Instant::now()) {
            warn_of_evicted(left_out + 1);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let mut inner = self.memory.inner.lock();
        inner.accounts.remove(&self.id);
        if inner.round.as_ref().is_none_or(|round| round.asked != self.id) {
            return;
        }
        let next = match inner.heaviest(None) {
            Some((id, _)) => inner.ask(id),
            None => self.memory.end(&mut inner, false),
        };
        drop(inner);
        next.wake();
    }
}

#[cfg(test)]
mod tests;
