//! What one HTTP connection of a client shares between its driver, its socket and its requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use parking_lot::{Mutex, MutexGuard};

use tokio::time::Instant;

use super::idle_slot::IdleSlot;
use super::timeouts::HttpTimeouts;
use super::upgrade::PendingUpgrade;
use crate::server::limits::handshakes::HandshakePermit;

/// One HTTP/1.1 connection of a client, or one stream of HTTP/2.
#[derive(Debug)]
pub(in crate::server) struct HttpConnection {
    timeouts: Mutex<HttpTimeouts>,
    /// What its socket is for once the answer to the handshake has left.
    upgrade: Mutex<Option<PendingUpgrade>>,
    handshake_permit: HandshakePermit,
    /// None for a stream: its connection is idle when none of them is left.
    idle: Option<IdleSlot>,
    /// Status of what hyper said by itself about a request it could not read; 0: nothing.
    hyper_status: AtomicU16,
}

impl HttpConnection {
    pub(in crate::server) fn new(
        timeouts: HttpTimeouts,
        handshake_permit: HandshakePermit,
        idle: Option<IdleSlot>,
    ) -> Arc<Self> {
        Arc::new(Self {
            timeouts: Mutex::new(timeouts),
            upgrade: Mutex::new(None),
            handshake_permit,
            idle,
            hyper_status: AtomicU16::new(0),
        })
    }

    pub(in crate::server) fn timeouts(&self) -> MutexGuard<'_, HttpTimeouts> {
        self.timeouts.lock()
    }

    /// Leaves it to the driver to go on with the client's socket once the answer has left.
    pub(in crate::server) fn set_upgrade(&self, upgrade: PendingUpgrade) {
        *self.upgrade.lock() = Some(upgrade);
    }

    pub(in crate::server) fn take_upgrade(&self) -> Option<PendingUpgrade> {
        self.upgrade.lock().take()
    }

    /// Whether no request has come yet.
    pub(in crate::server) fn is_first_head(&self) -> bool {
        self.timeouts().is_first_head()
    }

    /// Nothing is asked on it from now on.
    pub(super) fn enter_idle(&self, now: Instant) {
        self.handshake_permit.pause();
        // What becomes a WebSocket, or is closed as one, is no HTTP connection much longer.
        if let Some(idle) = &self.idle
            && self.upgrade.lock().is_none()
        {
            let pressure = idle.enter();
            self.timeouts().on_idle_pressure(pressure, now);
        }
    }

    /// A head is complete. It may have come together with the request before it: then its bytes woke nobody up.
    pub(in crate::server) fn on_request(&self) {
        self.timeouts().on_request();
        self.resume();
    }

    /// Somebody takes the body of the request that is served, until what this gives is dropped.
    pub(in crate::server) fn takes_body(self: &Arc<Self>) -> TakesBody {
        self.timeouts().on_body();
        TakesBody(Arc::clone(self))
    }

    /// Something is asked on it.
    pub(super) fn resume(&self) {
        self.handshake_permit.resume();
        if let Some(idle) = &self.idle {
            idle.leave();
        }
    }

    /// Returns when it asks nothing and has to go for others that do not either.
    pub(in crate::server) async fn is_evicted(&self) {
        match &self.idle {
            Some(idle) => idle.is_evicted().await,
            None => std::future::pending().await,
        }
    }

    /// hyper answered a request that it could not read with this status.
    pub(super) fn set_hyper_status(&self, status: u16) {
        self.hyper_status.store(status, Relaxed);
    }

    /// The status that hyper answered an unreadable request with, if it did.
    pub(in crate::server) fn hyper_status(&self) -> Option<u16> {
        Some(self.hyper_status.load(Relaxed)).filter(|status| *status != 0)
    }
}

/// A request's body on its way to a server, which may answer before it has all of it.
#[derive(Debug)]
pub(in crate::server) struct TakesBody(Arc<HttpConnection>);

impl Drop for TakesBody {
    fn drop(&mut self) {
        let (connection, now) = (&self.0, Instant::now());
        let is_idle = connection.timeouts().on_body_end(now);
        if is_idle {
            connection.enter_idle(now);
            // This is another task than the one whose clock it is.
            if let Some(idle) = &connection.idle {
                idle.wake();
            }
        }
    }
}
