//! The task of a channel: it keeps the link to the server for as long as there are clients.
//!
//! ```text
//!   first dial ──ok──▶ connected ──lost──▶ waiting ──▶ dialling
//!       │                ▲   │                ▲            │
//!       ▼                │   ▼                └──failed────┤
//!    refused             │  over: a final Close            │
//!                        └───────────────ok────────────────┘
//! ```
//!
//! Except in the first dial, it is over as well when the channel had no members for `linger`, when the redial is given up,
//! and when a server that had accepted the handshake declines it.
//!
//! # Invariants
//! 1. A link that is dialled again goes on with the same log: sequence numbers do not begin anew.
//! 2. A channel leaves its hub before its clients are closed: a client that comes then opens another one.
//! 3. The close handshake of a link that has ended delays nothing: it runs beside the feed, the last one only, and the
//!    channel's task counts as running until it is over.
//!
//! # Not here
//! Frames ([`crate::upstream::Uplink`]); what becomes of messages ([`super::feed`]); who is on the channel
//! ([`super::channel`]); dials, and the waits between them ([`crate::upstream::redial`]); log lines about it
//! ([`super::lines`]).

mod inbox;
mod presence;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use prometheus::IntGauge;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::info;

pub(super) use self::inbox::Inbox;
use self::presence::Presence;
use super::channel::{Channel, FirstDial};
use super::declined;
use super::error::JoinError;
use super::feed::Feed;
use super::lines::{self, DialLines};
use super::state::{HubState, TaskGuard};
use crate::config::{Greeting, OnRedial};
use crate::frame::{CloseCode, Kind};
use crate::net::Transport;
use crate::resilience::Caller;
use crate::telemetry::{By, Label, Reason};
use crate::upstream::redial::{DialFailure, Redialed, Redialer};
use crate::upstream::{Closing, Uplink, UplinkEnd};

const LOST: &[u8] = br#"{"type":"outrigger","event":"upstream_lost"}"#;
const RESTORED: &[u8] = br#"{"type":"outrigger","event":"upstream_restored"}"#;

/// The task of a channel.
pub(super) struct Task {
    guard: TaskGuard,
    /// The caller that it was opened for.
    opener: Caller,
    redialer: Redialer<DialLines>,
    feed: Feed,
    inbox: Inbox,
    opened: watch::Sender<FirstDial>,
    presence: Presence,
    closing: Closing,
}

/// Why a link that was lost is not dialled any more.
enum Stop {
    /// The channel ends, and its clients are closed.
    End(ChannelEnd),
    /// It has no members, and cannot get any: it has left its hub.
    Idle,
}

/// What ends a channel that has clients.
struct ChannelEnd {
    cause: Reason,
    by: By,
    code: CloseCode,
    reason: String,
}

impl ChannelEnd {
    fn by_proxy(cause: Reason, code: u16, reason: &str) -> Self {
        Self { cause, by: By::Proxy, code: CloseCode(code), reason: reason.to_owned() }
    }
}

impl Task {
    pub(super) fn new(
        guard: TaskGuard,
        opener: Caller,
        redialer: Redialer<DialLines>,
        feed: Feed,
        inbox: Inbox,
        opened: watch::Sender<FirstDial>,
    ) -> Self {
        let presence = Presence::new(guard.hub.shared.lifecycle.clone());
        Self { guard, opener, redialer, feed, inbox, opened, presence, closing: Closing::default() }
    }

    pub(super) async fn run(mut self) {
        let Some(mut uplink) = Box::pin(self.open()).await else { return };
        let end = loop {
            let connected = Connected::new(&self.guard);
            let end = self.follow(&mut uplink).await;
            drop(connected);
            let Some(end) = end else {
                self.leave(uplink).await;
                self.guard.disarm();
                return;
            };
            self.closing.replace(uplink, &self.guard.hub.shared.budget);
            if let UplinkEnd::Closed(code, reason) = &end
                && self.guard.hub.plan.policy.broadcast.is_final(code.0)
            {
                let (code, reason) = (*code, reason.clone());
                break ChannelEnd { cause: Reason::UpstreamClose, by: By::Upstream, code, reason };
            }
            lines::lost(&self.guard.hub, &self.guard.channel.log_name(), &end);
            self.feed.notice(LOST);
            uplink = match Box::pin(self.restore()).await {
                Ok(uplink) => uplink,
                Err(Stop::End(end)) => break end,
                Err(Stop::Idle) => {
                    self.guard.disarm();
                    self.inbox.close();
                    return poll_fn(|cx| self.closing.poll(cx)).await;
                }
            };
            self.feed.notice(RESTORED);
            self.dismiss();
        };
        let ChannelEnd { cause, by, code, reason } = end;
        let channel = self.guard.channel.log_name().to_string();
        info!(route = self.route(), %channel, cause = cause.as_str(), code = code.0, "the feed is over");
        self.guard.hub.forget(&self.guard.channel);
        self.guard.channel.close(cause, by, code, &reason);
        self.guard.disarm();
        self.inbox.close();
        poll_fn(|cx| self.closing.poll(cx)).await;
    }

    /// The new link's server does not know what clients have sent before: if they are to send it again, they are closed one
    /// by one (`broadcast.on_redial`).
    fn dismiss(&self) {
        let TaskGuard { hub, channel, .. } = &self.guard;
        if hub.plan.policy.broadcast.on_redial == OnRedial::Close {
            let code = CloseCode(hub.plan.policy.close_codes.upstream_lost);
            let over = hub.shared.spread();
            channel.fanout.dismiss(Reason::UpstreamLost, By::Proxy, code, "upstream lost", over);
        }
    }

