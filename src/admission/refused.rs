//! Answers of our own. Each says in `X-Outrigger-Reason` that it is ours and why, and in its body what
//! was wrong and what to do: at 3 am one knows whose 503 it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use crate::config::CloseCodes;
use crate::frame::CloseCode;
use crate::net::head::{self, HeadFault, MAX_HEADERS, spelling};
use crate::net::http::{X_OUTRIGGER_REASON, set_upgrade};
use crate::telemetry::{AuthFailure, HandshakeOutcome, RefusalReason};
use crate::upstream::{DialError, UpstreamError};

/// Why a request was answered by us and not by the upstream.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// RFC 6455 §4.2.1.
    #[error("not a WebSocket handshake: {0}")]
    Malformed(&'static str),
    /// RFC 6455 §4.2.2: only version 13 is spoken.
    #[error("only version 13 of the WebSocket protocol is spoken here (Sec-WebSocket-Version: 13)")]
    Version,
    /// `listen.ambiguous_paths`
    #[error("servers may read its path or host to be for the route {stricter}, because of {because}")]
    AmbiguousPath {
        /// What it is that servers read in different ways.
        because: &'static str,
        /// A route that is stricter than the one that it is for as this proxy reads it.
        stricter: String,
    },
    /// The request's head cannot be read, or could be read in two ways.
    #[error("the request cannot be passed on: {0}")]
    Head(#[from] HeadFault),
    /// HTTP in the clear where TLS is spoken.
    #[error("this port speaks TLS: ask for https:// or wss://")]
    Plaintext,
    /// Above `listen.max_header_bytes`, or above so many headers.
    #[error(
        "the request's head (its first line and its headers) is larger than this proxy takes \
         (listen.max_header_bytes), or has more than {MAX_HEADERS} headers"
    )]
    HeadTooLarge,
    /// RFC 9110 §15.5.15. No setting moves this bound: targets are kept with 16 bits for their length.
    #[error(
        "the request's target (its URL) is longer than {} bytes, which is the most that is taken",
        head::MAX_TARGET
    )]
    TargetTooLong,
    /// `listen.handshake_timeout`
    #[error("the request's head did not come in time (listen.handshake_timeout)")]
    TooSlow,
    /// Something that is no request for this server.
    #[error("{0} is not passed on by this proxy")]
    Unsupported(&'static str),
    /// `policy.http.mode: refuse`
    #[error("this route takes WebSocket handshakes only")]
    NoHttp,
    /// The proxy is being stopped.
    #[error("this proxy is being stopped; try again, another one will answer")]
    Draining,
    /// `listen.max_handshakes`
    #[error("too many handshakes are in progress; try again later")]
    TooManyHandshakes,
    /// `policy.handshake_rate`, `policy.http.rate`: whose bucket is empty, and when to come back.
    #[error("too many {0}; try again later")]
    Rate(Bucket, Duration),
    /// `policy.limits`: whose places are all taken.
    #[error("server at capacity: there is no room for more connections {0}")]
    Capacity(Bound),
    /// `policy.origins`
    #[error("{0}")]
    Origin(ForeignPage),
    /// `policy.auth`: no credentials, or wrong ones. What exactly is for the log, not for whoever guesses.
    #[error("credentials are missing or not valid")]
    Unauthorized(AuthFailure),
    /// `policy.auth.forward`: the answer of whoever was asked.
    #[error("the authentication service refused")]
    Forwarded(Box<Response<Bytes>>),
    /// Credentials could not be checked.
    #[error("credentials cannot be checked at the moment; try again later")]
    AuthUnavailable,
    /// `policy.breaker`: the upstream keeps failing and was not asked; when to come back.
    #[error("the upstream keeps failing and is left alone for a moment; try again later")]
    Breaker(Duration),
    /// The upstream is to blame.
    #[error(transparent)]
    Upstream(Arc<UpstreamError>),
}

/// Why a page may not come in. What a client sent is kept as it may be shown: bounded, and without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForeignPage {
    /// The `Origin` that was sent.
    #[error("pages of {0} may not connect here: it is no origin of policy.origins")]
    Named(Box<str>),
    /// More than one `Origin`.
    #[error("more than one Origin was sent: a page has one, and it has to be in policy.origins")]
    Several,
    /// None, and `policy.origins.missing` is `refuse`.
    #[error("no Origin was sent, and policy.origins.missing is refuse: it has to be one of policy.origins")]
    Missing,
    /// None, and the browser says that another site's page asks (`Sec-Fetch-Site`).
    #[error(
        "no Origin was sent, and another site's page asks (Sec-Fetch-Site: cross-site): policy.origins has to name it"
    )]
    CrossSite,
}

