//! What others want of a session, and what they are answered.
//!
//! # Not here
//! How it gets to the session's task ([`super::handle`]), and what the task does for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ticket::TicketKeys;
use crate::connections::{Admitted, Command, Connection, EndedSession, Registry};
use crate::delivery::EventsWire;
use crate::delivery::control::FromProxy;
use crate::frame::Kind;
use crate::log::Entry;
use crate::net::Transport;
use crate::net::own_protocols::{Nonce, TicketText};
use crate::upstream::opening::Opening;

/// What is wanted of a session.
#[derive(Debug)]
pub(crate) enum Request {
    /// Somebody else ends it.
    End(EndRequest),
    /// A handshake asks before its 101 whether it may attach. That changes nothing, but for a client which has missed what
    /// cannot be made up for: it is the session's, so that the session is over.
    Ask(Ask),
    /// A client's socket has arrived, and takes the place of the one before. Boxed: it is large. If it is not taken it goes back:
    /// its client has had a 101, and is owed a Close.
    Attach(Box<Attach>, oneshot::Sender<Box<Attach>>),
    /// A client asks whether it may have an event stream: the number of the newest message that it goes on behind.
    Stream(Box<Asked<Stream, u64>>),
    /// A client asks over HTTP for what the server has said.
    Poll(Box<Asked<Poll, Polled>>),
    /// A client asks over HTTP for what is kept.
    Replay(Box<Asked<Replay, Replayed>>),
    /// A client says something over HTTP.
    Send(Box<Asked<Send, Sent>>),
}

impl Request {
    /// It is not done.
    pub(super) fn give_back(self) {
        if let Self::Attach(attach, back) = self {
            // Nobody waits for it where the process ends.
            let _ = back.send(attach);
        }
    }
}

/// A client that comes back, and that the task has still to take.
#[derive(Debug)]
pub(crate) struct Attaching(oneshot::Receiver<Box<Attach>>);

impl Attaching {
    /// What gives it back, if it is not taken.
    pub(super) fn new() -> (oneshot::Sender<Box<Attach>>, Self) {
        let (back, returned) = oneshot::channel();
        (back, Self(returned))
    }

    /// Waits until the task has taken it, or answers what it has not.
    pub(crate) async fn returned(self) -> Option<Box<Attach>> {
        self.0.await.ok()
    }
}

/// What a client asks over HTTP, with what takes the answer. A client that is gone meanwhile does not mind.
#[derive(Debug)]
pub(crate) struct Asked<W, A> {
    pub what: W,
    pub answer: oneshot::Sender<Result<A, Refusal>>,
}

/// Why somebody else ends a session. The strongest one last: the first two do not concern a client that is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EndRequest {
    /// Too many sessions are without their clients, and this one for longest.
    Evicted,
    /// The process is being drained, and its client is away.
    Drained,
    /// A newer connection of its user takes its place.
    Replaced,
    /// At once, without a word.
    Cut,
}

/// A question of a handshake.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The number of the client's ticket.
    pub generation: u32,
    /// The number of the newest message that it has had.
    pub seen: u64,
    /// Takes the answer; a handshake that is gone meanwhile does not mind.
    pub answer: oneshot::Sender<Result<(), NotResumed>>,
}

/// Why a session does not go on with a client that has a ticket of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotResumed {
    /// The ticket was replaced by a newer one.
    Used,
    /// The client has had what was never sent. The session is over.
    Ahead(EndedSession),
    /// So many messages that the client has not had are not there any more. The session is over.
    Gap(u64, EndedSession),
    /// There is no session any more.
    Gone,
    /// Too many want something of it at the same moment.
    Busy,
}

/// How a client is spoken to.
#[derive(Debug)]
pub(crate) enum Wire {
    WebSocket {
        /// Whether compressed messages were agreed upon.
        has_deflate: bool,
    },
    Events(Box<EventsStart>),
}

/// What an event stream begins with.
#[derive(Debug)]
pub(crate) struct EventsStart {
    pub wire: EventsWire,
    /// The ticket that its client comes back with: that is a part of the ids of its messages.
    pub ticket: TicketText,
}

