//! Sessions that outlive the connections of their clients, as admission sees them: who has a valid ticket of one is let
//! in by other rules than a stranger.
//!
//! # Not here
//! What a ticket is, and which sessions there are ([`crate::session`]); the rules ([`crate::admission`]).

use std::fmt;

use crate::net::own_protocols::TicketText;

/// Names a session. Random: nobody can guess one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

/// Not shown: it is a part of each of the session's tickets.
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(***)")
    }
}

/// A ticket that is ours, of a session that is there, and that no newer ticket has replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResumeGrant {
    /// Whose ticket it is.
    pub session: SessionId,
    /// Which one of its tickets.
    pub generation: u32,
}

/// What is known of a session that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndedSession {
    /// How many of its client's messages it has received.
    pub received: u64,
    /// Why it ended, as metrics have it.
    pub why: &'static str,
}

/// Asked about the channels of one route.
pub(crate) trait LogGate: fmt::Debug + Send + Sync {
    /// Whether one of them has the log with this epoch.
    fn has_log(&self, epoch: u64) -> bool;
}

/// Asked about the tickets of one route.
pub(crate) trait ResumeGate: fmt::Debug + Send + Sync {
    /// Whether `ticket` opens a session of this route. A ticket that is none is counted; what is looked up of it was
    /// verified before.
    ///
    /// # Errors
    /// It opens none. What is known of a session that it did open.
    fn check(&self, ticket: &TicketText) -> Result<ResumeGrant, Option<EndedSession>>;

    /// Whether the session is of this user and this path; if not, that is counted.
    fn is_owner(&self, grant: &ResumeGrant, user: Option<&str>, path: &str) -> bool;

    /// Counts an entry of a handshake that cannot be read.
    fn on_malformed(&self);
}
