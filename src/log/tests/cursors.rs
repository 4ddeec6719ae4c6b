//! Where readers begin, what they read, what they miss.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use super::*;
use crate::log::{Continuation, Lag};

#[test]
fn numbers_begin_with_one_and_every_log_has_an_epoch_of_its_own() {
    let world = World::roomy();
    let mut writer = world.log(&history(10, 1000));
    assert_eq!(writer.log().head(), 0);
    assert_eq!(writer.append(draft(1, false)), 1);
    assert_eq!(writer.append(draft(1, false)), 2);
    assert_eq!(writer.log().head(), 2);
    assert_ne!(writer.log().epoch(), world.log(&history(10, 1000)).log().epoch());
}

#[test]
fn whoever_comes_back_goes_on_where_it_was_or_is_told_that_it_cannot() {
    use Continuation::{Ahead, At, Missed};
    let at = |next| At(Cursor { next, all_from: next });
    let world = World::roomy();
    let mut writer = world.log(&history(4, 1000));
    assert_eq!([0, 1].map(|seen| writer.log().after(seen)), [at(1), Ahead]);
    // The critical one is kept for late joiners, and is no help to somebody who has to have them all.
    say(&mut writer, "cmmmmm");
    let places = [0, 1, 2, 3, 6, 7, u64::MAX].map(|seen| writer.log().after(seen));
    assert_eq!(places, [Missed, Missed, at(3), at(4), at(7), Ahead, Ahead]);
}

#[test]
fn whoever_joins_begins_where_it_is_said() {
    // What was said to a log of four messages, who joins, and what it reads at once.
    const CASES: &[(&str, OnJoin, &[u64])] = &[
        ("", OnJoin::None, &[]),
        ("", OnJoin::All, &[]),
        ("", OnJoin::Critical, &[]),
        ("", OnJoin::Last(3), &[]),
        ("cmcm", OnJoin::None, &[]),
        ("cmcm", OnJoin::Critical, &[1, 3]),
        ("cmcm", OnJoin::All, &[1, 2, 3, 4]),
        ("cmcm", OnJoin::Last(0), &[1, 3]),
        ("cmcm", OnJoin::Last(2), &[1, 3, 4]),
        ("cmcm", OnJoin::Last(9), &[1, 2, 3, 4]),
        ("cmmcmmmm", OnJoin::None, &[]),
        ("cmmcmmmm", OnJoin::Critical, &[1, 4]),
        ("cmmcmmmm", OnJoin::All, &[1, 4, 5, 6, 7, 8]),
        ("cmmcmmmm", OnJoin::Last(1), &[1, 4, 8]),
        ("cmmcmmmm", OnJoin::Last(u64::MAX), &[1, 4, 5, 6, 7, 8]),
        ("mmmmmm", OnJoin::Critical, &[]),
        ("mmmmmm", OnJoin::All, &[3, 4, 5, 6]),
        // Critical ones have a bound of their own.
        ("cccccc", OnJoin::Critical, &[3, 4, 5, 6]),
    ];
    for &(said, on_join, expected) in CASES {
        let world = World::roomy();
        let mut writer = world.log(&history(4, 1000));
        say(&mut writer, said);
        let cursor = writer.log().join(on_join);
        let (read, progress) = read_all(writer.log(), cursor);
        assert_eq!(read, expected, "{said}, {on_join:?}");
        let latest = said.len() as u64 + 1;
        assert_eq!(
            progress,
            Progress { cursor: at(latest), missed: 0, has_more: false },
            "{said}, {on_join:?}"
        );
        let behind = writer.log().lag(cursor);
        let bytes = expected.len() as u64 * 10;
        assert_eq!(behind, Lag { messages: expected.len() as u64, bytes }, "{said}, {on_join:?}");
        // From there on it gets everything.
        say(&mut writer, "mc");
        assert_eq!(read_all(writer.log(), progress.cursor).0, [latest, latest + 1]);
    }
}

#[test]
fn a_gap_is_counted_once_however_often_it_is_read() {
    let world = World::roomy();
    let mut writer = world.log(&history(3, 1000));
    say(&mut writer, "mcmmcmmm");
    let log = writer.log();
    // Kept: 2 and 5 (critical), 6 to 8.
    for most in 1..6 {
        let (mut cursor, mut seen, mut missed, mut calls) = (at(1), Vec::new(), 0, 0);
        loop {
            let mut entries = Vec::new();
            let progress = log.read(cursor, u64::MAX, most, usize::MAX, &mut entries);
            assert!(entries.len() <= most);
            seen.extend(numbers(&entries));
            missed += progress.missed;
            calls += 1;
            cursor = progress.cursor;
            if !progress.has_more {
                break;
            }
        }
        assert_eq!((seen, missed, cursor), (vec![2, 5, 6, 7, 8], 3, at(9)), "{most} at a time");
        assert_eq!(calls, 5_usize.div_ceil(most));
    }
    // Nobody asked for what is not critical below `all_from`.
    let late = Cursor { next: 1, all_from: 5 };
    assert_eq!(read_all(log, late).1.missed, 0);
    let late = Cursor { next: 1, all_from: 4 };
    assert_eq!(read_all(log, late).1.missed, 1);
}

