//! Drives one client's HTTP/2 connection. WebSockets come in as extended CONNECT (RFC 8441).
//!
//! * [`translate`]: requests of HTTP/2 as HTTP/1.1, and answers the other way round. Everything between (routes,
//!   layers, the handshake with the server) does not know the difference.
//! * [`streams`]: how many streams are in use, and how long a connection may have none. [`task`]: one stream as a task.
//!
//! # Invariants
//! 1. The memory of one connection is bounded: streams by [`config::Http2`], each with [`STREAM_WINDOW`] bytes unread
//!    and a bounded number unsent.
//! 2. A stream that is not read does not block the others: the connection's window has room for all.
//! 3. A connection without a stream ends: before its first one after `listen.handshake_timeout`, later after
//!    `listen.keep_alive` or when there are too many of them ([`super::super::limits::idle`]), and in a drain at once.
//!
//! # Not here
//! How a connection is known to be HTTP/2 ([`super`]).

mod rewind;
mod streams;
mod task;
mod translate;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use self::rewind::Rewind;
use self::streams::Streams;
use self::task::{Shared, StreamExecutor, answer};
use super::in_service::Serve;
use super::linger::LINGER;
use crate::config;
use crate::connections::lifecycle;
use crate::net::http2::MAX_WRITE;
use crate::net::{Peer, Transport};
use crate::server::http::connection::HttpConnection;
use crate::server::http::idle_slot::IdleSlot;
use crate::server::limits::gauge::GaugeGuard;
use crate::server::state::State;

/// Of log lines: operators choose by it (`log.level`), so it does not follow the name of the module.
const TARGET: &str = "outrigger::server::http2";

/// What a client may send on one stream before it is read: RFC 9113's own start value, and room for the
/// largest frame that the relay reads at once.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Least window of a whole connection. The streams' windows bound what may come; of this one h2 takes half
/// as the bound for the cost of small frames that nobody has read yet, 256 bytes each, and ends the
/// connection beyond it. A WebSocket whose server does not read can make that 2.3 MiB, with messages of one
/// byte: three such must not be the end of the others.
const MIN_WINDOW: u32 = 16 << 20;
/// The largest window there is (RFC 9113 §6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;
/// What is kept of one stream's answers beyond what its client takes.
const SEND_BUFFER: usize = MAX_WRITE;
/// Streams that a client may reset before they were looked at, and streams that may break a rule. Beyond that it gets
/// ENHANCE_YOUR_CALM (CVE-2023-44487). These are h2's own values; hyper would allow a thousand of the latter.
const RESET_EARLY: usize = 20;
const RESET_BY_US: usize = 100;
/// A connection that has received nothing for so long is sent a PING, which has to be answered within [`PING_TIMEOUT`].
/// WebSockets have heartbeats of their own, which notice sooner.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection that a drain cuts may take to send the ends of its streams.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Has `serve` answer the requests of a client. The first request has to come by `first_deadline`; as
/// long as none has, `first_request` counts the connection among the handshakes.
pub(super) async fn serve(
    state: &Arc<State>,
    peer: &Arc<Peer>,
    settings: config::Http2,
    client: Transport,
    first_deadline: Instant,
    first_request: Arc<HttpConnection>,
    serve: impl Serve,
) {
    let _counted = GaugeGuard::new(&state.metrics.server.http_connections);
    let mut cut = pin!(state.drain.cuts());
    let snapshot = state.snapshot();
    let listen = &snapshot.listen;
    let streams = Streams::new(first_deadline, listen.keep_alive, Some(IdleSlot::new(state, peer)));
    let executor = StreamExecutor::new(Shared {
        state: Arc::clone(state),
        peer: Arc::clone(peer),
        streams: Arc::clone(&streams),
        stall: snapshot.stall_timeout,
    });
    let window = settings.max_streams.saturating_mul(2 * STREAM_WINDOW).clamp(MIN_WINDOW, MAX_WINDOW);
    let stream = Rewind::new(client);
    let is_write_shut = stream.is_write_shut();
    let connection = http2::Builder::new(executor)
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(settings.max_streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(listen.max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESET_EARLY)
        .max_local_error_reset_streams(RESET_BY_US)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service_fn(move |request| answer(serve.clone(), request)));
    drop(snapshot);
    let mut connection = pin!(connection);
    let mut drained = pin!(until_drained(state));
    let (mut is_drained, mut is_ending) = (false, false);
    // Set when a drain has cut the connection: it ends by then, whatever is left on it.
    let mut flush_until = None;
    let mut first_request = Some(first_request);
    // A drain waits until the last frames of this connection have left.
    let _held = state.drain.hold();
    loop {
        let deadline = [streams.deadline(), flush_until].into_iter().flatten().min();
        let alarm = sleep_until(deadline.unwrap_or_else(|| Instant::now() + PING_INTERVAL));
        tokio::select! {
                    end = connection.as_mut() => match end {
                        // hyper resets a CONNECT that announces a body, and then stops as if its connection had ended
                        // (RFC 9113 §8.1.1: it is the stream that is wrong). All others on it would be lost with it;
                        // asked again it goes on.
                        Ok(()) if !is_write_shut.load(Relaxed) => {
                            streams.on_end(false);
                            continue;
                        }
                        Ok(()) => return,
                        Err(error) => {
            debug!(target: TARGET, %error, "an HTTP/2 connection has ended");
                            return;
                        }
                    },
                    () = streams.changed.notified() => {
                        drop(first_request.take());
                        if streams.is_abused() {
                            state.metrics.server.http2_abuses.inc();
        debug!(target: TARGET, "an HTTP/2 client takes back what it asks for; it is let go");
                            return;
                        }
                        continue;
                    }
                    () = &mut drained, if !is_drained => is_drained = true,
                    // Before a drain nothing is cut, and to ask for it takes a lock that all connections share.
                    () = cut.as_mut(), if is_drained && flush_until.is_none() => flush_until = Some(Instant::now() + FLUSH_TIMEOUT),
                    () = streams.is_evicted(), if !is_ending => {}
                    () = alarm, if deadline.is_some() => {
                        if is_ending {
                            return;
                        }
                    }
                }
        // GOAWAY: no further streams, but those that there are go on to their end.
        is_ending = true;
        connection.as_mut().graceful_shutdown();
        streams.shorten_idle(LINGER, Instant::now());
    }
}

/// Returns when no new streams are to come, because the process is being stopped.
async fn until_drained(state: &State) {
    state.lifecycle.until(lifecycle::State::Draining).await;
    sleep_until(state.drain.closes_from(state.snapshot().drain.delay, Instant::now())).await;
}
