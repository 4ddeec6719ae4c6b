//! Random walks over everything that can be done to logs, next to a model that does it the slow and plain way.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::*;
use crate::log::{Lag, Reader};

const SEEDS: u64 = 2000;
const STEPS: usize = 80;

/// A log as its documents have it.
struct Model {
    history: History,
    messages: Vec<Said>,
    /// From here on all are kept.
    first: u64,
    /// Critical ones that are kept.
    critical: BTreeSet<u64>,
    gone: u64,
}

struct Said {
    frame: usize,
    size: usize,
    is_critical: bool,
    at: Instant,
}

/// A log, its model, and who reads it.
struct Place {
    opened: Instant,
    writer: Writer,
    model: Model,
    clients: Vec<Cursor>,
    readers: Vec<(Reader, u64)>,
}

impl Model {
    fn head(&self) -> u64 {
        self.messages.len() as u64
    }

    fn said(&self, sequence: u64) -> &Said {
        &self.messages[sequence as usize - 1]
    }

    fn is_kept(&self, sequence: u64) -> bool {
        sequence >= self.first || self.critical.contains(&sequence)
    }

    fn kept(&self) -> impl DoubleEndedIterator<Item = u64> {
        (1..=self.head()).filter(|&sequence| self.is_kept(sequence))
    }

    fn held(&self) -> usize {
        self.kept().map(|sequence| self.said(sequence).size).sum()
    }

    fn frames(&self, sequences: impl Iterator<Item = u64>) -> u64 {
        sequences.map(|sequence| self.said(sequence).frame as u64).sum()
    }

    fn raise_first(&mut self, first: u64) {
        self.gone = self.frames(1..first - 1);
        self.first = first;
    }

    fn expire(&mut self, now: Instant) {
        while self.first < self.head() && now - self.said(self.first).at > self.history.age {
            self.raise_first(self.first + 1);
        }
    }

    fn append(&mut self, said: Said) {
        let now = said.at;
        self.messages.push(said);
        let head = self.head();
        if self.said(head).is_critical {
            self.critical.insert(head);
        }
        self.expire(now);
        let size = |model: &Self| (model.first..=head).map(|s| model.said(s).size).sum::<usize>();
        while self.first < head
            && ((head - self.first) as usize >= self.history.messages || size(self) > self.history.bytes)
        {
            self.raise_first(self.first + 1);
        }
        let size = |model: &Self| model.critical.iter().map(|&s| model.said(s).size).sum::<usize>();
        while self.critical.first().is_some_and(|&oldest| oldest < self.first)
            && (self.critical.len() > self.history.messages || size(self) > self.history.bytes)
        {
            self.critical.pop_first();
        }
    }

    fn behind(&self, cursor: Cursor) -> Lag {
        let start = cursor.next.max(cursor.all_from).min(self.head() + 1);
        let critical: Vec<_> =
            self.critical.iter().copied().filter(|s| (cursor.next..start).contains(s)).collect();
        let bytes = if start >= self.first {
            self.frames(start..=self.head())
        } else {
            self.frames(1..=self.head()) - self.gone
        };
        Lag {
            messages: self.head() + 1 - start + critical.len() as u64,
            bytes: bytes + self.frames(critical.into_iter()),
        }
    }

    /// One message after the other.
    fn read(&self, cursor: Cursor, until: u64, most: usize, bytes: usize) -> (Vec<u64>, u64, u64, bool) {
        let (mut read, mut missed, mut used) = (Vec::new(), 0, 0);
        let end = until.min(self.head());
        for sequence in cursor.next..=end {
            let is_wanted = sequence >= cursor.all_from;
            if !self.is_kept(sequence) {
                missed += u64::from(is_wanted);
            } else if is_wanted || self.said(sequence).is_critical {
                let frame = self.said(sequence).frame;
                if !read.is_empty() && (read.len() >= most || used + frame > bytes) {
                    return (read, missed, sequence, true);
                }
                used += frame;
                read.push(sequence);
            }
        }
        (read, missed, cursor.next.max(end + 1), false)
    }
}

impl Place {
    fn new(world: &World, rng: &mut fastrand::Rng) -> Self {
        let mut history = history(rng.usize(1..12), rng.usize(1..1500));
        history.age = Duration::from_secs(rng.u64(1..40));
        let writer = world.log(&history);
        let model = Model { history, messages: Vec::new(), first: 1, critical: BTreeSet::new(), gone: 0 };
        Self { opened: Instant::now(), writer, model, clients: Vec::new(), readers: Vec::new() }
    }