    /// The first dial. Its result goes to all clients that wait.
    async fn open(&mut self) -> Option<Uplink> {
        let why = match self.redialer.open(self.opener).await {
            Ok((transport, protocol)) => {
                self.opened.send_replace(Some(Ok(protocol)));
                return Some(self.greet(transport));
            }
            Err(DialFailure::BreakerOpen(wait)) => JoinError::BreakerOpen(wait),
            Err(DialFailure::Failed(error)) => JoinError::Upstream(Arc::new(error)),
            Err(DialFailure::Declined(response)) => {
                let patience = self.guard.hub.plan.upstream.config().handshake_timeout;
                JoinError::Declined(Box::new(declined::buffer(response, patience).await))
            }
            // Impossible: there was no subprotocol before.
            Err(DialFailure::OtherProtocol) => return None,
        };
        // Before the result is sent: a client that comes after it dials anew.
        self.guard.hub.forget(&self.guard.channel);
        self.opened.send_replace(Some(Err(why)));
        self.guard.disarm();
        None
    }

    /// A link over `transport`, with the greeting that the server is sent first.
    fn greet(&self, transport: Transport) -> Uplink {
        let hub = &self.guard.hub;
        let metrics = Arc::clone(&hub.shared.metrics);
        let mut uplink = Uplink::new(transport, hub.uplink_rules(), metrics, Instant::now());
        for message in &hub.plan.policy.broadcast.greeting {
            let kind = match message {
                Greeting::Text(_) => Kind::Text,
                Greeting::Binary(_) => Kind::Binary,
            };
            uplink.greet(kind, message.payload());
        }
        uplink
    }

    /// Follows the link until it has ended. `None`: all members have left.
    async fn follow(&mut self, uplink: &mut Uplink) -> Option<UplinkEnd> {
        let mut share = self.guard.hub.shared.budget.share();
        poll_fn(|cx| {
            let is_idle = self.poll_control(cx).is_ready();
            // Before the link is driven, which writes what is queued; and also when all members have left, since nothing
            // takes it later: the last message of the last client may have come together with its Close.
            self.inbox.poll_inbound(cx, Some(uplink));
            if is_idle {
                return Poll::Ready(None);
            }
            // A burst is not read from the server faster than it can be delivered. No client delays that: only those that
            // take everything at once are waited for.
            ready!(self.feed.poll_room(cx));
            let before = self.feed.head();
            let end = uplink.poll(cx, &mut |kind, payload| self.feed.on_message(kind, payload)).map(Some);
            share.set(uplink.buffered());
            if self.feed.head() != before {
                // Once for all messages that came together: they leave together.
                self.feed.wake();
            }
            end
        })
        .await
    }

    /// Dials until the link is up again, and serves the channel meanwhile.
    async fn restore(&mut self) -> Result<Uplink, Stop> {
        let codes = self.guard.hub.plan.policy.close_codes;
        let redialed = poll_fn(|cx| {
            if self.poll_control(cx).is_ready() {
                return Poll::Ready(Some(Err(Stop::Idle)));
            }
            if self.presence.is_draining() {
                return Poll::Ready(None);
            }
            self.inbox.poll_inbound(cx, None);
            self.redialer.poll_redial(cx).map(|redialed| Some(Ok(redialed)))
        });
        let redialed = redialed.await;
        self.redialer.cancel();
        let Some(redialed) = redialed else { return Err(self.await_drain().await) };
        match redialed? {
            Redialed::Up(transport) => Ok(self.greet(transport)),
            Redialed::GivenUp => Err(Stop::End(ChannelEnd::by_proxy(
                Reason::UpstreamLost,
                codes.upstream_lost,
                "upstream lost",
            ))),
            Redialed::Declined => Err(Stop::End(ChannelEnd::by_proxy(
                Reason::UpstreamClose,
                codes.unauthorized,
                "unauthorized",
            ))),
        }
    }

    /// The process drains and the link is lost: it is not dialled any more, and clients are closed one by one on the drain's
    /// schedule.
    async fn await_drain(&mut self) -> Stop {
        poll_fn(|cx| {
            self.inbox.poll_inbound(cx, None);
            self.poll_control(cx)
        })
        .await;
        Stop::Idle
    }

    /// All members have left: the link is closed.
    async fn leave(&mut self, mut uplink: Uplink) {
        info!(route = self.route(), channel = %self.guard.channel.log_name(), "the feed's last client has left");
        self.inbox.close();
        uplink.close(CloseCode::GOING_AWAY, "no clients");
        // The link ends by itself in half of that time.
        let patience = self.guard.hub.plan.policy.close_timeout * 2;
        let all = poll_fn(|cx| {
            let rest = self.closing.poll(cx);
            let last = uplink.poll_rest(cx);
            if rest.is_ready() { last } else { Poll::Pending }
        });
        let _ = timeout(patience, all).await;
    }

    /// What there is to do whatever the link does. Ready when the channel has no members and cannot get any.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inbox.poll_publish(cx, &mut self.feed);
        // Nothing waits for its end here.
        let _ = self.closing.poll(cx);
        self.presence.poll_idle(cx, &self.guard.hub, &self.guard.channel)
    }

    fn route(&self) -> &str {
        &self.guard.hub.plan.route
    }
}

/// Marks the channel as connected, for as long as it exists.
struct Connected {
    gauge: IntGauge,
    hub: Arc<HubState>,
    channel: Arc<Channel>,
}

impl Connected {
    fn new(guard: &TaskGuard) -> Self {
        let gauge = guard.hub.metrics.connected.clone();
        gauge.inc();
        guard.hub.set_connected(true);
        guard.channel.set_connected(true);
        Self { gauge, hub: Arc::clone(&guard.hub), channel: Arc::clone(&guard.channel) }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.gauge.dec();
        self.hub.set_connected(false);
        self.channel.set_connected(false);
    }
}
