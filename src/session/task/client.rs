//! The client's side of a session: what it says goes to the server or into the outbox, and it is sent what the log has for it.

use std::task::Context;

use tokio::time::Instant;

use super::Task;
use super::server::advance;
use crate::delivery::control::FromClient;
use crate::delivery::{Input, ReadStatus, Received, SendStatus, WebSocket, WriteStatus};
use crate::frame::CloseCode;
use crate::log::Cursor;
use crate::resilience::ReadBudget;
use crate::session::cause::Cause;
use crate::session::lines;
use crate::session::machine::{Client, Server};
use crate::telemetry::{MessageLoss, Reason};

/// What is read of a client before other tasks get their turn; and one read beyond it.
pub(super) const READ_BUDGET: ReadBudget = ReadBudget::new(64 * 1024, 1024);

/// Messages that go out together, and their bytes.
const BATCH: usize = 1024;
const BATCH_BYTES: usize = 64 * 1024;

/// Batches that a client is sent before other tasks get their turn: at least as much as is read of a server in one, so that
/// a client that takes all it is sent never falls behind.
const MAX_BATCHES: usize = 8;

/// A longer message is written at once, so that it need not be kept beside the bytes that wait for the socket.
const WRITE_AT_ONCE: usize = 16 * 1024;

impl Task {
    /// Reads the client, as far as what it says can go on.
    pub(super) fn read_client(&mut self, cx: &mut Context<'_>, now: Instant) {
        let mut budget = READ_BUDGET;
        loop {
            let may_read = self.may_read();
            let Some(client) = &mut self.client else { return };
            if !may_read {
                client.limits().pause_reading(now);
                return;
            }
            client.limits().resume_reading(now);
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
        match self.machine.server() {
            Server::Live => {
                let is_flushed = self.uplink.as_ref().is_none_or(|uplink| uplink.is_flushed());
                // What the server has not proven to have taken is kept for the next one, and that has a bound.
                self.outbox.is_empty() && is_flushed && !self.outbox.is_full()
            }
            // Where the process holds too much, who has something waiting waits itself.
            Server::Greeting { .. } | Server::Waiting { .. } | Server::Dialling | Server::Asleep => {
                let has_room = !self.plan.shared.budget.is_over() || self.outbox.waiting() == 0;
                has_room && !self.outbox.is_full()
            }
            // What it says is discarded.
            Server::Over => true,
        }
    }

    fn read_once(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<ReadStatus> {
        let Self {
            client: Some(client), control, uplink, machine, outbox, greetings, plan, next, waker, ..
        } = self
        else {
            return None;
        };
        let mut said = Said::default();
        // Who was told what was received says again whatever comes after that.
        let is_taken = match machine.client() {
            Client::Gone => false,
            Client::Leaving { .. } => control.is_none(),
            Client::Attached | Client::Away { .. } => true,
        } && machine.server() != Server::Over;
        let is_live = machine.is_live();
        let policy = &plan.policy;
        let sequence = *next - 1;
        let status = client.receive(cx, policy.idle_activity, sequence, now, |received| match received {
            Received::Receipt(messages) => said.acknowledged += messages,
            Received::Control(frame) => said.controls.push(frame),
            Received::Message(_, payload) if !is_taken => said.discarded += payload.len(),
            Received::Message(kind, payload) => {
                said.messages += 1;
                said.bytes += payload.len();
                if let Some(control) = control {
                    control.on_message(payload.len());
                }
                let link = uplink.as_mut().filter(|_| is_live && outbox.is_empty());
                let is_sent = link.is_some_and(|link| link.send(kind, payload));
                if !is_sent {
                    if plan
                        .skip
                        .as_ref()
                        .is_some_and(|skip| skip.matches(kind, payload, outbox.received() + 1))
                    {
                        outbox.pass_over();
                    } else {
                        said.dropped += outbox.queue(kind, payload, now);
                    }
                    return;
                }
                said.has_sent = true;
                let (Some(link), Some(waker)) = (uplink.as_mut(), &waker) else { return };
                let mut has_left = false;
                if payload.len() >= WRITE_AT_ONCE {
                    link.flush(&mut Context::from_waker(waker));
                    said.given_up += advance(link, outbox, greetings.as_deref_mut());
                    has_left = link.left() == link.sent();
                }
                outbox.on_sent(kind, payload, link.sent(), has_left, now);
                if has_left && let Some(greetings) = greetings {
                    said.given_up += greetings.on_client_message(outbox.received(), kind, payload);
                }
            }
        });
        if said.has_sent
            && let Some(uplink) = uplink
        {
            if outbox.waits_for_receipts() {
                uplink.hasten_receipt(now);
            }
            uplink.flush(cx);
            said.given_up += advance(uplink, outbox, greetings.as_deref_mut());
        }
        let controls = std::mem::take(&mut said.controls);
        if let ReadStatus::Read(input) = &status {
            self.on_input(input, &said, now);
        }
        for frame in controls {
            self.on_control(frame);
        }
        Some(status)
    }

    fn on_input(&mut self, input: &Input, said: &Said, now: Instant) {
        let Self { client: Some(client), plan, .. } = self else { return };
        let (handle, metrics) = (client.handle(), &plan.metrics);
        if said.messages > 0 {
            handle.on_in(said.messages, said.bytes);
        }
        if said.discarded > 0 {
            handle.on_discarded(said.discarded);
        }
        if said.acknowledged > 0 {
            handle.on_acknowledged(said.acknowledged);
        }
        if said.dropped > 0 {
            metrics.lost.inc_by(MessageLoss::Queue, said.dropped);
            lines::messages_lost(plan, Some(handle.id), "queue", said.dropped);
        }
        if said.given_up > 0 {
            metrics.lost.inc_by(MessageLoss::Greeting, said.given_up);
            lines::messages_lost(plan, Some(handle.id), "greeting", said.given_up);
        }
        client.limits().on_messages(input.messages, now);
        client.on_input(input, plan.policy.control_rate.in_feeds(), &plan.policy, now);
    }

    /// Sends the client what is left, control frames, and what the log has for it.
    pub(super) fn deliver(&mut self, cx: &mut Context<'_>, now: Instant) {
        for _ in 0..MAX_BATCHES {
            let (sequence, until) = (self.next - 1, self.sent_until());
            let Some(client) = &mut self.client else { return self.check_lag(now) };
            match client.poll_send(cx, sequence, now) {
                SendStatus::Ready => {}
                SendStatus::Blocked => return self.check_lag(now),
                SendStatus::Closed => {
                    self.on_client_closed(now);
                    // More may wait for a client that is away: a server that was not read for its sake is read again.
                    return self.check_lag(now);
                }
            }
            if !client.is_open() {
                return;
            }
            if let Some(frame) = self.control.as_mut().and_then(|control| control.next_frame(client.prefix()))
            {
                // Whatever becomes of it, the next round finds out.
                client.send(cx, &frame, 0, now);
                continue;
            }
            if self.next > until {
                return self.check_lag(now);
            }
            match self.send_batch(cx, until, now) {
                WriteStatus::Flushed => {}
                WriteStatus::Blocked => return self.check_lag(now),
                // The next round finds how it ended.
                WriteStatus::Broken => {}
            }
        }
        cx.waker().wake_by_ref();
    }

    /// The newest message that the client may be sent.
    fn sent_until(&self) -> u64 {
        let head = self.writer.log().head();
        self.rest.map_or(head, |(until, _)| until.min(head))
    }

    fn send_batch(&mut self, cx: &mut Context<'_>, until: u64, now: Instant) -> WriteStatus {
        let due = usize::try_from(until + 1 - self.next).unwrap_or(BATCH);
        let mut entries = Vec::with_capacity(due.min(BATCH));
        let cursor = Cursor { next: self.next, all_from: self.next };
        let progress = self.writer.log().read(cursor, until, BATCH, BATCH_BYTES, &mut entries);
        if progress.missed > 0 {
            self.plan.metrics.missed.inc_by(progress.missed);
            self.machine.leave(Cause::Memory);
            return WriteStatus::Flushed;
        }
        let Some(client) = &mut self.client else { return WriteStatus::Broken };
        let has_deflate = client.has_deflate();
        let status = if let [entry] = &entries[..] {
            client.send_slice(cx, entry.frame_for(has_deflate), 1, now)
        } else {
            let size = entries.iter().map(|entry| entry.frame_for(has_deflate).len()).sum();
            let mut frames = Vec::with_capacity(size);
            for entry in &entries {
                frames.extend_from_slice(entry.frame_for(has_deflate));
            }
            client.send(cx, &frames.into(), entries.len() as u32, now)
        };
        self.next = progress.cursor.next;
        self.newest_sent = self.newest_sent.max(self.next - 1);
        self.let_go_of_sent();
        status
    }

    /// How far the client is behind, and what follows.
    fn check_lag(&mut self, now: Instant) {
        let is_away = matches!(self.machine.client(), Client::Away { .. });
        let Self { writer, uplink, plan, next, resumable, .. } = self;
        let head = writer.log().head();
        // What was there when the client came back is its to catch up with: only what came since makes it slow.
        let backlog = resumable.as_ref().filter(|_| !is_away).map_or(0, |resumable| resumable.backlog());
        let from = (*next).max(backlog + 1);
        let behind = (head + 1).saturating_sub(from);
        let (max_lag, history) = (&plan.policy.delivery.max_lag, &plan.policy.history);
        let (messages, bytes) = match is_away {
            false => (max_lag.messages, max_lag.bytes),
            true => (history.messages as u64, history.bytes),
        };
        let is_beyond = behind > 0 && {
            let lag = writer.log().lag(Cursor { next: from, all_from: from });
            lag.messages > messages || lag.bytes > bytes as u64
        };
        let is_given_up = is_away && plan.is_isolating();
        if let Some(uplink) = uplink {
            // A client that takes what it can is no slower than its line: its server waits, as it would without us.
            if is_beyond && !is_given_up { uplink.pause(now) } else { uplink.resume(now) }
        }
        self.is_beyond_lag = is_beyond;
        if is_beyond && is_given_up {
            // It could not be given all that it has missed.
            self.machine.end(Cause::Overflow);
        }
    }

    /// The client's link is done with.
    fn on_client_closed(&mut self, now: Instant) {
        let Some(mut client) = self.client.take() else { return };
        let cause = self.cause_of(&client);
        self.machine.on_client_end(cause, now);
        match self.machine.client() {
            Client::Away { .. } => {
                if let Some(resumable) = &mut self.resumable {
                    resumable.set_spent(client.limits().spent());
                }
                client.leave_for_another();
            }
            _ => client.leave(),
        }
    }

    /// The client's link has begun to end by itself: the session follows. True if that is new.
    pub(super) fn on_link_end(&mut self, now: Instant) -> bool {
        let Some(client) = self.client.as_ref().filter(|client| !client.is_open()) else { return false };
        if self.machine.client() != Client::Attached {
            return false;
        }
        let cause = self.cause_of(client);
        self.machine.on_client_end(cause, now);
        true
    }

    /// Why the client's link has ended, or is ending. A client that has said that it will come back does so whatever its
    /// Close says: a page cannot choose the code for that.
    fn cause_of(&self, client: &WebSocket) -> Cause {
        match cause_of(client) {
            Cause::Client(..) if self.control.as_ref().is_some_and(|control| control.detaches()) => {
                Cause::Client(CloseCode::GOING_AWAY, "".into())
            }
            cause => cause,
        }
    }

    /// The client is to be sent a Close of ours: if its log goes before, when it was sent that. True if it was sent just now.
    pub(super) fn poll_leave(&mut self, now: Instant) -> bool {
        let Some(cause) = self.machine.leaving().cloned() else { return false };
        let close_timeout = self.plan.policy.close_timeout;
        let head = self.writer.log().head();
        let Some(client) = self.client.as_ref().filter(|client| client.is_open()) else { return false };
        let is_flushed = client.is_flushed();
        if cause.is_after_log() {
            let (until, by) = *self.rest.get_or_insert((head, now + close_timeout));
            if now < by && (self.next <= until || !is_flushed) {
                return false;
            }
        }
        // There is a place for the last words only behind what was begun.
        if self.control.is_some() && (is_flushed || cause.is_after_log()) {
            let had_frames = self.control.as_ref().is_some_and(|control| control.has_frames());
            let (_, by) = *self.rest.get_or_insert((self.next - 1, now + close_timeout));
            if self.say_bye(&cause) && now < by {
                // Just now: they can go out at once.
                return !had_frames;
            }
        }
        self.close_client_for(&cause, now)
    }
}

/// What came of one read.
#[derive(Debug, Default)]
struct Said {
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

/// Why a link has ended, or is ending.
fn cause_of(client: &WebSocket) -> Cause {
    let Some(report) = client.end_report() else { return Cause::ClientLost };
    match report.reason {
        Reason::ClientClose => {
            let code = client.client_close().unwrap_or(CloseCode::NONE);
            Cause::Client(code, client.client_close_reason().into())
        }
        Reason::HeartbeatTimeout => Cause::ClientSilent,
        Reason::IdleTimeout => Cause::Idle,
        Reason::ControlRate => Cause::ControlRate,
        // Without a fault of RFC 6455 it is one of the protocol among the messages.
        Reason::ProtocolError | Reason::TooLarge => {
            report.fault.map_or(Cause::ControlFault, Cause::ClientFault)
        }
        Reason::Aborted | Reason::Drained => Cause::Cut,
        // The others are Closes of ours, of which the machine knows.
        _ => Cause::ClientLost,
    }
}
