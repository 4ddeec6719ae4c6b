//! What a client that speaks the protocol among the messages ([`crate::delivery::control`]) is told beside them.
//!
//! # Invariants
//! 1. The hello is the first frame of a link, and the bye the last one before a Close of ours, where there is a place for it.
//! 2. What waits to be told is bounded ([`MAX_FRAMES`]): a client that takes nothing of it is too slow.
//!
//! # Not here
//! When a client comes back ([`super::attach`]).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Task;
use crate::delivery::control::{
    Acknowledgements, Bye, FromClient, FromProxy, Hello, LossCause, Missed, Prefix,
};
use crate::net::own_protocols::Nonce;
use crate::session::cause::Cause;
use crate::session::machine::Client;
use crate::session::outbox::Lost;
use crate::telemetry::{Label, MessageLoss, Reason};
use crate::connections::EndedSession;
use crate::delivery::CloseCause;

/// Frames that may wait for a client that takes nothing.
const MAX_FRAMES: usize = 64;
/// Clients of a drain come back spread over this.
const COME_BACK_WITHIN: Duration = Duration::from_secs(1);

/// What a client that speaks the protocol has to hear first.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Greeted {
    /// Of its handshake.
    pub nonce: Option<Nonce>,
    /// How many messages it will never get of a session that it has asked for; `None`: it is not known.
    pub missed: Option<u64>,
    /// What is known of a session that it has asked for and that is over.
    pub previous: Option<EndedSession>,
}

/// One link of such a client.
#[derive(Debug)]
pub(super) struct Control {
    /// The number of the ticket that it was given on this link, until it has shown that it has it.
    unproven: Option<u32>,
    acknowledgements: Acknowledgements,
    frames: VecDeque<Bytes>,
    /// What it asked for last, not answered yet.
    pong: Option<u64>,
    /// Whether a Close of its means that it comes back.
    detaches: bool,
    has_said_bye: bool,
}

impl Control {
    /// What goes out before the next message.
    pub(super) fn next_frame(&mut self, prefix: Option<&Prefix>) -> Option<Bytes> {
        self.frames.pop_front().or_else(|| {
            let pong = self.pong.take()?;
            prefix.map(|prefix| FromProxy::Pong(pong).frame(prefix))
        })
    }

    pub(super) fn has_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    pub(super) fn on_message(&mut self, bytes: usize) {
        self.acknowledgements.on_message(bytes);
    }

    /// Whether a Close of its means that it comes back.
    pub(super) fn detaches(&self) -> bool {
        self.detaches
    }

    /// When it is to be told what was received, if nothing more comes.
    pub(super) fn next_due(&self, received: u64) -> Option<Instant> {
        self.acknowledgements.next_due(received)
    }
}

impl Task {
    /// Begins to speak the protocol over the client's present link.
    pub(super) fn greet_client(&mut self, greeted: Greeted, is_resumed: bool, now: Instant) {
        let ticket = self.resumable.as_ref().and_then(|resumable| resumable.issue());
        let received = self.outbox.received();
        let Some(client) = &mut self.client else { return };
        let policy = &self.plan.policy;
        let prefix = Prefix::random();
        client.speak_control(policy, true, prefix);
        let log = self.writer.log();
        let hello = Hello {
            nonce: greeted.nonce.as_ref(),
            ticket: ticket.as_ref().map(|(_, ticket)| ticket),
            is_resumed,
            epoch: log.epoch(),
            sequence: self.next - 1,
            head: log.head(),
            received,
            missed: greeted.missed.map_or(Missed::Unknown, Missed::Known),
            prefix: &prefix,
            window: self.machine.resume_window().unwrap_or_default(),
            heartbeat: policy.heartbeat.map(|heartbeat| heartbeat.timing),
            max_message: policy.max_message,
            previous: greeted.previous,
        };
        self.control = Some(Box::new(Control {
            unproven: ticket.as_ref().map(|(generation, _)| *generation),
            acknowledgements: Acknowledgements::new(received, now),
            frames: VecDeque::from([hello.frame()]),
            pong: None,
            detaches: false,
            has_said_bye: false,
        }));
    }

