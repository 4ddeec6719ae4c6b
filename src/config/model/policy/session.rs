//! Mode `session`.

mod token_keys;

pub use token_keys::TokenKeys;

use std::sync::Arc;
use std::time::Duration;

use crate::config::model::policy::matching::{Match, Pointer};

/// `policy.session`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// How long a client with a ticket is waited for; `None`: no tickets are given.
    pub resume_window: Option<Duration>,
    /// Sessions without their client; at least 1.
    pub max_detached: usize,
    /// Whether the server is pinged after what clients said.
    pub receipts: bool,
    /// What is said again to a new server.
    pub greeting: Vec<GreetingRule>,
    /// What clients say while the server is away.
    pub queue: SessionQueue,
    /// What signs tickets; `None`: a key that is drawn at the start.
    pub token_keys: Option<Arc<TokenKeys>>,
}

/// One of `policy.session.greeting`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GreetingRule {
    /// `match`: which messages of the client are kept; `None`: the server speaks first, and `reply` is there.
    pub said: Option<Match>,
    /// The server's answer, which is awaited and not passed on.
    pub reply: Option<Match>,
    /// Of messages that are equal there the newest is kept; `None`: the whole message is compared.
    pub key: Option<MessageKey>,
    /// Messages of either side after which what has their key is kept no longer; only where there is a key.
    pub forget: Option<Match>,
    /// At least 1.
    pub keep: usize,
}

/// Where a message has what it is told apart by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageKey {
    /// In messages that are JSON.
    Pointer(Pointer),
    /// The only capture group of this; it compiles.
    Capture(String),
}

/// `policy.session.queue`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionQueue {
    /// At least 1.
    pub messages: usize,
    /// At least 1.
    pub bytes: usize,
    /// Older messages go.
    pub age: Duration,
    /// What a new server is told of what the one before may have taken.
    pub replay: Replay,
    /// Messages that do not wait.
    pub skip: Option<Match>,
}

/// `policy.session.queue.replay`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Nothing: what it may have taken is not said twice.
    Unsent,
    /// Whatever it is not known to have taken.
    Unacknowledged,
}
