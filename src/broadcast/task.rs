//! The task of a channel: it keeps the link to the server for as long as there are clients.
//!
//! ```text
//!   first dial ──ok──▶ connected ──lost──▶ waiting ──▶ dialling
//!       │                ▲   │                ▲            │
//!       ▼                │   ▼                └──failed────┤
//!    refused             │  over: the server's word        │
//!                        └───────────────ok────────────────┘
//! ```
//!
//! Everywhere but in the first dial: nobody has been there for `linger`: over. Given up, or refused by a server
//! that knew us: over.
//!
//! # Invariants
//! 1. A link that is dialled again goes on with the same log: sequence numbers do not begin anew.
//! 2. A channel leaves its hub before its clients are closed: whoever comes then opens another one.
//! 3. What is left of a link's close handshake holds nobody up: it runs beside the feed, the last one only, and the
//!    channel counts until it is over.
//!
//! # Not here
//! Frames ([`crate::upstream::Uplink`]); what becomes of messages ([`super::feed`]); who is on the channel
//! ([`super::channel`]); one dial ([`super::dial`]); what operators are told of it ([`super::lines`]).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use prometheus::IntGauge;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout, timeout_at};
use tracing::info;

use super::JoinError;
use super::channel::{Ask, Opening};
use super::dial::{DialFailure, attempt, kept};
use super::feed::Feed;
use super::hub::{Hub, Running};
use super::lines;
use super::request::Template;
use crate::config::{Greeting, OnRedial};
use crate::connections::lifecycle;
use crate::frame::{CloseCode, Kind};
use crate::memory::Share;
use crate::net::Transport;
use crate::resilience::{Backoff, Caller};
use crate::telemetry::redact::redact_path;
use crate::telemetry::{By, Label, Reason};
use crate::upstream::{Uplink, UplinkEnd};

const LOST: &[u8] = br#"{"type":"outrigger","event":"upstream_lost"}"#;
const RESTORED: &[u8] = br#"{"type":"outrigger","event":"upstream_restored"}"#;

/// Messages of clients, and of operators, that are taken in one poll: what the queue holds. Whoever fills it while it
/// is emptied would otherwise keep the link from being read, by the runtime's budget for tasks if by nothing else.
const SAID: usize = 64;
/// See [`SAID`].
const ASKED: usize = 16;

/// The task of a channel.
pub(super) struct Task {
    running: Running,
    /// For whom it was opened.
    opener: Caller,
    template: Template,
    feed: Feed,
    asks: mpsc::Receiver<Ask>,
    /// What clients say, where it goes to the server.
    said: Option<mpsc::Receiver<(Kind, Bytes)>>,
    opened: watch::Sender<Opening>,
    backoff: Backoff,
    /// The subprotocol that clients were told.
    protocol: Option<HeaderValue>,
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_draining: bool,
    linger: Option<Pin<Box<Sleep>>>,
    /// The link before this one, whose socket is not done with yet.
    rest: Option<Rest>,
}

/// A link whose end is known, while its close handshake runs.
struct Rest {
    uplink: Uplink,
    /// What it holds of the memory of the process.
    share: Share,
}

/// Why something was not waited for to the end.
enum Stop {
    /// Nobody is there any more, and nobody can come: the channel is out of its hub.
    Idle,
    /// The process lets its clients go: nothing is dialled any more.
    Draining,
}

/// What ends a channel that has clients.
struct Over {
    cause: Reason,
    by: By,
    code: CloseCode,
    reason: String,
}

impl Over {
    fn ours(cause: Reason, code: u16, reason: &str) -> Self {
        Self { cause, by: By::Proxy, code: CloseCode(code), reason: reason.to_owned() }
    }
}

impl Task {
    pub(super) fn new(
        running: Running,
        opener: Caller,
        template: Template,
        feed: Feed,
        asks: mpsc::Receiver<Ask>,
        said: Option<mpsc::Receiver<(Kind, Bytes)>>,
        opened: watch::Sender<Opening>,
    ) -> Self {
        let lifecycle = running.hub.shared.lifecycle.clone();
        Self {
            backoff: Backoff::new(running.hub.plan.policy.redial),
            draining: Box::pin(async move { lifecycle.until(lifecycle::State::Draining).await }),
            is_draining: false,
            protocol: None,
            linger: None,
            rest: None,
            running,
            opener,
            template,
            feed,
            asks,
            said,
            opened,
        }
    }

