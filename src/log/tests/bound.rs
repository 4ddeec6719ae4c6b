//! What goes when there is no room: in a log, and in the process.

use super::*;

#[test]
fn a_log_keeps_its_bounds_and_tells_which_one_it_was() {
    let world = World::roomy();
    let mut writer = world.log(&history(3, 4 * PLAIN));
    let held = |messages: usize, bytes: usize| (messages as i64, bytes as i64);
    say(&mut writer, "mmmmm");
    assert_eq!(read_all(writer.log(), at(1)).0, [3, 4, 5]);
    assert_eq!((world.held(), world.trimmed(Trim::Messages)), (held(3, 3 * PLAIN), 2));
    writer.append(draft(2 * PLAIN, false));
    assert_eq!(read_all(writer.log(), at(1)).0, [5, 6]);
    assert_eq!(world.held(), held(2, PLAIN + Entry::OVERHEAD + 2 * PLAIN));
    assert_eq!((world.trimmed(Trim::Messages), world.trimmed(Trim::Bytes)), (3, 1));
    // The newest stays, however long it is.
    let long = 5 * PLAIN;
    writer.append(draft(long, false));
    assert_eq!((read_all(writer.log(), at(1)).0, world.held()), (vec![7], held(1, Entry::OVERHEAD + long)));
    writer.append(draft(long, true));
    let critical = Entry::OVERHEAD + Entry::CRITICAL + long;
    assert_eq!((read_all(writer.log(), at(1)).0, world.held()), (vec![8], held(1, critical)));
    say(&mut writer, "m");
    assert_eq!((read_all(writer.log(), at(1)).0, world.held()), (vec![9], held(1, PLAIN)));
}

#[test]
fn a_bound_on_bytes_counts_what_messages_cost_and_not_what_they_say_alone() {
    let world = World::roomy();
    let mut writer = world.log(&history(100_000, 64 << 10));
    for _ in 0..100_000 {
        writer.append(draft(4, false));
    }
    let (messages, bytes) = world.held();
    assert!(messages < (64 << 10) / 80, "{messages} messages in 64 KiB");
    assert!(bytes <= 64 << 10 && bytes > 60 << 10, "{bytes}");
}

#[test]
fn a_ring_that_was_long_once_gives_its_room_back() {
    let mut ring: std::collections::VecDeque<u64> = (0..100_000).collect();
    while ring.pop_front().is_some() {
        crate::log::rings::shrink_if_sparse(&mut ring);
        assert!(ring.capacity() <= 4 * (ring.len() + 1).max(16), "{} for {}", ring.capacity(), ring.len());
    }
}

#[test]
fn critical_messages_have_bounds_of_their_own_and_are_counted_once() {
    let world = World::roomy();
    let mut writer = world.log(&history(3, 4 * CRITICAL));
    say(&mut writer, "ccccmmmm");
    assert_eq!(read_all(writer.log(), at(1)).0, [2, 3, 4, 6, 7, 8]);
    assert_eq!(world.held(), (6, (3 * CRITICAL + 3 * PLAIN) as i64));
    writer.append(draft(CRITICAL + 10, true));
    assert_eq!(read_all(writer.log(), at(1)).0, [3, 4, 7, 8, 9]);
    assert_eq!(world.held(), (5, (4 * CRITICAL + 2 * PLAIN) as i64));
}

#[test]
fn compressed_bytes_are_held_but_are_no_distance() {
    let world = World::roomy();
    let message = || NewEntry { deflated: Some(Bytes::from(vec![0; 500])), ..draft(10, false) };
    let size = Entry::new(1, Timestamp::new(Duration::ZERO, SystemTime::UNIX_EPOCH), 0, message()).size();
    assert!(size > PLAIN + 500);
    let mut writer = world.log(&history(9, 3 * size));
    for _ in 0..4 {
        writer.append(message());
    }
    assert_eq!(world.held(), (3, 3 * size as i64));
    assert_eq!(writer.log().lag(at(3)).bytes, 20);
}