    fn slowest(&self) -> u64 {
        self.readers.iter().map(|(_, at)| *at).min().unwrap_or(u64::MAX)
    }

    fn append(&mut self, rng: &mut fastrand::Rng) {
        let (frame, deflated) = (rng.usize(0..30), rng.bool().then(|| rng.usize(0..10)));
        let is_critical = rng.u8(..) < 60;
        let message =
            || NewEntry { deflated: deflated.map(|n| vec![0; n].into()), ..draft(frame, is_critical) };
        let at = Instant::now();
        let appended = Timestamp::new(at - self.opened, SystemTime::now());
        let size = Entry::new(1, appended, 0, message()).size();
        self.model.append(Said { frame, size, is_critical, at });
        assert_eq!(self.writer.append(message()), self.model.head());
    }

    fn join(&mut self, rng: &mut fastrand::Rng) {
        let on_join = match rng.u8(0..4) {
            0 => OnJoin::None,
            1 => OnJoin::Critical,
            2 => OnJoin::All,
            _ => OnJoin::Last(rng.u64(0..15)),
        };
        let cursor = self.writer.log().join(on_join);
        let model = &self.model;
        let wanted = match on_join {
            OnJoin::None | OnJoin::Critical => 0,
            OnJoin::All => u64::MAX,
            OnJoin::Last(n) => n,
        };
        let all: BTreeSet<u64> = (model.first..=model.head()).rev().take(wanted.min(1000) as usize).collect();
        let mut expected = all.clone();
        if on_join != OnJoin::None {
            expected.extend(&model.critical);
        }
        let (read, progress) = read_all(self.writer.log(), cursor);
        assert_eq!(read, expected.into_iter().collect::<Vec<_>>(), "{on_join:?}");
        assert_eq!((progress.missed, progress.cursor), (0, at(model.head() + 1)));
        self.clients.push(cursor);
    }

    fn read(&mut self, rng: &mut fastrand::Rng) {
        let Some(client) = (!self.clients.is_empty()).then(|| rng.usize(0..self.clients.len())) else {
            return;
        };
        let cursor = self.clients[client];
        let (until, most, bytes) = (
            if rng.bool() { u64::MAX } else { rng.u64(0..self.model.head() + 3) },
            if rng.bool() { usize::MAX } else { rng.usize(0..6) },
            if rng.bool() { usize::MAX } else { rng.usize(0..80) },
        );
        let mut entries = Vec::new();
        let progress = self.writer.log().read(cursor, until, most, bytes, &mut entries);
        let (read, missed, next, has_more) = self.model.read(cursor, until, most, bytes);
        assert_eq!((numbers(&entries), progress.missed, progress.cursor.next), (read, missed, next));
        assert_eq!((progress.has_more, progress.cursor.all_from), (has_more, cursor.all_from.max(next)));
        for entry in &entries {
            let said = self.model.said(entry.sequence);
            assert_eq!((entry.size(), entry.appended().since_opened()), (said.size, said.at - self.opened));
            assert_eq!(entry.offset, self.model.frames(1..entry.sequence));
        }
        self.clients[client] = progress.cursor;
    }

    fn skip(&mut self, rng: &mut fastrand::Rng) {
        let Some(client) = (!self.clients.is_empty()).then(|| rng.usize(0..self.clients.len())) else {
            return;
        };
        let (from, log) = (self.clients[client], self.writer.log());
        let to = log.skip_to_latest(from);
        let (before, missed, ..) = self.model.read(from, u64::MAX, usize::MAX, usize::MAX);
        let (after, none, ..) = self.model.read(to, u64::MAX, usize::MAX, usize::MAX);
        let critical: Vec<_> = before.iter().copied().filter(|s| self.model.critical.contains(s)).collect();
        assert_eq!((&after, none), (&critical, 0));
        assert_eq!(log.skipped(from, to), (before.len() - after.len()) as u64 + missed);
        self.clients[client] = to;
    }
}

