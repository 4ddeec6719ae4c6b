//! The client of the operators' port, for `outrigger drain`, `health`, `channels`, `subscribers` and `publish`.
//!
//! # Invariants
//! 1. Only an answer that no other server gives counts as success: one that answers 200 to everything has drained and
//!    published nothing.
//! 2. An answer is read up to a bound, and its text is shown escaped: names in it come from clients.
//!
//! # Not here
//! Waiting for the end of a drain ([`drain`]); health checks ([`health`]); the output of the commands ([`crate::cli`]).

mod drain;
mod health;

use std::error::Error as _;
use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Channel, Published, Subscriber};
use crate::config::Secret;
use crate::telemetry::redact::escaped;

pub(crate) use drain::Drain;
pub(crate) use health::Probe;

/// The URL of the admin port by default.
pub(crate) const DEFAULT_ADMIN_URL: &str = "http://127.0.0.1:9090";

/// One admin port, and the token for it.
#[derive(Debug)]
pub(crate) struct Client {
    admin: AdminAddress,
    authorization: Option<HeaderValue>,
}

/// Which entries of a list are asked for; `None`: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListFilter {
    /// Those of one route.
    pub route: Option<String>,
    /// Those of one channel; for subscribers only.
    pub channel: Option<String>,
    /// At most so many.
    pub limit: Option<u32>,
}

/// A list, as far as it was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listing<T> {
    /// How many there are.
    pub total: u64,
    /// The first of them.
    pub entries: Vec<T>,
    /// The answer as it came, which is JSON.
    pub json: String,
}

/// What to publish, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The route's name.
    pub route: String,
    /// One channel of it; `None`: all.
    pub channel: Option<String>,
    /// One user's clients; `None`: all.
    pub user: Option<String>,
    /// The message itself.
    pub payload: Payload,
}

/// A message by its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Becomes a text message.
    Text(String),
    /// Becomes a binary message.
    Binary(Vec<u8>),
}

impl Client {
    /// For the admin port at `admin_url` (`http://HOST:PORT`).
    ///
    /// # Errors
    /// The address or the token cannot be one.
    pub(crate) fn new(admin_url: &str, token: Option<&Secret>) -> Result<Self, ClientError> {
        let admin = AdminAddress::parse(admin_url)?;
        Ok(Self { admin, authorization: token.map(authorization).transpose()? })
    }

    /// The channels of mode broadcast.
    ///
    /// # Errors
    /// There was no such answer.
    pub(crate) async fn channels(&self, filter: &ListFilter) -> Result<Listing<Channel>, ClientError> {
        #[derive(Deserialize)]
        struct ResponseBody {
            total: u64,
            channels: Vec<Channel>,
        }
        let target = filter.target("/api/admin/channels")?;
        let (body, json) =
            self.send(AdminRequest::get(target)).await?.read::<ResponseBody>(StatusCode::OK)?;
        Ok(Listing { total: body.total, entries: body.channels, json })
    }

    /// The clients of mode broadcast, those furthest behind first.
    ///
    /// # Errors
    /// There was no such answer.
    pub(crate) async fn subscribers(&self, filter: &ListFilter) -> Result<Listing<Subscriber>, ClientError> {
        #[derive(Deserialize)]
        struct ResponseBody {
            total: u64,
            subscribers: Vec<Subscriber>,
        }
        let target = filter.target("/api/admin/subscribers")?;
        let (body, json) =
            self.send(AdminRequest::get(target)).await?.read::<ResponseBody>(StatusCode::OK)?;
        Ok(Listing { total: body.total, entries: body.subscribers, json })
    }

    /// Publishes. Without an answer it is not known whether the message was published, and it is not sent again.
    ///
    /// # Errors
    /// Nothing was published, or it is not known whether it was.
    pub(crate) async fn publish(&self, message: &Message) -> Result<(Published, String), ClientError> {
        let mut body = serde_json::json!({ "route": message.route });
        for (key, value) in [("channel", &message.channel), ("user", &message.user)] {
            if let Some(value) = value {
                body[key] = value.as_str().into();
            }
        }
        match &message.payload {
            Payload::Text(text) => body["text"] = text.as_str().into(),
            Payload::Binary(bytes) => body["base64"] = STANDARD.encode(bytes).into(),
        }
        let request = AdminRequest {
            method: Method::POST,
            target: Uri::from_static("/api/admin/broadcast"),
            body: body.to_string().into(),
            answer_timeout: Some(PUBLISH_TIMEOUT),
        };
        self.send(request).await?.read(StatusCode::OK)
    }

