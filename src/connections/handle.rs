//! One connection seen from outside: what it has counted, and its mailbox.
//!
//! # Invariants
//! 1. The counters of a handle have one writer, its connection: plain loads and stores, no locked
//!    instruction on the path of a message. A scrape adds them up.
//! 2. The mailbox is bounded: one command of each kind, and the injections of [`super::injections`].
//!
//! # Not here
//! Who has a handle ([`super::registry`]); what a command does, and where an injection finds its place
//! ([`crate::tunnel`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::Waker;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::injections::Injections;
use crate::frame::{CloseCode, ProtocolError};
use crate::telemetry::{By, Injection, Reason, RouteMetrics};

/// Who a connection is, for the log and for lists.
#[derive(Debug)]
pub(crate) struct ConnectionInfo {
    /// Where the client is; its port is 0 where a proxy before us told the address alone. None for Unix
    /// sockets.
    pub client: Option<SocketAddr>,
    /// Who authentication says it is.
    pub user: Option<Arc<str>>,
    /// Mode `broadcast`: the name of its channel.
    pub channel: Option<Arc<str>>,
    /// `X-Request-Id` of its handshake.
    pub request_id: Box<str>,
    /// Its route's metrics.
    pub route: Arc<RouteMetrics>,
}

/// What can be asked of a running connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Close the client with `code` at `at`, go on as usual until then; an upstream that is lost
    /// meanwhile does not hurry it.
    CloseAt {
        /// When.
        at: Instant,
        /// What the client is told.
        code: CloseCode,
    },
    /// Close the client now: a newer connection of its user takes its place.
    Replace,
    /// End now, whatever is unsaid.
    Cut,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndReport {
    /// The first cause.
    pub reason: Reason,
    /// The first Close: who said it and with which code.
    pub close: Option<(By, CloseCode)>,
    /// What a side did wrong, if that was the cause.
    pub fault: Option<ProtocolError>,
}

/// One connection, seen from outside.
#[derive(Debug)]
pub(crate) struct Handle {
    /// Unique in this process.
    pub id: u64,
    /// Who it is.
    pub info: ConnectionInfo,
    /// When it was opened.
    pub since: Instant,
    messages_in: AtomicU64,
    messages_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    discarded: AtomicU64,
    acknowledged: AtomicU64,
    asked: AtomicU64,
    /// [`NO_LOG`] for those that read no log.
    lag: AtomicU64,
    buffered: AtomicU64,
    has_pending: AtomicBool,
    /// Apart: nobody looks into it without `has_pending`, and the rest is smaller by a step of the allocator.
    mailbox: Box<Mutex<Mailbox>>,
}

/// No log is that long.
const NO_LOG: u64 = u64::MAX;

/// How far a client of a feed has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeliveryStats {
    /// Messages that it was sent.
    pub sent: u64,
    /// Those of them that a ping has asked about.
    pub asked: u64,
    /// Those of them that a pong has told of: its WebSocket stack took them.
    pub acknowledged: u64,
    /// Messages of the log that it was not sent yet.
    pub lag: u64,
    /// Bytes that wait for its socket.
    pub buffered: u64,
}

/// What is left for a connection, and how its task is woken for it.
#[derive(Debug, Default)]
struct Mailbox {
    /// Whether a newer connection takes its place, a Close with a date that was not taken yet, and whether it is
    /// to be cut: none hides another.
    is_replaced: bool,
    /// Most connections never get one.
    close_at: Option<Box<Command>>,
    is_cut: bool,
    injections: Injections,
    /// Stays when it was used: the task registers it once, not with every poll.
    waker: Option<Waker>,
}

/// What a look into the mailbox found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    /// They are out of the mailbox with this, and to be followed in this order.
    pub commands: [Option<Command>; 3],
    /// These stay until [`Handle::next_injection`] takes them; they are told of once for each that comes.
    pub has_injections: bool,
}

