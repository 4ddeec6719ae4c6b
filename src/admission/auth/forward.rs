//! Asks another service whether a request is allowed.
//!
//! The service gets a `GET` with the client's headers (those of the hop, of the body and of the WebSocket
//! handshake not among them), with `X-Forwarded-*` as the server behind would see them, and with what was
//! asked for: `X-Original-Method` and `X-Original-URI`, also as `X-Forwarded-Method` and `-Uri`.
//!
//! | it answers | what happens |
//! | --- | --- |
//! | 2xx | let in; its `user_header` names the user, none is no user; its `headers` go on to the upstream |
//! | 401, 403, or a redirect | passed on: status, body, and the headers that belong to it |
//! | anything else, or nothing in time | 503: a service that is broken lets nobody in |
//!
//! Redirects are passed on since that is how a login page is shown to a browser that loads a page of a
//! guarded route; a WebSocket client does not follow them, and sees that it failed.
//!
//! # Invariants
//! 1. The headers that describe the request to the service are the proxy's: a client cannot forge them.
//! 2. A client cannot forge the service's own headers either (`user_header`, `headers`), neither towards the service
//!    nor towards the upstream, in any spelling and on any kind of request ([`Forward::strip_reserved`]).
//! 3. At most [`MAX_CONCURRENT`] are asked for at once, [`MAX_WAITING`] wait for it; the time that somebody
//!    waits is part of `timeout`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Empty;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::error::AuthError;
use super::user_name::user_name;
use super::waiting::Waiting;
use crate::admission::{Kind, Refused, RequestContext};
use crate::config::{self, Forwarded, HostHeader, Target};
use crate::net::Fetch;
use crate::net::http::plain_name;
use crate::telemetry::redact::redact_path;
use crate::telemetry::{AuthFailure, Metrics};
use crate::upstream::headers::{self, ForwardingConfig, Requester};

/// Requests to the service at one time: as many as dials to an upstream by default.
const MAX_CONCURRENT: usize = 128;
/// Requests that are in progress or wait; more are refused.
const MAX_WAITING: usize = 1024;
/// Longest body that is passed to a client: a page that says why it is refused.
const MAX_BODY: usize = 64 * 1024;

/// Headers that are passed to a client with a refusal; others may describe the service itself.
const PASSED_TO_CLIENT: [HeaderName; 9] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_TYPE,
    header::LOCATION,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::VARY,
    header::WWW_AUTHENTICATE,
    header::CONTENT_SECURITY_POLICY,
];

/// Headers about a body, which is not sent, or that make the answer depend on what the client has cached.
const NOT_FORWARDED: [HeaderName; 7] = [
    header::EXPECT,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
];

const X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");

