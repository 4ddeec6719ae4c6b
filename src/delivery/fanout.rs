//! The clients of one feed, spread over a few tasks.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::close::{CloseCause, Dismissal};
use super::shard::{Shard, ShardHandle};
use super::shared::FanoutShared;
use super::{Arrival, FromClients, Settings};
use crate::frame::CloseCode;
use crate::log::{Cursor, Log, Reader};
use crate::telemetry::panics::catch_panic;
use crate::telemetry::{By, Metrics, Reason, TaskKind};

/// A further task takes its part only when those that are there have so many clients each: to wake it costs as much as
/// a delivery.
const WORTH_A_SHARD: usize = 64;

/// All clients of one feed.
#[derive(Debug)]
pub(crate) struct Fanout {
    log: Arc<Log>,
    shared: Arc<FanoutShared>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// While the first client is awaited, the log keeps what that client is to get, which may be a greeting longer than
    /// the log.
    kept_for_first: Option<Reader>,
    shards: Vec<Placed>,
    closed: Option<Arc<CloseCause>>,
}

/// A shard, and the worker it lives on.
#[derive(Debug)]
struct Placed {
    shard: Arc<ShardHandle>,
    worker: usize,
}

impl Fanout {
    /// No client yet. Needs a runtime from the first client on.
    pub(crate) fn new(log: Arc<Log>, from_clients: FromClients, settings: Arc<Settings>) -> Arc<Self> {
        let shared = Arc::new(FanoutShared::new(settings, from_clients));
        let inner = Inner { kept_for_first: None, shards: Vec::new(), closed: None };
        Arc::new(Self { log, shared, inner: Mutex::new(inner) })
    }

    /// A client has a reservation and may be the first one: what comes from here on is kept until it joins.
    pub(crate) fn on_reservation(&self) {
        let mut inner = self.inner.lock();
        if inner.kept_for_first.is_some() || !inner.shards.is_empty() {
            return;
        }
        let kept = self.log.reader();
        if self.shared.settings.policy.delivery.throttle.is_none() {
            kept.set_delivered(self.log.head() + 1);
        }
        inner.kept_for_first = Some(kept);
    }

    /// There are no reservations any more: the server does not wait for a client that does not come.
    pub(crate) fn on_no_reservations(&self) {
        self.inner.lock().kept_for_first = None;
    }

    /// What its tasks share.
    #[cfg(test)]
    pub(super) fn shared(&self) -> &Arc<FanoutShared> {
        &self.shared
    }

    /// Takes a client in, which gets what the log has from `cursor` on ([`Log::join`]), and so what came since its
    /// reservation.
    pub(crate) fn join(&self, arrival: Arrival, cursor: Cursor) {
        self.shared.on_client(true);
        let mut inner = self.inner.lock();
        let (mut arrival, mut cursor) = (arrival, cursor);
        loop {
            let least = inner.shards.iter().map(|placed| &placed.shard).min_by_key(|shard| shard.clients());
            let max = self.shared.settings.shards.max(1);
            let has_room = least.is_some_and(|shard| shard.clients() < WORTH_A_SHARD);
            let (handle, task) = match least {
                Some(handle) if has_room || inner.shards.len() >= max => (Arc::clone(handle), None),
                _ => {
                    let handle = ShardHandle::new(inner.closed.clone());
                    let (shared, reader) = (Arc::clone(&self.shared), self.log.reader());
                    let task = Shard::new(Arc::clone(&handle), shared, reader, cursor.all_from);
                    let worker = inner.next_worker(self.shared.settings.workers.here(), max);
                    inner.shards.push(Placed { shard: Arc::clone(&handle), worker });
                    // Not before the shard holds what its first client is to get.
                    inner.kept_for_first = None;
                    (handle, Some((task, self.shared.settings.workers.nth(worker))))
                }
            };
            let joined = handle.join(arrival, cursor);
            if let Some((task, worker)) = task {
                worker.spawn(unconstrained(serve(task, Arc::clone(&self.shared.settings.process))));
            }
            match joined {
                Ok(()) => return,
                // Its shard has panicked: another one takes its place.
                Err(back) => (arrival, cursor) = *back,
            }
            inner.shards.retain(|known| !Arc::ptr_eq(&known.shard, &handle));
        }
    }

    /// Closes the clients that have joined by now, one by one within `over`: clients that come later stay.
    pub(crate) fn dismiss(&self, cause: Reason, by: By, code: CloseCode, reason: &str, over: Duration) {
        let cause = Arc::new(CloseCause::new(cause, by, code, reason));
        let dismissal = Arc::new(Dismissal { cause, from: Instant::now(), over });
        for Placed { shard, .. } in &self.inner.lock().shards {
            shard.dismiss(&dismissal);
        }
    }

    /// Closes every client, after what it is still to get. Clients that come later are closed as well.
    pub(crate) fn close(&self, cause: Reason, by: By, code: CloseCode, reason: &str) {
        let cause = Arc::new(CloseCause::new(cause, by, code, reason));
        let mut inner = self.inner.lock();
        for Placed { shard, .. } in &inner.shards {
            shard.close(&cause);
        }
        inner.closed = Some(cause);
    }
}

impl Inner {
    /// The worker of the next shard, one of `count`: that of the client it is made for, or the first after it that has none.
    fn next_worker(&self, here: usize, count: usize) -> usize {
        let mut in_turn = (here..here + count).map(|at| at % count);
        in_turn.find(|at| self.shards.iter().all(|placed| placed.worker != *at)).unwrap_or(here)
    }
}

/// Runs the shard until no client can join any more, or until it panics.
async fn serve(mut shard: Shard, process: Arc<Metrics>) {
    if catch_panic(TaskKind::Shard, &process, &mut shard).await.is_err() {
        shard.fail();
    }
}

impl Drop for Fanout {
    fn drop(&mut self) {
        for Placed { shard, .. } in &self.inner.lock().shards {
            shard.shut();
        }
    }
}
