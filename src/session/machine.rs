//! Where a session stands on both sides, and what follows from what happens there. Pure: events, `now` and random numbers in,
//! states out.
//!
//! ```text
//!   server:  Live ──lost──▶ Waiting ──turn──▶ Dialling ──101──▶ Greeting ──greeted──▶ Live
//!             ▲                ▲  │               │  ▲             │
//!             │ attached       │  │    failed ────┘  │             │ lost, no reply
//!             │             Asleep◀┴── nobody attached             ▼
//!             └ Over: its last word, given up, draining          Waiting
//!
//!   client:  Attached ──dropped, with a ticket──▶ Away ──attached──▶ Attached
//!                │                                  │
//!                └──▶ Leaving ──▶ Away or Gone      └──window over──▶ Gone
//! ```
//!
//! # Invariants
//! 1. Nobody dials while no client is attached or expected, or while the process drains.
//! 2. The first cause of the session's end stands.
//! 3. Every pair of states has a link that is alive, or a deadline.
//! 4. A server that is lost again soon after it was greeted does not set the time to give up back
//!    ([`Backoff`]).
//!
//! # Not here
//! Messages ([`super::outbox`], [`super::greeting`], [`crate::log`]); when a session may dial ([`crate::upstream::revival`]);
//! what is sent when something ends ([`super::cause`]).

mod lives;
mod states;

use std::time::Duration;

use tokio::time::Instant;

use self::lives::Lives;
pub(super) use self::states::{Client, DialEnd, Server};
use super::cause::{Cause, ServerEnd};
use crate::config::Redial;
use crate::frame::CloseCode;
use crate::resilience::Backoff;

/// How long the reply to a greeting is waited for.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// One session.
#[derive(Debug)]
pub(super) struct Machine {
    server: Server,
    client: Client,
    redial: Redial,
    /// Its waits after failures of its own, and when it gives up.
    backoff: Backoff,
    /// How long a client with a ticket may be away; `None`: it has no ticket.
    resume_window: Option<Duration>,
    /// Since when the present link is greeted.
    live_since: Option<Instant>,
    /// Of the links before it.
    lives: Lives,
    is_draining: bool,
    /// Of a client that is away: it comes over HTTP, was answered, and asks again.
    is_expected: bool,
    /// Why the session is over, or will be when the client was sent what there is.
    cause: Option<Cause>,
    /// Why the client is leaving.
    leaving: Option<Cause>,
}

impl Machine {
    /// The first handshake has succeeded on both sides. `resume_window`: if the client was given a ticket.
    pub(super) fn new(redial: Redial, resume_window: Option<Duration>, now: Instant) -> Self {
        let mut backoff = Backoff::new(redial);
        backoff.on_up(now);
        Self {
            server: Server::Live,
            client: Client::Attached,
            redial,
            backoff,
            resume_window,
            live_since: Some(now),
            lives: Lives::default(),
            is_draining: false,
            is_expected: false,
            cause: None,
            leaving: None,
        }
    }

    pub(super) fn server(&self) -> Server {
        self.server
    }

    pub(super) fn client(&self) -> Client {
        self.client
    }

    /// Why the session is over, or is about to be.
    pub(super) fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Why the client is sent a Close of ours, while it is leaving.
    pub(super) fn leaving(&self) -> Option<&Cause> {
        self.leaving.as_ref().filter(|_| matches!(self.client, Client::Leaving { .. }))
    }

    /// Whether messages of the client can be sent at once, as far as the machine knows.
    pub(super) fn is_live(&self) -> bool {
        self.server == Server::Live
    }

    /// Whether a client that drops may come back.
    pub(super) fn is_held(&self) -> bool {
        self.resume_window.is_some()
    }

    /// When a turn to dial is to be asked for. That is no event: it only needs somebody who is awake.
    pub(super) fn turn_at(&self) -> Option<Instant> {
        match self.server {
            Server::Waiting { not_before } => Some(not_before),
            _ => None,
        }
    }

    /// Whether a turn to dial is to be asked for now.
    pub(super) fn wants_turn(&self, now: Instant) -> bool {
        self.turn_at().is_some_and(|at| at <= now)
    }

    /// How long a client that drops may be away, if it may come back.
    pub(super) fn resume_window(&self) -> Option<Duration> {
        self.resume_window
    }

