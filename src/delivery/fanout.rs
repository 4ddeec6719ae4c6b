//! The clients of one feed, spread over a few tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::channel_guard::ChannelGuard;
use super::closing::{Dismissal, Farewell};
use super::door::Door;
use super::shard::Shard;
use super::{Arrival, FromClients, Settings};
use crate::frame::CloseCode;
use crate::log::{Cursor, Log, Reader};
use crate::telemetry::panics::caught;
use crate::telemetry::{BreakerStage, By, Metrics, Reason, TaskKind};

/// A further task takes its part only when those that are there have so many clients each: to wake it costs as much as
/// a delivery.
const WORTH_A_SHARD: usize = 64;

/// What the tasks of one feed share.
#[derive(Debug)]
pub(super) struct Crew {
    pub(super) settings: Arc<Settings>,
    pub(super) from_clients: FromClients,
    clients: AtomicUsize,
    tripped: AtomicUsize,
    /// Whether the channel's breaker is not closed: it is judged with each pass then.
    is_unwell: AtomicBool,
    guard: Mutex<(ChannelGuard, BreakerStage)>,
}

impl Crew {
    pub(super) fn on_client(&self, is_new: bool) {
        count(&self.clients, is_new);
    }

    /// Clients there are, and those on their way.
    #[cfg(test)]
    pub(super) fn clients(&self) -> usize {
        self.clients.load(Relaxed)
    }

    /// A client was tripped, or is not any more.
    pub(super) fn on_tripped(&self, is_tripped: bool, now: Instant) {
        count(&self.tripped, is_tripped);
        self.judge(now);
    }

    /// Whether only the newest message is to go out.
    pub(super) fn is_shedding(&self, now: Instant) -> bool {
        // Half-open, everything goes out, once: that is the probe.
        self.is_unwell.load(Relaxed) && self.judge(now) == BreakerStage::Open
    }

    fn judge(&self, now: Instant) -> BreakerStage {
        let mut guard = self.guard.lock();
        let (guard, told) = &mut *guard;
        let stage = guard.judge(self.tripped.load(Relaxed), self.clients.load(Relaxed), fastrand::f64(), now);
        if stage != *told {
            self.settings.channels.on_transition(Some(*told), Some(stage));
            *told = stage;
            self.is_unwell.store(stage != BreakerStage::Closed, Relaxed);
        }
        stage
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let (_, told) = *self.guard.lock();
        self.settings.channels.on_transition(Some(told), None);
    }
}

fn count(counter: &AtomicUsize, is_more: bool) {
    if is_more {
        counter.fetch_add(1, Relaxed);
    } else {
        counter.fetch_sub(1, Relaxed);
    }
}

/// All clients of one feed.
#[derive(Debug)]
pub(crate) struct Fanout {
    log: Arc<Log>,
    crew: Arc<Crew>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// While the first client is awaited: the log keeps what that is to get, which may be a greeting longer than
    /// the log.
    hold: Option<Reader>,
    doors: Vec<Arc<Door>>,
    closed: Option<Arc<Farewell>>,
}

impl Fanout {
    /// No client yet. Needs a runtime from the first client on.
    pub(crate) fn new(log: Arc<Log>, from_clients: FromClients, settings: Arc<Settings>) -> Arc<Self> {
        let guard = ChannelGuard::new(settings.policy.delivery.channel_breaker, Instant::now());
        settings.channels.on_transition(None, Some(BreakerStage::Closed));
        let crew = Crew {
            settings,
            from_clients,
            clients: AtomicUsize::new(0),
            tripped: AtomicUsize::new(0),
            is_unwell: AtomicBool::new(false),
            guard: Mutex::new((guard, BreakerStage::Closed)),
        };
        let inner = Inner { hold: None, doors: Vec::new(), closed: None };
        Arc::new(Self { log, crew: Arc::new(crew), inner: Mutex::new(inner) })
    }

    /// Somebody is promised a place, and may be the first client: what comes from here on is kept until then.
    pub(crate) fn expect(&self) {
        let mut inner = self.inner.lock();
        if inner.hold.is_some() || !inner.doors.is_empty() {
            return;
        }
        let hold = self.log.reader();
        if self.crew.settings.policy.delivery.throttle.is_none() {
            hold.passed(self.log.head() + 1);
        }
        inner.hold = Some(hold);
    }

    /// Nobody is promised a place any more: the server does not wait for one who does not come.
    pub(crate) fn expect_nobody(&self) {
        self.inner.lock().hold = None;
    }

    /// What its tasks share.
    #[cfg(test)]
    pub(super) fn crew(&self) -> &Arc<Crew> {
        &self.crew
    }

    /// Takes a client in, which gets what the log has from `cursor` on: what came since it was promised a place
    /// among it ([`Log::join`]).
    pub(crate) fn join(&self, arrival: Arrival, cursor: Cursor) {
        self.crew.on_client(true);
        let mut inner = self.inner.lock();
        let (mut arrival, mut cursor) = (arrival, cursor);
        loop {
            let least = inner.doors.iter().min_by_key(|door| door.clients());
            let has_room = least.is_some_and(|door| door.clients() < WORTH_A_SHARD);
            let (door, shard) = match least {
                Some(door) if has_room || inner.doors.len() >= self.crew.settings.shards.max(1) => {
                    (Arc::clone(door), None)
                }
                _ => {
                    let door = Door::new(inner.closed.clone());
                    let (crew, reader) = (Arc::clone(&self.crew), self.log.reader());
                    let shard = Shard::new(Arc::clone(&door), crew, reader, cursor.all_from);
                    inner.doors.push(Arc::clone(&door));
                    // Not before the shard holds what its first client is to get.
                    inner.hold = None;
                    (door, Some(shard))
                }
            };
            let joined = door.join(arrival, cursor);
            if let Some(shard) = shard {
                tokio::spawn(unconstrained(serve(shard, Arc::clone(&self.crew.settings.process))));
            }
            match joined {
                Ok(()) => return,
                // Its shard has panicked: another one takes its place.
                Err(back) => (arrival, cursor) = *back,
            }
            inner.doors.retain(|known| !Arc::ptr_eq(known, &door));
        }
    }

    /// Closes the clients that are there now, one by one over so long: whoever comes later stays.
    pub(crate) fn dismiss(&self, cause: Reason, by: By, code: CloseCode, reason: &str, over: Duration) {
        let farewell = Arc::new(Farewell::of_feed(cause, by, code, reason));
        let dismissal = Arc::new(Dismissal { farewell, from: Instant::now(), over });
        for door in &self.inner.lock().doors {
            door.dismiss(&dismissal);
        }
    }

    /// Closes every client there is, after what it is still to get. Who comes later is closed as well.
    pub(crate) fn close(&self, cause: Reason, by: By, code: CloseCode, reason: &str) {
        let farewell = Arc::new(Farewell::of_feed(cause, by, code, reason));
        let mut inner = self.inner.lock();
        for door in &inner.doors {
            door.close(&farewell);
        }
        inner.closed = Some(farewell);
    }
}

/// Serves until nobody can come any more, or until a panic.
async fn serve(mut shard: Shard, process: Arc<Metrics>) {
    if caught(TaskKind::Shard, &process, &mut shard).await.is_err() {
        shard.give_up();
    }
}

impl Drop for Fanout {
    fn drop(&mut self) {
        for door in &self.inner.lock().doors {
            door.shut();
        }
    }
}
