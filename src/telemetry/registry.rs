//! The connections that live now: one small handle each, which is the only way to reach a running
//! connection from outside its task (drain, kick, listing).
//!
//! # Invariants
//! 1. A connection is in the registry exactly as long as its [`Live`] exists, whatever ends it.
//! 2. The counters of a handle have one writer, its connection: plain loads and stores, no locked
//!    instruction on the path of a message. A scrape adds them up.
//! 3. What the totals say never goes back: a connection that ends leaves its counts with its shard.
//! 4. The mailbox is bounded: one command, and the injections of [`super::injections`].
//!
//! # Not here
//! What a command does, and where an injection finds its place ([`crate::tunnel`]).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::info;

use super::injections::Injections;
use super::labels::{By, Injection, Label, Reason};
use super::logging::Dropped;
use super::metrics::{Metrics, RouteMetrics};
use crate::config::LogConnections;
use crate::frame::{CloseCode, Fault};

/// Locks that the connections are spread over: opening, ending and scraping rarely meet.
const SHARDS: usize = 16;

/// Who a connection is, for the log and for lists.
#[derive(Debug)]
pub struct About {
    /// Where the client is; its port is 0 where a proxy before us told the address alone. None for Unix
    /// sockets.
    pub client: Option<SocketAddr>,
    /// Who authentication says it is.
    pub user: Option<Arc<str>>,
    /// `X-Request-Id` of its handshake.
    pub request_id: Box<str>,
    /// Its route's metrics.
    pub route: Arc<RouteMetrics>,
}

/// What can be asked of a running connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Close the client with `code` at `at`, go on as usual until then; an upstream that is lost
    /// meanwhile does not hurry it.
    CloseAt {
        /// When.
        at: Instant,
        /// What the client is told.
        code: CloseCode,
    },
    /// End now, whatever is unsaid.
    Cut,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The first cause.
    pub reason: Reason,
    /// The first Close: who said it and with which code.
    pub close: Option<(By, CloseCode)>,
    /// What a side did wrong, if that was the cause.
    pub fault: Option<Fault>,
}

/// One connection, seen from outside.
#[derive(Debug)]
pub struct Handle {
    /// Unique in this process.
    pub id: u64,
    /// Who it is.
    pub about: About,
    /// When it was opened.
    pub since: Instant,
    messages_in: AtomicU64,
    messages_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    discarded: AtomicU64,
    acknowledged: AtomicU64,
    asked: AtomicU64,
    /// [`NO_FEED`] for those that read no log.
    lag: AtomicU64,
    buffered: AtomicU64,
    has_mail: AtomicBool,
    mailbox: Mutex<Mailbox>,
}

/// No log is that long.
const NO_FEED: u64 = u64::MAX;

/// How far a client of a feed has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipts {
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
    command: Option<Command>,
    injections: Injections,
    /// Stays when it was used: the task registers it once, not with every poll.
    waker: Option<Waker>,
}

/// What a look into the mailbox found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mail {
    /// It is out of the mailbox with this.
    pub command: Option<Command>,
    /// These stay until [`Handle::next_injection`] takes them; they are told of once for each that comes.
    pub has_injections: bool,
}

impl Handle {
    /// Leaves a command in the slot, in place of one that was not taken yet, and wakes the connection.
    pub fn send(&self, command: Command) {
        let mut mailbox = lock(&self.mailbox);
        mailbox.command = Some(command);
        self.ring(&mailbox);
    }

    /// Leaves a whole frame for the client, to be put between two messages of its server.
    ///
    /// # Errors
    /// It was not taken, and why.
    pub fn inject(&self, frame: &Bytes) -> Result<(), Injection> {
        let mut mailbox = lock(&self.mailbox);
        mailbox.injections.push(frame)?;
        self.ring(&mailbox);
        Ok(())
    }

    /// Tells the task that there is something.
    fn ring(&self, mailbox: &MutexGuard<'_, Mailbox>) {
        // Under the lock: whoever registers a waker after this sees it.
        self.has_mail.store(true, Relaxed);
        if let Some(waker) = &mailbox.waker {
            waker.wake_by_ref();
        }
    }

    /// Has the connection's task woken by this, from now on; it then calls [`Handle::take_mail`].
    pub fn wake_with(&self, waker: &Waker) {
        lock(&self.mailbox).waker = Some(waker.clone());
    }

    /// What was left since the last call. Costs one load when there is nothing.
    pub fn take_mail(&self) -> Mail {
        if !self.has_mail.load(Relaxed) {
            return Mail::default();
        }
        let mut mailbox = lock(&self.mailbox);
        self.has_mail.store(false, Relaxed);
        Mail { command: mailbox.command.take(), has_injections: mailbox.injections.is_waiting() }
    }

