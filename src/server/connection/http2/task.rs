//! One stream of HTTP/2 as a task: a request, from its head to the last byte of its answer, or until it is a WebSocket or
//! an answer that is written over time.
//!
//! hyper runs each stream through an executor, which is ours ([`StreamExecutor`]): a request is a task until its
//! answer is written. The future that writes the frames of a WebSocket into the connection is not spawned: the stream
//! keeps and polls it ([`crate::net::http2`]). Of an answer that is written over time, that is hyper's whole future of the
//! stream.

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

use super::super::in_service::Serve;
use super::super::upgrade;
use super::streams::{StreamGuard, Streams};
use super::translate;
use crate::net::http2::{self, BodyReader, BodyWriter, Pump};
use crate::net::{ClientBody, Http2, Peer, Stream, Transport};
use crate::server::http::body::AnswerBody;
use crate::server::http::connection::HttpConnection;
use crate::server::http::timeouts::HttpTimeouts;
use crate::server::limits::handshakes::HandshakePermit;
use crate::server::request::errors;
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

/// One request, from its head to the last byte of its answer, or until it is handed over.
struct StreamTask {
    shared: Arc<Shared>,
    connection: Arc<HttpConnection>,
    upgrade: Mutex<Upgrade>,
}

/// The pieces of a stream that is handed over.
#[derive(Default)]
struct Upgrade {
    /// Of a WebSocket: the two that hyper gives.
    io: Option<OnUpgrade>,
    pump: Option<Pump>,
    /// Of an answer that is written over time: its body, which hyper reads.
    body: Option<BodyWriter>,
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

    /// The body of an answer as hyper is to read it. That of a stream is written by whoever takes it over: nothing of
    /// the request stays.
    fn body(&self, answer: AnswerBody) -> StreamBody {
        if !answer.is_stream() {
            return StreamBody::Answer { answer, connection: Arc::clone(&self.connection) };
        }
        let (writer, reader) = http2::body();
        self.upgrade().body = Some(writer);
        StreamBody::Written(reader)
    }
}

/// Runs one stream, and hands it over if it has become a WebSocket or an answer that is written over time. `stream` is
/// boxed, because its size would otherwise be part of this task for as long as the WebSocket lives.
async fn run_stream<F: Future<Output = ()> + Send + 'static>(
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
    let mut answering = Answering { stream, task: &task, alarm: None };
    tokio::select! {
        () = STREAM_TASK.scope(Arc::clone(&task), &mut answering) => {}
        // A stream that is dropped before its end is reset.
        () = cut => return,
    }
    let Answering { stream, .. } = answering;
    let Upgrade { io, pump, body } = std::mem::take(&mut *task.upgrade());
    let Some(pending) = task.connection.take_upgrade() else { return };
    let stream = match (body, io, pump) {
        (Some(body), _, _) => Http2::body(body, stream, Box::new(in_use)),
        (None, Some(io), Some(pump)) => {
            drop(stream);
            let Ok(upgraded) = io.await else { return };
            Http2::new(upgraded, pump, Box::new(in_use))
        }
        _ => return,
    };
    let state = Arc::clone(&task.shared.state);
    drop(task);
    let client = Transport { stream: Stream::Http2(Box::new(stream)), read_ahead: Bytes::new() };
    upgrade::start(&state, client, pending).await;
}

/// Answers one request. Runs inside its stream's task.
pub(super) async fn answer(
    serve: impl Serve,
    mut request: Request<Incoming>,
) -> Result<Response<StreamBody>, Infallible> {
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
            let Ok(response) =
                serve(state, connection, Arc::clone(&shared.peer), request.map(ClientBody::from)).await;
            translate::answer(response, is_handshake)
        }
    };
    answer_guard.is_answered = true;
    let response = result.unwrap_or_else(|refused| {
        task.connection.take_upgrade();
        refused.response().map(|body| AnswerBody::own(body, &task.connection))
    });
    Ok(response.map(|body| task.body(body)))
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

/// Runs hyper's part of a stream until it is over, or the stream is to be handed over in the middle of its answer. Gives it
/// up, by a reset, when its client has taken nothing of an answer for too long.
struct Answering<'a, F> {
    stream: Pin<Box<F>>,
    task: &'a StreamTask,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<F: Future<Output = ()>> Future for Answering<'_, F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.stream.as_mut().poll(cx).is_ready() {
            // hyper has nothing left to send.
            this.task.upgrade().body = None;
            return Poll::Ready(());
        }
        if this.task.upgrade().body.is_some() {
            return Poll::Ready(());
        }
        let Some(deadline) = this.task.connection.timeouts().deadline() else { return Poll::Pending };
        let alarm = this.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if alarm.deadline() != deadline {
            alarm.as_mut().reset(deadline);
        }
        alarm.as_mut().poll(cx)
    }
}

/// The body of an answer, as hyper reads it.
pub(super) enum StreamBody {
    /// hyper asks for its next piece when the client has room for one: until then the client takes nothing, and is given
    /// up some day.
    Answer { answer: AnswerBody, connection: Arc<HttpConnection> },
    /// Whoever writes it looks after that.
    Written(BodyReader),
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Answer { answer, connection } => {
                let frame = Pin::new(answer).poll_frame(cx);
                let waits_for_client = matches!(frame, Poll::Ready(Some(Ok(_))));
                connection.timeouts().on_write(!waits_for_client, Instant::now);
                frame
            }
            Self::Written(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Answer { answer, .. } => answer.is_end_stream(),
            Self::Written(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Answer { answer, .. } => answer.size_hint(),
            Self::Written(_) => SizeHint::default(),
        }
    }
}