    pub(super) async fn run(mut self) {
        let Some(mut uplink) = Box::pin(self.open()).await else { return };
        let over = loop {
            let connected = Connected::new(&self.running);
            let end = self.follow(&mut uplink).await;
            drop(connected);
            let Some(end) = end else {
                self.leave(uplink).await;
                self.running.settle();
                return;
            };
            self.keep(uplink);
            if let UplinkEnd::Closed(code, reason) = &end
                && self.running.hub.plan.policy.broadcast.is_final(code.0)
            {
                let (code, reason) = (*code, reason.clone());
                break Over { cause: Reason::UpstreamClose, by: By::Upstream, code, reason };
            }
            lines::lost(&self.running.hub, &self.shown(), &end);
            self.feed.notice(LOST);
            uplink = match Box::pin(self.restore()).await {
                Ok(uplink) => uplink,
                Err(Some(over)) => break over,
                Err(None) => {
                    self.running.settle();
                    self.stop_listening();
                    return poll_fn(|cx| self.poll_rest(cx)).await;
                }
            };
            self.feed.notice(RESTORED);
            self.dismiss();
        };
        let Over { cause, by, code, reason } = over;
        info!(route = self.route(), channel = %self.shown(), cause = cause.as_str(), code = code.0, "the feed is over");
        self.running.hub.forget(&self.running.channel);
        self.running.channel.fanout.close(cause, by, code, &reason);
        self.running.settle();
        self.stop_listening();
        poll_fn(|cx| self.poll_rest(cx)).await;
    }

    /// The server is another one now, as far as it knows of its clients: those who are to say all again are closed one
    /// by one (`broadcast.on_redial`).
    fn dismiss(&self) {
        let Running { hub, channel, .. } = &self.running;
        if hub.plan.policy.broadcast.on_redial == OnRedial::Close {
            let code = CloseCode(hub.plan.policy.close_codes.upstream_lost);
            let over = hub.shared.spread();
            channel.fanout.dismiss(Reason::UpstreamLost, By::Proxy, code, "upstream lost", over);
        }
    }

    /// Nothing more comes over this link: its close handshake runs beside what follows. One before it that still does
    /// is cut, so that a server which ends none of them does not collect them.
    fn keep(&mut self, uplink: Uplink) {
        let mut share = self.running.hub.shared.budget.share();
        share.set(uplink.buffered());
        self.rest = Some(Rest { uplink, share });
    }

