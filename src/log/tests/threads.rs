//! The same with real threads: nothing is seen twice, nothing out of order, nothing is lost untold.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};

use tokio::time::Instant;

use super::*;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

fn is_critical(sequence: u64) -> bool {
    sequence.is_multiple_of(7)
}

/// Reads everything there is until the log has said all, waiting for its waker in between.
fn read_to_the_end(log: &Arc<Log>, until: u64, is_slow: bool, start: &Barrier) {
    let reader = log.reader();
    reader.wake_with(&Waker::from(Arc::new(Unpark(thread::current()))));
    let begin = log.join(OnJoin::None);
    start.wait();
    let (mut cursor, mut seen, mut missed, mut last) = (begin, 0, 0, begin.next - 1);
    let mut entries = Vec::new();
    let mut gaps = 0_u64;
    while cursor.next <= until {
        reader.set_oldest_needed(cursor.all_from);
        let progress = log.read(cursor, u64::MAX, 16, usize::MAX, &mut entries);
        for entry in entries.drain(..) {
            assert!(entry.sequence > last, "{} after {last}", entry.sequence);
            gaps += entry.sequence - last - 1;
            last = entry.sequence;
            assert_eq!(entry.is_critical, is_critical(entry.sequence));
            seen += 1;
        }
        missed += progress.missed;
        assert!(progress.cursor.next >= cursor.next);
        cursor = progress.cursor;
        if is_slow {
            thread::yield_now();
        } else if !progress.has_more && cursor.next <= until {
            let since = Instant::now();
            thread::park_timeout(PATIENCE);
            assert!(since.elapsed() < PATIENCE, "nobody woke it for {}", cursor.next);
        }
    }
    assert_eq!(seen + missed, until + 1 - begin.next);
    assert_eq!(missed, gaps + (until - last));
}

/// A writer that waits for its readers loses nothing of what is longer than its log, and both always go on.
#[test]
fn readers_that_a_writer_waits_for_miss_nothing() {
    const MESSAGES: u64 = 20_000;
    let world = World::new(1 << 30);
    let mut writer = world.log(&history(16, 100_000));
    let log = writer.log().clone();
    let readers = [log.reader(), log.reader(), log.reader()];
    readers.iter().for_each(|reader| reader.set_delivered(1));
    thread::scope(|scope| {
        for reader in readers {
            scope.spawn(move || {
                reader.wake_with(&Waker::from(Arc::new(Unpark(thread::current()))));
                let (mut cursor, mut entries, mut seen) = (at(1), Vec::new(), 0);
                while cursor.next <= MESSAGES {
                    let progress = reader.log().read(cursor, u64::MAX, 7, usize::MAX, &mut entries);
                    assert_eq!(progress.missed, 0);
                    for entry in entries.drain(..) {
                        seen += 1;
                        assert_eq!(entry.sequence, seen);
                    }
                    cursor = progress.cursor;
                    reader.set_delivered(cursor.next);
                    if !progress.has_more && cursor.next <= MESSAGES {
                        let since = Instant::now();
                        thread::park_timeout(PATIENCE);
                        assert!(since.elapsed() < PATIENCE, "nobody woke it for {}", cursor.next);
                    }
                }
            });
        }
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        for sequence in 1..=MESSAGES {
            while writer.poll_room(&Context::from_waker(&waker)).is_pending() {
                let since = Instant::now();
                thread::park_timeout(PATIENCE);
                assert!(since.elapsed() < PATIENCE, "nobody woke the writer at {sequence}");
            }
            writer.append(draft(10, is_critical(sequence)));
            writer.wake();
        }
    });
}

#[test]
fn each_of_many_readers_sees_everything_once_and_in_order_or_is_told_what_it_missed() {
    const MESSAGES: u64 = 30_000;
    let world = World::new(20_000);
    let mut writer = world.log(&history(64, 100_000));
    let log = writer.log().clone();
    let (is_over, start) = (AtomicBool::new(false), Barrier::new(5));
    thread::scope(|scope| {
        let readers = [false, false, true, true].map(|is_slow| {
            let (log, start) = (&log, &start);
            scope.spawn(move || read_to_the_end(log, MESSAGES, is_slow, start))
        });
        // Others use the same budget, and logs come and go.
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                let mut other = world.log(&history(100, 5000));
                let late = other.log().reader();
                late.set_oldest_needed(1);
                say(&mut other, "mcmcmmmmmm");
                world.budget.add(15_000);
                world.logs.enforce_budget();
                world.logs.expire();
                world.budget.sub(15_000);
            }
        });
        // Also where a reader fails.
        let over = Over(&is_over);
        start.wait();
        for sequence in 1..=MESSAGES {
            assert_eq!(writer.append(draft(100, is_critical(sequence))), sequence);
            if sequence.is_multiple_of(3) {
                writer.wake();
            }
        }
        for reader in readers {
            reader.join().unwrap();
        }
        drop(over);
    });
    drop((writer, log));
    assert_eq!((world.held(), world.budget.used()), ((0, 0), 0));
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
