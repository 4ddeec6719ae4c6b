//! Logs whose owner alone writes, reads and lets go.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use super::*;

fn private(world: &World) -> Writer {
    Log::private(&world.logs)
}

#[test]
fn a_private_log_keeps_what_is_not_let_go_of_and_its_numbers_go_on() {
    let world = World::roomy();
    let mut writer = private(&world);
    let log = Arc::clone(writer.log());
    writer.let_go(5);
    assert_eq!((log.head(), read_all(&log, at(1)).0), (0, vec![]), "there is nothing yet");
    say(&mut writer, "mmm");
    // Below which it lets go; what is kept then.
    for (below, kept) in [(0, vec![1, 2, 3]), (1, vec![1, 2, 3]), (3, vec![3]), (2, vec![3]), (99, vec![])] {
        writer.let_go(below);
        assert_eq!(read_all(&log, at(4 - kept.len() as u64)).0, kept, "below {below}");
        assert_eq!(world.held(), (kept.len() as i64, (kept.len() * PLAIN) as i64));
        assert_eq!(world.budget.used(), kept.len() * PLAIN);
    }
    say(&mut writer, "mm");
    let (read, progress) = read_all(&log, at(4));
    assert_eq!((read, progress.missed, log.head()), (vec![4, 5], 0, 5));
    assert_eq!(read_all(&log, at(2)).1.missed, 2, "whoever comes back for what was let go of hears of it");
    assert!(Trim::ALL.iter().all(|&reason| world.trimmed(reason) == 0));
    drop(writer);
    assert_eq!(read_all(&log, at(4)).0, [4, 5], "a log can be read after its writer is gone");
    drop(log);
    assert_eq!((world.held(), world.budget.used()), ((0, 0), 0));
}

#[tokio::test(start_paused = true)]
async fn a_private_log_that_keeps_nothing_is_small_and_its_numbers_go_on() {
    // A step of the allocator; before it the two counters of an Arc.
    let reference_counts = 2 * size_of::<usize>();
    assert!(size_of::<Log>() + reference_counts <= 80, "{}", size_of::<Log>());
    let world = World::roomy();
    let mut writer = private(&world);
    let log = Arc::clone(writer.log());
    assert!(!log.has_rings());
    for round in 1..=3 {
        say(&mut writer, "m");
        world.logs.expire();
        assert!(log.has_rings(), "it keeps something");
        writer.let_go(round + 1);
        assert!(log.has_rings(), "the next message may follow at once");
        world.logs.expire();
        assert!(!log.has_rings());
        let (read, progress) = read_all(&log, at(1));
        assert_eq!((read, progress.missed, progress.cursor), (vec![], round, at(round + 1)));
        assert_eq!((log.head(), log.lag(at(round + 1)).messages), (round, 0));
    }
    // A channel's log has what it is asked for, whether or not it has anything.
    let mut channel = world.log(&history(3, 1000));
    world.logs.expire();
    say(&mut channel, "mmmm");
    assert_eq!(read_all(channel.log(), at(1)).0, [2, 3, 4]);
}

#[test]
fn a_private_log_is_not_bound_by_history_nor_by_age() {
    let world = World::roomy();
    let mut writer = private(&world);
    for _ in 0..20_000 {
        writer.append(draft(100, false));
    }
    world.logs.expire();
    let (read, progress) = read_all(writer.log(), at(1));
    assert_eq!((read.len(), progress.missed), (20_000, 0));
}

#[test]
fn the_private_log_that_holds_most_is_asked_first_and_who_keeps_up_keeps_its_newest() {
    let world = World::new(100 * PLAIN);
    let (mut small, mut large, mut current) = (private(&world), private(&world), private(&world));
    let mut channel = world.log(&history(1000, 1 << 20));
    say(&mut small, &"m".repeat(20));
    say(&mut large, &"m".repeat(60));
    say(&mut current, "m");
    // What nobody reads goes first.
    say(&mut channel, &"m".repeat(25));
    assert!(!world.budget.is_over());
    assert_eq!((read_all(small.log(), at(1)).0.len(), read_all(large.log(), at(1)).0.len()), (20, 60));
    assert!(world.trimmed(Trim::Memory) > 0 && world.trimmed(Trim::Laggard) == 0);
    say(&mut current, &"m".repeat(30));
    let (read, progress) = read_all(large.log(), at(1));
    assert_eq!(read.len() as u64 + progress.missed, 60);
    assert_eq!(world.trimmed(Trim::Laggard), progress.missed, "what was not let go of counts as unread");
    assert!(progress.missed > 0, "it was the largest");
    assert_eq!(read_all(small.log(), at(1)).1.missed, 0);
    // Everything but the newest of each goes if others hold all the memory there is.
    world.budget.add(1000 * PLAIN);
    world.logs.enforce_budget();
    for writer in [&small, &large, &current, &channel] {
        assert_eq!(read_all(writer.log(), at(1)).0, [writer.log().head()]);
    }
    world.budget.sub(1000 * PLAIN);
}

/// One private log, and what it is to keep.
struct Owner {
    writer: Writer,
    head: u64,
    /// Numbers and sizes.
    kept: VecDeque<(u64, usize)>,
    /// Messages that it has neither let go of nor been left.
    evicted: u64,
}

impl Owner {
    fn new(world: &World) -> Self {
        Self { writer: private(world), head: 0, kept: VecDeque::new(), evicted: 0 }
    }

    fn append(&mut self, rng: &mut fastrand::Rng) {
        let frame = rng.usize(1..200);
        self.head += 1;
        self.kept.push_back((self.head, Entry::OVERHEAD + frame));
        assert_eq!(self.writer.append(draft(frame, false)), self.head, "without a gap");
    }

