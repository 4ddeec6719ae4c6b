mod walk;

use super::*;
use crate::config::{History, OnJoin, Pointer};
use crate::delivery::encoding::Encoding;
use crate::delivery::events::DataForm;
use crate::frame::Kind;
use crate::log::{Logs, Message, NewEntry, Writer};
use crate::memory::Budget;
use crate::telemetry::Metrics;

const EVERY: Duration = Duration::from_millis(100);
const START: Cursor = Cursor { next: 1, all_from: 1 };
const ANYBODY: View<'_> = View { encoding: Encoding::Frames, user: None, is_counting: false };

fn writer(messages: usize) -> Writer {
    let history = History {
        messages,
        bytes: usize::MAX,
        age: Duration::from_secs(3600),
        critical: None,
        on_join: OnJoin::None,
    };
    let metrics = Metrics::new("outrigger").unwrap();
    Log::new(&history, &Logs::new(Arc::new(Budget::new(usize::MAX)), metrics))
}

fn batcher(writer: &Writer, is_throttled: bool) -> Batcher {
    let throttle = Throttle { every: EVERY, key: Pointer { tokens: vec!["k".to_owned()] } };
    Batcher::new(writer.log().clone(), is_throttled.then_some(&throttle))
}

/// A message, written short: `a` has the key "a", `-` none; then `!` is critical, `@x` for the user x, `+` has a
/// compressed form.
fn draft(said: &str) -> NewEntry {
    let (head, to) = said.split_once('@').map_or((said, None), |(head, to)| (head, Some(Arc::from(to))));
    let key = head.chars().next().filter(|key| *key != '-');
    NewEntry {
        message: Message::from_frame(Kind::Text, Bytes::from(format!("{said} "))),
        deflated: head.contains('+').then(|| Bytes::from_static(b"z ")),
        is_critical: head.contains('!'),
        key: key.map(|key| Arc::from(key.to_string())),
        to,
    }
}

fn say(writer: &mut Writer, said: &str) {
    for message in said.split_whitespace() {
        writer.append(draft(message));
    }
}

fn text(batch: &Batch) -> &str {
    std::str::from_utf8(&batch.bytes).unwrap()
}

#[test]
fn what_goes_and_what_is_counted() {
    struct Case {
        log: &'static str,
        is_throttled: bool,
        is_newest_only: bool,
        user: Option<&'static str>,
        goes: &'static str,
        /// conflated, shed, others
        counts: (u64, u64, u64),
    }
    let case = |log, goes, counts| Case {
        log,
        is_throttled: false,
        is_newest_only: false,
        user: None,
        goes,
        counts,
    };
    let throttled = |log, goes, counts| Case { is_throttled: true, ..case(log, goes, counts) };
    let newest = |log, goes, counts| Case { is_newest_only: true, ..case(log, goes, counts) };
    let cases = [
        case("", "", (0, 0, 0)),
        case("a a a", "a a a ", (0, 0, 0)),
        case("- a! b@x b@y -", "- a! - ", (0, 0, 2)),
        Case { user: Some("x"), ..case("- a! b@x b@y -", "- a! b@x - ", (0, 0, 1)) },
        throttled("a b a b c", "a b c ", (2, 0, 0)),
        throttled("a - a - a", "- - a ", (2, 0, 0)),
        throttled("a! a a! a", "a! a! a ", (1, 0, 0)),
        throttled("a a! - a!", "a a! - a! ", (0, 0, 0)),
        throttled("a a@x a@y", "a ", (0, 0, 2)),
        Case { user: Some("x"), ..throttled("a@x a a@x a", "a@x a@x a ", (1, 0, 0)) },
        newest("a b -", "- ", (0, 2, 0)),
        newest("a b! - c! c! d@x", "b! - c! c! ", (0, 1, 1)),
        newest("a! b!", "a! b! ", (0, 0, 0)),
        Case { user: Some("x"), ..newest("a@x a a a@x", "a@x a a@x ", (0, 1, 0)) },
        Case { is_throttled: true, ..newest("a b a - b!", "- b! ", (1, 2, 0)) },
    ];
    for Case { log, is_throttled, is_newest_only, user, goes, counts } in cases {
        let mut writer = writer(100);
        say(&mut writer, log);
        let mut batcher = batcher(&writer, is_throttled);
        batcher.begin(is_newest_only, Instant::now());
        let user = user.map(Arc::from);
        let batch = batcher.due(START, View { user: user.as_ref(), ..ANYBODY });
        assert_eq!(text(batch), goes, "{log}");
        assert_eq!((batch.conflated, batch.shed, batch.others), counts, "{log}");
        assert_eq!(batch.messages as usize, goes.split_whitespace().count(), "{log}");
        let end = log.split_whitespace().count() as u64 + 1;
        assert_eq!(batch.cursor, Cursor { next: end, all_from: end }, "{log}");
        assert!(!batch.has_more);
    }
}

