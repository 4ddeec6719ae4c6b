//! Who holds most of what waits for clients of feeds, over the whole process. Where that is more than there may be,
//! those who hold most are cut, whichever feed they are on and whether or not anything happens there.
//!
//! Each shard has an [`Account`] here, in which stands how much any of its clients holds at the most: one number,
//! raised when a socket is full. Whoever finds too much in use begins a *round*. The shard whose number is the
//! greatest is asked; it looks at its own clients, tells what its heaviest [holding](super::holding) weighs, and cuts it
//! if no other shard may have a heavier one. Otherwise that one is asked. What was told stands until the round is over,
//! so each shard is asked in vain once at the most.
//!
//! # Invariants
//! 1. One shard at a time is asked, and nobody else cuts: not two for the same excess.
//! 2. Nobody looks at the clients of another shard: a step is a look at one number for each shard, or at the clients
//!    of one.
//! 3. What is taken is found by the shard that takes it, when it has had its turn. A bound that was lowered, and what
//!    others use of it, is found by a look now and then ([`Holders::relieve`]).
//! 4. A shard that ends while it is asked leaves its turn to the next.
//! 5. No lock of another part is taken under the lock here; wakers are called outside of it.
//!
//! # Not here
//! What is held by logs ([`crate::log`]) and tunnels ([`crate::tunnel`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::warn;

use super::holding::Weight;
use super::ready::Ready;
use crate::resilience::{Budget, Share};
use crate::telemetry::WarnThrottle;

/// From one line in the log about cuts to the next.
const QUIET: Duration = Duration::from_secs(10);

/// So much of the bound (a part of it) has to change before it is tried again in vain.
const SLACK: usize = 16;

/// What waits for clients of feeds, and the shards that serve them.
#[derive(Debug)]
pub(crate) struct Holders {
    budget: Arc<Budget>,
    /// Whether a round is on, for those who only want to begin one.
    is_on: AtomicBool,
    /// What was in use when nobody was found who holds it; `usize::MAX`: somebody was.
    last_futile_eviction: AtomicUsize,
    /// About cuts.
    lines: WarnThrottle,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    accounts: HashMap<u64, Arc<Shown>>,
    next_id: u64,
    round: Option<Round>,
}

#[derive(Debug, Default)]
struct Round {
    /// Whose turn it is.
    asked: u64,
    /// What those that were asked have told; `None`: they hold nothing.
    told: HashMap<u64, Option<Weight>>,
}

/// What others see of a shard.
#[derive(Debug)]
struct Shown {
    /// No client holds more, and none has a part in more.
    most: AtomicUsize,
    is_asked: AtomicBool,
    ready: Arc<Ready>,
}

/// A shard's account, closed when it is dropped.
#[derive(Debug)]
pub(super) struct Account {
    holders: Arc<Holders>,
    id: u64,
    shown: Arc<Shown>,
}

impl Holders {
    /// Nobody holds anything yet. `budget`: what they all may hold together.
    pub(crate) fn new(budget: Budget) -> Arc<Self> {
        Arc::new(Self {
            budget: Arc::new(budget),
            is_on: AtomicBool::new(false),
            last_futile_eviction: AtomicUsize::new(usize::MAX),
            lines: WarnThrottle::every(QUIET),
            inner: Mutex::default(),
        })
    }

    /// What they all may hold together, and do.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Has those who hold most cut, if more is in use than there may be. Costs two loads if not; to be called by
    /// whoever takes something, and now and then.
    pub(crate) fn relieve(&self) {
        if !self.budget.is_over() || self.is_on.load(Ordering::Acquire) {
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
            let after = self.begin(&mut inner);
            drop(inner);
            after.happen();
        }
    }

    /// Tells in the log of cuts that it does not know of yet. To be called now and then.
    pub(crate) fn tell_left_out(&self) {
        for (_, cuts) in self.lines.overdue(Instant::now()) {
            warn_of(cuts);
        }
    }

