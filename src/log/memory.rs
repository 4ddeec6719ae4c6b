//! A log in memory: two rings behind one lock, the newest messages and the critical ones.

use std::sync::Arc;
use std::task::Waker;

use super::{Behind, Cursor, Draft, Entry, Logs, Progress};
use crate::config::{History, OnJoin};

/// Whoever adds to a log. There is one.
#[derive(Debug)]
pub struct Writer {
    log: Arc<Log>,
}

/// One log.
#[derive(Debug)]
pub struct Log {
    epoch: u64,
}

/// A place from which readers read: it wakes its task when there is more, and says how far they are.
#[derive(Debug)]
pub struct Reader {
    log: Arc<Log>,
}

impl Log {
    /// An empty log of a new epoch.
    pub fn new(history: &History, logs: &Arc<Logs>) -> Writer {
        let _ = (history, logs);
        unimplemented!()
    }

    /// Random; another epoch, other numbers.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The newest sequence number; 0: there is none. Takes no lock.
    pub fn head(&self) -> u64 {
        unimplemented!()
    }

    /// Where one begins who joins now.
    pub fn join(&self, on_join: OnJoin) -> Cursor {
        let _ = on_join;
        unimplemented!()
    }

    /// Where one goes on who is to begin with the next message, and still wants the critical ones since `cursor`.
    pub fn skip_to_latest(&self, cursor: Cursor) -> (Cursor, u64) {
        let _ = cursor;
        unimplemented!()
    }

    /// Reads up to `most` messages and about `bytes` bytes from `cursor` on (one message at least), none newer
    /// than `until`.
    pub fn read(
        &self,
        cursor: Cursor,
        until: u64,
        most: usize,
        bytes: usize,
        into: &mut Vec<Arc<Entry>>,
    ) -> Progress {
        let _ = (cursor, until, most, bytes, into);
        unimplemented!()
    }

    /// How far `cursor` is behind the newest message.
    pub fn behind(&self, cursor: Cursor) -> Behind {
        let _ = cursor;
        unimplemented!()
    }

    /// A place to read from.
    pub fn reader(self: &Arc<Self>) -> Reader {
        unimplemented!()
    }
}

impl Writer {
    /// What it writes.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Adds a message, wakes the readers, and answers its sequence number.
    pub fn append(&mut self, draft: Draft) -> u64 {
        let _ = draft;
        unimplemented!()
    }
}

impl Reader {
    /// The log.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Has `waker` woken by each new message from now on.
    pub fn wake_with(&self, waker: &Waker) {
        let _ = waker;
        unimplemented!()
    }

    /// None of its clients reads what is older than `next` (a cursor's) any more.
    pub fn at(&self, next: u64) {
        let _ = next;
        unimplemented!()
    }
}
