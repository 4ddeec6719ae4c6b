//! What the client of a session says: it goes to the server, or into the outbox.
//!
//! # Invariants
//! 1. Nothing is read that could not go on: the client waits, as it would without us.
//!
//! # Not here
//! What it says beside its messages ([`super::telling`]).

use std::task::{Context, Waker};

use tokio::time::Instant;

use super::Task;
use super::control::Control;
use super::server::advance;
use crate::delivery::control::FromClient;
use crate::delivery::{Input, Link, ReadStatus, Received};
use crate::frame::Kind;
use crate::resilience::ReadBudget;
use crate::session::greeting::Greetings;
use crate::session::lines;
use crate::session::machine::{Client, Server};
use crate::session::outbox::Outbox;
use crate::session::plan::Plan;
use crate::telemetry::MessageLoss;
use crate::upstream::Uplink;

/// What is read of a client before other tasks get their turn; and one read beyond it.
pub(super) const READ_BUDGET: ReadBudget = ReadBudget::new(64 * 1024, 1024);

/// A longer message is written at once, so that it need not be kept beside the bytes that wait for the socket.
const WRITE_AT_ONCE: usize = 16 * 1024;

impl Task {
    /// Reads the client, as far as what it says can go on.
    pub(super) fn read_client(&mut self, cx: &mut Context<'_>, now: Instant) {
        let mut budget = READ_BUDGET;
        loop {
            let may_read = self.may_read();
            let Some(client) = &mut self.client else { return };
            if let Some(limits) = client.limits() {
                if !may_read {
                    limits.pause_reading(now);
                    return;
                }
                limits.resume_reading(now);
            }
            if !client.poll_readable(now) {
                return;
            }
            if budget.is_spent() {
                cx.waker().wake_by_ref();
                return;
            }
            match self.read_once(cx, now) {
                Some(ReadStatus::Read(input)) => {
                    budget.take(input.bytes, input.frames);
                }
                Some(ReadStatus::Pending | ReadStatus::Ended) | None => break,
            }
        }
    }

    /// Whether a message of the client could go somewhere. Where it could not, the client waits, as it would without us.
    fn may_read(&self) -> bool {
        // Its own Close, or the answer to ours, may stand behind what it says.
        if self.client.as_ref().is_some_and(|client| !client.is_open()) {
            return true;
        }
        let is_live = self.machine.is_live();
        match self.machine.server() {
            Server::Live => {
                let is_flushed = self.uplink.as_ref().is_none_or(|uplink| uplink.is_flushed());
                self.outbox.is_empty() && is_flushed && has_room(&self.outbox, is_live, &self.plan)
            }
            Server::Greeting { .. } | Server::Waiting { .. } | Server::Dialling | Server::Asleep => {
                has_room(&self.outbox, is_live, &self.plan)
            }
            // What it says is discarded.
            Server::Over => true,
        }
    }

