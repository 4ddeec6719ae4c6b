//! What goes when there is no room: in a log, and in the process.

use super::*;

#[test]
fn a_log_keeps_its_bounds_and_tells_which_one_it_was() {
    let world = World::roomy();
    let mut writer = world.log(&history(3, 45));
    say(&mut writer, "mmmmm");
    assert_eq!(read_all(writer.log(), at(1)).0, [3, 4, 5]);
    assert_eq!((world.held(), world.trimmed(Trim::Messages)), ((3, 30), 2));
    writer.append(draft(30, false));
    assert_eq!(read_all(writer.log(), at(1)).0, [5, 6]);
    assert_eq!((world.held(), world.trimmed(Trim::Messages), world.trimmed(Trim::Bytes)), ((2, 40), 3, 1));
    // The newest stays, however long it is.
    writer.append(draft(500, false));
    assert_eq!((read_all(writer.log(), at(1)).0, world.held()), (vec![7], (1, 500)));
    writer.append(draft(600, true));
    assert_eq!((read_all(writer.log(), at(1)).0, world.held()), (vec![8], (1, 600)));
    say(&mut writer, "m");
    assert_eq!((read_all(writer.log(), at(1)).0, world.held()), (vec![9], (1, 10)));
}

#[test]
fn critical_messages_have_bounds_of_their_own_and_are_counted_once() {
    let world = World::roomy();
    let mut writer = world.log(&history(3, 45));
    say(&mut writer, "ccccmmmm");
    assert_eq!(read_all(writer.log(), at(1)).0, [2, 3, 4, 6, 7, 8]);
    assert_eq!(world.held(), (6, 60));
    writer.append(draft(30, true));
    assert_eq!(read_all(writer.log(), at(1)).0, [4, 8, 9]);
    assert_eq!(world.held(), (3, 50));
}

#[test]
fn compressed_bytes_are_held_but_are_no_distance() {
    let world = World::roomy();
    let mut writer = world.log(&history(9, 45));
    for _ in 0..4 {
        writer.append(Draft { deflated: Some(Bytes::from_static(b"12345")), ..draft(10, false) });
    }
    assert_eq!(world.held(), (3, 45));
    assert_eq!(writer.log().behind(at(3)).bytes, 20);
}

#[test]
fn the_bound_of_the_process_takes_what_nobody_reads_then_from_the_furthest_behind_then_what_is_critical() {
    let world = World::new(10_000);
    let mut logs = [(); 3].map(|()| world.log(&history(100, 100_000)));
    for log in &mut logs {
        say(log, "cmmm");
    }
    // The first is read up to its middle, the second not at all, the third has no reader.
    let readers = [logs[0].log().reader(), logs[1].log().reader()];
    readers[0].at(3);
    readers[1].at(1);
    // The bound; what each log has then; what was taken by Memory and by Laggard, all in all. 120 bytes are held
    // at first, and what there is to take goes down to a sixteenth below the bound.
    type Case = (usize, [&'static [u64]; 3], u64, u64);
    const CASES: &[Case] = &[
        (120, [&[1, 2, 3, 4], &[1, 2, 3, 4], &[1, 2, 3, 4]], 0, 0),
        (119, [&[1, 3, 4], &[1, 2, 3, 4], &[1, 2, 3, 4]], 1, 0),
        (100, [&[1, 3, 4], &[1, 2, 3, 4], &[1, 4]], 3, 0),
        (85, [&[1, 3, 4], &[1, 3, 4], &[1, 4]], 3, 1),
        (70, [&[1, 4], &[1, 4], &[1, 4]], 3, 3),
        (50, [&[4], &[4], &[1, 4]], 4, 4),
        (20, [&[4], &[4], &[4]], 5, 4),
        (0, [&[4], &[4], &[4]], 5, 4),
    ];
    for &(limit, expected, memory, laggard) in CASES {
        world.budget.set_limit(limit);
        world.logs.relieve();
        let kept = logs.each_ref().map(|log| read_all(log.log(), at(1)).0);
        assert_eq!(kept.each_ref().map(|kept| &kept[..]), expected, "bound {limit}");
        assert_eq!((world.trimmed(Trim::Memory), world.trimmed(Trim::Laggard)), (memory, laggard), "{limit}");
        let messages = kept.iter().map(Vec::len).sum::<usize>() as i64;
        assert_eq!(world.held(), (messages, messages * 10));
    }
}

#[test]
fn the_longest_log_gives_first() {
    let world = World::new(10_000);
    let mut logs = [(); 3].map(|()| world.log(&history(100, 100_000)));
    for (log, said) in logs.iter_mut().zip(["mmm", "mmmmmm", "mm"]) {
        say(log, said);
    }
    world.budget.set_limit(80);
    world.logs.relieve();
    assert_eq!(logs.each_ref().map(|log| read_all(log.log(), at(1)).0.len()), [3, 2, 2]);
}

#[test]
fn an_append_that_exceeds_the_bound_of_the_process_makes_room_by_itself() {
    let world = World::new(160);
    let mut writer = world.log(&history(1000, 100_000));
    for _ in 0..1000 {
        say(&mut writer, "m");
        assert!(!world.budget.is_over());
    }
    assert!(world.held().0 >= 14, "no more than it had to");
}

#[test]
fn room_is_not_looked_for_with_every_message_where_others_hold_it_all() {
    let world = World::new(1600);
    let mut writer = world.log(&history(1000, 100_000));
    let _idle = [(); 50].map(|()| world.log(&history(10, 1000)));
    world.budget.add(5000);
    let (mut attempts, mut last) = (0, 0);
    for _ in 0..1000 {
        say(&mut writer, "m");
        let held = world.metrics.history_bytes.get();
        attempts += u32::from(held < last);
        last = held;
        assert!(held <= 100 + 10, "a sixteenth of the bound, and a message");
    }
    assert!((80..=120).contains(&attempts), "{attempts}");
    // The others give it back: it may use all of it again.
    world.budget.sub(5000);
    for _ in 0..140 {
        say(&mut writer, "m");
    }
    assert!(world.held().1 >= 1400);
    // And they come back: they are not out of its mind.
    world.budget.add(1000);
    say(&mut writer, "m");
    assert!(!world.budget.is_over());
    world.budget.sub(1000);
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
