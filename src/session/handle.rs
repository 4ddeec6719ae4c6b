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
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::task::Waker;

use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::request::{
    Ask, Asked, Attach, Attaching, EndRequest, NotResumed, Poll, Polled, Refusal, Replay, Replayed, Request,
    Send, Sent, Stream,
};
use super::ticket::Generations;
use crate::connections::{Command, PermitHolder, SessionId};
use crate::net::http::tokens;
use crate::resilience::Caller;

/// How many requests may wait: more than come between two polls of a task.
const MAX_REQUESTS: usize = 16;

/// How many bodies with messages of the client may be on their way at once.
const MAX_POSTS: u16 = 8;

/// What a session is for as long as it lives.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The name of its route.
    pub route: Arc<str>,
    pub user: Option<Arc<str>>,
    /// Who has begun it, as the breaker of its server tells callers apart.
    pub caller: Caller,
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
    /// Bodies with messages that are being read.
    posts: AtomicU16,
    inbox: Mutex<Inbox>,
}

/// A body with messages of a session's client is being read.
#[derive(Debug)]
pub(crate) struct PostPermit(Arc<Handle>);

impl Drop for PostPermit {
    fn drop(&mut self) {
        self.0.posts.fetch_sub(1, Relaxed);
    }
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

impl Handle {
    pub(super) fn new(id: SessionId, identity: Identity) -> Self {
        let (has_requests, posts) = (AtomicBool::new(false), AtomicU16::new(0));
        Self { id, identity, has_requests, posts, inbox: Mutex::default() }
    }

    /// One more body may be read, unless as many are as may be.
    pub(crate) fn begin_post(self: &Arc<Self>) -> Option<PostPermit> {
        let begun = self.posts.fetch_add(1, Relaxed);
        let permit = PostPermit(Arc::clone(self));
        (begun < MAX_POSTS).then_some(permit)
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
        let (back, attaching) = Attaching::new();
        if let Err((request, _)) = self.leave(Request::Attach(attach, back)) {
            request.give_back();
        }
        attaching
    }

    /// Asks the task for what the server has said. The answer may take as long as the poll says.
    ///
    /// # Errors
    /// Nothing comes of it. What is known of a session that is over may be known to its registry alone.
    pub(crate) fn poll(&self, poll: Poll) -> impl Future<Output = Result<Polled, Refusal>> + use<> {
        self.request(poll, Request::Poll)
    }

    /// Asks the task whether the client may have an event stream, and where that goes on.
    ///
    /// # Errors
    /// As [`Handle::poll`].
    pub(crate) fn ask_for_stream(
        &self,
        stream: Stream,
    ) -> impl Future<Output = Result<u64, Refusal>> + use<> {
        self.request(stream, Request::Stream)
    }

    /// Asks the task for what is kept.
    ///
    /// # Errors
    /// As [`Handle::poll`].
    pub(crate) fn replay(&self, replay: Replay) -> impl Future<Output = Result<Replayed, Refusal>> + use<> {
        self.request(replay, Request::Replay)
    }

    /// Says something for the client.
    ///
    /// # Errors
    /// As [`Handle::poll`].
    pub(crate) fn send(&self, send: Send) -> impl Future<Output = Result<Sent, Refusal>> + use<> {
        self.request(send, Request::Send)
    }

    /// Not an async function: who waits for the answer does not need the room for the question.
    fn request<W, A>(
        &self,
        what: W,
        request: fn(Box<Asked<W, A>>) -> Request,
    ) -> impl Future<Output = Result<A, Refusal>> + use<W, A> {
        let (answer, answered) = oneshot::channel();
        let left = self.leave(request(Box::new(Asked { what, answer })));
        let refused = left.err().map(|(_, why)| match why {
            NotResumed::Busy => Refusal::Polls,
            NotResumed::Used | NotResumed::Ahead(_) | NotResumed::Gap(..) | NotResumed::Gone => {
                Refusal::Gone(None, None)
            }
        });
        async move {
            match refused {
                Some(refused) => Err(refused),
                None => answered.await.unwrap_or(Err(Refusal::Gone(None, None))),
            }
        }
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
