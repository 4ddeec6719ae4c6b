//! The handle of one connection: its counters, and its mailbox.
//!
//! # Invariants
//! 1. The counters of a handle have one writer, its connection: plain loads and stores, no locked
//!    instruction on the path of a message. A scrape adds them up.
//! 2. The mailbox is bounded: one command of each kind, and the injections of [`super::injections`].
//! 3. What few connections need stands behind a pointer: a handle is a part of what an idle client costs, in steps of the
//!    allocator.
//!
//! # Not here
//! Which connections there are ([`super::registry`]); what a command does, and between which frames an injection goes
//! ([`crate::tunnel`]).

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::Waker;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::injections::Injections;
use crate::frame::{CloseCode, ProtocolError};
use crate::telemetry::{By, Injection, Reason, RouteMetrics};

/// What identifies a connection in the log and in lists.
#[derive(Debug)]
pub(crate) struct ConnectionInfo {
    /// The client's address; its port is 0 where a proxy in front gave the address alone. `None` for Unix sockets.
    pub client: Option<SocketAddr>,
    /// The authenticated user.
    pub user: Option<Arc<str>>,
    /// Mode `broadcast`: the name of its channel.
    pub channel: Option<Arc<str>>,
    /// `X-Request-Id` of its handshake.
    pub request_id: Box<str>,
    /// Its route's metrics.
    pub route: Arc<RouteMetrics>,
}

/// What a client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    WebSocket,
    /// An event stream: `text/event-stream`.
    Events,
    /// Requests that wait for their answers, one after the other.
    Polls,
}

impl Via {
    /// As operators read it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Events => "sse",
            Self::Polls => "poll",
        }
    }
}

/// What a running connection can be commanded to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Close the client with `code` at `at`, go on as usual until then; an upstream that is lost
    /// meanwhile does not hurry it.
    CloseAt {
        /// When to close.
        at: Instant,
        /// The code of the Close.
        code: CloseCode,
    },
    /// Close the client now: a newer connection of its user takes its place.
    Replace,
    /// End now, without a Close.
    Cut,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndReport {
    /// The first cause.
    pub reason: Reason,
    /// The first Close: who sent it and with which code.
    pub close: Option<(By, CloseCode)>,
    /// The violation of the protocol, if that was the cause.
    pub fault: Option<ProtocolError>,
}

/// The handle of one connection.
#[derive(Debug)]
pub(crate) struct Handle {
    /// Unique in this process.
    pub id: u64,
    client: ClientAddress,
    /// As [`ConnectionInfo::user`].
    pub user: Option<Arc<str>>,
    /// As [`ConnectionInfo::request_id`].
    pub request_id: Box<str>,
    /// As [`ConnectionInfo::route`].
    pub route: Arc<RouteMetrics>,
    /// When it was opened.
    pub since: Instant,
    messages_in: AtomicU64,
    messages_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    discarded: AtomicU64,
    buffered: AtomicU64,
    acknowledged: AtomicU64,
    /// Of those in mode `broadcast`.
    reader: Option<Box<Reader>>,
    has_pending: AtomicBool,
    /// What its client has.
    pub via: Via,
    mailbox: Mutex<Mailbox>,
}

/// A client of a channel, which reads its log.
#[derive(Debug)]
struct Reader {
    channel: Arc<str>,
    asked: AtomicU64,
    lag: AtomicU64,
}

/// [`ConnectionInfo::client`] in half the room for IPv4.
#[derive(Debug)]
enum ClientAddress {
    Unix,
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

/// How far a client of a feed has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeliveryStats {
    /// Messages that it was sent.
    pub sent: u64,
    /// Those of them that were sent before a ping.
    pub asked: u64,
    /// Those of them that a pong has acknowledged: the client's WebSocket stack took them.
    pub acknowledged: u64,
    /// Messages of the log that it was not sent yet.
    pub lag: u64,
    /// Bytes that wait for its socket.
    pub buffered: u64,
}

