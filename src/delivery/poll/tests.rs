use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::config::{History, OnJoin};
use crate::delivery::events::{DataForm, PollAnswer};
use crate::frame::Kind;
use crate::log::{Logs, Message, NewEntry, Writer};
use crate::memory::Budget;
use crate::telemetry::Metrics;

const START: Cursor = Cursor { next: 1, all_from: 1 };

fn writer(messages: usize) -> Writer {
    let age = Duration::from_secs(3600);
    let history = History { messages, bytes: usize::MAX, age, critical: None, on_join: OnJoin::None };
    let metrics = Metrics::new("outrigger").unwrap();
    Log::new(&history, &Logs::new(Arc::new(Budget::new(usize::MAX)), metrics))
}

fn say(writer: &mut Writer, text: &str, to: Option<&str>, is_critical: bool) {
    let message = Message::new(Kind::Text, text.as_bytes());
    let to = to.map(Arc::from);
    writer.append(NewEntry { message, deflated: None, is_critical, key: None, to });
    writer.wake();
}

fn texts(page: &Page) -> Vec<&str> {
    page.entries.iter().map(|entry| std::str::from_utf8(entry.payload()).unwrap()).collect()
}

/// What is told of the page.
fn answer(log: &Log, page: &Page, form: DataForm) -> Vec<u8> {
    let answer = PollAnswer {
        session: None,
        epoch: log.epoch(),
        received: None,
        entries: &page.entries,
        next: page.sequence(),
        lost: Some(page.missed),
        expires_in: None,
        closed: None,
        is_draining: false,
    };
    answer.to_json(form).to_vec()
}

#[test]
fn a_page_has_what_is_for_its_user_and_leads_past_what_is_not() {
    let mut writer = writer(100);
    for (text, to) in [("one", None), ("for ann", Some("ann")), ("for bob", Some("bob")), ("four", None)] {
        say(&mut writer, text, to, false);
    }
    let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
    for (user, expected) in [
        (None, &["one", "four"][..]),
        (Some(&ann), &["one", "for ann", "four"]),
        (Some(&bob), &["one", "for bob", "four"]),
    ] {
        let page = read(writer.log(), START, user, 100);
        assert_eq!(
            (texts(&page), page.sequence(), page.missed, page.has_more),
            (expected.to_vec(), 4, 0, false)
        );
    }
    let page = read(writer.log(), START, None, 1);
    assert_eq!((texts(&page), page.sequence(), page.has_more), (vec!["one"], 1, true));
    let page = read(writer.log(), page.cursor, None, 1);
    assert_eq!((texts(&page), page.sequence()), (vec!["four"], 4), "what is for others fills no page");
    // However much of that there is, one page takes so many looks.
    for _ in 0..50 {
        say(&mut writer, "for ann", Some("ann"), false);
    }
    let page = read(writer.log(), page.cursor, None, 1);
    assert_eq!((page.entries.len(), page.sequence(), page.has_more), (0, 4 + MAX_READS as u64, true));
}

#[test]
fn a_page_ends_before_its_json_is_too_long_but_one_message_is_never_too_long() {
    // Escaped, each of these characters takes six.
    let texts = ["\u{1}".repeat(300_000), "\u{1}".repeat(100_000), "x".repeat(100), "\u{1}".repeat(80_000)];
    let mut writer = writer(100);
    for text in &texts {
        say(&mut writer, text, None, false);
    }
    let (mut cursor, mut pages) = (START, Vec::new());
    loop {
        let page = read(writer.log(), cursor, None, 1000);
        cursor = page.cursor;
        let length = answer(writer.log(), &page, DataForm::Text).len();
        assert!(page.entries.len() == 1 || length <= MAX_BYTES + 512, "{length}");
        pages.push(page.entries.len());
        if !page.has_more {
            break;
        }
    }
    assert_eq!(pages, [1, 2, 1]);
}