impl ForeignPage {
    /// The origin that was sent.
    pub fn origin(&self) -> Option<&str> {
        match self {
            Self::Named(origin) => Some(origin),
            Self::Several | Self::Missing | Self::CrossSite => None,
        }
    }
}

/// Whose handshakes or requests are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// `handshake_rate.global`
    Global,
    /// `handshake_rate.per_ip`
    PerIp,
    /// `handshake_rate.per_user`
    PerUser,
    /// `http.rate.global`
    HttpGlobal,
    /// `http.rate.per_ip`
    HttpPerIp,
}

impl std::fmt::Display for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Global => "handshakes at once",
            Self::PerIp => "handshakes from this address",
            Self::PerUser => "handshakes of this user",
            Self::HttpGlobal => "requests at once",
            Self::HttpPerIp => "requests from this address",
        })
    }
}

/// Whose connections are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `limits.connections`
    Route,
    /// `limits.per_ip`
    PerIp,
    /// `limits.per_user`
    PerUser,
    /// `broadcast.max_channels`
    Channels,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Route => "here",
            Self::PerIp => "from this address",
            Self::PerUser => "of this user",
            Self::Channels => "to anything that nobody is connected to yet",
        })
    }
}

/// All that a refusal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// `X-Outrigger-Reason`.
    pub reason: &'static str,
    /// How a handshake that ended so is counted.
    pub outcome: HandshakeOutcome,
    /// `Retry-After`, in whole seconds, at least one.
    pub retry_after: Option<Duration>,
    /// How it is told by a Close, where that is wanted; `None`: always by the status.
    pub closing: Option<RefusalClose>,
}

/// A refusal that a browser can read.
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
    pub fn words(self, codes: &CloseCodes) -> (CloseCode, &'static str) {
        match self {
            Self::Capacity => (CloseCode(codes.capacity), "Server at capacity"),
            Self::Rate => (CloseCode(codes.rate), "try again later"),
            Self::Unauthorized => (CloseCode(codes.unauthorized), "unauthorized"),
        }
    }
}

/// For those who are refused for a reason that passes soon.
const SOON: Duration = Duration::from_secs(1);

impl From<UpstreamError> for Refused {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(Arc::new(error))
    }
}

