//! Plain HTTP to an upstream, over pooled connections, streaming both ways.

use std::any::Any;
use std::error::Error;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{Connected, Connection, capture_connection};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use super::dial::{DialError, Dialer};
use super::{Upstream, UpstreamError};
use crate::config;
use crate::net::{Stream, head};

/// Idle connections kept for one upstream.
const MAX_IDLE: usize = 64;

/// Pooled connections to one upstream.
#[derive(Debug)]
pub(super) struct Pool {
    client: Client<Connector, Requested>,
}

impl Pool {
    pub(super) fn new(config: &config::Upstream, dialer: Dialer) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.keep_alive)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_preserve_header_case(true)
            .set_host(false)
            .build(Connector(dialer));
        Self { client }
    }
}

/// Hands the pool our own connections. There is one destination, whatever the URI says.
#[derive(Debug, Clone)]
struct Connector(Dialer);

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dialer = self.0.clone();
        Box::pin(async move { dialer.dial().await.map(TokioIo::new) })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// A client's request body on its way: counted, waited for only so long, and its end is told.
#[derive(Debug)]
pub struct Requested {
    body: Incoming,
    left: Option<u64>,
    silence: Silence,
    is_sent: Arc<watch::Sender<bool>>,
    /// Who wants to know until when it is taken: dropped at its end, or with it.
    taken: Option<Box<dyn Any + Send>>,
}

/// The body is longer than allowed.
#[derive(Debug, thiserror::Error)]
#[error("the request body is too long")]
struct TooLong;

/// Nothing more of the body came.
#[derive(Debug, thiserror::Error)]
#[error("the rest of the request body did not come for {0:?}")]
struct Stalled(Duration);

/// What came of the body is none.
#[derive(Debug, thiserror::Error)]
#[error("the request body did not come whole")]
struct BrokenOff(#[source] hyper::Error);

/// How long a client has said nothing of a body while it was waited for. Time in which the upstream takes
/// nothing does not count: nobody waits for the client then.
#[derive(Debug)]
struct Silence {
    limit: Option<Duration>,
    /// Made at the first wait: most bodies come at once.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl Silence {
    fn new(limit: Option<Duration>) -> Self {
        Self { limit, timer: None, is_waiting: false }
    }

    /// Something came, or its end did.
    fn end(&mut self) {
        self.is_waiting = false;
    }

    /// Ready when it has lasted too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Stalled> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !std::mem::replace(&mut self.is_waiting, true) {
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx).map(|()| Stalled(limit))
    }
}

impl Body for Requested {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            return this.silence.poll(cx).map(|stalled| Some(Err(stalled.into())));
        };
        this.silence.end();
        match frame {
            None => {
                this.is_sent.send_replace(true);
                this.taken = None;
                Poll::Ready(None)
            }
            Some(Err(error)) => Poll::Ready(Some(Err(BrokenOff(error).into()))),
            Some(Ok(frame)) => {
                let len = frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(left) = &mut this.left {
                    match left.checked_sub(len) {
                        Some(rest) => *left = rest,
                        None => return Poll::Ready(Some(Err(TooLong.into()))),
                    }
                }
                if this.body.is_end_stream() {
                    this.is_sent.send_replace(true);
                    this.taken = None;
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Upstream {
    /// Passes a plain request on; its headers are already what the upstream is to see, and `uri` is in
    /// origin form. `taken` is dropped when nothing more of the body is taken, which may be after the answer.
    ///
    /// # Errors
    /// There was no answer, the body was longer than `http.max_body`, or its rest did not come or was none.
    pub async fn request(
        &self,
        request: Request<Incoming>,
        taken: Option<impl Any + Send>,
        policy: &config::Policy,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let taken = taken.map(|taken| Box::new(taken) as Box<dyn Any + Send>);
        let result = self.try_request(request, taken, policy).await;
        self.count(result)
    }

    async fn try_request(
        &self,
        request: Request<Incoming>,
        taken: Option<Box<dyn Any + Send>>,
        config::Policy { http: policy, delivery, .. }: &config::Policy,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let too_large = |limit| UpstreamError::BodyTooLarge(limit);
        let announced = request.body().size_hint().lower();
        if let Some(limit) = policy.max_body.filter(|limit| announced > *limit) {
            return Err(too_large(limit));
        }
        let is_sent = Arc::new(watch::Sender::new(request.body().is_end_stream()));
        let sent = is_sent.subscribe();
        let (mut head, body) = request.into_parts();
        head.uri = absolute(&head.uri)?;
        head.version = http::Version::HTTP_11;
        head.headers.remove(header::TRANSFER_ENCODING);
        let silence = Silence::new(delivery.stall_timeout);
        let body = Requested { body, left: policy.max_body, silence, is_sent, taken };
        let mut request = Request::from_parts(head, body);
        let connection = capture_connection(&mut request);
        let answer = pin!(self.pool.client.request(request));
        let answer = match policy.response_timeout {
            None => answer.await,
            Some(after) => tokio::select! {
                answer = answer => answer,
                () = overdue(sent, after) => return Err(UpstreamError::Timeout(after)),
            },
        };
        let mut answer = answer.map_err(|error| explain(error, policy.max_body))?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Passed on, it would make the client believe that it speaks something else from here on.
            return Err(UpstreamError::Broken("a 101 that nobody asked for".into()));
        }
        let (status, version) = (answer.status(), answer.version());
        let framing = head::check_answer(status, version, answer.headers_mut());
        if framing != Ok(true)
            && let Some(connection) = &*connection.connection_metadata()
        {
            // What may be left on it must not be read as the answer to another request.
            connection.poison();
        }
        framing?;
        Ok(answer)
    }
}

/// The pool wants an authority to know connections by; the socket is ours whatever it says.
fn absolute(uri: &Uri) -> Result<Uri, UpstreamError> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Uri::builder()
        .scheme("http")
        .authority("upstream")
        .path_and_query(path)
        .build()
        .map_err(|error| UpstreamError::Broken(Box::new(error)))
}

/// Resolves `after` the request's last byte.
async fn overdue(mut sent: watch::Receiver<bool>, after: Duration) {
    // An error means that the body was dropped, which is an end too.
    let _ = sent.wait_for(|is_sent| *is_sent).await;
    sleep(after).await;
}

/// Finds what an error of the pool was in truth.
fn explain(error: ClientError, max_body: Option<u64>) -> UpstreamError {
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = source {
        if cause.is::<TooLong>() {
            return UpstreamError::BodyTooLarge(max_body.unwrap_or(0));
        }
        if let Some(Stalled(limit)) = cause.downcast_ref() {
            return UpstreamError::BodyStalled(*limit);
        }
        if cause.is::<BrokenOff>() {
            return UpstreamError::BodyBroken;
        }
        if let Some(dial) = cause.downcast_ref::<DialError>() {
            return UpstreamError::Dial(dial.again());
        }
        source = cause.source();
    }
    UpstreamError::Broken(Box::new(error))
}
