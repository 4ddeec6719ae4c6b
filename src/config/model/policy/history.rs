//! The log.

use std::time::Duration;

use crate::config::model::policy::matching::Match;

/// `policy.history`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Most messages of one log; at least 1.
    pub messages: usize,
    /// Most bytes of one log; at least 1. The newest message stays, however long it is.
    pub bytes: usize,
    /// Older messages go.
    pub age: Duration,
    /// Messages that are kept longest: apart, up to `messages` and `bytes` of them, whatever their age.
    pub critical: Option<Match>,
    /// What a late joiner gets.
    pub on_join: OnJoin,
}

/// `policy.history.on_join`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnJoin {
    /// Nothing: it begins with the next message.
    None,
    /// Critical messages.
    Critical,
    /// All that is there.
    All,
    /// Critical messages, and so many of the newest.
    Last(u64),
}
