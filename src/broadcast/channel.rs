//! A channel, as its clients and its hub see it: its members, and the way to its task.
//!
//! # Invariants
//! 1. A client with a reservation counts as a member until its [`Member`] is dropped, for whatever reason.
//! 2. Members come only under the hub's lock, and a channel leaves its hub only under that lock
//!    ([`super::state`]): no reservation is used on a channel that has ended.
//!
//! # Why does a log begin anew with each channel?
//! A log that has no reader costs memory, and its messages may be out of date.
//!
//! # Not here
//! What the channel's task does ([`super::task`]).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Waker;

use bytes::Bytes;
use http::HeaderValue;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::error::JoinError;
use super::greeting::{self, Greeting, Joining};
use super::key::Key;
use crate::connections::Connection;
use crate::delivery::{Arrival, Fanout, Wire};
use crate::frame::Kind;
use crate::log::{Cursor, Log};
use crate::net::Transport;
use crate::telemetry::redact::redact_path;

/// The result of the first dial, once there is one. `Ok`: the subprotocol that holds for all clients.
pub(super) type FirstDial = Option<Result<Option<HeaderValue>, JoinError>>;

/// A message that an operator publishes to the clients of a channel.
#[derive(Debug)]
pub(super) struct PublishRequest {
    pub(super) kind: Kind,
    pub(super) payload: Bytes,
    /// The frame, made once for all channels.
    pub(super) frame: Bytes,
    pub(super) deflated: Option<Bytes>,
    /// The one user it is for; `None`: all.
    pub(super) to: Option<Arc<str>>,
    /// Gets the message's number in the log.
    pub(super) reply: oneshot::Sender<u64>,
}

/// One upstream link and the clients that share it.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) key: Key,
    pub(super) log: Arc<Log>,
    pub(super) fanout: Arc<Fanout>,
    pub(super) first_dial: watch::Receiver<FirstDial>,
    pub(super) publish: mpsc::Sender<PublishRequest>,
    is_connected: AtomicBool,
    members: Mutex<Members>,
}

#[derive(Debug)]
struct Members {
    all: u64,
    by_user: HashMap<Arc<str>, u64>,
    /// Since when there are none.
    empty_since: Option<Instant>,
    /// The channel's task, which is woken when the last one leaves.
    waker: Option<Waker>,
}

impl Channel {
    pub(super) fn new(
        key: Key,
        log: Arc<Log>,
        fanout: Arc<Fanout>,
        first_dial: watch::Receiver<FirstDial>,
        publish: mpsc::Sender<PublishRequest>,
    ) -> Arc<Self> {
        let empty_since = Some(Instant::now());
        let members = Members { all: 0, by_user: HashMap::new(), empty_since, waker: None };
        let is_connected = AtomicBool::new(false);
        Arc::new(Self { key, log, fanout, first_dial, publish, is_connected, members: Mutex::new(members) })
    }

    /// Adds a member, and answers where it begins to read. Only to be called under the hub's lock. The member gets what comes
    /// from here on: a server may greet as soon as it is connected, and clients take longer.
    pub(super) fn enter(self: &Arc<Self>, joining: Joining<'_>) -> Entered {
        let user = joining.user;
        let mut members = self.members();
        if members.all == 0 {
            self.fanout.on_reservation();
        }
        let (cursor, greeting) = greeting::begin(&self.log, joining);
        members.all += 1;
        members.empty_since = None;
        if let Some(user) = user {
            *members.by_user.entry(Arc::clone(user)).or_default() += 1;
        }
        Entered { member: Member { channel: Arc::clone(self), user: user.cloned() }, cursor, greeting }
    }

    fn leave(&self, user: Option<Arc<str>>) {
        let mut members = self.members();
        members.all -= 1;
        if let Some(user) = user
            && let Entry::Occupied(mut count) = members.by_user.entry(user)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        if members.all == 0 {
            members.empty_since = Some(Instant::now());
            members.by_user = HashMap::new();
            self.fanout.on_no_reservations();
            if let Some(waker) = &members.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// The number of members, or of those of `user`.
    pub(super) fn count(&self, user: Option<&str>) -> u64 {
        let members = self.members();
        user.map_or(members.all, |user| members.by_user.get(user).copied().unwrap_or(0))
    }

    /// Since when it has no members. `waker` is woken when the last one leaves.
    pub(super) fn empty_since(&self, waker: &Waker) -> Option<Instant> {
        let mut members = self.members();
        if !members.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            members.waker = Some(waker.clone());
        }
        members.empty_since
    }

    /// Whether it has had no members since `since`. Only to be relied on under the hub's lock.
    pub(super) fn is_empty_since(&self, since: Instant) -> bool {
        self.members().empty_since == Some(since)
    }

    /// Whether the first dial has succeeded.
    pub(super) fn is_open(&self) -> bool {
        matches!(&*self.first_dial.borrow(), Some(Ok(_)))
    }

    /// Its name for log lines: its path.
    pub(super) fn log_name(&self) -> impl std::fmt::Display + '_ {
        let name = self.key.name.split(' ').next().unwrap_or_default();
        // Without the path, the name consists of what clients have sent, which does not belong in the log.
        redact_path(if name.starts_with('/') { name } else { "-" })
    }

    pub(super) fn is_connected(&self) -> bool {
        self.is_connected.load(Relaxed)
    }

    pub(super) fn set_connected(&self, is_connected: bool) {
        self.is_connected.store(is_connected, Relaxed);
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        // A panic under this lock cannot leave a count half changed.
        self.members.lock()
    }
}

/// A client that counts as a member of a channel.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) channel: Arc<Channel>,
    user: Option<Arc<str>>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.channel.leave(self.user.take());
    }
}

/// A client that has just become one.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) member: Member,
    /// Where it begins to read.
    pub(super) cursor: Cursor,
    /// `None`: it is not to get a hello.
    pub(super) greeting: Option<Box<Greeting>>,
}

/// A client's place on a channel: the feed runs, and keeps running while this exists.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(super) member: Member,
    /// Where it begins to read.
    pub(super) cursor: Cursor,
    pub(super) protocol: Option<HeaderValue>,
    /// `None`: it is not to get a hello.
    pub(super) greeting: Option<Box<Greeting>>,
}

impl Reservation {
    /// The name of its channel.
    pub(crate) fn channel(&self) -> Arc<str> {
        Arc::clone(&self.member.channel.key.name)
    }

    /// The subprotocol that the server chose.
    pub(crate) fn protocol(&self) -> Option<&HeaderValue> {
        self.protocol.as_ref()
    }

    /// Joins the client, whose 101 was sent; `has_deflate`: compressed messages were agreed upon. The client gets what the
    /// log had for it when the reservation was made (`history.on_join`), and everything that came since.
    pub(crate) fn join(self, client: Transport, has_deflate: bool, connection: Connection) {
        let channel = &self.member.channel;
        let hello = self.greeting.map(|greeting| greeting.hello(&channel.log, self.cursor));
        let fanout = Arc::clone(&channel.fanout);
        let held = Some(Box::new((self.member, connection.held)) as _);
        let connection = Connection { held, ..connection };
        let wire = Wire::WebSocket { has_deflate, hello };
        fanout.join(Arrival { transport: client, wire, connection }, self.cursor);
    }
}