    fn read_once(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<ReadStatus> {
        let is_taken = self.is_taken();
        let (idle_activity, sequence) = (self.plan.policy.idle_activity, self.next - 1);
        let (client, mut intake) = self.intake(now);
        let client = client?;
        let status = client.receive(cx, idle_activity, sequence, now, |received| match received {
            Received::Receipt(messages) => intake.said.acknowledged += messages,
            Received::Control(frame) => intake.said.controls.push(frame),
            Received::Message(_, payload) if !is_taken => intake.said.discarded += payload.len(),
            Received::Message(kind, payload) => intake.take(kind, payload),
        });
        let mut said = intake.finish(cx);
        let controls = std::mem::take(&mut said.controls);
        if let ReadStatus::Read(input) = &status {
            self.on_input(input, &said, now);
        }
        for frame in controls {
            self.on_control(frame);
        }
        Some(status)
    }

    /// Takes what the client says, by its link or by whatever else.
    pub(super) fn intake(&mut self, now: Instant) -> (Option<&mut Link>, Intake<'_>) {
        let Self { client, control, uplink, machine, outbox, greetings, plan, waker, .. } = self;
        let intake = Intake {
            control: control.as_deref_mut(),
            uplink: uplink.as_deref_mut(),
            is_live: machine.is_live(),
            outbox,
            greetings: greetings.as_deref_mut(),
            plan,
            waker: waker.as_ref(),
            now,
            said: Said::default(),
        };
        (client.as_mut(), intake)
    }

    /// Whether a message of the client is for somebody. Who was told what was received says again whatever comes after that.
    fn is_taken(&self) -> bool {
        let is_heard = match self.machine.client() {
            Client::Gone => false,
            Client::Leaving { .. } => self.control.is_none(),
            Client::Attached | Client::Away { .. } => true,
        };
        is_heard && self.machine.server() != Server::Over
    }

    /// Counts what came of messages of the client.
    pub(super) fn count_said(&self, said: &Said) {
        let Self { plan, .. } = self;
        if let Some(handle) = self.handle() {
            if said.messages > 0 {
                handle.on_in(said.messages, said.bytes);
            }
            if said.discarded > 0 {
                handle.on_discarded(said.discarded);
            }
            if said.acknowledged > 0 {
                handle.on_acknowledged(said.acknowledged);
            }
        }
        if said.dropped > 0 {
            plan.metrics.lost.inc_by(MessageLoss::Queue, said.dropped);
            lines::messages_lost(plan, self.connection(), "queue", said.dropped);
        }
        if said.given_up > 0 {
            plan.metrics.lost.inc_by(MessageLoss::Greeting, said.given_up);
            lines::messages_lost(plan, self.connection(), "greeting", said.given_up);
        }
    }

    fn on_input(&mut self, input: &Input, said: &Said, now: Instant) {
        self.count_said(said);
        let Self { client: Some(client), plan, .. } = self else { return };
        if let Some(limits) = client.limits() {
            limits.on_messages(input.messages, now);
        }
        client.on_input(input, plan.policy.control_rate.in_feeds(), &plan.policy, now);
    }
}

/// Whether one more message of the client has room, if it has to be kept. What a server that is there has not proven to have
/// taken is kept for the next one, and that has a bound. Where the process holds too much, who has something waiting waits
/// itself.
fn has_room(outbox: &Outbox, is_live: bool, plan: &Plan) -> bool {
    !outbox.is_full() && (is_live || outbox.waiting() == 0 || !plan.shared.budget.is_over())
}

/// Where messages of the client go.
pub(super) struct Intake<'a> {
    control: Option<&'a mut Control>,
    uplink: Option<&'a mut Uplink>,
    is_live: bool,
    outbox: &'a mut Outbox,
    greetings: Option<&'a mut Greetings>,
    plan: &'a Plan,
    waker: Option<&'a Waker>,
    now: Instant,
    said: Said,
}

impl Intake<'_> {
    /// Whether one more message can be taken.
    pub(super) fn has_room(&self) -> bool {
        has_room(self.outbox, self.is_live, self.plan)
    }

    pub(super) fn take(&mut self, kind: Kind, payload: &[u8]) {
        self.said.messages += 1;
        self.said.bytes += payload.len();
        if let Some(control) = &mut self.control {
            control.on_message(payload.len());
        }
        let may_send = self.is_live && self.outbox.is_empty();
        let link = self.uplink.as_mut().filter(|_| may_send);
        if link.is_some_and(|link| link.send(kind, payload)) {
            self.on_sent(kind, payload);
        } else if self.is_live {
            self.outbox.hold_back(kind, payload, self.now);
        } else if self.is_skipped(kind, payload) {
            self.outbox.pass_over();
        } else {
            self.said.dropped += self.outbox.queue(kind, payload, self.now);
        }
    }

    /// Whether a message that has to wait is not worth it.
    fn is_skipped(&self, kind: Kind, payload: &[u8]) -> bool {
        let number = self.outbox.received() + 1;
        self.plan.skip.as_ref().is_some_and(|skip| skip.matches(kind, payload, number))
    }

    /// The link to the server was handed it.
    fn on_sent(&mut self, kind: Kind, payload: &[u8]) {
        self.said.has_sent = true;
        let (Some(link), Some(waker)) = (&mut self.uplink, self.waker) else { return };
        let mut has_left = false;
        if payload.len() >= WRITE_AT_ONCE {
            link.flush(&mut Context::from_waker(waker));
            self.said.given_up += advance(link, self.outbox, self.greetings.as_deref_mut());
            has_left = link.left() == link.sent();
        }
        self.outbox.on_sent(kind, payload, link.sent(), has_left, self.now);
        if has_left && let Some(greetings) = &mut self.greetings {
            self.said.given_up += greetings.on_client_message(self.outbox.received(), kind, payload);
        }
    }

    /// Writes what the link was handed, as far as it takes it.
    pub(super) fn finish(self, cx: &mut Context<'_>) -> Said {
        let Self { uplink, outbox, greetings, now, mut said, .. } = self;
        if let Some(uplink) = uplink.filter(|_| said.has_sent) {
            if outbox.waits_for_receipts() {
                uplink.hasten_receipt(now);
            }
            uplink.flush(cx);
            said.given_up += advance(uplink, outbox, greetings);
        }
        said
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Said {
    messages: u32,
    bytes: usize,
    /// Bytes that nobody takes any more.
    discarded: usize,
    acknowledged: u64,
    /// What it said beside its messages.
    controls: Vec<FromClient>,
    /// Messages that went for the bounds of the queue, and of the greeting.
    dropped: u64,
    given_up: u64,
    has_sent: bool,
}
