//! The accept loop of the admin port.
//!
//! # Invariants
//! 1. At most [`CONNECTIONS`] at once. For one more, the one goes that has asked nothing for longest: whoever keeps
//!    connections, or opens them and says nothing, keeps no probe out. Where all are being answered, more wait in the
//!    kernel's backlog, where they cost nothing.
//! 2. A connection that says nothing, or not enough for a request, ends after [`HEADER_TIMEOUT`]; one
//!    that takes none of its answer after [`UNSENT_TIMEOUT`].
//! 3. After `stop` nothing is accepted, what was asked is answered for at most [`GRACE`] more, and then
//!    every connection is ended.

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
    let mut places: Vec<(Arc<Place>, AbortHandle)> = Vec::new();
    let rested = Arc::new(Notify::new());
    // Accepted, and without a place yet.
    let mut next = None;
    let mut stop = std::pin::pin!(stop);
    loop {
        if let Some(stream) = next.take_if(|_| has_room(&mut places)) {
            let place = Arc::new(Place::new(Arc::clone(&rested)));
            let serving = connection(stream, Arc::clone(&shared), Arc::clone(&place), watch.clone());
            places.push((place, connections.spawn(serving)));
        }
        tokio::select! {
            _ = &mut stop => break,
            Some(_) = connections.join_next() => places.retain(|(_, task)| !task.is_finished()),
            () = rested.notified(), if next.is_some() => {}
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

/// Of a connection: since when it has asked nothing.
struct Place {
    /// None: it is being answered.
    resting: Mutex<Option<Instant>>,
    rested: Arc<Notify>,
}

impl Place {
    fn new(rested: Arc<Notify>) -> Self {
        Self { resting: Mutex::new(Some(Instant::now())), rested }
    }

    fn since(&self) -> Option<Instant> {
        *self.resting.lock()
    }

    /// Something is asked, until what this gives is dropped.
    fn asked(&self) -> Asked<'_> {
        *self.resting.lock() = None;
        Asked(self)
    }
}

struct Asked<'a>(&'a Place);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        *self.0.resting.lock() = Some(Instant::now());
        self.0.rested.notify_one();
    }
}

/// Whether there is a place for one more; for its sake the one goes that has asked nothing for longest.
fn has_room(places: &mut Vec<(Arc<Place>, AbortHandle)>) -> bool {
    if places.len() < CONNECTIONS {
        return true;
    }
    let resting = places.iter().enumerate().filter_map(|(index, (place, _))| Some((place.since()?, index)));
    let longest = resting.min().map(|(_, index)| places.swap_remove(index));
    longest.is_some_and(|(_, task)| {
        task.abort();
        true
    })
}

async fn connection(
    stream: TcpStream,
    shared: Arc<(Access, Arc<Admin>)>,
    place: Arc<Place>,
    mut stopping: watch::Receiver<()>,
) {
    if let Err(error) = set_options(&stream) {
        tracing::debug!(%error, "an admin connection ended before it began");
        return;
    }
    let service = service_fn(move |request| {
        let (shared, place) = (Arc::clone(&shared), Arc::clone(&place));
        async move {
            let _asked = place.asked();
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
        // A scraper that hangs up or a client that dawdles is its own affair.
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
/// From the accept, or the answer before, to the last header byte.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest request head: hyper's smallest buffer.
pub(super) const HEADER_BYTES: usize = 8 * 1024;
/// For a peer to take what was sent: longer than any network hiccup that a probe would sit out.
#[cfg(target_os = "linux")]
pub(super) const UNSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// For answers under way after a stop: they are small, and the process wants to end.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
