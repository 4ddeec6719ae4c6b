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
use super::greeting::{self, Beginning, Joiner, Joining};
use super::key::Key;
use crate::connections::Connection;
use crate::delivery::control::Missed;
use crate::delivery::events::DataForm;
use crate::delivery::{Arrival, EventsWire, Fanout, Wire};
use crate::frame::{CloseCode, Kind};
use crate::log::{Cursor, Log};
use crate::net::Transport;
use crate::telemetry::redact::redact_path;
use crate::telemetry::{By, Reason};

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
    /// Set when its feed is over, for those who wait for messages without being its clients.
    over: watch::Sender<Option<Over>>,
    is_connected: AtomicBool,
    members: Mutex<Members>,
}

/// How a feed ended.
#[derive(Debug, Clone)]
pub(crate) struct Over {
    /// The code and the reason of its server's Close, if that was it.
    pub said: Option<(u16, Arc<str>)>,
}

#[derive(Debug)]
struct Members {
    all: u64,
    /// Those of them that become clients of the fanout, and are none yet or are ones.
    joining: u64,
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
        let members = Members { all: 0, joining: 0, by_user: HashMap::new(), empty_since, waker: None };
        let is_connected = AtomicBool::new(false);
        let (over, _) = watch::channel(None);
        let members = Mutex::new(members);
        Arc::new(Self { key, log, fanout, first_dial, publish, over, is_connected, members })
    }

    /// Adds a member, and answers where it begins to read. Only to be called under the hub's lock. The member gets what comes
    /// from here on: a server may greet as soon as it is connected, and clients take longer.
    pub(super) fn enter(self: &Arc<Self>, joining: Joining<'_>) -> Entered {
        let user = joining.user;
        let mut members = self.members();
        // The log waits for who joins. One that polls holds nothing up: it may be away for as long as it likes.
        let joins = !matches!(joining.by, Joiner::Poll(_));
        if joins && members.joining == 0 {
            self.fanout.on_reservation();
        }
        let beginning = greeting::begin(&self.log, joining);
        members.all += 1;
        members.joining += u64::from(joins);
        members.empty_since = None;
        if let Some(user) = user {
            *members.by_user.entry(Arc::clone(user)).or_default() += 1;
        }
        Entered { member: Member { channel: Arc::clone(self), user: user.cloned(), joins }, beginning }
    }

    fn leave(&self, user: Option<Arc<str>>, joins: bool) {
        let mut members = self.members();
        members.all -= 1;
        members.joining -= u64::from(joins);
        if joins && members.joining == 0 {
            self.fanout.on_no_reservations();
        }
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

    /// Its feed is over: every client is closed, after what it is still to get.
    pub(super) fn close(&self, cause: Reason, by: By, code: CloseCode, reason: &str) {
        self.fanout.close(cause, by, code, reason);
        let said = (by == By::Upstream).then(|| (code.0, Arc::from(reason)));
        self.over.send_replace(Some(Over { said }));
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
    /// Whether it is, or becomes, a client of the fanout.
    joins: bool,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.channel.leave(self.user.take(), self.joins);
    }
}

/// A client that has just become one.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) member: Member,
    pub(super) beginning: Beginning,
}

/// A client's place on a channel: the feed runs, and keeps running while this exists.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(super) member: Member,
    pub(super) protocol: Option<HeaderValue>,
    pub(super) beginning: Beginning,
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
        let Beginning { cursor, greeting, .. } = self.beginning;
        let hello = greeting.map(|greeting| greeting.hello(&channel.log, cursor));
        let wire = Wire::WebSocket { has_deflate, hello };
        join(self.member, client, wire, cursor, connection);
    }

    /// Joins the client as an event stream, whose `head` is written first.
    pub(crate) fn join_events(self, client: Transport, form: DataForm, head: &[u8], connection: Connection) {
        let Beginning { cursor, greeting, .. } = self.beginning;
        let mut preface = head.to_vec();
        if let Some(greeting) = greeting {
            greeting.push_event(&self.member.channel.log, cursor, &mut preface);
        }
        let wire = EventsWire { form, preface: preface.into() };
        join(self.member, client, Wire::Events(Box::new(wire)), cursor, connection);
    }

    /// The messages, and those that come.
    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.member.channel.log
    }

    /// Where the client begins to read.
    pub(crate) fn cursor(&self) -> Cursor {
        self.beginning.cursor
    }

    /// How many messages it will not get of those that came after what it has had; `None`: that is not known.
    pub(crate) fn missed(&self) -> Option<u64> {
        match self.beginning.missed {
            Missed::Known(missed) => Some(missed),
            Missed::Unknown => None,
        }
    }

    /// The newest number, if the client claims to have had a later one.
    pub(crate) fn ahead_of(&self) -> Option<u64> {
        self.beginning.ahead_of
    }

    /// Holds how the feed ended, once it is over.
    pub(crate) fn over(&self) -> watch::Receiver<Option<Over>> {
        self.member.channel.over.subscribe()
    }
}

/// Its place is held with what its connection holds, and given back when the client has gone.
fn join(member: Member, transport: Transport, wire: Wire, cursor: Cursor, connection: Connection) {
    let fanout = Arc::clone(&member.channel.fanout);
    let held = Some(Box::new((member, connection.held)) as _);
    let connection = Connection { held, ..connection };
    fanout.join(Arrival { transport, wire, connection }, cursor);
}