/// As [`Logs::enforce_budget`] has it, one message after the other.
fn enforce_budget(
    places: &mut [Place],
    others: usize,
    limit: usize,
    last_futile_eviction: &mut Option<usize>,
) {
    let used = |places: &[Place]| others + places.iter().map(|place| place.model.held()).sum::<usize>();
    let slack = limit / 16;
    if used(places) <= limit || last_futile_eviction.is_some_and(|last| used(places).abs_diff(last) < slack) {
        return;
    }
    for step in 0..3 {
        let mut order: Vec<_> = (0..places.len()).collect();
        order.sort_by_key(|&index| {
            let Place { model, .. } = &places[index];
            let slowest = places[index].slowest();
            std::cmp::Reverse(match step {
                0 => model.held() as u64,
                1 => model.behind(at(slowest)).bytes,
                _ => model.critical.iter().map(|&critical| model.said(critical).size as u64).sum(),
            })
        });
        for index in order {
            while used(places) > limit - slack {
                let slowest = places[index].slowest();
                let model = &mut places[index].model;
                let oldest = model.critical.first().copied().filter(|&s| s < model.first);
                match step {
                    0 if model.first < model.head().min(slowest) => model.raise_first(model.first + 1),
                    1 if model.first < model.head() => model.raise_first(model.first + 1),
                    2 if oldest.is_some() => drop(model.critical.pop_first()),
                    _ => break,
                }
            }
        }
    }
    *last_futile_eviction = (used(places) > limit - slack).then(|| used(places));
}

#[tokio::test(start_paused = true)]
async fn logs_do_what_a_plain_model_of_them_does() {
    let metrics = World::roomy().metrics;
    for seed in 0..SEEDS {
        walk(seed, &metrics).await;
        assert_eq!((metrics.log.messages.get(), metrics.log.bytes.get()), (0, 0), "seed {seed}");
    }
}

async fn walk(seed: u64, metrics: &Arc<Metrics>) {
    // A failure tells where to begin.
    let _told = Told(seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    let limit = rng.usize(16..5000);
    let budget = Arc::new(Budget::new(limit));
    let world = World { logs: Logs::new(budget.clone(), metrics.clone()), budget, metrics: metrics.clone() };
    let mut places: Vec<_> = (0..rng.usize(1..4)).map(|_| Place::new(&world, &mut rng)).collect();
    let (mut others, mut last_futile_eviction) = (0, None);
    for _ in 0..STEPS {
        let index = rng.usize(0..places.len());
        let place = &mut places[index];
        match rng.u8(0..100) {
            0..40 => {
                place.append(&mut rng);
                enforce_budget(&mut places, others, limit, &mut last_futile_eviction);
            }
            40..60 => place.read(&mut rng),
            60..68 => place.join(&mut rng),
            68..72 => place.skip(&mut rng),
            72..74 => drop(place.clients.pop()),
            74..78 => place.readers.push((place.writer.log().reader(), u64::MAX)),
            78..80 => drop(place.readers.pop()),
            80..88 => {
                if let Some((reader, at)) = place.readers.last_mut() {
                    *at = rng.u64(0..place.model.head() + 3);
                    reader.set_oldest_needed(*at);
                }
            }
            88..92 => {
                tokio::time::advance(Duration::from_secs(rng.u64(0..10))).await;
                world.logs.expire();
                let now = Instant::now();
                places.iter_mut().for_each(|place| place.model.expire(now));
            }
            92..94 => {
                world.budget.sub(others);
                others = rng.usize(0..limit * 2);
                world.budget.add(others);
            }
            94..98 => {
                world.logs.enforce_budget();
                enforce_budget(&mut places, others, limit, &mut last_futile_eviction);
            }
            _ => {
                // A log ends, another one begins.
                places.remove(index);
                places.push(Place::new(&world, &mut rng));
            }
        }
        check(&world, &places, others);
    }
    drop(places);
    assert_eq!(world.budget.used(), others);
}

fn check(world: &World, places: &[Place], others: usize) {
    let (mut messages, mut bytes) = (0, 0);
    for Place { writer, model, clients, .. } in places {
        let log = writer.log();
        assert_eq!(log.head(), model.head());
        let everything = Cursor { next: 1, all_from: model.first };
        let kept: Vec<_> = model.kept().collect();
        assert_eq!(read_all(log, everything).0, kept);
        assert!(model.head() == 0 || kept.last() == Some(&model.head()), "the newest stays");
        for &client in clients {
            assert_eq!(log.lag(client), model.behind(client));
        }
        messages += kept.len() as i64;
        bytes += model.held();
    }
    assert_eq!(world.held(), (messages, bytes as i64));
    assert_eq!(world.budget.used(), bytes + others);
}

struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}