/// The service.
#[derive(Debug)]
pub(super) struct Forward {
    fetch: Fetch,
    uri: Uri,
    /// Where it listens, as [`headers::for_upstream`] wants it.
    target: Target,
    timeout: Duration,
    user_header: HeaderName,
    /// The headers of its answer that the upstream gets.
    headers: Vec<HeaderName>,
    /// The headers that only the service may set: `headers` and `user_header`.
    reserved: Vec<HeaderName>,
    concurrent: Semaphore,
    waiting: Semaphore,
    is_down: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Forward {
    pub(super) fn new(config: &config::ForwardAuth, metrics: Arc<Metrics>) -> Result<Self, AuthError> {
        let ca = config.ca.as_ref().map(|file| ("policy.auth.forward.ca_file", file));
        let (fetch, uri) = Fetch::new("policy.auth.forward.url", &config.url, ca)
            .map_err(|error| AuthError::of_url("forward.url", error))?;
        let default = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        let target = Target::Tcp {
            host: uri.host().unwrap_or_default().to_owned(),
            port: uri.port_u16().unwrap_or(default),
        };
        let user_header = HeaderName::from_bytes(config.user_header.as_bytes())
            .map_err(|_| AuthError::Header("forward.user_header"))?;
        let named = config.headers.iter().map(|name| HeaderName::from_bytes(name.as_bytes()));
        let headers =
            named.collect::<Result<Vec<_>, _>>().map_err(|_| AuthError::Header("forward.headers"))?;
        let mut reserved = headers.clone();
        if !reserved.contains(&user_header) {
            reserved.push(user_header.clone());
        }
        Ok(Self {
            fetch,
            uri,
            target,
            timeout: config.timeout,
            user_header,
            headers,
            reserved,
            concurrent: Semaphore::new(MAX_CONCURRENT),
            waiting: Semaphore::new(MAX_WAITING),
            is_down: AtomicBool::new(false),
            metrics,
        })
    }

    /// Removes from a request the headers that only the service may set.
    pub(super) fn strip_reserved(&self, headers: &mut HeaderMap) {
        for name in &self.reserved {
            headers.remove(name);
        }
        // In other spellings too.
        let reserved: Vec<String> = self.reserved.iter().map(|name| plain_name(name.as_str())).collect();
        let is_reserved = |name: &HeaderName| reserved.contains(&plain_name(name.as_str()));
        let alike: Vec<HeaderName> = headers.keys().filter(|name| is_reserved(name)).cloned().collect();
        for name in alike {
            headers.remove(name);
        }
    }

    /// Whether the request is allowed, and as which user.
    pub(super) async fn check(&self, context: &RequestContext) -> Result<Allowed, Refusal> {
        match self.ask(context).await {
            Ok(response) => {
                let answer = self.read(response);
                self.report(answer.as_ref().err().and_then(|refusal| match refusal {
                    Refusal::Unavailable(why) => Some(why.as_str()),
                    Refusal::Refused(_) => None,
                }));
                answer
            }
            Err(why) => {
                self.report(Some(&why));
                Err(Refusal::Unavailable(why))
            }
        }
    }

    async fn ask(&self, context: &RequestContext) -> Result<Response<Bytes>, String> {
        let Ok(_permit) = self.waiting.try_acquire() else {
            return Err("too many requests wait for its answer".into());
        };
        let _waiting = Waiting::new(&self.metrics);
        let until = Instant::now() + self.timeout;
        let slot = timeout_at(until, self.concurrent.acquire()).await;
        let Ok(Ok(_slot)) = slot else { return Err("it is too slow for as many as ask".into()) };
        let request = self.request(context);
        let left = until.saturating_duration_since(Instant::now());
        self.fetch.send(request, left, MAX_BODY).await.map_err(|error| error.to_string())
    }

    /// What the service is asked.
    fn request(&self, context: &RequestContext) -> Request<Empty<Bytes>> {
        let mut headers = context.head.headers.clone();
        let own_names = [X_ORIGINAL_URI, X_ORIGINAL_METHOD, X_FORWARDED_URI, X_FORWARDED_METHOD];
        let own_names = own_names.each_ref().map(HeaderName::as_str);
        let is_not_forwarded = |name: &HeaderName| {
            let text = name.as_str();
            NOT_FORWARDED.contains(name)
                || text.starts_with("content-")
                || text.starts_with("sec-websocket-")
                || own_names.contains(&plain_name(text).as_str())
        };
        let left_out: Vec<HeaderName> =
            headers.keys().filter(|name| is_not_forwarded(name)).cloned().collect();
        for name in left_out {
            headers.remove(name);
        }
        let requester = Requester {
            peer: &context.peer,
            forwarding: context.forwarding.as_deref(),
            client: context.client.address,
            user: None,
            attested: None,
        };
        let forwarding_config = ForwardingConfig {
            forwarded: Forwarded::XForwarded,
            host: HostHeader::Preserve,
            target: &self.target,
            strip_prefix: None,
        };
        headers::for_upstream(&mut headers, requester, forwarding_config, false);
        // Its own, from the URL.
        headers.remove(header::HOST);
        let path = context.head.uri.path_and_query().map_or("/", |target| target.as_str());
        if let Ok(path) = HeaderValue::from_bytes(path.as_bytes()) {
            headers.insert(X_FORWARDED_URI, path.clone());
            headers.insert(X_ORIGINAL_URI, path);
        }
        // Over HTTP/2 a handshake is a CONNECT; rules of the service are to see one method for both.
        let method = match context.kind {
            Kind::Handshake | Kind::Fallback(_) => &Method::GET,
            Kind::Plain => &context.head.method,
        };
        if let Ok(method) = HeaderValue::from_str(method.as_str()) {
            headers.insert(X_FORWARDED_METHOD, method.clone());
            headers.insert(X_ORIGINAL_METHOD, method);
        }
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        request
    }

    /// Interprets the answer.
    fn read(&self, response: Response<Bytes>) -> Result<Allowed, Refusal> {
        let status = response.status();
        let is_redirect = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
            && response.headers().contains_key(header::LOCATION);
        if status.is_success() {
            let mut attested = HeaderMap::new();
            for name in &self.headers {
                for value in response.headers().get_all(name) {
                    attested.append(name, value.clone());
                }
            }
            let mut named = response.headers().get_all(&self.user_header).into_iter();
            return match (named.next(), named.next()) {
                (None, _) => Ok(Allowed { user: None, attested }),
                (Some(name), None) if name.is_empty() => Ok(Allowed { user: None, attested }),
                (Some(name), None) => match name.to_str().ok().and_then(user_name) {
                    Some(name) => Ok(Allowed { user: Some(name), attested }),
                    None => Err(Refusal::Unavailable(format!(
                        "its {} is not 1 to 256 visible ASCII characters",
                        self.user_header
                    ))),
                },
                (Some(_), Some(_)) => {
                    Err(Refusal::Unavailable(format!("there is more than one {}", self.user_header)))
                }
            };
        }
        if is_redirect || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let (head, body) = response.into_parts();
            let mut passed_on = Response::new(body);
            *passed_on.status_mut() = status;
            let mut headers = HeaderMap::new();
            for name in &PASSED_TO_CLIENT {
                for value in head.headers.get_all(name) {
                    headers.append(name, value.clone());
                }
            }
            *passed_on.headers_mut() = headers;
            return Err(Refusal::Refused(Box::new(passed_on)));
        }
        Err(Refusal::Unavailable(format!("it answered with status {}", status.as_u16())))
    }

    /// Logs once that the service is down, and once that it is up again.
    fn report(&self, down: Option<&str>) {
        let was_down = self.is_down.swap(down.is_some(), Ordering::Relaxed);
        if was_down == down.is_some() {
            return;
        }
        let url = self.uri.to_string();
        match down {
            Some(why) => {
                warn!(url = %redact_path(&url), why, "authentication service fails (policy.auth.forward)");
            }
            None => info!(url = %redact_path(&url), "authentication service answers again"),
        }
    }
}

/// What the service says of a request that it allows.
#[derive(Debug)]
pub(super) struct Allowed {
    /// Under which name, if it has one.
    pub(super) user: Option<Arc<str>>,
    /// What the upstream is told of it.
    pub(super) attested: HeaderMap,
}

/// Why the request is refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The service says so.
    Refused(Box<Response<Bytes>>),
    /// It does not say anything of use.
    Unavailable(String),
}

impl From<Refusal> for (AuthFailure, Refused) {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Refused(answer) => (AuthFailure::Forward, Refused::Forwarded(answer)),
            Refusal::Unavailable(_) => (AuthFailure::Unavailable, Refused::AuthUnavailable),
        }
    }
}

#[cfg(test)]
mod tests;
