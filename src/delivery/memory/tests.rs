//! Rounds of eviction, with shards whose clients each hold something for themselves.

use super::*;

/// Shards of which each client holds something for itself.
struct World {
    memory: Arc<ClientMemory>,
    start: Instant,
    shards: Vec<(Account, Vec<usize>)>,
    /// Which shards have cut what, in that order.
    evicted: Vec<(usize, usize)>,
    looks: usize,
}

impl World {
    fn new(limit: usize, shards: &[&[usize]]) -> Self {
        let memory = ClientMemory::new(Budget::new(limit));
        let open = |clients: &&[usize]| {
            let account = memory.open(&Arc::default());
            for &bytes in *clients {
                memory.budget.add(bytes);
                account.note(bytes);
            }
            (account, clients.to_vec())
        };
        let shards = shards.iter().map(open).collect();
        Self { memory: Arc::clone(&memory), start: Instant::now(), shards, evicted: Vec::new(), looks: 0 }
    }

    /// Each shard has its turn, until none is asked.
    fn turn(&mut self) {
        self.memory.enforce_budget();
        for _ in 0..100 {
            for at in 0..self.shards.len() {
                self.look(at);
            }
            assert!(self.asked().len() <= 1, "two at once");
        }
        assert!(self.asked().is_empty());
    }

    fn asked(&self) -> Vec<usize> {
        let is_asked = |at: &usize| self.shards[*at].0.public.is_asked.load(Ordering::Acquire);
        (0..self.shards.len()).filter(is_asked).collect()
    }

    fn look(&mut self, at: usize) {
        let (account, clients) = &mut self.shards[at];
        if !account.public.is_asked.load(Ordering::Acquire) {
            return;
        }
        self.looks += 1;
        loop {
            let since = self.start;
            let held = clients.iter().enumerate().map(|(index, &alone)| Usage {
                index: index as u32,
                piece: None,
                alone,
                since,
            });
            account.set_most(clients.iter().copied().max().unwrap_or(0));
            let heaviest = holdings(held).pop();
            if !account.report(heaviest.as_ref().map(|holding| holding.weight)) {
                return;
            }
            let bytes = clients.remove(heaviest.unwrap().clients[0] as usize);
            self.memory.budget.sub(bytes);
            account.on_evicted();
            self.evicted.push((at, bytes));
        }
    }
}

#[test]
fn the_heaviest_goes_first_whichever_shard_it_is_on_until_there_is_room() {
    let mut world = World::new(10_000, &[&[900, 4000], &[], &[8000, 2000, 1000], &[70, 16_000]]);
    world.turn();
    assert_eq!(world.evicted, [(3, 16_000), (2, 8000)]);
    assert_eq!(world.memory.budget.used(), 7970);
    assert!(world.looks <= 4, "{} looks at the clients of a shard", world.looks);
    world.turn();
    assert_eq!(world.evicted.len(), 2);
}

#[test]
fn who_is_believed_to_hold_much_and_does_not_any_more_is_not_cut() {
    let mut world = World::new(10_000, &[&[3000], &[12_000], &[2000]]);
    // The first and the last one have taken most of it meanwhile.
    for (at, held) in [(0, 100), (2, 90)] {
        world.memory.budget.sub(world.shards[at].1[0] - held);
        world.shards[at].0.note(50_000);
        world.shards[at].1[0] = held;
    }
    world.turn();
    assert_eq!(world.evicted, [(1, 12_000)]);
}

#[test]
fn a_shard_that_ends_while_it_is_asked_leaves_its_turn_to_the_next() {
    let mut world = World::new(1000, &[&[900], &[4000], &[2000]]);
    world.memory.enforce_budget();
    assert_eq!(world.asked(), [1]);
    let (account, clients) = world.shards.remove(1);
    world.memory.budget.sub(clients[0]);
    drop(account);
    assert_eq!(world.asked(), [1], "it is the one that was the third");
    world.turn();
    assert_eq!(world.evicted, [(1, 2000)]);
    // Also the last one there is.
    world.memory.budget.add(5000);
    world.memory.enforce_budget();
    world.shards.clear();
    assert!(world.memory.inner.lock().round.is_none() && !world.memory.has_round.load(Ordering::Acquire));
}

#[test]
fn what_nobody_is_found_to_hold_is_not_looked_for_each_time() {
    let mut world = World::new(16_000, &[&[10], &[]]);
    world.memory.budget.add(20_000);
    world.turn();
    assert_eq!((world.evicted.len(), world.looks), (1, 1));
    for _ in 0..10 {
        world.memory.enforce_budget();
        assert!(world.asked().is_empty());
    }
    // What has changed much is another matter.
    world.memory.budget.add(2000);
    world.shards[1].0.note(2000);
    world.shards[1].1.push(2000);
    world.turn();
    assert_eq!(world.evicted[1..], [(1, 2000)]);
}

#[test]
fn rounds_on_many_threads_come_to_an_end_and_cut_no_more_than_they_have_to() {
    let memory = ClientMemory::new(Budget::new(100_000));
    std::thread::scope(|scope| {
        for shard in 0..4_u64 {
            let memory = Arc::clone(&memory);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(shard);
                let account = memory.open(&Arc::default());
                let (mut clients, since) = (Vec::<usize>::new(), Instant::now());
                for step in 0..20_000 {
                    if step < 10_000 {
                        let bytes = rng.usize(1..20_000);
                        memory.budget.add(bytes);
                        clients.push(bytes);
                        account.note(bytes);
                    }
                    if account.is_asked() {
                        account.set_most(clients.iter().copied().max().unwrap_or(0));
                        let held = |(index, &alone): (usize, &usize)| Usage {
                            index: index as u32,
                            piece: None,
                            alone,
                            since,
                        };
                        let mut order = holdings(clients.iter().enumerate().map(held));
                        while account.report(order.last().map(|holding| holding.weight)) {
                            let index = order.pop().unwrap().clients[0] as usize;
                            memory.budget.sub(std::mem::take(&mut clients[index]));
                        }
                        clients.retain(|bytes| *bytes > 0);
                    }
                    std::thread::yield_now();
                }
                memory.budget.sub(clients.iter().sum());
            });
        }
    });
    assert_eq!(memory.budget.used(), 0);
    assert!(memory.inner.lock().round.is_none());
}

/// What was written into the log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_about_evicted_clients_keep_the_target_that_operators_filter_by() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || World::new(100, &[&[200]]).turn());
    let logged = String::from_utf8(lines.0.lock().clone()).unwrap();
    assert!(logged.contains("WARN outrigger::delivery::holders: cut clients of feeds"), "{logged}");
}
