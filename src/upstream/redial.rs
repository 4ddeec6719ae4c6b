//! The way to the server of a link that ends here: the first dial, and after a loss as many as it takes.
//!
//! ```text
//!   open ──▶ up ──lost──▶ waiting ──▶ dialling ──▶ up
//!    │                       ▲            │
//!    ▼                       └───failed───┤
//!   failed                                ▼
//!                             given up, declined
//! ```
//!
//! # Invariants
//! 1. Dials of one link are never closer together than its backoff has them, nor before the breaker may be asked.
//! 2. Neither a breaker that stays open nor a server that does not answer delays giving up beyond `redial.give_up`.
//! 3. A server that has accepted the handshake before and answers 401 or 403 now is not dialled again: it knows who asks, and
//!    to insist would be an attack on it.
//! 4. A link that is up again has the subprotocol that it had at first, since clients were given that one.
//!
//! [`Redialer`] is for links of which there are few, each with waits of its own, behind the breaker of its route. A link that
//! one client has alone is dialled by [`redial_once`], each time that the gate of its route lets it ([`super::revival`]).
//!
//! # Not here
//! Frames ([`super::Uplink`]); the waits ([`crate::resilience::Backoff`]); what is done meanwhile, and what clients are
//! told of it ([`crate::broadcast`], [`crate::session`]).

mod failure;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::Empty;
use tokio::time::{Instant, sleep, timeout_at};

use super::breaker::UpstreamBreaker;
use super::classify::Verdict;
use super::error::UpstreamError;
use super::opening::Opening;
use super::verify::{BadUpgrade, Offer};
use super::websocket::Upgrade;
use super::{Upgraded, Upstream};
use crate::config::Redial;
use crate::net::Transport;
use crate::resilience::{Backoff, Caller};

pub(crate) use self::failure::DialFailure;

/// How attempts to get a link back have ended.
#[derive(Debug)]
pub(crate) enum Redialed {
    /// There is one again.
    Up(Transport),
    /// The server does not want this link any more: it has answered 401 or 403.
    Declined,
    /// Not within `redial.give_up`.
    GivenUp,
}

/// One dial that has ended, for the log and the metrics.
#[derive(Debug)]
pub(crate) struct Dialed<'a> {
    /// `X-Request-Id` of its handshake.
    pub request_id: &'a str,
    /// Whether the link has never been up.
    pub is_first: bool,
    /// What came of it.
    pub result: Result<(), &'a DialFailure>,
}

/// What observes the dials of a link.
pub(crate) trait Observer: Send + Sync + 'static {
    /// Whether somebody is connected to the server through the same route.
    fn is_in_use(&self) -> bool;

    /// A dial has ended.
    fn on_dialed(&self, dialed: &Dialed<'_>);
}

/// What a dial has brought.
pub(crate) struct Relinked {
    /// The socket.
    pub transport: Transport,
    /// Of the 101, without those of its hop. They may set cookies.
    pub headers: HeaderMap,
}

impl fmt::Debug for Relinked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relinked").finish_non_exhaustive()
    }
}

/// Where a link leads, and how it is asked for.
#[derive(Debug)]
pub(crate) struct LinkTarget {
    /// The server.
    pub upstream: Arc<Upstream>,
    /// Whether it may be asked at the moment; `None`: always.
    pub breaker: Option<Arc<UpstreamBreaker>>,
    /// The head of each handshake.
    pub opening: Opening,
}

/// Dials the server of one link.
pub(crate) struct Redialer<O> {
    target: Arc<LinkTarget>,
    observer: Arc<O>,
    backoff: Backoff,
    /// The subprotocol of the first link.
    protocol: Option<HeaderValue>,
    /// From the wait before a dial to its end; `None`: the date to give up came first.
    attempt: Option<Pin<Box<dyn Future<Output = Option<DialResult>> + Send>>>,
    /// What the breaker wants to have passed before the next dial.
    breaker_wait: Duration,
}

type DialResult = Result<Relinked, DialFailure>;

/// The subprotocol that comes with a socket.
type Link = (Transport, Option<HeaderValue>);

impl<O: Observer> Redialer<O> {
    /// Nothing is dialled yet.
    pub(crate) fn new(target: LinkTarget, rules: Redial, observer: O) -> Self {
        Self {
            target: Arc::new(target),
            observer: Arc::new(observer),
            backoff: Backoff::new(rules),
            protocol: None,
            attempt: None,
            breaker_wait: Duration::ZERO,
        }
    }

    /// The first dial, on behalf of `caller`; with the subprotocol that the server chose.
    ///
    /// # Errors
    /// There is no link.
    pub(crate) async fn open(&mut self, caller: Caller) -> Result<Link, DialFailure> {
        let Relinked { transport, headers } = self.dial(caller, None).await?;
        self.protocol = protocol_of(&headers);
        self.backoff.on_up(Instant::now());
        Ok((transport, self.protocol.clone()))
    }

    /// After the link was lost: waits and dials until it is back, or is not to be had any more. What is under way goes
    /// on at the next poll, unless it was cancelled.
    pub(crate) fn poll_redial(&mut self, cx: &mut Context<'_>) -> Poll<Redialed> {
        loop {
            if self.attempt.is_none() {
                let Some(wait) = self.backoff.next(fastrand::f64(), Instant::now()) else {
                    return Poll::Ready(Redialed::GivenUp);
                };
                self.attempt = Some(self.attempt_after(wait.max(self.breaker_wait)));
            }
            let Some(attempt) = &mut self.attempt else { continue };
            let ended = ready!(attempt.as_mut().poll(cx));
            self.attempt = None;
            match ended {
                // The backoff says what that means.
                None => {}
                Some(Ok(Relinked { transport, .. })) => {
                    self.breaker_wait = Duration::ZERO;
                    self.backoff.on_up(Instant::now());
                    return Poll::Ready(Redialed::Up(transport));
                }
                Some(Err(failure)) => match after(&failure) {
                    Next::Dial { not_before } => self.breaker_wait = not_before,
                    Next::Stop => return Poll::Ready(Redialed::Declined),
                },
            }
        }
    }