/// A client that comes back.
#[derive(Debug)]
pub(crate) struct Attach {
    pub generation: u32,
    /// The number of the newest message that it has had.
    pub seen: u64,
    pub transport: Transport,
    pub wire: Wire,
    /// Its place in the registry of connections, and when its credentials end.
    pub connection: Connection,
    /// What its hello repeats.
    pub nonce: Option<Nonce>,
    /// What the server is dialled with from now on: this handshake has the newest credentials.
    pub opening: Opening,
    /// What the session's tickets are signed with from now on: keys may have been replaced since it began.
    pub keys: Arc<TicketKeys>,
}

/// Who asks over HTTP: no connection is the client's alone, so that its session has to have a place for it.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// The number of its ticket.
    pub generation: u32,
    /// `None`: it has begun the session just now, and is there already.
    pub newcomer: Option<Newcomer>,
}

/// What such a client needs to be there.
#[derive(Debug)]
pub(crate) struct Newcomer {
    /// Its place among the connections, if the session has none for it yet.
    pub admitted: Admitted,
    pub registry: Arc<Registry>,
    /// When it is closed, in a drain.
    pub close_at: Option<Command>,
}

/// A question before an event stream, which changes nothing but as [`Ask`] says.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The number of the client's ticket.
    pub generation: u32,
    /// The number of the newest message that the client has had. `None`: it wants all that it has not confirmed.
    pub after: Option<u64>,
}

/// A poll.
#[derive(Debug)]
pub(crate) struct Poll {
    pub visitor: Visitor,
    /// The number of the newest message that the client has had. `None`: it wants all that it has not confirmed.
    pub after: Option<u64>,
    /// Messages that it takes at once.
    pub limit: usize,
    /// It is answered then if there is nothing before.
    pub until: Instant,
    /// What the server is dialled with from now on.
    pub opening: Option<Opening>,
}

/// What a poll is answered.
#[derive(Debug)]
pub(crate) struct Polled {
    pub epoch: u64,
    /// How many of the client's messages were received, over all of its links.
    pub received: u64,
    pub entries: Vec<Arc<Entry>>,
    /// The number that the client is to have had when it asks the next time.
    pub next: u64,
    /// How long it may take until then.
    pub expires_in: Duration,
    /// What became of messages of the client, as far as it may not know.
    pub told: Vec<FromProxy>,
    /// The Close that a WebSocket would get: the session is over, and the client has had all of it.
    pub closed: Option<(u16, Box<str>)>,
    /// The session ends here, since the process is about to.
    pub is_draining: bool,
}

/// A question for what is kept.
#[derive(Debug)]
pub(crate) struct Replay {
    /// The number of the client's ticket.
    pub generation: u32,
    /// The number of the first message that is wanted; the oldest one that is kept, if that is newer.
    pub from: u64,
    /// Messages that the client takes at once.
    pub limit: usize,
}

/// What is kept.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub epoch: u64,
    pub entries: Vec<Arc<Entry>>,
    /// How many there are, those included that there was no room for.
    pub total: u64,
    /// The number of the oldest one that is kept.
    pub first: u64,
}

/// Messages of a client.
#[derive(Debug)]
pub(crate) struct Send {
    pub visitor: Visitor,
    /// The number of the first one; `None`: it is the next one, whatever that is.
    pub first: Option<u64>,
    pub messages: Vec<(Kind, Bytes)>,
}

/// What came of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// How many messages of the client were received.
    pub received: u64,
    /// How many of these were not before.
    pub taken: usize,
}

/// Why a session does not do what a client asks over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The session is over, or not this client's any more. What is known of it, and how many messages the client missed of it.
    Gone(Option<EndedSession>, Option<u64>),
    /// The client has a WebSocket, and will have for so long at least.
    Attached(Duration),
    /// The client says to have had what it was not sent: the newest one of that has this number.
    Ahead(u64),
    /// Messages of the client are missing before these: so many were received.
    Gap(u64),
    /// More than may wait at once ask for the same.
    Polls,
    /// The client says more than it may, until then.
    Rate(Duration),
    /// The server is away, and as much waits for it as may. So many were received.
    QueueFull(u64),
}