#[test]
fn throttled_messages_go_out_in_ticks() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let mut writer = writer(100);
    let mut batcher = batcher(&writer, true);
    assert_eq!(batcher.begin(false, at(0)), (0, None), "nothing is there");
    // When, what is said before, up to which message may go, and when more may.
    let steps = [
        (1000, "a", 1, None),
        (1000, "", 1, None),
        (1001, "a", 1, Some(1100)),
        (1050, "b", 1, Some(1100)),
        (1099, "", 1, Some(1100)),
        (1100, "", 3, None),
        (1199, "", 3, None),
        (1199, "a", 3, Some(1200)),
        (1200, "", 4, None),
        // Late, or after a pause: at once, and the next tick counts from then.
        (1777, "a", 5, None),
        (1800, "a", 5, Some(1877)),
        (2500, "a a", 8, None),
        // A clock that went back.
        (2400, "a", 8, Some(2600)),
    ];
    for (now, said, until, next) in steps {
        say(&mut writer, said);
        assert_eq!(batcher.begin(false, at(now)), (until, next.map(at)), "{now}");
    }
    let batch = batcher.due(START, ANYBODY);
    assert_eq!(
        (text(batch), batch.conflated),
        ("b a ", 6),
        "nothing newer than what may go, not even its key"
    );
    let held_back = Cursor { next: 9, all_from: 9 };
    let batch = batcher.due(held_back, ANYBODY);
    assert_eq!((text(batch), batch.cursor, batch.has_more), ("", held_back, false));
}

#[test]
fn without_a_throttle_all_may_go_at_once() {
    let now = Instant::now();
    let mut writer = writer(100);
    let mut batcher = batcher(&writer, false);
    for until in 1..5 {
        say(&mut writer, "a");
        assert_eq!(batcher.begin(false, now), (until, None));
    }
}

#[test]
fn a_single_message_is_sent_from_where_it_is_to_all_of_them() {
    let mut writer = writer(100);
    let mut batcher = batcher(&writer, false);
    say(&mut writer, "- -");
    batcher.begin(false, Instant::now());
    let mut entries = Vec::new();
    writer.log().read(Cursor { next: 2, all_from: 2 }, 2, 1, 1, &mut entries);
    let users: Vec<Arc<str>> = (0..500).map(|n| Arc::from(n.to_string())).collect();
    for (n, user) in users.iter().enumerate() {
        // Late joiners that have arrived here are as everybody else.
        let cursor = Cursor { next: 2, all_from: n as u64 % 3 };
        let batch = batcher
            .due(cursor, View { encoding: Encoding::of_frames(n % 2 == 0), user: Some(user), ..ANYBODY });
        assert_eq!(batch.bytes.as_ptr(), entries[0].frame().as_ptr());
    }
    assert_eq!(batcher.cached.len(), 1, "made once");
}

#[test]
fn what_was_made_in_this_pass_is_not_read_again() {
    let mut writer = writer(3);
    let mut batcher = batcher(&writer, false);
    say(&mut writer, "a b c");
    batcher.begin(false, Instant::now());
    let bytes = batcher.due(START, ANYBODY).bytes.clone();
    // The log has none of it any more; the pass goes on as it began.
    say(&mut writer, "d e f");
    let again = batcher.due(START, ANYBODY).clone();
    assert_eq!((again.bytes.as_ptr(), again.missed), (bytes.as_ptr(), 0), "put together once");
    batcher.begin(false, Instant::now());
    let next = batcher.due(START, ANYBODY);
    assert_eq!((text(next), next.missed), ("d e f ", 3));
    assert_eq!(batcher.due(START, ANYBODY).missed, 3, "told to each client");
}

