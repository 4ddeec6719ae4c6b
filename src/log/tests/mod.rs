//! What the log promises: each rule by a table or a story, all of them together by a walk against a model, and with
//! real threads.

mod bound;
mod cursors;
mod private;
mod threads;
mod waiting;
mod walk;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::entry::Timestamp;
use super::{Cursor, Entry, Log, Logs, Message, NewEntry, Progress, Writer};
use crate::config::{History, OnJoin};
use crate::frame::Kind;
use crate::memory::Budget;
use crate::telemetry::{Label, Metrics, Trim};

/// A process with nothing but logs.
struct World {
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
    logs: Arc<Logs>,
}

impl World {
    fn new(limit: usize) -> Self {
        let budget = Arc::new(Budget::new(limit));
        let metrics = Metrics::new("outrigger").unwrap();
        let logs = Logs::new(budget.clone(), metrics.clone());
        Self { budget, metrics, logs }
    }

    fn roomy() -> Self {
        Self::new(usize::MAX)
    }

    fn log(&self, history: &History) -> Writer {
        Log::new(history, &self.logs)
    }

    /// Messages and bytes that are held by the gauges.
    fn held(&self) -> (i64, i64) {
        (self.metrics.log.messages.get(), self.metrics.log.bytes.get())
    }

    /// Messages that left a log for this reason.
    fn trimmed(&self, reason: Trim) -> u64 {
        let families = self.metrics.gather();
        let family =
            families.iter().find(|family| family.name() == "outrigger_history_trimmed_total").unwrap();
        let is_it = |label: &prometheus::proto::LabelPair| label.value() == reason.as_str();
        let metric = family.get_metric().iter().find(|metric| metric.get_label().iter().any(is_it)).unwrap();
        metric.get_counter().get_value() as u64
    }
}

fn history(messages: usize, bytes: usize) -> History {
    History { messages, bytes, age: Duration::from_secs(3600), critical: None, on_join: OnJoin::None }
}

fn draft(bytes: usize, is_critical: bool) -> NewEntry {
    NewEntry {
        message: Message::from_frame(Kind::Text, Bytes::from(vec![0; bytes])),
        deflated: None,
        is_critical,
        key: None,
        to: None,
    }
}

/// What a message of ten bytes takes, and a critical one.
const PLAIN: usize = Entry::OVERHEAD + 10;
const CRITICAL: usize = PLAIN + Entry::CRITICAL;

/// Appends messages of ten bytes: `c` is critical, all others are not.
fn say(writer: &mut Writer, messages: &str) {
    for message in messages.chars() {
        writer.append(draft(10, message == 'c'));
    }
}

fn at(next: u64) -> Cursor {
    Cursor { next, all_from: next }
}

/// Everything up to the head in one go: sequence numbers, and what came of it.
fn read_all(log: &Log, cursor: Cursor) -> (Vec<u64>, Progress) {
    let mut entries = Vec::new();
    let progress = log.read(cursor, u64::MAX, usize::MAX, usize::MAX, &mut entries);
    (numbers(&entries), progress)
}

fn numbers(entries: &[Arc<Entry>]) -> Vec<u64> {
    entries.iter().map(|entry| entry.sequence).collect()
}
