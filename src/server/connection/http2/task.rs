//! One stream of HTTP/2 as a task: a request, from its head to the last byte of its answer or until it is a WebSocket.
//!
//! hyper runs each stream through an executor, which is ours ([`StreamExecutor`]): a request is a task until its
//! answer is written. The future that writes the frames of a WebSocket into the connection is not spawned: the stream
//! keeps and polls it ([`crate::net::http2`]).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, Sleep, sleep_until};

use super::super::upgrade;
use super::streams::{StreamGuard, Streams};
use super::translate;
use crate::net::http2::Pump;
use crate::net::{Http2, Peer, Stream, Transport};
use crate::server::http::body::AnswerBody;
use crate::server::http::connection::HttpConnection;
use crate::server::http::timeouts::HttpTimeouts;
use crate::server::limits::handshakes::HandshakePermit;
use crate::server::request::{self, errors};
use crate::server::state::State;
use crate::telemetry::{TaskKind, panics};

/// What the streams of a connection share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Arc<State>,
    pub(super) peer: Arc<Peer>,
    pub(super) streams: Arc<Streams>,
    pub(super) stall: Option<Duration>,
}

/// One request, from its head to the last byte of its answer, or until it is a WebSocket.
struct StreamTask {
    shared: Arc<Shared>,
    connection: Arc<HttpConnection>,
    upgrade: Mutex<Upgrade>,
}

/// The two pieces of a stream that hyper hands over.
#[derive(Default)]
struct Upgrade {
    io: Option<OnUpgrade>,
    pump: Option<Pump>,
}

tokio::task_local! {
    /// The stream whose task this is.
    static STREAM_TASK: Arc<StreamTask>;
}

/// Spawns the futures that hyper wants to be run.
#[derive(Debug, Clone)]
pub(super) struct StreamExecutor(Arc<Shared>);

impl StreamExecutor {
    pub(super) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        match STREAM_TASK.try_with(Arc::clone) {
            // From within a stream's task: the stream has become a WebSocket.
            Ok(task) => task.upgrade().pump = Some(Box::pin(future)),
            Err(_) => {
                let in_use = self.0.streams.enter();
                let running = run_stream(Arc::clone(&self.0), Box::pin(future), in_use);
                panics::spawn(TaskKind::Connection, &self.0.state.metrics, running);
            }
        }
    }
}

impl StreamTask {
    fn upgrade(&self) -> MutexGuard<'_, Upgrade> {
        self.upgrade.lock()
    }
}

/// Runs one stream, and hands it over if it has become a WebSocket. `stream` is boxed, because its size would otherwise be
/// part of this task for as long as the WebSocket lives.
async fn run_stream<F: Future<Output = ()> + Send>(
    shared: Arc<Shared>,
    stream: Pin<Box<F>>,
    in_use: StreamGuard,
) {
    let now = Instant::now();
    // Heads come whole; only the stall of an answer is watched.
    let timeouts = HttpTimeouts::new(Duration::ZERO, Duration::ZERO, shared.stall, now);
    let handshake_permit = HandshakePermit::for_stream(&shared.state.metrics.server.handshaking, now);
    let connection = HttpConnection::new(timeouts, handshake_permit, None);
    let task = Arc::new(StreamTask { shared, connection, upgrade: Mutex::default() });
    let cut = task.shared.state.drain.cuts();
    let answering = StallTimeout { stream, connection: &task.connection, alarm: None };
    tokio::select! {
        () = STREAM_TASK.scope(Arc::clone(&task), answering) => {}
        // A stream that is dropped before its end is reset.
        () = cut => return,
    }
    let Upgrade { io, pump } = std::mem::take(&mut *task.upgrade());
    if let (Some(pending), Some(io), Some(pump)) = (task.connection.take_upgrade(), io, pump)
        && let Ok(upgraded) = io.await
    {
        let stream = Stream::Http2(Box::new(Http2::new(upgraded, pump, Box::new(in_use))));
        upgrade::start(&task.shared.state, Transport { stream, read_ahead: Bytes::new() }, pending).await;
    }
}

/// Answers one request. Runs inside its stream's task.
pub(super) async fn answer(
    mut request: Request<Incoming>,
) -> Result<Response<StallDetectingBody>, Infallible> {
    let Ok(task) = STREAM_TASK.try_with(Arc::clone) else {
        unreachable!("hyper polls a service as part of a stream")
    };
    let mut answer_guard = AnswerGuard { streams: &task.shared.streams, is_answered: false };
    let io = hyper::upgrade::on(&mut request);
    let (shared, connection) = (&task.shared, Arc::clone(&task.connection));
    // From here on only a stall of the answer ends it, also where the request is refused.
    connection.on_request();
    let result = match errors::check(&shared.state, &shared.peer, request) {
        Err(refused) => Err(refused),
        Ok(mut request) => {
            let is_handshake = translate::request(&mut request);
            if is_handshake {
                task.upgrade().io = Some(io);
            }
            let state = Arc::clone(&shared.state);
            let Ok(response) = request::serve(state, connection, Arc::clone(&shared.peer), request).await;
            translate::answer(response, is_handshake)
        }
    };
    answer_guard.is_answered = true;
    let response = result.unwrap_or_else(|refused| {
        task.connection.take_upgrade();
        refused.response().map(|body| AnswerBody::own(body, &task.connection))
    });
    Ok(response.map(|body| StallDetectingBody { body, connection: Arc::clone(&task.connection) }))
}

/// Notes, when it is dropped, whether a request was answered.
struct AnswerGuard<'a> {
    streams: &'a Streams,
    is_answered: bool,
}

impl Drop for AnswerGuard<'_> {
    fn drop(&mut self) {
        self.streams.on_end(self.is_answered);
    }
}

/// Runs hyper's part of a stream, and gives it up, by a reset, when its client has taken nothing of an
/// answer for too long.
struct StallTimeout<'a, F> {
    stream: Pin<Box<F>>,
    connection: &'a HttpConnection,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<F: Future<Output = ()>> Future for StallTimeout<'_, F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(deadline) = this.connection.timeouts().deadline() else { return Poll::Pending };
        let alarm = this.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if alarm.deadline() != deadline {
            alarm.as_mut().reset(deadline);
        }
        alarm.as_mut().poll(cx)
    }
}

/// The body of an answer. hyper asks for its next piece when the client has room for one: until then the
/// client takes nothing.
pub(super) struct StallDetectingBody {
    body: AnswerBody,
    connection: Arc<HttpConnection>,
}

impl Body for StallDetectingBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        let waits_for_client = matches!(frame, Poll::Ready(Some(Ok(_))));
        this.connection.timeouts().on_write(!waits_for_client, Instant::now());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