    /// An account of a shard, which `ready` wakes.
    pub(super) fn open(self: &Arc<Self>, ready: &Arc<Ready>) -> Account {
        let shown = Arc::new(Shown {
            most: AtomicUsize::new(0),
            is_asked: AtomicBool::new(false),
            ready: Arc::clone(ready),
        });
        let mut inner = self.inner.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        inner.accounts.insert(id, Arc::clone(&shown));
        drop(inner);
        Account { holders: Arc::clone(self), id, shown }
    }

    /// A round begins with whoever may hold most.
    fn begin(&self, inner: &mut Inner) -> After {
        self.is_on.store(true, Ordering::Release);
        inner.round = Some(Round::default());
        match inner.heaviest(None) {
            Some((id, _)) => inner.ask(id),
            None => self.end(inner, true),
        }
    }

    /// The round is over; `is_in_vain`: nobody holds anything.
    fn end(&self, inner: &mut Inner, is_in_vain: bool) -> After {
        inner.round = None;
        let last_futile_eviction = if is_in_vain { self.budget.used() } else { usize::MAX };
        self.last_futile_eviction.store(last_futile_eviction, Ordering::Relaxed);
        self.is_on.store(false, Ordering::Release);
        After { asked: None }
    }
}

impl Inner {
    /// Who may have the heaviest holding, but for `but`.
    fn heaviest(&self, but: Option<u64>) -> Option<(u64, Weight)> {
        let told = self.round.as_ref().map(|round| &round.told);
        let weight = |id: &u64, shown: &Shown| match told.and_then(|told| told.get(id)) {
            Some(told) => *told,
            None => Some(shown.most.load(Ordering::Relaxed)).filter(|most| *most > 0).map(Weight::at_most),
        };
        let others = self.accounts.iter().filter(|(id, _)| Some(**id) != but);
        others.filter_map(|(id, shown)| Some((*id, weight(id, shown)?))).max_by_key(|(_, weight)| *weight)
    }

    /// It is that one's turn.
    fn ask(&mut self, id: u64) -> After {
        let asked = self.accounts.get(&id).map(Arc::clone);
        if let (Some(round), Some(shown)) = (&mut self.round, &asked) {
            round.asked = id;
            shown.is_asked.store(true, Ordering::Release);
        }
        After { asked }
    }
}

/// What is to happen when the lock is given back.
#[must_use]
struct After {
    asked: Option<Arc<Shown>>,
}

impl After {
    fn happen(self) {
        if let Some(shown) = self.asked {
            shown.ready.wake_task();
        }
    }
}

fn warn_of(cuts: u64) {
    warn!(
        clients = cuts,
        "cut clients of feeds that held most: half of memory.max_buffered is for what waits for such as them"
    );
}

impl Account {
    /// A share of what all of them may hold.
    pub(super) fn share(&self) -> Share {
        self.holders.budget().share()
    }

    /// One of its clients holds so much, alone and with others.
    pub(super) fn note(&self, bytes: usize) {
        // Only its shard writes it.
        if bytes > self.shown.most.load(Ordering::Relaxed) {
            self.shown.most.store(bytes, Ordering::Relaxed);
        }
    }

    /// None of its clients holds more than that any more.
    pub(super) fn set_most(&self, bytes: usize) {
        self.shown.most.store(bytes, Ordering::Relaxed);
    }

    /// Whether it is its turn to cut somebody, or to tell that others hold more. Begins a round if there has to be one.
    pub(super) fn is_asked(&self) -> bool {
        if self.shown.is_asked.load(Ordering::Acquire) {
            return true;
        }
        self.holders.relieve();
        self.shown.is_asked.load(Ordering::Acquire)
    }