    /// Ready when no link but the present one is left.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(rest) = &mut self.rest {
            ready!(rest.uplink.poll_rest(cx));
            rest.share.set(0);
        }
        self.rest = None;
        Poll::Ready(())
    }

    /// Nobody looks at what is asked and said from here on: whoever has asked hears that it was in vain.
    fn stop_listening(&mut self) {
        self.asks.close();
        while self.asks.try_recv().is_ok() {}
        if let Some(mut said) = self.said.take() {
            said.close();
            while said.try_recv().is_ok() {
                self.running.hub.metrics.uplink_dropped.inc();
            }
        }
    }

    /// The first dial. What comes of it is told to all who wait.
    async fn open(&mut self) -> Option<Uplink> {
        let why = match self.dial(None).await {
            Ok((hop, protocol)) => {
                self.protocol.clone_from(&protocol);
                self.opened.send_replace(Some(Ok(protocol)));
                return Some(self.up(hop));
            }
            Err(DialFailure::BreakerOpen(wait)) => JoinError::BreakerOpen(wait),
            Err(DialFailure::Failed(error)) => JoinError::Upstream(error),
            Err(DialFailure::Declined(refusal)) => {
                let patience = self.running.hub.plan.upstream.config().handshake_timeout;
                JoinError::Declined(Box::new(kept(refusal, patience).await))
            }
            // None was told yet.
            Err(DialFailure::OtherProtocol) => return None,
        };
        // First: whoever comes after the answer dials anew.
        self.running.hub.forget(&self.running.channel);
        self.opened.send_replace(Some(Err(Arc::new(why))));
        self.running.settle();
        None
    }

    fn up(&mut self, hop: Transport) -> Uplink {
        let now = Instant::now();
        self.backoff.on_up(now);
        let hub = &self.running.hub;
        let mut uplink = Uplink::new(hop, hub.uplink_rules(), Arc::clone(&hub.shared.metrics), now);
        for message in &hub.plan.policy.broadcast.greeting {
            let kind = match message {
                Greeting::Text(_) => Kind::Text,
                Greeting::Binary(_) => Kind::Binary,
            };
            uplink.greet(kind, message.payload());
        }
        uplink
    }

    /// One dial and handshake. `told`: the subprotocol of the clients that are there already.
    fn dial(
        &self,
        told: Option<Option<HeaderValue>>,
    ) -> impl Future<Output = Result<(Transport, Option<HeaderValue>), DialFailure>> + use<> {
        let hub = Arc::clone(&self.running.hub);
        let (request, request_id) = self.template.request(told.as_ref().and_then(Option::as_ref));
        let path = self.shown().to_string();
        let is_first = told.is_none();
        // That there is nothing at a path is the doing of whoever asks for it. Once there was, a dial is for all who listen.
        let caller = if is_first { self.opener } else { Caller::UNKNOWN };
        async move {
            let result = attempt(&hub, caller, request, told).await;
            lines::dialled(&hub, &path, &request_id, is_first, &result);
            result
        }
    }

    /// Passes on what the server says, until the link has ended. `None`: everyone has left.
    async fn follow(&mut self, uplink: &mut Uplink) -> Option<UplinkEnd> {
        let mut share = self.running.hub.shared.budget.share();
        poll_fn(|cx| {
            let is_deserted = self.poll_aside(cx).is_ready();
            // Before the link is driven, which writes what is queued; and when everyone has left, since nobody looks
            // at it later: the last word of the last client may have come together with its Close.
            self.poll_said(cx, Some(uplink));
            if is_deserted {
                return Poll::Ready(None);
            }
            // A burst is not taken from the server faster than it can be passed on. No client holds that up: only
            // those that take it at once are waited for.
            ready!(self.feed.poll_room(cx));
            let before = self.feed.head();
            let end = uplink.poll(cx, &mut |kind, payload| self.feed.take(kind, payload)).map(Some);
            share.set(uplink.buffered());
            if self.feed.head() != before {
                // Once for all that came together: it leaves together.
                self.feed.wake();
            }
            end
        })
        .await
    }

    /// Dials until the link is there again. An error without a word: everyone has left.
    async fn restore(&mut self) -> Result<Uplink, Option<Over>> {
        let codes = self.running.hub.plan.policy.close_codes;
        let mut at_least = Duration::ZERO;
        loop {
            let Some(wait) = self.backoff.next(fastrand::f64(), Instant::now()) else {
                return Err(Some(Over::ours(Reason::UpstreamLost, codes.upstream_lost, "upstream lost")));
            };
            let dial = Box::pin(self.dial(Some(self.protocol.clone())));
            // Neither a breaker that stays open nor a server that does not answer keeps anybody beyond that date.
            let dialled = by(self.backoff.gives_up_at(), async {
                sleep(wait.max(at_least)).await;
                dial.await
            });
            let dialled = match self.meanwhile(dialled).await {
                Ok(Some(dialled)) => dialled,
                Ok(None) => continue,
                Err(Stop::Idle) => return Err(None),
                Err(Stop::Draining) => return Err(self.await_drain().await),
            };
            at_least = Duration::ZERO;
            match dialled {
                Ok((hop, _)) => return Ok(self.up(hop)),
                Err(DialFailure::BreakerOpen(wait)) => at_least = wait,
                Err(DialFailure::Failed(_) | DialFailure::OtherProtocol) => {}
                Err(DialFailure::Declined(refusal)) => {
                    // It knows us and does not want us any more: to ask again would be an attack on it.
                    if matches!(refusal.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                        return Err(Some(Over::ours(
                            Reason::UpstreamClose,
                            codes.unauthorized,
                            "unauthorized",
                        )));
                    }
                }
            }
        }
    }

    /// The process drains and the server is gone: clients are closed one by one, as the drain has it.
    async fn await_drain(&mut self) -> Option<Over> {
        poll_fn(|cx| {
            self.poll_said(cx, None);
            self.poll_aside(cx)
        })
        .await;
        None
    }

    /// Everyone has left: the server is told.
    async fn leave(&mut self, mut uplink: Uplink) {
        info!(route = self.route(), channel = %self.shown(), "the feed's last client has left");
        self.stop_listening();
        uplink.close(CloseCode::GOING_AWAY, "no clients");
        // Ends by itself in half of that time.
        let patience = self.running.hub.plan.policy.close_timeout * 2;
        let all = poll_fn(|cx| {
            let rest = self.poll_rest(cx);
            let last = uplink.poll_rest(cx);
            if rest.is_ready() { last } else { Poll::Pending }
        });
        let _ = timeout(patience, all).await;
    }

    /// Waits for `what`, and sees to the clients meanwhile.
    async fn meanwhile<F: Future>(&mut self, what: F) -> Result<F::Output, Stop> {
        let mut what = pin!(what);
        poll_fn(|cx| {
            if self.poll_aside(cx).is_ready() {
                return Poll::Ready(Err(Stop::Idle));
            }
            if self.is_draining {
                return Poll::Ready(Err(Stop::Draining));
            }
            self.poll_said(cx, None);
            what.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    /// What there is to do whatever the link does: publish, and look whether anybody is there. Ready when nobody
    /// is any more, and nobody can come.
    fn poll_aside(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for taken in 1..=ASKED {
            let Poll::Ready(Some(ask)) = self.asks.poll_recv(cx) else { break };
            self.feed.publish(ask);
            if taken == ASKED {
                cx.waker().wake_by_ref();
            }
        }
        // What comes of it is nobody's business any more.
        let _ = self.poll_rest(cx);
        if !self.is_draining {
            self.is_draining = self.draining.as_mut().poll(cx).is_ready();
        }
        let Running { hub, channel, .. } = &self.running;
        loop {
            let Some(since) = channel.empty_since(cx.waker()) else {
                self.linger = None;
                return Poll::Pending;
            };
            if !self.is_draining {
                let until = since + hub.plan.policy.broadcast.linger;
                let timer = self.linger.get_or_insert_with(|| Box::pin(sleep_until(until)));
                if timer.deadline() != until {
                    timer.as_mut().reset(until);
                }
                ready!(timer.as_mut().poll(cx));
            }
            if hub.forget_if_empty(channel, since) {
                return Poll::Ready(());
            }
        }
    }

    /// Hands what clients said to the server. Without one it is lost, as it would be without us.
    fn poll_said(&mut self, cx: &mut Context<'_>, mut uplink: Option<&mut Uplink>) {
        let Some(said) = &mut self.said else { return };
        for taken in 1..=SAID {
            let Poll::Ready(Some((kind, payload))) = said.poll_recv(cx) else { break };
            if taken == SAID {
                cx.waker().wake_by_ref();
            }
            if uplink.as_mut().is_some_and(|uplink| uplink.send(kind, &payload)) {
                self.running.hub.metrics.uplink_forwarded.inc();
            } else {
                self.running.hub.metrics.uplink_dropped.inc();
            }
        }
    }

    fn route(&self) -> &str {
        &self.running.hub.plan.route
    }

    /// The channel as it may stand in a log line: its path.
    fn shown(&self) -> impl std::fmt::Display + '_ {
        let name = self.running.channel.key.name.split(' ').next().unwrap_or_default();
        // Without its path in the key it is told by what its clients have said, which is not for the log.
        redact_path(if name.starts_with('/') { name } else { "-" })
    }
}

/// What comes of `what` by that moment, if there is one.
async fn by<F: Future>(moment: Option<Instant>, what: F) -> Option<F::Output> {
    match moment {
        Some(moment) => timeout_at(moment, what).await.ok(),
        None => Some(what.await),
    }
}

/// Shows a channel whose server is connected, for as long as it is.
struct Connected {
    gauge: IntGauge,
    hub: Arc<Hub>,
    channel: Arc<super::channel::Channel>,
}

impl Connected {
    fn new(running: &Running) -> Self {
        let gauge = running.hub.metrics.connected.clone();
        gauge.inc();
        running.hub.set_connected(true);
        running.channel.set_connected(true);
        Self { gauge, hub: Arc::clone(&running.hub), channel: Arc::clone(&running.channel) }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.gauge.dec();
        self.hub.set_connected(false);
        self.channel.set_connected(false);
    }
}