impl Handle {
    pub(super) fn new(id: u64, info: ConnectionInfo) -> Self {
        Self {
            id,
            info,
            since: Instant::now(),
            messages_in: AtomicU64::new(0),
            messages_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            discarded: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            lag: AtomicU64::new(NO_LOG),
            buffered: AtomicU64::new(0),
            has_pending: AtomicBool::new(false),
            mailbox: Box::default(),
        }
    }

    /// Leaves a command, in place of one of its kind that was not taken yet, and wakes the connection. None
    /// hides one of another kind.
    pub(crate) fn send(&self, command: Command) {
        let mut mailbox = self.mailbox.lock();
        match command {
            Command::CloseAt { .. } => mailbox.close_at = Some(Box::new(command)),
            Command::Replace => mailbox.is_replaced = true,
            Command::Cut => mailbox.is_cut = true,
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

    /// Tells the task that there is something.
    fn wake(&self, mailbox: &MutexGuard<'_, Mailbox>) {
        // Under the lock: whoever registers a waker after this sees it.
        self.has_pending.store(true, Relaxed);
        if let Some(waker) = &mailbox.waker {
            waker.wake_by_ref();
        }
    }

    /// Has the connection's task woken by this, from now on; it then calls [`Handle::take_pending`].
    pub(crate) fn wake_with(&self, waker: &Waker) {
        self.mailbox.lock().waker = Some(waker.clone());
    }

    /// What was left since the last call. Costs one load when there is nothing.
    pub(crate) fn take_pending(&self) -> Pending {
        if !self.has_pending.load(Relaxed) {
            return Pending::default();
        }
        let mut mailbox = self.mailbox.lock();
        self.has_pending.store(false, Relaxed);
        // Before the date: whoever is replaced must not come back as those do who are told of a restart.
        let replace = std::mem::take(&mut mailbox.is_replaced).then_some(Command::Replace);
        let cut = std::mem::take(&mut mailbox.is_cut).then_some(Command::Cut);
        Pending {
            commands: [replace, mailbox.close_at.take().map(|command| *command), cut],
            has_injections: mailbox.injections.is_waiting(),
        }
    }

    /// As [`Handle::take_pending`], for those who take no injections.
    pub(crate) fn take_commands(&self) -> [Option<Command>; 3] {
        self.take_pending().commands
    }

    /// From now on injections are taken, as long as at most `bytes` of them wait. Before this, none are.
    pub(crate) fn accept_injections(&self, bytes: usize) {
        self.mailbox.lock().injections = Injections::open(bytes);
    }

    /// From now on injections are refused as `why`. Answers how many waited: nobody will get them.
    pub(crate) fn refuse_injections(&self, why: Injection) -> usize {
        self.mailbox.lock().injections.close(why)
    }

    /// The oldest injection that waits.
    pub(crate) fn next_injection(&self) -> Option<Bytes> {
        self.mailbox.lock().injections.pop()
    }

    /// Counts what went on from the client.
    pub(crate) fn on_in(&self, messages: u32, bytes: usize) {
        add(&self.messages_in, u64::from(messages));
        add(&self.bytes_in, bytes as u64);
    }

    /// Counts what went on to the client.
    pub(crate) fn on_out(&self, messages: u32, bytes: usize) {
        add(&self.messages_out, u64::from(messages));
        add(&self.bytes_out, bytes as u64);
    }

    /// Counts what nobody could take.
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

    /// Tells that a ping asks about the first `messages` that the client was sent.
    pub(crate) fn on_asked(&self, messages: u64) {
        self.asked.store(messages, Relaxed);
    }

    /// Tells how many messages of its log the client was not sent yet.
    pub(crate) fn set_lag(&self, messages: u64) {
        self.lag.store(messages, Relaxed);
    }

    /// How far it has got; none for those that read no log.
    pub(crate) fn delivery_stats(&self) -> Option<DeliveryStats> {
        let lag = self.lag.load(Relaxed);
        (lag != NO_LOG).then(|| DeliveryStats {
            sent: self.messages_out.load(Relaxed),
            asked: self.asked.load(Relaxed),
            acknowledged: self.acknowledged.load(Relaxed),
            lag,
            buffered: self.buffered.load(Relaxed),
        })
    }

    /// Tells how much is held for sockets that do not take it.
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