    /// Its heaviest holding weighs so much (`None`: its clients hold nothing). Whether that is to be cut; if not, it is
    /// somebody else's turn, or there is room.
    pub(super) fn tell(&self, own: Option<Weight>) -> bool {
        let holders = &self.holders;
        let mut inner = holders.inner.lock();
        let Some(round) = inner.round.as_mut().filter(|round| round.asked == self.id) else {
            self.shown.is_asked.store(false, Ordering::Release);
            return false;
        };
        round.told.insert(self.id, own);
        let after = if holders.budget.is_over() {
            let rival = inner.heaviest(Some(self.id));
            match (own, rival) {
                (Some(own), rival) if rival.is_none_or(|(_, rival)| rival <= own) => return true,
                (_, Some((id, _))) => inner.ask(id),
                (_, None) => holders.end(&mut inner, true),
            }
        } else {
            holders.end(&mut inner, false)
        };
        self.shown.is_asked.store(false, Ordering::Release);
        drop(inner);
        after.happen();
        false
    }

    /// It has cut a client.
    pub(super) fn on_cut(&self) {
        if let Some(left_out) = self.holders.lines.may("cut", Instant::now()) {
            warn_of(left_out + 1);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let mut inner = self.holders.inner.lock();
        inner.accounts.remove(&self.id);
        if inner.round.as_ref().is_none_or(|round| round.asked != self.id) {
            return;
        }
        let after = match inner.heaviest(None) {
            Some((id, _)) => inner.ask(id),
            None => self.holders.end(&mut inner, false),
        };
        drop(inner);
        after.happen();
    }
}

#[cfg(test)]
mod tests {
    use super::super::holding::{Held, holdings};
    use super::*;

    /// Shards of which each client holds something for itself.
    struct World {
        holders: Arc<Holders>,
        start: Instant,
        shards: Vec<(Account, Vec<usize>)>,
        /// Which shards have cut what, in that order.
        cuts: Vec<(usize, usize)>,
        looks: usize,
    }

    impl World {
        fn new(limit: usize, shards: &[&[usize]]) -> Self {
            let holders = Holders::new(Budget::new(limit));
            let open = |clients: &&[usize]| {
                let account = holders.open(&Arc::default());
                for &bytes in *clients {
                    holders.budget.add(bytes);
                    account.note(bytes);
                }
                (account, clients.to_vec())
            };
            let shards = shards.iter().map(open).collect();
            Self { holders: Arc::clone(&holders), start: Instant::now(), shards, cuts: Vec::new(), looks: 0 }
        }

        /// Each shard has its turn, until none is asked.
        fn turn(&mut self) {
            self.holders.relieve();
            for _ in 0..100 {
                for at in 0..self.shards.len() {
                    self.relieve(at);
                }
                assert!(self.asked().len() <= 1, "two at once");
            }
            assert!(self.asked().is_empty());
        }

        fn asked(&self) -> Vec<usize> {
            let is_asked = |at: &usize| self.shards[*at].0.shown.is_asked.load(Ordering::Acquire);
            (0..self.shards.len()).filter(is_asked).collect()
        }

        fn relieve(&mut self, at: usize) {
            let (account, clients) = &mut self.shards[at];
            if !account.shown.is_asked.load(Ordering::Acquire) {
                return;
            }
            self.looks += 1;
            loop {
                let since = self.start;
                let held = clients.iter().enumerate().map(|(index, &alone)| Held {
                    index: index as u32,
                    piece: None,
                    alone,
                    since,
                });
                account.set_most(clients.iter().copied().max().unwrap_or(0));
                let heaviest = holdings(held).pop();
                if !account.tell(heaviest.as_ref().map(|holding| holding.weight)) {
                    return;
                }
                let bytes = clients.remove(heaviest.unwrap().clients[0] as usize);
                self.holders.budget.sub(bytes);
                account.on_cut();
                self.cuts.push((at, bytes));
            }
        }
    }