    /// As [`Handle::take_mail`], for those who take no injections.
    pub fn take_command(&self) -> Option<Command> {
        self.take_mail().command
    }

    /// From now on injections are taken, as long as at most `bytes` of them wait. Before this, none are.
    pub fn open_to_injections(&self, bytes: usize) {
        lock(&self.mailbox).injections = Injections::open(bytes);
    }

    /// From now on injections are refused as `why`. Answers how many waited: nobody will get them.
    pub fn close_to_injections(&self, why: Injection) -> usize {
        lock(&self.mailbox).injections.close(why)
    }

    /// The oldest injection that waits.
    pub fn next_injection(&self) -> Option<Bytes> {
        lock(&self.mailbox).injections.pop()
    }

    /// Counts what went on from the client.
    pub fn on_in(&self, messages: u32, bytes: usize) {
        add(&self.messages_in, u64::from(messages));
        add(&self.bytes_in, bytes as u64);
    }

    /// Counts what went on to the client.
    pub fn on_out(&self, messages: u32, bytes: usize) {
        add(&self.messages_out, u64::from(messages));
        add(&self.bytes_out, bytes as u64);
    }

    /// Counts what nobody could take.
    pub fn on_discarded(&self, bytes: usize) {
        add(&self.discarded, bytes as u64);
    }

    /// Counts messages that the client's WebSocket stack has answered a later ping for.
    pub fn on_acknowledged(&self, messages: u64) {
        add(&self.acknowledged, messages);
    }

    /// Tells that a ping asks about the first `messages` that the client was sent.
    pub fn on_asked(&self, messages: u64) {
        self.asked.store(messages, Relaxed);
    }

    /// Tells how many messages of its log the client was not sent yet.
    pub fn set_lag(&self, messages: u64) {
        self.lag.store(messages, Relaxed);
    }

    /// How far it has got; none for those that read no log.
    pub fn receipts(&self) -> Option<Receipts> {
        let lag = self.lag.load(Relaxed);
        (lag != NO_FEED).then(|| Receipts {
            sent: self.messages_out.load(Relaxed),
            asked: self.asked.load(Relaxed),
            acknowledged: self.acknowledged.load(Relaxed),
            lag,
            buffered: self.buffered.load(Relaxed),
        })
    }

    /// Tells how much is held for sockets that do not take it.
    pub fn set_buffered(&self, bytes: usize) {
        self.buffered.store(bytes as u64, Relaxed);
    }

