//! The open connections: one small handle each, which is the only way to reach a running connection from outside its
//! task (drain, replacement, listing).
//!
//! # Invariants
//! 1. A connection is in the registry exactly as long as its [`ConnectionGuard`] exists, whatever ends it.
//! 2. It counts as a client until its client is gone; its server may take longer to end.
//! 3. Totals never decrease: a connection that ends adds its counts to its shard.
//!
//! # Not here
//! What a connection has counted, and its mailbox ([`super::handle`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus::IntGauge;
use tracing::info;

use super::handle::{ConnectionInfo, EndReport, Handle, Totals, Via};
use crate::config::LogConnections;
use crate::telemetry::logging::Dropped;
use crate::telemetry::{Injection, Label, Metrics, Reason, client_address};

/// Locks that the connections are spread over: opening, ending and scraping rarely meet.
const SHARDS: usize = 16;

/// Of the lines about connections: operators choose by it (`log.level`), so it does not follow the name of the module.
const TARGET: &str = "outrigger::telemetry::registry";

/// How many handles get a message before the task yields: a few hundred microseconds' work.
const INJECTED_AT_ONCE: usize = 256;

#[derive(Debug, Default)]
struct Shard {
    live: HashMap<u64, Arc<Handle>>,
    ended: Totals,
}

/// What lines say of what a client has; nothing of a WebSocket, which nearly all have.
fn transport_told(handle: &Handle) -> Option<&'static str> {
    (handle.via != Via::WebSocket).then(|| handle.via.as_str())
}

/// Where a client counts while it is connected.
fn clients_of(handle: &Handle) -> &IntGauge {
    let route = &handle.route;
    match handle.via {
        Via::WebSocket => &route.clients,
        Via::Events => &route.event_streams,
        Via::Polls => &route.polls,
    }
}

/// Every open connection.
#[derive(Debug)]
pub(crate) struct Registry {
    shards: [Mutex<Shard>; SHARDS],
    next_id: AtomicU64,
    /// How many have a client that is connected.
    clients: AtomicUsize,
    metrics: Arc<Metrics>,
    log: LogConnections,
    dropped_lines: OnceLock<Dropped>,
    /// One scrape at a time brings the totals up to date.
    scrape: Mutex<()>,
}

impl Registry {
    /// Empty.
    pub(crate) fn new(metrics: Arc<Metrics>, log: LogConnections) -> Arc<Self> {
        Arc::new(Self {
            shards: Default::default(),
            next_id: AtomicU64::new(1),
            clients: AtomicUsize::new(0),
            metrics,
            log,
            dropped_lines: OnceLock::new(),
            scrape: Mutex::new(()),
        })
    }

    /// Enters a WebSocket that was just opened.
    #[cfg(test)]
    pub(crate) fn enter(self: &Arc<Self>, info: ConnectionInfo) -> ConnectionGuard {
        self.enter_via(info, Via::WebSocket)
    }

