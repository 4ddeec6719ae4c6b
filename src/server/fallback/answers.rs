//! What an endpoint answers: errors and refusals as JSON, and the heads of what succeeds. Pure, but for the random time after
//! which a client comes back.
//!
//! # Why is a client of an event stream refused with a 200?
//! An `EventSource` gives up for good on any other status (WHATWG HTML §9.2.3). So what passes (`429`, `502`, `503`, `504`, and a
//! WebSocket that has the session) is a stream that says why and when to come back, and ends. What does not pass has its status.
//!
//! # Not here
//! Events ([`crate::delivery::events`]); why a request is refused ([`crate::admission::Refused`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Map, Value};

use super::cors;
use super::methods;
use super::parameters::BadParameter;
use super::passed_on::{NO_STORE, set_passed_on};
use crate::admission::Refused;
use crate::config::{Endpoint, Policy};
use crate::delivery::events::stream;
use crate::log::Entry;
use crate::memory::Budget;
use crate::net::head::spelling;
use crate::net::http::X_OUTRIGGER_REASON;

/// Tells nginx not to keep back what belongs to a stream.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// An answer with no more bytes of messages is given whatever else is held.
const SHORT: usize = 4 * 1024;

/// `Retry-After` of a condition that is temporary.
const SOON: Duration = Duration::from_secs(1);

/// The longest time that an event stream's client waits unless it is told another one.
const USUAL_RETRY: Duration = Duration::from_secs(4);

/// Why an endpoint does not do what it was asked, where admission has let the request in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::server) enum EndpointError {
    /// Its query.
    #[error("{0}")]
    BadParameter(#[from] BadParameter),
    /// Its body.
    #[error("{0}")]
    BadBody(&'static str),
    /// Another method than the endpoint's.
    #[error("this endpoint takes another method: {}", methods::allowed(*.0))]
    Method(Endpoint),
    /// There is nothing to replay.
    #[error("no channel of this URL runs, so that nothing of it is kept")]
    NoChannel,
    /// It claims to have had what there never was.
    #[error("the newest message is number {head}: whoever had a later one had it of another log")]
    Ahead {
        /// The newest number.
        head: u64,
    },
    /// Messages of the client are missing before those that it has sent.
    #[error("{received} messages were received: the next one is the one behind that")]
    Gap {
        /// How many were received.
        received: u64,
    },
    /// Another link of the session is younger: when to come back.
    #[error("a WebSocket has this session")]
    Attached(Duration),
    /// `policy.limits.on_user_limit: replace_oldest`
    #[error("a newer connection of this user has the place of this one")]
    Replaced,
    /// Nobody's session.
    #[error(
        "this endpoint takes the ticket of a session, in X-Outrigger-Session or as ?session=; a poll begins one"
    )]
    NoTicket,
    /// The session is over, or its ticket is not good any more.
    #[error("this session is over; a request without its ticket begins another one")]
    Gone {
        /// Why, if that is known.
        why: Option<&'static str>,
        /// How many of the client's messages it had received, if that is known.
        received: Option<u64>,
        /// How many of the server's messages the client has missed, if that is known.
        lost: Option<u64>,
    },
    /// Above `policy.max_message`.
    #[error("the message is longer than one may be (policy.max_message)")]
    TooLarge,
    /// `memory.max_buffered`
    #[error("this proxy holds too much for others to take so much at once")]
    Memory,
    /// `policy.limits.message_rate`; when to come back.
    #[error("too many messages; try again later")]
    MessageRate(Duration),
    /// As many polls of the session wait as may.
    #[error("too many polls of this session are waiting")]
    Polls,
    /// As many bodies of the session are being read as may.
    #[error("too many messages of this session are on their way")]
    Posts,
    /// The server is away, and as much waits for it as may.
    #[error("the server is away, and no more can wait for it: what is beyond {received} was not taken")]
    QueueFull {
        /// When to come back.
        wait: Duration,
        /// How many messages were received.
        received: u64,
    },
}

/// Why a request was answered so, for its line in the log: kept beside the answer.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct AnswerReason(pub(in crate::server) &'static str);

