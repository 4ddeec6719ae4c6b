//! The accept loop of the admin port.
//!
//! # Invariants
//! 1. At most [`CONNECTIONS`] at once. For one more, the one that has been idle longest is ended: idle connections cannot keep
//!    a probe out. Where none is idle, more wait in the kernel's backlog, where they cost nothing.
//! 2. A connection that does not send a whole request ends after [`HEADER_TIMEOUT`]; one that takes none of its answer after
//!    [`UNSENT_TIMEOUT`].
//! 3. After `stop` nothing is accepted, requests in progress have at most [`GRACE`] more, and then every connection is ended.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::{Access, Admin, routes};

/// Serves the admin port on `listener` until `stop` completes, and returns when its connections have
/// ended.
pub(crate) async fn serve(listener: TcpListener, access: Access, admin: Arc<Admin>, stop: impl Future) {
    let shared = Arc::new((access, admin));
    let (stopping, watch) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut slots: Vec<(Arc<ConnectionSlot>, AbortHandle)> = Vec::new();
    let became_idle = Arc::new(Notify::new());
    // A connection that was accepted and has no slot yet.
    let mut next = None;
    let mut stop = std::pin::pin!(stop);
    loop {
        if let Some(stream) = next.take_if(|_| make_room(&mut slots)) {
            let slot = Arc::new(ConnectionSlot::new(Arc::clone(&became_idle)));
            let serving = connection(stream, Arc::clone(&shared), Arc::clone(&slot), watch.clone());
            slots.push((slot, connections.spawn(serving)));
        }
        tokio::select! {
            _ = &mut stop => break,
            Some(_) = connections.join_next() => slots.retain(|(_, task)| !task.is_finished()),
            () = became_idle.notified(), if next.is_some() => {}
            accepted = listener.accept(), if next.is_none() => match accepted {
                Ok((stream, _)) => next = Some(stream),
                Err(error) => {
                    tracing::warn!(%error, "the admin port could not accept a connection");
                    // Out of descriptors, as a rule: at once it would fail again.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    drop(stopping);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        connections.shutdown().await;
    }
}

/// One connection, and since when it is idle.
struct ConnectionSlot {
    /// `None`: a request is being answered.
    idle_since: Mutex<Option<Instant>>,
    became_idle: Arc<Notify>,
}

impl ConnectionSlot {
    fn new(became_idle: Arc<Notify>) -> Self {
        Self { idle_since: Mutex::new(Some(Instant::now())), became_idle }
    }

    fn idle_since(&self) -> Option<Instant> {
        *self.idle_since.lock()
    }

    /// The connection has a request, until the guard is dropped.
    fn begin_request(&self) -> ActiveRequest<'_> {
        *self.idle_since.lock() = None;
        ActiveRequest(self)
    }
}

struct ActiveRequest<'a>(&'a ConnectionSlot);

impl Drop for ActiveRequest<'_> {
    fn drop(&mut self) {
        *self.0.idle_since.lock() = Some(Instant::now());
        self.0.became_idle.notify_one();
    }
}

/// Whether there is room for one more connection, if need be after ending the one that has been idle longest.
fn make_room(slots: &mut Vec<(Arc<ConnectionSlot>, AbortHandle)>) -> bool {
    if slots.len() < CONNECTIONS {
        return true;
    }
    let idle = slots.iter().enumerate().filter_map(|(index, (slot, _))| Some((slot.idle_since()?, index)));
    let longest_idle = idle.min().map(|(_, index)| slots.swap_remove(index));
    longest_idle.is_some_and(|(_, task)| {
        task.abort();
        true
    })
}

async fn connection(
    stream: TcpStream,
    shared: Arc<(Access, Arc<Admin>)>,
    slot: Arc<ConnectionSlot>,
    mut stopping: watch::Receiver<()>,
) {
    if let Err(error) = set_options(&stream) {
        tracing::debug!(%error, "an admin connection ended before it began");
        return;
    }
    let service = service_fn(move |request| {
        let (shared, slot) = (Arc::clone(&shared), Arc::clone(&slot));
        async move {
            let _active = slot.begin_request();
            Ok::<_, Infallible>(routes::answer(request, &shared.0, &shared.1).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .title_case_headers(true)
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(HEADER_BYTES)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // Its client has hung up, or was too slow.
        tracing::debug!(%error, "an admin connection ended early");
    }
}

pub(super) fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNSENT_TIMEOUT))?;
    Ok(())
}

/// Plenty for probes, scrapers and people; each costs at most a few tens of kilobytes.
pub(super) const CONNECTIONS: usize = 64;
/// From the accept, or from the answer before, to the end of a request's head.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest head of a request: hyper's smallest buffer.
pub(super) const HEADER_BYTES: usize = 8 * 1024;
/// For a peer to take what was sent: longer than any network hiccup that a probe would sit out.
#[cfg(target_os = "linux")]
pub(super) const UNSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// For answers under way after a stop: they are small, and the process wants to end.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