impl Refused {
    /// What it comes to. No `_` arm: a new refusal has to choose everything.
    pub fn answer(&self) -> Answer {
        use HandshakeOutcome as Outcome;
        let fault = |status, reason| (status, reason, Outcome::Malformed, None, None);
        let upstream = |status, reason, outcome| (status, reason, outcome, None, Some(RefusalClose::Rate));
        let (status, reason, outcome, retry_after, closing) = match self {
            Self::Malformed(_) => fault(StatusCode::BAD_REQUEST, "malformed_handshake"),
            Self::Version => fault(StatusCode::UPGRADE_REQUIRED, "unsupported_version"),
            Self::AmbiguousPath { .. } => fault(StatusCode::BAD_REQUEST, "ambiguous_path"),
            Self::Head(_) => fault(StatusCode::BAD_REQUEST, "malformed_request"),
            Self::Plaintext => fault(StatusCode::BAD_REQUEST, "tls_expected"),
            Self::HeadTooLarge => fault(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large"),
            Self::TargetTooLong => fault(StatusCode::URI_TOO_LONG, "target_too_long"),
            Self::TooSlow => fault(StatusCode::REQUEST_TIMEOUT, "handshake_timeout"),
            Self::Unsupported(_) => fault(StatusCode::NOT_IMPLEMENTED, "unsupported_request"),
            Self::NoHttp => fault(StatusCode::NOT_FOUND, "http_refused"),
            Self::Draining => (
                StatusCode::SERVICE_UNAVAILABLE,
                "draining",
                Outcome::Draining,
                Some(SOON),
                Some(RefusalClose::Rate),
            ),
            Self::TooManyHandshakes => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_handshakes",
                Outcome::TooManyHandshakes,
                Some(SOON),
                None,
            ),
            Self::Rate(bucket, wait) => {
                let reason = match bucket {
                    Bucket::Global => "rate_global",
                    Bucket::PerIp => "rate_per_ip",
                    Bucket::PerUser => "rate_per_user",
                    Bucket::HttpGlobal => "http_rate_global",
                    Bucket::HttpPerIp => "http_rate_per_ip",
                };
                let status = StatusCode::TOO_MANY_REQUESTS;
                (status, reason, Outcome::RateLimited, Some(*wait), Some(RefusalClose::Rate))
            }
            Self::Capacity(bound) => {
                let reason = match bound {
                    Bound::Route => "capacity",
                    Bound::PerIp => "capacity_per_ip",
                    Bound::PerUser => "capacity_per_user",
                    Bound::Channels => "capacity_channels",
                };
                // Places come back when somebody leaves: not within a second.
                let wait = Duration::from_secs_f64(fastrand::f64().mul_add(10.0, 5.0));
                let status = StatusCode::SERVICE_UNAVAILABLE;
                (status, reason, Outcome::AtCapacity, Some(wait), Some(RefusalClose::Capacity))
            }
            Self::Origin(_) => {
                let closing = Some(RefusalClose::Unauthorized);
                (StatusCode::FORBIDDEN, "origin", Outcome::ForeignOrigin, None, closing)
            }
            Self::Unauthorized(_) => {
                let closing = Some(RefusalClose::Unauthorized);
                (StatusCode::UNAUTHORIZED, "unauthorized", Outcome::Unauthorized, None, closing)
            }
            Self::Forwarded(answer) => {
                let closing = Some(RefusalClose::Unauthorized);
                (answer.status(), "unauthorized_by_service", Outcome::Unauthorized, None, closing)
            }
            Self::AuthUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "auth_unavailable",
                Outcome::AuthUnavailable,
                Some(SOON),
                Some(RefusalClose::Rate),
            ),
            Self::Breaker(wait) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "breaker_open",
                Outcome::BreakerOpen,
                Some(*wait),
                Some(RefusalClose::Rate),
            ),
            Self::Upstream(error) => match &**error {
                UpstreamError::Dial(DialError::Timeout { .. } | DialError::NoPlace { .. }) => {
                    upstream(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", Outcome::Timeout)
                }
                UpstreamError::Dial(DialError::Io { .. }) => {
                    upstream(StatusCode::BAD_GATEWAY, "upstream_unreachable", Outcome::Unreachable)
                }
                UpstreamError::Dial(DialError::Tls { .. }) => {
                    upstream(StatusCode::BAD_GATEWAY, "upstream_tls", Outcome::Unreachable)
                }
                UpstreamError::Timeout(_) | UpstreamError::BodyUntaken(_) => {
                    upstream(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", Outcome::Timeout)
                }
                UpstreamError::Broken(_) | UpstreamError::Framing(_) => {
                    upstream(StatusCode::BAD_GATEWAY, "upstream_broken", Outcome::Unreachable)
                }
                UpstreamError::BadUpgrade(_) => {
                    upstream(StatusCode::BAD_GATEWAY, "upstream_bad_upgrade", Outcome::BadUpgrade)
                }
                UpstreamError::BodyTooLarge(_) => fault(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
                UpstreamError::BodyStalled(_) => fault(StatusCode::REQUEST_TIMEOUT, "body_timeout"),
                UpstreamError::BodyBroken => fault(StatusCode::BAD_REQUEST, "body_broken"),
            },
        };
        Answer { status, reason, outcome, retry_after, closing }
    }

    /// Which guard of a route turned the request away; `None`: it was none of them.
    pub fn guard(&self) -> Option<RefusalReason> {
        use RefusalReason as Reason;
        Some(match self {
            Self::Rate(Bucket::Global, _) => Reason::RateGlobal,
            Self::Rate(Bucket::PerIp, _) => Reason::RatePerIp,
            Self::Rate(Bucket::PerUser, _) => Reason::RatePerUser,
            Self::Rate(Bucket::HttpGlobal, _) => Reason::HttpRateGlobal,
            Self::Rate(Bucket::HttpPerIp, _) => Reason::HttpRatePerIp,
            Self::Capacity(Bound::Route) => Reason::Capacity,
            Self::Capacity(Bound::PerIp) => Reason::CapacityPerIp,
            Self::Capacity(Bound::PerUser) => Reason::CapacityPerUser,
            Self::Capacity(Bound::Channels) => Reason::CapacityChannels,
            Self::Origin(_) => Reason::Origin,
            Self::Unauthorized(_) => Reason::Unauthorized,
            Self::Forwarded(_) => Reason::UnauthorizedByService,
            Self::AuthUnavailable => Reason::AuthUnavailable,
            Self::Breaker(_) => Reason::BreakerOpen,
            _ => return None,
        })
    }

    /// Why credentials were not taken: for the log, and not for whoever guesses.
    pub fn auth_failure(&self) -> Option<AuthFailure> {
        match self {
            Self::Unauthorized(failure) => Some(*failure),
            Self::Forwarded(_) => Some(AuthFailure::Forward),
            Self::AuthUnavailable => Some(AuthFailure::Unavailable),
            _ => None,
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

    /// The answer as bytes, for when no HTTP machinery is left to send it.
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

    /// Addresses of upstreams and names of routes are for operators: clients get the kind of failure only.
    fn text(&self) -> String {
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

/// Whole seconds, as `Retry-After` has them (RFC 9110 §10.2.3).
fn seconds(after: Duration) -> u64 {
    (after.as_secs_f64().ceil() as u64).max(1)
}

#[cfg(test)]
mod tests;