    fn let_go(&mut self, below: u64) {
        self.writer.let_go(below);
        self.kept.retain(|(sequence, _)| *sequence >= below);
    }

    /// Finds what was evicted since: the oldest, but never the newest.
    fn observe(&mut self) {
        let from = self.kept.front().map_or(self.head + 1, |(sequence, _)| *sequence);
        let (read, progress) = read_all(self.writer.log(), at(from));
        assert_eq!(progress.missed + read.len() as u64, self.kept.len() as u64);
        assert_eq!(read.last(), self.kept.back().map(|(sequence, _)| sequence), "the newest stays");
        self.kept.drain(..progress.missed as usize);
        self.evicted += progress.missed;
        assert_eq!(read, self.kept.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>());
    }

    fn read(&self, rng: &mut fastrand::Rng) {
        let next = rng.u64(1..self.head + 3);
        let (most, bytes) = (rng.usize(0..6), rng.usize(0..500));
        let mut entries = Vec::new();
        let progress = self.writer.log().read(at(next), u64::MAX, most, bytes, &mut entries);
        let from = self.kept.front().map_or(self.head + 1, |(sequence, _)| *sequence);
        assert_eq!(progress.missed, from.saturating_sub(next), "what is not kept any more");
        let read = numbers(&entries);
        let begin = next.max(from);
        assert_eq!(read, (begin..begin + read.len() as u64).collect::<Vec<_>>());
        assert_eq!(progress.cursor.next, begin + read.len() as u64);
        assert_eq!(progress.has_more, progress.cursor.next <= self.head);
        assert!(read.len() <= most.max(1) && (!read.is_empty() || begin > self.head));
    }
}

#[test]
fn private_logs_keep_exactly_what_is_not_let_go_of_whatever_happens_to_others() {
    let world = World::roomy();
    let roomy: u64 = (0..500).map(|seed| walk(seed, usize::MAX, &world.metrics)).sum();
    assert_eq!(roomy, 0);
    let tight: u64 = (0..500).map(|seed| walk(seed, 3_000, &world.metrics)).sum();
    assert!(tight > 1_000);
    assert_eq!(
        tight,
        world.trimmed(Trim::Laggard),
        "what was not let go of counts as unread, and nothing else"
    );
}

/// Answers how many messages were evicted.
fn walk(seed: u64, limit: usize, metrics: &Arc<Metrics>) -> u64 {
    let budget = Arc::new(Budget::new(limit));
    let world = World { logs: Logs::new(budget.clone(), metrics.clone()), budget, metrics: metrics.clone() };
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut owners: Vec<_> = (0..3).map(|_| Owner::new(&world)).collect();
    let mut evicted = 0;
    for _ in 0..60 {
        let index = rng.usize(0..owners.len());
        let owner = &mut owners[index];
        match rng.u8(0..100) {
            0..50 => owner.append(&mut rng),
            50..70 => owner.let_go(rng.u64(0..owner.head + 3)),
            70..85 => owner.read(&mut rng),
            85..90 => world.logs.expire(),
            90..95 => world.logs.enforce_budget(),
            _ => {
                // Its session ends, and another one begins.
                evicted += owner.evicted;
                owners[index] = Owner::new(&world);
            }
        }
        owners.iter_mut().for_each(Owner::observe);
        let sizes = owners.iter().flat_map(|owner| &owner.kept).map(|(_, size)| size);
        let (messages, bytes) = (sizes.clone().count(), sizes.sum::<usize>());
        assert_eq!(
            (world.held(), world.budget.used()),
            ((messages as i64, bytes as i64), bytes),
            "seed {seed}"
        );
    }
    evicted += owners.iter().map(|owner| owner.evicted).sum::<u64>();
    drop(owners);
    assert_eq!((world.held(), world.budget.used()), ((0, 0), 0), "seed {seed}");
    evicted
}

#[test]
fn threads_that_make_room_take_nothing_that_is_not_told() {
    // Threads that do not run at the same time leave each other room: then once more.
    let missed = (0..50).map(|_| missed_by_two_who_share_a_budget()).find(|missed| *missed > 0);
    assert!(missed.is_some(), "none of them had to make room");
}

fn missed_by_two_who_share_a_budget() -> u64 {
    let world = World::new(20 * PLAIN);
    let is_over = AtomicBool::new(false);
    let missed = thread::scope(|scope| {
        let owners: Vec<_> = (0..2).map(|_| scope.spawn(|| own(&world, 20_000))).collect();
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                world.logs.expire();
                world.logs.enforce_budget();
            }
        });
        let missed: u64 = owners.into_iter().map(|owner| owner.join().unwrap()).sum();
        is_over.store(true, SeqCst);
        // What was read, and not let go of yet, is trimmed and missed by nobody.
        let trimmed = world.trimmed(Trim::Laggard);
        assert!(missed <= trimmed, "{missed} of {trimmed}");
        missed
    });
    assert_eq!((world.held(), world.budget.used()), ((0, 0), 0));
    missed
}

/// Says so many messages, reads each, and lets go of them in bursts. Answers how many it has missed.
fn own(world: &World, messages: u64) -> u64 {
    let mut writer = private(world);
    let (mut cursor, mut entries, mut missed) = (at(1), Vec::new(), 0);
    for n in 1..=messages {
        say(&mut writer, "m");
        if n % 16 == 0 {
            let before = cursor.next;
            let progress = writer.log().read(cursor, u64::MAX, usize::MAX, usize::MAX, &mut entries);
            let read: Vec<_> = entries.drain(..).map(|entry| entry.sequence).collect();
            assert_eq!(read, (before + progress.missed..=n).collect::<Vec<_>>());
            missed += progress.missed;
            cursor = progress.cursor;
            writer.let_go(cursor.next);
        }
    }
    missed
}