    /// The client may be away for so long, from now on: each way of being there has a time of its own. Without a ticket it
    /// has none.
    pub(super) fn set_resume_window(&mut self, window: Duration) {
        if let Some(known) = &mut self.resume_window {
            *known = window;
        }
    }

    /// Whether the client is closed and will not be let in again.
    pub(super) fn is_leaving_for_good(&self) -> bool {
        self.client == Client::Leaving { may_resume: false }
    }

    /// The nearest moment at which [`Machine::on_time`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let give_up = self.backoff.gives_up_at();
        let server = match self.server {
            Server::Greeting { reply_by } => Some(give_up.map_or(reply_by, |give_up| give_up.min(reply_by))),
            Server::Waiting { .. } | Server::Dialling => give_up,
            Server::Live | Server::Asleep | Server::Over => None,
        };
        let client = match self.client {
            Client::Away { until } => Some(until),
            Client::Attached | Client::Leaving { .. } | Client::Gone => None,
        };
        [server, client].into_iter().flatten().min()
    }

    /// The link to the server has ended.
    pub(super) fn on_server_end(&mut self, end: ServerEnd, random: f64, now: Instant) {
        if !matches!(self.server, Server::Live | Server::Greeting { .. }) {
            return;
        }
        let is_failure = matches!(end, ServerEnd::Failed(_));
        let lived = self.live_since.take().map(|since| now.saturating_duration_since(since));
        let is_its_word = self.lives.on_end(lived, is_failure);
        match end {
            ServerEnd::Final(code, reason) => self.on_over(Cause::Server(code, reason)),
            ServerEnd::Fault(error) => self.on_over(Cause::ServerFault(error)),
            ServerEnd::Failed(reason) if is_its_word => self.on_over(Cause::Server(CloseCode(1011), reason)),
            ServerEnd::Failed(_) | ServerEnd::Lost => self.on_lost(random, now),
        }
    }

    /// The gate has given this session a turn, and it dials.
    pub(super) fn on_turn(&mut self) {
        if matches!(self.server, Server::Waiting { .. }) {
            self.server = Server::Dialling;
        }
    }

    /// A dial has brought a link. Whether it is kept: it is greeted next. If not, nobody wants it any more.
    pub(super) fn on_linked(&mut self, now: Instant) -> bool {
        if self.server != Server::Dialling {
            return false;
        }
        if self.is_wanted() {
            self.server = Server::Greeting { reply_by: now + REPLY_TIMEOUT };
            return true;
        }
        self.server = Server::Asleep;
        false
    }

    /// A dial has failed.
    pub(super) fn on_dial_failed(&mut self, end: DialEnd, random: f64, now: Instant) {
        if self.server != Server::Dialling {
            return;
        }
        match end {
            DialEnd::Unauthorized => self.on_over(Cause::Unauthorized),
            DialEnd::OtherProtocol => self.on_over(Cause::UpstreamLost),
            DialEnd::ServerDown => self.server = Server::Waiting { not_before: now },
            DialEnd::Declined => self.try_later(random, now),
        }
    }

    /// The server has heard the greeting, and replied to it.
    pub(super) fn on_greeted(&mut self, now: Instant) {
        if matches!(self.server, Server::Greeting { .. }) {
            self.server = Server::Live;
            self.live_since = Some(now);
            // Not before: a server that never replies is to be given up, however long it is waited for.
            self.backoff.on_up(now);
        }
    }

    /// Time has passed.
    pub(super) fn on_time(&mut self, random: f64, now: Instant) {
        match self.server {
            Server::Greeting { .. } | Server::Waiting { .. } | Server::Dialling
                if self.backoff.gives_up_at().is_some_and(|at| at <= now) =>
            {
                self.on_over(Cause::UpstreamLost);
            }
            Server::Greeting { reply_by } if reply_by <= now => self.try_later(random, now),
            _ => {}
        }
        if matches!(self.client, Client::Away { until } if until <= now) {
            self.end(Cause::Window);
        }
    }

    /// The process drains: each client is closed at its own time, and the server is not dialled any more.
    pub(super) fn on_drain(&mut self) {
        self.is_draining = true;
        match self.server {
            Server::Waiting { .. } | Server::Dialling | Server::Asleep => self.server = Server::Over,
            // A link that is up serves the client until its time comes; it is greeted as ever.
            Server::Live | Server::Greeting { .. } | Server::Over => {}
        }
    }

    /// Whether the client is away, and asks again.
    fn is_expected(&self) -> bool {
        self.is_expected && matches!(self.client, Client::Away { .. })
    }

    /// Whether the process drains.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// A client with a ticket has come back.
    pub(super) fn attach(&mut self, now: Instant) {
        debug_assert!(self.client != Client::Gone);
        self.client = Client::Attached;
        if self.server == Server::Asleep {
            self.server = Server::Waiting { not_before: now };
            // The client may be away for longer than a server is waited for, and nobody has asked for it meanwhile.
            self.backoff.on_wanted(now);
        }
    }

    /// The client's link has ended, or is ending, of its own.
    pub(super) fn on_client_end(&mut self, cause: Cause, now: Instant) {
        match self.client {
            Client::Attached if cause.may_resume() => self.detach(cause, false, now),
            Client::Attached => self.end(cause),
            Client::Leaving { may_resume: true } => self.detach(cause, false, now),
            Client::Leaving { may_resume: false } => self.end(cause),
            Client::Away { .. } | Client::Gone => {}
        }
    }

    /// A client that only asks was answered. It asks again: what it has said is to reach the server meanwhile, and one that
    /// never waits is never attached for longer than this.
    pub(super) fn on_answered(&mut self, now: Instant) {
        if self.client == Client::Attached {
            self.detach(Cause::ClientLost, true, now);
        }
    }

    /// The client is sent a Close of ours for this.
    pub(super) fn leave(&mut self, cause: Cause) {
        if self.client != Client::Attached {
            return;
        }
        let may_resume = cause.may_resume() && self.can_be_resumed();
        self.client = Client::Leaving { may_resume };
        if !may_resume {
            self.cause.get_or_insert_with(|| cause.clone());
        }
        self.leaving = Some(cause);
    }

    /// The session is over at once, whatever the client has not got.
    pub(super) fn end(&mut self, cause: Cause) {
        self.cause.get_or_insert(cause);
        self.client = Client::Gone;
        match self.server {
            Server::Waiting { .. } | Server::Dialling | Server::Asleep => self.server = Server::Over,
            Server::Live | Server::Greeting { .. } | Server::Over => {}
        }
    }

    /// The server will say nothing more. The client is told when it was sent the rest.
    pub(super) fn on_over(&mut self, cause: Cause) {
        self.server = Server::Over;
        self.live_since = None;
        self.cause.get_or_insert(cause);
    }

    fn detach(&mut self, cause: Cause, is_expected: bool, now: Instant) {
        match self.resume_window.filter(|_| self.can_be_resumed()) {
            None => self.end(cause),
            Some(window) => {
                self.client = Client::Away { until: now + window };
                self.is_expected = is_expected;
                if !is_expected && matches!(self.server, Server::Waiting { .. } | Server::Dialling) {
                    self.server = Server::Asleep;
                }
            }
        }
    }

    /// A server that is gone while the process drains has nothing more to say to whoever would come back.
    fn can_be_resumed(&self) -> bool {
        self.is_held() && !(self.is_draining && self.server == Server::Over)
    }

    fn is_wanted(&self) -> bool {
        (self.client == Client::Attached || self.is_expected()) && !self.is_draining
    }

    /// The link was lost: it is asked for again, unless nobody wants it.
    fn on_lost(&mut self, random: f64, now: Instant) {
        // It is asked also for its side effect: from when on it is lost. When the server is asked is the gate's matter, but
        // for a session whose links end as soon as they are there: others may fare better, and are not asked for.
        let gives_up = self.backoff.next(random, now).is_none();
        let wait = self.lives.wait(&self.redial, random);
        if self.is_draining {
            self.server = Server::Over;
        } else if gives_up {
            self.on_over(Cause::UpstreamLost);
        } else if self.is_wanted() {
            self.server = Server::Waiting { not_before: now + wait };
        } else {
            self.server = Server::Asleep;
        }
    }

    /// The server is there, but of no use to this session now: it is asked again after a wait of its own.
    fn try_later(&mut self, random: f64, now: Instant) {
        self.live_since = None;
        match self.backoff.next(random, now) {
            _ if self.is_draining => self.server = Server::Over,
            None => self.on_over(Cause::UpstreamLost),
            Some(wait) if self.is_wanted() => self.server = Server::Waiting { not_before: now + wait },
            Some(_) => self.server = Server::Asleep,
        }
    }
}

#[cfg(test)]
mod tests;