#[derive(Debug, Clone)]
enum Event {
    Say { to: Option<usize>, is_critical: bool, length: usize },
    Read { reader: usize, limit: usize },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let to = prop_oneof![3 => Just(None), 1 => (0..2_usize).prop_map(Some)];
    let say = (to, proptest::bool::weighted(0.2), prop_oneof![9 => 0..50_usize, 1 => 60_000..200_000_usize])
        .prop_map(|(to, is_critical, length)| Event::Say { to, is_critical, length });
    let read = (0..3_usize, 1..8_usize).prop_map(|(reader, limit)| Event::Read { reader, limit });
    proptest::collection::vec(prop_oneof![3 => say, 1 => read], 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]

    #[test]
    fn who_follows_pages_gets_each_message_once_or_finds_it_counted(events in events(), keeps in 1..40_usize) {
        let users: [Option<Arc<str>>; 3] = [None, Some("a".into()), Some("b".into())];
        let mut writer = writer(keeps);
        // For whom each message was.
        let mut said: Vec<Option<Arc<str>>> = Vec::new();
        // Of each reader: its place, what it had, and how many it was told that it missed.
        let mut readers: Vec<(Cursor, Vec<u64>, u64)> = vec![(START, Vec::new(), 0); 3];
        let end = (0..3).flat_map(|reader| vec![Event::Read { reader, limit: 1000 }; 82]);
        for event in events.into_iter().chain(end) {
            match event {
                Event::Say { to, is_critical, length } => {
                    let to = to.and_then(|to| users[to + 1].clone());
                    say(&mut writer, &"\u{1}".repeat(length), to.as_deref(), is_critical);
                    said.push(to);
                }
                Event::Read { reader, limit } => {
                    let (cursor, had, missed) = &mut readers[reader];
                    let page = read(writer.log(), *cursor, users[reader].as_ref(), limit);
                    prop_assert!(page.entries.len() <= limit);
                    prop_assert!(page.cursor.next >= cursor.next);
                    prop_assert_eq!(page.has_more, page.cursor.next <= said.len() as u64);
                    prop_assert!(page.entries.iter().all(|entry| entry.sequence < page.cursor.next));
                    if page.entries.len() > 1 {
                        let told = answer(writer.log(), &page, DataForm::Value);
                        prop_assert!(told.len() <= MAX_BYTES + 512, "{}", told.len());
                        let told: Value = serde_json::from_slice(&told).unwrap();
                        prop_assert_eq!(told["events"].as_array().unwrap().len(), page.entries.len());
                    }
                    had.extend(page.entries.iter().map(|entry| entry.sequence));
                    *missed += page.missed;
                    *cursor = page.cursor;
                }
            }
        }
        for ((cursor, had, missed), user) in readers.iter().zip(&users) {
            prop_assert_eq!(cursor.next, said.len() as u64 + 1);
            prop_assert!(had.is_sorted_by(|a, b| a < b), "in order, none twice: {:?}", had);
            let is_for = |number: &u64| {
                let to = &said[*number as usize - 1];
                to.is_none() || to == user
            };
            prop_assert!(had.iter().all(is_for));
            let due = (1..=said.len() as u64).filter(is_for).count() as u64;
            // Of what is gone nobody knows for whom it was.
            prop_assert!((due..=said.len() as u64).contains(&(had.len() as u64 + missed)));
            if *missed == 0 {
                prop_assert_eq!(had.len() as u64, due);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_waits_for_a_message_and_not_longer_than_it_may() {
    let mut writer = writer(10);
    let log = Arc::clone(writer.log());
    let begun = Instant::now();
    let until = begun + Duration::from_secs(25);
    assert!(!wait_for(&log, 0, until).await);
    assert_eq!(Instant::now(), until);
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let log = Arc::clone(&log);
            tokio::spawn(async move { wait_for(&log, 0, Instant::now() + Duration::from_secs(25)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    assert!(waiting.iter().all(|task| !task.is_finished()));
    say(&mut writer, "x", None, false);
    for task in waiting {
        assert!(task.await.unwrap());
    }
    assert_eq!(Instant::now(), until, "none of them waited for its timer");
    assert!(wait_for(&log, 0, begun).await, "what is there is there, however late it is");
}