#[test]
fn the_bound_of_the_process_takes_what_nobody_reads_then_from_the_furthest_behind_then_what_is_critical() {
    let world = World::new(1 << 20);
    let mut logs = [(); 3].map(|()| world.log(&history(100, 1 << 20)));
    for log in &mut logs {
        say(log, "cmmm");
    }
    // The first is read up to its middle, the second not at all, the third has no reader.
    let readers = [logs[0].log().reader(), logs[1].log().reader()];
    readers[0].set_oldest_needed(3);
    readers[1].set_oldest_needed(1);
    // What is held when there is room for so many plain and critical messages and nothing more: what there is to take
    // goes down to a sixteenth below the bound.
    let room = |plain: usize, critical: usize| (plain * PLAIN + critical * CRITICAL) * 16 / 15 + 16;
    // The bound; what each log has then; what was taken by Memory and by Laggard, all in all.
    type Case = (usize, [&'static [u64]; 3], u64, u64);
    let cases: &[Case] = &[
        (9 * PLAIN + 3 * CRITICAL, [&[1, 2, 3, 4], &[1, 2, 3, 4], &[1, 2, 3, 4]], 0, 0),
        (9 * PLAIN + 3 * CRITICAL - 1, [&[1, 3, 4], &[1, 2, 3, 4], &[1, 2, 3, 4]], 1, 0),
        (room(6, 3), [&[1, 3, 4], &[1, 2, 3, 4], &[1, 4]], 3, 0),
        (room(5, 3), [&[1, 3, 4], &[1, 3, 4], &[1, 4]], 3, 1),
        (room(3, 3), [&[1, 4], &[1, 4], &[1, 4]], 3, 3),
        (room(3, 1), [&[4], &[4], &[1, 4]], 4, 4),
        (PLAIN, [&[4], &[4], &[4]], 5, 4),
        (0, [&[4], &[4], &[4]], 5, 4),
    ];
    for &(limit, expected, memory, laggard) in cases {
        world.budget.set_limit(limit);
        world.logs.enforce_budget();
        let kept = logs.each_ref().map(|log| read_all(log.log(), at(1)).0);
        assert_eq!(kept.each_ref().map(|kept| &kept[..]), expected, "bound {limit}");
        assert_eq!((world.trimmed(Trim::Memory), world.trimmed(Trim::Laggard)), (memory, laggard), "{limit}");
        let critical = kept.iter().filter(|kept| kept[0] == 1).count();
        let messages = kept.iter().map(Vec::len).sum::<usize>();
        assert_eq!(world.held(), (messages as i64, (messages * PLAIN + critical * Entry::CRITICAL) as i64));
    }
}

#[test]
fn the_longest_log_gives_first() {
    let world = World::new(1 << 20);
    let mut logs = [(); 3].map(|()| world.log(&history(100, 1 << 20)));
    for (log, said) in logs.iter_mut().zip(["mmm", "mmmmmm", "mm"]) {
        say(log, said);
    }
    world.budget.set_limit(8 * PLAIN);
    world.logs.enforce_budget();
    assert_eq!(logs.each_ref().map(|log| read_all(log.log(), at(1)).0.len()), [3, 2, 2]);
}

#[test]
fn an_append_that_exceeds_the_bound_of_the_process_makes_room_by_itself() {
    let world = World::new(16 * PLAIN);
    let mut writer = world.log(&history(1000, 1 << 20));
    for _ in 0..1000 {
        say(&mut writer, "m");
        assert!(!world.budget.is_over());
    }
    assert!(world.held().0 >= 14, "no more than it had to");
}

#[test]
fn room_is_not_looked_for_with_every_message_where_others_hold_it_all() {
    let world = World::new(160 * PLAIN);
    let mut writer = world.log(&history(1000, 1 << 20));
    let _idle = [(); 50].map(|()| world.log(&history(10, 1000)));
    world.budget.add(500 * PLAIN);
    let (mut attempts, mut last) = (0, 0);
    for _ in 0..1000 {
        say(&mut writer, "m");
        let held = world.metrics.log.bytes.get();
        attempts += u32::from(held < last);
        last = held;
        assert!(held as usize <= 11 * PLAIN, "a sixteenth of the bound, and a message");
    }
    assert!((80..=120).contains(&attempts), "{attempts}");
    // The others give it back: it may use all of it again.
    world.budget.sub(500 * PLAIN);
    for _ in 0..140 {
        say(&mut writer, "m");
    }
    assert!(world.held().1 as usize >= 140 * PLAIN);
    // And they come back: they are not out of its mind.
    world.budget.add(100 * PLAIN);
    say(&mut writer, "m");
    assert!(!world.budget.is_over());
    world.budget.sub(100 * PLAIN);
    assert_eq!(world.held().1 as usize, world.budget.used());
}

#[test]
fn logs_that_are_gone_are_not_remembered_for_ever() {
    let world = World::roomy();
    let kept = world.log(&history(10, 1000));
    for _ in 0..10_000 {
        say(&mut world.log(&history(10, 1000)), "mmm");
    }
    assert!(world.logs.remembered() <= 17, "{}", world.logs.remembered());
    drop(kept);
    assert_eq!(world.held(), (0, 0));
}