    async fn send(&self, request: AdminRequest) -> Result<Answer, ClientError> {
        self.admin.send(request, self.authorization.clone()).await
    }
}

impl ListFilter {
    fn target(&self, path: &'static str) -> Result<Uri, ClientError> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, value) in [("route", &self.route), ("channel", &self.channel)] {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        if let Some(limit) = self.limit {
            query.append_pair("limit", &limit.to_string());
        }
        let query = query.finish();
        // All that a URI cannot hold is percent-encoded: only its length can be wrong.
        format!("{path}?{query}").parse().map_err(|_| ClientError::NameTooLong)
    }
}

/// One request.
struct AdminRequest {
    method: Method,
    target: Uri,
    body: Bytes,
    /// How long the answer may take, if that is bounded; connecting is bounded in any case.
    answer_timeout: Option<Duration>,
}

impl AdminRequest {
    fn get(target: Uri) -> Self {
        Self { method: Method::GET, target, body: Bytes::new(), answer_timeout: Some(ANSWER_TIMEOUT) }
    }
}

/// Why the admin port did not do what it was asked for; each says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The address cannot be used.
    #[error("the admin address \"{url}\" {problem}; give it as http://HOST:PORT, as in {DEFAULT_ADMIN_URL}")]
    Address {
        /// As given; without what may be a password in it.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The token cannot stand in a header.
    #[error("the token has characters that no HTTP header can carry; is this the right --token-file?")]
    Token,
    /// No URI holds so much.
    #[error("the name is too long: no route or channel has more than some thousand characters")]
    NameTooLong,
    /// Nothing listens there.
    #[error(
        "nothing answers at {admin} ({source}): is the proxy running? If its admin.address is another one, \
         give it with --admin"
    )]
    Connect {
        /// Host and port.
        admin: String,
        /// What the system said.
        source: io::Error,
    },
    /// Whoever listens there hung up, or speaks something else.
    #[error(
        "{admin} ended the connection without an answer ({source}): is this Outrigger's admin port? \
         Give the right one with --admin"
    )]
    Ended {
        /// Host and port.
        admin: String,
        /// What went wrong.
        source: ExchangeError,
    },
    /// Whoever listens there says nothing.
    #[error(
        "{admin} did not answer within {} s: is this Outrigger's admin port? \
         Give the right one with --admin",
        .answer_timeout.as_secs()
    )]
    Silent {
        /// Host and port.
        admin: String,
        /// For so long.
        answer_timeout: Duration,
    },
    /// 401.
    #[error("{admin} wants its admin.token, and {given}: give the file that holds it with --token-file")]
    Unauthorized {
        /// Host and port.
        admin: String,
        /// What was sent.
        given: &'static str,
    },
    /// The admin port refuses, and says why.
    #[error("{admin} refused ({status}): {reason}")]
    Refused {
        /// Host and port.
        admin: String,
        /// Its status.
        status: StatusCode,
        /// Its own words.
        reason: String,
    },
    /// Something else listens there.
    #[error(
        "{admin} answered ({status}), but not as Outrigger's admin port does: give the right one with --admin"
    )]
    NotOutrigger {
        /// Host and port.
        admin: String,
        /// Its status.
        status: StatusCode,
    },
}

/// Why an exchange failed once there was a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// It ended before the answer did.
    #[error("it hung up")]
    HungUp,
    /// The answer is not HTTP/1.1.
    #[error("it does not speak HTTP/1.1")]
    NotHttp,
    /// More than [`ANSWER_BYTES`].
    #[error("its answer is longer than {} MiB", ANSWER_BYTES >> 20)]
    TooLong,
    /// The connection broke.
    #[error("{0}")]
    Broken(io::Error),
}

impl From<hyper::Error> for ExchangeError {
    fn from(error: hyper::Error) -> Self {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        match cause {
            Some(cause) => Self::Broken(io::Error::new(cause.kind(), cause.to_string())),
            None if error.is_parse() => Self::NotHttp,
            None => Self::HungUp,
        }
    }
}

