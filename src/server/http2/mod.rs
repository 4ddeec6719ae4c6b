//! Drives one client's HTTP/2 connection. WebSockets come in as extended CONNECT (RFC 8441).
//!
//! * [`translate`]: what a request says, in the words of HTTP/1.1, and the other way round. What is
//!   between (routes, layers, the handshake with the server) does not know the difference.
//! * [`streams`]: what is in use, and until when a connection may be without.
//!
//! hyper runs each stream through an executor, which is ours ([`Calls`]): a request is a task until its
//! answer is written. The future that moves what a WebSocket says into the connection is not spawned, but
//! kept and given to its relay: see [`crate::net::http2`].
//!
//! # Invariants
//! 1. What one connection holds is bounded: streams by [`config::Http2`], each with [`STREAM_WINDOW`]
//!    unread and a bounded rest unsent.
//! 2. A stream that nobody reads takes nothing from the others: the connection's window has room for all.
//! 3. A connection without a stream ends: at first after `listen.handshake_timeout`, later after
//!    `listen.keep_alive` or when there are too many of them ([`super::idle`]), and in a drain at once.
//!
//! # Not here
//! How a connection is known to be HTTP/2 ([`super::connection`]).

mod replayed;
mod streams;
mod translate;

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::debug;

use self::replayed::Replayed;
use self::streams::{InUse, Streams};
use super::connection::{self, LINGER, Shown};
use super::crowd::Busy;
use super::idle::Rest;
use super::patience::Patience;
use super::service;
use super::session::{AnswerBody, Session};
use super::state::State;
use super::unrouted;
use crate::config;
use crate::net::http2::{MAX_WRITE, Pump};
use crate::net::{Http2, Peer, Stream, Transport};
use crate::telemetry::{TaskKind, lifecycle, panics};

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
/// Streams that a client may take back before they were looked at, and that may break a rule: then it is
/// told to calm down (CVE-2023-44487). h2's own values; hyper would allow a thousand of the latter.
const RESET_EARLY: usize = 20;
const RESET_BY_US: usize = 100;
/// A connection over which nothing has come for so long is asked whether it is there, and has as long to
/// answer. WebSockets have heartbeats of their own, which know sooner.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(60);
/// What a connection that a drain cuts may take to tell the ends of its streams.
const LAST_FRAMES: Duration = Duration::from_millis(500);

/// Serves `stream`, whose first bytes may have been read already; `until`: the first request has to be
/// there. `first` stands for the connection among those that are busy, until it is.
pub(super) async fn serve(
    state: &Arc<State>,
    peer: &Arc<Peer>,
    settings: config::Http2,
    stream: Stream,
    early: Bytes,
    until: Instant,
    first: Arc<Session>,
) {
    let _shown = Shown::new(state);
    let mut cut = pin!(state.drain.cuts());
    let table = state.table();
    let listen = &table.listen;
    let streams = Streams::new(until, listen.keep_alive, Some(Rest::new(state, peer)));
    let calls = Calls(Arc::new(Shared {
        state: Arc::clone(state),
        peer: Arc::clone(peer),
        streams: Arc::clone(&streams),
        stall: table.stall_timeout,
    }));
    let window = settings.max_streams.saturating_mul(2 * STREAM_WINDOW).clamp(MIN_WINDOW, MAX_WINDOW);
    let stream = Replayed::new(early, stream);
    let is_shut = stream.is_shut();
    let connection = http2::Builder::new(calls)
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
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    drop(table);
    let mut connection = pin!(connection);
    let mut told = pin!(until_drained(state));
    let (mut is_drained, mut is_ending) = (false, false);
    // When it ends whatever is left on it.
    let mut last = None;
    let mut first = Some(first);
    // A drain waits until this one has said its last words.
    let _held = state.drain.hold();
    loop {
        let deadline = [streams.deadline(), last].into_iter().flatten().min();
        let alarm = sleep_until(deadline.unwrap_or_else(|| Instant::now() + PING_INTERVAL));
        tokio::select! {
            end = connection.as_mut() => match end {
                // hyper resets a CONNECT that announces a body, and then stops as if its connection had ended (RFC 9113
                // §8.1.1: it is the stream that is wrong). All others on it would be lost with it; asked again it goes on.
                Ok(()) if !is_shut.load(Relaxed) => {
                    streams.on_end(false);
                    continue;
                }
                Ok(()) => return,
                Err(error) => {
                    debug!(%error, "an HTTP/2 connection has ended");
                    return;
                }
            },
            () = streams.changed.notified() => {
                drop(first.take());
                if streams.is_abused() {
                    state.metrics.http2_abuses.inc();
                    debug!("an HTTP/2 client takes back what it asks for; it is let go");
                    return;
                }
                continue;
            }
            () = &mut told, if !is_drained => is_drained = true,
            // Before a drain nothing is cut, and to ask for it takes a lock that all connections share.
            () = cut.as_mut(), if is_drained && last.is_none() => last = Some(Instant::now() + LAST_FRAMES),
            () = streams.is_let_go(), if !is_ending => {}
            () = alarm, if deadline.is_some() => {
                if is_ending {
                    return;
                }
            }
        }
        // GOAWAY: no further streams, but those that there are go on to their end.
        is_ending = true;
        connection.as_mut().graceful_shutdown();
        streams.hurry(LINGER, Instant::now());
    }
}