    /// Drops the attempt that is under way, if there is one.
    pub(crate) fn cancel(&mut self) {
        self.attempt = None;
        self.breaker_wait = Duration::ZERO;
    }

    fn attempt_after(&self, wait: Duration) -> Pin<Box<dyn Future<Output = Option<DialResult>> + Send>> {
        // A path that the server does not serve is held against the client that asks for it. Once the server has accepted
        // the handshake, a dial is on behalf of all clients.
        let dial = self.dial(Caller::UNKNOWN, Some(self.protocol.clone()));
        let gives_up_at = self.backoff.gives_up_at();
        Box::pin(async move {
            let attempt = async {
                sleep(wait).await;
                dial.await
            };
            match gives_up_at {
                Some(moment) => timeout_at(moment, attempt).await.ok(),
                None => Some(attempt.await),
            }
        })
    }

    /// One dial and handshake. `protocol`: the one that the link had before, if it was up.
    fn dial(
        &self,
        caller: Caller,
        protocol: Option<Option<HeaderValue>>,
    ) -> impl Future<Output = DialResult> + Send + use<O> {
        let (target, observer) = (Arc::clone(&self.target), Arc::clone(&self.observer));
        async move {
            let (request, request_id) = target.opening.request(protocol.as_ref().and_then(Option::as_ref));
            let is_first = protocol.is_none();
            let result = dial(&target, &*observer, caller, request, protocol).await;
            let outcome = result.as_ref().map(|_| ());
            observer.on_dialed(&Dialed { request_id: &request_id, is_first, result: outcome });
            result
        }
    }
}

async fn dial(
    target: &LinkTarget,
    observer: &impl Observer,
    caller: Caller,
    request: Request<Empty<Bytes>>,
    before: Option<Option<HeaderValue>>,
) -> DialResult {
    let mut permit = match &target.breaker {
        // If the server has accepted the same request before, a failure is not due to the request.
        Some(breaker) => {
            let permit = breaker.enter(caller).await.map_err(DialFailure::BreakerOpen)?;
            Some(if before.is_some() { permit.repeated() } else { permit })
        }
        None => None,
    };
    let call = handshake(&target.upstream, request);
    let result = match &mut permit {
        Some(permit) => permit.watch(call).await,
        None => call.await,
    };
    if let Some(permit) = permit {
        permit.settle(Verdict::of(&result, observer.is_in_use()));
    }
    link_of(result, before.as_ref())
}

/// One dial of a link that had been up with the subprotocol `protocol`, if any. No breaker is asked, and none is told.
/// Dropped, it leaves nothing behind.
///
/// # Errors
/// There is no link; [`DialFailure::blame`] tells whose fault that is.
pub(crate) async fn redial_once(
    upstream: &Upstream,
    request: Request<Empty<Bytes>>,
    protocol: Option<HeaderValue>,
) -> Result<Relinked, DialFailure> {
    let result = handshake(upstream, request).await;
    // Only what was agreed upon before is offered: whatever else is chosen, offered or not, is another one.
    if let Err(UpstreamError::BadUpgrade(BadUpgrade::Protocol)) = result {
        return Err(DialFailure::OtherProtocol);
    }
    link_of(result, Some(&protocol))
}

async fn handshake(upstream: &Upstream, request: Request<Empty<Bytes>>) -> Result<Upgrade, UpstreamError> {
    let offer = Offer::of(request.headers());
    upstream.upgrade(request, &offer).await
}

/// The link that came of a handshake. `before`: the subprotocol that it had, if it was up before.
#[expect(clippy::result_large_err, reason = "once a dial")]
fn link_of(result: Result<Upgrade, UpstreamError>, before: Option<&Option<HeaderValue>>) -> DialResult {
    let Upgraded { response, transport, .. } = match result {
        Ok(Upgrade::Accepted(upgraded)) => upgraded,
        Ok(Upgrade::Declined(response)) => return Err(DialFailure::Declined(response)),
        Err(error) => return Err(DialFailure::Failed(error)),
    };
    let (head, ()) = response.into_parts();
    if before.is_some_and(|before| *before != protocol_of(&head.headers)) {
        return Err(DialFailure::OtherProtocol);
    }
    Ok(Relinked { transport, headers: head.headers })
}

/// The subprotocol that an answer has chosen.
fn protocol_of(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(header::SEC_WEBSOCKET_PROTOCOL).cloned()
}

/// What follows a dial that failed, once the link had been up.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Another one, but not before this has passed.
    Dial { not_before: Duration },
    /// None: the server has answered so.
    Stop,
}

fn after<B>(failure: &DialFailure<B>) -> Next {
    match failure {
        DialFailure::BreakerOpen(wait) => Next::Dial { not_before: *wait },
        DialFailure::Failed(_) | DialFailure::OtherProtocol => Next::Dial { not_before: Duration::ZERO },
        DialFailure::Declined(response) => match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Next::Stop,
            _ => Next::Dial { not_before: Duration::ZERO },
        },
    }
}

#[cfg(test)]
mod tests;