#[test]
fn what_is_for_one_user_is_made_for_that_one_and_once_for_all_others() {
    let mut writer = writer(100);
    let mut batcher = batcher(&writer, false);
    say(&mut writer, "a b@7 c");
    batcher.begin(false, Instant::now());
    let users: Vec<Arc<str>> = (0..500).map(|n| Arc::from(n.to_string())).collect();
    for user in users.iter().map(Some).chain([None]) {
        let is_meant = user.is_some_and(|user| &**user == "7");
        let batch = batcher.due(START, View { user, ..ANYBODY });
        assert_eq!(text(batch), if is_meant { "a b@7 c " } else { "a c " });
        assert_eq!(batch.others, u64::from(!is_meant));
    }
    assert_eq!(batcher.cached.len(), 2);
}

#[test]
fn messages_for_very_many_users_reach_each_of_them_only() {
    let mut writer = writer(100);
    let mut batcher = batcher(&writer, false);
    let said: Vec<String> = (0..60).map(|n| format!("-@{n}")).collect();
    say(&mut writer, &said.join(" "));
    batcher.begin(false, Instant::now());
    for n in (0..70).rev() {
        let user: Arc<str> = Arc::from(n.to_string());
        let batch = batcher.due(START, View { user: Some(&user), ..ANYBODY });
        assert_eq!(text(batch), if n < 60 { format!("-@{n} ") } else { String::new() });
        assert_eq!(batch.others, if n < 60 { 59 } else { 60 });
    }
    assert_eq!(batcher.due(START, ANYBODY).others, 60);
    assert!(batcher.cached.len() <= CACHED);
}

#[test]
fn compressed_messages_go_to_those_who_take_them() {
    let mut writer = writer(100);
    let mut batcher = batcher(&writer, false);
    say(&mut writer, "- -+ -");
    batcher.begin(false, Instant::now());
    for (has_deflate, goes) in [(true, "- z - "), (false, "- -+ - "), (true, "- z - ")] {
        let encoding = Encoding::of_frames(has_deflate);
        assert_eq!(text(batcher.due(START, View { encoding, ..ANYBODY })), goes);
    }
    assert_eq!(batcher.cached.len(), 2);
}

#[test]
fn a_batch_has_64_messages_or_64_kib_and_one_message_however_long() {
    const KIB: usize = 1024;
    /// Lengths and numbers of messages, and how many of them each batch has.
    type Case = (&'static [(usize, usize)], &'static [u32]);
    let cases: &[Case] = &[
        (&[(1, 64)], &[64]),
        (&[(1, 200)], &[64, 64, 64, 8]),
        (&[(KIB, 64)], &[64]),
        (&[(2 * KIB, 64)], &[32, 32]),
        (&[(300 * KIB, 3)], &[1, 1, 1]),
        (&[(1, 3), (300 * KIB, 1), (1, 3)], &[3, 1, 3]),
        (&[(KIB, 1), (64 * KIB, 1), (1, 1)], &[1, 1, 1]),
    ];
    for (lengths, counts) in cases {
        for is_throttled in [false, true] {
            let mut writer = writer(1000);
            let mut batcher = batcher(&writer, is_throttled);
            for (length, n) in *lengths {
                for _ in 0..*n {
                    writer.append(NewEntry {
                        message: Message::from_frame(Kind::Text, vec![b'x'; *length].into()),
                        ..draft("-")
                    });
                }
            }
            batcher.begin(false, Instant::now());
            let mut cursor = START;
            for (n, count) in counts.iter().enumerate() {
                let batch = batcher.due(cursor, ANYBODY);
                assert_eq!(batch.messages, *count, "{lengths:?}, batch {n}");
                assert_eq!(batch.has_more, n + 1 < counts.len());
                cursor = batch.cursor;
            }
        }
    }
}

