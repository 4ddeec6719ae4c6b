//! The answer of a refusal. Each says in `X-Outrigger-Reason` that the proxy made it and why, and in its body what was
//! wrong and what to do: an operator sees at once whether a 503 is the proxy's or the server's.
//!
//! # Not here
//! Why requests are refused ([`super::refused`]).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use super::refused::{Bound, Bucket, Refused};
use crate::config::CloseCodes;
use crate::frame::CloseCode;
use crate::net::head::spelling;
use crate::net::http::{X_OUTRIGGER_REASON, set_upgrade};
use crate::telemetry::HandshakeOutcome;
use crate::upstream::{DialError, UpstreamError};

/// How a refusal is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// `X-Outrigger-Reason`.
    pub reason: &'static str,
    /// How a handshake that is refused so is counted.
    pub outcome: HandshakeOutcome,
    /// `Retry-After`, in whole seconds, at least one.
    pub retry_after: Option<Duration>,
    /// The Close with `on_refuse: close`; `None`: it is always answered by the status.
    pub closing: Option<RefusalClose>,
}

impl Answer {
    fn new(status: StatusCode, reason: &'static str, outcome: HandshakeOutcome) -> Self {
        Self { status, reason, outcome, retry_after: None, closing: None }
    }

    /// For a request that can never succeed as it is: there is neither a `Retry-After` nor a Close.
    fn malformed(status: StatusCode, reason: &'static str) -> Self {
        Self::new(status, reason, HandshakeOutcome::Malformed)
    }

    fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    fn close(self, closing: RefusalClose) -> Self {
        Self { closing: Some(closing), ..self }
    }
}

/// The Close of a refusal, whose code a page can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalClose {
    /// There is no room.
    Capacity,
    /// Too fast, or not at the moment.
    Rate,
    /// Not with these credentials, or not from there.
    Unauthorized,
}

impl RefusalClose {
    /// Code and reason of the Close.
    pub fn close_frame(self, codes: &CloseCodes) -> (CloseCode, &'static str) {
        match self {
            Self::Capacity => (CloseCode(codes.capacity), "Server at capacity"),
            Self::Rate => (CloseCode(codes.rate), "try again later"),
            Self::Unauthorized => (CloseCode(codes.unauthorized), "unauthorized"),
        }
    }
}

/// `Retry-After` of a condition that is temporary.
const SOON: Duration = Duration::from_secs(1);

impl Refused {
    /// How it is answered. No `_` arm: a new refusal has to choose everything.
    pub fn answer(&self) -> Answer {
        use HandshakeOutcome as Outcome;
        use StatusCode as Status;
        match self {
            Self::Malformed(_) => Answer::malformed(Status::BAD_REQUEST, "malformed_handshake"),
            Self::Version => Answer::malformed(Status::UPGRADE_REQUIRED, "unsupported_version"),
            Self::AmbiguousPath { .. } => Answer::malformed(Status::BAD_REQUEST, "ambiguous_path"),
            Self::Head(_) => Answer::malformed(Status::BAD_REQUEST, "malformed_request"),
            Self::Plaintext => Answer::malformed(Status::BAD_REQUEST, "tls_expected"),
            Self::HeadTooLarge => {
                Answer::malformed(Status::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large")
            }
            Self::TargetTooLong => Answer::malformed(Status::URI_TOO_LONG, "target_too_long"),
            Self::TooSlow => Answer::malformed(Status::REQUEST_TIMEOUT, "handshake_timeout"),
            Self::Unsupported(_) => Answer::malformed(Status::NOT_IMPLEMENTED, "unsupported_request"),
            Self::NoHttp => Answer::malformed(Status::NOT_FOUND, "http_refused"),
            Self::Draining => Answer::new(Status::SERVICE_UNAVAILABLE, "draining", Outcome::Draining)
                .retry_after(SOON)
                .close(RefusalClose::Rate),
            Self::TooManyHandshakes => {
                let outcome = Outcome::TooManyHandshakes;
                Answer::new(Status::SERVICE_UNAVAILABLE, "too_many_handshakes", outcome).retry_after(SOON)
            }
            Self::Rate(bucket, wait) => {
                Answer::new(Status::TOO_MANY_REQUESTS, bucket.reason(), Outcome::RateLimited)
                    .retry_after(*wait)
                    .close(RefusalClose::Rate)
            }
            Self::Capacity(bound) => {
                // Connections have to end first, which takes more than a second.
                let wait = Duration::from_secs_f64(fastrand::f64().mul_add(10.0, 5.0));
                Answer::new(Status::SERVICE_UNAVAILABLE, bound.reason(), Outcome::AtCapacity)
                    .retry_after(wait)
                    .close(RefusalClose::Capacity)
            }
            Self::Origin(_) => Answer::new(Status::FORBIDDEN, "origin", Outcome::ForeignOrigin)
                .close(RefusalClose::Unauthorized),
            Self::Unauthorized(_) => Answer::new(Status::UNAUTHORIZED, "unauthorized", Outcome::Unauthorized)
                .close(RefusalClose::Unauthorized),
            Self::Forwarded(answer) => {
                Answer::new(answer.status(), "unauthorized_by_service", Outcome::Unauthorized)
                    .close(RefusalClose::Unauthorized)
            }
            Self::AuthUnavailable => {
                Answer::new(Status::SERVICE_UNAVAILABLE, "auth_unavailable", Outcome::AuthUnavailable)
                    .retry_after(SOON)
                    .close(RefusalClose::Rate)
            }
            Self::Breaker(wait) => {
                Answer::new(Status::SERVICE_UNAVAILABLE, "breaker_open", Outcome::BreakerOpen)
                    .retry_after(*wait)
                    .close(RefusalClose::Rate)
            }
            Self::Upstream(error) => upstream_answer(error),
        }
    }

    /// The whole answer.
    pub fn response(&self) -> Response<Full<Bytes>> {
        let Answer { status, reason, retry_after, .. } = self.answer();
        let mut response = match self {
            Self::Forwarded(answer) => Response::clone(answer).map(Full::from),
            _ => {
                let mut response = Response::new(Full::from(self.text()));
                let plain = HeaderValue::from_static("text/plain; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, plain);
                response
            }
        };
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(X_OUTRIGGER_REASON, HeaderValue::from_static(reason));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(after)));
        }
        match self {
            Self::Version => {
                set_upgrade(headers);
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            Self::Unauthorized(_) => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response.extensions_mut().extend(spelling::own());
        response
    }

    /// The answer as bytes, for connections that hyper does not drive any more.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Answer { status, reason, retry_after, .. } = self.answer();
        let text = self.text();
        let retry =
            retry_after.map(|after| format!("Retry-After: {}\r\n", seconds(after))).unwrap_or_default();
        format!(
            "HTTP/1.1 {status}\r\nX-Outrigger-Reason: {reason}\r\n{retry}\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len()
        )
        .into_bytes()
    }