/// Commands and injections for a connection, and the waker of its task.
#[derive(Debug, Default)]
struct Mailbox {
    /// Those that were not taken yet. Most connections never get one.
    commands: Option<Box<Commands>>,
    injections: Injections,
    /// Stays when it was used: the task registers it once, not with every poll.
    waker: Option<Waker>,
}

/// Whether a newer connection takes its place, a Close with a date, and whether it is to be cut: none hides another.
#[derive(Debug, Default)]
struct Commands {
    is_replaced: bool,
    close_at: Option<Command>,
    is_cut: bool,
}

impl Commands {
    /// In the order in which they are to be executed.
    fn in_order(self) -> [Option<Command>; 3] {
        // Before `CloseAt`: a client that is replaced must not reconnect, as clients do after the code of a restart.
        let replace = self.is_replaced.then_some(Command::Replace);
        [replace, self.close_at, self.is_cut.then_some(Command::Cut)]
    }
}

/// What was in the mailbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Taken out of the mailbox; to be executed in this order.
    pub commands: [Option<Command>; 3],
    /// Injections stay until [`Handle::next_injection`] takes them; this is set once for each that comes.
    pub has_injections: bool,
}

impl Handle {
    pub(super) fn new(id: u64, info: ConnectionInfo, via: Via) -> Self {
        let ConnectionInfo { client, user, channel, request_id, route } = info;
        Self {
            id,
            client: client.into(),
            user,
            request_id,
            route,
            since: Instant::now(),
            messages_in: AtomicU64::new(0),
            messages_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            discarded: AtomicU64::new(0),
            buffered: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            reader: channel.map(|channel| {
                Box::new(Reader { channel, asked: AtomicU64::new(0), lag: AtomicU64::new(0) })
            }),
            has_pending: AtomicBool::new(false),
            via,
            mailbox: Mutex::default(),
        }
    }

    /// As [`ConnectionInfo::client`].
    pub(crate) fn client(&self) -> Option<SocketAddr> {
        match &self.client {
            ClientAddress::Unix => None,
            ClientAddress::V4(address) => Some(SocketAddr::V4(*address)),
            ClientAddress::V6(address) => Some(SocketAddr::V6(**address)),
        }
    }

    /// As [`ConnectionInfo::channel`].
    pub(crate) fn channel(&self) -> Option<&str> {
        self.reader.as_ref().map(|reader| &*reader.channel)
    }

    /// Leaves a command, in place of one of its kind that was not taken yet, and wakes the connection. None
    /// hides one of another kind.
    pub(crate) fn send(&self, command: Command) {
        let mut mailbox = self.mailbox.lock();
        let commands = mailbox.commands.get_or_insert_default();
        match command {
            Command::CloseAt { .. } => commands.close_at = Some(command),
            Command::Replace => commands.is_replaced = true,
            Command::Cut => commands.is_cut = true,
        }
        self.wake(&mailbox);
    }

    /// Leaves a whole frame for the client, to be put between two messages of its server.
    ///
    /// # Errors
    /// It was not taken, and why.
    pub(crate) fn inject(&self, frame: &Bytes) -> Result<(), Injection> {
        let mut mailbox = self.mailbox.lock();
        mailbox.injections.push(frame)?;
        self.wake(&mailbox);
        Ok(())
    }

    /// Wakes the task.
    fn wake(&self, mailbox: &MutexGuard<'_, Mailbox>) {
        // Under the lock: a task that registers its waker after this sees it.
        self.has_pending.store(true, Relaxed);
        if let Some(waker) = &mailbox.waker {
            waker.wake_by_ref();
        }
    }

    /// Has the connection's task woken by this, from now on; it then calls [`Handle::take_pending`].
    pub(crate) fn wake_with(&self, waker: &Waker) {
        self.mailbox.lock().waker = Some(waker.clone());
    }

    /// What has come since the last call. Costs one load if there is nothing.
    pub(crate) fn take_pending(&self) -> Pending {
        if !self.has_pending.load(Relaxed) {
            return Pending::default();
        }
        let mut mailbox = self.mailbox.lock();
        self.has_pending.store(false, Relaxed);
        Pending {
            commands: mailbox.commands.take().map(|commands| commands.in_order()).unwrap_or_default(),
            has_injections: mailbox.injections.is_waiting(),
        }
    }