    /// The client says something beside its messages.
    pub(super) fn on_control(&mut self, frame: FromClient, now: Instant) {
        let Some(control) = &mut self.control else { return };
        if let Some(resumable) = &mut self.resumable {
            // Whoever has read the hello of this link has the ticket in it.
            if let Some(generation) = control.unproven.take() {
                resumable.prove(generation);
            }
            if let Some(seen) = frame.seen {
                match resumable.on_seen(seen, self.newest_sent) {
                    Ok(kept_from) => self.writer.let_go(kept_from.min(self.next)),
                    Err(error) => {
                        tracing::debug!(connection = self.connection(), fault = %error, "fault");
                        return self.on_miscounted(now);
                    }
                }
            }
        }
        let Some(control) = &mut self.control else { return };
        if frame.ping.is_some() {
            control.pong = frame.ping;
        }
        control.detaches |= frame.detach;
    }

    /// Client and proxy do not count the same: nothing of the session can be relied on.
    fn on_miscounted(&mut self, now: Instant) {
        if let Some(client) = &mut self.client {
            client.close(&CloseCause::control_error(), self.plan.policy.close_timeout, now);
        }
        self.machine.end(Cause::Miscounted);
    }

    /// Tells the client this, if it speaks the protocol. Answers whether it does.
    pub(super) fn tell(&mut self, frame: FromProxy) -> bool {
        let (Some(control), Some(prefix)) =
            (&mut self.control, self.client.as_ref().and_then(|client| client.prefix()))
        else {
            return false;
        };
        if control.frames.len() >= MAX_FRAMES {
            self.machine.leave(Cause::Slow);
        } else {
            control.frames.push_back(frame.frame(prefix));
        }
        true
    }

    /// Tells the client what was received of it, where that is due.
    pub(super) fn acknowledge(&mut self, now: Instant) {
        let received = self.outbox.received();
        if let Some(control) = &mut self.control
            && let Some(due) = control.acknowledgements.take_due(received, now)
        {
            self.tell(FromProxy::Ack(due));
        }
    }

    /// Messages of the client are lost, or may be: it is told, where it wants to hear of it.
    pub(super) fn tell_lost(&mut self, lost: &Lost, why: MessageLoss) {
        let (from, to) = (*lost.numbers.start(), *lost.numbers.end());
        let frame = match why {
            MessageLoss::Uncertain => FromProxy::Uncertain { from, to },
            MessageLoss::Age => FromProxy::Lost { from, to, why: LossCause::Age },
            MessageLoss::Queue | MessageLoss::Greeting => FromProxy::Lost { from, to, why: LossCause::Queue },
        };
        if !self.tell(frame) && why == MessageLoss::Uncertain {
            let messages = lost.messages;
            self.notice(format!(r#"{{"type":"outrigger","event":"uncertain","messages":{messages}}}"#).as_bytes());
        }
    }

    pub(super) fn has_said_bye(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.has_said_bye)
    }

    /// Says the last words before a Close of ours, once; whether they are still to be sent.
    pub(super) fn say_bye(&mut self, cause: &Cause) -> bool {
        let (received, may_resume) = (self.outbox.received(), self.machine.client() == Client::Leaving { may_resume: true });
        match &mut self.control {
            None => false,
            Some(control) if control.has_said_bye => control.has_frames(),
            Some(control) => {
                control.has_said_bye = true;
                let after = matches!(cause, Cause::Drain(_)).then(|| COME_BACK_WITHIN.mul_f64(fastrand::f64()));
                self.tell(FromProxy::Bye(Bye {
                    why: bye_word(cause),
                    resume: may_resume,
                    after,
                    ack: received,
                }))
            }
        }
    }
}

/// What a client is told of the cause, as sessions count it; but a link may end for what ends no session.
pub(super) fn bye_word(cause: &Cause) -> &'static str {
    match cause {
        Cause::TakenOver => Reason::TakenOver.as_str(),
        cause => cause.session_end().as_str(),
    }
}