    /// The text for clients: addresses of upstreams and names of routes are for operators only.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::AmbiguousPath { because, .. } => format!(
                "servers may read the path or host of this request in another way than this proxy does, because of \
                 {because}, and then stricter rules hold for it: write it in its plain form \
                 (listen.ambiguous_paths)\n"
            ),
            Self::Upstream(error) => match &**error {
                UpstreamError::Dial(DialError::Tls { .. }) => {
                    "the upstream is there, but no TLS could be had with it\n".into()
                }
                UpstreamError::Dial(_) => "the upstream cannot be reached\n".into(),
                UpstreamError::Broken(_) => "the upstream broke off\n".into(),
                other => format!("{other}\n"),
            },
            other => format!("{other}\n"),
        }
    }
}

/// How an upstream's failure is answered.
fn upstream_answer(error: &UpstreamError) -> Answer {
    use HandshakeOutcome as Outcome;
    use StatusCode as Status;
    let failed = |status, reason, outcome| Answer::new(status, reason, outcome).close(RefusalClose::Rate);
    match error {
        UpstreamError::Dial(DialError::Timeout { .. } | DialError::TooManyDials { .. })
        | UpstreamError::Timeout(_)
        | UpstreamError::BodyUntaken(_) => {
            failed(Status::GATEWAY_TIMEOUT, "upstream_timeout", Outcome::Timeout)
        }
        UpstreamError::Dial(DialError::Io { .. }) => {
            failed(Status::BAD_GATEWAY, "upstream_unreachable", Outcome::Unreachable)
        }
        UpstreamError::Dial(DialError::Tls { .. }) => {
            failed(Status::BAD_GATEWAY, "upstream_tls", Outcome::Unreachable)
        }
        UpstreamError::Broken(_) | UpstreamError::Framing(_) => {
            failed(Status::BAD_GATEWAY, "upstream_broken", Outcome::Unreachable)
        }
        UpstreamError::BadUpgrade(_) => {
            failed(Status::BAD_GATEWAY, "upstream_bad_upgrade", Outcome::BadUpgrade)
        }
        // The client caused these.
        UpstreamError::BodyTooLarge(_) => Answer::malformed(Status::PAYLOAD_TOO_LARGE, "body_too_large"),
        UpstreamError::BodyStalled(_) => Answer::malformed(Status::REQUEST_TIMEOUT, "body_timeout"),
        UpstreamError::BodyBroken => Answer::malformed(Status::BAD_REQUEST, "body_broken"),
    }
}

impl Bucket {
    fn reason(self) -> &'static str {
        match self {
            Self::Global => "rate_global",
            Self::PerIp => "rate_per_ip",
            Self::PerUser => "rate_per_user",
            Self::HttpGlobal => "http_rate_global",
            Self::HttpPerIp => "http_rate_per_ip",
        }
    }
}

impl Bound {
    fn reason(self) -> &'static str {
        match self {
            Self::Route => "capacity",
            Self::PerIp => "capacity_per_ip",
            Self::PerUser => "capacity_per_user",
            Self::Channels => "capacity_channels",
            Self::Memory => "capacity_memory",
        }
    }
}

/// Whole seconds, as `Retry-After` has them (RFC 9110 §10.2.3).
fn seconds(after: Duration) -> u64 {
    (after.as_secs_f64().ceil() as u64).max(1)
}

#[cfg(test)]
mod tests;
