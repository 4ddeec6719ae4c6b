//! The state that the driver, the socket and the requests of one HTTP connection share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};

use futures_util::FutureExt;
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
    /// What becomes of its socket once the answer to the handshake was sent.
    /// Boxed: few have one, and for a short time.
    upgrade: Mutex<Option<Box<PendingUpgrade>>>,
    handshake_permit: HandshakePermit,
    /// `None` for a stream: its connection is idle when no stream is left.
    idle: Option<IdleSlot>,
    /// Status of hyper's own answer to a request that it could not read; 0: there was none.
    hyper_status: AtomicU16,
    /// Whether the head that was read last, and is not a request yet, spells all names as this proxy does.
    is_standard: AtomicBool,
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
            is_standard: AtomicBool::new(false),
        })
    }

    pub(in crate::server) fn timeouts(&self) -> MutexGuard<'_, HttpTimeouts> {
        self.timeouts.lock()
    }

    /// Has the driver hand over the client's socket once the answer was sent.
    pub(in crate::server) fn set_upgrade(&self, upgrade: PendingUpgrade) {
        *self.upgrade.lock() = Some(Box::new(upgrade));
    }

    pub(in crate::server) fn take_upgrade(&self) -> Option<PendingUpgrade> {
        self.upgrade.lock().take().map(|upgrade| *upgrade)
    }

    /// Whether no request has come yet.
    pub(in crate::server) fn is_first_head(&self) -> bool {
        self.timeouts().is_first_head()
    }

    /// The connection is idle from now on.
    pub(super) fn enter_idle(&self, now: Instant) {
        self.handshake_permit.pause();
        // A connection that becomes a WebSocket, or is closed as one, will not be an HTTP connection much longer.
        if let Some(idle) = &self.idle
            && self.upgrade.lock().is_none()
        {
            let pressure = idle.enter();
            self.timeouts().on_idle_pressure(pressure, now);
        }
    }

    /// A head is complete. If it came together with the request before it, no read has ended the idleness.
    pub(in crate::server) fn on_request(&self) {
        self.timeouts().on_request();
        self.resume();
    }

    /// The body of the request is being read until the guard is dropped.
    pub(in crate::server) fn hold_request_body(self: &Arc<Self>) -> RequestBodyGuard {
        self.timeouts().on_body();
        RequestBodyGuard(Arc::clone(self))
    }

    /// Waits for what a request is about, from now on and however long that takes: the connection is not on its way to
    /// something meanwhile, and does not count as such (`listen.max_handshakes`).
    ///
    /// Not an async function: that would be as large as two of what is waited for.
    pub(in crate::server) fn wait<F: Future>(
        &self,
        waited: F,
    ) -> impl Future<Output = F::Output> + use<'_, F> {
        self.timeouts().on_wait();
        self.handshake_permit.pause();
        let waiting = WaitGuard(self);
        waited.map(move |output| {
            drop(waiting);
            output
        })
    }

    /// Whether this is one stream of HTTP/2, and no connection by itself.
    pub(in crate::server) fn is_http2_stream(&self) -> bool {
        self.idle.is_none()
    }

    /// The connection is not idle any more.
    pub(super) fn resume(&self) {
        self.handshake_permit.resume();
        if let Some(idle) = &self.idle {
            idle.leave();
        }
    }

    /// Completes when the connection is idle and is evicted for other idle connections.
    pub(in crate::server) async fn is_evicted(&self) {
        match &self.idle {
            Some(idle) => idle.is_evicted().await,
            None => std::future::pending().await,
        }
    }

    /// Notes whether a head was read that is spelled as this proxy spells.
    pub(super) fn set_standard(&self, is_standard: bool) {
        self.is_standard.store(is_standard, Relaxed);
    }

    /// Whether the request that has just been made of a head was spelled so. That is told of each head once.
    pub(in crate::server) fn take_standard(&self) -> bool {
        self.is_standard.swap(false, Relaxed)
    }

    /// Notes the status that hyper answered an unreadable request with.
    pub(super) fn set_hyper_status(&self, status: u16) {
        self.hyper_status.store(status, Relaxed);
    }

    /// The status that hyper answered an unreadable request with, if it did.
    pub(in crate::server) fn hyper_status(&self) -> Option<u16> {
        Some(self.hyper_status.load(Relaxed)).filter(|status| *status != 0)
    }
}

/// Held while a request waits.
struct WaitGuard<'a>(&'a HttpConnection);

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.timeouts().on_wait_end();
        self.0.handshake_permit.resume();
    }
}

/// Held while a request's body is sent to the server, which may answer before it has all of it.
#[derive(Debug)]
pub(in crate::server) struct RequestBodyGuard(Arc<HttpConnection>);

impl Drop for RequestBodyGuard {
    fn drop(&mut self) {
        let (connection, now) = (&self.0, Instant::now());
        let is_idle = connection.timeouts().on_body_end(now);
        if is_idle {
            connection.enter_idle(now);
            // The driver of the connection is another task, and has to look at the new deadline.
            if let Some(idle) = &connection.idle {
                idle.wake();
            }
        }
    }
}
