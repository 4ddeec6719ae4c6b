//! The idleness of one connection: it enters [`IdleLimit`](crate::server::limits::idle::IdleLimit) when it has no request,
//! and leaves with the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use crate::admission::{AddressKey, Client};
use crate::net::Peer;
use crate::server::limits::idle::{Entered, IdlePressure};
use crate::server::state::State;
use crate::telemetry::{IdleBound, nonzero};

/// The place that a connection takes among the idle ones.
#[derive(Debug)]
pub(in crate::server) struct IdleSlot {
    state: Arc<State>,
    address: AddressKey,
    /// 0: it is not idle.
    ticket: AtomicU64,
    notify: Arc<Notify>,
}

impl IdleSlot {
    /// For a connection from this peer, which is not idle yet.
    pub(in crate::server) fn new(state: &Arc<State>, peer: &Peer) -> Self {
        let address = Client { address: peer.address }.key();
        Self { state: Arc::clone(state), address, ticket: AtomicU64::new(0), notify: Arc::new(Notify::new()) }
    }

    /// The connection is idle from now on. Answers how close the number of idle connections is to the limit.
    pub(in crate::server) fn enter(&self) -> IdlePressure {
        let snapshot = self.state.snapshot();
        let listen = &snapshot.listen;
        let Entered { evicted, pressure } =
            self.state.idle.enter(&self.ticket, self.address, &self.notify, listen);
        for (notify, bound) in &evicted {
            self.state.metrics.server.idle_closed.inc(*bound);
            notify.notify_one();
        }
        if evicted.iter().any(|(_, bound)| *bound == IdleBound::All)
            && let Some(left_out) = self.state.lines.warnings.allow("max_idle_http", Instant::now())
        {
            warn!(
                // Operators may filter by the target, so it has not changed with the name of the file.
                target: "outrigger::server::idle",
                left_out = nonzero(left_out),
                max_idle_http = listen.max_idle_http,
                "more HTTP connections ask nothing than listen.max_idle_http: those that have waited longest are \
                 let go; outrigger_http_idle_closed_total counts them"
            );
        }
        pressure
    }

    /// The connection is not idle any more, or has ended.
    pub(in crate::server) fn leave(&self) {
        let ticket = self.ticket.swap(0, Relaxed);
        if ticket != 0 {
            self.state.idle.leave(ticket);
        }
    }

    /// Wakes the task that polls [`IdleSlot::is_evicted`], so that it looks at the other things that it waits for.
    pub(in crate::server) fn wake(&self) {
        self.notify.notify_one();
    }

    /// Completes when the connection was evicted and is still idle.
    pub(in crate::server) async fn is_evicted(&self) {
        loop {
            self.notify.notified().await;
            let ticket = self.ticket.load(Relaxed);
            // A notification for an earlier idle time does not count.
            if ticket != 0 && !self.state.idle.contains(ticket) {
                return;
            }
        }
    }
}

impl Drop for IdleSlot {
    fn drop(&mut self) {
        self.leave();
    }
}