#[test]
fn a_key_whose_newest_stands_beyond_the_cut_comes_once() {
    let mut writer = writer(10_000);
    let mut batcher = batcher(&writer, true);
    say(&mut writer, "k");
    (0..100).for_each(|_| say(&mut writer, "-"));
    say(&mut writer, "k");
    batcher.begin(false, Instant::now());
    let first = batcher.due(START, ANYBODY).clone();
    assert_eq!((first.messages, first.conflated, first.newest), (64, 1, 65));
    let second = batcher.due(first.cursor, ANYBODY).clone();
    assert_eq!((second.messages, second.conflated, second.newest), (37, 0, 102));
    // Another one comes between the two batches: now that stands for it.
    let mut later = self::batcher(&writer, true);
    say(&mut writer, "k");
    later.begin(false, Instant::now());
    let second = later.due(first.cursor, ANYBODY);
    assert_eq!((second.messages, second.conflated, second.newest), (37, 1, 103));
}

#[test]
fn many_updates_of_a_few_keys_are_looked_at_together() {
    let mut writer = writer(10_000);
    let mut batcher = batcher(&writer, true);
    (0..1000).for_each(|_| say(&mut writer, "a b c"));
    batcher.begin(false, Instant::now());
    let batch = batcher.due(START, ANYBODY);
    assert_eq!((text(batch), batch.conflated, batch.has_more), ("a b c ", 2997, false));
}

#[test]
fn what_was_missed_is_counted_once_in_whatever_pieces_the_rest_goes() {
    // The critical ones at the start are all that is left of the first hundred, and too long for one batch.
    for is_throttled in [false, true] {
        let mut writer = writer(50);
        for n in 0..100 {
            let length = if n % 10 == 0 { 40_000 } else { 10 };
            let message = if n % 10 == 0 { draft("-!") } else { draft("-") };
            writer.append(NewEntry {
                message: Message::from_frame(Kind::Text, vec![b'x'; length].into()),
                ..message
            });
        }
        (0..80).for_each(|_| say(&mut writer, "-"));
        for is_remembered in [true, false] {
            let mut batcher = batcher(&writer, is_throttled);
            batcher.begin(false, Instant::now());
            let (mut cursor, mut had, mut missed) = (START, 0, 0);
            loop {
                let batch = batcher.due(cursor, ANYBODY).clone();
                cursor = batch.cursor;
                had += u64::from(batch.messages);
                missed += batch.missed;
                if !batch.has_more {
                    break;
                }
                if !is_remembered {
                    batcher.clear();
                }
            }
            assert_eq!((had, missed), (60, 120), "{is_throttled} {is_remembered}");
        }
    }
}

#[test]
fn critical_messages_that_go_before_their_batch_are_counted_as_missed() {
    let mut writer = writer(3);
    for _ in 0..3 {
        writer.append(NewEntry {
            message: Message::from_frame(Kind::Text, vec![b'x'; 40_000].into()),
            ..draft("-!")
        });
    }
    say(&mut writer, "- - -");
    let mut batcher = batcher(&writer, false);
    batcher.begin(false, Instant::now());
    let first = batcher.due(START, ANYBODY).clone();
    assert_eq!((first.newest, first.missed, first.has_more), (1, 0, true));
    say(&mut writer, "-! -! -!");
    batcher.begin(false, Instant::now());
    let second = batcher.due(first.cursor, ANYBODY);
    assert_eq!((text(second), second.missed), ("-! -! -! ", 5));
}

#[test]
fn events_are_made_once_for_all_who_are_there_and_want_the_same() {
    let mut writer = writer(100);
    say(&mut writer, "a+ b c@x d");
    let mut batcher = batcher(&writer, false);
    batcher.begin(false, Instant::now());
    let view = |form| View { encoding: Encoding::Events(form), ..ANYBODY };
    let frames = batcher.due(START, ANYBODY).bytes.clone();
    let [value, string] = [DataForm::Value, DataForm::Text].map(|form| {
        let batch = batcher.due(START, view(form));
        assert_eq!((batch.messages, batch.others, batch.oldest, batch.newest), (3, 1, 1, 4));
        batch.bytes.clone()
    });
    let user = Arc::from("x");
    let personal = batcher.due(START, View { user: Some(&user), ..view(DataForm::Text) });
    assert_eq!((personal.messages, personal.others), (4, 0));
    for (view, bytes) in [(ANYBODY, frames), (view(DataForm::Value), value), (view(DataForm::Text), string)] {
        let again = &batcher.due(START, view).bytes;
        assert_eq!((again.as_ptr(), again.len()), (bytes.as_ptr(), bytes.len()), "{view:?}");
    }
}