/// A checked `--admin`.
#[derive(Debug)]
struct AdminAddress {
    authority: Authority,
    host_header: HeaderValue,
    /// What is dialled: without the brackets of an IPv6 address.
    host: String,
    port: u16,
}

impl AdminAddress {
    fn parse(url: &str) -> Result<Self, ClientError> {
        let wrong = |problem| ClientError::Address { url: without_password(url), problem };
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(wrong("has another scheme than http")),
            None => url,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(wrong("has a path"));
        }
        if rest.contains('@') {
            return Err(wrong("has user info, which is not used here (a token goes into --token-file)"));
        }
        let authority: Authority = rest.parse().map_err(|_| wrong("has no readable host and port"))?;
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        // A port that is there and no number from 0 to 65535 reads as none: only the `:` tells.
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str().len() == authority.host().len() => 80,
            None => return Err(wrong("has no readable port")),
        };
        if host.is_empty() {
            return Err(wrong("has no readable host"));
        }
        let host_header =
            HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("has no readable host"))?;
        Ok(Self { authority, host_header, host, port })
    }

    /// One request on a connection of its own.
    async fn send(
        &self,
        request: AdminRequest,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, ClientError> {
        let connect_failed = |source| ClientError::Connect { admin: self.authority.to_string(), source };
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect((self.host.as_str(), self.port)))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(connect_failed)?;
        let (with_token, answer_timeout) = (authorization.is_some(), request.answer_timeout);
        let exchange = self.exchange(stream, request, authorization);
        let answered = match answer_timeout {
            Some(answer_timeout) => timeout(answer_timeout, exchange)
                .await
                .map_err(|_| ClientError::Silent { admin: self.authority.to_string(), answer_timeout })?,
            None => exchange.await,
        };
        let (status, body) =
            answered.map_err(|source| ClientError::Ended { admin: self.authority.to_string(), source })?;
        Ok(Answer { admin: self.authority.to_string(), with_token, status, body })
    }

    async fn exchange(
        &self,
        stream: TcpStream,
        admin_request: AdminRequest,
        authorization: Option<HeaderValue>,
    ) -> Result<(StatusCode, Bytes), ExchangeError> {
        let mut request = Request::new(Full::new(admin_request.body));
        *request.method_mut() = admin_request.method;
        *request.uri_mut() = admin_request.target;
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host_header.clone());
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(error) => ExchangeError::from(*error),
                Err(_) => ExchangeError::TooLong,
            })?;
            Ok((status, body.to_bytes()))
        };
        // The connection is driven beside the answer: nothing is left behind when this is dropped.
        let mut answer = std::pin::pin!(answer);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // What ended it reaches the answer too, unless the answer was whole before.
            _ = &mut connection => answer.await,
        }
    }
}

struct Answer {
    admin: String,
    with_token: bool,
    status: StatusCode,
    body: Bytes,
}

impl Answer {
    /// The answer, parsed and as it came, if it has the `expected` status.
    fn read<T: DeserializeOwned>(self, expected: StatusCode) -> Result<(T, String), ClientError> {
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
        }
        let Self { admin, with_token, status, body } = self;
        if status == expected
            && let Ok(value) = serde_json::from_slice(&body)
            && let Ok(json) = String::from_utf8(body.to_vec())
        {
            return Ok((value, json));
        }
        Err(match serde_json::from_slice::<Refusal>(&body) {
            Ok(_) if status == StatusCode::UNAUTHORIZED => {
                let given = if with_token { "the one given is another" } else { "none was given" };
                ClientError::Unauthorized { admin, given }
            }
            Ok(Refusal { error }) if !status.is_success() => {
                ClientError::Refused { admin, status, reason: printable(&error) }
            }
            _ => ClientError::NotOutrigger { admin, status },
        })
    }
}

fn authorization(token: &Secret) -> Result<HeaderValue, ClientError> {
    let mut value =
        HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| ClientError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Text of another process, which a terminal must not interpret.
fn printable(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_REASON_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    escaped(&shown).to_string()
}

fn without_password(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => url.to_owned(),
    }
}

/// Longest refusal shown, in characters: it may list the names of routes.
const MAX_REASON_CHARS: usize = 4000;
/// For connecting, mostly to this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For answers that the proxy gives at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A message may be long, and go to a hundred thousand clients.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(60);
/// Ten thousand entries, each with the longest name that a channel can have.
const ANSWER_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests;