/// Returns when no new streams are to come, because the process is being stopped.
async fn until_drained(state: &State) {
    state.lifecycle.until(lifecycle::State::Draining).await;
    sleep_until(state.drain.closes_from(state.table().drain.delay, Instant::now())).await;
}

/// What the streams of a connection share.
#[derive(Debug)]
struct Shared {
    state: Arc<State>,
    peer: Arc<Peer>,
    streams: Arc<Streams>,
    stall: Option<Duration>,
}

/// One request, from its head to the last byte of its answer, or until it is a WebSocket.
struct Call {
    shared: Arc<Shared>,
    session: Arc<Session>,
    upgrade: Mutex<Upgrade>,
}

/// The two pieces of a stream that hyper hands over.
#[derive(Default)]
struct Upgrade {
    io: Option<OnUpgrade>,
    pump: Option<Pump>,
}

tokio::task_local! {
    /// The call whose task this is.
    static CALL: Arc<Call>;
}

/// Runs what hyper has to have run.
#[derive(Debug, Clone)]
struct Calls(Arc<Shared>);

impl<F> hyper::rt::Executor<F> for Calls
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        match CALL.try_with(Arc::clone) {
            // From within a call: its stream has become a WebSocket.
            Ok(call) => call.upgrade().pump = Some(Box::pin(future)),
            Err(_) => {
                let in_use = self.0.streams.enter();
                let running = run(Arc::clone(&self.0), Box::pin(future), in_use);
                panics::spawn(TaskKind::Connection, &self.0.state.metrics, running);
            }
        }
    }
}

impl Call {
    fn upgrade(&self) -> MutexGuard<'_, Upgrade> {
        self.upgrade.lock()
    }
}

/// Runs one call, and makes a WebSocket of it if that is what came out. `stream` is boxed, or its room
/// would stay in this task.
async fn run<F: Future<Output = ()> + Send>(shared: Arc<Shared>, stream: Pin<Box<F>>, in_use: InUse) {
    let now = Instant::now();
    // Heads come whole; only the stall of an answer is watched.
    let patience = Patience::new(Duration::ZERO, Duration::ZERO, shared.stall, now);
    let busy = Busy::more(&shared.state.metrics.handshaking, now);
    let session = Session::new(patience, busy, None);
    let call = Arc::new(Call { shared, session, upgrade: Mutex::default() });
    let cut = call.shared.state.drain.cuts();
    let answering = Watched { stream, session: &call.session, alarm: None };
    tokio::select! {
        () = CALL.scope(Arc::clone(&call), answering) => {}
        // What is dropped here unfinished is reset.
        () = cut => return,
    }
    let Upgrade { io, pump } = std::mem::take(&mut *call.upgrade());
    if let (Some(next), Some(io), Some(pump)) = (call.session.take_next(), io, pump)
        && let Ok(upgraded) = io.await
    {
        let stream = Stream::Http2(Box::new(Http2::new(upgraded, pump, Box::new(in_use))));
        connection::go_on(&call.shared.state, Transport { stream, read_ahead: Bytes::new() }, next).await;
    }
}

/// Answers one request. Runs inside its call.
async fn answer(mut request: Request<Incoming>) -> Result<Response<Watch>, Infallible> {
    let Ok(call) = CALL.try_with(Arc::clone) else {
        unreachable!("hyper polls a service as part of a stream")
    };
    let mut asked = Asked { streams: &call.shared.streams, is_answered: false };
    let io = hyper::upgrade::on(&mut request);
    let (shared, session) = (&call.shared, Arc::clone(&call.session));
    // From here on only a stall of its answer ends it, also of one that is refused.
    session.on_request();
    let result = match unrouted::check(&shared.state, &shared.peer, request) {
        Err(refused) => Err(refused),
        Ok(mut request) => {
            let is_handshake = translate::request(&mut request);
            if is_handshake {
                call.upgrade().io = Some(io);
            }
            let state = Arc::clone(&shared.state);
            let Ok(response) = service::serve(state, session, Arc::clone(&shared.peer), request).await;
            translate::answer(response, is_handshake)
        }
    };
    asked.is_answered = true;
    let response = result.unwrap_or_else(|refused| {
        call.session.take_next();
        refused.response().map(|body| AnswerBody::own(body, &call.session))
    });
    Ok(response.map(|body| Watch { body, session: Arc::clone(&call.session) }))
}

/// Tells, when it is dropped, whether a request was answered.
struct Asked<'a> {
    streams: &'a Streams,
    is_answered: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.streams.on_end(self.is_answered);
    }
}

/// Runs hyper's part of a stream, and gives it up, by a reset, when its client has taken nothing of an
/// answer for too long.
struct Watched<'a, F> {
    stream: Pin<Box<F>>,
    session: &'a Session,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<F: Future<Output = ()>> Future for Watched<'_, F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(deadline) = this.session.patience().deadline() else { return Poll::Pending };
        let alarm = this.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if alarm.deadline() != deadline {
            alarm.as_mut().reset(deadline);
        }
        alarm.as_mut().poll(cx)
    }
}

/// The body of an answer. hyper asks for its next piece when the client has room for one: until then the
/// client takes nothing.
struct Watch {
    body: AnswerBody,
    session: Arc<Session>,
}

impl Body for Watch {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        let waits_for_client = matches!(frame, Poll::Ready(Some(Ok(_))));
        this.session.patience().on_write(!waits_for_client, Instant::now());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