impl EndpointError {
    fn status(&self) -> StatusCode {
        match self {
            Self::BadParameter(_) | Self::BadBody(_) | Self::NoTicket => StatusCode::BAD_REQUEST,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoChannel => StatusCode::NOT_FOUND,
            Self::Ahead { .. } | Self::Gap { .. } | Self::Attached(_) | Self::Replaced => {
                StatusCode::CONFLICT
            }
            Self::Gone { .. } => StatusCode::GONE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MessageRate(_) | Self::Polls | Self::Posts => StatusCode::TOO_MANY_REQUESTS,
            Self::Memory | Self::QueueFull { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// `X-Outrigger-Reason`
    fn reason(&self) -> &'static str {
        match self {
            Self::BadParameter(_) | Self::BadBody(_) | Self::NoTicket => "bad_request",
            Self::Method(_) => "method",
            Self::NoChannel => "no_channel",
            Self::Ahead { .. } => "ahead",
            Self::Gap { .. } => "gap",
            Self::Attached(_) => "attached",
            Self::Replaced => "replaced",
            Self::Gone { .. } => "gone",
            Self::TooLarge => "too_large",
            Self::Memory => "capacity_memory",
            Self::MessageRate(_) => "message_rate",
            Self::Polls => "polls",
            Self::Posts => "posts",
            Self::QueueFull { .. } => "queue_full",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Attached(wait) | Self::MessageRate(wait) | Self::QueueFull { wait, .. } => Some(*wait),
            Self::Polls | Self::Posts | Self::Memory => Some(SOON),
            Self::BadParameter(_)
            | Self::BadBody(_)
            | Self::NoTicket
            | Self::Method(_)
            | Self::NoChannel
            | Self::Ahead { .. }
            | Self::Gap { .. }
            | Self::Replaced
            | Self::Gone { .. }
            | Self::TooLarge => None,
        }
    }

    /// What it tells beside that.
    fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        match self {
            Self::Ahead { head } => drop(members.insert("head".into(), (*head).into())),
            Self::QueueFull { received, .. } | Self::Gap { received } => {
                drop(members.insert("received".into(), (*received).into()));
            }
            Self::Gone { why, received, lost } => {
                if let Some(lost) = lost {
                    members.insert("lost".into(), (*lost).into());
                }
                members.insert("why".into(), (*why).into());
                members.insert("received".into(), (*received).into());
            }
            _ => {}
        }
        members
    }

    /// The answer of this endpoint.
    pub(in crate::server) fn response(&self, endpoint: Endpoint) -> Response<Full<Bytes>> {
        let (status, reason, retry_after) = (self.status(), self.reason(), self.retry_after());
        // It will not be young for long.
        let passes = passes(status) || matches!(self, Self::Attached(_));
        if endpoint == Endpoint::Events && passes {
            return refused_stream(reason, retry_after);
        }
        let body = error_body(reason, &self.to_string(), self.members());
        let mut response = error(status, reason, retry_after, body);
        if let Self::Method(endpoint) = self {
            let allowed = HeaderValue::from_static(methods::allowed(*endpoint));
            response.headers_mut().insert(header::ALLOW, allowed);
        }
        response
    }
}

/// Why a request with this method is not answered; `OPTIONS` is, but not here.
pub(in crate::server) fn method_error(endpoint: Endpoint, method: &Method) -> Option<EndpointError> {
    (!methods::is_allowed(endpoint, method)).then_some(EndpointError::Method(endpoint))
}

/// The answer of an endpoint to a request that was refused.
pub(in crate::server) fn refusal(refused: &Refused, endpoint: Endpoint) -> Response<Full<Bytes>> {
    let answer = refused.answer();
    if endpoint == Endpoint::Events && passes(answer.status) {
        return refused_stream(answer.reason, answer.retry_after);
    }
    let mut response = refused.response();
    if matches!(refused, Refused::Forwarded(_)) {
        // Somebody else's words.
        set_passed_on(response.headers_mut());
        return response;
    }
    let body = error_body(answer.reason, refused.text().trim_end(), Map::new());
    let (mut head, _) = response.into_parts();
    head.headers.insert(header::CONTENT_TYPE, JSON);
    head.headers.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    Response::from_parts(head, body.into())
}

/// Whether it may be otherwise the next time.
pub(in crate::server) fn passes(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What a client said may stand in it: it is not to be taken for a page or a script.
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// A 200 with this body.
pub(in crate::server) fn json(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    response.extensions_mut().extend(spelling::own());
    response
}

/// A 200 with these messages, which `write` puts into its body. It counts in `budget` until it was handed over: whoever asks and
/// does not read holds no more than there is room for.
///
/// # Errors
/// The budget is used up, and this is no short answer.
pub(in crate::server) fn with_messages(
    entries: &[Arc<Entry>],
    budget: &Arc<Budget>,
    write: impl FnOnce() -> Bytes,
) -> Result<Response<Full<Bytes>>, EndpointError> {
    let size: usize = entries.iter().map(|entry| entry.payload().len()).sum();
    // Before it is written: that is a copy, and a longer one.
    if size > SHORT && budget.is_over() {
        return Err(EndpointError::Memory);
    }
    Ok(json(budget.hold(write())))
}

/// The head of an event stream.
pub(in crate::server) fn stream_head() -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    response.extensions_mut().extend(spelling::own());
    response
}

/// The answer to `OPTIONS`, which asks what may be asked.
pub(in crate::server) fn options(policy: &Policy, endpoint: Endpoint) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(methods::allowed(endpoint)));
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    cors::set_preflight(policy, endpoint, headers);
    response.extensions_mut().extend(spelling::own());
    response
}

/// A stream for a client that is turned away for now.
pub(in crate::server) fn refused_stream(
    reason: &'static str,
    retry_after: Option<Duration>,
) -> Response<Full<Bytes>> {
    let mut body = stream::refusal(reason).to_vec();
    if let Some(wait) = retry_after.filter(|wait| *wait > USUAL_RETRY) {
        // The last one counts.
        body.extend_from_slice(format!("retry: {}\n\n", wait.as_millis()).as_bytes());
    }
    let mut response = stream_head().map(|()| Full::from(body));
    response.headers_mut().insert(X_OUTRIGGER_REASON, HeaderValue::from_static(reason));
    response.extensions_mut().insert(AnswerReason(reason));
    response
}

fn error_body(reason: &str, message: &str, mut members: Map<String, Value>) -> Bytes {
    members.insert("error".into(), reason.into());
    members.insert("message".into(), message.into());
    Value::Object(members).to_string().into()
}

fn error(
    status: StatusCode,
    reason: &'static str,
    retry_after: Option<Duration>,
    body: Bytes,
) -> Response<Full<Bytes>> {
    let mut response = json(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(X_OUTRIGGER_REASON, HeaderValue::from_static(reason));
    if let Some(after) = retry_after {
        let seconds = (after.as_secs_f64().ceil() as u64).max(1);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response.extensions_mut().insert(AnswerReason(reason));
    response
}

#[cfg(test)]
mod tests;
