//! Answers of our own. Each says in `X-Outrigger-Reason` that it is ours and why, and in its body what
//! was wrong and what to do: at 3 am one knows whose 503 it is.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use crate::telemetry::HandshakeOutcome;
use crate::upstream::{DialError, UpstreamError};

/// Why a request was answered by us and not by the upstream.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// RFC 6455 §4.2.1.
    #[error("not a WebSocket handshake: {0}")]
    Malformed(&'static str),
    /// RFC 6455 §4.2.2: only version 13 is spoken.
    #[error("only version 13 of the WebSocket protocol is spoken here (Sec-WebSocket-Version: 13)")]
    Version,
    /// The request could not be read.
    #[error("the request could not be read as HTTP/1.1")]
    Unreadable,
    /// Above `listen.max_header_bytes`, or above a hundred headers.
    #[error("the request's head is larger than this proxy takes (listen.max_header_bytes)")]
    HeadTooLarge,
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
    /// The upstream is to blame.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// Says that an answer is ours, and why.
const REASON: HeaderName = HeaderName::from_static("x-outrigger-reason");

impl Refusal {
    /// Status, and the word in `X-Outrigger-Reason`. No `_` arm: a new refusal has to choose both.
    pub(super) fn answer(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed_handshake"),
            Self::Version => (StatusCode::UPGRADE_REQUIRED, "unsupported_version"),
            Self::Unreadable => (StatusCode::BAD_REQUEST, "malformed_request"),
            Self::HeadTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "handshake_timeout"),
            Self::Unsupported(_) => (StatusCode::NOT_IMPLEMENTED, "unsupported_request"),
            Self::NoHttp => (StatusCode::NOT_FOUND, "http_refused"),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            Self::Upstream(error) => match error {
                UpstreamError::Dial(DialError::Timeout { .. }) => {
                    (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout")
                }
                UpstreamError::Dial(DialError::Io { .. }) => {
                    (StatusCode::BAD_GATEWAY, "upstream_unreachable")
                }
                UpstreamError::Timeout(_) => (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout"),
                UpstreamError::Broken(_) => (StatusCode::BAD_GATEWAY, "upstream_broken"),
                UpstreamError::BadUpgrade(_) => (StatusCode::BAD_GATEWAY, "upstream_bad_upgrade"),
                UpstreamError::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            },
        }
    }

    /// How a handshake that ended so is counted.
    pub(super) fn outcome(&self) -> HandshakeOutcome {
        match self {
            Self::Draining => HandshakeOutcome::Draining,
            Self::Upstream(UpstreamError::Dial(DialError::Io { .. }) | UpstreamError::Broken(_)) => {
                HandshakeOutcome::Unreachable
            }
            Self::Upstream(UpstreamError::Dial(DialError::Timeout { .. }) | UpstreamError::Timeout(_)) => {
                HandshakeOutcome::Timeout
            }
            Self::Upstream(UpstreamError::BadUpgrade(_)) => HandshakeOutcome::BadUpgrade,
            Self::Malformed(_)
            | Self::Version
            | Self::Unreadable
            | Self::HeadTooLarge
            | Self::TooSlow
            | Self::Unsupported(_)
            | Self::NoHttp
            | Self::Upstream(UpstreamError::BodyTooLarge(_)) => HandshakeOutcome::Malformed,
        }
    }

    /// What hyper says by itself about a request that it could not read.
    pub(super) fn of_status(status: u16) -> Self {
        match status {
            414 | 431 => Self::HeadTooLarge,
            _ => Self::Unreadable,
        }
    }

    /// The whole answer.
    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let (status, reason) = self.answer();
        let mut response = Response::new(Full::from(self.text()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(REASON, HeaderValue::from_static(reason));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::Version => {
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            Self::Draining => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }

    /// The answer as bytes, for when no HTTP machinery is left to send it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let (status, reason) = self.answer();
        let text = self.text();
        format!(
            "HTTP/1.1 {status}\r\nx-outrigger-reason: {reason}\r\ncontent-type: text/plain; charset=utf-8\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{text}",
            text.len()
        )
        .into_bytes()
    }

    /// Addresses of upstreams are for operators: clients get the kind of failure only.
    fn text(&self) -> String {
        match self {
            Self::Upstream(UpstreamError::Dial(_)) => "the upstream cannot be reached\n".into(),
            Self::Upstream(UpstreamError::Broken(_)) => "the upstream broke off\n".into(),
            other => format!("{other}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_answer_says_that_it_is_ours_and_tells_no_address() {
        let dial = || DialError::Io {
            target: "10.1.2.3:3000".into(),
            source: io::ErrorKind::ConnectionRefused.into(),
        };
        let refusals = [
            Refusal::Malformed("the key is not 16 bytes in base64"),
            Refusal::Version,
            Refusal::Unreadable,
            Refusal::HeadTooLarge,
            Refusal::TooSlow,
            Refusal::Unsupported("CONNECT"),
            Refusal::NoHttp,
            Refusal::Draining,
            Refusal::Upstream(dial().into()),
            Refusal::Upstream(UpstreamError::Timeout(Duration::from_secs(1))),
            Refusal::Upstream(UpstreamError::Broken("10.1.2.3".into())),
            Refusal::Upstream(UpstreamError::BodyTooLarge(5)),
        ];
        for refusal in refusals {
            let response = refusal.response();
            let (status, reason) = refusal.answer();
            assert_eq!(response.headers()["x-outrigger-reason"], reason);
            let raw = String::from_utf8(refusal.to_bytes()).unwrap();
            assert!(raw.starts_with(&format!("HTTP/1.1 {} ", status.as_u16())), "{raw}");
            assert!(raw.contains(&format!("\r\nx-outrigger-reason: {reason}\r\n")));
            assert!(!raw.contains("10.1.2.3"), "{raw}");
        }
    }
}
