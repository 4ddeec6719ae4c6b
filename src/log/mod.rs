//! The log: the messages of an upstream in order, each encoded once. Everything that reads it has a [`Cursor`].
//!
//! * [`rings`]: what is kept, and what a cursor reads of it (pure); [`memory`]: the same behind a lock, with its
//!   writer, its [`readers`] and [`waiters`]; [`Logs`]: all of them under one bound.
//! * [`Entry`]: one message, and what it costs; [`rules`]: which messages a setting means.
//!
//! # Invariants
//! 1. Sequence numbers begin with 1 and have no gaps; they mean something within their epoch only.
//! 2. One writer: [`Writer`] cannot be cloned.
//! 3. A reader owns no memory here: a cursor is two numbers.
//!
//! # Whose log is it?
//! That of a channel is written for all who read it, and keeps history ([`Log::new`]). A private one ([`Log::private`]) is a
//! queue with numbers: one owner writes and reads it, and what its owner lets go of is not kept any more.
//!
//! # Why is there no queue for each client of a channel?
//! The log is the queue of all. How far behind a client is, is the difference of two numbers, and what is evicted is
//! evicted once.
//!
//! # Where else may a log be kept?
//! The ring in memory is the head of every log. A disk or a server follows it with a [`Reader`] of its own, as a
//! shard does, and never stands in the writer's way.
//!
//! # Not here
//! Sockets and clients ([`crate::delivery`]).

mod entry;
mod logs;
mod memory;
mod readers;
mod rings;
pub(crate) mod rules;
mod waiters;

pub(crate) use entry::Entry;
pub use entry::{Message, NewEntry};
pub use logs::Logs;
pub use memory::Log;
pub(crate) use memory::{Reader, Writer};

/// Where a reader goes on that was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuation {
    /// Here, and it misses nothing.
    At(Cursor),
    /// Some of what it has not had is not kept any more.
    Missed,
    /// It claims to have had what there never was.
    Ahead,
}

/// A place in a log: what is read next. In cursors that a log answers `all_from` is never below `next`, so that readers at
/// the same place have equal cursors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The next sequence number.
    pub next: u64,
    /// Below this one only critical messages are read (for a late joiner, or after a gap).
    pub all_from: u64,
}

/// How far a cursor is behind the newest message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Messages that it is to read.
    pub messages: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Where to read on.
    pub cursor: Cursor,
    /// Messages that were there and are not any more: the cursor was behind them. Critical ones among them that
    /// are still kept were read, and are not counted.
    pub missed: u64,
    /// Whether there is more to read.
    pub has_more: bool,
}

#[cfg(test)]
mod tests;