    fn totals(&self) -> Totals {
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
struct Totals {
    messages_in: u64,
    messages_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    discarded: u64,
}

impl Totals {
    fn add(&mut self, other: Self) {
        self.messages_in += other.messages_in;
        self.messages_out += other.messages_out;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.discarded += other.discarded;
    }
}

#[derive(Debug, Default)]
struct Shard {
    live: HashMap<u64, Arc<Handle>>,
    ended: Totals,
}

/// Every connection that lives.
#[derive(Debug)]
pub struct Registry {
    shards: [Mutex<Shard>; SHARDS],
    next_id: AtomicU64,
    metrics: Arc<Metrics>,
    log: LogConnections,
    dropped_lines: OnceLock<Dropped>,
    /// One scrape at a time brings the totals up to date.
    scrape: Mutex<()>,
}

impl Registry {
    /// Empty.
    pub fn new(metrics: Arc<Metrics>, log: LogConnections) -> Arc<Self> {
        Arc::new(Self {
            shards: Default::default(),
            next_id: AtomicU64::new(1),
            metrics,
            log,
            dropped_lines: OnceLock::new(),
            scrape: Mutex::new(()),
        })
    }

    /// Enters a connection that was just opened.
    pub fn enter(self: &Arc<Self>, about: About) -> Live {
        let handle = Arc::new(Handle {
            id: self.next_id.fetch_add(1, Relaxed),
            about,
            since: Instant::now(),
            messages_in: AtomicU64::new(0),
            messages_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            discarded: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            lag: AtomicU64::new(NO_FEED),
            buffered: AtomicU64::new(0),
            has_mail: AtomicBool::new(false),
            mailbox: Mutex::default(),
        });
        handle.about.route.clients.inc();
        handle.about.route.connections.inc();
        if self.log == LogConnections::All {
            info!(
                connection = handle.id,
                request_id = &*handle.about.request_id,
                route = &*handle.about.route.name,
                client = handle.about.client.map(shown),
                user = handle.about.user.as_deref(),
                "connected"
            );
        }
        lock(self.shard(handle.id)).live.insert(handle.id, Arc::clone(&handle));
        Live { handle, registry: Arc::clone(self), is_entered: true }
    }

    /// Where to read how many log lines were lost.
    pub fn count_dropped_lines(&self, dropped: Dropped) {
        // Logging is set up once; a second counter would be the same.
        let _ = self.dropped_lines.set(dropped);
    }

    /// Connections open now.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).live.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Handles of all that live now.
    pub fn all(&self) -> Vec<Arc<Handle>> {
        self.shards.iter().flat_map(|shard| lock(shard).live.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// What a scrape shows: the totals are brought up to date first.
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        let _one_at_a_time = lock(&self.scrape);
        let (mut totals, mut buffered) = (Totals::default(), 0);
        for shard in &self.shards {
            let shard = lock(shard);
            totals.add(shard.ended);
            for handle in shard.live.values() {
                totals.add(handle.totals());
                buffered += handle.buffered.load(Relaxed);
            }
        }
        let m = &self.metrics;
        let raise =
            |counter: &prometheus::IntCounter, to: u64| counter.inc_by(to.saturating_sub(counter.get()));
        raise(&m.messages_in, totals.messages_in);
        raise(&m.messages_out, totals.messages_out);
        raise(&m.bytes_in, totals.bytes_in);
        raise(&m.bytes_out, totals.bytes_out);
        raise(&m.discarded, totals.discarded);
        raise(&m.log_lines_dropped, self.dropped_lines.get().map_or(0, Dropped::count));
        m.buffered.set(i64::try_from(buffered).unwrap_or(i64::MAX));
        m.gather()
    }

    fn shard(&self, id: u64) -> &Mutex<Shard> {
        &self.shards[id as usize % SHARDS]
    }

    /// Takes no more injections, and counts those that nobody will get.
    fn end_injections(&self, handle: &Handle) {
        for _ in 0..handle.close_to_injections(Injection::Ended) {
            self.metrics.on_injection(Injection::Ended);
        }
    }

    fn leave(&self, handle: &Handle, ended: Ended) {
        self.end_injections(handle);
        {
            let mut shard = lock(self.shard(handle.id));
            shard.live.remove(&handle.id);
            shard.ended.add(handle.totals());
            // A burst of connections must not leave its table behind.
            if shard.live.capacity() > 64 && shard.live.len() < shard.live.capacity() / 4 {
                shard.live.shrink_to_fit();
            }
        }
        let route = &handle.about.route;
        let duration = handle.since.elapsed();
        route.clients.dec();
        route.on_disconnect(ended.reason);
        route.duration.observe(duration.as_secs_f64());
        if let Some((by, code)) = ended.close {
            self.metrics.on_close(by, code);
        }
        let is_told = match self.log {
            LogConnections::All => true,
            LogConnections::Errors => !matches!(
                ended.reason,
                Reason::ClientClose
                    | Reason::UpstreamClose
                    | Reason::Lifetime
                    | Reason::Expired
                    | Reason::Drained
            ),
            LogConnections::Off => false,
        };
        if is_told {
            let totals = handle.totals();
            info!(
                connection = handle.id,
                request_id = &*handle.about.request_id,
                route = &*route.name,
                client = handle.about.client.map(shown),
                user = handle.about.user.as_deref(),
                reason = ended.reason.as_str(),
                code = ended.close.map(|(_, code)| code.0),
                by = ended.close.map(|(by, _)| by.as_str()),
                fault = ended.fault.map(tracing::field::display),
                duration_ms = duration.as_millis() as u64,
                messages_in = totals.messages_in,
                messages_out = totals.messages_out,
                acknowledged = Some(handle.acknowledged.load(Relaxed)).filter(|messages| *messages > 0),
                bytes_in = totals.bytes_in,
                bytes_out = totals.bytes_out,
                discarded_bytes = (totals.discarded > 0).then_some(totals.discarded),
                "disconnected"
            );
        }
    }
}

/// A connection's place in the registry. Given back when it is dropped.
#[derive(Debug)]
pub struct Live {
    handle: Arc<Handle>,
    registry: Arc<Registry>,
    is_entered: bool,
}

impl Live {
    /// How others reach this connection.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Process-wide metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.registry.metrics
    }

    /// Refuses injections from now on, as the connection is about to end.
    pub fn end_injections(&self) {
        self.registry.end_injections(&self.handle);
    }

    /// Leaves the registry, and tells why.
    pub fn leave(&mut self, ended: Ended) {
        if std::mem::take(&mut self.is_entered) {
            self.registry.leave(&self.handle, ended);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.leave(Ended { reason: Reason::Aborted, close: None, fault: None });
    }
}

/// An address whose port nobody told stands without one.
fn shown(address: SocketAddr) -> tracing::field::DisplayValue<Box<dyn std::fmt::Display>> {
    tracing::field::display(if address.port() == 0 { Box::new(address.ip()) } else { Box::new(address) })
}

/// A panic elsewhere while a lock was held cannot leave these maps half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> (Arc<Registry>, Arc<RouteMetrics>) {
        let metrics = Metrics::new("outrigger").unwrap();
        let route = metrics.route("r");
        (Registry::new(metrics, LogConnections::Off), route)
    }

    fn enter(registry: &Arc<Registry>, route: &Arc<RouteMetrics>) -> Live {
        registry.enter(About { client: None, user: None, request_id: "x".into(), route: Arc::clone(route) })
    }

    #[test]
    fn a_connection_leaves_whatever_ends_it_and_its_counts_stay() {
        let (registry, route) = registry();
        let mut orderly = enter(&registry, &route);
        let dropped = enter(&registry, &route);
        orderly.handle().on_in(2, 20);
        dropped.handle().on_in(1, 10);
        dropped.handle().set_buffered(7);
        registry.gather();
        assert_eq!((registry.len(), route.clients.get()), (2, 2));
        assert_eq!((registry.metrics.messages_in.get(), registry.metrics.buffered.get()), (3, 7));
        orderly.leave(Ended { reason: Reason::ClientClose, close: None, fault: None });
        drop(orderly);
        drop(dropped);
        registry.gather();
        assert_eq!((registry.len(), route.clients.get()), (0, 0));
        assert_eq!((registry.metrics.messages_in.get(), registry.metrics.bytes_in.get()), (3, 30));
        assert_eq!((route.connections.get(), route.duration.get_sample_count()), (2, 2), "each ended once");
    }

    #[test]
    fn the_newest_command_is_taken_once() {
        let (registry, route) = registry();
        let live = enter(&registry, &route);
        let all = registry.all();
        all[0].send(Command::CloseAt { at: Instant::now(), code: CloseCode(1012) });
        all[0].send(Command::Cut);
        assert_eq!(live.handle().take_command(), Some(Command::Cut));
        assert_eq!(live.handle().take_command(), None);
    }

    #[test]
    fn every_command_wakes_the_connection_and_not_the_first_only() {
        struct Woken(AtomicU64);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let (registry, route) = registry();
        let live = enter(&registry, &route);
        let woken = Arc::new(Woken(AtomicU64::new(0)));
        live.handle().wake_with(&Waker::from(Arc::clone(&woken)));
        for sent in 1..=3 {
            live.handle().send(Command::Cut);
            assert_eq!(woken.0.load(Relaxed), sent);
            assert_eq!(live.handle().take_command(), Some(Command::Cut));
        }
    }

    #[test]
    fn neither_a_command_nor_an_injection_is_lost_to_the_other() {
        let (registry, route) = registry();
        let live = enter(&registry, &route);
        let handle = live.handle();
        handle.open_to_injections(100);
        for first in [true, false] {
            if first {
                handle.send(Command::Cut);
            }
            handle.inject(&Bytes::from_static(b"frame")).unwrap();
            if !first {
                handle.send(Command::Cut);
            }
            assert_eq!(handle.take_mail(), Mail { command: Some(Command::Cut), has_injections: true });
            assert_eq!(handle.take_mail(), Mail::default(), "told once");
            assert_eq!(handle.next_injection().as_deref(), Some(&b"frame"[..]), "but it stays");
            assert_eq!(handle.next_injection(), None);
        }
        handle.inject(&Bytes::from_static(b"frame")).unwrap();
        assert_eq!(handle.take_command(), None);
        assert!(handle.next_injection().is_some());
    }

    #[test]
    fn an_injection_wakes_the_connection_and_what_waits_at_its_end_is_counted() {
        struct Woken(AtomicU64);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let (registry, route) = registry();
        let live = enter(&registry, &route);
        let handle = Arc::clone(&registry.all()[0]);
        let woken = Arc::new(Woken(AtomicU64::new(0)));
        handle.wake_with(&Waker::from(Arc::clone(&woken)));
        let frame = Bytes::from_static(b"frame");
        assert_eq!(handle.inject(&frame), Err(Injection::Ended), "nobody has said that they are taken");
        assert_eq!(woken.0.load(Relaxed), 0);
        handle.open_to_injections(100);
        for n in 1..=3 {
            handle.inject(&frame).unwrap();
            assert_eq!(woken.0.load(Relaxed), n);
        }
        drop(live);
        assert_eq!(handle.inject(&frame), Err(Injection::Ended));
        let families = registry.gather();
        let family = families.iter().find(|f| f.name() == "outrigger_injections_total").unwrap();
        let ended = family.get_metric().iter().find(|m| m.get_label()[0].value() == "ended").unwrap();
        assert_eq!(ended.get_counter().get_value(), 3.0);
    }
}