    /// A number as connections have: the higher, the younger.
    pub(crate) fn next_number(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed)
    }

    /// Enters a connection that was just opened.
    pub(crate) fn enter_via(self: &Arc<Self>, info: ConnectionInfo, via: Via) -> ConnectionGuard {
        let handle = Arc::new(Handle::new(self.next_number(), info, via));
        self.clients.fetch_add(1, Relaxed);
        clients_of(&handle).inc();
        handle.route.connections.inc();
        if self.log == LogConnections::All {
            info!(
                target: TARGET,
                connection = handle.id,
                request_id = &*handle.request_id,
                route = &*handle.route.name,
                transport = transport_told(&handle),
                client = handle.client().map(client_address),
                user = handle.user.as_deref(),
                "connected"
            );
        }
        self.shard(handle.id).lock().live.insert(handle.id, Arc::clone(&handle));
        ConnectionGuard { handle, registry: Arc::clone(self), stage: Stage::Open }
    }

    /// Where to read how many log lines were lost.
    pub(crate) fn count_dropped_lines(&self, dropped: Dropped) {
        // Logging is set up once; a second counter would be the same.
        let _ = self.dropped_lines.set(dropped);
    }

    /// Clients that are there now.
    pub(crate) fn clients(&self) -> usize {
        self.clients.load(Relaxed)
    }

    /// Connections that have not ended on both sides.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().live.len()).sum()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Handles of all that live now.
    pub(crate) fn all(&self) -> Vec<Arc<Handle>> {
        self.shards.iter().flat_map(|shard| shard.lock().live.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Puts `frame` into the mailboxes of the clients of `route`, or of those of `user` among them. Answers how many
    /// will get it.
    pub(crate) async fn inject(&self, route: &str, user: Option<&str>, frame: &Bytes) -> u64 {
        let is_recipient = |handle: &Handle| {
            *handle.route.name == *route && user.is_none_or(|user| handle.user.as_deref() == Some(user))
        };
        let mut recipients = 0;
        for handles in self.all().chunks(INJECTED_AT_ONCE) {
            for handle in handles.iter().filter(|handle| is_recipient(handle)) {
                match handle.inject(frame) {
                    // The connection counts it, once it was sent or dropped.
                    Ok(()) => recipients += 1,
                    Err(why) => self.metrics.connections.injections.inc(why),
                }
            }
            // The woken tasks may run.
            tokio::task::yield_now().await;
        }
        recipients
    }

    /// The metrics for a scrape, with up-to-date totals.
    pub(crate) fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        let _scrape = self.scrape.lock();
        let (mut totals, mut buffered) = (Totals::default(), 0);
        for shard in &self.shards {
            let shard = shard.lock();
            totals.add(shard.ended);
            for handle in shard.live.values() {
                totals.add(handle.totals());
                buffered += handle.buffered();
            }
        }
        let m = &self.metrics;
        let raise_to =
            |counter: &prometheus::IntCounter, to: u64| counter.inc_by(to.saturating_sub(counter.get()));
        raise_to(&m.connections.messages_in, totals.messages_in);
        raise_to(&m.connections.messages_out, totals.messages_out);
        raise_to(&m.connections.bytes_in, totals.bytes_in);
        raise_to(&m.connections.bytes_out, totals.bytes_out);
        raise_to(&m.connections.discarded, totals.discarded);
        raise_to(&m.process.log_lines_dropped, self.dropped_lines.get().map_or(0, Dropped::count));
        m.connections.buffered.set(i64::try_from(buffered).unwrap_or(i64::MAX));
        m.gather()
    }

    fn shard(&self, id: u64) -> &Mutex<Shard> {
        &self.shards[id as usize % SHARDS]
    }

    /// Refuses further injections, and counts those that are dropped.
    fn end_injections(&self, handle: &Handle) {
        for _ in 0..handle.refuse_injections(Injection::Ended) {
            self.metrics.connections.injections.inc(Injection::Ended);
        }
    }

    /// The client of a connection is gone.
    fn on_client_gone(&self, handle: &Handle) {
        self.clients.fetch_sub(1, Relaxed);
        clients_of(handle).dec();
    }

    /// It is known why a connection ended; answers how long its client was there.
    fn on_ended(&self, handle: &Handle, ended: EndReport) -> Duration {
        let route = &handle.route;
        let duration = handle.since.elapsed();
        route.disconnections.inc(ended.reason);
        route.duration.observe(duration.as_secs_f64());
        if let Some((by, code)) = ended.close {
            self.metrics.connections.on_close(by, code);
        }
        duration
    }

    /// Nothing is left of a connection, whose client was there for so long.
    fn leave(&self, handle: &Handle, ended: EndReport, duration_ms: u64) {
        self.end_injections(handle);
        {
            let mut shard = self.shard(handle.id).lock();
            shard.live.remove(&handle.id);
            shard.ended.add(handle.totals());
            // A burst of connections must not leave its table behind.
            if shard.live.capacity() > 64 && shard.live.len() < shard.live.capacity() / 4 {
                shard.live.shrink_to_fit();
            }
        }
        let is_logged = match self.log {
            LogConnections::All => true,
            LogConnections::Errors => !matches!(
                ended.reason,
                Reason::ClientClose
                    | Reason::UpstreamClose
                    | Reason::Lifetime
                    | Reason::Expired
                    | Reason::Replaced
                    | Reason::Drained
            ),
            LogConnections::Off => false,
        };
        if is_logged {
            let totals = handle.totals();
            info!(
                target: TARGET,
                connection = handle.id,
                request_id = &*handle.request_id,
                route = &*handle.route.name,
                transport = transport_told(handle),
                client = handle.client().map(client_address),
                user = handle.user.as_deref(),
                reason = ended.reason.as_str(),
                code = ended.close.map(|(_, code)| code.0),
                by = ended.close.map(|(by, _)| by.as_str()),
                fault = ended.fault.map(tracing::field::display),
                duration_ms,
                messages_in = totals.messages_in,
                messages_out = totals.messages_out,
                acknowledged = Some(handle.acknowledged()).filter(|messages| *messages > 0),
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
pub(crate) struct ConnectionGuard {
    handle: Arc<Handle>,
    registry: Arc<Registry>,
    stage: Stage,
}

/// Milliseconds, in the room of six bytes: each connection has one.
#[derive(Debug, Clone, Copy)]
struct DurationMillis([u8; 6]);

impl DurationMillis {
    fn of(duration: Duration) -> Self {
        // Enough for nine thousand years.
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min((1 << 48) - 1);
        let [_, _, bytes @ ..] = millis.to_be_bytes();
        Self(bytes)
    }

    fn millis(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

/// How far a connection has come to its end.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Its client is there.
    Open,
    /// Its client is gone; how it ends is not known yet.
    ClientGone,
    /// It is known. The client was there for so long.
    Ended(DurationMillis),
    /// Nothing is left of it.
    Removed,
}

impl ConnectionGuard {
    /// How others reach this connection.
    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// Process-wide metrics.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.registry.metrics
    }

    /// Refuses injections from now on, as the connection is about to end.
    pub(crate) fn end_injections(&self) {
        self.registry.end_injections(&self.handle);
    }

    /// Its client is gone, though what it has said may not have been read: it does not count among the clients any
    /// more.
    pub(crate) fn client_gone(&mut self) {
        if matches!(self.stage, Stage::Open) {
            self.registry.on_client_gone(&self.handle);
            self.stage = Stage::ClientGone;
        }
    }

    /// Its client is gone, and this is why: counted once, whatever its server still does. The line in the log follows
    /// when that has ended too, since only then it is known what all of it came to.
    pub(crate) fn ended(&mut self, ended: EndReport) {
        self.client_gone();
        if matches!(self.stage, Stage::ClientGone) {
            self.stage = Stage::Ended(DurationMillis::of(self.registry.on_ended(&self.handle, ended)));
        }
    }

    /// Leaves the registry, and tells why.
    pub(crate) fn leave(&mut self, ended: EndReport) {
        self.ended(ended);
        if let Stage::Ended(duration) = self.stage {
            self.stage = Stage::Removed;
            self.registry.leave(&self.handle, ended, duration.millis());
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let reason = if std::thread::panicking() { Reason::InternalError } else { Reason::Aborted };
        self.leave(EndReport { reason, close: None, fault: None });
    }
}

#[cfg(test)]
mod tests;
