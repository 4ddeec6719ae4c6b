//! What logs say that they hold is what the process holds for them, whatever the size of their messages.
//!
//! One test in a program of its own: another one's memory would be taken for that of the logs.

#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::time::Duration;

use outrigger::config::{History, OnJoin};
use outrigger::internals::Budget;
use outrigger::internals::Kind;
use outrigger::internals::Metrics;
use outrigger::internals::{Log, Logs, Message, NewEntry};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Memory of this process that nobody else has, in bytes.
fn private() -> i64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("its memory");
    let line = text.lines().find(|line| line.starts_with("Private_Dirty:")).expect("a size");
    let kib: i64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib * 1024
}

#[test]
fn what_logs_say_that_they_hold_is_what_the_process_has_grown_by() {
    let metrics = Metrics::new("outrigger").expect("declared");
    let budget = Arc::new(Budget::new(usize::MAX));
    let logs = Logs::new(Arc::clone(&budget), Arc::clone(&metrics));
    let history = History {
        messages: 1_000_000,
        bytes: 1 << 30,
        age: Duration::from_secs(3600),
        critical: None,
        on_join: OnJoin::None,
    };
    // Kept until the end: what one log gives back would hide what the next one takes.
    let mut kept = Vec::new();
    for (messages, payload, has_key) in [
        (400_000, 2, false),
        (200_000, 2, true),
        (200_000, 100, false),
        (50_000, 1000, false),
        (1_000, 64 * 1024, false),
        (20, 4 << 20, false),
    ] {
        let payload = vec![b'x'; payload];
        let (held, counted) = (private(), metrics.log.bytes.get());
        let mut writer = Log::new(&history, &logs);
        for n in 0..messages {
            let message = Message::new(Kind::Text, &payload);
            let key = has_key.then(|| format!("key-{n:08}").into());
            writer.append(NewEntry { message, deflated: None, is_critical: false, key, to: None });
        }
        // A reader has had them all: what that leaves behind counts too.
        let mut read = Vec::new();
        let mut cursor = writer.log().join(OnJoin::All);
        while cursor.next <= writer.log().head() {
            cursor = writer.log().read(cursor, u64::MAX, 64, 64 << 10, &mut read).cursor;
            read.clear();
        }
        drop(read);
        let (grown, counted) = (private() - held, metrics.log.bytes.get() - counted);
        let ratio = grown as f64 / counted as f64;
        println!(
            "{messages} messages of {} bytes: {counted} counted, {grown} taken ({} a message)",
            payload.len(),
            grown / messages
        );
        assert!((0.75..1.35).contains(&ratio), "{messages} of {}: {ratio}", payload.len());
        assert!(payload.len() > 2 || has_key || grown / messages < 128, "{}", grown / messages);
        kept.push(writer);
    }
    assert_eq!(budget.used() as i64, metrics.log.bytes.get());
    drop(kept);
    assert_eq!((budget.used(), metrics.log.bytes.get()), (0, 0));
}
