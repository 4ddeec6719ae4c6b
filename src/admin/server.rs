//! The accept loop of the admin port.
//!
//! # Invariants
//! 1. At most [`CONNECTIONS`] at once; more wait in the kernel's backlog, where they cost nothing.
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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Access, Admin, routes};

/// Serves the admin port on `listener` until `stop` completes, and returns when its connections have
/// ended.
pub async fn serve(listener: TcpListener, access: Access, admin: Arc<Admin>, stop: impl Future) {
    let shared = Arc::new((access, admin));
    let (stopping, watch) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            _ = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&shared), watch.clone()));
                }
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

async fn connection(stream: TcpStream, shared: Arc<(Access, Arc<Admin>)>, mut stopping: watch::Receiver<()>) {
    if let Err(error) = set_options(&stream) {
        tracing::debug!(%error, "an admin connection ended before it began");
        return;
    }
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(routes::answer(request, &shared.0, &shared.1).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
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
