//! How others reach a session: an inbox, and the waker of its task.
//!
//! The task owns both links and all that is known of the session, so whoever wants something of it leaves a [`Request`].
//! It registers its waker once ([`Handle::wake_with`]) and takes requests at the beginning of each poll until there are
//! none ([`Handle::next_request`]: one load if there are none). When it ends it drops its
//! [`SessionGuard`](super::registry::SessionGuard): what waits then is given back, and nothing is taken any more.
//!
//! # Invariants
//! 1. The inbox is bounded. Requests are taken in the order in which they came, so that of two clients which attach at the
//!    same moment one is the later one, and that one stays.
//! 2. Who leaves a request hears of it in any case: by the answer, or by what is dropped or given back with it.
//! 3. Tickets are numbered here, under one lock: the door sees at once which of them are worth nothing any more.
//!
//! # Not here
//! Which sessions there are ([`super::registry`]); what a request does to a session (its task).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Waker;

use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::ticket::{Generations, TicketKeys};
use crate::connections::{Command, Connection, EndedSession, PermitHolder, SessionId};
use crate::net::Transport;
use crate::net::http::tokens;
use crate::net::own_protocols::Nonce;
use crate::upstream::opening::Opening;

/// How many requests may wait: more than come between two polls of a task.
const MAX_REQUESTS: usize = 16;

/// What a session is for as long as it lives.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The name of its route.
    pub route: Arc<str>,
    pub user: Option<Arc<str>>,
    /// As its client wrote it, without the query.
    pub path: Box<str>,
    /// The subprotocol that the server chose.
    pub protocol: Option<HeaderValue>,
}

/// The handle of one session.
#[derive(Debug)]
pub(crate) struct Handle {
    id: SessionId,
    identity: Identity,
    has_requests: AtomicBool,
    inbox: Mutex<Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    is_closed: bool,
    requests: VecDeque<Request>,
    /// Before all others.
    end: Option<EndRequest>,
    tickets: Generations,
    waker: Option<Waker>,
}

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

/// A client that comes back.
#[derive(Debug)]
pub(crate) struct Attach {
    pub generation: u32,
    /// The number of the newest message that it has had.
    pub seen: u64,
    pub transport: Transport,
    /// Whether compressed messages were agreed upon.
    pub has_deflate: bool,
    /// Its place in the registry of connections, and when its credentials end.
    pub connection: Connection,
    /// What its hello repeats.
    pub nonce: Option<Nonce>,
    /// What the server is dialled with from now on: this handshake has the newest credentials.
    pub opening: Opening,
    /// What the session's tickets are signed with from now on: keys may have been replaced since it began.
    pub keys: Arc<TicketKeys>,
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
    /// Waits until the task has taken it, or answers what it has not.
    pub(crate) async fn returned(self) -> Option<Box<Attach>> {
        self.0.await.ok()
    }
}

impl Handle {
    pub(super) fn new(id: SessionId, identity: Identity) -> Self {
        Self { id, identity, has_requests: AtomicBool::new(false), inbox: Mutex::default() }
    }

    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether a handshake with these headers, from which ours were taken out, offers what the session has.
    pub(crate) fn is_offered_by(&self, headers: &HeaderMap) -> bool {
        let protocol = self.identity.protocol.as_ref();
        protocol.is_none_or(|protocol| {
            tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL)
                .any(|offered| offered.as_bytes() == protocol.as_bytes())
        })
    }

    /// Whether the ticket of this number opens the session now.
    pub(crate) fn is_valid(&self, generation: u32) -> bool {
        let inbox = self.inbox.lock();
        !inbox.is_closed && inbox.tickets.is_valid(generation)
    }

    /// Asks the task whether a client may come back.
    ///
    /// # Errors
    /// It may not.
    pub(crate) async fn ask(&self, generation: u32, seen: u64) -> Result<(), NotResumed> {
        let (answer, answered) = oneshot::channel();
        self.leave(Request::Ask(Ask { generation, seen, answer })).map_err(|(_, why)| why)?;
        answered.await.unwrap_or(Err(NotResumed::Gone))
    }

    /// Hands the socket of a client that comes back to the task.
    pub(crate) fn attach(&self, attach: Box<Attach>) -> Attaching {
        let (back, returned) = oneshot::channel();
        if let Err((request, _)) = self.leave(Request::Attach(attach, back)) {
            request.give_back();
        }
        Attaching(returned)
    }

    /// Has the session ended. The strongest cause counts if there are several.
    pub(crate) fn end(&self, why: EndRequest) {
        let mut inbox = self.inbox.lock();
        if inbox.is_closed {
            return;
        }
        inbox.end = inbox.end.max(Some(why));
        self.wake(&inbox);
    }

    fn leave(&self, request: Request) -> Result<(), (Request, NotResumed)> {
        let mut inbox = self.inbox.lock();
        if inbox.is_closed {
            return Err((request, NotResumed::Gone));
        }
        if inbox.requests.len() >= MAX_REQUESTS {
            return Err((request, NotResumed::Busy));
        }
        inbox.requests.push_back(request);
        self.wake(&inbox);
        Ok(())
    }

    /// Under the lock: a task that registers its waker after this sees what has come.
    fn wake(&self, inbox: &Inbox) {
        self.has_requests.store(true, Relaxed);
        if let Some(waker) = &inbox.waker {
            waker.wake_by_ref();
        }
    }
}

/// For the task.
impl Handle {
    /// Has the task woken by this whenever a request comes, from now on.
    pub(super) fn wake_with(&self, waker: &Waker) {
        self.inbox.lock().waker = Some(waker.clone());
    }

    /// The next request. Costs one load if there is none.
    pub(super) fn next_request(&self) -> Option<Request> {
        if !self.has_requests.load(Relaxed) {
            return None;
        }
        let mut inbox = self.inbox.lock();
        if let Some(why) = inbox.end.take() {
            return Some(Request::End(why));
        }
        let request = inbox.requests.pop_front();
        if request.is_none() {
            self.has_requests.store(false, Relaxed);
            // A burst leaves no room behind.
            inbox.requests = VecDeque::new();
        }
        request
    }

    /// A client has shown that it has the ticket of this number, at its attach or by a control frame of the link that was
    /// given it: the ones before are worth nothing from now on. False: so is this one.
    pub(super) fn prove(&self, generation: u32) -> bool {
        self.inbox.lock().tickets.prove(generation)
    }

    /// The number of the next ticket. `None`: there are no more numbers, and the client cannot come back.
    pub(super) fn issue(&self) -> Option<u32> {
        self.inbox.lock().tickets.issue()
    }

    /// Nothing is taken any more. Answers what waited.
    pub(super) fn close(&self) -> VecDeque<Request> {
        let mut inbox = self.inbox.lock();
        inbox.is_closed = true;
        inbox.waker = None;
        std::mem::take(&mut inbox.requests)
    }
}

impl PermitHolder for Handle {
    fn command(&self, command: Command) {
        match command {
            Command::Replace => self.end(EndRequest::Replaced),
            Command::Cut => self.end(EndRequest::Cut),
            // A date is for a link, and goes to the handle of that.
            Command::CloseAt { .. } => {}
        }
    }
}