    /// As [`Handle::take_pending`], for connections that take no injections.
    pub(crate) fn take_commands(&self) -> [Option<Command>; 3] {
        self.take_pending().commands
    }

    /// From now on injections are taken, as long as at most `bytes` of them wait. Before this, none are.
    pub(crate) fn accept_injections(&self, bytes: usize) {
        self.mailbox.lock().injections = Injections::open(bytes);
    }

    /// From now on injections are refused as `why`. Answers how many waited, which are dropped.
    pub(crate) fn refuse_injections(&self, why: Injection) -> usize {
        self.mailbox.lock().injections.close(why)
    }

    /// The oldest injection that waits.
    pub(crate) fn next_injection(&self) -> Option<Bytes> {
        self.mailbox.lock().injections.pop()
    }

    /// Counts what the client sent on its way to the server.
    pub(crate) fn on_in(&self, messages: u32, bytes: usize) {
        add(&self.messages_in, u64::from(messages));
        add(&self.bytes_in, bytes as u64);
    }

    /// Counts what was sent to the client.
    pub(crate) fn on_out(&self, messages: u32, bytes: usize) {
        add(&self.messages_out, u64::from(messages));
        add(&self.bytes_out, bytes as u64);
    }

    /// Counts bytes that were discarded.
    pub(crate) fn on_discarded(&self, bytes: usize) {
        add(&self.discarded, bytes as u64);
    }

    /// Messages that were sent to the client.
    pub(crate) fn sent(&self) -> u64 {
        self.messages_out.load(Relaxed)
    }

    /// Counts messages that the client's WebSocket stack has answered a later ping for.
    pub(crate) fn on_acknowledged(&self, messages: u64) {
        add(&self.acknowledged, messages);
    }

    /// A ping was sent after the first `messages`.
    pub(crate) fn on_asked(&self, messages: u64) {
        if let Some(reader) = &self.reader {
            reader.asked.store(messages, Relaxed);
        }
    }

    /// Sets how many messages of its log the client was not sent yet.
    pub(crate) fn set_lag(&self, messages: u64) {
        if let Some(reader) = &self.reader {
            reader.lag.store(messages, Relaxed);
        }
    }

    /// How far the client has got; `None` for connections of no channel.
    pub(crate) fn delivery_stats(&self) -> Option<DeliveryStats> {
        self.reader.as_ref().map(|reader| DeliveryStats {
            sent: self.messages_out.load(Relaxed),
            asked: reader.asked.load(Relaxed),
            acknowledged: self.acknowledged.load(Relaxed),
            lag: reader.lag.load(Relaxed),
            buffered: self.buffered.load(Relaxed),
        })
    }

    /// Sets how many bytes wait for the sockets.
    pub(crate) fn set_buffered(&self, bytes: usize) {
        self.buffered.store(bytes as u64, Relaxed);
    }

    pub(super) fn buffered(&self) -> u64 {
        self.buffered.load(Relaxed)
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Relaxed)
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            messages_in: self.messages_in.load(Relaxed),
            messages_out: self.messages_out.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            discarded: self.discarded.load(Relaxed),
        }
    }
}

impl From<Option<SocketAddr>> for ClientAddress {
    fn from(address: Option<SocketAddr>) -> Self {
        match address {
            None => Self::Unix,
            Some(SocketAddr::V4(address)) => Self::V4(address),
            Some(SocketAddr::V6(address)) => Self::V6(Box::new(address)),
        }
    }
}

/// There is one writer, so that a plain store loses nothing.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) messages_in: u64,
    pub(super) messages_out: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) discarded: u64,
}

impl Totals {
    pub(super) fn add(&mut self, other: Self) {
        self.messages_in += other.messages_in;
        self.messages_out += other.messages_out;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.discarded += other.discarded;
    }
}
