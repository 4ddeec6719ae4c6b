//! The other end of the drain route: what `outrigger drain` does. What `outrigger health` asks is in [`health`].
//!
//! # Invariants
//! 1. Nothing counts as success but an answer that only this proxy gives: another server on that port
//!    that says 200 to everything has drained nobody.
//! 2. Waiting begins after the drain was accepted in an answer of its own. From then on a connection
//!    that ends, or one that is refused, means that the process has gone, which is what was waited for.
//!
//! # Why two requests to wait?
//! With one, a connection that ends could as well mean that the request never arrived.

pub mod health;

use std::io;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Secret;

/// Where the admin port is unless somebody moved it.
pub const DEFAULT_ADMIN_URL: &str = "http://127.0.0.1:9090";

/// How far the drain had got when [`drain`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// It is under way.
    Accepted {
        /// Clients still connected.
        clients: u64,
    },
    /// It is over: nobody is connected any more, or the process has ended.
    Done,
}

/// Asks the proxy whose admin port is at `admin_url` to drain; with `wait`, returns when it has. How
/// long that can take is the proxy's own `drain.timeout`; there is no second deadline here. Cancel safe:
/// a drain that was accepted goes on.
///
/// # Errors
/// When the drain was not accepted, or (only with `wait`) its end could not be learned.
pub async fn drain(admin_url: &str, token: Option<&Secret>, wait: bool) -> Result<Drain, DrainError> {
    let admin = AdminAddress::parse(admin_url)?;
    let authorization = token.map(authorization).transpose()?;
    let ask = async |method, target, patience| {
        admin.ask(method, target, authorization.clone(), patience).await.and_then(|answer| answer.drain())
    };
    let accepted = ask(Method::POST, "/api/admin/drain", Some(ANSWER_TIMEOUT)).await?;
    if !wait || accepted == Drain::Done {
        return Ok(accepted);
    }
    match ask(Method::POST, "/api/admin/drain?wait=true", None).await {
        Ok(answer) => Ok(answer),
        Err(DrainError::Connect { .. } | DrainError::Ended { .. }) => Ok(Drain::Done),
        Err(other) => Err(other),
    }
}

/// Why a drain could not be started or waited for; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
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
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Whoever listens there says nothing.
    #[error(
        "{admin} did not answer within {} s: is this Outrigger's admin port? \
         Give the right one with --admin",
        ANSWER_TIMEOUT.as_secs()
    )]
    Silent {
        /// Host and port.
        admin: String,
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

/// A checked `--admin`.
#[derive(Debug)]
struct AdminAddress {
    authority: Authority,
    /// What is dialled: without the brackets of an IPv6 address.
    host: String,
    port: u16,
}

impl AdminAddress {
    fn parse(url: &str) -> Result<Self, DrainError> {
        let wrong = |problem| DrainError::Address { url: without_password(url), problem };
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
        Ok(Self { authority, host, port })
    }

    /// One request on a connection of its own. `patience` bounds the answer; connecting has a bound in
    /// any case.
    async fn ask(
        &self,
        method: Method,
        target: &'static str,
        authorization: Option<HeaderValue>,
        patience: Option<Duration>,
    ) -> Result<Answer, DrainError> {
        let connect_failed = |source| DrainError::Connect { admin: self.authority.to_string(), source };
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect((self.host.as_str(), self.port)))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(connect_failed)?;
        let with_token = authorization.is_some();
        let exchange = self.exchange(stream, method, target, authorization);
        let answered = match patience {
            Some(limit) => timeout(limit, exchange)
                .await
                .map_err(|_| DrainError::Silent { admin: self.authority.to_string() })?,
            None => exchange.await,
        };
        let (status, body) =
            answered.map_err(|source| DrainError::Ended { admin: self.authority.to_string(), source })?;
        Ok(Answer { admin: self.authority.to_string(), with_token, status, body })
    }

    async fn exchange(
        &self,
        stream: TcpStream,
        method: Method,
        target: &'static str,
        authorization: Option<HeaderValue>,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from_static(target);
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_str(self.authority.as_str())?);
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await?.to_bytes();
            Ok((status, body))
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
    fn drain(self) -> Result<Drain, DrainError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Said {
            Draining,
            Drained,
        }
        #[derive(Deserialize)]
        struct Progress {
            state: Said,
            clients: u64,
        }
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
        }
        let Self { admin, with_token, status, body } = self;
        if status == StatusCode::ACCEPTED
            && let Ok(Progress { state, clients }) = serde_json::from_slice(&body)
        {
            return Ok(match state {
                Said::Draining => Drain::Accepted { clients },
                Said::Drained => Drain::Done,
            });
        }
        Err(match serde_json::from_slice::<Refusal>(&body) {
            Ok(_) if status == StatusCode::UNAUTHORIZED => {
                let given = if with_token { "the one given is another" } else { "none was given" };
                DrainError::Unauthorized { admin, given }
            }
            Ok(Refusal { error }) if !status.is_success() => {
                DrainError::Refused { admin, status, reason: printable(&error) }
            }
            _ => DrainError::NotOutrigger { admin, status },
        })
    }
}

fn authorization(token: &Secret) -> Result<HeaderValue, DrainError> {
    let mut value =
        HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| DrainError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// What another process said may be anything; a terminal should not act on it.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

fn without_password(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => url.to_owned(),
    }
}

/// For the local machine, as a rule, or the next one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The proxy answers this at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Far above what the admin port says here.
const ANSWER_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
