//! A client that asks for messages and waits for an answer, again and again: it holds the log and a place in it, and reads
//! there when it is asked. No task of its own, no copy of what it may miss.
//!
//! # Invariants
//! 1. A page has at most so many messages as are asked for, and at most [`MAX_BYTES`] of JSON; but one message, however long.
//! 2. Messages for one user are in his pages alone.
//! 3. Who follows the cursors of its pages gets each message that is for it once and in order, or finds it counted.
//!
//! # Not here
//! How a page is written ([`super::events`]); whose poll it is, and what else it waits for (the server's business).

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::events::max_len;
use crate::log::{Cursor, Entry, Log};

/// The most that is told in one answer, as JSON.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

/// How often a log is read for one page in which there is nothing yet: what stands in front of it is for others.
const MAX_READS: usize = 16;

/// What is due to one reader.
#[derive(Debug)]
pub(crate) struct Page {
    /// In their order.
    pub entries: Vec<Arc<Entry>>,
    /// Where the next page begins.
    pub cursor: Cursor,
    /// Messages in front of that which are not kept any more, and were not had.
    pub missed: u64,
    /// Whether there is more to read now; what there is may be for others.
    pub has_more: bool,
}

impl Page {
    /// The number that the reader has had everything up to.
    pub(crate) fn sequence(&self) -> u64 {
        self.cursor.next.saturating_sub(1)
    }
}

/// Reads what there is at `cursor` for this user: `limit` messages at most.
pub(crate) fn read(log: &Log, cursor: Cursor, user: Option<&Arc<str>>, limit: usize) -> Page {
    let all_from = cursor.all_from.max(cursor.next);
    let mut page = Page {
        entries: Vec::new(),
        cursor: Cursor { next: cursor.next, all_from },
        missed: 0,
        has_more: true,
    };
    for _ in 0..MAX_READS {
        read_on(log, &mut page, user, limit.max(1));
        if !page.entries.is_empty() || !page.has_more {
            break;
        }
    }
    page
}

/// Reads once from where the page ends.
fn read_on(log: &Log, page: &mut Page, user: Option<&Arc<str>>, limit: usize) {
    let start = page.cursor;
    let mut read = Vec::new();
    let progress = log.read(start, u64::MAX, limit, MAX_BYTES, &mut read);
    let (mut bytes, mut found) = (0, 0);
    page.cursor = progress.cursor;
    page.has_more = progress.has_more;
    for entry in read {
        if entry.to().is_none_or(|to| user == Some(to)) {
            bytes += max_len(&entry);
            if bytes > MAX_BYTES && !page.entries.is_empty() {
                page.cursor = Cursor { next: entry.sequence, all_from: start.all_from.max(entry.sequence) };
                page.has_more = true;
                break;
            }
            found += u64::from(entry.sequence >= start.all_from);
            page.entries.push(entry);
        } else {
            found += u64::from(entry.sequence >= start.all_from);
        }
    }
    // What stands behind the end of the page may still be missed, and is counted then.
    page.missed += page.cursor.next.saturating_sub(start.all_from).saturating_sub(found);
}

/// Waits until the log has a message that is newer than `after`, and no longer than until then; whether it has. Cancel safe.
pub(crate) async fn wait_for(log: &Log, after: u64, until: Instant) -> bool {
    timeout_at(until, log.appended(after)).await.is_ok()
}

#[cfg(test)]
mod tests;