    #[test]
    fn the_heaviest_goes_first_whichever_shard_it_is_on_until_there_is_room() {
        let mut world = World::new(10_000, &[&[900, 4000], &[], &[8000, 2000, 1000], &[70, 16_000]]);
        world.turn();
        assert_eq!(world.cuts, [(3, 16_000), (2, 8000)]);
        assert_eq!(world.holders.budget.used(), 7970);
        assert!(world.looks <= 4, "{} looks at the clients of a shard", world.looks);
        world.turn();
        assert_eq!(world.cuts.len(), 2);
    }

    #[test]
    fn who_is_believed_to_hold_much_and_does_not_any_more_is_not_cut() {
        let mut world = World::new(10_000, &[&[3000], &[12_000], &[2000]]);
        // The first and the last one have taken most of it meanwhile.
        for (at, held) in [(0, 100), (2, 90)] {
            world.holders.budget.sub(world.shards[at].1[0] - held);
            world.shards[at].0.note(50_000);
            world.shards[at].1[0] = held;
        }
        world.turn();
        assert_eq!(world.cuts, [(1, 12_000)]);
    }

    #[test]
    fn a_shard_that_ends_while_it_is_asked_leaves_its_turn_to_the_next() {
        let mut world = World::new(1000, &[&[900], &[4000], &[2000]]);
        world.holders.relieve();
        assert_eq!(world.asked(), [1]);
        let (account, clients) = world.shards.remove(1);
        world.holders.budget.sub(clients[0]);
        drop(account);
        assert_eq!(world.asked(), [1], "it is the one that was the third");
        world.turn();
        assert_eq!(world.cuts, [(1, 2000)]);
        // Also the last one there is.
        world.holders.budget.add(5000);
        world.holders.relieve();
        world.shards.clear();
        assert!(world.holders.inner.lock().round.is_none() && !world.holders.is_on.load(Ordering::Acquire));
    }

    #[test]
    fn what_nobody_is_found_to_hold_is_not_looked_for_each_time() {
        let mut world = World::new(16_000, &[&[10], &[]]);
        world.holders.budget.add(20_000);
        world.turn();
        assert_eq!((world.cuts.len(), world.looks), (1, 1));
        for _ in 0..10 {
            world.holders.relieve();
            assert!(world.asked().is_empty());
        }
        // What has changed much is another matter.
        world.holders.budget.add(2000);
        world.shards[1].0.note(2000);
        world.shards[1].1.push(2000);
        world.turn();
        assert_eq!(world.cuts[1..], [(1, 2000)]);
    }

    #[test]
    fn rounds_on_many_threads_come_to_an_end_and_cut_no_more_than_they_have_to() {
        let holders = Holders::new(Budget::new(100_000));
        std::thread::scope(|scope| {
            for shard in 0..4_u64 {
                let holders = Arc::clone(&holders);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(shard);
                    let account = holders.open(&Arc::default());
                    let (mut clients, since) = (Vec::<usize>::new(), Instant::now());
                    for step in 0..20_000 {
                        if step < 10_000 {
                            let bytes = rng.usize(1..20_000);
                            holders.budget.add(bytes);
                            clients.push(bytes);
                            account.note(bytes);
                        }
                        if account.is_asked() {
                            account.set_most(clients.iter().copied().max().unwrap_or(0));
                            let held = |(index, &alone): (usize, &usize)| Held {
                                index: index as u32,
                                piece: None,
                                alone,
                                since,
                            };
                            let mut order = holdings(clients.iter().enumerate().map(held));
                            while account.tell(order.last().map(|holding| holding.weight)) {
                                let index = order.pop().unwrap().clients[0] as usize;
                                holders.budget.sub(std::mem::take(&mut clients[index]));
                            }
                            clients.retain(|bytes| *bytes > 0);
                        }
                        std::thread::yield_now();
                    }
                    holders.budget.sub(clients.iter().sum());
                });
            }
        });
        assert_eq!(holders.budget.used(), 0);
        assert!(holders.inner.lock().round.is_none());
    }
}
