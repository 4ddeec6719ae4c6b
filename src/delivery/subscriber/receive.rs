//! What becomes of what one client sends.

use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::{PollContext, Subscriber};
use crate::delivery::FromClients;
use crate::delivery::close::CloseCause;
use crate::delivery::status::{Input, ReadStatus, Received};
use crate::frame::Kind;
use crate::resilience::ReadBudget;
use crate::telemetry::Reason;
use crate::upstream::Uplink;

/// What is read of one client before it is the others' turn; and one read beyond it, which is short.
const READ_BUDGET: ReadBudget = ReadBudget::new(64 * 1024, 1024);

/// For so long a client is not read that has filled the queue to its feed's server: a small part of it is enough for that
/// to be emptied, and in the rest there is room for what others send.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(10);

/// What became of the messages of one read.
#[derive(Debug, Default)]
struct Forwarded {
    messages: u32,
    bytes: usize,
    acknowledged: u64,
    /// Whether the queue to the feed's server was full.
    has_filled: bool,
}

impl Subscriber {
    /// Reads what it sends. True if there may be something to write now.
    pub(super) fn read(&mut self, cx: &mut PollContext<'_>) -> bool {
        if !self.link.poll_readable(cx.now) {
            return false;
        }
        let waker = self.waker.clone();
        let mut task = Context::from_waker(&waker);
        let mut has_read = false;
        let mut budget = READ_BUDGET;
        // Over some streams no read ever fills the buffer, and there is always one more.
        while !budget.is_spent() && !cx.read_budget.is_spent() {
            match self.read_once(&mut task, cx) {
                ReadStatus::Pending => return has_read,
                ReadStatus::Ended => return true,
                ReadStatus::Read(input) => {
                    budget.take(input.bytes, input.frames);
                    cx.read_budget.take(input.bytes, input.frames);
                    has_read = true;
                }
            }
            if self.link.limits().is_some_and(|limits| limits.is_paused()) {
                return true;
            }
        }
        // Other clients are read first; it is polled again for the rest.
        waker.wake_by_ref();
        has_read
    }

    fn read_once(&mut self, task: &mut Context<'_>, cx: &PollContext<'_>) -> ReadStatus {
        let sequence = self.consumer.sequence();
        let mut forwarded = Forwarded::default();
        let mut control = self.extras.as_mut().and_then(|extras| extras.control.as_mut());
        let status =
            self.link.receive(task, cx.policy().idle_activity, sequence, cx.now, |received| match received {
                Received::Receipt(messages) => forwarded.acknowledged += messages,
                Received::Control(frame) => {
                    if let Some(control) = &mut control {
                        control.on_frame(frame);
                    }
                }
                Received::Message(kind, payload) => {
                    if let FromClients::Forward(server) = &cx.shared.from_clients {
                        forward(server, kind, payload, &mut forwarded, cx);
                    }
                }
            });
        if let ReadStatus::Read(input) = &status {
            self.on_input(input, &forwarded, cx);
        }
        status
    }

    fn on_input(&mut self, input: &Input, forwarded: &Forwarded, cx: &PollContext<'_>) {
        if forwarded.messages > 0 {
            self.link.handle().on_in(forwarded.messages, forwarded.bytes);
        }
        if forwarded.acknowledged > 0 {
            cx.metrics().acknowledged.inc_by(forwarded.acknowledged);
            self.link.handle().on_acknowledged(forwarded.acknowledged);
        }
        self.on_messages(input.messages, cx);
        if let Some(limits) = self.link.limits().filter(|_| forwarded.has_filled) {
            limits.pause(cx.now + QUEUE_FULL_PAUSE, cx.now);
        }
        if let Some(error) = self.take_control_error() {
            tracing::debug!(connection = self.link.handle().id, fault = %error, "fault");
            self.close(&CloseCause::control_error(), cx);
        }
        self.link.on_input(input, cx.policy().control_rate.in_feeds(), cx.policy(), cx.now);
    }

    /// So many messages came. Beyond their rate it is not read for a while.
    fn on_messages(&mut self, messages: u32, cx: &PollContext<'_>) {
        if messages == 0 {
            return;
        }
        match &cx.shared.from_clients {
            FromClients::Drop => cx.metrics().uplink_dropped.inc_by(u64::from(messages)),
            FromClients::Refuse => {
                self.close(&CloseCause::ours(Reason::UplinkRefused, 1008, "uplink refused"), cx);
            }
            FromClients::Forward(_) => {}
        }
        if let Some(limits) = self.link.limits() {
            limits.on_messages(messages, cx.now);
        }
    }
}

/// Queues a message of a client for the feed's server; what there is no room for is dropped and counted.
fn forward(
    server: &Sender<(Kind, Bytes)>,
    kind: Kind,
    payload: &[u8],
    forwarded: &mut Forwarded,
    cx: &PollContext<'_>,
) {
    let budget = cx.shared.settings.client_memory.budget();
    // One that the uplink will never have room for is not copied and queued for it.
    let may_go = Uplink::room_for(payload.len()) <= cx.policy().delivery.max_lag.bytes;
    let message = (may_go && !budget.is_over()).then(|| (kind, budget.hold(Bytes::copy_from_slice(payload))));
    match message.map(|message| server.try_send(message)) {
        Some(Ok(())) => {
            forwarded.messages += 1;
            forwarded.bytes += payload.len();
        }
        // There is no room for it, or the feed is over.
        refused => {
            forwarded.has_filled |= matches!(refused, Some(Err(TrySendError::Full(_))));
            cx.metrics().uplink_dropped.inc();
        }
    }
}