#[test]
fn a_read_is_bounded_by_until_by_messages_and_by_bytes() {
    let world = World::roomy();
    let mut writer = world.log(&history(3, 1000));
    say(&mut writer, "mcmmcmmm");
    // until, most, bytes; read, missed, next, more
    type Case = (u64, usize, usize, &'static [u64], u64, u64, bool);
    const CASES: &[Case] = &[
        (0, 9, 999, &[], 0, 1, false),
        (1, 9, 999, &[], 1, 2, false),
        (2, 9, 999, &[2], 1, 3, false),
        (4, 9, 999, &[2], 3, 5, false),
        (6, 9, 999, &[2, 5, 6], 3, 7, false),
        (6, 2, 999, &[2, 5], 3, 6, true),
        (5, 2, 999, &[2, 5], 3, 6, false),
        (8, 0, 999, &[2], 3, 5, true),
        (8, 1, 999, &[2], 3, 5, true),
        (8, 9, 0, &[2], 3, 5, true),
        (8, 9, 19, &[2], 3, 5, true),
        (8, 9, 20, &[2, 5], 3, 6, true),
        (8, 9, 39, &[2, 5, 6], 3, 7, true),
        (8, 9, 50, &[2, 5, 6, 7, 8], 3, 9, false),
        (99, 9, 999, &[2, 5, 6, 7, 8], 3, 9, false),
    ];
    for &(until, most, bytes, read, missed, next, has_more) in CASES {
        let mut entries = Vec::new();
        let progress = writer.log().read(at(1), until, most, bytes, &mut entries);
        let told = format!("until {until}, {most} messages, {bytes} bytes");
        assert_eq!(numbers(&entries), read, "{told}");
        assert_eq!(progress, Progress { cursor: at(next), missed, has_more }, "{told}");
    }
    // A cursor that is beyond all there is stays where it is.
    let (read, progress) = read_all(writer.log(), at(50));
    assert_eq!((read, progress.cursor, progress.missed), (vec![], at(50), 0));
}

#[test]
fn whoever_skips_to_the_latest_still_gets_what_is_critical() {
    let world = World::roomy();
    let mut writer = world.log(&history(3, 1000));
    say(&mut writer, "mcmmcmmm");
    let log = writer.log().clone();
    let latest = log.skip_to_latest(at(1));
    assert_eq!(latest, Cursor { next: 2, all_from: 9 });
    assert_eq!(log.skipped(at(1), latest), 6);
    assert_eq!(log.lag(latest), Lag { messages: 2, bytes: 20 });
    assert_eq!(log.skipped(at(6), log.skip_to_latest(at(6))), 3);
    assert_eq!(log.skipped(at(9), log.skip_to_latest(at(9))), 0);
    // It has skipped those already.
    assert_eq!(log.skipped(latest, log.skip_to_latest(latest)), 0);
    say(&mut writer, "m");
    let (read, progress) = read_all(&log, latest);
    assert_eq!((read, progress.missed, progress.cursor), (vec![2, 5, 9], 0, at(10)));
}

#[test]
fn a_lag_counts_what_is_gone_as_well() {
    let world = World::roomy();
    let mut writer = world.log(&history(4, 1000));
    say(&mut writer, "mmmmmmmmmm");
    let log = writer.log();
    assert_eq!(log.lag(at(11)), Lag::default());
    assert_eq!(log.lag(at(99)), Lag::default());
    assert_eq!(log.lag(at(8)), Lag { messages: 3, bytes: 30 });
    assert_eq!(log.lag(at(7)), Lag { messages: 4, bytes: 40 });
    // More than the log may keep: a bound of that length is told from one that was reached exactly.
    assert_eq!(log.lag(at(6)), Lag { messages: 5, bytes: 50 });
    assert_eq!(log.lag(at(2)), Lag { messages: 9, bytes: 50 });
}

#[test]
fn a_log_can_be_read_after_its_writer_is_gone() {
    let world = World::roomy();
    let mut writer = world.log(&history(4, 1000));
    say(&mut writer, "mc");
    let log = writer.log().clone();
    drop(writer);
    assert_eq!(read_all(&log, at(1)).0, [1, 2]);
    assert_eq!(world.held(), (2, (PLAIN + CRITICAL) as i64));
    drop(log);
    assert_eq!(world.held(), (0, 0));
}

#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn messages_that_came_together_wake_each_reader_once_until_it_is_gone() {
    let world = World::roomy();
    let mut writer = world.log(&history(4, 1000));
    let bells = [Arc::new(Bell::default()), Arc::new(Bell::default())];
    let rung = || bells.each_ref().map(|bell| bell.0.load(Relaxed));
    let readers = [writer.log().reader(), writer.log().reader()];
    say(&mut writer, "m");
    for (reader, bell) in readers.iter().zip(&bells) {
        reader.wake_with(&Waker::from(bell.clone()));
        reader.wake_with(&Waker::from(bell.clone()));
    }
    assert_eq!(rung(), [0, 0]);
    say(&mut writer, "mm");
    assert_eq!(rung(), [0, 0], "there may be more to come");
    writer.wake();
    assert_eq!(rung(), [1, 1]);
    let [first, second] = readers;
    drop(first);
    writer.wake();
    assert_eq!(rung(), [1, 2]);
    // It moved to another task.
    second.wake_with(&Waker::from(bells[0].clone()));
    writer.wake();
    assert_eq!(rung(), [2, 2]);
    assert_eq!(Arc::strong_count(&bells[1]), 1, "its waker was let go");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_goes_but_for_the_newest_and_what_is_critical() {
    let world = World::roomy();
    let mut writer = world.log(&History { age: Duration::from_secs(60), ..history(10, 1000) });
    say(&mut writer, "mc");
    tokio::time::advance(Duration::from_secs(40)).await;
    say(&mut writer, "m");
    tokio::time::advance(Duration::from_secs(20)).await;
    world.logs.expire();
    assert_eq!(read_all(writer.log(), at(1)).0, [1, 2, 3], "not older than that");
    tokio::time::advance(Duration::from_secs(1)).await;
    world.logs.expire();
    assert_eq!(read_all(writer.log(), at(1)).0, [2, 3]);
    assert_eq!((world.trimmed(Trim::Age), world.held()), (1, (2, (PLAIN + CRITICAL) as i64)));
    tokio::time::advance(Duration::from_secs(1000)).await;
    world.logs.expire();
    assert_eq!(read_all(writer.log(), at(1)).0, [2, 3], "the newest stays");
    say(&mut writer, "m");
    assert_eq!(read_all(writer.log(), at(1)).0, [2, 4], "trimmed without a tick");
}

#[test]
fn what_a_reader_has_not_passed_stays_whatever_the_bounds() {
    let world = World::roomy();
    let mut writer = world.log(&history(4, 1000));
    let room = |writer: &Writer, waker: &Waker| writer.poll_room(&Context::from_waker(waker)).is_ready();
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(bell.clone());
    let [first, second] = [writer.log().reader(), writer.log().reader()];
    say(&mut writer, "mmmmmm");
    assert_eq!(read_all(writer.log(), at(1)).0, [3, 4, 5, 6], "they have not said where they are");
    assert!(room(&writer, &waker));
    first.set_delivered(7);
    second.set_delivered(7);
    say(&mut writer, "mm");
    assert!(room(&writer, &waker), "half of the log");
    say(&mut writer, "mmcm");
    assert_eq!(read_all(writer.log(), at(1)).0, [7, 8, 9, 10, 11, 12]);
    assert!(!room(&writer, &waker));
    first.set_delivered(13);
    assert!(!room(&writer, &waker), "the other has not passed them");
    assert_eq!(bell.0.load(Relaxed), 1, "it had to look");
    second.set_delivered(11);
    assert_eq!(bell.0.load(Relaxed), 2);
    assert!(room(&writer, &waker));
    assert_eq!(read_all(writer.log(), at(1)).0, [9, 10, 11, 12], "nothing more than the bounds allow");
    say(&mut writer, "mmmmm");
    assert_eq!(read_all(writer.log(), at(1)).0.len(), 7);
    assert!(!room(&writer, &waker));
    drop(second);
    assert_eq!(bell.0.load(Relaxed), 3);
    assert!(!room(&writer, &waker), "the first one stands at 13");
    drop(first);
    assert!(room(&writer, &waker), "nobody is there");
    assert_eq!(read_all(writer.log(), at(1)).0, [11, 14, 15, 16, 17], "the critical one is kept apart");
}
